"""Namespaces of network, mounts and processes, with programs in them, that end when their owner does.

    with Sandbox(NETWORK) as sandbox:
        server = sandbox.run(["some-server"], log=Path("server.log"))
        with sandbox.connect("127.0.0.1", 8080) as connection: ...
        server.freeze(); server.thaw(); server.kill()

Rules: nothing in a sandbox can reach a network outside, nor be reached from there but by sockets that `new_socket` and `connect` open in it.
Its first process (sandbox_init.py) ends when the owner closes its socket or dies, by SIGKILL too; the kernel then ends
every other process and frees networks and mounts, so that nothing can be left behind. Needs root (CAP_SYS_ADMIN).
"""
import array
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

INIT = Path(__file__).with_name("sandbox_init.py")
START_SECONDS = 20.0
STOP_SECONDS = 5.0
CLONE_NEWNET = 0x40000000  # sched.h

libc = ctypes.CDLL(None, use_errno=True)


def enter_network(descriptor: int) -> None:
    """Move this thread, and no other, into a network namespace."""
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Process:
    """A program in a sandbox. Its pid is the one that this side sees."""

    def __init__(self, sandbox: "Sandbox", argv: Sequence[str], number: int, handle: int, log: Path | None):
        self.argv, self.log = list(argv), log
        self.returncode: int | None = None
        self._sandbox, self._number, self._handle = sandbox, number, handle
        self.pid = seen_pid(handle)

    def __repr__(self) -> str:
        return f"<{os.path.basename(self.argv[0])} {self.pid} {'runs' if self.poll() is None else self.returncode}>"

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        return self._collect() if self.returncode is None and self._ended(0) else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.argv, timeout)
        return self._collect()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is; its connections stay open and nobody answers."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send_signal(signal.SIGCONT)

    def stop(self, seconds: float = 5.0) -> int:
        """TERM, and KILL after some seconds. Returns its exit status."""
        self.thaw()
        self.terminate()
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait()

    def output(self) -> str:
        """Return what it has written to its log so far."""
        return self.log.read_text(errors="replace") if self.log else ""

    def _ended(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def _collect(self) -> int:
        while self.returncode is None:
            status = self._sandbox.status(self._number)
            if status is not None:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def __del__(self) -> None:
        os.close(self._handle)


def seen_pid(handle: int) -> int:
    """The pid that a pidfd stands for, as this process' namespace numbers it; -1 once it has been reaped."""
    text = Path(f"/proc/self/fdinfo/{handle}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


class Sandbox:
    """The namespaces and their first process. `network` is a batch of ip(8) that is run inside."""

    def __init__(self, network: str = "link set lo up\n"):
        self._network = network
        self._lock = threading.Lock()
        self._holder: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._socket, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--",
             sys.executable, "-IS", str(INIT), self._network], stdin=inner, start_new_session=True)
        inner.close()
        self._socket.settimeout(START_SECONDS)
        try:
            ready = self._socket.recv(16)
        except TimeoutError:
            ready = b""
        if not ready:
            self.stop()
            raise RuntimeError("no namespaces can be made here; what unshare(1) said is above")
        self._socket.settimeout(None)
        self.pid = only_child(self._holder.pid)
        self._network_handle = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def stop(self) -> None:
        """End everything inside at once."""
        if self._holder is None:
            return
        self._socket.close()
        try:
            self._holder.wait(STOP_SECONDS)  # the first process ends once all others are gone
        except subprocess.TimeoutExpired:
            self._holder.kill()  # its child goes with it (--kill-child)
            self._holder.wait()
        self._holder = None
        with contextlib.suppress(AttributeError):
            os.close(self._network_handle)

    def run(self, argv: Sequence[str | os.PathLike], *, env: Mapping[str, str] | None = None, cwd: str | os.PathLike | None = None,
            log: Path | None = None, stdin: int | None = None) -> Process:
        """Start a program inside; what it writes is added to the file `log` (without one, this side's standard error has it)."""
        words = [os.fspath(word) for word in argv]
        with open(os.devnull, "rb") as nothing, open(log, "ab") if log else contextlib.nullcontext() as file:
            out = file.fileno() if file else 2
            asked = {"argv": words, "env": dict(os.environ if env is None else env), "cwd": os.fspath(cwd or os.getcwd())}
            said, handles = self._ask(asked, [nothing.fileno() if stdin is None else stdin, out, out])
        return Process(self, words, said["pid"], handles[0], log)

    def status(self, number: int) -> int | None:
        """What waitpid told of a process, by its number inside; None where it runs, SIGKILL's where all has ended."""
        try:
            return self._ask({"status": number})[0]["status"]
        except (OSError, ValueError):
            return signal.SIGKILL

    def command(self, argv: Sequence[str | os.PathLike]) -> list[str]:
        """Return the arguments that run a short-lived program in this sandbox's network, for subprocess.run."""
        return ["nsenter", f"--target={self.pid}", "--net", "--", *map(os.fspath, argv)]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread be in the sandbox's network: sockets that it makes here stay there."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_network(self._network_handle)
            try:
                yield
            finally:
                enter_network(here)
        finally:
            os.close(here)

    def new_socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket of the sandbox's network."""
        with self.inside():
            return socket.socket(family, kind)

    def connect(self, host: str, port: int, timeout: float | None = 10.0) -> socket.socket:
        """Return a TCP connection to an address inside."""
        connection = self.new_socket()
        try:
            connection.settimeout(timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect((host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, asked: dict, descriptors: Sequence[int] = ()) -> tuple[dict, list[int]]:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with self._lock:
            self._socket.sendmsg([json.dumps(asked).encode()], rights)
            packet, about, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        handles = array.array("i")
        for _, _, data in about:
            handles.frombytes(data)
        return json.loads(packet), list(handles)


def only_child(pid: int) -> int:
    """The one child of a process, which may still be on its way."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(found[0])
        time.sleep(0.001)
    raise RuntimeError(f"process {pid} started nothing")
