"""What /metrics says of filters in Python: which of them fails, how often and why, and that no count is lost."""
import os
import signal
import threading
from pathlib import Path

import pytest
from support.backend import wait
from support.gateway import Gateway, free_port, gateway, route, rule, service, until, write
from support.python_filters import FILTERS as COMMON
from support.python_filters import Noisy, extension, python_filter

FILTERS = COMMON + '''

class LateReply(Filter):
    async def on_response(self, request, response):
        await asyncio.sleep(3600)

class Expires(Filter):                      # a time of its own, not the one of the PythonFilter
    async def on_request(self, request):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)

class Field(Filter):
    async def on_request(self, request):
        request.headers["content-length"] = "5"

class Chooses(Filter):
    async def on_request(self, request):
        request.backend = "nobody"

class Status(Filter):
    async def on_response(self, request, response):
        response.status = 99

class Long(Filter):
    async def on_request(self, request):
        await request.body()

class Starts(Filter):
    async def start(self):
        raise RuntimeError("cannot")

class Breaks(Filter):
    async def on_response(self, request, response):
        def change(piece, last):
            if b"more" in piece:
                raise RuntimeError("in the middle")
            return piece
        response.transform(change)
'''
FAST, OPEN = {"timeout": "50ms"}, {"failure": "Open"}
# class, what else its PythonFilter says, the status, why it failed
ASKED = [
    ("Nothing", {}, 200, ""),
    ("Raises", {}, 500, "exception"),
    ("Raises", OPEN, 200, "exception"),
    ("Late", FAST, 500, "timeout"),
    ("Late", FAST | OPEN, 200, "timeout"),
    ("LateReply", FAST, 500, "timeout"),
    ("Expires", {}, 500, "exception"),
    ("Field", {}, 500, "invalid"),
    ("Chooses", OPEN, 200, "invalid"),
    ("Status", {}, 500, "invalid"),
    ("Long", {"maxBody": 0}, 413, ""),      # the client's fault
    ("Gone", {"file": "gone.py"}, 500, "not_loaded"),
    ("Starts", OPEN, 200, "not_loaded"),
]
NAMES = [f"f{i}-{class_.lower()}" for i, (class_, *_) in enumerate(ASKED)]
NOT_LOADED = [f"default/{name}" for name, (*_, reason) in zip(NAMES, ASKED, strict=True) if reason == "not_loaded"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "conf"
    made.mkdir()
    (made / "filters.py").write_text(FILTERS)
    return made


def counted(running: Gateway) -> dict[str, float]:
    """What /metrics says of filters in Python, where it is not 0."""
    return {sample.removeprefix("gwfast_python_filter_"): n for sample, n in running.metrics().items()
            if sample.startswith("gwfast_python_filter_") and n}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_each_filter_is_counted_by_all_workers_together(backend, folder: Path, ending):
    """Open or closed; also what those counted that ended, or were killed."""
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")),
          *(python_filter(name, class_=class_, **more) for name, (class_, more, *_) in zip(NAMES, ASKED, strict=True)),
          *(route(name, rule("one", path=f"/{name}", filters=extension(name))) for name in NAMES))
    running = Noisy(folder, "--workers", "2")
    expected = {f'unloaded{{filter="{name}"}}': 2 for name in NOT_LOADED}      # workers
    expected |= {f'failures_total{{filter="{name}",reason="load"}}': 2 for name in NOT_LOADED}
    try:
        for times, (name, (_, _, status, reason)) in enumerate(zip(NAMES, ASKED, strict=True), 8):
            assert {running.get(f"/{name}", body=b"body").status for _ in range(times)} == {status}
            expected[f'requests_total{{filter="default/{name}"}}'] = times
            expected |= {f'failures_total{{filter="default/{name}",reason="{reason}"}}': times} if reason else {}
        assert counted(running) == expected
        for pid in running.workers():
            os.kill(pid, ending)
        expected |= {f'failures_total{{filter="{name}",reason="load"}}': 4 for name in NOT_LOADED}     # who took their places
        until(lambda: counted(running) == expected)
    finally:
        running.stop()


def test_a_filter_counts_on_whatever_table_comes(backend, folder: Path):
    """Also what goes wrong in a response that a table began which named the filter."""
    go = threading.Event()
    backend = backend("one")
    backend.on("/breaks", b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsome", wait(go), b"more")
    common = gateway(free_port()), service("one", backend)

    def table(path: str, *names: str) -> None:
        write(folder, "all.yaml", *common, [python_filter(name) for name in names],
              route("all", rule("one", path=path), *(rule("one", path=f"/{name.lower()}", filters=extension(name)) for name in names)))
    table("/first", "Raises", "Breaks")
    running = Noisy(folder)
    try:
        assert running.get("/raises").status == 500
        stream = running.connect()
        stream.send(b"GET /breaks HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.fill()
        table("/second")
        running.serves("/second")
        expected = {'requests_total{filter="default/raises"}': 1, 'failures_total{filter="default/raises",reason="exception"}': 1,
                    'requests_total{filter="default/breaks"}': 1}
        assert counted(running) == expected
        go.set()
        assert b"more" not in stream.rest()
        expected['failures_total{filter="default/breaks",reason="exception"}'] = 1
        until(lambda: counted(running) == expected)
        table("/third", "Raises")
        running.serves("/third")
        assert running.get("/raises").status == 500
        expected['requests_total{filter="default/raises"}'] = expected['failures_total{filter="default/raises",reason="exception"}'] = 2
        assert counted(running) == expected
    finally:
        go.set()
        running.stop()


def test_whether_the_last_load_went_well(backend, folder: Path):
    def loads(text: str, workers: int) -> None:
        new = folder.parent / "new.py"
        new.write_text(text)
        new.replace(folder / "filters.py")
        until(lambda: running.metrics()['gwfast_python_filter_unloaded{filter="default/nothing"}'] == workers)
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), python_filter("Nothing"),
          route("all", rule("one", filters=extension("Nothing"))))
    running = Noisy(folder, "--workers", "2")
    try:
        assert running.metrics()['gwfast_python_filter_unloaded{filter="default/nothing"}'] == 0
        loads("this is no Python", 2)
        assert running.get().status == 200      # by the version before
        assert counted(running)['failures_total{filter="default/nothing",reason="load"}'] == 2
        loads(FILTERS, 0)
        loads("neither is this", 2)
        write(folder, "all.yaml", gateway(free_port()), service("one", backend("two")), route("all", rule("one")))
        until(lambda: running.metrics()['gwfast_python_filter_unloaded{filter="default/nothing"}'] == 0)      # nobody wants it
    finally:
        running.stop()
