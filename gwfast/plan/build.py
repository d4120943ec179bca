"""From the graph to the plan.

    Builder
      routes     Key   -> the rules and entries of one RouteNode
      listeners  id    -> what is attached, and per hostname the entries of all routes in order
      backends   Place -> Backend and Endpoints, with the number of routes that name it

Rules:
- only what the graph says is served gets in: routes on served listeners, without their dropped rules
- of several routes on a TCP or UDP listener only the oldest gets in (spec 5.7)
- where a listener has a host of both kinds, calls of a GRPCRoute do not reach the '/' of HTTPRoutes (matches.calls)
- a route to backends that speak TLS is planned once for each certificate that its Gateways show, and where TLS passes through
- a node of the graph that is the same object as last time is not looked into; what is made again and says the same
  as before is replaced by the object from before
- one changed route costs the work of its own rules: what differs between two graphs is found by what they share
"""
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter, is_
from typing import NamedTuple

from msgspec import Struct, field, msgpack
from msgspec.structs import replace

from gwfast.collector import without_collector
from gwfast.config.model import GRPCRouteFilter, HTTPRouteFilter, Key
from gwfast.graph.model import (Attachment, BackendNode, Certificate, FrontNode, Graph, FilterTarget, ListenerNode, Refused,
                                RouteNode, RuleNode, Target, over_tls)
from gwfast.plan import precedence
from gwfast.plan.filters import crosses, plan_filters
from gwfast.plan.ir import (AnswerFilter, Backend, Bind, Endpoints, Entry, Filter, Listener, Plan, RetryBudget, Rule,
                            SessionPersistence, WeightedBackend)
from gwfast.plan.matches import calls, plan_matches, preflights
from gwfast.plan.order import Order
from gwfast.plan.policies import plan_budget, plan_retry, plan_session, plan_timeouts
from gwfast.plan.problems import is_plain, of_rule
from gwfast.plan.tls import backend_tls, server_tls
from gwfast.sharing import SHARED, changed, changes, difference, find, interned

TRANSPORTS = {"HTTP": "http", "HTTPS": "tls", "TLS": "tls", "TCP": "tcp", "UDP": "udp"}
_key = attrgetter("key")

class _Spot(NamedTuple):
    """What makes a bind: listeners of one spot share it."""

    address: str
    port: int
    udp: bool
    gateway: str
    target_port: int


Place = str | tuple[str, Certificate]  # a target's key, and the certificate that it is shown


class _Way(NamedTuple):
    """How the routes of a listener lead to backends that speak TLS, and whether it has a host of both
    HTTPRoutes and GRPCRoutes."""

    passthrough: bool = False
    certificate: Certificate | None = None
    shared: bool = False

    def of(self, node: RouteNode) -> "_Way":
        """Return what of it matters to a route."""
        return self if not self.shared or node.kind == "GRPCRoute" else self._replace(shared=False)

    def place(self, node: BackendNode | FilterTarget) -> Place:
        """Return where a backendRef or a filter leads; '' where it is refused."""
        target = node.passed if self.passthrough and node.passed else node.target
        return (target, self.certificate) if self.certificate and over_tls(target) else target


def build(graph: Graph) -> Plan:
    """Return what will run."""
    return Builder().build(graph)


class _Route(Struct, gc=False):
    """A planned route, and on how many listeners it is."""

    node: RouteNode
    entries: tuple[Entry, ...]
    users: int


# Where equal rules lead, by the identity of their nodes and of what is written: for as long as one listener's routes are planned.
_Shares = dict[tuple[int, int], tuple[WeightedBackend, ...]]
_RouteKey = Key | tuple[Key, _Way]  # with the way where it matters


class _Table(Struct):
    """A planned listener: what is attached, the entries of each attachment by its identity, and all of them in order."""

    listener: Listener
    node: ListenerNode | None = None
    way: _Way = _Way()
    attachments: Sequence[Attachment] = ()
    attached: dict[int, tuple[Entry, ...]] = {}
    order: Order = field(default_factory=Order)
    places: set[Place] = set()  # where its own filters lead


