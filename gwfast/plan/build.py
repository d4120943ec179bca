"""From the graph to the plan.

    Builder
        routes     Key -> the rules and entries of one RouteNode, each entry with its place (precedence.Key)
      listeners  id  -> what is attached, and per hostname the entries of all routes in order
      backends   key -> Backend and Endpoints, with the number of routes that name it

Rules:
- only what the graph says is served gets in: HTTPRoutes on served listeners, without their dropped rules
- a node of the graph that is the same object as last time is not looked into; what is made again and says the same
  as before is replaced by the object from before
- one changed route costs the work of its own rules, and one pass over the entries of the hosts that it is on
"""
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from operator import indexOf, is_

from msgspec import Struct, field, msgpack

from gwfast.config.model import (HTTPHeaderMatch, HTTPQueryParamMatch, HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRule,
                                 Key)
from gwfast.graph.model import Attachment, BackendNode, Graph, ListenerNode, Refused, RouteNode, RuleNode, Target
from gwfast.plan import precedence
from gwfast.plan.filters import plan_filters
from gwfast.plan.ir import (AnswerFilter, Backend, Bind, Endpoints, Entry, Filter, Listener, Match, Plan, Rule,
                            ValueMatch, WeightedBackend)
from gwfast.plan.order import Order, Row, same
from gwfast.plan.paths import normal_path, normal_prefix



def build(graph: Graph) -> Plan:
    """Return what will run."""
    return Builder().build(graph)


class _Route(Struct, gc=False):
    """A planned route, and on how many listeners it is."""

    node: RouteNode
    rows: tuple[Row, ...]
    targets: frozenset[str]
    users: int


class _Attached(Struct, gc=False):
    attachment: Attachment
    rows: tuple[Row, ...]


class _Table(Struct):
    """A planned listener: what is attached, by the identity of the attachment, and its entries."""

    listener: Listener
    node: ListenerNode | None = None
    attachments: tuple[Attachment, ...] = ()
    attached: dict[int, _Attached] = {}
    order: Order = field(default_factory=Order)


class Builder:
    """Builds one plan after the other, each from what the one before left unchanged."""

    def __init__(self) -> None:
        self._routes: dict[Key, _Route] = {}
        self._tables: dict[str, _Table] = {}
        self._uses: Counter[str] = Counter()
        self._backends: dict[str, Backend] = {}
        self._keys: list[str] = []
        self._order: tuple[Backend, ...] | None = ()  # by key; None: to be sorted anew
        self._endpoints: dict[str, tuple[Target, Endpoints]] = {}
        self._targets: dict[str, Target] = {}
        self._plan = Plan()

    def build(self, graph: Graph) -> Plan:
        """Return the plan of `graph`; objects that say the same as in the last plan are the same."""
        self._targets = graph.targets
        served = [node for node in graph.listeners.values() if node.served]
        for gone in self._tables.keys() - {node.id for node in served}:
            self._reattach(self._tables.pop(gone), ())
        for node in served:
            self._update(node.id, node)
        endpoints = self._reached()
        plan = Plan(binds=self._bound(served), backends=self._order, endpoints=endpoints)
        last = self._plan
        if not (same(plan.binds, last.binds) and same(plan.backends, last.backends)
                and same(plan.endpoints, last.endpoints)):
            self._plan = plan
        return self._plan

    # listeners

    def _update(self, id: str, node: ListenerNode) -> None:
        table = self._tables.get(id)
        if table is None:
            table = self._tables[id] = _Table(Listener(id=id, hostname=node.hostname))
        if table.node is node:
            return
        self._reattach(table, node.attachments)
        if node.hostname != table.listener.hostname or not same(table.order.hosts, table.listener.hosts):
            table.listener = Listener(id=id, hostname=node.hostname, hosts=table.order.hosts)
        table.node = node

    def _reattach(self, table: _Table, attachments: tuple[Attachment, ...]) -> None:
        """Bring the entries of `table` to what is attached now."""
        before, now = _difference(table.attachments, attachments)
        stay = set(map(id, now))
        gone = [table.attached.pop(id(each)) for each in before if id(each) in table.attached and id(each) not in stay]
        come = [each for each in now if id(each) not in table.attached and each.route.served]
        left: dict[str, list[Row]] = {}
        for each in gone:
            for hostname in each.attachment.hostnames:
                left.setdefault(hostname, []).extend(each.rows)
        new: dict[str, list[Row]] = {}
        for each in come:
            rows = self._planned(each.route)
            table.attached[id(each)] = _Attached(each, rows)
            for hostname in each.hostnames:
                new.setdefault(hostname, []).extend(rows)
        for each in gone:
            self._release(each.attachment.route.key)
        table.order.change(left, new)
        table.attachments = attachments

    # routes

    def _planned(self, node: RouteNode) -> tuple[Row, ...]:
        known = self._routes.get(node.key)
        if known is not None and known.node is node:
            known.users += 1
            return known.rows
        targets = frozenset(each.target for rule in node.rules if not rule.dropped
                            for each in rule.backends if each.target)
        for target in targets:
            self._use(target)
        rows = _rows(node, self._backends, known.rows if known else ())
        self._routes[node.key] = _Route(node, rows, targets, known.users + 1 if known else 1)
        for target in known.targets if known else ():
            self._unuse(target)
        return rows

    def _release(self, key: Key) -> None:
        route = self._routes[key]
        route.users -= 1
        if not route.users:
            del self._routes[key]
            for target in route.targets:
                self._unuse(target)

    # backends

    def _use(self, target: str) -> None:
        self._uses[target] += 1
        if target not in self._backends:
            port = self._targets[target]
            self._backends[target] = Backend(namespace=port.namespace, name=port.name, port=port.port,
                                             protocol=port.protocol)
            self._order = None

    def _unuse(self, target: str) -> None:
        self._uses[target] -= 1
        if not self._uses[target]:
            del self._uses[target], self._backends[target]
            self._endpoints.pop(target, None)
            self._order = None

    def _reached(self) -> tuple[Endpoints, ...]:
        """Return the endpoints of every backend in use, and bring `_order` up to date."""
        if self._order is None:
            self._keys = sorted(self._backends)
            self._order = tuple(map(self._backends.__getitem__, self._keys))
        found = []
        for key, now in zip(self._keys, map(self._targets.__getitem__, self._keys), strict=True):
            target, last = self._endpoints.get(key, (None, None))
            if target is not now:
                last = _kept(last, Endpoints(key=key, source=now.source, addresses=now.addresses, hosts=now.hosts,
                                             host_port=now.host_port))
                self._endpoints[key] = (now, last)
            found.append(last)
        return tuple(found)

    # binds

    def _bound(self, served: Iterable[ListenerNode]) -> tuple[Bind, ...]:
        groups: dict[tuple[str, int], list[ListenerNode]] = {}
        for node in served:
            for address in node.addresses:
                groups.setdefault((address, node.port), []).append(node)
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


