"""Upgraded connections: every byte of both directions, each end on its own, nobody held for ever."""
import socket

import pytest
from scripted import head, rest

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


def test_a_client_that_takes_nothing_from_a_tunnel_is_cut(start, backend):
    engine = start([("127.0.0.1", backend.port)], send_timeout=0.15)
    client, upstream = tunnel(engine, backend)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            upstream.sendall(bytes(65536))
    engine.wait("send_timeout", 1)
    engine.wait("connections_open", 0)
    assert rest(client).endswith(b"<RST>")
