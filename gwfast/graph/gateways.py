"""Gateways: which are served, at which addresses, with which listeners and ListenerSets.

    survey(resources) -> Survey    classes, Gateways, ListenerSets and listeners without routes, and notes

Rules:
- The listeners of a Gateway come in merge order (listenerset_types.go:90-96): its own, then those of its
  ListenerSets, the oldest set first, then by '{namespace}/{name}'. The same order decides who wins a conflict.
- Gateways are judged oldest first: of two that want one address and port, the older gets it.
"""
from __future__ import annotations

from collections.abc import Callable, Container
from ipaddress import ip_address

import msgspec

from gwfast.config.model import (GATEWAY_GROUP, Gateway, Key, Listener, ListenerNamespaces, ListenerSet, Resource,
                                 RouteNamespaces, Service)
from gwfast.graph import parameters
from gwfast.graph.certificates import Credentials, Found
from gwfast.graph.listeners import Draft, Fault, claim, condition, examine, overlap, settle
from gwfast.graph.model import (
    Certificate,
    Condition,
    FrontNode,
    GatewayClassNode,
    GatewayNode,
    GraphOptions,
    ListenerNode,
    ListenerSetNode,
    Note,
    age,
)
from gwfast.graph.refs import Resources, led_gateways

PROXY_PROTOCOL = "gwfast.dev/proxy-protocol"
NAMED = 5  # Gateways that a message names


class Survey(msgspec.Struct):
    """Everything that routes can attach to, without the routes."""

    classes: dict[Key, GatewayClassNode]
    gateways: dict[Key, GatewayNode] = {}
    listener_sets: dict[Key, ListenerSetNode] = {}
    listeners: dict[str, ListenerNode] = {}
    notes: list[Note] = []


class _Set:
    """A ListenerSet while it is being judged. fault: why its Gateway does not take it."""

    def __init__(self, resource: ListenerSet, gateway: Gateway, fault: Fault | None):
        self.resource = resource
        self.fault = fault
        listeners = () if fault else resource.spec.listeners
        self.drafts = [Draft(gateway, resource, index, listener) for index, listener in enumerate(listeners)]


class _Gateway:
    """A Gateway while it is being judged."""

    def __init__(self, resource: Gateway, listener_sets: list[ListenerSet], resources: Resources):
        self.resource = resource
        self.refused: Fault | None = None  # Accepted=False
        self.unusable: Fault | None = None  # Programmed=False
        self.kept = self.serves_on = False
        self.addresses: tuple[str, ...] = ("",)
        self.client_certificate: Found[Certificate] | None = None
        self.drafts = [Draft(resource, resource, i, listener) for i, listener in enumerate(resource.spec.listeners)]
        self.sets = [_Set(one, resource, _set_fault(resource, one, resources)) for one in listener_sets]

    @property
    def wrong_parameters(self) -> bool:
        return self.refused is not None and self.refused.reason == "InvalidParameters"

    @property
    def merged(self) -> list[Draft]:
        return self.drafts + [draft for one in self.sets for draft in one.drafts]


JudgeFront = Callable[[Gateway, Gateway | ListenerSet, Listener, str], tuple[FrontNode | None, Fault | None, Fault | None]]


def survey(resources: Resources, options: GraphOptions, credentials: Credentials, judge_front: JudgeFront,
           served: Container[Key] = ()) -> Survey:
    """Judge everything that routes attach to; `judge_front` judges the filters of a listener (fronts.Fronts.judge). served: the
    Gateways that were served until now: where one process serves all of them, wrong parameters do not end that."""
    result = Survey(classes={})
    _judge_classes(resources, options, result)
    ours = [gateway for gateway in resources.of("Gateway").values() if _serves(gateway, resources, options)]
    sets = _sets_by_gateway(resources, result.notes)
    owners: dict[tuple, Key] = {}
    for resource in sorted(ours, key=lambda gateway: age(gateway.metadata)):
        judged = _Gateway(resource, sets.get(resource.key, []), resources)
        if options.data_plane:
            _find_places(judged, resources.fronts(resource.key))
        else:
            _judge_addresses(judged, options)
            wrong = parameters.gateway_fault(resource, resources, options, result.notes)
            judged.refused = judged.refused or wrong
        judged.kept = judged.wrong_parameters and (options.own_addresses or resource.key in served)
        judged.serves_on = judged.kept and not options.own_addresses
        _judge(judged, credentials, judge_front, result.notes)
        if not options.own_addresses:
            claim(judged.merged, owners)
        _record(judged, resources, result)
    return result