def _rows(node: RouteNode, backends: dict[str, Backend], before: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the entries of a route with their places; those that say what they said `before` are the same objects."""
    last_rules = {entry.rule.index: entry.rule for _, entry in before}
    last_rows = {(row[1].rule.index, row[1].match.index): row for row in before}
    rows = []
    for rule_node in node.rules:
        if rule_node.dropped:
            continue
        rule = _kept(last_rules.get(rule_node.index), _rule(node, rule_node, backends))
        for index, written in enumerate(rule_node.rule.matches):
            entry = Entry(match=plan_match(written, index), rule=rule)
            row = (precedence.entry_key(entry), entry)
            last = last_rows.get((rule.index, index))
            unchanged = last and last[1].rule is rule and _says(last[1].match) == _says(entry.match)
            rows.append(last if unchanged else row)
    return tuple(rows)


def _rule(node: RouteNode, rule: RuleNode, backends: dict[str, Backend]) -> Rule:
    metadata, source = node.resource.metadata, node.resource.source
    return Rule(kind=node.key.kind, namespace=metadata.namespace, route=metadata.name, index=rule.index,
                name=rule.rule.name or "", filters=_filters(rule.rule.filters, rule.refused), source=str(source),
                backends=tuple(_weighted(each, rule.rule, backends) for each in rule.backends),
                created=_instant(metadata.creation_timestamp))


def _weighted(node: BackendNode, rule: HTTPRouteRule, backends: dict[str, Backend]) -> WeightedBackend:
    filters = _filters(rule.backend_refs[node.index].filters, node.refused)
    if not node.target:
        return WeightedBackend(weight=node.weight, status=node.status or 500, filters=filters)
    return WeightedBackend(weight=node.weight, backend=backends[node.target], filters=filters)


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


def _difference(old: tuple, new: tuple) -> tuple[tuple, tuple]:
    """Return what is left of both without the objects that they have in common at the start and at the end."""
    most = min(len(old), len(new))
    start = _common(old, new, most)
    end = _common(reversed(old), reversed(new), most - start)
    return old[start:len(old) - end], new[start:len(new) - end]


def _common(a: Iterable, b: Iterable, most: int) -> int:
    equal = map(is_, islice(a, most), b)
    try:
        return indexOf(equal, False)
    except ValueError:
        return most


def _kept(last, now):
    """Return `last` if it says what `now` says."""
    return last if last is not None and _says(last) == _says(now) else now


_says = msgpack.encode

