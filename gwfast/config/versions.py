"""Converts every version and old shape of the API into v1.

Rules:
- Versions that have the shape of v1 (v1beta1, routes of v1alpha2) are decoded as they are. A converter exists only where the
  shape was another one. It accepts the shape of v1 as well, since documentation of the time mixed them.
- A converter changes a JSON object in place, and warns of fields that have no form in v1.
- gateway.networking.k8s.io/v1alpha1 was never served: it is read as v1alpha2, sometimes with older fields.
- In networking.x-k8s.io Gateways selected routes. A selector is kept as a Selection until all resources are known; then
  `attached` gives each selected route its parentRefs.
"""
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gwfast.config import model as m
from gwfast.config.findings import Finding
from gwfast.config.model import NEWEST

Value = dict[str, Any]
OLD_GROUP = "networking.x-k8s.io"


class RouteSelection(msgspec.Struct, frozen=True, gc=False):
    """The routes that one listener of an old Gateway selects: those of a kind, by their labels and namespaces."""

    section_name: str
    kind: str
    labels: m.LabelSelector
    namespaces: m.RouteNamespaces


class GatewaySelection(msgspec.Struct, frozen=True, gc=False):
    """Which Gateways an old route lets select it: 'All', 'FromList' or 'SameNamespace'."""

    allow: str = "SameNamespace"
    gateways: tuple[tuple[str, str], ...] = ()  # (namespace or '', name)


Selection = tuple[RouteSelection, ...] | GatewaySelection
Converter = Callable[[Value, list[Finding]], Selection | None]


class Version(msgspec.Struct, frozen=True):
    """How one apiVersion and kind is read. `finding` is said once per file."""

    kind: type[m.Resource]
    version: str
    convert: Converter | None = None
    finding: Finding | None = None


def lookup(api_version: str, kind: str) -> Version | None:
    """Find how to read a kind in a version; None for what is not ours."""
    return _VERSIONS.get((api_version, kind))


def release(bundle: str) -> int:
    """Return the minor version of a bundle, '1.6.1': 6; NEWEST where none is told, or one that is newer than we know."""
    found = re.match(r"1\.(\d+)", bundle)
    return min(int(found[1]), NEWEST) if found else NEWEST


# ---- Converters


def _warn(findings: list[Finding], field: str, message: str) -> None:
    findings.append(Finding(field, message, "warning", "NoV1Form"))


def _mappings(value: Any, *names: str) -> Iterable[Value]:
    """Yield the mappings at value.names..., walking lists on the way; what has another type is left to the decoder."""
    if isinstance(value, list):
        for child in value:
            yield from _mappings(child, *names)
    elif isinstance(value, dict):
        if names:
            yield from _mappings(value.get(names[0]), *names[1:])
        else:
            yield value


def _group(value: Value) -> None:
    """Old references said 'core' for the empty group."""
    if value.get("group") == "core":
        value["group"] = ""
    elif value.get("group") == OLD_GROUP:
        value["group"] = m.GATEWAY_GROUP


def _pairs(value: Any) -> Any:
    """Old header lists were mappings."""
    return [{"name": name, "value": text} for name, text in value.items()] if isinstance(value, dict) else value


def _match_list(match: Value, name: str) -> None:
    """{type, values: {name: value}} -> [{type, name, value}]."""
    old = match.get(name)
    new = []
    for each in old if isinstance(old, list) else [old]:  # a list of the old mappings was seen in documentation
        if not isinstance(each, dict) or not isinstance(each.get("values"), dict):
            return
        kind = {"type": each["type"]} if "type" in each else {}
        new += [kind | pair for pair in _pairs(each["values"])]
    if old:
        match[name] = new


def _backend_ref(old: Value) -> Value:
    """forwardTo, requestMirror: {serviceName | backendRef, port, ...} -> a backend reference."""
    reference = old.pop("backendRef", None)
    name = old.pop("serviceName", None)
    if isinstance(reference, dict):
        _group(reference)
        old.update(reference)
    if name is not None:
        old["name"] = name
    return old


def _rules(value: Value, findings: list[Finding]) -> None:
    for index, rule in enumerate(_mappings(value, "spec", "rules")):
        if isinstance(rule.get("forwardTo"), list):
            forwarded = [_backend_ref(each) for each in _mappings(rule.pop("forwardTo"))]
            rule.setdefault("backendRefs", forwarded)
        for match in _mappings(rule, "matches"):
            if match.pop("extensionRef", None) is not None:
                _warn(findings, f"spec.rules[{index}].matches", "extensionRef in a match has no v1 form, ignored")


