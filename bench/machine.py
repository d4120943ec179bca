"""The machine: what it is, where processes run, what they have used."""
import atexit
import contextlib
import functools
import os
import platform
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec


class Cpu(msgspec.Struct, frozen=True):
    """CPU time in microseconds, and in what parts it was found in user mode and in the kernel (by ticks of the clock)."""

    total: float = 0.0
    in_user: int = 0
    in_system: int = 0

    @property
    def user(self) -> float:
        return self.total * self.in_user / max(1, self.in_user + self.in_system)

    @property
    def system(self) -> float:
        return self.total - self.user

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.total - other.total, self.in_user - other.in_user, self.in_system - other.in_system)

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.total + other.total, self.in_user + other.in_user, self.in_system + other.in_system)


def cpu(pid: int) -> Cpu:
    """CPU time that a process has used so far, all threads: its CPU clock (clock_getcpuclockid(3)), in nanoseconds.

    utime and stime of /proc/PID/stat have ticks of 10 ms: they say no more than how the time is divided."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Cpu(time.clock_gettime_ns(~pid << 3 | 2) / 1e3, int(fields[11]), int(fields[12]))


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


def held(pids: list[int]) -> int:
    """What processes hold together: the sum of their Pss, in bytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += memory(pid)["Pss"]
    return total


def used(pids: list[int]) -> Cpu:
    """CPU time of all of these."""
    return sum(map(cpu, pids), Cpu())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(true, seconds: float = 60.0, every: float = 0.01):
    """Wait until `true()` is true and return what it gave; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if result := true():
                return result
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)


@functools.cache
def cores() -> list[int]:
    """The cores that this program may use when it starts."""
    return sorted(os.sched_getaffinity(0))


def cpus(who: str, workers: int = 1) -> str:
    """The cores of 'proxy' or 'load', as taskset takes them: the first against the second; '' where there is but one."""
    own = cores()
    if len(own) < 2:
        return ""
    return str(own[1]) if who == "load" else ",".join(map(str, own[:workers]))


def pinned(core: str, command: list[str]) -> list[str]:
    """The command on its core, and told to end if this program dies, however it dies."""
    return ["setpriv", "--pdeathsig", "TERM", *(["taskset", "-c", core] if core else []), *command]


@contextlib.contextmanager
def running(command: list[str], core: str = "", **more):
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


@functools.cache
def compiled(name: str, *libraries: str) -> str:
    """Compile bench/NAME.c with these (-lNAME); the path of the program. FileNotFoundError without a compiler."""
    program = Path(tempfile.gettempdir()) / f"gwfast-bench-{os.getpid()}-{name}"
    source = Path(__file__).parent / f"{name}.c"
    subprocess.run([os.environ.get("CC", "cc").split()[-1], "-O2", "-o", str(program), str(source), *libraries], check=True)
    atexit.register(program.unlink, missing_ok=True)
    return str(program)


def facts() -> dict[str, str | int | float]:
    """The machine's facts that a figure is worth nothing without; memory in MiB."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine())
    return {"cpu": model, "virtual": "hypervisor" in text, "cores": os.cpu_count() or 1,
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20, "kernel": platform.release(),
            "python": platform.python_version(), "load": os.getloadavg()[0]}
