"""What the status of each object should be: the graph's conditions, with the addresses that Gateways got, and features.

    View        everything that statuses follow from: the graph, what Gateways were assigned, the installed bundle
    Statuses    changed(before, now): the keys whose status may have changed; status(view, key): what it should be

Rules:
- A change costs its own size: the graph's nodes are the same objects where nothing changed, and are compared as such.
- A status is made when somebody writes it, from the view of that moment: what waits is keys, not values.
- A status is builtins, as JSON has it, without lastTransitionTime. None: nothing here is responsible for the object.
- Programmed is True where the graph says so and what was assigned says that it is served. The listeners follow.
- Where a class, Gateway or route is another controller's there is no status of ours: whoever writes takes back what was ours.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gwfast.config.model import Key
from gwfast.graph.conditions import status_of
from gwfast.graph.model import FILTER_KIND, POLICY_KINDS, ROUTE_KINDS, TELEMETRY_KIND, Graph
from gwfast.kubernetes.features import (attached_listener_sets, backend_ancestors, listener_ports, routability,
                                        supported_features, supported_version)
from gwfast.sharing import changes

PARENTS = ("GatewayClass", "Gateway", "ListenerSet")
# That have a status which is ours to write.
KINDS = frozenset((*PARENTS, *ROUTE_KINDS, *POLICY_KINDS, FILTER_KIND, TELEMETRY_KIND, "XBackend"))
ADDRESSES = 16  # of a Gateway's status (gateway_types.go)
MESSAGE = 32768  # characters of a condition's (metav1.Condition)


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """What a Gateway got. addresses: (IPAddress or Hostname, value). Where it is not ready, `reason` (AddressNotAssigned,
    AddressNotUsable, NoResources, Pending) and `message` say why it is not programmed.

    unserved: of single listeners by id, why they are not served though the Gateway is. cluster: those of the addresses that are
    cluster IPs. lacks: which addresses that are asked for it has not got, and why. coming: it gets one in a moment, if all
    goes well."""

    addresses: tuple[tuple[str, str], ...] = ()
    ready: bool = True
    reason: str = "Pending"
    message: str = ""
    unserved: tuple[tuple[str, str], ...] = ()
    cluster: frozenset[str] = frozenset()
    lacks: str = ""
    coming: bool = False


WAITING = Assigned(ready=False, message="waiting for a data plane")


class View(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What statuses follow from. `bundle` ('1.6.1', or several, 'A, B') and `channel` are those of the installed CRDs; a
    Gateway that is not among `assigned` waits. `faults` says why XBackends have no Pods."""

    graph: Graph
    assigned: Mapping[Key, Assigned] = {}
    bundle: str = ""
    channel: str = ""
    faults: Mapping[Key, str] = {}


class Statuses:
    """Says what the status of each object should be, as the controller of this name.

    infrastructure: this controller makes objects for Gateways."""

    def __init__(self, controller_name: str, *, infrastructure: bool = False):
        self.controller_name = controller_name
        self._infrastructure = infrastructure

    def changed(self, before: View | None, now: View) -> dict[Key, None]:
        """Return the keys of the objects whose status may be another one now, classes and Gateways first."""
        if before is None:
            return self.all(now)
        old, new = before.graph, now.graph
        found: dict[Key, None] = {}
        if (before.bundle, before.channel) != (now.bundle, now.channel):
            found |= dict.fromkeys([*new.classes, *new.gateways, *new.listener_sets])
        for nodes in ("classes", "gateways", "listener_sets"):
            found |= dict.fromkeys(changes(getattr(old, nodes), getattr(new, nodes)))
        for pair in changes(old.listeners, new.listeners).values():
            found |= dict.fromkeys(node.owner for node in pair if node is not None)
        found |= dict.fromkeys(_reassigned(before, now))
        found |= dict.fromkeys(key for key in before.faults.keys() | now.faults.keys()
                               if before.faults.get(key) != now.faults.get(key))
        found |= dict.fromkeys(changes(old.routes, new.routes))
        return found | dict.fromkeys(changes(old.policies, new.policies))

    def all(self, view: View) -> dict[Key, None]:
        """Return the keys of everything that has a status here, classes and Gateways first."""
        graph = view.graph
        return dict.fromkeys([*graph.classes, *graph.gateways, *graph.listener_sets, *graph.routes, *graph.policies])

    def status(self, view: View, key: Key) -> dict[str, Any] | None:
        """Return what the status of an object should be; None where nothing here is responsible for it."""
        found = status_of(view.graph, key, self.controller_name)
        if found is None or key.kind == "XBackend" and not backend_ancestors(view.bundle):
            return None
        status = msgspec.json.decode(msgspec.json.encode(found))
        if key.kind == "GatewayClass":
            self._class(view, key, status)
        elif key.kind == "Gateway":
            _gateway(view, key, status)
            if self._infrastructure and routability(view.bundle, view.channel):
                _scope(view, key, status)
        elif key.kind == "ListenerSet":
            node = view.graph.listener_sets[key]
            _programme(view, node.listeners, view.assigned.get(node.gateway, WAITING), status)
            if listener_ports(view.bundle):
                for identity, listener in zip(node.listeners, status.get("listeners", ()), strict=True):
                    listener["port"] = view.graph.listeners[identity].port
        elif key in view.faults:
            _refuse(status, view.faults[key])
        _bound_messages(status)
        return status

    def _class(self, view: View, key: Key, status: dict[str, Any]) -> None:
        generation = view.graph.classes[key].resource.metadata.generation
        wrong = supported_version(view.bundle)
        status["conditions"].append({
            "type": "SupportedVersion", "status": "False" if wrong else "True", "message": wrong,
            "reason": "UnsupportedVersion" if wrong else "SupportedVersion", "observedGeneration": generation})
        if names := supported_features(view.bundle, view.channel, self._infrastructure):
            status["supportedFeatures"] = [{"name": name} for name in names]


