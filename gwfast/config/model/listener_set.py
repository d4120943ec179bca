"""ListenerSet, and its rules (listenerset_types.go)."""
from typing import Annotated, ClassVar

from msgspec import Meta

from gwfast.config.findings import Findings
from gwfast.config.model.listeners import Listener, check_listeners, check_listeners_since_1_7
from gwfast.config.model.resource import GATEWAY_GROUP, NEWEST, Resource, Type
from gwfast.config.scalars import Group, Kind, ObjectName
from gwfast.config.scalars import Namespace as NamespaceName


class ParentGatewayReference(Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    name: ObjectName
    namespace: NamespaceName | None = None


class ListenerSetSpec(Type, kw_only=True, frozen=True):
    parent_ref: ParentGatewayReference
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]


class ListenerSet(Resource, kw_only=True):
    kind: ClassVar[str] = "ListenerSet"
    spec: ListenerSetSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        yield from check_listeners(self.spec.listeners, "spec.listeners")
        if release >= 7:
            yield from check_listeners_since_1_7(self.spec.listeners, "spec.listeners")
