"""Parameters of classes and Gateways: the GatewayParameters that a parametersRef names, and what is wrong (InvalidParameters).

    of_class(gateway_class, resources), of_gateway(gateway, resources) -> GatewayParameters | None

Rules:
- A parametersRef of an unknown kind is always an error.
- GatewayParameters say how a controller makes data planes. A process that makes none (with files, or as a data plane: it has no
  controller_name) needs none of them: there, missing or wrong parameters are a note. GraphOptions.parameters_fault judges them.
"""
from __future__ import annotations

from gwfast.config.model import OWN_GROUP, Gateway, GatewayClass, GatewayParameters, LocalObjectReference, ParametersReference
from gwfast.graph.listeners import Fault
from gwfast.graph.model import GraphOptions, Note
from gwfast.graph.refs import Resources

KIND = "GatewayParameters"
_CLASS_FIELD, _GATEWAY_FIELD = "spec.parametersRef", "spec.infrastructure.parametersRef"


def of_class(gateway_class: GatewayClass | None, resources: Resources) -> GatewayParameters | None:
    """Return the parameters of a class, None where it names none, or some that are not there."""
    ref = gateway_class.spec.parameters_ref if gateway_class else None
    return resources.get(KIND, ref.namespace or "", ref.name) if ref and _known(ref) else None


def of_gateway(gateway: Gateway, resources: Resources) -> GatewayParameters | None:
    """Return a Gateway's own parameters; None as of a class."""
    ref = _gateway_ref(gateway)
    return resources.get(KIND, gateway.metadata.namespace, ref.name) if ref and _known(ref) else None


def class_fault(gateway_class: GatewayClass, resources: Resources, options: GraphOptions) -> Fault | None:
    """Return why a class cannot have the parameters that it asks for."""
    ref = gateway_class.spec.parameters_ref
    if ref is None:
        return None
    if not _known(ref):
        return _unknown(ref, _CLASS_FIELD)
    if not ref.namespace:
        message = f"a {KIND} is in a namespace, which the reference has to name"
        return Fault("InvalidParameters", message, f"{_CLASS_FIELD}.namespace")
    if (found := of_class(gateway_class, resources)) is None:
        return _missing(ref.namespace, ref.name, _CLASS_FIELD)
    return _wrong(found, options, found, None, _CLASS_FIELD)


def gateway_fault(gateway: Gateway, resources: Resources, options: GraphOptions, notes: list[Note]) -> Fault | None:
    """Return why a Gateway cannot have the parameters that it asks for. What does not matter here is added to the notes."""
    ref = _gateway_ref(gateway)
    if ref is None:
        return None
    if not _known(ref):
        return _unknown(ref, _GATEWAY_FIELD)
    own = of_gateway(gateway, resources)
    fault: Fault | None
    if own is None:
        fault = _missing(gateway.metadata.namespace, ref.name, _GATEWAY_FIELD)
    else:
        of_its_class = of_class(resources.get("GatewayClass", "", gateway.spec.gateway_class_name), resources)
        fault = _wrong(own, options, of_its_class, own, _GATEWAY_FIELD)
    if fault is not None and not options.controller_name:
        notes.append(Note(resource=gateway, field=fault.field, reason=fault.reason, message=fault.message))
        return None
    return fault


def _gateway_ref(gateway: Gateway) -> LocalObjectReference | None:
    return gateway.spec.infrastructure.parameters_ref if gateway.spec.infrastructure else None


def _known(ref: ParametersReference | LocalObjectReference) -> bool:
    return (ref.group, ref.kind) == (OWN_GROUP, KIND)


def _unknown(ref: ParametersReference | LocalObjectReference, field: str) -> Fault:
    message = f"parameters of kind {ref.group}/{ref.kind} are not known here; {OWN_GROUP}/{KIND} would be"
    return Fault("InvalidParameters", message, field)


def _missing(namespace: str, name: str, field: str) -> Fault:
    return Fault("InvalidParameters", f"there is no {KIND} {namespace}/{name}", f"{field}.name")


def _wrong(named: GatewayParameters, options: GraphOptions, of_its_class: GatewayParameters | None, own: GatewayParameters | None,
           field: str) -> Fault | None:
    judge = options.parameters_fault
    found = judge(of_its_class.spec if of_its_class else None, own.spec if own else None) if judge else None
    if found is None:
        return None
    return Fault("InvalidParameters", f"{named.key} {found[0]}: {found[1]}", field)
