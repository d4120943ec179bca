"""What a process prints never waits for who reads it: pipes, terminals, sockets and files; nothing is half a line, nothing is lost unsaid."""
import fcntl
import io
import json
import os
import pty
import socket
import threading
import time
import tty

import pytest

from gwfast import limits
from gwfast.observe.log import Log
from gwfast.observe.sink import Sink

LINE = b"x" * 99 + b"\n"


def pipe():
    reader, writer = os.pipe()
    return reader, writer


def terminal():
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


def sockets(kind):
    def made():
        reader, writer = socket.socketpair(socket.AF_UNIX, kind)
        return reader.detach(), writer.detach()
    return made


KINDS = {"pipe": pipe, "terminal": terminal, "stream": sockets(socket.SOCK_STREAM), "datagrams": sockets(socket.SOCK_DGRAM)}


@pytest.fixture(params=KINDS)
def ends(request):
    reader, writer = KINDS[request.param]()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def read_all(reader: int, sink: Sink) -> bytes:
    """Everything that comes while the sink is pumped, until it is empty and nothing is left."""
    os.set_blocking(reader, False)
    got = b""
    while True:
        done = sink.pump()
        try:
            got += os.read(reader, 65536)
        except BlockingIOError:
            if done:
                return got


def test_nobody_reads_and_nothing_waits(ends):
    reader, writer = ends
    sink = Sink(writer)
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    for n in range(10_000):
        sink.write(b"%06d" % n + LINE)
    assert sink.dropped > 0
    assert limits.LOG_BYTES - 200 < sink.waiting <= limits.LOG_BYTES
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags, "others share the open file: its flags are theirs"
    lines = read_all(reader, sink).splitlines(keepends=True)
    assert [line[6:] for line in lines] == [LINE] * len(lines)
    numbers = [int(line[:6]) for line in lines]
    assert numbers[:2000] == list(range(2000)), "what was said first is there"
    assert numbers == sorted(set(numbers)), "and what is later said (a terminal's buffer moves by itself) comes later"
    assert len(lines) + sink.dropped == 10_000 and sink.waiting == 0
    sink.write(LINE)
    assert read_all(reader, sink) == LINE


def test_a_writer_that_blocks_beside_it_is_left_as_it_is(ends):
    """A program that shares the terminal or the pipe still waits where it is full, and gets no EAGAIN."""
    reader, writer = ends
    sink = Sink(writer)
    assert os.get_blocking(writer)
    sink.write(LINE)
    assert os.get_blocking(writer)
    assert os.read(reader, 1000) == LINE


def test_long_lines_are_whole_too():
    reader, writer = pipe()
    sink = Sink(writer)
    texts = [bytes([65 + n]) * 30_000 + b"\n" for n in range(6)]
    for text in texts:
        sink.write(text)
    assert sink.waiting
    assert read_all(reader, sink) == b"".join(texts)
    os.close(reader)
    os.close(writer)


def test_without_proc_a_pipe_is_asked_for_room(monkeypatch):
    def never(*_):
        raise PermissionError
    monkeypatch.setattr("gwfast.observe.sink.os.open", never)
    reader, writer = pipe()
    sink = Sink(writer)
    for _ in range(2000):
        sink.write(LINE)
    assert sink.waiting and os.get_blocking(writer)
    assert read_all(reader, sink) == LINE * 2000
    os.close(reader)
    os.close(writer)


def test_a_file_takes_everything(tmp_path):
    with open(tmp_path / "log", "ab") as file:
        sink = Sink(file.fileno())
        for _ in range(10_000):
            sink.write(LINE)
        assert (sink.waiting, sink.dropped) == (0, 0)
    assert (tmp_path / "log").stat().st_size == 10_000 * len(LINE)


def gone(tmp_path):
    reader, writer = pipe()
    os.close(reader)
    return writer


def closed(tmp_path):
    return 9999


def only_read(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    return os.open(tmp_path / "theirs", os.O_RDONLY)


def full(tmp_path):
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("broken", [gone, closed, only_read, full])
def test_what_takes_nothing_is_no_failure(broken, tmp_path):
    sink = Sink(broken(tmp_path))
    for _ in range(100):
        sink.write(LINE)
    assert (sink.dropped, sink.waiting) == (100, 0)
    assert not (tmp_path / "theirs").exists() or (tmp_path / "theirs").read_text() == "theirs"


def test_at_the_end_a_slow_reader_gets_the_last_lines_and_a_stalled_one_is_not_waited_for():
    reader, writer = pipe()
    sink = Sink(writer)
    for _ in range(1000):
        sink.write(LINE)
    began = time.monotonic()
    sink.finish(0.2)
    assert sink.waiting and time.monotonic() - began < 5
    got = []

    def read() -> None:
        while data := os.read(reader, 65536):
            got.append(data)
    thread = threading.Thread(target=read)
    thread.start()
    sink.finish(30)
    assert not sink.waiting
    sink.close()
    os.close(writer)
    thread.join(30)
    assert b"".join(got) == LINE * 1000
    os.close(reader)


def test_text_streams_work_as_others_do():
    reader, writer = pipe()
    stream = io.TextIOWrapper(Sink(writer), "utf-8", "backslashreplace", line_buffering=True)
    print("one", 2, file=stream)
    stream.buffer.write(b"three\n")
    print("\ud800", file=stream)
    assert os.read(reader, 100) == b"one 2\nthree\n\\ud800\n"
    assert stream.fileno() == writer and not stream.isatty()
    os.close(reader)
    os.close(writer)


def test_strangers_take_a_quarter_and_what_was_lost_is_said():
    reader, writer = pipe()
    log = Log("json", "info", io.TextIOWrapper(Sink(writer), "utf-8", line_buffering=True))
    for _ in range(10_000):
        log.stranger("a TLS handshake failed", client="192.0.2.1")
    log.info("this counts")
    os.set_blocking(reader, False)
    got = b""
    sink = log._sink
    assert limits.LOG_BYTES // 4 <= sink.waiting <= limits.LOG_BYTES // 4 + 1000
    while not sink.pump():
        got += os.read(reader, 65536)
    got += os.read(reader, 65536)
    events = [json.loads(line) for line in got.splitlines()]
    assert events[-1]["msg"] == "this counts"
    assert len(events) + sink.dropped == 10_001
    log.info("and this")
    lost, last = [json.loads(line) for line in os.read(reader, 65536).splitlines()]
    assert (lost["level"], lost["number"]) == ("warning", sink.dropped) and last["msg"] == "and this"
    log.info("said once")
    assert json.loads(os.read(reader, 65536))["msg"] == "said once"
    os.close(reader)
    os.close(writer)


def test_below_the_level_nothing_is_lost():
    reader, writer = pipe()
    log = Log("json", "warning", io.TextIOWrapper(Sink(writer, 100), "utf-8", line_buffering=True))
    while log._sink.pump():
        log.error("full")
    before = log._sink.dropped
    log.stranger("nobody wants to know")
    assert log._sink.dropped == before
    os.close(reader)
    os.close(writer)
