"""The rules that look at several fields: the CRDs' CEL rules, of both channels, and what only their words say.

Rules:
- What one field allows is in `model`; here is what is left, one function per Go type, in the CRDs' order.
- A message is the CRD's own; tests/unit/test_config_rules.py breaks each of their rules, wherever it stands. Where the
  channels differ, the experimental rule is checked: it is the one that knows every field that can be written here.
- Rules that v1.7 added, or that its experimental kinds have, are in `since`.
- A function gets the value and its path and yields findings; it may rely on every field being valid by itself.
- The API server's list-map and list-set keys ("Duplicate value") are checked by `_unique`.
"""
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from itertools import groupby

from gwfast.config import model as m
from gwfast.config import since
from gwfast.config.decode import Finding
from gwfast.config.scalars import HOSTNAME, PATH, QUALIFIED_NAME, SUBDOMAIN

Findings = Iterator[Finding]


def check(resource: m.Resource, version: str = "v1", release: int = since.NEWEST) -> list[Finding]:
    """Check a decoded resource; `version` is the one that it was written in, `release` the minor version of the Gateway API whose
    words hold (0: any)."""
    if type(resource) is m.HTTPRoute and is_plain(resource):
        return []
    spec, rules = getattr(resource, "spec", resource), _RULES.get(type(resource))
    return [*(rules(spec, version) if rules else ()), *since.check(resource, release)]


def check_change(old: m.Resource, new: m.Resource) -> list[Finding]:
    """Check the rules about a change of an existing resource (gatewayclass_types.go: controllerName)."""
    if isinstance(new, m.GatewayClass) and old.spec.controller_name != new.spec.controller_name:
        return [Finding("spec.controllerName", "Value is immutable")]
    return []


