"""Mirrors and HTTP authorizers that a BackendTLSPolicy or an appProtocol is about: over TLS in HTTP/1.1 and HTTP/2, in clear in HTTP/2.

What is not who it has to be gets nothing: a mirror is dropped and its client sees nothing of it, an authorizer fails closed.
"""
import asyncio
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.tls import Authority, authority, backend_tls, config_map

from gwfast.echo import tls_context
from gwfast.observe.h2_server import Http2Server
from gwfast.observe.h11_server import Answer, Request

NAME = "called.example"
BODY = bytes(range(256)) * 100
BAD = ("untrusted", "misnamed", "clear")       # whom nothing is told


class Called(Http2Server):
    """Answers 200, and 401 where the path says so; keeps what it was asked, and counts connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self.keep)
        self.requests: list[Request] = []
        self.made = 0
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(self.loop.create_server(self.connected, "127.0.0.1", 0, ssl=tls))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def connected(self) -> asyncio.Protocol:
        self.made += 1
        return self()

    async def keep(self, request: Request) -> Answer:
        self.requests.append(request)
        return Answer(401 if request.target.endswith("/denied") else 200, b"said", headers=(("X-User", "ann"),))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


def context(folder: Path, signed_by: Authority, name: str, *alpn: str) -> ssl.SSLContext:
    chain, key = signed_by.certificate(name)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    made = tls_context(str(folder / "chain.pem"), str(folder / "key.pem"))
    made.set_alpn_protocols(list(alpn))
    return made


def called_service(name: str, port: int, protocol: str = "") -> list[dict]:
    written = {"port": 80} | ({"appProtocol": protocol} if protocol else {})
    return [resource("Service", name, {"ports": [written]}, "v1"),
            {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
             "addressType": "IPv4", "ports": [{"port": port}], "endpoints": [{"addresses": ["127.0.0.1"]}]}]


def mirror(name: str) -> dict:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}}


def ask(name: str) -> dict:
    return {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": {"name": name, "port": 80},
                                                     "http": {"allowedResponseHeaders": ["X-User"]}, "forwardBody": {"maxSize": 30000}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, dict[str, Called], Backend]]:
    folder = tmp_path_factory.mktemp("called")
    (folder / "conf").mkdir()
    stranger = Authority("a stranger")
    servers = {
        "h2c": Called(),
        "tls-1": Called(context(folder, authority(), NAME, "http/1.1")),
        "tls-2": Called(context(folder, authority(), NAME, "h2", "http/1.1")),
        "untrusted": Called(context(folder, stranger, NAME, "h2", "http/1.1")),
        "misnamed": Called(context(folder, authority(), "other.example", "h2", "http/1.1")),
        "clear": Called(),         # and a policy says that it speaks TLS
        "unsaid": Called(),        # TLS, and no policy says whose certificate is believed
        "no-ca": Called(),         # its policy names a ConfigMap that is not there
    }
    protocols = {"h2c": "kubernetes.io/h2c", "unsaid": "https"}
    missing = backend_tls("no-ca", NAME)
    missing["spec"]["validation"]["caCertificateRefs"][0]["name"] = "nowhere"
    app = Backend("app")
    write(folder / "conf", "all.yaml", gateway(free_port()), service("app", app), config_map("authority", authority().pem), missing,
          *(backend_tls(name, NAME) for name in ("tls-1", "tls-2", *BAD)),
          *(each for name, server in servers.items() for each in called_service(name, server.port, protocols.get(name, ""))),
          route("mirrored", *(rule("app", path=f"/mirror/{name}", filters=[mirror(name)]) for name in servers)),
          route("asked", *(rule("app", path=f"/ask/{name}", filters=[ask(name)]) for name in servers)))
    running = Gateway(folder / "conf")
    yield running, servers, app
    running.stop()
    app.close()
    for each in servers.values():
        each.stop()


def post(target: str) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: any.example\r\nContent-Length: %d\r\n\r\n" % (target.encode(), len(BODY)) + BODY


def mirrored(running: Gateway, result: str) -> float:
    return running.metrics()[f'gwfast_mirror_requests_total{{result="{result}"}}']


@pytest.mark.parametrize(("name", "version"), [("h2c", "HTTP/2.0"), ("tls-1", "HTTP/1.1"), ("tls-2", "HTTP/2.0")])
def test_a_mirror_gets_every_request_on_one_connection(world, name, version) -> None:
    running, servers, app = world
    target, called, client = f"/mirror/{name}", servers[name], running.connect()
    for n in range(1, 4):
        answered = mirrored(running, "answered")
        client.send(post(target))
        assert client.response().status == 200
        assert until(lambda n=n: len(called.requests) == n)
        until(lambda answered=answered: mirrored(running, "answered") == answered + 1)     # the connection is in the pool again
    client.close()
    assert [(one.target, one.version, one.body_bytes, one.header("host"), one.tls is not None) for one in called.requests] == [
        (target, version, len(BODY), "any.example", name != "h2c")] * 3
    assert called.made == 1 and [one.body for one in app.seen(target)] == [BODY] * 3


@pytest.mark.parametrize("name", BAD)
def test_a_mirror_that_is_somebody_else_gets_nothing(world, name) -> None:
    running, servers, app = world
    failed, client = mirrored(running, "failed"), running.connect()
    for _ in range(5):
        client.send(post(f"/mirror/{name}"))
        assert client.response().status == 200
    client.close()
    until(lambda: mirrored(running, "failed") == failed + 5)
    assert not servers[name].requests and len(app.seen(f"/mirror/{name}")) == 5


@pytest.mark.parametrize(("name", "version"), [("h2c", "HTTP/2.0"), ("tls-1", "HTTP/1.1"), ("tls-2", "HTTP/2.0")])
def test_an_authorizer_is_asked_on_one_connection(world, name, version) -> None:
    running, servers, app = world
    called, client = servers[name], running.connect()
    called.requests.clear()
    made = called.made
    for target, status in ((f"/ask/{name}/fine", 200), (f"/ask/{name}/denied", 401)) * 3:
        client.send(post(target))
        assert client.response().status == status
    client.close()
    assert [(one.version, one.body_bytes, one.header("host"), one.tls is not None) for one in called.requests] == [
        (version, len(BODY), "any.example", name != "h2c")] * 6
    assert called.made <= made + 1
    assert [(one.fields.get("X-User"), one.body) for one in app.seen(f"/ask/{name}/fine")] == [("ann", BODY)] * 3
    assert not app.seen(f"/ask/{name}/denied")


@pytest.mark.parametrize(("name", "status"), [*((each, 403) for each in BAD), ("unsaid", 500), ("no-ca", 500)])
def test_an_authorizer_that_is_somebody_else_lets_nothing_pass(world, name, status) -> None:
    running, servers, app = world
    for _ in range(5):
        client = running.connect()
        client.send(post(f"/ask/{name}/fine"))
        assert client.response().status == status
        client.close()
    assert not servers[name].requests and not app.seen(f"/ask/{name}/fine")


@pytest.mark.parametrize("name", ["unsaid", "no-ca"])
def test_a_mirror_that_does_not_resolve_is_left_out(world, name) -> None:
    running, servers, app = world
    assert running.get(f"/mirror/{name}").status == 200
    assert not servers[name].requests and servers[name].made == 0 and len(app.seen(f"/mirror/{name}")) == 1
