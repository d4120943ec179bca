"""Gateway, and its rules (gateway_types.go)."""
import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.listeners import Listener, check_listeners, check_listeners_since_1_7
from gwfast.config.model.references import LabelSelector, LocalObjectReference, ObjectReference, SecretObjectReference
from gwfast.config.model.resource import CERTIFICATES_GROUP, NEWEST, NO_LABELS, Resource, Type
from gwfast.config.scalars import (
    HOSTNAME, QUALIFIED_NAME, SUBDOMAIN, AddressType, AnnotationValue, GatewayDefaultScope, LabelValue, ObjectName, Port, is_ip,
)


class GatewaySpecAddress(Type, kw_only=True, frozen=True):
    type: AddressType = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None
    routability: Annotated[str, Meta(max_length=253)] | None = None


class GatewayInfrastructure(Type, kw_only=True, frozen=True):
    labels: Annotated[dict[str, LabelValue], Meta(max_length=8)] = field(default_factory=lambda: NO_LABELS)
    annotations: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=lambda: NO_LABELS)
    parameters_ref: LocalObjectReference | None = None


class ListenerNamespaces(Type, kw_only=True, frozen=True):
    from_: Literal["All", "Selector", "Same", "None"] = field(default="None", name="from")
    selector: LabelSelector | None = None


class AllowedListeners(Type, kw_only=True, frozen=True):
    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendTLSValidation(Type, kw_only=True, frozen=True):
    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], Meta(min_length=1, max_length=16)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class TLSConfig(Type, kw_only=True, frozen=True):
    validation: FrontendTLSValidation | None = None


class TLSPortConfig(Type, kw_only=True, frozen=True):
    port: Port
    tls: TLSConfig


class FrontendTLSConfig(Type, kw_only=True, frozen=True):
    default: TLSConfig
    per_port: Annotated[tuple[TLSPortConfig, ...], Meta(max_length=64)] = ()


class GatewayBackendTLS(Type, kw_only=True, frozen=True):
    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLSConfig(Type, kw_only=True, frozen=True):
    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(Type, kw_only=True, frozen=True):
    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]
    addresses: Annotated[tuple[GatewaySpecAddress, ...], Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTLSConfig | None = None
    default_scope: GatewayDefaultScope | None = None


class Gateway(Resource, kw_only=True):
    kind: ClassVar[str] = "Gateway"
    spec: GatewaySpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec = self.spec
        yield from _addresses(spec.addresses, "spec.addresses")
        if spec.infrastructure:
            yield from _infrastructure(spec.infrastructure, "spec.infrastructure")
        yield from check_listeners(spec.listeners, "spec.listeners")
        if spec.tls and spec.tls.frontend:
            yield from _ports(spec.tls.frontend.per_port)
        if release >= 7:
            yield from _since_1_7(spec)


def _address(value: GatewaySpecAddress, path: str) -> Findings:
    if value.value is None:
        return
    if value.type == "IPAddress" and not is_ip(value.value):
        yield Finding(f"{path}.value", f"{value.value!r} is no IPv4 or IPv6 address")
    if value.type == "Hostname" and value.value and not re.match(HOSTNAME, value.value):
        yield Finding(
            f"{path}.value",
            "Hostname value must be empty or contain only valid characters (matching "
            r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)",
        )


def _addresses(addresses: tuple[GatewaySpecAddress, ...], path: str) -> Findings:
    for index, address in enumerate(addresses):
        yield from _address(address, f"{path}[{index}]")
        if address.type in ("IPAddress", "Hostname") and address.value is not None and address in addresses[:index]:
            yield Finding(f"{path}[{index}].value", f"{address.type} values must be unique")


def _infrastructure(value: GatewayInfrastructure, path: str) -> Findings:
    for name, word, entries in (("annotations", "Annotation", value.annotations), ("labels", "Label", value.labels)):
        for key in entries:
            if not re.match(QUALIFIED_NAME, key):
                yield Finding(f"{path}.{name}", f"{key!r}: {word} keys must be in the form of an optional DNS subdomain prefix "
                              "followed by a required name segment of up to 63 characters.")
            if len(key.partition("/")[0]) >= 253:
                yield Finding(f"{path}.{name}", f"If specified, the {word.lower()} key's prefix must be a DNS subdomain not "
                              "longer than 253 characters in total.")


def _ports(configs: tuple[TLSPortConfig, ...]) -> Findings:
    ports = [each.port for each in configs]
    for index, port in enumerate(ports):
        if port in ports[:index]:
            yield Finding(f"spec.tls.frontend.perPort[{index}].port",
                          "Port for TLS configuration must be unique within the Gateway")


def _since_1_7(spec: GatewaySpec) -> Findings:
    for index, address in enumerate(spec.addresses):
        if address.routability and not _routable(address.routability):
            yield Finding(f"spec.addresses[{index}].routability",
                          "Routability must be empty, Cluster, or an implementation-specific prefixed path; k8s.io and its "
                          "subdomains are reserved")
    yield from check_listeners_since_1_7(spec.listeners, "spec.listeners")
    frontend = spec.tls.frontend if spec.tls else None
    if frontend:
        yield from _client_authorities(frontend.default, "spec.tls.frontend.default")
        for index, one in enumerate(frontend.per_port):
            yield from _client_authorities(one.tls, f"spec.tls.frontend.perPort[{index}].tls")


def _client_authorities(tls: TLSConfig, path: str) -> Findings:
    for index, ref in enumerate(tls.validation.ca_certificate_refs if tls.validation else ()):
        if (ref.group, ref.kind) == (CERTIFICATES_GROUP, "ClusterTrustBundle") and ref.namespace is not None:
            yield Finding(f"{path}.validation.caCertificateRefs[{index}].namespace",
                          "ClusterTrustBundle references must not specify namespace")


def _routable(value: str) -> bool:
    domain, slash, rest = value.partition("/")
    return value == "Cluster" or bool(
        slash and rest and re.match(SUBDOMAIN, domain) and domain != "k8s.io" and not domain.endswith(".k8s.io"))
