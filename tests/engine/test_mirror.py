"""Mirrors: what they get, and that nothing that they do reaches the client."""
import os
import threading
from collections.abc import Callable

import pytest
from support.http2_backend import Http2Backend
from support.scripted import Backend, head, one_rule
from support.exchanges import FORWARDED, asked, expect

from gwfast import limits
from gwfast.plan import ir

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SENT = b"GET /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"\r\n"
CLOSED = 1                             # a port that nobody listens on


def shadow(name: str, protocol: str = "http") -> ir.Backend:
    return ir.Backend(namespace="default", name=name, port=80, protocol=protocol)


@pytest.fixture
def begin(start, backend) -> Callable:
    """begin({name: port}, numerator, denominator): an engine whose rule has a mirror for each; or its backendRef."""
    def begin(ports, *share, protocol="http", on_backend=False, filters=(), **options):
        mirrors = [shadow(name, protocol) for name in ports]
        some = tuple(ir.MirrorFilter(backend=each, **dict(zip(("numerator", "denominator"), share, strict=False))) for each in mirrors)

        def plan(addresses) -> ir.Plan:
            first = ir.Backend(namespace="default", name="echo", port=80)
            chosen = ir.WeightedBackend(backend=first, filters=some if on_backend else ())
            made = one_rule(addresses, filters=filters + (() if on_backend else some), backends=(chosen,))
            more = [ir.Endpoints(key=each.key, addresses=(("127.0.0.1", ports[each.name]),)) for each in mirrors]
            return ir.Plan(binds=made.binds, backends=(*made.backends, *mirrors), endpoints=(*made.endpoints, *more))
        return start([("127.0.0.1", backend.port)], plan, request_id=False, **options)
    return begin


def exchange(client, backend, upstream=None, sent=SENT):
    """A request and its answer, as the client and its backend see it: the backend's connection."""
    client.sendall(GET)
    upstream = asked(backend, upstream)
    expect(upstream, sent)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    assert client.recv(2) == b"ok"
    return upstream


@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backendRef"])
def test_every_mirror_gets_the_request(begin, backend, other, on_backend):
    """Changed as the backend gets it, Host included; the connections are used again."""
    third = Backend()
    engine = begin({"one": other.port, "two": third.port}, on_backend=on_backend, filters=(
        ir.HeaderFilter(on="request", set=(("x-a", "1"),)), ir.RewriteFilter(hostname="b")))
    sent = SENT.replace(b"Host: a", b"Host: b", 1)[:-2] + b"x-a: 1\r\n\r\n"
    client, upstream, mirrored = engine.connect(), None, [None, None]
    for n in range(1, 4):
        upstream = exchange(client, backend, upstream, sent)
        for i, mirror in enumerate((other, third)):
            mirrored[i] = asked(mirror, mirrored[i])
            expect(mirrored[i], sent)
            mirrored[i].sendall(OK if n % 2 else b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n"
                                                 b"3\r\nabc\r\n0\r\n\r\n")
        engine.wait("mirror_answered", 2 * n)
    assert len(other.accepted) == len(third.accepted) == 1
    third.close()


