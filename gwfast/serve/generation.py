"""From a source to a table, again and again: the stages in a row, each kept between reloads so that a change costs what
changed. It runs in a thread beside the supervisor's event loop, whichever it is asked in, in one at a time, and knows nothing of
sockets or processes; `prepare` alone may run beside the rest.

Rule: a resource that a stage fails on, which is a bug, is held back (config.quarantine), and all others go on.
"""
import contextlib
import heapq
import os
from collections.abc import Callable, Iterable, Set
from operator import itemgetter
from typing import Any

import msgspec

from gwfast import errors, limits
from gwfast.config.model import Key
from gwfast.config.quarantine import NOBODYS, Quarantine, Resources
from gwfast.config.source import Source
from gwfast.endpoints.link import Subject
from gwfast.endpoints.registry import SHARED, UNROUTED, Place, Registry
from gwfast.errors import Problem
from gwfast.graph import conditions
from gwfast.graph.attach import Attacher
from gwfast.graph.model import Graph, GraphOptions, of_bundle
from gwfast.observe import routes
from gwfast.plan import regex
from gwfast.plan.build import Builder
from gwfast.plan.credentials import Credentials
from gwfast.plan.dump import host_port
from gwfast.plan.image import Images, publish
from gwfast.plan.ir import Backend, Endpoints, Plan
from gwfast.plan.problems import problems
from gwfast.serve.options import ServeOptions

SLOTS = 1024  # for counters in an image that nobody serves

Published = tuple[tuple[int, ...], int]  # sealed memfds of a table (the image; with TLS the credentials), the image's size


class Reading(msgspec.Struct, frozen=True):
    """What the source says now."""

    plan: Plan
    graph: Graph
    unreadable: tuple[Problem, ...]  # found before the graph
    entries: int  # matches of rules, counted on each host
    unread: tuple[tuple[str, str], ...] = ()  # files and folders that cannot be read, and why
    place: errors.Source = errors.Source("", 0)  # that names what was read
    failed: int = 0  # files and folders of which this reading found something new that is wrong
    judged: bool = False  # by a controller, who tells what is wrong

    def problems(self) -> list[Problem]:
        """Return everything that is wrong, and why what is not served is not."""
        if self.judged:
            return [*self.unreadable, *problems(self.plan, [])]
        found = [*self.unreadable, *conditions.problems(self.graph)]
        return found + problems(self.plan, found) + conditions.idle(self.graph, self.place)

    def wrong(self) -> dict[tuple[str, str], Problem]:
        """Return what could not be taken as it is written, by file and resource, the first thing of each."""
        found: dict[tuple[str, str], Problem] = {}
        for problem in self.unreadable:
            if problem.severity == "error":
                found.setdefault((problem.source.file, problem.resource), problem)
        return found

    def told(self) -> tuple[dict[tuple[str, str], float], list[Problem]]:
        """Return what is told of it besides conditions: expiries() and problems()."""
        return self.expiries(), self.problems()

    def expiries(self) -> dict[tuple[str, str], float]:
        """Return when the certificates that serve expire, by (namespace, Secret), those that expire first."""
        nodes = [node for node in self.graph.listeners.values() if node.served]
        shown = [each for node in nodes for each in (node.tls.certificates if node.tls else ())]
        shown += [node.client_certificate for node in nodes if node.client_certificate]
        found = {(each.secret.namespace, _shown(each.secret)): each.not_after for each in shown}
        return dict(heapq.nsmallest(limits.CERTIFICATES_SHOWN, found.items(), key=itemgetter(1)))


def _shown(secret: Key) -> str:
    return secret.name if secret.kind == "Secret" else f"{secret.kind}/{secret.name}"


