"""`gwfast controller`: one process that decides for a cluster. All replicas watch and tell data planes; one of them writes.

    KubernetesSource ──changed──> round: read, attach (pipeline's thread) ──> graph ──> Provisioner ──> fleets, targets
                                      └──> Feeds (the same thread) <──────────────────────┘ changed
                                             └──> StreamServer ──> data planes ──SERVED──> standing
    graph, what was assigned, standing ──> StatusWriter, where this one leads

Rules:
- Rounds never overlap; what changes during one makes the next. The pipeline's thread has the graph and the feeds, the loop what
  they came to.
- A round that failed has told nobody anything: what was told before stays, and the next one, at once, begins anew. What one
  resource makes fail is held back by then: the others go on.
- Data planes may listen to any replica, so that configuration flows while nobody leads; they move to who leads, because what they
  serve has to be known there. The holder of the Lease is named with its address for that.
- A Gateway is programmed where its data planes say so. One that is about to say it again is waited for a moment, and so is a
  fleet that has just found a new leader: what was True stays True.
"""
from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from gwfast import __version__, linux
from gwfast.config.model import Key
from gwfast.config.quarantine import NOBODYS, Quarantine, Resources
from gwfast import parameters
from gwfast.controller.authority import Authority
from gwfast.controller.feed import Feed, Feeds, Served
from gwfast.controller.fleet import Fleet, Place, Site
from gwfast.controller.leader import Leader, identity
from gwfast.controller.ports import Wanted
from gwfast.controller.programmed import Programmed
from gwfast.controller.provision import Provisioner
from gwfast.controller.review import Reviewer
from gwfast.controller.room import room_of
from gwfast.controller.stream import StreamServer
from gwfast.errors import Problem
from gwfast.graph.attach import Attacher
from gwfast.graph.model import Graph, GraphOptions, of_bundle
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.reporter import lease_name
from gwfast.kubernetes.source import KubernetesSource
from gwfast.kubernetes.status import StatusStats, StatusWriter
from gwfast.kubernetes.statuses import WAITING, Statuses, View
from gwfast.observe import processes
from gwfast.observe.admin import Admin
from gwfast.observe.h11_server import Answer
from gwfast.observe.log import Log
from gwfast.observe.families import CONTROLLER
from gwfast.observe.metrics import text_of
from gwfast.plan import regex
from gwfast.serve.background import BackgroundThread
from gwfast.serve.sockets import explain

CERTAIN_LOOK = 0.2  # seconds between two looks at whether Gateways and their classes are watched, before fleets are told of them
PROBLEMS = 100  # that one round writes to the log
COLLECT = 30.0  # seconds between two looks for cycles
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COMING = replace(WAITING, coming=True)  # of a Gateway that the provisioner has not looked at yet


class ControllerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `gwfast controller` was told. url: of the stream, as data planes reach it; namespace: ours."""

    controller_name: str
    url: str
    host: str  # that certificates are for, of the URL
    image: str
    namespace: str
    listen: tuple[str, int]
    admin: tuple[str, int]
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    watch_namespaces: tuple[str, ...] = ()
    lease: tuple[str, str] = ("", "")


class Stages:
    """From resources to a graph, and where `far` on to what fleets would be told: only whether that can be said matters."""

    def __init__(self, options: GraphOptions, far: Callable[[Stages, Graph, Iterable[Key]], object] | None):
        self._far = far
        self.attacher = Attacher(options, regex.check, keeps=True)

    def run(self, resources: Resources, changed: Iterable[Key] | None) -> Graph:
        """Return the graph of resources."""
        graph = self.attacher.attach(resources, changed)
        if self._far is not None:
            self._far(self, graph, resources.keys())
        return graph


class Brain:
    """What the pipeline's thread keeps: the graph, and what fleets are told. A resource that a stage fails on, which is a bug, is
    held back (config.quarantine); bug(words, error) is told of it."""

    def __init__(self, source: KubernetesSource, options: ControllerOptions,
                 bug: Callable[[str, Exception], None] = lambda words, error: None):
        self._source = source
        self._wanted = GraphOptions(controller_name=options.controller_name, strict_services=True, own_addresses=True,
                                    parameters_fault=parameters.fault, filters_by_class=True)
        self._options = self._wanted  # as the version of the API has it
        self._quarantine = Quarantine(lambda far: Stages(self._options, self._try_feeds if far else None), bug)
        self._told = self._quarantine.stages
        self._feeds = Feeds(self._told.attacher.resources)
        self._changed: set[Key] = set()  # that feeds have not heard of yet
        self._bundle = ""
        self._amid = False  # a reading has begun and did not end
        self._asked: tuple[Mapping[Key, Served], list[str]] = {}, []  # of feeds, the last time
        self.graph: Graph = None  # type: ignore[assignment]  # there once read
        self.problems: list[Problem] = []

    def read(self, changed: set[str] | None) -> Graph:
        """Read what changed, and attach it; all of it where the last time failed on the way."""
        loaded, amid, self._amid = self._source.load(changed), self._amid, True
        if (options := of_bundle(self._wanted, loaded.bundle)) != self._options:
            self._options = options
            self._quarantine.begin_anew()
        self.graph = self._quarantine.run(loaded.resources, None if amid else loaded.added | loaded.changed | loaded.removed)
        self._changed |= self._quarantine.changed
        self._bundle, self._amid = loaded.bundle, False
        self.problems = [*loaded.problems, *self._quarantine.problems()]
        return self.graph

    def advance(self, changed: set[str] | None, *asked) -> tuple[Graph, dict[str, Feed | None]]:
        """read(changed) and feed(*asked), in one go: who hears of a change waits for no more than that takes."""
        return self.read(changed), self.feed(*asked)

    def feed(self, gateways: Mapping[Key, Served], fleets: list[str]) -> dict[str, Feed | None]:
        """Return the feeds that are new. After a failure the next reading finds what it was about."""
        changed, self._changed, self._asked = self._changed, set(), (gateways, fleets)
        stages = self._quarantine.stages
        try:
            if stages is not self._told:
                self._told = stages
                self._feeds.rebase(stages.attacher.resources)
            news = self._feeds.update(self.graph, changed, _filtered(gateways, stages.attacher), fleets, self._bundle)
        except Exception as error:
            if not isinstance(error, NOBODYS):
                self._quarantine.doubt()
            raise
        self._quarantine.accept()
        return news

    def _try_feeds(self, stages: Stages, graph: Graph, keys: Iterable[Key]) -> None:
        gateways, fleets = self._asked
        Feeds(stages.attacher.resources).update(graph, keys, _filtered(gateways, stages.attacher), fleets)


def _filtered(gateways: Mapping[Key, Served], attacher: Attacher) -> dict[Key, Served]:
    return {key: replace(one, filters=not attacher.barred(key)) for key, one in gateways.items()}


def served(fleets: Mapping[Place, Fleet], targets: Mapping[Key, Mapping[Wanted, int]]) -> dict[Key, Served]:
    """Return whose each Gateway is, and where it listens. A port that two Gateways of a fleet are said to have is the first's.
    One that moves is two fleets', with the same ports. One that has no target port listens nowhere: nobody is told of it yet."""
    found: dict[Key, Served] = {}
    for fleet in fleets.values():
        taken: set[tuple[str, int]] = set()
        for key in filter(targets.get, fleet.gateways):
            ports = []
            for (port, transport), target in sorted(targets[key].items()):
                if (transport, target) not in taken:
                    taken.add((transport, target))
                    ports.append((port, transport, target))
            name = "/".join(fleet.place)
            found[key] = replace(found[key], also=name) if key in found else Served(name, tuple(ports))
    return found


