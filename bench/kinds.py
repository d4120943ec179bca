"""How a case is measured: one class for each kind of figure; cases.py says which are asked for.

Each `run(options)` yields Figures and Notes. Contenders take turns (A B C A B C), so that what disturbs the machine
disturbs all of them.
"""
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import msgspec

from bench.contenders import Contender
from bench.load import Answer, Load, allow_files, answer, asking, load
from bench.machine import held, memory, until, used
from bench.scenes import Ask, Scene, plain
from bench.stage import Figure, Note, Options, Stage, stage

WARM_UP = 0.5  # seconds
Found = Iterator[Figure | Note]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case by name; `scene` is made when it is run."""

    name: str
    about: str
    scene: Callable[[], Scene] = plain

    def figure(self, contender: Contender | str, measure: str, unit: str, value: float, **more) -> Figure:
        name = contender if isinstance(contender, str) else contender.name
        return Figure(case=self.name, contender=name, measure=measure, unit=unit, value=value, **more)

    def run(self, options: Options) -> Found:
        raise AssertionError("a kind of case says how")

    def note(self, contender: Contender, note: str) -> Note:
        return Note(case=self.name, contender=contender.name, note=note)


class Throughput(Case):
    """Everybody asks as fast as they are answered: CPU time of all processes per request, and requests per second."""

    size: int = 35
    close: bool = False
    workers: int = 1
    share: float = 1.0  # of the seconds of a round

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options, size=self.size, workers=self.workers) as on:
            contenders = on.all()
            yield from on.notes
            for contender in contenders:
                self.load(contender, list(on.scene.asks.values()), options, WARM_UP)
            for turn in range(options.rounds):
                for point, ask in on.scene.asks.items():
                    for contender in contenders:
                        yield from self.measure(contender, point, ask, options, turn)

    def load(self, contender: Contender, asks: list[Ask], options: Options, seconds: float) -> Load:
        return load(contender.port, asks, seconds=seconds, size=self.size, close=self.close,
                    connections=options.connections)

    def measure(self, contender: Contender, point: str, ask: Ask, options: Options, turn: int) -> Found:
        pids = contender.pids()
        before = used(pids)
        seen = self.load(contender, [ask], options, options.seconds * self.share)
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


class Latency(Case):
    """Times at a fixed rate below saturation, the same for all: a share of nginx's highest (of the first's, without nginx)."""

    share: float = 0.6

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            contenders = on.all()
            yield from on.notes
            if not contenders:
                return
            ask = next(iter(on.scene.asks.values()))
            how = {"connections": options.connections, "size": 35}
            for contender in contenders:
                load(contender.port, [ask], seconds=WARM_UP, **how)
            measure_of = next((each for each in contenders if each.name == "nginx"), contenders[0])
            peak = load(measure_of.port, [ask], seconds=options.seconds, **how)
            rate = max(1, int(peak.answered / peak.seconds * self.share))
            for turn in range(options.rounds):
                for contender in contenders:
                    seen = load(contender.port, [ask], seconds=options.seconds, rate=rate, **how)
                    for name in ("p99", "p50", "p999"):
                        yield self.figure(contender, name.replace("p999", "p99.9"), "us", getattr(seen, name), round=turn)
                    yield self.figure(contender, "offered", "requests/s", rate, round=turn)
                    yield self.figure(contender, "errors", "", seen.errors, round=turn)


class Idle(Case):
    """Connections that have had one answer and stay open: memory for each, and what requests on others cost beside them."""

    connections: int = 10_000

    def run(self, options: Options) -> Found:
        connections = min(self.connections, allow_files() // 2 - 500)
        with stage(self.name, self.scene(), options) as on:
            for name in options.contenders:
                with on.started(name) as (contender, _):
                    if contender is not None:
                        yield from self.measure(on, contender, connections, options)
            yield from on.notes

    def measure(self, on: Stage, contender: Contender, connections: int, options: Options) -> Found:
        ask = next(iter(on.scene.asks.values()))
        load(contender.port, [ask], seconds=WARM_UP, connections=options.connections)
        before = held(contender.pids())
        with contextlib.ExitStack() as stack:
            opened = 0
            try:
                for _ in range(connections):
                    stack.enter_context(answered(contender.port, ask))
                    opened += 1
            except OSError as error:
                yield self.note(contender, f"{opened} connections, then: {error}")
            after = held(contender.pids())
            pids = contender.pids()
            cpu = used(pids)
            seen = load(contender.port, [ask], seconds=options.seconds, connections=options.connections, size=35)
            cpu = used(pids) - cpu
        yield self.figure(contender, "idle", "MiB", before / 2**20)
        yield self.figure(contender, "connections", "", opened)
        yield self.figure(contender, "memory", "B/connection", (after - before) / max(1, opened))
        yield self.figure(contender, "CPU", "us/request", cpu.total / max(1, seen.answered))
        yield self.figure(contender, "errors", "", seen.errors)


@contextlib.contextmanager
def answered(port: int, ask: Ask) -> Iterator[socket.socket]:
    """A connection that has had one whole answer."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as s:
        s.sendall(ask.bytes())
        got = b""
        while b"\r\n\r\n" not in got or not got.endswith(b"." * 35):
            if not (some := s.recv(4096)):
                raise ConnectionError("closed before its answer")
            got += some
        yield s