class Builder:
    """Builds one plan after the other, each from what the one before left unchanged."""

    def __init__(self) -> None:
        self._routes: dict[_RouteKey, _Route] = {}
        self._tables: dict[str, _Table] = {}
        self._uses: Counter[Place] = Counter()
        self._backends: dict[Place, Backend] = {}
        self._certified: dict[str, set[Place]] = {}  # target -> places that are shown a certificate
        self._stale: dict[str, Place] = {}  # by key, backends that came or went since the last plan
        self._troubled: dict[_RouteKey, tuple[Rule, ...]] = {}
        self._listeners: Mapping[str, ListenerNode] = {}  # of the last graph
        self._targets: Mapping[str, Target] = {}
        self._plan = Plan()

    @property
    def entries(self) -> int:
        """How many entries the last plan has, those of a listener once for each of its addresses."""
        return sum(table.order.entries * len(table.node.addresses) for table in self._tables.values())

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
                gone = self._tables.pop(name)
                self._reattach(gone, ())
                for place in gone.places:
                    self._unuse(place)
                moved = True
        for name, (before, now) in found.items():
            if now is not None and now.served:
                moved |= before is None or not before.served or _face(before) != _face(now)
                table = self._tables.get(name)
                was = table.listener if table else None
                listener = self._update(name, now)
                if listener is not was:
                    renewed[id(was)] = listener
        return moved, renewed

    def _update(self, name: str, node: ListenerNode) -> Listener:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = _Table(Listener(id=name))
        mode, way = _mode(node), _Way(_mode(node) == "passthrough", node.client_certificate, node.shared)
        if way != table.way:
            same_but = way._replace(shared=table.way.shared) == table.way
            stay = tuple(one for one in table.attachments if same_but and one.route.kind != "GRPCRoute")
            self._reattach(table, stay)
            table.way = way
        self._reattach(table, _oldest(node.attachments) if mode in ("tcp", "udp") else node.attachments)
        was = table.listener
        front = self._front(table, node)
        tls = was.tls if table.node and table.node.tls is node.tls else _kept(was.tls, server_tls(node))
        table.node = node
        if (was.hostname, was.mode) != (node.hostname, mode) or was.tls is not tls or was.front is not front or (
                was.hosts is not table.order.hosts):
            table.listener = Listener(id=name, hostname=node.hostname, mode=mode, tls=tls, front=front, hosts=table.order.hosts)
        return table.listener

    def _front(self, table: _Table, node: ListenerNode) -> Rule | None:
        """Return the filters of a listener as a rule without backends, and hold what they lead to."""
        places = {table.way.place(each) for each in node.front.filter_targets} - {""} if node.front else set()
        for place in places:
            self._use(place)
        for place in table.places:
            self._unuse(place)
        table.places = places
        return _kept(table.listener.front, _front_rule(node, table.way, self._backends)) if node.front else None

    def _reattach(self, table: _Table, attachments: Sequence[Attachment]) -> None:
        """Bring the entries of `table` to what is attached now."""
        gone, come = difference(table.attachments, attachments)
        left: dict[str, list[Entry]] = {}
        for each in gone:
            entries = table.attached.get(id(each), ())
            for hostname in each.hostnames:
                left.setdefault(hostname, []).extend(entries)
        new: dict[str, list[Entry]] = {}
        released = [_route_key(each.route, table.way.of(each.route)) for each in gone
                    if table.attached.pop(id(each), None) is not None]
        shares: _Shares = {}
        for each in come:
            entries = table.attached[id(each)] = self._planned(each.route, table.way, shares)
            for hostname in each.hostnames:
                new.setdefault(hostname, []).extend(entries)
        for key in released:
            self._release(key, table.way)
        table.order.change(left, new)
        table.attachments = attachments

    # routes

    def _planned(self, node: RouteNode, way: _Way, shares: _Shares) -> tuple[Entry, ...]:
        way = way.of(node)
        key = _route_key(node, way)
        known = self._routes.get(key)
        if known is not None and known.node is node:
            known.users += 1
            return known.entries
        for place in _places(node, way):
            self._use(place)
        other = known
        if other is None and node.kind == "GRPCRoute":
            other = self._routes.get(_route_key(node, way._replace(shared=not way.shared)))
        entries = _entries(node, way, self._backends, other.entries if other else (), shares)
        self._routes[key] = _Route(node, entries, known.users + 1 if known else 1)
        self._judge(key, entries)
        for place in _places(known.node, way) if known else ():
            self._unuse(place)
        return entries

    def _judge(self, key: _RouteKey, entries: tuple[Entry, ...]) -> None:
        self._troubled.pop(key, None)
        if not all([is_plain(entry.rule) for entry in entries]):
            rules = {entry.rule.index: entry.rule for entry in entries}.values()
            if troubled := tuple(rule for rule in rules if any(of_rule(rule))):
                self._troubled[key] = troubled

    def _release(self, key: _RouteKey, way: _Way) -> None:
        route = self._routes[key]
        route.users -= 1
        if not route.users:
            del self._routes[key]
            self._troubled.pop(key, None)
            for place in _places(route.node, way):
                self._unuse(place)

    # backends

    def _use(self, place: Place) -> None:
        self._uses[place] += 1
        if place not in self._backends:
            target, certificate = (place, None) if isinstance(place, str) else place
            port = self._targets[target]
            tls = backend_tls(port.tls, port.protocol, certificate) if port.tls else None
            backend = self._backends[place] = Backend(
                namespace=port.namespace, name=port.name, port=port.port, protocol=port.protocol, tls=tls,
                **_said(port))
            self._stale[place if tls is None else backend.key] = place
            if tls is not None:
                self._certified.setdefault(target, set()).add(place)

    def _judge_backends(self, targets: Mapping[str, tuple]) -> None:
        """Make backends again of which a policy says something else now; the routes that lead there are others too."""
        for key, (before, now) in targets.items():
            if before is None or now is None or before.traffic == now.traffic:
                continue
            for place in self._certified.get(key, (key,)):
                if place in self._backends:
                    self._backends[place] = replace(self._backends[place], **_said(now))

    def _unuse(self, place: Place) -> None:
        self._uses[place] -= 1
        if not self._uses[place]:
            backend = self._backends.pop(place)
            del self._uses[place]
            self._stale[backend.key] = place
            if backend.tls is not None:
                target = _target(place)
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
                now = self._targets[_target(place)]
                made = _kept(old, Endpoints(key=key, source=now.source, addresses=now.addresses, names=now.names,
                                            hosts=now.hosts, host_port=now.host_port, policy=now.policy))
            new.append((backend, made))
        return (changed(backends, _present(left, 0), _present(new, 0), _key),
                changed(endpoints, _present(left, 1), _present(new, 1), _key))

    # binds

    def _bound(self) -> tuple[Bind, ...]:
        groups: dict[_Spot, list[ListenerNode]] = {}
        for table in self._tables.values():
            for address in table.node.addresses:
                groups.setdefault(_spot(table.node, address), []).append(table.node)
        last = {_Spot(bind.address, bind.port, bind.transport == "udp", bind.gateway, bind.target_port): bind
                for bind in self._plan.binds}
        return tuple(self._bind(spot, groups[spot], last.get(spot)) for spot in sorted(groups))

    def _bind(self, spot: _Spot, nodes: list[ListenerNode], last: Bind | None) -> Bind:
        nodes = sorted(nodes, key=lambda node: (precedence.host_key(node.hostname), node.id))
        bind = Bind(address=spot.address, port=spot.port, transport=TRANSPORTS[nodes[0].protocol],
                    gateway=spot.gateway, target_port=spot.target_port, proxy_protocol=any(node.proxy_protocol for node in nodes),
                    listeners=tuple(self._tables[node.id].listener for node in nodes))
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


