"""The last part of a response waits in the gateway for its client, and comes in the moment that the client takes more: whatever
end it has, of whichever protocol both sides are. So are requests of the gateway's own, whose connection ends when nobody else
has them any more. In the sanitizer's build each of these shows whether anything was used after it was freed."""
import asyncio
import functools
import socket
import threading

import pytest
from support.http2_backend import Http2Backend
from h2.settings import SettingCodes
from support.http2_client import Http2, raw_frame
from support.scripted import head, one_rule, readable, shadowed

from gwfast.plan import ir

LENGTH = 10_000
WHOLE = ("data", "empty data", "trailers", "data, reset", "data, goaway", "trailers, nothing")
ENDS = (*WHOLE, "reset", "goaway", "nothing")
LAST = ("goaway", "nothing")           # behind which the connection ends


def handler(end: str, waits: threading.Event):
    """Answers with LENGTH bytes in two parts and this end, and says when the gateway has read it."""
    async def serve(request):
        await request.ended.wait()
        await request.head(200)
        await request.data(b"a" * (LENGTH // 2))
        await request.read()
        await request.data(b"b" * (LENGTH // 2), end=end.startswith("data"))
        if end == "empty data":
            await request.data(b"", end=True)
        elif end.startswith("trailers"):
            await request.trail((b"grpc-status", b"0"))
        if end.endswith("reset"):              # h2 says nothing of a stream that has ended
            request.connection.raw(raw_frame(3, 0, request.number, b"\0\0\0\0" if "," in end else b"\0\0\0\2"))
        elif end.endswith("goaway"):
            request.connection.raw(raw_frame(7, 0, 0, bytes(8)))
        elif end.endswith("nothing"):
            await request.read()
            request.connection.writer.transport.abort()
        if not end.endswith(LAST):
            await request.read()
        waits.set()
    return serve


def windows():
    """None at all, each of the first ones, those around the two parts of the body, and those around all of it."""
    return (0, 1, 2, 1000, LENGTH // 2 - 1, LENGTH // 2, LENGTH // 2 + 1, LENGTH - 1)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("window", windows())
@pytest.mark.parametrize("end", ENDS)
def test_what_waits_for_a_window_is_sent_when_it_opens(start_http2, end, window, secure):
    waits = threading.Event()
    engine, backend = start_http2(handler(end, waits), make_plan=functools.partial(one_rule, protocol="h2c", front_tls=secure))
    client = Http2(engine.connect_tls() if secure else engine.connect(),
                   settings={SettingCodes.INITIAL_WINDOW_SIZE: window}, acknowledge=False)
    stream = client.ask()
    assert waits.wait(5)
    whole = end in WHOLE
    if end.endswith(LAST):
        engine.wait("upstream_open", 0)
    for more in filter(None, (LENGTH - window - 1, 1, 100)):
        client.protocol.increment_flow_control_window(more, stream)
        client.flush()
    assert client.over(stream) == "ended" if whole else client.over(stream) != "ended"
    if whole:
        assert client.body(stream) == b"a" * (LENGTH // 2) + b"b" * (LENGTH // 2)
    again = client.ask(path="/again")          # the same worker, the same connection
    client.protocol.increment_flow_control_window(LENGTH, again)
    client.flush()
    assert client.head(again)[b":status"] == b"200"


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("end", ["data", "trailers"])
@pytest.mark.parametrize("pause", [0, 1])
def test_a_slow_reader_of_http1_gets_all_of_it(start_http2, end, secure, pause):
    """More than sockets hold: the last part waits in a stream until the client has read what is before it."""
    size = 8 << 20

    async def serve(request):
        await request.ended.wait()
        await request.head(200)
        await request.data(b"x" * size, end=end == "data")
        if end == "trailers":
            await request.trail((b"after", b"wards"))

    engine, _ = start_http2(serve, make_plan=functools.partial(one_rule, protocol="h2c", front_tls=secure))
    client = engine.connect_tls("http/1.1") if secure else engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 200 ")
    got = bytearray()
    while not got.endswith(b"0\r\n\r\n" if end == "data" else b"0\r\nafter: wards\r\n\r\n"):
        if pause:
            readable(client, seconds=1)
        data = client.recv(3000 if len(got) < 30_000 else 1 << 20)
        assert data
        got += data
    assert got.count(b"x") == size
    engine.wait("requests_open", 0)


def drain(client, mark: bytes) -> bytes:
    got = b""
    while not got.endswith(mark):
        data = client.recv(1 << 16)
        assert data
        got += data
    return got


# -- requests of the gateway's own, which nobody waits for ---------------------------------------------------------------------


@pytest.fixture
def full():
    """A port whose queue is full: connections to it neither open nor fail."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    filling = [socket.socket() for _ in range(4)]
    for each in filling:
        each.setblocking(False)
        each.connect_ex(listening.getsockname())
    yield listening.getsockname()[1]
    for each in (*filling, listening):
        each.close()


@pytest.mark.parametrize("protocol", ["http", "h2c"])
@pytest.mark.parametrize("endpoints", [1, 2])
def test_a_mirror_that_cannot_be_connected_to_when_its_client_is_gone(start, backend, full, protocol, endpoints):
    engine = start([("127.0.0.1", backend.port)], functools.partial(shadowed, shadows=[("127.0.0.1", full)] * endpoints, protocol=protocol), connect_timeout=0.1)
    for _ in range(3):
        client = engine.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        upstream = backend.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.close()
    engine.wait("connections_open", 0)
    engine.wait("mirror_failed", 3)
    assert engine.count("upstream_open") == 0


@pytest.mark.parametrize("how", ["goaway", "abort", "refuse", "reset"])
def test_a_mirror_whose_connection_goes_away_when_its_client_is_gone(start, backend, how):
    gone = threading.Event()
    asked = threading.Semaphore(0)

    async def serve(request):
        asked.release()
        first = len(request.connection.backend.requests) <= 3
        while first and not gone.is_set():
            await asyncio.sleep(0.01)
        if not first:
            await request.answer(b"")
        elif how == "goaway":
            if not request.connection.closed:
                request.connection.h2.close_connection(0, last_stream_id=0)
                request.connection.flush()
        elif how == "abort":
            request.connection.writer.transport.abort()
        else:
            request.rst(7 if how == "refuse" else 2)

    mirror = Http2Backend(serve)
    engine = start([("127.0.0.1", backend.port)], functools.partial(shadowed, shadows=[("127.0.0.1", mirror.port)], protocol="h2c"))
    client = engine.connect()
    upstream = None
    for _ in range(3):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream = upstream or backend.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert drain(client, b"ok").startswith(b"HTTP/1.1 200 ")
        assert asked.acquire(timeout=5)
    client.close()
    engine.wait("connections_open", 0)
    gone.set()
    while engine.count("mirror_answered") + engine.count("mirror_failed") < 3:     # once more, where nobody looked at it
        readable(seconds=0.01)
    assert engine.count("mirror_answered") == 3 or how not in ("goaway", "refuse")
    mirror.close()


# -- a head that cannot be written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True], ids=["passed on", "answered"])
def test_a_response_that_grows_beyond_all_bounds_ends_its_connection_alone(start_http2, answered):
    """Filters of a rule may add 64 fields of 4 KiB: more than a worker writes at once."""
    large = ir.HeaderFilter(on="response", add=tuple((f"x-{n}", "v" * 4096) for n in range(64)))
    filters = (large, ir.AnswerFilter(status=500, reason="")) if answered else (large,)

    async def serve(request):
        await request.ended.wait()
        await request.answer(b"ok")

    def plan(addresses):
        return one_rule(addresses, protocol="h2c", filters=filters)

    engine, _ = start_http2(serve, make_plan=plan)
    for _ in range(3):
        client = Http2(engine.connect())
        streams = [client.ask() for _ in range(3)]
        assert client.over(streams[0]) != "ended"
        client.goodbye()
        old = engine.connect()
        old.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        old.recv(100)
    engine.wait("requests_open", 0)
