"""GatewayParameters: what a class, overridden by a Gateway, asks for; and what is wrong with it.

    merged(of_class, own) -> GatewayParametersSpec     every field of a Gateway's over that of its class
    fault(of_class, own)  -> (field, words) | None     a judge for GraphOptions.parameters_fault
    arguments(options)    -> the arguments of `gwfast run`
    may_ask(parameters, address, balanced)  whether a Gateway may ask for an address

Rules (they are in the CRD's words too, deploy/crds/gatewayparameters.yaml):
- Of objects and mappings each field or key that the Gateway gives stands; other lists stand as a whole; env goes by name, patches
  are joined, the class's first. replicas and autoscaling take each other's place.
- What a Gateway's own, which a tenant writes, may give is the class's to say (allowedForGateways); by default what stays within
  the Gateway's namespace. Which addresses it may ask for is too (addresses).
- A Gateway's own may speak of Pods only where it has Pods of its own (dedicated).
- Fields that are Kubernetes' own are not looked at, but for how deep they are nested.
- Filters in Python are the class's to allow: a Gateway's can only forbid them.
"""
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from gwfast import limits
from gwfast.config.model import GatewayParametersSpec
from gwfast.kinds import key_file, switch
from gwfast.options import CLUSTER, READING, REPORTING, SERVING, TRAFFIC, Option, workers

NOTHING = GatewayParametersSpec()
# What a Gateway's own may give where its class does not say. Not in it: patches, image and env, which run what they like;
# hostNetwork; affinity, tolerations, nodeSelector and priorityClassName, which choose nodes and displace others; serviceAccount,
# whose annotations are rights at a cloud. pod and service have no more than spec.infrastructure and a Service may.
ALLOWED = (
    "dedicated", "replicas", "autoscaling", "podDisruptionBudget", "resources", "topologySpreadConstraints", "pod", "service",
    "options", "pythonFilters")
_OF_CLASS_ALONE = ("allowed_for_gateways", "addresses")
OF_GATEWAYS = frozenset(("dedicated", "service", "python_filters"))  # what a Gateway on shared data planes may say
# What the controller decides itself, or what means nothing where it does.
OURS = frozenset((
    "gateway", "gateway-class", "dns-template", "admin", "port-map", "bind", "no-watch", "controller", "token-file", "ca-file",
    "state-dir", "upgrade-timeout", "pid-file", *(option.flag[2:] for option in (*CLUSTER, *REPORTING)),
))
_EXCLUSIVE = ("replicas", "autoscaling")


def options_known() -> dict[str, Option]:
    """Return the options of `gwfast run` that parameters may give, by name."""
    return {option.flag[2:]: option for option in (*READING, *SERVING, *TRAFFIC) if option.flag[2:] not in OURS}


def merged(of_class: GatewayParametersSpec | None, own: GatewayParametersSpec | None) -> GatewayParametersSpec:
    """Put a Gateway's parameters over those of its class."""
    below, above = of_class or NOTHING, own or NOTHING
    values = {name: _over(name, getattr(below, name), getattr(above, name)) for name in below.__struct_fields__}
    for name, other in (_EXCLUSIVE, _EXCLUSIVE[::-1]):
        if getattr(above, name) is not None and getattr(above, other) is None:
            values[other] = None
    if own is not None and not below.python_filters:
        values["python_filters"] = below.python_filters
    values |= {name: getattr(below, name) for name in _OF_CLASS_ALONE}
    return GatewayParametersSpec(**values)


def _over(name: str, below: Any, above: Any) -> Any:
    if above is None or below is None:
        return below if above is None else above
    if name == "env":
        return (*(one for one in below if one.name not in {each.name for each in above}), *above)
    if name == "patches":
        return below + above
    if name == "pod_disruption_budget":
        return above  # its two fields exclude each other
    if isinstance(above, dict):
        return below | above
    if isinstance(above, msgspec.Struct):
        return type(above)(**{each: _over(each, getattr(below, each), getattr(above, each)) for each in above.__struct_fields__})
    return above


def fault(of_class: GatewayParametersSpec | None, own: GatewayParametersSpec | None) -> tuple[str, str] | None:
    """Return the field that is wrong and what is wrong with it: of a class's parameters, or of a Gateway's over them where there
    are some (what is wrong with those of its class is the class's fault).
    """
    judged = own if own is not None else of_class
    if judged is not None and (found := _depth_fault(judged)):
        return found
    if own is not None and (found := _own_fault(of_class or NOTHING, own)):
        return found
    if judged is None:
        return None
    return _addresses_fault(judged.addresses or ()) or _options_fault(judged.options or {}) or _patches_fault(judged)


