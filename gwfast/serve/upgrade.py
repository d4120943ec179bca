"""An upgrade of the program itself, without a lost connection: `gwfast upgrade`, or USR2 to the supervisor.

    old supervisor                                     new supervisor: the same command line, the program that is on disk now
    starts it, with its listening sockets    ──>       reads the configuration, starts workers, which take a table
    (serves on; so do its workers)           <──       Ready
    clients of UDP get sockets of their own
    Go                                       ──>       its workers accept on the same sockets, its admin port answers
    its workers accept no more and drain     <──       Serving
    becomes a keeper, see `keeper`                     serves

What others do, and what is taken from them: nginx executes the new binary with the listening sockets inherited (USR2) and lets
who asks end the old master (WINCH, QUIT) or the new one; here the new one has to say that it serves, and the old one then goes
by itself. HAProxy's new process gets the sockets over a socket (-x), Envoy's hot restart talks over one: both sides know of
each other. systemd wants MAINPID from the old one, as only the main process may say it.

Rules
- The sockets stay the same ones: of SO_REUSEPORT each has its own queue, and one that is closed resets what waits there. All
  of them are handed over, those of ports that the new configuration has no use for included: these the old workers serve to
  the end of their queues, as in a reload.
- Until Go the new program touches nothing: it accepts nothing, writes no status, has no admin port. Where it fails before (it
  cannot be executed, refuses its command line, crashes, cannot read the configuration, would serve nothing where something is
  served, does not say Ready in time) it is ended, and the old one serves on and can be asked again. From Go on both accept.
- One upgrade at a time. TERM before Go ends the new program; after, it ends both as they should.
- Who is killed takes nobody along that serves: without Go the new program ends with the old one; after it, each goes on alone.
- What is kept: the sockets, the key of sessions, standard output and error, the limits of the process. What begins anew:
  counters, as after a restart; health of endpoints; sessions of TLS, whose keys each gateway makes.
- Who started the gateway (a shell, runit, a container's init) still waits for the same process: the old supervisor becomes a
  keeper, which is small, forwards signals and ends with the status of the gateway. Under systemd (NOTIFY_SOCKET) there is
  none: it is told of the new main process, and the old one ends with its workers.
- What cannot be upgraded so says why: a configuration that came on standard input, and a data plane of a controller, which its
  Deployment rolls.
"""
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from gwfast import __version__
from gwfast.serve import control
from gwfast.serve.handover import VARIABLE, Failed, Go, Ready, Serving, State, decode, memfd

GO_WAIT = 10.0  # seconds from Go to Serving: only the workers are to be told
END_WAIT = 2.0  # that a program which has no place has to end by itself
LOOK = 0.02  # between two looks at whether it has ended
NOBODY = 1 << 16  # instead of a status: there is no such process any more


class NotUpgraded(Exception):
    """Why there was no upgrade; this gateway serves on."""


class Done(msgspec.Struct, frozen=True):
    """An upgrade that was. pid, version: of who serves now."""

    pid: int
    version: str
    before: int
    version_before: str
    seconds: float


class Heir(NamedTuple):
    """The process that serves now, and our end of the socket of a keeper, None where there is another one, or none is wanted."""

    pid: int
    keeper: socket.socket | None
    ready: Ready


def command() -> list[str]:
    """Return what this process was started with; what is on disk now runs."""
    return [sys.executable, *sys.orig_argv[1:]]


