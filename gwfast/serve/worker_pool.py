"""The workers: started, told what to serve, replaced when they die.

A member is one place in the pool; the process in it may change. A new process is told everything again (the table and
its sockets, which stay open here), so that connections which queued meanwhile are served. A place whose process keeps
dying waits longer each time. For a process that does not answer a stand-in takes connections: see `watchdog`. So does one for
sockets that are more than there are places: those of a gateway that had more workers and was upgraded to this one.
"""
import asyncio
import os
import signal
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from gwfast import limits
from gwfast.engine.counters import forget
from gwfast.observe.log import Log
from gwfast.observe.metrics import Stats
from gwfast.serve import control, spawn
from gwfast.serve.options import ServeOptions
from gwfast.serve.sockets import Port
from gwfast.serve.standin import StandIn
from gwfast.serve.start import cannot_start
from gwfast.serve.watchdog import Vital, Watchdog

CALM = 1.0  # seconds of life after which a death is no longer part of a row
FIRST_DELAY = 0.1
LONGEST_DELAY = 1.0  # what waits in its queue waits no longer than this


class Member:
    """One place. `pid` is of its process (0: none), `applied` the generation that it serves (0: none yet), `settled`
    the last one that it took or refused."""

    def __init__(self, index: int):
        self.index = index
        self.pid = 0
        self.channel: control.Channel = None  # type: ignore[assignment]  # there where pid is not 0
        self.ready = self.parted = False
        self.applied = 0
        self.settled = 0
        self.started = 0.0
        self.deaths = 0  # in a row
        self.vital = Vital()
        self.stand_in: StandIn | None = None  # while it is stuck


