"""Services that find the Pods of XBackends: one that asks for Pods by labels (EndpointSelector) has a headless Service of its
own, and the EndpointSlices that Kubernetes makes of that say which Pods are ready. Nothing here needs a right on Pods.

    Selectors.look(graph, owned, foreign) -> Selected      what should be there, and what of ours should not
    Maker                                                  makes it so, for a gateway that runs as one process

Rules:
- An XBackend has a Service where a Gateway of ours has a route to it: what nobody here serves is another implementation's.
- Its name is as generateName makes one, so that no name in DNS comes to be relied on (xbackend_types.go). It is found again by
  the uid of its owner; of several, which two leaders may have made, the oldest stays. A name that somebody else has is theirs.
- It goes with its XBackend, which owns it; before that where the XBackend selects no Pods any more, or no route leads to it. That
  of one that had the name before is not waited for either: it would add its Pods until Kubernetes has collected it.
- Its port is the XBackend's, and decides nothing: data planes take the addresses of endpoints, and the port from the XBackend.
"""
import asyncio
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from gwfast.config.model import Key, XBackend
from gwfast.controller.apply import Applier, Sink, collection
from gwfast.controller.fleet import CONTROLLER, PROGRAM, Place
from gwfast.controller.objects import Object, Owner, key_of
from gwfast.controller.owners import Owners
from gwfast.graph.model import Graph
from gwfast.graph.refs import BACKEND
from gwfast.identity import label_value
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.reflector import Reflector

KIND = "XBackend"
# As k8s.io/apiserver/pkg/storage/names has it: five of these behind what is left of 63 characters.
LETTERS, RANDOM, NAME_MOST = "bcdfghjklmnpqrstvwxz2456789", 5, 63
OTHERS = f"!{BACKEND}"  # a selector of what is not made for an XBackend
OURS = f"{CONTROLLER}={{}},{BACKEND}"


class Selected(msgspec.Struct):
    """made: {Key: Service}. of: {Key of a Service: of its XBackend}. over: Services that are not needed. idle: those that are
    not, as far as it is known which routes there are."""

    made: dict[Key, Object] = {}
    of: dict[Key, Key] = {}
    over: set[Key] = set()
    idle: set[Key] = set()


def owner_of(found: Object) -> tuple[str, str]:
    """Return name and uid of the XBackend that a Service was made for; '' and '' where it was made for none."""
    for one in found["metadata"].get("ownerReferences") or ():
        if one.get("kind") == KIND:
            return one.get("name", ""), one.get("uid", "")
    return "", ""


def service(backend: XBackend, label: str, owner: Owner, name: str) -> Object:
    """Return the Service that finds the Pods of an XBackend."""
    selector = backend.spec.endpoint_selector
    assert selector is not None  # else there is no Service to make
    number, labels = backend.spec.number, {
        "app.kubernetes.io/name": PROGRAM, "app.kubernetes.io/managed-by": PROGRAM, CONTROLLER: label,
        BACKEND: label_value(backend.metadata.name)}
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "generateName": _prefix(backend.metadata.name), "namespace": backend.metadata.namespace,
                     "labels": labels, "ownerReferences": [owner.reference()]},
        "spec": {"type": "ClusterIP", "clusterIP": "None", "ipFamilyPolicy": "PreferDualStack",
                 "selector": dict(selector.match_labels),
                 "ports": [{"port": number, "protocol": "TCP", "targetPort": number}]},
    }


def _prefix(name: str) -> str:
    """Return how names of Services for an XBackend begin: RFC 1035, which a name of a resource need not be."""
    plain = re.sub(r"[^a-z0-9-]", "-", name)
    return ("" if plain[:1].isalpha() else "b-") + plain[:NAME_MOST - RANDOM - 3].rstrip("-") + "-"


class Selectors:
    """Says which Services there should be, for the controller with this label; remembers the names that it has chosen."""

    def __init__(self, label: str, uid_of: Callable[[Key], str]):
        self._label = label
        self._uid_of = uid_of
        self._names: dict[tuple[Key, str], str] = {}

    def look(self, graph: Graph, owned: Mapping[Key, Object], foreign: Collection[Place] = ()) -> Selected:
        """Return what should be there, by what is there."""
        found = Selected()
        nodes: dict[Key, Any] = {key: node for key, node in graph.policies.items() if key.kind == KIND}
        there = _by_owner(owned) if nodes else {}
        chosen: dict[tuple[Key, str], str] = {}
        for key, node in nodes.items():
            uid, every = self._uid_of(key), there.get((key.namespace, key.name), {})
            keys = every.get(uid, [])
            found.over.update(keys[1:], *(former for other, former in every.items() if uid and other != uid))
            if not node.resource.spec.endpoint_selector:
                found.over.update(keys)
            elif not node.ancestors:
                found.idle.update(keys[:1])
            elif uid:
                name = keys[0].name if keys else self._name(key, uid, foreign)
                if not keys:
                    chosen[key, uid] = name
                made = self._made(node, Owner(KIND, key.name, uid), name, owned)
                found.made[key_of(made)] = made
                found.of[key_of(made)] = key
        self._names = chosen
        return found

    def _name(self, key: Key, uid: str, foreign: Collection[Place]) -> str:
        name = self._names.get((key, uid), "")
        while not name or (key.namespace, name) in foreign:
            name = _prefix(key.name) + "".join(secrets.choice(LETTERS) for _ in range(RANDOM))
        return name

    def _made(self, node: Any, owner: Owner, name: str, owned: Mapping[Key, Object]) -> Object:
        made = service(node.resource, self._label, owner, name)
        if (owned.get(key_of(made), {}).get("spec") or {}).get("publishNotReadyAddresses"):
            made["spec"]["publishNotReadyAddresses"] = False  # somebody's: a Pod that is not ready would be sent requests
        return made


