"""The machine: what it is, where processes run, what they have used."""
import contextlib
import os
import platform
import socket
import subprocess
import time
from pathlib import Path

import msgspec

TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds


class Cpu(msgspec.Struct, frozen=True):
    """CPU time in microseconds."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)


def cpu(pid: int) -> Cpu:
    """CPU time that a process has used so far: utime and stime of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Cpu(int(fields[11]) * TICK, int(fields[12]) * TICK)


def children(pid: int) -> list[int]:
    """All processes below one, in order of their start."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def memory(pid: int) -> dict[str, int]:
    """What a process holds, in bytes: Rss, Pss, Private (of /proc/PID/smaps_rollup)."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0]) * 1024
    return {"Rss": kib["Rss"], "Pss": kib["Pss"], "Private": kib["Private_Clean"] + kib["Private_Dirty"]}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(true, seconds: float = 20.0, every: float = 0.01):
    """Wait until `true()` is true and return what it gave; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if result := true():
                return result
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)


def pinned(core: int | None, command: list[str]) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def running(command: list[str], core: int | None = None, **more):
    """A process on one core for as long as the block runs; it is told to end, then killed."""
    process = subprocess.Popen(pinned(core, command), **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def facts() -> dict[str, str | int]:
    """The machine's facts that a figure is worth nothing without."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count() or 1, "kernel": platform.release(),
            "python": platform.python_version(), "load": os.getloadavg()[0]}
