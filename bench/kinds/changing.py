"""What changes while it runs: one route, one more route, routes under load, endpoints, a backend that dies.

Before a time begins all that it takes is written and lies beside its place (contenders/base.py): in the time itself
files are moved, the contender is told, and nothing else is done.
"""
import contextlib
import statistics
import time

import msgspec

from bench.asked import Answer, answer
from bench.contenders import Contender
from bench.contenders.base import Moves
from bench.kinds.base import WARM_UP, Case, Found
from bench.load import asking, load
from bench.machine import until
from bench.scenes import Ask
from bench.stage import Options, Stage, stage

STATIC = 2  # contenders that do not change while they run: for the time that remains


def changing(on: Stage, name: str):
    """Start a contender, if it is one that can change while it runs."""
    if not on.changes(name):
        return contextlib.nullcontext((None, 0.0))
    return on.started(name)


def change(on: Stage, contender: Contender, number: int, ask: Ask, patience: float) -> tuple[float, list[Answer]]:
    """Point route `number` to the service of `ask`; the seconds until it answers, and all answers before."""
    on.world.put(number, on.scene.route(number, ask.to))
    moves = contender.staged(on.world)
    time.sleep(contender.settles)
    before: list[Answer] = []

    def right() -> bool:
        got = answer(contender.port, ask)
        if got.status == 200 and got.backend == str(on.backends.ports[ask.to]):
            return True
        before.append(got)
        return False

    begin = time.perf_counter()
    contender.change(moves)
    until(right, patience, 0.001)
    return time.perf_counter() - begin, before


class Change(Case):
    """One route among many goes to another service: from the change to the first answer from there. As many
    changes as there are rounds, or as hold in the seconds of the budget."""

    rounds: int = 11
    budget: float = 15.0

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            for name in options.contenders:
                with changing(on, name) as (contender, _):
                    if contender is not None:
                        yield from self.measure(on, contender)
            yield from on.notes

    def takes(self, contenders: int) -> float:
        return self.setup + max(1, contenders - STATIC) * self.budget

    def measure(self, on: Stage, contender: Contender) -> Found:
        count, end = len(on.scene.routes), time.monotonic() + self.budget
        for turn in range(self.rounds):
            if turn and time.monotonic() > end:
                yield self.note(contender, f"{turn} changes in {self.budget:g} s")
                return
            number = 1 + on.next() * 7919 % (count - 2)  # each only once: all have the same files
            try:
                seconds, _ = change(on, contender, number, on.scene.ask(number, "last"), 2 * self.budget)
            except TimeoutError as late:
                yield self.note(contender, f"a change was not live: {late}")
                return
            yield self.figure(contender, "live after", "ms", seconds * 1e3, round=turn)
            time.sleep(0.1)


class Grow(Case):
    """Routes come one by one, beside steady load on the first: time until each answers, and every wrong answer. gwfast
    has to add them all; the others add what they can in the seconds of the budget, fewer routes being easier.

    Wrong: anything but 404 before a route's first 200, anything but 200 from the first route, and anything but 200 from
    the route before when the next has come."""

    count: int = 3000
    rate: int = 500
    budget: float = 10.0

    def run(self, options: Options) -> Found:
        for name in options.contenders:
            with stage(self.name, self.scene(), options) as on:
                with changing(on, name) as (contender, _):
                    if contender is not None:
                        yield from self.measure(on, contender, 15 * self.budget if name == "gwfast" else self.budget)
                yield from on.notes

    def takes(self, contenders: int) -> float:
        return 4 * self.budget + max(0, contenders - STATIC - 1) * (self.budget + 1)

    def measure(self, on: Stage, contender: Contender, budget: float) -> Found:
        times: list[float] = []
        wrong, end = 0, time.monotonic() + budget
        with asking(contender.port, [on.scene.asks["first"]], seconds=budget + 5, connections=16, rate=self.rate,
                    size=35, cut=True) as seen:
            while len(times) < self.count and time.monotonic() < end:
                number = len(on.world)
                try:
                    seconds, before = change(on, contender, number, on.scene.ask(number, "rest"), 5)
                except TimeoutError:
                    yield self.note(contender, "a route did not come within 5 s: it was written again with the next")
                    wrong += 1
                    continue
                times.append(seconds * 1e3)
                wrong += sum(each.status not in contender.nowhere for each in before)
                if number > 1:
                    wrong += not on.right(contender, on.scene.ask(number - 1, "rest"))
        if not times:
            yield self.note(contender, "no route came")
            return
        yield self.figure(contender, "mean", "ms", statistics.fmean(times))
        yield self.figure(contender, "p99", "ms", sorted(times)[int(len(times) * 0.99)])
        yield self.figure(contender, "max", "ms", max(times))
        yield self.figure(contender, "routes", "", len(times))
        yield self.figure(contender, "wrong", "", wrong + seen[0].errors)
        if seen[0].errors:
            yield self.note(contender, f"of {seen[0].asked:,} requests beside: {seen[0].said()}")


