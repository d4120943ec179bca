"""Nobody reads what a gateway prints: standard error, standard output, or both; it serves, reloads, answers and ends all the same."""
import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import threading
import time
import tty
from pathlib import Path

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from support.issuer import Issuer
from support.gateway import PROGRAM, Gateway, children, free_port, gateway, listener, resource, route, rule, service, until, write
from support.waiting import elapse

ISSUER = Issuer()
NOISY = """
import logging, sys, warnings
from gwfast.filters import Filter
logging.basicConfig(stream=sys.stderr)

class Noisy(Filter):
    async def on_request(self, request):
        for _ in range(50):
            print("x" * 200)
            print("y" * 200, file=sys.stderr)
            sys.stdout.buffer.write(b"z" * 200 + b"\\n")
        logging.error("l" * 200)
        warnings.warn("w" * 200 + request.path)
        raise ValueError("told")
"""


class Stalled(Gateway):
    """A gateway whose standard output and error go where the test says; its log is read when the test reads it."""

    def __init__(self, folder: Path, out: int, err: int, *options: str) -> None:
        self.folder, self.ended = folder, False
        self.admin = free_port()
        self.process = subprocess.Popen([*PROGRAM, "run", str(folder), "--admin", f"127.0.0.1:{self.admin}", "--log-format", "json",
                                         *options], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        until(self.ready, 20)

    def errors(self) -> str:
        return "nobody reads"


def pipe() -> tuple[int, int]:
    return os.pipe()


def terminal() -> tuple[int, int]:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


def stream() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


KINDS = {"pipe": pipe, "terminal": terminal, "socket": stream}


@pytest.fixture
def folder(tmp_path, backend) -> Path:
    made = tmp_path / "conf"
    made.mkdir()
    (made / "noisy.py").write_text(NOISY)
    one = ISSUER.issue("a.test")
    secret = {**resource("Secret", "cert", api="v1"), "type": "kubernetes.io/tls",
              "stringData": {"tls.crt": one.chain.decode(), "tls.key": one.key.decode()}}
    secure = {"name": "secure", "protocol": "HTTPS", "port": free_port(), "tls": {"certificateRefs": [{"name": "cert"}]}}
    uses = {"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": "noisy"}}
    write(made, "all.yaml", secret, gateway(listener(free_port(), "web"), secure), service("one", backend("one")),
          resource("PythonFilter", "noisy", {"file": "noisy.py", "class": "Noisy", "failure": "Open"}, "gwfast.dev/v1alpha1"),
          route("r", rule("one", path="/plain"), rule("one", path="/noisy", filters=[uses])))
    return made


@pytest.fixture
def ends():
    """Make a reading and a writing end of each kind; what is left of them is closed."""
    made: list[int] = []

    def make(kind: str) -> tuple[int, int]:
        made.extend(KINDS[kind]())
        return made[-2], made[-1]
    yield make
    for fd in made:
        with contextlib.suppress(OSError):
            os.close(fd)


def fill(writer: int) -> None:
    """Fill a pipe, a terminal or a socket, so that the first write of who gets it would wait."""
    own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK) if not _is_socket(writer) else -1
    piece = 4096
    while piece:
        try:
            if own < 0:
                with socket.socket(fileno=os.dup(writer)) as one:
                    one.send(b"-" * piece, socket.MSG_DONTWAIT)
            else:
                os.write(own, b"-" * (piece - 1) + b"\n")
        except BlockingIOError:
            piece //= 2
    if own >= 0:
        os.close(own)


def _is_socket(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").startswith("socket")


def read_rest(reader: int) -> bytes:
    """What is there by now and what comes until everybody has closed the other end."""
    got = b""
    with contextlib.suppress(OSError):      # a terminal whose other end is closed
        waiting = select.poll()                 # select() knows no descriptors beyond 1,023
        waiting.register(reader, select.POLLIN)
        while waiting.poll(5000) and (data := os.read(reader, 65536)):
            got += data
    return got


def bad_handshakes(port: int, seconds: float) -> int:
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 3)
            raw.recv(1)
        count += 1
    return count


