"""Namespace, Secret and ConfigMap (k8s.io/api/core/v1), and ClusterTrustBundle (k8s.io/api/certificates/v1)."""
from typing import ClassVar

from msgspec import field

from gwfast.config.model.resource import CERTIFICATES_GROUP, NO_LABELS, CoreResource, OpenType, words


class Namespace(CoreResource, kw_only=True):
    kind: ClassVar[str] = "Namespace"
    namespaced: ClassVar[bool] = False
    others: ClassVar[frozenset[str]] = words("spec")

    def complete(self) -> None:
        """Give the namespace its name as a label, which every namespace carries."""
        self.metadata.labels = self.metadata.labels | {"kubernetes.io/metadata.name": self.metadata.name}


class Secret(CoreResource, kw_only=True):
    """`data` is decoded from base64 and holds `stringData` too."""

    kind: ClassVar[str] = "Secret"
    others: ClassVar[frozenset[str]] = words("immutable")
    type: str = "Opaque"
    data: dict[str, bytes] = field(default_factory=dict)
    string_data: dict[str, str] = field(default_factory=lambda: NO_LABELS)

    def complete(self) -> None:
        """Move `stringData` into `data`."""
        if self.string_data:
            self.data = self.data | {name: text.encode() for name, text in self.string_data.items()}
            self.string_data = {}


class ConfigMap(CoreResource, kw_only=True):
    kind: ClassVar[str] = "ConfigMap"
    others: ClassVar[frozenset[str]] = words("immutable")
    data: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    binary_data: dict[str, bytes] = field(default_factory=dict)


class ClusterTrustBundleSpec(OpenType, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = words("signerName")

    trust_bundle: str


class ClusterTrustBundle(CoreResource, kw_only=True):
    """Certificate authorities of the whole cluster (k8s.io/api/certificates); `trust_bundle` is PEM."""

    kind: ClassVar[str] = "ClusterTrustBundle"
    group: ClassVar[str] = CERTIFICATES_GROUP
    namespaced: ClassVar[bool] = False
    api_version: str = CERTIFICATES_GROUP + "/v1"
    spec: ClusterTrustBundleSpec
