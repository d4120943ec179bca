"""Clients that go away through a whole gateway, over TLS too, whatever they wait for: an authorizer, a filter in Python, their turn, a backend."""
import contextlib
import socket
import ssl
import struct
import threading
from types import SimpleNamespace

import pytest
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.tls import HOST, authority, https, secret
from support.wire import TIMEOUT

GONE = 'gwfast_faults_total{fault="client_gone"}'
SLEEPS = '''
import asyncio
from gwfast.filters import Filter


class Sleeps(Filter):
    async def on_request(self, request):
        await asyncio.sleep(60)
'''
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n"


class Silent:
    """A backend that takes connections and, where it is told so, begins an answer."""

    def __init__(self, says: bytes = b"") -> None:
        self.address, self.says = "127.0.0.1", says
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listening.getsockname()[1]
        self.asked, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            got = b""
            while not got.endswith(b"\r\n\r\n"):
                if not (some := connection.recv(65536)):
                    return
                got += some
            connection.sendall(self.says)
            self.asked.release()
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            self.ended.release()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The gateway, its ports in clear and over TLS, and its backends: `silent`, `begins` and `never`, an authorizer."""
    folder = tmp_path_factory.mktemp("gone")
    (folder / "sleeps.py").write_text(SLEEPS)
    backends = {"silent": Silent(), "begins": Silent(BEGUN), "never": Silent(), "one": Silent(), "filtered": Silent()}
    clear, secure = free_port(), free_port()
    auth = {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "http": {}, "backendRef": {"name": "never", "port": 80}}}
    python = {"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": "sleeps"}}
    limit = {"targetRefs": [{"group": "", "kind": "Service", "name": "one"}],
             "circuitBreaker": {"perEndpoint": {"maxParallelRequests": 1}, "maxPendingRequests": 9, "pendingTimeout": "60s"}}
    write(folder, "all.yaml", gateway({"name": "clear", "protocol": "HTTP", "port": clear}, https(secure)), secret(HOST, *authority().certificate(HOST)),
          *(service(name, one) for name, one in backends.items()), resource("BackendPolicy", "one", limit, "gwfast.dev/v1alpha1"),
          resource("PythonFilter", "sleeps", {"file": "sleeps.py", "class": "Sleeps", "timeout": "60s"}, "gwfast.dev/v1alpha1"),
          route("all", *(rule(name, path=f"/{name}") for name in ("silent", "begins", "one")),
                rule("silent", path="/auth", filters=[auth]), rule("filtered", path="/python", filters=[python])))
    running = Gateway(folder, "--access-log", "off")
    yield SimpleNamespace(gateway=running, clear=clear, secure=secure, **backends)
    running.stop()
    for one in backends.values():
        one.close()


def fin(client: socket.socket) -> None:
    """Of TLS, too: the connection ends without a goodbye."""
    client.close()


def rst(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def goodbye(client: ssl.SSLSocket) -> None:
    """close_notify, and no FIN: the client waits for the gateway's."""
    with contextlib.suppress(OSError):     # what it had still to read is there
        client.unwrap()


def connect(world, secure: bool) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", world.secure if secure else world.clear), TIMEOUT)
    if not secure:
        return client
    context = ssl.create_default_context(cadata=authority().pem.decode())
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(client, server_hostname=HOST)


def ask(world, path: str, secure: bool = False) -> socket.socket:
    client = connect(world, secure)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return client


def leave(world, client: socket.socket, how) -> None:
    """Go, later than what may be a part of the request (limits.HALF_CLOSE_SOON), and see that the gateway counts it."""
    threading.Event().wait(0.15)
    before = world.gateway.metrics().get(GONE, 0)
    how(client)
    until(lambda: world.gateway.metrics().get(GONE, 0) == before + 1)
    until(lambda: world.gateway.metrics()["gwfast_requests_open"] == 0)
    client.close()


@pytest.mark.parametrize("how", [fin, rst, goodbye])
@pytest.mark.parametrize("to", ["silent", "begins"])
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_a_backend_hears_of_it(world, secure, to, how) -> None:
    if how is goodbye and not secure:
        return
    client = ask(world, f"/{to}", secure)
    assert getattr(world, to).asked.acquire(timeout=TIMEOUT)
    if to == "begins":
        assert client.recv(5) == b"HTTP/"
    leave(world, client, how)
    assert getattr(world, to).ended.acquire(timeout=TIMEOUT)


def test_more_requests_behind_the_first_change_nothing(world) -> None:
    client = connect(world, True)
    client.sendall(f"GET /silent HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert world.silent.asked.acquire(timeout=TIMEOUT)
    client.sendall(f"GET /silent HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    leave(world, client, fin)
    assert world.silent.ended.acquire(timeout=TIMEOUT)


def test_an_authorizer_hears_of_it(world) -> None:
    client = ask(world, "/auth")
    assert world.never.asked.acquire(timeout=TIMEOUT)
    leave(world, client, fin)
    assert world.never.ended.acquire(timeout=TIMEOUT)


def test_a_filter_in_python_is_cancelled(world) -> None:
    leave(world, ask(world, "/python"), fin)


def test_who_waits_for_its_turn_leaves_the_queue(world) -> None:
    first = ask(world, "/one")
    assert world.one.asked.acquire(timeout=TIMEOUT)
    second = ask(world, "/one")
    until(lambda: world.gateway.metrics()["gwfast_requests_waiting"] == 1)
    threading.Event().wait(0.15)
    second.close()
    until(lambda: world.gateway.metrics()["gwfast_requests_waiting"] == 0)
    leave(world, first, fin)
    assert world.one.ended.acquire(timeout=TIMEOUT)
