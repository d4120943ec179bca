"""Where workers come from: a process that is forked before there are threads, an event loop or a configuration.

    supervisor ──a control socket──> nursery ──fork──> fork ──> worker
               <───────pid─────────

Forked from it, a worker shares the memory of the interpreter and of all that it imports with the nursery and with the
supervisor, and is there within milliseconds. Rules:
- the nursery imports what a worker needs, and does nothing but fork; it ends with its supervisor
- the process between it and a worker ends at once: the worker becomes the child of the supervisor, which is told when
  it dies as of any child, and it outlives the nursery
- a nursery that was killed is replaced by one with an interpreter of its own: by then nothing here can fork cleanly
"""
import ctypes
import gc
import os
import signal
import site
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path

from gwfast.serve import worker

PATIENCE = 10.0  # seconds for a process to be made
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
_ANSWER = struct.Struct("i")  # a pid, or minus an errno


class Nursery:
    """The supervisor's side, of a nursery that was planted; without one it is started when it is needed."""

    def __init__(self, end: socket.socket | None = None, pid: int = 0):
        self._end = end
        self._pid = pid
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def fork(self, control: socket.socket) -> int:
        """Make a worker on the other end of this control socket; return its pid. OSError if there can be none."""
        if self._end is not None:
            try:
                return self._ask(control)
            except (EOFError, ConnectionError, TimeoutError):
                self.close()
        self._end, self._pid = _hatch()
        return self._ask(control)

    def _ask(self, control: socket.socket) -> int:
        socket.send_fds(self._end, [b"fork"], [control.fileno()])
        answer = self._end.recv(_ANSWER.size)
        if not answer:
            raise EOFError
        pid, = _ANSWER.unpack(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def close(self) -> None:
        """End the nursery; its workers stay."""
        if self._end is not None:
            self._end.close()
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._end = None


def plant() -> Nursery:
    """Fork the nursery from this process, which must have one thread and no event loop."""
    gc.collect()
    gc.freeze()  # what both share stays untouched by either's collector
    ours, theirs = _pair()
    pid = os.fork()
    if not pid:
        _live(lambda: _serve(theirs))
    theirs.close()
    return Nursery(ours, pid)


def _hatch() -> tuple[socket.socket, int]:
    """Start a nursery in an interpreter of its own."""
    ours, theirs = _pair()
    process = subprocess.Popen([sys.executable, "-P", "-m", "gwfast.serve.nursery", str(theirs.fileno())],
                               pass_fds=(theirs.fileno(),), env=_environment())
    process.returncode = 0  # it is waited for by pid
    theirs.close()
    return ours, process.pid


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    return ours, theirs


def _environment() -> dict[str, str]:
    """A nursery finds the package where it was found here."""
    home = str(Path(__file__).resolve().parents[2])
    if home in site.getsitepackages():
        return dict(os.environ)
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": home + (os.pathsep + before if before else "")}


# ---- in the nursery


def _live(life) -> None:
    """Be a process that was forked, to its end: nothing of what its parent began is ended by it."""
    status = 0
    try:
        life()
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


def _serve(end: socket.socket) -> None:
    """Fork a worker for each control socket that comes, until the supervisor is gone."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"gwfast-nursery")
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # a group's signals are the supervisor's business
        signal.signal(ignored, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    os.closerange(3, end.fileno())
    os.closerange(end.fileno() + 1, 1 << 30)
    while True:
        data, descriptors, _, _ = socket.recv_fds(end, 16, 1)
        if not data:
            return
        try:
            answer = _bear(end, *descriptors)
        except OSError as error:
            answer = -error.errno
        os.close(descriptors[0])
        end.send(_ANSWER.pack(answer))


def _bear(end: socket.socket, control: int) -> int:
    """Fork twice; return the worker's pid once the process between is gone."""
    told, tells = os.pipe()
    between = os.fork()
    if not between:
        os.close(told)
        end.close()
        _live(lambda: _between(control, tells))
    os.close(tells)
    with open(told, "rb") as pipe:
        answer = pipe.read(_ANSWER.size)
    os.waitpid(between, 0)
    return _ANSWER.unpack(answer)[0]


def _between(control: int, tells: int) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        pid = -error.errno
    if not pid:
        os.close(tells)
        _live(lambda: worker.main(socket.socket(fileno=control)))
    os.write(tells, _ANSWER.pack(pid))


if __name__ == "__main__":
    _live(lambda: _serve(socket.socket(fileno=int(sys.argv[1]))))
