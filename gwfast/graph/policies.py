"""BackendTLSPolicy: is it valid, does an older one have its target, and which Gateways does it concern
(backendtlspolicy_types.go).

Rules:
- Per Service and port name the oldest policy wins, then '{namespace}/{name}'; a policy for one port is no conflict
  with one for the whole Service.
- The ancestors are the Gateways that have a route to the target.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from gwfast.config.model import BackendTLSPolicy, Key
from gwfast.graph.certificates import Credentials, Refusal
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.model import AncestorNode, GraphOptions, PolicyNode
from gwfast.graph.refs import Resources, policy_services


def judge_policies(
    resources: Resources, options: GraphOptions, credentials: Credentials, gateways_of: Callable[[Key], Iterable[Key]]
) -> dict[Key, PolicyNode]:
    """Judge every policy; `gateways_of` says which Gateways have an accepted route to a Service."""
    nodes = {}
    for key, policy in resources.of("BackendTLSPolicy").items():
        node = _judge(policy, resources, options, credentials)
        gateways = dict.fromkeys(gateway for service in policy_services(policy) for gateway in gateways_of(service))
        ancestors = [AncestorNode(gateway=gateway, conditions=node.conditions) for gateway in sorted(gateways)]
        nodes[key] = PolicyNode(
            key=key, resource=policy, accepted=node.accepted, conditions=node.conditions, ancestors=tuple(ancestors)
        )
    return nodes


def _judge(
    policy: BackendTLSPolicy, resources: Resources, options: GraphOptions, credentials: Credentials
) -> PolicyNode:
    unresolved, refused = _validation_faults(policy, credentials)
    refused = _target_fault(policy, resources, options) or refused
    generation = policy.metadata.generation
    conditions = (condition("Accepted", refused, generation), condition("ResolvedRefs", unresolved, generation))
    return PolicyNode(key=policy.key, resource=policy, accepted=refused is None, conditions=conditions)


def _validation_faults(policy: BackendTLSPolicy, credentials: Credentials) -> tuple[Fault | None, Fault | None]:
    """Return why ResolvedRefs and why Accepted are False."""
    validation = policy.spec.validation
    if (well_known := validation.well_known_ca_certificates) not in (None, "System"):
        message = f"well-known certificates called {well_known} are not known here"
        return None, Fault("Invalid", message, "spec.validation.wellKnownCACertificates")
    unresolved, usable = None, well_known is not None
    for index, ref in enumerate(validation.ca_certificate_refs):
        found = credentials.authorities(ref, policy, "InvalidKind")
        if not isinstance(found, Refusal):
            usable = True
        elif unresolved is None:
            unresolved = Fault(*found, f"spec.validation.caCertificateRefs[{index}]")
    message = "none of the certificate authorities is valid"
    field = "spec.validation.caCertificateRefs"
    return unresolved, None if usable else Fault("NoValidCACertificate", message, field)


def _target_fault(policy: BackendTLSPolicy, resources: Resources, options: GraphOptions) -> Fault | None:
    for index, ref in enumerate(policy.spec.target_refs):
        field = f"spec.targetRefs[{index}]"
        if (ref.group, ref.kind) != ("", "Service"):
            return Fault("TargetNotFound", f"targets are Services, not {ref.group}/{ref.kind}", field)
        service = resources.get("Service", policy.metadata.namespace, ref.name)
        if service is None and options.strict_services:
            return Fault("TargetNotFound", f"there is no Service {policy.metadata.namespace}/{ref.name}", field)
        if service and ref.section_name and ref.section_name not in [port.name for port in service.spec.ports]:
            return Fault("TargetNotFound", f"Service {ref.name} has no port called {ref.section_name}", field)
        winner = _winner(Key("Service", policy.metadata.namespace, ref.name), ref.section_name, resources)
        if winner is not policy:
            return Fault("Conflicted", f"{winner.key} is older and has the same target", field)
    return None


def _winner(service: Key, section: str | None, resources: Resources) -> BackendTLSPolicy:
    for policy in resources.policies(service):
        if any(ref.name == service.name and ref.section_name == section for ref in policy.spec.target_refs):
            return policy
    raise LookupError(f"no policy names {service}")  # the caller's policy does
