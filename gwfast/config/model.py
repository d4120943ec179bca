"""Every resource that gwfast reads, as typed structs: one per Go type of the API (v1), with the Go type's name.

Rules:
- Attributes are the API's fields in snake_case; None is a field that was not given and has no default.
- Lists are tuples. Everything below a resource is frozen and compares by value; a resource compares by identity,
  and once loaded only its `source` may change (when the text around it moved).
- What a single field allows (length, number, pattern, enumeration) is said here; rules that look at several
  fields are in `validate`. Both channels of the CRDs of v1.7.0 are represented, and what v1.6 called otherwise beside it.
- No struct can take part in a reference cycle, so none is tracked by the garbage collector.

    Resource   api_version, metadata (ObjectMeta), source (errors.Source), fault; class: kind, group, namespaced
      HTTPRoute, Gateway, ...   spec
      EndpointSlice, Secret, ConfigMap, Namespace   their fields directly, as in Kubernetes
"""
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta, Struct, field

from gwfast.config.scalars import (
    ATTRIBUTE_KEY,
    CLASS_NAME,
    LABEL_OR_EMPTY,
    ORIGIN,
    PATH,
    REQUEST_PATH,
    SPAN_WORD,
    SPAN_WORDS,
    URI,
    WELL_KNOWN_CA,
    AddressType,
    AnnotationValue,
    Duration,
    GatewayController,
    GatewayDefaultScope,
    Group,
    HeaderName,
    HeaderValue,
    Hostname,
    HTTPMethod,
    Kind,
    LabelValue,
    MatchType,
    ObjectName,
    ObjectNamespace,
    Port,
    PreciseHostname,
    ProtocolType,
    SectionName,
    Weight,
)
from gwfast.config.scalars import Namespace as NamespaceName
from gwfast.errors import Source

GATEWAY_GROUP = "gateway.networking.k8s.io"
EXPERIMENTAL_GROUP = "gateway.networking.x-k8s.io"
OWN_GROUP = "gwfast.dev"
CERTIFICATES_GROUP = "certificates.k8s.io"
NOWHERE = Source("", 0)
NO_LABELS: dict[str, str] = {}  # shared by all metadata without labels: 100,000 empty dicts would be 6 MB


class Key(NamedTuple):
    """What a resource is known by; `namespace` is '' for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Type(Struct, kw_only=True, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Open(Struct, kw_only=True, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A type of which only some fields matter here; `others` are those that it has besides."""

    others: ClassVar[frozenset[str]] = frozenset()


class Ignored(Struct, kw_only=True, frozen=True, gc=False):
    """An object that is accepted, whatever is in it, and not kept (status)."""


