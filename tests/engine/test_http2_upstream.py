"""Clients of HTTP/1.1 before a backend of HTTP/2: one request and its answer, as each side sees it."""
import asyncio
import functools
import socket
import struct
import threading

import h2.events
import pytest
from h2.settings import SettingCodes
from support.http2_client import Http2
from support.scripted import head, one_rule, rest
from support.http2_upstream import BODY, GET, block, echo, exchange, frame, post, take


def test_what_the_backend_is_asked(start_http2):
    engine, backend = start_http2(echo)
    client = engine.connect()
    client.sendall(b"POST /x?y=%20 HTTP/1.1\r\nHost: a:80\r\nKeep-Alive: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
                   b"Upgrade: x\r\nCookie: a=b; c=d\r\nX-Up: OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 200 ")
    request, = backend.requests
    assert request.pairs[:4] == [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x?y=%20"), (b":authority", b"a:80")]
    assert dict(request.pairs[4:]) == {b"te": b"trailers", b"cookie": b"a=b; c=d", b"x-up": b"OK",
                                       b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http",
                                       b"x-forwarded-host": b"a:80", b"x-request-id": request.fields[b"x-request-id"]}
    assert request.body == b"abc" and request.trailers == {b"x-sum": b"1"}


def test_one_connection_for_all(start_http2):
    engine, backend = start_http2(echo)
    clients = [engine.connect() for _ in range(20)]
    for n, client in enumerate(clients * 3):
        assert exchange(client, post(b"%d" % n))[1] == b"%d" % n
    assert engine.count("upstream_connects") == engine.count("upstream_open") == engine.count("upstream_idle") == 1
    assert engine.count("upstream_reused") == 59


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("settings", [{}, {SettingCodes.INITIAL_WINDOW_SIZE: 1000}, {SettingCodes.MAX_FRAME_SIZE: 1 << 20},
                                      {SettingCodes.HEADER_TABLE_SIZE: 0}], ids=repr)
def test_large_bodies_both_ways(start_http2, settings, chunked):
    engine, _ = start_http2(echo, settings)
    client = engine.connect()
    for _ in range(2):
        assert exchange(client, post(BODY, chunked))[1] == BODY


async def various(request):
    path = request.fields[b":path"]
    if path == b"/head":
        await request.head(200, (b"content-length", b"5"), end=True)
    elif path == b"/head-with-empty-data":
        await request.head(200, (b"content-length", b"5"))
        await asyncio.sleep(0.05)
        await request.data(b"", end=True)
    elif path == b"/204":
        await request.head(204, end=True)
    elif path == b"/304":
        await request.head(304, (b"content-length", b"7"), end=True)
    elif path == b"/empty":
        await request.head(200, end=True)
    elif path == b"/early":
        await request.head(103, (b"link", b"</s>"))
        await request.answer(b"ok")
    elif path == b"/trailers":
        await request.head(200)
        await request.data(b"ok")
        await request.trail((b"x-sum", b"1"))
    elif path == b"/only-trailers":
        await request.head(200, (b"grpc-status", b"12"), end=True)
    else:
        await request.answer(b"ok")


@pytest.mark.parametrize(("method", "path", "status", "gets"), [
    (b"HEAD", b"/head", b"200 OK", b"content-length: 5\r\nDate: @\r\n\r\n"),
    (b"HEAD", b"/head-with-empty-data", b"200 OK", b"content-length: 5\r\nDate: @\r\n\r\n"),
    (b"GET", b"/204", b"204 No Content", b"Date: @\r\n\r\n"),
    (b"GET", b"/304", b"304 Not Modified", b"content-length: 7\r\nDate: @\r\n\r\n"),
    (b"GET", b"/empty", b"200 OK", b"Date: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (b"GET", b"/early", b"103 Early Hints", b"link: </s>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nDate: @\r\n\r\nok"),
    (b"GET", b"/trailers", b"200 OK", b"Date: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"),
    (b"GET", b"/only-trailers", b"200 OK", b"grpc-status: 12\r\nDate: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
])
def test_what_the_client_gets(start_http2, method, path, status, gets):
    engine, backend = start_http2(various)
    client = engine.connect()
    for _ in range(2):
        client.sendall(b"%s %s HTTP/1.1\r\nHost: a\r\n\r\n" % (method, path))
        want = b"HTTP/1.1 %s\r\n%s" % (status, gets)
        got = take(client, len(want) + 28)
        at = got.index(b"Date: ") + 6
        assert got[:at] + b"@" + got[at + 29:] == want
    assert exchange(client, GET)[1] == b"ok"
    assert engine.count("upstream_connects") == 1


def test_many_at_once_share_what_there_is(start_http2):
    """As many streams as the backend allows, then another connection."""
    async def slow(request):
        await asyncio.sleep(0.3)
        await request.answer(b"ok")
    engine, backend = start_http2(slow, {SettingCodes.MAX_CONCURRENT_STREAMS: 4})
    clients = [engine.connect() for _ in range(10)]
    for client in clients:
        client.sendall(GET)
    for client in clients:
        assert head(client).startswith(b"HTTP/1.1 200 ")
    assert 3 <= engine.count("upstream_connects") <= 5
    assert engine.count("upstream_retries") == 0


def test_a_refused_stream_goes_elsewhere(start_http2):
    refused = []

    async def handler(request):
        await request.ended.wait()
        if not refused:
            refused.append(request)
            request.rst(7)
        else:
            await request.answer(request.body)
    engine, backend = start_http2(handler)
    assert exchange(engine.connect(), post(b"abc"))[1] == b"abc"
    assert engine.count("upstream_retries") == 1 and len(backend.connections) == 2


def test_goaway_moves_what_was_not_seen(start_http2):
    async def handler(request):
        await request.ended.wait()
        connection = request.connection
        if connection is request.connection.backend.connections[0] and request.fields[b":path"] == b"/first":
            await asyncio.sleep(0.3)                     # the others are on their way
            goaway = b"\0\0\x08\x07\0\0\0\0\0" + request.number.to_bytes(4, "big") + b"\0\0\0\0"
            connection.raw(goaway)
            await asyncio.sleep(0.1)
            await request.answer(b"first")
        elif connection is connection.backend.connections[0]:
            pass                                         # never looked at
        else:
            await request.answer(request.body)
    engine, backend = start_http2(handler)
    first = engine.connect()
    first.sendall(post(b"", path=b"/first"))
    engine.wait("requests_open", 1)
    engine.wait("upstream_connects", 1)
    others = [engine.connect() for _ in range(5)]
    for n, client in enumerate(others):
        client.sendall(post(b"%d" % n))
    for n, client in enumerate(others):
        head(client)
        assert take(client, 1) == b"%d" % n
    head(first)
    assert take(first, 5) == b"first"
    assert engine.count("upstream_retries") == 5
    engine.wait("upstream_open", 1)
    assert engine.count("upstream_connects") == 2


@pytest.mark.parametrize("after", [0, 1000])
def test_a_reset_is_visible(start_http2, after):
    async def handler(request):
        if after:
            await request.head(200, (b"content-length", b"5000"))
            await request.data(b"x" * after)
            await asyncio.sleep(0.1)
        request.rst(2)
    engine, _ = start_http2(handler)
    client = engine.connect()
    client.sendall(GET)
    got = rest(client) if after else head(client)
    assert got.endswith(b"<RST>") if after else got.startswith(b"HTTP/1.1 502 ")
    assert engine.count("upstream_cut" if after else "upstream_reset") == 1
    assert engine.count("upstream_open") == 1


def test_a_dead_connection_is_replaced_unnoticed(start_http2):
    """It served a request before; the next one finds it dead without a byte."""
    async def handler(request):
        if len(request.connection.backend.requests) in (2, 4):
            request.connection.writer.transport.abort()
        else:
            await request.answer(b"ok")
    engine, backend = start_http2(handler)
    client = engine.connect()
    for _ in range(2):
        assert exchange(client, GET)[1] == b"ok"
    assert engine.count("upstream_retries") == 1 and len(backend.connections) == 2
    client.sendall(post(b"x"))
    assert head(client).startswith(b"HTTP/1.1 502 ")     # not idempotent


def test_a_client_that_leaves_cancels(start_http2):
    async def handler(request):
        await asyncio.wait_for(request.ended.wait(), 5)
        await asyncio.sleep(30)
    engine, backend = start_http2(handler)
    client = engine.connect()
    client.sendall(GET)
    engine.wait("upstream_connects", 1)
    while not backend.requests:
        threading.Event().wait(0.01)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    for _ in range(100):
        if backend.requests[0].reset is not None:
            break
        threading.Event().wait(0.02)
    assert backend.requests[0].reset == 8
    engine.wait("upstream_idle", 1)


def test_windows_that_shrink(start_http2):
    """SETTINGS that take windows away while a body is under way: less than nothing is left, then it goes on."""
    async def handler(request):
        connection = request.connection
        while len(request.body) < 100_000:
            await asyncio.sleep(0.01)
        for size in (10, 0, 65535, 100):
            connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
            connection.flush()
            await asyncio.sleep(0.02)
        connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        connection.flush()
        await request.ended.wait()
        await request.answer(request.body)
    engine, _ = start_http2(handler)
    assert exchange(engine.connect(), post(BODY))[1] == BODY


def test_a_slow_client_holds_only_its_own_back(start_http2):
    sent = []

    async def handler(request):
        if request.fields[b":path"] == b"/slow":
            await request.head(200, (b"content-length", b"%d" % (20 * len(BODY))))
            for _ in range(20 * len(BODY) // 65536):
                await request.data(BODY[:65536])
                sent.append(65536)
            await request.data(b"", end=True)
        else:
            await request.answer(b"ok")
    engine, _ = start_http2(handler)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    slow.settimeout(10)
    slow.connect(("127.0.0.1", engine.port))
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    client = engine.connect()
    for _ in range(20):
        assert exchange(client, GET)[1] == b"ok"
        threading.Event().wait(0.01)
    before = sum(sent)
    threading.Event().wait(0.2)
    assert sum(sent) == before < 8 << 20               # what sockets and one window hold
    head(slow)
    n = 0
    while n < 20 * len(BODY):
        data = slow.recv(1 << 20)
        assert data == (BODY[:65536] * (len(data) // 65536 + 2))[n % 65536:][:len(data)]
        n += len(data)
    slow.close()
    assert engine.count("upstream_connects") == 1


def test_a_slow_backend_holds_its_client_back(start_http2):
    async def handler(request):
        request.connection.consume = False
        await asyncio.sleep(0.5)
        assert len(request.body) <= 200_000
        request.connection.consume = True
        request.connection.h2.acknowledge_received_data(request.owed, request.number)
        request.connection.flush()
        await request.ended.wait()
        await request.answer(request.body)
    engine, _ = start_http2(handler)
    assert exchange(engine.connect(), post(BODY * 4))[1] == BODY * 4


def test_an_early_answer_stops_the_upload(start_http2):
    async def handler(request):
        request.connection.consume = False
        await request.answer(b"enough", 413)
    engine, backend = start_http2(handler)
    client = engine.connect()
    client.sendall(post(BODY)[:100_000])
    assert head(client).startswith(b"HTTP/1.1 413 ")
    assert rest(client).startswith(b"enough")
    engine.wait("upstream_idle", 1)


def test_idle_connections_end(start_http2):
    engine, backend = start_http2(echo, pool_idle=0.2)
    assert exchange(engine.connect(), post(b"a"))[1] == b"a"
    engine.wait("upstream_idle", 1)
    engine.wait("upstream_open", 0)
    assert engine.count("upstream_idle") == 0
    assert exchange(engine.connect(), post(b"b"))[1] == b"b"


def test_old_connections_take_no_more(start_http2):
    engine, backend = start_http2(echo, pool_age=0.1)
    client = engine.connect()
    for _ in range(3):
        assert exchange(client, post(b"a"))[1] == b"a"
        threading.Event().wait(0.15)
    assert len(backend.connections) == 3
    engine.wait("upstream_open", 1)


def test_a_table_without_it_ends_the_connection(start_http2):
    engine, backend = start_http2(echo)
    client = engine.connect()
    assert exchange(client, post(b"a"))[1] == b"a"
    for ports in ((1,), (1, 2)):                         # its slot is given to the second
        engine.apply(one_rule([("127.0.0.1", port) for port in ports], protocol="h2c"))
        assert exchange(client, GET)[0].startswith(b"HTTP/1.1 503 ")
    engine.wait("upstream_open", 0)


def test_a_backend_of_another_protocol(start, backend):
    """What speaks HTTP/1.1 only is asked nothing."""
    engine = start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"))
    client = engine.connect()
    client.sendall(post(b"a"))
    upstream = backend.accept()
    assert upstream.recv(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    upstream.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert b"POST" not in rest(upstream)
    assert head(client).startswith(b"HTTP/1.1 503 ")


def test_a_backend_that_says_nothing(start, backend):
    engine = start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"), connect_timeout=0.3)
    client = engine.connect()
    client.sendall(GET)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    assert b"GET" not in rest(backend.accept())
    engine.wait("upstream_open", 0)


# ---- what a backend must not say -------------------------------------------------------------------------------------


OK = (b":status", b"200")
HEADS = {
    "no status": block((b"a", b"b")),
    "two": block(OK, OK),
    "late": block((b"a", b"b"), OK),
    "another pseudo": block(OK, (b":path", b"/")),
    "an unknown pseudo": block(OK, (b":x", b"y")),
    "four digits": block((b":status", b"0200")),
    "letters": block((b":status", b"2 0")),
    "101": block((b":status", b"101")),
    "600": block((b":status", b"600")),
    "099": block((b":status", b"099")),
    "connection": block(OK, (b"connection", b"close")),
    "keep-alive": block(OK, (b"keep-alive", b"5")),
    "proxy-connection": block(OK, (b"proxy-connection", b"close")),
    "transfer-encoding": block(OK, (b"transfer-encoding", b"chunked")),
    "upgrade": block(OK, (b"upgrade", b"x")),
    "upper case": block(OK, (b"Name", b"x")),
    "line feed": block(OK, (b"a", b"b\nc: d")),
    "nul": block(OK, (b"a", b"b\0")),
    "leading space": block(OK, (b"a", b" b")),
    "empty name": block(OK, (b"", b"b")),
    "space in a name": block(OK, (b"a b", b"c")),
    "colon in a name": block(OK, (b"a:b", b"c")),
    "two lengths": block(OK, (b"content-length", b"2"), (b"content-length", b"2")),
    "a signed length": block(OK, (b"content-length", b"+2")),
    "a list of lengths": block(OK, (b"content-length", b"2, 2")),
    "a large head": block(OK, *[(b"a%d" % n, b"x" * 120) for n in range(99)] * 4),
    "many fields": block(OK, *[(b"a%d" % n, b"x") for n in range(201)]),
}
HALF = frame(1, 4, 1, block(OK, (b"content-length", b"2")))
CUT = {            # behind a head that was good: the client got it
    "less than its length": frame(0, 1, 1, b"x"),
    "more than its length": frame(0, 1, 1, b"xyz"),
    "trailers that do not end": frame(1, 4, 1, block((b"a", b"b"))),
    "trailers with a status": frame(0, 0, 1, b"xy") + frame(1, 5, 1, block(OK)),
    "trailers with a connection": frame(0, 0, 1, b"xy") + frame(1, 5, 1, block((b"connection", b"close"))),
    "trailers before the end": frame(1, 5, 1, block((b"a", b"b"))),
    "nonsense behind it": b"abcdefghijkl",
    "a reset": frame(3, 0, 1, b"\0\0\0\0"),
}
ENDING = {
    "less than its length, at once": HALF + frame(0, 1, 1, b"x"),
    "more than its length, at once": HALF + frame(0, 1, 1, b"xyz"),
    "an ending 1xx": frame(1, 5, 1, block((b":status", b"103"))),
    "payload before the head": frame(0, 1, 1, b"x"),
    "an end before the body": frame(1, 5, 1, block(OK, (b"content-length", b"2"))),
    "a push": frame(5, 4, 1, b"\0\0\0\2" + block((b":method", b"GET"))),
    "a stream that is idle": frame(1, 5, 3, block(OK)),
    "a stream of its own": frame(1, 5, 2, block(OK)),
    "settings of a push": frame(4, 0, 0, b"\0\2\0\0\0\1"),
    "a window of nothing": frame(8, 0, 1, b"\0\0\0\0"),
    "a window too large": frame(8, 0, 1, b"\x7f\xff\xff\xff"),
    "the connection's too": frame(8, 0, 0, b"\x7f\xff\xff\xff"),
    "an index that is not": frame(1, 5, 1, b"\xff\x7f"),
    "a frame too large": frame(0, 1, 1, b"x" * 16385),
    "a block too large": frame(1, 0, 1, b"\0" * 16384) + frame(9, 0, 1, b"\0" * 16384) * 8,
    "continuations": frame(1, 0, 1, block(OK)) + frame(9, 0, 1, b"") * 9,
    "a continuation of nothing": frame(9, 4, 1, b""),
    "padding": frame(0, 8, 1, b"\5abc"),
    "empty frames": frame(0, 0, 1, b"") * 1100,
    "unknown frames": frame(99, 0, 0, b"") * 1100,
    "a bomb": frame(1, 0, 1, block(OK) + b"\x40\1a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 8000) + frame(9, 4, 1, b"\xbe" * 16000),
    "nonsense": b"HTTP/1.1 200 OK\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("said", [*(frame(1, 5, 1, part) if len(part) < 16384 else
                                    frame(1, 1, 1, part[:16384]) + frame(9, 4, 1, part[16384:]) for part in HEADS.values()),
                                  *CUT.values(), *ENDING.values()], ids=[*HEADS, *CUT, *ENDING])
def test_bad_responses_are_502_or_cut(start, backend, said):
    """Whatever it is, no client takes it for an answer, and the next request gets its own."""
    engine = start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"), response_timeout=2)
    client = engine.connect()
    client.sendall(post(b""))
    upstream = backend.accept()
    upstream.sendall(frame(4, 0, 0, b""))
    got = b""
    while b"x-request-id" not in got and frame(4, 1, 0, b"") not in got:
        got += upstream.recv(65536)
    threading.Event().wait(0.02)
    if said in CUT.values():
        upstream.sendall(HALF)
        assert head(client).startswith(b"HTTP/1.1 200 ")
    upstream.sendall(said)
    if not said:
        upstream.close()
    if said in CUT.values():
        assert rest(client).endswith(b"<RST>")
    else:
        assert head(client).startswith(b"HTTP/1.1 502 ")
    engine.wait("requests_open", 0)
    assert engine.count("bugs") == engine.count("internal") == 0
    backend.close()
    engine.wait("upstream_open", 0)


def test_trailers_that_must_not_be_are_left_out(start_http2):
    async def handler(request):
        await request.head(200)
        await request.data(b"ok")
        await request.trail((b"content-length", b"9"), (b"x-sum", b"1"), (b"set-cookie", b"a=b"), (b"trailer", b"x"), (b"host", b"a"),
                            (b"x-last", b"2"))

    engine, _ = start_http2(handler)
    client = engine.connect()
    client.sendall(post(b""))
    head(client)
    assert take(client, 7) == b"2\r\nok\r\n"
    assert take(client, 26) == b"0\r\nx-sum: 1\r\nx-last: 2\r\n\r\n"
    client = Http2(engine.connect())
    stream = client.ask()
    assert client.over(stream) == "ended"
    assert dict(client.until(h2.events.TrailersReceived, stream).headers) == {b"x-sum": b"1", b"x-last": b"2"}


@pytest.mark.parametrize("sends", [False, True], ids=["downloads", "uploads"])
def test_a_backend_that_measures_its_bandwidth_is_no_flood(start_http2, sends):
    """As grpc-go does: a PING for each time that DATA comes, also of a server that is uploaded to."""
    size = 40_000_000

    async def handler(request):
        if not sends:
            await request.head(200, (b"content-length", b"%d" % size))
        got = 0
        while got < size:
            if sends:
                request.connection.news.clear()
                await request.connection.news.wait()
                got += len(request.body)
                request.body = b""
            else:
                await request.data(bytes(16384 if size - got > 16384 else size - got), end=size - got <= 16384)
                got += 16384
            request.connection.h2.ping(b"measures")
            request.connection.flush()
        if sends:
            await request.answer(b"ok")

    engine, backend = start_http2(handler)
    client = engine.connect()
    if sends:
        sender = threading.Thread(target=lambda: client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
        sender.start()
        assert head(client).startswith(b"HTTP/1.1 200 ")
        sender.join()
    else:
        client.sendall(post(b""))
        head(client)
        assert len(take(client, size)) == size
    assert len(backend.connections) == 1