def _own_fault(of_class: GatewayParametersSpec, own: GatewayParametersSpec) -> tuple[str, str] | None:
    """Say what a Gateway must not give."""
    allowed = ALLOWED if of_class.allowed_for_gateways is None else of_class.allowed_for_gateways
    given = [(name, field) for name, field in zip(own.__struct_fields__, own.__struct_encode_fields__, strict=True)
             if getattr(own, name) is not None]
    for name, field in given:
        if name in _OF_CLASS_ALONE:
            return f"spec.{field}", "is for the parameters of a GatewayClass alone, and these are a Gateway's"
        if field not in allowed:
            return f"spec.{field}", ("is not allowed in the parameters of a Gateway: those of its GatewayClass "
                                     f"(spec.allowedForGateways) allow {', '.join(allowed) or 'nothing'}")
    for name, field in given:
        if name not in OF_GATEWAYS and not merged(of_class, own).dedicated:
            return f"spec.{field}", "is about Pods, and this Gateway has none of its own: dedicated is not true"
    return None


def _addresses_fault(networks: Iterable[str]) -> tuple[str, str] | None:
    for index, text in enumerate(networks):
        try:
            ip_network(text)
        except ValueError as error:
            return f"spec.addresses[{index}]", f"{error}; a network such as 192.0.2.0/24 is needed"
    return None


def may_ask(given: GatewayParametersSpec, address: str, balanced: bool) -> bool:
    """Return whether a Gateway may ask for an address; balanced: of a load balancer, which decides about it itself."""
    if given.addresses is None:
        return balanced
    try:
        asked = ip_address(address)
    except ValueError:
        return False
    return any(asked in ip_network(each) for each in given.addresses)


def _depth_fault(judged: GatewayParametersSpec) -> tuple[str, str] | None:
    """What is nested without an end would make those fail that make objects of it, or write them."""
    for name, field in zip(judged.__struct_fields__, judged.__struct_encode_fields__, strict=True):
        if name == "patches":
            values = [(f"{field}[{index}].value", each.value) for index, each in enumerate(judged.patches or ())]
        else:
            values = [(field, getattr(judged, name))]
        for where, value in values:
            if _is_deep(value):
                return f"spec.{where}", f"is nested more than {limits.FREE_FORM_DEPTH} levels deep"
    return None


def _is_deep(value: Any) -> bool:
    """Whether a value is nested deeper than is taken. Level by level: it must not recurse itself."""
    level = [value]
    for _ in range(limits.FREE_FORM_DEPTH + 1):
        level = [inner for each in level for inner in _inner(each)]
        if not level:
            return False
    return True


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, msgspec.Struct):
        return (getattr(value, name) for name in value.__struct_fields__)
    return value if isinstance(value, (list, tuple)) else ()


def _options_fault(options: Mapping[str, str]) -> tuple[str, str] | None:
    known = options_known()
    for name, value in options.items():
        if name in OURS:
            return f"spec.options.{name}", "is decided by the controller"
        if name not in known:
            return f"spec.options.{name}", f"gwfast run has no option --{name}"
        if words := _wrong(known[name], value):
            return f"spec.options.{name}", f"{value!r}: {words}"
    return None


def _wrong(option: Option, text: str) -> str:
    """Say what is wrong with a value. Files and CPUs are those of data planes: they are not looked at here."""
    if option.kind is key_file:
        return ""
    if option.kind is workers:
        return "" if text == "auto" or text.isdecimal() and text.strip("0") else "auto or a whole number from 1 is needed"
    try:
        option.kind(text)
    except ValueError as error:
        return str(error)
    return ""


def _patches_fault(judged: GatewayParametersSpec) -> tuple[str, str] | None:
    """What a patch must not touch is what the objects are found again by."""
    for index, patch in enumerate(judged.patches or ()):
        for name in ("apiVersion", "kind", "status"):
            if name in patch.value:
                return f"spec.patches[{index}].value.{name}", "cannot be patched"
        metadata = patch.value.get("metadata")
        for name in ("name", "namespace", "ownerReferences"):
            if isinstance(metadata, dict) and name in metadata:
                return f"spec.patches[{index}].value.metadata.{name}", "cannot be patched"
    return None


def arguments(options: Mapping[str, str] | None) -> list[str]:
    """Return options as arguments; a switch is an argument without a value, where it is on."""
    known, found = options_known(), []
    for name, value in sorted((options or {}).items()):
        if known[name].kind is not switch:
            found += [f"--{name}", value]
        elif switch(value):
            found.append(f"--{name}")
    return found
