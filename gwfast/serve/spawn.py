"""How workers come to be.

    crew(n)     forked n times from a process that is still small, with one thread and no event loop: a worker shares
                the memory of the interpreter, and of all that both import, with the supervisor
    another()   in the place of one that died: by now nothing here can fork cleanly, so it has an interpreter of its own

Both give a Process: a child of this process, and our end of its control socket.
"""
import gc
import os
import signal
import site
import socket
import subprocess
import sys
import time
import traceback
from typing import NamedTuple

from gwfast.serve import worker
from gwfast.serve.control import pair


class Process(NamedTuple):
    """A worker's process and our end of its control socket, non-blocking."""

    pid: int
    end: socket.socket


def crew(count: int) -> list[Process]:
    """Fork so many workers."""
    gc.collect()
    gc.freeze()  # what all of them share stays untouched by everybody's collector
    return [_fork() for _ in range(count)]


def another() -> Process:
    """Start a worker with an interpreter of its own."""
    ours, theirs = pair()
    command = [sys.executable, "-P", "-m", "gwfast.serve.worker", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=_environment())
    process.returncode = 0  # whoever has the pid waits for it
    theirs.close()
    return Process(process.pid, ours)


def _fork() -> Process:
    ours, theirs = pair()
    pid = os.fork()
    if not pid:
        _live(theirs)
    theirs.close()
    return Process(pid, ours)


def _live(end: socket.socket) -> None:
    """Be a worker, to the end: nothing that the supervisor began is ended here."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        os.closerange(3, end.fileno())
        os.closerange(end.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        worker.main(end)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def reap(pid: int) -> int:
    """Wait for a worker that closed its control socket, for at most a second; return its exit status."""
    for _ in range(100):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _environment() -> dict[str, str]:
    """A worker finds the package where it was found here."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    if home in site.getsitepackages():
        return dict(os.environ)
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": home + (os.pathsep + before if before else "")}
