"""What the graph has to say about each resource, twice: as Kubernetes' status, and as problems for people.

    conditions(graph)   Status per resource, in the shape that a cluster's status subresource has
    problems(graph)     Problem per thing that is wrong: file:line, resource, field, reason

Rules:
- Both are read from the graph; nothing is judged here.
- A route has one entry per parentRef, also if it attaches by one only (spec 2.5). A resource that nothing here is
  responsible for has no status.
- A problem is told once, where its cause is: what only follows from it (a Gateway that is not programmed because of
  its listener) is a condition, not a second problem.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Literal

import msgspec

from gwfast.config.model import GATEWAY_GROUP, Key, Resource
from gwfast.errors import Problem, Source
from gwfast.graph.backends import X_BACKEND
from gwfast.graph.model import (
    Condition,
    GatewayNode,
    Graph,
    FilterTarget,
    ListenerNode,
    ListenerSetNode,
    PolicyNode,
    RouteNode,
)

CONTROLLER_NAME = "gwfast.dev/gateway-controller"


class _Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    pass


class ConditionStatus(_Shape, kw_only=True, frozen=True):
    """A condition as Kubernetes has it, without lastTransitionTime: whoever writes it knows when it changed."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int


class RouteGroupKind(_Shape, kw_only=True, frozen=True):
    group: str
    kind: str


class ListenerStatus(_Shape, kw_only=True, frozen=True):
    name: str
    supported_kinds: tuple[RouteGroupKind, ...]
    attached_routes: int
    conditions: tuple[ConditionStatus, ...]


class Address(_Shape, kw_only=True, frozen=True):
    type: str
    value: str


class GatewayClassStatus(_Shape, kw_only=True, frozen=True):
    conditions: tuple[ConditionStatus, ...]


class GatewayStatus(_Shape, kw_only=True, frozen=True):
    addresses: tuple[Address, ...] = ()
    conditions: tuple[ConditionStatus, ...]
    listeners: tuple[ListenerStatus, ...]
    attached_listener_sets: int


class ListenerSetStatus(_Shape, kw_only=True, frozen=True):
    conditions: tuple[ConditionStatus, ...]
    listeners: tuple[ListenerStatus, ...] = ()


class ParentRef(_Shape, kw_only=True, frozen=True):
    """A parentRef as it was given, with the defaults of group and kind."""

    group: str
    kind: str
    namespace: str | None = None
    name: str
    section_name: str | None = None
    port: int | None = None


class RouteParentStatus(_Shape, kw_only=True, frozen=True):
    parent_ref: ParentRef
    controller_name: str
    conditions: tuple[ConditionStatus, ...]


class RouteStatus(_Shape, kw_only=True, frozen=True):
    parents: tuple[RouteParentStatus, ...]


class PolicyAncestorStatus(_Shape, kw_only=True, frozen=True):
    ancestor_ref: ParentRef
    controller_name: str
    conditions: tuple[ConditionStatus, ...]


class PolicyStatus(_Shape, kw_only=True, frozen=True):
    ancestors: tuple[PolicyAncestorStatus, ...]


AnyStatus = GatewayClassStatus | GatewayStatus | ListenerSetStatus | RouteStatus | PolicyStatus


class Status(_Shape, kw_only=True, frozen=True):
    """The status of one resource; `namespace` is '' for cluster-scoped kinds."""

    kind: str
    namespace: str = ""
    name: str
    status: AnyStatus

    @property
    def key(self) -> Key:
        return Key(self.kind, self.namespace, self.name)


def conditions(graph: Graph, controller_name: str = CONTROLLER_NAME) -> list[Status]:
    """Return the status of every GatewayClass, Gateway, ListenerSet, route and policy, in that order."""
    found = []
    for nodes in (graph.classes, graph.gateways, graph.listener_sets, graph.routes, graph.policies):
        for key in sorted(nodes):
            if (status := status_of(graph, key, controller_name)) is not None:
                found.append(Status(kind=key.kind, namespace=key.namespace, name=key.name, status=status))
    return found


def status_of(graph: Graph, key: Key, controller_name: str = CONTROLLER_NAME) -> AnyStatus | None:
    """Return the status of one resource; None where nothing here is responsible for it."""
    if key.kind == "GatewayClass":
        return GatewayClassStatus(conditions=_shape(graph.classes[key].conditions)) if key in graph.classes else None
    if key.kind == "Gateway":
        return _gateway_status(graph.gateways[key], graph) if key in graph.gateways else None
    if key.kind == "ListenerSet":
        return _listener_set_status(graph.listener_sets[key], graph) if key in graph.listener_sets else None
    if (route := graph.routes.get(key)) is not None:
        return _route_status(route, controller_name) if route.parents else None
    policy = graph.policies.get(key)
    return _policy_status(policy, controller_name) if policy is not None and policy.ancestors else None


