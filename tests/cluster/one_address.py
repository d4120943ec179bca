"""The conformance suite and `gwfast run --kubernetes`: one process on one node, so one address for all Gateways.

The suite's setup has four Gateways, three of them on port 80 of every hostname, and wants all of them programmed before its first test.
With one address the first of the three has the port. So a policy of the API server keeps the other two back before gwfast sees them
(`POLICY`: they get a class that nobody has, and the annotation by which the suite waits for them no more); the suite is not changed.
Tests that run in parallel wait until every Gateway is programmed, also those that others of them bring and that never will be: as many
as there are run side by side (`PARALLEL`), so that none that waits keeps out the one that it waits for. NEEDED says which tests cannot
pass then, by what they need; a run leaves out these and no others.
"""
import sys

from cluster import Cluster
from node.network import NODE_IP
from sandbox import Process

CLASS = "gwfast"
GATEWAY_CLASS = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {CLASS}}}
spec: {{controllerName: gwfast.dev/gateway-controller}}
"""
POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: one-address}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [gateway.networking.k8s.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [gateways]}
  matchConditions:
  - {name: of-the-setup, expression: "object.metadata.name in ['all-namespaces', 'backend-namespaces']"}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{
          metadata: Object.metadata{annotations: {"gateway-api/skip-this-for-readiness": "true"}},
          spec: Object.spec{gatewayClassName: "another-address"}
        }
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: one-address}
spec: {policyName: one-address}
"""
PARALLEL = "-test.parallel=64"
# The setup's Gateways have port 80 of every hostname, and port 443 of every hostname.
PORT_80, PORT_443 = "a Gateway with port 80 of its own", "a Gateway with port 443 of its own"
NEEDED = {"v1.6.1": {
    "a Gateway of the setup that is kept back": ("HTTPRouteCrossNamespace", "HTTPRouteMultipleGateways"),
    PORT_80: (
        "GRPCRouteListenerHostnameMatching", "GatewayHTTPListenerIsolation", "GatewayObservedGenerationBump", "GatewayTLSBackendClientCertificate",
        "HTTPRouteHostnameIntersection", "HTTPRouteListenerHostnameMatching", "HTTPRouteListenerPortMatching", "ListenerSetAllowedNamespaceNone",
        "ListenerSetAllowedNamespaceSame", "ListenerSetAllowedNamespaceSelector", "ListenerSetAllowedRoutesNamespaces",
        "ListenerSetAllowedRoutesSupportedKinds", "ListenerSetDefaultNotAllowed", "ListenerSetDualParentRefIndependence",
        "ListenerSetGatewayParentSectionNameNotFound", "ListenerSetHTTPRouting", "ListenerSetHostnameConflict", "ListenerSetProtocolConflict",
        "ListenerSetRouteStatusScopedToParentRef"),
    PORT_443: (
        "GatewayFrontendClientCertificateValidation", "GatewayFrontendClientCertificateValidationInsecureFallback",
        "GatewayFrontendInvalidDefaultClientCertificateValidation", "GatewayInvalidFrontendClientCertificateValidation", "GatewayModifyListeners",
        "GatewaySecretReferenceGrantAllInNamespace", "GatewaySecretReferenceGrantSpecific", "HTTPRouteDisallowedKind", "ListenerSetReferenceGrant",
        "TLSRouteHostnameIntersection", "TLSRouteInvalidBackendRefNonexistent", "TLSRouteInvalidBackendRefUnknownKind",
        "TLSRouteInvalidNoMatchingListener", "TLSRouteInvalidNoMatchingListenerHostname", "TLSRouteSimpleSameNamespace",
        "UDPRouteNotAllowedByListeners"),
}}


def needing(version: str) -> dict[str, str]:
    """{test: reason} of those that need an address for each Gateway, in the suite of a release."""
    return {name: reason for reason, names in NEEDED.get(version, {}).items() for name in names}


def install(cluster: Cluster) -> Process:
    """Run gwfast on the node, with nothing but a GatewayClass in the cluster."""
    cluster.apply(POLICY)
    cluster.apply(GATEWAY_CLASS)
    return cluster.run([sys.executable, "-m", "gwfast", "run", "--kubernetes", "--publish-status-address", NODE_IP, "--drain-timeout", "1"])
