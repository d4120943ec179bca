"""What is configured, and what is asked of it: one function for each shape of configuration.

Every scene has the services `first`, `rest` and `last`, each with a port of the backend, so that an answer tells which
route served it: X-Backend names the port.
"""
from collections.abc import Callable

import msgspec

from bench.wire import HOST
from bench.world import Resource, calls, header, listener_set, prefix, resource, route


class Ask(msgspec.Struct, frozen=True):
    """A request, and the service that must answer it ('': nobody, with 404). `body` is its size."""

    to: str = "first"
    path: str = "/"
    host: str = HOST
    headers: tuple[tuple[str, str], ...] = ()
    body: int = 0

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"

    def head(self, close: bool = False) -> bytes:
        fields = [("Host", self.host), *self.headers]
        if close:
            fields.append(("Connection", "close"))
        if self.body:
            fields.append(("Content-Length", str(self.body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"{self.method} {self.path} HTTP/1.1\r\n{lines}\r\n".encode()

    def bytes(self, close: bool = False) -> bytes:
        return self.head(close) + b"." * self.body


class Scene(msgspec.Struct, frozen=True):
    """Resources, and the asks by name: those that are measured, and one for which there is no route (if there can be)."""

    routes: list[Resource]
    asks: dict[str, Ask]
    nobody: Ask | None = None
    listener_sets: list[Resource] = []
    # Route number n as it is, or (number, service) as it should become; and what it answers.
    route: Callable[[int, str], Resource] | None = None
    ask: Callable[[int, str], Ask] | None = None


def service_of(number: int, count: int) -> str:
    return "first" if number == 0 else "last" if number == count - 1 else "rest"


def _scene(count: int, make: Callable[[int, str], Resource], ask: Callable[[int, str], Ask], **rest) -> Scene:
    asks = {"first": ask(0, "first")} if count == 1 else {"first": ask(0, "first"), "last": ask(count - 1, "last")}
    return Scene(routes=[make(number, service_of(number, count)) for number in range(count)], asks=asks,
                 nobody=ask(count, ""), route=make, ask=ask, **rest)


def plain(body: int = 0) -> Scene:
    """One route for everything."""
    return Scene(routes=[route("all", "first")], asks={"": Ask(body=body)}, route=lambda n, to: route("all", to),
                 ask=lambda n, to: Ask(to=to))


def unary(size: int = 64) -> Scene:
    """One GRPCRoute, of one service; messages of so many bytes."""
    fields = (("content-type", "application/grpc"), ("te", "trailers"))
    return Scene(routes=[calls("all", "first", "bench.Echo")], asks={"": Ask(path="/bench.Echo/Say", headers=fields, body=size)})


FILTERS = [
    {"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "add": [{"name": "X-Tenant", "value": "shop"}], "set": [{"name": "User-Agent", "value": "gateway"}],
        "remove": ["Accept"]}},
    {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "X-Served-By", "value": "gwfast"}]}},
    {"type": "URLRewrite", "urlRewrite": {
        "hostname": "shop.internal", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
    {"type": "CORS", "cors": {"allowOrigins": ["https://www.example.com"], "allowMethods": ["GET", "PUT"]}},
]
TIMEOUTS = {"request": "30s", "backendRequest": "10s"}
PYTHON = {name: [{"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": name}}]
          for name in ("empty", "tenant")}
RETRY = {"codes": [502, 503], "attempts": 2, "backoff": "100ms"}


def features(**rules: dict) -> Scene:
    """A route for each of the rules, by what it has beside its backend; the same is asked of all, by a page of another
    origin."""
    fields = (("User-Agent", "curl/8.5.0"), ("Accept", "*/*"), ("Origin", "https://www.example.com"))
    extensions = [resource("gwfast.dev/v1alpha1", "PythonFilter", name, spec={"module": "bench.filters", "class": name.title()})
                  for name in PYTHON]
    watched = resource("gwfast.dev/v1alpha1", "BackendPolicy", "rest", spec={
        "targetRefs": [{"group": "", "kind": "Service", "name": "rest"}], "healthCheck": {"passive": {}}})
    to = {name: "rest" if name == "health" else "first" for name in rules}      # the one whose endpoints are watched
    routes = [route(name, to[name], prefix(f"/{name}"), **rule) for name, rule in rules.items()]
    return Scene(routes=[*routes, *extensions, watched],
                 asks={name: Ask(to=to[name], path=f"/{name}/items", headers=fields) for name in rules},
                 nobody=Ask(to="", path="/"))


def paths(count: int) -> Scene:
    """A prefix of its own for each route."""
    return _scene(count, lambda n, to: route(f"route-{n}", to, prefix(f"/api/service-{n:06}")),
                  lambda n, to: Ask(to=to, path=f"/api/service-{n:06}/items"))


def hosts(count: int) -> Scene:
    """A hostname of its own for each route."""
    return _scene(count, lambda n, to: route(f"route-{n}", to, hostname=f"host-{n:06}.bench.example"),
                  lambda n, to: Ask(to=to, host=f"host-{n:06}.bench.example"))


def headers(count: int) -> Scene:
    """A value of one header of its own for each route."""
    return _scene(count, lambda n, to: route(f"route-{n}", to, header("X-Tenant", f"tenant-{n:06}")),
                  lambda n, to: Ask(to=to, headers=(("X-Tenant", f"tenant-{n:06}"),)))


def listener_sets(sets: int, each: int) -> Scene:
    """`sets` ListenerSets with a hostname each, and `each` routes with a prefix each on every one of them."""
    def name(n: int) -> str:
        return f"set-{n // each:05}.bench.example"

    return _scene(
        sets * each,
        lambda n, to: route(f"route-{n}", to, prefix(f"/api/service-{n:06}"), parent={
            "group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": f"set-{n // each}"}),
        lambda n, to: Ask(to=to, path=f"/api/service-{n:06}/items", host=name(n)),
        listener_sets=[listener_set(n, name(n * each)) for n in range(sets)])
