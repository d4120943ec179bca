"""XBackend: a backend that is a resource of its own (GEP-4894): a name outside, or the Pods that carry labels.

    backend_tls(backend)    how it is spoken to over TLS; None in clear, a Refusal where it cannot be reached
    x_protocol(kind, spec)  what routes of a kind speak to it, and why they cannot
    judge_backends          the Accepted condition of each, for the Gateways that have a route to it

Rules:
- An ExternalHostname is looked up in DNS. Requests to it are not rewritten.
- The Pods of an EndpointSelector are those in the EndpointSlices of the Service that a controller makes for it (label
  gwfast.dev/backend). While there are none, the EndpointSlices of Services in its namespace with the same selector are used. The
  port is the XBackend's own.
- Its `tls` says how it is spoken to; a BackendTLSPolicy does not apply. Without a valid `tls.validation` it gets no requests.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gwfast.config.model import EndpointSlice, Key, Service, XBackend, XBackendSpec
from gwfast.graph.certificates import Credentials, Refusal, authority_key
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.model import AncestorNode, PolicyNode, TargetTLS, TargetTraffic
from gwfast.graph.policies import validation
from gwfast.graph.refs import BACKEND, Resources
from gwfast.graph.sessions import session_fault
from gwfast.identity import label_value

_HTTP = {None: "http", "HTTP": "http", "MCP": "http", "HTTP11": "ws", "WSS": "ws", "H2C": "h2c", "HTTP2": "h2c", "GRPC": "h2c"}
_GRPC = dict.fromkeys((None, "HTTP", "H2C", "HTTP2", "GRPC"), "h2c")
_STREAMS = ("TCPRoute", "TLSRoute")


def x_protocol(kind: str, spec: XBackendSpec) -> tuple[str, str]:
    """Return what routes of a kind speak to a backend, and why they cannot."""
    if kind in _STREAMS:
        return "tcp", ""
    found = None if kind == "UDPRoute" else (_GRPC if kind == "GRPCRoute" else _HTTP).get(spec.protocol)
    return (found, "") if found else ("", f"protocol {spec.protocol or 'none'} is not one that a {kind} can speak here")


def backend_tls(backend: XBackend, credentials: Credentials) -> TargetTLS | Refusal | None:
    """Return how a backend is spoken to over TLS: None in clear, a Refusal where it cannot be reached."""
    if backend.spec.tls.mode == "None":
        return None
    fault, tls = _tls(backend, credentials)
    return Refusal("", f"{backend.key} is not valid: {fault.message}") if fault else tls


def _tls(backend: XBackend, credentials: Credentials) -> tuple[Fault | None, TargetTLS]:
    spec = backend.spec.tls
    if spec.validation is None:
        return Fault("Invalid", f"mode {spec.mode} needs a validation", "spec.tls.validation"), TargetTLS()
    unresolved, invalid, tls = validation(spec.validation, backend, credentials, "spec.tls.validation")
    if spec.client_certificate_ref is None:
        return invalid, tls
    found = credentials.certificate(spec.client_certificate_ref, backend, "InvalidClientCertificateRef")
    if found.value is None and found.wrong is not None:
        return invalid or Fault("Invalid", found.wrong.message, "spec.tls.clientCertificateRef"), tls
    return invalid, TargetTLS(ca=tls.ca, system=tls.system, hostname=tls.hostname, sans=tls.sans, certificate=found.value)


def backend_traffic(backend: XBackend) -> TargetTraffic | None:
    """Return what a backend says of requests to it."""
    session = backend.spec.session_persistence
    return TargetTraffic(session=session) if session and not session_fault(session) else None


def selects(backend: XBackend, service: Service) -> bool:
    """Return whether a Service selects the Pods of a backend, and no others, or was made to."""
    selector, metadata = backend.spec.endpoint_selector, backend.metadata
    return selector is not None and metadata.namespace == service.metadata.namespace and (
        dict(selector.match_labels) == dict(service.spec.selector)
        or service.metadata.labels.get(BACKEND) == label_value(metadata.name))


def finding(backend: XBackend, resources: Resources) -> dict[Key, None]:
    """Return the Services that may say which Pods a backend has: those that were made for it first."""
    selector = backend.spec.endpoint_selector
    if selector is None:
        return {}
    alike = resources.selecting(backend.metadata.namespace, selector.match_labels)
    return dict.fromkeys((*resources.made_for(backend.key), *alike))


def endpoints_of(backend: XBackend, resources: Resources) -> list[EndpointSlice]:
    """Return the EndpointSlices that say which Pods a backend has. Kubernetes makes one for a Service that selects none, too."""
    own = [one for service in resources.made_for(backend.key) for one in resources.slices(service)]
    return own or [one for service in finding(backend, resources) for one in resources.slices(service)]


def named_secrets(backend: XBackend) -> set[Key]:
    """Return the Secret and ConfigMaps that a backend names, whether or not it may."""
    tls, namespace = backend.spec.tls, backend.metadata.namespace
    found = {authority_key(ref, namespace) for ref in (tls.validation.ca_certificate_refs if tls.validation else ())}
    if ref := tls.client_certificate_ref:
        found.add(Key(ref.kind, ref.namespace or namespace, ref.name))
    return found


def judge_backends(resources: Resources, credentials: Credentials,
                   gateways_of: Callable[[Key], Iterable[Key]]) -> Iterator[PolicyNode]:
    """Judge every XBackend; `gateways_of` as policies.judge_policies has it."""
    for key, backend in resources.of("XBackend").items():
        fault = _tls(backend, credentials)[0] if backend.spec.tls.mode != "None" else None
        if fault is None and (found := session_fault(backend.spec.session_persistence)):
            fault = Fault("Invalid", found[0], f"spec.sessionPersistence.{found[1]}")
        said = (condition("Accepted", fault, backend.metadata.generation),)
        ancestors = tuple(AncestorNode(gateway=gateway, conditions=said) for gateway in sorted(gateways_of(key)))
        yield PolicyNode(key=key, resource=backend, accepted=fault is None, conditions=said, ancestors=ancestors)
