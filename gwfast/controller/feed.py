"""What each fleet of data planes needs to know: the resources of its Gateways, and nothing else.

    Gateway ──> GatewayClass, where it listens, ListenerSets, Secrets, ConfigMaps, Namespaces of ListenerSets
    route   ──> Services ──> EndpointSlices, policies ──> ConfigMaps, and its Namespace where a listener selects by labels
            ├─> XBackends ──> Services of the same selector, ConfigMaps, Secret
            └─> PythonFilters that the graph lets it run, where all its Gateways of the fleet may ──> ConfigMaps
    what lies in another namespace ──> permission ──> the ReferenceGrants that permit it and, where there is one, itself

A fleet holds what its roots (Gateways that are accepted, or would be with other parameters, and the routes that they accepted)
lead to, directly or not. How often each node is led to is counted, so that a change costs what it changes: a node that is led to
for the first time brings what it leads to, one that is not any more takes it along.

Rules:
- What is not permitted is not sent, and neither is what nobody accepted: a data plane comes to the verdict of the
  controller because it has never heard of the rest.
- A node may be there without its resource: it is sent as soon as that exists.
- Where a Gateway listens is said as a Service that leads to it, made here of the target ports that were given to it: who may
  write Services may not choose ports of data planes that others share.
- A `Feed` never changes once it is handed out; two share what is the same in both (gwfast.sharing).
- A node has what it is made of as fields, and never as one text that is taken apart again: the names are whatever somebody wrote.
- An update that fails has said nothing: what was said before it stays, and the next one counts everything anew.
- `version` is a digest of all that a feed says, whoever says it and in whatever order it came to be: two controllers that
  know the same give the same version, so a data plane that changes from one to the other has nothing to fetch.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gwfast.config.model import EXPERIMENTAL_GROUP, Gateway, Key, ListenerSet, Resource, Service, XBackend
from gwfast.controller.wire import encode, front, front_key, is_front
from gwfast.graph.backends import backend_key
from gwfast.graph.certificates import authority_key, is_bundle
from gwfast.graph.model import POLICY_KINDS, ROUTE_KINDS, GatewayNode, Graph, ListenerNode, RouteNode
from gwfast.graph.refs import Resources, code_maps, led_gateways, policy_services, slice_services
from gwfast.graph.named import named
from gwfast.graph.xbackends import finding, selects
from gwfast.identity import digest
from gwfast.sharing import Shards, changes

_VERSION_BYTES = 32


class Permission(NamedTuple):
    """A node: that what is called `name` in `namespace` may be referred to by `source` (group, kind, namespace)."""

    namespace: str
    target: str  # kind of what is referred to
    name: str
    source: tuple[str, str, str]
    kind: str = "(permission)"


class Filters(NamedTuple):
    """A node: the filters of a route."""

    namespace: str
    route: Key
    kind: str = "(filters)"


Node = Key | Permission | Filters


class Served(msgspec.Struct, frozen=True):
    """A Gateway of a fleet. ports: (port, transport, target port), which are its alone in the fleet. also: another fleet that
    serves it, while it moves from one to the other. filters: its routes may run filters in Python."""

    fleet: str
    ports: tuple[tuple[int, str, int], ...] = ()
    filters: bool = False
    also: str = ""

    @property
    def fleets(self) -> tuple[str, ...]:
        return (self.fleet, self.also) if self.also else (self.fleet,)


class Feed(msgspec.Struct, frozen=True, eq=False):
    """All that a fleet is told. bundle: the version of the Gateway API that it was judged by; changed: keys that are not as they
    were in the feed before; marks: of each Gateway the `number` of the first feed of this run that has it, and where it listens,
    as they are now."""

    version: str
    bundle: str = ""
    number: int = 0
    objects: Shards = Shards()  # Key -> Resource
    changed: tuple[Key, ...] = ()
    marks: Mapping[Key, int] = {}


EMPTY = Feed("0" * 2 * _VERSION_BYTES)


class Feeds:
    """Keeps the feed of every fleet up to date, change by change. `resources` are those of the graph's Attacher."""

    def __init__(self, resources: Resources):
        self._resources = resources
        self._graph: Graph = None  # type: ignore[assignment]  # there from the first update on
        self._gateways: Mapping[Key, Served] = {}
        self._fleets: dict[str, _Fleet] = {}
        self._said: dict[str, Feed] = {}  # what each fleet was told last
        self._amid = False  # an update has begun and did not end
        self._leads: dict[Node, frozenset[Node]] = {}  # of every node that a fleet has
        self._roots: dict[Node, frozenset[str]] = {}  # node -> the fleets of which it is a root
        self._permissions: dict[str, set[Node]] = {}  # namespace -> permissions to refer into it
        self._fronts: dict[Key, Service] = {}  # where Gateways listen
        self._children: dict[Key, dict[Key, None]] = {}  # Gateway -> routes that it is a parent of

    def update(self, graph: Graph, changed: Iterable[Key], gateways: Mapping[Key, Served],
               fleets: Iterable[str] = (), bundle: str = "") -> dict[str, Feed | None]:
        """Return the feeds that are others now, by fleet; None where a fleet is no more.

        changed: keys of resources that may be others than in the last call. gateways: those that have a fleet. fleets: those
        that may have no Gateway. After a call that raised, `changed` is taken to be everything.
        """
        if self._amid:
            self._begin_anew()
        self._amid = True
        found = self._updated(graph, set(changed), gateways, fleets, bundle)
        for fleet, feed in found.items():
            if feed is None:
                self._said.pop(fleet, None)
            else:
                self._said[fleet] = feed
        self._amid = False
        return found

    def _begin_anew(self) -> None:
        """Forget everything but what was said."""
        self._graph = None  # type: ignore[assignment]  # there from the next update on
        self._gateways = {}
        self._fleets = {name: _Fleet(feed) for name, feed in self._said.items()}
        self._leads, self._roots, self._permissions, self._fronts, self._children = {}, {}, {}, {}, {}

    def _updated(self, graph: Graph, changed: set[Key], gateways: Mapping[Key, Served], fleets: Iterable[str],
                 bundle: str) -> dict[str, Feed | None]:
        before, self._graph = self._graph, graph
        roots, stale = self._renewed(before, graph, gateways)
        changed |= self._place(gateways)
        self._gateways = gateways
        stale |= changed | self._behind(changed)
        wanted = {fleet for served in gateways.values() for fleet in served.fleets}.union(fleets)
        for fleet in wanted - self._fleets.keys():
            self._fleets[fleet] = _Fleet()
        for node in roots:
            self._plant(node)
        for node in stale:
            self._lead_again(node)
        return self._settle(changed, wanted, bundle)

    def rebase(self, resources: Resources) -> None:
        """Go on with the resources of another Attacher; the next update has to say that everything may be another."""
        self._resources = resources

    # ---- What a change reaches

    def _renewed(self, before: Graph | None, graph: Graph, gateways: Mapping[Key, Served]) -> tuple[set[Node], set[Node]]:
        """Return the Gateways and routes that may be roots of other fleets, and the nodes that may lead elsewhere."""
        nodes = changes(before.gateways if before else {}, graph.gateways)
        sets = changes(before.listener_sets if before else {}, graph.listener_sets)
        judged_routes = changes(before.routes if before else {}, graph.routes)
        self._adopt(judged_routes)
        routes = set(judged_routes)
        moved = {key for key in gateways.keys() | self._gateways.keys() if gateways.get(key) != self._gateways.get(key)}
        moved |= {key for key, pair in nodes.items() if _serves(pair[0]) != _serves(pair[1])}
        judged = nodes.keys() | {node.gateway for pair in sets.values() for node in pair if node}
        moving = changes(before.listeners if before else {}, graph.listeners)
        judged |= {key for pair in moving.values() for node in pair if node and node.front for key in (node.owner, node.gateway)}
        moved |= {key for key in judged if _selects(before, key) != _selects(graph, key)}
        routes.update(key for gateway in moved for key in self._children.get(gateway, ()))
        filters = {Filters(key.namespace, key) for key in routes}
        return routes | filters | moved | nodes.keys(), routes | filters | judged

    def _adopt(self, routes: Mapping[Key, tuple[RouteNode | None, RouteNode | None]]) -> None:
        """Note whose children routes are now."""
        for key, (before, now) in routes.items():
            old, new = ({parent.gateway for parent in node.parents} if node else set() for node in (before, now))
            for gateway in old - new:
                self._children[gateway].pop(key, None)
                if not self._children[gateway]:
                    del self._children[gateway]
            for gateway in new - old:
                self._children.setdefault(gateway, {})[key] = None

    def _behind(self, changed: set[Key]) -> set[Node]:
        """Return the nodes that lead to what has changed, or led, where that follows from the resource itself."""
        found: set[Node] = set()
        for key in changed:
            pair: list[Any] = [one for one in (self._held(key), self._resources.get(*key)) if one is not None]
            if key.kind == "EndpointSlice":
                found.update(service for one in pair for service in slice_services(one))
            elif key.kind in POLICY_KINDS:
                found.update(service for one in pair for service in policy_services(one))
            elif key.kind == "Service":
                found.update(backend.key for backend in self._resources.of("XBackend").values()
                             if any(selects(backend, service) for service in pair))
            elif key.kind == "ReferenceGrant":
                found |= self._permissions.get(key.namespace, set())
        return found

    def _held(self, key: Key) -> Resource | None:
        """Return a resource as it was when a fleet was last told of it."""
        return next((one for fleet in self._fleets.values() if (one := fleet.feed.objects.get(key)) is not None), None)

    def _place(self, gateways: Mapping[Key, Served]) -> set[Key]:
        """Say where Gateways listen; return the keys of what is new of that."""
        found = set()
        for key in gateways.keys() | self._gateways.keys():
            before, now = (each[key].ports if key in each else None for each in (self._gateways, gateways))
            if before != now:
                found.add(where := front_key(key))
                self._fronts.pop(where, None)
                if now is not None:
                    self._fronts[where] = front(key, now)
        return found

    def _get(self, key: Key) -> Resource | None:
        return self._fronts.get(key) or self._resources.get(*key)

    # ---- Nodes

    def _plant(self, node: Node) -> None:
        """Let a Gateway, a route or its filters be a root where it should be, and nowhere else."""
        before, now = self._roots.get(node, frozenset()), self._fleets_of(node)
        for fleet in now - before:
            self._add(self._fleets[fleet], node)
        for fleet in before - now:
            self._drop(self._fleets[fleet], node)
        if now:
            self._roots[node] = now
        else:
            self._roots.pop(node, None)

    def _fleets_of(self, node: Node) -> frozenset[str]:
        if isinstance(node, Key) and node.kind == "Gateway":
            own = self._gateways.get(node)
            return frozenset(own.fleets if own and _serves(self._graph.gateways.get(node)) else ())
        route = self._graph.routes.get(node.route if isinstance(node, Filters) else node)  # type: ignore[arg-type]  # none: no route
        owners = {parent.gateway for parent in route.parents if parent.accepted} if route else set()
        served = [one for owner in owners if (one := self._gateways.get(owner)) and _serves(self._graph.gateways.get(owner))]
        barred = {fleet for one in served if not one.filters for fleet in one.fleets} if isinstance(node, Filters) else set()
        return frozenset(fleet for one in served for fleet in one.fleets if fleet not in barred)

    def _lead_again(self, node: Node) -> None:
        """Follow what a node leads to now, in every fleet that has it."""
        before = self._leads.get(node)
        if before is None:
            return
        now = self._leads[node] = self._lead(node)
        for fleet in self._fleets.values() if now != before else ():
            if node in fleet.counts:
                for each in now - before:
                    self._add(fleet, each)
                for each in before - now:
                    self._drop(fleet, each)

    def _add(self, fleet: _Fleet, node: Node) -> None:
        count = fleet.counts.get(node, 0)
        fleet.counts[node] = count + 1
        if count:
            return
        if isinstance(node, Key):
            fleet.touched.add(node)
        if node not in self._leads:
            self._leads[node] = self._lead(node)
            if isinstance(node, Permission):
                self._permissions.setdefault(node.namespace, set()).add(node)
        for each in self._leads[node]:
            self._add(fleet, each)

    def _drop(self, fleet: _Fleet, node: Node) -> None:
        fleet.counts[node] -= 1
        if fleet.counts[node]:
            return
        del fleet.counts[node]
        if isinstance(node, Key):
            fleet.touched.add(node)
        leads = self._leads[node]
        if not any(node in other.counts for other in self._fleets.values()):
            del self._leads[node]
            if isinstance(node, Permission):
                self._permissions[node.namespace].discard(node)
        for each in leads:
            self._drop(fleet, each)

    def _lead(self, node: Node) -> frozenset[Node]:
        """Return what a node leads to."""
        if isinstance(node, Permission):
            return frozenset(self._permitted(node))
        if isinstance(node, Filters):
            return frozenset(self._extensions(node))
        if node.kind == "Service":
            return frozenset((*(one.key for one in self._resources.slices(node)), *self._resources.policy_keys(node)))
        resource: Any = self._resources.get(*node)
        if resource is None:
            return frozenset()
        if node.kind == "Gateway":
            return frozenset(self._of_gateway(resource))
        if node.kind == "ListenerSet":
            return frozenset((*self._certificates(resource), *self._of_filters(resource)))
        if node.kind == "BackendTLSPolicy":
            refs = resource.spec.validation.ca_certificate_refs
            return frozenset(authority_key(ref, node.namespace) for ref in refs if _is(ref, "ConfigMap") or is_bundle(ref))
        if node.kind == "XBackend":
            return frozenset(self._of_backend(resource))
        if node.kind == "PythonFilter":
            return frozenset(code_maps(resource))
        if node.kind in ROUTE_KINDS:
            return frozenset(self._of_route(node, resource))
        return frozenset()

    def _of_gateway(self, gateway: Gateway) -> Iterable[Node]:
        node, spec = self._graph.gateways.get(gateway.key), gateway.spec
        yield Key("GatewayClass", "", spec.gateway_class_name)
        yield front_key(gateway.key)
        sets = {self._graph.listeners[identity].owner for identity in node.listeners} - {gateway.key} if node else ()
        yield from sets
        if spec.allowed_listeners and spec.allowed_listeners.namespaces.from_ == "Selector":
            yield from (Key("Namespace", "", key.namespace) for key in sets)
        yield from self._certificates(gateway)
        yield from self._of_filters(gateway)
        if spec.tls and spec.tls.backend and spec.tls.backend.client_certificate_ref:
            yield from self._to(gateway, spec.tls.backend.client_certificate_ref, "Secret")
        frontend = spec.tls.frontend if spec.tls else None
        for config in [frontend.default, *(each.tls for each in frontend.per_port)] if frontend else ():
            for ref in config.validation.ca_certificate_refs if config.validation else ():
                yield from self._to(gateway, ref, "ConfigMap")
                if is_bundle(ref):
                    yield authority_key(ref, "")

    def _certificates(self, owner: Gateway | ListenerSet) -> Iterable[Node]:
        for listener in owner.spec.listeners:
            if listener.protocol in ("HTTPS", "TLS") and listener.tls and listener.tls.mode != "Passthrough":
                for ref in listener.tls.certificate_refs:
                    yield from self._to(owner, ref, "Secret")

    def _of_filters(self, owner: Gateway | ListenerSet) -> Iterable[Node]:
        """Yield what the filters of listeners lead to; filters in Python where they may run."""
        filters = [one for each in owner.spec.listeners if each.filters for one in each.filters.requests]
        for auth in (one.external_auth for one in filters if one.external_auth):
            yield from self._to_backend(owner, auth.backend_ref)
        if not any(one.extension_ref for one in filters):
            return
        for listener in self._graph.listeners.values():
            if listener.owner == owner.key and listener.front:
                yield from (each.extension.key for each in listener.front.filter_targets if each.extension)

    def _of_backend(self, backend: XBackend) -> Iterable[Node]:
        tls = backend.spec.tls
        yield from finding(backend, self._resources)
        for ref in tls.validation.ca_certificate_refs if tls.validation else ():
            if _is(ref, "ConfigMap") or is_bundle(ref):
                yield authority_key(ref, backend.metadata.namespace)
        if tls.client_certificate_ref:
            yield from self._to(backend, tls.client_certificate_ref, "Secret")

    def _to_backend(self, owner: Resource, ref) -> Iterable[Node]:
        kind = backend_key(ref, "").kind
        if kind == "XBackend":
            yield from self._reach(owner, ref, kind)
        else:
            yield from self._to(owner, ref, "Service")

    def _of_route(self, key: Key, route: Any) -> Iterable[Node]:
        for ref in named(route)[0]:
            yield from self._to_backend(route, ref)
        node = self._graph.routes.get(key)
        identities = {identity for parent in node.parents for identity in parent.listeners} if node else ()
        if any(_by_labels(self._graph.listeners[identity]) for identity in identities):
            yield Key("Namespace", "", key.namespace)

    def _extensions(self, node: Filters) -> Iterable[Key]:
        route = self._graph.routes.get(node.route)
        for rule in route.rules if route else ():
            yield from (one.key for each in rule.targets() if (one := getattr(each, "extension", None)))

    def _to(self, owner: Resource, ref, kind: str) -> Iterable[Node]:
        """Yield what a reference leads to: what it names, or the permission to name it."""
        if _is(ref, kind):
            yield from self._reach(owner, ref, kind)

    def _reach(self, owner: Resource, ref, kind: str) -> Iterable[Node]:
        own, namespace = owner.metadata.namespace, ref.namespace or owner.metadata.namespace
        if namespace == own:
            yield Key(kind, namespace, ref.name)
        else:
            yield Permission(namespace, kind, ref.name, (owner.group, owner.kind, own))

    def _permitted(self, node: Permission) -> Iterable[Key]:
        group = EXPERIMENTAL_GROUP if node.target == "XBackend" else ""
        grants = self._resources.grants(node.source, (group, node.target), node.namespace, node.name)
        yield from (grant.key for grant in grants)
        if grants:
            yield Key(node.target, node.namespace, node.name)

    # ---- Feeds

    def _settle(self, changed: set[Key], wanted: set[str], bundle: str) -> dict[str, Feed | None]:
        found: dict[str, Feed | None] = {}
        for name, fleet in list(self._fleets.items()):
            if name not in wanted:
                del self._fleets[name]
                found[name] = None
            elif feed := fleet.settled(self._get, changed, bundle):
                found[name] = feed
        return found


