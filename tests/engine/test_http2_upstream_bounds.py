"""Backends of HTTP/2: WebSockets as extended CONNECT, and what floods of either side cost."""
import functools
import os
import socket
import struct
import threading

import pytest
from h2.settings import SettingCodes
from support.scripted import head, one_rule, rest
from support.http2_upstream import GET, block, exchange, frame

OPENING = (b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")    # of RFC 6455 1.3
TUNNELS = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}


async def upper(request):
    """Answers in upper case, as it comes."""
    if request.fields[b":method"] != b"CONNECT":
        await request.answer(request.fields.get(b"upgrade", b"none"), 426)
        return
    if request.fields[b":path"] == b"/no":
        await request.answer(b"no", 403)
        return
    await request.head(200, (b"sec-websocket-protocol", b"x"))
    while not request.ended.is_set():
        request.connection.news.clear()
        body, request.body = request.body, b""
        await request.data(body.upper())
        if not request.body:
            await request.connection.news.wait()
    await request.data(b"", end=True)


def test_a_websocket_is_an_extended_connect(start_http2):
    engine, backend = start_http2(upper, TUNNELS)
    client = engine.connect()
    client.sendall(OPENING)
    got = head(client)
    assert got.startswith(b"HTTP/1.1 101 ") and b"sec-websocket-protocol: x\r\n" in got
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in got
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in got
    request, = backend.requests
    assert request.fields[b":method"] == b"CONNECT" and request.fields[b":protocol"] == b"websocket"
    assert request.fields[b":path"] == b"/chat" and request.fields[b"sec-websocket-version"] == b"13"
    assert not request.fields.keys() & {b"sec-websocket-key", b"upgrade", b"connection"}
    for n in range(3):
        client.sendall(b"hello %d" % n)
        assert client.recv(100) == b"HELLO %d" % n
    client.sendall(b"x" * 300_000)
    n = 0
    while n < 300_000:
        data = client.recv(65536)
        assert data == b"X" * len(data)
        n += len(data)
    client.shutdown(socket.SHUT_WR)
    assert rest(client) == b""
    engine.wait("requests_open", 0)
    engine.wait("upstream_idle", 1)


def test_a_websocket_that_is_refused(start_http2):
    engine, backend = start_http2(upper, TUNNELS)
    client = engine.connect()
    got, body = exchange(client, OPENING.replace(b"/chat", b"/no"))
    assert got.startswith(b"HTTP/1.1 403 ") and body == b"no"
    engine.wait("upstream_idle", 1)
    assert exchange(client, GET)[0].startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize(("settings", "asked"), [({}, OPENING), (TUNNELS, OPENING.replace(b"websocket", b"other"))],
                         ids=["no tunnels", "another upgrade"])
def test_an_upgrade_that_cannot_be_is_a_request_without(start_http2, settings, asked):
    engine, backend = start_http2(upper, settings)
    got, body = exchange(engine.connect(), asked)
    assert got.startswith(b"HTTP/1.1 426 ") and body == b"none"


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


FLOODS = {
    "pings": frame(6, 0, 0, b"12345678") * 4000,
    "settings": frame(4, 0, 0, b"") * 4000,
    "windows": frame(8, 0, 1, b"\0\0\0\1") * 4000,
    "tables": frame(4, 0, 0, b"\0\1\0\0\0\0" * 1000),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_backend_that_does_not_read_its_answers(start, backend, flood):
    """What waits for it is bounded: it is left alone."""
    engine = start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"), response_timeout=3)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    upstream.sendall(frame(4, 0, 0, b""))
    threading.Event().wait(0.1)
    before, sent = resident(), 0
    try:
        for _ in range(200):
            upstream.sendall(flood)
            sent += len(flood)
    except (TimeoutError, ConnectionError):
        pass
    assert resident() - before < 8 << 20
    head(client)
    engine.wait("requests_open", 0)
    assert engine.count("bugs") == 0


def test_clients_that_come_and_go_open_no_more_than_others(start, backend):
    """Cancelled streams count until the backend was told; one that does not read is asked no more than there may be."""
    engine = start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"), connect_timeout=1)
    client = engine.connect()
    client.sendall(GET)
    upstream = backend.accept()
    upstream.sendall(frame(4, 0, 0, b"\0\3\0\0\0\x0a"))
    began = b""
    while not began.endswith(frame(4, 1, 0, b"")):     # until our SETTINGS are acknowledged the bound is another
        began += upstream.recv(1)
    for _ in range(200):
        other = socket.create_connection(("127.0.0.1", engine.port))
        other.sendall(GET)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
    for name, n in (("connections", 201), ("connections_open", 1), ("requests_open", 1)):    # all of them have come, and gone
        engine.wait(name, n)
    upstream.sendall(frame(1, 5, 1, block((b":status", b"204"))))
    assert head(client).startswith(b"HTTP/1.1 204 ")
    got = began
    upstream.settimeout(0.3)
    try:
        while data := upstream.recv(65536):
            got += data
    except TimeoutError:
        pass
    at, open_now, most = 24, set(), 0
    while at < len(got):
        kind, stream = got[at + 3], int.from_bytes(got[at + 5:at + 9], "big")
        if kind == 1:
            open_now.add(stream)
        elif kind == 3:
            open_now.remove(stream)
        most = max(most, len(open_now))
        at += 9 + int.from_bytes(got[at:at + 3], "big")
    assert most <= 10 and open_now == {1}
    engine.wait("upstream_open", 1)                      # the others never opened
