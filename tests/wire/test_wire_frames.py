"""Frames of HTTP/2, each by itself and in their order: what is read of them, and which error ends what (RFC 9113 4, 6).

Every frame is read at a guard page, at every length of what has arrived: the verdict comes once and stays.
"""
import re

import pytest

from gwfast.http2.frames import Reader, preface_at, written

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, OTHER = range(11)
ACK = END_STREAM = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32
NO_ERROR, PROTOCOL, FLOW_CONTROL, SIZE, CALM = 0, 1, 3, 6, 11
PARTIAL, BAD = 0, -1


def frame(type, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return length.to_bytes(3, "big") + bytes([type, flags]) + stream.to_bytes(4, "big") + payload


def setting(number, value):
    return number.to_bytes(2, "big") + value.to_bytes(4, "big")


BEGIN = frame(SETTINGS)


def begun(before=(), client=False):
    reader = Reader(client)
    for data in (BEGIN, *before):
        assert reader.next(data)[0] == len(data)
    return reader


def read(guard, data, before=(), client=False):
    """Read a frame behind others: (used, parts)."""
    whole = begun(before, client).next_at(guard.at(data), len(data))
    decided = False
    for n in range(len(data) + 1):
        used, parts = begun(before, client).next_at(guard.at(data[:n]), n)
        assert used == whole[0] or (used == PARTIAL and not decided), n
        decided = used != PARTIAL
        assert not decided or parts["error"] == whole[1]["error"]
    more = data + BEGIN
    assert begun(before, client).next_at(guard.at(more), len(more)) == whole or not decided
    return whole


SERVED = {
    "data": (frame(DATA, 0, 1, b"abc"), dict(payload=b"abc", length=3, idle=0)),
    "no data": (frame(DATA, 0, 1), dict(payload=b"", idle=1)),
    "end without data": (frame(DATA, END_STREAM, 1), dict(payload=b"", flags=END_STREAM, idle=0)),
    "padded data": (frame(DATA, PADDED, 1, b"\2abc\0\0"), dict(payload=b"abc", length=6)),
    "only padding": (frame(DATA, PADDED, 1, b"\2\0\0"), dict(payload=b"", length=3, idle=1)),
    "no padding": (frame(DATA, PADDED, 1, b"\0"), dict(payload=b"", idle=1)),
    "padding is not looked at": (frame(DATA, PADDED, 1, b"\1ab"), dict(payload=b"a")),
    "the largest": (frame(DATA, 0, 1, b"x" * 16384), dict(length=16384)),
    "the last stream": (frame(DATA, 0, 0x7fffffff, b"a"), dict(stream=0x7fffffff)),
    "the reserved bit": (frame(DATA, 0, 0x80000001, b"a"), dict(stream=1)),
    "flags of others": (frame(DATA, 0xff & ~PADDED, 1, b"a"), dict(flags=END_STREAM)),
    "headers": (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"), dict(payload=b"\x82", flags=5)),
    "headers with priority": (frame(HEADERS, WITH_PRIORITY | 4, 3, b"\0\0\0\1\x10\x82"), dict(payload=b"\x82", error=0)),
    "padded headers with priority": (frame(HEADERS, WITH_PRIORITY | PADDED | 4, 3, b"\1\0\0\0\1\x10\x82\0"), dict(payload=b"\x82")),
    "depends on itself": (frame(HEADERS, WITH_PRIORITY | 4, 3, b"\x80\0\0\3\x10\x82"), dict(payload=b"\x82", error=PROTOCOL)),
    "priority": (frame(PRIORITY, 0, 3, b"\0\0\0\1\x10"), dict(idle=1, error=0)),
    "priority of an even stream": (frame(PRIORITY, 0, 2, b"\0\0\0\1\x10"), dict(error=0)),
    "priority on itself": (frame(PRIORITY, 0, 3, b"\x80\0\0\3\x10"), dict(error=PROTOCOL)),
    "short priority": (frame(PRIORITY, 0, 3, b"\0\0\0\1"), dict(error=SIZE)),
    "long priority": (frame(PRIORITY, 0, 3, b"\0\0\0\1\0\0"), dict(error=SIZE)),
    "rst_stream": (frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), dict(code=8)),
    "settings": (frame(SETTINGS, 0, 0, setting(3, 100)), dict(payload=setting(3, 100))),
    "settings with ack": (frame(SETTINGS, ACK), dict(flags=ACK)),
    "unknown setting": (frame(SETTINGS, 0, 0, setting(99, 2**32 - 1)), dict(error=0)),
    "ping": (frame(PING, 0, 0, b"12345678"), dict(payload=b"12345678", flags=0)),
    "ping with ack": (frame(PING, 0xff, 0, b"12345678"), dict(flags=ACK)),
    "goaway": (frame(GOAWAY, 0, 0, b"\x80\0\0\7\0\0\0\x0bbye"), dict(last_stream=7, code=11)),
    "window of the connection": (frame(WINDOW_UPDATE, 0, 0, b"\xff\xff\xff\xff"), dict(code=0x7fffffff)),
    "window of a stream": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), dict(code=1, error=0)),
    "no more window": (frame(WINDOW_UPDATE, 0, 1, b"\x80\0\0\0"), dict(error=PROTOCOL)),
    "unknown type": (frame(0xfe, 0xff, 8, b"abc"), dict(idle=1, payload=b"abc", type=0xfe, flags=0xff)),
    "ALTSVC is unknown": (frame(OTHER, 0, 0, b"\0\0"), dict(idle=1)),
}
REFUSED = {
    "data on the connection": (frame(DATA, 0, 0, b"a"), PROTOCOL), "data too large": (frame(DATA, 0, 1, b"a", 16385), SIZE),
    "data on an even stream": (frame(DATA, 0, 2, b"a"), PROTOCOL),
    "padding as long as the frame": (frame(DATA, PADDED, 1, b"\4abc"), PROTOCOL),
    "padding longer than it": (frame(DATA, PADDED, 1, b"\xffabc"), PROTOCOL),
    "no length of the padding": (frame(DATA, PADDED, 1), SIZE),
    "headers on the connection": (frame(HEADERS, 4, 0, b"\x82"), PROTOCOL), "headers on an even stream": (frame(HEADERS, 4, 2), PROTOCOL),
    "padding longer than headers": (frame(HEADERS, PADDED | 4, 1, b"\2\x82"), PROTOCOL),
    "headers without all of their priority": (frame(HEADERS, WITH_PRIORITY | 4, 1, b"\0\0\0\0"), SIZE),
    "padding instead of priority": (frame(HEADERS, WITH_PRIORITY | PADDED | 4, 1, b"\2\0\0\0\0\0\0"), SIZE),
    "priority on the connection": (frame(PRIORITY, 0, 0, b"\0\0\0\1\x10"), PROTOCOL),
    "rst_stream on the connection": (frame(RST_STREAM, 0, 0, b"\0\0\0\0"), PROTOCOL),
    "short rst_stream": (frame(RST_STREAM, 0, 1, b"\0\0\0"), SIZE), "long rst_stream": (frame(RST_STREAM, 0, 1, b"\0" * 5), SIZE),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL), "settings of 5 octets": (frame(SETTINGS, 0, 0, b"\0" * 5), SIZE),
    "ack with settings": (frame(SETTINGS, ACK, 0, setting(3, 1)), SIZE),
    "push of 2": (frame(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL),
    "window above 2^31": (frame(SETTINGS, 0, 0, setting(1, 0) + setting(4, 2**31)), FLOW_CONTROL),
    "frames too small": (frame(SETTINGS, 0, 0, setting(5, 16383)), PROTOCOL),
    "frames too large": (frame(SETTINGS, 0, 0, setting(5, 2**24)), PROTOCOL),
    "extended CONNECT of 2": (frame(SETTINGS, 0, 0, setting(8, 2)), PROTOCOL),
    "push promise": (frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), PROTOCOL),
    "ping on a stream": (frame(PING, 0, 1, b"\0" * 8), PROTOCOL), "short ping": (frame(PING, 0, 0, b"\0" * 7), SIZE),
    "long ping": (frame(PING, 0, 0, b"\0" * 9), SIZE), "goaway on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL),
    "short goaway": (frame(GOAWAY, 0, 0, b"\0" * 7), SIZE), "short window update": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\1"), SIZE),
    "long window update": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0\1"), SIZE),
    "no more window of the connection": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), PROTOCOL),
    "continuation of nothing": (frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL),
    "unknown type too large": (frame(0xfe, 0, 0, b"", 16385), SIZE),
}


