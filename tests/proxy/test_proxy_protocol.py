"""The PROXY protocol, required on a listener: who a connection is really from is said before its first request."""
import json
import socket
import struct

import pytest
from support.gateway import free_port, gateway, listener, route, rule, service

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, body: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(body)) + body


IPV4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 5678, 80)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack("!HH", 5678, 80)
TLV = b"\x04\x00\x03abc"

# What comes first, and the client that the backend is told of.
HEADERS = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 127.0.0.1 5678 80\r\n", "192.0.2.7"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 ::1 5678 80\r\n", "2001:db8::7"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v1 UNKNOWN with more": (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "127.0.0.1"),
    "v2 TCP4": (v2(1, 0x11, IPV4), "192.0.2.7"),
    "v2 TCP6": (v2(1, 0x21, IPV6), "2001:db8::7"),
    "v2 TCP4 with TLVs": (v2(1, 0x11, IPV4 + TLV), "192.0.2.7"),
    "v2 LOCAL": (v2(0, 0x00, b""), "127.0.0.1"),
    "v2 LOCAL with an address": (v2(0, 0x11, IPV4), "127.0.0.1"),
    "v2 UNSPEC": (v2(1, 0x00, b""), "127.0.0.1"),
    "v2 UNSPEC with something": (v2(1, 0x00, b"abc"), "127.0.0.1"),
    "v2 UNIX": (v2(1, 0x31, b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")), "127.0.0.1"),
    "v2 UNIX datagrams": (v2(1, 0x32, bytes(216) + TLV), "127.0.0.1"),
    "v2 UDP4": (v2(1, 0x12, IPV4), "127.0.0.1"),
    "v2 IPv4 of no transport": (v2(1, 0x10, IPV4), "127.0.0.1"),
    "v2 of no known family": (v2(1, 0x51, bytes(20)), "127.0.0.1"),
    "v2 of no known transport": (v2(1, 0x1F, IPV4), "127.0.0.1"),
    "v2 LOCAL of a UNIX socket": (v2(0, 0x31, bytes(216)), "127.0.0.1"),
    "v2 LOCAL of no known family": (v2(0, 0xFF, b"x"), "127.0.0.1"),
    "v2 TCP6 with many TLVs": (v2(1, 0x21, IPV6 + TLV * 600), "2001:db8::7"),
    "v2 TCP4 with TLVs that are none": (v2(1, 0x11, IPV4 + b"\x04\xff"), "192.0.2.7"),
}

REFUSED = {
    "none": b"",
    "none, but a method like it": b"PROXYX / HTTP/1.1\r\nHost: a\r\n\r\n",
    "v1 of another family": b"PROXY UDP4 192.0.2.7 127.0.0.1 5678 80\r\n",
    "v1 with a bad address": b"PROXY TCP4 192.0.2.777 127.0.0.1 5678 80\r\n",
    "v1 with a bad port": b"PROXY TCP4 192.0.2.7 127.0.0.1 5678 800000\r\n",
    "v1 without CR": b"PROXY TCP4 192.0.2.7 127.0.0.1 5678 80\n",
    "v1 without end": b"PROXY TCP4 " + b"1" * 200,
    "v2 of another version": v2(1, 0x11, IPV4, version=3),
    "v2 of another command": v2(7, 0x11, IPV4),
    "v2 longer than any": v2(1, 0x11, IPV4 + bytes(4096)),
    "v2 too short for its family": v2(1, 0x11, IPV4[:8]),
    "v2 with a broken signature": SIGNATURE[:-1] + b"X" + v2(1, 0x11, IPV4)[12:],
}


@pytest.fixture
def required(run, backend):
    made = backend("one")
    one = gateway(listener(free_port(), "web"))
    one["metadata"]["annotations"] = {"gwfast.dev/proxy-protocol": "web"}
    return run(one, service("one", made), route("r", rule("one"))), made


def test_accepted(required) -> None:
    gw, made = required
    for case, (header, client) in HEADERS.items():
        single = [bytes([b]) for b in header] if len(header) < 300 else [header[:20], header[20:]]
        for pieces in ([header + GET], [header, GET], [header[:9], header[9:] + GET], [*single, GET]):
            stream = gw.connect()
            stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                stream.send(piece)
            fields = json.loads(stream.response().body)["fields"]
            assert dict(fields)["X-Forwarded-For"] == client, case
            stream.close()


def test_refused(required) -> None:
    """The connection ends without a word; nothing reaches the backend."""
    gw, made = required
    for case, data in REFUSED.items():
        stream = gw.connect()
        stream.send(data + GET)
        stream.half_close()
        assert stream.rest() == b"", case
        stream.close()
    assert not made.requests


def test_a_listener_without_it_takes_none(run, backend) -> None:
    gw = run(gateway(free_port()), service("one", backend("one")), route("r", rule("one")))
    assert gw.send(HEADERS["v1 TCP4"][0] + GET).startswith(b"HTTP/1.1 400 ")
    assert gw.send(HEADERS["v2 TCP4"][0] + GET).startswith(b"HTTP/1.1 400 ")