class Controller:
    """One replica."""

    def __init__(self, where: Access, options: ControllerOptions, log: Log):
        loop = self._loop = asyncio.get_running_loop()
        self._options, self._log = options, log
        self._client = client = Client(where, log=log)
        self._source = KubernetesSource(client, where.server, namespaces=options.watch_namespaces,
                                        controller_name=options.controller_name, log=log)
        self._aside = BackgroundThread(loop, "pipeline")
        self._brain = Brain(self._source, options, self._failed_there)
        self._authority = Authority(client, options.namespace, (options.host,), log, self._certified)
        self._server = StreamServer(Reviewer(client), log, self._heard)
        site = Site(controller_name=options.controller_name, namespace=options.namespace, image=options.image, url=options.url,
                    pull_policy=options.pull_policy, pull_secrets=options.pull_secrets)
        self._provisioner = Provisioner(client, site, self._source.uid_of, lambda: self._authority.bundle, log, self._provisioned,
                                        options.watch_namespaces, lambda: self._election.leads, lambda: self._source.certain,
                                        self._acknowledged,
                                        lambda: self._source.routed)
        lease = options.lease[0] or options.namespace, options.lease[1] or lease_name(options.controller_name)
        self._me = identity(where.server, options.listen[1])
        self._election = Election(client, *lease, self._me, self._lead, log=log)
        self._leader = Leader(self._election, self._server)
        self.stats = StatusStats()
        self._writer = StatusWriter(client, self._source, Statuses(options.controller_name, infrastructure=True),
                                    lambda: self._election.leads, log, stats=self.stats, narrowed=bool(options.watch_namespaces))
        self._source.status_changed = self._writer.object_changed
        self._programmed = Programmed(loop, self._server.standing, self._was_programmed, self._say)
        self._admin = Admin({"GET /healthz": self._healthz, "GET /readyz": self._readyz, "GET /metrics": self._metrics}, log.bug)
        self._graph: Graph | None = None
        self._changed: set[str] | None = set()
        self._asked = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writes = False  # the writer was told to
        self._told = False  # fleets were told what there is
        self._meant: Mapping[Key, Served] = {}  # whose Gateways are, as fleets were told last or are being told
        self._fed: tuple | None = None  # of which Gateways and fleets that was the last time; None: it may not have been
        self._rounds_failed = self._bugs = 0
        self._problems: frozenset[Problem] = frozenset()  # that were told

    async def run(self) -> int:
        """Decide until a signal ends it; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.set_exception_handler(lambda _, context: self._failed(
            context["message"], context.get("exception") or RuntimeError("no exception")))
        if not await self._listen():
            return 1
        self._log.info("gwfast controller starts", version=__version__, controller=self._options.controller_name, pid=os.getpid())
        self._source.watch(self._loop, self._ask, self._log.warning)
        tasks = [self._loop.create_task(each) for each in (
            self._rounds(), self._provisioner.run(), self._authority.run(), self._election.run(), self._leader.run())]
        self._ask(None)
        for task in tasks:
            task.add_done_callback(self._ended)
        await self._stopping.wait()
        await self._end(tasks)
        return 0

    async def _listen(self) -> bool:
        for what, place, start in (("admin", self._options.admin, lambda host, port: self._admin.start(self._loop, host, port)),
                                   ("data planes", self._options.listen, self._server.start)):
            try:
                await start(*place)
            except OSError as error:
                host, port = place
                self._log.error(f"cannot listen for {what}", address=f"{host}:{port}",
                                error=explain(error, "another port avoids it"))
                return False
        return True

    def _ended(self, task: asyncio.Task) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.bug("a part of the controller ended", error)
            self._stopping.set()

    async def _end(self, tasks: list[asyncio.Task]) -> None:
        """Write no more, let another one lead, and let data planes go to it."""
        self._log.info("gwfast controller ends")
        self._writer.close()
        self._provisioner.lead(False)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._election.release()
        self._source.close()
        await self._server.close()
        self._admin.close()
        self._aside.close()
        await self._client.close()

    # ---- Rounds

    def _ask(self, changed: set[str] | None) -> None:
        """Ask for a round; an empty set: fleets or target ports may have changed."""
        self._changed = None if changed is None or self._changed is None else self._changed | changed
        self._asked.set()

    async def _rounds(self) -> None:
        gc.disable()  # a load makes many objects that stay
        collected, failed = 0.0, False
        while True:
            await self._asked.wait()
            self._asked.clear()
            changed, self._changed = self._changed, set()
            try:
                await self._round(changed)
                failed = False
            except Exception as error:
                self._changed = None
                failed = not failed  # anew at once, but what fails again waits for a change
                if failed:
                    self._asked.set()
                self._rounds_failed += 1
                self._failed("what the cluster says did not become what data planes are told; what was before stays", error)
            if self._loop.time() - collected > COLLECT:
                collected = self._loop.time()
                await self._aside.run(_collect)

    def _failed_there(self, words: str, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self._failed, words, error)

    def _failed(self, words: str, error: Exception) -> None:
        self._bugs += 1
        self._log.bug(words, error)

    async def _round(self, changed: set[str] | None) -> None:
        news = None
        if changed is None or changed:
            if self._told:
                asked, self._fed = self._served(), None
                self._graph, news = await self._aside.run(self._brain.advance, changed, *asked)
                self._fed = asked
                self._server.publish(news)
            else:
                self._graph = await self._aside.run(self._brain.read, changed)
            self._tell(self._brain.problems)
            self._provisioner.follow(self._graph)  # what it makes of it, fleets or ports, asks for another round
        if news is None:
            await self._feed()
        self._say()

    async def _feed(self) -> None:
        """Tell fleets what there is, once it is known which there are, and where they are others than before."""
        if not self._provisioner.synced:
            return
        if not self._told and not self._source.certain:  # what may not be listed is not gone
            self._loop.call_later(CERTAIN_LOOK, self._ask, set())
            return
        asked = self._served()
        if self._told and asked == self._fed:
            return
        self._fed = None
        news = await self._aside.run(self._brain.feed, *asked)
        self._fed = asked
        if news or not self._told:
            self._told = True
            self._server.publish(news)

    def _served(self) -> tuple[dict[Key, Served], list[str]]:
        """Return whose each Gateway is, and all fleets, of which no more data planes are expected than they have."""
        fleets = self._provisioner.fleets
        self._server.expect({"/".join(place): room_of(fleet) for place, fleet in fleets.items()})
        self._meant = served(fleets, self._provisioner.targets)
        return self._meant, ["/".join(place) for place in fleets]

    def _acknowledged(self, place: Place, gateway: Key, pods: frozenset[str]) -> bool:
        """Whether a fleet says that it serves a Gateway, and is not about to be told otherwise."""
        fleet = "/".join(place)
        return gateway in self._meant and fleet in self._meant[gateway].fleets and self._server.serves(fleet, gateway, pods)

    def _tell(self, problems: list[Problem]) -> None:
        """Log each problem of the cluster once, when it comes; what is wrong with an object that has a status is there."""
        for problem in [one for one in problems if one not in self._problems][:PROBLEMS]:
            write = {"error": self._log.error, "warning": self._log.warning}.get(problem.severity, self._log.info)
            where = {name: text for name in ("resource", "field") if (text := getattr(problem, name))}
            write(problem.message, **where, reason=problem.reason)
        self._problems = frozenset(problems)

    def _provisioned(self) -> None:
        """Take note that fleets, target ports or addresses are others."""
        self._ask(set())

    def _certified(self) -> None:
        """Show the certificate that there is now; what data planes are given to believe it by follows."""
        if self._authority.certificate:
            self._server.use(self._authority.certificate, self._authority.key)
        self._provisioner.look()

    # ---- Leading

    def _lead(self, leads: bool) -> None:
        self._leader.look()
        self._authority.lead(leads)
        self._provisioner.lead(leads)
        if leads:
            self._programmed.begin()
            self._say()
        elif self._writes:
            self._writes = False
            self._writer.lead(False)

    def _heard(self) -> None:
        """Take note that data planes say what they serve."""
        if self._provisioner.moves:
            self._provisioner.look()
        self._say()

    def _say(self) -> None:
        """Let the writer know what there is to say, once it is known what data planes serve."""
        if self._graph is None or not self._told:
            return
        known = self._provisioner.assigned
        new = {key: COMING for key, node in self._graph.gateways.items() if node.accepted and key not in known}
        assigned = self._programmed.assigned({**known, **new})
        if assigned is None:
            return  # a moment later
        self._writer.follow(View(graph=self._graph, assigned=assigned, bundle=self._source.bundles, channel=self._source.channel,
                                 faults=self._provisioner.faults))
        if self._election.leads and not self._writes:
            self._writes = True
            self._writer.lead(True)

    def _was_programmed(self, key: Key) -> bool:
        """Whether the status of a Gateway says that it is programmed."""
        seen = self._source.objects.get(key)
        with contextlib.suppress(msgspec.MsgspecError, AttributeError, TypeError):
            found = (msgspec.json.decode(seen.status) or {}).get("conditions") or () if seen and seen.status else ()
            return any(one.get("type") == "Programmed" and one.get("status") == "True" for one in found)
        return False

    # ---- Admin

    @property
    def unready(self) -> str:
        """Why data planes cannot be told what to serve."""
        if self._stopping.is_set():
            return "it ends"
        if self._graph is None:
            return f"waiting for {self._source.waits}" if self._source.waits else "the cluster is being read"
        if not self._told and not self._source.certain:
            return "Gateways and GatewayClasses cannot be listed and watched"
        if not self._told:
            return "what belongs to this controller is being read"
        return "" if self._authority.certificate else "there is no certificate for the stream yet"

    async def _healthz(self) -> Answer:
        return Answer(200, b"ok\n")

    async def _readyz(self) -> Answer:
        why = self.unready
        return Answer(503, f"not ready: {why}\n".encode()) if why else Answer(200, b"ready\n")

    async def _metrics(self) -> Answer:
        peers, stats = self._server.peers, self.stats
        found = [
            ("ready", float(not self.unready)),
            ("leader", float(self._election.leads)),
            ("data_planes", len(peers)),
            ("data_planes_refused_total", self._server.refused),
            ("data_planes_lines_total", self._server.lines),
            ("data_planes_bytes_total", self._server.bytes),
            ("gateways", len(self._graph.gateways) if self._graph else 0),
            ("routes", len(self._graph.routes) if self._graph else 0),
            ("objects_written_total", self._provisioner.writes),
            ("status_writes_total", stats.writes),
            ("status_failures_total", stats.failures),
            ("status_waiting", stats.waiting),
            ("rounds_failed_total", self._rounds_failed),
            ("controller_bugs_total", self._bugs),
        ]
        text = text_of(((name, [("", float(value))]) for name, value in found), described=CONTROLLER)
        text += text_of(self._source.metrics(), processes.read({"controller": os.getpid()}))
        return Answer(200, text.encode(), CONTENT_TYPE)


def _collect() -> None:
    """Find cycles in what is new: what was there the last time stays. What rounds needed goes back."""
    gc.collect()
    gc.freeze()
    linux.trim_heap()


async def control(where: Access, options: ControllerOptions, log: Log) -> int:
    """Run a controller on this event loop until a signal ends it; return the exit status."""
    return await Controller(where, options, log).run()
