"""Filters of routes, of backends and of listeners, and their rules (httproute_types.go, grpcroute_types.go, gateway_types.go)."""
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings, unique
from gwfast.config.model.references import (
    BackendObjectReference, LocalObjectReference, check_backend_ref, check_backend_ref_since_1_7,
)
from gwfast.config.model.resource import Type
from gwfast.config.scalars import ORIGIN, PATH, HeaderName, HeaderValue, HTTPMethod, Port, PreciseHostname


class GRPCAuthConfig(Type, kw_only=True, frozen=True):
    allowed_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class HTTPAuthConfig(Type, kw_only=True, frozen=True):
    path: Annotated[str, Meta(max_length=1024, pattern=PATH)] | None = None
    allowed_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    allowed_response_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class ForwardBodyConfig(Type, kw_only=True, frozen=True):
    max_size: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class HTTPExternalAuthFilter(Type, kw_only=True, frozen=True):
    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


class HTTPHeader(Type, kw_only=True, frozen=True):
    name: HeaderName
    value: HeaderValue


class HTTPHeaderFilter(Type, kw_only=True, frozen=True):
    set: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


class HTTPPathModifier(Type, kw_only=True, frozen=True):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class HTTPRequestRedirectFilter(Type, kw_only=True, frozen=True):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Type, kw_only=True, frozen=True):
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class Fraction(Type, kw_only=True, frozen=True):
    numerator: Annotated[int, Meta(ge=0)]
    denominator: Annotated[int, Meta(ge=1)] = 100


class HTTPRequestMirrorFilter(Type, kw_only=True, frozen=True):
    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


_Origin = Annotated[str, Meta(min_length=1, max_length=253, pattern=ORIGIN)]
_Headers = Annotated[tuple[HeaderName, ...], Meta(max_length=64)]


class HTTPCORSFilter(Type, kw_only=True, frozen=True):
    allow_origins: Annotated[tuple[_Origin, ...], Meta(max_length=64)] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[tuple[HTTPMethod | Literal["*"], ...], Meta(max_length=9)] = ()
    allow_headers: _Headers = ()
    expose_headers: _Headers = ()
    max_age: Annotated[int, Meta(ge=1)] = 5


class HTTPRouteFilter(Type, kw_only=True, frozen=True):
    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite",
        "ExtensionRef", "CORS", "ExternalAuth",
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCRouteFilter(Type, kw_only=True, frozen=True):
    type: Literal["ResponseHeaderModifier", "RequestHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


class ListenerFilter(Type, kw_only=True, frozen=True):
    type: Literal["ExternalAuth", "ExtensionRef"]
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class ListenerFilters(Type, kw_only=True, frozen=True):
    requests: Annotated[tuple[ListenerFilter, ...], Meta(max_length=16)] = ()


def _header_modifier(value: HTTPHeaderFilter, path: str) -> Findings:
    yield from unique(value.set, f"{path}.set", "name")
    yield from unique(value.add, f"{path}.add", "name")
    yield from unique(value.remove, f"{path}.remove")
    yield from _one_action(value, path)


def _one_action(value: HTTPHeaderFilter, path: str) -> Findings:
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


def _mirror(value: HTTPRequestMirrorFilter, path: str) -> Findings:
    if value.percent is not None and value.fraction is not None:
        yield Finding(path, "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter")
    yield from check_backend_ref(value.backend_ref, f"{path}.backendRef")
    yield from check_fraction(value.fraction, f"{path}.fraction")


def check_fraction(value: Fraction | None, path: str) -> Findings:
    """A fraction is at most one."""
    if value and value.numerator > value.denominator:
        yield Finding(path, "numerator must be less than or equal to denominator")


def _path_modifier(value: HTTPPathModifier | None, path: str) -> Findings:
    if not value:
        return
    names = ("replaceFullPath", value.replace_full_path), ("replacePrefixMatch", value.replace_prefix_match)
    for name, given in names:
        kind = name[0].upper() + name[1:]
        if value.type == kind and given is None:
            yield Finding(f"{path}.path.{name}", f"{name} must be specified when type is set to '{kind}'")
        if value.type != kind and given is not None:
            yield Finding(f"{path}.path.type", f"type must be '{kind}' when {name} is set")


def _path_and_host(value: HTTPRequestRedirectFilter | HTTPURLRewriteFilter, path: str) -> Findings:
    return _path_modifier(value.path, path)


def _cors(value: HTTPCORSFilter, path: str) -> Findings:
    lists: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("allowOrigins", value.allow_origins, "AllowOrigins cannot contain '*' alongside other origins"),
        ("allowMethods", value.allow_methods, "AllowMethods cannot contain '*' alongside other methods"),
        ("allowHeaders", value.allow_headers, "AllowHeaders cannot contain '*' alongside other methods"),
    )
    for name, items, message in lists:
        if "*" in items and len(items) > 1:
            yield Finding(f"{path}.{name}", message)
        yield from unique(items, f"{path}.{name}")
    yield from unique(value.expose_headers, f"{path}.exposeHeaders")


