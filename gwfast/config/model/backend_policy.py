"""BackendPolicy: health checks, slow start and circuit breaking of backends (deploy/crds/backendpolicies.yaml), and its rules.

Names are those of Envoy Gateway's BackendTrafficPolicy.
"""
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.policy_targets import LocalPolicyTargetReferenceWithSectionName, check_target_refs
from gwfast.config.model.resource import NEWEST, OwnResource, Type
from gwfast.config.scalars import REQUEST_PATH, Duration, PreciseHostname, seconds


class PassiveHealthCheck(Type, kw_only=True, frozen=True):
    consecutive_failures: Annotated[int, Meta(ge=1, le=1000)] = 5
    base_ejection_time: Duration = "30s"
    max_ejection_percent: Annotated[int, Meta(ge=0, le=100)] = 10


class HTTPHealthCheck(Type, kw_only=True, frozen=True):
    path: Annotated[str, Meta(min_length=1, max_length=1024, pattern=REQUEST_PATH)] = "/"
    hostname: PreciseHostname | None = None
    method: Literal["GET", "HEAD"] = "GET"
    expected_statuses: Annotated[
        tuple[Annotated[int, Meta(ge=200, le=599)], ...], Meta(min_length=1, max_length=16)
    ] = (200,)


class GRPCHealthCheck(Type, kw_only=True, frozen=True):
    service: Annotated[str, Meta(max_length=253)] = ""


class ActiveHealthCheck(Type, kw_only=True, frozen=True):
    type: Literal["HTTP", "TCP", "GRPC"]
    interval: Duration = "3s"
    timeout: Duration = "1s"
    unhealthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 3
    healthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 1
    http: HTTPHealthCheck | None = None
    grpc: GRPCHealthCheck | None = None


class HealthCheck(Type, kw_only=True, frozen=True):
    passive: PassiveHealthCheck | None = None
    active: ActiveHealthCheck | None = None


class SlowStart(Type, kw_only=True, frozen=True):
    window: Duration


class PerEndpointCircuitBreaker(Type, kw_only=True, frozen=True):
    max_parallel_requests: Annotated[int, Meta(ge=1, le=1_000_000)]


class CircuitBreaker(Type, kw_only=True, frozen=True):
    per_endpoint: PerEndpointCircuitBreaker
    max_pending_requests: Annotated[int, Meta(ge=0, le=100_000)] = 1024
    pending_timeout: Duration = "1s"


class BackendPolicySpec(Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalPolicyTargetReferenceWithSectionName, ...], Meta(min_length=1, max_length=16)]
    health_check: HealthCheck | None = None
    slow_start: SlowStart | None = None
    circuit_breaker: CircuitBreaker | None = None


class BackendPolicy(OwnResource, kw_only=True):
    kind: ClassVar[str] = "BackendPolicy"
    spec: BackendPolicySpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec, check = self.spec, self.spec.health_check
        yield from check_target_refs(spec.target_refs, "spec.targetRefs")
        if check and check.active:
            yield from _by_type(check.active, "spec.healthCheck.active")
        if check and check.passive:
            yield from _time(check.passive.base_ejection_time, "spec.healthCheck.passive.baseEjectionTime")
        if check and check.active:
            yield from _time(check.active.interval, "spec.healthCheck.active.interval")
            yield from _time(check.active.timeout, "spec.healthCheck.active.timeout")
        if spec.slow_start:
            yield from _time(spec.slow_start.window, "spec.slowStart.window")
        if spec.circuit_breaker:
            yield from _time(spec.circuit_breaker.pending_timeout, "spec.circuitBreaker.pendingTimeout")


def _by_type(value: ActiveHealthCheck, path: str) -> Findings:
    for name, kind, given in (("http", "HTTP", value.http), ("grpc", "GRPC", value.grpc)):
        if given and value.type != kind:
            yield Finding(f"{path}.{name}", f"{name} must not be given unless type is {kind}")


def _time(value: str, path: str) -> Findings:
    if not 0.01 <= seconds(value) <= 86400:
        yield Finding(path, f"must be from 10ms to 24h, not {value}")