@pytest.mark.parametrize("data, parts", SERVED.values(), ids=SERVED)
def test_served(guard, data, parts):
    used, got = read(guard, data)
    assert used == len(data)
    assert {name: got[name] for name in parts} == parts


@pytest.mark.parametrize("data, error", REFUSED.values(), ids=REFUSED)
def test_refused(guard, data, error):
    used, got = read(guard, data)
    assert (used, got["error"]) == (BAD, error)


@pytest.mark.parametrize("name", [name for name in REFUSED if not re.search("padding|priority|2|too small|too large|no more", name)])
def test_what_the_head_says_is_said_at_once(guard, name):
    data, error = REFUSED[name]
    assert read(guard, data[:9])[1]["error"] == error


def test_a_server_may_not_push(guard):
    data = frame(SETTINGS, 0, 0, setting(2, 1))
    assert read(guard, data)[0] == len(data)
    assert read(guard, data, client=True)[1]["error"] == PROTOCOL
    assert read(guard, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), client=True)[1]["error"] == PROTOCOL


@pytest.mark.parametrize("data, right", [(frame(SETTINGS, 0, 0, setting(3, 1)), True), (frame(SETTINGS, ACK), False), (frame(PING, 0, 0, b"8" * 8), False),
                                         (frame(HEADERS, 5, 1, b"\x82"), False), (frame(0xfe), False)], ids=repr)
