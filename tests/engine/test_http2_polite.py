"""What ordinary clients of HTTP/2 send is no abuse, however long they do it: frames that cross a stream's end, PINGs that measure
a transfer, cancels of what was answered or took too long. What is none of these is bounded as before."""
import itertools
import threading
import time

import pytest
from support.http2_client import (
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, UNKNOWN, WINDOW_UPDATE, Ended, Frames, goodbye, raw_frame)

from gwfast import limits

STREAM_CLOSED, CANCEL, CALM = 5, 8, 11


@pytest.fixture
def engine(backend, start):
    """In front of a backend that nobody needs: a path with %00 is answered by the engine itself."""
    return start([("127.0.0.1", backend.port)])


LATE = {     # what may come for a stream whose answer was faster
    "WINDOW_UPDATE": lambda stream: raw_frame(WINDOW_UPDATE, 0, stream, b"\0\0\x17\x70"),
    "WINDOW_UPDATE of nothing": lambda stream: raw_frame(WINDOW_UPDATE, 0, stream, bytes(4)),
    "RST_STREAM": lambda stream: raw_frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big")),
    "PRIORITY": lambda stream: raw_frame(PRIORITY, 0, stream, bytes(5)),
    "all": lambda stream: b"".join(LATE[name](stream) for name in ("WINDOW_UPDATE", "PRIORITY", "RST_STREAM")),
}


@pytest.mark.parametrize("name", LATE)
def test_late_frames_of_each_stream_are_ignored(engine, name):
    client = Frames(engine.connect())
    for _ in range(50):
        heads = [client.head(path="/%00") for _ in range(50)]
        client.socket.sendall(b"".join(frame for _, frame in heads))
        client.until(DATA, [number for number, _ in heads], END_STREAM)
        client.socket.sendall(b"".join(LATE[name](number) for number, _ in heads))
    assert client.answers() == []
    assert engine.count("http2_floods") == 0


@pytest.mark.parametrize(("name", "times"), [("WINDOW_UPDATE", limits.WINDOW_UPDATES), ("RST_STREAM", limits.GLITCHES),
                                             ("PRIORITY", limits.GLITCHES)])
