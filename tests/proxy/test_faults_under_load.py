"""Whole gateways under load while what is behind them hangs, dies, comes and goes: what every client saw is counted (wrk), and what
reached backends and authorizers. Nothing here depends on how fast anything is.
"""
import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.gateway import Gateway, free_port, gateway, resource, route, rule, until
from support.tls import frees_memory, needs, plain_environment
from support.waiting import elapse

from gwfast import limits
from gwfast.config.model import EXPERIMENTAL_GROUP

pytestmark = needs("wrk")

SECONDS = 2.0
CLIENTS = 24
MEGABYTE = 1 << 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok!"
NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
FAILED = 'gwfast_faults_total{fault="authorizer_failed"}'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
SCRIPT = """
local threads, asked = {}, 0
counts = {}
function setup(thread) table.insert(threads, thread) end
function init(args) paths = args end
function request()
  asked = asked + 1
  return wrk.format(nil, paths[asked % #paths + 1])
end
function response(status) counts[status] = (counts[status] or 0) + 1 end
function done(summary)
  local errors = summary.errors
  io.write("told:", errors.connect + errors.read + errors.write + errors.timeout)
  for _, thread in ipairs(threads) do
    for status, n in pairs(thread:get("counts")) do io.write(" ", status, "=", n) end
  end
  io.write("\\n")
end
"""


class Server:
    """Answers each head by its target; counts them. It can die, with all that is open, and listen again on the same port."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer, self.port, self.counts = answer, free_port(), {}
        self.open: set[asyncio.Transport] = set()
        self.server: asyncio.Server | None = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.live()

    def do(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def live(self) -> None:
        async def begin() -> None:
            self.server = await self.loop.create_server(lambda: Answering(self), "127.0.0.1", self.port, backlog=512)
        self.do(begin())

    def die(self) -> None:
        async def end() -> None:
            self.server.close()
            for each in list(self.open):
                each.abort()
        self.do(end())

    def stop(self) -> None:
        self.die()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    @property
    def count(self) -> int:
        return sum(self.counts.values())


class Answering(asyncio.Protocol):
    """One connection. Bodies have no empty line, so whatever ends with one is a head."""

    def __init__(self, server: Server) -> None:
        self.server, self.rest = server, b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.server.open.add(transport)

    def connection_lost(self, exc) -> None:
        self.server.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for head in heads:
            target = head.partition(b" HTTP/1.1\r\n")[0].rpartition(b" ")[2]
            self.server.counts[target] = self.server.counts.get(target, 0) + 1
            self.transport.write(self.server.answer(target))


class Told(NamedTuple):
    """What all clients saw: errors (connections, timeouts), and how many responses of each status."""

    errors: int
    statuses: dict[int, int]


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(answer: Callable[[bytes], bytes] = lambda target: OK) -> Server:
        made.append(Server(answer))
        return made[-1]
    yield make
    for one in made:
        one.stop()


class Load:
    """wrk for SECONDS, from CLIENTS connections."""

    def __init__(self, gw: Gateway, folder: Path, *paths: str, body: int = 0) -> None:
        script = folder / "load.lua"
        script.write_text((f'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n' if body else "") + SCRIPT)
        self.process = subprocess.Popen(
            ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS:g}s", "--timeout", "30s", "-s", str(script), f"http://127.0.0.1:{gw.port}/", "--",
             *(paths or ("/",))], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=plain_environment())

    def told(self) -> Told:
        text, _ = self.process.communicate(timeout=60)
        errors, *counts = next(line for line in text.splitlines() if line.startswith("told:")).removeprefix("told:").split()
        pairs = (one.split("=") for one in counts)
        return Told(int(errors), {int(status): int(n) for status, n in pairs})


def named(name: str, *ports: int) -> list[dict]:
    slices = [{**resource("EndpointSlice", f"{name}-{n}", api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
               "addressType": "IPv4", "ports": [{"port": port}], "endpoints": [{"addresses": ["127.0.0.1"]}]} for n, port in enumerate(ports)]
    return [resource("Service", name, {"ports": [{"port": 80}]}, "v1"), *slices]


def mirror(name: str) -> dict:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}}


def budget(percent: int, count: int) -> dict:
    """Of the retries of Service 'app', for an hour: what a test does is in one interval."""
    return resource("XBackendTrafficPolicy", "budget", {
        "targetRefs": [{"group": "", "kind": "Service", "name": "app"}],
        "retryConstraint": {"budget": {"percent": percent, "interval": "1h"}, "minRetryRate": {"count": count, "interval": "1h"}}},
        api=f"{EXPERIMENTAL_GROUP}/v1alpha1")


def mirrored(gw: Gateway) -> dict[str, float]:
    """Copies by what became of them."""
    metrics = gw.metrics()
    return {end: metrics[f'gwfast_mirror_requests_total{{result="{end}"}}'] for end in ("answered", "failed", "slow", "late", "busy")}


def held(gw: Gateway) -> tuple[int, int]:
    """Descriptors and bytes of memory of its only worker."""
    [worker] = gw.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return len(list(Path(f"/proc/{worker}/fd").iterdir())), int(resident) * 1024


def over(gw: Gateway) -> None:
    """Nobody waits for anything any more."""
    until(lambda: gw.metrics()["gwfast_requests_open"] == 0, 15)


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """A socket that takes connections and never reads: the kernel accepts them."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        yield listening


