"""The suites of the releases have the tests that they are said to have, and the GatewayClass claims the features of each of them."""
import subprocess
import sys
from pathlib import Path

import pytest

import binaries
import one_address
import suite

sys.path.append(str(Path(__file__).parents[2]))

from gwfast.kubernetes.features import supported_features

TESTS = {"v1.6.1": 131, "v1.7.0": 147}
# Features of the experimental channel that v1.6.1 names without a test of its own.
UNTESTED = {"v1.6.1": {"HTTPRouteRetryBackendTimeout", "HTTPRouteRetryConnectionError"}, "v1.7.0": set()}
FIELDS_OF_THE_OTHER_CHANNEL = {"v1.6.1": {"HTTPRouteRetry"}, "v1.7.0": set()}


def registered(version: str) -> list[suite.Test]:
    try:
        return suite.registered(binaries.program(binaries.RELEASES[version].suite))
    except FileNotFoundError:
        pytest.skip(f"the suite of {version} is not built: make conformance VERSION={version}")


@pytest.mark.parametrize("version", list(binaries.RELEASES))
def test_what_is_claimed_is_what_the_suite_tests(version: str) -> None:
    tests = registered(version)
    assert len(tests) == len({test.name for test in tests}) == TESTS[version]
    needed = {feature for test in tests for feature in test.features}
    assert needed == set(supported_features(version, "experimental", True)) - UNTESTED[version]
    assert needed - FIELDS_OF_THE_OTHER_CHANNEL[version] == set(supported_features(version, "standard", True))


@pytest.mark.parametrize("version", list(binaries.RELEASES))
def test_every_profile_has_core_and_extended_tests(version: str) -> None:
    levels = {(name, level) for test in registered(version) for name, level in test.profiles.items()}
    assert levels == {(name, level) for name in suite.PROFILES for level in ("core", "extended")}


def test_one_address_leaves_out_tests_that_there_are() -> None:
    assert set(one_address.needing("v1.6.1")) <= {test.name for test in registered("v1.6.1")}


def test_a_program_that_does_not_know_its_tests_is_told_of(tmp_path: Path) -> None:
    other = tmp_path / "conformance.test"
    other.write_text("#!/bin/sh\necho testing: warning: no tests to run\n")
    other.chmod(0o755)
    with pytest.raises(RuntimeError, match="does not say which tests it has"):
        suite.registered(str(other))


def test_a_module_in_the_place_of_another_is_named() -> None:
    assert binaries.replaced("gateway-api") == []
    assert binaries.replaced("gateway-api-1.7.0") == [
        "sigs.k8s.io/gateway-api-conformance-images v0.1.0 for v0.2.0"]


def test_why_no_cluster_can_run_is_said_to_scripts() -> None:
    done = subprocess.run([sys.executable, binaries.__file__, "--missing"], capture_output=True, text=True)
    assert (done.returncode == 0) == (done.stdout.strip() == "") == (not binaries.missing())
