"""Requests that are forwarded: what each costs, how long it takes, and how that depends on the number of routes."""
import math
import socket
import statistics
import time
from collections.abc import Callable

import msgspec

from bench.contenders import Contender
from bench.h2load import h2load
from bench.kinds.base import WARM_UP, Case, Found
from bench.load import Load, load
from bench.machine import held, until, used
from bench.scenes import Ask, Scene, features
from bench.stage import Figure, Options, stage
from bench.wire import CLEAR


class Throughput(Case):
    """Everybody asks as fast as they are answered: CPU time of all processes per request, and requests per second.
    On other wires than HTTP/1.1 in clear h2load asks."""

    size: int = 35
    close: bool = False
    workers: int = 1
    connections: int = 0  # 0: as the run was told
    streams: int = 1  # at a time on each
    alone: bool = False  # nobody else is measured
    enough: float = math.inf  # us/request: two rounds tell as much as is asked of who needs more

    def run(self, options: Options) -> Found:
        if self.alone:
            options = msgspec.structs.replace(options, contenders=("gwfast",))
        with stage(self.name, self.scene(), options, size=self.size, workers=self.workers, wire=self.wire) as on:
            points = {point: (ask, on.all()) for point, ask in on.scene.asks.items()}
            yield from on.notes
            yield from self.turns(points, options)

    def takes(self, contenders: int) -> float:
        return self.setup + contenders * (WARM_UP + self.rounds * (self.seconds + 0.05))

    def turns(self, points: dict[str, tuple[Ask, list[Contender]]], options: Options) -> Found:
        """Every point of every contender, in turn."""
        slow: set[tuple[str, str]] = set()
        for ask, contenders in points.values():
            for contender in contenders:
                self.load(contender, ask, options, WARM_UP)
        for turn in range(self.rounds):
            for point, (ask, contenders) in points.items():
                for contender in contenders:
                    if (contender.name, point) in slow:
                        continue
                    for each in self.measure(contender, point, ask, options, turn):
                        yield each
                        if turn and isinstance(each, Figure) and each.measure == "CPU" and each.value > self.enough:
                            slow.add((contender.name, point))

    def load(self, contender: Contender, ask: Ask, options: Options, seconds: float) -> Load:
        how = {"seconds": seconds, "size": self.size, "connections": self.connections or options.connections}
        if self.wire == CLEAR:
            return load(contender.port, [ask], close=self.close, **how)
        return h2load(contender.port, ask, self.wire, streams=self.streams, **how)

    def measure(self, contender: Contender, point: str, ask: Ask, options: Options, turn: int) -> Found:
        pids = contender.pids()
        before = used(pids)
        seen = self.load(contender, ask, options, self.seconds)
        spent = used(pids) - before
        at = {"point": point, "round": turn}
        if not seen.answered:
            yield self.note(contender, "answered nothing")
            return
        yield self.figure(contender, "CPU", "us/request", spent.total / seen.answered, **at)
        yield self.figure(contender, "user", "us/request", spent.user / seen.answered, **at)
        yield self.figure(contender, "system", "us/request", spent.system / seen.answered, **at)
        yield self.figure(contender, "rate", "requests/s", seen.answered / seen.seconds, **at)
        yield self.figure(contender, "memory", "MiB", held(pids) / 2**20, **at)
        yield self.figure(contender, "errors", "", seen.errors, **at)


class Routes(Throughput, frozen=True, kw_only=True):
    """The first and the last of many routes, beside the same contender with one route (the point 'one'), in turn."""

    count: int
    shape: Callable[[int], Scene]
    enough: float = 1000.0

    def run(self, options: Options) -> Found:
        with (stage(self.name, self.shape(self.count), options) as on, stage(self.name, self.shape(1), options) as other):
            many = on.all()
            one = [each for each in other.all() if each.name in {more.name for more in many}]
            yield from on.notes
            points = {"one": (other.scene.asks["first"], one),
                      **{point: (ask, many) for point, ask in on.scene.asks.items()}}
            yield from self.turns(points, options)

    def takes(self, contenders: int) -> float:
        return self.setup + (contenders - 1) * 3 * (WARM_UP + self.rounds * (self.seconds + 0.05))