class Start(Case):
    """From the start of a process to its first right answer, and what all of its processes hold then."""

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            names = list(options.contenders)
            for turn in range(options.rounds):
                for name in list(names):
                    with on.started(name) as (contender, seconds):
                        if contender is None:
                            names.remove(name)
                            continue
                        yield self.figure(contender, "start", "s", seconds, round=turn)
                        yield self.figure(contender, "memory", "MiB", held(contender.pids()) / 2**20, round=turn)
            yield from on.notes


class Workers(Case):
    """What one worker holds beside so many others: the routes lie in memory once, so it should not grow with their number."""

    counts: tuple[int, ...] = (1, 2, 4)

    def run(self, options: Options) -> Found:
        for count in self.counts:
            with stage(self.name, self.scene(), msgspec.structs.replace(options, contenders=("gwfast",)), workers=count) as on:
                for contender in on.all():
                    workers = [memory(pid) for pid in contender.pids()[1:]]
                    for what in ("Rss", "Pss"):
                        yield self.figure(contender, what, "MiB", max(each[what] for each in workers) / 2**20,
                                          point=f"{count} workers")
                yield from on.notes


class Change(Case):
    """One route among many goes to another service: from the change to the first answer from there.

    gwfast's time runs from the moment its file is in place. The others' configurations are written before their time
    runs: it is that of the reload alone."""

    changes: int = 11

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            for name in options.contenders:
                with on.started(name) as (contender, _):
                    if contender is not None:
                        yield from self.measure(on, contender, options)
            yield from on.notes

    def measure(self, on: Stage, contender: Contender, options: Options) -> Found:
        if not can_change(contender):
            yield self.note(contender, "does not change while it runs")
            return
        count, end = len(on.scene.routes), time.monotonic() + options.budget
        for turn in range(self.changes):
            if time.monotonic() > end:
                yield self.note(contender, f"{turn} changes in {options.budget:g} s")
                return
            number = 1 + on.next() * 7919 % (count - 2)  # each only once: all have the same files
            seconds, _ = change(on, contender, number, on.scene.ask(number, "last"))
            yield self.figure(contender, "live after", "ms", seconds * 1e3, round=turn)
            time.sleep(0.1)


def can_change(contender: Contender) -> bool:
    return contender.reload_signal is not None or type(contender).reload is not Contender.reload


def change(on: Stage, contender: Contender, number: int, ask: Ask) -> tuple[float, list[Answer]]:
    """Point route `number` to the service of `ask`; the seconds until it answers, and all answers before."""
    time.sleep(contender.settles)
    on.world.put(number, on.scene.route(number, ask.to))
    begin = time.perf_counter()
    if contender.name != "gwfast":
        contender.write(on.world)
        begin = time.perf_counter()
        contender.reload()
    before: list[Answer] = []

    def right() -> bool:
        got = answer(contender.port, ask)
        if got.status == 200 and got.backend == str(on.backends.ports[ask.to]):
            return True
        before.append(got)
        return False

    until(right, 30, 0.001)
    return time.perf_counter() - begin, before


class Grow(Case):
    """Routes come one by one, beside steady load on the first: time until each answers, and every wrong answer.

    Wrong: anything but 404 before a route's first 200, anything but 200 from the first route, and anything but 200 from
    the route before when the next has come."""

    count: int = 3000
    rate: int = 500

    def run(self, options: Options) -> Found:
        for name in options.contenders:
            with stage(self.name, self.scene(), options) as on:
                with on.started(name) as (contender, _):
                    if contender is not None and can_change(contender):
                        try:
                            yield from self.measure(on, contender, options)
                        except TimeoutError:
                            yield self.note(contender, "a route did not come")
                    elif contender is not None:
                        yield self.note(contender, "does not change while it runs")
                yield from on.notes

    def measure(self, on: Stage, contender: Contender, options: Options) -> Found:
        times: list[float] = []
        wrong, end = 0, time.monotonic() + options.budget
        with asking(contender.port, [on.scene.asks["first"]], seconds=options.budget, connections=16, rate=self.rate,
                    size=35, cut=True) as seen:
            while len(times) < self.count and time.monotonic() < end - 1:
                number = len(on.world)
                ask = on.scene.ask(number, "rest")
                seconds, before = change(on, contender, number, ask)
                times.append(seconds * 1e3)
                wrong += sum(each.status not in (404, 502, 503) if contender.name == "nghttpx" else each.status != 404
                             for each in before)
                if number > 1:
                    wrong += not on.right(contender, on.scene.ask(number - 1, "rest"))
        yield self.figure(contender, "routes", "", len(times))
        yield self.figure(contender, "mean", "ms", sum(times) / max(1, len(times)))
        yield self.figure(contender, "p99", "ms", sorted(times)[int(len(times) * 0.99)])
        yield self.figure(contender, "max", "ms", max(times))
        yield self.figure(contender, "wrong", "", wrong + seen[0].errors)


