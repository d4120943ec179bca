"""Fleets: the data planes of one class (shared), or of one Gateway (dedicated), and what each Gateway needs of its own.

    plan(graph, site, records, known) -> Plan
      fleets    (namespace, name) -> Fleet      name is that of its Deployment and ServiceAccount
      needs     Gateway's key -> Need           its Service, and the ports that lead to its fleet

Rules:
- Names are GEP-1762's: NAME-CLASS for what is made for a Gateway, gwfast-CLASS for what is made for a class; RFC 1035 labels of
  63 characters at most, with a hash where that changes them. A name that somebody else has gets a hash as well.
- What a Gateway's objects are called is read from those that are there (records): a name never changes while its object lives.
- A Gateway that moves between the data planes of its class and its own is served by both until the others serve it (`_places`).
- What asks for something that is wrong keeps what it has: its parameters are then the last ones that were right (known), or
  None, which says that nothing is to be touched.
"""
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import msgspec

from gwfast.config.model import GatewayParametersSpec, Key
from gwfast.parameters import merged
from gwfast.controller.ports import Wanted
from gwfast.graph.model import GatewayClassNode, GatewayNode, Graph
from gwfast.identity import LABEL_LENGTH, hashed, label_value

PROGRAM = "gwfast"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"  # GEP-1762
GATEWAY_CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name"
CONTROLLER = "gwfast.dev/controller"  # what is labelled so is ours, and of this controllerName
FLEET = "gwfast.dev/fleet"

Place = tuple[str, str]  # namespace, name
Spoilt = MutableMapping[Place | Key, Exception]  # what cannot be planned or made, and why


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where a controller is, and what the data planes that it makes are told."""

    controller_name: str
    namespace: str
    image: str
    url: str  # of the stream, as data planes reach it
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return label_value(self.controller_name.replace("/", "_"))


class Records(msgspec.Struct):
    """What is in the cluster: the name of each Gateway's Service, which have data planes of their own (on the network of nodes),
    and names of others.

    Of Services: mirrored, those that lead to shared data planes, or did a moment ago; shared and own, those that lead to some
    that are ready, of which sort. acknowledged: the data planes of a fleet say that they serve a Gateway."""

    names: dict[tuple[Key, str], str] = {}  # by Gateway and the label of its class
    dedicated: set[Key] = set()
    host_network: set[Key] = set()
    foreign: set[Place] = set()
    mirrored: set[Place] = set()
    shared: set[Place] = set()
    own: set[Place] = set()
    acknowledged: Callable[[Place, Key], bool] = lambda place, gateway: True


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The data planes of a class, or of a Gateway. parameters: None where what is there stays as it is."""

    namespace: str
    name: str
    class_name: str
    gateway: Key | None = None  # whose alone it is
    gateways: tuple[Key, ...] = ()
    parameters: GatewayParametersSpec | None = None

    @property
    def place(self) -> Place:
        return self.namespace, self.name


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a Gateway needs. ports: the name of each in its Service. parameters: None as in Fleet.

    fleet: what its Service leads to; also: who serves it as well, while it moves; mirrored: the fleet whose endpoints its Service
    is given (a Service selects only what is in its own namespace)."""

    node: GatewayNode
    fleet: Place
    also: Place | None = None
    mirrored: Place | None = None
    service: str
    ports: dict[Wanted, str]
    parameters: GatewayParametersSpec | None = None


class Plan(msgspec.Struct, frozen=True):
    fleets: dict[Place, Fleet]
    needs: dict[Key, Need]


class Known(msgspec.Struct):
    """The parameters that were right the last time, and what Gateways needed then."""

    classes: dict[str, GatewayParametersSpec] = {}
    gateways: dict[Key, GatewayParametersSpec] = {}
    needs: dict[Key, Need] = {}


# ---- Names


def service_name(text: str) -> str:
    """Return a name as an RFC 1035 label: itself where it is one, else what is left of it and a hash."""
    label = re.sub(r"[^a-z0-9-]", "-", text)
    if not label[:1].isalpha():
        label = f"g-{label}"
    return text if label == text and len(text) <= LABEL_LENGTH else hashed(label, text)


def fleet_name(class_name: str) -> str:
    return service_name(f"{PROGRAM}-{class_name}")


def _name(gateway: Key, class_name: str, records: Records, taken: set[Place]) -> str:
    """Return the name of a Gateway's objects; it is taken then."""
    plain = f"{gateway.name}-{class_name}"
    recorded = records.names.get((gateway, label_value(class_name)))
    name = recorded or service_name(plain)
    if not recorded and ((gateway.namespace, name) in taken or (gateway.namespace, name) in records.foreign):
        name = hashed(service_name(plain), f"{gateway.name} {class_name}")
    taken.add((gateway.namespace, name))
    return name


# ---- The plan


