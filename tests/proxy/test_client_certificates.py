"""Certificates of clients, through a whole gateway: who is let in, and what backends are told."""
import socket
import ssl
from hashlib import sha256

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from support.issuer import Issuer
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, write
from support.wire import TIMEOUT
from support.waiting import elapse

FIELD = "x-forwarded-client-cert"


@pytest.fixture(scope="module")
def theirs():
    return Issuer("clients")


@pytest.fixture
def running(backend, theirs, tmp_path):
    """Make a gateway that looks at clients' certificates: (gateway, port, backend)."""
    made = []

    def make(*options, mode="AllowValidOnly"):
        one, port, folder = Issuer().issue("a.test"), free_port(), tmp_path / "conf"
        folder.mkdir()
        upstream = backend()
        secret = {**resource("Secret", "cert", api="v1"), "type": "kubernetes.io/tls",
                  "stringData": {"tls.crt": one.chain.decode(), "tls.key": one.key.decode()}}
        authority = {**resource("ConfigMap", "ca", api="v1"), "data": {"ca.crt": theirs.ca.decode()}}
        listener = {"name": "https", "protocol": "HTTPS", "port": port,
                    "tls": {"certificateRefs": [{"name": "cert"}]}}
        validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}], "mode": mode}
        write(folder, "all.yaml", secret, authority, service("b", upstream), route("all", rule("b")),
              gateway(listener, tls={"frontend": {"default": {"validation": validation}}}))
        made.append(Gateway(folder, *options))
        return made[-1], port, upstream
    yield make
    for each in made:
        each.stop()


def ask(port, tmp_path, certificate=None, fields="") -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        both = tmp_path / "client.pem"
        both.write_bytes(certificate.chain + certificate.key)
        context.load_cert_chain(both)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw:
        with context.wrap_socket(raw, server_hostname="a.test") as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}\r\n".encode())
            return tls.recv(65536)


def told(upstream) -> list[str]:
    return [value for request in upstream.requests for name, value in request.fields if name.lower() == FIELD]


def test_backends_are_told(running, theirs, tmp_path):
    _, port, upstream = running("--forward-client-cert")
    known = theirs.issue("client.test", common="known")
    assert b" 200 " in ask(port, tmp_path, known, "X-Forwarded-Client-Cert: Hash=00\r\n")
    hash_ = sha256(ssl.PEM_cert_to_DER_cert(known.chain.decode())).hexdigest()
    assert told(upstream) == [f'Hash={hash_};Subject="CN=known";DNS=client.test']


def test_nobody_else_says_so(running, theirs, tmp_path):
    _, port, upstream = running()
    assert b" 200 " in ask(port, tmp_path, theirs.issue(common="known"), "X-Forwarded-Client-Cert: Hash=00\r\n")
    assert told(upstream) == []


def test_a_bad_certificate_is_not_told_of(running, tmp_path):
    _, port, upstream = running("--forward-client-cert", mode="AllowInsecureFallback")
    for certificate in (None, Issuer("others").issue(common="unknown")):
        assert b" 200 " in ask(port, tmp_path, certificate, "X-Forwarded-Client-Cert: Hash=00\r\n")
    assert told(upstream) == []


def test_who_shows_none_is_not_let_in(running, theirs, tmp_path):
    _, port, upstream = running()
    for certificate in (None, Issuer("others").issue(common="unknown")):
        with pytest.raises(OSError):
            assert b" 200 " not in ask(port, tmp_path, certificate)
            raise ConnectionResetError  # closed without an answer
    assert b" 200 " in ask(port, tmp_path, theirs.issue(common="known"))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("who", ["nobody", "stranger"])
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize("version, size", [("TLSv1_3", 0), ("TLSv1_3", 200_000), ("TLSv1_2", 0)])
def test_who_is_not_let_in_is_told_by_an_alert(running, tmp_path, who, apart, version, size):
    """And not by an RST: what a client of TLS 1.3 sends behind its Finished is read."""
    one, port, _ = running()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if who == "stranger":
        known = Issuer("others").issue("client.test")
        (tmp_path / "client.pem").write_bytes(known.chain + known.key)
        context.load_cert_chain(tmp_path / "client.pem")
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname="a.test")
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLError, match="(?i)alert"):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(goes.read())
                    came.write(raw.recv(65536) or pytest.fail("it ended without an alert"))
            flight = goes.read()
            tls.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" + b"x" * size)
            request = goes.read()
            for part in (flight, request) if apart else (flight + request,):
                raw.sendall(part)
                elapse(0.1 if apart else 0)            # by now it may have ended
            while True:
                came.write(raw.recv(65536) or pytest.fail("it ended without an alert"))
                try:
                    tls.read(1)
                except ssl.SSLWantReadError:
                    pass
        assert raw.recv(1) == b""
    assert one.metrics()["gwfast_tls_failures_total"] == 1
