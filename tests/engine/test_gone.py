"""Clients that go away: the backend hears of it at once, whatever the client waits for; who only ends its direction is answered."""
import contextlib
import functools
import socket
import struct
import threading

import h2.events
import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule, readable, rest

from gwfast.plan import ir

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n"
LATER = 0.15                       # longer after a request than limits.HALF_CLOSE_SOON: nobody takes it for a part of it


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def hears(upstream: socket.socket, seconds: float = 5) -> bool:
    """Whether the backend is told that its request is over."""
    return bool(readable(upstream, seconds=seconds)) and rest(upstream) in (b"", b"<RST>")


@pytest.mark.parametrize("begun", [b"", BEGUN], ids=["waits", "listens"])
@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize("asks", [GET % b"", POST + b"body"], ids=["GET", "POST"])
def test_the_backend_hears_of_it(start, backend, asks, leave, begun):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(asks)
    upstream = backend.accept()
    head(upstream)
    if asks.startswith(b"POST"):
        assert upstream.recv(4, socket.MSG_WAITALL) == b"body"
    if begun:
        upstream.sendall(begun)
        assert head(client).startswith(b"HTTP/1.1 200 ")
        assert client.recv(6, socket.MSG_WAITALL) == b"1\r\n\n\r\n"
    wait(LATER)
    leave(client)
    assert hears(upstream)
    engine.wait("requests_open", 0)
    engine.wait("connections_open", 0)
    assert engine.count("client_gone") == 1


def test_a_backend_of_http2_hears_of_it(start_http2):
    came, told = threading.Event(), threading.Event()

    async def handler(request):
        came.set()
        await request.ended.wait()
        if request.reset is None:
            request.ended.clear()
            await request.ended.wait()
        assert request.reset == 8          # CANCEL
        told.set()

    engine, _ = start_http2(handler)
    client = engine.connect()
    client.sendall(GET % b"")
    assert came.wait(5)
    wait(LATER)
    client.close()
    assert told.wait(5)
    assert engine.count("client_gone") == 1


@pytest.mark.parametrize("begun", [b"", BEGUN], ids=["waits", "listens"])
def test_a_client_of_http2_that_closes(start, backend, begun):
    engine = start([("127.0.0.1", backend.port)])
    client = Http2(engine.connect())
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    if begun:
        upstream.sendall(begun)
        client.until(h2.events.DataReceived, stream)
    client.socket.close()
    assert hears(upstream)
    engine.wait("connections_open", 0)


@pytest.mark.parametrize("asks", [GET % b"", POST + b"body"], ids=["GET", "POST"])
@pytest.mark.parametrize("slow", [0, LATER], ids=["answered at once", "answered later"])
def test_who_ends_its_direction_behind_its_request_is_answered(start, backend, asks, slow):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    with engine.lock:                  # the end comes with the request, or behind it
        client.sendall(asks)
        client.shutdown(socket.SHUT_WR)
    upstream = backend.accept()
    head(upstream)
    wait(slow)
    upstream.sendall(OK)
    assert rest(client).endswith(b"\r\n\r\nok")
    engine.wait("connections_open", 0)
    assert engine.count("client_gone") == 0


def test_who_ends_its_direction_behind_requests_is_answered_all_of_them(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(b"".join(GET % b"%d" % n for n in range(3)))
    client.shutdown(socket.SHUT_WR)
    upstream = backend.accept()
    for n in range(3):
        assert head(upstream).startswith(b"GET /%d " % n)
        upstream.sendall(OK)
    assert rest(client).count(b"200 OK") == 3


def test_a_body_whose_client_has_ended_arrives(start, backend):
    """The backend takes it slowly: the end is known long before the body is passed on."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    size = 20_000_000
    sender = threading.Thread(target=lambda: (
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)), client.shutdown(socket.SHUT_WR)))
    sender.start()
    upstream = backend.accept()
    head(upstream)
    wait(3 * LATER)
    got = 0
    while got < size:
        got += len(upstream.recv(1 << 20))
    upstream.sendall(OK)
    sender.join()
    assert rest(client).endswith(b"\r\n\r\nok")
    assert engine.count("client_gone") == 0


def test_who_ended_its_direction_and_takes_a_long_answer_gets_all_of_it(start, backend):
    """It was sent something and did not answer with an RST: it is there."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(GET % b"")
    client.shutdown(socket.SHUT_WR)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(BEGUN)
    for _ in range(14):                # longer than limits.HALF_CLOSE_TIMEOUT
        wait(0.1)
        upstream.sendall(b"1\r\n\n\r\n")
    upstream.sendall(b"0\r\n\r\n")
    assert rest(client).endswith(b"0\r\n\r\n")
    assert engine.count("client_gone") == 0


def test_who_ended_its_direction_and_is_not_answered_is_given_up(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(GET % b"")
    client.close()
    upstream = backend.accept()
    head(upstream)
    assert hears(upstream)
    assert engine.count("client_gone") == 1


def test_a_request_that_was_not_connected_yet_goes_nowhere(start):
    """The backend's queue is full: nobody waits for its connection any more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        engine = start([full.getsockname()])
        client = engine.connect()
        client.sendall(GET % b"")
        engine.wait("upstream_connects", 1)
        wait(LATER)
        client.close()
        engine.wait("client_gone", 1)
        engine.wait("upstream_open", 0)


def test_who_waits_for_another_attempt(start, backend):
    rule = functools.partial(one_rule, retry=ir.Retry(codes=(503,), attempts=5, backoff=60))
    engine = start([("127.0.0.1", backend.port)], rule)
    client = engine.connect()
    client.sendall(GET % b"")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
    engine.wait("upstream_retries", 1)
    wait(LATER)
    client.close()
    engine.wait("client_gone", 1)
    engine.wait("requests_open", 0)
