"""Handshakes of clients that come to nothing, through a whole gateway: each is answered with the alert that says why, counted by
its reason, and a bounded number are logged."""
import contextlib
import json
import socket
import ssl

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from support.issuer import Issuer
from support.backend import Backend
from support.gateway import API, Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.wire import TIMEOUT

from gwfast import limits

OURS, THEIRS, STRANGER = Issuer(), Issuer("clients"), Issuer("others")


@pytest.fixture
def ports(backend, tmp_path):
    """A gateway, and its ports: one that asks for certificates, one that does not, ..."""
    yield from serving(backend(), tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The same for all tests that need it no better."""
    backend = Backend("backend")
    yield from serving(backend, tmp_path_factory.mktemp("shared"))
    backend.close()


def serving(backend, path):
    ports = {name: free_port() for name in ("open", "asks", "proxied", "passed")}
    folder = path / "conf"
    folder.mkdir()
    one = OURS.issue("a.test")
    secret = {**resource("Secret", "cert", api="v1"), "type": "kubernetes.io/tls",
              "stringData": {"tls.crt": one.chain.decode(), "tls.key": one.key.decode()}}
    authority = {**resource("ConfigMap", "ca", api="v1"), "data": {"ca.crt": THEIRS.ca.decode()}}
    listeners = [{"name": name, "protocol": "HTTPS", "hostname": "a.test", "port": port, "tls": {"certificateRefs": [{"name": "cert"}]}}
                 for name, port in ports.items()]
    listeners[-1] |= {"protocol": "TLS", "tls": {"mode": "Terminate", "certificateRefs": [{"name": "cert"}]}}
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    entry = gateway(*listeners, tls={"frontend": {"default": {}, "perPort": [{"port": ports["asks"], "tls": {"validation": validation}}]}})
    entry["metadata"]["annotations"] = {"gwfast.dev/proxy-protocol": "proxied"}
    passed = {**resource("TCPRoute", "passed", {"parentRefs": [{"name": "gw", "sectionName": "passed"}],
                                                "rules": [{"backendRefs": [{"name": "b", "port": 80}]}]}, api=f"{API.partition('/')[0]}/v1alpha2")}
    write(folder, "all.yaml", secret, authority, service("b", backend), route("all", rule("b")), passed, entry)
    running = Gateway(folder, "--log-format", "json")
    yield running, ports
    running.stop()


def shake(port, tmp_path, *, name="a.test", trusts=False, ciphers="", alpn="", shows=None) -> None:
    """A client's handshake and the alert, if there is one, that ends it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if trusts else ssl.CERT_NONE
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols([alpn])
    if shows:
        (tmp_path / "client.pem").write_bytes(shows.chain + shows.key)
        context.load_cert_chain(tmp_path / "client.pem")
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw, contextlib.suppress(OSError):
        with context.wrap_socket(raw, server_hostname=name) as tls:
            tls.recv(1)


def say(port, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            raw.recv(1)


def hello(name: str = "", version: int = 0) -> bytes:
    goes = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if version:
        context.maximum_version = version
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), goes, server_hostname=name or None).do_handshake()
    return goes.read()


