"""Filters of listeners (spec.listeners[].filters.requests): every request passes them, in their order, before a route is chosen."""
import json

import pytest
from support.gateway import free_port, gateway, listener, resource, route, rule, service, until

FILTERS = '''
from gwfast.filters import Filter, Response


class Sets(Filter):
    async def on_request(self, request):
        for name, value in self.config["set"].items():
            request.headers[name] = value
        request.headers["x-order"] = request.headers.get("x-order", "") + self.config["mark"]


class Moves(Filter):
    async def on_request(self, request):
        request.path, request.method, request.host = "/moved", "PUT", "other.example"


class Model(Filter):
    async def on_request(self, request):
        import json
        request.headers["x-model"] = json.loads(await request.body())["model"]


class Answers(Filter):
    async def on_request(self, request):
        return Response(418, [("x-by", "filter")], b"short")


class Chooses(Filter):
    async def on_request(self, request):
        try:
            request.backend = "one"
        except ValueError:
            return Response(409)
'''


@pytest.fixture
def python(tmp_path):
    """Make a PythonFilter of one of these classes."""
    (tmp_path / "filters.py").write_text(FILTERS)

    def made(name: str, class_: str, **config) -> dict:
        spec = {"file": str(tmp_path / "filters.py"), "class": class_, "config": config}
        return resource("PythonFilter", name, spec, "gwfast.dev/v1alpha1")
    return made


def extension(name: str) -> dict:
    return {"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": name}}


def auth(name: str = "auth", body: int = 0, **more) -> dict:
    return {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "http": more, "backendRef": {"name": name, "port": 80},
                                                     **({"forwardBody": {"maxSize": body}} if body else {})}}


def filtered(*filters: dict, port: int = 0, **more) -> dict:
    return listener(port or free_port(), filters={"requests": list(filters)}, **more)


def asks(path: str, **fields: str) -> dict:
    """A rule for what has these fields."""
    return {"matches": [{"path": {"value": path}, "headers": [{"name": n, "value": v} for n, v in fields.items()]}]}


def to(name: str) -> dict:
    return {"backendRefs": [{"name": name, "port": 80}]}


def allow(backend, *lines: bytes) -> None:
    text = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 0\r\n\r\n"
    for path in ("/", "/a", "/in"):
        backend.handlers[path] = lambda stream, request: stream.send(text) or True


@pytest.fixture
def world(run, backend):
    """Start a gateway with two backends behind one listener with filters."""
    def start(*filters, more=(), rules=()):
        one, two = backend("one"), backend("two")
        gw = run(gateway(filtered(*filters)), service("one", one), service("two", two), *more,
                 route("r", *(rules or [asks("/", **{"x-user": "ann"}) | to("one"), rule("two")])))
        return gw, one, two
    return start


def who(answer) -> str:
    assert answer.status == 200, answer.status
    return answer.fields.get("x-backend")


def test_what_an_authorizer_says_is_matched_on(world, backend):
    authorizer = backend("auth")
    allow(authorizer, b"X-User: ann", b"Host: other.example")
    gw, one, two = world(auth(), more=service("auth", authorizer))
    assert who(gw.get("/", x_user="bob")) == "one"
    assert len(authorizer.seen("/")) == 1 and two.requests == []
    assert one.requests[0].fields.get("host") == "any.example"
    assert one.requests[0].fields.all("x-forwarded-proto") == ["http"]  # said once


def test_who_is_denied_meets_no_route(world, backend):
    authorizer = backend("auth")
    text = b"HTTP/1.1 401 Unauthorized\r\nX-Why: rules\r\nContent-Length: 3\r\n\r\nno!"
    for path in ("/", "/nowhere"):
        authorizer.handlers[path] = lambda stream, request: stream.send(text) or True
    gw, one, two = world(auth(), more=service("auth", authorizer), rules=[asks("/only", **{"x-user": "ann"}) | to("one")])
    for target in ("/", "/nowhere"):  # whatever rules there are
        answer = gw.get(target)
        assert (answer.status, answer.body, answer.fields.get("x-why")) == (401, b"no!", "rules")
    allow(authorizer)
    assert gw.get("/").status == 404
    assert one.requests == two.requests == []


def test_an_authorizer_that_is_not_there_fails_closed(world):
    gw, one, two = world(auth(), more=[resource("Service", "auth", {"ports": [{"port": 80}]}, "v1"), {
        **resource("EndpointSlice", "auth", api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "auth"}),
        "addressType": "IPv4", "ports": [{"port": free_port()}], "endpoints": [{"addresses": ["127.0.0.1"]}]}])
    assert gw.get("/").status == 403
    assert one.requests == two.requests == []


