"""TLSRoute, TCPRoute and UDPRoute, and their rules (tlsroute_types.go, tcproute_types.go, udproute_types.go).

v1 has one rule; up to 16 are read because v1alpha2 had them (spec 6.2).
"""
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.references import BackendRef, check_parent_refs
from gwfast.config.model.resource import NEWEST, Resource, Type
from gwfast.config.model.routes import CommonRouteSpec, check_backend_refs, check_backend_refs_since_1_7, check_rule_names
from gwfast.config.scalars import Hostname, SectionName, is_ip


class _Rule(Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], Meta(min_length=1, max_length=16)]


class TLSRouteRule(_Rule, kw_only=True, frozen=True):
    """A rule of a TLSRoute."""


class TLSRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=1024)] = ()
    rules: Annotated[tuple[TLSRouteRule, ...], Meta(min_length=1, max_length=16)]


class TLSRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "TLSRoute"
    spec: TLSRouteSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        if version != "v1alpha2":
            yield from _hostnames(self.spec.hostnames)
        yield from _layer4_route(self.spec, version, release)


class TCPRouteRule(_Rule, kw_only=True, frozen=True):
    """A rule of a TCPRoute."""


class TCPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    rules: Annotated[tuple[TCPRouteRule, ...], Meta(min_length=1, max_length=16)]


class TCPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "TCPRoute"
    spec: TCPRouteSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        return _layer4_route(self.spec, version, release)


class UDPRouteRule(_Rule, kw_only=True, frozen=True):
    """A rule of a UDPRoute."""


class UDPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    rules: Annotated[tuple[UDPRouteRule, ...], Meta(min_length=1, max_length=16)]


class UDPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "UDPRoute"
    spec: UDPRouteSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        return _layer4_route(self.spec, version, release)


def _layer4_route(spec: TCPRouteSpec | UDPRouteSpec | TLSRouteSpec, version: str, release: int) -> Findings:
    rules: Sequence[_Rule] = spec.rules
    yield from check_parent_refs(spec.parent_refs, "spec.parentRefs")
    if len(rules) > 1 and version != "v1alpha2":
        yield Finding("spec.rules", f"must have at most 1 items, has {len(rules)}")
    yield from check_rule_names(rules, "spec.rules")
    for index, rule in enumerate(rules):
        yield from check_backend_refs(rule.backend_refs, f"spec.rules[{index}].backendRefs")
    if release >= 7:
        for index, rule in enumerate(rules):
            yield from check_backend_refs_since_1_7(rule.backend_refs, f"spec.rules[{index}].backendRefs")


def _hostnames(hostnames: tuple[str, ...]) -> Findings:
    if not hostnames:
        yield Finding("spec.hostnames", "must have at least 1 items, has 0")
    for index, hostname in enumerate(hostnames):
        if is_ip(hostname):
            yield Finding(f"spec.hostnames[{index}]", "Hostnames cannot contain an IP")
