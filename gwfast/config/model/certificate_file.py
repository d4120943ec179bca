"""CertificateFile: what a kubernetes.io/tls Secret holds, in files (deploy/crds/certificatefiles.yaml), and its rules."""
from typing import Annotated, ClassVar

from msgspec import Meta, field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import NEWEST, OwnResource, Type

FileName = Annotated[str, Meta(min_length=1, max_length=4096)]  # PATH_MAX of Linux


class CertificateFileSpec(Type, kw_only=True, frozen=True):
    """Names of PEM files, from the folder of the file that this is written in: as tls.crt, tls.key and ca.crt of a Secret."""

    certificate: FileName | None = None
    key: FileName | None = None
    ca: FileName | None = None


class CertificateFile(OwnResource, kw_only=True):
    kind: ClassVar[str] = "CertificateFile"
    in_clusters: ClassVar[bool] = False
    spec: CertificateFileSpec
    # By field of the spec, when they were read last (config.pem): what was in the files, and why one cannot be read.
    content: dict[str, bytes] = field(default_factory=dict, name="-content")
    unread: dict[str, str] = field(default_factory=dict, name="-unread")

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        if (self.spec.certificate is None) != (self.spec.key is None):
            yield Finding("spec", "certificate and key have to be given together")
        if self.spec.certificate is None and self.spec.ca is None:
            yield Finding("spec", "certificate and key, or ca, have to be given")
