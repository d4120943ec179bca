"""Workers and TLS: what one began another resumes, also one that took the place of a dead one; without TLS there is no OpenSSL."""
import base64
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest
import yaml
from support.gateway import children, comm, free_port, gateway, listener, resource, route, rule, service, until
from support.wire import TIMEOUT

sys.path.append(str(Path(__file__).parents[1]))
from support import pki  # noqa: E402

NAME = "a.example"


def secret(name: str, *names: str) -> dict:
    chain, key = pki.pair(*names)
    data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    return {**resource("Secret", name, api="v1"), "type": "kubernetes.io/tls", "data": data}


def https(port: int, name: str = "https", certificate: str = "a", **more) -> dict:
    return listener(port, name, **({"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": certificate}]}} | more))


def serving(made) -> list[dict]:
    return [*service("one", made), route("r", rule("one"))]


@pytest.fixture
def two(run, backend):
    """Two workers that end TLS in front of one backend."""
    return run(gateway(https(free_port())), secret("a", NAME), *serving(backend("one")),
               options=("--workers", "2", "--access-log", "off"))


class Client:
    """Requests over TLS on a connection each, with the session of the one before."""

    def __init__(self, version: ssl.TLSVersion):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._context.minimum_version = self._context.maximum_version = version
        self._session: ssl.SSLSession | None = None
        self.certificate = b""

    def get(self, port: int) -> bool:
        """Say whether the session was resumed."""
        with (socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
              self._context.wrap_socket(plain, server_hostname=NAME, session=self._session) as stream):
            stream.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % NAME.encode())
            answer = b""
            while data := stream.recv(65536):
                answer += data
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            self._session, self.certificate = stream.session, stream.getpeercert(True)
            return bool(stream.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_sessions_are_resumed_by_every_worker_that_there_ever_is(two, version) -> None:
    client = Client(version)
    assert not client.get(two.port)
    for _ in range(2):
        assert all(client.get(two.port) for _ in range(16))
        before = two.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda before=before: two.metrics()["gwfast_workers_running"] == 2 and not {*two.workers()} & {*before})
    assert all(client.get(two.port) for _ in range(16))


def test_sessions_outlive_a_certificate(two) -> None:
    """A new handshake has the new certificate; who resumes needs none (RFC 8446 2.2)."""
    client, later = Client(ssl.TLSVersion.TLSv1_3), Client(ssl.TLSVersion.TLSv1_3)
    client.get(two.port)
    before, generation = client.certificate, two.metrics()["gwfast_generation"]
    written = (two.folder / "all.yaml").read_text()
    two.write("all.yaml", *(document for document in yaml.safe_load_all(written) if document["kind"] != "Secret"),
              secret("a", NAME, "b.example"))
    until(lambda: two.metrics()["gwfast_generation"] > generation)
    assert all(client.get(two.port) for _ in range(8))
    later.get(two.port)
    assert later.certificate != before


def test_a_worker_is_replaced_without_the_fork_server_too(two) -> None:
    fork_server, = (pid for pid in children(two.process.pid) if comm(pid) == "gwfast-forker")
    worker = two.workers()[0]
    for dead in (fork_server, worker):
        os.kill(dead, signal.SIGKILL)
    until(lambda: worker not in two.workers() and two.metrics()["gwfast_workers_running"] == 2)
    assert fork_server not in children(two.process.pid), "it is no zombie"
    client = Client(ssl.TLSVersion.TLSv1_3)
    for _ in range(16):
        client.get(two.port)


def test_nothing_is_left_when_the_gateway_ends(two) -> None:
    processes = children(two.process.pid)
    assert sorted(map(comm, processes)) == ["gwfast-forker", "gwfast-worker", "gwfast-worker"]
    two.stop()
    until(lambda: not any(map(comm, processes)))


def test_expiry_is_shown(two) -> None:
    until(lambda: 'gwfast_certificate_expiry_timestamp_seconds{namespace="default",secret="a"}' in two.metrics())   # looked at behind
    metrics = two.metrics()        # the swap
    assert metrics['gwfast_certificate_expiry_timestamp_seconds{namespace="default",secret="a"}'] == pki.END.timestamp()
    assert metrics["gwfast_credentials_bytes"] > 500


def uses_openssl(pid: int) -> bool:
    return "cryptography" in Path(f"/proc/{pid}/maps").read_text()


def test_without_tls_there_is_no_openssl(run, backend) -> None:
    """It costs nothing until a listener with TLS comes; then nobody has to start anew."""
    port, later = free_port(), free_port()
    made = serving(backend("one"))
    gw = run(gateway(port), *made, options=("--workers", "2"))
    processes = children(gw.process.pid)
    assert list(map(comm, processes)) == ["gwfast-worker"] * 2
    assert not any(map(uses_openssl, (gw.process.pid, *processes)))
    generation = gw.metrics()["gwfast_generation"]
    gw.write("all.yaml", gateway(port, https(later)), secret("a", NAME), *made)
    until(lambda: gw.metrics()["gwfast_generation"] > generation)
    client = Client(ssl.TLSVersion.TLSv1_3)
    for _ in range(4):
        client.get(later)
    assert children(gw.process.pid) == processes and any(map(uses_openssl, processes))