def graph_options(options: ServeOptions) -> GraphOptions:
    """Return what these options say about attachment: in a cluster classes are ours by name, and Services have to be there; a
    data plane is told of nothing else, so of no filter in Python that may not run."""
    if options.controller:
        return GraphOptions(strict_services=True, own_addresses=True, data_plane=True)
    ours: dict[str, Any] = {}
    if options.kubernetes:
        from gwfast.parameters import fault  # whoever reads files has none to judge
        ours = {"controller_name": options.controller_name, "strict_services": True, "filters_by_class": True,
                "parameters_fault": fault}
    return GraphOptions(gateway_class=options.gateway_class, gateway=options.gateway, dns_templates=options.dns_templates, **ours)


def _needs(plan: Plan) -> tuple:
    """Return what has to be there before a plan is served: ports that are open, and names that were looked up."""
    return ([(bind.key, bind.address, bind.port, bind.transport, bind.target_port) for bind in plan.binds],
            [(each.key, each.hosts, each.host_port, each.names, each.addresses) for each in plan.endpoints if each.named])


class Imaging:
    """From a plan to its image, and what is said beside it. slots: those that routes have counters in."""

    def __init__(self, slots: int):
        self._registry = Registry(slots)
        self._images = Images(self._registry)
        self._credentials = Credentials()
        self._named: Set[str] = frozenset()  # backends whose addresses were looked up
        # of the last image: places of endpoints by backend and 'ip:port', and by what a probe asks
        self.watched: dict[str, dict[str, tuple[int, int]]] = {}
        self.probed: dict[Subject, list[tuple[int, int]]] = {}
        # by slot, of the last image
        self.counter_names: dict[int, routes.Name] = {}
        self.backend_names: dict[int, str] = {}
        self.uncounted = (0, 0)  # how many routes, and how many backends, share a slot
        self._counted: tuple = ()  # what these names were made of
        self._looked_after: tuple | None = None  # what `watched` and `probed` were made of; None: an image has failed since

    @property
    def credentials_bytes(self) -> int:
        """The size of the last credentials."""
        return self._credentials.size

    def prepare(self) -> None:
        """Do what can be done for the next image before anybody waits for it."""
        with contextlib.suppress(OSError):  # there is no memory: who needs it is told
            self._images.prepare()

    def write(self, plan: Plan, binds: dict[str, int], addresses: dict[str, tuple], generation: int) -> Published:
        """Write an image: see Pipeline.image."""
        after, self._looked_after = self._looked_after, None
        for key in self._named - addresses.keys():
            self._registry.forget(key)
        for key, found in addresses.items():
            self._registry.resolved(key, found)
        self._named = addresses.keys()
        image = self._images.build(plan, binds, generation)
        self._name_counters()
        now = plan.backends, plan.endpoints, self._registry.endpoint_holders, addresses
        if after is None or any(one is not other for one, other in zip(after[:3], now, strict=False)) or after[3] != addresses:
            self._look_after(plan)
        self._looked_after = now
        credentials = self._credentials.publish(plan)
        return (publish(image), *([credentials] if credentials >= 0 else ())), image.size

    def _name_counters(self) -> None:
        """Say whose each slot is; the same dicts where that is as it was."""
        counted = self._registry.counters, self._registry.backends
        if not self._counted or counted[0] is not self._counted[0] or counted[1] is not self._counted[1]:
            self.counter_names = {SHARED: routes.SHARED, UNROUTED: routes.UNROUTED} | counted[0]
            self.backend_names = {SHARED: routes.OTHER_BACKENDS} | counted[1]
            self._counted = counted
        self.uncounted = self._registry.uncounted

    def _look_after(self, plan: Plan) -> None:
        """Say of which endpoints a policy asks that they are watched or probed."""
        self.watched, self.probed = {}, {}
        for backend, endpoints in zip(plan.backends, plan.endpoints, strict=True):
            policy = endpoints.policy
            if policy is None or policy.passive is None and policy.active is None:
                continue
            places = self._places(backend, endpoints)
            if len(self.watched) < limits.BACKENDS_SHOWN:
                self.watched[endpoints.key] = {
                    host_port(*address): (place.slot, place.generation) for address, place in places.items()}
            if policy.active is not None:
                tls, own = backend.tls, f"{backend.name}.{backend.namespace}"
                host = policy.active.hostname or (tls.hostname if tls else "") or own
                for (ip, port), place in places.items():
                    subject = Subject(ip, port, backend.protocol, tls.id if tls else 0, host, policy.active)
                    self.probed.setdefault(subject, []).append((place.slot, place.generation))

    def _places(self, backend: Backend, endpoints: Endpoints) -> dict[tuple[str, int], Place]:
        """Return where the health of a backend's endpoints is, by address."""
        places = {(ip, port): self._registry.endpoints.get((ip, port, backend.dialect))
                  for ip, port in self._registry.addresses(endpoints)}
        return {address: place for address, place in places.items() if place}


