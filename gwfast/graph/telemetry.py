"""XTelemetryPolicy: which Gateways it is for, and that this version makes no spans (apisx/v1alpha1/xtelemetrypolicy_types.go).

Rules:
- The targets are Gateways of its namespace; of one Gateway the oldest policy wins, then '{namespace}/{name}'.
- The ancestors are the targets that are served here.
- A policy that asks for spans (mode: Enabled) is Accepted=False, Invalid, since its author relies on them. The modes Disabled and
  ImplementationDefault are accepted: no spans are made.
- ResolvedRefs tells whether the backend for spans can be reached, although none are sent.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from gwfast.config.model import GATEWAY_GROUP, BackendObjectReference, Key, Resource, XTelemetryPolicy
from gwfast.graph.backends import Resolved
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.model import TELEMETRY_KIND, AncestorNode, PolicyNode, age
from gwfast.graph.refs import Resources

_REASONS = ("BackendNotFound", "InvalidKind", "RefNotPermitted")  # those that ResolvedRefs has
NOT_SERVED = "tracing is not served by this version: no spans are made"

Resolve = Callable[[BackendObjectReference, Resource], Resolved]


def judge_telemetry(resources: Resources, gateways: Iterable[Key], resolve: Resolve) -> Iterator[PolicyNode]:
    """Judge every XTelemetryPolicy; `gateways` are those that are served here."""
    served = set(gateways)
    winners: dict[Key, XTelemetryPolicy] = {}
    policies = sorted(resources.of(TELEMETRY_KIND).values(), key=lambda policy: age(policy.metadata))
    for policy in policies:
        for key in _targets(policy):
            winners.setdefault(key, policy)
    for policy in policies:
        yield _node(policy, resources, served, winners, resolve)


def _node(policy: XTelemetryPolicy, resources: Resources, served: set[Key], winners: Mapping[Key, XTelemetryPolicy],
          resolve: Resolve) -> PolicyNode:
    generation = policy.metadata.generation
    resolved = _resolved(policy, resolve)
    ancestors, first = [], None
    for index, ref in enumerate(policy.spec.target_refs):
        fault = _fault(policy, index, resources, winners)
        first = first or fault
        key = Key("Gateway", policy.metadata.namespace, ref.name)
        if key in served and (ref.group, ref.kind) == (GATEWAY_GROUP, "Gateway"):
            said = condition("Accepted", fault, generation), condition("ResolvedRefs", resolved, generation)
            ancestors.append(AncestorNode(gateway=key, conditions=said))
    said = condition("Accepted", first, generation), condition("ResolvedRefs", resolved, generation)
    return PolicyNode(key=policy.key, resource=policy, accepted=first is None, conditions=said, ancestors=tuple(ancestors))


def _targets(policy: XTelemetryPolicy) -> list[Key]:
    return [Key("Gateway", policy.metadata.namespace, ref.name) for ref in policy.spec.target_refs
            if (ref.group, ref.kind) == (GATEWAY_GROUP, "Gateway")]


def _fault(policy: XTelemetryPolicy, index: int, resources: Resources, winners: Mapping[Key, XTelemetryPolicy]) -> Fault | None:
    ref, field = policy.spec.target_refs[index], f"spec.targetRefs[{index}]"
    if (ref.group, ref.kind) != (GATEWAY_GROUP, "Gateway"):
        return Fault("TargetNotFound", f"targets are Gateways, not {ref.group}/{ref.kind}", field)
    key = Key("Gateway", policy.metadata.namespace, ref.name)
    if resources.get(*key) is None:
        return Fault("TargetNotFound", f"there is no {key}", field)
    if winners[key] is not policy:
        return Fault("Conflicted", f"{winners[key].key} is older and has the same target", field)
    tracing = policy.spec.tracing
    return Fault("Invalid", NOT_SERVED, "spec.tracing.mode") if tracing and tracing.mode == "Enabled" else None


def _resolved(policy: XTelemetryPolicy, resolve: Resolve) -> Fault | None:
    tracing = policy.spec.tracing
    if tracing is None or tracing.provider is None:
        return None
    found = resolve(tracing.provider.backend_ref, policy)
    return Fault(found.reason, found.message, "spec.tracing.provider.backendRef") if found.reason in _REASONS else None
