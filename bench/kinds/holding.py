"""What is held: memory for connections and routes, and the time until a process is there."""
import contextlib
import time

import msgspec

from bench.asked import answered
from bench.contenders import Contender
from bench.h2load import h2load
from bench.kinds.base import WARM_UP, Case, Found
from bench.load import Load, allow_files, load
from bench.machine import held, memory, used
from bench.scenes import Ask
from bench.stage import Options, Stage, stage
from bench.wire import CLEAR

SPARE = 500  # files for everything else


class Idle(Case):
    """Connections that have had one answer and stay open: memory for each, and what requests on others cost beside them.

    As many as are wanted, or as the limit on open files allows everybody: a gateway keeps two files ready for each."""

    connections: int = 10_000
    silent: float = 0.0  # seconds until memory counts: who gives back what is idle may wait that long

    def run(self, options: Options) -> Found:
        connections = min(self.connections, allow_files() // 2 - SPARE)
        with stage(self.name, self.scene(), options, wire=self.wire) as on:
            if connections < self.connections:
                on.note("everybody", f"{connections:,} connections: the limit on open files is {allow_files():,}")
            for turn in range(self.rounds):
                for name in options.contenders:
                    with on.started(name) as (contender, _):
                        if contender is not None:
                            yield from self.measure(on, contender, connections, options, turn)
                if turn == 0:
                    yield from on.notes

    def takes(self, contenders: int) -> float:
        return contenders * self.rounds * (1 + self.connections / 1000 + self.silent + self.seconds)

    def measure(self, on: Stage, contender: Contender, connections: int, options: Options, turn: int) -> Found:
        ask = next(iter(on.scene.asks.values()))
        self.load(contender, ask, options, WARM_UP)
        before = held(contender.pids())
        with contextlib.ExitStack() as stack:
            opened = 0
            try:
                for _ in range(connections):
                    stack.enter_context(answered(contender.port, ask, self.wire))
                    opened += 1
            except OSError as error:
                yield self.note(contender, f"{opened:,} connections, then: {error}")
            time.sleep(self.silent)
            after = held(contender.pids())
            pids = contender.pids()
            cpu = used(pids)
            seen = self.load(contender, ask, options, self.seconds)
            cpu = used(pids) - cpu
        yield self.figure(contender, "memory", "B/connection", (after - before) / max(1, opened), round=turn)
        yield self.figure(contender, "without", "MiB", before / 2**20, round=turn)
        yield self.figure(contender, "connections", "", opened, round=turn)
        yield self.figure(contender, "CPU", "us/request", cpu.total / max(1, seen.answered), round=turn)
        yield self.figure(contender, "errors", "", seen.errors, round=turn)


    def load(self, contender: Contender, ask: Ask, options: Options, seconds: float) -> Load:
        how = {"seconds": seconds, "size": 35, "connections": options.connections}
        if self.wire == CLEAR:
            return load(contender.port, [ask], **how)
        return h2load(contender.port, ask, self.wire, **how)


class Start(Case):
    """From the start of a process to its first right answer, and what all of its processes hold then."""

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options) as on:
            names = list(options.contenders)
            for turn in range(self.rounds):
                for name in list(names):
                    with on.started(name) as (contender, seconds):
                        if contender is None:
                            names.remove(name)
                            continue
                        yield self.figure(contender, "start", "s", seconds, round=turn)
                        yield self.figure(contender, "memory", "MiB", held(contender.pids()) / 2**20, round=turn)
            yield from on.notes

    def takes(self, contenders: int) -> float:
        return self.setup * self.rounds


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
                                          point=f"of {count}")
                yield from on.notes

    def takes(self, contenders: int) -> float:
        return self.setup
