"""Bounds: what clients and backends do cannot make the gateway hold much, nor stop it for others."""
import os
import socket
import threading
import time

import pytest
from support.backend import wait
from support.gateway import free_port, gateway, route, rule, service, until

MOST = (64 if os.environ.get("GWFAST_BUILD") == "asan" else 8) << 20  # the sanitizer keeps what was freed for a while
GET = b"GET %s HTTP/1.1\r\nHost: any.example\r\n\r\n"


def resident(gateway) -> int:
    worker, = gateway.workers()
    with open(f"/proc/{worker}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def flood(sock: socket.socket, data: bytes, seconds: float = 1.5) -> int:
    """Send until the other side takes no more for a while; bytes that it took."""
    sock.settimeout(0.5)
    sent, end = 0, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            sent += sock.send(data)
    except (TimeoutError, ConnectionError):
        pass
    return sent


def test_pipelining_client_that_reads_nothing(proxy) -> None:
    gw, backend = proxy
    backend.on("/big", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, close=False)
    before = resident(gw)
    with socket.create_connection(("127.0.0.1", gw.port)) as sock:
        flood(sock, GET % b"/big" * 1000)
        assert resident(gw) - before < MOST
        assert gw.get("/other").status == 200
    assert len(backend.seen("/big")) < 1000, "requests wait while nobody reads their answers"


def test_upload_to_a_backend_that_reads_nothing(proxy) -> None:
    gw, backend = proxy
    go_on = threading.Event()
    backend.before_body["/upload"] = lambda stream, message: go_on.wait(60)
    before = resident(gw)
    with socket.create_connection(("127.0.0.1", gw.port)) as sock:
        sock.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        sent = flood(sock, b"x" * 65536)
        assert resident(gw) - before < MOST
        assert sent < 100_000_000
    go_on.set()


def test_many_open_heads(proxy) -> None:
    """Connections that have sent half of a head cost little and disturb nobody."""
    gw, _ = proxy
    before = resident(gw)
    streams = [gw.connect() for _ in range(500)]
    for piece in (b"GET / HTTP/1.1\r\nX-A: ", b"a" * 1000, b"a"):
        for stream in streams:
            stream.send(piece)
    assert gw.get().status == 200
    assert resident(gw) - before < MOST
    for stream in streams:
        stream.close()


def test_many_requests_in_flight(proxy) -> None:
    gw, backend = proxy
    go_on = threading.Event()
    backend.on("/hold", wait(go_on), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    streams = [gw.connect() for _ in range(200)]
    for stream in streams:
        stream.send(GET % b"/hold")
    until(lambda: len(backend.seen("/hold")) == 200)
    assert gw.get().status == 200
    go_on.set()
    for stream in streams:
        assert stream.response().body == b"hi"
        stream.close()


def test_connections_of_one_address_are_capped(run, backend) -> None:
    gw = run(gateway(free_port()), service("one", backend("one")), route("r", rule("one")),
             options=("--connections-per-address", "3"))
    kept = []
    for _ in range(3):
        kept.append(gw.connect())
        kept[-1].send(GET % b"/")
        assert kept[-1].response().status == 200
    more = gw.connect()
    assert more.at_end(), "the fourth is closed at once"
    more.close()
    kept.pop().close()

    def served() -> bool:
        stream = gw.connect()
        try:
            stream.send(GET % b"/")
            return stream.response().status == 200
        except Exception:
            return False
        finally:
            stream.close()
    until(served)
    for stream in kept:
        stream.close()


@pytest.mark.parametrize("garbage", [b"\0" * 100_000, os.urandom(100_000), b"\r\n" * 50_000, b"GET " + b"/" * 100_000],
                         ids=["zeros", "noise", "empty lines", "slashes"])
def test_garbage_ends_one_connection(proxy, garbage: bytes) -> None:
    gw, backend = proxy
    before = resident(gw)
    for _ in range(20):
        stream = gw.connect()
        try:
            stream.send(garbage)
        except ConnectionError:
            pass
        answer = stream.rest()
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), answer[:100]
        stream.close()
    assert resident(gw) - before < MOST
    assert not backend.requests
