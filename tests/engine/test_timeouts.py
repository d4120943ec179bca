"""Every deadline of the engine, with limits short enough to wait for. What is asserted is what happens, never how fast."""
import asyncio
import functools
import socket

import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule, rest
from support.waiting import elapse, until

from gwfast.plan import ir

SHORT = 0.15
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_silent_connection_is_closed(start, backend):
    engine = start([("127.0.0.1", backend.port)], head_timeout=SHORT)
    assert rest(engine.connect()) == b""


def test_half_a_head_is_408(start, backend):
    engine = start([("127.0.0.1", backend.port)], head_timeout=SHORT)
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHo")
    assert rest(client).startswith(b"HTTP/1.1 408 ")
    assert engine.count("head_timeout") == 1


def test_a_trickled_head_is_408(start, backend):
    """The time for a head is absolute: bytes that keep coming do not extend it."""
    engine = start([("127.0.0.1", backend.port)], head_timeout=3 * SHORT)
    client = engine.connect()
    client.settimeout(SHORT / 2)
    answer = b""
    for byte in b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000:
        try:
            client.sendall(bytes([byte]))
            answer = client.recv(1000)
            break
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_idle_connection_is_closed_after_its_request(start, backend):
    engine = start([("127.0.0.1", backend.port)], idle_timeout=SHORT)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert rest(client).startswith(b"HTTP/1.1 204 ")


def test_a_body_that_stops_is_408(start, backend):
    engine = start([("127.0.0.1", backend.port)], body_timeout=SHORT)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    upstream = backend.accept()
    assert head(upstream).startswith(b"POST / ")
    assert rest(client).startswith(b"HTTP/1.1 408 ")
    assert rest(upstream) == b"abc"
    assert engine.count("body_timeout") == 1


def test_an_upstream_that_says_nothing_is_504(start, backend):
    engine = start([("127.0.0.1", backend.port)], response_timeout=SHORT)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    assert head(client).startswith(b"HTTP/1.1 504 ")
    assert rest(upstream).startswith(b"GET / ")
    assert engine.count("upstream_timeout") == 1


def test_a_response_that_stops_is_cut(start, backend):
    engine = start([("127.0.0.1", backend.port)], stream_idle_timeout=SHORT)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith((b"abc", b"abc<RST>"))


def test_a_client_that_takes_nothing_is_cut(start, backend):
    engine = start([("127.0.0.1", backend.port)], send_timeout=SHORT)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.settimeout(5)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            upstream.sendall(bytes(65536))
    engine.wait("send_timeout", 1)


