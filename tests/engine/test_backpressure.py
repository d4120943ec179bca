"""Sides that are slower than the other: everything arrives, in order, once. Sockets have small buffers, so that they fill."""
import socket
import threading

import pytest
from support.scripted import head, rest
from support.bulk import BODY, SIZE, SMALL, narrow, sender, take
from support.waiting import elapse

SHORT = 0.15


def chunked(data: bytes, piece: int = 100_000) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for at in range(0, len(data), piece)
                    if (part := data[at:at + piece]))


def dechunked(data: bytes) -> tuple[bytes, bytes]:
    """The content, and what follows the last chunk's line."""
    content, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        n = int(data[at:end], 16)
        if n == 0:
            return b"".join(content), data[end + 2:]
        content.append(data[end + 2:end + 2 + n])
        at = end + 4 + n


@pytest.fixture
def slow(backend):
    backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)   # what it accepts inherits this
    return backend


@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
def test_download(start, backend, framing):
    engine = start([("127.0.0.1", backend.port)])
    client = narrow(engine)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    start_line = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        thread = sender(upstream, start_line + b"Content-Length: %d\r\n\r\n" % SIZE, BODY)
    elif framing == "chunks":
        thread = sender(upstream, start_line + b"Transfer-Encoding: chunked\r\n\r\n", chunked(BODY), b"0\r\nX-Sum: 1\r\n\r\n")
    else:
        thread = sender(upstream, start_line + b"\r\n", BODY, ends=True)
    engine.wait("requests_open", 1)
    answer = head(client)
    if framing == "length":
        assert take(client, SIZE) == BODY
    else:
        assert b"Transfer-Encoding: chunked\r\n" in answer
        got, mark = b"", b"0\r\nX-Sum: 1\r\n\r\n" if framing == "chunks" else b"0\r\n\r\n"
        while not got.endswith(b"\r\n" + mark):
            data = client.recv(50000)
            assert data
            got += data
        assert dechunked(got) == (BODY, mark[3:])
    thread.join()
    engine.wait("requests_open", 0)
    assert engine.count("connections_open") == 1


@pytest.mark.parametrize("framing", ["length", "chunks", "trailers"])
def test_upload(start, slow, framing):
    engine = start([("127.0.0.1", slow.port)])
    client = engine.connect()
    post = b"POST / HTTP/1.1\r\nHost: a\r\n"
    if framing == "length":
        thread = sender(client, post + b"Content-Length: %d\r\n\r\n" % SIZE, BODY)
    else:
        end = b"0\r\nX-Sum: 1\r\n\r\n" if framing == "trailers" else b"0\r\n\r\n"
        thread = sender(client, post + b"Transfer-Encoding: chunked\r\n\r\n", chunked(BODY), end)
    upstream = slow.accept()
    head(upstream)
    if framing == "length":
        assert take(upstream, SIZE) == BODY
    else:
        got = b""
        while not got.endswith(b"\r\n" + end):
            got += upstream.recv(50000)
        assert dechunked(got) == (BODY, end[3:])
    thread.join()
    upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 204 ")


def test_pipelined_answers_wait_for_their_turn(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client = narrow(engine)
    client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))

    def serve():
        upstream = backend.accept()
        for _ in range(3):
            try:
                path = head(upstream).split()[1]
            except EOFError:       # not kept: when it was to be parked, more might have come
                upstream = backend.accept()
                path = head(upstream).split()[1]
            sender(upstream, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Path: %s\r\n\r\n" % (SIZE, path), BODY).join()
    thread = threading.Thread(target=serve)
    thread.start()
    for n in range(3):
        assert b"X-Path: /%d\r\n" % n in head(client)
        assert take(client, SIZE) == BODY
    thread.join()


def test_tunnel_both_ways(start, slow):
    engine = start([("127.0.0.1", slow.port)])
    client = narrow(engine)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    upstream = slow.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert head(client).startswith(b"HTTP/1.1 101 ")
    threads = [sender(client, BODY, ends=True), sender(upstream, BODY, ends=True)]
    got = {}
    readers = [threading.Thread(target=lambda side=side: got.update({side: rest(side)})) for side in (client, upstream)]
    for thread in (*readers, *threads):
        thread.start() if not thread.ident else None
    for thread in (*threads, *readers):
        thread.join()
    assert got[client] == BODY and got[upstream] == BODY
    engine.wait("connections_open", 0)


def test_a_backend_that_takes_nothing_is_504(start, slow):
    engine = start([("127.0.0.1", slow.port)], body_timeout=SHORT)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
    slow.accept()
    client.setblocking(False)
    answer = b""
    while not answer:
        try:
            client.send(BODY)
        except BlockingIOError:
            pass
        except ConnectionError:
            break
        try:
            answer = client.recv(100)
        except BlockingIOError:
            elapse(0.01)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert engine.count("upstream_timeout") == 1


def test_a_body_that_trickles_is_408(start, backend):
    """Each byte comes in time, but fewer than the least rate."""
    engine = start([("127.0.0.1", backend.port)], body_timeout=2 * SHORT)
    client = engine.connect()
    client.settimeout(SHORT / 3)
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    answer = b""
    for _ in range(900):
        try:
            client.sendall(b"x")
            answer = client.recv(100)
            break
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")
