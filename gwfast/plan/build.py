"""From the graph to the plan.

    Builder
        routes     Key -> the rules and entries of one RouteNode
      listeners  id  -> what is attached, and per hostname the entries of all routes in order
      backends   key -> Backend and Endpoints, with the number of routes that name it

Rules:
- only what the graph says is served gets in: HTTPRoutes on served listeners, without their dropped rules
- a node of the graph that is the same object as last time is not looked into; what is made again and says the same
  as before is replaced by the object from before
- one changed route costs the work of its own rules: what differs between two graphs is found by what they share
"""
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from operator import attrgetter, is_

from msgspec import Struct, field, msgpack
from msgspec.structs import replace

from gwfast.config.model import (HTTPHeaderMatch, HTTPQueryParamMatch, HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRule,
                                 Key)
from gwfast.graph.model import Attachment, BackendNode, Graph, ListenerNode, Refused, RouteNode, RuleNode, Target
from gwfast.plan import precedence
from gwfast.plan.filters import plan_filters
from gwfast.plan.ir import (AnswerFilter, Backend, Bind, Endpoints, Entry, Filter, Listener, Match, Plan, Rule,
                            ValueMatch, WeightedBackend)
from gwfast.plan.order import Order
from gwfast.plan.paths import normal_path, normal_prefix
from gwfast.plan.problems import of_rule
from gwfast.sharing import SHARED, changed, changes, difference, find, together

_key = attrgetter("key")


def build(graph: Graph) -> Plan:
    """Return what will run."""
    return Builder().build(graph)


class _Route(Struct, gc=False):
    """A planned route, and on how many listeners it is."""

    node: RouteNode
    entries: tuple[Entry, ...]
    users: int


class _Table(Struct):
    """A planned listener: what is attached, the entries of each attachment by its identity, and all of them in order."""

    listener: Listener
    node: ListenerNode | None = None
    attachments: Sequence[Attachment] = ()
    attached: dict[int, tuple[Entry, ...]] = {}
    order: Order = field(default_factory=Order)


