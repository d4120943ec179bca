"""The addresses that Gateways without spec.addresses are reached at, where one process serves all of them.

    --publish-status-address A,B    these, as they are
    --publish-service NS/NAME       those of the Service in front of our Pods, which is followed: a load balancer may come late
    POD_IP                          of the environment (the downward API): of a lone Pod, or one on the host's network
    none of them                    the address that this machine reaches the API server from

Rule: of a Service the load balancer's addresses count, and spec.externalIPs; of one that wants no load balancer its cluster IPs.
"""
from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from gwfast.kubernetes.client import Client
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Name, Seen

Address = tuple[str, str]  # IPAddress or Hostname, and the value


class _Ingress(msgspec.Struct, gc=False):
    ip: str = ""
    hostname: str = ""


class _LoadBalancer(msgspec.Struct, gc=False):
    ingress: list[_Ingress] | None = None


class _Status(msgspec.Struct, rename="camel", gc=False):
    load_balancer: _LoadBalancer | None = None


class _Spec(msgspec.Struct, rename="camel", gc=False):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    external_name: str = ""


class _Service(msgspec.Struct, gc=False):
    spec: _Spec
    status: _Status | None = None


def typed(values: Iterable[str]) -> tuple[Address, ...]:
    """Return addresses as a Gateway's status has them, each once, in the order that they were given."""
    return tuple(dict.fromkeys((_type(value), value) for value in values if value))


def _type(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        return "Hostname"
    return "IPAddress"


def of_service(raw: bytes) -> tuple[Address, ...]:
    """Return the addresses of a Service (its JSON)."""
    service = msgspec.json.decode(raw, type=_Service)
    spec, balancer = service.spec, service.status and service.status.load_balancer
    found = [one.ip or one.hostname for one in (balancer and balancer.ingress) or ()]
    found += spec.external_ips or ()
    if spec.type == "ExternalName":
        found.append(spec.external_name)
    elif spec.type != "LoadBalancer":
        found += [one for one in spec.cluster_ips or (spec.cluster_ip,) if one != "None"]
    return typed(found)


def of_machine(server: str) -> tuple[Address, ...]:
    """Return the address of this Pod, or the one that this machine reaches the API server (a URL) from; () where it has none."""
    if pod := os.environ.get("POD_IP", ""):
        return typed([pod])
    url = urlsplit(server)
    try:
        for family, kind, _, _, where in socket.getaddrinfo(url.hostname, url.port or 443, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                probe.connect(where)  # of UDP: nothing is sent
                return typed([probe.getsockname()[0]])
    except OSError:
        pass
    return ()


class Published:
    """Follows the Service in front of our Pods; `changed()` when `addresses` are others. `message` says why there are none."""

    def __init__(self, client: Client, namespace: str, name: str, changed: Callable[[], None], log=None):
        self.addresses: tuple[Address, ...] = ()
        self.message = f"Service {namespace}/{name} is being read"
        self._name = f"{namespace}/{name}"
        self._changed = changed
        self._reflector = Reflector(client, f"/api/v1/namespaces/{namespace}/services", self,
                                    field_selector=f"metadata.name={name}", log=log)

    async def run(self) -> None:
        """Follow it, until cancelled."""
        await self._reflector.run()

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        """Take the Service as it is now."""
        try:
            found = of_service(raw)
        except msgspec.DecodeError:
            found = ()
        self._take(found, "" if found else f"Service {self._name} has no address yet")

    def gone(self, name: Name) -> None:
        """Know that there is no Service."""
        self._take((), f"there is no Service {self._name}")

    def synced(self) -> None:
        """Say so where there is none."""
        if not self._reflector.known:
            self.gone(("", ""))

    def _take(self, addresses: tuple[Address, ...], message: str) -> None:
        if (addresses, message) != (self.addresses, self.message):
            self.addresses, self.message = addresses, message
            self._changed()