def _shape(found: Iterable[Condition]) -> tuple[ConditionStatus, ...]:
    return tuple(
        ConditionStatus(
            type=one.type, status=one.status, reason=one.reason, message=one.message,
            observed_generation=one.observed_generation,
        )
        for one in found
    )


def _listener_statuses(nodes: Iterable[ListenerNode]) -> tuple[ListenerStatus, ...]:
    return tuple(
        ListenerStatus(
            name=node.name, attached_routes=node.attached_routes, conditions=_shape(node.conditions),
            supported_kinds=tuple(RouteGroupKind(group=group, kind=kind) for group, kind in node.supported_kinds),
        )
        for node in nodes
    )


def _gateway_status(node: GatewayNode, graph: Graph) -> GatewayStatus:
    listeners = [graph.listeners[identity] for identity in node.listeners]
    return GatewayStatus(
        addresses=tuple(Address(type="IPAddress", value=value) for value in node.addresses if value),
        conditions=_shape(node.conditions),
        listeners=_listener_statuses(one for one in listeners if one.owner == node.key),
        attached_listener_sets=len(node.listener_sets),
    )


def _listener_set_status(node: ListenerSetNode, graph: Graph) -> ListenerSetStatus:
    listeners = [graph.listeners[identity] for identity in node.listeners]
    return ListenerSetStatus(conditions=_shape(node.conditions), listeners=_listener_statuses(listeners))


def _route_status(node: RouteNode, controller_name: str) -> RouteStatus:
    return RouteStatus(parents=tuple(
        RouteParentStatus(
            parent_ref=ParentRef(**msgspec.structs.asdict(one.ref)), controller_name=controller_name,
            conditions=_shape(one.conditions),
        )
        for one in node.parents
    ))


def _policy_status(node: PolicyNode, controller_name: str) -> PolicyStatus:
    return PolicyStatus(ancestors=tuple(
        PolicyAncestorStatus(
            ancestor_ref=ParentRef(
                group=GATEWAY_GROUP, kind="Gateway", namespace=one.gateway.namespace, name=one.gateway.name
            ),
            controller_name=controller_name, conditions=_shape(one.conditions),
        )
        for one in node.ancestors
    ))


# ---- Problems


def problems(graph: Graph) -> list[Problem]:
    """Return everything that is wrong or worth saying, by file and line."""
    found: list[Problem] = []
    for resource, told in graph.faulty:
        found += _of_conditions(resource, told)
    for key in graph.troubled:
        found += _of_route(graph.routes[key])
    for node in graph.policies.values():
        found += [_problem(node.resource, one.field, one.reason, one.message) for one in node.conditions if one.field]
    for note in graph.notes:
        found.append(Problem(
            source=note.resource.source, resource=str(note.resource.key), field=note.field, reason=note.reason,
            message=note.message, severity=note.severity,
        ))
    return sorted(_once(found), key=_place)


def idle(graph: Graph, place: Source) -> list[Problem]:
    """Return a warning where nothing is served; `place` is what was read."""
    if not graph.idle:
        return []
    message = f"nothing is served: {graph.idle}"
    return [Problem(source=place, reason="NothingToServe", message=message, severity="warning")]


def nowhere(graph: Graph, services: Container[Key] | None) -> list[Problem]:
    """Return a note for each Service that rules name and that is not among these, with the first place that does."""
    if services is None:
        return []
    found: dict[Key, Problem] = {}
    more: Counter[Key] = Counter()
    for _, route in sorted(graph.routes.items()):
        for field, name in _targets(route):
            target = graph.targets[name]
            key = Key("Service", target.namespace, target.name)
            if target.name.startswith(X_BACKEND):
                continue
            more[key] += key in found
            if key not in found and key not in services and target.hosts:
                found[key] = Problem(
                    source=route.resource.source, resource=str(route.key), field=field, reason="BackendNotFound", severity="note",
                    message=f"there is no {key} in the files: {' or '.join(target.hosts)} is looked up in DNS")
    return [msgspec.structs.replace(one, message=f"{one.message}; {more[key]} more name it") if more[key] else one
            for key, one in found.items()]