def test_an_endpoint_that_does_not_accept_is_503(start):
    """A full accept queue answers no SYN: the connection is given up after its time."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    fill = []
    for _ in range(4):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(address)
        fill.append(waiting)
    engine = start([address], connect_timeout=SHORT)
    client = engine.connect()
    client.sendall(GET)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    assert engine.count("connect_timeout") == 1
    for each in (*fill, full):
        each.close()


def test_a_tunnel_without_traffic_ends(start, backend):
    engine = start([("127.0.0.1", backend.port)], tunnel_idle_timeout=SHORT)
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert rest(client).endswith(b"hello")
    assert rest(upstream) == b""


def test_an_idle_pooled_connection_is_closed(start, backend):
    engine = start([("127.0.0.1", backend.port)], pool_idle=SHORT)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 204 ")
    assert rest(upstream) == b""
    engine.wait("upstream_open", 0)


@pytest.mark.parametrize("how", ["trailers", "body ends"])
def test_whatever_a_client_does_not_take_is_timed(start, backend, how):
    """No matter what filled the socket, and what else happened since."""
    engine = start([("127.0.0.1", backend.port)], send_timeout=2 * SHORT)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n" + (b"" if how == "body ends" else b"1"))
    upstream = backend.accept()
    head(upstream)
    upstream.settimeout(SHORT)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"7f00\r\n" + bytes(0x7f00) + b"\r\n"
    try:
        while True:
            upstream.sendall(chunk)
    except (TimeoutError, ConnectionError):
        pass
    if how == "body ends":
        client.sendall(b"1")
    engine.wait("send_timeout", 1)
    engine.wait("connections_open", 0)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE = b"1\r\ny\r\n"


def take_chunks(client) -> bytes:
    got = b""
    while not got.endswith(b"0\r\n\r\n"):
        assert (data := client.recv(65536))
        got += data
    return got


def answered(start, backend, asks=CHUNKED, make_plan=one_rule, **options):
    """A request that is not over, whose response has begun: engine, client, upstream."""
    engine = start([("127.0.0.1", backend.port)], make_plan, **options)
    client = engine.connect()
    client.sendall(asks)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(BEGUN)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    return engine, client, upstream


@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "trickling"])
def test_a_client_that_listens_need_not_speak(start, backend, trickles):
    """Neither the time between two reads of its body nor its rate count once the response has begun."""
    engine, client, upstream = answered(start, backend, body_timeout=SHORT)
    for _ in range(12):
        upstream.sendall(ONE)
        if trickles:
            client.sendall(ONE)
        elapse(SHORT / 2)
    client.sendall(b"0\r\n\r\n")
    upstream.sendall(b"0\r\n\r\n")
    assert take_chunks(client) == 12 * ONE + b"0\r\n\r\n"
    assert engine.count("body_timeout") == 0


@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "trickling"])
def test_a_client_of_http2_that_listens_need_not_speak(start_http2, trickles):
    async def handler(request):
        await request.head(200)
        for _ in range(12):
            await request.data(b"y")
            await asyncio.sleep(SHORT / 2)
        await request.data(b"", end=True)

    engine, _ = start_http2(handler, body_timeout=SHORT)
    client = Http2(engine.connect())
    stream = client.ask(method="POST", body=b"x", end=False)
    while len(client.body(stream)) < 12:
        assert not client.ended
        client.turn()
        if trickles:
            client.protocol.send_data(stream, b"x")
            client.flush()
    assert client.over(stream) == "ended"
    assert engine.count("body_timeout") == 0


@pytest.mark.parametrize("asks", [GET, CHUNKED], ids=["request complete", "request open"])
def test_silence_both_ways_is_cut_and_said(start, backend, asks):
    engine, client, upstream = answered(start, backend, asks, stream_idle_timeout=SHORT)
    assert rest(client) == b"<RST>"
    assert rest(upstream).replace(b"1\r\nx\r\n", b"") in (b"", b"<RST>")
    assert engine.count("stream_idle") == 1


@pytest.mark.parametrize("ends", [False, True], ids=["request open", "request complete"])
def test_silence_both_ways_is_cut_over_http2(start_http2, ends):
    async def handler(request):
        await request.head(200)
        await request.data(b"y")
        await request.ended.wait()
        request.ended.clear()
        await request.ended.wait()

    engine, backend = start_http2(handler, stream_idle_timeout=SHORT)
    client = Http2(engine.connect())
    stream = client.ask(method="POST", body=b"x", end=ends)
    assert client.over(stream) == 2        # INTERNAL_ERROR: never a clean end
    assert client.body(stream) == b"y"
    assert engine.count("stream_idle") == 1
    until(lambda: backend.requests[0].reset == 8)


def test_bytes_either_way_keep_a_stream(start, backend):
    engine, client, upstream = answered(start, backend, stream_idle_timeout=3 * SHORT)
    for speaks in (client, upstream) * 5:
        elapse(SHORT)
        speaks.sendall(ONE)
    for speaks in (client,) * 8 + (upstream,) * 8:
        elapse(SHORT)
        speaks.sendall(ONE)
    client.sendall(b"0\r\n\r\n")
    upstream.sendall(b"0\r\n\r\n")
    assert take_chunks(client).endswith(ONE + b"0\r\n\r\n")
    assert engine.count("stream_idle") == 0


@pytest.mark.parametrize("said", [ir.Timeouts(request=0), ir.Timeouts(backend_request=0), ir.Timeouts(request=60)], ids=str)
def test_a_rule_that_says_how_long_has_no_other_limit(start, backend, said):
    rule = functools.partial(one_rule, timeouts=said)
    engine, client, upstream = answered(start, backend, GET, rule, stream_idle_timeout=SHORT)
    upstream.sendall(ONE)
    elapse(4 * SHORT)
    upstream.sendall(b"0\r\n\r\n")
    assert take_chunks(client) == ONE + b"0\r\n\r\n"
    assert engine.count("stream_idle") == 0


def test_a_rule_that_says_how_long_has_no_other_limit_over_http2(start_http2):
    async def handler(request):
        await request.head(200)
        await request.data(b"y")
        await asyncio.sleep(4 * SHORT)
        await request.data(b"z", end=True)

    plan = functools.partial(one_rule, protocol="h2c", timeouts=ir.Timeouts(request=0))
    engine, _ = start_http2(handler, make_plan=plan, stream_idle_timeout=SHORT)
    client = Http2(engine.connect())
    stream = client.ask()
    assert client.over(stream) == "ended" and client.body(stream) == b"yz"


def test_no_limit_is_no_limit(start, backend):
    _, client, upstream = answered(start, backend, GET, stream_idle_timeout=0)
    elapse(2 * SHORT)
    upstream.sendall(ONE + b"0\r\n\r\n")
    assert take_chunks(client) == ONE + b"0\r\n\r\n"


def test_the_log_says_that_a_stream_was_idle(start, backend, tmp_path):
    with open(tmp_path / "log", "wb") as log:
        _, client, _ = answered(start, backend, GET, log=log.fileno(), stream_idle_timeout=SHORT)
        assert rest(client) == b"<RST>"
        until(lambda: b'"stream_idle"' in (tmp_path / "log").read_bytes())


def test_a_tunnel_over_http2_is_timed_as_a_tunnel(start_http2):
    """Nobody says anything for longer than a response may take; what its backend says then keeps it."""
    async def handler(request):
        await request.head(200)
        for _ in range(8):
            await asyncio.sleep(SHORT)
            await request.data(b"y")
        await request.data(b"", end=True)

    engine, _ = start_http2(handler, {8: 1}, response_timeout=SHORT, tunnel_idle_timeout=3 * SHORT)
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 101 ")
    assert rest(client) == 8 * b"y"