def _external_auth(value: HTTPExternalAuthFilter, path: str) -> Findings:
    for name, protocol, given in (("grpc", "GRPC", value.grpc), ("http", "HTTP", value.http)):
        if value.protocol == protocol and not given:
            yield Finding(f"{path}.{name}", f"{name} must be specified when protocol is set to '{protocol}'")
        if value.protocol != protocol and given:
            yield Finding(f"{path}.protocol", f"protocol must be '{protocol}' when {name} is set")
    yield from check_backend_ref(value.backend_ref, f"{path}.backendRef")
    if value.grpc:
        yield from unique(value.grpc.allowed_headers, f"{path}.grpc.allowedHeaders")
    if value.http:
        yield from unique(value.http.allowed_headers, f"{path}.http.allowedHeaders")
        yield from unique(value.http.allowed_response_headers, f"{path}.http.allowedResponseHeaders")


# The type of a filter, the field that goes with it, the field's attribute, the field's own rules.
_FILTERS: tuple[tuple[str, str, str, Callable[..., Findings] | None], ...] = (
    ("CORS", "cors", "cors", _cors),
    ("RequestHeaderModifier", "requestHeaderModifier", "request_header_modifier", _header_modifier),
    ("ResponseHeaderModifier", "responseHeaderModifier", "response_header_modifier", _header_modifier),
    ("RequestMirror", "requestMirror", "request_mirror", _mirror),
    ("RequestRedirect", "requestRedirect", "request_redirect", _path_and_host),
    ("URLRewrite", "urlRewrite", "url_rewrite", _path_and_host),
    ("ExtensionRef", "extensionRef", "extension_ref", None),
    ("ExternalAuth", "externalAuth", "external_auth", _external_auth),
)


# No CEL rule for ExternalAuth, but the same words: only what says so may be repeated (H:241).
_ONCE = ("CORS", "ExternalAuth", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")


def check_filters(filters: Sequence[HTTPRouteFilter | GRPCRouteFilter], path: str) -> Findings:
    """Check a list of filters: which of them go together, and each by itself."""
    types: list[str] = [each.type for each in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        yield Finding(path, "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both")
    for kind in _ONCE:
        if types.count(kind) > 1:
            second = types.index(kind, types.index(kind) + 1)
            yield Finding(f"{path}[{second}]", f"{kind} filter cannot be repeated")
    for index, each in enumerate(filters):
        yield from check_filter(each, f"{path}[{index}]")


def check_filter(each: HTTPRouteFilter | GRPCRouteFilter | ListenerFilter, path: str) -> Findings:
    """A filter has the field that its type names and no other, and that field is right."""
    for kind, name, attribute, rules in _FILTERS:
        value = getattr(each, attribute, None)
        at = f"{path}.{name}"
        if value is not None and each.type != kind:
            yield Finding(at, f"filter.{name} must be nil if the filter.type is not {kind}")
        if value is None and each.type == kind:
            yield Finding(at, f"filter.{name} must be specified for {kind} filter.type")
        if value is not None and rules:
            yield from rules(value, at)


def check_filters_since_1_7(filters: Sequence[HTTPRouteFilter | GRPCRouteFilter | ListenerFilter], path: str) -> Findings:
    for index, each in enumerate(filters):
        if mirror := getattr(each, "request_mirror", None):
            yield from check_backend_ref_since_1_7(mirror.backend_ref, f"{path}[{index}].requestMirror.backendRef")
        if auth := getattr(each, "external_auth", None):
            yield from check_backend_ref_since_1_7(auth.backend_ref, f"{path}[{index}].externalAuth.backendRef")
