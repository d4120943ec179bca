"""What every kind is built on: the groups, a resource's key and metadata, and the base classes.

    Type          a Go type of the API: a field that it does not know is an error
    OpenType      a Go type of Kubernetes' own, of which only some fields matter here
    Resource      a kind: api_version, metadata, source, and `validate` for the rules that look at several fields
      CoreResource, ExperimentalResource, OwnResource   kinds of Kubernetes itself, of networking.x-k8s.io, of gwfast.dev
"""
from datetime import datetime
from typing import Annotated, ClassVar, NamedTuple, Self

from msgspec import Meta, Struct, field

from gwfast.config.findings import Findings
from gwfast.config.scalars import ObjectNamespace, SectionName
from gwfast.errors import Source

GATEWAY_GROUP = "gateway.networking.k8s.io"
EXPERIMENTAL_GROUP = "gateway.networking.x-k8s.io"
OWN_GROUP = "gwfast.dev"
CERTIFICATES_GROUP = "certificates.k8s.io"
NEWEST = 7  # minor version of the Gateway API whose rules hold where nobody says another one: files
NOWHERE = Source("", 0)
NO_LABELS: dict[str, str] = {}  # shared by all metadata without labels: 100,000 empty dicts would be 6 MB


class Key(NamedTuple):
    """What a resource is known by; `namespace` is '' for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def words(text: str) -> frozenset[str]:
    """Return the names in a text, for `others`."""
    return frozenset(text.split())


class Type(Struct, kw_only=True, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A Go type of the API, all of whose fields are here."""


class OpenType(Struct, kw_only=True, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A type of which only some fields matter here; `others` are those that it has besides."""

    others: ClassVar[frozenset[str]] = frozenset()


class Ignored(Struct, kw_only=True, frozen=True, gc=False):
    """An object that is accepted, whatever is in it, and not kept (status)."""


class ObjectMeta(Struct, kw_only=True, gc=False, rename="camel", omit_defaults=True):
    """Namespace is 'default' where a namespaced kind gave none, '' for cluster-scoped kinds."""

    others: ClassVar[frozenset[str]] = words(
        "generateName selfLink uid resourceVersion deletionTimestamp deletionGracePeriodSeconds ownerReferences finalizers "
        "managedFields clusterName")

    name: SectionName
    namespace: ObjectNamespace = ""
    labels: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    annotations: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    generation: int = 0
    creation_timestamp: Annotated[datetime, Meta(tz=True)] | None = None


class Resource(
    Struct, kw_only=True, gc=False, eq=False, rename="camel", forbid_unknown_fields=True, omit_defaults=True,
    tag_field="kind", tag=True,
):
    """A kind. Its class has the kind's name, which is the JSON field `kind` too."""

    kind: ClassVar[str]
    group: ClassVar[str] = GATEWAY_GROUP
    version: ClassVar[str] = "v1"
    namespaced: ClassVar[bool] = True
    in_clusters: ClassVar[bool] = True  # whether it is read from an API server as well

    api_version: str = GATEWAY_GROUP + "/v1"
    metadata: ObjectMeta
    status: Ignored | None = None
    source: Source = field(default=NOWHERE, name="-source")
    # Field and words: a route of a cluster that is wrong by itself. It has its parentRefs and no more, for its status to say so.
    fault: tuple[str, str] | None = field(default=None, name="-fault")

    @property
    def key(self) -> Key:
        return Key(self.kind, self.metadata.namespace, self.metadata.name)

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        """Yield what is wrong with several fields together; each may be relied on to be valid by itself.

        version: the API version that the resource was written in; release: the minor version of the Gateway API whose rules hold,
        or 0, where nothing shall be wrong that any release let in."""
        return ()

    def complete(self) -> None:
        """Add what an API server adds to a valid resource when it stores it."""

    def validate_update(self, old: Self) -> Findings:
        """Yield what is wrong with this as a change of an existing resource."""
        return ()


class CoreResource(Resource, kw_only=True, forbid_unknown_fields=False):
    """A kind of Kubernetes itself, of which only the fields are here that a gateway looks at."""

    group: ClassVar[str] = ""
    others: ClassVar[frozenset[str]] = frozenset()  # as those of OpenType
    api_version: str = "v1"


class ExperimentalResource(Resource, kw_only=True):
    """A kind of the Gateway API's experimental channel that has no standard form yet."""

    group: ClassVar[str] = EXPERIMENTAL_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = EXPERIMENTAL_GROUP + "/v1alpha1"


class OwnResource(Resource, kw_only=True):
    """A kind of gwfast's own; its CRD is in deploy/crds."""

    group: ClassVar[str] = OWN_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = OWN_GROUP + "/v1alpha1"
