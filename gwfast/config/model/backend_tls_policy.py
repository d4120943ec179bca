"""BackendTLSPolicy, and its rules (backendtlspolicy_types.go). An XBackend has the same validation of its own."""
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.policy_targets import LocalPolicyTargetReferenceWithSectionName, check_target_refs
from gwfast.config.model.references import LocalObjectReference
from gwfast.config.model.resource import NEWEST, NO_LABELS, Resource, Type
from gwfast.config.scalars import URI, WELL_KNOWN_CA, AnnotationValue, Hostname, PreciseHostname


class SubjectAltName(Type, kw_only=True, frozen=True):
    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: Annotated[str, Meta(min_length=1, max_length=253, pattern=URI)] | None = None


class _NotGiven(tuple[LocalObjectReference, ...]):
    """An empty list that nobody wrote: where a field may be absent, but not empty."""


NO_REFS = _NotGiven()


class BackendTLSPolicyValidation(Type, kw_only=True, frozen=True):
    ca_certificate_refs: Annotated[tuple[LocalObjectReference, ...], Meta(max_length=8)] = NO_REFS
    well_known_ca_certificates: Annotated[str, Meta(min_length=1, max_length=253, pattern=WELL_KNOWN_CA)] | None = field(
        default=None, name="wellKnownCACertificates")
    hostname: PreciseHostname
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], Meta(max_length=5)] = ()


class BackendTLSPolicySpec(Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalPolicyTargetReferenceWithSectionName, ...], Meta(min_length=1, max_length=16)]
    validation: BackendTLSPolicyValidation
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=lambda: NO_LABELS)


class BackendTLSPolicy(Resource, kw_only=True):
    kind: ClassVar[str] = "BackendTLSPolicy"
    spec: BackendTLSPolicySpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        yield from check_target_refs(self.spec.target_refs, "spec.targetRefs")
        yield from check_validation(self.spec.validation, "spec.validation")
        if release >= 7:
            yield from check_validation_since_1_7(self.spec.validation, "spec.validation")


def _alt_name(value: SubjectAltName, path: str) -> Findings:
    for kind, name, given in (("Hostname", "hostname", value.hostname), ("URI", "uri", value.uri)):
        word = "Hostname" if name == "hostname" else "URI"
        if value.type == kind and not given:
            yield Finding(f"{path}.{name}", f"SubjectAltName element must contain {word}, if Type is set to {kind}")
        if value.type != kind and given:
            yield Finding(f"{path}.{name}", f"SubjectAltName element must not contain {word}, if Type is not set to {kind}")


def check_validation(value: BackendTLSPolicyValidation, path: str) -> Findings:
    """There is one source of authorities, and each subjectAltName has the field that its type names."""
    if value.ca_certificate_refs and value.well_known_ca_certificates:
        yield Finding(path, "must not contain both CACertificateRefs and WellKnownCACertificates")
    if not value.ca_certificate_refs and not value.well_known_ca_certificates:
        yield Finding(path, "must specify either CACertificateRefs or WellKnownCACertificates")
    for index, name in enumerate(value.subject_alt_names):
        yield from _alt_name(name, f"{path}.subjectAltNames[{index}]")


def check_validation_since_1_7(value: BackendTLSPolicyValidation, path: str) -> Findings:
    if value.ca_certificate_refs is not NO_REFS and not value.ca_certificate_refs:
        yield Finding(f"{path}.caCertificateRefs", "must have at least 1 items, has 0")