def _filters(value: Value) -> None:
    for owner in (*_mappings(value, "spec", "rules"), *_mappings(value, "spec", "rules", "backendRefs")):
        for each in _mappings(owner, "filters"):
            for headers in (*_mappings(each, "requestHeaderModifier"), *_mappings(each, "responseHeaderModifier")):
                for name in ("set", "add"):
                    if name in headers:
                        headers[name] = _pairs(headers[name])
            for mirror in _mappings(each, "requestMirror"):
                if "serviceName" in mirror or "port" in mirror:
                    each["requestMirror"] = {"backendRef": _backend_ref(mirror)}


def _gateways(value: Value) -> GatewaySelection | None:
    """Take spec.gateways of an old route; parentRefs, where both are there, are preferred."""
    spec = value.get("spec")
    if not isinstance(spec, dict):
        return None
    gateways = spec.pop("gateways", None)
    if spec.get("parentRefs"):
        return None
    gateways = gateways if isinstance(gateways, dict) else {}
    refs = tuple(
        (str(ref.get("namespace") or ""), str(ref.get("name") or "")) for ref in _mappings(gateways, "gatewayRefs")
    )
    return GatewaySelection(str(gateways.get("allow") or "SameNamespace"), refs)


def _http_route(value: Value, findings: list[Finding]) -> GatewaySelection | None:
    _rules(value, findings)
    _filters(value)
    for index, rule in enumerate(_mappings(value, "spec", "rules")):
        for number, match in enumerate(_mappings(rule, "matches")):
            _match_list(match, "headers")
            _match_list(match, "queryParams")
            for path in _mappings(match, "path"):
                if path.get("type") == "ImplementationSpecific":
                    at = f"spec.rules[{index}].matches[{number}].path.type"
                    _warn(findings, at, "ImplementationSpecific has no v1 form, read as PathPrefix")
                if path.get("type") in ("Prefix", "ImplementationSpecific"):
                    path["type"] = "PathPrefix"
    spec = value.get("spec")
    if isinstance(spec, dict) and spec.pop("tls", None) is not None:
        _warn(findings, "spec.tls", "a route's certificate has no v1 form, ignored: set it on the listener")
    return _gateways(value)


def _never_released_route(value: Value, findings: list[Finding]) -> None:
    _http_route(value, findings)


def _layer4_route(value: Value, findings: list[Finding]) -> GatewaySelection | None:
    spec = value.get("spec")
    names = [
        name for match in _mappings(value, "spec", "rules", "matches") if isinstance(match.get("snis"), list)
        for name in match["snis"] if isinstance(name, str)
    ]
    _rules(value, findings)
    for rule in _mappings(value, "spec", "rules"):
        rule.pop("matches", None)
    if names and isinstance(spec, dict):
        spec.setdefault("hostnames", list(dict.fromkeys(names)))
    rules = spec.get("rules") if isinstance(spec, dict) else None
    if isinstance(rules, list) and len(rules) > 1:
        _warn(findings, "spec.rules[1]", "v1 has one rule: the first is used, with the names of all")
        del rules[1:]
    return _gateways(value)


def _gateway_class(value: Value, findings: list[Finding]) -> None:
    for spec in _mappings(value, "spec"):
        if "controller" in spec:
            spec.setdefault("controllerName", spec.pop("controller"))
        for ref in _mappings(spec, "parametersRef"):
            _group(ref)
            ref.pop("scope", None)


def _gateway(value: Value, findings: list[Finding]) -> tuple[RouteSelection, ...]:
    selections = []
    for index, listener in enumerate(_mappings(value, "spec", "listeners")):
        listener.setdefault("name", f"listener-{index}")
        if listener.get("hostname") in ("", "*"):
            del listener["hostname"]
        _old_tls(listener, f"spec.listeners[{index}].tls", findings)
        routes = listener.pop("routes", None)
        if not isinstance(routes, dict) or "allowedRoutes" in listener:
            continue
        _group(routes)
        kind = {name: routes[name] for name in ("group", "kind") if name in routes}
        namespaces = routes.get("namespaces") or {}
        listener["allowedRoutes"] = {"namespaces": namespaces} | ({"kinds": [kind]} if "kind" in kind else {})
        try:
            labels = msgspec.convert(routes.get("selector") or {}, m.LabelSelector)
            spaces = msgspec.convert(namespaces, m.RouteNamespaces)
        except msgspec.ValidationError as error:
            findings.append(Finding(f"spec.listeners[{index}].routes", str(error)))
            continue
        selections.append(RouteSelection(listener["name"], str(routes.get("kind", "HTTPRoute")), labels, spaces))
    return tuple(selections)