def _serves(gateway: Gateway, resources: Resources, options: GraphOptions) -> bool:
    if options.gateway not in ("", gateway.metadata.name, f"{gateway.metadata.namespace}/{gateway.metadata.name}"):
        return False
    class_name = gateway.spec.gateway_class_name
    if options.gateway_class not in ("", class_name):
        return False
    if not options.controller_name:
        return True
    gateway_class = resources.get("GatewayClass", "", class_name)
    return gateway_class is not None and gateway_class.spec.controller_name == options.controller_name


def why_idle(found: Survey, resources: Resources, options: GraphOptions) -> str:
    """Return why no listener is served; '' if one is."""
    if any(node.served for node in found.listeners.values()):
        return ""
    there = sorted(resources.of("Gateway"))
    if not there:
        return "there is no Gateway"
    if not found.gateways:
        wanted = [f"is called {options.gateway}"] if options.gateway else []
        wanted += [f"is of class {options.gateway_class}"] if options.gateway_class else []
        names = [f"{key.namespace}/{key.name} of class {resources.get(*key).spec.gateway_class_name}" for key in there[:NAMED]]
        more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
        return f"no Gateway {' and '.join(wanted) or 'is of a class that is served here'}, there is {', '.join(names)}{more}"
    key, gateway = min(found.gateways.items())
    nodes: list[ListenerNode | GatewayNode] = [*(found.listeners[identity] for identity in gateway.listeners), gateway]
    faults = [one.message for node in nodes for one in node.conditions if one.type == "Programmed" and one.message]
    return f"no listener of {key} can be served" + (f": {faults[0]}" if faults else "")


def _judge_classes(resources: Resources, options: GraphOptions, result: Survey) -> None:
    """Parameters are an error in a class of ours; a class of another controller is served without them."""
    for key, resource in resources.of("GatewayClass").items():
        name = resource.spec.controller_name
        if options.gateway_class not in ("", key.name) or options.controller_name not in ("", name):
            continue
        fault = parameters.class_fault(resource, resources, options)
        if fault is not None and not options.controller_name:
            result.notes.append(Note(resource=resource, field=fault.field, reason=fault.reason, message=fault.message))
            fault = None
        accepted = condition("Accepted", fault, resource.metadata.generation)
        given = parameters.of_class(resource, resources)
        result.classes[key] = GatewayClassNode(key=key, resource=resource, parameters=given, conditions=(accepted,))


# ---- ListenerSets


def _sets_by_gateway(resources: Resources, notes: list[Note]) -> dict[Key, list[ListenerSet]]:
    """Return the ListenerSets of each Gateway in merge order."""
    found: dict[Key, list[ListenerSet]] = {}
    for resource in sorted(resources.of("ListenerSet").values(), key=lambda one: age(one.metadata)):
        ref = resource.spec.parent_ref
        parent = Key(ref.kind, ref.namespace or resource.metadata.namespace, ref.name)
        if ref.group == GATEWAY_GROUP and parent in resources.of("Gateway"):
            found.setdefault(parent, []).append(resource)
            continue
        notes.append(Note(
            resource=resource, field="spec.parentRef", reason="NoMatchingParent", severity="error",
            message=f"there is no {parent}" if parent.kind == "Gateway" else f"a {parent.kind} takes no ListenerSets",
        ))
    return found


def _set_fault(gateway: Gateway, resource: ListenerSet, resources: Resources) -> Fault | None:
    allowed = gateway.spec.allowed_listeners
    if allowed and resources.allows(allowed.namespaces, gateway.metadata.namespace, resource.metadata.namespace):
        return None
    message = f"spec.allowedListeners of {gateway.key} does not allow ListenerSets of {resource.metadata.namespace}"
    return Fault("NotAllowed", message, "spec.parentRef")