def secure_port(gw: Gateway) -> int:
    return next(port["port"] for port in json.loads(gw.ask("/status")[1])["ports"] if port["port"] != gw.port)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_bad_handshakes_and_a_stalled_reader(folder: Path, ends, kind: str) -> None:
    reader, writer = ends(kind)
    fill(writer)        # from the first line on
    gw = Stalled(folder, subprocess.DEVNULL, writer, "--workers", "1", "--log-level", "debug")
    flood = threading.Thread(target=bad_handshakes, args=(secure_port(gw), 3.0))
    flood.start()
    for n in range(1, 20):
        write(folder, "more.yaml", route("more", rule(path=f"/more{n}", filters=[
            {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}])))
        gw.serves(f"/more{n}", 301)
        assert gw.ask("/readyz")[0] == 200
    flood.join()
    os.kill(gw.workers()[0], 9)
    until(lambda: gw.metrics()["gwfast_worker_restarts_total"] == 1)
    assert gw.get("/plain").status == 200
    began = time.monotonic()
    gw.process.terminate()
    assert gw.process.wait(20) == 0
    assert time.monotonic() - began < 8
    gw.ended = True


def test_what_matters_has_room_and_what_was_dropped_is_counted(folder: Path, ends) -> None:
    """More than a pipe and the strangers' share hold: reloads and deaths are in the log all the same, once it is read."""
    reader, writer = ends("pipe")
    gw = Stalled(folder, subprocess.DEVNULL, writer, "--workers", "1")
    fill(writer)
    port = secure_port(gw)
    os.kill(gw.workers()[0], 9)
    until(lambda: gw.metrics()["gwfast_worker_restarts_total"] == 1)
    assert bad_handshakes(port, 1.0)
    gw.process.terminate()
    elapse(0.2)
    os.close(writer)
    text = read_rest(reader).decode()
    assert gw.process.wait(20) == 0
    events = [json.loads(line)["msg"] for line in text.splitlines() if line.startswith("{")]
    assert "a worker died and is replaced" in events
    assert events[-1] == "gwfast ends" and "draining" in events


@pytest.mark.parametrize("which", ["out", "err", "both", "same"])
def test_filters_that_print_stop_nothing(folder: Path, ends, which: str) -> None:
    """print(), logging, warnings and tracebacks of a filter, where nobody reads: its worker serves on, and what was lost is counted."""
    out, err = (ends("pipe")[1] for _ in range(2))
    gw = Stalled(folder, subprocess.DEVNULL if which == "err" else out,
                 subprocess.DEVNULL if which == "out" else out if which == "same" else err, "--workers", "1")
    for _ in range(100):
        assert gw.get("/noisy").status == 200
    assert gw.get("/plain").status == 200
    until(lambda: gw.metrics()["gwfast_messages_dropped_total"] > 0)
    assert gw.metrics()["gwfast_worker_hangs_total"] == 0
    began = time.monotonic()
    gw.process.terminate()
    assert gw.process.wait(20) == 0
    assert time.monotonic() - began < 8
    gw.ended = True


def test_what_filters_print_is_read_in_whole_lines(folder: Path) -> None:
    gw = Gateway(folder, "--access-log", "off")
    assert gw.get("/noisy").status == 200
    until(lambda: gw.out.read_text().count("\n") >= 100)
    assert set(gw.out.read_text().splitlines()) == {"x" * 200, "z" * 200}
    assert gw.errors().count("y" * 200 + "\n") == 50
    assert "l" * 200 in gw.errors() and "w" * 200 in gw.errors()
    gw.process.terminate()
    gw.process.wait(20)


@pytest.mark.parametrize("options,status", [(["--workers", "none"], 2), (["--admin", "TAKEN"], 1)])
def test_what_ends_it_at_the_start_does_not_wait_either(folder: Path, ends, options: list[str], status: int) -> None:
    _, writer = ends("pipe")
    fill(writer)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*PROGRAM, "run", str(folder), *(admin if each == "TAKEN" else each for each in options)]
        process = subprocess.Popen(command, stderr=writer, stdin=subprocess.DEVNULL)
        assert process.wait(20) == status


def test_processes_that_are_left_are_none(folder: Path, ends) -> None:
    reader, writer = ends("pipe")
    fill(writer)
    gw = Stalled(folder, writer, writer, "--workers", "2")
    below = children(gw.process.pid)
    gw.process.terminate()
    gw.process.wait(20)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in below))