def _mode(node: ListenerNode) -> str:
    return node.tls.mode.lower() if node.protocol == "TLS" else node.protocol.lower()


def _oldest(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    return (min(attachments, key=lambda each: each.route.age),) if attachments else ()


# ---- Routes


def _route_key(node: RouteNode, way: _Way) -> _RouteKey:
    """What a planned route is known by. `way` is what matters to it."""
    if way.shared:
        return node.key, way
    for rule in node.rules:
        for each in rule.targets():
            if each.passed or over_tls(each.target):
                return node.key, way
    return node.key


def _places(node: RouteNode, way: _Way) -> set[Place]:
    """Where a planned route leads."""
    places = {way.place(each) for rule in node.rules if not rule.dropped for each in rule.targets()}
    places.discard("")
    return places


def _target(place: Place) -> str:
    return place if isinstance(place, str) else place[0]


def _said(target: Target) -> dict[str, RetryBudget | SessionPersistence | None]:
    """What a policy says of requests to a target, as the fields of its Backend."""
    traffic = target.traffic
    return {"retry_budget": plan_budget(traffic.retry if traffic else None),
            "session": plan_session(traffic.session if traffic else None)}


def _entries(node: RouteNode, way: _Way, backends: Mapping[Place, Backend],
             before: tuple[Entry, ...], shares: _Shares) -> tuple[Entry, ...]:
    """Return the entries of a route; those that say what they said `before` are the same objects."""
    last_rules = {entry.rule.index: entry.rule for entry in before}
    last_entries = {(entry.rule.index, entry.match.index, entry.match.method): entry for entry in before}
    entries = []
    for rule_node in node.rules:
        if rule_node.dropped:
            continue
        rule = _kept(last_rules.get(rule_node.index), _rule(node, rule_node, way, backends, shares))
        matches = plan_matches(rule_node.rule)
        if crosses(rule):
            matches += preflights(matches)
        if way.shared and node.kind == "GRPCRoute":
            matches += calls(matches)
        if not before:
            entries += [Entry(match=match, rule=rule) for match in matches]
            continue
        for match in matches:
            last = last_entries.get((rule.index, match.index, match.method))
            unchanged = last and last.rule is rule and _says(last.match) == _says(match)
            entries.append(last if unchanged else Entry(match=match, rule=rule))
    return tuple(entries)


def _rule(node: RouteNode, rule: RuleNode, way: _Way, backends: Mapping[Place, Backend], shares: _Shares) -> Rule:
    metadata, source, written = node.resource.metadata, node.resource.source, rule.rule
    filtered = node.kind in ("HTTPRoute", "GRPCRoute")
    filters = () if not filtered or not written.filters else (
        _filters(written.filters, rule.refused, _filter_targets(rule, way, backends)))
    key = id(rule.backends), id(written.backend_refs)
    weighted = shares.get(key)
    if weighted is None:
        if len(shares) >= SHARED:
            shares.clear()
        weighted = shares[key] = interned(*[
            _weighted(each, written.backend_refs[each.index].filters if filtered else (),
                      backends.get(way.place(each)), _filter_targets(each, way, backends)) for each in rule.backends])
    return Rule(kind=node.key.kind, namespace=metadata.namespace, route=metadata.name, index=rule.index,
                name=written.name or "", filters=filters,
                timeouts=plan_timeouts(getattr(written, "timeouts", None)), retry=plan_retry(getattr(written, "retry", None)),
                session=plan_session(getattr(written, "session_persistence", None)),
                source=source, backends=weighted, created=precedence.instant(metadata.creation_timestamp))


def _front_rule(node: ListenerNode, way: _Way, backends: Mapping[Place, Backend]) -> Rule:
    front, owner = node.front, node.owner
    return Rule(kind=owner.kind, namespace=owner.namespace, route=owner.name, index=0, name=node.name,
                filters=_filters(front.filters, front.refused, _filter_targets(front, way, backends)))


def _filter_targets(node: RuleNode | BackendNode | FrontNode, way: _Way, backends: Mapping) -> dict[int, Backend | FilterTarget]:
    """Return the backends (or filters in Python) that filters of a rule or backendRef lead to, by the place of the filter."""
    return {each.index: each if each.extension else backends[way.place(each)] for each in node.filter_targets
            if each.extension or each.target} if node.filter_targets else {}


def _weighted(node: BackendNode, written: tuple, backend: Backend | None,
              filter_targets: Mapping[int, Backend | FilterTarget]) -> WeightedBackend:
    filters = _filters(written, node.refused, filter_targets)
    if backend is None:
        return WeightedBackend(weight=node.weight, status=node.status or 500, filters=filters)
    if not filters:
        return _plain(node.weight, backend)
    return WeightedBackend(weight=node.weight, backend=backend, filters=filters)


@lru_cache(SHARED)
def _plain(weight: int, backend: Backend) -> WeightedBackend:
    return WeightedBackend(weight=weight, backend=backend)


def _filters(written: tuple[HTTPRouteFilter | GRPCRouteFilter, ...], refused: tuple[Refused, ...],
             filter_targets: Mapping[int, Backend | FilterTarget]) -> tuple[Filter, ...]:
    if not filter_targets and not refused:
        return _plain_filters(written)
    filters = plan_filters(written, filter_targets)
    answers = {each.index: AnswerFilter(status=each.status, reason=f"{each.message or each.type} ({each.reason})")
               for each in refused}
    return tuple(one for i, each in enumerate(filters) if (one := answers.get(i, each)) is not None)


@lru_cache(SHARED)
def _plain_filters(written: tuple[HTTPRouteFilter | GRPCRouteFilter, ...]) -> tuple[Filter, ...]:
    return tuple([each for each in plan_filters(written, {}) if each is not None])


def _present(pairs: list[tuple], which: int) -> list:
    return [pair[which] for pair in pairs if pair[which] is not None]


def _spot(node: ListenerNode, address: str) -> _Spot:
    gateway = f"{node.gateway.namespace}/{node.gateway.name}" if node.target_port else ""
    return _Spot(address, node.port, node.protocol == "UDP", gateway, node.target_port or 0)


def _face(node: ListenerNode) -> tuple:
    """What the binds are made of."""
    return node.addresses, node.port, node.target_port, node.protocol, node.hostname, node.proxy_protocol


def same(a: tuple, b: tuple) -> bool:
    """Say whether two tuples have the same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))


def _kept(last, now):
    """Return `last` if it says what `now` says."""
    return last if last is not None and _says(last) == _says(now) else now


_says = msgpack.encode
