"""Parents: which listeners a parentRef of a route attaches to (spec 5.1-5.3).

    parent_key(ref, route)           the Gateway or ListenerSet that a parentRef names
    Parents.place(ref, parent, ...)  listeners of the parent -> sectionName, port -> kind, namespace -> hostnames

Rules:
- Each step that leaves no listener has its own reason: NoMatchingParent, NotAllowedByListeners, NoMatchingListenerHostname.
  One listener that takes the route is enough.
- A listener takes routes whether or not it is valid itself (gateway_types.go:1388-1405).
"""
from __future__ import annotations

from typing import NamedTuple

from gwfast.config.model import GATEWAY_GROUP, Key, ParentReference, TCPRoute, UDPRoute
from gwfast.graph import extensions
from gwfast.graph.gateways import Survey
from gwfast.graph.hostnames import matching
from gwfast.graph.model import GraphOptions, ListenerNode, Route
from gwfast.graph.refs import Resources
from gwfast.sharing import interned

Question = tuple[Key, str | None, int | None, str, str]  # parent, sectionName, port; kind and namespace of the route
Answer = tuple[list[ListenerNode], tuple[str, str] | None]  # the listeners that take such a route, or why none does


def parent_key(ref: ParentReference, route: Route) -> Key | None:
    """Return what a parentRef names if it is a Gateway or a ListenerSet."""
    if ref.group != GATEWAY_GROUP or ref.kind not in ("Gateway", "ListenerSet"):
        return None
    return Key(ref.kind, ref.namespace or route.metadata.namespace, ref.name)


class Place(NamedTuple):
    """The result of a parentRef: the listeners by id with the hostnames in common, or why there are none."""

    listeners: dict[str, tuple[str, ...]]
    fault: tuple[str, str] | None = None


class Parents:
    """Everything that routes attach to, as one survey found it."""

    def __init__(self, survey: Survey, resources: Resources, options: GraphOptions):
        self._resources = resources
        self._barred: dict[Key, str] = {}
        if options.filters_by_class:
            self._barred = {key: extensions.barred(node.resource, resources) for key, node in survey.gateways.items()}
        self._listeners: dict[Key, list[ListenerNode]] = {key: [] for key in (*survey.gateways, *survey.listener_sets)}
        for node in survey.listeners.values():
            self._listeners[node.owner].append(node)
        self._gateways = {key: node.gateway for key, node in survey.listener_sets.items()}
        self._answers: dict[Question, Answer] = {}

    def gateway(self, parent: Key) -> Key | None:
        """Return the Gateway behind a parent, None if it is not served here."""
        return self._gateways.get(parent, parent) if parent in self._listeners else None

    def barred(self, gateway: Key) -> str:
        """Return why routes of a Gateway may not run filters in Python; '' if they may."""
        return self._barred.get(gateway, "")

    def place(self, ref: ParentReference, parent: Key, route: Route) -> Place:
        """Attach a route to a parent that is served here."""
        question = (parent, ref.section_name, ref.port, route.kind, route.metadata.namespace)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answers[question] = self._admit(*question)
        listeners, fault = answer
        if fault is not None:
            return Place({}, fault)
        if isinstance(route, (TCPRoute, UDPRoute)):  # they have no hostnames
            return Place({node.id: interned("") for node in listeners})
        hostnames = route.spec.hostnames
        shared = {node.id: names for node in listeners if (names := matching(node.hostname, hostnames))}
        if shared:
            return Place(shared)
        own = ", ".join(node.hostname for node in listeners)
        return Place({}, ("NoMatchingListenerHostname", f"no hostname in common with {own}"))

    def _admit(self, parent: Key, section: str | None, port: int | None, kind: str, namespace: str) -> Answer:
        listeners = self._listeners[parent]
        named = [node for node in listeners if section in (None, node.name) and port in (None, node.port)]
        if not named:
            wanted = " and ".join([f"name {section}"] * (section is not None) + [f"port {port}"] * (port is not None))
            return [], ("NoMatchingParent", f"{parent} has no listener" + (f" with {wanted}" if wanted else ""))
        kinds = [node for node in named if (GATEWAY_GROUP, kind) in node.supported_kinds]
        if not kinds:
            return [], ("NotAllowedByListeners", f"no listener of {parent} takes a {kind}")
        allowed = [node for node in kinds if self._allows(node, namespace)]
        if not allowed:
            return [], ("NotAllowedByListeners", f"no listener of {parent} takes routes of namespace {namespace}")
        return allowed, None

    def _allows(self, node: ListenerNode, namespace: str) -> bool:
        return self._resources.allows(node.resource.allowed_routes.namespaces, node.owner.namespace, namespace)
