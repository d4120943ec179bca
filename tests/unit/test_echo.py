"""The echo backend tells what arrived, and is a WebSocket at /ws."""
import asyncio
import json
import os

import pytest
import uvloop

from gwfast.echo import Echo, Fast, WebSocket
from gwfast.observe.h11_server import Server


def exchange(data, until, protocol=None):
    """Send bytes to an echo backend named 'shop' and return what comes until `until(bytes)`."""
    async def main():
        loop = asyncio.get_running_loop()
        server = Server(Echo("shop", "infra").answer)
        listening = await loop.create_server(protocol or server, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        got = b""
        async with asyncio.timeout(20):
            for part in data if isinstance(data, list) else [data]:
                writer.write(part)
                await writer.drain()
            while not until(got):
                more = await reader.read(65536)
                assert more, got
                got += more
        writer.close()
        server.close()
        listening.close()
        return got
    return uvloop.run(main())


def whole(got):
    head, blank, body = got.partition(b"\r\n\r\n")
    sizes = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank) and len(body) == sizes[0]


def ask(target="/", method="GET", headers=(), body=b""):
    lines = [f"{method} {target} HTTP/1.1", "Host: shop.example:8080", *headers, f"Content-Length: {len(body)}"]
    got = exchange("\r\n".join([*lines, "", ""]).encode() + body, whole)
    head, _, text = got.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), [field.split(": ", 1) for field in fields], text


def test_it_tells_what_arrived():
    status, fields, text = ask("/a/b?c=d", "POST", ["X-TWO: 1", "x-two: 2", "x-empty:", "a_b: c"], b"12345")
    assert status == 200
    assert ["Content-Type", "application/json"] in fields
    assert json.loads(text) == {
        "path": "/a/b?c=d", "host": "shop.example:8080", "method": "POST", "proto": "HTTP/1.1", "bytes": 5,
        "headers": {"X-Two": ["1", "2"], "X-Empty": [""], "A_b": ["c"], "Content-Length": ["5"]},
        "namespace": "infra", "ingress": "", "service": "shop", "pod": "shop",
    }


@pytest.mark.parametrize("target, status", [("/status/404", 404), ("/status/503?x", 503), ("/status/999", 200),
                                            ("/?delay=1ms", 200), ("/?delay=0.001", 200), ("/?delay=x", 200)])
def test_what_the_target_asks_for(target, status):
    assert ask(target)[0] == status


@pytest.mark.parametrize("asked, fields", [
    ("X-Echo-Set-Header:", []),
    ("X-Echo-Set-Header: X-A:1, X-B: two words,x-a:3", [["X-A", "1"], ["X-B", "two words"], ["x-a", "3"]]),
    ("X-Echo-Set-Header: nonsense", []),
    ("X-Echo-Set-Header: x bad name:1,Content-Length:7,:x, x-ok:1", [["x-ok", "1"]]),
])
def test_headers_that_are_asked_for_are_set(asked, fields):
    got = [field for field in ask(headers=[asked])[1] if field[0].lower().startswith("x-")]
    assert got == fields


def frame(payload, opcode=1, mask=b"\x01\x02\x03\x04", first=0x80):
    n = len(payload)
    size = bytes([0x80 | n]) if n < 126 else b"\xfe" + n.to_bytes(2) if n < 65536 else b"\xff" + n.to_bytes(8)
    return bytes([first | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def plain(payload, opcode=1, first=0x80):
    n = len(payload)
    size = bytes([n]) if n < 126 else b"\x7e" + n.to_bytes(2) if n < 65536 else b"\x7f" + n.to_bytes(8)
    return bytes([first | opcode]) + size + payload


HANDSHAKE = (b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


@pytest.mark.parametrize("payload, opcode", [(b"hello", 1), (b"", 2), (os.urandom(125), 2), (os.urandom(126), 2),
                                             (os.urandom(70_000), 2), (b"are you there", 9)])
def test_a_websocket_sends_back(payload, opcode):
    expected = plain(payload, 10 if opcode == 9 else opcode) + plain(b"\x03\xe8", 8)
    got = exchange([HANDSHAKE + frame(payload, opcode)[:3], frame(payload, opcode)[3:], frame(b"\x03\xe8", 8)],
                   lambda got: got.endswith(expected))
    assert got.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in got  # RFC 6455 1.3's example


def test_every_split_of_frames_is_the_same():
    class Transport:
        def __init__(self):
            self.got = b""

        def write(self, data):
            self.got += data

        def close(self):
            self.got += b"closed"

    stream = frame(b"one") + frame(b"tw", first=0) + frame(b"o" * 200, 0) + frame(b"", 8)
    whole_one = Transport()
    WebSocket(whole_one, stream)
    assert whole_one.got.endswith(plain(b"", 8) + b"closed")
    for at in range(len(stream)):
        split = Transport()
        WebSocket(split, stream[:at]).data_received(stream[at:])
        assert split.got == whole_one.got


@pytest.mark.parametrize("request_bytes", [HANDSHAKE.replace(b": 13", b": 8"),
                                           HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X")])
def test_a_bad_handshake_is_400(request_bytes):
    assert exchange(request_bytes, whole).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("at", range(1, 40, 7))
def test_fast_answers_each_head_with_35_bytes(at):
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    got = exchange([request * 2 + request[:at], request[at:]], lambda got: got.count(b"HTTP/1.1 200 OK") == 3,
                   protocol=lambda: Fast("fast"))
    assert len(got.rpartition(b"\r\n\r\n")[2]) == 35 and b"fast" in got