# ---- One Gateway


def _judge(judged: _Gateway, credentials: Credentials, judge_front: JudgeFront, notes: list[Note]) -> None:
    backend = judged.resource.spec.tls.backend if judged.resource.spec.tls else None
    if backend and backend.client_certificate_ref:
        judged.client_certificate = credentials.certificate(
            backend.client_certificate_ref, judged.resource, "InvalidClientCertificateRef"
        )
    _require_proxy_protocol(judged, notes)
    _note_selectors(judged, notes)
    fault = judged.refused or (judged.unusable if not judged.addresses else None)
    fault = None if judged.serves_on else fault
    for draft in judged.merged:
        draft.addresses = judged.addresses
        draft.client_certificate = judged.client_certificate.value if judged.client_certificate else None
        examine(draft, credentials)
        draft.front, invalid, unresolved = judge_front(judged.resource, draft.owner, draft.listener, draft.field)
        draft.refused, draft.unresolved = draft.refused or invalid, draft.unresolved or unresolved
        if fault is not None:
            draft.unusable = Fault("Invalid", f"its Gateway cannot be used: {fault.message}", fault.field)
    settle([judged.drafts, *(one.drafts for one in judged.sets)])
    overlap(judged.merged)


def _judge_addresses(judged: _Gateway, options: GraphOptions) -> None:
    """Addresses are bound as they are written; one without a value stands for every address. Where Gateways have addresses of
    their own, who gives them says entry by entry which scope can be had (GEP-5093); elsewhere there is none."""
    wanted = judged.resource.spec.addresses
    usable = []
    for index, address in enumerate(wanted):
        field = f"spec.addresses[{index}]"
        if address.type != "IPAddress":
            fault = Fault("UnsupportedAddress", f"addresses of type {address.type} are not supported", f"{field}.type")
            judged.refused = judged.refused or fault
            continue
        if address.routability and not options.own_addresses:  # it is a requirement: no other scope may stand in for it
            message = f"addresses of routability {address.routability} are not supported"
            judged.refused = judged.refused or Fault("UnsupportedAddress", message, f"{field}.routability")
            continue
        value = _ip(address.value) if address.value else ""
        if value is None or value in options.unusable_addresses:
            fault = Fault("AddressNotUsable", f"{address.value} cannot be bound", f"{field}.value")
            judged.unusable = judged.unusable or fault
        else:
            usable.append(value)
    judged.addresses = tuple(dict.fromkeys(usable)) if wanted else ("",)


def _find_places(judged: _Gateway, services: list[Service]) -> None:
    """Say of each listener where it listens: many Gateways have port 80, the target ports of their Services are theirs alone."""
    places: dict[tuple[int, str], int] = {}
    for port in (port for service in services for port in service.spec.ports):
        target = port.port if port.target_port is None else port.target_port
        if isinstance(target, int):
            places.setdefault((port.port, port.protocol), target)
    for draft in judged.merged:
        draft.target_port = places.get(draft.port)


