"""Backends: what a backendRef names, and the targets that the routes name together.

    resolve(ref) -> Resolved      a target's key, or the status that this share of the weight is answered with
    hold / release                a target lives as long as a rule names it
    targets                       key -> Target, with its endpoints: replaced when they change, the rules stay

Rules (spec 5.4):
- Referenced wrongly (kind, grant, port, protocol) is 500. Resolving to nothing is 503, and not seen here.
- A Service that is not among the resources is a DNS name, unless services are strict; so is a Service without
  EndpointSlices, and an ExternalName.
- What a BackendTLSPolicy protects is never sent to in clear.
"""
from __future__ import annotations

from typing import NamedTuple

from gwfast.config.model import BackendObjectReference, EndpointSlice, Key, Resource, Service
from gwfast.config.model import ServicePort as Port
from gwfast.graph.listeners import NOT_SERVED
from gwfast.graph.model import GraphOptions, Target
from gwfast.graph.refs import Resources

_CLEAR_HTTP = (None, "", "http", "HTTP", "kubernetes.io/ws")  # WebSocket is an upgrade of HTTP/1.1
_PROTOCOLS = {"HTTPRoute": "http", "GRPCRoute": "h2c", "TLSRoute": "tcp", "TCPRoute": "tcp", "UDPRoute": "udp"}


class Resolved(NamedTuple):
    """A reference that is fine has a target; one that is not has a status, a reason of the spec, and words."""

    target: str = ""
    status: int = 500
    reason: str = ""
    message: str = ""


class Backends:
    """Resolves backendRefs and keeps the targets that are in use."""

    def __init__(self, resources: Resources, options: GraphOptions):
        self._resources = resources
        self._options = options
        self._uses: dict[str, int] = {}
        self._of_service: dict[Key, tuple[str, ...]] = {}
        self.targets: dict[str, Target] = {}
        self.renewed: dict[str, Target | None] = {}  # of these, since whoever reads it has cleared it

    # ---- References

    def resolve(self, ref: BackendObjectReference, route: Resource) -> Resolved:
        """Return what a backendRef of a route comes to."""
        own = route.metadata.namespace
        if ref.kind != "Service" or ref.group:
            return Resolved(reason="InvalidKind", message=f"backends are Services, not {ref.group}/{ref.kind}")
        namespace, name, port = ref.namespace or own, ref.name, ref.port
        if namespace != own and not self._resources.permits(
            (route.group, route.kind, own), ("", "Service"), namespace, name
        ):
            message = f"no ReferenceGrant in {namespace} lets a {route.kind} of {own} refer to Service {name}"
            return Resolved(reason="RefNotPermitted", message=message)
        if port is None:
            return Resolved(reason="UnsupportedValue", message=f"a reference to Service {name} needs a port")
        service = self._resources.get("Service", namespace, name)
        if service is None and self._options.strict_services:
            return Resolved(reason="BackendNotFound", message=f"there is no Service {namespace}/{name}")
        return self._resolve_port(namespace, name, port, service, route)

    def _resolve_port(self, namespace: str, name: str, port: int, service: Service | None, route: Resource) -> Resolved:
        protocol = _PROTOCOLS[route.kind]
        found = None
        if service is not None and (service.spec.ports or service.spec.type != "ExternalName"):
            found = _port(service, port, "UDP" if protocol == "udp" else "TCP")
            if found is None:
                message = f"Service {namespace}/{name} has no port {port}"
                return Resolved(reason="BackendNotFound", message=message)
        if protocol == "http" and found is not None and found.app_protocol not in _CLEAR_HTTP:
            message = f"appProtocol {found.app_protocol} of port {port} is not served by this version"
            return Resolved(reason="UnsupportedProtocol", message=message)
        if self._resources.of("BackendTLSPolicy") and self._protected(Key("Service", namespace, name), found):
            message = f"a BackendTLSPolicy applies to Service {namespace}/{name}: TLS to backends is {NOT_SERVED}"
            return Resolved(reason="UnsupportedProtocol", message=message)
        return Resolved(f"{namespace}/{name}:{port}/{protocol}", 0)

    def _protected(self, service: Key, port: Port | None) -> bool:
        """Return whether a policy may apply: to a port whose name is not known, every policy may."""
        for policy in self._resources.policies(service):
            for ref in policy.spec.target_refs:
                if ref.name == service.name and (port is None or ref.section_name in (None, port.name)):
                    return True
        return False

    # ---- Targets

    def hold(self, key: str) -> None:
        uses = self._uses.get(key, 0)
        self._uses[key] = uses + 1
        if uses == 0:
            service, port, protocol = _split(key)
            self._of_service[service] = (*self._of_service.get(service, ()), key)
            self.targets[key] = self.renewed[key] = self._target(service, port, protocol)

    def release(self, key: str) -> None:
        self._uses[key] -= 1
        if self._uses[key] == 0:
            del self._uses[key], self.targets[key]
            self.renewed[key] = None
            service, _, _ = _split(key)
            self._of_service[service] = tuple(other for other in self._of_service[service] if other != key)
            if not self._of_service[service]:
                del self._of_service[service]

    def refresh(self, service: Key) -> None:
        """Look up the endpoints of a Service again; a target whose endpoints are the same stays the same."""
        for key in self._of_service.get(service, ()):
            _, port, protocol = _split(key)
            new = self._target(service, port, protocol)
            if _fields(new) != _fields(self.targets[key]):
                self.targets[key] = self.renewed[key] = new

    def _target(self, service: Key, port: int, protocol: str) -> Target:
        resource = self._resources.get(*service)
        names = {"namespace": service.namespace, "name": service.name, "port": port, "protocol": protocol}
        if resource is not None and resource.spec.type == "ExternalName":
            return Target(**names, source="dns", hosts=(resource.spec.external_name,), host_port=port)
        slices = list(self._resources.slices(service))
        if not slices and not (self._options.strict_services and resource):
            hosts = tuple(t.format(name=service.name, namespace=service.namespace) for t in self._options.dns_templates)
            return Target(**names, source="dns", hosts=hosts, host_port=port)
        transport = "UDP" if protocol == "udp" else "TCP"
        found = (_port(resource, port, transport) if resource else None) or Port(port=port, protocol=transport)
        addresses = {address for one in slices for address in _endpoints(one, found)}
        return Target(**names, **_literal_or_named(sorted(addresses), slices))


