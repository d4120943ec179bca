"""ExternalAuth over gRPC: what the authorizer is asked, what its answers change, and that everything else fails closed."""
import asyncio
from collections.abc import Callable

import pytest
from support.http2_backend import Http2Backend
from support.http2_client import Http2
from support.protobuf import frame, message, path, read
from support.scripted import head, one_rule
from support.exchanges import FORWARDED, expect, refused

from gwfast import limits
from gwfast.extend.check_response import verdict
from gwfast.grammar import SINGLE
from gwfast.plan import ir

GET = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
FIELDS = b"Authorization: me\r\nX-A: 1\r\nX-B: 2\r\n" + FORWARDED
SENT = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Own: 1\r\n\r\nok"
AUTHORIZER = ir.Backend(namespace="default", name="auth", port=80, protocol="h2c")
FAILED = refused(b"403 Forbidden")
TYPE = (b"content-type", b"application/grpc")


def option(name: bytes, value: bytes, append: int | None = None, action: int = 0) -> bytes:
    return message((1, message((1, name), (2, value))), *([(2, message((1, append)))] if append is not None else []), (3, action))


def allowed(*fields: tuple[int, bytes]) -> bytes:
    return frame(message((1, message((1, 0))), (3, message(*fields))))


def denied(status: int | None, *fields: tuple[int, bytes]) -> bytes:
    return frame(message((1, message((1, 7))), (2, message(*([(1, message((1, status)))] if status is not None else []), *fields))))


YES = allowed()


def says(answer: bytes, *trailers: tuple[bytes, bytes], status: int = 200, fields: tuple = (TYPE,)) -> Callable:
    async def handler(request):
        await request.ended.wait()
        await request.head(status, *fields)
        if answer:
            await request.data(answer)
        await request.trail(*(trailers or ((b"grpc-status", b"0"),)))
    return handler


@pytest.fixture
def begin(start, backend):
    """begin(handler, **filter): an engine whose authorizer this handler is; also what it was asked."""
    made = []

    def begin(handler, after=(), options=None, **given):
        asks = []

        async def keep(request):
            asks.append(request)
            await handler(request)
        made.append(Http2Backend(keep, None))

        def plan(addresses) -> ir.Plan:
            base = one_rule(addresses, filters=(ir.AuthorizeFilter(backend=AUTHORIZER, **({"grpc": True} | given)), *after))
            return ir.Plan(binds=base.binds, backends=(*base.backends, AUTHORIZER), endpoints=(
                *base.endpoints, ir.Endpoints(key=AUTHORIZER.key, addresses=(("127.0.0.1", made[-1].port),))))
        return start([("127.0.0.1", backend.port)], plan, request_id=False, **(options or {})), asks
    yield begin
    for each in made:
        each.close()


def told(request) -> dict[int, list]:
    """The request that an authorizer was shown: the fields of HttpRequest."""
    assert request.body[:5] == b"\0" + (len(request.body) - 5).to_bytes(4, "big")
    return read(path(request.body[5:], 1, 4, 2))


def entries(http: dict[int, list]) -> dict[bytes, bytes]:
    return {each[1][0]: each.get(2, [b""])[0] for each in map(read, http[3])}


