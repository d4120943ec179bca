"""ExternalAuth where HTTP has corners: 100-continue, HEAD, HTTP/2 bodies and trailers, odd statuses, heads that are too large, CORS."""
import pytest
from support.http2_client import Http2
from support.scripted import head
from support.authorizers import ASKED, BODY, FAILED, GET, OK, SENT, YES
from support.exchanges import FORWARDED, asked, expect

from gwfast import limits
from gwfast.plan import ir

CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\n%bTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [0, 100], ids=["not shown", "shown"])
def test_a_client_that_waits_to_be_told_to_go_on(begin, backend, other, size):      # noqa: F811
    client = begin(max_body=size).connect()
    client.sendall(BODY.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 5)
    assert head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"hello")
    authorizer = other.accept()
    expect(authorizer, BODY % (5 if size else 0) + b"hello" * bool(size))
    authorizer.sendall(YES)
    upstream = backend.accept()
    expect(upstream, b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: 5\r\n\r\nhello")
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("says", "length"), [(b"Content-Length: 5\r\n", b"Content-Length: 5\r\n"), (b"", b""),
                                              (b"Transfer-Encoding: chunked\r\n", b"")])
def test_a_denial_of_head_says_no_length_but_the_authorizers_own(begin, other, says, length):      # noqa: F811
    """RFC 9110 8.6."""
    client = begin().connect()
    for _ in range(2):
        client.sendall(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
        authorizer = other.accept()
        expect(authorizer, b"HEAD /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        authorizer.sendall(b"HTTP/1.1 401 No\r\nX-C: 1\r\n" + says + b"\r\n")
        authorizer.close()
        expect(client, b"HTTP/1.1 401 No\r\nX-C: 1\r\n" + length + b"Date: @\r\n\r\n")


def many(n: int, name: str = "x-r") -> bytes:
    return b"".join(f"{name}{i}: 1\r\n".encode() for i in range(n))


@pytest.mark.parametrize("says", [
    b"HTTP/1.1 200 OK\r\n" + many(200) + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 401 No\r\nX-A: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 103 E\r\n\r\n" * 20 + YES,
], ids=["too many", "a long line", "a long denial", "no status of HTTP", "two lengths", "hints for ever"])
def test_an_answer_that_is_too_much_is_403(begin, backend, other, says):      # noqa: F811
    engine = begin()
    client = engine.connect()
    for n in range(1, 3):
        client.sendall(GET[:-2] + many(60, "x-q") + b"\r\n")
        authorizer = other.accept()
        head(authorizer)
        authorizer.sendall(says)
        authorizer.close()
        expect(client, FAILED)
        engine.wait("authorizer_failed", n)
    engine.wait("requests_open", 0)
    assert not backend.accepted


def test_as_many_fields_as_there_may_be_from_both(begin, backend, other):      # noqa: F811
    """What a client and its authorizer may say together fits, beside what the gateway adds."""
    client = begin().connect()
    client.sendall(GET[:-2] + many(limits.FIELD_COUNT - 5, "x-q") + b"\r\n")
    authorizer = other.accept()
    head(authorizer)
    authorizer.sendall(b"HTTP/1.1 200 OK\r\n" + many(limits.FIELD_COUNT - 1) + b"Content-Length: 0\r\n\r\n")
    upstream = backend.accept()
    expect(upstream, SENT.replace(FORWARDED, many(limits.FIELD_COUNT - 5, "x-q") + FORWARDED)[:-2] + many(limits.FIELD_COUNT - 1) + b"\r\n")
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("status", [b"201 C", b"204 N", b"206 P", b"299 Z", b"304 N"])
def test_no_other_success_lets_pass_or_looks_like_one(begin, backend, other, status):      # noqa: F811
    engine = begin()
    client = engine.connect()
    client.sendall(GET)
    authorizer = other.accept()
    expect(authorizer, ASKED)
    authorizer.sendall(b"HTTP/1.1 " + status + b"\r\n" + (b"" if status[:3] in (b"204", b"304") else b"Content-Length: 0\r\n") + b"\r\n")
    expect(client, FAILED)
    engine.wait("denied", 1)
    assert not backend.accepted


def test_what_belongs_to_the_connection_does_not_go_on_where_it_is_allowed(begin, backend, other):      # noqa: F811
    names = ("connection", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding", "content-length", "host", "proxy-connection", "x-hop",
             "expect", "x-user")
    client = begin(answers=names).connect()
    client.sendall(GET)
    authorizer = other.accept()
    expect(authorizer, ASKED)
    authorizer.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nTE: trailers\r\nTrailer: X-T\r\n"
                       b"Upgrade: h2c\r\nHost: evil\r\nExpect: 100-continue\r\nProxy-Connection: keep-alive\r\nX-User: u\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n")
    expect(backend.accept(), SENT[:-2] + b"X-User: u\r\n\r\n")


def test_what_is_allowed_to_be_shown_never_frames_the_question(begin, other):      # noqa: F811
    names = ("connection", "te", "transfer-encoding", "content-length", "host", "expect", "upgrade", "x-hop", "x-a")
    client = begin(headers=names).connect()
    client.sendall(CHUNKED % b"X-A: 1\r\nX-Hop: 1\r\nTE: trailers\r\nConnection: X-Hop, TE\r\n" + b"0\r\n\r\n")
    expect(other.accept(), b"POST /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("size", [0, 100], ids=["not shown", "shown"])
def test_a_body_of_http2_without_a_length_and_with_trailers(begin, backend, other, size):      # noqa: F811
    client = Http2(begin(max_body=size).connect())
    stream = client.ask("/x", "POST", end=False, body=b"hello")
    client.protocol.send_headers(stream, [("x-sum", "1")], end_stream=True)
    client.flush()
    authorizer = other.accept()
    expect(authorizer, BODY % (5 if size else 0) + b"hello" * bool(size))
    authorizer.sendall(YES)
    upstream = backend.accept()
    expect(upstream, CHUNKED % FORWARDED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
    upstream.sendall(OK)
    assert client.over(stream) == "ended" and client.body(stream) == b"ok"


def test_a_larger_body_of_http2_is_413_and_its_connection_goes_on(begin, backend, other):      # noqa: F811
    engine = begin(max_body=10)
    client = Http2(engine.connect())
    stream = client.ask("/x", "POST", end=False, body=b"x" * 11)
    assert client.head(stream)[b":status"] == b"413"
    stream = client.ask("/x")
    authorizer = other.accept()
    expect(authorizer, b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    authorizer.sendall(b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert client.over(stream) == "ended" and client.head(stream)[b":status"] == b"401"
    assert engine.count("body_too_large") == 1 and not backend.accepted


CORS = ir.CorsFilter(origins=("http://one.example",), methods=("PUT",), max_age=5)


@pytest.mark.parametrize("order", [{"before": (CORS,)}, {"after": (CORS,)}], ids=["before", "behind"])
def test_preflights_ask_nobody_and_a_denial_can_be_read(begin, backend, other, order):      # noqa: F811
    client = begin(**order).connect()
    client.sendall(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: http://one.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n")
    assert b"Access-Control-Allow-Methods: PUT\r\n" in head(client) and not other.accepted
    authorizer = None
    for says, status in ((b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\n\r\n", b"401"), (b"what\r\n\r\n", b"403")):
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nOrigin: http://one.example\r\n\r\n")
        authorizer = asked(other, authorizer)
        head(authorizer)
        authorizer.sendall(says)
        got = head(client)
        assert got.split()[1] == status and got.lower().count(b"access-control-allow-origin") == 1, got
        assert b"Access-Control-Allow-Origin: http://one.example\r\n" in got
        while status == b"403" and not client.recv(100).endswith(b"\n"):
            pass
    assert not backend.accepted
