"""Where the program's own lines go: standard output and error, which nobody may wait for.

Rules
- A write never blocks. What the descriptor does not take waits in memory, LOG_BYTES at most; what is more is dropped and counted.
- Others share the descriptor, and O_NONBLOCK would be theirs too (it belongs to the open file, not to who has it): a pipe or
  terminal is opened anew for this process, a socket is told with each packet, a file takes everything. Where none of that can be
  (no /proc, another user's pipe), poll() says when a page has room.
- What has at most PIPE_BUF bytes leaves in one write: lines of several processes do not mix.
- A descriptor that is closed or broken, or was opened for reading alone, takes nothing: that is counted too.
"""
import contextlib
import fcntl
import io
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque

from gwfast import limits

LOOK = 0.05  # seconds that one wait for a reader lasts at the end
_OWN = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Sink(io.RawIOBase):
    """The bottom of a text stream. `dropped` counts lines, `waiting` bytes; `pump` is to be called now and then."""

    def __init__(self, fd: int, most: int = limits.LOG_BYTES):
        self.dropped = 0
        self.waiting = 0
        self.broken = False  # the last write failed
        self._fd = fd
        self._most = most
        self._queue: deque[bytes] = deque()
        self._lock = threading.RLock()  # a finaliser may write while a write is under way
        self._own = -1  # the same pipe or terminal, opened anew
        self._socket: socket.socket | None = None
        self._file = False
        self._open()

    def _open(self) -> None:
        try:
            mode, flags = os.fstat(self._fd).st_mode, fcntl.fcntl(self._fd, fcntl.F_GETFL)
            if flags & os.O_ACCMODE == os.O_RDONLY:
                return
            self._file = stat.S_ISREG(mode)
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(self._fd))
            elif not self._file:
                self._own = os.open(f"/proc/self/fd/{self._fd}", _OWN)
        except OSError:
            pass

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    @property
    def crowded(self) -> bool:
        """Whether what waits leaves room for what matters alone."""
        return self.waiting > self._most // 4

    def close(self) -> None:
        """Let go of the copy that it has; the descriptor itself stays open."""
        if not self.closed and self._own >= 0:
            os.close(self._own)
            self._own = -1
        if self._socket is not None:
            self._socket.close()
        super().close()

    def disown(self) -> None:
        """Forget its copy: this process was forked, has closed it, and the number may be another descriptor's."""
        self._own = -1
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def write(self, data) -> int:
        """Take bytes, or drop them; return how many there were."""
        data = bytes(data)
        with self._lock:
            if self.waiting + len(data) > self._most:
                self.pump()
            if self.waiting + len(data) > self._most:
                self.dropped += max(1, data.count(b"\n"))
            elif data:
                self._queue.append(data)
                self.waiting += len(data)
                self.pump()
        return len(data)

    def pump(self) -> bool:
        """Write what is taken now; return whether nothing waits any more."""
        with self._lock:
            while self._queue:
                data = self._queue[0]
                try:
                    done, self.broken = self._put(data), False
                except BlockingIOError:
                    return False
                except OSError:
                    done, self.broken = len(data), True
                    self.dropped += max(1, data.count(b"\n"))
                self.waiting -= done
                if done < len(data):
                    self._queue[0] = data[done:]
                else:
                    self._queue.popleft()
            return True

    def _put(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._own >= 0:
            return os.write(self._own, data)
        if self._file:
            return os.write(self._fd, data)
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        if not room.poll(0):
            raise BlockingIOError
        return os.write(self._fd, data[:select.PIPE_BUF])

    def finish(self, seconds: float) -> None:
        """Wait so long at most until what waits is taken."""
        end = time.monotonic() + seconds
        while not self.pump() and time.monotonic() < end:
            time.sleep(LOOK)


def install() -> None:
    """Let everything that this process prints go through sinks: its log, and what filters, warnings and tracebacks say.

    A process that was forked, and has closed what it inherited, does so again for itself.
    """
    for each in sinks():
        each.disown()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(Sink(fd), "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[type-var]  # it needs no more
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def sinks() -> list[Sink]:
    """Return those of standard output and error, as far as they are installed."""
    found = (getattr(stream, "buffer", None) for stream in (sys.stdout, sys.stderr))
    return [each for each in found if isinstance(each, Sink)]


def pump() -> int:
    """Write what is taken now; return how many lines were dropped so far."""
    found = sinks()
    for each in found:
        each.pump()
    return sum(each.dropped for each in found)


def finish(seconds: float = limits.LOG_LAST) -> None:
    """Let the last lines out, as long as somebody takes them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(below := getattr(stream, "buffer", None), Sink):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
                below.finish(seconds)


def open_closed() -> None:
    """Open /dev/null where standard input, output or error is closed: the next descriptor, a client's perhaps, would be it."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))


def forget_output() -> None:
    """Let nothing be written at the end to where nothing can be written."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
