"""ExternalAuth over GRPC through a whole gateway, with the server that most people use (grpcio), in clear and over TLS."""
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.protobuf import message, path, read  # noqa: E402
from support.backend import Backend  # noqa: E402
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, write  # noqa: E402
from support.tls import authority, backend_tls, config_map  # noqa: E402


def option(name: str, value: str, append: bool = False) -> bytes:
    return message((1, message((1, name.encode()), (2, value.encode()))), *([(2, message((1, 1)))] if append else []))


class Authorizer(grpc.GenericRpcHandler):
    """Checks requests by their path: what its last part says is done."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        self.seen: list[dict] = []
        self.timeouts: list[float | None] = []
        self.gone = threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        add = (lambda where: self.server.add_secure_port(where, credentials)) if credentials else self.server.add_insecure_port
        self.port = add(f"127.0.0.1:{port}")
        self.server.start()

    def close(self) -> None:
        self.gone.set()
        self.server.stop(0).wait(10)

    def service(self, details):
        if details.method == "/envoy.service.auth.v3.Authorization/Check":
            return grpc.unary_unary_rpc_method_handler(self.check)
        return None

    def check(self, data: bytes, context) -> bytes:
        http = read(path(data, 1, 4, 2))
        self.timeouts.append(context.time_remaining())
        self.seen.append({"fields": {one[1][0]: one.get(2, [b""])[0] for one in map(read, http[3])}, "body": http.get(12, [b""])[0]})
        match http[4][0].decode().rpartition("/")[2]:
            case "denied":
                return message((1, message((1, 16))), (2, message((1, message((1, 401))), (2, option("x-why", "rules")), (3, b"not you"))))
            case "abort":
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            case "garbage":
                return b"\xff\xff"
            case "slow":
                self.gone.wait(30)
        return message((1, message((1, 0))), (3, message(
            (2, option("x-user", "ann")), (2, option("x-group", "more", append=True)), (5, b"authorization"), (6, option("x-seen", "yes")))))


def over_grpc(name: str, **more) -> dict:
    return {"type": "ExternalAuth", "externalAuth": {"protocol": "GRPC", "grpc": {}, "backendRef": {"name": name, "port": 80}, **more}}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, dict[str, Authorizer], Backend]]:
    chain, key = authority().certificate("backend.example")
    authorizers = {"clear": Authorizer(), "secure": Authorizer(grpc.ssl_server_credentials([(key, chain)]))}
    backend, folder, port = Backend("app"), tmp_path_factory.mktemp("authz") / "conf", free_port()
    folder.mkdir()
    ports = {**{name: each.port for name, each in authorizers.items()}, "down": free_port()}
    services = [one for name, where in ports.items() for one in (
        resource("Service", name, {"ports": [{"port": 80}]}, "v1"),
        {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
         "addressType": "IPv4", "ports": [{"port": where}], "endpoints": [{"addresses": ["127.0.0.1"]}]})]
    write(folder, "all.yaml", gateway(port), *services, service("app", backend), backend_tls("secure", "backend.example"),
          config_map("authority", authority().pem), route(
              "all", *(rule("app", path=f"/{name}", filters=[over_grpc(name)]) for name in ports),
              rule("app", path="/body", filters=[over_grpc("clear", forwardBody={"maxSize": 100})]),
              rule("app", path="/some", filters=[over_grpc("clear", grpc={"allowedHeaders": ["X-A"]})]),
              rule({"name": "app", "port": 80, "filters": [over_grpc("clear")]}, path="/behind")))
    running = Gateway(folder)
    yield running, authorizers, backend
    running.stop()
    backend.close()
    for each in authorizers.values():
        each.close()


@pytest.mark.parametrize("way", ["clear", "secure", "behind"])
def test_what_is_allowed(world, way) -> None:
    running, authorizers, backend = world
    authorizer = authorizers["secure" if way == "secure" else "clear"]
    got = running.get(f"/{way}/fine", x_a="1", x_group="one", authorization="Bearer secret")
    assert (got.status, got.fields.get("x-seen")) == (200, "yes")
    seen = authorizer.seen[-1]["fields"]
    assert (seen[b"authorization"], seen[b":path"], seen[b":authority"]) == (b"Bearer secret", f"/{way}/fine".encode(), b"any.example")
    sent = backend.seen(f"/{way}/fine")[-1]
    assert sent.fields.get("x-user") == "ann" and sent.fields.get("authorization") is None
    assert [value for name, value in sent.fields if name.lower() == "x-group"] == ["one", "more"]
    assert 0 < authorizer.timeouts[-1] <= 5


@pytest.mark.parametrize("way", ["clear", "secure", "behind"])
def test_what_is_not(world, way) -> None:
    running, _, backend = world
    got = running.get(f"/{way}/denied")
    assert (got.status, got.fields.get("x-why"), got.body) == (401, "rules", b"not you")
    for last in ("abort", "garbage"):
        assert running.get(f"/{way}/{last}").status == 403
    assert not [one for one in backend.requests if one.target.rpartition("/")[2] in ("denied", "abort", "garbage")]


def test_one_that_is_slow_or_down_is_403(world) -> None:
    running, _, backend = world
    assert running.get("/clear/slow").status == 403
    assert running.get("/down/fine").status == 403
    assert not backend.seen("/clear/slow") and not backend.seen("/down/fine")


def test_bodies_and_fields_that_may_be_shown(world) -> None:
    running, authorizers, backend = world
    body = bytes(range(100))
    post = b"POST /body/fine HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    assert running.send(post % 100 + body).startswith(b"HTTP/1.1 200 ")
    assert authorizers["clear"].seen[-1]["body"] == body == backend.seen("/body/fine")[-1].body
    assert running.send(post % 101 + body + b"x").startswith(b"HTTP/1.1 413 ")
    assert running.get("/some/fine", x_a="1", x_b="2").status == 200
    assert authorizers["clear"].seen[-1]["fields"] == {b"x-a": b"1"}


def test_one_that_dies_lets_nobody_in(tmp_path) -> None:
    """Clients that go on asking: 200 while it lives, 403 while it is dead, 200 again; nothing else, and nobody waits."""
    authorizer, backend, port = Authorizer(), Backend("app"), free_port()
    where = authorizer.port
    folder = tmp_path / "conf"
    folder.mkdir()
    write(folder, "all.yaml", gateway(port), service("app", backend), resource("Service", "auth", {"ports": [{"port": 80}]}, "v1"),
          {**resource("EndpointSlice", "auth", api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "auth"}),
           "addressType": "IPv4", "ports": [{"port": where}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
          route("all", rule("app", filters=[over_grpc("auth")])))
    running = Gateway(folder)
    try:
        counts = {}
        for state in ("lives", "dead", "lives again"):
            if state == "dead":
                authorizer.close()
            elif state == "lives again":
                authorizer = Authorizer(port=where)
                running.serves("/", 200)
            passed = len(backend.requests)
            with ThreadPoolExecutor(8) as pool:
                statuses = list(pool.map(lambda _: running.get("/x").status, range(100)))
            counts[state] = {status: statuses.count(status) for status in set(statuses)}, len(backend.requests) - passed
        assert counts == {"lives": ({200: 100}, 100), "dead": ({403: 100}, 0), "lives again": ({200: 100}, 100)}
    finally:
        running.stop()
        authorizer.close()
        backend.close()
