"""What the kernel says of the gateway's processes, in the words of Prometheus' client libraries.

Each process is its own series: an open descriptor counts against the limit of the one that has it, and a worker that grows shows
beside the others. Memory that was shared at the fork is in the resident memory of each.
"""
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(msgspec.Struct, frozen=True):
    """One process. start_time_seconds: Unix time."""

    cpu_seconds: float
    resident_memory_bytes: int
    virtual_memory_bytes: int
    open_fds: int
    max_fds: int
    start_time_seconds: float


def read(pids: Mapping[str, int]) -> dict[str, Process]:
    """Return the processes by name; without those that have just ended."""
    found = {}
    for name, pid in pids.items():
        try:
            found[name] = _read(PROC / str(pid))
        except (OSError, ValueError, IndexError):
            continue  # it ended, or there is no such /proc
    return found


def _read(folder: Path) -> Process:
    # behind the name, which may hold anything: state is field 3 of proc(5), so field n is at n - 3
    fields = (folder / "stat").read_text("latin-1").rpartition(")")[2].split()
    return Process(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS, resident_memory_bytes=int(fields[21]) * PAGE,
        virtual_memory_bytes=int(fields[20]), open_fds=len(os.listdir(folder / "fd")), max_fds=_most_fds(folder),
        start_time_seconds=_booted() + int(fields[19]) / TICKS)


def _most_fds(folder: Path) -> int:
    line = next(line for line in (folder / "limits").read_text().splitlines() if line.startswith("Max open files"))
    soft = line.split()[3]
    return -1 if soft == "unlimited" else int(soft)


def _booted() -> int:
    return next(int(line.split()[1]) for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime "))
