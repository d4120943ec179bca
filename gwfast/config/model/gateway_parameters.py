"""GatewayParameters: how a controller makes data planes (deploy/crds/gatewayparameters.yaml), and its rules.

Fields are those of the objects that are made. None is what was not given, so that a Gateway's can be put over its class's.
"""
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings, unique
from gwfast.config.model.resource import NEWEST, OwnResource, Type
from gwfast.config.scalars import ObjectName

_AnyObject = dict[str, Any]
_Strings = dict[str, str]


class Autoscaling(Type, kw_only=True, frozen=True):
    min_replicas: Annotated[int, Meta(ge=1, le=1000)] | None = None
    max_replicas: Annotated[int, Meta(ge=1, le=1000)]
    metrics: Annotated[tuple[_AnyObject, ...], Meta(max_length=32)] | None = None
    behavior: _AnyObject | None = None


class DisruptionBudget(Type, kw_only=True, frozen=True):
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class ContainerImage(Type, kw_only=True, frozen=True):
    repository: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    pull_secrets: Annotated[tuple[ObjectName, ...], Meta(max_length=16)] | None = None


class PodTemplateMetadata(Type, kw_only=True, frozen=True):
    labels: _Strings | None = None
    annotations: _Strings | None = None


class ServiceAccountTemplate(Type, kw_only=True, frozen=True):
    annotations: _Strings | None = None


class ServiceTemplate(Type, kw_only=True, frozen=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    labels: _Strings | None = None
    annotations: _Strings | None = None
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    internal_traffic_policy: Literal["Cluster", "Local"] | None = None
    traffic_distribution: Annotated[str, Meta(min_length=1, max_length=63)] | None = None
    load_balancer_class: Annotated[str, Meta(min_length=1, max_length=317)] | None = None
    load_balancer_source_ranges: Annotated[tuple[str, ...], Meta(max_length=256)] | None = None
    allocate_load_balancer_node_ports: bool | None = None
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    ip_families: Annotated[tuple[Literal["IPv4", "IPv6"], ...], Meta(max_length=2)] | None = None


class EnvVar(Type, kw_only=True, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    value: str | None = None
    value_from: _AnyObject | None = None


class ObjectPatch(Type, kw_only=True, frozen=True):
    kind: Literal["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler"]
    value: _AnyObject


ParameterName = Literal[
    "dedicated", "replicas", "autoscaling", "podDisruptionBudget", "resources", "affinity", "tolerations", "nodeSelector",
    "topologySpreadConstraints", "priorityClassName", "hostNetwork", "adminPort", "image", "pod", "serviceAccount", "service",
    "options", "env", "patches", "pythonFilters"]


Network = Annotated[str, Meta(max_length=43, pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?\Z")]


class GatewayParametersSpec(Type, kw_only=True, frozen=True):
    allowed_for_gateways: Annotated[tuple[ParameterName, ...], Meta(max_length=32)] | None = None
    addresses: Annotated[tuple[Network, ...], Meta(max_length=64)] | None = None
    dedicated: bool | None = None
    replicas: Annotated[int, Meta(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling | None = None
    pod_disruption_budget: DisruptionBudget | None = None
    resources: _AnyObject | None = None
    affinity: _AnyObject | None = None
    tolerations: Annotated[tuple[_AnyObject, ...], Meta(max_length=64)] | None = None
    node_selector: _Strings | None = None
    topology_spread_constraints: Annotated[tuple[_AnyObject, ...], Meta(max_length=16)] | None = None
    priority_class_name: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    host_network: bool | None = None
    admin_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    image: ContainerImage | None = None
    pod: PodTemplateMetadata | None = None
    service_account: ServiceAccountTemplate | None = None
    service: ServiceTemplate | None = None
    options: _Strings | None = None
    env: Annotated[tuple[EnvVar, ...], Meta(max_length=64)] | None = None
    patches: Annotated[tuple[ObjectPatch, ...], Meta(max_length=16)] | None = None
    python_filters: bool | None = None


class GatewayParameters(OwnResource, kw_only=True):
    kind: ClassVar[str] = "GatewayParameters"
    spec: GatewayParametersSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec, scaling, budget = self.spec, self.spec.autoscaling, self.spec.pod_disruption_budget
        if scaling and spec.replicas is not None:
            yield Finding("spec.replicas", "replicas must not be given with autoscaling, which decides them")
        if scaling and (scaling.min_replicas or 1) > scaling.max_replicas:
            yield Finding("spec.autoscaling.minReplicas", "minReplicas must not be more than maxReplicas")
        if budget and (budget.min_available is None) == (budget.max_unavailable is None):
            yield Finding("spec.podDisruptionBudget", "exactly one of minAvailable and maxUnavailable has to be given")
        for index, one in enumerate(spec.env or ()):
            if one.value is not None and one.value_from is not None:
                yield Finding(f"spec.env[{index}].valueFrom", "value and valueFrom must not both be given")
        yield from unique(spec.env or (), "spec.env", "name")
        yield from unique(spec.allowed_for_gateways or (), "spec.allowedForGateways")
        yield from unique(spec.addresses or (), "spec.addresses")
