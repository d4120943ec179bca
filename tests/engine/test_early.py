"""What happens before, beside or behind its time: nothing is missed, nothing that is cut looks whole."""
import socket
import struct
import threading

import pytest
from support.scripted import head, rest

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HARD = struct.pack("ii", 1, 0)


def test_a_backend_that_speaks_first_is_heard(start, backend):
    """Its answer lies there before the gateway knows that it is connected; no other event tells of it."""
    engine = start([("127.0.0.1", backend.port)])
    with engine.lock:
        client = engine.connect()
        client.sendall(GET)
        engine.engine.drain()          # accepts, reads, dials; the next round finds connection and answer at once
        assert engine.count("upstream_connects") == 1
        backend.accept().sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("minor", [0, 1])
def test_a_reset_does_not_end_a_body(start, backend, minor):
    """A body until the connection's end that ends with an RST is cut: the client must see that."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.%d\r\nHost: a\r\n\r\n" % minor)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")
    got = head(client) + client.recv(8 if minor else 3, socket.MSG_WAITALL)
    assert b"abc" in got
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
    upstream.close()
    assert rest(client) == b"<RST>"
    engine.wait("upstream_cut", 1)


def test_an_upload_may_take_longer_than_a_response(start, backend):
    """A backend that begins its answer first is silent because the client is not done."""
    engine = start([("127.0.0.1", backend.port)], stream_idle_timeout=0.1)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
    assert head(client).startswith(b"HTTP/1.1 200 ")
    for _ in range(10):
        client.sendall(b"x")
        assert upstream.recv(1) == b"x"
        threading.Event().wait(0.05)
    upstream.sendall(b"ay")
    assert rest(client) == b"okay"