def seconds(duration: str) -> float:
    """Convert a Duration (GEP-2257) such as '1m30s' to seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))


def _unique(items: tuple, path: str, name: str = "") -> Findings:
    """Refuse a second item of the same name (or, without a name, of the same value)."""
    if len(items) < 2:
        return
    seen = set()
    for index, item in enumerate(items):
        value = getattr(item, name) if name else item
        if value in seen:
            at = f"{path}[{index}].{name}" if name else f"{path}[{index}]"
            yield Finding(at, f"Duplicate value: {value!r}")
        seen.add(value)


def _unique_names(rules: tuple, path: str) -> Findings:
    names = [rule.name for rule in rules]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield Finding(f"{path}[{index}].name", "Rule name must be unique within the route")


# ---- References


def _parent_refs(refs: tuple[m.ParentReference, ...], path: str) -> Findings:
    if len(refs) < 2:
        return
    several = "when parentRefs includes 2 or more references to the same parent"
    seen: dict[tuple, list[m.ParentReference]] = {}
    for index, ref in enumerate(refs):
        others = seen.setdefault((ref.group, ref.kind, ref.name, ref.namespace), [])
        said = ref.section_name is not None, ref.port is not None
        if any((other.section_name is not None, other.port is not None) != said for other in others):
            yield Finding(
                f"{path}[{index}]",
                f"sectionName or port must be specified {several}",
            )
        elif any((other.section_name, other.port) == (ref.section_name, ref.port) for other in others):
            yield Finding(
                f"{path}[{index}]",
                f"sectionName or port must be unique {several}",
            )
        others.append(ref)


def _backend(ref: m.BackendObjectReference, path: str) -> Findings:
    if ref.port is None and ref.kind == "Service" and not ref.group:
        yield Finding(f"{path}.port", "Must have port for Service reference")


# ---- Filters


def _header_filter(value: m.HTTPHeaderFilter, path: str) -> Findings:
    yield from _unique(value.set, f"{path}.set", "name")
    yield from _unique(value.add, f"{path}.add", "name")
    yield from _unique(value.remove, f"{path}.remove")
    yield from _one_action(value, path)


def _one_action(value: m.HTTPHeaderFilter, path: str) -> Findings:
    """Only one action is permitted for a header (spec 5.5); an equivalent name in the same list is ignored (HTTPHeader)."""
    first: dict[str, tuple[str, str]] = {}
    names = ("set", [each.name for each in value.set]), ("add", [each.name for each in value.add]), ("remove", value.remove)
    for action, items in names:
        for index, name in enumerate(items):
            taken, known = first.setdefault(name.lower(), (action, name))
            at = f"{path}.{action}[{index}]" + ".name" * (action != "remove")
            if taken != action:
                yield Finding(at, f"only one action is permitted for a header, {known!r} is in {taken} too")
            elif known != name:
                yield Finding(at, f"is ignored, {known!r} is the same header", "warning", "Duplicate")


def _mirror(value: m.HTTPRequestMirrorFilter, path: str) -> Findings:
    if value.percent is not None and value.fraction is not None:
        yield Finding(path, "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter")
    yield from _backend(value.backend_ref, f"{path}.backendRef")
    if value.fraction and value.fraction.numerator > value.fraction.denominator:
        yield Finding(f"{path}.fraction", "numerator must be less than or equal to denominator")


def _path_modifier(value: m.HTTPPathModifier | None, path: str) -> Findings:
    if not value:
        return
    names = ("replaceFullPath", value.replace_full_path), ("replacePrefixMatch", value.replace_prefix_match)
    for name, given in names:
        kind = name[0].upper() + name[1:]
        if value.type == kind and given is None:
            yield Finding(f"{path}.path.{name}", f"{name} must be specified when type is set to '{kind}'")
        if value.type != kind and given is not None:
            yield Finding(f"{path}.path.type", f"type must be '{kind}' when {name} is set")


def _path_and_host(value: m.HTTPRequestRedirectFilter | m.HTTPURLRewriteFilter, path: str) -> Findings:
    return _path_modifier(value.path, path)


def _cors(value: m.HTTPCORSFilter, path: str) -> Findings:
    for name, items, words in (
        ("allowOrigins", value.allow_origins, "AllowOrigins cannot contain '*' alongside other origins"),
        ("allowMethods", value.allow_methods, "AllowMethods cannot contain '*' alongside other methods"),
        ("allowHeaders", value.allow_headers, "AllowHeaders cannot contain '*' alongside other methods"),
    ):
        if "*" in items and len(items) > 1:
            yield Finding(f"{path}.{name}", words)
        yield from _unique(items, f"{path}.{name}")
    yield from _unique(value.expose_headers, f"{path}.exposeHeaders")


def _external_auth(value: m.HTTPExternalAuthFilter, path: str) -> Findings:
    for name, protocol, given in (("grpc", "GRPC", value.grpc), ("http", "HTTP", value.http)):
        if value.protocol == protocol and not given:
            yield Finding(f"{path}.{name}", f"{name} must be specified when protocol is set to '{protocol}'")
        if value.protocol != protocol and given:
            yield Finding(f"{path}.protocol", f"protocol must be '{protocol}' when {name} is set")
    yield from _backend(value.backend_ref, f"{path}.backendRef")
    if value.grpc:
        yield from _unique(value.grpc.allowed_headers, f"{path}.grpc.allowedHeaders")
    if value.http:
        yield from _unique(value.http.allowed_headers, f"{path}.http.allowedHeaders")
        yield from _unique(value.http.allowed_response_headers, f"{path}.http.allowedResponseHeaders")


# filter.type, the field that goes with it, its attribute, its own rules
_FILTERS: tuple[tuple[str, str, str, Callable | None], ...] = (
    ("CORS", "cors", "cors", _cors),
    ("RequestHeaderModifier", "requestHeaderModifier", "request_header_modifier", _header_filter),
    ("ResponseHeaderModifier", "responseHeaderModifier", "response_header_modifier", _header_filter),
    ("RequestMirror", "requestMirror", "request_mirror", _mirror),
    ("RequestRedirect", "requestRedirect", "request_redirect", _path_and_host),
    ("URLRewrite", "urlRewrite", "url_rewrite", _path_and_host),
    ("ExtensionRef", "extensionRef", "extension_ref", None),
    ("ExternalAuth", "externalAuth", "external_auth", _external_auth),
)
# No CEL rule for ExternalAuth, but the same words: only what says so may be repeated (H:241).
_ONCE = ("CORS", "ExternalAuth", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")


def _filters(filters: tuple[m.HTTPRouteFilter | m.GRPCRouteFilter, ...], path: str) -> Findings:
    types = [each.type for each in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        yield Finding(
            path, "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
        )
    for kind in _ONCE:
        if types.count(kind) > 1:
            second = types.index(kind, types.index(kind) + 1)
            yield Finding(f"{path}[{second}]", f"{kind} filter cannot be repeated")
    for index, each in enumerate(filters):
        yield from _filter_type(each, f"{path}[{index}]")


def _filter_type(each: m.HTTPRouteFilter | m.GRPCRouteFilter | m.ListenerFilter, path: str) -> Findings:
    for kind, name, attribute, rules in _FILTERS:
        value = getattr(each, attribute, None)
        at = f"{path}.{name}"
        if value is not None and each.type != kind:
            yield Finding(at, f"filter.{name} must be nil if the filter.type is not {kind}")
        if value is None and each.type == kind:
            yield Finding(at, f"filter.{name} must be specified for {kind} filter.type")
        if value is not None and rules:
            yield from rules(value, at)


# ---- HTTPRoute

_ABSOLUTE = "['Exact', 'PathPrefix']"
_PATH_VALID = re.compile(PATH)
_PATH_RULES: tuple[tuple[str, Callable[[str], object]], ...] = (
    (f"value must be an absolute path and start with '/' when type one of {_ABSOLUTE}", lambda v: v[:1] != "/"),
    (f"must not contain '//' when type one of {_ABSOLUTE}", lambda v: "//" in v),
    (f"must not contain '/./' when type one of {_ABSOLUTE}", lambda v: "/./" in v),
    (f"must not contain '/../' when type one of {_ABSOLUTE}", lambda v: "/../" in v),
    (f"must not contain '%2f' when type one of {_ABSOLUTE}", lambda v: "%2f" in v),
    (f"must not contain '%2F' when type one of {_ABSOLUTE}", lambda v: "%2F" in v),
    (f"must not contain '#' when type one of {_ABSOLUTE}", lambda v: "#" in v),
    (f"must not end with '/..' when type one of {_ABSOLUTE}", lambda v: v.endswith("/..")),
    (f"must not end with '/.' when type one of {_ABSOLUTE}", lambda v: v.endswith("/.")),
    (
        r"must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) "
        f"for types {_ABSOLUTE}",
        lambda v: not _PATH_VALID.match(v),
    ),
)
_PLAIN_PATH = re.compile(r"(?:/[-A-Za-z0-9_~!$&'()*+,;=:@][-A-Za-z0-9._~!$&'()*+,;=:@]*)*/?")  # breaks no rule above


def _path_match(value: m.HTTPPathMatch, path: str) -> Findings:
    if value.type == "RegularExpression" or (value.value and _PLAIN_PATH.fullmatch(value.value)):
        return
    for message, broken in _PATH_RULES:
        if broken(value.value):
            yield Finding(f"{path}.value", message)


def _http_matches(matches: tuple[m.HTTPRouteMatch, ...], path: str) -> Findings:
    for index, match in enumerate(matches):
        yield from _path_match(match.path, f"{path}[{index}].path")
        if match.headers:
            yield from _unique(match.headers, f"{path}[{index}].headers", "name")
        if match.query_params:
            yield from _unique(match.query_params, f"{path}[{index}].queryParams", "name")


def _replaces_prefix(filters: tuple[m.HTTPRouteFilter, ...], attribute: str) -> bool:
    values = [getattr(each, attribute) for each in filters]
    return [bool(v and v.path and v.path.replace_prefix_match is not None) for v in values].count(True) == 1


def _prefix_filters(rule: m.HTTPRouteRule, path: str) -> Findings:
    """ReplacePrefixMatch needs to know the one prefix that it replaces."""
    if len(rule.matches) == 1 and rule.matches[0].path.type == "PathPrefix":
        return
    for name, attribute, when in (("RequestRedirect", "request_redirect", "when"), ("URLRewrite", "url_rewrite", "When")):
        words = f"using {name} filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
        if _replaces_prefix(rule.filters, attribute):
            yield Finding(f"{path}.matches", f"When {words}")
        if any(_replaces_prefix(ref.filters, attribute) for ref in rule.backend_refs):
            yield Finding(f"{path}.matches", f"Within backendRefs, {when} {words}")


def _redirects_rewritten(rule: m.HTTPRouteRule, path: str) -> Findings:
    """URLRewrite and RequestRedirect may not be combined (H:244-250), in one list or in the two that a request goes through."""
    if not any(each.url_rewrite for each in rule.filters):
        return
    for number, ref in enumerate(rule.backend_refs):
        for index, each in enumerate(ref.filters):
            if each.request_redirect:
                at = f"{path}.backendRefs[{number}].filters[{index}]"
                yield Finding(at, "RequestRedirect may not be combined with the URLRewrite of the rule")


def _timeouts(value: m.HTTPRouteTimeouts, path: str) -> Findings:
    if value.request and value.backend_request and 0 < seconds(value.request) < seconds(value.backend_request):
        yield Finding(f"{path}.backendRequest", "backendRequest timeout cannot be longer than request timeout")


def _session(value: m.SessionPersistence, path: str) -> Findings:
    if value.permanent and not value.absolute_timeout:
        yield Finding(
            f"{path}.absoluteTimeout", "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"
        )
    if value.cookie_config and value.type != "Cookie":
        yield Finding(f"{path}.cookieConfig", "cookieConfig can only be set with type Cookie")


def _backends(refs: tuple[m.BackendRef, ...], path: str) -> Findings:
    for index, ref in enumerate(refs):
        if ref.port is None:
            yield from _backend(ref, f"{path}[{index}]")
        if getattr(ref, "filters", None):
            yield from _filters(ref.filters, f"{path}[{index}].filters")


def _http_rule(rule: m.HTTPRouteRule, path: str) -> Findings:
    yield from _http_matches(rule.matches, f"{path}.matches")
    yield from _backends(rule.backend_refs, f"{path}.backendRefs")
    if rule.filters:
        if rule.backend_refs and any(each.request_redirect for each in rule.filters):
            yield Finding(f"{path}.filters", "RequestRedirect filter must not be used together with backendRefs")
        yield from _filters(rule.filters, f"{path}.filters")
        yield from _redirects_rewritten(rule, path)
    yield from _prefix_filters(rule, path)
    if rule.timeouts:
        yield from _timeouts(rule.timeouts, f"{path}.timeouts")
    if rule.retry:
        yield from _unique(rule.retry.codes, f"{path}.retry.codes")
    if rule.session_persistence:
        yield from _session(rule.session_persistence, f"{path}.sessionPersistence")


def _match_count(rules: tuple, path: str) -> Findings:
    if sum(len(rule.matches) for rule in rules) > 128:
        yield Finding(
            path,
            "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a "
            "route must be less than 128",
        )


def is_plain(route: m.HTTPRoute) -> bool:
    """Whether no rule of this module, nor of `since`, has anything to say of a route, as one sees at a glance: it has one parent,
    and one rule of plain paths and Services. Most routes are so."""
    spec = route.spec
    if len(spec.parent_refs) > 1 or len(spec.rules) != 1:
        return False
    rule = spec.rules[0]
    if rule.filters or rule.timeouts or rule.retry or rule.session_persistence:
        return False
    for ref in rule.backend_refs:
        if ref.port is None or ref.group or ref.filters:
            return False
    for match in rule.matches:
        if match.headers or match.query_params or match.path.type == "RegularExpression" or (
                not match.path.value or not _PLAIN_PATH.fullmatch(match.path.value)):
            return False
    return True


def _http_route(spec: m.HTTPRouteSpec, version: str) -> Findings:
    yield from _parent_refs(spec.parent_refs, "spec.parentRefs")
    if len(spec.rules) > 1:
        yield from _match_count(spec.rules, "spec.rules")
        yield from _unique_names(spec.rules, "spec.rules")
    for index, rule in enumerate(spec.rules):
        yield from _http_rule(rule, f"spec.rules[{index}]")


# ---- GRPCRoute

_SERVICE = re.compile(r"(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def _grpc_method(value: m.GRPCMethodMatch, path: str) -> Findings:
    if value.service is None and value.method is None:
        yield Finding(path, "One or both of 'service' or 'method' must be specified")
    if value.type != "Exact":
        return
    if value.service is not None and not _SERVICE.fullmatch(value.service):
        yield Finding(
            f"{path}.service",
            r"service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)",
        )
    if value.method is not None and not _METHOD.fullmatch(value.method):
        yield Finding(
            f"{path}.method", "method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)"
        )


def _grpc_route(spec: m.GRPCRouteSpec, version: str) -> Findings:
    yield from _parent_refs(spec.parent_refs, "spec.parentRefs")
    yield from _match_count(spec.rules, "spec.rules")
    yield from _unique_names(spec.rules, "spec.rules")
    for index, rule in enumerate(spec.rules):
        path = f"spec.rules[{index}]"
        for number, match in enumerate(rule.matches):
            if match.method:
                yield from _grpc_method(match.method, f"{path}.matches[{number}].method")
            yield from _unique(match.headers, f"{path}.matches[{number}].headers", "name")
        yield from _filters(rule.filters, f"{path}.filters")
        yield from _backends(rule.backend_refs, f"{path}.backendRefs")
        if rule.session_persistence:
            yield from _session(rule.session_persistence, f"{path}.sessionPersistence")


# ---- TLSRoute, TCPRoute, UDPRoute


def _layer4_route(spec: m.TCPRouteSpec | m.UDPRouteSpec | m.TLSRouteSpec, version: str) -> Findings:
    yield from _parent_refs(spec.parent_refs, "spec.parentRefs")
    if len(spec.rules) > 1 and version != "v1alpha2":
        yield Finding("spec.rules", f"must have at most 1 items, has {len(spec.rules)}")
    yield from _unique_names(spec.rules, "spec.rules")
    for index, rule in enumerate(spec.rules):
        yield from _backends(rule.backend_refs, f"spec.rules[{index}].backendRefs")


def _tls_route(spec: m.TLSRouteSpec, version: str) -> Findings:
    if version != "v1alpha2":
        if not spec.hostnames:
            yield Finding("spec.hostnames", "must have at least 1 items, has 0")
        for index, hostname in enumerate(spec.hostnames):
            if _is_ip(hostname):
                yield Finding(f"spec.hostnames[{index}]", "Hostnames cannot contain an IP")
    yield from _layer4_route(spec, version)


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


# ---- Gateway, ListenerSet


def _address(value: m.GatewaySpecAddress, path: str) -> Findings:
    if value.value is None:
        return
    if value.type == "IPAddress" and not _is_ip(value.value):
        yield Finding(f"{path}.value", f"{value.value!r} is no IPv4 or IPv6 address")
    if value.type == "Hostname" and value.value and not re.match(HOSTNAME, value.value):
        yield Finding(
            f"{path}.value",
            "Hostname value must be empty or contain only valid characters (matching "
            r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)",
        )


def _addresses(addresses: tuple[m.GatewaySpecAddress, ...], path: str) -> Findings:
    for index, address in enumerate(addresses):
        yield from _address(address, f"{path}[{index}]")
        if address.type in ("IPAddress", "Hostname") and address.value is not None and address in addresses[:index]:
            yield Finding(f"{path}[{index}].value", f"{address.type} values must be unique")


def _listener_tls(listener: m.Listener, path: str) -> Findings:
    tls = listener.tls
    if listener.protocol in ("HTTP", "TCP", "UDP") and tls:
        yield Finding(f"{path}.tls", "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']")
    if listener.protocol == "HTTPS" and tls and tls.mode != "Terminate":
        yield Finding(f"{path}.tls.mode", "tls mode must be Terminate for protocol HTTPS")
    if listener.protocol == "TLS" and not tls:
        yield Finding(f"{path}.tls.mode", "tls mode must be set for protocol TLS")
    if tls and tls.mode == "Terminate" and not tls.certificate_refs and not tls.options:
        yield Finding(f"{path}.tls", "certificateRefs or options must be specified when mode is Terminate")


def _listener_filters(listener: m.Listener, path: str) -> Findings:
    if listener.protocol not in ("HTTP", "HTTPS"):
        yield Finding(f"{path}.filters", "filters may only be set when protocol is HTTP or HTTPS")
    for index, each in enumerate(listener.filters.requests):
        yield from _filter_type(each, f"{path}.filters.requests[{index}]")


def _listeners(listeners: tuple[m.Listener, ...], path: str) -> Findings:
    names, places = set(), set()
    for index, listener in enumerate(listeners):
        at = f"{path}[{index}]"
        yield from _listener_tls(listener, at)
        if listener.filters:
            yield from _listener_filters(listener, at)
        if listener.protocol in ("TCP", "UDP") and listener.hostname:
            yield Finding(f"{at}.hostname", "hostname must not be specified for protocols ['TCP', 'UDP']")
        if listener.name in names:
            yield Finding(f"{at}.name", "Listener name must be unique within the Gateway")
        place = (listener.port, listener.protocol, listener.hostname)
        if place in places:
            yield Finding(at, "Combination of port, protocol and hostname must be unique for each listener")
        names.add(listener.name)
        places.add(place)


def _infrastructure(value: m.GatewayInfrastructure, path: str) -> Findings:
    for name, word, entries in (("annotations", "Annotation", value.annotations), ("labels", "Label", value.labels)):
        for key in entries:
            if not re.match(QUALIFIED_NAME, key):
                yield Finding(
                    f"{path}.{name}",
                    f"{key!r}: {word} keys must be in the form of an optional DNS subdomain prefix followed by a "
                    "required name segment of up to 63 characters.",
                )
            if len(key.partition("/")[0]) >= 253:
                yield Finding(
                    f"{path}.{name}",
                    f"If specified, the {word.lower()} key's prefix must be a DNS subdomain not longer than 253 "
                    "characters in total.",
                )


def _gateway(spec: m.GatewaySpec, version: str) -> Findings:
    yield from _addresses(spec.addresses, "spec.addresses")
    if spec.infrastructure:
        yield from _infrastructure(spec.infrastructure, "spec.infrastructure")
    yield from _listeners(spec.listeners, "spec.listeners")
    ports = [each.port for each in spec.tls.frontend.per_port] if spec.tls and spec.tls.frontend else []
    for index, port in enumerate(ports):
        if port in ports[:index]:
            yield Finding(
                f"spec.tls.frontend.perPort[{index}].port",
                "Port for TLS configuration must be unique within the Gateway",
            )


def _listener_set(spec: m.ListenerSetSpec, version: str) -> Findings:
    return _listeners(spec.listeners, "spec.listeners")


# ---- BackendTLSPolicy


def _target_refs(refs: tuple[m.LocalPolicyTargetReferenceWithSectionName, ...], path: str) -> Findings:
    places = sorted(range(len(refs)), key=lambda index: (refs[index].group, refs[index].kind, refs[index].name))
    for _, same in groupby(places, key=lambda index: (refs[index].group, refs[index].kind, refs[index].name)):
        first, *others = same
        for index in others:
            if (refs[index].section_name is None) != (refs[first].section_name is None):
                yield Finding(
                    f"{path}[{index}]",
                    "sectionName must be specified when targetRefs includes 2 or more references to the same target",
                )
            elif refs[index] in refs[:index]:
                yield Finding(
                    f"{path}[{index}]",
                    "sectionName must be unique when targetRefs includes 2 or more references to the same target",
                )


def _alt_name(value: m.SubjectAltName, path: str) -> Findings:
    for kind, name, given in (("Hostname", "hostname", value.hostname), ("URI", "uri", value.uri)):
        word = "Hostname" if name == "hostname" else "URI"
        if value.type == kind and not given:
            yield Finding(f"{path}.{name}", f"SubjectAltName element must contain {word}, if Type is set to {kind}")
        if value.type != kind and given:
            yield Finding(
                f"{path}.{name}", f"SubjectAltName element must not contain {word}, if Type is not set to {kind}"
            )


def _tls_validation(value: m.BackendTLSPolicyValidation, path: str) -> Findings:
    if value.ca_certificate_refs and value.well_known_ca_certificates:
        yield Finding(path, "must not contain both CACertificateRefs and WellKnownCACertificates")
    if not value.ca_certificate_refs and not value.well_known_ca_certificates:
        yield Finding(path, "must specify either CACertificateRefs or WellKnownCACertificates")
    for index, name in enumerate(value.subject_alt_names):
        yield from _alt_name(name, f"{path}.subjectAltNames[{index}]")


def _backend_tls_policy(spec: m.BackendTLSPolicySpec, version: str) -> Findings:
    yield from _target_refs(spec.target_refs, "spec.targetRefs")
    yield from _tls_validation(spec.validation, "spec.validation")


def _x_backend(spec: m.XBackendSpec, version: str) -> Findings:
    yield from since.x_backend(spec)
    if spec.session_persistence:
        yield from _session(spec.session_persistence, "spec.sessionPersistence")
    if spec.tls.validation:
        yield from _tls_validation(spec.tls.validation, "spec.tls.validation")


# ---- XBackendTrafficPolicy


def _x_backend_traffic_policy(spec: m.XBackendTrafficPolicySpec, version: str) -> Findings:
    for index, ref in enumerate(spec.target_refs):
        if ref in spec.target_refs[:index]:
            yield Finding(f"spec.targetRefs[{index}]", f"Duplicate value: {ref.group}/{ref.kind} {ref.name}")
    if constraint := spec.retry_constraint:
        if not 1 <= seconds(constraint.budget.interval) <= 3600:
            yield Finding("spec.retryConstraint.budget.interval",
                          "interval cannot be greater than one hour or less than one second")
        if constraint.min_retry_rate.interval is not None and not 0 < seconds(constraint.min_retry_rate.interval) <= 3600:
            yield Finding("spec.retryConstraint.minRetryRate.interval", "interval cannot be greater than one hour")
    if spec.session_persistence:
        yield from _session(spec.session_persistence, "spec.sessionPersistence")


# ---- PythonFilter


def _python_filter(spec: m.PythonFilterSpec, version: str) -> Findings:
    if [spec.module, spec.file, spec.config_map].count(None) != 2:
        yield Finding("spec", "exactly one of module (what Python imports), file (beside this one) and configMap has to be given")
    if not 0 < seconds(spec.timeout) <= 3600:
        yield Finding("spec.timeout", "timeout has to be more than 0s and at most 1h")


# ---- CertificateFile


def _certificate_file(spec: m.CertificateFileSpec, version: str) -> Findings:
    if (spec.certificate is None) != (spec.key is None):
        yield Finding("spec", "certificate and key have to be given together")
    if spec.certificate is None and spec.ca is None:
        yield Finding("spec", "certificate and key, or ca, have to be given")


# ---- BackendPolicy


def _backend_policy(spec: m.BackendPolicySpec, version: str) -> Findings:
    yield from _target_refs(spec.target_refs, "spec.targetRefs")
    check, slow, breaker = spec.health_check, spec.slow_start, spec.circuit_breaker
    passive, active = (check.passive, check.active) if check else (None, None)
    times = []
    if passive:
        times.append(("spec.healthCheck.passive.baseEjectionTime", passive.base_ejection_time))
    if active:
        at = "spec.healthCheck.active"
        times += [(f"{at}.interval", active.interval), (f"{at}.timeout", active.timeout)]
        for name, kind, given in (("http", "HTTP", active.http), ("grpc", "GRPC", active.grpc)):
            if given and active.type != kind:
                yield Finding(f"{at}.{name}", f"{name} must not be given unless type is {kind}")
    if slow:
        times.append(("spec.slowStart.window", slow.window))
    if breaker:
        times.append(("spec.circuitBreaker.pendingTimeout", breaker.pending_timeout))
    for path, given in times:
        if not 0.01 <= seconds(given) <= 86400:
            yield Finding(path, f"must be from 10ms to 24h, not {given}")


# ---- GatewayParameters


def _gateway_parameters(spec: m.GatewayParametersSpec, version: str) -> Findings:
    scaling, budget = spec.autoscaling, spec.pod_disruption_budget
    if scaling and spec.replicas is not None:
        yield Finding("spec.replicas", "replicas must not be given with autoscaling, which decides them")
    if scaling and (scaling.min_replicas or 1) > scaling.max_replicas:
        yield Finding("spec.autoscaling.minReplicas", "minReplicas must not be more than maxReplicas")
    if budget and (budget.min_available is None) == (budget.max_unavailable is None):
        yield Finding("spec.podDisruptionBudget", "exactly one of minAvailable and maxUnavailable has to be given")
    for index, one in enumerate(spec.env or ()):
        if one.value is not None and one.value_from is not None:
            yield Finding(f"spec.env[{index}].valueFrom", "value and valueFrom must not both be given")
    yield from _unique(spec.env or (), "spec.env", "name")
    yield from _unique(spec.allowed_for_gateways or (), "spec.allowedForGateways")
    yield from _unique(spec.addresses or (), "spec.addresses")


# ---- Of Kubernetes itself (pkg/apis/core/validation, pkg/apis/discovery/validation)


def _service(spec: m.ServiceSpec, version: str) -> Findings:
    """A targetPort that is a string is the name of a container's port, never a number."""
    for index, port in enumerate(spec.ports):
        if isinstance(port.target_port, str) and not _PORT_NAME.fullmatch(port.target_port):
            hint = ": a number has no quotes" if port.target_port.isdigit() else ""
            yield Finding(f"spec.ports[{index}].targetPort", f"{port.target_port!r} is not allowed, a name must be at most 15 "
                          f"lower-case letters, digits and '-', with a letter among them{hint}")


