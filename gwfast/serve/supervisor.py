"""The supervisor: reads the configuration, publishes tables, keeps the sockets and the workers; no traffic.

One round turns what changed into what serves:

    what changed -> plan (in the pipeline's thread) -> ports opened, names resolved -> image -> workers
                  -> ports that are no longer wanted are closed

Rules:
- Rounds never overlap; what changes during one makes the next.
- A round that fails leaves everything as it was, and the next one, at once, looks at everything; one that fails again waits for a
  change. What one resource makes fail is held back by then (config.quarantine).
- Where a plan needs no other ports and names, its image is written in one go with it.
- What is a moment's work (Source.brief) is done in a thread that is not behind traffic: who changed a route waits for it, and
  beside workers that never sleep a nice one waits for long.
- What is only told of what serves, to the log and to followers, keeps nothing from serving: what fails there is logged.
"""
import asyncio
import contextlib
import gc
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Set
from functools import partial
from typing import TYPE_CHECKING

from gwfast import __version__, linux

from gwfast.engine import counters
from gwfast.config.source import Source
from gwfast.endpoints.health import Health
from gwfast.endpoints.probes import Prober
from gwfast.endpoints.resolve import Resolver, elsewhere
from gwfast.errors import Problem
from gwfast.observe import metrics, sink
from gwfast.observe.admin import Admin
from gwfast.observe.log import Log
from gwfast.observe.routes import RouteCounts
from gwfast.plan.ir import Endpoints, Plan
from gwfast.serve import pidfile
from gwfast.serve.background import BackgroundThread
from gwfast.serve.worker_pool import WorkerPool
from gwfast.serve.follower import Follower
from gwfast.serve.generation import Pipeline, Published, Reading
from gwfast.serve.handover import Inheritance
from gwfast.serve.options import ServeOptions
from gwfast.serve.pages import OWN, PUBLIC, pages
from gwfast.serve.sockets import Ports, Wanted, explain
from gwfast.serve.spawn import ForkServer, Process
from gwfast.serve.succession import Succession
from gwfast.serve.systemd import Service, given_sockets
from gwfast.serve.told import identity, located, port_problem

if TYPE_CHECKING:
    from gwfast.serve.certs import Certs  # and OpenSSL with it

NAMES_WAIT = 1.5  # seconds that a table waits for the first lookup of new names
APPLY_WAIT = 5.0  # seconds that a reload waits for the workers
APPLY_AGAIN = 1.0  # until it is looked whether a worker that did not take a table has done so since
HEALTH = 1.0  # seconds between two looks at which endpoints are out
TURN_WAIT = 3600.0  # seconds that a timer runs at most: one that is set for years would not follow a clock that is put right
PORT_RETRY = 2.0  # seconds until a port that could not be opened is tried again
COLLECT = 30.0  # seconds between two looks for cycles
COLLECT_AGAIN = 0.05  # where a round was under way
PROBLEMS = 100  # that one round writes to the log; `gwfast check` and /status tell all


async def supervise(source: Source, options: ServeOptions, log: Log, processes: list[Process], fork_server: ForkServer,
                    follower: Follower | None = None, given: Inheritance | None = None) -> int:
    """Run a gateway on this event loop until a signal ends it; return the exit status. given: what it takes over."""
    return await Supervisor(asyncio.get_running_loop(), source, options, log, processes, fork_server, follower, given).run()


