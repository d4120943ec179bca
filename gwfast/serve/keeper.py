"""Stays where a supervisor was that has been upgraded: whoever started the gateway goes on waiting for the same process.

    MAIN KEEPER SECONDS PID...    the new supervisor (0: there is nothing to wait for but these workers); a socket of which it,
                                  and who takes its place later, has the other end (-1: none); the seconds that are left to
                                  drain; the old supervisor's workers

The supervisor executes this file in its own place: its process, its children and its parent stay, its memory goes. A shell, a
container's init, runit or supervisord see a gateway that runs on, and TERM, INT, HUP and USR2 go where they should.

Rules
- Over the socket a supervisor says its process id when it takes over, and '=STATUS' when it ends: it may be nobody's child here
  while the one before, which is a keeper as well by then, waits for its own workers.
- Signals go to the supervisor that took over last. A second TERM or INT ends old workers at once, those of others before too.
- When the other end of the socket is closed by everybody, the gateway is over: so is this process, with the status of the
  supervisor that was the last; where that was 0, once old workers have drained.
- Old workers that have not ended in time are killed.
- Nothing of the package is imported: its files may be another version's by now.
"""
import contextlib
import os
import select
import signal
import socket
import sys
import time

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
REAP_WAIT = 1.0  # seconds from the end of the gateway's socket to that of its process
LOST = 1  # our exit status where the gateway's is not known


class Keeper:
    """What it waits for. `fd`: our end of the socket, -1 without one."""

    def __init__(self, main: int, fd: int, seconds: float, workers: set[int]):
        self.main = main
        self.workers = workers
        self._end = socket.socket(fileno=fd) if fd >= 0 else None
        self._deadline = time.monotonic() + seconds
        self._statuses: dict[int, int] = {}
        self._former: list[int] = []  # process descriptors of supervisors that have been upgraded, and may be keepers
        self._childless = False
        self._over: float | None = None  # when the socket was closed
        self._ends = 0  # signals that end
        self._wake, theirs = os.pipe()
        for each in (self._wake, theirs):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # what it does is said by the pipe
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        if self._end is not None:
            self._end.setblocking(False)
            self._poll.register(self._end, select.POLLIN)

    def keep(self) -> int:
        """Wait until all is over; return the exit status."""
        while True:
            self._hear()
            self._reap()
            if (status := self._status()) is not None:
                return status
            self._poll.poll(self._wait())
            self._follow_signals()

    def _hear(self) -> None:
        """Learn who has taken over, and whether everybody is gone."""
        while self._end is not None and self._over is None:
            try:
                said = self._end.recv(32)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if said.startswith(b"="):
                self._statuses[self.main] = int(said[1:])
            elif said:
                self._remember()
                self.main = int(said)
            else:
                self._over = time.monotonic()
                self._poll.unregister(self._end)

    def _remember(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, or there are no such descriptors here
            self._former.append(os.pidfd_open(self.main))

    def _reap(self) -> None:
        self._childless = False
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._statuses[ended[0]] = os.waitstatus_to_exitcode(ended[1])
                self.workers.discard(ended[0])
        except ChildProcessError:
            self._childless = True
        if self.workers and time.monotonic() >= self._deadline:
            self._kill_workers()

    def _kill_workers(self) -> None:
        for pid in self.workers:
            _kill(pid, signal.SIGKILL)
        self._deadline = float("inf")

    def _status(self) -> int | None:
        """Return the exit status once there is nothing to wait for any more."""
        if self._end is None:
            return None if self.workers else 0
        if self._over is None:
            return None
        status = self._statuses.get(self.main)
        if status is None:
            return LOST if time.monotonic() >= self._over + REAP_WAIT else None
        if status == 0 and not self._childless:
            return None
        return status if status >= 0 else 128 - status

    def _wait(self) -> int | None:
        """Return for how many milliseconds at most nothing has to be done."""
        until = [self._deadline] if self.workers else []
        if self._over is not None and self.main not in self._statuses:
            until.append(self._over + REAP_WAIT)
        left = min(until, default=float("inf")) - time.monotonic()
        return None if left == float("inf") else max(0, int(left * 1000) + 1)

    def _follow_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wake, 4096):
                if number in FORWARDED:
                    self._follow(number)

    def _follow(self, number: int) -> None:
        self._hear()
        if self.main and self.main not in self._statuses:
            _kill(self.main, number)
        if number in (signal.SIGTERM, signal.SIGINT):
            for descriptor in self._former:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(descriptor, number)
            self._ends += 1
            if self._ends > 1:
                self._kill_workers()


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def main(arguments: list[str]) -> int:
    """Keep the place of a supervisor; return the exit status."""
    gateway, fd, seconds, *workers = arguments
    keeper = Keeper(int(gateway), int(fd), float(seconds), set(map(int, workers)))
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("gwfast-keeper")
    return keeper.keep()


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # while an interpreter finalizes, a signal would be its status
