"""The rules that v1.7 of the Gateway API added, and those of the kinds that are experimental in it: XBackend, XTelemetryPolicy.

    check(resource, release)    what holds from v1.7 on: not asked of what an older bundle let in
    x_backend(spec)             what holds of an XBackend whenever it was written

Rules:
- A message is the CRD's own. Where the channels differ, the experimental rule is checked.
- What v1.6 called otherwise (sessionName, cookieConfig, an XBackend's port.port) is read by its old name in files too, with a
  warning: an API server of today drops it unread. Old and new names of one thing are not mixed.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gwfast.config import model as m
from gwfast.config.decode import Finding
from gwfast.config.scalars import QUALIFIED_NAME, SUBDOMAIN

NEWEST = 7  # as versions.NEWEST; that module is above this one
SINCE = 7  # minor version of the rules in here

Findings = Iterator[Finding]


def check(resource: m.Resource, release: int) -> Findings:
    """Check what v1.7 added, where its words hold."""
    rules = _RULES.get(type(resource)) if release >= SINCE else None
    return rules(resource.spec) if rules else iter(())


# ---- Routes


def _http_route(spec: m.HTTPRouteSpec) -> Findings:
    for index, rule in enumerate(spec.rules):
        path = f"spec.rules[{index}]"
        if rule.session_persistence:
            yield from _session(rule.session_persistence, f"{path}.sessionPersistence")
        yield from _filtered(rule.filters, f"{path}.filters")
        yield from _backends(rule.backend_refs, f"{path}.backendRefs")


def _other_route(spec: m.TLSRouteSpec | m.TCPRouteSpec | m.UDPRouteSpec) -> Findings:
    for index, rule in enumerate(spec.rules):
        yield from _backends(rule.backend_refs, f"spec.rules[{index}].backendRefs")


def _backends(refs: tuple[m.BackendRef, ...], path: str) -> Findings:
    for index, ref in enumerate(refs):
        if ref.group:
            yield from _backend(ref, f"{path}[{index}]")
        if getattr(ref, "filters", ()):
            yield from _filtered(ref.filters, f"{path}[{index}].filters")


def _filtered(filters: tuple[m.HTTPRouteFilter | m.GRPCRouteFilter | m.ListenerFilter, ...], path: str) -> Findings:
    for index, each in enumerate(filters):
        if mirror := getattr(each, "request_mirror", None):
            yield from _backend(mirror.backend_ref, f"{path}[{index}].requestMirror.backendRef")
        if auth := getattr(each, "external_auth", None):
            yield from _backend(auth.backend_ref, f"{path}[{index}].externalAuth.backendRef")


def _backend(ref: m.BackendObjectReference, path: str) -> Findings:
    if (ref.group, ref.kind) == (m.EXPERIMENTAL_GROUP, "XBackend") and ref.port is not None:
        yield Finding(f"{path}.port", "Must not have port for Backend reference")


def _session(value: m.SessionPersistence, path: str) -> Findings:
    given = ("sessionName", value.session_name), ("cookieConfig", value.cookie_config)
    old = next((name for name, one in given if one is not None), "")
    if old:
        if value.cookie or value.header:
            told = f"{old} is what v1.6 says for cookie or header, and must not be given beside them"
            yield Finding(f"{path}.{old}", told)
            return
        new = {"sessionName": f"{value.type.lower()}.name", "cookieConfig": "cookie"}[old]
        told = f"{old} is called {new} from v1.7 on, where an API server drops it"
        yield Finding(f"{path}.{old}", told, "warning", "OldShape")
        return
    for name, kind, given in (("cookie", "Cookie", value.cookie), ("header", "Header", value.header)):
        if given is not None and value.type != kind:
            yield Finding(f"{path}.{name}", f"{name} must be nil if type is not {kind}")
        if given is None and value.type == kind:
            yield Finding(f"{path}.{name}", f"{name} must be specified for {kind} type")


# ---- Gateway, ListenerSet


def _gateway(spec: m.GatewaySpec) -> Findings:
    for index, address in enumerate(spec.addresses):
        if address.routability and not _routable(address.routability):
            yield Finding(f"spec.addresses[{index}].routability",
                          "Routability must be empty, Cluster, or an implementation-specific prefixed path; k8s.io and its "
                          "subdomains are reserved")
    yield from _listeners(spec)
    frontend = spec.tls.frontend if spec.tls else None
    if frontend:
        yield from _client_authorities(frontend.default, "spec.tls.frontend.default")
        for index, one in enumerate(frontend.per_port):
            yield from _client_authorities(one.tls, f"spec.tls.frontend.perPort[{index}].tls")


def _client_authorities(tls: m.TLSConfig, path: str) -> Findings:
    for index, ref in enumerate(tls.validation.ca_certificate_refs if tls.validation else ()):
        if (ref.group, ref.kind) == (m.CERTIFICATES_GROUP, "ClusterTrustBundle") and ref.namespace is not None:
            yield Finding(f"{path}.validation.caCertificateRefs[{index}].namespace",
                          "ClusterTrustBundle references must not specify namespace")


def _listeners(spec: m.GatewaySpec | m.ListenerSetSpec) -> Findings:
    for index, listener in enumerate(spec.listeners):
        if listener.filters:
            yield from _filtered(listener.filters.requests, f"spec.listeners[{index}].filters.requests")


def _routable(value: str) -> bool:
    domain, slash, rest = value.partition("/")
    return value == "Cluster" or bool(
        slash and rest and re.match(SUBDOMAIN, domain) and domain != "k8s.io" and not domain.endswith(".k8s.io"))


# ---- Policies


def _backend_tls_policy(spec: m.BackendTLSPolicySpec) -> Findings:
    return _authorities(spec.validation, "spec.validation")


def _authorities(value: m.BackendTLSPolicyValidation, path: str) -> Findings:
    if value.ca_certificate_refs is not m.NO_REFS and not value.ca_certificate_refs:
        yield Finding(f"{path}.caCertificateRefs", "must have at least 1 items, has 0")


def _x_backend_traffic_policy(spec: m.XBackendTrafficPolicySpec) -> Findings:
    if spec.session_persistence:
        yield from _session(spec.session_persistence, "spec.sessionPersistence")


# ---- XBackend


def x_backend(spec: m.XBackendSpec) -> Findings:
    """Check what an XBackend says together."""
    if (spec.type == "ExternalHostname") != (spec.external_hostname is not None):
        yield Finding("spec.externalHostname",
                      "externalHostname must be set when type is ExternalHostname and must be unset otherwise")
    if (spec.type == "EndpointSelector") != (spec.endpoint_selector is not None):
        yield Finding("spec.endpointSelector",
                      "endpointSelector must be set when type is EndpointSelector and must be unset otherwise")
    if spec.number == 0:
        yield Finding("spec.port", "must have at least 1 properties")
    if spec.external_hostname and spec.external_hostname.hostname.endswith(".cluster.local"):
        yield Finding("spec.externalHostname.hostname", "hostname must not be an IP address or end with .cluster.local")
    if spec.external_hostname and re.fullmatch(r"\d+(?:\.\d+){3}", spec.external_hostname.hostname):
        yield Finding("spec.externalHostname.hostname", "hostname must not be an IP address or end with .cluster.local")
    for label in spec.endpoint_selector.match_labels if spec.endpoint_selector else ():
        if not re.match(QUALIFIED_NAME, label) or len(label.rpartition("/")[0]) > 253:
            yield Finding("spec.endpointSelector.matchLabels",
                          f"{label!r}: Label keys must be in the form of an optional DNS subdomain prefix not longer than 253 "
                          "characters followed by a required name segment of up to 63 characters.")
    yield from _backend_tls(spec.tls)


def _backend_tls(tls: m.BackendTLS) -> Findings:
    if (tls.mode == "ClientAndServer") != (tls.client_certificate_ref is not None):
        yield Finding("spec.tls.clientCertificateRef", "clientCertificateRef must be set if and only if mode is ClientAndServer")


def _x_backend(spec: m.XBackendSpec) -> Findings:
    secure = spec.tls.mode != "None"
    if spec.protocol == "H2C" and secure:
        yield Finding("spec.tls.mode", "tls must be disabled when protocol is H2C, use protocol HTTP2 for HTTP/2 with tls")
    if spec.protocol == "HTTP2" and not secure:
        yield Finding("spec.tls.mode", "tls must be enabled when protocol is HTTP2, use protocol H2C for HTTP/2 without tls")
    if spec.protocol == "WSS" and not secure:
        yield Finding("spec.tls.mode", "tls must be enabled when protocol is WSS")
    if spec.session_persistence and spec.type != "EndpointSelector":
        yield Finding("spec.sessionPersistence", "sessionPersistence can only be set when type is EndpointSelector")
    if secure != (spec.tls.validation is not None):
        yield Finding("spec.tls.validation", "validation must be set if and only if mode is either ClientAndServer or ServerOnly")
    if spec.tls.validation:
        yield from _authorities(spec.tls.validation, "spec.tls.validation")
    if spec.session_persistence:
        yield from _session(spec.session_persistence, "spec.sessionPersistence")
    if spec.port.port is not None:
        yield Finding("spec.port.port", "port.port is called port.number from v1.7 on, where an API server drops it", "warning",
                      "OldShape")


# ---- XTelemetryPolicy

_ENABLED = ("samplingRate", "parentBasedSampling", "serviceName", "spanName", "attributes")
_SOURCES = (("Header", "headerName"), ("Literal", "literalValue"), ("Attribute", "attributeKey"))


def _x_telemetry_policy(spec: m.XTelemetryPolicySpec) -> Findings:
    tracing = spec.tracing
    if tracing is None:
        yield Finding("spec", "at least one of the fields in [tracing] must be set")
        return
    enabled, path = tracing.mode == "Enabled", "spec.tracing"
    if enabled != (tracing.provider is not None):
        yield Finding(f"{path}.provider", "provider is required when mode is Enabled, and must be empty otherwise")
    given = (tracing.sampling_rate, tracing.parent_based_sampling, tracing.service_name, tracing.span_name,
             tracing.attributes or None)
    for name, value in zip(_ENABLED, given, strict=True):
        if value is not None and not enabled:
            yield Finding(f"{path}.{name}", f"{name} can only be set when mode is Enabled")
    if tracing.provider:
        yield from _provider(tracing.provider, f"{path}.provider")
    yield from _fraction(tracing.sampling_rate, f"{path}.samplingRate")
    if parent := tracing.parent_based_sampling:
        if parent.sampling_rate is not None and parent.mode != "Enabled":
            yield Finding(f"{path}.parentBasedSampling.samplingRate", "samplingRate can only be set when mode is Enabled")
        yield from _fraction(parent.sampling_rate, f"{path}.parentBasedSampling.samplingRate")
    yield from _attributes(tracing.attributes, f"{path}.attributes")


def _provider(value: m.TracingProvider, path: str) -> Findings:
    ref = value.backend_ref
    if ref.port is None and ref.kind == "Service" and not ref.group:
        yield Finding(f"{path}.backendRef.port", "Must have port for Service reference")
    yield from _backend(ref, f"{path}.backendRef")
    yield from _twice([header.name for header in value.headers], f"{path}.headers")


def _fraction(value: m.Fraction | None, path: str) -> Findings:
    if value and value.numerator > value.denominator:
        yield Finding(path, "numerator must be less than or equal to denominator")


def _attributes(attributes: tuple[m.TelemetryAttribute, ...], path: str) -> Findings:
    yield from _twice([one.name for one in attributes], path)
    for index, one in enumerate(attributes):
        given = {"headerName": one.header_name, "literalValue": one.literal_value, "attributeKey": one.attribute_key}
        for source, name in _SOURCES:
            if (one.source_type == source) != (given[name] is not None):
                yield Finding(f"{path}[{index}].{name}",
                              f"{name} is required when sourceType is {source}, and must be empty otherwise")


def _twice(names: list[str], path: str) -> Findings:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding(f"{path}[{index}].name", f"Duplicate value: {name!r}")


_RULES: dict[type[m.Resource], Callable[..., Findings]] = {
    m.HTTPRoute: _http_route,
    m.GRPCRoute: _http_route,
    m.TLSRoute: _other_route,
    m.TCPRoute: _other_route,
    m.UDPRoute: _other_route,
    m.Gateway: _gateway,
    m.ListenerSet: _listeners,
    m.BackendTLSPolicy: _backend_tls_policy,
    m.XBackendTrafficPolicy: _x_backend_traffic_policy,
    m.XBackend: _x_backend,
    m.XTelemetryPolicy: _x_telemetry_policy,
}