def plan(graph: Graph, site: Site, records: Records, known: Known, spoilt: Spoilt | None = None) -> Plan:
    """Return the fleets and what their Gateways need. `known` is brought up to date.

    A Gateway that cannot be planned is in `spoilt`, and needs what it needed the last time: the others follow what they say now.
    A class keeps its last parameters.
    """
    spoilt = {} if spoilt is None else spoilt
    classes = {key.name: known.classes.get(key.name) for key in graph.classes}
    for key, node in graph.classes.items():
        with apart(key, spoilt):
            classes[key.name] = _class_parameters(node, known)
    shared = {name: (site.namespace, fleet_name(name)) for name in classes}
    taken = {*shared.values(), *((gateway.namespace, name) for (gateway, _), name in records.names.items())}
    fleets: dict[Place, Fleet] = {}
    needs: dict[Key, Need] = {}
    members: dict[str, list[Key]] = {name: [] for name in classes}
    for key, gateway in sorted(graph.gateways.items()):
        class_name = gateway.resource.spec.gateway_class_name
        there = (key, label_value(class_name)) in records.names
        if class_name not in classes or not (gateway.accepted or there):
            continue
        with apart(key, spoilt):
            known.needs[key] = _need(gateway, graph, classes[class_name], shared[class_name], records, known, taken)
        need = known.needs.get(key)
        if need is None or need.node.resource.spec.gateway_class_name != class_name:
            continue
        needs[key] = need
        if shared[class_name] in (need.fleet, need.also):
            members[class_name].append(key)
        if need.fleet != shared[class_name]:
            stays = need.parameters is not None and need.parameters.dedicated
            fleets[need.fleet] = _fleet(need.fleet, class_name, (key,), need.parameters if stays else None, key)
    for name, parameters in classes.items():
        if members[name] or parameters is None or not parameters.dedicated:
            fleets[shared[name]] = _fleet(shared[name], name, tuple(members[name]), parameters)
    _forget(known, classes, graph.gateways)
    return Plan(fleets, needs)


def _need(node: GatewayNode, graph: Graph, of_class: GatewayParametersSpec | None, shared: Place, records: Records, known: Known,
          taken: set[Place]) -> Need:
    key, class_name = node.key, node.resource.spec.gateway_class_name
    parameters = _gateway_parameters(node, of_class, known)
    name = _name(key, class_name, records, taken)
    dedicated = parameters.dedicated if parameters is not None else key in records.dedicated
    own = key.namespace, name
    if dedicated and parameters is not None and parameters.host_network:
        fleet, also, mirrored = own, None, None
    else:
        fleet, also, mirrored = _places(key, bool(dedicated), own, shared, records)
    return Need(node=node, fleet=fleet, also=also, mirrored=mirrored, service=name, ports=_ports(node, graph),
                parameters=parameters)


def _places(key: Key, dedicated: bool, own: Place, shared: Place, records: Records) -> tuple[Place, Place | None, Place | None]:
    """Return what a Service leads to, who serves its Gateway as well, and whose endpoints are mirrored.

    To data planes of its own: the Service selects them, and keeps the endpoints of the shared ones until its own are ready.
    Back: once the shared ones have acknowledged the Gateway their endpoints are there as well; then its own may go, and drain.
    Endpoints that are there stay, whatever is heard of their data planes: there may be no others any more.
    What has been done of it is read from what is there. On the network of nodes data planes listen on other ports, so who
    moves there or from there is not served by both.
    """
    if dedicated:
        moves = own in records.mirrored
        return own, shared if moves else None, shared if moves and own not in records.own else None
    if key not in records.dedicated or key in records.host_network:
        return shared, None, shared
    acknowledged, there = records.acknowledged(shared, key), own in records.shared
    if there and (acknowledged or own not in records.own):
        return shared, None, shared
    return own, shared, shared if acknowledged or there else None


@contextmanager
def apart(what: Place | Key, spoilt: Spoilt) -> Iterator[None]:
    """Note what goes wrong with one: what a tenant wrote must not stop what is made for others."""
    try:
        yield
    except Exception as error:
        spoilt[what] = error


def _fleet(place: Place, class_name: str, gateways: tuple[Key, ...], parameters: GatewayParametersSpec | None,
           alone: Key | None = None) -> Fleet:
    namespace, name = place
    return Fleet(namespace=namespace, name=name, class_name=class_name, gateway=alone, gateways=gateways, parameters=parameters)


def _class_parameters(node: GatewayClassNode, known: Known) -> GatewayParametersSpec | None:
    name = node.key.name
    if any(one.type == "Accepted" and one.status != "True" for one in node.conditions):
        return known.classes.get(name)
    known.classes[name] = merged(node.parameters.spec if node.parameters else None, None)
    return known.classes[name]


def _gateway_parameters(
    node: GatewayNode, of_class: GatewayParametersSpec | None, known: Known
) -> GatewayParametersSpec | None:
    wrong = any(one.type == "Accepted" and one.reason == "InvalidParameters" for one in node.conditions)
    if of_class is None or wrong:
        return known.gateways.get(node.key)
    known.gateways[node.key] = merged(of_class, node.parameters.spec if node.parameters else None)
    return known.gateways[node.key]


def _forget(known: Known, classes: Iterable[str], gateways: Mapping[Key, GatewayNode]) -> None:
    for name in known.classes.keys() - set(classes):
        del known.classes[name]
    for kept in (known.gateways, known.needs):
        for key in kept.keys() - gateways.keys():
            del kept[key]


def _ports(node: GatewayNode, graph: Graph) -> dict[Wanted, str]:
    """Return the ports of a Gateway's listeners that may take part, with their names: protocol-port."""
    found: dict[Wanted, str] = {}
    for identity in node.listeners:
        listener = graph.listeners[identity]
        if listener.accepted:
            port = listener.port, "UDP" if listener.protocol == "UDP" else "TCP"
            name = f"{listener.protocol.lower()}-{listener.port}"
            found[port] = min(found.get(port, name), name)
    return found
