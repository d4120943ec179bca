"""Attaches routes to listeners: an Attacher makes a Graph of resources, and after a change another one at the cost of the change.

    resources ──(what changed)──> survey of Gateways, ListenerSets, listeners
                                     │ a listener's face changed: the routes that name its owner
                 Service, Grant ─────┤ a reference may have changed: the routes that make it
                 route ──────────────┴─> judge ──> places ──> HTTP or gRPC first? ──> attachments ──> Graph

Rules:
- A node is made again only if something that it depends on has changed, and takes the old one's place only if it says something
  else.
- Endpoints belong to targets: a changed EndpointSlice changes no route.
- The cost of a changed route is its own size: the attachments of a listener are a sequence in the order of route keys, and two
  graphs share its pieces (gwfast.sharing). So do routes, targets and listeners, which are mappings. After a change of a
  Namespace all routes are judged again; of a Gateway or ListenerSet, those that name it; and a new route on a listener of
  HTTPRoutes and GRPCRoutes makes the routes of that listener be compared.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter

from msgspec.structs import replace

from gwfast.collector import without_collector
from gwfast.config.model import EndpointSlice, Key, Resource
from gwfast.graph import extensions
from gwfast.graph.backends import Backends
from gwfast.graph.certificates import Credentials
from gwfast.graph.fronts import Fronts
from gwfast.graph.gateways import Survey, is_infrastructure, survey, why_idle
from gwfast.graph.model import (
    FILTER_KIND,
    POLICY_KINDS,
    ROUTE_KINDS,
    ROUTES,
    TELEMETRY_KIND,
    Attachment,
    Condition,
    GatewayClassNode,
    GatewayNode,
    Graph,
    GraphOptions,
    ListenerNode,
    ListenerSetNode,
    Note,
    PolicyNode,
    Route,
    RouteNode,
)
from gwfast.graph.named import service_refs
from gwfast.graph.policies import judge_policies, policy_of, protection, traffic
from gwfast.graph.refs import POLICIES, Change, Resources, policy_services, slice_services
from gwfast.graph.parents import Parents, parent_key
from gwfast.graph.reuse import reuse_all, reuse_route
from gwfast.graph.routes import Judge
from gwfast.graph.shared_hosts import losers, share_host
from gwfast.graph.telemetry import judge_telemetry
from gwfast.graph.xbackends import backend_tls, judge_backends, named_secrets
from gwfast.sharing import Shards, changed, find, interned

_NONE: frozenset[Key] = frozenset()
_route_key = attrgetter("route.key")
_DEFAULTS = GraphOptions()


def attach(resources: Iterable[Resource] | Mapping[Key, Resource], options: GraphOptions = _DEFAULTS) -> Graph:
    """Return the graph of one configuration."""
    return Attacher(options).attach(resources)


class Attacher:
    """Attaches one configuration after the other and keeps what stays the same.

    refuse_regex: says why a regular expression cannot be served, '' if it can. keeps: certificates and authorities that were good
    stay in use where their Secrets and ConfigMaps break.
    """

    def __init__(self, options: GraphOptions = _DEFAULTS, refuse_regex: Callable[[str], str | None] | None = None, *,
                 keeps: bool = False):
        self._options = options
        self._resources = self.resources = Resources()
        self._credentials = Credentials(self._resources, keeps, files=not (options.filters_by_class or options.data_plane))
        self._backends = Backends(
            self._resources, options,
            lambda service, port: protection(service, port, self._resources, self._credentials),
            lambda service: traffic(service, self._resources),
            lambda service, port: policy_of(service, port, self._resources),
            lambda backend: backend_tls(backend, self._credentials),
        )
        self._fronts = Fronts(self._resources, self._backends, options,
                              lambda gateway: extensions.barred(gateway, self._resources))
        self._survey = Survey(classes={})
        self._idle = why_idle(self._survey, self._resources, options)
        self._faulty: tuple[tuple, ...] = ()
        self._faces: dict[Key, tuple] = {}
        parents = Parents(self._survey, self._resources, options)
        self._judge = Judge(parents, self._backends, self._resources, options, refuse_regex)
        self._routes: Shards = Shards()  # Key -> RouteNode
        self._renewed: dict[Key, RouteNode | None] = {}  # to be put into it by _settle()
        self._notes: dict[Key, tuple[Note, ...]] = {}
        self._troubled: dict[Key, None] = {}
        self._places: dict[Key, tuple[str, ...]] = {}
        self._users: dict[Key, dict[Key, None]] = {}  # Service -> routes that name it (a set takes thrice the memory)
        self._children: dict[Key, dict[Key, None]] = {}  # Gateway or ListenerSet -> routes that name it
        self._attachments: dict[str, Sequence[Attachment]] = {}  # of each listener, by route key
        self._edits: dict[str, tuple[list[Attachment], list[Attachment]]] = {}  # to be taken out, and put in, by _settle()
        self._reshaped: set[str] = set()  # listeners on which another route may be first
        self._lost: dict[str, frozenset[Key]] = {}
        self._shared: set[str] = set()  # listeners with a host of both HTTPRoutes and GRPCRoutes
        self._bases: dict[str, ListenerNode] = {}  # the survey's nodes that they were made of
        self._listeners: Shards = Shards()  # id -> ListenerNode
        self._targets: Shards = Shards()
        self._policies: dict[Key, PolicyNode] = {}
        self._policies_stale = False

    def attach(
        self, resources: Iterable[Resource] | Mapping[Key, Resource], changed: Iterable[Key] | None = None
    ) -> Graph:
        """Return the graph of `resources`.

        changed: the keys that may differ from the last call; None compares every resource by identity.
        """
        if not isinstance(resources, Mapping):
            resources = {resource.key: resource for resource in resources}
        with without_collector():
            return self._attach(resources, changed)

    def _attach(self, resources: Mapping[Key, Resource], changed: Iterable[Key] | None) -> Graph:
        changes = self._resources.update(resources, changed)
        self._judge.begin()
        stale = dict.fromkeys(self._survey_again(changes)) | dict.fromkeys(self._refer_again(changes))
        for key, change in changes.items():
            if key.kind in ROUTE_KINDS:
                self._register(key, change)
                stale[key] = None
        for key in stale:
            self._judge_again(key)
        touched = self._settle()
        for key in self._settle_kinds():
            self._judge_again(key)
        self._refill(touched | self._settle())
        if self._policies_stale:
            self._policies = self._judge_policies()
            self._policies_stale = False
        return self._graph()

    # ---- What a change reaches

    def _survey_again(self, changes: Mapping[Key, Change]) -> Iterable[Key]:
        """Look at Gateways and listeners again if they may have changed; return the routes that this may change."""
        turned = time.time() >= self._credentials.turns_at
        others = (pair for key, pair in changes.items() if key.kind not in ROUTE_KINDS)  # no route is one
        if not turned and not any(map(self._is_infrastructure, others)):
            return ()
        for key, (_, now) in changes.items():
            if now is None:
                self._credentials.forget(key)
        self._credentials.turns_at = math.inf
        with self._credentials.all_of("Gateway", "ListenerSet"):
            self._fronts.begin()
            served = {key for key, node in self._survey.gateways.items() if node.accepted or node.kept}
            found = survey(self._resources, self._options, self._credentials, self._fronts.judge, served)
            self._fronts.end()
        found.listeners = reuse_all(self._survey.listeners, found.listeners)
        found.gateways = reuse_all(self._survey.gateways, found.gateways)
        found.listener_sets = reuse_all(self._survey.listener_sets, found.listener_sets)
        found.classes = reuse_all(self._survey.classes, found.classes)
        parents = self._judge.parents = Parents(found, self._resources, self._options)
        faces = _faces(found, self._resources, parents.barred)
        owners = {key for key in faces.keys() | self._faces.keys() if faces.get(key) != self._faces.get(key)}
        namespaces = {key.name for key in changes if key.kind == "Namespace"}
        self._survey, self._faces = found, faces
        self._faulty = tuple(_faulty(found))
        self._idle = why_idle(found, self._resources, self._options)
        self._policies_stale = True
        return chain((key for owner in owners for key in self._children.get(owner, ())),
                     (key for key in self._routes if key.namespace in namespaces) if namespaces else ())

    def _is_infrastructure(self, change: Change) -> bool:
        one = change[1] or change[0]
        if one is not None and (is_infrastructure(one) or self._fronts.refers((one.key,))):
            return True
        return any(isinstance(each, POLICIES) and self._fronts.refers(policy_services(each)) for each in change)

    def _refer_again(self, changes: Mapping[Key, Change]) -> Iterable[Key]:
        """Refresh endpoints; return the routes whose references may have changed."""
        services: set[Key] = set()
        namespaces: set[str] = set()
        for key, change in changes.items():
            if key.kind in ROUTE_KINDS:
                continue
            services |= self._reached(key, change)
            if key.kind == "ReferenceGrant":
                namespaces.add(key.namespace)
        self._policies_stale |= bool(services) or bool(namespaces and self._resources.of(TELEMETRY_KIND))
        routes = {route for service in services for route in self._users.get(service, ())}
        if namespaces:
            for service, users in self._users.items():
                if service.namespace in namespaces:
                    routes.update(route for route in users if route.namespace != service.namespace)
        return sorted(routes)

    def _reached(self, key: Key, change: Change) -> set[Key]:
        """Refresh the endpoints that a change reaches; return the Services, XBackends and filters that are others to routes."""
        if key.kind in ("Service", "XBackend"):
            self._backends.refresh(key)
            if key.kind == "Service":
                self._backends.refresh_selectors(key.namespace)
            return {key}
        if key.kind == "EndpointSlice":
            self._backends.refresh_selectors(key.namespace)
            for service in {service for one in change if isinstance(one, EndpointSlice) for service in slice_services(one)}:
                self._backends.refresh(service)
        elif key.kind in POLICY_KINDS:
            return self._targeted(key.kind, change)
        elif key.kind in ("Secret", "ConfigMap", "ClusterTrustBundle", "CertificateFile"):
            return {service for one in self._resources.trusting(key) for service in policy_services(one)}.union(
                self._resources.coded(key), self._x_backends_with(key))
        elif key.kind == FILTER_KIND:
            return {key}
        elif key.kind == TELEMETRY_KIND:
            self._policies_stale = True
        elif key.kind == "ReferenceGrant":
            return set(self._x_backends_into(key.namespace))
        return set()

    def _targeted(self, kind: str, change: Change) -> set[Key]:
        """Refresh the targets of a policy that changed; return those that are others to routes."""
        self._policies_stale = True
        named = {service for one in change if isinstance(one, POLICIES) for service in policy_services(one)}
        if kind != "BackendTLSPolicy":
            for service in named:
                self._backends.refresh(service)
        return named if kind != "BackendPolicy" else set()  # routes do not know of a BackendPolicy

    def _x_backends_with(self, key: Key) -> list[Key]:
        """Return the XBackends that have a certificate or authorities from a Secret or ConfigMap."""
        return [backend.key for backend in self._resources.of("XBackend").values() if key in named_secrets(backend)]

    def _x_backends_into(self, namespace: str) -> list[Key]:
        """Return the XBackends of other namespaces that have something from this one."""
        return [backend.key for backend in self._resources.of("XBackend").values()
                if any(key.namespace == namespace != backend.metadata.namespace for key in named_secrets(backend))]

    def _register(self, key: Key, change: Change) -> None:
        """Take note of what a route names, and forget what it does not name any more."""
        before = change[0] if isinstance(change[0], ROUTES) else None
        now = change[1] if isinstance(change[1], ROUTES) else None
        for found, refs in ((self._users, service_refs), (self._children, _parents)):
            old, new = refs(before) if before else _NONE, refs(now) if now else _NONE
            for one in old - new if old else ():
                found[one].pop(key, None)
                if not found[one]:
                    del found[one]
            for one in new - old if old else new:
                found.setdefault(one, {})[key] = None

    # ---- Routes

    def _judge_again(self, key: Key) -> None:
        """Judge a route and note what it will be in place of what it was."""
        before = self._routes.get(key)
        resource = self._resources.get(*key)
        if resource is None:
            self._remove(key, before)
            return
        node, places, notes, as_written = self._judge.judge(key, resource)
        node = reuse_route(before, node)
        if notes:
            self._notes[key] = notes
        else:
            self._notes.pop(key, None)
        if as_written:
            self._troubled.pop(key, None)
        else:
            self._troubled[key] = None
        if node is not before:
            self._exchange_targets(before, node)
            self._renewed[key] = node
        self._put(key, node, places)

    def _put(self, key: Key, node: RouteNode, places: dict[str, tuple[str, ...]]) -> None:
        before = self._places.get(key, ())
        for identity in before:
            if identity not in places:
                self._edit(identity, self._attached(identity, key), None)
        for identity, hostnames in places.items():
            known = self._attached(identity, key) if identity in before else None
            if known is None or known.route is not node or known.hostnames != hostnames:
                self._edit(identity, known, Attachment(route=node, hostnames=hostnames))
        self._places[key] = interned(*places)

    def _remove(self, key: Key, before: RouteNode | None) -> None:
        if before is not None:
            self._exchange_targets(before, None)
            self._renewed[key] = None
        for identity in self._places.pop(key, ()):
            self._edit(identity, self._attached(identity, key), None)
        self._notes.pop(key, None)
        self._troubled.pop(key, None)

    def _attached(self, identity: str, key: Key) -> Attachment | None:
        return find(self._attachments[identity], key, _route_key)

    def _edit(self, identity: str, gone: Attachment | None, come: Attachment | None) -> None:
        lists = self._edits.setdefault(identity, ([], []))
        for one, some in zip((gone, come), lists, strict=True):
            if one is not None:
                some.append(one)
        if gone is None or come is None or gone.hostnames != come.hostnames or gone.route.age != come.route.age:
            self._reshaped.add(identity)

    def _settle(self) -> set[str]:
        """Put everything that was judged in its place; return the listeners whose routes changed."""
        edits, self._edits = self._edits, {}
        for identity, (gone, come) in edits.items():
            self._attachments[identity] = changed(self._attachments.get(identity, ()), gone, come, _route_key)
        renewed, self._renewed = self._renewed, {}
        self._routes = self._routes.changed(renewed)
        return set(edits)

    def _exchange_targets(self, before: RouteNode | None, now: RouteNode | None) -> None:
        if self._policies and not self._policies_stale:
            services = {service for node in (before, now) if node for service in service_refs(node.resource)}
            self._policies_stale = any(
                service.kind in (FILTER_KIND, "XBackend") or self._resources.policy_keys(service) for service in services)
        for node, act in ((now, self._backends.hold), (before, self._backends.release)):
            for rule in node.rules if node else ():
                for backend in rule.targets():
                    for target in (backend.target, backend.passed):
                        if target:
                            act(target)

    # ---- HTTPRoutes and GRPCRoutes on one listener

    def _settle_kinds(self) -> Iterable[Key]:
        """Find who loses on the listeners where that may have changed; return the routes for which it did.

        Up to 1.6 the API let one kind have a hostname of a listener (grpcroute_types.go:126-137); what followed lets both."""
        reshaped, self._reshaped = self._reshaped, set()
        if not self._options.one_kind_a_host:
            shared = {identity for identity in reshaped if share_host(self._attachments.get(identity, ()))}
            self._shared = self._shared - reshaped | shared
            return ()
        found: set[Key] = set()
        for identity in reshaped:
            before = self._lost.get(identity, frozenset())
            now = losers(self._attachments.get(identity, ()))
            if now == before:
                continue
            found |= now ^ before
            self._judge.lost -= {(identity, key) for key in before}
            self._judge.lost |= {(identity, key) for key in now}
            if now:
                self._lost[identity] = now
            else:
                del self._lost[identity]
        return sorted(key for key in found if key in self._routes)

    # ---- The graph

    def _refill(self, touched: set[str]) -> None:
        """Give each listener its routes; one that has the same stays the same."""
        bases = self._survey.listeners
        renewed: dict[str, ListenerNode | None] = dict.fromkeys(touched)
        if bases is not self._bases:  # in the order of the listeners, as far as they are new
            renewed = dict.fromkeys(identity for identity, base in bases.items()
                                    if identity in touched or base is not self._bases.get(identity))
            renewed |= dict.fromkeys(self._bases.keys() - bases.keys())
            self._bases = bases
        for identity in renewed:
            if base := bases.get(identity):
                renewed[identity] = replace(base, attachments=self._winners(identity), shared=identity in self._shared)
        self._listeners = self._listeners.changed(renewed)

    def _winners(self, identity: str) -> Sequence[Attachment]:
        """The routes of a listener without those that lost it."""
        routes = self._attachments.get(identity, ())
        lost = [find(routes, key, _route_key) for key in self._lost.get(identity, ())]
        return changed(routes, [one for one in lost if one is not None], (), _route_key)

    def _judge_policies(self) -> dict[Key, PolicyNode]:
        with self._credentials.all_of("BackendTLSPolicy", "XBackend"):
            found = judge_policies(self._resources, self._options, self._credentials, self._gateways_of, self.barred)
            found |= {node.key: node for node in judge_backends(self._resources, self._credentials, self._gateways_of)}
        if self._resources.of(TELEMETRY_KIND):
            nodes = judge_telemetry(self._resources, self._survey.gateways, self._backends.resolve)
            found |= {node.key: node for node in nodes}
        return reuse_all(self._policies, found)

    def barred(self, gateway: Key) -> str:
        """Return why routes of a Gateway may not run filters in Python; '' if they may."""
        return self._judge.parents.barred(gateway)

    def _gateways_of(self, service: Key) -> set[Key]:
        nodes = (self._routes[key] for key in self._users.get(service, ()))
        found = {parent.gateway for node in nodes for parent in node.parents if parent.accepted}
        return found | self._fronts.gateways_of(service)

    def _graph(self) -> Graph:
        found = self._survey
        self._targets = self._targets.changed(self._backends.renewed)
        self._backends.renewed.clear()
        notes = [*found.notes, *(note for notes in self._notes.values() for note in notes),
                 *self._backends.notes.values()]
        return Graph(
            classes=found.classes, gateways=found.gateways, listener_sets=found.listener_sets,
            listeners=self._listeners, routes=self._routes, targets=self._targets, policies=self._policies,
            faulty=self._faulty, troubled=tuple(self._troubled), notes=tuple(notes), idle=self._idle,
            doubts=self._credentials.doubts(), turns_at=self._credentials.turns_at,
        )


# ---- What is seen of everything but routes


def _faulty(found: Survey) -> Iterable[tuple]:
    """Yield (resource, conditions) of everything but routes of which a condition says that something is wrong."""
    nodes: list[GatewayClassNode | GatewayNode | ListenerSetNode]
    nodes = [*found.classes.values(), *found.gateways.values(), *found.listener_sets.values()]
    owners: dict[Key, GatewayNode | ListenerSetNode] = {**found.gateways, **found.listener_sets}
    pairs: list[tuple[Resource, tuple[Condition, ...]]]
    pairs = [(node.resource, node.conditions) for node in nodes]
    pairs += [(owners[node.owner].resource, node.conditions) for node in found.listeners.values()]
    return (pair for pair in pairs if any(one.field for one in pair[1]))


def _faces(found: Survey, resources: Resources, barred: Callable[[Key], str]) -> dict[Key, tuple]:
    """Return of each parent what a route can see of it: () for one that is there and not served."""
    faces: dict[Key, tuple] = {key: () for kind in ("Gateway", "ListenerSet") for key in resources.of(kind)}
    faces |= {key: (key, barred(key)) for key in found.gateways}
    faces |= {key: (node.gateway, barred(node.gateway)) for key, node in found.listener_sets.items()}
    for node in found.listeners.values():
        faces[node.owner] += (
            (node.id, node.name, node.port, node.hostname, node.supported_kinds, node.resource.allowed_routes),
        )
    return faces


def _parents(route: Route) -> set[Key]:
    return {parent for ref in route.spec.parent_refs if (parent := parent_key(ref, route))}