class Builder:
    """Builds one plan after the other, each from what the one before left unchanged."""

    def __init__(self) -> None:
        self._routes: dict[Key, _Route] = {}
        self._tables: dict[str, _Table] = {}
        self._uses: Counter[str] = Counter()
        self._backends: dict[str, Backend] = {}
        self._stale: set[str] = set()  # keys of backends that came or went since the last plan
        self._troubled: dict[Key, tuple[Rule, ...]] = {}
        self._listeners: Mapping[str, ListenerNode] = {}  # of the last graph
        self._targets: Mapping[str, Target] = {}
        self._plan = Plan()

    @property
    def entries(self) -> int:
        """How many entries the last plan has, those of a listener once for each of its addresses."""
        return sum(table.order.entries * len(table.node.addresses) for table in self._tables.values())

    def build(self, graph: Graph) -> Plan:
        """Return the plan of `graph`; objects that say the same as in the last plan are the same."""
        known, self._targets = self._targets, graph.targets
        moved, renewed = self._take(changes(self._listeners, graph.listeners))
        self._listeners = graph.listeners
        last = self._plan
        binds = self._bound() if moved else self._rebound(last.binds, renewed) if renewed else last.binds
        if not same(binds, last.binds):
            last = self._plan = Plan(binds=binds, backends=last.backends, endpoints=last.endpoints,
                                     troubled=tuple(chain.from_iterable(self._troubled.values())))
        backends, endpoints = self._reached(self._stale | changes(known, graph.targets).keys())
        self._stale.clear()
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
                self._reattach(self._tables.pop(name), ())
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
            table = self._tables[name] = _Table(Listener(id=name, hostname=node.hostname))
        self._reattach(table, node.attachments)
        if node.hostname != table.listener.hostname or table.order.hosts is not table.listener.hosts:
            table.listener = Listener(id=name, hostname=node.hostname, hosts=table.order.hosts)
        table.node = node
        return table.listener

    def _reattach(self, table: _Table, attachments: Sequence[Attachment]) -> None:
        """Bring the entries of `table` to what is attached now."""
        gone, come = difference(table.attachments, attachments)
        left: dict[str, list[Entry]] = {}
        for each in gone:
            entries = table.attached.get(id(each), ())
            for hostname in each.hostnames:
                left.setdefault(hostname, []).extend(entries)
        new: dict[str, list[Entry]] = {}
        released = [each.route.key for each in gone if table.attached.pop(id(each), None) is not None]
        for each in come:
            if each.route.served:
                entries = table.attached[id(each)] = self._planned(each.route)
                for hostname in each.hostnames:
                    new.setdefault(hostname, []).extend(entries)
        for key in released:
            self._release(key)
        table.order.change(left, new)
        table.attachments = attachments

    # routes

    def _planned(self, node: RouteNode) -> tuple[Entry, ...]:
        known = self._routes.get(node.key)
        if known is not None and known.node is node:
            known.users += 1
            return known.entries
        for target in _targets(node):
            self._use(target)
        entries = _entries(node, self._backends, known.entries if known else ())
        self._routes[node.key] = _Route(node, entries, known.users + 1 if known else 1)
        self._judge(node.key, entries)
        for target in _targets(known.node) if known else ():
            self._unuse(target)
        return entries

    def _judge(self, key: Key, entries: tuple[Entry, ...]) -> None:
        rules = {entry.rule.index: entry.rule for entry in entries}.values()
        self._troubled.pop(key, None)
        if troubled := tuple(rule for rule in rules if any(of_rule(rule))):
            self._troubled[key] = troubled

    def _release(self, key: Key) -> None:
        route = self._routes[key]
        route.users -= 1
        if not route.users:
            del self._routes[key]
            self._troubled.pop(key, None)
            for target in _targets(route.node):
                self._unuse(target)

    # backends

    def _use(self, target: str) -> None:
        self._uses[target] += 1
        if target not in self._backends:
            port = self._targets[target]
            self._backends[target] = Backend(namespace=port.namespace, name=port.name, port=port.port,
                                             protocol=port.protocol)
            self._stale.add(target)

    def _unuse(self, target: str) -> None:
        self._uses[target] -= 1
        if not self._uses[target]:
            del self._uses[target], self._backends[target]
            self._stale.add(target)

    def _reached(self, keys: Iterable[str]) -> tuple[Sequence[Backend], Sequence[Endpoints]]:
        """Return the backends in use and their endpoints, by key; `keys` are those of which either may be new."""
        backends, endpoints = self._plan.backends, self._plan.endpoints
        left, new = [], []
        for key in keys:
            old, made = find(endpoints, key, _key), None
            left.append((find(backends, key, _key), old))
            if key in self._backends:
                now = self._targets[key]
                made = _kept(old, Endpoints(key=key, source=now.source, addresses=now.addresses, hosts=now.hosts,
                                            host_port=now.host_port))
            new.append((self._backends.get(key), made))
        return (changed(backends, _present(left, 0), _present(new, 0), _key),
                changed(endpoints, _present(left, 1), _present(new, 1), _key))

    # binds

    def _bound(self) -> tuple[Bind, ...]:
        groups: dict[tuple[str, int], list[ListenerNode]] = {}
        for table in self._tables.values():
            for address in table.node.addresses:
                groups.setdefault((address, table.node.port), []).append(table.node)
        last = {(bind.address, bind.port): bind for bind in self._plan.binds}
        return tuple(self._bind(*place, groups[place], last.get(place)) for place in sorted(groups))

    def _bind(self, address: str, port: int, nodes: list[ListenerNode], last: Bind | None) -> Bind:
        nodes = sorted(nodes, key=lambda node: (precedence.host_key(node.hostname), node.id))
        bind = Bind(address=address, port=port, scheme="https" if nodes[0].protocol == "HTTPS" else "http",
                    proxy_protocol=any(node.proxy_protocol for node in nodes),
                    listeners=tuple(self._tables[node.id].listener for node in nodes))
        if last and (last.scheme, last.proxy_protocol) == (bind.scheme, bind.proxy_protocol) and (
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


def _targets(node: RouteNode) -> set[str]:
    """The targets that a planned route uses."""
    return {each.target for rule in node.rules if not rule.dropped for each in rule.backends if each.target}


def _entries(node: RouteNode, backends: dict[str, Backend], before: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries of a route; those that say what they said `before` are the same objects."""
    last_rules = {entry.rule.index: entry.rule for entry in before}
    last_entries = {(entry.rule.index, entry.match.index): entry for entry in before}
    entries = []
    for rule_node in node.rules:
        if rule_node.dropped:
            continue
        rule = _kept(last_rules.get(rule_node.index), _rule(node, rule_node, backends))
        for index, written in enumerate(rule_node.rule.matches):
            entry = Entry(match=plan_match(written, index), rule=rule)
            last = last_entries.get((rule.index, index))
            unchanged = last and last.rule is rule and _says(last.match) == _says(entry.match)
            entries.append(last if unchanged else entry)
    return tuple(entries)


def _rule(node: RouteNode, rule: RuleNode, backends: dict[str, Backend]) -> Rule:
    metadata, source = node.resource.metadata, node.resource.source
    return Rule(kind=node.key.kind, namespace=metadata.namespace, route=metadata.name, index=rule.index,
                name=rule.rule.name or "", filters=_filters(rule.rule.filters, rule.refused), source=source,
                backends=together(*[_weighted(each, rule.rule, backends) for each in rule.backends]),
                created=_instant(metadata.creation_timestamp))


def _weighted(node: BackendNode, rule: HTTPRouteRule, backends: dict[str, Backend]) -> WeightedBackend:
    filters = _filters(rule.backend_refs[node.index].filters, node.refused)
    if not node.target:
        return WeightedBackend(weight=node.weight, status=node.status or 500, filters=filters)
    if not filters:
        return _plain(node.weight, backends[node.target])
    return WeightedBackend(weight=node.weight, backend=backends[node.target], filters=filters)


@lru_cache(SHARED)
def _plain(weight: int, backend: Backend) -> WeightedBackend:
    return WeightedBackend(weight=weight, backend=backend)


def _filters(written: tuple[HTTPRouteFilter, ...], refused: tuple[Refused, ...]) -> tuple[Filter, ...]:
    if not written:
        return ()
    filters = plan_filters(written)
    answers = {each.index: AnswerFilter(status=each.status, reason=f"{each.message or each.type} ({each.reason})")
               for each in refused}
    return tuple(answers.get(i, each) for i, each in enumerate(filters))


def plan_match(match: HTTPRouteMatch, index: int = 0) -> Match:
    """Return `match` in normal form: of equal names the first counts; header names are lower-case (spec 5.1)."""
    path = match.path.value
    if match.path.type != "RegularExpression":
        path = normal_prefix(path) if match.path.type == "PathPrefix" else normal_path(path)
    headers, query = {}, {}
    for each in match.headers:
        headers.setdefault(each.name.lower(), _value(each.name.lower(), each))
    for each in match.query_params:
        query.setdefault(each.name, _value(each.name, each))
    return Match(path_type=match.path.type, path=path, method=match.method or "", headers=tuple(headers.values()),
                 query=tuple(query.values()), index=index)


def _value(name: str, match: HTTPHeaderMatch | HTTPQueryParamMatch) -> ValueMatch:
    return ValueMatch(name=name, value=match.value, regex=match.type == "RegularExpression")


def _instant(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _present(pairs: list[tuple], which: int) -> list:
    return [pair[which] for pair in pairs if pair[which] is not None]


def _face(node: ListenerNode) -> tuple:
    """What the binds are made of."""
    return node.addresses, node.port, node.protocol, node.hostname, node.proxy_protocol


def same(a: tuple, b: tuple) -> bool:
    """Say whether two tuples have the same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))


def _kept(last, now):
    """Return `last` if it says what `now` says."""
    return last if last is not None and _says(last) == _says(now) else now


_says = msgpack.encode