class Churn(Case):
    """Something changes every 200 ms under steady load: times with changes and without, and every error.

    Rounds with and without take turns, so that their ratio says what the changes do and not what the machine did."""

    rounds: int = 9
    seconds: float = 1.5
    every: float = 0.2
    rate: int = 4000
    what: str = "routes"  # or 'endpoints'

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            contenders = on.all(changing=True)
            yield from on.notes
            for contender in contenders:
                load(contender.port, list(on.scene.asks.values()), seconds=WARM_UP, connections=16)
            for turn in range(self.rounds):
                for contender in contenders:
                    yield from self.measure(on, contender, turn)

    def takes(self, contenders: int) -> float:
        return self.setup + max(1, contenders - STATIC) * self.rounds * (2 * self.seconds + 0.2)

    def measure(self, on: Stage, contender: Contender, turn: int) -> Found:
        asks = list(on.scene.asks.values())
        how = {"seconds": self.seconds, "connections": 32, "rate": self.rate, "size": 35, "window": round(self.every * 1000)}
        steps = [self.step(on, contender, number) for number in range(int(self.seconds / self.every))]
        quiet = load(contender.port, asks, **how)
        with asking(contender.port, asks, **how) as seen:
            begin = time.monotonic()
            for number, moves in enumerate(steps):
                time.sleep(max(0.0, begin + (number + 0.5) * self.every - time.monotonic()))
                contender.change(moves)
        for name, one in (("quiet", quiet), ("changing", seen[0])):
            yield self.figure(contender, f"p99 {name}", "us", one.typical, round=turn)
            yield self.figure(contender, f"p50 {name}", "us", one.p50, round=turn)
            yield self.figure(contender, f"p99 of all {name}", "us", one.p99, round=turn)
        yield self.figure(contender, "p99 ratio", "", seen[0].typical / max(1.0, quiet.typical), round=turn)
        yield self.figure(contender, "changes", "", len(steps), round=turn)
        yield self.figure(contender, "retried", "", seen[0].retried, round=turn)
        yield self.figure(contender, "errors", "", seen[0].errors, round=turn)
        for when, one in (("without changes", quiet), ("with changes", seen[0])):
            if one.errors:
                yield self.note(contender, f"{when}, of {one.asked:,} requests: {one.said()}")

    def step(self, on: Stage, contender: Contender, number: int) -> Moves:
        """Every route that is asked goes to another service, or the service to other ports."""
        ports = on.backends.ports
        if self.what == "endpoints":
            names = ["first", "rest"] if number % 2 == 0 else ["first", "last"]
            on.world.services({"first": [ports[name] for name in names]})
        else:
            count = len(on.scene.routes)
            for route in (0, count - 1):
                on.world.put(route, on.scene.route(route, "last" if (number + route) % 2 else "first"))
        return contender.staged(on.world)


class Killed(Case):
    """One of two backends is killed under steady load, and comes back: errors, and the time until it is asked again
    (12 s at most)."""

    rounds: int = 2
    seconds: float = 2.0
    rate: int = 2000
    patience: float = 12.0

    def run(self, options: Options) -> Found:
        for turn in range(self.rounds):
            for name in options.contenders:
                with stage(self.name, self.scene(), options, names=("first", "last"), apart=True) as on:
                    on.world.services({"first": list(on.backends.ports.values())})
                    on.scene = msgspec.structs.replace(on.scene, asks={})
                    yield from self.measure(on, name, turn)
                    if turn == 0:
                        yield from on.notes

    def takes(self, contenders: int) -> float:
        return max(1, contenders - STATIC) * self.rounds * (self.seconds + 3)

    def measure(self, on: Stage, name: str, turn: int) -> Found:
        contender = on.contender(name)
        if contender is None:
            return
        try:
            contender.start(lambda: answer(contender.port, Ask()).status == 200)
            load(contender.port, [Ask()], seconds=WARM_UP, connections=16)
            with asking(contender.port, [Ask()], seconds=self.seconds + self.patience + 4,
                        connections=32, rate=self.rate, size=35, cut=True) as seen:
                time.sleep(self.seconds / 2)
                on.backends.stop("last")
                time.sleep(self.seconds / 2)
                on.backends.start("last")
                begin = time.perf_counter()
                port = str(on.backends.ports["last"])
                with contextlib.suppress(TimeoutError):
                    until(lambda: answer(contender.port, Ask()).backend == port, self.patience, 0.001)
                back = time.perf_counter() - begin
            yield self.figure(contender, "errors", "", seen[0].errors, round=turn)
            yield self.figure(contender, "asked again after", "ms", back * 1e3, round=turn)
            yield self.figure(contender, "p99", "us", seen[0].p99, round=turn)
            if seen[0].errors:
                yield self.note(contender, f"of {seen[0].asked:,} requests: {seen[0].said()}")
        finally:
            contender.stop()
