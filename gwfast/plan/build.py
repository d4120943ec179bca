"""Makes the plan of a graph: the Builder takes one graph after the other and reuses what did not change.

    Builder
      routes     Key   -> the rules and entries of one RouteNode
      listeners  id    -> what is attached, and per hostname the entries of all routes in order
      backends   Place -> Backend and Endpoints, with the number of routes that name it

Rules:
- a plan has the listeners that the graph says are served, and their routes without dropped rules
- of several routes on a TCP or UDP listener only the oldest gets in (spec 5.7)
- where a listener has a host of both kinds, calls of a GRPCRoute do not reach the '/' of HTTPRoutes (matches.calls)
- a route to backends that speak TLS is planned once for each certificate that its Gateways show, and where TLS passes through
- a node of the graph that is the same object as last time is not looked into; an object that was made again and says the same as
  before gives way to the object from before
- one changed route costs the work of its own rules, since two graphs share what did not change between them
"""
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from gwfast.collector import without_collector
from gwfast.graph.model import Attachment, Graph, ListenerNode, RouteNode, Target, over_tls
from gwfast.plan import precedence
from gwfast.plan.ir import (Backend, Bind, Endpoints, Entry, Listener, Mode, Plan, RetryBudget, Rule, SessionPersistence,
                            Transport)
from gwfast.plan.order import Order
from gwfast.plan.policies import plan_budget, plan_session
from gwfast.plan.problems import is_plain, of_rule
from gwfast.plan.rules import (Place, RouteContext, RouteKey, Shares, entries_of, front_rule, kept, places_of, route_key,
                               target_of)
from gwfast.plan.tls import backend_tls, server_tls
from gwfast.sharing import changed, changes, difference, find

TRANSPORTS: dict[str, Transport] = {"HTTP": "http", "HTTPS": "tls", "TLS": "tls", "TCP": "tcp", "UDP": "udp"}
_key = attrgetter("key")


class _Spot(NamedTuple):
    """The facts that listeners of one bind have in common."""

    address: str
    port: int
    udp: bool
    gateway: str
    target_port: int


def build(graph: Graph) -> Plan:
    """Return what will run."""
    return Builder().build(graph)


class _PlannedRoute(Struct, gc=False):
    """A planned route, and on how many listeners it is."""

    node: RouteNode
    entries: tuple[Entry, ...]
    users: int


class _PlannedListener(Struct):
    """A planned listener: what is attached, the entries of each attachment by its identity, and all of them in order."""

    node: ListenerNode  # that it was made of last
    listener: Listener
    context: RouteContext = RouteContext()
    attachments: Sequence[Attachment] = ()
    attached: dict[int, tuple[Entry, ...]] = {}
    order: Order = field(default_factory=Order)
    places: set[Place] = set()  # where its own filters lead