class Logged(Throughput):
    """Everybody with an access log in JSON, into a file, beside himself without one (the points 'on' and 'off')."""

    def run(self, options: Options) -> Found:
        with (stage(self.name, self.scene(), options, log=True) as on, stage(self.name, self.scene(), options) as off):
            logging = on.all()
            silent = [each for each in off.all() if each.name in {one.name for one in logging}]
            yield from on.notes
            ask = next(iter(on.scene.asks.values()))
            yield from self.turns({"off": (ask, silent), "on": (ask, logging)}, options)
            for contender in logging:
                try:
                    until(lambda one=contender: any(line.startswith(b"{") for line in one.lines()), 12.0, 0.1)
                except TimeoutError:
                    yield self.note(contender, "wrote no line of JSON")

    def takes(self, contenders: int) -> float:
        return 2 * super().takes(contenders)


class Late(Case):
    """How late a 504 comes, when nothing else is to be done: a request whose body does not come is not answered by its
    backend either, until `limit` of the rule ends it."""

    rounds: int = 20
    seconds: float = 0.05
    limit: float = 0.05  # seconds

    def run(self, options: Options) -> Found:
        options = msgspec.structs.replace(options, contenders=("gwfast",))
        with stage(self.name, self.limited(), options) as on:
            gateways = on.all()
            yield from on.notes
            head = on.scene.asks["limited"].head().replace(b"GET", b"POST", 1)
            for turn in range(self.rounds):
                for gateway in gateways:
                    took, answer = self.ask(gateway.port, head.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"))
                    yield self.figure(gateway, "late", "ms", (took - self.limit) * 1000, round=turn)
                    yield self.figure(gateway, "errors", "", not answer.startswith(b"HTTP/1.1 504 "), round=turn)

    def limited(self) -> Scene:
        return features(limited={"timeouts": {"request": f"{self.limit * 1000:.0f}ms"}})

    @staticmethod
    def ask(port: int, request: bytes) -> tuple[float, bytes]:
        """The seconds until an answer, and its first bytes."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            since = time.perf_counter()
            client.sendall(request)
            answer = client.recv(4096)
            return time.perf_counter() - since, answer


class Latency(Case):
    """Times at a fixed rate, the same for all, in an open loop: so many requests a second, or a share of nginx's highest
    rate (of the first's, without nginx). Who cannot carry it is left out."""

    rounds: int = 15
    seconds: float = 1.0
    share: float = 0.6
    rate: int = 0

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            contenders = on.all()
            yield from on.notes
            if not contenders:
                return
            ask = next(iter(on.scene.asks.values()))
            how = {"connections": options.connections, "size": 35}
            highest = self.highest(contenders, ask, how)
            rate = self.rate or max(1, int(highest.get("nginx", highest[contenders[0].name]) * self.share))
            for contender in list(contenders):
                if highest[contender.name] < rate * 1.1:
                    contenders.remove(contender)
                    yield self.note(contender, f"cannot carry {rate:,} requests/s: {highest[contender.name]:,.0f} at most")
            for turn in range(self.rounds):
                for contender in contenders:
                    seen = load(contender.port, [ask], seconds=self.seconds, rate=rate, **how)
                    for name, value in (("p99", seen.typical), ("p50", seen.p50), ("p99 of all", seen.p99),
                                        ("p99.9 of all", seen.p999)):
                        yield self.figure(contender, name, "us", value, round=turn)
                    yield self.figure(contender, "offered", "requests/s", rate, round=turn)
                    yield self.figure(contender, "errors", "", seen.errors, round=turn)
                    if not seen.first:
                        yield self.note(contender, "the client had to wait for its core: times have that in them (it needs root)")

    def highest(self, contenders: list[Contender], ask: Ask, how: dict) -> dict[str, float]:
        """The highest rate of each: the middle of three rounds, which warm it up as well."""
        rates: dict[str, list[float]] = {each.name: [] for each in contenders}
        for _ in range(3):
            for contender in contenders:
                seen = load(contender.port, [ask], seconds=min(0.5, self.seconds), **how)
                rates[contender.name].append(seen.answered / seen.seconds)
        return {name: statistics.median(found) for name, found in rates.items()}

    def takes(self, contenders: int) -> float:
        carry = contenders if self.rate else max(1, contenders - 2)
        return self.setup + contenders * 3 * min(0.5, self.seconds) + carry * self.rounds * (self.seconds + 0.05)