class Churn(Case):
    """Something changes every 200 ms under steady load: times with and without changes, and every error."""

    every: float = 0.2
    rate: int = 2000
    what: str = "routes"  # or 'endpoints'

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            contenders = [each for each in on.all() if can_change(each)]
            yield from on.notes
            for contender in contenders:
                load(contender.port, list(on.scene.asks.values()), seconds=WARM_UP, connections=16)
            for turn in range(options.rounds):
                for contender in contenders:
                    yield from self.measure(on, contender, options, turn)

    def measure(self, on: Stage, contender: Contender, options: Options, turn: int) -> Found:
        asks = list(on.scene.asks.values())
        how = {"seconds": options.seconds, "connections": 32, "rate": self.rate, "size": 35}
        quiet = load(contender.port, asks, **how)
        changes, end = 0, time.monotonic() + options.seconds
        with asking(contender.port, asks, **how) as seen:
            while (due := time.monotonic() + self.every) < end:
                self.change(on, changes)
                if contender.name != "gwfast":
                    contender.write(on.world)
                    contender.reload()
                changes += 1
                time.sleep(max(0.0, due - time.monotonic()))
        for name, one in (("quiet", quiet), ("changing", seen[0])):
            yield self.figure(contender, f"p50 {name}", "us", one.p50, round=turn)
            yield self.figure(contender, f"p99 {name}", "us", one.p99, round=turn)
        yield self.figure(contender, "p99 ratio", "", seen[0].p99 / max(1.0, quiet.p99), round=turn)
        yield self.figure(contender, "changes", "", changes, round=turn)
        yield self.figure(contender, "errors quiet", "", quiet.errors, round=turn)
        yield self.figure(contender, "retried", "", seen[0].retried, round=turn)
        yield self.figure(contender, "errors", "", seen[0].errors, round=turn)

    def change(self, on: Stage, turn: int) -> None:
        """Every route that is asked goes to another service, or every service to other ports."""
        ports = on.backends.ports
        if self.what == "endpoints":
            names = ["first", "rest"] if turn % 2 == 0 else ["first", "last"]
            on.world.services({"first": [ports[name] for name in names]})
        else:
            count = len(on.scene.routes)
            for number in (0, count - 1):
                on.world.put(number, on.scene.route(number, "last" if (turn + number) % 2 else "first"))


class Killed(Case):
    """One of two backends is killed under steady load, and comes back: errors, and the time until it is asked again
    (at most `patience`)."""

    rate: int = 2000
    patience: float = 12.0

    def run(self, options: Options) -> Found:
        for turn in range(options.rounds):
            for name in options.contenders:
                with stage(self.name, self.scene(), options, names=("first", "last"), apart=True) as on:
                    on.world.services({"first": list(on.backends.ports.values())})
                    on.scene = msgspec.structs.replace(on.scene, asks={})
                    yield from self.measure(on, name, options, turn)
                    if turn == 0:
                        yield from on.notes

    def measure(self, on: Stage, name: str, options: Options, turn: int) -> Found:
        contender = on.contender(name)
        if contender is None:
            return
        try:
            contender.start(lambda: answer(contender.port, Ask()).status == 200)
            load(contender.port, [Ask()], seconds=WARM_UP, connections=16)
            with asking(contender.port, [Ask()], seconds=options.seconds + self.patience + 4,
                        connections=32, rate=self.rate, size=35, cut=True) as seen:
                time.sleep(options.seconds / 2)
                on.backends.stop("last")
                time.sleep(options.seconds / 2)
                on.backends.start("last")
                begin = time.perf_counter()
                port = str(on.backends.ports["last"])
                with contextlib.suppress(TimeoutError):
                    until(lambda: answer(contender.port, Ask()).backend == port, self.patience, 0.001)
                back = time.perf_counter() - begin
            yield self.figure(contender, "asked again after", "ms", back * 1e3, round=turn)
            yield self.figure(contender, "p99", "us", seen[0].p99, round=turn)
            yield self.figure(contender, "errors", "", seen[0].errors, round=turn)
        finally:
            contender.stop()
