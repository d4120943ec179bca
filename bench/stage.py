"""The stage of a case: a world, its backends, and every contender started on it and found to answer rightly.

The proxies have core 0, the client, the backends and this program have core 1 (two workers: no core of their own).
A contender that is missing, cannot do what the scene asks, or answers wrongly is left out, with a note that says why.
"""
import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.asked import Answer, answer
from bench.contenders import CONTENDERS, Contender, Unsupported
from bench.machine import compiled, cpus, free_port, running, until
from bench.scenes import Ask, Scene
from bench.wire import CLEAR, GRPC, Wire
from bench.world import World

SERVICES = ("first", "rest", "last")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What one run was told."""

    contenders: tuple[str, ...] = ("floor", "gwfast", "nginx")
    rounds: int = 0  # 0: as each case says
    seconds: float = 0.0
    connections: int = 64
    share: float = 1.0  # of the time that cases have
    patience: float = 30.0  # seconds for a contender's first right answer


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number. `point` tells apart what one case asks."""

    case: str
    contender: str
    measure: str
    unit: str
    value: float
    point: str = ""
    round: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no number."""

    case: str
    contender: str
    note: str


class Backends:
    """The backend's processes: one for each name, so that one can be ended alone. `grpc`: they answer calls (calls.c)."""

    def __init__(self, stack: contextlib.ExitStack, size: int, names: tuple[str, ...], grpc: bool = False) -> None:
        self.size, self.grpc = size, grpc
        self.ports = {name: free_port() for name in names}
        self._stack, self._processes = stack, {}
        if names:
            self.start(*names)

    def start(self, *names: str) -> None:
        """One process for these names."""
        command = [compiled("calls" if self.grpc else "backend"), str(self.size), *(str(self.ports[name]) for name in names)]
        running_ = contextlib.ExitStack()
        self._stack.push(running_)
        process = running_.enter_context(running(command, cpus("load")))
        for name in names:
            self._processes[name] = running_
            until(lambda name=name: answer(self.ports[name], Ask(), GRPC if self.grpc else CLEAR).status == 200)
        assert process.poll() is None

    def stop(self, name: str) -> None:
        self._processes.pop(name).close()


class Stage:
    """Everything that runs, and what is known about it."""

    def __init__(self, case: str, scene: Scene, options: Options, directory: Path, stack: contextlib.ExitStack, *,
                 size: int = 35, workers: int = 1, names: tuple[str, ...] = SERVICES, apart: bool = False,
                 wire: Wire = CLEAR, log: bool = False) -> None:
        self.case, self.scene, self.options, self.directory = case, scene, options, directory
        self.workers, self.wire, self.log = workers, wire, log
        self.backends = Backends(stack, size, () if apart else names, wire.grpc)
        if apart:
            self.backends.ports = {name: free_port() for name in names}
            for name in names:
                self.backends.start(name)
        services = {name: [port] for name, port in self.backends.ports.items()}
        if scene.nobody is None:  # one route for everything: the floor can do that too
            services = {"first": services["first"]}
        self.world = World(directory / "world", scene.routes, services, scene.listener_sets, wire)
        self.notes: list[Note] = []
        self._stack = stack
        self._turns = itertools.count()

    def next(self) -> int:
        """A number that was not given before."""
        return next(self._turns)

    def note(self, contender: str, why: object) -> None:
        self.notes.append(Note(case=self.case, contender=contender, note=str(why)))

    def contender(self, name: str) -> Contender | None:
        """A contender with its configuration written, not started; None, and a note, if it cannot be."""
        kind = CONTENDERS[name]
        if why := kind.missing():
            self.note(name, why)
            return None
        made = kind(self.directory / name, free_port(), self.workers, cpus("proxy", self.workers), self.wire, self.log)
        try:
            made.write(self.world)
        except Unsupported as cannot:
            self.note(name, f"cannot do {cannot}")
            return None
        return made

    @contextlib.contextmanager
    def started(self, name: str) -> Iterator[tuple[Contender | None, float]]:
        """A contender that answers, and the seconds until it did; None and a note if it does not answer rightly."""
        made = self.contender(name)
        if made is None:
            yield None, 0.0
            return
        try:
            seconds = self._start(made)
            yield (made if seconds and self.checked(made) else None), seconds
        finally:
            made.stop()

    def _start(self, made: Contender) -> float:
        """The seconds until its first right answer; 0 and a note if there is none."""
        first = next(iter(self.scene.asks.values()))
        try:
            return made.start(lambda: self.right(made, first), self.options.patience)
        except (RuntimeError, TimeoutError) as failed:
            self.note(made.name, f"gave no right answer: {failed}")
            return 0.0

    def all(self, changing: bool = False) -> list[Contender]:
        """All contenders, started, until the stage ends. `changing`: those that can change while they run."""
        names = [name for name in self.options.contenders if not changing or self.changes(name)]
        found = [self._stack.enter_context(self.started(name))[0] for name in names]
        return [each for each in found if each is not None]

    def changes(self, name: str) -> bool:
        """Whether it can change while it runs; a note if it cannot."""
        if not CONTENDERS[name].changes:
            self.note(name, "does not change while it runs")
        return CONTENDERS[name].changes

    def right(self, contender: Contender, ask: Ask) -> bool:
        """Whether this is answered as the resources say."""
        got = answer(contender.port, ask, self.wire)
        if not ask.to:
            return got.status in contender.nowhere
        return got == Answer(200, str(self.backends.ports[ask.to]), self.backends.size)

    def checked(self, contender: Contender) -> bool:
        asks = dict(self.scene.asks)
        if self.scene.nobody and contender.name != "floor":
            asks["nobody's"] = self.scene.nobody
        for name, ask in asks.items():
            if not self.right(contender, ask):
                self.note(contender.name, f"answers the {name} request wrongly: {answer(contender.port, ask, self.wire)}")
                return False
        return True


@contextlib.contextmanager
def stage(case: str, scene: Scene, options: Options, **more) -> Iterator[Stage]:
    """Set up, and clear away whatever happens."""
    with tempfile.TemporaryDirectory(prefix="gwfast-bench-") as temporary, contextlib.ExitStack() as stack:
        Path(temporary).chmod(0o755)
        yield Stage(case, scene, options, Path(temporary), stack, **more)


def take_place() -> None:
    """Keep this program, and what it starts without a core of its own, off the proxies' core."""
    if core := cpus("load"):
        os.sched_setaffinity(0, {int(each) for each in core.split(",")})
