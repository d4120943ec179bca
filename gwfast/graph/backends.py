"""Backends: resolves backendRefs, and keeps the targets that all routes name together.

    resolve(ref) -> Resolved      a target's key, or the status that this share of the weight is answered with
    hold / release                a target lives as long as a rule names it
    targets                       key -> Target, with its endpoints: replaced when they change, the rules stay

Rules (spec 5.4):
- A wrong reference (its kind, grant, port or protocol) is answered with 500. A target without endpoints is answered with 503,
  which is decided where endpoints are chosen.
- A Service that is not among the resources is looked up in DNS, unless services are strict. So are a Service without
  EndpointSlices and an ExternalName. Such a name leads to the Pods themselves, so the target port is dialled.
- A port with a BackendTLSPolicy is spoken to over TLS, whatever its appProtocol is. An appProtocol that means TLS (https,
  kubernetes.io/wss) needs a policy, which says whose certificate is trusted.
- The words of an XBackendTrafficPolicy go with the target, but are not part of its key.
- GRPCRoutes speak HTTP/2, in clear with prior knowledge. appProtocol has no meaning for routes that are not HTTP.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from gwfast.config.model import EXPERIMENTAL_GROUP, BackendObjectReference, Key, Resource, Service, XBackend
from gwfast.config.model import ServicePort as Port
from gwfast.graph.certificates import Refusal
from gwfast.graph.endpoints import endpoints_note, ready, ready_addresses
from gwfast.graph.model import GraphOptions, Note, Target, TargetPolicy, TargetTLS, TargetTraffic, over_tls
from gwfast.graph.refs import Resources
from gwfast.graph.xbackends import backend_traffic, endpoints_of, finding, x_protocol

_HTTP = {
    "": "http", "http": "http", "https": "http", "kubernetes.io/h2c": "h2c", "kubernetes.io/ws": "ws",
    "kubernetes.io/wss": "ws",
}
_GRPC = dict.fromkeys(("", "http", "https", "grpc", "kubernetes.io/h2c"), "h2c")
_TLS = ("https", "kubernetes.io/wss")
_OTHERS = {"TLSRoute": "tcp", "TCPRoute": "tcp", "UDPRoute": "udp"}

X_BACKEND = "XBackend."  # before the name of one in a target: names of Services have no upper case

XTLS = Callable[[XBackend], TargetTLS | Refusal | None]  # xbackends.backend_tls
Protection = Callable[[Key, str | None], TargetTLS | Refusal | None]  # policies.protection
Traffic = Callable[[Key], TargetTraffic | None]  # policies.traffic
PolicyOf = Callable[[Key, str | None], TargetPolicy | None]  # policies.policy_of


def backend_key(ref: BackendObjectReference, namespace: str) -> Key:
    """Return what a reference of a resource in `namespace` names, whether or not it may."""
    kind = "XBackend" if (ref.group, ref.kind) == (EXPERIMENTAL_GROUP, "XBackend") else "Service"
    return Key(kind, ref.namespace or namespace, ref.name)


class Resolved(NamedTuple):
    """A reference that is fine has a target; one that is not has a status, a reason of the spec, and words. One that is
    fine and leads nowhere, because of a policy, has no reason.

    passed: for a TLSRoute, the target without the TLS of a policy where it has one."""

    target: str = ""
    status: int = 500
    reason: str = ""
    message: str = ""
    passed: str = ""
    traffic: TargetTraffic | None = None


class Backends:
    """Resolves backendRefs and keeps the targets that are in use."""

    def __init__(self, resources: Resources, options: GraphOptions, protection: Protection, traffic: Traffic,
                 policy: PolicyOf, x_tls: XTLS):
        self._x_tls = x_tls
        self._x_held: dict[str, set[Key]] = {}  # by namespace: XBackends that are in use
        self._resources = resources
        self._options = options
        self._protection = protection
        self._traffic = traffic
        self._policy = policy
        self._uses: dict[str, int] = {}
        self._of_service: dict[Key, tuple[str, ...]] = {}
        self.targets: dict[str, Target] = {}
        self.notes: dict[str, Note] = {}  # by target: why it has no endpoint, for instance
        self.renewed: dict[str, Target | None] = {}  # those that changed; the Attacher clears it when it has read it

    # ---- References

    def resolve(self, ref: BackendObjectReference, route: Resource, grpc: bool = False) -> Resolved:
        """Return what a backendRef of a route comes to; `grpc`: it is asked with gRPC, whatever the route's requests are."""
        own = route.metadata.namespace
        key = backend_key(ref, own)
        if key.kind == "Service" and (ref.kind != "Service" or ref.group):
            return Resolved(reason="InvalidKind", message=f"backends are Services, not {ref.group}/{ref.kind}")
        namespace, name, port = key.namespace, ref.name, ref.port
        if namespace != own and not self._resources.permits(
            (route.group, route.kind, own), (ref.group, key.kind), namespace, name
        ):
            message = f"no ReferenceGrant in {namespace} lets a {route.kind} of {own} refer to {key.kind} {name}"
            return Resolved(reason="RefNotPermitted", message=message)
        if key.kind == "XBackend":
            return self._resolve_x(key, "GRPCRoute" if grpc else route.kind)
        if port is None:
            return Resolved(reason="UnsupportedValue", message=f"a reference to Service {name} needs a port")
        service = self._resources.get("Service", namespace, name)
        if service is None and self._options.strict_services:
            return Resolved(reason="BackendNotFound", message=f"there is no Service {namespace}/{name}")
        return self._resolve_port(namespace, name, port, service, "GRPCRoute" if grpc else route.kind)

    def _resolve_x(self, key: Key, kind: str) -> Resolved:
        backend = self._resources.get(*key)
        if backend is None:
            return Resolved(reason="BackendNotFound", message=f"there is no {key}")
        spoken, fault = x_protocol(kind, backend.spec)
        if fault:
            return Resolved(reason="UnsupportedProtocol", message=f"{key}: {fault}")
        clear = f"{key.namespace}/{X_BACKEND}{key.name}:{backend.spec.number}/{spoken}"
        return _reached(clear, self._x_tls(backend), self._traffic_of(key, spoken), kind)

    def _resolve_port(self, namespace: str, name: str, port: int, service: Service | None, kind: str) -> Resolved:
        udp = kind == "UDPRoute"
        found = _port(service, port, "UDP" if udp else "TCP")
        if found is None and service is not None and (service.spec.ports or service.spec.type != "ExternalName"):
            message = f"Service {namespace}/{name} has no port {port}"
            return Resolved(reason="BackendNotFound", message=message)
        tls = None
        if not udp and self._resources.of("BackendTLSPolicy"):
            tls = self._protection(Key("Service", namespace, name), found.name if found else None)
        protocol, fault = _protocol(kind, found, tls is not None)
        if fault:
            return Resolved(reason="UnsupportedProtocol", message=f"port {port} of Service {namespace}/{name}: {fault}")
        clear = f"{namespace}/{name}:{port}/{protocol}"
        return _reached(clear, tls, self._traffic_of(Key("Service", namespace, name), protocol), kind)

    def _traffic_of(self, service: Key, protocol: str) -> TargetTraffic | None:
        if protocol in _OTHERS.values():
            return None
        if service.kind == "XBackend":
            backend = self._resources.get(*service)
            return backend_traffic(backend) if backend else None
        if not self._resources.of("XBackendTrafficPolicy"):
            return None
        return self._traffic(service)

    def resource(self, kind: str, namespace: str, name: str) -> Resource | None:
        """Return what a filter names."""
        return self._resources.get(kind, namespace, name)

    # ---- Targets

    def hold(self, key: str) -> None:
        uses = self._uses.get(key, 0)
        self._uses[key] = uses + 1
        if uses == 0:
            service, port, protocol = _split(key)
            self._of_service[service] = (*self._of_service.get(service, ()), key)
            tls = None
            if service.kind == "XBackend":
                self._x_held.setdefault(service.namespace, set()).add(service)
            if over_tls(key):  # as the reference was resolved, a moment ago
                tls = self._tls(service, port)
            self.targets[key] = self.renewed[key] = self._target(service, port, protocol, tls)
            self._note(key)

    def _tls(self, service: Key, port: int) -> TargetTLS | None:
        resource = self._resources.get(*service)
        if service.kind == "XBackend":
            found = self._x_tls(resource)
        else:
            known = _port(resource, port, "TCP")
            found = self._protection(service, known.name if known else None)
        return found if isinstance(found, TargetTLS) else None

    def release(self, key: str) -> None:
        self._uses[key] -= 1
        if self._uses[key] == 0:
            del self._uses[key], self.targets[key]
            self.renewed[key] = None
            self.notes.pop(key, None)
            service = _split(key)[0]
            self._of_service[service] = tuple(other for other in self._of_service[service] if other != key)
            if not self._of_service[service]:
                del self._of_service[service]
                self._x_held.get(service.namespace, set()).discard(service)

    def refresh_selectors(self, namespace: str) -> None:
        """Look up the endpoints of the XBackends of a namespace again: a Service of it, or one of its EndpointSlices, changed."""
        for key in self._x_held.get(namespace, ()):
            self.refresh(key)

    def refresh(self, service: Key) -> None:
        """Look up the endpoints of a Service again, and its policy; a target of which they are the same stays the same."""
        for key in self._of_service.get(service, ()):
            _, port, protocol = _split(key)
            new = self._target(service, port, protocol, self.targets[key].tls)
            if _fields(new) != _fields(self.targets[key]):
                self.targets[key] = self.renewed[key] = new
            self._note(key)

    def _target(self, service: Key, port: int, protocol: str, tls: TargetTLS | None) -> Target:
        resource = self._resources.get(*service)
        if service.kind == "XBackend":
            return self._x_target(service, resource, port, protocol, tls)
        transport: Literal["UDP", "TCP"] = "UDP" if protocol == "udp" else "TCP"
        found = _port(resource, port, transport)
        policy = None if protocol == "udp" else self._policy(service, found.name if found else None)
        names: dict[str, Any] = {
            "namespace": service.namespace, "name": service.name, "port": port, "protocol": protocol, "tls": tls,
            "traffic": self._traffic_of(service, protocol), "policy": policy}
        dialled = found.target_port if found and isinstance(found.target_port, int) else port
        if resource is not None and resource.spec.type == "ExternalName":
            return Target(**names, source="dns", hosts=(resource.spec.external_name,), host_port=dialled)
        slices = list(self._resources.slices(service))
        if not slices and not (self._options.strict_services and resource):
            hosts = tuple(t.format(name=service.name, namespace=service.namespace) for t in self._options.dns_templates)
            return Target(**names, source="dns", hosts=hosts, host_port=dialled)
        found = found or Port(port=port, protocol=transport)
        addresses: set[tuple[str, int]] = set()
        looked_up: set[tuple[str, int]] = set()
        for one in slices:
            (looked_up if one.address_type == "FQDN" else addresses).update(ready(one, found))
        return Target(**names, source="slices", addresses=tuple(sorted(addresses)), names=tuple(sorted(looked_up)))

    def _x_target(self, key: Key, backend: XBackend | None, port: int, protocol: str, tls: TargetTLS | None) -> Target:
        names: dict[str, Any] = {
            "namespace": key.namespace, "name": f"{X_BACKEND}{key.name}", "port": port, "protocol": protocol, "tls": tls,
            "traffic": self._traffic_of(key, protocol)}
        if backend is None:
            return Target(**names, source="slices")
        if backend.spec.external_hostname:
            return Target(**names, source="dns", hosts=(backend.spec.external_hostname.hostname,), host_port=port)
        addresses = {(address, port) for one in endpoints_of(backend, self._resources) if one.address_type != "FQDN"
                     for address in ready_addresses(one)}
        return Target(**names, source="slices", addresses=tuple(sorted(addresses)))

    def _note_x(self, key: str, backend: XBackend | None) -> None:
        self.notes.pop(key, None)
        if backend is not None and backend.spec.endpoint_selector and not finding(backend, self._resources):
            self.notes[key] = Note(
                resource=backend, field="spec.endpointSelector", reason="NoEndpoints",
                message="no Service of the namespace has this selector, so nothing says where the Pods are: requests get 503")

    def _note(self, key: str) -> None:
        """Remember what there is to say about where a target's endpoints come from."""
        service, port, protocol = _split(key)
        resource = self._resources.get(*service)
        if service.kind == "XBackend":
            self._note_x(key, resource)
            return
        slices = sorted(self._resources.slices(service), key=lambda one: one.metadata.name)
        said = endpoints_note(self.targets[key], resource, _port(resource, port, "UDP" if protocol == "udp" else "TCP"), slices)
        if said is not None:
            self.notes[key] = said
        else:
            self.notes.pop(key, None)


