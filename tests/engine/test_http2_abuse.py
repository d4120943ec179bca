"""What a client of HTTP/2 may make the engine do: each flood ends with GOAWAY ENHANCE_YOUR_CALM within its budget, takes
little memory, and costs backends little."""
import contextlib
import os
import time
from pathlib import Path

import hpack
import pytest
from support.http2_client import raw_frame
from support.scripted import head
from support.waiting import elapse

from gwfast import limits

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, _, WINDOW_UPDATE, CONTINUATION, UNKNOWN = range(11)
END_STREAM, END_HEADERS = 1, 4
CALM = 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw_frame(SETTINGS, 0, 0)
GET = hpack.Encoder().encode([(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
POST = hpack.Encoder().encode([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
OPEN = raw_frame(HEADERS, END_HEADERS, 1, POST)
# Bytes of resident memory; the sanitizer keeps what was freed for a while.
GROWTH = (64 if os.environ.get("GWFAST_BUILD") == "asan" else 8) << 20
PATIENCE = 0.1             # seconds that another client waits


def reset_pair(stream: int) -> bytes:
    return raw_frame(HEADERS, END_HEADERS | END_STREAM, stream, GET if stream == 1 else b"\x82\x86\xbe\x84") + raw_frame(
        RST_STREAM, 0, stream, bytes(4))


def rapid_reset(times: int) -> list[bytes]:
    return [reset_pair(2 * i + 1) for i in range(times)]


def provoked(times: int, frame) -> list[bytes]:
    """Streams that are made to be reset by us."""
    return [raw_frame(HEADERS, END_HEADERS, 2 * i + 1, POST if i == 0 else b"\x83\x86\xbe\x84") + frame(2 * i + 1)
            for i in range(times)]


FLOODS = {     # frames, and about how many of them are one too many
    "rapid reset": (rapid_reset(2000), limits.STREAM_RESETS),
    "made to reset by an update of nothing": (provoked(2000, lambda id: raw_frame(WINDOW_UPDATE, 0, id, bytes(4))),
                                              limits.STREAM_RESETS),
    "made to reset by a window that overflows": (
        provoked(2000, lambda id: raw_frame(WINDOW_UPDATE, 0, id, b"\x7f\xff\xff\xff")), limits.STREAM_RESETS),
    "made to reset by a priority": (provoked(2000, lambda id: raw_frame(PRIORITY, 0, id, id.to_bytes(4, "big") + b"\0")),
                                    limits.STREAM_RESETS),
    "made to reset by a short priority": (provoked(2000, lambda id: raw_frame(PRIORITY, 0, id, b"\0")), limits.STREAM_RESETS),
    "streams above the limit": ([raw_frame(HEADERS, END_HEADERS, 2 * i + 1, POST if i == 0 else b"\x83\x86\xbe\x84")
                                 for i in range(2000)], limits.STREAM_RESETS),
    "SETTINGS": ([raw_frame(SETTINGS, 0, 0)] * 2000, limits.GLITCHES),
    "PING": ([raw_frame(PING, 0, 0, bytes(8))] * 2000, limits.GLITCHES),
    "empty DATA": ([OPEN, *[raw_frame(DATA, 0, 1)] * 2000], limits.GLITCHES),
    "padding alone": ([OPEN, *[raw_frame(DATA, 8, 1, b"\xff" + bytes(255))] * 2000], limits.GLITCHES),
    "PRIORITY": ([raw_frame(PRIORITY, 0, 1, bytes(5))] * 2000, limits.GLITCHES),
    "unknown frames": ([raw_frame(UNKNOWN, 0, 0, b"x" * 100)] * 2000, limits.GLITCHES),
    "WINDOW_UPDATE": ([OPEN, *[raw_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")] * 10000], limits.WINDOW_UPDATES),
    "CONTINUATION": ([raw_frame(HEADERS, 0, 1, GET[:1]), *[raw_frame(CONTINUATION, 0, 1, GET[1:2])] * 20], limits.CONTINUATIONS),
    "empty CONTINUATION": ([raw_frame(HEADERS, 0, 1, GET), *[raw_frame(CONTINUATION, 0, 1)] * 20], limits.CONTINUATIONS),
    # an entry of 4000 bytes, named in one octet again and again
    "HPACK bomb": ([raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000 + b"\xbe" * 12000)], 1),
}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def talk(connection, frames: list[bytes]) -> bytes:
    """Send it all, whatever comes of it, and read to the end."""
    got = b""
    with contextlib.suppress(OSError):
        connection.sendall(PREFACE)
        for at in range(0, len(frames), 50):
            connection.sendall(b"".join(frames[at:at + 50]))
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            got += data
    return got


def frames_of(got: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while len(got) >= 9:
        n = int.from_bytes(got[:3], "big")
        found.append((got[3], int.from_bytes(got[5:9], "big"), got[9:9 + n]))
        got = got[9 + n:]
    return found


@pytest.mark.parametrize("name", FLOODS)
def test_flood(backend, start, name):
    frames, budget = FLOODS[name]
    running = start([("127.0.0.1", backend.port)])
    before = resident()
    got = frames_of(talk(running.connect(), frames))
    assert got[-1][0] == 7
    assert int.from_bytes(got[-1][2][4:8], "big") == CALM
    assert len([kind for kind, _, _ in got if kind in (RST_STREAM, SETTINGS, PING)]) <= budget + 5
    running.wait("http2_floods", 1)
    running.wait("requests_open", 0)
    assert resident() - before < GROWTH
    began = time.monotonic()
    other = running.connect()
    other.sendall(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    backend.socket.settimeout(5)
    while True:            # those of the flood, which have ended, first
        upstream = backend.accept()
        with contextlib.suppress(EOFError, ConnectionResetError):
            if head(upstream).startswith(b"GET /other"):
                break
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert other.recv(100).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < 10 * PATIENCE    # the machine is shared
    assert len(backend.accepted) <= limits.STREAMS + 1, "backends pay for it"


def test_a_reader_of_nothing_holds_little(backend, start):
    running = start([("127.0.0.1", backend.port)])
    client = running.connect()
    before = resident()
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw_frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff")
                   + raw_frame(WINDOW_UPDATE, 0, 0, b"\x7f\x00\x00\x00") + b"".join(
        raw_frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, GET if i == 0 else b"\x82\x86\xbe\x84")
        for i in range(limits.STREAMS)))
    upstreams = [backend.accept() for _ in range(limits.STREAMS)]
    for upstream in upstreams:
        head(upstream)
        upstream.setblocking(False)
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(20):
        for upstream in upstreams:
            with contextlib.suppress(BlockingIOError):
                upstream.send(bytes(1 << 20))
        elapse(0.01)
    assert resident() - before < GROWTH + (2 << 20)    # this test's own megabyte is among it