BODIES = {
    "length": (b"Content-Length: 300000\r\n\r\n", b"x" * 300_000, b"Content-Length: 300000\r\n\r\n"),
    "small": (b"Content-Length: 5\r\n\r\n", b"hello", b"Content-Length: 5\r\n\r\n"),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n2\r\n!!\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"),
    "trailers": (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"),
}


@pytest.mark.parametrize("pieces", [1, 3], ids=["whole", "in pieces"])
@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
def test_bodies_are_streamed(begin, backend, other, case, pieces):
    fields, body, passed = case
    engine = begin({"one": other.port})
    client, got = engine.connect(), []

    def listen(listening):
        connection = listening.accept()
        expect(connection, b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + passed + body)
        connection.sendall(OK)
        got.append(listening)
    threads = [threading.Thread(target=listen, args=(each,)) for each in (backend, other)]
    for thread in threads:
        thread.start()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\n" + fields)
    step = -(-len(body) // pieces)
    for at in range(0, len(body), step):
        client.sendall(body[at:at + step])
        threading.Event().wait(0.02)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    for thread in threads:
        thread.join(10)
    assert len(got) == 2
    engine.wait("mirror_answered", 1)


@pytest.mark.parametrize(("share", "expected"), [((0, 4), 0), ((0, 100), 0), ((1, 4), 3), ((3, 4), 9), ((1, 1), 12), ((5, 12), 5), ((100, 100), 12)])
def test_shares_are_exact(begin, backend, other, share, expected):
    engine = begin({"one": other.port}, *share)
    client, upstream = engine.connect(), None
    for _ in range(12):
        upstream = exchange(client, backend, upstream)
    for _ in range(expected):          # none was answered yet: each has a connection
        mirror = other.accept()
        expect(mirror, SENT)
        mirror.sendall(OK)
    engine.wait("mirror_answered", expected)
    assert engine.count("upstream_connects") == expected + 1


def test_a_mirror_that_hangs_costs_a_bounded_number_of_connections(begin, backend, other):
    engine = begin({"one": other.port})
    client, upstream, many = engine.connect(), None, limits.MIRROR_CALLS + 40
    for _ in range(many):
        upstream = exchange(client, backend, upstream)
    engine.wait("mirror_busy", 40)
    assert engine.count("requests_open") == 0 and engine.count("upstream_open") <= limits.MIRROR_CALLS + 1


def test_a_mirror_that_does_not_read_is_dropped(begin, backend, other):
    """The client's request goes on: its backend reads all of it."""
    size = 16 << 20
    engine = begin({"one": other.port})
    client = engine.connect()
    client.settimeout(20)
    sender = threading.Thread(target=client.sendall, args=(
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size),))
    sender.start()
    upstream, got = backend.accept(), 0
    mirror = other.accept()
    head(upstream)
    while got < size:
        got += len(upstream.recv(1 << 20))
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    sender.join()
    engine.wait("mirror_slow", 1)
    mirror.settimeout(5)
    left = 0
    while data := mirror.recv(1 << 20):
        left += len(data)
    assert left < size


def test_a_dead_mirror_is_not_missed(begin, backend):
    engine = begin({"one": CLOSED})
    client, upstream = engine.connect(), None
    for n in range(5):
        upstream = exchange(client, backend, upstream)
        engine.wait("mirror_failed", n + 1)
    assert sum(engine.count(word) for word in ("connect_failed", "upstream_reset")) == 0


ENDS = {"garbage": b"what\r\n\r\n", "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "nothing": b"",
        "switched": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "hints": b"HTTP/1.1 103 E\r\n\r\n" * 17,
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"}


@pytest.mark.parametrize("says", ENDS.values(), ids=ENDS)
def test_a_bad_answer_ends_the_mirror_alone(begin, backend, other, says):
    engine = begin({"one": other.port})
    client = engine.connect()
    upstream = exchange(client, backend)
    for _ in range(1 if says else limits.CONNECT_ATTEMPTS):
        mirror = other.accept()
        expect(mirror, SENT)
        mirror.sendall(says)
        mirror.close()
    engine.wait("mirror_failed", 1)
    exchange(client, backend, upstream)


def test_more_than_was_asked_for_is_not_kept(begin, backend, other):
    engine = begin({"one": other.port})
    client = engine.connect()
    upstream = exchange(client, backend)
    other.accept().sendall(OK + OK)
    engine.wait("mirror_answered", 1)
    exchange(client, backend, upstream)
    expect(other.accept(), SENT)


def test_a_connection_that_has_ended_meanwhile_is_replaced(begin, backend, other):
    engine = begin({"one": other.port})
    client = engine.connect()
    upstream = exchange(client, backend)
    mirror = other.accept()
    expect(mirror, SENT)
    mirror.sendall(OK)
    engine.wait("mirror_answered", 1)
    with engine.lock:                  # the engine does not see the end before it sends
        mirror.close()
        client.sendall(GET)
    upstream = asked(backend, upstream)
    expect(upstream, SENT)
    upstream.sendall(OK)
    expect(other.accept(), SENT)


@pytest.mark.parametrize(("method", "says", "again"), [(b"PUT", b"", True), (b"POST", b"", False), (b"PATCH", b"", False),
                                                       (b"PUT", b"HTTP/1.1 103 E\r\n\r\n", False), (b"PUT", b"HTT", False)])
def test_what_a_mirror_may_have_done_is_not_sent_twice(begin, backend, other, method, says, again):
    """RFC 9110 9.2.2: one of the pool that ends without an answer."""
    engine = begin({"one": other.port})
    client = engine.connect()
    upstream = exchange(client, backend)
    mirror = other.accept()
    expect(mirror, SENT)
    mirror.sendall(OK)
    engine.wait("mirror_answered", 1)
    sent = SENT.replace(b"GET", method)[:-2] + b"Content-Length: 0\r\n\r\n"
    client.sendall(GET.replace(b"GET", method)[:-2] + b"Content-Length: 0\r\n\r\n")
    expect(upstream, sent)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    expect(mirror, sent)
    mirror.sendall(says)
    mirror.close()
    if again:
        mirror = other.accept()
        expect(mirror, sent)
        mirror.sendall(OK)
        engine.wait("mirror_answered", 2)
    else:
        engine.wait("mirror_failed", 1)
    assert len(other.accepted) == 1 + again


def test_a_client_that_goes_takes_its_unfinished_copy_along(begin, backend, other):
    engine = begin({"one": other.port})
    client = engine.connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhel")
    mirror = other.accept()
    head(mirror)
    assert mirror.recv(3) == b"hel"
    client.close()
    assert mirror.recv(1) == b""
    engine.wait("mirror_failed", 1)


def test_an_engine_that_ends_keeps_no_calls(start, begin, backend, other):
    """Nor do those that are under way keep it."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        engine = begin({"one": other.port})
        client = engine.connect()
        upstream = exchange(client, backend)
        mirror = other.accept()
        mirror.sendall(OK)
        engine.wait("mirror_answered", 1)
        exchange(client, backend, upstream)
        engine.close()
        for connection in (upstream, mirror, *backend.accepted, *other.accepted):
            connection.close()
        start.__closure__[0].cell_contents.clear()
        del engine, client
    assert len(os.listdir("/proc/self/fd")) <= before


def test_upgrades_are_not_mirrored(begin, backend, other):
    engine = begin({"one": other.port})
    client = engine.connect()
    client.sendall(GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 101 ")
    assert all(engine.count(f"mirror_{end}") == 0 for end in ("answered", "failed", "busy"))


def test_an_early_answer_of_the_backend_ends_an_unfinished_copy(begin, backend, other):
    engine = begin({"one": other.port})
    client = engine.connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhel")
    other.accept()
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    engine.wait("mirror_failed", 1)


def test_a_mirror_that_speaks_http2(begin, backend):
    seen = []

    async def handler(request):
        await request.ended.wait()
        seen.append(request.body)
        await request.answer(b"y" * 100_000)
    mirror = Http2Backend(handler)
    engine = begin({"one": mirror.port}, protocol="h2c")
    client, upstream = engine.connect(), None
    for n in range(1, 4):
        upstream = exchange(client, backend, upstream)
        engine.wait("mirror_answered", n)
    mirror.close()
    assert not mirror.failures and len(seen) == 3
