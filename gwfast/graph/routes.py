"""One route: where it attaches, what its rules come to, and the conditions of each parentRef (spec 5.1-5.7).

    Judge.judge(key, route) -> Judgement    RouteNode, the hostnames it has on each listener, and notes

Rules:
- Where it attaches is for `parents` to say, what its rules come to for `rules`.
- What is wrong with the rules is the same for every parent.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gwfast.config.model import Key, ParentReference
from gwfast.graph.backends import Backends
from gwfast.graph.listeners import Fault
from gwfast.graph.model import Condition, GraphOptions, Note, ParentNode, Route, RouteNode
from gwfast.graph.parents import Parents, Place, parent_key
from gwfast.graph.refs import Resources
from gwfast.graph.rules import PlainBackends, RefuseRegex, Rules
from gwfast.sharing import SHARED, interned


class Judgement(NamedTuple):
    """A route as it was judged. places: listener id -> hostnames, also where another route has won the listener.
    as_written: it is served as it is written wherever it wants to attach."""

    node: RouteNode
    places: dict[str, tuple[str, ...]]
    notes: tuple[Note, ...]
    as_written: bool


class Judge:
    """Judges routes, one after the other. `lost` holds (listener id, route key) where a route of another kind was first."""

    def __init__(self, parents: Parents, backends: Backends, resources: Resources, options: GraphOptions,
                 refuse_regex: RefuseRegex | None = None):
        self.parents = parents
        self.lost: set[tuple[str, Key]] = set()
        self._plain: PlainBackends = {}
        self._backends = backends
        self._resources = resources
        self._options = options
        self._refuse_regex = refuse_regex

    def begin(self) -> None:
        """Forget what held of the resources as they were: they may be others now."""
        self._plain.clear()

    def judge(self, key: Key, route: Route) -> Judgement:
        """Judge one route, known by `key`; parentRefs that name nothing which is served here leave no ParentNode."""
        rules = Rules(route, self._backends, self._options, self._refuse_regex, self._resources,
                      self._barred(route) if self._options.filters_by_class else "", self._plain)
        notes = rules.notes
        if not route.spec.parent_refs:
            notes.append(_without_parents(route))
        places: dict[str, tuple[str, ...]] = {}
        parents = []
        for index, ref in enumerate(route.spec.parent_refs):
            parent = parent_key(ref, route)
            gateway = self.parents.gateway(parent) if parent else None
            if parent is None or gateway is None:
                notes += self._missing_parent(route, index, ref, parent)
                continue
            place = self.parents.place(ref, parent, route)
            parents.append(self._parent(key, index, ref, gateway, place, rules))
            if rules.refused is None:
                places.update(place.listeners)
        node = RouteNode(key=key, resource=route, parents=interned(*parents), rules=rules.nodes)
        as_written = all([parent.conditions is rules.as_written or parent.conditions == rules.as_written for parent in parents])
        return Judgement(node, places, tuple(notes), as_written)

    def _barred(self, route: Route) -> str:
        """Return why a route may not run filters in Python: a rule is the same for every Gateway, so each has to allow it."""
        found = (self.parents.gateway(parent) for ref in route.spec.parent_refs if (parent := parent_key(ref, route)))
        return next((words for gateway in found if gateway and (words := self.parents.barred(gateway))), "")

    def _parent(self, key: Key, index: int, ref: ParentReference, gateway: Key, place: Place, rules: Rules) -> ParentNode:
        listeners = place.listeners
        if self.lost and listeners:
            listeners = {identity: names for identity, names in listeners.items() if (identity, key) not in self.lost}
        fault = rules.refused
        if fault is None and not listeners:
            fault = Fault(*(place.fault or _LOST), f"spec.parentRefs[{index}]")
        conditions = rules.conditions(fault)
        if conditions is rules.as_written:
            return _plain_parent(index, ref, gateway, conditions, *listeners)
        accepted = fault is None
        return ParentNode(
            index=index, ref=ref, gateway=gateway, accepted=accepted,
            listeners=tuple(listeners) if accepted else (), conditions=conditions,
        )

    def _missing_parent(self, route: Route, index: int, ref: ParentReference, parent: Key | None) -> list[Note]:
        field = f"spec.parentRefs[{index}]"
        if parent is None:
            message = f"parents of kind {ref.group}/{ref.kind} are not served here"
            return [Note(resource=route, field=field, reason="NoMatchingParent", message=message, severity="note")]
        if self._resources.get(*parent) is not None:
            return []  # it is there, and narrowed out, or a ListenerSet whose own problem is told
        message = f"there is no {parent}"
        return [Note(resource=route, field=field, reason="NoMatchingParent", message=message, severity="error")]


_LOST = ("HostnameConflict", "an older route of another kind has its hostnames on the listener")


def _without_parents(route: Route) -> Note:
    message = "a route without parentRefs attaches to nothing"
    if route.spec.use_default_gateways is not None:
        message += ": useDefaultGateways is not followed by this version"
    return Note(resource=route, field="spec.parentRefs", reason="NoMatchingParent", message=message)


@lru_cache(SHARED)
def _plain_parent(
    index: int, ref: ParentReference, gateway: Key, conditions: tuple[Condition, ...], *listeners: str
) -> ParentNode:
    """Return the node of a parentRef with which nothing is wrong: many routes have the same one."""
    return ParentNode(
        index=index, ref=ref, gateway=gateway, accepted=True, listeners=listeners, conditions=conditions,
    )
