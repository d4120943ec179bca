"""Every deadline of the engine, with limits short enough to wait for. What is asserted is what happens, never how fast."""
import socket

import pytest
from scripted import head, rest

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
    engine = start([("127.0.0.1", backend.port)], upstream_body_timeout=SHORT)
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
