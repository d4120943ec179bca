"""GRPCRoute, and its rules (grpcroute_types.go)."""
import re
from typing import Annotated, ClassVar

from msgspec import Meta

from gwfast.config.findings import Finding, Findings, unique
from gwfast.config.model.filters import GRPCRouteFilter, check_filters
from gwfast.config.model.references import BackendRef, check_parent_refs
from gwfast.config.model.resource import NEWEST, Resource, Type
from gwfast.config.model.routes import (
    CommonRouteSpec, check_backend_refs, check_match_count, check_rule_names, check_rule_since_1_7,
)
from gwfast.config.model.session_persistence import SessionPersistence, check_session
from gwfast.config.scalars import HeaderName, Hostname, MatchType, SectionName


class GRPCMethodMatch(Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    service: Annotated[str, Meta(max_length=1024)] | None = None
    method: Annotated[str, Meta(max_length=1024)] | None = None


class GRPCHeaderMatch(Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class GRPCRouteMatch(Type, kw_only=True, frozen=True):
    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[GRPCHeaderMatch, ...], Meta(max_length=16)] = ()


class GRPCBackendRef(BackendRef, kw_only=True, frozen=True):
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()


class GRPCRouteRule(Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], Meta(max_length=64)] = ()
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], Meta(max_length=16)] = ()


class GRPCRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "GRPCRoute"
    spec: GRPCRouteSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec = self.spec
        yield from check_parent_refs(spec.parent_refs, "spec.parentRefs")
        yield from check_match_count(spec.rules, "spec.rules")
        yield from check_rule_names(spec.rules, "spec.rules")
        for index, rule in enumerate(spec.rules):
            yield from _rule(rule, f"spec.rules[{index}]")
        if release >= 7:
            for index, rule in enumerate(spec.rules):
                yield from check_rule_since_1_7(rule, f"spec.rules[{index}]")


_SERVICE = r"(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*"
_METHOD = r"[A-Za-z_][A-Za-z_0-9]*"


def _method(value: GRPCMethodMatch, path: str) -> Findings:
    if value.service is None and value.method is None:
        yield Finding(path, "One or both of 'service' or 'method' must be specified")
    if value.type != "Exact":
        return
    if value.service is not None and not re.fullmatch(_SERVICE, value.service):
        yield Finding(
            f"{path}.service",
            r"service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)",
        )
    if value.method is not None and not re.fullmatch(_METHOD, value.method):
        yield Finding(
            f"{path}.method", "method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)"
        )


def _rule(rule: GRPCRouteRule, path: str) -> Findings:
    for index, match in enumerate(rule.matches):
        if match.method:
            yield from _method(match.method, f"{path}.matches[{index}].method")
        yield from unique(match.headers, f"{path}.matches[{index}].headers", "name")
    yield from check_filters(rule.filters, f"{path}.filters")
    yield from check_backend_refs(rule.backend_refs, f"{path}.backendRefs")
    if rule.session_persistence:
        yield from check_session(rule.session_persistence, f"{path}.sessionPersistence")