def _old_tls(listener: Value, path: str, findings: list[Finding]) -> None:
    for tls in _mappings(listener, "tls"):
        ref = tls.pop("certificateRef", None)
        if isinstance(ref, dict):
            _group(ref)
            tls.setdefault("certificateRefs", [ref])
        override = tls.pop("routeOverride", None)
        if isinstance(override, dict) and override.get("certificate") == "Allow":
            _warn(findings, f"{path}.routeOverride", "certificates of routes have no v1 form, ignored")


def _backend_tls_policy(value: Value, findings: list[Finding]) -> None:
    """v1alpha2: one targetRef, `tls` for `validation`, other names in it (spec 6.2)."""
    for spec in _mappings(value, "spec"):
        target, tls = spec.pop("targetRef", None), spec.pop("tls", None)
        if isinstance(target, dict):
            target.pop("namespace", None)
            spec.setdefault("targetRefs", [target])
        if isinstance(tls, dict):
            names = {"caCertRefs": "caCertificateRefs", "wellKnownCACerts": "wellKnownCACertificates"}
            spec.setdefault("validation", {names.get(name, name): child for name, child in tls.items()})


def _backend_policy(value: Value, findings: list[Finding]) -> None:
    """networking.x-k8s.io: there was no hostname to verify, so the Service's name in the cluster stands for it."""
    for spec in _mappings(value, "spec"):
        refs = list(_mappings(spec.pop("backendRefs", None)))
        tls = spec.pop("tls", None) or {}
        for ref in refs:
            _group(ref)
            if ref.pop("port", None) is not None:
                _warn(findings, "spec.backendRefs", "a port number has no v1 form, the policy is for all ports")
        metadata = next(iter(_mappings(value, "metadata")), {})
        name = refs[0].get("name") if refs else ""
        spec["targetRefs"] = [{"group": "", "kind": "Service"} | ref for ref in refs]
        spec["validation"] = {"hostname": f"{name}.{metadata.get('namespace') or 'default'}.svc"}
        _warn(findings, "spec", f"no hostname to verify, {spec['validation']['hostname']} is taken")
        if isinstance(tls, dict):
            authority = tls.get("certificateAuthorityRef")
            if isinstance(authority, dict):
                _group(authority)
                spec["validation"]["caCertificateRefs"] = [authority]
            spec["options"] = tls.get("options")


def _listener_set(value: Value, findings: list[Finding]) -> None:
    """XListenerSet: a port could be left to the protocol."""
    defaults = {"HTTP": 80, "HTTPS": 443}
    for listener in _mappings(value, "spec", "listeners"):
        if not listener.get("port") and listener.get("protocol") in defaults:
            listener["port"] = defaults[listener["protocol"]]


# ---- The table


def _old(api_version: str, kind: str, to: str) -> Finding:
    return Finding("apiVersion", f"{api_version} {kind} is an old version, read as {to}", "warning", "OldVersion")