def _literal_or_named(addresses: list[tuple[str, int]], slices: list[EndpointSlice]) -> dict:
    """EndpointSlices of type FQDN hold names to look up; all of them stand for one host with one port."""
    if addresses and all(one.address_type == "FQDN" for one in slices):
        return {"source": "dns", "hosts": tuple(name for name, _ in addresses), "host_port": addresses[0][1]}
    return {"source": "slices", "addresses": tuple(addresses)}


def _endpoints(endpoints: EndpointSlice, port: Port):
    """Yield (address, port) of the endpoints that are ready; not knowing counts as ready."""
    number = _slice_port(endpoints, port)
    if number is None:
        return
    for endpoint in endpoints.endpoints:
        if endpoint.conditions.ready is not False:
            for address in endpoint.addresses:
                yield (address, number)


def _slice_port(endpoints: EndpointSlice, port: Port) -> int | None:
    """A slice's port has the Service port's name; where none has, the target port says which it is."""
    ports = [one for one in endpoints.ports if one.protocol == port.protocol]
    target = port.target_port if port.target_port is not None else port.port
    for one in ports:
        if one.name == port.name:
            return one.port or (target if isinstance(target, int) else None)
    for one in ports:
        if target in (one.port, one.name):
            return one.port
    return None


def _port(service: Service, port: int, transport: str) -> Port | None:
    for one in service.spec.ports:
        if one.port == port and one.protocol == transport:
            return one
    return None


def _split(key: str) -> tuple[Key, int, str]:
    namespace, rest = key.split("/", 1)
    name, _, protocol = rest.rpartition("/")
    name, _, port = name.rpartition(":")
    return Key("Service", namespace, name), int(port), protocol


def _fields(target: Target) -> tuple:
    return (target.source, target.addresses, target.hosts, target.host_port)