def _by_owner(owned: Mapping[Key, Object]) -> dict[tuple[str, str], dict[str, list[Key]]]:
    """Return the Services of XBackends, by namespace and name of these, and then by uid; the oldest first."""
    found: dict[tuple[str, str], dict[str, list[Key]]] = {}
    made = [(each["metadata"], key) for key, each in owned.items() if key.kind == "Service" and owner_of(each)[0]]
    for metadata, key in sorted(made, key=lambda one: (one[0].get("creationTimestamp") or "", one[1])):
        if not metadata.get("deletionTimestamp"):
            name, uid = owner_of(owned[key])
            found.setdefault((key.namespace, name), {}).setdefault(uid, []).append(key)
    return found


def generation_of(graph: Graph | None, backend: Key) -> int | None:
    """Return the generation of an XBackend that a graph was made of; None where it has none."""
    node = graph.policies.get(backend) if graph else None
    return node.resource.metadata.generation if node else None


def faults(graph: Graph, errors: Mapping[Key, str]) -> dict[Key, str]:
    """Return why XBackends have no Pods, of errors by XBackend: those that another Service finds Pods for have some."""
    if not errors:
        return {}
    without = {note.resource.key for note in graph.notes if note.reason == "NoEndpoints"}
    return {key: f"the Service that finds its Pods cannot be made: {words}" for key, words in errors.items() if key in without}


class Maker:
    """Makes them for a gateway that runs as one process, while it leads.

    certain: whether all that leads to XBackends is watched, and served here. changed: called where `faults` may be others."""

    def __init__(self, client: Client, controller_name: str, uid_of: Callable[[Key], str], log, *, namespaces: Iterable[str] = (),
                 may: Callable[[], bool], certain: Callable[[], bool], changed: Callable[[], None] = lambda: None):
        label = label_value(controller_name.replace("/", "_"))
        self._selectors = Selectors(label, uid_of)
        self._certain = certain
        self._changed = changed
        self._owners = Owners(client, controller_name, lambda owner: generation_of(self._graph, owner))
        self._applier = Applier(client, label, log, self._told, self._meet, may, self._owners.held)
        sink = Sink("Service", self._take, self._look)
        self._reflectors = [Reflector(client, collection("Service", place), sink, label_selector=OURS.format(label), log=log)
                            for place in dict.fromkeys(namespaces) or ("",)]
        self._graph: Graph | None = None
        self._foreign: set[Place] = set()
        self._of: dict[Key, Key] = {}
        self._errors: dict[Key, str] = {}
        self._leads = False

    @property
    def faults(self) -> dict[Key, str]:
        """Why XBackends have no Pods."""
        errors = {self._of[key]: words for key, words in self._errors.items() if key in self._of}
        return faults(self._graph, errors) if self._graph else {}

    @property
    def writes(self) -> int:
        return self._applier.writes

    def follow(self, graph: Graph) -> None:
        """Take the graph that is served now."""
        self._graph = graph
        self._look()

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""
        self._leads = leads
        if not leads:
            self._applier.lead(False)
        self._look()

    async def run(self) -> None:
        """Watch and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._reflectors:
                tasks.create_task(each.run())
            tasks.create_task(self._applier.run())

    def _look(self) -> None:
        if self._graph is None or not self._leads or not all(each.synced for each in self._reflectors):
            return
        found = self._selectors.look(self._graph, self._applier.owned, self._foreign)
        self._of = found.of
        self._applier.want(found.made, found.over | (found.idle if self._certain() else set()))
        self._applier.lead(True)

    def _take(self, key: Key, found: Object | None) -> None:
        self._applier.seen(key, found)
        self._look()

    def _told(self, key: Key, words: str) -> None:
        if words != self._errors.get(key, ""):
            self._errors[key] = words
            if not words:
                del self._errors[key]
            self._changed()

    def _meet(self, key: Key) -> None:
        """Somebody else has a Service of this name: it gets another one."""
        self._foreign.add((key.namespace, key.name))
        self._look()
