"""Sees that a worker does not answer any more, says why, and replaces it.

A worker's loop counts its turns in the memory of the counters, at the tick that it has anyway, several times a second. Here
that number is looked at, more often where it has not changed:

    silent for WORKER_SILENT    its Python stack is asked for (a signal; faulthandler writes it into a memfd) and told, with the
                                filter that it is in; others get the connections that wait for it; it does not count as running
    it counts again             all of that ends
    silent for the limit        it is killed, and replaced as any worker that dies

Rules
- Silence is what this loop has seen, not what the clock says: where the machine slept, or all of these processes were stopped
  together, one look adds the time of two at most, and then workers have long counted again.
- A worker that waits for a CPU is not silent: the kernel says how long it did (schedstat), and that is taken off, unless it ran
  long enough to turn its loop.
- A worker in a debugger is never killed, one that starts, or loads a filter (an import may take its time), after WORKER_LOADING.
- In a drain a worker that is silent is not waited for once the others are gone.
"""
import contextlib
import os
import signal
import time
from collections.abc import Callable

from gwfast import limits
from gwfast.engine.counters import Pulse
from gwfast.observe.log import Log
from gwfast.observe.metrics import Stats
from gwfast.serve import control

EVERY = 0.25  # seconds between two looks
CALM = 0.5  # the same while every worker turns; longer than an idle one takes for that (worker.REST)
RAN = 0.03  # seconds on a CPU after which a loop has turned, however much there was to do
DUMP_WAIT = 0.2  # seconds until it is there
STACK_BYTES = 8192
WORKER = os.path.join(os.path.dirname(__file__), "worker.py")
LOOP = f'  File "{WORKER}"'  # whose frames, and those above, are the same in every stack
STATES = {"R": "running", "S": "waiting", "D": "waiting for a device", "T": "stopped", "t": "in a debugger"}


class Vital:
    """What is seen of one worker's place. `silent`: for how many seconds its loop has not turned; `stuck`: that is too long."""

    def __init__(self) -> None:
        self.beat = -1
        self.silent = 0.0
        self.ran: tuple[float, float] | None = None  # as `_ran` says, at the last look; None: it was not silent then
        self.stuck = False
        self.killed = False
        self._stack = os.memfd_create("gwfast-stack", os.MFD_CLOEXEC)

    def born(self) -> None:
        """Another process is in the place."""
        self.silent, self.ran, self.stuck, self.killed = 0.0, None, False, False

    @property
    def stack(self) -> int:
        """The file that the worker's stack is written to, where it is asked for and where the worker crashes."""
        return self._stack

    def take_stack(self) -> dict[str, str]:
        """Return what is in that file, as a field of the log if there is something, and empty it."""
        stack = os.pread(self._stack, STACK_BYTES, 0).decode("utf-8", "replace").partition(LOOP)[0].strip()
        os.ftruncate(self._stack, 0)
        os.lseek(self._stack, 0, os.SEEK_SET)  # for the worker as well: the file is open once for both
        return {"stack": stack} if stack else {}

    def add(self, passed: float, ran: tuple[float, float]) -> None:
        """It was silent for one look more."""
        if self.ran is not None:
            run, delayed = ran[0] - self.ran[0], ran[1] - self.ran[1]
            self.silent += passed if run > RAN else max(0.0, passed - delayed)
        self.ran = ran


class Watchdog:
    """Looks after the members of the pool. moved(member) is told when one gets stuck and when one is back."""

    def __init__(self, loop, counters: int, pool, limit: float, stats: Stats, log: Log, moved: Callable):
        self._loop = loop
        self._pulse = Pulse(counters)
        self._pool = pool
        self._limit = limit or float("inf")
        self._stats = stats
        self._log = log
        self._moved = moved
        self._looked = time.monotonic()
        self._loop.call_later(EVERY, self._look_again)

    def _look_again(self) -> None:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * EVERY), now
        try:
            self.look(passed)
        finally:
            calm = all(member.vital.ran is None for member in self._pool.members)
            self._loop.call_later(CALM if calm else EVERY, self._look_again)

    def look(self, passed: float) -> None:
        """Compare every worker's count with what it was `passed` seconds ago."""
        for member, beat in zip(self._pool.members, self._pulse.beats(), strict=True):
            vital = member.vital
            if not member.pid:
                continue
            if vital.silent and _state(member.pid) == "Z":  # a child of its own keeps the control socket open
                self._pool.ended(member)
                continue
            if beat != vital.beat:
                vital.beat = beat
                self._answers(member)
            else:
                vital.add(passed, _ran(member.pid))
                self._judge(member)

    def _answers(self, member) -> None:
        vital = member.vital
        silent, vital.silent, vital.ran = vital.silent, 0.0, None
        if vital.stuck:
            vital.stuck = False
            self._moved(member)
            self._log.info("a worker answers again", worker=member.index, pid=member.pid, silent_s=round(silent, 1))

    def _judge(self, member) -> None:
        vital = member.vital
        if member.ready and not vital.stuck and vital.silent >= limits.WORKER_SILENT:
            vital.stuck = True
            self._stats.worker_hangs += 1
            self._pulse.blocked(member.index)
            self._moved(member)
            self._ask(member)
        elif vital.silent >= self._patience(member) and not vital.killed:
            vital.killed = True
            self._log.error("a worker that does not answer is ended", worker=member.index, pid=member.pid,
                            silent_s=round(vital.silent, 1))
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)

    def _patience(self, member) -> float:
        if self._pool.ending:
            alone = all(other.vital.stuck for other in self._pool.members if other.pid)
            return limits.WORKER_SILENT_DRAIN if alone else float("inf")
        if _traced(member.pid):
            return float("inf")
        loads = not member.ready or (self._pulse.running(member.index) or ("", False))[1]
        return max(self._limit, limits.WORKER_LOADING if loads else limits.WORKER_SILENT + 2 * EVERY)

    def _ask(self, member) -> None:
        """Ask for the stack of a worker; tell of it when it has come."""
        state = _state(member.pid)
        facts = {"worker": member.index, "pid": member.pid, "state": STATES.get(state, state)}
        if running := self._pulse.running(member.index):
            facts["filter"] = running[0] or "one beyond those that are counted"
            facts["in"] = "load" if running[1] else "request"
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, control.DUMP)
        self._loop.call_later(DUMP_WAIT, self._tell, member, facts)

    def _tell(self, member, facts: dict) -> None:
        ends = {"ends_in_s": round(self._limit - member.vital.silent, 1)} if self._limit != float("inf") else {}
        self._log.error("a worker does not answer", **facts, **ends, **member.vital.take_stack())


def _state(pid: int) -> str:
    """Return what the kernel says of a process in one letter: proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "?"


def _ran(pid: int) -> tuple[float, float]:
    """Return how many seconds the main thread of a process has run so far, and how many it was ready to and did not."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            run, delayed, _ = map(int, file.read().split())
            return run / 1e9, delayed / 1e9
    except (OSError, ValueError):
        return 0.0, 0.0


def _traced(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return b"\nTracerPid:\t0\n" not in file.read()
    except OSError:
        return False