class _Fleet:
    """How often each node of a fleet is led to, the nodes that came or went since the last feed, and that."""

    def __init__(self, feed: Feed = EMPTY):
        """feed: what was said of the fleet before, all of which is to be looked at again."""
        self.counts: dict[Node, int] = {}
        self.touched: set[Key] = set(feed.objects)
        self.feed = feed
        self._sum = int(feed.version, 16) - _number(feed.bundle.encode())
        self._new = feed is EMPTY

    def settled(self, get: Callable[[Key], Resource | None], changed: set[Key], bundle: str) -> Feed | None:
        """Return the feed that says what is there now, None where it says the same as before."""
        edits: dict[Key, Any] = {}
        moved: set[Key] = set()  # Gateways that are others, or elsewhere
        for key in self.touched | {key for key in changed if key in self.counts}:
            before = self.feed.objects.get(key)
            now = get(key) if key in self.counts else None
            if before is not now and self._amend(before, now):
                edits[key] = now
                one: Any = now or before
                moved.update([key] if key.kind == "Gateway" else led_gateways(one) if is_front(key) else [])
        self.touched = set()
        if not edits and not self._new and bundle == self.feed.bundle:
            return None
        self._new = False
        number = self.feed.number + 1
        objects, marks = self.feed.objects.changed(edits), self.feed.marks
        if moved:
            marks = {key: mark for key, mark in {**marks, **dict.fromkeys(moved, number)}.items() if key in objects}
        version = (self._sum + _number(bundle.encode())) % (1 << 8 * _VERSION_BYTES)
        self.feed = Feed(version.to_bytes(_VERSION_BYTES, "big").hex(), bundle, number, objects, tuple(edits), marks)
        return self.feed

    def _amend(self, before: Resource | None, now: Resource | None) -> bool:
        """Take an object out of the version's sum and another one in; whether that makes a difference."""
        old, new = (encode(one) if one is not None else b"" for one in (before, now))
        if old == new:
            return False
        self._sum = (self._sum + _number(new) - _number(old)) % (1 << 8 * _VERSION_BYTES)
        return True


def _number(text: bytes) -> int:
    return int.from_bytes(digest(text, _VERSION_BYTES), "big") if text else 0


def _serves(node: GatewayNode | None) -> bool:
    """Whether the data planes of a Gateway serve it: parameters that are wrong take nothing from those that are there."""
    return node is not None and (node.accepted or node.kept)


def _selects(graph: Graph | None, key: Key) -> frozenset[str]:
    """Return the listeners of a Gateway that choose routes by the labels of their namespaces."""
    gateway = graph.gateways.get(key) if graph else None
    if graph is None or gateway is None:
        return frozenset()
    return frozenset(one for one in gateway.listeners if _by_labels(graph.listeners[one]))


def _by_labels(listener: ListenerNode) -> bool:
    return listener.resource.allowed_routes.namespaces.from_ == "Selector"


def _is(ref, kind: str) -> bool:
    return (ref.group, ref.kind) == ("", kind)
