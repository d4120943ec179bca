"""How a supervisor takes the place of another one, and how another one takes its place: the ends of an upgrade that are the
supervisor's. What is said between them is in `handover`, the order of things in `upgrade`.

Rules
- Who takes over is no worse than who was there: every worker serves, what was served before is not nothing now, no port that was
  open is not, and nothing is wrong with what is written that the old one could take, or has a last good version of.
- Who leaves tells its workers first: what else it has to end (a Lease, a status that is being written) keeps nobody.
"""
import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any

from gwfast.observe import sink
from gwfast.observe.log import Log
from gwfast.serve import keeper, notify, pidfile
from gwfast.serve.handover import Inheritance, Passed, State
from gwfast.serve.options import ServeOptions
from gwfast.serve.upgrade import Heir, Upgrades

PART = 1.0  # seconds for workers to part with the sockets of UDP
ANSWERS = 2.0  # seconds for the admin server's last answers: who asked for the upgrade gets one
FOLLOWER = 5.0  # for what follows to end
LATE = 1.0  # beyond the time to drain, until a worker is killed
with open(keeper.__file__) as source:
    KEEPER = source.read()  # now: once it is needed, the file may be another version's


class Succession:
    """Of one supervisor. `given`: whom it has yet to take over from; `heir`: who has taken over from it."""

    def __init__(self, supervisor, loop, options: ServeOptions, log: Log, given: Inheritance | None):
        self._of = supervisor
        self._loop = loop
        self._options = options
        self._log = log
        self.given: Any = given  # Inheritance, or None: there is nobody to take over from, or that is done
        self.heir: Heir = None  # type: ignore[assignment]  # there once one has taken over
        self._keeper: Any = None  # the socket to who keeps the place of the first of us, once we serve
        keeps = not (given and given.keeper) and not notify.wanted()
        self.upgrades = Upgrades(loop, log, options.upgrade_timeout, self._state, self._handed, self._refused,
                                 lambda: supervisor.pool.part(PART), keeps=keeps)

    # ---- To take over

    def begin(self) -> bool:
        """Listen to whom we are to take over from, if there is anybody; return whether we can begin."""
        if self.given is None:
            return self._write_pid()
        self.given.attend(self._loop, lambda: self.give_up("the old gateway has ended, or wants no other any more"))
        return True

    def give_up(self, why: str) -> None:
        """End without having served."""
        if self.given is None:
            return
        self._log.error("the upgrade fails: the gateway that was there serves on", reason=why)
        self.given.refuse(why)
        self.given = None
        self._of.fail()

    @property
    def admin(self) -> tuple[str, int] | None:
        """Where the admin server of whom we take over from listens."""
        return self.given.admin[0].getsockname()[:2] if self.given and self.given.admin else None

    async def may_serve(self) -> bool:
        """Say that all is ready once workers have a table; return whether they may accept. Else this is the end."""
        await self._of.pool.settled(self._of.stats.generation, self._options.upgrade_timeout)
        if self.given is None:
            return False
        if why := self._worse():
            self.give_up(why)
            return False
        return await self.given.may_go(self._of.ports.left)

    def _worse(self) -> str:
        """Return in what we would be worse than who is there; '': in nothing."""
        of, state, reading = self._of, self.given.state, self._of.reading
        if of.stats.images_refused or of.stats.workers_running != self._options.workers:
            return "a worker did not take the table"
        if worse := [problem for what, problem in reading.wrong().items() if what not in state.wrong]:
            return f"what serves would be lost: {worse[0]}"
        if state.serves and not reading.judged and reading.graph.idle:
            return f"nothing would be served: {reading.graph.idle}"
        failed = [port for port in of.ports if port.error and any(
            (one.port, one.udp) == (port.port, port.udp) for one in state.ports)]
        return f"cannot listen on {failed[0].where}: {failed[0].error}" if failed else ""

    async def serve(self) -> None:
        """The workers accept: so does the admin server, and whom we take over from may go."""
        given, self.given = self.given, None
        await self._of.admin.take(self._loop, given.admin)
        self._of.ports.close_left()
        self._write_pid()
        self._keeper = given.keeper
        if self._keeper is not None:
            self._loop.add_reader(self._keeper.fileno(), self._keeper_ended)
        given.serving()
        self._log.info("took over", version_before=given.state.version, pid_before=given.state.pid)

    def _write_pid(self) -> bool:
        try:
            pidfile.write(self._options.pid_file)
        except OSError as error:
            self._log.error("cannot write the process id", file=self._options.pid_file, error=error.strerror)
            return False
        return True

    def _keeper_ended(self) -> None:
        """Who started the gateway knows the keeper's process alone: if that is ended, it is all."""
        self._loop.remove_reader(self._keeper.fileno())
        self._of.stop(signal.SIGTERM)

    def end(self, status: int) -> None:
        """Tell who keeps the place of the first of us how we end."""
        if self._keeper is not None:
            with contextlib.suppress(OSError):
                self._keeper.send(b"=%d" % status)

    # ---- To be replaced

    def _refused(self) -> str:
        """Return why there can be no upgrade; '': there can."""
        if self._options.controller:
            return "a data plane of a controller is upgraded by its Deployment: kubectl rollout restart"
        if "-" in self._options.paths:
            return "the configuration came on standard input, where nobody can read it again"
        if self.given is not None or not self._of.stats.generation:
            return "this gateway does not serve yet"
        return "this gateway ends" if self._of.stopping.is_set() else ""

    def _state(self, keeper: int) -> State:
        of = self._of
        ports = [Passed(port.address, port.spec_port, port.port, port.udp, [each.fileno() for each in port.sockets])
                 for port in of.ports if port.sockets and port.listening]
        idle = not of.reading.judged and bool(of.reading.graph.idle)
        if self._keeper is not None:
            keeper = self._keeper.fileno()
        return State(pid=os.getpid(), ports=ports, admin=of.admin.descriptors, session_key=of.pool.session_key, keeper=keeper,
                     serves=not idle, wrong=[what for what, problem in of.reading.wrong().items() if not problem.stands])

    def _handed(self, heir: Heir) -> None:
        self.heir = heir
        self._of.stopping.set()

    def passes_on(self, number: int) -> bool:
        """Let a signal reach who serves now; return whether that is another one."""
        if self.heir is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.heir.pid, number)
        return True

    async def leave(self, told_to_end: bool) -> None:
        """Let the workers drain, end the rest, and keep the place of who serves now; does not return."""
        of = self._of
        end = time.monotonic() + self._options.drain_timeout + LATE
        left = set(map(tuple, self.heir.ready.left))
        for port in [port for port in of.ports if (port.address, port.port, port.udp) in left]:
            of.pool.unlisten(port)
        of.pool.finish(handed_over=True)
        notify.notify(MAINPID=self.heir.pid)
        of.ports.close()
        if told_to_end:
            self.passes_on(signal.SIGTERM)
        await asyncio.gather(of.admin.leave(ANSWERS), self._end_follower())
        self._keep(end)

    async def _end_follower(self) -> None:
        if self._of.follower is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FOLLOWER):
                    await self._of.follower.close()

    def _keep(self, end: float) -> None:
        """Become a keeper, see there."""
        ours = self.heir.keeper
        program = _program()
        workers = [member.pid for member in self._of.pool.members if member.pid]
        main, fd = (self.heir.pid, ours.detach()) if ours is not None else (0, -1)
        arguments = [str(each) for each in (main, fd, max(0.0, end - time.monotonic()), *workers)]
        sink.finish()
        signal.pthread_sigmask(signal.SIG_BLOCK, keeper.FORWARDED)  # until it knows what to do with them
        if fd >= 0:
            os.set_inheritable(fd, True)
        with contextlib.suppress(OSError):  # who is not there any more: all of this memory stays with it
            os.execv(sys.executable, [sys.executable, "-I", "-S", *program, *arguments])
        os._exit(keeper.main(arguments))


def _program() -> list[str]:
    """Return what runs as a keeper: an open file, as lists of processes show what it is; where there is no /proc, its text."""
    fd = os.memfd_create("gwfast-keeper", 0)  # open in what is executed
    os.write(fd, KEEPER.encode())
    path = f"/proc/self/fd/{fd}"
    return [path] if os.path.exists(path) else ["-c", KEEPER]
