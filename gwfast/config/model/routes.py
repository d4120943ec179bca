"""What all kinds of routes have in common, and the rules about it (shared_types.go)."""
from collections.abc import Sequence
from typing import Annotated, Protocol

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.filters import GRPCRouteFilter, HTTPRouteFilter, check_filters, check_filters_since_1_7
from gwfast.config.model.references import BackendRef, ParentReference, check_backend_ref, check_backend_ref_since_1_7
from gwfast.config.model.resource import Type
from gwfast.config.model.session_persistence import SessionPersistence, check_session_since_1_7
from gwfast.config.scalars import GatewayDefaultScope


class CommonRouteSpec(Type, kw_only=True, frozen=True):
    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    use_default_gateways: GatewayDefaultScope | None = None


class _Named(Protocol):
    @property
    def name(self) -> str | None: ...


class _HTTPRule(Protocol):
    @property
    def filters(self) -> Sequence[HTTPRouteFilter | GRPCRouteFilter]: ...
    @property
    def backend_refs(self) -> Sequence[BackendRef]: ...
    @property
    def session_persistence(self) -> SessionPersistence | None: ...


class _Matching(Protocol):
    @property
    def matches(self) -> Sequence[object]: ...


def check_rule_names(rules: Sequence[_Named], path: str) -> Findings:
    names = [rule.name for rule in rules]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield Finding(f"{path}[{index}].name", "Rule name must be unique within the route")


def check_match_count(rules: Sequence[_Matching], path: str) -> Findings:
    if sum(len(rule.matches) for rule in rules) > 128:
        yield Finding(path, "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in "
                      "a route must be less than 128")


def check_backend_refs(refs: Sequence[BackendRef], path: str) -> Findings:
    """Check the backends of a rule, and the filters that some kinds of them have."""
    for index, ref in enumerate(refs):
        if ref.port is None:
            yield from check_backend_ref(ref, f"{path}[{index}]")
        if filters := getattr(ref, "filters", None):
            yield from check_filters(filters, f"{path}[{index}].filters")


def check_backend_refs_since_1_7(refs: Sequence[BackendRef], path: str) -> Findings:
    for index, ref in enumerate(refs):
        if ref.group:
            yield from check_backend_ref_since_1_7(ref, f"{path}[{index}]")
        if filters := getattr(ref, "filters", None):
            yield from check_filters_since_1_7(filters, f"{path}[{index}].filters")


def check_rule_since_1_7(rule: _HTTPRule, path: str) -> Findings:
    """Check a rule of an HTTPRoute or a GRPCRoute by what v1.7 added."""
    if rule.session_persistence:
        yield from check_session_since_1_7(rule.session_persistence, f"{path}.sessionPersistence")
    yield from check_filters_since_1_7(rule.filters, f"{path}.filters")
    yield from check_backend_refs_since_1_7(rule.backend_refs, f"{path}.backendRefs")
