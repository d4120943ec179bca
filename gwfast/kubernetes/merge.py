"""A status as it stands and what we have to say, put together: pure functions over JSON's builtins.

    merged(key, standing, wanted, ...) -> what should stand
    patch(standing, merged)            -> a JSON merge patch of `status`, {} where nothing differs

Rules (the notes for implementors of the API's types):
- What is another's is neither changed nor moved: entries of `parents` and `ancestors` with another controllerName, conditions of
  types that we do not manage, fields that we do not know. What is new of ours comes behind them.
- Of ours, what we no longer say is taken away.
- lastTransitionTime is that which stands as long as a condition's status is the same, whatever else of it changes.
- A condition that was observed at a later generation than ours, and not later than the object's own, is left: whoever wrote it
  has seen more.
- The limits of the API hold: where others have taken the room, what is ours is cut. Saying the same twice changes nothing.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gwfast.config.model import GATEWAY_GROUP, Key
from gwfast.graph.model import FILTER_KIND, POLICY_KINDS, ROUTE_KINDS, TELEMETRY_KIND

CONDITIONS = 8  # of an object, a listener or an entry
PARENTS = 32  # entries of a route's status
ANCESTORS = 16  # entries of a policy's status
LISTENERS = 64  # of a Gateway's or ListenerSet's status

MANAGED = {  # types of conditions that are ours to write, and to take away
    "GatewayClass": frozenset(("Accepted", "SupportedVersion")),
    "Gateway": frozenset(("Accepted", "Programmed", "ResolvedRefs", "AddressesAssigned", "InsecureFrontendValidationMode")),
    "ListenerSet": frozenset(("Accepted", "Programmed")),
    "Listener": frozenset(("Accepted", "Programmed", "ResolvedRefs", "Conflicted", "OverlappingTLSConfig")),
    "Entry": frozenset(("Accepted", "ResolvedRefs", "PartiallyInvalid")),
}
PENDING = {"status": "Unknown", "reason": "Pending", "message": "Waiting for controller"}  # as the CRDs have it
_ENTRIES = {kind: ("parents", "parentRef", PARENTS) for kind in ROUTE_KINDS}
_ENTRIES |= {kind: ("ancestors", "ancestorRef", ANCESTORS) for kind in (*POLICY_KINDS, FILTER_KIND, TELEMETRY_KIND, "XBackend")}


class Frame:
    """What merging one object takes besides the two statuses.

    key: the object's. controller_name: ours. now: RFC 3339, in seconds. generation: the object's own, as it was seen last.
    said: what we said of it last; where it is given, another one of our name may be at work, and of the entries that carry our
    name only those that are in it are taken away."""

    __slots__ = ("key", "controller_name", "now", "generation", "said")

    def __init__(self, key: Key, controller_name: str, now: str, generation: int, said: dict[str, Any] | None = None):
        self.key = key
        self.controller_name = controller_name
        self.now = now
        self.generation = generation
        self.said = said


def merged(frame: Frame, standing: Mapping[str, Any], wanted: dict[str, Any] | None) -> dict[str, Any]:
    """Return what should stand. wanted: what we say; None: we have nothing to say, and take back entries that are ours (of a
    class, Gateway or ListenerSet, which have no entries, nothing)."""
    kind = frame.key.kind
    if kind in _ENTRIES:
        name, ref, most = _ENTRIES[kind]
        entries = _entries(frame, _list(standing, name), (wanted or {}).get(name, ()), ref, most)
        return _with(standing, {name: entries})
    if wanted is None:
        return dict(standing)
    said = dict(wanted)
    said["conditions"] = conditions(frame, _list(standing, "conditions"), wanted["conditions"], MANAGED[kind])
    if kind != "GatewayClass":
        said["listeners"] = _listeners(frame, _list(standing, "listeners"), wanted.get("listeners", ()))
    return _with(standing, said)


def released(frame: Frame, standing: Mapping[str, Any]) -> dict[str, Any]:
    """Return what should stand in a Gateway or ListenerSet that is no longer ours, and whose status nobody else has touched: what
    the CRD has before a controller comes, and conditions of others."""
    managed = MANAGED[frame.key.kind]
    said = [{"type": type, **PENDING, "observedGeneration": frame.generation} for type in ("Accepted", "Programmed")]
    found = {name: value for name, value in standing.items() if name not in ("addresses", "listeners", "attachedListenerSets")}
    return found | {"conditions": conditions(frame, _list(standing, "conditions"), said, managed)}


def patch(standing: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that makes the one status of the other."""
    found = {name: value for name, value in wanted.items() if name not in standing or standing[name] != value}
    return found | {name: None for name in standing if name not in wanted}