def answered(port: int, *pieces: bytes, each: bool = False) -> bytes:
    """All that comes back until the gateway ends the connection, which it never does with an RST. each: byte by byte."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            for part in [piece[n:n + 1] for n in range(len(piece))] if each else [piece]:
                raw.sendall(part)
        came = raw.recv(65536)
        if came[:1] == b"\x16":        # the beginning of a handshake: it would go on
            return came
        while some := raw.recv(65536):
            came += some
        return came


def alert(number: int, minor: int = 3) -> bytes:
    return bytes([21, 3, minor, 0, 2, 2, number])


def legacy(version: int) -> bytes:
    """A hello of TLS 1.3 that says this version where TLS 1.2 had it."""
    data = hello("a.test")
    return data[:9] + version.to_bytes(2, "big") + data[11:]


def records(data: bytes, size: int, version: int = 0x0301) -> bytes:
    """The one record of a hello as several."""
    return b"".join(b"\x16" + version.to_bytes(2, "big") + len(part).to_bytes(2, "big") + part
                    for part in (data[at:at + size] for at in range(5, len(data), size)))


def large() -> bytes:
    """A message of 17,000 bytes in two records."""
    message = b"\1" + (17000).to_bytes(3, "big") + bytes(17000)
    return records(bytes(5) + message, 16384)


# What is sent, the alert, the reason that is counted.
ALERTS = {
    "another kind of record": (bytes(5), 10, "hello"),
    "an alert": (alert(40), 10, "hello"),
    "an empty record before": (b"\x16\3\1\0\0" + hello("a.test"), 10, "hello"),
    "an empty record in between": (records(hello("a.test"), 50)[:55] + b"\x16\3\1\0\0" + records(hello("a.test"), 50)[55:], 10, "hello"),
    "data in between": (records(hello("a.test"), 50)[:55] + b"\x17\3\3\0\1x", 10, "hello"),
    "another message": (b"\x16\3\1\0\x04\2\0\0\0", 10, "hello"),
    "a record that is too long": (b"\x16\3\1\x40\1" + bytes(16385), 22, "hello"),
    "a message that is too long": (large(), 47, "hello"),
    "a message that is too short": (b"\x16\3\1\0\4\1\0\0\0", 50, "hello"),
    "SSL 2": (bytes([0x80, 0x2e, 1, 3, 1]) + bytes(43), 70, "version"),
    "legacy version 1.1": (legacy(0x0101), 70, "version"),
    "legacy version 2.0": (legacy(0x0200), 70, "version"),
    "legacy version 3.0": (legacy(0x0300), 70, "version"),
    "another name": (hello("b.test"), 112, "name"),
    "another name, TLS 1.2": (hello("b.test", ssl.TLSVersion.TLSv1_2), 112, "name"),
    "a name that no host has": (hello("a.test").replace(b"a.test", b"a*test"), 112, "name"),
    "no name": (hello(), 109, "name"),
    "no name, TLS 1.2": (hello(version=ssl.TLSVersion.TLSv1_2), 112, "name"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1\r\n", 10, "hello"),
    "HTTP/0.9": (b"GET /\r\n", 10, "hello"),
}
TEXT = b"The plain HTTP request was sent to HTTPS port"


@pytest.mark.parametrize(("data", "number", "word"), ALERTS.values(), ids=ALERTS)
def test_what_cannot_be_served_gets_an_alert(shared, data, number, word):
    running, port = shared
    before = counted(running)
    minor = 0 if data[9:11] == b"\3\0" and data[0] == 22 else 3     # who says that it speaks no TLS would not read a record of it
    assert answered(port["open"], data) == alert(number, minor)
    assert answered(port["open"], data + bytes(200_000)) == alert(number, minor), "nothing that is sent behind it makes it get lost"
    until(lambda: counted(running).get(word, 0) == before.get(word, 0) + 2)


@pytest.mark.parametrize("data", [
    legacy(0x0301), legacy(0x0302), legacy(0x0304), legacy(0xffff), *(records(hello("a.test"), 16384, v) for v in (0x0300, 0x0302, 0x0303)),
    records(hello("a.test"), 7)], ids=["legacy 3.1", "legacy 3.2", "legacy 3.4", "legacy 255.255", "record 3.0", "record 3.2", "record 3.3", "many records"])
def test_what_only_looks_odd_is_served(shared, data):
    """RFC 8446 4.2.1 and 5.1: where the extension is there nothing else is asked for the version."""
    assert answered(shared[1]["open"], data)[:1] == b"\x16"
    assert answered(shared[1]["open"], data, each=True)[:1] == b"\x16"


@pytest.mark.parametrize("each", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("port", ["open", "asks", "proxied"])
def test_http_in_clear_is_answered_in_clear(shared, port, each):
    running, ports = shared
    before = counted(running).get("plain_http", 0)
    begin = b"PROXY UNKNOWN\r\n" if port == "proxied" else b""
    request = begin + b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n"
    head, _, body = answered(ports[port], request, *([] if each else [bytes(300000)]), each=each).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n") and head.endswith(b"\r\nConnection: close") and body == TEXT + b"\n"
    assert not answered(ports[port], begin + b"HEAD / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2]
    until(lambda: counted(running).get("plain_http", 0) == before + 2)


def test_http2_in_clear_is_told_in_http2(shared):
    said = answered(shared[1]["open"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0")
    assert said.startswith(b"\0\0\0\4\0\0\0\0\0") and said.endswith(TEXT)


def test_who_only_looks_whether_the_port_is_open_is_not_counted(shared):
    running, port = shared
    before = counted(running)
    socket.create_connection(("127.0.0.1", port["open"]), TIMEOUT).close()
    say(port["open"], b"\x16\3")
    until(lambda: counted(running).get("closed", 0) == before.get("closed", 0) + 1)
    assert sum(counted(running).values()) == sum(before.values()) + 1


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
@pytest.mark.parametrize("port", ["open", "passed"])
def test_a_record_that_is_not_whole_gets_an_alert(shared, port, alpn):
    """After the handshake as well, whatever is on its way behind it."""
    context = ssl.create_default_context(cadata=OURS.ca.decode())
    context.set_alpn_protocols([alpn])
    comes, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    stream = context.wrap_bio(comes, goes, server_hostname="a.test")
    with socket.create_connection(("127.0.0.1", shared[1][port]), TIMEOUT) as raw:
        while True:
            try:
                stream.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(goes.read())
                comes.write(raw.recv(65536))
        stream.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if alpn == "h2" and port == "open" else b"GET / HTTP/1.1\r\n")
        raw.sendall(goes.read())
        stream.write(b"x" * 100)
        record = bytearray(goes.read())
        record[-1] ^= 1
        raw.sendall(bytes(record) + bytes(200_000))
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            while some := raw.recv(65536):
                comes.write(some)
                with contextlib.suppress(ssl.SSLWantReadError):
                    while True:
                        stream.read(65536)


CASES = {
    "hello": lambda port, folder: say(port["open"], bytes(8)),
    "plain_http": lambda port, folder: say(port["open"], b"GET / HTTP/1.1\r\n\r\n"),
    "version": lambda port, folder: say(port["open"], legacy(0x0200)),
    "name": lambda port, folder: shake(port["open"], folder, name="b.test"),
    "closed": lambda port, folder: say(port["open"], hello("a.test")),
    "alert": lambda port, folder: shake(port["open"], folder, trusts=True),
    "cipher": lambda port, folder: shake(port["open"], folder, ciphers="ECDHE-RSA-AES128-GCM-SHA256"),
    "application": lambda port, folder: shake(port["open"], folder, alpn="spdy/3"),
    "no_certificate": lambda port, folder: shake(port["asks"], folder),
    "bad_certificate": lambda port, folder: shake(port["asks"], folder, shows=STRANGER.issue("x")),
}


def counted(running) -> dict[str, float]:
    begin = 'gwfast_tls_failure_reasons_total{reason="'
    return {name.removeprefix(begin)[:-2]: n for name, n in running.metrics().items() if name.startswith(begin) and n}


def said(running) -> list[dict]:
    lines = [json.loads(line) for line in running.errors().splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"] == "a TLS handshake failed"]


def test_each_is_counted_and_told_by_its_reason(ports, tmp_path):
    running, port = ports
    for n, (word, act) in enumerate(CASES.items(), 1):
        act(port, tmp_path)
        until(lambda n=n: sum(counted(running).values()) == n)
        until(lambda n=n: len(said(running)) == n)
        # Python's client closes with bytes unread: its reset may overtake its alert
        assert said(running)[-1]["reason"] in ((word, "closed") if word == "alert" else (word,))
    assert all(counted(running)[line["reason"]] for line in said(running))
    assert {line["client"] for line in said(running)} == {"127.0.0.1"}
    details = {line["reason"]: line["detail"] for line in said(running)}
    assert details["no_certificate"] == "peer did not return a certificate"
    assert details["bad_certificate"].startswith("certificate verify failed: ")


def test_of_many_some_are_told(ports):
    running, port = ports
    for _ in range(200):
        say(port["open"], b"\r\n\r\n\r\n\r\n")
    until(lambda: counted(running).get("hello") == 200)
    until(lambda: len(said(running)) >= limits.HANDSHAKE_LINES)
    assert len(said(running)) < 200
    assert "gwfast_bugs_total" not in counted(running) and running.metrics()["gwfast_bugs_total"] == 0