class Stages:
    """From resources to a plan, and where `far` on to an image that nobody serves: only whether it can be written matters."""

    def __init__(self, options: GraphOptions, far: bool):
        self._far = far
        self._attacher = Attacher(options, regex.check, keeps=True)
        self.builder = Builder()

    def run(self, resources: Resources, changed: Iterable[Key] | None) -> tuple[Graph, Plan]:
        """Return the graph and the plan of resources."""
        graph = self._attacher.attach(resources, changed)
        plan = self.builder.build(graph)
        if self._far:
            for descriptor in Imaging(SLOTS).write(plan, {bind.key: at for at, bind in enumerate(plan.binds, 1)}, {}, 1)[0]:
                os.close(descriptor)
        return graph, plan


class Pipeline(Imaging):
    """Every stage from a source to the image, and what each remembers. bug(words, error): told of what stages fail on."""

    def __init__(self, source: Source, options: ServeOptions, graph: GraphOptions | None = None,
                 bug: Callable[[str, Exception], None] = lambda words, error: None):
        super().__init__(options.route_metrics + 2)  # and those of no route, and of all others
        self._source = source
        self._wanted = graph or graph_options(options)
        self._graph = self._wanted  # as the version of the API has it
        self._quarantine = Quarantine(lambda far: Stages(self._graph, far), bug)

    def read(self, changed: set[str] | None) -> Reading:
        """Read what changed (as the source tells it; None: anything may have; none: time has passed), attach and plan it."""
        loaded = self._source.load(changed)
        changes = None if changed is None else loaded.added | loaded.changed | loaded.removed
        if (options := of_bundle(self._wanted, loaded.bundle)) != self._graph:
            self._graph = options
            self._quarantine.begin_anew()
        graph, plan = self._quarantine.run(loaded.resources, changes)
        unreadable = (*loaded.problems, *self._quarantine.problems())
        return Reading(plan, graph, unreadable, self._quarantine.stages.builder.entries, loaded.unreadable, self._source.place,
                       loaded.failed, self._graph.data_plane)

    def advance(self, changed: set[str] | None, serving: Plan | None, binds: dict[str, int], addresses: dict[str, tuple],
                generation: int) -> tuple[Reading, Published | None]:
        """Read what changed and, in one go, write its table as image() does, where its plan is another one than `serving` and
        needs nothing else: no port that is not open, and no name that was not looked up. None: it does, or that failed."""
        reading = self.read(changed)
        if serving is None or reading.plan is serving or _needs(reading.plan) != _needs(serving):
            return reading, None
        try:
            return reading, self.image(reading.plan, binds, addresses, generation)
        except Exception:
            return reading, None  # who asks for it now is told why

    def accept(self) -> None:
        """Know that what was read last serves: resources that a stage fails on later keep what they are now."""
        self._quarantine.accept()

    def image(self, plan: Plan, binds: dict[str, int], addresses: dict[str, tuple], generation: int) -> Published:
        """Write the table of a plan; return sealed memfds (the image; with TLS the credentials) and the image's size.

        binds: Bind.key -> id; addresses: (ip, port)s of the backends that were looked up, by key. After a failure the next
        reading finds what it was about.
        """
        try:
            return self.write(plan, binds, addresses, generation)
        except Exception as error:
            if not isinstance(error, NOBODYS):
                self._quarantine.doubt()
            raise
