"""XTelemetryPolicy, and its rules (apisx/v1alpha1/xtelemetrypolicy_types.go). v1.7 is the first release that has it."""
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings, unique
from gwfast.config.model.filters import Fraction, HTTPHeader, check_fraction
from gwfast.config.model.references import (
    BackendObjectReference, LocalObjectReference, check_backend_ref, check_backend_ref_since_1_7,
)
from gwfast.config.model.resource import NEWEST, ExperimentalResource, Type
from gwfast.config.scalars import ATTRIBUTE_KEY, SPAN_WORD, SPAN_WORDS, HeaderName

_Mode = Literal["Enabled", "Disabled", "ImplementationDefault"]


class TracingProvider(Type, kw_only=True, frozen=True):
    backend_ref: BackendObjectReference
    headers: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()


class ParentBasedSampling(Type, kw_only=True, frozen=True):
    mode: _Mode = "ImplementationDefault"
    sampling_rate: Fraction | None = None


class TelemetryAttribute(Type, kw_only=True, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=SPAN_WORD)]
    source_type: Literal["Header", "Literal", "Attribute"]
    header_name: HeaderName | None = None
    literal_value: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    attribute_key: Annotated[str, Meta(min_length=1, max_length=256, pattern=ATTRIBUTE_KEY)] | None = None


class TracingConfig(Type, kw_only=True, frozen=True):
    mode: _Mode = "ImplementationDefault"
    provider: TracingProvider | None = None
    sampling_rate: Fraction | None = None
    parent_based_sampling: ParentBasedSampling | None = None
    service_name: Annotated[str, Meta(min_length=1, max_length=253, pattern=SPAN_WORD)] | None = None
    span_name: Annotated[str, Meta(min_length=1, max_length=256, pattern=SPAN_WORDS)] | None = None
    attributes: tuple[TelemetryAttribute, ...] = ()


class XTelemetryPolicySpec(Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalObjectReference, ...], Meta(min_length=1, max_length=16)]
    tracing: TracingConfig | None = None


class XTelemetryPolicy(ExperimentalResource, kw_only=True):
    kind: ClassVar[str] = "XTelemetryPolicy"
    spec: XTelemetryPolicySpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        if release >= 7:
            if self.spec.tracing is None:
                yield Finding("spec", "at least one of the fields in [tracing] must be set")
            else:
                yield from _tracing(self.spec.tracing, "spec.tracing")


_ENABLED = ("samplingRate", "parentBasedSampling", "serviceName", "spanName", "attributes")
_SOURCES = (("Header", "headerName"), ("Literal", "literalValue"), ("Attribute", "attributeKey"))


def _tracing(tracing: TracingConfig, path: str) -> Findings:
    enabled = tracing.mode == "Enabled"
    if enabled != (tracing.provider is not None):
        yield Finding(f"{path}.provider", "provider is required when mode is Enabled, and must be empty otherwise")
    given = (tracing.sampling_rate, tracing.parent_based_sampling, tracing.service_name, tracing.span_name,
             tracing.attributes or None)
    for name, value in zip(_ENABLED, given, strict=True):
        if value is not None and not enabled:
            yield Finding(f"{path}.{name}", f"{name} can only be set when mode is Enabled")
    if tracing.provider:
        yield from _provider(tracing.provider, f"{path}.provider")
    yield from check_fraction(tracing.sampling_rate, f"{path}.samplingRate")
    if parent := tracing.parent_based_sampling:
        if parent.sampling_rate is not None and parent.mode != "Enabled":
            yield Finding(f"{path}.parentBasedSampling.samplingRate", "samplingRate can only be set when mode is Enabled")
        yield from check_fraction(parent.sampling_rate, f"{path}.parentBasedSampling.samplingRate")
    yield from _attributes(tracing.attributes, f"{path}.attributes")


def _provider(value: TracingProvider, path: str) -> Findings:
    yield from check_backend_ref(value.backend_ref, f"{path}.backendRef")
    yield from check_backend_ref_since_1_7(value.backend_ref, f"{path}.backendRef")
    yield from unique(value.headers, f"{path}.headers", "name")


def _attributes(attributes: tuple[TelemetryAttribute, ...], path: str) -> Findings:
    yield from unique(attributes, path, "name")
    for index, one in enumerate(attributes):
        given = {"headerName": one.header_name, "literalValue": one.literal_value, "attributeKey": one.attribute_key}
        for source, name in _SOURCES:
            if (one.source_type == source) != (given[name] is not None):
                yield Finding(f"{path}[{index}].{name}",
                              f"{name} is required when sourceType is {source}, and must be empty otherwise")
