"""EndpointSlice, and its rule (k8s.io/api/discovery/v1; pkg/apis/discovery/validation)."""
import re
import socket
from typing import ClassVar, Literal

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import NEWEST, CoreResource, OpenType, words
from gwfast.config.scalars import SUBDOMAIN, Port


class EndpointConditions(OpenType, kw_only=True, frozen=True):
    """None means unknown, which is to be read as true for `ready` (k8s.io/api/discovery/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(OpenType, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = words("hostname targetRef nodeName hints topology deprecatedTopology")

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    zone: str | None = None


class EndpointPort(OpenType, kw_only=True, frozen=True):
    name: str = ""
    port: Port | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None


class EndpointSlice(CoreResource, kw_only=True):
    """Belongs to the Service named by the label kubernetes.io/service-name in its namespace."""

    kind: ClassVar[str] = "EndpointSlice"
    group: ClassVar[str] = "discovery.k8s.io"
    api_version: str = "discovery.k8s.io/v1"
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        """Every address is of the addressType."""
        family, name = _FAMILIES[self.address_type]
        for index, endpoint in enumerate(self.endpoints):
            for place, address in enumerate(endpoint.addresses):
                if not (_is_address(family, address) if family else re.fullmatch(_FQDN, address.lower())):
                    yield Finding(f"endpoints[{index}].addresses[{place}]",
                                  f"{address!r} is not allowed, must be {name} as addressType {self.address_type} says")


_FQDN = SUBDOMAIN.removesuffix(r"\Z") + r"\.?"
_FAMILIES: dict[str, tuple[socket.AddressFamily | None, str]] = {
    "IPv4": (socket.AF_INET, "an IPv4 address"), "IPv6": (socket.AF_INET6, "an IPv6 address"), "FQDN": (None, "a DNS name"),
}


def _is_address(family: socket.AddressFamily, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