class ObjectMeta(Struct, kw_only=True, gc=False, rename="camel", omit_defaults=True):
    """Namespace is 'default' where a namespaced kind gave none, '' for cluster-scoped kinds."""

    others: ClassVar[frozenset[str]] = _words(
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


# ---- References (shared_types.go, object_reference_types.go)


class ParentReference(_Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: NamespaceName | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: Port | None = None


class LocalObjectReference(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName


class ObjectReference(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: NamespaceName | None = None


class SecretObjectReference(_Type, kw_only=True, frozen=True):
    group: Group = ""
    kind: Kind = "Secret"
    name: ObjectName
    namespace: NamespaceName | None = None


class ParametersReference(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: NamespaceName | None = None


class BackendObjectReference(_Type, kw_only=True, frozen=True):
    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: NamespaceName | None = None
    port: Port | None = None


class BackendRef(BackendObjectReference, kw_only=True, frozen=True):
    weight: Weight = 1


class LabelSelectorRequirement(_Type, kw_only=True, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def fault(self) -> tuple[str, str] | None:
        """Return the field and what is wrong with it: Kubernetes knows four operators, two of them without values."""
        if self.operator not in ("DoesNotExist", "Exists", "In", "NotIn"):
            return "operator", f"{self.operator!r} is not allowed, must be one of DoesNotExist, Exists, In, NotIn"
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            return "values", f"must {'' if self.values else 'not '}be empty for the operator {self.operator}"
        return None

    def meets(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


class LabelSelector(_Type, kw_only=True, frozen=True):
    match_labels: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether this selects what carries `labels`; an empty selector selects everything, one that is wrong nothing."""
        return (not any(each.fault() for each in self.match_expressions)
                and all(labels.get(key) == value for key, value in self.match_labels.items())
                and all(each.meets(labels) for each in self.match_expressions))


# ---- Filters that ask somebody: of routes and of listeners (httproute_types.go, gateway_types.go)


class GRPCAuthConfig(_Type, kw_only=True, frozen=True):
    allowed_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class HTTPAuthConfig(_Type, kw_only=True, frozen=True):
    path: Annotated[str, Meta(max_length=1024, pattern=PATH)] | None = None
    allowed_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    allowed_response_headers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class ForwardBodyConfig(_Type, kw_only=True, frozen=True):
    max_size: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class HTTPExternalAuthFilter(_Type, kw_only=True, frozen=True):
    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


class ListenerFilter(_Type, kw_only=True, frozen=True):
    type: Literal["ExternalAuth", "ExtensionRef"]
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class ListenerFilters(_Type, kw_only=True, frozen=True):
    requests: Annotated[tuple[ListenerFilter, ...], Meta(max_length=16)] = ()


# ---- GatewayClass, Gateway, ListenerSet (gatewayclass_types.go, gateway_types.go, listenerset_types.go)


class GatewayClassSpec(_Type, kw_only=True, frozen=True):
    controller_name: GatewayController
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Meta(max_length=64)] | None = None


class GatewayClass(Resource, kw_only=True):
    kind: ClassVar[str] = "GatewayClass"
    namespaced: ClassVar[bool] = False
    spec: GatewayClassSpec


class RouteGroupKind(_Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind


class RouteNamespaces(_Type, kw_only=True, frozen=True):
    from_: Literal["All", "Selector", "Same"] = field(default="Same", name="from")
    selector: LabelSelector | None = None


class AllowedRoutes(_Type, kw_only=True, frozen=True):
    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()


class ListenerTLSConfig(_Type, kw_only=True, frozen=True):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=lambda: NO_LABELS)


class Listener(_Type, kw_only=True, frozen=True):
    """Also a ListenerEntry of a ListenerSet: the fields are the same."""

    name: SectionName
    hostname: Hostname | None = None
    port: Port
    protocol: ProtocolType
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()
    filters: ListenerFilters | None = None


class GatewaySpecAddress(_Type, kw_only=True, frozen=True):
    type: AddressType = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None
    routability: Annotated[str, Meta(max_length=253)] | None = None


class GatewayInfrastructure(_Type, kw_only=True, frozen=True):
    labels: Annotated[dict[str, LabelValue], Meta(max_length=8)] = field(default_factory=lambda: NO_LABELS)
    annotations: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(
        default_factory=lambda: NO_LABELS
    )
    parameters_ref: LocalObjectReference | None = None


class ListenerNamespaces(_Type, kw_only=True, frozen=True):
    from_: Literal["All", "Selector", "Same", "None"] = field(default="None", name="from")
    selector: LabelSelector | None = None


class AllowedListeners(_Type, kw_only=True, frozen=True):
    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendTLSValidation(_Type, kw_only=True, frozen=True):
    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], Meta(min_length=1, max_length=16)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class TLSConfig(_Type, kw_only=True, frozen=True):
    validation: FrontendTLSValidation | None = None


class TLSPortConfig(_Type, kw_only=True, frozen=True):
    port: Port
    tls: TLSConfig


class FrontendTLSConfig(_Type, kw_only=True, frozen=True):
    default: TLSConfig
    per_port: Annotated[tuple[TLSPortConfig, ...], Meta(max_length=64)] = ()


class GatewayBackendTLS(_Type, kw_only=True, frozen=True):
    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLSConfig(_Type, kw_only=True, frozen=True):
    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(_Type, kw_only=True, frozen=True):
    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]
    addresses: Annotated[tuple[GatewaySpecAddress, ...], Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTLSConfig | None = None
    default_scope: GatewayDefaultScope | None = None


class Gateway(Resource, kw_only=True):
    kind: ClassVar[str] = "Gateway"
    spec: GatewaySpec


class ParentGatewayReference(_Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    name: ObjectName
    namespace: NamespaceName | None = None


class ListenerSetSpec(_Type, kw_only=True, frozen=True):
    parent_ref: ParentGatewayReference
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]


class ListenerSet(Resource, kw_only=True):
    kind: ClassVar[str] = "ListenerSet"
    spec: ListenerSetSpec


# ---- Filters (httproute_types.go)


class HTTPHeader(_Type, kw_only=True, frozen=True):
    name: HeaderName
    value: HeaderValue


class HTTPHeaderFilter(_Type, kw_only=True, frozen=True):
    set: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


class HTTPPathModifier(_Type, kw_only=True, frozen=True):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class HTTPRequestRedirectFilter(_Type, kw_only=True, frozen=True):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(_Type, kw_only=True, frozen=True):
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class Fraction(_Type, kw_only=True, frozen=True):
    numerator: Annotated[int, Meta(ge=0)]
    denominator: Annotated[int, Meta(ge=1)] = 100


class HTTPRequestMirrorFilter(_Type, kw_only=True, frozen=True):
    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


_Origin = Annotated[str, Meta(min_length=1, max_length=253, pattern=ORIGIN)]
_Headers = Annotated[tuple[HeaderName, ...], Meta(max_length=64)]


class HTTPCORSFilter(_Type, kw_only=True, frozen=True):
    allow_origins: Annotated[tuple[_Origin, ...], Meta(max_length=64)] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[tuple[HTTPMethod | Literal["*"], ...], Meta(max_length=9)] = ()
    allow_headers: _Headers = ()
    expose_headers: _Headers = ()
    max_age: Annotated[int, Meta(ge=1)] = 5


class HTTPRouteFilter(_Type, kw_only=True, frozen=True):
    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite",
        "ExtensionRef", "CORS", "ExternalAuth",
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCRouteFilter(_Type, kw_only=True, frozen=True):
    type: Literal["ResponseHeaderModifier", "RequestHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


# ---- HTTPRoute (httproute_types.go, shared_types.go)


class HTTPPathMatch(_Type, kw_only=True, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(_Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: HeaderValue


class HTTPQueryParamMatch(_Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(_Type, kw_only=True, frozen=True):
    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Meta(max_length=16)] = ()
    method: HTTPMethod | None = None


class HTTPBackendRef(BackendRef, kw_only=True, frozen=True):
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()


class HTTPRouteTimeouts(_Type, kw_only=True, frozen=True):
    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(_Type, kw_only=True, frozen=True):
    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=0)] | None = None  # None: 1, and up to v1.6 as many as the gateway likes (graph)
    backoff: Duration | None = None


class CookieConfig(_Type, kw_only=True, frozen=True):
    name: HeaderName | None = None  # the Go type CookieName says the same
    path: Annotated[str, Meta(max_length=1024)] = "/"
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class HeaderConfig(_Type, kw_only=True, frozen=True):
    name: HeaderName


class OldCookieConfig(_Type, kw_only=True, frozen=True):
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(_Type, kw_only=True, frozen=True):
    """`cookie` and `header` are how v1.7 says it; `session_name` and `cookie_config` how v1.6 did."""

    absolute_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie: CookieConfig | None = None
    header: HeaderConfig | None = None
    session_name: Annotated[str, Meta(max_length=128)] | None = None
    cookie_config: OldCookieConfig | None = None

    @property
    def name(self) -> str:
        """The name of the cookie or header; '': the gateway may choose."""
        new = self.cookie if self.type == "Cookie" else self.header
        return (new.name if new else self.session_name) or ""

    @property
    def name_field(self) -> str:
        """Where the name stands."""
        new = self.cookie if self.type == "Cookie" else self.header
        return f"{self.type.lower()}.name" if new else "sessionName"

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the client's own session."""
        lasts = self.cookie or self.cookie_config
        return lasts is not None and lasts.lifetime_type == "Permanent"


class HTTPRouteRule(_Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class CommonRouteSpec(_Type, kw_only=True, frozen=True):
    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    use_default_gateways: GatewayDefaultScope | None = None


class HTTPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)


class HTTPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "HTTPRoute"
    spec: HTTPRouteSpec


# ---- GRPCRoute (grpcroute_types.go)


class GRPCMethodMatch(_Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    service: Annotated[str, Meta(max_length=1024)] | None = None
    method: Annotated[str, Meta(max_length=1024)] | None = None


class GRPCHeaderMatch(_Type, kw_only=True, frozen=True):
    type: MatchType = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class GRPCRouteMatch(_Type, kw_only=True, frozen=True):
    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[GRPCHeaderMatch, ...], Meta(max_length=16)] = ()


class GRPCBackendRef(BackendRef, kw_only=True, frozen=True):
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()


class GRPCRouteRule(_Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], Meta(max_length=64)] = ()
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], Meta(max_length=16)] = ()


class GRPCRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "GRPCRoute"
    spec: GRPCRouteSpec


# ---- TLSRoute, TCPRoute, UDPRoute. v1 has one rule; up to 16 are read because v1alpha2 had them (spec 6.2).

_BackendRefs = Annotated[tuple[BackendRef, ...], Meta(min_length=1, max_length=16)]


class TLSRouteRule(_Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    backend_refs: _BackendRefs


class TLSRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=1024)] = ()
    rules: Annotated[tuple[TLSRouteRule, ...], Meta(min_length=1, max_length=16)]


class TLSRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "TLSRoute"
    spec: TLSRouteSpec


class TCPRouteRule(_Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    backend_refs: _BackendRefs


class TCPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    rules: Annotated[tuple[TCPRouteRule, ...], Meta(min_length=1, max_length=16)]


class TCPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "TCPRoute"
    spec: TCPRouteSpec


class UDPRouteRule(_Type, kw_only=True, frozen=True):
    name: SectionName | None = None
    backend_refs: _BackendRefs


class UDPRouteSpec(CommonRouteSpec, kw_only=True, frozen=True):
    rules: Annotated[tuple[UDPRouteRule, ...], Meta(min_length=1, max_length=16)]


class UDPRoute(Resource, kw_only=True):
    kind: ClassVar[str] = "UDPRoute"
    spec: UDPRouteSpec


# ---- ReferenceGrant, BackendTLSPolicy (referencegrant_types.go, backendtlspolicy_types.go)


class ReferenceGrantFrom(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    namespace: NamespaceName


class ReferenceGrantTo(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(_Type, kw_only=True, frozen=True):
    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Resource, kw_only=True):
    kind: ClassVar[str] = "ReferenceGrant"
    spec: ReferenceGrantSpec


class LocalPolicyTargetReference(_Type, kw_only=True, frozen=True):
    section_name: ClassVar[None] = None
    group: Group
    kind: Kind
    name: ObjectName


class LocalPolicyTargetReferenceWithSectionName(_Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None


class SubjectAltName(_Type, kw_only=True, frozen=True):
    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: Annotated[str, Meta(min_length=1, max_length=253, pattern=URI)] | None = None


class _NotGiven(tuple):
    """An empty list that nobody wrote: where a field may be absent, but not empty."""


NO_REFS = _NotGiven()


class BackendTLSPolicyValidation(_Type, kw_only=True, frozen=True):
    ca_certificate_refs: Annotated[tuple[LocalObjectReference, ...], Meta(max_length=8)] = NO_REFS
    well_known_ca_certificates: (
        Annotated[str, Meta(min_length=1, max_length=253, pattern=WELL_KNOWN_CA)] | None
    ) = field(default=None, name="wellKnownCACertificates")
    hostname: PreciseHostname
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], Meta(max_length=5)] = ()


class BackendTLSPolicySpec(_Type, kw_only=True, frozen=True):
    target_refs: Annotated[
        tuple[LocalPolicyTargetReferenceWithSectionName, ...], Meta(min_length=1, max_length=16)
    ]
    validation: BackendTLSPolicyValidation
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=lambda: NO_LABELS)


class BackendTLSPolicy(Resource, kw_only=True):
    kind: ClassVar[str] = "BackendTLSPolicy"
    spec: BackendTLSPolicySpec


# ---- XBackendTrafficPolicy (apisx/v1alpha1/backendtrafficpolicy_types.go)


class BudgetDetails(_Type, kw_only=True, frozen=True):
    percent: Annotated[int, Meta(ge=0, le=100)] = 20
    interval: Duration = "10s"


class RequestRate(_Type, kw_only=True, frozen=True):
    """What is not given of it is what the whole would be by default: 10 in 1s."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    interval: Duration | None = None


class RetryConstraint(_Type, kw_only=True, frozen=True):
    budget: BudgetDetails = BudgetDetails()
    min_retry_rate: RequestRate = RequestRate(count=10, interval="1s")


class XBackendTrafficPolicySpec(_Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalPolicyTargetReference, ...], Meta(min_length=1, max_length=16)]
    retry_constraint: RetryConstraint | None = None
    session_persistence: SessionPersistence | None = None


class XBackendTrafficPolicy(Resource, kw_only=True):
    kind: ClassVar[str] = "XBackendTrafficPolicy"
    group: ClassVar[str] = EXPERIMENTAL_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = EXPERIMENTAL_GROUP + "/v1alpha1"
    spec: XBackendTrafficPolicySpec


# ---- XBackend (apisx/v1alpha1/xbackend_types.go)


class BackendPort(_Type, kw_only=True, frozen=True):
    """`number` is how v1.7 says it, `port` (and a `name` for it) how v1.6 did."""

    number: Port | None = None
    port: Port | None = None
    name: Annotated[str, Meta(max_length=63, pattern=LABEL_OR_EMPTY)] | None = None


class ExternalHostnameBackend(_Type, kw_only=True, frozen=True):
    hostname: PreciseHostname


class EndpointSelectorBackend(_Type, kw_only=True, frozen=True):
    match_labels: Annotated[dict[str, LabelValue], Meta(min_length=1, max_length=64)]


class BackendTLS(_Type, kw_only=True, frozen=True):
    mode: Literal["None", "ServerOnly", "ClientAndServer"]
    client_certificate_ref: SecretObjectReference | None = None
    validation: BackendTLSPolicyValidation | None = None


class XBackendSpec(_Type, kw_only=True, frozen=True):
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


class XBackend(Resource, kw_only=True):
    kind: ClassVar[str] = "XBackend"
    group: ClassVar[str] = EXPERIMENTAL_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = EXPERIMENTAL_GROUP + "/v1alpha1"
    spec: XBackendSpec


# ---- XTelemetryPolicy (apisx/v1alpha1/xtelemetrypolicy_types.go)

_Mode = Literal["Enabled", "Disabled", "ImplementationDefault"]


class TracingProvider(_Type, kw_only=True, frozen=True):
    backend_ref: BackendObjectReference
    headers: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()


class ParentBasedSampling(_Type, kw_only=True, frozen=True):
    mode: _Mode = "ImplementationDefault"
    sampling_rate: Fraction | None = None


class TelemetryAttribute(_Type, kw_only=True, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=SPAN_WORD)]
    source_type: Literal["Header", "Literal", "Attribute"]
    header_name: HeaderName | None = None
    literal_value: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    attribute_key: Annotated[str, Meta(min_length=1, max_length=256, pattern=ATTRIBUTE_KEY)] | None = None


class TracingConfig(_Type, kw_only=True, frozen=True):
    mode: _Mode = "ImplementationDefault"
    provider: TracingProvider | None = None
    sampling_rate: Fraction | None = None
    parent_based_sampling: ParentBasedSampling | None = None
    service_name: Annotated[str, Meta(min_length=1, max_length=253, pattern=SPAN_WORD)] | None = None
    span_name: Annotated[str, Meta(min_length=1, max_length=256, pattern=SPAN_WORDS)] | None = None
    attributes: tuple[TelemetryAttribute, ...] = ()


class XTelemetryPolicySpec(_Type, kw_only=True, frozen=True):
    target_refs: Annotated[tuple[LocalObjectReference, ...], Meta(min_length=1, max_length=16)]
    tracing: TracingConfig | None = None


class XTelemetryPolicy(Resource, kw_only=True):
    kind: ClassVar[str] = "XTelemetryPolicy"
    group: ClassVar[str] = EXPERIMENTAL_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = EXPERIMENTAL_GROUP + "/v1alpha1"
    spec: XTelemetryPolicySpec


# ---- gwfast's own kinds


class ConfigMapKeySelector(_Type, kw_only=True, frozen=True):
    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+\Z")] = "filter.py"


class PythonFilterSpec(_Type, kw_only=True, frozen=True):
    module: Annotated[str, Meta(min_length=1)] | None = None
    file: Annotated[str, Meta(min_length=1)] | None = None
    config_map: ConfigMapKeySelector | None = None
    class_: Annotated[str, Meta(pattern=CLASS_NAME)] = field(name="class")
    config: dict[str, Any] = {}
    timeout: Duration = "1s"
    failure: Literal["Closed", "Open"] = "Closed"
    max_body: Annotated[int, Meta(ge=0, le=16 * 1024 * 1024)] = 64 * 1024


class PythonFilter(Resource, kw_only=True):
    kind: ClassVar[str] = "PythonFilter"
    group: ClassVar[str] = OWN_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = OWN_GROUP + "/v1alpha1"
    spec: PythonFilterSpec


# ---- CertificateFile: our own (deploy/crds/certificatefiles.yaml). What a kubernetes.io/tls Secret has in it is in files here.


FileName = Annotated[str, Meta(min_length=1, max_length=4096)]  # PATH_MAX of Linux


class CertificateFileSpec(_Type, kw_only=True, frozen=True):
    """Names of PEM files, from the folder of the file that this is written in: as tls.crt, tls.key and ca.crt of a Secret."""

    certificate: FileName | None = None
    key: FileName | None = None
    ca: FileName | None = None


class CertificateFile(Resource, kw_only=True):
    kind: ClassVar[str] = "CertificateFile"
    group: ClassVar[str] = OWN_GROUP
    version: ClassVar[str] = "v1alpha1"
    in_clusters: ClassVar[bool] = False
    api_version: str = OWN_GROUP + "/v1alpha1"
    spec: CertificateFileSpec
    # By field of the spec, when they were read last (config.pem): what was in the files, and why one cannot be read.
    content: dict[str, bytes] = field(default_factory=dict, name="-content")
    unread: dict[str, str] = field(default_factory=dict, name="-unread")


# ---- BackendPolicy: our own (deploy/crds/backendpolicies.yaml). Names are those of Envoy Gateway's BackendTrafficPolicy.


class PassiveHealthCheck(_Type, kw_only=True, frozen=True):
    consecutive_failures: Annotated[int, Meta(ge=1, le=1000)] = 5
    base_ejection_time: Duration = "30s"
    max_ejection_percent: Annotated[int, Meta(ge=0, le=100)] = 10


class HTTPHealthCheck(_Type, kw_only=True, frozen=True):
    path: Annotated[str, Meta(min_length=1, max_length=1024, pattern=REQUEST_PATH)] = "/"
    hostname: PreciseHostname | None = None
    method: Literal["GET", "HEAD"] = "GET"
    expected_statuses: Annotated[
        tuple[Annotated[int, Meta(ge=200, le=599)], ...], Meta(min_length=1, max_length=16)
    ] = (200,)


class GRPCHealthCheck(_Type, kw_only=True, frozen=True):
    service: Annotated[str, Meta(max_length=253)] = ""


class ActiveHealthCheck(_Type, kw_only=True, frozen=True):
    type: Literal["HTTP", "TCP", "GRPC"]
    interval: Duration = "3s"
    timeout: Duration = "1s"
    unhealthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 3
    healthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 1
    http: HTTPHealthCheck | None = None
    grpc: GRPCHealthCheck | None = None


class HealthCheck(_Type, kw_only=True, frozen=True):
    passive: PassiveHealthCheck | None = None
    active: ActiveHealthCheck | None = None


class SlowStart(_Type, kw_only=True, frozen=True):
    window: Duration


class PerEndpointCircuitBreaker(_Type, kw_only=True, frozen=True):
    max_parallel_requests: Annotated[int, Meta(ge=1, le=1_000_000)]


class CircuitBreaker(_Type, kw_only=True, frozen=True):
    per_endpoint: PerEndpointCircuitBreaker
    max_pending_requests: Annotated[int, Meta(ge=0, le=100_000)] = 1024
    pending_timeout: Duration = "1s"


class BackendPolicySpec(_Type, kw_only=True, frozen=True):
    target_refs: Annotated[
        tuple[LocalPolicyTargetReferenceWithSectionName, ...], Meta(min_length=1, max_length=16)
    ]
    health_check: HealthCheck | None = None
    slow_start: SlowStart | None = None
    circuit_breaker: CircuitBreaker | None = None


class BackendPolicy(Resource, kw_only=True):
    kind: ClassVar[str] = "BackendPolicy"
    group: ClassVar[str] = OWN_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = OWN_GROUP + "/v1alpha1"
    spec: BackendPolicySpec


# ---- GatewayParameters: our own (deploy/crds/gatewayparameters.yaml). Fields are those of the objects that are made; None is
# what was not given, so that a Gateway's can be put over its class's.

_AnyObject = dict[str, Any]
_Strings = dict[str, str]


class Autoscaling(_Type, kw_only=True, frozen=True):
    min_replicas: Annotated[int, Meta(ge=1, le=1000)] | None = None
    max_replicas: Annotated[int, Meta(ge=1, le=1000)]
    metrics: Annotated[tuple[_AnyObject, ...], Meta(max_length=32)] | None = None
    behavior: _AnyObject | None = None


class DisruptionBudget(_Type, kw_only=True, frozen=True):
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class ContainerImage(_Type, kw_only=True, frozen=True):
    repository: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    pull_secrets: Annotated[tuple[ObjectName, ...], Meta(max_length=16)] | None = None


class PodTemplateMetadata(_Type, kw_only=True, frozen=True):
    labels: _Strings | None = None
    annotations: _Strings | None = None


class ServiceAccountTemplate(_Type, kw_only=True, frozen=True):
    annotations: _Strings | None = None


class ServiceTemplate(_Type, kw_only=True, frozen=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    labels: _Strings | None = None
    annotations: _Strings | None = None
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    internal_traffic_policy: Literal["Cluster", "Local"] | None = None
    traffic_distribution: Annotated[str, Meta(min_length=1, max_length=63)] | None = None
    load_balancer_class: Annotated[str, Meta(min_length=1, max_length=317)] | None = None
    load_balancer_source_ranges: Annotated[tuple[str, ...], Meta(max_length=256)] | None = None
    allocate_load_balancer_node_ports: bool | None = None
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    ip_families: Annotated[tuple[Literal["IPv4", "IPv6"], ...], Meta(max_length=2)] | None = None


class EnvVar(_Type, kw_only=True, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    value: str | None = None
    value_from: _AnyObject | None = None


class ObjectPatch(_Type, kw_only=True, frozen=True):
    kind: Literal["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler"]
    value: _AnyObject


ParameterName = Literal[
    "dedicated", "replicas", "autoscaling", "podDisruptionBudget", "resources", "affinity", "tolerations", "nodeSelector",
    "topologySpreadConstraints", "priorityClassName", "hostNetwork", "adminPort", "image", "pod", "serviceAccount", "service",
    "options", "env", "patches", "pythonFilters"]
Network = Annotated[str, Meta(max_length=43, pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?\Z")]


class GatewayParametersSpec(_Type, kw_only=True, frozen=True):
    allowed_for_gateways: Annotated[tuple[ParameterName, ...], Meta(max_length=32)] | None = None
    addresses: Annotated[tuple[Network, ...], Meta(max_length=64)] | None = None
    dedicated: bool | None = None
    replicas: Annotated[int, Meta(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling | None = None
    pod_disruption_budget: DisruptionBudget | None = None
    resources: _AnyObject | None = None
    affinity: _AnyObject | None = None
    tolerations: Annotated[tuple[_AnyObject, ...], Meta(max_length=64)] | None = None
    node_selector: _Strings | None = None
    topology_spread_constraints: Annotated[tuple[_AnyObject, ...], Meta(max_length=16)] | None = None
    priority_class_name: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    host_network: bool | None = None
    admin_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    image: ContainerImage | None = None
    pod: PodTemplateMetadata | None = None
    service_account: ServiceAccountTemplate | None = None
    service: ServiceTemplate | None = None
    options: _Strings | None = None
    env: Annotated[tuple[EnvVar, ...], Meta(max_length=64)] | None = None
    patches: Annotated[tuple[ObjectPatch, ...], Meta(max_length=16)] | None = None
    python_filters: bool | None = None


class GatewayParameters(Resource, kw_only=True):
    kind: ClassVar[str] = "GatewayParameters"
    group: ClassVar[str] = OWN_GROUP
    version: ClassVar[str] = "v1alpha1"
    api_version: str = OWN_GROUP + "/v1alpha1"
    spec: GatewayParametersSpec


# ---- Kubernetes' own kinds: only the fields that a gateway looks at


class _CoreResource(Resource, kw_only=True, forbid_unknown_fields=False):
    group: ClassVar[str] = ""
    others: ClassVar[frozenset[str]] = frozenset()  # as those of _Open
    api_version: str = "v1"


class Namespace(_CoreResource, kw_only=True):
    kind: ClassVar[str] = "Namespace"
    namespaced: ClassVar[bool] = False
    others: ClassVar[frozenset[str]] = _words("spec")


class ServicePort(_Open, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = _words("nodePort")

    name: str = ""
    port: Port
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None
    target_port: Port | str | None = None


class ServiceSpec(_Open, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = _words(
        "clusterIPs externalIPs sessionAffinity loadBalancerIP loadBalancerSourceRanges externalTrafficPolicy "
        "healthCheckNodePort publishNotReadyAddresses sessionAffinityConfig ipFamily ipFamilies ipFamilyPolicy "
        "allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution topologyKeys")

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    cluster_ip: str = field(default="", name="clusterIP")
    external_name: str = ""


class Service(_CoreResource, kw_only=True):
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(_Open, kw_only=True, frozen=True):
    """None means unknown, which is to be read as true for `ready` (k8s.io/api/discovery/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(_Open, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = _words("hostname targetRef nodeName hints topology deprecatedTopology")

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    zone: str | None = None


class EndpointPort(_Open, kw_only=True, frozen=True):
    name: str = ""
    port: Port | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None


class EndpointSlice(_CoreResource, kw_only=True):
    """Belongs to the Service named by the label kubernetes.io/service-name in its namespace."""

    kind: ClassVar[str] = "EndpointSlice"
    group: ClassVar[str] = "discovery.k8s.io"
    api_version: str = "discovery.k8s.io/v1"
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Secret(_CoreResource, kw_only=True):
    """`data` is decoded from base64 and holds `stringData` too."""

    kind: ClassVar[str] = "Secret"
    others: ClassVar[frozenset[str]] = _words("immutable")
    type: str = "Opaque"
    data: dict[str, bytes] = field(default_factory=dict)
    string_data: dict[str, str] = field(default_factory=lambda: NO_LABELS)


class ConfigMap(_CoreResource, kw_only=True):
    kind: ClassVar[str] = "ConfigMap"
    others: ClassVar[frozenset[str]] = _words("immutable")
    data: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    binary_data: dict[str, bytes] = field(default_factory=dict)


class ClusterTrustBundleSpec(_Open, kw_only=True, frozen=True):
    others: ClassVar[frozenset[str]] = _words("signerName")

    trust_bundle: str


class ClusterTrustBundle(_CoreResource, kw_only=True):
    """Certificate authorities of the whole cluster (k8s.io/api/certificates); `trust_bundle` is PEM."""

    kind: ClassVar[str] = "ClusterTrustBundle"
    group: ClassVar[str] = CERTIFICATES_GROUP
    namespaced: ClassVar[bool] = False
    api_version: str = CERTIFICATES_GROUP + "/v1"
    spec: ClusterTrustBundleSpec


KINDS: dict[tuple[str, str], type[Resource]] = {
    (kind.group, kind.kind): kind
    for kind in (
        GatewayClass, Gateway, ListenerSet, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, UDPRoute, ReferenceGrant,
        BackendTLSPolicy, XBackendTrafficPolicy, XBackend, XTelemetryPolicy, PythonFilter, BackendPolicy, GatewayParameters,
        CertificateFile,
        Namespace, Service, EndpointSlice, Secret, ConfigMap, ClusterTrustBundle,
    )
}
