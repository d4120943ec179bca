"""GatewayClass, and the rule about its changes (gatewayclass_types.go)."""
from typing import Annotated, ClassVar, Self

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.references import ParametersReference
from gwfast.config.model.resource import Resource, Type
from gwfast.config.scalars import GatewayController


class GatewayClassSpec(Type, kw_only=True, frozen=True):
    controller_name: GatewayController
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Meta(max_length=64)] | None = None


class GatewayClass(Resource, kw_only=True):
    kind: ClassVar[str] = "GatewayClass"
    namespaced: ClassVar[bool] = False
    spec: GatewayClassSpec

    def validate_update(self, old: Self) -> Findings:
        if old.spec.controller_name != self.spec.controller_name:
            yield Finding("spec.controllerName", "Value is immutable")