def test_what_it_is_asked(begin, backend):
    engine, asks = begin(says(YES))
    client = engine.connect()
    for _ in range(2):
        client.sendall(GET)
        upstream = backend.accept() if not backend.accepted else backend.accepted[0]
        expect(upstream, SENT)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ") and client.recv(2) == b"ok"
    assert engine.count("upstream_connects") == 2        # one of the authorizer's, one of the backend's
    fields, http = asks[0].fields, told(asks[0])
    assert {name: fields[name] for name in (b":method", b":path", b":scheme", b":authority", b"content-type", b"te", b"grpc-timeout")} == {
        b":method": b"POST", b":path": b"/envoy.service.auth.v3.Authorization/Check", b":scheme": b"http", b":authority": b"auth:80",
        b"content-type": b"application/grpc", b"te": b"trailers", b"grpc-timeout": b"5000m"}
    assert (http[2], http[4], http[5], http[6], http[10]) == ([b"GET"], [b"/x?q=1"], [b"a"], [b"http"], [b"HTTP/1.1"])
    assert 9 not in http and 12 not in http
    assert entries(http) == {
        b":method": b"GET", b":path": b"/x?q=1", b":authority": b"a", b":scheme": b"http", b"authorization": b"me", b"x-a": b"1", b"x-b": b"2",
        b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http", b"x-forwarded-host": b"a"}
    asked = path(asks[0].body[5:], 1)
    assert path(asked, 1, 1, 1, 2) == path(asked, 2, 1, 1, 2) == b"127.0.0.1" and path(asked, 2, 1, 1, 3) == 80
    assert path(asked, 4, 1, 1) > 1_700_000_000


FORGED = (b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.9\r\nX-Forwarded-Proto: https\r\n"
          b"X-Forwarded-User: root\r\nX-Forwarded-Client-Cert: Hash=1\r\n\r\n")


@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
def test_it_is_told_of_the_client_what_the_backend_is(begin, backend, trusted):
    engine, asks = begin(says(YES), options={"trusted_proxies": ("127.0.0.0/8",)} if trusted else {})
    engine.connect().sendall(FORGED)
    got = [line.partition(b": ") for line in head(backend.accept()).split(b"\r\n")[2:-2]]
    assert {name.lower(): value for name, _, value in got} == {
        name: value for name, value in entries(told(asks[0])).items() if not name.startswith(b":")}
    asked = path(asks[0].body[5:], 1)
    assert path(asked, 1, 1, 1, 2) == (b"192.0.2.1" if trusted else b"127.0.0.1")
    assert entries(told(asks[0]))[b":scheme"] == (b"https" if trusted else b"http")
    assert (b"x-forwarded-user" in entries(told(asks[0]))) is trusted and b"x-forwarded-client-cert" not in entries(told(asks[0]))


def test_only_the_fields_that_are_allowed(begin, backend):
    engine, asks = begin(says(YES), headers=("x-b", "x-none"))
    engine.connect().sendall(GET)
    expect(backend.accept(), SENT)
    assert entries(told(asks[0])) == {b"x-b": b"2"}


# What the authorizer says, the fields that the backend gets
CHANGES = {
    "nothing": ((), FIELDS),
    "set": (((2, option(b"x-a", b"9")), (2, option(b"X-New", b" n "))), FIELDS.replace(b"X-A: 1\r\n", b"") + b"x-a: 9\r\nX-New: n\r\n"),
    "appended": (((2, option(b"x-a", b"9", 1)),), FIELDS + b"x-a: 9\r\n"),
    "not appended": (((2, option(b"x-a", b"9", 0)),), FIELDS.replace(b"X-A: 1\r\n", b"") + b"x-a: 9\r\n"),
    "where there is none": (((2, option(b"x-a", b"9", action=1)), (2, option(b"x-c", b"9", action=1))), FIELDS + b"x-c: 9\r\n"),
    "where there is one": (((2, option(b"x-a", b"9", action=3)), (2, option(b"x-c", b"9", action=3))),
                           FIELDS.replace(b"X-A: 1\r\n", b"") + b"x-a: 9\r\n"),
    "the last of two": (((2, option(b"x-a", b"8")), (2, option(b"x-a", b"9")), (2, option(b"x-a", b"10", 1))),
                        FIELDS.replace(b"X-A: 1\r\n", b"") + b"x-a: 9\r\nx-a: 10\r\n"),
    "cookies appended to none": (((2, option(b"cookie", b"d=1", 1)), (2, option(b"Cookie", b"e", 1))), FIELDS + b"Cookie: d=1; e\r\n"),
    "appended to what is there once": (((2, option(b"Authorization", b"you", 1)), (2, option(b"user-agent", b"a", 1))),
                                       FIELDS.replace(b"Authorization: me\r\n", b"") + b"Authorization: you\r\nuser-agent: a\r\n"),
    "removed": (((5, b"x-A"), (5, b"authorization"), (5, b"x-none"), (2, option(b"x-none", b"1"))),
                FIELDS.replace(b"X-A: 1\r\n", b"").replace(b"Authorization: me\r\n", b"")),
    "never what frames it": (((2, option(b"host", b"b")), (2, option(b"content-length", b"5")), (2, option(b"transfer-encoding", b"chunked")),
                              (2, option(b":path", b"/b")), (5, b"host"), (5, b"connection")), FIELDS),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_what_goes_on(begin, backend, case):
    changes, gets = case
    engine, _ = begin(says(allowed(*changes)))
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    expect(upstream, b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n" + gets + b"\r\n")
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("append", "gets"), [(1, [b"a=1; b; c=3"]), (0, [b"c=3"])], ids=["appended", "set"])
def test_a_cookie_is_one_field(begin, backend, append, gets):
    engine, _ = begin(says(allowed((2, option(b"cookie", b"c=3", append)))))
    engine.connect().sendall(GET.replace(b"\r\n\r\n", b"\r\nCookie: a=1; b\r\n\r\n"))
    lines = [line.partition(b": ") for line in head(backend.accept()).split(b"\r\n")]
    assert [value for name, _, value in lines if name.lower() == b"cookie"] == gets


def test_what_a_message_has_once_is_what_grammar_says():
    for name in (*SINGLE, "cookie", "set-cookie", "x-a", "dat", "dates"):
        code, *_, changes = verdict(allowed((2, option(name.title().encode(), b"1", 1))))
        assert code == 0 and [action for _, action, *_ in changes] == [0 if name in SINGLE else 1], name


def test_what_is_said_to_the_client(begin, backend):
    engine, _ = begin(says(allowed((6, option(b"x-own", b"2")), (6, option(b"set-cookie", b"a=1", 1)), (6, option(b"set-cookie", b"b=2", 1)),
                                   (6, option(b"content-length", b"7")))), after=(ir.HeaderFilter(on="response", remove=("x-gone",)),))
    client = engine.connect()
    for reply, body in ((OK, b"ok"), (OK, b"ok"), (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Gone: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n")):
        client.sendall(GET)
        upstream = backend.accepted[0] if backend.accepted else backend.accept()
        expect(upstream, SENT)
        upstream.sendall(reply)
        got = head(client)
        assert got.count(b"x-own: 2\r\n") == 1 and b"X-Own" not in got and b"X-Gone" not in got
        assert b"set-cookie: a=1\r\nset-cookie: b=2\r\n" in got and b"Content-Length: 7" not in got.title()
        while len(body):
            body = body.removeprefix(client.recv(len(body)))
    engine.wait("requests_open", 0)


# What the authorizer says, what the client gets
DENIALS = {
    "nothing more": (frame(message((1, message((1, 16))))), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nDate: @\r\n\r\n"),
    "without a status": (denied(None, (3, b"no")), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nDate: @\r\n\r\nno"),
    "with a body": (denied(401, (2, option(b"WWW-Authenticate", b"Basic")), (2, option(b"content-length", b"9")), (3, b"<no/>")),
                    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\nDate: @\r\n\r\n<no/>"),
    "to elsewhere": (denied(302, (2, option(b"location", b"https://login/"))),
                     b"HTTP/1.1 302 Found\r\nlocation: https://login/\r\nContent-Length: 0\r\nDate: @\r\n\r\n"),
    "as a success": (denied(200, (3, b"yes")), FAILED),
    "not at all": (frame(message((1, message((1, 0))), (2, message((1, message((1, 401))))))), FAILED),
    "with no status of HTTP": (denied(99), FAILED),
}


@pytest.mark.parametrize("case", DENIALS.values(), ids=DENIALS)
def test_what_is_denied(begin, backend, case):
    answer, gets = case
    engine, asks = begin(says(answer))
    client = engine.connect()
    for _ in range(2):
        client.sendall(GET)
        expect(client, gets)
    engine.wait("requests_open", 0)
    assert not backend.accepted and len(asks) == 2


def test_a_denial_of_head_has_no_body_but_says_how_long_it_would_be(begin):
    engine, _ = begin(says(denied(401, (3, b"<no/>"))))
    client = engine.connect()
    for _ in range(2):
        client.sendall(GET.replace(b"GET", b"HEAD"))
        expect(client, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\nDate: @\r\n\r\n")


def test_as_many_fields_as_there_may_be_from_both(begin, backend):
    engine, _ = begin(says(allowed(*((2, option(b"x-r%d" % n, b"1")) for n in range(limits.AUTHORIZATION_HEADERS)))))
    client = engine.connect()
    client.sendall(GET[:-2] + b"".join(b"x-q%d: 1\r\n" % n for n in range(limits.FIELD_COUNT - 5)) + b"\r\n")
    got = head(backend.accept())
    assert got.count(b"x-q") == limits.FIELD_COUNT - 5
    assert got.count(b"x-r") == limits.AUTHORIZATION_HEADERS


def only(status: bytes) -> Callable:
    """Trailers alone."""
    async def handler(request):
        await request.ended.wait()
        await request.head(200, TYPE, (b"grpc-status", status), end=True)
    return handler


async def cut(request):
    await request.head(200, TYPE)
    await request.data(YES[:3])
    request.rst(2)


async def without_status(request):
    await request.head(200, TYPE)
    await request.data(YES, end=True)


async def hang_up(request):
    request.connection.writer.transport.abort()


MALFORMED = {
    "trailers alone": only(b"14"), "no message": only(b"0"), "no message, and trailers": says(b""),
    "another status": says(YES, (b"grpc-status", b"7")), "two digits": says(YES, (b"grpc-status", b"00")),
    "no status": says(YES, (b"x-other", b"0")), "no trailers": without_status, "cut": cut, "hung up": hang_up,
    "half a message": says(YES[:-1]), "two messages": says(YES + YES), "compressed": says(b"\1" + YES[1:]),
    "no gRPC": says(YES, fields=((b"content-type", b"application/json"),)), "no content-type": says(YES, fields=()),
    "another prefix": says(YES, fields=((b"content-type", b"application/grpc-web"),)),
    "404": says(YES, status=404), "garbage": says(frame(b"\xff\xff\xff")), "a bad name": says(allowed((2, option(b"a b", b"c")))),
    "a bad value": says(allowed((2, option(b"a", b"b\r\nc: d")))), "more than is read": says(allowed((99, b"x" * 40_000))),
}


@pytest.mark.parametrize("handler", MALFORMED.values(), ids=MALFORMED)
def test_whatever_goes_wrong_is_403(begin, backend, handler):
    engine, _ = begin(handler)
    client = engine.connect()
    for n in range(1, 4):
        client.sendall(GET)
        expect(client, FAILED)
        engine.wait("authorizer_failed", n)
    engine.wait("requests_open", 0)
    assert not backend.accepted


def test_one_that_does_not_answer_is_403_in_time(begin, backend):
    async def silent(request):
        await asyncio.sleep(60)
    engine, asks = begin(silent)
    client = engine.connect()
    client.settimeout(20)
    client.sendall(GET)
    expect(client, FAILED)
    assert asks and not backend.accepted
    engine.wait("authorizer_failed", 1)


@pytest.mark.parametrize("size", [0, 5, 30_000, 60_000])
def test_a_body_is_shown_and_goes_on(begin, backend, size):
    engine, asks = begin(says(YES), max_body=60_000)
    body = bytes(n % 256 for n in range(size))
    client = engine.connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
    expect(backend.accept(), b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: %d\r\n\r\n" % size + body)
    http = told(asks[0])
    assert http.get(12, [b""]) == [body] and http.get(9, [0]) == [size]


def test_a_larger_body_is_413(begin):
    engine, asks = begin(says(YES), max_body=1000)
    client = engine.connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001)
    assert head(client).startswith(b"HTTP/1.1 413 ") and not asks


def test_clients_of_http2(begin, backend):
    async def handler(request):
        await request.ended.wait()
        await says(YES if told(request)[4] == [b"/one"] else denied(401, (2, option(b"x-c", b"1")), (3, b"no")))(request)
    engine, asks = begin(handler)
    client = Http2(engine.connect())
    first, second = client.ask("/one"), client.ask("/two")
    upstream = backend.accept()
    assert head(upstream).startswith(b"GET /one HTTP/1.1\r\n")
    upstream.sendall(OK)
    assert client.over(first) == client.over(second) == "ended"
    assert client.head(first)[b":status"] == b"200"
    assert (client.head(second)[b":status"], client.head(second)[b"x-c"], client.body(second)) == (b"401", b"1", b"no")
    assert told(asks[0])[10] == [b"HTTP/2"] and path(asks[0].body[5:], 1, 2, 1, 1, 2) == b"127.0.0.1"


def test_a_client_that_goes_ends_the_question(begin):
    async def silent(request):
        await asyncio.sleep(60)
    engine, asks = begin(silent)
    client = Http2(engine.connect())
    client.ask("/one")
    engine.wait("requests_open", 1)
    for _ in range(500):
        if asks:
            break
        asyncio.run(asyncio.sleep(0.01))
    client.socket.close()
    engine.wait("requests_open", 0)


@pytest.mark.parametrize("status", [200, 204, 401])
def test_one_of_http_is_asked_over_http2_too(begin, backend, status):
    async def handler(request):
        await request.ended.wait()
        await request.answer(b"" if status == 204 else b"no", status, (b"x-user", b"ann"))
    engine, asks = begin(handler, grpc=False)
    client = engine.connect()
    for _ in range(2):
        client.sendall(GET)
        if status == 200:
            upstream = backend.accepted[0] if backend.accepted else backend.accept()
            expect(upstream, SENT[:-2] + b"x-user: ann\r\n\r\n")
            upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 " if status == 200 else b"HTTP/1.1 401 " if status == 401 else b"HTTP/1.1 403 ")
        client.recv(100)
    assert [(one.fields[b":method"], one.fields[b":path"]) for one in asks] == [(b"GET", b"/x?q=1")] * 2
