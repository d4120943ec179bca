"""Where two readers of one connection could lose step: what one request leaves behind must never be read as another."""
import json
import threading

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, route, rule, service, until, write
from support.wire import chunked

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    """A gateway that answers most requests by itself: 404, 500, 503, redirects; /to is a backend."""
    backend = Backend("to")
    redirect = [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}}]
    folder = tmp_path_factory.mktemp("answering") / "conf"
    folder.mkdir()
    write(folder, "all.yaml", gateway(free_port()), service("to", backend), route(
        "r", rule("to", path="/to"), rule("to", path="/smuggled"), rule(path="/500"), {**rule(path="/302"), "filters": redirect}))
    running = Gateway(folder, "--access-log", "off")
    yield running, backend
    running.stop()
    backend.close()
    assert not backend.dirty


@pytest.mark.parametrize("form", ["length", "chunked", "length, later", "chunked, later"])
@pytest.mark.parametrize("path,status", [(b"/404", 404), (b"/500", 500), (b"/302", 302)])
def test_body_of_a_request_that_is_answered_here(answering, path: bytes, status: int, form: str) -> None:
    """The body is read and forgotten, or the connection ends; it is never the next request."""
    gw, backend = answering
    backend.requests.clear()
    head, body = (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED) if "length" in form else (
        b"Transfer-Encoding: chunked", chunked(SMUGGLED))
    stream = gw.connect()
    data = b"POST %s HTTP/1.1\r\nHost: a.example\r\n%s\r\n\r\n" % (path, head)
    if "later" in form:
        stream.send(data)
        response = stream.response("POST")
        try:
            stream.send(body)
        except ConnectionError:
            pass
    else:
        stream.send(data + body)
        response = stream.response("POST")
    assert response.status == status
    if response.fields.get("Connection") == "close":
        stream.rest()
    else:
        stream.send(b"GET /to HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert json.loads(stream.response().body)["target"] == "/to"
    assert not backend.seen("/smuggled")
    stream.close()


@pytest.mark.parametrize("path,status", [("/404", 404), ("/500", 500), ("/302", 302)])
def test_answers_to_head_have_no_body(answering, path: str, status: int) -> None:
    gw, _ = answering
    stream = gw.connect()
    for _ in range(2):
        stream.send(f"HEAD {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        response = stream.response("HEAD")
        assert response.status == status
        assert not stream.buffer
        if response.fields.get("Connection") == "close":
            return
    stream.close()


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEXTRA", b"HTTP/1.1 408 Timeout\r\n\r\n", b"E"])
def test_what_a_backend_says_unasked_is_no_answer(proxy, data: bytes) -> None:
    """Bytes on an idle connection of the pool: it ends, and the next request gets an answer of its own."""
    gw, backend = proxy
    said = threading.Event()

    def answer(stream, request) -> bool:
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        threading.Timer(0.05, lambda: (stream.send(data), said.set())).start()
        return True
    backend.handlers["/unasked"] = answer
    stream = gw.connect()
    for _ in range(3):
        said.clear()
        stream.send(b"GET /unasked HTTP/1.1\r\nHost: a\r\n\r\n")
        response = stream.response()
        assert (response.status, response.body) == (200, b"hi")
        assert said.wait(5)
        stream.send(b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert json.loads(stream.response().body)["target"] == "/next"
    stream.close()


def test_one_continue_only(proxy) -> None:
    """The gateway has said 100; the backend's own is not said again."""
    gw, _ = proxy
    stream = gw.connect()
    stream.send(b"POST /expect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert stream.line().startswith(b"HTTP/1.1 100") and stream.line() == b""
    stream.send(b"hello")
    response = stream.response()
    assert (response.status, len(response.interim)) == (200, 0)
    stream.close()


def test_expectation_with_the_body_at_once(proxy) -> None:
    gw, _ = proxy
    stream = gw.connect()
    stream.send(b"POST /expect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" + SMUGGLED)
    assert json.loads(stream.response().body)["body"] == "hello"
    assert json.loads(stream.response().body)["target"] == "/smuggled"
    stream.close()


def rewriting(run, backend, **rewrite):
    made = backend("one")
    filters = [{"type": "URLRewrite", "urlRewrite": rewrite}]
    return run(gateway(free_port()), service("one", made), route("r", rule("one", path="/a/b", filters=filters)))


# ReplacePrefixMatch: what was sent, what the backend gets; the prefix is of the normalised path.
REWRITES = {
    "/a/b": "/x", "/a/b/": "/x/", "/a/b/c": "/x/c", "/a/b?q=/a/b": "/x?q=/a/b", "/a//b/c": "/x/c", "/a/./b/c": "/x/c",
    "/z/../a/b/c": "/x/c", "/%61/b/c%20d": "/x/c%20d",
}


def test_prefix_of_the_normalised_path(run, backend) -> None:
    gw = rewriting(run, backend, path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"})
    assert {sent: json.loads(gw.get(sent).body)["target"] for sent in REWRITES} == REWRITES
    assert gw.get("/a/b/../c").status == 404


def test_rewritten_host_is_not_forwarded_as_the_clients(run, backend) -> None:
    gw = rewriting(run, backend, hostname="inner.example")
    fields = dict(json.loads(gw.get("/a/b", host="outer.example:8080").body)["fields"])
    assert (fields["Host"], fields["X-Forwarded-Host"]) == ("inner.example", "outer.example:8080")


def test_tunnel_outlives_a_reload(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")))

    def mirror(stream, request) -> None:
        stream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        while some := stream.sock.recv(65536):
            stream.send(some)
    made.handlers["/up"] = mirror
    stream = gw.connect()
    stream.send(b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert stream.response().status == 101
    for n in range(3):
        gw.write("more.yaml", route(f"more-{n}", rule(exact=f"/more-{n}")))
        until(lambda n=n: gw.get(f"/more-{n}").status == 500)
        stream.send(b"ping")
        assert stream.exactly(4) == b"ping"
    stream.close()


def test_response_outlives_its_route(run, backend) -> None:
    """A response that streams while its route and its backend are taken away arrives whole."""
    made = backend("one")
    gw = run(gateway(free_port()))
    go_on = threading.Event()

    def slow(stream, request) -> bool:
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        go_on.wait(10)
        stream.send(b"x" * 100_000)
        return True
    made.handlers["/slow"] = slow
    gw.write("route.yaml", service("one", made), route("r", rule("one")))
    gw.serves("/")
    stream = gw.connect()
    stream.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    while len(stream.buffer) < 50_000:
        assert stream.fill()
    (gw.folder / "route.yaml").unlink()
    gw.serves("/", 404)
    go_on.set()
    assert stream.response().size == 200_000
    stream.close()
