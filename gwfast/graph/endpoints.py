"""Endpoints of a Service: which endpoints of its EndpointSlices are ready, on which port, and why there are none.

Rules:
- A port of a slice belongs to the Service's port of the same name. If no name is the same, the target port decides
  (k8s.io/api/discovery/v1).
- An endpoint of which nobody says whether it is ready counts as ready.
- A backend without endpoints is not refused, since endpoints come and go. A warning says why there are none.
"""
from __future__ import annotations

from collections.abc import Iterator

from gwfast.config.model import EndpointSlice, Service
from gwfast.config.model import ServicePort as Port
from gwfast.graph.model import Note, Target

_NOTHING = {"tcp": "connections to it are closed", "udp": "datagrams to it are dropped"}
_NAMED = 3  # ports that a message names


def ready(endpoints: EndpointSlice, port: Port) -> Iterator[tuple[str, int]]:
    """Yield (address or name, port) of the endpoints that are ready."""
    number = slice_port(endpoints, port)
    if number is None:
        return
    for endpoint in endpoints.endpoints:
        if endpoint.conditions.ready is not False:
            for address in endpoint.addresses:
                yield (address, number)


def ready_addresses(endpoints: EndpointSlice) -> Iterator[str]:
    """Yield the addresses of the endpoints that are ready, whatever ports they have."""
    for endpoint in endpoints.endpoints:
        if endpoint.conditions.ready is not False:
            yield from endpoint.addresses


def slice_port(endpoints: EndpointSlice, port: Port) -> int | None:
    """Return the number that a Service's port has in a slice; None where it has none."""
    ports = [one for one in endpoints.ports if one.protocol == port.protocol]
    target = port.target_port if port.target_port is not None else port.port
    for one in ports:
        if one.name == port.name:
            return one.port or (target if isinstance(target, int) else None)
    for one in ports:
        if target in (one.port, one.name):
            return one.port
    return None


def endpoints_note(target: Target, service: Service | None, port: Port | None, slices: list[EndpointSlice]) -> Note | None:
    """Return what there is to say about the endpoints of a target: of its Service, or the first of its slices."""
    if target.hosts or not slices:  # in a cluster they come a moment after the Service
        return _named_port(target, service, port)
    wanted = port or Port(port=target.port, protocol="UDP" if target.protocol == "udp" else "TCP")
    without = [one for one in slices if slice_port(one, wanted) is None]
    if target.addresses or target.names:
        return _stray(target, service, without)
    field = f"spec.ports[{service.spec.ports.index(port)}]" if service and port else "ports"
    nothing = _NOTHING.get(target.protocol, "requests for it get 503")
    return _say(service or slices[0], field,
                f"{_port_words(target, wanted)} has no endpoint: {_why(slices, without, wanted)}: {nothing}")


def _stray(target: Target, service: Service | None, without: list[EndpointSlice]) -> Note | None:
    """Return a warning for a slice that beside others has endpoints for no port of the Service."""
    if service is None:
        return None
    for one in without:
        if one.endpoints and not any(slice_port(one, port) for port in service.spec.ports):
            whose = f"Service {target.namespace}/{target.name}"
            return _say(one, "ports", f"its endpoints get nothing, no port of {whose} is one of its ports: {_ports(one)}")
    return None


def _why(slices: list[EndpointSlice], without: list[EndpointSlice], port: Port) -> str:
    """Say why none of the slices, of which these are without the port, has an endpoint for it."""
    if len(without) == len(slices):
        name = f"named {port.name}" if port.name else f"{port.target_port or port.port} or without a name"
        return f"no EndpointSlice has a port {name}: {_ports(slices[0])}"
    count = sum(len(one.endpoints) for one in slices if one not in without)
    return f"none of its {count} endpoints is ready" if count else "its EndpointSlices have no endpoints"


def _port_words(target: Target, port: Port) -> str:
    name = f" ({port.name})" if port.name else ""
    return f"port {target.port}{name} of Service {target.namespace}/{target.name}"


def _ports(endpoints: EndpointSlice) -> str:
    words = [" ".join(filter(None, (one.name, str(one.port or ""), one.protocol if one.protocol != "TCP" else "")))
             for one in endpoints.ports]
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{endpoints.metadata.name} has {', '.join(words[:_NAMED]) or 'none'}{more}"


def _named_port(target: Target, service: Service | None, port: Port | None) -> Note | None:
    """A name of a container's port means something to who makes EndpointSlices, and to nobody else."""
    if service is None or port is None or not target.hosts:
        return None
    if not isinstance(port.target_port, str) or service.spec.type == "ExternalName":
        return None
    return _say(service, f"spec.ports[{service.spec.ports.index(port)}].targetPort",
                f"{port.target_port} is a name, and without an EndpointSlice nothing says which number it is: {port.port}, the "
                "Service's own, is dialled", "NamedPort")


def _say(resource: Service | EndpointSlice, field: str, message: str, reason: str = "NoEndpoints") -> Note:
    return Note(resource=resource, field=field, reason=reason, message=message)
