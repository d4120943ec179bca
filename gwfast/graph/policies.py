"""BackendTLSPolicy, XBackendTrafficPolicy and BackendPolicy: what they say of a Service's port, and the conditions of each.

    protection(service, port), traffic(service), policy_of(service, port)    what the winning policy of each kind says
    judge_policies(...)    is it valid, has an older one the same target, and which Gateways does it concern

Attachment is that of backendtlspolicy_types.go and backendtrafficpolicy_types.go; a BackendPolicy attaches as a BackendTLSPolicy.

Rules:
- Of several policies of one kind for the same Service and port name the oldest wins, then the first by '{namespace}/{name}'. A
  policy for one port does not conflict with one for the whole Service, and comes before it. An XBackendTrafficPolicy is for
  whole Services, and for HTTP.
- The ancestors of a policy are the Gateways that have a route to its target.
- A port whose policy is not valid cannot be reached: a protected backend never gets requests in clear.
- A PythonFilter has a status as a policy has: its ancestors are the Gateways of the routes that name it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from gwfast.config.model import (ActiveHealthCheck, BackendPolicy, BackendTLSPolicy, BackendTLSPolicyValidation, GRPCHealthCheck,
                                 HTTPHealthCheck, Key, LocalPolicyTargetReference, LocalPolicyTargetReferenceWithSectionName,
                                 Resource, XBackendTrafficPolicy)
from gwfast.config.scalars import seconds
from gwfast.graph import extensions
from gwfast.graph.certificates import Credentials, Refusal
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.model import (FILTER_KIND, POLICY_KINDS, Active, AncestorNode, Condition, GraphOptions, Passive, PolicyNode,
                                TargetPolicy, TargetTLS, TargetTraffic)
from gwfast.graph.refs import Policy, Resources, policy_services
from gwfast.graph.sessions import session_fault

TargetRef = LocalPolicyTargetReference | LocalPolicyTargetReferenceWithSectionName
AnyPolicy = TypeVar("AnyPolicy", bound=Policy)


def protection(
    service: Key, port: str | None, resources: Resources, credentials: Credentials
) -> TargetTLS | Refusal | None:
    """Return how the port of a Service is spoken to over TLS: None in clear, a Refusal where it cannot be reached (its
    reason is '' where the policy itself is not valid, which its own conditions say).

    port: its name, '' for one without a name; None where the Service is not among the resources.
    """
    policies = resources.policies(service, BackendTLSPolicy)
    if not policies:
        return None
    if port is None and any(ref.section_name for policy in policies for ref in _refs(policy, service)):
        message = f"a BackendTLSPolicy is for a port of {service} by name, and {service} is not among the resources"
        return Refusal("UnsupportedProtocol", message)
    policy = (_winner(policies, service, port) if port else None) or _winner(policies, service, None)
    if policy is None:
        return None
    fault, tls = _validation(policy, credentials)[1:]
    return Refusal("", f"{policy.key} is not valid: {fault.message}") if fault else tls


def traffic(service: Key, resources: Resources) -> TargetTraffic | None:
    """Return what an XBackendTrafficPolicy says of requests to a Service; None where none says anything."""
    policy = _winner(resources.policies(service, XBackendTrafficPolicy), service, None)
    if policy is None or (policy.spec.retry_constraint, policy.spec.session_persistence) == (None, None):
        return None
    if session_fault(policy.spec.session_persistence):
        return None
    return TargetTraffic(retry=policy.spec.retry_constraint, session=policy.spec.session_persistence)


def _session_fault(policy: XBackendTrafficPolicy) -> Fault | None:
    found = session_fault(policy.spec.session_persistence)
    return Fault("Invalid", found[0], f"spec.sessionPersistence.{found[1]}") if found else None


def policy_of(service: Key, port: str | None, resources: Resources) -> TargetPolicy | None:
    """Return what a BackendPolicy says of the port of a Service; `port` as in protection()."""
    policies = resources.policies(service, BackendPolicy)
    policy = (_winner(policies, service, port) if port else None) or _winner(policies, service, None)
    return _target_policy(policy) if policy else None


def _target_policy(policy: BackendPolicy) -> TargetPolicy:
    spec = policy.spec
    check, slow, breaker = spec.health_check, spec.slow_start, spec.circuit_breaker
    passive = check.passive if check else None
    return TargetPolicy(
        name=f"{policy.metadata.namespace}/{policy.metadata.name}",
        passive=Passive(failures=passive.consecutive_failures, ejection_ms=_ms(passive.base_ejection_time),
                        percent=passive.max_ejection_percent) if passive else None,
        active=_active(check.active) if check and check.active else None,
        slow_start_ms=_ms(slow.window) if slow else 0,
        parallel=breaker.per_endpoint.max_parallel_requests if breaker else 0,
        pending=breaker.max_pending_requests if breaker else 0,
        pending_ms=_ms(breaker.pending_timeout) if breaker else 0,
    )


def _active(check: ActiveHealthCheck) -> Active:
    http, grpc = check.http or HTTPHealthCheck(), check.grpc or GRPCHealthCheck()
    return Active(
        type=check.type, interval_ms=_ms(check.interval), timeout_ms=_ms(check.timeout),
        unhealthy=check.unhealthy_threshold, healthy=check.healthy_threshold, method=http.method, path=http.path,
        hostname=http.hostname or "", statuses=http.expected_statuses, service=grpc.service,
    )


def _ms(duration: str) -> int:
    return round(seconds(duration) * 1000)


def judge_policies(
    resources: Resources, options: GraphOptions, credentials: Credentials, gateways_of: Callable[[Key], Iterable[Key]],
    barred: Callable[[Key], str],
) -> dict[Key, PolicyNode]:
    """Judge every policy and filter; `gateways_of` says which Gateways have an accepted route that names a Service or filter,
    `barred` why one runs no filters in Python ('': it does)."""
    nodes = {}
    policies: Iterator[tuple[Key, Policy]] = (item for kind in POLICY_KINDS for item in resources.of(kind).items())
    for key, policy in policies:
        node = _judge(policy, resources, options, credentials)
        gateways = dict.fromkeys(gateway for service in policy_services(policy) for gateway in gateways_of(service))
        ancestors = [AncestorNode(gateway=gateway, conditions=node.conditions) for gateway in sorted(gateways)]
        nodes[key] = PolicyNode(
            key=key, resource=policy, accepted=node.accepted, conditions=node.conditions, ancestors=tuple(ancestors),
        )
    for key, resource in resources.of(FILTER_KIND).items():
        fault, generation = extensions.fault(resource, resources, options), resource.metadata.generation
        ancestors = []
        for gateway in sorted(gateways_of(key)):
            why = barred(gateway)
            refused = fault or (Fault("RefNotPermitted", why, "") if why else None)
            ancestors.append(AncestorNode(gateway=gateway, conditions=(condition("Accepted", refused, generation),)))
        nodes[key] = PolicyNode(key=key, resource=resource, accepted=fault is None,
                                conditions=(condition("Accepted", fault, generation),), ancestors=tuple(ancestors))
    return nodes


def _judge(policy: Policy, resources: Resources, options: GraphOptions, credentials: Credentials) -> PolicyNode:
    generation = policy.metadata.generation
    refused = _target_fault(policy, resources, options)
    if not isinstance(policy, BackendTLSPolicy):  # refers to nothing but its targets
        refused = refused or (_session_fault(policy) if isinstance(policy, XBackendTrafficPolicy) else None)
        conditions: tuple[Condition, ...] = (condition("Accepted", refused, generation),)
    else:
        unresolved, invalid, _ = _validation(policy, credentials)
        refused = refused or invalid
        conditions = (condition("Accepted", refused, generation), condition("ResolvedRefs", unresolved, generation))
    return PolicyNode(key=policy.key, resource=policy, accepted=refused is None, conditions=conditions)


def _validation(policy: BackendTLSPolicy, credentials: Credentials) -> tuple[Fault | None, Fault | None, TargetTLS]:
    """Return why ResolvedRefs and why Accepted are False, and what the policy says where it can be followed."""
    for name in policy.spec.options:  # its author relies on it
        fault = Fault("Invalid", f"the option {name} is not known here", f"spec.options[{name}]")
        return None, fault, TargetTLS()
    return validation(policy.spec.validation, policy, credentials, "spec.validation")


def validation(validation: BackendTLSPolicyValidation, owner: Resource, credentials: Credentials,
               path: str) -> tuple[Fault | None, Fault | None, TargetTLS]:
    """Return why ResolvedRefs and why Accepted are False, and what a validation says where it can be followed."""
    sans = tuple((one.type, one.hostname or one.uri or "") for one in validation.subject_alt_names)
    if (well_known := validation.well_known_ca_certificates) not in (None, "System"):
        message = f"well-known certificates called {well_known} are not known here"
        return None, Fault("Invalid", message, f"{path}.wellKnownCACertificates"), TargetTLS()
    unresolved, authorities = None, []
    for index, ref in enumerate(validation.ca_certificate_refs):
        found = credentials.authorities(ref, owner, "InvalidKind")
        if found.value is not None:
            authorities.append(found.value)
        if found.wrong and unresolved is None:
            unresolved = Fault(*found.wrong, f"{path}.caCertificateRefs[{index}]")
    tls = TargetTLS(
        ca=tuple(authorities), system=well_known is not None, hostname=validation.hostname, sans=sans
    )
    if tls.ca or tls.system:
        return unresolved, None, tls
    message = "none of the certificate authorities is valid"
    return unresolved, Fault("NoValidCACertificate", message, f"{path}.caCertificateRefs"), tls


def _target_fault(policy: Policy, resources: Resources, options: GraphOptions) -> Fault | None:
    refs: Sequence[TargetRef] = policy.spec.target_refs
    for index, ref in enumerate(refs):
        field = f"spec.targetRefs[{index}]"
        if (ref.group, ref.kind) != ("", "Service"):
            return Fault("TargetNotFound", f"targets are Services, not {ref.group}/{ref.kind}", field)
        key = Key("Service", policy.metadata.namespace, ref.name)
        service = resources.get(*key)
        if service is None and options.strict_services:
            return Fault("TargetNotFound", f"there is no {key}", field)
        if service and ref.section_name and ref.section_name not in [port.name for port in service.spec.ports]:
            return Fault("TargetNotFound", f"Service {ref.name} has no port called {ref.section_name}", field)
        winner = _winner(_rivals(policy, key, resources), key, ref.section_name)
        if winner is not None and winner is not policy:
            return Fault("Conflicted", f"{winner.key} is older and has the same target", field)
    return None


def _rivals(policy: Policy, service: Key, resources: Resources) -> Sequence[Policy]:
    """Return the policies of a kind that name a Service, the oldest first."""
    if isinstance(policy, BackendTLSPolicy):
        return resources.policies(service, BackendTLSPolicy)
    if isinstance(policy, XBackendTrafficPolicy):
        return resources.policies(service, XBackendTrafficPolicy)
    return resources.policies(service, BackendPolicy)


def _winner(policies: Sequence[AnyPolicy], service: Key, section: str | None) -> AnyPolicy | None:
    """Return the first of the policies that is for this port (None: for the whole Service)."""
    wanted = (policy for policy in policies if any(ref.section_name == section for ref in _refs(policy, service)))
    return next(wanted, None)


def _refs(policy: Policy, service: Key) -> Iterator[TargetRef]:
    refs: Sequence[TargetRef] = policy.spec.target_refs
    return (ref for ref in refs if (ref.group, ref.kind, ref.name) == ("", "Service", service.name))