def _table() -> dict[tuple[str, str], Version]:
    table = {}
    group = m.GATEWAY_GROUP
    for (owner, name), kind in m.KINDS.items():
        if owner != group:
            table[f"{owner}/{kind.version}".lstrip("/"), name] = Version(kind, kind.version)
            continue
        table[f"{group}/v1", name] = Version(kind, "v1")
        for version in ("v1beta1", "v1alpha3", "v1alpha2", "v1alpha1"):
            old = f"{group}/{version}"
            told = _old(old, name, f"{group}/v1 {name}")
            note: Finding | None = told
            if version == "v1beta1":  # still served, and the storage version of ReferenceGrant
                note = None if name == "ReferenceGrant" else msgspec.structs.replace(told, severity="note")
            table[old, name] = Version(kind, version, None, note)
    table["discovery.k8s.io/v1beta1", "EndpointSlice"] = Version(m.EndpointSlice, "v1beta1")
    for version in ("v1beta1", "v1alpha1"):
        table[f"{m.CERTIFICATES_GROUP}/{version}", "ClusterTrustBundle"] = Version(m.ClusterTrustBundle, version)

    def convert(api_version: str, name: str, kind: type[m.Resource], converter: Converter | None) -> None:
        shape = api_version.rpartition("/")[2].replace("v1alpha1", "v1alpha2")  # for the rules that differ
        note = _old(api_version, name, f"{kind.group}/v1 {kind.kind}")
        table[api_version, name] = Version(kind, shape, converter, note)

    for version in ("v1alpha1", "v1alpha2", "v1alpha3"):
        convert(f"{group}/{version}", "BackendTLSPolicy", m.BackendTLSPolicy, _backend_tls_policy)
    for version in ("v1alpha1", "v1alpha2", "v1beta1"):
        convert(f"{group}/{version}", "ReferencePolicy", m.ReferenceGrant, None)
    convert(f"{group}/v1alpha1", "HTTPRoute", m.HTTPRoute, _never_released_route)
    for kind in (m.TLSRoute, m.TCPRoute, m.UDPRoute):
        convert(f"{group}/v1alpha1", kind.kind, kind, None)
    convert(f"{m.EXPERIMENTAL_GROUP}/v1alpha1", "XListenerSet", m.ListenerSet, _listener_set)
    for kind, converter in (
        (m.GatewayClass, _gateway_class), (m.Gateway, _gateway), (m.HTTPRoute, _http_route),
        (m.TLSRoute, _layer4_route), (m.TCPRoute, _layer4_route), (m.UDPRoute, _layer4_route),
    ):
        convert(f"{OLD_GROUP}/v1alpha1", kind.kind, kind, converter)
    convert(f"{OLD_GROUP}/v1alpha1", "BackendPolicy", m.BackendTLSPolicy, _backend_policy)
    return table


_VERSIONS = _table()


# ---- Old Gateways select old routes


def known() -> Iterable[tuple[str, str]]:
    """Return every (apiVersion, kind) that is read."""
    return _VERSIONS.keys()


def attached(
    resources: Mapping[m.Key, m.Resource], selections: Mapping[m.Key, Selection]
) -> dict[m.Key, tuple[m.ParentReference, ...]]:
    """Return the parentRefs of each old route: the Gateways that select it and that it lets do so (spec 6.3)."""
    gateways = {key: chosen for key, chosen in selections.items() if isinstance(chosen, tuple) and key in resources}
    found = {}
    for key, allowed in selections.items():
        if not isinstance(allowed, GatewaySelection) or key not in resources:
            continue
        refs = [ref for name, chosen in gateways.items() for ref in _parents(resources, key, allowed, name, chosen)]
        for namespace, name in allowed.gateways if allowed.allow == "FromList" else ():
            gateway = m.Key("Gateway", namespace or key.namespace, name)
            if gateway not in gateways:  # a Gateway of today selects nothing: the list is taken as parentRefs
                refs.append(m.ParentReference(namespace=gateway.namespace, name=name))
        found[key] = tuple(refs[:32])
    return found


def _parents(
    resources: Mapping[m.Key, m.Resource], route: m.Key, allowed: GatewaySelection, gateway: m.Key,
    chosen: tuple[RouteSelection, ...],
) -> Iterable[m.ParentReference]:
    match allowed.allow:
        case "FromList":
            lets = any((space or route.namespace, name) == gateway[1:] for space, name in allowed.gateways)
        case "SameNamespace":
            lets = gateway.namespace == route.namespace
        case _:
            lets = allowed.allow == "All"
    labels = resources[route].metadata.labels
    space = resources.get(m.Key("Namespace", "", route.namespace))
    for each in chosen if lets else ():
        selector = each.namespaces.selector
        near = {
            "All": True,
            "Same": gateway.namespace == route.namespace,
            "Selector": space is not None and selector is not None and selector.selects(space.metadata.labels),
        }[each.namespaces.from_]
        if near and each.kind == route.kind and each.labels.selects(labels):
            yield m.ParentReference(namespace=gateway.namespace, name=gateway.name, section_name=each.section_name)
