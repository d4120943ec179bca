"""Service, and its rule (k8s.io/api/core/v1; pkg/apis/core/validation)."""
import re
from typing import ClassVar, Literal

from msgspec import field
from msgspec.structs import replace

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import NEWEST, NO_LABELS, CoreResource, OpenType, words
from gwfast.config.scalars import Port

APP_PROTOCOL = "networking.x-k8s.io/app-protocol"  # of a Service, in the first releases of the Gateway API


class ServicePort(OpenType, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = words("nodePort")

    name: str = ""
    port: Port
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None
    target_port: Port | str | None = None


class ServiceSpec(OpenType, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = words(
        "clusterIPs externalIPs sessionAffinity loadBalancerIP loadBalancerSourceRanges externalTrafficPolicy "
        "healthCheckNodePort publishNotReadyAddresses sessionAffinityConfig ipFamily ipFamilies ipFamilyPolicy "
        "allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution topologyKeys")

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    cluster_ip: str = field(default="", name="clusterIP")
    external_name: str = ""


class Service(CoreResource, kw_only=True):
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec = ServiceSpec()

    def complete(self) -> None:
        """Give the ports that have no appProtocol the one of the annotation that came before it."""
        if protocol := self.metadata.annotations.get(APP_PROTOCOL):
            ports = tuple([port if port.app_protocol else replace(port, app_protocol=protocol) for port in self.spec.ports])
            self.spec = replace(self.spec, ports=ports)

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        """A targetPort that is a string is the name of a container's port, never a number."""
        for index, port in enumerate(self.spec.ports):
            if isinstance(port.target_port, str) and not re.fullmatch(_PORT_NAME, port.target_port):
                hint = ": a number has no quotes" if port.target_port.isdigit() else ""
                yield Finding(f"spec.ports[{index}].targetPort", f"{port.target_port!r} is not allowed, a name must be at most "
                              f"15 lower-case letters, digits and '-', with a letter among them{hint}")


_PORT_NAME = r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*"
