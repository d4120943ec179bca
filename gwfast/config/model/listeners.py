"""Listeners, which Gateways and ListenerSets have, and their rules (gateway_types.go, listenerset_types.go)."""
from typing import Annotated, Literal

from msgspec import Meta, field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.filters import ListenerFilters, check_filter, check_filters_since_1_7
from gwfast.config.model.references import LabelSelector, SecretObjectReference
from gwfast.config.model.resource import GATEWAY_GROUP, NO_LABELS, Type
from gwfast.config.scalars import AnnotationValue, Group, Hostname, Kind, Port, ProtocolType, SectionName


class RouteGroupKind(Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind


class RouteNamespaces(Type, kw_only=True, frozen=True):
    from_: Literal["All", "Selector", "Same"] = field(default="Same", name="from")
    selector: LabelSelector | None = None


class AllowedRoutes(Type, kw_only=True, frozen=True):
    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()


class ListenerTLSConfig(Type, kw_only=True, frozen=True):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=lambda: NO_LABELS)


class Listener(Type, kw_only=True, frozen=True):
    """Also a ListenerEntry of a ListenerSet: the fields are the same."""

    name: SectionName
    hostname: Hostname | None = None
    port: Port
    protocol: ProtocolType
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()
    filters: ListenerFilters | None = None


def _listener_tls(listener: Listener, path: str) -> Findings:
    tls = listener.tls
    if listener.protocol in ("HTTP", "TCP", "UDP") and tls:
        yield Finding(f"{path}.tls", "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']")
    if listener.protocol == "HTTPS" and tls and tls.mode != "Terminate":
        yield Finding(f"{path}.tls.mode", "tls mode must be Terminate for protocol HTTPS")
    if listener.protocol == "TLS" and not tls:
        yield Finding(f"{path}.tls.mode", "tls mode must be set for protocol TLS")
    if tls and tls.mode == "Terminate" and not tls.certificate_refs and not tls.options:
        yield Finding(f"{path}.tls", "certificateRefs or options must be specified when mode is Terminate")


def _listener_filters(listener: Listener, filters: ListenerFilters, path: str) -> Findings:
    if listener.protocol not in ("HTTP", "HTTPS"):
        yield Finding(f"{path}.filters", "filters may only be set when protocol is HTTP or HTTPS")
    for index, each in enumerate(filters.requests):
        yield from check_filter(each, f"{path}.filters.requests[{index}]")


def check_listeners(listeners: tuple[Listener, ...], path: str) -> Findings:
    """Check listeners one by one and beside each other."""
    names: set[str] = set()
    places: set[tuple[int, str, str | None]] = set()
    for index, listener in enumerate(listeners):
        at = f"{path}[{index}]"
        yield from _listener_tls(listener, at)
        if listener.filters:
            yield from _listener_filters(listener, listener.filters, at)
        if listener.protocol in ("TCP", "UDP") and listener.hostname:
            yield Finding(f"{at}.hostname", "hostname must not be specified for protocols ['TCP', 'UDP']")
        if listener.name in names:
            yield Finding(f"{at}.name", "Listener name must be unique within the Gateway")
        place = (listener.port, listener.protocol, listener.hostname)
        if place in places:
            yield Finding(at, "Combination of port, protocol and hostname must be unique for each listener")
        names.add(listener.name)
        places.add(place)


def check_listeners_since_1_7(listeners: tuple[Listener, ...], path: str) -> Findings:
    for index, listener in enumerate(listeners):
        if listener.filters:
            yield from check_filters_since_1_7(listener.filters.requests, f"{path}[{index}].filters.requests")