def _targets(route: RouteNode) -> Iterator[tuple[str, str]]:
    """Yield where the rules of a route that attaches somewhere name a Service, and the target."""
    for rule in route.rules if route.parents else ():
        path = f"spec.rules[{rule.index}]"
        yield from _filter_targets(path, rule.filter_targets)
        for backend in rule.backends:
            place = f"{path}.backendRefs[{backend.index}]"
            yield from [(place, backend.target)] if backend.target else []
            yield from _filter_targets(place, backend.filter_targets)


def _filter_targets(place: str, filter_targets: Iterable[FilterTarget]) -> Iterator[tuple[str, str]]:
    return ((f"{place}.filters[{one.index}]", one.target) for one in filter_targets if one.target)


def unserved(graph: Graph) -> list[Problem]:
    """Return a note for each route that gets nothing on a TCP or UDP listener because an older one has it (spec 5.7)."""
    found = []
    for node in graph.listeners.values():
        if node.protocol not in ("TCP", "UDP") or len(node.attachments) < 2:
            continue
        oldest = min((one.route for one in node.attachments), key=lambda route: route.age)
        found += [Problem(source=one.route.resource.source, resource=str(one.route.key), field="spec.parentRefs",
                          reason="Shadowed", message=f"gets nothing on listener {node.id}: {oldest.key} comes first",
                          severity="note") for one in node.attachments if one.route is not oldest]
    return found


def _once(found: list[Problem]) -> Iterator[Problem]:
    """Drop what says the same about the same field: a listener's Accepted and Programmed, for instance."""
    seen = set()
    for one in found:
        what = (one.resource, one.field, one.message)
        if what not in seen:
            seen.add(what)
            yield one


def _place(one: Problem) -> tuple:
    return (one.source.file, one.source.line, one.resource, one.field)


_FOLLOWS = {  # told where their cause is
    "Accepted": ("Invalid", "ListenersNotValid", "ParentNotAccepted"),
    "Programmed": ("Invalid", "ListenersNotValid", "ParentNotAccepted"),
    "ResolvedRefs": ("ListenersNotResolved",),
}
_SEVERITIES: dict[str, Literal["warning", "note"]] = {
    "NotServed": "warning", "ConfigurationChanged": "warning", "OverlappingHostnames": "note",
    "OverlappingCertificates": "note",  # one certificate for several listeners is common, and 421 deals with it
}


def _of_conditions(resource: Resource, found: Iterable[Condition]) -> Iterator[Problem]:
    for one in found:
        if one.field and one.reason not in _FOLLOWS.get(one.type, ()):
            yield _problem(resource, one.field, one.reason, one.message)


def _problem(resource: Resource, field: str, reason: str, message: str) -> Problem:
    return Problem(
        source=resource.source, resource=str(resource.key), field=field, reason=reason, message=message,
        severity=_SEVERITIES.get(reason, "error"),
    )


def _of_route(node: RouteNode) -> Iterator[Problem]:
    resource = node.resource
    told = list(_of_rules(node))
    messages = {one.message for one in told}
    for parent in node.parents:
        for one in parent.conditions:
            of_rules = one.type != "ResolvedRefs" and one.field.startswith("spec.rules")  # told by rule, and by notes
            if one.field and not of_rules and one.message not in messages:
                yield _problem(resource, one.field, one.reason, one.message)
    yield from told


def _of_rules(node: RouteNode) -> Iterator[Problem]:
    """Every reference and filter, where a condition has room for the first one only."""
    resource = node.resource
    for rule in node.rules:
        field = f"spec.rules[{rule.index}]"
        for one in rule.refused:
            yield _problem(resource, f"{field}.filters[{one.index}]", one.reason, one.message)
        for target in rule.filter_targets:
            if target.reason:
                at = f"{field}.filters[{target.index}].requestMirror.backendRef"
                yield _problem(resource, at, target.reason, target.message)
        for backend in rule.backends:
            place = f"{field}.backendRefs[{backend.index}]"
            if backend.reason:
                yield _problem(resource, place, backend.reason, backend.message)
            for one in backend.refused:
                yield _problem(resource, f"{place}.filters[{one.index}]", one.reason, one.message)
            for target in backend.filter_targets:
                if target.reason:
                    at = f"{place}.filters[{target.index}].requestMirror.backendRef"
                    yield _problem(resource, at, target.reason, target.message)