def joined(before: dict[str, Any] | None, said: dict[str, Any]) -> dict[str, Any]:
    """Return what was said of an object lately: entries of both, and of all else what was said last."""
    old = before or {}
    return said | {name: [*old[name], *said.get(name, ())] for name in ("parents", "ancestors") if name in old}


def conditions(frame: Frame, standing: list, wanted: list[dict[str, Any]], managed: frozenset[str]) -> list:
    """Return the conditions that should stand, those that do in their places."""
    left = {one["type"]: one for one in wanted}
    found = []
    for one in standing:
        type = _plain(one, "type")
        if type in left:
            found.append(_condition(frame, one, left.pop(type)))
        elif type not in managed:
            found.append(one)
    room = CONDITIONS - len(found)
    return found + [_condition(frame, {}, one) for one in left.values()][:max(0, room)]


def _condition(frame: Frame, standing: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    observed = standing.get("observedGeneration")
    if isinstance(observed, int) and wanted["observedGeneration"] < observed <= frame.generation:
        return standing
    since = standing.get("lastTransitionTime")
    same = standing.get("status") == wanted["status"] and isinstance(since, str) and bool(since)
    return wanted | {"lastTransitionTime": since if same else frame.now}


def _listeners(frame: Frame, standing: list, wanted) -> list:
    known = {_plain(one, "name"): one for one in standing}
    found = []
    for one in wanted[:LISTENERS]:
        before = known.get(one["name"], {})
        said = conditions(frame, _list(before, "conditions"), one["conditions"], MANAGED["Listener"])
        found.append(before | one | {"conditions": said})
    return found


def _entries(frame: Frame, standing: list, wanted, ref: str, most: int) -> list:
    left: dict[tuple, dict[str, Any]] = {}
    for one in wanted:
        left.setdefault(_identity(one[ref], frame.key.namespace), one)
    ours = _is_ours(frame, left, ref)
    room = most - sum(not ours(one) for one in standing)
    found = []
    for one in standing:
        if not ours(one):
            found.append(one)
        elif (said := left.pop(_identity(one.get(ref), frame.key.namespace), None)) is not None and room > 0:
            room -= 1
            found.append(one | said | {"conditions": _said(frame, one, said)})
    return found + [said | {"conditions": _said(frame, {}, said)} for said in left.values()][:max(0, room)]


def _said(frame: Frame, standing: dict[str, Any], wanted: dict[str, Any]) -> list:
    return conditions(frame, _list(standing, "conditions"), wanted["conditions"], MANAGED["Entry"])


def _is_ours(frame: Frame, wanted: Mapping[tuple, Any], ref: str) -> Callable[[Any], bool]:
    """Return what says of an entry whether it is ours to change and to take away."""
    names: set[tuple] | None = None
    if frame.said is not None:
        entries = [one for value in frame.said.values() if isinstance(value, list) for one in value if ref in one]
        names = {_identity(one[ref], frame.key.namespace) for one in entries} | wanted.keys()

    def ours(entry) -> bool:
        if not isinstance(entry, dict) or entry.get("controllerName") != frame.controller_name:
            return False
        return names is None or _identity(entry.get(ref), frame.key.namespace) in names
    return ours


def _identity(ref, namespace: str) -> tuple:
    """What makes two references the same; what is left out is what the API has as its default."""
    group, kind, space, *rest = [_plain(ref, name) for name in ("group", "kind", "namespace", "name", "sectionName", "port")]
    return (GATEWAY_GROUP if group is None else group, kind or "Gateway", space or namespace, *rest)


def _with(standing: Mapping[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Put what we say in its places; an empty list is not said where none stands."""
    return {**standing, **{name: value for name, value in said.items() if value != [] or name in standing}}


def _plain(owner, name: str) -> str | int | None:
    """A field that is text or a number; whatever stands in a CRD without a schema is no error."""
    value = owner.get(name) if isinstance(owner, dict) else None
    return value if isinstance(value, str | int) else None


def _list(standing: Mapping[str, Any], name: str) -> list:
    found = standing.get(name)
    return found if isinstance(found, list) else []
