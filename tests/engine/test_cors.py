"""CORS: which origins are allowed and what responses say, to clients of HTTP/1.1 and of HTTP/2."""
from typing import NamedTuple

import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule

from gwfast.plan import ir

FOO = "https://www.foo.com"
BACKEND = ir.Backend(namespace="default", name="echo", port=80)
ALLOW, EXPOSE = "access-control-allow-", "access-control-expose-headers"


class Case(NamedTuple):
    filters: tuple
    method: str
    fields: dict
    says: dict                     # access-control-* of the response, and `vary`
    status: int = 200
    asked: bool = True             # the backend is
    backend: dict = {}             # fields of the backend's response
    on_backend: tuple = ()         # filters of the backendRef
    backends: bool = True


def cors(*origins, **given) -> ir.CorsFilter:
    return ir.CorsFilter(origins=origins, **given)


def on(what: str, **ops) -> ir.HeaderFilter:
    return ir.HeaderFilter(on=what, **ops)


def preflight(method="PUT", headers=None, origin=FOO) -> dict:
    return {"origin": origin, "access-control-request-method": method,
            **({"access-control-request-headers": headers} if headers else {})}


VARY = {"vary": "Origin"}
FULL = cors(FOO, "https://*.bar.com", methods=("GET", "PUT"), headers=("x-1", "x-2"), expose=("x-3", "x-4"),
            credentials=True, max_age=3600)
ORIGIN = {f"{ALLOW}origin": FOO, **VARY}
WHOLE = {**ORIGIN, f"{ALLOW}credentials": "true", f"{ALLOW}methods": "GET, PUT", f"{ALLOW}headers": "x-1, x-2",
         EXPOSE: "x-3, x-4", "access-control-max-age": "3600"}
ANY = {"methods": ("*",), "headers": ("*",), "expose": ("*",)}
THEIRS = {f"{ALLOW}origin": "*", f"{ALLOW}credentials": "true", f"{ALLOW}methods": "DELETE", f"{ALLOW}headers": "x",
          EXPOSE: "x", "access-control-max-age": "9", "access-control-allow-private-network": "true"}
STAYS = {"access-control-allow-private-network": "true"}
SETS = on("response", add=((f"{ALLOW}origin", "*"), ("x-a", "1")), set=((EXPOSE, "y"),), remove=("access-control-max-age",))