def test_a_body_that_is_shown_goes_on(world, backend):
    authorizer = backend("auth")
    allow(authorizer, b"X-User: ann")
    gw, one, _ = world(auth(body=100_000), more=service("auth", authorizer))
    body = b"x" * 70_000
    assert who(gw.get("/", method="POST", body=body)) == "one"
    assert authorizer.seen("/")[0].body == one.requests[0].body == body
    assert gw.get("/", method="POST", body=b"x" * 100_001).status == 413


def test_filters_run_in_their_order_and_a_route_is_chosen_once(run, backend, python):
    one, two = backend("one"), backend("two")
    first, second = python("first", "Sets", set={"x-user": "bob"}, mark="1"), python("second", "Sets", set={"x-user": "ann"}, mark="2")
    rules = [asks("/", **{"x-user": "ann"}) | to("one"), rule("two")]
    for order, expected in ((("first", "second"), "one"), (("second", "first"), "two")):
        gw = run(gateway(filtered(*map(extension, order))), service("one", one), service("two", two), first, second,
                 route("r", *rules))
        assert who(gw.get("/")) == expected
        assert (one if expected == "one" else two).requests[-1].fields.get("x-order") == ("12" if expected == "one" else "21")


def test_host_stays_what_it_was(run, backend, python):
    one, two = backend("one"), backend("two")
    gw = run(gateway(filtered(extension("moves"))), service("one", one), service("two", two), python("moves", "Moves"),
             route("mine", {"matches": [{"path": {"value": "/moved"}, "method": "PUT"}]} | to("one"), hostnames=["mine.example"]),
             route("other", rule("two"), hostnames=["other.example"]))
    assert who(gw.get("/", host="mine.example")) == "one"
    assert one.requests[0].fields.get("host") == "mine.example" and two.requests == []


def test_the_body_chooses(run, backend, python):
    one, two = backend("one"), backend("two")
    gw = run(gateway(filtered(extension("model"))), service("one", one), service("two", two), python("model", "Model"),
             route("r", asks("/", **{"x-model": "big"}) | to("one"), rule("two")))
    for model, expected in (("big", "one"), ("small", "two")):
        assert who(gw.get("/", method="POST", body=json.dumps({"model": model}).encode())) == expected


def test_an_answer_ends_it(run, backend, python):
    one, authorizer = backend("one"), backend("auth")
    gw = run(gateway(filtered(extension("answers"), auth())), service("one", one), service("auth", authorizer),
             python("answers", "Answers"), route("r", rule("one")))
    answer = gw.get("/")
    assert (answer.status, answer.body, answer.fields.get("x-by")) == (418, b"short", "filter")
    assert one.requests == authorizer.requests == []


def test_there_is_no_backend_to_choose_yet(run, backend, python):
    gw = run(gateway(filtered(extension("chooses"))), service("one", backend("one")), python("chooses", "Chooses"),
             route("r", rule("one")))
    assert gw.get("/").status == 409


def test_filters_of_the_rule_come_behind(run, backend):
    one, authorizer = backend("one"), backend("auth")
    allow(authorizer, b"X-User: ann")
    own = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-user", "value": "rule"}]}}
    gw = run(gateway(filtered(auth())), service("one", one), service("auth", authorizer),
             route("r", asks("/", **{"x-user": "ann"}) | {"filters": [auth(), own]} | to("one")))
    assert who(gw.get("/")) == "one"
    assert len(authorizer.seen("/")) == 2 and one.requests[0].fields.get("x-user") == "rule"


def test_another_listener_has_none(run, backend):
    one, authorizer = backend("one"), backend("auth")
    plain = listener(free_port(), "plain")
    gw = run(gateway(filtered(auth("refused")), plain), service("one", one), service("auth", authorizer), route("r", rule("one")),
             service("refused"))
    assert gw.get("/").status == 403
    assert gw.get("/", port=plain["port"]).status == 200
    assert authorizer.requests == []


def test_a_filter_that_leads_nowhere_is_not_walked_around(run, backend):
    one = backend("one")
    unknown = {"type": "ExtensionRef", "extensionRef": {"group": "x.example", "kind": "Thing", "name": "thing"}}
    gw = run(gateway(filtered(unknown)), service("one", one), route("r", rule("one")))
    assert gw.get("/").status == 500 and one.requests == []


def test_filters_come_and_go_with_a_reload(run, backend):
    one, authorizer = backend("one"), backend("auth")
    port = free_port()
    gw = run(gateway(port), service("one", one), service("auth", authorizer), route("r", rule("one")))
    assert gw.get("/").status == 200
    authorizer.handlers["/"] = lambda stream, request: stream.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") or True
    documents = [*service("one", one), *service("auth", authorizer), route("r", rule("one"))]
    for filters, status in (([auth()], 403), ([], 200), ([auth()], 403)):
        gw.write("all.yaml", gateway(filtered(*filters, port=port)), *documents)
        until(lambda status=status: gw.get("/").status == status)
