"""supportedFeatures and SupportedVersion against the names that the conformance suite of each release has."""
from pathlib import Path

import pytest

from gwfast.kubernetes.features import FEATURES, attached_listener_sets, supported_features, supported_version

# Served, but the suite has no test of them; what is claimed is what passes.
UNCLAIMED = {"ClusterTrustBundle", "GatewayListenerFilters", "GatewayAddressRoutability", "GatewayAddressRoutabilityCluster"}
FIELDLESS = {"HTTPRouteDestinationPortMatching", "TLSRouteModeMixed"}  # of the experimental channel, but the standard one's CRDs do
INFRASTRUCTURE = {"GatewayInfrastructure", "GatewayInfrastructurePropagation"}
MOST = 64  # entries of GatewayClass.status.supportedFeatures


def suite() -> dict[tuple[str, str], set[str]]:
    found, names = {}, set()
    for line in (Path(__file__).parent / "suite_features.txt").read_text().splitlines():
        if line.startswith("  "):
            names |= set(line.split())
        elif not line.startswith("#"):
            version, channel = line.split()
            names = found[version, channel] = set()
    return found


SUITE = suite()
VERSIONS = sorted({version for version, _ in SUITE})


@pytest.mark.parametrize("channel", ["standard", "experimental"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_feature_that_is_served_is_claimed_by_its_name_in_the_bundle(version, channel):
    more = SUITE[version, "experimental"]
    names = SUITE[version, "standard"] | (more if channel == "experimental" else more & FIELDLESS)
    expected = sorted(names - UNCLAIMED)
    has_field = channel == "experimental" or version >= "1.4"
    assert supported_features(version, channel, True) == (expected if has_field else [])
    assert supported_features(version, channel, False) == ([n for n in expected if n not in INFRASTRUCTURE] if has_field else [])
    assert len(expected) <= MOST


def test_a_name_is_there_once():
    names = [one.name for one in FEATURES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("bundle", ["", "v0.0.0-dev", "1.9.0", "nightly"])
def test_an_unknown_bundle_gets_the_newest_names(bundle):
    assert supported_features(bundle, "standard", True) == supported_features("1.7.0", "standard", True)


@pytest.mark.parametrize(("bundle", "word"), [
    ("1.0.0", ""), ("v1.6.1", ""), ("1.7.0", ""), ("1.5.0-rc.1", ""), ("1.6.1, 1.7.0", ""),
    ("1.8.0", "1.8.0"), ("v0.8.1", "v0.8.1"), ("2.0.0", "2.0.0"), ("", "cannot be seen"), ("1.6.1, ", "cannot be seen"),
    ("v0.0.0-dev", "v0.0.0-dev"), ("1.6.1, 1.12.0", "1.12.0"), ("1.", "version 1."),
])
def test_version_is_supported(bundle, word):
    wrong = supported_version(bundle)
    assert (word in wrong and "v1.0 to v1.7" in wrong) if word else wrong == ""


@pytest.mark.parametrize(("bundle", "there"), [("1.4.1", False), ("1.5.0", True), ("1.6.1", True), ("", True), ("1.4.0, 1.6.1", False)])
def test_a_gateways_attached_listener_sets_are_said_where_its_crd_has_them(bundle, there):
    assert attached_listener_sets(bundle) == there