def _ip(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _note_selectors(judged: _Gateway, notes: list[Note]) -> None:
    """A selector that is not there, or that Kubernetes would not take, selects nothing. The listener stays, so that what is
    asked of it does not reach another one."""
    allowed = judged.resource.spec.allowed_listeners
    asked: list[tuple[Gateway | ListenerSet, str, RouteNamespaces | ListenerNamespaces]]
    asked = [(judged.resource, "spec.allowedListeners.namespaces", allowed.namespaces)] if allowed else []
    asked += [(draft.owner, f"{draft.field}.allowedRoutes.namespaces", draft.listener.allowed_routes.namespaces)
              for draft in judged.merged]
    for owner, field, namespaces in asked:
        if namespaces.from_ != "Selector":
            continue
        if namespaces.selector is None:
            wrong = {"selector": "must be specified when from is Selector"}
        else:
            found = [(index, each.fault()) for index, each in enumerate(namespaces.selector.match_expressions)]
            wrong = {f"selector.matchExpressions[{index}].{fault[0]}": fault[1] for index, fault in found if fault}
        notes += [Note(resource=owner, field=f"{field}.{what}", reason="Invalid", message=f"{message}: nothing is selected",
                       severity="error") for what, message in wrong.items()]


def _require_proxy_protocol(judged: _Gateway, notes: list[Note]) -> None:
    """Read the annotation of the Gateway and of each ListenerSet; listeners of one port must agree."""
    for owner, drafts in [(judged.resource, judged.drafts), *((one.resource, one.drafts) for one in judged.sets)]:
        names = owner.metadata.annotations.get(PROXY_PROTOCOL)
        if names is None:
            continue
        wanted = {name.strip() for name in names.split(",")} - {""}
        for draft in drafts:
            draft.proxy_protocol = draft.protocol != "UDP" and ("*" in wanted or draft.listener.name in wanted)
        for name in sorted(wanted - {"*"} - {draft.listener.name for draft in drafts}):
            message = f"there is no listener called {name}"
            field = f"metadata.annotations[{PROXY_PROTOCOL}]"
            notes.append(Note(resource=owner, field=field, reason="NoMatchingListener", message=message))
    first: dict[tuple, Draft] = {}
    for draft in judged.merged:
        other = first.setdefault(draft.port, draft)
        if other.proxy_protocol != draft.proxy_protocol:
            port, rival = draft.listener.port, f"{other.listener.name} of {other.owner.key}"
            message = f"listeners of port {port} disagree: see {rival}"
            draft.unusable = Fault("ProxyProtocolConflict", message, f"metadata.annotations[{PROXY_PROTOCOL}]")


# ---- What is made of it


def _record(judged: _Gateway, resources: Resources, result: Survey) -> None:
    own = _record_listeners(judged.drafts, resources, result)
    all_ids, accepted_sets = list(own), []
    for one in judged.sets:
        nodes = _record_listeners(one.drafts, resources, result)
        node = _set_node(one, judged, nodes)
        result.listener_sets[node.key] = node
        all_ids += nodes
        if node.accepted:
            accepted_sets.append(node.key)
    valid = [node for node in own.values() if _valid(node)]
    usable = any(result.listeners[identity].programmed for identity in all_ids)
    result.gateways[judged.resource.key] = GatewayNode(
        key=judged.resource.key, resource=judged.resource, addresses=judged.addresses, listeners=tuple(all_ids),
        accepted=judged.refused is None and bool(valid), kept=judged.kept and bool(valid), listener_sets=tuple(accepted_sets),
        parameters=parameters.of_gateway(judged.resource, resources),
        conditions=_gateway_conditions(judged, own, usable),
    )


def _record_listeners(drafts: list[Draft], resources: Resources, result: Survey) -> dict[str, ListenerNode]:
    nodes = {}
    for draft in drafts:
        node = draft.node(_identity(draft, resources))
        nodes[node.id] = result.listeners[node.id] = node
    return nodes


def _identity(draft: Draft, resources: Resources) -> str:
    """A ListenerSet may have its Gateway's name: then its listeners say what they belong to."""
    metadata = draft.owner.metadata
    name = f"{metadata.namespace}/{metadata.name}/{draft.listener.name}"
    is_set = draft.owner.kind == "ListenerSet"
    return f"{name}@ListenerSet" if is_set and resources.get("Gateway", metadata.namespace, metadata.name) else name


def _valid(node: ListenerNode) -> bool:
    """A listener that is left with nothing because of a reference is as invalid as one that is not accepted."""
    resolved = all(one.status == "True" for one in node.conditions if one.type == "ResolvedRefs")
    return node.accepted and (resolved or node.programmed)


def _listeners_fault(nodes: dict[str, ListenerNode]) -> Fault | None:
    wrong = [(index, node.name) for index, node in enumerate(nodes.values()) if not _valid(node)]
    if not wrong:
        return None
    names = ", ".join(name for _, name in wrong)
    return Fault("ListenersNotValid", f"not valid: {names}", f"spec.listeners[{wrong[0][0]}]")


def _accepted(fault: Fault | None, some_valid: bool, generation: int) -> Condition:
    """ListenersNotValid is said with Accepted=True as long as one listener is valid."""
    if fault is not None and fault.reason == "ListenersNotValid" and some_valid:
        return condition("Accepted", fault, generation, when_wrong="True")
    return condition("Accepted", fault, generation)


def _set_node(one: _Set, judged: _Gateway, nodes: dict[str, ListenerNode]) -> ListenerSetNode:
    metadata = one.resource.metadata
    fault = one.fault
    if fault is None and judged.refused is not None:
        fault = Fault("ParentNotAccepted", f"its Gateway is not accepted: {judged.refused.message}", "spec.parentRef")
    fault = fault or _listeners_fault(nodes)
    valid = any(map(_valid, nodes.values()))
    accepted = _accepted(fault, valid, metadata.generation)
    programmed = _programmed(fault, list(nodes.values()), valid)
    return ListenerSetNode(
        key=one.resource.key, resource=one.resource, gateway=judged.resource.key, listeners=tuple(nodes),
        accepted=accepted.status == "True",
        conditions=(accepted, condition("Programmed", programmed, metadata.generation)),
    )


def _programmed(fault: Fault | None, nodes: list[ListenerNode], some_valid: bool) -> Fault | None:
    """Return why the owner of these listeners is not programmed: its own fault, or that no listener is programmed."""
    if fault is not None and not (fault.reason == "ListenersNotValid" and some_valid):
        return fault
    if any(node.programmed for node in nodes):
        return None
    reasons = [one for node in nodes if node.accepted for one in node.conditions if one.type == "Programmed"]
    if not reasons:
        return Fault("Invalid", "no listener is valid", "spec.listeners")
    return Fault(reasons[0].reason, reasons[0].message, reasons[0].field)


def _gateway_conditions(judged: _Gateway, own: dict[str, ListenerNode], usable: bool) -> tuple[Condition, ...]:
    generation = judged.resource.metadata.generation
    fault = judged.refused or _listeners_fault(own)
    valid = any(map(_valid, own.values()))
    accepted = _accepted(fault, valid, generation)
    unusable: Fault | None
    if fault is not None and (judged.refused or accepted.status == "False"):
        unusable = Fault("Invalid", fault.message, fault.field)
    else:
        unusable = judged.unusable or (None if usable else _programmed(None, list(own.values()), valid))
    conditions = [accepted, condition("Programmed", unusable, generation),
                  condition("ResolvedRefs", _unresolved(judged, own), generation)]
    if _insecure(judged.resource):
        message = "clients with an invalid certificate, or none, are let in"
        fault = Fault("ConfigurationChanged", message, "spec.tls.frontend")
        conditions.append(condition("InsecureFrontendValidationMode", fault, generation, when_wrong="True"))
    return tuple(conditions)


def _unresolved(judged: _Gateway, own: dict[str, ListenerNode]) -> Fault | None:
    """Return which reference leads nowhere: the Gateway's own, else those of its listeners together. Those of ListenerSets are
    told in these (a ListenerSet has no such condition)."""
    if (found := judged.client_certificate) is not None and found.wrong:
        return Fault(*found.wrong, "spec.tls.backend.clientCertificateRef")
    wrong = [(index, node.name) for index, node in enumerate(own.values())
             if any(one.type == "ResolvedRefs" and one.status == "False" for one in node.conditions)]
    if not wrong:
        return None
    names = ", ".join(name for _, name in wrong)
    return Fault("ListenersNotResolved", f"references are not resolved: {names}", f"spec.listeners[{wrong[0][0]}]")


def _insecure(gateway: Gateway) -> bool:
    frontend = gateway.spec.tls.frontend if gateway.spec.tls else None
    configs = [frontend.default, *(one.tls for one in frontend.per_port)] if frontend else []
    return any(config.validation and config.validation.mode == "AllowInsecureFallback" for config in configs)


def is_infrastructure(resource: Resource) -> bool:
    """Return whether a survey can depend on a resource."""
    return resource.kind in (
        "GatewayClass", "Gateway", "ListenerSet", "Namespace", "Secret", "ConfigMap", "ClusterTrustBundle", "ReferenceGrant",
        "GatewayParameters", "CertificateFile",
    ) or isinstance(resource, Service) and bool(led_gateways(resource))
