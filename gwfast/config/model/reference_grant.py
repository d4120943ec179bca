"""ReferenceGrant (referencegrant_types.go)."""
from typing import Annotated, ClassVar

from msgspec import Meta, field

from gwfast.config.model.resource import Resource, Type
from gwfast.config.scalars import Group, Kind, ObjectName
from gwfast.config.scalars import Namespace as NamespaceName


class ReferenceGrantFrom(Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    namespace: NamespaceName


class ReferenceGrantTo(Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(Type, kw_only=True, frozen=True):
    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Resource, kw_only=True):
    kind: ClassVar[str] = "ReferenceGrant"
    spec: ReferenceGrantSpec