def test_late_frames_of_one_stream_are_bounded(engine, name, times):
    client = Frames(engine.connect())
    stream = client.ask(path="/%00")
    client.until(DATA, [stream], END_STREAM)
    for _ in range(times // 100 * 2):
        try:
            client.socket.sendall(LATE[name](stream) * 100)
        except OSError:
            break
    assert goodbye(client) == CALM
    engine.wait("http2_floods", 1)


@pytest.mark.parametrize("rest", [
    lambda stream: raw_frame(DATA, 0, stream, bytes(1000)) * 3 + raw_frame(DATA, END_STREAM, stream, b"end"),
    lambda stream: raw_frame(DATA, END_STREAM, stream),
    lambda stream: raw_frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\0\1x\1y"),
], ids=["body", "an empty end", "trailers"])
def test_bodies_of_answered_uploads_are_ignored(engine, rest):
    """As many as there may be at once, and what was in flight comes when all of them were answered and reset (RFC 9113 8.1)."""
    client = Frames(engine.connect())
    for _ in range(20):
        heads = [client.head("POST", "/%00", end=False) for _ in range(limits.STREAMS)]
        client.socket.sendall(b"".join(frame for _, frame in heads))
        client.until(RST_STREAM, [number for number, _ in heads])
        client.socket.sendall(b"".join(rest(number) for number, _ in heads))
        assert client.answers() == []
    assert engine.count("http2_floods") == 0


def test_a_moment_ago_is_so_many_streams(engine):
    """Numbers may be left out: what was reset under the number that has the same place before is not mixed up with it."""
    client = Frames(engine.connect())
    first = client.ask(method="POST", path="/%00", end=False)
    client.until(RST_STREAM, [first])
    end = raw_frame(DATA, END_STREAM, first, b"x")
    client.socket.sendall(end)
    assert client.answers() == []
    for ahead, ignored in ((510, True), (511, True), (512, False), (1200, False), (2000, False)):
        client.next = first + 2 * ahead
        newest = client.ask(path="/%00")
        client.until(DATA, [newest], END_STREAM)
        client.socket.sendall(end)
        assert client.answers() == ([] if ignored else [(RST_STREAM, first, STREAM_CLOSED)])
        client.socket.sendall(raw_frame(DATA, END_STREAM, newest, b"x"))     # it ended by itself, on both sides
        assert client.answers() == [(RST_STREAM, newest, STREAM_CLOSED)]


def large(connection, pieces):
    """A backend of HTTP/1.1 that sends so many pieces of a frame's size."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces << 14))
    for _ in range(pieces):
        connection.sendall(bytes(1 << 14))


def updates(n: int) -> bytes:
    """Gives the windows of both back, as who reads 4 KiB at a time does."""
    steps = [min(4096, n - at) for at in range(0, n, 4096)]
    return b"".join(raw_frame(WINDOW_UPDATE, 0, stream, step.to_bytes(4, "big")) for step in steps for stream in (0, 1))


@pytest.mark.parametrize("with_each", [lambda n: raw_frame(PING, 0, 0, b"estimate"), updates], ids=["PING", "an update for each 4 KiB"])
def test_data_explains_what_measures_it(engine, backend, with_each):
    """A download: grpc-go and Java send a PING when DATA comes and none is under way, Go reads 4 KiB at a time."""
    client = Frames(engine.connect())
    client.ask()
    upstream = backend.accept()
    assert upstream.recv(1000)
    thread = threading.Thread(target=large, args=(upstream, 2000))
    thread.start()
    ended = False
    while not ended:
        kind, flags, _, payload = client.frame()
        assert kind != RST_STREAM
        if kind == DATA:
            ended = flags & END_STREAM
            client.socket.sendall(with_each(len(payload)))
    thread.join()
    assert engine.count("http2_floods") == 0


def test_an_upload_explains_pings(engine, backend):
    client = Frames(engine.connect())
    stream = client.ask(method="POST", end=False)
    upstream = backend.accept()
    thread = threading.Thread(target=lambda: [upstream.recv(1 << 16) for _ in range(1)])
    thread.start()
    for _ in range(3000 // 10):
        client.socket.sendall((raw_frame(DATA, 0, stream, b"xy") + raw_frame(PING, 0, 0, b"estimate")) * 10)
    client.socket.sendall(raw_frame(DATA, END_STREAM, stream, b"z"))
    thread.join()
    assert client.answers()
    assert engine.count("http2_floods") == 0


def test_pings_beyond_what_explains_them_are_bounded(engine):
    client = Frames(engine.connect())
    stream = client.ask(method="POST", end=False)
    client.socket.sendall(raw_frame(DATA, 0, stream, b"xy") * 100 + raw_frame(PING, 0, 0, b"estimate") * 2 * limits.GLITCHES)
    assert goodbye(client) == CALM


async def begins(request):
    """Answers a part of what is asked for, or nothing, or all of it."""
    path = request.fields[b":path"]
    if path == b"/whole":
        await request.answer(b"hi")
    elif path == b"/part":
        await request.head(200)
    await request.ended.wait()


def reset(stream: int) -> bytes:
    return raw_frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))


def test_cancels_of_begun_responses_are_ordinary(start_http2):
    engine, _ = start_http2(begins)
    client = Frames(engine.connect())
    for _ in range(25):
        streams = [client.ask(path="/part") for _ in range(60)]
        client.until(HEADERS, streams)
        client.socket.sendall(b"".join(map(reset, streams)))
    client.answers()
    engine.wait("requests_open", 0)
    assert engine.count("http2_floods") == 0


def test_cancels_after_a_while_are_ordinary(start_http2):
    """Deadlines of gRPC calls, long polls: each held its place among the streams for as long as many a response takes."""
    engine, backend = start_http2(begins)
    client = Frames(engine.connect())
    for i in range(1, 16):
        streams = [client.ask(path="/none") for _ in range(90)]
        while len(backend.requests) < 90 * i:
            threading.Event().wait(0.001)
        threading.Event().wait(limits.STREAM_RESET_AGE + 0.01)
        client.socket.sendall(b"".join(map(reset, streams)))
        client.answers()
    assert engine.count("http2_floods") == 0


def test_cancels_beside_as_many_responses_are_ordinary(start_http2):
    """A hedged call, a search as somebody types: what backends served pays for what they did in vain."""
    engine, _ = start_http2(begins)
    client = Frames(engine.connect())
    for _ in range(40):
        served, cancelled = zip(*[(client.ask(path="/whole"), client.ask(path="/none")) for _ in range(40)], strict=True)
        client.until(DATA, served, END_STREAM)
        client.socket.sendall(b"".join(map(reset, cancelled)))
    client.answers()
    assert engine.count("http2_floods") == 0


def test_cancels_at_once_are_bounded(start_http2):
    """Each of them in the moment in which its backend has it: no more of these than the budget has."""
    engine, backend = start_http2(begins)
    client = Frames(engine.connect())
    slow, began = 0, time.monotonic()
    with pytest.raises((Ended, OSError)):
        for i in itertools.count():
            asked = time.monotonic()
            stream = client.ask(path="/none")
            while len(backend.requests) <= i and not engine.count("http2_floods"):
                threading.Event().wait(0.0001)
            client.socket.sendall(reset(stream))
            slow += time.monotonic() - asked > limits.STREAM_RESET_AGE
            if i > limits.STREAM_RESETS:
                client.answers()
            earned = slow + (time.monotonic() - began) * limits.STREAM_RESETS_PER_SECOND
            assert i < limits.STREAM_RESETS + earned + 100
    assert len(backend.requests) > limits.STREAM_RESETS
    engine.wait("http2_floods", 1)


@pytest.mark.parametrize("extra", [raw_frame(UNKNOWN, 0, 0, b"grease"), raw_frame(DATA, 0, 1), raw_frame(PING, 0, 0, b"estimate")],
                         ids=["unknown", "empty DATA", "PING"])
def test_a_backends_data_explains_its_glitches(start_http2, extra):
    async def mixed(request):
        await request.head(200)
        for _ in range(2500):
            await request.data(b"x" * 10)
            request.connection.raw(extra)
        await request.data(b"", end=True)

    engine, backend = start_http2(mixed)
    client = Frames(engine.connect())
    stream = client.ask()
    client.until(DATA, [stream], END_STREAM)
    assert len(backend.connections) == 1
