"""Upgraded connections: every byte of both directions, each end on its own, nobody held for ever."""
import socket
import struct
import threading

import pytest
from support.http2_client import Http2
from support.scripted import head, rest

UPGRADE = b"%s / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def tunnel(engine, backend, method=b"GET", greeting=b""):
    client = engine.connect()
    client.sendall(UPGRADE % method)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(SWITCHED + greeting)
    assert head(client).startswith(b"HTTP/1.1 101 ")
    return client, upstream


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_bytes_behind_the_101_belong_to_the_tunnel(start, backend, method):
    client, upstream = tunnel(start([("127.0.0.1", backend.port)]), backend, method, b"hello")
    assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    client.sendall(b"and you")
    assert upstream.recv(7, socket.MSG_WAITALL) == b"and you"


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_each_direction_ends_on_its_own(start, backend, first):
    """One side says its last byte; what the other still says, and its end in the same moment, arrives."""
    engine = start([("127.0.0.1", backend.port)])
    early, late = tunnel(engine, backend)[::1 if first == "client" else -1]
    early.sendall(b"last words")
    early.shutdown(socket.SHUT_WR)
    assert rest(late) == b"last words"
    with engine.lock:                  # bytes and end are there before the engine looks
        late.sendall(b"x" * 100000)
        late.close()
    assert rest(early) == b"x" * 100000
    engine.wait("requests_open", 0)
    engine.wait("connections_open", 0)
    assert engine.count("client_gone") == 0


HARD = struct.pack("ii", 1, 0)
TUNNELS = {8: 1}


async def silent(request):
    await request.head(200)
    await request.ended.wait()
    request.ended.clear()
    await request.ended.wait()


def open_websocket(client: Http2) -> int:
    stream = client.protocol.get_next_available_stream_id()
    client.protocol.send_headers(stream, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"),
                                          (":path", "/"), ("sec-websocket-version", "13")])
    client.flush()
    return stream


def tunnel_of_http2(engine, backend):
    """A tunnel from a client of HTTP/2 to a backend of HTTP/1.1: the client, its stream, the backend's connection."""
    client = Http2(engine.connect(), lenient=True)
    stream = open_websocket(client)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(SWITCHED)
    assert client.head(stream)[b":status"] == b"200"
    return client, stream, upstream


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_a_reset_stays_one(start, backend, first):
    engine = start([("127.0.0.1", backend.port)])
    early, late = tunnel(engine, backend)[::1 if first == "client" else -1]
    early.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
    early.close()
    assert rest(late) == b"<RST>"
    engine.wait("requests_open", 0)
    engine.wait("connections_open", 0)


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "connection"])
def test_a_reset_of_http2_is_one_for_a_backend_of_http1(start, backend, whole):
    """RFC 9113 8.5: whatever ends the stream but its own end is an RST for the other side."""
    engine = start([("127.0.0.1", backend.port)])
    client, stream, upstream = tunnel_of_http2(engine, backend)
    if whole:
        client.socket.close()
    else:
        client.protocol.reset_stream(stream, 8)
        client.flush()
    assert rest(upstream) == b"<RST>"


def test_an_end_of_http2_is_one_for_a_backend_of_http1(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client, stream, upstream = tunnel_of_http2(engine, backend)
    client.protocol.end_stream(stream)
    client.flush()
    assert rest(upstream) == b""
    upstream.close()
    assert client.over(stream) == "ended"


def test_a_reset_of_http1_is_one_for_a_client_of_http2(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client, stream, upstream = tunnel_of_http2(engine, backend)
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
    upstream.close()
    assert isinstance(client.over(stream), int)


def test_resets_of_tunnels_over_http2_backends(start_http2):
    engine, backend = start_http2(silent, TUNNELS)
    client = engine.connect()
    client.sendall(UPGRADE % b"GET")
    assert head(client).startswith(b"HTTP/1.1 101 ")
    backend.do(backend.requests[0].rst, 8)
    assert rest(client) == b"<RST>"
    client = engine.connect()
    client.sendall(UPGRADE % b"GET")
    assert head(client).startswith(b"HTTP/1.1 101 ")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
    client.close()
    engine.wait("requests_open", 0)
    while backend.requests[1].reset is None:
        threading.Event().wait(0.005)


def test_a_client_that_takes_nothing_from_a_tunnel_is_cut(start, backend):
    engine = start([("127.0.0.1", backend.port)], send_timeout=0.15)
    client, upstream = tunnel(engine, backend)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            upstream.sendall(bytes(65536))
    engine.wait("send_timeout", 1)
    engine.wait("connections_open", 0)
    assert rest(client).endswith(b"<RST>")
