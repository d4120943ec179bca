"""Upgrades of the program under load: python -m bench upgrades [--upgrades 10] [--requests 1000000].

A round is one upgrade (`gwfast upgrade`) in the middle of load over every wire: HTTP/1.1 with connections that stay open and
with new ones (client.c), over TLS, and HTTP/2 in clear and over TLS (strict.py). What counts as a failure is said there and in
client.c. There are as many rounds as it takes for both numbers. WebSockets stay open from the first to the last round: they are
old workers', all the while.
"""
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import strict
from bench.load import asking
from bench.machine import compiled, free_port, running, until
from bench.scenes import Ask
from bench.wire import TLS
from bench.world import gateway, route, service

ROOT = Path(__file__).parents[1]
SIZE = 35
WEBSOCKETS = 20
CONNECTIONS = {"http1": 32, "http1-new": 8, "tls": 8, "tls-new": 2, "h2c": 4, "h2": 4}
OURS = ("http1", "http1-new")  # which client.c speaks
BEFORE = 1.5  # seconds of load before an upgrade, and after it
DRAIN = 600  # seconds: WebSockets are not to end before the last round


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What clients of one wire saw in all rounds."""

    wire: str
    requests: int
    failed: int
    retried: int
    upgrades: int
    seconds: float  # the longest upgrade
    lived: int = 0


class Gateway:
    """A gateway with two workers, HTTP and HTTPS, in front of a backend and of one that speaks WebSockets."""

    def __init__(self, folder: Path, backend: int, sockets: int):
        self.ports = {80: free_port(), 443: free_port()}
        self.admin = f"127.0.0.1:{free_port()}"
        self.folder = folder
        made = gateway(TLS)
        made[0]["spec"]["listeners"].append({"name": "clear", "protocol": "HTTP", "port": 80})
        made += [*service("first", [backend]), *service("sockets", [sockets]), route("all", "first"),
                 route("ws", "sockets", {"path": {"type": "PathPrefix", "value": "/ws"}})]
        folder.mkdir()
        (folder / "all.json").write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": made}))

    def command(self) -> list[str]:
        ports = ",".join(f"{spec}:{port}" for spec, port in self.ports.items())
        return [sys.executable, "-m", "gwfast", "run", str(self.folder), "--workers", "2", "--bind", "127.0.0.1",
                "--port-map", ports, "--admin", self.admin, "--access-log", "off", "--log-level", "warning",
                "--drain-timeout", f"{DRAIN}s"]

    def tell(self, verb: str, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "gwfast", verb, "--admin", self.admin, *options], capture_output=True,
                              text=True)

    def ready(self) -> bool:
        return self.tell("healthcheck").returncode == 0

    def upgrade(self) -> float:
        """Upgrade; return for how many seconds that took."""
        done = self.tell("upgrade", "-o", "json")
        if done.returncode:
            raise OSError(f"no upgrade: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)["seconds"]


@contextlib.contextmanager
def clients(wire: str, port: int, connections: int) -> Iterator[list[strict.Count]]:
    """Strict clients while the block runs; the list has what they saw afterwards."""
    seen: list[strict.Count] = []
    command = [sys.executable, "-m", "bench.strict", wire, str(port), str(connections)]
    with running(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield seen
        process.terminate()
        seen.append(msgspec.json.decode(process.communicate(timeout=60)[0], type=strict.Count))


def round_of(gw: Gateway) -> tuple[dict[str, strict.Count], float]:
    """Return what every wire's clients saw of one upgrade, and for how many seconds it took."""
    with contextlib.ExitStack() as stack:
        ours = {wire: stack.enter_context(asking(gw.ports[80], [Ask()], seconds=600, connections=CONNECTIONS[wire], size=SIZE,
                                                 close=wire == "http1-new", cut=True)) for wire in OURS}
        others = {wire: stack.enter_context(clients(wire, gw.ports[443 if strict.WIRES[wire][1] else 80], many))
                  for wire, many in CONNECTIONS.items() if wire not in OURS}
        time.sleep(BEFORE)
        seconds = gw.upgrade()
        time.sleep(BEFORE)
    counts = {wire: strict.Count(answered=seen.answered, failed=seen.errors, retried=seen.retried)
              for wire, [seen] in ours.items()}
    return counts | {wire: seen for wire, [seen] in others.items()}, seconds


def run(upgrades: int, requests: int) -> list[Figure]:
    """Upgrade so often at least, with so many requests at least; return what each wire's clients saw."""
    totals = {wire: strict.Count() for wire in CONNECTIONS}
    longest, rounds = 0.0, 0
    with contextlib.ExitStack() as stack:
        backend, sockets = free_port(), free_port()
        stack.enter_context(running([compiled("backend"), str(SIZE), str(backend)]))
        stack.enter_context(running([sys.executable, "-m", "gwfast", "echo", str(sockets)], stdout=subprocess.DEVNULL))
        gw = Gateway(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "world", backend, sockets)
        stack.enter_context(running(gw.command(), env=os.environ | {"PYTHONPATH": str(ROOT)}))
        until(gw.ready)
        with clients("websocket", gw.ports[80], WEBSOCKETS) as seen:
            while rounds < upgrades or sum(total.answered for total in totals.values()) < requests:
                counts, seconds = round_of(gw)
                rounds, longest = rounds + 1, max(longest, seconds)
                for wire, count in counts.items():
                    add(totals[wire], count)
                answered, failed = (sum(getattr(total, name) for total in totals.values()) for name in ("answered", "failed"))
                print(f"upgrade {rounds}: {seconds:.1f} s; {answered:,} requests, {failed} failed", file=sys.stderr)
        totals["websocket"] = seen[0]
    for wire, total in totals.items():
        for words in total.said:
            print(f"{wire}: {words}", file=sys.stderr)
    return [Figure(wire=wire, requests=total.answered, failed=total.failed, retried=total.retried, upgrades=rounds,
                   seconds=longest, lived=total.lived) for wire, total in totals.items()]


def add(total: strict.Count, count: strict.Count) -> None:
    for name in ("answered", "failed", "retried", "connections", "ended"):
        setattr(total, name, getattr(total, name) + getattr(count, name))
    total.said += count.said


def table(figures: list[Figure]) -> str:
    """Return a line for each wire, and their sum."""
    lines = [f"{'wire':12}{'requests':>12}{'failed':>8}{'retried':>9}"]
    lines += [f"{each.wire:12}{each.requests:>12,}{each.failed:>8}{each.retried:>9}" for each in figures]
    asked = [each for each in figures if each.wire != "websocket"]
    lines.append(f"{'all':12}{sum(each.requests for each in asked):>12,}{sum(each.failed for each in asked):>8}"
                 f"{sum(each.retried for each in asked):>9}")
    sockets = next(each for each in figures if each.wire == "websocket")
    lines.append(f"{sockets.upgrades} upgrades, the longest took {sockets.seconds:.1f} s; {sockets.lived} of {WEBSOCKETS} "
                 "WebSockets lived on")
    return "\n".join(lines)


def failed(figures: list[Figure]) -> bool:
    return any(each.failed or each.wire == "websocket" and each.lived < WEBSOCKETS for each in figures)
