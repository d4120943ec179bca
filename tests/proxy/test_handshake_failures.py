"""Handshakes of clients that come to nothing, through a whole gateway: each is counted by its reason, and a bounded number are logged."""
import contextlib
import json
import socket
import ssl

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from issuer import Issuer
from proxy_gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from proxy_wire import TIMEOUT

from gwfast import limits

OURS, THEIRS, STRANGER = Issuer(), Issuer("clients"), Issuer("others")


@pytest.fixture
def ports(backend, tmp_path):
    """A gateway, and its ports: one that asks for certificates and one that does not."""
    ports = {"open": free_port(), "asks": free_port()}
    folder = tmp_path / "conf"
    folder.mkdir()
    one = OURS.issue("a.test")
    secret = {**resource("Secret", "cert", api="v1"), "type": "kubernetes.io/tls",
              "stringData": {"tls.crt": one.chain.decode(), "tls.key": one.key.decode()}}
    authority = {**resource("ConfigMap", "ca", api="v1"), "data": {"ca.crt": THEIRS.ca.decode()}}
    listeners = [{"name": name, "protocol": "HTTPS", "hostname": "a.test", "port": port, "tls": {"certificateRefs": [{"name": "cert"}]}}
                 for name, port in ports.items()]
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    write(folder, "all.yaml", secret, authority, service("b", backend()), route("all", rule("b")),
          gateway(*listeners, tls={"frontend": {"default": {}, "perPort": [{"port": ports["asks"], "tls": {"validation": validation}}]}}))
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


def hello(name: str) -> bytes:
    goes = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), goes, server_hostname=name).do_handshake()
    return goes.read()


CASES = {
    "hello": lambda port, folder: say(port["open"], b"GET / HTTP/1.1\r\n\r\n"),
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
