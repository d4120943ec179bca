"""XBackendTrafficPolicy, and its rules (apisx/v1alpha1/backendtrafficpolicy_types.go)."""
from typing import Annotated, ClassVar

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.policy_targets import LocalPolicyTargetReference
from gwfast.config.model.resource import NEWEST, ExperimentalResource, Type
from gwfast.config.model.session_persistence import SessionPersistence, check_session, check_session_since_1_7
from gwfast.config.scalars import Duration, seconds


class BudgetDetails(Type, kw_only=True, frozen=True):
    percent: Annotated[int, Meta(ge=0, le=100)] = 20
    interval: Duration = "10s"


class RequestRate(Type, kw_only=True, frozen=True):
    """What is not given of it is what the whole would be by default: 10 in 1s."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    interval: Duration | None = None


class RetryConstraint(Type, kw_only=True, frozen=True):
    budget: BudgetDetails = BudgetDetails()
    min_retry_rate: RequestRate = RequestRate(count=10, interval="1s")


class XBackendTrafficPolicySpec(Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalPolicyTargetReference, ...], Meta(min_length=1, max_length=16)]
    retry_constraint: RetryConstraint | None = None
    session_persistence: SessionPersistence | None = None


class XBackendTrafficPolicy(ExperimentalResource, kw_only=True):
    kind: ClassVar[str] = "XBackendTrafficPolicy"
    spec: XBackendTrafficPolicySpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec = self.spec
        for index, ref in enumerate(spec.target_refs):
            if ref in spec.target_refs[:index]:
                yield Finding(f"spec.targetRefs[{index}]", f"Duplicate value: {ref.group}/{ref.kind} {ref.name}")
        if spec.retry_constraint:
            yield from _retry_constraint(spec.retry_constraint, "spec.retryConstraint")
        if spec.session_persistence:
            yield from check_session(spec.session_persistence, "spec.sessionPersistence")
            if release >= 7:
                yield from check_session_since_1_7(spec.session_persistence, "spec.sessionPersistence")


def _retry_constraint(value: RetryConstraint, path: str) -> Findings:
    if not 1 <= seconds(value.budget.interval) <= 3600:
        yield Finding(f"{path}.budget.interval", "interval cannot be greater than one hour or less than one second")
    if value.min_retry_rate.interval is not None and not 0 < seconds(value.min_retry_rate.interval) <= 3600:
        yield Finding(f"{path}.minRetryRate.interval", "interval cannot be greater than one hour")