def _reached(clear: str, tls: TargetTLS | Refusal | None, traffic: TargetTraffic | None, kind: str) -> Resolved:
    """Return what routes of a kind reach at a target in clear that is spoken to over this TLS, None for none."""
    if tls is None:
        return Resolved(clear, 0, traffic=traffic)
    passed = clear if kind == "TLSRoute" else ""
    if isinstance(tls, Refusal):
        return Resolved(reason=tls.reason, message=tls.message, passed=passed)
    return Resolved(f"{clear}@{tls.digest}", 0, passed=passed, traffic=traffic)


def _port(service: Service | None, port: int, transport: str) -> Port | None:
    for one in service.spec.ports if service else ():
        if one.port == port and one.protocol == transport:
            return one
    return None


def _protocol(kind: str, port: Port | None, over_tls: bool) -> tuple[str, str]:
    """Return what routes of a kind speak to a port, and why they cannot."""
    if kind in _OTHERS:
        return _OTHERS[kind], ""
    written = port.app_protocol or "" if port else ""
    spoken = written.lower() if "/" not in written else written
    protocol = (_GRPC if kind == "GRPCRoute" else _HTTP).get(spoken)
    if protocol is None:
        return "", f"appProtocol {written} is not one that a {kind} can speak here"
    if spoken in _TLS and not over_tls:
        return "", f"appProtocol {written} is TLS, which needs a BackendTLSPolicy to say whose certificate is trusted"
    return protocol, ""


def _split(key: str) -> tuple[Key, int, str]:
    """Take a target's key apart: Service, port, protocol."""
    namespace, rest = key.split("/", 1)
    name, _, how = rest.rpartition("/")
    name, _, port = name.rpartition(":")
    kind = "XBackend" if name.startswith(X_BACKEND) else "Service"
    return Key(kind, namespace, name.removeprefix(X_BACKEND)), int(port), how.partition("@")[0]


def _fields(target: Target) -> tuple:
    return (target.source, target.addresses, target.names, target.hosts, target.host_port, target.traffic, target.policy)