class Supervisor:
    """Everything of one gateway but its traffic."""

    def __init__(self, loop, source: Source, options: ServeOptions, log: Log, processes: list[Process], fork_server: ForkServer,
                 follower: Follower | None = None, given: Inheritance | None = None):
        self._loop = loop
        self.source = source
        self.follower = follower
        self._options = options
        self._log = log
        self.stats = metrics.Stats(workers=options.workers)
        self.background, self._brisk = BackgroundThread(loop, "pipeline"), BackgroundThread(loop, "pipeline-brief")
        self.pipeline = Pipeline(source, options, bug=lambda *what: loop.call_soon_threadsafe(self._failed, *what))
        self.ports = Ports(options.workers, options.bind, options.port_map, options.backlog,
                           [*(given.ports if given else ()), *given_sockets(log.warning)])
        self._service = Service(loop, given is not None)
        self.counters = counters.create(options.workers, options.route_metrics + 2)
        self.counted = RouteCounts(partial(counters.read, self.counters))
        self._fork_server = fork_server
        self.pool = WorkerPool(loop, options, self.counters, self.ports, self.stats, log, processes,
                         fork_server.worker)
        in_cluster = bool(options.controller or options.kubernetes)
        self.resolver = Resolver(loop, lambda: self._ask(set()), options.dns_refresh,
                                 allowed=elsewhere if in_cluster else lambda address: True)
        self.prober = Prober(loop, partial(counters.mark, self.counters))
        self._certs: Certs | None = None  # once there was something to probe over TLS
        self.health = Health(partial(counters.ejected, self.counters), self.prober.unhealthy, log.warning)
        self.admin = Admin(pages(self), log.bug, PUBLIC if in_cluster else None, OWN)
        self.succession = Succession(self, loop, options, log, given)
        self.reading: Reading = None  # type: ignore[assignment]  # there once the source was read
        self._plan: Plan | None = None  # what the table serves, with
        self._idle = "the configuration is being read"  # '': something is served
        self._named: list[Endpoints] = []  # that were looked up
        self._addresses: dict[str, tuple] = {}  # of these, by key
        self._lost: set[tuple[str, str]] = set()  # (backend, name) that resolves to nothing
        self.problems: list[Problem] = []
        self._changed: set[str] | None = set()  # None: anything
        self._asked = asyncio.Event()
        self._waiters: list[asyncio.Future] = []
        self._unmapped: Set[int] = frozenset()  # ports of --port-map that no listener has, as far as that was told
        self._retry: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None
        self.stopping = asyncio.Event()
        self._signals = self._exit = 0
        self._busy = False  # in a round
        self._changes = self._collected = 0  # rounds, and how many there were when cycles were looked for

    async def run(self) -> int:
        """Serve until a signal ends it; return the exit status."""
        self._handle_signals()
        self._loop.set_exception_handler(self._bug)
        if not await self._begin_admin():
            return 1
        self._service.begin()
        self.pool.start()
        if self._options.watch:
            self.source.watch(self._loop, self._ask, self._log.warning)
        self._ask(None)
        self._look_at_health()
        rounds = self._loop.create_task(self._rounds())
        await self.stopping.wait()
        await self.succession.upgrades.close()
        rounds.cancel()
        if self.succession.heir is not None:
            await self.succession.leave(bool(self._signals))
        self._service.stops()
        await self._drain()
        return self._exit

    async def _begin_admin(self) -> bool:
        """Listen for admin, where nobody does in whose place we are to be; return whether that can be."""
        host, port = self.succession.admin or self._options.admin
        try:
            if self.succession.given is None:
                host, port = await self.admin.start(self._loop, host, port)
        except OSError as error:
            self._log.error("cannot listen for admin", address=f"{host}:{port}", error=explain(error, "--admin names another"))
            return False
        self._log.info("gwfast starts", version=__version__, workers=self._options.workers,
                       admin=f"{host}:{port}", pid=os.getpid())
        return self.succession.begin()

    def _look_at_health(self) -> None:
        self._loop.call_later(HEALTH, self._look_at_health)
        self.health.read()
        sink.pump()

    def _bug(self, _, context: dict) -> None:
        self.stats.supervisor_bugs += 1
        self._log.bug(context["message"], context.get("exception") or RuntimeError("no exception"))

    def _failed(self, words: str, error: Exception) -> None:
        self.stats.supervisor_bugs += 1
        self._log.bug(words, error)

    @contextlib.contextmanager
    def _apart(self, words: str) -> Iterator[None]:
        """Log what goes wrong beside what serves."""
        try:
            yield
        except Exception as error:
            self._failed(words, error)

    async def reload(self) -> None:
        """Look at everything again; return when what the source says serves, or did not become a table."""
        done = self._loop.create_future()
        self._waiters.append(done)
        self._ask(None)
        await done

    async def _reload_told(self) -> None:
        self._service.reloading()
        await self.reload()
        self._service.reloaded()

    # rounds

    def _ask(self, changed: set[str] | None) -> None:
        """Ask for a round; an empty set: addresses or ports may have changed."""
        if changed is None or self._changed is None:
            self._changed = None
        else:
            self._changed |= changed
        self._asked.set()

    async def _rounds(self) -> None:
        gc.disable()  # a load makes many objects that stay: see _collect
        failed = False
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._busy = True
            changed, self._changed = self._changed, set()
            waiters, self._waiters = self._waiters, []
            begin = time.monotonic()
            try:
                await self._round(changed)
                failed = False
            except Exception as error:
                self._changed = None  # the next round looks at everything again
                failed = not failed
                if failed:
                    self._asked.set()
                self.stats.reload_failures += 1
                self.stats.rounds_failed += 1
                self._log.bug("a configuration did not become a table; the one before serves", error)
                self.succession.give_up(f"a configuration did not become a table: {error}")
            self.stats.reload_seconds = time.monotonic() - begin
            self._busy, self._changes = False, self._changes + 1
            self._service.serves(self.reading, self._idle)
            self.background.run(self.pipeline.prepare)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            if not self._collected:
                self._collect()
                linux.forget_files()
                self.background.be_nice()  # until now there was no traffic to be nice to

    def _collect(self) -> None:
        """Find cycles, between rounds, in what is new: what was there the last time stays, and would take long to look at. What
        rounds needed goes back."""
        if self._busy:
            self._loop.call_later(COLLECT_AGAIN, self._collect)
            return
        if self._collected:
            gc.collect()
        if self._collected != self._changes:
            gc.freeze()
            linux.trim_heap()
        self._collected = self._changes
        self._loop.call_later(COLLECT, self._collect)

    async def _round(self, changed: set[str] | None) -> None:
        begin = time.monotonic()
        hand = self._brisk if changed and self.source.brief else self.background
        addresses, table = await self._advance(hand, changed)
        plan = self.reading.plan
        binds = [Wanted(bind.key, bind.address, bind.port, bind.transport, bind.target_port) for bind in plan.binds]
        self.ports.open(binds)
        if table is None:
            addresses = await self._look_up(plan)
        news = plan is not self._plan or addresses != self._addresses
        if news:
            table = table or await hand.run(self.pipeline.image, plan, self.ports.ids, addresses, self.stats.generation + 1)
            self._publish(plan, addresses, *table)
        self.pipeline.accept()
        taking = self.succession.given is not None
        if taking and not await self.succession.may_serve():
            return
        freed = self._listen(binds)
        if taking:
            await self.succession.serve()
        self._tell_unmapped(plan)
        settled = await self._settle(begin, news)
        if self.follower is not None and settled:
            with self._apart("what serves was not told"):
                self.follower.follow(self.reading.graph, self._unbound())
        elif self.follower is not None:
            self._loop.call_later(APPLY_AGAIN, self._ask, set())
        idle = self.reading.graph.idle if not self.reading.judged else ""  # who was told to serve nothing does
        self._idle = f"nothing is served: {idle}" if idle else ""
        with self._apart("problems were not told"):
            self.stats.certificates, problems = await hand.run(self.reading.told)
            await self._tell(problems)
        self._retry_ports(freed)
        self._await_turn()

    async def _advance(self, hand: BackgroundThread, changed: set[str] | None) -> tuple[dict[str, tuple], Published | None]:
        """Read what changed, if anything did; return the addresses that were looked up and, where that is all that it takes, the
        table of what was read."""
        addresses, table = {each.key: self.resolver.endpoints(each) for each in self._named}, None
        if changed is None or changed or self.reading and time.time() >= self.reading.graph.turns_at:
            served = None if any(port.error for port in self.ports) else self._plan
            self.reading, table = await hand.run(
                self.pipeline.advance, changed, served, self.ports.ids, addresses, self.stats.generation + 1)
            self.stats.reload_failures += self.reading.failed
            self.stats.config_unreadable = len(self.reading.unread)
            self.source.look_again(self.reading.unread)
        return addresses, table

    def _await_turn(self) -> None:
        """Look again when a certificate begins or ceases to be valid: what is said of it changes, though nothing was written."""
        if self._turn is not None:
            self._turn.cancel()
        left = self.reading.graph.turns_at - time.time()
        if left <= 0:
            self._ask(set())
        elif left < math.inf:
            self._turn = self._loop.call_later(min(left, TURN_WAIT), self._await_turn)

    @property
    def processes(self) -> dict[str, int]:
        """The process ids of the gateway, by what each is."""
        workers = {f"worker-{member.index}": member.pid for member in self.pool.members}
        processes = {"supervisor": os.getpid(), "fork-server": self._fork_server.pid, **workers}
        return {name: pid for name, pid in processes.items() if pid}

    async def _look_up(self, plan: Plan) -> dict[str, tuple]:
        """Return the addresses of the backends that only have names, by key; wait a little for new names."""
        self._named = named = [each for each in plan.endpoints if each.named]
        self.resolver.want(name for each in named for name in each.named)
        await self.resolver.settle(NAMES_WAIT)
        return {each.key: self.resolver.endpoints(each) for each in named}

    def _publish(self, plan: Plan, addresses: dict[str, tuple], table: tuple[int, ...], size: int) -> None:
        generation = self.stats.generation + 1
        self.counted.assign(self.pipeline.counter_names, self.pipeline.backend_names)
        self._tell_uncounted(*self.pipeline.uncounted)
        self.health.follow(self.pipeline.watched)
        self.pool.publish(generation, table)
        with self._apart("probes go on as they were"):
            self._probe(table)
        self.stats.generation, self.stats.image_bytes = generation, size
        self.stats.credentials_bytes = self.pipeline.credentials_bytes
        with self._apart("not everything was counted"):
            self._tell_unresolved(plan, addresses)
        self._plan, self._addresses = plan, addresses

    def _probe(self, table: tuple[int, ...]) -> None:
        """Probe what a policy says, as workers with this table speak to backends."""
        probed = self.pipeline.probed
        if any(subject.tls for subject in probed) and not (self._certs and self._certs.same(table[1])):
            from gwfast.serve.certs import Certs  # and OpenSSL with it

            self._certs = Certs(os.dup(table[1]), self._certs)
        self.prober.follow(probed, self._certs)

    def _tell_uncounted(self, routes: int, backends: int) -> None:
        """Log where routes begin to be more than have metrics of their own."""
        if routes and not self.stats.routes_uncounted:
            self._log.warning("some routes have no metrics of their own: they are counted together, as route \"other\"",
                              routes=routes, option=f"--route-metrics {self._options.route_metrics}")
        self.stats.routes_uncounted, self.stats.backends_uncounted = routes, backends

    def _listen(self, binds: list[Wanted]) -> bool:
        """Let the workers accept where they do not yet, and no more where nothing is wanted now; whether a port came free."""
        for port in self.ports:
            if port.sockets and not port.listening:
                self.pool.listen(port)
                self._log.info("listening", address=port.where, port=port.spec_port)
        gone = self.ports.keep(binds)
        for port in gone:
            self.pool.unlisten(port)
            self._log.info("no longer listening", address=port.where, port=port.spec_port)
        return bool(gone)

    def _tell_unmapped(self, plan: Plan) -> None:
        """Log once of each entry of --port-map that no listener uses: it may be a mistake in writing."""
        unused = self._options.port_map.keys() - {bind.port for bind in plan.binds}
        if plan.binds and (new := unused - self._unmapped):
            self._log.warning("--port-map names ports that no listener has", ports=",".join(map(str, sorted(new))))
        self._unmapped = unused if plan.binds else self._unmapped

    def _unbound(self) -> list[tuple[str, str, str]]:
        failed = {port.key: f"cannot listen on {port.where}: {port.error}" for port in self.ports if port.error}
        return [(listener.id, bind.address, failed[bind.key]) for bind in self.reading.plan.binds if bind.key in failed
                for listener in bind.listeners]

    def _retry_ports(self, freed: bool) -> None:
        """Try again what could not be opened: at once where a port came free, which may be the one."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if any(port.error for port in self.ports):
            self._retry = self._loop.call_later(0 if freed else PORT_RETRY, self._ask, set())

    async def _settle(self, begin: float, news: bool) -> bool:
        """Wait until the workers serve the table; whether they do."""
        generation = self.stats.generation
        settled = await self.pool.settled(generation, APPLY_WAIT)
        if not settled:
            self._log.warning("a worker has not taken the table yet", generation=generation)
        self.stats.reloads += 1
        self.stats.reload_timestamp_seconds = time.time()
        self.stats.entries = self.reading.entries
        write = self._log.info if news else self._log.debug
        write("table serves", generation=generation, entries=self.stats.entries,
              bytes=self.stats.image_bytes, ms=round((time.monotonic() - begin) * 1000, 1))
        return settled

    def _tell_unresolved(self, plan: Plan, addresses: dict[str, tuple]) -> None:
        """Log each backend once that has come to have no address, or one less because of a name."""
        lost = {}
        for each in plan.endpoints:
            if each.hosts and not addresses[each.key]:
                lost[each.key, ",".join(each.hosts)] = "a backend's name resolves to nothing: its requests get 503"
            for name, _ in each.names:
                if not self.resolver.addresses((name,)):
                    lost[each.key, name] = "an endpoint's name resolves to nothing: it gets no requests"
        for key, names in sorted(lost.keys() - self._lost):
            self._log.warning(lost[key, names], backend=key, names=names)
        self._lost = set(lost)
        empty = sum(each.empty for each in plan.endpoints)
        self.stats.backends_unresolved = sum(not found for found in addresses.values())
        self.stats.backends_without_endpoints = self.stats.backends_unresolved + empty

    async def _tell(self, problems: list[Problem]) -> None:
        """Log each problem once, when it comes; count them."""
        failed = [port for port in self.ports if port.error]
        problems += [port_problem(port, self.reading) for port in failed]
        known, now = ({identity(problem) for problem in each} for each in (self.problems, problems))
        new = [problem for problem in problems if identity(problem) not in known]
        for problem in await self.background.run(located, new[:PROBLEMS]) if new else ():
            write = {"error": self._log.error, "warning": self._log.warning}.get(problem.severity, self._log.info)
            where = {name: text for name in ("source", "resource", "field") if (text := str(getattr(problem, name)))}
            write(problem.message, **where, reason=problem.reason)
        if len(new) > PROBLEMS:
            self._log.warning("more problems: gwfast check names them all", number=len(new) - PROBLEMS)
        if gone := known - now:
            self._log.info("problems are solved", number=len(gone))
        self.problems = problems
        self.stats.ports_failed = len(failed)
        self.stats.certificate_doubts = Counter(self.reading.graph.doubts.values())
        self.stats.problems = {}
        for problem in problems:
            self.stats.problems[problem.severity] = self.stats.problems.get(problem.severity, 0) + 1

    # the end

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self._loop.create_task(self._reload_told()))
        self._loop.add_signal_handler(signal.SIGUSR2, self.succession.upgrades.ask)

    def fail(self) -> None:
        """End, with a status that says so."""
        self._exit = 1
        self.stopping.set()

    def stop(self, number: int) -> None:
        """End as a signal wants it: the first drains."""
        self._signals += 1
        if self.succession.passes_on(number):
            pass
        elif self._signals == 1:
            self._log.info("draining", signal=signal.Signals(number).name, at_most_s=self._options.drain_timeout)
        else:
            self._log.info("stopping at once", signal=signal.Signals(number).name)
            self.pool.abort()
        self.stopping.set()

    async def _drain(self) -> None:
        if self.follower is not None:
            await self.follower.close()
        self.source.close()
        self.resolver.close()
        self.prober.close()
        if self._signals <= 1:
            self.pool.finish()
        self.ports.close()
        if not await self.pool.gone(self._options.drain_timeout + 1):
            self.pool.kill()
            await self.pool.gone(1)
        self.admin.close()
        pidfile.remove(self._options.pid_file)
        self.succession.end(self._exit)
        self.background.close()
        self._brisk.close()
        self._log.info("gwfast ends")

    @property
    def ready(self) -> bool:
        """Whether traffic can come."""
        return not self.unready

    @property
    def unready(self) -> str:
        """Why traffic cannot come. Once every worker serves a table and every port is bound it can, until the end, as long
        as there is something to serve."""
        running, wanted = self.stats.workers_running, self._options.workers
        failed = next((port for port in self.ports if port.error), None)
        if self.stopping.is_set():
            return "draining"
        if self.reading is None and self.source.waits:
            return f"waits for {self.source.waits}"
        if self._idle:
            return self._idle
        if not running or not self.stats.ready and running != wanted:
            return f"{running} of {wanted} workers serve"
        if not self.stats.ready and failed:
            return f"cannot listen on {failed.where}: {failed.error}"
        self.stats.ready = True
        return ""
