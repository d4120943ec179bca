"""A worker that does not answer: it is seen and told, others get its connections, it is replaced, and the end does not wait for it."""
import ctypes
import errno
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.gateway import Gateway, alive, free_port, gateway, resource, route, rule, service, until, write
from support.waiting import elapse

PTRACE_SEIZE, PTRACE_DETACH, WALL = 0x4206, 17, 0x40000000

FILTER = """
import asyncio, os, subprocess, time
from gwfast.filters import Filter, Response

class Loops(Filter):
    async def on_request(self, request):
        if request.path == "/loop":
            while True:
                pass
        if request.path == "/sleep":
            time.sleep(2.5)
        if request.path == "/abort":
            os.abort()
        if request.path == "/fork":
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            return Response(200, body=b"%d" % child)
        if request.path == "/inherit":
            for fd in map(int, os.listdir("/proc/self/fd")):
                try:
                    os.set_inheritable(fd, True)
                except OSError:
                    pass
            return Response(200, body=b"%d" % subprocess.Popen(["sleep", "60"], close_fds=False).pid)
        return Response(200, body=b"fine")

class Streams(Filter):
    async def on_response(self, request, response):
        response.observe(lambda piece, last: time.sleep(2.5) if request.path == "/piece" else None)

class Briefly(Filter):
    async def on_request(self, request):
        time.sleep(0.3)

class Late(Filter):
    async def on_request(self, request):
        await asyncio.sleep(0)
        time.sleep(0.3)
"""


def python_filter(name: str, class_: str, **more) -> dict:
    return resource("PythonFilter", name, {"file": "filters.py", "class": class_, **more}, "gwfast.dev/v1alpha1")


def uses(name: str) -> list[dict]:
    return [{"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": name}}]


@pytest.fixture
def start(backend, tmp_path):
    """Start a gateway with those filters, a rule for each by its name, and one at /plain without."""
    started: list[Gateway] = []

    def run(*options: str, workers: int = 2, **filters: dict) -> Gateway:
        folder = tmp_path / "conf"
        folder.mkdir()
        (folder / "filters.py").write_text(FILTER)
        loops = route("loops", rule("one", exact="/plain"), rule("one", filters=uses("loops")))
        others = [route(name, rule("one", filters=uses(name)), hostnames=[f"{name}.example"]) for name in ("streams", "briefly", "late")]
        write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), loops, *others,
              python_filter("loops", "Loops", timeout="30s"), python_filter("streams", "Streams", timeout="30s"),
              python_filter("briefly", "Briefly", timeout="200ms"), python_filter("late", "Late", timeout="200ms", failure="Open"))
        started.append(Gateway(folder, "--workers", str(workers), "--access-log", "off", "--log-format", "json", *options))
        return started[-1]
    yield run
    for gw in started:
        for pid in gw.workers():
            os.kill(pid, signal.SIGCONT)
        if not gw.ended:
            gw.stop(None)