class Builder:
    """Builds one plan after the other, each from what the one before left unchanged."""

    def __init__(self) -> None:
        self._routes: dict[RouteKey, _PlannedRoute] = {}
        self._planned: dict[str, _PlannedListener] = {}
        self._uses: Counter[Place] = Counter()
        self._backends: dict[Place, Backend] = {}
        self._certified: dict[str, set[Place]] = {}  # target -> places that are shown a certificate
        self._stale: dict[str, Place] = {}  # by key, backends that came or went since the last plan
        self._troubled: dict[RouteKey, tuple[Rule, ...]] = {}
        self._listeners: Mapping[str, ListenerNode] = {}  # of the last graph
        self._targets: Mapping[str, Target] = {}
        self._plan = Plan()

    @property
    def entries(self) -> int:
        """How many entries the last plan has, those of a listener once for each of its addresses."""
        return sum(planned.order.entries * len(planned.node.addresses) for planned in self._planned.values())

    @without_collector()
    def build(self, graph: Graph) -> Plan:
        """Return the plan of `graph`; objects that say the same as in the last plan are the same."""
        renewed_targets, self._targets = changes(self._targets, graph.targets), graph.targets
        self._judge_backends(renewed_targets)
        moved, renewed = self._take(changes(self._listeners, graph.listeners))
        self._listeners = graph.listeners
        last = self._plan
        binds = self._bound() if moved else self._rebound(last.binds, renewed) if renewed else last.binds
        if not same(binds, last.binds):
            last = self._plan = Plan(binds=binds, backends=last.backends, endpoints=last.endpoints,
                                     troubled=tuple(chain.from_iterable(self._troubled.values())))
        backends, endpoints = self._reached(renewed_targets)
        if backends is not last.backends or endpoints is not last.endpoints:
            self._plan = Plan(binds=binds, backends=backends, endpoints=endpoints, troubled=last.troubled)
        return self._plan

    # listeners

    def _take(self, found: Mapping[str, tuple]) -> tuple[bool, dict[int, Listener]]:
        """Follow what changed of the graph's listeners: whether binds change with it, and the listeners that are made
        again by the identity of what they were."""
        moved, renewed = False, {}
        for name, (before, now) in found.items():
            if before is not None and before.served and (now is None or not now.served):
                gone = self._planned.pop(name)
                self._reattach(gone, ())
                for place in gone.places:
                    self._unuse(place)
                moved = True
        for name, (before, now) in found.items():
            if now is not None and now.served:
                moved |= before is None or not before.served or _face(before) != _face(now)
                planned = self._planned.get(name)
                was = planned.listener if planned else None
                listener = self._update(name, now)
                if listener is not was:
                    renewed[id(was)] = listener
        return moved, renewed

    def _update(self, name: str, node: ListenerNode) -> Listener:
        planned = self._planned.get(name)
        new = planned is None
        if planned is None:
            planned = self._planned[name] = _PlannedListener(node, Listener(id=name))
        mode, context = _mode(node), RouteContext(_mode(node) == "passthrough", node.client_certificate, node.shared)
        if context != planned.context:
            same_but = context._replace(shared=planned.context.shared) == planned.context
            stay = tuple(one for one in planned.attachments if same_but and one.route.kind != "GRPCRoute")
            self._reattach(planned, stay)
            planned.context = context
        self._reattach(planned, _oldest(node.attachments) if mode in ("tcp", "udp") else node.attachments)
        was = planned.listener
        front = self._front(planned, node)
        tls = was.tls if not new and planned.node.tls is node.tls else kept(was.tls, server_tls(node))
        planned.node = node
        if (was.hostname, was.mode) != (node.hostname, mode) or was.tls is not tls or was.front is not front or (
                was.hosts is not planned.order.hosts):
            planned.listener = Listener(
                id=name, hostname=node.hostname, mode=mode, tls=tls, front=front, hosts=planned.order.hosts)
        return planned.listener

    def _front(self, planned: _PlannedListener, node: ListenerNode) -> Rule | None:
        """Return the filters of a listener as a rule without backends, and hold what they lead to."""
        places = {planned.context.place(each) for each in node.front.filter_targets} - {""} if node.front else set()
        for place in places:
            self._use(place)
        for place in planned.places:
            self._unuse(place)
        planned.places = places
        return kept(planned.listener.front, front_rule(node, node.front, planned.context, self._backends)) if node.front else None

    def _reattach(self, planned: _PlannedListener, attachments: Sequence[Attachment]) -> None:
        """Bring the entries of `planned` to what is attached now."""
        gone, come = difference(planned.attachments, attachments)
        left: dict[str, list[Entry]] = {}
        for each in gone:
            entries = planned.attached.get(id(each), ())
            for hostname in each.hostnames:
                left.setdefault(hostname, []).extend(entries)
        new: dict[str, list[Entry]] = {}
        released = [route_key(each.route, planned.context.of(each.route)) for each in gone
                    if planned.attached.pop(id(each), None) is not None]
        shares: Shares = {}
        for each in come:
            entries = planned.attached[id(each)] = self._plan_route(each.route, planned.context, shares)
            for hostname in each.hostnames:
                new.setdefault(hostname, []).extend(entries)
        for key in released:
            self._release(key, planned.context)
        planned.order.change(left, new)
        planned.attachments = attachments

    # routes

    def _plan_route(self, node: RouteNode, context: RouteContext, shares: Shares) -> tuple[Entry, ...]:
        context = context.of(node)
        key = route_key(node, context)
        known = self._routes.get(key)
        if known is not None and known.node is node:
            known.users += 1
            return known.entries
        for place in places_of(node, context):
            self._use(place)
        other = known
        if other is None and node.kind == "GRPCRoute":
            other = self._routes.get(route_key(node, context._replace(shared=not context.shared)))
        entries = entries_of(node, context, self._backends, other.entries if other else (), shares)
        self._routes[key] = _PlannedRoute(node, entries, known.users + 1 if known else 1)
        self._judge(key, entries)
        for place in places_of(known.node, context) if known else ():
            self._unuse(place)
        return entries

    def _judge(self, key: RouteKey, entries: tuple[Entry, ...]) -> None:
        self._troubled.pop(key, None)
        if not all([is_plain(entry.rule) for entry in entries]):
            rules = {entry.rule.index: entry.rule for entry in entries}.values()
            if troubled := tuple(rule for rule in rules if any(of_rule(rule))):
                self._troubled[key] = troubled

    def _release(self, key: RouteKey, context: RouteContext) -> None:
        route = self._routes[key]
        route.users -= 1
        if not route.users:
            del self._routes[key]
            self._troubled.pop(key, None)
            for place in places_of(route.node, context):
                self._unuse(place)

    # backends

    def _use(self, place: Place) -> None:
        self._uses[place] += 1
        if place not in self._backends:
            target, certificate = (place, None) if isinstance(place, str) else place
            port = self._targets[target]
            tls = backend_tls(port.tls, port.protocol, certificate) if port.tls else None
            budget, session = _traffic(port)
            backend = self._backends[place] = Backend(
                namespace=port.namespace, name=port.name, port=port.port, protocol=port.protocol, tls=tls,
                retry_budget=budget, session=session)
            self._stale[target if tls is None else backend.key] = place
            if tls is not None:
                self._certified.setdefault(target, set()).add(place)

    def _judge_backends(self, targets: Mapping[str, tuple]) -> None:
        """Make backends again of which a policy says something else now; the routes that lead there are others too."""
        for key, (before, now) in targets.items():
            if before is None or now is None or before.traffic == now.traffic:
                continue
            for place in self._certified.get(key, (key,)):
                if place in self._backends:
                    budget, session = _traffic(now)
                    self._backends[place] = replace(self._backends[place], retry_budget=budget, session=session)

    def _unuse(self, place: Place) -> None:
        self._uses[place] -= 1
        if not self._uses[place]:
            backend = self._backends.pop(place)
            del self._uses[place]
            self._stale[backend.key] = place
            if backend.tls is not None:
                target = target_of(place)
                self._certified[target].discard(place)
                for other in self._certified[target]:  # Secrets that hold the same certificate make the same backend
                    if self._backends[other].key == backend.key:
                        self._stale[backend.key] = other
                if not self._certified[target]:
                    del self._certified[target]

    def _reached(self, renewed: Iterable[str]) -> tuple[Sequence[Backend], Sequence[Endpoints]]:
        """Return the backends in use and their endpoints, by key; `renewed` are targets that may be new."""
        backends, endpoints = self._plan.backends, self._plan.endpoints
        stale, self._stale = self._stale, {}
        for target in renewed:
            if over_tls(target):
                stale |= {self._backends[place].key: place for place in self._certified.get(target, ())}
            elif target in self._backends:
                stale[target] = target
        left, new = [], []
        for key, place in stale.items():
            old, made, backend = find(endpoints, key, _key), None, self._backends.get(place)
            left.append((find(backends, key, _key), old))
            if backend is not None:
                now = self._targets[target_of(place)]
                made = kept(old, Endpoints(key=key, source=now.source, addresses=now.addresses, names=now.names,
                                            hosts=now.hosts, host_port=now.host_port, policy=now.policy))
            new.append((backend, made))
        return (changed(backends, _present(left, 0), _present(new, 0), _key),
                changed(endpoints, _present(left, 1), _present(new, 1), _key))

    # binds

    def _bound(self) -> tuple[Bind, ...]:
        groups: dict[_Spot, list[ListenerNode]] = {}
        for planned in self._planned.values():
            for address in planned.node.addresses:
                groups.setdefault(_spot(planned.node, address), []).append(planned.node)
        last = {_Spot(bind.address, bind.port, bind.transport == "udp", bind.gateway, bind.target_port): bind
                for bind in self._plan.binds}
        return tuple(self._bind(spot, groups[spot], last.get(spot)) for spot in sorted(groups))

    def _bind(self, spot: _Spot, nodes: list[ListenerNode], last: Bind | None) -> Bind:
        nodes = sorted(nodes, key=lambda node: (precedence.host_key(node.hostname), node.id))
        bind = Bind(address=spot.address, port=spot.port, transport=TRANSPORTS[nodes[0].protocol],
                    gateway=spot.gateway, target_port=spot.target_port, proxy_protocol=any(node.proxy_protocol for node in nodes),
                    listeners=tuple(self._planned[node.id].listener for node in nodes))
        if last and (last.transport, last.proxy_protocol) == (bind.transport, bind.proxy_protocol) and (
                same(last.listeners, bind.listeners)):
            return last
        return bind

    def _rebound(self, binds: tuple[Bind, ...], renewed: dict[int, Listener]) -> tuple[Bind, ...]:
        """The same binds, with what listeners have become."""
        made = []
        for bind in binds:
            listeners = tuple([renewed.get(id(each), each) for each in bind.listeners])
            made.append(bind if same(listeners, bind.listeners) else replace(bind, listeners=listeners))
        return tuple(made)


