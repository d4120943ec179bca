"""Every kind that gwfast reads, as typed structs: one per Go type of the API (v1), with the Go type's name.

    Resource   api_version, metadata (ObjectMeta), source (errors.Source), fault; class: kind, group, namespaced; validate()
      HTTPRoute, Gateway, ...   spec
      EndpointSlice, Secret, ConfigMap, Namespace   their fields directly, as in Kubernetes

Rules:
- A kind is one file: the structs of its Go types, its class, and beneath it the rules that look at several of its fields. What
  several kinds have in common is in resource, references, filters, session_persistence, routes, listeners and policy_targets.
  A new kind is a file, its import here and its line in KINDS.
- Attributes are the API's fields in snake_case; None is a field that was not given and has no default.
- Lists are tuples. Everything below a resource is frozen and compares by value; a resource compares by identity,
  and once loaded only its `source` may change (when the text around it moved).
- What a single field allows (length, number, pattern, enumeration) is in its type. `validate` of a kind has the rest, in the
  CRDs' order: their CEL rules, the keys of lists, and what only the words of the specification say. Both channels of the CRDs
  of v1.7.0 are represented, and what v1.6 called otherwise beside it; where the channels differ, the experimental rule is
  checked, which knows every field that can be written here. What v1.7 added is checked last, and where its release holds.
- A message is the CRD's own; tests/unit/test_config_rules.py breaks each of their rules, wherever it stands.
- No struct can take part in a reference cycle, so none is tracked by the garbage collector.
"""
from gwfast.config.model.backend_policy import (
    ActiveHealthCheck, BackendPolicy, BackendPolicySpec, CircuitBreaker, GRPCHealthCheck, HealthCheck, HTTPHealthCheck,
    PassiveHealthCheck, PerEndpointCircuitBreaker, SlowStart,
)
from gwfast.config.model.backend_tls_policy import (
    NO_REFS, BackendTLSPolicy, BackendTLSPolicySpec, BackendTLSPolicyValidation, SubjectAltName,
)
from gwfast.config.model.certificate_file import CertificateFile, CertificateFileSpec, FileName
from gwfast.config.model.core import ClusterTrustBundle, ClusterTrustBundleSpec, ConfigMap, Namespace, Secret
from gwfast.config.model.endpoint_slice import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from gwfast.config.model.filters import (
    ForwardBodyConfig, Fraction, GRPCAuthConfig, GRPCRouteFilter, HTTPAuthConfig, HTTPCORSFilter, HTTPExternalAuthFilter,
    HTTPHeader, HTTPHeaderFilter, HTTPPathModifier, HTTPRequestMirrorFilter, HTTPRequestRedirectFilter, HTTPRouteFilter,
    HTTPURLRewriteFilter, ListenerFilter, ListenerFilters,
)
from gwfast.config.model.gateway import (
    AllowedListeners, FrontendTLSConfig, FrontendTLSValidation, Gateway, GatewayBackendTLS, GatewayInfrastructure, GatewaySpec,
    GatewaySpecAddress, GatewayTLSConfig, ListenerNamespaces, TLSConfig, TLSPortConfig,
)
from gwfast.config.model.gateway_class import GatewayClass, GatewayClassSpec
from gwfast.config.model.gateway_parameters import (
    Autoscaling, ContainerImage, DisruptionBudget, EnvVar, GatewayParameters, GatewayParametersSpec, Network, ObjectPatch,
    ParameterName, PodTemplateMetadata, ServiceAccountTemplate, ServiceTemplate,
)
from gwfast.config.model.grpc_route import (
    GRPCBackendRef, GRPCHeaderMatch, GRPCMethodMatch, GRPCRoute, GRPCRouteMatch, GRPCRouteRule, GRPCRouteSpec,
)
from gwfast.config.model.http_route import (
    HTTPBackendRef, HTTPHeaderMatch, HTTPPathMatch, HTTPQueryParamMatch, HTTPRoute, HTTPRouteMatch, HTTPRouteRetry, HTTPRouteRule,
    HTTPRouteSpec, HTTPRouteTimeouts,
)
from gwfast.config.model.layer4_routes import (
    TCPRoute, TCPRouteRule, TCPRouteSpec, TLSRoute, TLSRouteRule, TLSRouteSpec, UDPRoute, UDPRouteRule, UDPRouteSpec,
)
from gwfast.config.model.listener_set import ListenerSet, ListenerSetSpec, ParentGatewayReference
from gwfast.config.model.listeners import AllowedRoutes, Listener, ListenerTLSConfig, RouteGroupKind, RouteNamespaces
from gwfast.config.model.policy_targets import LocalPolicyTargetReference, LocalPolicyTargetReferenceWithSectionName
from gwfast.config.model.python_filter import ConfigMapKeySelector, PythonFilter, PythonFilterSpec
from gwfast.config.model.reference_grant import ReferenceGrant, ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo
from gwfast.config.model.references import (
    BackendObjectReference, BackendRef, LabelSelector, LabelSelectorRequirement, LocalObjectReference, ObjectReference,
    ParametersReference, ParentReference, SecretObjectReference,
)
from gwfast.config.model.resource import (
    CERTIFICATES_GROUP, EXPERIMENTAL_GROUP, GATEWAY_GROUP, NEWEST, NO_LABELS, NOWHERE, OWN_GROUP, Ignored, Key, ObjectMeta,
    Resource,
)
from gwfast.config.model.routes import CommonRouteSpec
from gwfast.config.model.service import Service, ServicePort, ServiceSpec
from gwfast.config.model.session_persistence import CookieConfig, HeaderConfig, OldCookieConfig, SessionPersistence
from gwfast.config.model.x_backend import (
    BackendPort, BackendTLS, EndpointSelectorBackend, ExternalHostnameBackend, XBackend, XBackendSpec,
)
from gwfast.config.model.x_backend_traffic_policy import (
    BudgetDetails, RequestRate, RetryConstraint, XBackendTrafficPolicy, XBackendTrafficPolicySpec,
)
from gwfast.config.model.x_telemetry_policy import (
    ParentBasedSampling, TelemetryAttribute, TracingConfig, TracingProvider, XTelemetryPolicy, XTelemetryPolicySpec,
)

Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute | UDPRoute
KINDS: dict[tuple[str, str], type[Resource]] = {
    (kind.group, kind.kind): kind
    for kind in (
        GatewayClass,
        Gateway,
        ListenerSet,
        HTTPRoute,
        GRPCRoute,
        TLSRoute,
        TCPRoute,
        UDPRoute,
        ReferenceGrant,
        BackendTLSPolicy,
        XBackendTrafficPolicy,
        XBackend,
        XTelemetryPolicy,
        PythonFilter,
        BackendPolicy,
        GatewayParameters,
        CertificateFile,
        Namespace,
        Service,
        EndpointSlice,
        Secret,
        ConfigMap,
        ClusterTrustBundle,
    )
}