def events(gw: Gateway, msg: str) -> list[dict]:
    lines = [json.loads(line) for line in gw.errors().splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"].startswith(msg)]


def unanswered(gw: Gateway, pid: int) -> list[dict]:
    """What was told of a worker that does not answer."""
    return [one for one in events(gw, "a worker does not answer") if one["pid"] == pid]


def stuck(gw: Gateway) -> float:
    return gw.metrics()["gwfast_workers_stuck"]


class Load:
    """New connections, one after the other, from several threads: how long each took."""

    def __init__(self, gw: Gateway, threads: int = 4):
        self.took: list[float] = []
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._gw = gw
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for each in self._threads:
            each.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                assert self._gw.get("/plain").status == 200
            except Exception as error:
                self.failed.append(repr(error))
            self.took.append(time.monotonic() - began)

    def more(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.took) + count
        until(lambda: len(self.took) >= wanted)

    def end(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(15)


def test_a_stopped_worker_is_left_out_and_comes_back(start) -> None:
    gw = start("--worker-timeout", "0s")
    load = Load(gw)
    load.more(50)
    victim = gw.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    until(lambda: unanswered(gw, victim))
    load.more(200)      # of which half come to the queue of the one that is stopped
    told = unanswered(gw, victim)[0]
    assert told["state"] == "stopped" and "filter" not in told
    # The other one may be late, too, where the machine is busy: it is back a moment later.
    until(lambda: (stuck(gw), gw.metrics()["gwfast_workers_running"], gw.ask("/readyz")[0]) == (1, 1, 200))
    os.kill(victim, signal.SIGCONT)
    until(lambda: [one for one in events(gw, "a worker answers again") if one["pid"] == victim])
    load.more(50)
    load.end()
    assert not load.failed
    until(lambda: stuck(gw) == 0)
    metrics = gw.metrics()
    assert metrics["gwfast_worker_hangs_total"] >= 1 and metrics["gwfast_worker_restarts_total"] == 0
    assert victim in gw.workers()
    other, = set(gw.workers()) - {victim}
    before = len(unanswered(gw, other))
    os.kill(other, signal.SIGSTOP)      # whoever comes back serves alone, too
    until(lambda: len(unanswered(gw, other)) > before)
    assert all(gw.get("/plain").status == 200 for _ in range(20))


def test_a_table_that_came_meanwhile_serves_when_it_is_back(start) -> None:
    gw = start("--worker-timeout", "0s")
    victim, other = gw.workers()
    os.kill(victim, signal.SIGSTOP)
    until(lambda: stuck(gw) == 1)
    began = time.monotonic()
    write(gw.folder, "more.yaml", route("more", rule(path="/gone", filters=[
        {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}])))
    gw.serves("/gone", 301)
    assert gw.process.poll() is None and time.monotonic() - began < 4, "a reload does not wait for it"
    os.kill(victim, signal.SIGCONT)
    until(lambda: stuck(gw) == 0)
    os.kill(other, signal.SIGSTOP)
    until(lambda: stuck(gw) == 1)
    assert {gw.get("/gone").status for _ in range(10)} == {301}
    os.kill(other, signal.SIGCONT)


def test_ports_come_and_go_while_a_worker_is_stopped(start) -> None:
    """What listens new is served at once, what is gone refuses at once: the one that does not answer is no exception."""
    gw = start("--worker-timeout", "0s")
    first, second = gw.port, free_port()
    victim = gw.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    until(lambda: stuck(gw) == 1)
    write(gw.folder, "more.yaml", gateway(second, name="more"), route("more", rule("one"), parent="more"))
    until(lambda: len(json.loads(gw.ask("/status")[1])["ports"]) == 2)
    until(lambda: len(events(gw, "listening")) == 2)
    assert {gw.get("/plain", port=port).status for _ in range(40) for port in (first, second)} == {200}
    assert gw.metrics()["gwfast_connections_passed_on_total"] > 0
    os.unlink(gw.folder / "more.yaml")
    until(lambda: events(gw, "no longer listening"))
    until(lambda: all(refused(second) for _ in range(40)))
    os.kill(victim, signal.SIGCONT)
    until(lambda: stuck(gw) == 0)
    assert {gw.get("/plain", port=first).status for _ in range(40)} == {200}
    assert all(refused(second) for _ in range(40))


def refused(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_worker_in_a_debugger_is_not_killed(start) -> None:
    gw = start("--worker-timeout", "1s")
    victim = gw.workers()[0]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_SEIZE, victim, None, None) < 0:
        pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")
    os.kill(victim, signal.SIGSTOP)
    os.waitpid(victim, WALL)
    until(lambda: events(gw, "a worker does not answer"))
    assert events(gw, "a worker does not answer")[0]["state"] == "in a debugger"
    elapse(2)       # longer than the timeout: that is what is tried
    assert libc.ptrace(PTRACE_DETACH, victim, None, None) == 0
    os.kill(victim, signal.SIGCONT)
    until(lambda: stuck(gw) == 0)
    assert victim in gw.workers() and gw.metrics()["gwfast_worker_restarts_total"] == 0


def test_a_filter_that_loops_is_named_and_its_worker_replaced(start) -> None:
    gw = start("--worker-timeout", "3s")
    load = Load(gw)
    load.more(50)
    before = set(gw.workers())
    lost = gw.connect()
    lost.send(b"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: events(gw, "a worker does not answer"))
    told, = events(gw, "a worker does not answer")
    assert (told["filter"], told["in"]) == ("default/loops", "request")
    assert re.search(r'filters\.py", line \d+ in on_request', told["stack"])
    until(lambda: gw.metrics().get('gwfast_python_filter_failures_total{filter="default/loops",reason="blocked"}') == 1)
    until(lambda: events(gw, "a worker died and is replaced"), 15)
    assert lost.at_end()
    until(lambda: len(gw.workers()) == 2 and set(gw.workers()) != before)
    load.more(50)
    load.end()
    assert len(load.failed) <= 4, "what its worker had accepted, one for each thread"
    assert told["pid"] not in gw.workers()
    assert events(gw, "a worker that does not answer is ended")[0]["pid"] == told["pid"]
    lost.close()


@pytest.mark.parametrize("host,path", [("a", "/sleep"), ("streams.example", "/piece")])
def test_a_filter_that_blocks_for_a_while(start, host: str, path: str) -> None:
    """In a request or in a piece of a response: the worker is back, and what waited for it is answered."""
    gw = start(workers=1)
    assert gw.get(path, host=host).status == 200
    until(lambda: events(gw, "a worker answers again"))
    told, = events(gw, "a worker does not answer")
    name = "default/" + ("loops" if host == "a" else "streams")
    assert (told["filter"], told["state"]) == (name, "waiting")
    assert gw.metrics()[f'gwfast_python_filter_failures_total{{filter="{name}",reason="blocked"}}'] == 1
    assert gw.metrics()["gwfast_worker_restarts_total"] == 0


@pytest.mark.parametrize("name,status", [("briefly", 500), ("late", 200)])
def test_a_step_longer_than_the_timeout_is_a_timeout(start, name: str, status: int) -> None:
    """Also where nothing is awaited behind it, so that no timer could have said so."""
    gw = start(workers=1)
    assert gw.get(host=f"{name}.example").status == status
    assert gw.metrics()[f'gwfast_python_filter_failures_total{{filter="default/{name}",reason="timeout"}}'] == 1
    assert "blocked its worker for 0.3 s" in gw.errors()
    assert not events(gw, "a worker does not answer")


@pytest.mark.parametrize("workers", [1, 2])
def test_where_nobody_answers_the_gateway_is_not_ready(start, workers: int) -> None:
    gw = start("--worker-timeout", "0s", workers=workers)
    pids = gw.workers()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: gw.ask("/readyz")[0] == 503)
    waiting = gw.connect()
    waiting.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert waiting.response().status == 200
    until(lambda: gw.ask("/readyz")[0] == 200)
    waiting.close()


def test_the_end_waits_for_a_stuck_worker_no_longer_than_for_others(start) -> None:
    gw = start("--worker-timeout", "0s", "--drain-timeout", "60s")
    victim = gw.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    until(lambda: stuck(gw) == 1)
    began = time.monotonic()
    gw.process.terminate()
    assert gw.process.wait(20) == 0
    assert time.monotonic() - began < 10
    until(lambda: not alive(victim))


def test_a_second_signal_ends_also_what_does_not_answer(start) -> None:
    gw = start("--worker-timeout", "0s", "--drain-timeout", "60s")
    os.kill(gw.workers()[0], signal.SIGSTOP)
    gw.process.terminate()
    until(lambda: events(gw, "draining"))
    began = time.monotonic()
    gw.process.terminate()
    assert gw.process.wait(20) == 0
    assert time.monotonic() - began < 3


def test_a_gateway_that_was_stopped_as_a_whole_kills_nobody(start) -> None:
    """A debugger, a container that is paused, a machine that sleeps: whoever is looked at had no time to answer."""
    gw = start("--worker-timeout", "1s")
    pids = [*gw.workers(), gw.process.pid]
    for _ in range(2):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        elapse(3)       # longer than the timeout: that is what is tried
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        until(lambda: gw.get("/plain").status == 200)
    assert gw.workers() == pids[:-1]
    assert gw.metrics()["gwfast_worker_restarts_total"] == 0


def test_the_stack_is_asked_for_without_harm(start) -> None:
    """The signal that does so comes to a worker that is fine, again and again, while it serves."""
    gw = start(workers=1)
    load = Load(gw, 2)
    worker, = gw.workers()
    for _ in range(200):
        os.kill(worker, signal.SIGURG)
        elapse(0.002)
    load.more(50)
    load.end()
    assert not load.failed and gw.workers() == [worker]


@pytest.mark.parametrize("path", ["/fork", "/inherit"])
def test_a_worker_whose_children_have_what_it_had_is_replaced_all_the_same(start, path: str) -> None:
    """Its end is seen although they keep its descriptors open, the control socket perhaps among them."""
    gw = start(workers=1)
    child = int(gw.get(path).body)
    try:
        worker, = set(gw.workers()) - {child}
        for _ in range(20):
            assert gw.get("/plain", connection="close").status == 200
        assert set(gw.workers()) == {worker, child} or path == "/inherit" and gw.workers() == [worker]
        os.kill(worker, signal.SIGKILL)
        until(lambda: gw.metrics()["gwfast_worker_restarts_total"] == 1)
        assert gw.get("/plain").status == 200
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_crash_is_told_with_its_stack(start) -> None:
    gw = start()
    lost = gw.connect()
    lost.send(b"GET /abort HTTP/1.1\r\nHost: a\r\n\r\n")
    assert lost.at_end()
    lost.close()
    until(lambda: events(gw, "a worker died and is replaced"))
    told, = events(gw, "a worker died and is replaced")
    assert told["status"] == "SIGABRT" and re.search(r'filters\.py", line \d+ in on_request', told["stack"])
    victim = gw.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(events(gw, "a worker died and is replaced")) == 2)
    assert "stack" not in events(gw, "a worker died and is replaced")[1], "each has its own"


def test_idle_workers_do_not_wake_more_often_for_it(start) -> None:
    gw = start()
    pid = gw.workers()[0]

    def switches() -> int:
        return int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    before, began = switches(), time.monotonic()
    elapse(2)
    assert (switches() - before) / (time.monotonic() - began) < 15      # the tick that was there


def test_descriptors_stay_as_they_were(start) -> None:
    gw = start("--worker-timeout", "0s")

    def held() -> int:
        return len(os.listdir(f"/proc/{gw.process.pid}/fd"))
    victim = gw.workers()[0]
    counts = [held() + 1]       # a connection of the admin server may be there or not
    for n in range(4):
        os.kill(victim, signal.SIGSTOP)
        until(lambda n=n: len(events(gw, "a worker does not answer")) == n + 1)
        assert all(gw.get("/plain").status == 200 for _ in range(20))
        os.kill(victim, signal.SIGCONT)
        until(lambda: stuck(gw) == 0)
        counts.append(held())
    assert max(counts) <= counts[0], counts


def test_h2load_reaches_others(start) -> None:
    """Many connections at once: those that the stopped one has are its own, all others are served."""
    gw = start("--worker-timeout", "0s")
    os.kill(gw.workers()[0], signal.SIGSTOP)
    until(lambda: stuck(gw) == 1)
    try:
        done = subprocess.run(["h2load", "-n", "2000", "-c", "100", "--h1", f"http://127.0.0.1:{gw.port}/plain"], capture_output=True,
                              text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("h2load is not installed")
    assert "2000 succeeded, 0 failed" in done.stdout


def test_an_idle_worker_wakes_seldom_and_is_not_silent(start):
    """What an idle gateway costs is what its processes wake up."""
    gw = start(workers=1)
    (worker,) = gw.workers()

    def wakes() -> int:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{worker}/status").read_text(), re.M)[1])
    end = time.monotonic() + 60
    while True:  # what begins or ends beside it may wake it
        before = wakes()
        elapse(3)
        if wakes() - before <= 15:  # it would be 30 at a tick of 0.1 s
            break
        assert time.monotonic() < end, wakes() - before
    assert gw.workers() == [worker] and gw.metrics()["gwfast_workers_stuck"] == 0 and "does not answer" not in gw.errors()
    os.kill(worker, signal.SIGSTOP)
    until(lambda: gw.metrics()["gwfast_workers_stuck"] == 1, 30)
    os.kill(worker, signal.SIGCONT)
    until(lambda: gw.metrics()["gwfast_workers_stuck"] == 0, 30)