_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")


def _endpoint_slice(value: m.EndpointSlice, version: str) -> Findings:
    families = {"IPv4": (socket.AF_INET, "an IPv4 address"), "IPv6": (socket.AF_INET6, "an IPv6 address")}
    family, words = families.get(value.address_type, (None, "a DNS name"))
    for index, endpoint in enumerate(value.endpoints):
        for place, address in enumerate(endpoint.addresses):
            if not (_is_address(family, address) if family else _FQDN.fullmatch(address.lower())):
                yield Finding(f"endpoints[{index}].addresses[{place}]",
                              f"{address!r} is not allowed, must be {words} as addressType {value.address_type} says")


_FQDN = re.compile(SUBDOMAIN.removesuffix(r"\Z") + r"\.?")


def _is_address(family: socket.AddressFamily, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


_RULES: dict[type[m.Resource], Callable[[object, str], Findings]] = {
    m.HTTPRoute: _http_route,
    m.GRPCRoute: _grpc_route,
    m.TLSRoute: _tls_route,
    m.TCPRoute: _layer4_route,
    m.UDPRoute: _layer4_route,
    m.Gateway: _gateway,
    m.ListenerSet: _listener_set,
    m.BackendTLSPolicy: _backend_tls_policy,
    m.XBackendTrafficPolicy: _x_backend_traffic_policy,
    m.XBackend: _x_backend,
    m.PythonFilter: _python_filter,
    m.CertificateFile: _certificate_file,
    m.BackendPolicy: _backend_policy,
    m.GatewayParameters: _gateway_parameters,
    m.Service: _service,
    m.EndpointSlice: _endpoint_slice,
}
