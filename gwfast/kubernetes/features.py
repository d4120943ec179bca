"""supportedFeatures of a GatewayClass, and its SupportedVersion: what gwfast serves, by the names that the installed CRDs have.

The names are those of the conformance suite of a release (pkg/features of the Gateway API); a release renames some and moves some
from the experimental channel to the standard one. Both are told by annotations of the CRDs: bundle-version and channel.

    FEATURES      name, the minor version of 1.x that has it first in the experimental channel, and in the standard one, and
                  the first that has it no more

Rules:
- A feature is claimed where it is served, the suite of its release has a test of it, which passes, and the installed CRDs have
  what it is asked for with; others could not be asked for.
  That is so in the channel that the release has it in; those that need no field of their own are served in both.
- A bundle that is newer than those that are known gets the names of the newest that is known, and one that says nothing does too.
"""
from __future__ import annotations

import re
from typing import NamedTuple

OLDEST, NEWEST = 0, 7  # minor versions of 1.x whose CRDs are known
NEVER = 1000
FIELD_STANDARD, FIELD_EXPERIMENTAL = 4, 2  # minor versions that have GatewayClass.status.supportedFeatures first, with names
BACKENDS = 7  # and XBackend as it is today
ROUTABILITY = 7  # and addresses' routability, in the experimental channel
LISTENER_SETS = 5  # and ListenerSet, and Gateway.status.attachedListenerSets; before there was XListenerSet
_BUNDLE = re.compile(r"v?(\d+)\.(\d+)(?:\.|$)")


class Feature(NamedTuple):
    """Versions are minor ones of 1.x; infrastructure: it is served where a controller makes objects for Gateways."""

    name: str
    standard: int = 0
    experimental: int = NEVER  # where it comes before `standard`
    gone: int = NEVER
    infrastructure: bool = False


FEATURES = (
    Feature("BackendTLSPolicy", 4),
    Feature("BackendTLSPolicySANValidation", 4),
    Feature("GRPCRoute"),
    Feature("GRPCRouteNamedRouteRule", 4),
    Feature("GRPCRouteRequestHeaderModifier", 7),
    Feature("Gateway"),
    Feature("GatewayAddressEmpty", 3),
    Feature("GatewayBackendClientCertificate", 5),
    Feature("GatewayFrontendClientCertificateValidation", 5),
    Feature("GatewayFrontendClientCertificateValidationInsecureFallback", 5),
    Feature("GatewayHTTPListenerIsolation"),
    Feature("GatewayHTTPSListenerDetectMisdirectedRequests", 5),
    Feature("GatewayInfrastructure", 7, infrastructure=True),
    Feature("GatewayInfrastructurePropagation", 3, 2, gone=7, infrastructure=True),
    Feature("GatewayPort8080"),
    Feature("GatewayRouteHostnameIntersectionPrecedence", 7),
    Feature("GatewayStaticAddresses"),
    Feature("HTTPRoute"),
    Feature("HTTPRoute303RedirectStatusCode", 5),
    Feature("HTTPRoute307RedirectStatusCode", 5),
    Feature("HTTPRoute308RedirectStatusCode", 5),
    Feature("HTTPRouteBackendProtocolH2C"),
    Feature("HTTPRouteBackendProtocolWebSocket"),
    Feature("HTTPRouteBackendRequestHeaderModification"),
    Feature("HTTPRouteBackendTimeout"),
    Feature("HTTPRouteBackendURLRewrite", 7),
    Feature("HTTPRouteCORS", 5, 4),
    Feature("HTTPRouteDestinationPortMatching"),
    Feature("HTTPRouteHostRewrite"),
    Feature("HTTPRouteMethodMatching"),
    Feature("HTTPRouteNamedRouteRule", 4),
    Feature("HTTPRouteParentRefPort"),
    Feature("HTTPRoutePathRedirect"),
    Feature("HTTPRoutePathRewrite"),
    Feature("HTTPRoutePortRedirect"),
    Feature("HTTPRouteQueryParamMatching"),
    Feature("HTTPRouteRequestMirror"),
    Feature("HTTPRouteRequestMultipleMirrors"),
    Feature("HTTPRouteRequestPercentageMirror", 3),
    Feature("HTTPRouteRequestTimeout"),
    Feature("HTTPRouteResponseHeaderModification"),
    Feature("HTTPRouteRetry", NEVER, 6, gone=7),
    Feature("HTTPRouteRetryBackendTimeout", NEVER, 6, gone=7),
    Feature("HTTPRouteRetryCodes", 7),
    Feature("HTTPRouteRetryConnectionError", 7, 6),
    Feature("HTTPRouteSchemeRedirect"),
    Feature("ListenerSet", 5),
    Feature("ReferenceGrant"),
    Feature("TCPRoute", 6),
    Feature("TLSRoute", 5, 0),
    Feature("TLSRouteModeMixed", 5),
    Feature("TLSRouteModeTerminate", 5),
    Feature("UDPRoute", 6, 0),
)


def supported_features(bundle: str, channel: str, infrastructure: bool) -> list[str]:
    """Return the names that a GatewayClass has in its status, sorted; none where its CRD has no such field.

    bundle, channel: of the CRDs, '1.6.1' and 'experimental'. infrastructure: a controller makes objects for Gateways."""
    minor = _minor(bundle)
    experimental = channel == "experimental"
    if minor < (FIELD_EXPERIMENTAL if experimental else FIELD_STANDARD):
        return []
    return sorted(one.name for one in FEATURES if minor < one.gone and (infrastructure or not one.infrastructure)
                  and (minor >= one.standard or experimental and minor >= one.experimental))


def supported_version(bundles: str) -> str:
    """Return why the version of the CRDs is none that is known, '' where it is; of several, 'A, B', each has to be known."""
    known = f"those of v1.{OLDEST} to v1.{NEWEST} are known"
    for bundle in map(str.strip, bundles.split(",")):
        if not bundle:
            return f"it cannot be seen which version some CRDs of the Gateway API are of; {known}"
        found = _BUNDLE.match(bundle)
        if found is None or found[1] != "1" or not OLDEST <= int(found[2]) <= NEWEST:
            return f"there are CRDs of the Gateway API of version {bundle}; {known}"
    return ""


def attached_listener_sets(bundle: str) -> bool:
    """Return whether the CRD of Gateways has status.attachedListenerSets."""
    return _minor(bundle) >= LISTENER_SETS


def backend_ancestors(bundle: str) -> bool:
    """Return whether the CRD of XBackends has status.ancestors; before there was another list, of other fields."""
    return _minor(bundle) >= BACKENDS


def routability(bundle: str, channel: str) -> bool:
    """Return whether addresses of a Gateway, in spec and status, have a routability."""
    return channel == "experimental" and _minor(bundle) >= ROUTABILITY


def listener_ports(bundle: str) -> bool:
    """Return whether what is a ListenerSet was an XListenerSet, whose status names the ports of its listeners."""
    return not attached_listener_sets(bundle)


def _minor(bundle: str) -> int:
    """The minor version whose names are used: of several the oldest, and the newest known one where nothing is known."""
    found = [match for text in bundle.split(",") if (match := _BUNDLE.match(text.strip())) and match[1] == "1"]
    return min((min(int(match[2]), NEWEST) for match in found), default=NEWEST)
