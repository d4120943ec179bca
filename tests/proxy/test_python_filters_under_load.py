"""Filters in Python under load (wrk): a file that changes, a filter that raises or hangs now and then, and what is left behind."""
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from support.gateway import Gateway, free_port, gateway, route, rule, service, until, write
from support.tls import frees_memory, needs, shell
from support.python_filters import Noisy, extension, python_filter
from support.waiting import elapse

pytestmark = needs("wrk")

CLIENTS = 16
VERSION = '''
import asyncio
from gwfast.filters import Filter

class V(Filter):
    stopped = False

    async def on_request(self, request):
        request.headers["x-version"] = "%d"
        await asyncio.sleep(0.002)
        if self.stopped:
            raise RuntimeError("stopped with requests inside")

    async def on_response(self, request, response):
        if self.stopped or request.headers["x-version"] != "%d":
            raise RuntimeError("another one's request")
        response.observe(self.see)

    def see(self, piece, last):
        if self.stopped:
            raise RuntimeError("stopped with responses inside")

    async def stop(self):
        self.stopped = True
'''
WRONG = '''
import asyncio
from gwfast.filters import Filter, Response

class Now(Filter):
    """Every tenth request."""

    def __init__(self, config):
        self.config, self.count = config, 0

    async def on_request(self, request):
        if request.path == "/tasks":
            return Response(200, [], str(len(asyncio.all_tasks())).encode())
        self.count += 1
        if self.count % 10 == 0:
            if self.config["hangs"]:
                await asyncio.sleep(60)
            raise RuntimeError("the tenth")
        await request.body()
'''


class Told(NamedTuple):
    requests: int
    wrong: int


def load(gw: Gateway, seconds: int = 2) -> Told:
    text = shell("wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "20s", f"http://127.0.0.1:{gw.port}/", seconds=60)
    assert "Socket errors" not in text, text
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Told(int(re.search(r"(\d+) requests in", text)[1]), int(wrong[1]) if wrong else 0)


@pytest.fixture
def start(tmp_path: Path, backend):
    started = []

    def begin(code: str, name: str, **more) -> Gateway:
        folder = tmp_path / "conf"
        folder.mkdir()
        (folder / "f.py").write_text(code)
        write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), python_filter(name, "f.py", name, **more),
              route("all", rule("one", filters=extension(name))))
        started.append(Noisy(folder, "--access-log", "off"))
        return started[-1]
    yield begin
    for one in started:
        one.stop()


def test_a_file_that_changes_costs_nobody_anything(start, tmp_path: Path) -> None:
    """Each request meets one version, and none that was stopped meanwhile."""
    gw, end = start(VERSION % (0, 0), "V"), time.monotonic() + 3.5

    def change() -> None:
        for n in range(1, 100):
            if time.monotonic() > end:
                return
            new = tmp_path / "new.py"
            new.write_text(VERSION % (n, n))
            new.replace(gw.folder / "f.py")
            elapse(0.6)
    changing = threading.Thread(target=change)
    changing.start()
    told = load(gw, 4)
    changing.join()
    assert told.wrong == 0 and told.requests > 200, gw.errors()
    assert "RuntimeError" not in gw.errors()


def test_one_that_raises_hurts_whom_it_raises_for(start) -> None:
    gw = start(WRONG, "Now", config={"hangs": False})
    told = load(gw)
    assert told.requests > 200 and abs(told.wrong - told.requests / 10) <= CLIENTS / 10 + 1
    assert gw.errors().count("the tenth") < 5          # told now and then, not each time


@pytest.mark.parametrize("failure", ["Closed", "Open"])
def test_one_that_hangs_is_left_behind(start, failure) -> None:
    gw = start(WRONG, "Now", config={"hangs": True}, timeout="50ms", failure=failure)
    told = load(gw)
    assert told.requests > 200
    if failure == "Open":
        assert told.wrong == 0
    else:
        assert abs(told.wrong - told.requests / 10) <= CLIENTS        # at the end most of them may hang
    until(lambda: int(gw.get("/tasks").body) <= 3)     # its own, and the loop's


@frees_memory
def test_memory_stays(start) -> None:
    gw = start(VERSION % (0, 0), "V")

    def resident() -> int:
        [worker] = gw.workers()
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1])
    load(gw)
    before = resident()
    told = load(gw, 4)
    assert told.wrong == 0 and resident() - before < 1500, f"{resident() - before} KiB for {told.requests} requests"