# ---- Listeners


_MODES: dict[str, Mode] = {"HTTP": "http", "HTTPS": "https", "TCP": "tcp", "UDP": "udp"}


def _mode(node: ListenerNode) -> Mode:
    if node.protocol == "TLS":
        return "passthrough" if node.tls and node.tls.mode == "Passthrough" else "terminate"
    return _MODES[node.protocol]


def _oldest(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    return (min(attachments, key=lambda each: each.route.age),) if attachments else ()


def _traffic(target: Target) -> tuple[RetryBudget | None, SessionPersistence | None]:
    """Return what a policy says of requests to a target: how many may be retries, and its sessions."""
    said = target.traffic
    return plan_budget(said.retry if said else None), plan_session(said.session if said else None)


def _present(pairs: list[tuple], which: int) -> list:
    return [pair[which] for pair in pairs if pair[which] is not None]


def _spot(node: ListenerNode, address: str) -> _Spot:
    gateway = f"{node.gateway.namespace}/{node.gateway.name}" if node.target_port else ""
    return _Spot(address, node.port, node.protocol == "UDP", gateway, node.target_port or 0)


def _face(node: ListenerNode) -> tuple:
    """Return the fields of a listener that decide which binds there are."""
    return node.addresses, node.port, node.target_port, node.protocol, node.hostname, node.proxy_protocol


def same(a: tuple, b: tuple) -> bool:
    """Say whether two tuples have the same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))
