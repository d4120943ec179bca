"""One request and its answer, as each side sees it: what the backend is sent and what the client gets, to the byte."""
import socket
from typing import NamedTuple

import pytest
from support.scripted import one_rule, rest

from gwfast import limits
from gwfast.plan import ir
from support.exchanges import FORWARDED, asked, expect, refused

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
ASKED = b"GET /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GOT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: @\r\n\r\nok"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n"
MANY = b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(200))
BACKEND = ir.Backend(namespace="default", name="echo", port=80)


def on(what: str, **ops) -> ir.HeaderFilter:
    return ir.HeaderFilter(on=what, **ops)


class Case(NamedTuple):
    asks: bytes
    told: bytes | None     # what the backend is sent; None: it is not asked
    says: bytes
    gets: bytes
    ends: bool = False     # the client's connection ends; else the same is done again on it
    rule: dict = {}
    options: dict = {}
    ends_itself: bool = False  # the backend closes after what it says


def head_only(fields: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"Date: @\r\n\r\n"


CASES = {
    "plain": Case(GET, ASKED, OK, GOT),
    "close": Case(GET[:-2] + b"Connection: close\r\n\r\n", ASKED, OK, GOT.replace(b"@\r\n", b"@\r\nConnection: close\r\n"), True),
    "head": Case(GET.replace(b"GET", b"HEAD"), ASKED.replace(b"GET", b"HEAD"), OK[:-2], GOT[:-2]),
    "head of chunks": Case(GET.replace(b"GET", b"HEAD"), ASKED.replace(b"GET", b"HEAD"),
                           b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head_only(b"")),
    "204": Case(GET, ASKED, b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", b"HTTP/1.1 204 No Content\r\nX: y\r\nDate: @\r\n\r\n"),
    "304": Case(GET, ASKED, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: e\r\n\r\n",
                b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: e\r\nDate: @\r\n\r\n"),
    "early hints": Case(GET, ASKED, EARLY + OK, EARLY + GOT),
    "endless hints": Case(GET, ASKED, EARLY * 17, EARLY * 16 + refused(b"502 Bad Gateway")),
    "hints for HTTP/1.0": Case(b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n", ASKED, EARLY + OK,
                               GOT.replace(b"@\r\n", b"@\r\nConnection: close\r\n"), True),
    "HTTP/1.0 without Host": Case(b"GET /x HTTP/1.0\r\n\r\n",
                                  b"GET /x HTTP/1.1\r\nHost: echo:80\r\n" + FORWARDED.replace(b"X-Forwarded-Host: a\r\n", b"") + b"\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nDate: @\r\nConnection: close\r\n\r\nok", True),
    "HTTP/1.0 kept": Case(b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", ASKED, OK,
                          GOT.replace(b"@\r\n", b"@\r\nConnection: keep-alive\r\n")),
    "switched unasked": Case(GET, ASKED, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                             refused(b"502 Bad Gateway")),
    "until the end": Case(GET, ASKED, b"HTTP/1.1 200 OK\r\n\r\nok",
                          b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ends_itself=True),
    "trailers": Case(GET, ASKED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "trailers that must not be": Case(
        GET, ASKED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\n"
        b"Transfer-Encoding: chunked\r\nSet-Cookie: a=b\r\nContent-Type: x\r\nX-Last: 2\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Last: 2\r\n\r\n"),
    "no trailer that may be": Case(
        GET, ASKED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    "many trailers": Case(
        GET, ASKED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + MANY + b"\r\n",
        b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + MANY + b"\r\n"),
    "blanks behind the sizes of chunks": Case(
        GET, ASKED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2   \r\nok\r\n2 \t;a=b \r\nay\r\n0  \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nokay\r\n0\r\n\r\n"),
    "426": Case(GET, ASKED, b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket, x/2\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nDate: @\r\nConnection: Upgrade\r\nUpgrade: websocket, x/2\r\n\r\n"),
    "426 and close": Case(
        GET[:-2] + b"Connection: close\r\n\r\n", ASKED, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nDate: @\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\nConnection: close\r\n\r\n", True),
    "426 without": Case(GET, ASKED, b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
                        b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nDate: @\r\n\r\n"),
    "200 with Upgrade": Case(GET, ASKED, b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h3\r\nContent-Length: 2\r\n\r\nok", GOT),
    "body": Case(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
                 b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: 5\r\n\r\nhello", OK, GOT),
    "body in chunks": Case(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\nX_y: 2\r\n\r\n",
                           b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
                           OK, GOT),
    "body in chunks without trailers": Case(
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", OK, GOT),
    "trailers are wanted": Case(GET[:-2] + b"TE: trailers\r\nConnection: TE\r\n\r\n",
                                ASKED[:-2] + b"TE: trailers\r\nConnection: TE\r\n\r\n", OK, GOT),
    "via": Case(GET, ASKED[:-2] + b"Via: 1.1 edge\r\n\r\n", OK, GOT, options={"via": "edge"}),
    "request fields": Case(GET[:-2] + b"X-Old: 1\r\nX-SET: 1\r\nX-Add: 1\r\n\r\n",
                           b"GET /x HTTP/1.1\r\nHost: a\r\nX-Add: 1\r\n" + FORWARDED + b"x-set: 2\r\nx-add: 2\r\n\r\n", OK, GOT,
                           rule={"filters": (on("request", set=(("x-set", "2"),), add=(("x-add", "2"),), remove=("x-old",)),)}),
    "forwarded fields are the rule's": Case(
        GET, b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nx-forwarded-for: me\r\n\r\n", OK, GOT,
        rule={"filters": (on("request", set=(("x-forwarded-for", "me"),), remove=("x-forwarded-host",)),)}),
    "response fields": Case(GET, ASKED, OK[:-4] + b"X-Old: 1\r\nX-SET: 1\r\n\r\nok",
                            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-set: 2\r\nx-add: 2\r\nDate: @\r\n\r\nok",
                            rule={"filters": (on("response", set=(("x-set", "2"),), add=(("x-add", "2"),), remove=("x-old",)),)}),
    "fields of a backend": Case(GET, ASKED[:-2] + b"x-canary: 1\r\n\r\n", OK, GOT.replace(b"Date", b"x-seen: 1\r\nDate"), rule={
        "backends": (ir.WeightedBackend(backend=BACKEND, filters=(on("request", add=(("x-canary", "1"),)),
                                                                  on("response", add=(("x-seen", "1"),)))),)}),
    "rewritten": Case(GET, b"GET /y HTTP/1.1\r\nHost: b\r\n" + FORWARDED + b"\r\n", OK, GOT, rule={"filters": (
        ir.RewriteFilter(hostname="b", path=ir.PathModifier(type="ReplaceFullPath", value="/y")),)}),
    "prefix rewritten": Case(GET.replace(b"/x", b"/x/?q=1"), ASKED.replace(b"/x", b"/y/x/?q=1"), OK, GOT, rule={"filters": (
        ir.RewriteFilter(path=ir.PathModifier(type="ReplacePrefixMatch", value="/y")),)}),
    "redirected": Case(GET.replace(b"/x", b"/x?q=1"), None, b"",
                       b"HTTP/1.1 301 Moved Permanently\r\nDate: @\r\nLocation: https://b:444/y?q=1\r\nContent-Length: 0\r\n\r\n",
                       rule={"filters": (ir.RedirectFilter(scheme="https", hostname="b", port=444, status=301,
                                                           path=ir.PathModifier(type="ReplaceFullPath", value="/y")),)}),
    "a filter that is not served": Case(GET, None, b"", refused(b"500 Internal Server Error"),
                                        rule={"filters": (ir.AnswerFilter(status=500, reason="x"),)}),
    "redirected below a prefix": Case(
        GET.replace(b"/x", b"/x/?q=1"), None, b"",
        b"HTTP/1.1 302 Found\r\nDate: @\r\nLocation: http://a/y/x/?q=1\r\nContent-Length: 0\r\n\r\n",
        rule={"filters": (ir.RedirectFilter(path=ir.PathModifier(type="ReplacePrefixMatch", value="/y")),)}),
    "redirected where it is": Case(GET, None, b"",
                                   b"HTTP/1.1 302 Found\r\nDate: @\r\nLocation: https://a/x\r\nContent-Length: 0\r\n\r\n",
                                   rule={"filters": (ir.RedirectFilter(scheme="https"),)}),
    "redirected without Host": Case(b"GET /x HTTP/1.0\r\n\r\n", None, b"",
                                    b"HTTP/1.1 302 Found\r\nDate: @\r\nConnection: close\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n",
                                    True, rule={"filters": (ir.RedirectFilter(
                                        scheme="https", path=ir.PathModifier(type="ReplaceFullPath", value="/y")),)}),
    "a method that is not served": Case(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", None, b"", refused(
        b"405 Method Not Allowed", b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\nConnection: close\r\n"), True),
    "a dated answer": Case(GET, ASKED, OK[:-4] + b"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nok", GOT),
    "no backends": Case(GET, None, b"", refused(b"500 Internal Server Error"), rule={"backends": ()}),
    "an invalid backend": Case(GET, None, b"", refused(b"500 Internal Server Error"),
                               rule={"backends": (ir.WeightedBackend(backend=None, status=500),)}),
    "refused with fields": Case(GET, None, b"", refused(b"500 Internal Server Error", b"x-why: x\r\n"), rule={
        "backends": (), "filters": (on("response", add=(("x-why", "x"),)),)}),
    "a body that is refused": Case(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nhello", None, b"",
                                   refused(b"500 Internal Server Error", b"Connection: close\r\n"), True, rule={"backends": ()}),
}


def send(connection: socket.socket, data: bytes, piece: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(data), piece):
        connection.sendall(data[at:at + piece])


@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_exchange(start, backend, case, piece):
    engine = start([("127.0.0.1", backend.port)], lambda addresses: one_rule(addresses, **case.rule),
                   request_id=False, **case.options)
    client, upstream = engine.connect(), None
    for _ in range(1 if case.ends else 2):
        send(client, case.asks, piece)
        if case.told is not None:
            upstream = asked(backend, upstream)
            expect(upstream, case.told)
            send(upstream, case.says, piece)
            if case.ends_itself:
                upstream.shutdown(socket.SHUT_WR)
                upstream = None
        expect(client, case.gets)
    if case.ends:
        assert rest(client) == b""
    engine.wait("requests_open", 0)


@pytest.mark.parametrize("expectation", [b"100-continue", b"100-Continue"])
def test_a_client_that_waits_is_told_to_go_on(start, backend, expectation):
    engine = start([("127.0.0.1", backend.port)], request_id=False)
    client = engine.connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: " + expectation + b"\r\n\r\n")
    expect(client, b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sendall(b"hello")
    upstream = backend.accept()
    expect(upstream, b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: 5\r\n\r\nhello")
    upstream.sendall(OK)
    expect(client, GOT)


@pytest.mark.parametrize(("bad", "word"), [
    (b"X Y: 1\r\n\r\n", "upstream_malformed"), (b"X: " + b"x" * limits.FIELD_BYTES, "upstream_trailers_too_large"),
    ((b"X: " + b"x" * 1000 + b"\r\n") * 33, "upstream_trailers_too_large"), (b"X: 1\r\n" * 201, "upstream_trailers_too_large"),
], ids=["grammar", "a field", "size", "fields"])
def test_bad_trailers_of_a_response_cut_it(start, backend, bad, word):
    """The head is gone already: what remains is that the client sees no end."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + bad)
    assert not rest(client).endswith(b"0\r\n\r\n")
    assert engine.count(word) == 1


def test_bad_trailers_of_a_request_are_400(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nHost: b\r\n\r\n")
    assert rest(client).startswith(b"HTTP/1.1 400 ")
    assert engine.count("bad_trailer") == 1


@pytest.mark.parametrize("large", [b"X: " + b"x" * limits.FIELD_BYTES, (b"X: " + b"x" * 1000 + b"\r\n") * 33, b"X: 1\r\n" * 201],
                         ids=["a field", "size", "fields"])
def test_large_trailers_of_a_request_are_431(start, backend, large):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + large)
    assert rest(client).startswith(b"HTTP/1.1 431 ")
    assert engine.count("fields_too_large") == 1


LARGEST = b"".join(b"X%02d: " % n + b"x" * 992 + b"\r\n" for n in range(32)) + b"X: 1\r\n" * 100       # 32 KiB, with the empty line


@pytest.mark.parametrize("trailers", [b"X: " + b"x" * (limits.FIELD_BYTES - 6) + b"\r\n", LARGEST, b"X: 1\r\n" * 200],
                         ids=["a field", "size", "fields"])
def test_trailers_are_as_large_as_heads(start, backend, trailers):
    engine = start([("127.0.0.1", backend.port)], request_id=False)
    client = engine.connect()
    section = b"2\r\nok\r\n0\r\n" + trailers + b"\r\n"
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + section)
    upstream = backend.accept()
    expect(upstream, b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Transfer-Encoding: chunked\r\n\r\n" + section)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + section)
    expect(client, b"HTTP/1.1 200 OK\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n" + section)


def test_an_endpoint_with_an_ipv6_address(start):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        engine = start([("::1", listening.getsockname()[1])], request_id=False)
        client = engine.connect()
        client.sendall(GET)
        upstream, _ = listening.accept()
        upstream.settimeout(5)
        expect(upstream, ASKED)
        upstream.sendall(OK)
        expect(client, GOT)
        upstream.close()


@pytest.mark.parametrize("size", [100, 4096])
def test_what_is_no_table_is_refused(start, backend, tmp_path, size):
    """The table that is there goes on serving."""
    engine = start([("127.0.0.1", backend.port)], request_id=False)
    with open(tmp_path / "table", "w+b") as file:
        file.write(bytes(size))
        file.flush()
        with engine.lock, pytest.raises(ValueError, match="not a table image"):
            engine.engine.swap(file.fileno())
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    expect(upstream, ASKED)
    upstream.sendall(OK)
    expect(client, GOT)
