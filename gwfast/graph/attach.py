"""Attach routes to listeners: resources in, one Graph out; again after a change, at the cost of the change.

    resources ──(what changed)──> survey of Gateways, ListenerSets, listeners
                                     │ a listener's face changed: the routes that name its owner
                 Service, Grant ─────┤ a reference may have changed: the routes that make it
                 route ──────────────┴─> judge ──> places ──> HTTP or gRPC first? ──> attachments ──> Graph

Rules:
- A node is made again only if something that it depends on changed, and put in place only if it came out different.
- Endpoints belong to targets: an EndpointSlice never touches a route.
- Nothing here costs more than linear time in the number of routes, and one route costs its own size.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import astuple, replace

from gwfast.config.load import without_collector
from gwfast.config.model import Key, Resource
from gwfast.graph.backends import Backends
from gwfast.graph.certificates import Credentials
from gwfast.graph.gateways import Survey, is_infrastructure, survey
from gwfast.graph.hostnames import Hostnames
from gwfast.graph.model import (
    ROUTE_KINDS,
    Attachment,
    Graph,
    GraphOptions,
    ListenerNode,
    Node,
    Note,
    PolicyNode,
    Route,
    RouteNode,
)
from gwfast.graph.policies import judge_policies
from gwfast.graph.refs import Resources, policy_services, slice_services
from gwfast.graph.routes import Judge, Parents, parent_key, service_refs


_DEFAULTS = GraphOptions()


def attach(resources: Iterable[Resource] | Mapping[Key, Resource], options: GraphOptions = _DEFAULTS) -> Graph:
    """Return the graph of one configuration."""
    return Attacher(options).attach(resources)


class Attacher:
    """Attaches one configuration after the other and keeps what stays the same.

    refuse_regex: says why a regular expression cannot be served, '' if it can.
    """

    def __init__(self, options: GraphOptions = _DEFAULTS, refuse_regex: Callable[[str], str] | None = None):
        self._options = options
        self._resources = Resources()
        self._credentials = Credentials(self._resources)
        self._backends = Backends(self._resources, options)
        self._survey = Survey(classes={})
        self._faces: dict[Key, tuple] = {}
        parents = Parents(self._survey, self._resources)
        self._judge = Judge(parents, self._backends, self._resources, options, refuse_regex)
        self._routes: dict[Key, RouteNode] = {}
        self._notes: dict[Key, tuple[Note, ...]] = {}
        self._troubled: dict[Key, None] = {}
        self._places: dict[Key, tuple[str, ...]] = {}
        self._users: dict[Key, set[Key]] = {}  # Service -> routes that name it
        self._attachments: dict[str, dict[Key, Attachment]] = {}
        self._lost: dict[str, frozenset[Key]] = {}
        self._listeners: dict[str, ListenerNode] = {}
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
        stale = dict.fromkeys(self._survey_again(changes)) | dict.fromkeys(self._refer_again(changes))
        touched: set[str] = set()
        for key, (before, now) in changes.items():
            if key.kind in ROUTE_KINDS:
                self._register(key, before, now)
                stale[key] = None
        for key in stale:
            self._judge_again(key, touched)
        for key in self._settle_kinds(touched):
            self._judge_again(key, touched)
        self._refill(touched)
        if self._policies_stale:
            self._policies = self._judge_policies()
            self._policies_stale = False
        return self._graph()

    # ---- What a change reaches

    def _survey_again(self, changes: dict) -> Iterable[Key]:
        """Look at Gateways and listeners again if they may have changed; return the routes that this may change."""
        if not any(is_infrastructure(now or before) for before, now in changes.values()):
            return ()
        for key, (_, now) in changes.items():
            if now is None:
                self._credentials.forget(key)
        found = survey(self._resources, self._options, self._credentials)
        found.listeners = _reuse_all(self._survey.listeners, found.listeners)
        found.gateways = _reuse_all(self._survey.gateways, found.gateways)
        found.listener_sets = _reuse_all(self._survey.listener_sets, found.listener_sets)
        found.classes = _reuse_all(self._survey.classes, found.classes)
        faces = _faces(found, self._resources)
        owners = {key for key in faces.keys() | self._faces.keys() if faces.get(key) != self._faces.get(key)}
        namespaces = {key.name for key in changes if key.kind == "Namespace"}
        self._survey, self._faces = found, faces
        self._policies_stale = True
        self._judge.parents = Parents(found, self._resources)
        return [key for key, node in self._routes.items() if key.namespace in namespaces or _names(node, owners)]

    def _refer_again(self, changes: dict) -> Iterable[Key]:
        """Refresh endpoints; return the routes whose references may have changed."""
        services, namespaces = set(), set()
        for key, pair in changes.items():
            if key.kind == "Service":
                services.add(key)
                self._backends.refresh(key)
            elif key.kind == "EndpointSlice":
                for service in {service for one in pair if one for service in slice_services(one)}:
                    self._backends.refresh(service)
            elif key.kind == "BackendTLSPolicy":
                services.update(service for one in pair if one for service in policy_services(one))
            elif key.kind == "ReferenceGrant":
                namespaces.add(key.namespace)
        self._policies_stale |= bool(services)
        routes = {route for service in services for route in self._users.get(service, ())}
        if namespaces:
            for service, users in self._users.items():
                if service.namespace in namespaces:
                    routes.update(route for route in users if route.namespace != service.namespace)
        return sorted(routes)

    def _register(self, key: Key, before: Route | None, now: Route | None) -> None:
        old, new = service_refs(before) if before else set(), service_refs(now) if now else set()
        for service in old - new:
            self._users[service].discard(key)
            if not self._users[service]:
                del self._users[service]
        for service in new - old:
            self._users.setdefault(service, set()).add(key)

    # ---- Routes

    def _judge_again(self, key: Key, touched: set[str]) -> None:
        """Judge a route and put it in place of what it was; `touched` gathers the listeners whose routes changed."""
        before = self._routes.get(key)
        resource = self._resources.get(*key)
        if resource is None:
            self._remove(key, before, touched)
            return
        node, places, notes, fine = self._judge.judge(resource)
        node = _reuse_route(before, node)
        if notes:
            self._notes[key] = notes
        else:
            self._notes.pop(key, None)
        if fine:
            self._troubled.pop(key, None)
        else:
            self._troubled[key] = None
        if node is not before:
            self._exchange_targets(before, node)
            self._routes[key] = node
        self._put(key, node, places, touched)

    def _put(self, key: Key, node: RouteNode, places: dict[str, tuple[str, ...]], touched: set[str]) -> None:
        for identity in self._places.get(key, ()):
            if identity not in places:
                del self._attachments[identity][key]
                touched.add(identity)
        self._places[key] = tuple(places)
        for identity, hostnames in places.items():
            routes = self._attachments.setdefault(identity, {})
            known = routes.get(key)
            if known is None or known.route is not node or known.hostnames != hostnames:
                routes[key] = Attachment(route=node, hostnames=hostnames)
                touched.add(identity)

    def _remove(self, key: Key, before: RouteNode | None, touched: set[str]) -> None:
        if before is not None:
            self._exchange_targets(before, None)
            del self._routes[key]
        for identity in self._places.pop(key, ()):
            del self._attachments[identity][key]
            touched.add(identity)
        self._notes.pop(key, None)
        self._troubled.pop(key, None)

    def _exchange_targets(self, before: RouteNode | None, now: RouteNode | None) -> None:
        if self._policies and not self._policies_stale:
            services = {service for node in (before, now) if node for service in service_refs(node.resource)}
            self._policies_stale = any(self._resources.policies(service) for service in services)
        for node, act in ((now, self._backends.hold), (before, self._backends.release)):
            for rule in node.rules if node else ():
                for backend in rule.backends:
                    if backend.target:
                        act(backend.target)

    # ---- HTTPRoutes and GRPCRoutes on one listener (grpcroute_types.go:126-137)

    def _settle_kinds(self, touched: set[str]) -> Iterable[Key]:
        """Find who loses on the touched listeners; return the routes for which that changed."""
        changed = set()
        for identity in touched:
            before = self._lost.get(identity, frozenset())
            now = _losers(self._attachments.get(identity, {}))
            if now == before:
                continue
            changed |= now ^ before
            self._judge.lost -= {(identity, key) for key in before}
            self._judge.lost |= {(identity, key) for key in now}
            if now:
                self._lost[identity] = now
            else:
                del self._lost[identity]
        return sorted(key for key in changed if key in self._routes)

    # ---- The graph

    def _refill(self, touched: set[str]) -> None:
        """Give each listener its routes; one that has the same stays the same."""
        listeners = {}
        for identity, base in self._survey.listeners.items():
            known = self._listeners.get(identity)
            if known is not None and identity not in touched and _same_base(known, base):
                listeners[identity] = known
                continue
            routes = self._attachments.get(identity, {})
            lost = self._lost.get(identity, ())
            attached = tuple([one for key, one in routes.items() if key not in lost] if lost else routes.values())
            listeners[identity] = replace(base, attachments=attached)
        self._listeners = listeners

    def _judge_policies(self):
        if not self._resources.of("BackendTLSPolicy"):
            return {}
        found = judge_policies(self._resources, self._options, self._credentials, self._gateways_of)
        return _reuse_all(self._policies, found)

    def _gateways_of(self, service: Key) -> set[Key]:
        nodes = (self._routes[key] for key in self._users.get(service, ()))
        return {parent.gateway for node in nodes for parent in node.parents if parent.accepted}

    def _graph(self) -> Graph:
        found = self._survey
        notes = [*found.notes, *(note for notes in self._notes.values() for note in notes)]
        return Graph(
            classes=found.classes, gateways=found.gateways, listener_sets=found.listener_sets,
            listeners=self._listeners, routes=dict(self._routes), targets=dict(self._backends.targets),
            policies=self._policies, troubled=tuple(self._troubled), notes=tuple(notes),
        )


# ---- What stays the same


def _same(a, b) -> bool:
    """Return whether two nodes, or tuples of them, say the same; resources are the same only if they are one."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Node):
        a, b = astuple(a), astuple(b)
    elif not (isinstance(a, tuple) and a and isinstance(a[0], Node)):
        return a == b
    return len(a) == len(b) and all(map(_same, a, b))