def test_the_first_frame_is_settings(guard, data, right):
    used, parts = Reader().next_at(guard.at(data), len(data))
    assert (used, parts["error"]) == ((len(data), 0) if right else (BAD, PROTOCOL))


OPEN = frame(HEADERS, 0, 1, b"\x82")
GOES_ON = frame(CONTINUATION, 0, 1, b"\x84")


@pytest.mark.parametrize("data, right", [
    (frame(CONTINUATION, 4, 1, b"\x84"), True), (frame(CONTINUATION, 0, 1), True), (frame(CONTINUATION, 4, 3), False),
    (frame(CONTINUATION, 4, 0), False), (frame(DATA, 0, 1, b"a"), False), (frame(HEADERS, 4, 1), False), (frame(SETTINGS), False),
    (frame(PRIORITY, 0, 1, b"\0" * 5), False), (frame(0xfe, 0, 1), False), (frame(PING, 0, 0, b"\0" * 8), False)], ids=repr)
def test_nothing_comes_between_a_block(guard, data, right):
    """RFC 9113 6.10."""
    used, parts = read(guard, data, [OPEN])
    assert (used, parts["error"]) == ((len(data), 0) if right else (BAD, PROTOCOL))


def test_a_block_ends(guard):
    reader = begun([OPEN])
    assert reader.block == 1
    reader.next(GOES_ON)
    assert reader.block == 1
    reader.next(frame(CONTINUATION, 4, 1, b"\x84"))
    assert reader.block == 0
    assert read(guard, GOES_ON, [OPEN, frame(CONTINUATION, 4, 1)])[1]["error"] == PROTOCOL


def test_a_block_has_few_parts(guard):
    """CVE-2024-27316 and its kin: CONTINUATION without end."""
    assert read(guard, GOES_ON, [OPEN, *[GOES_ON] * 7])[0] == len(GOES_ON)
    assert read(guard, GOES_ON, [OPEN, *[GOES_ON] * 8])[1]["error"] == CALM
    again = [OPEN, *[GOES_ON] * 7, frame(CONTINUATION, 4, 1), frame(HEADERS, 0, 3), *[frame(CONTINUATION, 0, 3)] * 7]
    assert read(guard, frame(CONTINUATION, 4, 3), again)[0] == 9


def test_settings():
    reader = begun()
    assert reader.settings == dict(header_table=4096, push=1, streams=2**32 - 1, window=65535, frame=16384, list=2**32 - 1, connect_protocol=0)
    numbers = {1: 100, 2: 0, 3: 50, 4: 2**31 - 1, 5: 2**24 - 1, 6: 8000, 8: 1, 9: 7}
    data = frame(SETTINGS, 0, 0, setting(1, 1) + b"".join(setting(*pair) for pair in numbers.items()))
    assert reader.next(data)[0] == len(data)
    assert reader.settings == dict(header_table=100, push=0, streams=50, window=2**31 - 1, frame=2**24 - 1, list=8000, connect_protocol=1)
    reader.next(frame(SETTINGS, 0, 0, setting(4, 0)))
    assert reader.settings["window"] == 0
    assert reader.settings["streams"] == 50


def test_preface(guard):
    for n in range(24):
        assert preface_at(guard.at(PREFACE[:n]), n) == PARTIAL
        for other in (PREFACE[:n] + b"x", PREFACE[:n] + bytes([PREFACE[n] ^ 32])):
            assert preface_at(guard.at(other), n + 1) == BAD
    assert preface_at(guard.at(PREFACE), 24) == preface_at(guard.at(PREFACE + b"x"), 25) == 24


WRITTEN = {
    "head": (written("head", 0x7fffffff, 0xffffff), bytes([255, 255, 255, 7, 5, 127, 255, 255, 255])),
    "rst_stream": (written("rst_stream", 3, 8), frame(RST_STREAM, 0, 3, b"\0\0\0\x08")),
    "window_update": (written("window_update", 5, 2**31 - 1), frame(WINDOW_UPDATE, 0, 5, b"\x7f\xff\xff\xff")),
    "goaway": (written("goaway", 257, 11), frame(GOAWAY, 0, 0, b"\0\0\1\1\0\0\0\x0b")),
    "setting": (written("setting", 0, 2**32 - 2, 0x304), b"\3\4\xff\xff\xff\xfe"),
}


@pytest.mark.parametrize("data, expected", WRITTEN.values(), ids=WRITTEN)
def test_written(data, expected):
    assert data == expected