@frees_memory
@pytest.mark.parametrize("body", [0, 3000, 200_000])
def test_a_mirror_that_hangs(run, server, hanging, tmp_path, body) -> None:
    """Clients see nothing of it, and what the worker has for its copies is bounded."""
    app = server()
    gw = run(gateway(free_port()), named("app", app.port), named("shadow", hanging.getsockname()[1]),
             route("r", rule("app", filters=[mirror("shadow")])), options=("--access-log", "off"))
    files, memory = held(gw)
    load = Load(gw, tmp_path, body=body)
    most = [0, 0]
    while load.process.poll() is None:
        most = [max(pair) for pair in zip(most, held(gw), strict=True)]
        elapse(0.05)
    told = load.told()
    assert told.errors == 0 and set(told.statuses) == {200} and told.statuses[200] > 100
    over(gw)
    ends = mirrored(gw)
    assert ends["answered"] == 0 and ends["busy"] + ends["slow"] > 0
    assert ends["failed"] <= CLIENTS   # of those who were in the middle of a body when their time was over
    assert app.count - sum(ends.values()) <= limits.MIRROR_CALLS       # that many are under way; every other copy was given up
    assert most[0] <= files + limits.MIRROR_CALLS + 2 * CLIENTS + 8
    assert most[1] <= memory + limits.MIRROR_CALLS * 2 * limits.MIRROR_BYTES + 16 * MEGABYTE


def test_a_mirror_that_is_dead(run, server, tmp_path) -> None:
    app = server()
    gw = run(gateway(free_port()), named("app", app.port), named("shadow", free_port()),
             route("r", rule("app", filters=[mirror("shadow")])), options=("--access-log", "off"))
    files, _ = held(gw)
    told = Load(gw, tmp_path).told()
    assert told.errors == 0 and set(told.statuses) == {200} and told.statuses[200] > 100
    over(gw)
    until(lambda: sum(mirrored(gw).values()) == app.count)
    assert mirrored(gw)["failed"] == app.count and app.count - told.statuses[200] <= CLIENTS
    assert held(gw)[0] <= files + 2 * CLIENTS + 8


def test_an_authorizer_that_dies(run, server, tmp_path) -> None:
    """Nothing but what it allows is 200 and reaches the backend; while it is away all is 403; then it is asked again."""
    app, auth = server(), server(lambda target: OK if target == b"/fine" else NO)
    ask = {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "http": {}, "backendRef": {"name": "auth", "port": 80}}}
    gw = run(gateway(free_port()), named("app", app.port), named("auth", auth.port), route("r", rule("app", filters=[ask])),
             options=("--access-log", "off"))
    for dies in (True, False):
        before, load = dict(app.counts), Load(gw, tmp_path, "/fine", "/denied")
        if dies:
            until(lambda: app.count > 100)
            auth.die()
            until(lambda: gw.metrics()[FAILED] > 50)
            auth.live()
        told = load.told()
        assert told.errors == 0 and set(told.statuses) == ({200, 401, 403} if dies else {200, 401})
        over(gw)
        assert set(app.counts) == {b"/fine"}
        assert 0 <= app.count - sum(before.values()) - told.statuses[200] <= CLIENTS
        gw.serves("/fine", 200)


@pytest.mark.parametrize("stands", [True, False], ids=["one of two", "the only one"])
def test_a_backend_that_comes_and_goes(run, server, tmp_path, stands) -> None:
    """With another endpoint, and retries, clients see nothing of it; without one they see 200 and 503."""
    app, flapping = [server()] if stands else [], server()
    retry = {"codes": [503], "attempts": 3, "backoff": "1ms"}
    gw = run(gateway(free_port()), named("app", flapping.port, *(one.port for one in app)), route("r", rule("app") | {"retry": retry}),
             budget(100, 1_000_000), options=("--access-log", "off"))
    load = Load(gw, tmp_path)
    while load.process.poll() is None:
        elapse(0.1)
        flapping.die()
        elapse(0.1)
        flapping.live()
    told = load.told()
    assert told.errors == 0 and told.statuses.pop(200) > 100
    assert set(told.statuses) <= (set() if stands else {502, 503})
    over(gw)
    gw.serves("/", 200)
    told = Load(gw, tmp_path).told()
    assert told.errors == 0 and set(told.statuses) == {200}


@pytest.mark.parametrize(("percent", "minimum"), [(20, 10), (0, 25), (50, 1)])
def test_a_storm_of_retries(run, server, tmp_path, percent, minimum) -> None:
    """A backend that is overloaded gets no more than the budget: retries are that share of its requests, or the minimum."""
    app = server(lambda target: BUSY)
    gw = run(gateway(free_port()), named("app", app.port), budget(percent, minimum),
             route("r", rule("app") | {"retry": {"codes": [503], "attempts": 3, "backoff": "1ms"}}), options=("--access-log", "off"))
    told = Load(gw, tmp_path).told()
    assert told.errors == 0 and set(told.statuses) == {503} and told.statuses[503] > 100
    over(gw)
    metrics = gw.metrics()
    retries = int(metrics["gwfast_upstream_retries_total"])
    assert 0 <= app.count - retries - told.statuses[503] <= CLIENTS
    assert minimum <= retries <= max(minimum, app.count * percent // 100)
