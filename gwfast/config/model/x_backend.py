"""XBackend, and its rules (apisx/v1alpha1/xbackend_types.go). v1.7 renamed port.port, which is read with a warning."""
import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.backend_tls_policy import BackendTLSPolicyValidation, check_validation, check_validation_since_1_7
from gwfast.config.model.references import SecretObjectReference
from gwfast.config.model.resource import NEWEST, ExperimentalResource, Type
from gwfast.config.model.session_persistence import SessionPersistence, check_session, check_session_since_1_7
from gwfast.config.scalars import LABEL_OR_EMPTY, QUALIFIED_NAME, LabelValue, Port, PreciseHostname


class BackendPort(Type, kw_only=True, frozen=True):
    """`number` is how v1.7 says it, `port` (and a `name` for it) how v1.6 did."""

    number: Port | None = None
    port: Port | None = None
    name: Annotated[str, Meta(max_length=63, pattern=LABEL_OR_EMPTY)] | None = None


class ExternalHostnameBackend(Type, kw_only=True, frozen=True):
    hostname: PreciseHostname


class EndpointSelectorBackend(Type, kw_only=True, frozen=True):
    match_labels: Annotated[dict[str, LabelValue], Meta(min_length=1, max_length=64)]


class BackendTLS(Type, kw_only=True, frozen=True):
    mode: Literal["None", "ServerOnly", "ClientAndServer"]
    client_certificate_ref: SecretObjectReference | None = None
    validation: BackendTLSPolicyValidation | None = None


class XBackendSpec(Type, kw_only=True, frozen=True):
    type: Literal["ExternalHostname", "EndpointSelector"]
    port: BackendPort
    external_hostname: ExternalHostnameBackend | None = None
    endpoint_selector: EndpointSelectorBackend | None = None
    session_persistence: SessionPersistence | None = None
    protocol: Literal["TCP", "HTTP", "HTTP2", "HTTP11", "H2C", "MCP", "GRPC", "WSS"] | None = None
    tls: BackendTLS = BackendTLS(mode="None")

    @property
    def number(self) -> int:
        """The port, however it is called."""
        return self.port.number or self.port.port or 0


class XBackend(ExperimentalResource, kw_only=True):
    kind: ClassVar[str] = "XBackend"
    spec: XBackendSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec = self.spec
        yield from _by_type(spec)
        yield from _client_certificate(spec.tls)
        if spec.session_persistence:
            yield from check_session(spec.session_persistence, "spec.sessionPersistence")
        if spec.tls.validation:
            yield from check_validation(spec.tls.validation, "spec.tls.validation")
        if release >= 7:
            yield from _since_1_7(spec)


def _by_type(spec: XBackendSpec) -> Findings:
    if (spec.type == "ExternalHostname") != (spec.external_hostname is not None):
        yield Finding("spec.externalHostname",
                      "externalHostname must be set when type is ExternalHostname and must be unset otherwise")
    if (spec.type == "EndpointSelector") != (spec.endpoint_selector is not None):
        yield Finding("spec.endpointSelector",
                      "endpointSelector must be set when type is EndpointSelector and must be unset otherwise")
    if spec.number == 0:
        yield Finding("spec.port", "must have at least 1 properties")
    if spec.external_hostname and spec.external_hostname.hostname.endswith(".cluster.local"):
        yield Finding("spec.externalHostname.hostname", "hostname must not be an IP address or end with .cluster.local")
    if spec.external_hostname and re.fullmatch(r"\d+(?:\.\d+){3}", spec.external_hostname.hostname):
        yield Finding("spec.externalHostname.hostname", "hostname must not be an IP address or end with .cluster.local")
    for label in spec.endpoint_selector.match_labels if spec.endpoint_selector else ():
        if not re.match(QUALIFIED_NAME, label) or len(label.rpartition("/")[0]) > 253:
            yield Finding("spec.endpointSelector.matchLabels",
                          f"{label!r}: Label keys must be in the form of an optional DNS subdomain prefix not longer than 253 "
                          "characters followed by a required name segment of up to 63 characters.")


def _client_certificate(tls: BackendTLS) -> Findings:
    if (tls.mode == "ClientAndServer") != (tls.client_certificate_ref is not None):
        yield Finding("spec.tls.clientCertificateRef", "clientCertificateRef must be set if and only if mode is ClientAndServer")


def _since_1_7(spec: XBackendSpec) -> Findings:
    secure = spec.tls.mode != "None"
    if spec.protocol == "H2C" and secure:
        yield Finding("spec.tls.mode", "tls must be disabled when protocol is H2C, use protocol HTTP2 for HTTP/2 with tls")
    if spec.protocol == "HTTP2" and not secure:
        yield Finding("spec.tls.mode", "tls must be enabled when protocol is HTTP2, use protocol H2C for HTTP/2 without tls")
    if spec.protocol == "WSS" and not secure:
        yield Finding("spec.tls.mode", "tls must be enabled when protocol is WSS")
    if spec.session_persistence and spec.type != "EndpointSelector":
        yield Finding("spec.sessionPersistence", "sessionPersistence can only be set when type is EndpointSelector")
    if secure != (spec.tls.validation is not None):
        yield Finding("spec.tls.validation", "validation must be set if and only if mode is either ClientAndServer or ServerOnly")
    if spec.tls.validation:
        yield from check_validation_since_1_7(spec.tls.validation, "spec.tls.validation")
    if spec.session_persistence:
        yield from check_session_since_1_7(spec.session_persistence, "spec.sessionPersistence")
    if spec.port.port is not None:
        yield Finding("spec.port.port", "port.port is called port.number from v1.7 on, where an API server drops it", "warning",
                      "OldShape")