class Upgrades:
    """Upgrades of one gateway, one at a time.

    refused(): why there can be none, '': there can. state(keeper): what is handed over; keeper: a descriptor that goes along,
    -1: the one that it has, or none. part(): what is to be done before Go. taken(heir): told once, when another one serves.
    """

    def __init__(self, loop, log, timeout: float, state: Callable[[int], State], taken: Callable[[Heir], None],
                 refused: Callable[[], str], part: Callable[[], Awaitable[None]], *, keeps: bool = True,
                 command: Callable[[], list[str]] = command):
        self._loop = loop
        self._log = log
        self._timeout = timeout
        self._state = state
        self._taken = taken
        self._refused = refused
        self._part = part
        self._keeps = keeps
        self._command = command
        self._task: asyncio.Task | None = None
        self._gone = False  # from here on nothing is ended any more: the other one may serve
        self._done = False

    def ask(self) -> None:
        """Begin one where nobody waits for what comes of it: the log has it."""
        self._loop.create_task(self.upgrade()).add_done_callback(_heard)

    async def upgrade(self) -> Done:
        """Upgrade; return what serves now. NotUpgraded where this gateway serves on."""
        if why := self._refused() or self._busy():
            self._log.warning("no upgrade", reason=why)
            raise NotUpgraded(why)
        self._gone = False
        task = self._task = self._loop.create_task(self._upgrade())
        task.add_done_callback(_heard)  # who asked may have gone
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotUpgraded("this gateway ends") from None
            raise

    def _busy(self) -> str:
        if self._task is not None:
            return "an upgrade is under way"
        return "another process serves already" if self._done else ""

    async def _upgrade(self) -> Done:
        begin = self._loop.time()
        try:
            heir = await self._attempt()
        except NotUpgraded as error:
            self._log.error("the upgrade failed: this gateway serves on", reason=str(error), version=__version__)
            raise
        finally:
            self._task = None
        self._done = True
        done = Done(heir.pid, heir.ready.version, os.getpid(), __version__, round(self._loop.time() - begin, 3))
        self._log.info("upgraded: another process serves, this one drains", version=done.version, new_pid=done.pid,
                       version_before=__version__, after_s=done.seconds)
        self._taken(heir)
        return done

    async def close(self) -> None:
        """End what is under way; where it is too late for that, wait until it is over."""
        if (task := self._task) is not None:
            if not self._gone:
                task.cancel()
            await asyncio.wait([task])

    async def _attempt(self) -> Heir:
        """Start a program and let it take over."""
        keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self._keeps else (None, None)
        program = None
        try:
            with theirs or contextlib.nullcontext():
                program = Program(self._loop, self._command(), self._state(theirs.fileno() if theirs else -1))
            self._log.info("an upgrade begins", new_pid=program.pid, at_most_s=self._timeout)
            ready = await program.expect(Ready, self._timeout)
            await self._part()
            self._gone = True
            program.channel.send(Go())
            await program.expect(Serving, GO_WAIT)
        except BaseException:
            if keeper is not None:
                keeper.close()
            if program is not None:
                await program.end()
            raise
        program.channel.close()
        return Heir(program.pid, keeper, ready)


class Program:
    """A program that was started to take our place, in a process group of its own. NotUpgraded where it cannot be started."""

    def __init__(self, loop, command: list[str], state: State):
        ours, theirs = control.pair()
        handed = memfd(state)
        descriptors = [fd for port in state.ports for fd in port.descriptors] + state.admin
        descriptors += [fd for fd in (state.keeper,) if fd >= 0]
        with theirs:
            try:
                process = subprocess.Popen(command, pass_fds=(theirs.fileno(), handed, *descriptors), process_group=0,
                                           env=os.environ | {VARIABLE: f"{theirs.fileno()},{handed}"})
            except OSError as error:
                ours.close()
                raise NotUpgraded(f"{command[0]} cannot be started: {error.strerror}") from None
            finally:
                os.close(handed)
        process.returncode = 0  # it is waited for here, or by who keeps our place
        self.pid = process.pid
        self._loop = loop
        self._said: asyncio.Queue = asyncio.Queue()
        self.channel = control.Channel(loop, ours, lambda message, _: self._said.put_nowait(message),
                                       lambda: self._said.put_nowait(None), decode)

    async def expect(self, kind: type, seconds: float):
        """Return its next message, which is to be of this kind."""
        try:
            async with asyncio.timeout(seconds):
                message = await self._said.get()
        except TimeoutError:
            raise NotUpgraded(f"the new program does not serve after {seconds:g} s") from None
        match message:
            case None:
                raise NotUpgraded(f"the new program ended before it served ({_words(await self._ended())}): see the log")
            case Failed(why):
                raise NotUpgraded(why)
            case _ if isinstance(message, kind):
                return message
        raise NotUpgraded(f"the new program says {type(message).__name__} out of turn")

    async def end(self) -> None:
        """Let it end, with all its processes, for some moments; then kill it."""
        self.channel.close()
        await self._ended()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        end = self._loop.time() + END_WAIT
        while self._reap(-self.pid) != NOBODY and self._loop.time() < end:  # its workers are our children now
            await asyncio.sleep(LOOK)

    async def _ended(self) -> int | None:
        """Wait a little for its process to end; return its status, None where it does not."""
        end = self._loop.time() + END_WAIT
        while (status := self._reap(self.pid)) is None and self._loop.time() < end:
            await asyncio.sleep(LOOK)
        return status

    def _reap(self, pid: int) -> int | None:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return NOBODY
        return os.waitstatus_to_exitcode(status) if ended else None


def _heard(task: asyncio.Task) -> None:
    """Take note of what became of a task: the log has it."""
    if not task.cancelled():
        task.exception()


def _words(status: int | None) -> str:
    if status is None or status == NOBODY:
        return "it is not known how"
    try:
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