CASES = {
    "preflight": Case((FULL,), "OPTIONS", preflight(headers="x-1"), WHOLE, asked=False),
    "preflight of another origin": Case((FULL,), "OPTIONS", preflight(origin="https://foo.com"), VARY, asked=False),
    "preflight without lists": Case((cors(FOO),), "OPTIONS", preflight(), {**ORIGIN, "access-control-max-age": "5"}, asked=False),
    "everything, without credentials": Case((cors("*", **ANY),), "OPTIONS", preflight(headers="a, b"), {
        **ORIGIN, f"{ALLOW}methods": "PUT", f"{ALLOW}headers": "a, b", EXPOSE: "*", "access-control-max-age": "5"}, asked=False),
    "everything, nothing asked": Case((cors("*", **ANY),), "OPTIONS", preflight(), {
        **ORIGIN, f"{ALLOW}methods": "PUT", f"{ALLOW}headers": "*", EXPOSE: "*", "access-control-max-age": "5"}, asked=False),
    "everything, with credentials": Case((cors("*", credentials=True, **ANY),), "OPTIONS", preflight(headers="a"), {
        **ORIGIN, f"{ALLOW}methods": "PUT", f"{ALLOW}headers": "a", f"{ALLOW}credentials": "true",
        "access-control-max-age": "5"}, asked=False),
    "everything, with credentials, nothing asked": Case((cors("*", credentials=True, **ANY),), "OPTIONS", preflight(), {
        **ORIGIN, f"{ALLOW}methods": "PUT", f"{ALLOW}credentials": "true", "access-control-max-age": "5"}, asked=False),
    "OPTIONS that asks for nothing": Case((FULL,), "OPTIONS", {"origin": FOO}, {
        **ORIGIN, f"{ALLOW}credentials": "true", EXPOSE: "x-3, x-4"}),
    "OPTIONS without an origin": Case((FULL,), "OPTIONS", {"access-control-request-method": "GET"}, VARY),
    "not a preflight": Case((FULL,), "GET", preflight(headers="x-1"), {
        **ORIGIN, f"{ALLOW}credentials": "true", EXPOSE: "x-3, x-4"}),
    "no origin": Case((FULL,), "GET", {}, VARY),
    "another origin": Case((FULL,), "GET", {"origin": "https://www.foo.com.evil.example"}, VARY),
    "the backend's fields are replaced": Case((cors(FOO),), "GET", {"origin": FOO}, {**ORIGIN, **STAYS}, backend=THEIRS),
    "the backend's fields do not help another origin": Case((cors(FOO),), "GET", {"origin": "https://a"}, {**VARY, **STAYS},
                                                             backend=THEIRS),
    "the backend's Vary stays": Case((cors(FOO),), "GET", {"origin": FOO}, {**ORIGIN, "vary": "Accept,Origin"},
                                     backend={"vary": "Accept"}),
    "the rule's fields are replaced": Case((cors(FOO), SETS), "GET", {"origin": FOO}, {**ORIGIN, "x-a": "1"}),
    "the backendRef's fields are replaced": Case((cors(FOO),), "GET", {"origin": FOO}, {**ORIGIN, "x-a": "1"}, on_backend=(SETS,)),
    "on a backendRef": Case((), "GET", {"origin": FOO}, ORIGIN, on_backend=(cors(FOO), SETS), backend=THEIRS | {"x-b": "1"})
    ._replace(says={**ORIGIN, **STAYS, "x-a": "1", "x-b": "1"}),
    "preflight of a backendRef": Case((), "OPTIONS", preflight(headers="x-1"), WHOLE, asked=False, on_backend=(FULL,)),
    "the backendRef's is the one that counts": Case((cors("*"),), "GET", {"origin": FOO}, {
        **ORIGIN, f"{ALLOW}credentials": "true", EXPOSE: "x-3, x-4"}, on_backend=(FULL,)),
    "our own error": Case((cors(FOO),), "GET", {"origin": FOO}, ORIGIN, 500, asked=False, backends=False),
    "preflight where there is no backend": Case((cors(FOO),), "OPTIONS", preflight(), {**ORIGIN, "access-control-max-age": "5"},
                                                asked=False, backends=False),
    "a redirect": Case((ir.RedirectFilter(hostname="b"), cors(FOO)), "GET", {"origin": FOO}, ORIGIN, 302, asked=False),
    "preflight of a redirect": Case((ir.RedirectFilter(hostname="b"), cors(FOO)), "OPTIONS", preflight(),
                                    {**ORIGIN, "access-control-max-age": "5"}, asked=False),
    "preflight of what cannot be served": Case((cors(FOO), ir.AnswerFilter(status=500, reason="x")), "OPTIONS", preflight(),
                                               {**ORIGIN, "access-control-max-age": "5"}, 500, asked=False),
}


def told(fields) -> dict:
    got = {}
    for name, value in fields:
        name = name.lower()
        if name.startswith(("access-control-", "x-")) or name == "vary":
            got[name] = f"{got[name]},{value}" if name in got else value
    return got


def respond(backend, fields: dict) -> None:
    upstream = backend.accept()
    head(upstream)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    upstream.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n".encode())


