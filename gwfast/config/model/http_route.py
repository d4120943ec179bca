"""HTTPRoute, and its rules (httproute_types.go)."""
import re
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings, unique
from gwfast.config.model.filters import HTTPRouteFilter, check_filters
from gwfast.config.model.references import BackendRef, check_parent_refs
from gwfast.config.model.resource import NEWEST, Resource, Type
from gwfast.config.model.routes import (
    CommonRouteSpec, check_backend_refs, check_match_count, check_rule_names, check_rule_since_1_7,
)
from gwfast.config.model.session_persistence import SessionPersistence, check_session
from gwfast.config.scalars import PATH, Duration, HeaderName, HeaderValue, Hostname, HTTPMethod, MatchType, SectionName, seconds


class HTTPPathMatch(Type, kw_only=True, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: HeaderValue


class HTTPQueryParamMatch(Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(Type, kw_only=True, frozen=True):
    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Meta(max_length=16)] = ()
    method: HTTPMethod | None = None


class HTTPBackendRef(BackendRef, kw_only=True, frozen=True):
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()


class HTTPRouteTimeouts(Type, kw_only=True, frozen=True):
    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(Type, kw_only=True, frozen=True):
    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=0)] | None = None  # None: 1, and up to v1.6 as many as the gateway likes (graph)
    backoff: Duration | None = None


class HTTPRouteRule(Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)


class HTTPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "HTTPRoute"
    spec: HTTPRouteSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        return () if is_plain(self.spec) else check_http_route(self.spec, release)


_ABSOLUTE = "['Exact', 'PathPrefix']"
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
        lambda v: not re.match(PATH, v),
    ),
)

_PLAIN_PATH = re.compile(r"(?:/[-A-Za-z0-9_~!$&'()*+,;=:@][-A-Za-z0-9._~!$&'()*+,;=:@]*)*/?")  # breaks no rule above


def _path_match(value: HTTPPathMatch, path: str) -> Findings:
    if value.type == "RegularExpression" or (value.value and _PLAIN_PATH.fullmatch(value.value)):
        return
    for message, broken in _PATH_RULES:
        if broken(value.value):
            yield Finding(f"{path}.value", message)


def _http_matches(matches: tuple[HTTPRouteMatch, ...], path: str) -> Findings:
    for index, match in enumerate(matches):
        yield from _path_match(match.path, f"{path}[{index}].path")
        if match.headers:
            yield from unique(match.headers, f"{path}[{index}].headers", "name")
        if match.query_params:
            yield from unique(match.query_params, f"{path}[{index}].queryParams", "name")


def _replaces_prefix(filters: tuple[HTTPRouteFilter, ...], attribute: str) -> bool:
    values = [getattr(each, attribute) for each in filters]
    return [bool(v and v.path and v.path.replace_prefix_match is not None) for v in values].count(True) == 1


def _prefix_filters(rule: HTTPRouteRule, path: str) -> Findings:
    """ReplacePrefixMatch needs to know the one prefix that it replaces."""
    if len(rule.matches) == 1 and rule.matches[0].path.type == "PathPrefix":
        return
    for name, attribute, when in (("RequestRedirect", "request_redirect", "when"), ("URLRewrite", "url_rewrite", "When")):
        message = f"using {name} filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
        if _replaces_prefix(rule.filters, attribute):
            yield Finding(f"{path}.matches", f"When {message}")
        if any(_replaces_prefix(ref.filters, attribute) for ref in rule.backend_refs):
            yield Finding(f"{path}.matches", f"Within backendRefs, {when} {message}")


def _redirects_rewritten(rule: HTTPRouteRule, path: str) -> Findings:
    """URLRewrite and RequestRedirect may not be combined (H:244-250), in one list or in the two that a request goes through."""
    if not any(each.url_rewrite for each in rule.filters):
        return
    for number, ref in enumerate(rule.backend_refs):
        for index, each in enumerate(ref.filters):
            if each.request_redirect:
                at = f"{path}.backendRefs[{number}].filters[{index}]"
                yield Finding(at, "RequestRedirect may not be combined with the URLRewrite of the rule")


def _timeouts(value: HTTPRouteTimeouts, path: str) -> Findings:
    if value.request and value.backend_request and 0 < seconds(value.request) < seconds(value.backend_request):
        yield Finding(f"{path}.backendRequest", "backendRequest timeout cannot be longer than request timeout")


def _http_rule(rule: HTTPRouteRule, path: str) -> Findings:
    yield from _http_matches(rule.matches, f"{path}.matches")
    yield from check_backend_refs(rule.backend_refs, f"{path}.backendRefs")
    if rule.filters:
        if rule.backend_refs and any(each.request_redirect for each in rule.filters):
            yield Finding(f"{path}.filters", "RequestRedirect filter must not be used together with backendRefs")
        yield from check_filters(rule.filters, f"{path}.filters")
        yield from _redirects_rewritten(rule, path)
    yield from _prefix_filters(rule, path)
    if rule.timeouts:
        yield from _timeouts(rule.timeouts, f"{path}.timeouts")
    if rule.retry:
        yield from unique(rule.retry.codes, f"{path}.retry.codes")
    if rule.session_persistence:
        yield from check_session(rule.session_persistence, f"{path}.sessionPersistence")


def is_plain(spec: HTTPRouteSpec) -> bool:
    """Whether a route has one parent, and one rule of plain paths and Services: then no rule of check_http_route is broken.

    Most routes are so, and for them this is all that is done."""
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


def check_http_route(spec: HTTPRouteSpec, release: int) -> Findings:
    """Check a route by every rule."""
    yield from check_parent_refs(spec.parent_refs, "spec.parentRefs")
    if len(spec.rules) > 1:
        yield from check_match_count(spec.rules, "spec.rules")
        yield from check_rule_names(spec.rules, "spec.rules")
    for index, rule in enumerate(spec.rules):
        yield from _http_rule(rule, f"spec.rules[{index}]")
    if release >= 7:
        for index, rule in enumerate(spec.rules):
            yield from check_rule_since_1_7(rule, f"spec.rules[{index}]")
