"""How workers come to be.

    ForkServer  a process forked while this one is still small, with one thread and no event loop. It forks the first
                workers and, as long as it lives, those in the place of one that died: each shares the memory of the
                interpreter, of all that both import, and what `certs.roots` made before
    another()   without a fork server: by now nothing here can fork cleanly, so it has an interpreter of its own

Both give a Process: a child of this process, and our end of its control socket. Who forks for the fork server ends at once, and
its child becomes ours (linux.adopt_orphans), so that we are told how it ends. A fork server that stays costs some 3 MiB;
that is for gateways that have ticket keys to share.
"""
import contextlib
import errno
import gc
import os
import signal
import site
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from gwfast import linux
from gwfast.observe import sink
from gwfast.serve import worker
from gwfast.serve.control import pair

# Seconds for a fork; then the fork server counts as gone, and later workers have ticket keys of their own. On a machine that is
# busy with much else one second was too little; a fork server that has ended is known at once, by its socket.
PATIENCE = 5.0


class Process(NamedTuple):
    """A worker's process and our end of its control socket, non-blocking."""

    pid: int
    end: socket.socket


class ForkServer:
    """Where workers are forked, to its end with this process."""

    def __init__(self) -> None:
        linux.adopt_orphans()
        gc.collect()
        gc.freeze()  # what all of them share stays untouched by everybody's collector
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            _live(_nurse, theirs)
        theirs.close()
        self._end.settimeout(PATIENCE)

    def worker(self) -> Process:
        """Fork a worker; where the fork server is gone, start one by itself."""
        ours, theirs = pair()
        with theirs:
            try:
                socket.send_fds(self._end, [b"w"], [theirs.fileno()])
                pid = int(self._end.recv(32))
            except (OSError, ValueError):
                ours.close()
                self.close()
                return another()
        if pid < 0:
            ours.close()
            raise OSError(-pid, os.strerror(-pid))
        return Process(pid, ours)

    def close(self) -> None:
        """End it; workers that it forked go on."""
        if self._end.fileno() >= 0:
            self._end.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def another() -> Process:
    """Start a worker with an interpreter of its own."""
    ours, theirs = pair()
    command = [sys.executable, "-P", "-m", "gwfast.serve.worker", str(theirs.fileno())]
    with theirs:
        try:
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=_environment())
        except OSError:
            ours.close()
            raise
    process.returncode = 0  # whoever has the pid waits for it
    return Process(process.pid, ours)


def _nurse(end: socket.socket) -> None:
    """Be the fork server: fork a worker for each control socket that comes, say its process id; until the supervisor is gone."""
    linux.end_with_parent(signal.SIGTERM)
    linux.name_process(b"gwfast-forker")
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    linux.forget_files()
    while True:
        data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
        if not data:
            return
        end.send(_fork_twice(*descriptors))
        for fd in descriptors:
            os.close(fd)


def _fork_twice(descriptor: int) -> bytes:
    """Fork a worker that will be the supervisor's child; return its process id, or the number of an error below 0."""
    read, write = os.pipe()
    try:
        between = os.fork()
        if not between:
            _become(write, descriptor)
        os.close(write)
        os.waitpid(between, 0)
        return os.read(read, 32)
    except OSError as error:
        os.close(write)
        return b"-%d" % (error.errno or errno.EAGAIN)
    finally:
        os.close(read)


def _become(to: int, descriptor: int) -> None:
    """Fork a worker, write its process id and end, so that it is the supervisor's."""
    between = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    if pid:
        os.write(to, b"%d" % pid)
        os._exit(0)
    while os.getppid() == between:  # or its death would be taken for the supervisor's
        time.sleep(0.0005)
    _live(worker.main, socket.socket(fileno=descriptor))


def _live(life: Callable[[socket.socket], None], end: socket.socket) -> None:
    """Be what `life` says, to the end: nothing that the process before began is ended here."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        os.closerange(3, end.fileno())
        os.closerange(end.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        sink.install()
        life(end)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sink.finish()
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