def _reassigned(before: View, now: View) -> list[Key]:
    if before.assigned is now.assigned:
        return []
    keys = before.assigned.keys() | now.assigned.keys()
    found = [key for key in sorted(keys) if before.assigned.get(key) != now.assigned.get(key)]
    if not found:
        return []
    gateways = set(found)
    return found + [key for key, node in now.graph.listener_sets.items() if node.gateway in gateways]


def _gateway(view: View, key: Key, status: dict[str, Any]) -> None:
    assigned = view.assigned.get(key, WAITING)
    status["addresses"] = [{"type": type, "value": value} for type, value in assigned.addresses[:ADDRESSES]]
    if not attached_listener_sets(view.bundle):
        del status["attachedListenerSets"]
    node = view.graph.gateways[key]
    own = [identity for identity in node.listeners if view.graph.listeners[identity].owner == key]
    _programme(view, own, assigned, status, node.listeners)


def _scope(view: View, key: Key, status: dict[str, Any]) -> None:
    """Say where addresses are reachable from, and whether a Gateway has those that it asks for (GEP-5093)."""
    assigned = view.assigned.get(key)
    if assigned is None:
        return
    for address in status["addresses"]:
        if address["value"] in assigned.cluster:
            address["routability"] = "Cluster"
    reason = "AddressesAssigned" if not assigned.lacks else "PartiallyAssigned"
    if not assigned.addresses:
        reason = "NotAssigned"
    status["conditions"].append({
        "type": "AddressesAssigned", "status": "True" if reason == "AddressesAssigned" else "False", "reason": reason,
        "message": "" if reason == "AddressesAssigned" else assigned.lacks or assigned.message,
        "observedGeneration": view.graph.gateways[key].resource.metadata.generation})


def _programme(view: View, own: Sequence[str], assigned: Assigned, status: dict[str, Any], every: Sequence[str] = ()) -> None:
    """Take Programmed back from what the graph would serve and nothing does. `own` are the ids of the listeners in the status,
    `every` of those that make its owner programmed, where they are more."""
    unserved = dict(assigned.unserved)
    for identity, listener in zip(own, status["listeners"] if own else (), strict=True):
        if not assigned.ready:
            _take_back(listener, "Pending", f"its Gateway is not programmed: {assigned.message}")
        elif identity in unserved:
            _take_back(listener, "PortUnavailable", unserved[identity])
    if not assigned.ready:
        _take_back(status, assigned.reason, assigned.message)
        return
    programmed = [identity for identity in (every or own) if view.graph.listeners[identity].programmed]
    if unserved and programmed and unserved.keys() >= set(programmed):
        _take_back(status, "AddressNotUsable", unserved[programmed[0]])


def _take_back(owner: dict[str, Any], reason: str, message: str) -> None:
    for condition in owner["conditions"]:
        if condition["type"] == "Programmed" and condition["status"] == "True":
            condition |= {"status": "False", "reason": reason, "message": message}


def _refuse(status: dict[str, Any], message: str) -> None:
    """Say of an XBackend that would be fine why it has no Pods."""
    for condition in (one for ancestor in status["ancestors"] for one in ancestor["conditions"]):
        if (condition["type"], condition["status"]) == ("Accepted", "True"):
            condition |= {"status": "False", "reason": "Pending", "message": message}


def _bound_messages(status: dict[str, Any]) -> None:
    for owner in (status, *status.get("listeners", ()), *status.get("parents", ()), *status.get("ancestors", ())):
        for condition in owner.get("conditions", ()):
            if len(condition["message"]) > MESSAGE:
                condition["message"] = condition["message"][:MESSAGE - 1] + "…"