def _reuse_all(old: dict, new: dict) -> dict:
    return {key: before if _same(before := old.get(key), node) else node for key, node in new.items()}


def _reuse_route(before: RouteNode | None, node: RouteNode) -> RouteNode:
    """Keep the route, or those of its rules and parents, that came out as they were."""
    if before is None:
        return node
    parents = _reuse_each(before.parents, node.parents)
    rules = _reuse_each(before.rules, node.rules)
    if before.resource is node.resource and parents is before.parents and rules is before.rules:
        return before
    return replace(node, parents=parents, rules=rules)


def _reuse_each(before: tuple, now: tuple) -> tuple:
    if _same(before, now):
        return before
    paired = zip(before, now, strict=False)
    return tuple(old if _same(old, new) else new for old, new in paired) + now[len(before):]


def _same_base(known: ListenerNode, base: ListenerNode) -> bool:
    return astuple(replace(known, attachments=())) == astuple(base)


def _faces(found: Survey, resources: Resources) -> dict[Key, tuple]:
    """Return of each parent what a route can see of it: () for one that is there and not served."""
    faces: dict[Key, tuple] = {key: () for kind in ("Gateway", "ListenerSet") for key in resources.of(kind)}
    faces |= {key: (key,) for key in found.gateways}
    faces |= {key: (node.gateway,) for key, node in found.listener_sets.items()}
    for node in found.listeners.values():
        faces[node.owner] += (
            (node.id, node.name, node.port, node.hostname, node.supported_kinds, node.resource.allowed_routes),
        )
    return faces


def _names(node: RouteNode, owners: set[Key]) -> bool:
    return bool(owners) and any(parent_key(ref, node.resource) in owners for ref in node.resource.spec.parent_refs)


def _losers(attachments: dict[Key, Attachment]) -> frozenset[Key]:
    """Return the routes that an older route of the other kind leaves no place for on a listener."""
    kinds = {key.kind for key in attachments}
    if not {"HTTPRoute", "GRPCRoute"} <= kinds:
        return frozenset()
    hosts = {"HTTPRoute": Hostnames(), "GRPCRoute": Hostnames()}
    lost = set()
    for one in sorted(attachments.values(), key=lambda one: (one.route.age, one.route.kind)):
        other = hosts["GRPCRoute" if one.route.kind == "HTTPRoute" else "HTTPRoute"]
        if any(other.meets(hostname) for hostname in one.hostnames):
            lost.add(one.route.key)
        else:
            hosts[one.route.kind].update(one.hostnames)
    return frozenset(lost)