@pytest.fixture
def begin(start, backend):
    def begin(filters, on_backend=(), backends=True):
        chosen = (ir.WeightedBackend(backend=BACKEND, filters=on_backend),) if backends else ()
        return start([("127.0.0.1", backend.port)],
                     lambda addresses: one_rule(addresses, filters=filters, backends=chosen), request_id=False)
    return begin


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_http1(begin, backend, case):
    engine = begin(case.filters, case.on_backend, case.backends)
    client = engine.connect()
    lines = "".join(f"{name.title()}: {value}\r\n" for name, value in case.fields.items())
    client.sendall(f"{case.method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    if case.asked:
        respond(backend, case.backend)
    status, *fields = head(client).decode().split("\r\n")[:-2]
    assert int(status.split()[1]) == case.status
    assert told(line.split(": ", 1) for line in fields) == case.says
    if case.status < 400:
        assert dict(line.split(": ", 1) for line in fields)["Content-Length"] == "0"
        client.sendall(f"{case.method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())     # the connection goes on
    engine.wait("requests_open", 1 if case.asked else 0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_http2(begin, backend, case):
    engine = begin(case.filters, case.on_backend, case.backends)
    client = Http2(engine.connect())
    stream = client.ask("/", case.method, [(name.encode(), value.encode()) for name, value in case.fields.items()])
    if case.asked:
        respond(backend, case.backend)
    client.over(stream)
    fields = [(name.decode(), value.decode()) for name, value in
              next(event for event in client.events if getattr(event, "headers", None)).headers]
    assert int(dict(fields)[":status"]) == case.status
    assert told(fields) == case.says
    assert case.status >= 400 or dict(fields)["content-length"] == "0"
    engine.wait("requests_open", 0)


ORIGINS = [
    # (allowed, [these are], [these are not])
    ("https://a.example", ["https://a.example", "https://A.Example", "https://a.example:443"],
     ["http://a.example", "https://a.example:8443", "https://b.a.example", "https://aa.example", "null", "https://",
      "https://a.example/", "https://a.example:", "https://a.example:0443x", "a.example", "https://a.example:443:443",
      "https://a.example:4294967739"]),
    ("http://a.example:8080", ["http://a.example:8080"], ["http://a.example", "https://a.example:8080"]),
    ("https://*.a.example", ["https://b.a.example", "https://c.b.a.example", "https://b.a.example:443"],
     ["https://a.example", "https://.a.example", "https://ba.example", "http://b.a.example", "https://b.a.example.c",
      "https://b.a.example:444"]),
    ("https://*", ["https://a", "https://b.a.example"], ["http://a", "https://a:8443", "null", "https://:443"]),
    ("http://*:3000", ["http://localhost:3000"], ["http://localhost"]),
    ("*", ["https://a.example", "http://a:1", "null", "x-scheme://y"], []),
]


@pytest.mark.parametrize(("allowed", "these", "others"), ORIGINS, ids=[each[0] for each in ORIGINS])
def test_origins(begin, allowed, these, others):
    client = begin((cors("https://unrelated.example", allowed) if allowed != "*" else cors("*"),), backends=False).connect()
    for origin in (*these, *others):
        client.sendall(f"OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\r\n".encode())
        got = told(line.split(": ", 1) for line in head(client).decode().split("\r\n")[1:-2])
        assert got.get(f"{ALLOW}origin") == (origin if origin in these else None), origin


def test_a_long_question_is_echoed_in_full(begin):
    """More than the small buffer has room for."""
    headers = ",".join(f"x-{i:05}" for i in range(900))
    client = begin((cors("*", headers=("*",)),), backends=False).connect()
    for _ in range(3):
        client.sendall(f"OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: {FOO}\r\nAccess-Control-Request-Method: GET\r\n"
                       f"Access-Control-Request-Headers: {headers}\r\n\r\n".encode())
        got = told(line.split(": ", 1) for line in head(client).decode().split("\r\n")[1:-2])
        assert got[f"{ALLOW}headers"] == headers


# Origins, and by which of these patterns each is allowed: '*', 'https://*', 'https://*.app.org', 'https://app.org:8443'
PATTERNS = ("*", "https://*", "https://*.app.org", "https://app.org:8443")
ORIGINS = {
    "https://x.app.org": "YYYn", "https://x.y.app.org": "YYYn", "https://X.App.ORG": "YYYn", "https://x.app.org:443": "YYYn",
    "https://x_1.app.org": "YYYn", "https://app.org:8443": "YnnY", "https://app.org": "YYnn", "https://evilapp.org": "YYnn",
    "http://x.app.org": "Ynnn", "https://x.app.org:8443": "Ynnn", "https://[2001:db8::1]": "YYnn", "https://127.0.0.1": "YYnn",
    "null": "Ynnn", "chrome-extension://abcdef": "Ynnn", "app+x.1://x.app.org": "Ynnn", "https://app.org.": "YYnn",
} | dict.fromkeys((
    "https://evil.org/.app.org", "https://evil.org/x.app.org", "https://evil.org?.app.org", "https://evil.org#.app.org",
    "https://evil.org\\.app.org", "https://evil.org .app.org", "https://evil.org,https://x.app.org", "https://a.org https://x.app.org",
    "https://evil.org@x.app.org", "https://x@x.app.org", "https://evil.org:x.app.org", "https://evil.org%2f.app.org", "https://.app.org",
    "https://..app.org", "https://x..app.org", "https://.x.app.org", "https://x.app.org/", "https://x.app.org:", "https://x.app.org:0",
    "https://x.app.org:65536", "https://x.app.org:443x", "https://x.app.org:+443", "https://*.app.org", "https://", "https:", "x.app.org",
    "//x.app.org", "1https://x.app.org", "-://x.app.org", "https:/x.app.org", "https:///x.app.org", "https://[::1].app.org", "https://[::1",
    "https://[]", "https://[x].app.org", "\"https://x.app.org\"", "Null", "https://x!.app.org"), "nnnn")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_no_origin_is_allowed_nowhere(start, pattern):
    """RFC 6454 6.2: scheme "://" host [ ":" port ], and nothing else; '*' of a pattern is whole labels."""
    engine = start([], lambda _: one_rule([], filters=(cors(pattern), ir.RedirectFilter(hostname="b"))))
    client = engine.connect()
    for origin, allowed in ORIGINS.items():
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: " + origin.encode() + b"\r\n\r\n")
        lines = head(client).decode().split("\r\n")
        echoed = [line.partition(": ")[2] for line in lines if line.lower().startswith("access-control-allow-origin:")]
        assert echoed == ([origin] if allowed[PATTERNS.index(pattern)] == "Y" else []), origin
