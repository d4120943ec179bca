"""Bodies with a length that come faster than they are read: what goes by splice(2) is whole, in order, and ends as it should."""
import os
import socket

import pytest
from support.scripted import head, rest
from support.bulk import BODY, SIZE, narrow, sender, take

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def pipes() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
        except FileNotFoundError:
            pass
    return found


def post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


def answer(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


@pytest.fixture
def engine(start, backend):
    return start([("127.0.0.1", backend.port)])


@pytest.mark.parametrize("size", [SIZE, 32768, 32769, 65536, 65537, 98304, 131073], ids=str)
def test_a_download_is_whole_and_the_connection_goes_on(engine, backend, size):
    client = engine.connect()
    client.sendall(NEXT + NEXT)
    upstream = backend.accept()
    head(upstream)
    thread = sender(upstream, answer(size) + BODY[:size])
    head(client)
    assert take(client, size) == BODY[:size]
    thread.join()
    assert head(upstream).startswith(b"GET /next")
    upstream.sendall(EMPTY)
    assert head(client).startswith(b"HTTP/1.1 200")
    assert engine.count("upstream_connects") == 1


@pytest.mark.parametrize("size", [SIZE, 32768, 32769, 65536, 65537, 98304, 131073], ids=str)
def test_an_upload_is_whole_and_the_connection_goes_on(engine, backend, size):
    client = engine.connect()
    thread = sender(client, post(size) + BODY[:size] + NEXT)
    upstream = backend.accept()
    head(upstream)
    assert take(upstream, size) == BODY[:size]
    upstream.sendall(EMPTY)
    thread.join()
    assert head(upstream).startswith(b"GET /next")
    upstream.sendall(EMPTY)
    assert head(client) and head(client)
    engine.wait("requests_open", 0)


def test_bulk_goes_through_a_pipe(engine, backend):
    before = pipes()
    client = engine.connect()
    client.sendall(NEXT)
    upstream = backend.accept()
    head(upstream)
    thread = sender(upstream, answer(SIZE) + BODY)
    head(client)
    assert take(client, SIZE) == BODY
    thread.join()
    assert pipes() == before + 2


def test_what_a_slow_client_does_not_take_is_kept(engine, backend):
    client = narrow(engine)
    client.sendall(NEXT)
    upstream = backend.accept()
    head(upstream)
    thread = sender(upstream, answer(SIZE) + BODY)
    head(client)
    got = b"".join(take(client, 1000) for _ in range(500))
    assert got + take(client, SIZE - len(got)) == BODY
    thread.join()


def test_an_answer_that_is_cut_is_cut_for_the_client(engine, backend):
    client = engine.connect()
    client.sendall(NEXT)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(answer(SIZE) + BODY[:SIZE // 2])
    upstream.close()
    head(client)
    got = rest(client)
    assert got.endswith(b"<RST>") and BODY.startswith(got[:-5])
    engine.wait("requests_open", 0)


def test_a_client_that_leaves_ends_its_upstream(engine, backend):
    client = engine.connect()
    client.sendall(NEXT)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(answer(SIZE) + BODY[:SIZE // 2])
    head(client)
    assert take(client, 200_000) == BODY[:200_000]
    client.close()
    engine.wait("requests_open", 0)
    assert rest(upstream) in (b"", b"<RST>")


def test_an_upload_that_is_cut_is_cut_for_the_backend(engine, backend):
    client = engine.connect()
    client.sendall(post(SIZE) + BODY[:SIZE // 2])
    upstream = backend.accept()
    head(upstream)
    assert take(upstream, SIZE // 2) == BODY[:SIZE // 2]
    client.close()
    assert rest(upstream) in (b"", b"<RST>")
    engine.wait("requests_open", 0)


def test_a_backend_that_answers_early_and_closes_is_heard(engine, backend):
    client = engine.connect()
    client.sendall(post(SIZE) + BODY[:SIZE // 4])
    upstream = backend.accept()
    head(upstream)
    take(upstream, SIZE // 4)
    upstream.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    upstream.shutdown(socket.SHUT_WR)
    assert head(client).startswith(b"HTTP/1.1 413")
    engine.wait("requests_open", 0)


def test_a_backend_that_breaks_under_an_upload_is_502(engine, backend):
    client = engine.connect()
    thread = sender(client, post(SIZE) + BODY[:SIZE // 2])
    upstream = backend.accept()
    head(upstream)
    take(upstream, 300_000)
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    upstream.close()
    assert head(client).startswith(b"HTTP/1.1 502")
    thread.join()
    engine.wait("requests_open", 0)
