"""Requests that a backend of HTTP/2 did not look at (GOAWAY, REFUSED_STREAM: RFC 9113 8.7): sent again, bodies included, unnoticed."""
import threading

import pytest
from support.http2_backend import Http2Backend
from support.http2_client import Http2
from support.scripted import head, one_rule

from gwfast import limits
from gwfast.plan import ir

REFUSED_STREAM = 7
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def take(client, n: int) -> bytes:
    got = b""
    while len(got) < n:
        assert (data := client.recv(65536))
        got += data
    return got


def goaway(request):
    """No stream was looked at."""
    request.connection.raw(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))


def refuse(request):
    request.rst(REFUSED_STREAM)


class Refuses:
    """A handler that refuses the first `times` requests, once so much of their bodies came, and echoes the others."""

    def __init__(self, times, how=refuse, after=1):
        self.times, self.how, self.after, self.refused = times, how, after, threading.Semaphore(0)

    async def __call__(self, request):
        if self.times:
            self.times -= 1
            while len(request.body) < self.after:
                request.connection.news.clear()
                await request.connection.news.wait()
            self.how(request)
            self.refused.release()
        else:
            await request.ended.wait()
            await request.answer(request.body, 200, (b"x-sum", request.trailers.get(b"x-sum", b"")))


@pytest.mark.parametrize("how", [refuse, goaway])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_that_was_sent_in_part_is_sent_again(start_http2, how, chunked):
    backend = Refuses(1, how)
    engine, _ = start_http2(backend)
    client = engine.connect()
    body = bytes(range(256)) * (limits.RETRY_BODY_BYTES // 256)
    pieces = [body[:10], body[10:30000], body[30000:]]
    if chunked:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        pieces[2] += b"0\r\nX-Sum: 1\r\n\r\n"
    else:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    engine.wait("upstream_connects", 1)
    client.sendall(pieces[0])
    assert backend.refused.acquire(timeout=5)
    for piece in pieces[1:]:
        client.sendall(piece)
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 200 ") and (b"x-sum: 1\r\n" in answer) == chunked
    assert take(client, len(body)) == body
    assert engine.count("upstream_retries") == 1


def test_a_body_is_sent_again_for_a_client_of_http2(start_http2):
    backend = Refuses(1)
    engine, _ = start_http2(backend)
    client = Http2(engine.connect())
    stream = client.ask(method="POST", body=b"one", end=False)
    assert backend.refused.acquire(timeout=5)
    client.protocol.send_data(stream, b" and two", end_stream=True)
    client.flush()
    assert client.over(stream) == "ended" and client.body(stream) == b"one and two"


def test_what_is_not_kept_is_not_sent_again(start_http2):
    size = limits.RETRY_BODY_BYTES + 1
    engine, backend = start_http2(Refuses(1, after=size))
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (size + 1))
    engine.wait("upstream_connects", 1)
    client.sendall(bytes(size))
    assert head(client).startswith(b"HTTP/1.1 502 ")
    assert len(backend.requests) == 1


def test_what_nobody_may_want_again_is_not_kept(start, backend):
    """A body to HTTP/1.1 goes past us, as ever."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    size = 8 << 20
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    upstream = backend.accept()
    head(upstream)
    sender = threading.Thread(target=client.sendall, args=(bytes(size),))
    sender.start()
    assert take(upstream, size) == bytes(size)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    sender.join()


@pytest.mark.parametrize(("times", "status"), [(1, 200), (2, 200), (3, 502)])
def test_two_refusals_are_borne(start_http2, times, status):
    backend = Refuses(times)
    engine, made = start_http2(backend)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    engine.wait("upstream_connects", 1)
    client.sendall(b"body")
    assert head(client).startswith(b"HTTP/1.1 %d " % status)
    assert len(made.requests) == 3 if times > 1 else 2
    assert len(made.connections) == min(times + 1, 3)


def test_who_refuses_everything_is_left_for_another(start_http2):
    """Whichever of the two is asked first."""
    one = Http2Backend(Refuses(1 << 30, after=0))
    two = Http2Backend(Refuses(0))
    try:
        engine, _ = start_http2(Refuses(0), make_plan=lambda _: one_rule([("127.0.0.1", one.port), ("127.0.0.1", two.port)], protocol="h2c"))
        for _ in range(12):
            client = engine.connect()
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            assert head(client).startswith(b"HTTP/1.1 200 ")
        assert one.requests
    finally:
        one.close()
        two.close()


AUTHORIZER = ir.Backend(namespace="default", name="auth", port=80, protocol="h2c")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", ["mirror", "authorizer"])
def test_mirrors_and_authorizers_may_refuse_too(start, backend, kind, times):
    handler = Refuses(times, after=0)
    aside = Http2Backend(handler)
    some = (ir.MirrorFilter(backend=AUTHORIZER) if kind == "mirror" else ir.AuthorizeFilter(backend=AUTHORIZER),)

    def plan(addresses) -> ir.Plan:
        made = one_rule(addresses, filters=some)
        return ir.Plan(binds=made.binds, backends=(*made.backends, AUTHORIZER), endpoints=(
            *made.endpoints, ir.Endpoints(key=AUTHORIZER.key, addresses=(("127.0.0.1", aside.port),))))
    try:
        engine = start([("127.0.0.1", backend.port)], plan)
        client = engine.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        upstream = backend.accept()
        head(upstream)
        assert take(upstream, 4) == b"body"
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ")
        if kind == "mirror":
            engine.wait("mirror_answered", 1)
        assert len(aside.requests) == times + 1
    finally:
        aside.close()


def test_a_mirror_may_refuse_a_part(start, backend):
    """What it was sent of a body that still comes is kept for another connection, as a backend's is."""
    handler = Refuses(1)
    aside = Http2Backend(handler)

    def plan(addresses) -> ir.Plan:
        made = one_rule(addresses, filters=(ir.MirrorFilter(backend=AUTHORIZER),))
        return ir.Plan(binds=made.binds, backends=(*made.backends, AUTHORIZER), endpoints=(
            *made.endpoints, ir.Endpoints(key=AUTHORIZER.key, addresses=(("127.0.0.1", aside.port),))))
    try:
        engine = start([("127.0.0.1", backend.port)], plan)
        client = engine.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = backend.accept()
        head(upstream)
        client.sendall(b"3\r\none\r\n")
        assert handler.refused.acquire(timeout=5)
        client.sendall(b"3\r\ntwo\r\n")
        client.sendall(b"0\r\nX-Sum: 1\r\n\r\n")
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += upstream.recv(100)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ")
        engine.wait("mirror_answered", 1)
        assert aside.requests[-1].body == b"onetwo" and aside.requests[-1].trailers == {b"x-sum": b"1"}
    finally:
        aside.close()