class WorkerPool:
    """All workers. `ports` is iterated for a new worker; `processes` are there already, `another` makes one more."""

    def __init__(self, loop, options: ServeOptions, counters: int, ports: Iterable[Port], stats: Stats, log: Log,
                 processes: Iterable[spawn.Process] = (), another: Callable[[], spawn.Process] = spawn.another):
        self._loop = loop
        self._processes = list(processes)
        self._another = another
        self._options = options
        self._engine = replace(options.engine, session_key=options.engine.session_key or os.urandom(32))  # one for all of them
        self._counters = counters
        self._call = os.eventfd(0)  # with which workers wake each other
        self._ports = ports
        self._stats = stats
        self._log = log
        self._table: tuple[int, tuple[int, ...]] | None = None  # generation; memfds of the image and, with TLS, the credentials
        self._former: list[int] = []  # memfds that workers may still be on: freeing their memory is no work for them
        self._moved = asyncio.Event()
        self.ending = False
        self.members = [Member(index) for index in range(options.workers)]
        self._extra: dict[int, StandIn] = {}  # by index: for sockets that are nobody's
        self._turn = 0  # whose is the next connection that a stand-in takes
        self._watchdog: Watchdog | None = None

    @property
    def session_key(self) -> bytes:
        """What tokens of sessions are made with."""
        return self._engine.session_key

    # what the supervisor asks

    def start(self) -> None:
        """Start every worker."""
        for member in self.members:
            self._spawn(member)
        self._watchdog = Watchdog(self._loop, self._counters, self, self._options.worker_timeout, self._stats, self._log,
                                  self._stuck_or_back)

    def publish(self, generation: int, table: tuple[int, ...]) -> None:
        """Give every worker this table; its memfds (the image; the credentials, if any) are the pool's from now on."""
        before, self._table = self._table, (generation, table)
        for member in self._ready():
            if not member.vital.stuck:  # then it gets the last one when it is back
                member.channel.send(control.Swap(generation), table)
        if before is not None:
            self._former.extend(before[1])

    def listen(self, port: Port) -> None:
        """Let every worker accept on its socket of a port."""
        port.listening = True
        for member in self._ready():
            member.channel.send(control.Listen(port.bind), (port.sockets[member.index].fileno(),))
            if member.stand_in is not None:
                member.stand_in.add(port, member.index)
        for index in range(len(self.members), len(port.sockets)):
            self._extra.setdefault(index, StandIn(self._loop, self._give)).add(port, index)
        self._move()

    def unlisten(self, port: Port) -> None:
        """Let no worker accept on a port any more. Close the port first: the workers' copies are then the last."""
        for stand_in in self._stand_ins():
            stand_in.drop(port.bind)
        for member in self._ready():
            member.channel.send(control.Unlisten(port.bind))

    async def settled(self, generation: int, timeout: float) -> bool:
        """Wait until every worker that runs and answers took or refused this table; False if one did not in time."""
        settled = await self._until(lambda: all(
            member.settled >= generation or member.vital.stuck for member in self.members if member.pid), timeout)
        while self._former:
            os.close(self._former.pop())
        return settled

    async def part(self, timeout: float) -> None:
        """Let clients of UDP stay with their workers, before others read the sockets as well; bounded, as it is only better."""
        if not any(port.udp for port in self._ports):
            return
        members = self._takers()
        for member in members:
            member.parted = False
            member.channel.send(control.Part())
        await self._until(lambda: all(member.parted or not member.pid or member.vital.stuck for member in members), timeout)

    def finish(self, handed_over: bool = False) -> None:
        """Let every worker drain and end; none is replaced any more. handed_over: others accept on the sockets."""
        self._end(control.Finish(handed_over), handed_over)

    def abort(self) -> None:
        """End every worker now."""
        self._end(control.Abort())
        self._loop.call_later(limits.ABORT_TIMEOUT, self.kill)

    def kill(self) -> None:
        for member in self.members:
            if member.pid:
                os.kill(member.pid, signal.SIGKILL)

    async def gone(self, timeout: float) -> bool:
        """Wait until no worker is left; False if one is after so many seconds."""
        return await self._until(lambda: not any(member.pid for member in self.members), timeout)

    # a worker's life

    def _spawn(self, member: Member) -> None:
        try:
            process = self._processes.pop() if self._processes else self._another()
        except OSError as error:
            self._log.error("cannot start a worker", worker=member.index, error=cannot_start(error), wait_s=LONGEST_DELAY)
            self._loop.call_later(LONGEST_DELAY, self._replace, member)
            return
        member.pid = process.pid
        member.ready, member.applied, member.settled = False, 0, 0
        member.started = self._loop.time()
        member.vital.born()
        channel = member.channel = control.Channel(
            self._loop, process.end, lambda message, _: self._received(member, message), lambda: self.ended(member))
        channel.send(control.Start(member.index, len(self.members), self._options.drain_timeout,
                                   self._engine), (self._counters, self._call, member.vital.stack))

    def _received(self, member: Member, message) -> None:
        match message:
            case control.Ready():
                member.ready = True
                self._introduce(member)
            case control.Parted():
                member.parted = True
            case control.Applied(generation):
                member.applied = member.settled = generation
            case control.Told(text):
                self._log.warning("a filter in Python", worker=member.index, told=text)
            case control.HandshakeFailed(address, reason, detail, unsaid):
                self._log.stranger("a TLS handshake failed", client=address, reason=reason, detail=detail, worker=member.index,
                               unsaid=unsaid)
            case control.Refused(what, text):
                self._log.error("a worker refused", worker=member.index, what=what, error=text)
                if what == "Swap" and self._table is not None:
                    self._stats.images_refused += 1
                    member.settled = self._table[0]
        self._move()

    def _stuck_or_back(self, member: Member) -> None:
        """Let others have the connections of a worker that got stuck, or itself again."""
        if member.vital.stuck:
            stand_in = member.stand_in = StandIn(self._loop, self._give)
            stand_in.stand_in(self._ports, member.index)
            if self.ending:
                stand_in.drop_all()
        else:
            self._relieve(member)
            if self._table is not None and member.settled < self._table[0]:
                member.channel.send(control.Swap(self._table[0]), self._table[1])
        self._move()

    def _relieve(self, member: Member) -> None:
        if member.stand_in is not None:
            member.stand_in.leave()
            member.stand_in = None

    def _give(self, bind: int, fd: int) -> None:
        """Give a connection that a stand-in took to the next worker that answers."""
        takers = self._takers()
        self._turn += 1
        self._stats.connections_passed_on += 1
        takers[self._turn % len(takers)].channel.send(control.Take(bind), (fd,))

    def _takers(self) -> list[Member]:
        return [member for member in self.members if member.applied and not member.vital.stuck]

    def _introduce(self, member: Member) -> None:
        if self._table is not None:
            generation, table = self._table
            member.channel.send(control.Swap(generation), table)
        for port in self._ports:
            if port.listening:
                member.channel.send(control.Listen(port.bind), (port.sockets[member.index].fileno(),))
        if self.ending:
            member.channel.send(control.Finish())

    def ended(self, member: Member) -> None:
        """The other end of the control socket is closed: the process has ended, or soon will."""
        member.channel.close()
        pid, member.pid, member.ready, member.applied = member.pid, 0, False, 0
        status = spawn.reap(pid)
        self._relieve(member)
        member.vital.born()
        crashed = member.vital.take_stack()
        forget(self._counters, member.index)
        self._move()
        if self.ending:
            return
        lived = self._loop.time() - member.started
        member.deaths = 1 if lived > CALM else member.deaths + 1
        delay = 0.0 if member.deaths == 1 else min(FIRST_DELAY * 2 ** (member.deaths - 2), LONGEST_DELAY)
        self._stats.worker_restarts += 1
        self._log.error("a worker died and is replaced", worker=member.index, pid=pid,
                        status=_status_words(status), after_s=round(lived, 3), wait_s=delay, **crashed)
        self._loop.call_later(delay, self._replace, member)

    def _replace(self, member: Member) -> None:
        if not self.ending:
            self._spawn(member)

    def _end(self, message, handed_over: bool = False) -> None:
        self.ending = True
        for stand_in in self._stand_ins():
            stand_in.leave() if handed_over else stand_in.drop_all()
        for member in self.members:
            if member.pid:
                member.channel.send(message)

    # waiting

    def _stand_ins(self) -> list[StandIn]:
        return [*(member.stand_in for member in self.members if member.stand_in is not None), *self._extra.values()]

    def _ready(self) -> list[Member]:
        return [member for member in self.members if member.pid and member.ready]

    def _move(self) -> None:
        stuck = sum(member.vital.stuck for member in self.members)
        takers = len(self._takers())
        for stand_in in self._stand_ins():
            stand_in.attend(takers > 0)
        self._stats.workers_running, self._stats.workers_stuck = takers, stuck
        self._moved.set()

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True


def _status_words(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
