"""The conformance suite's output and reports are read for what they are."""
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cluster"))

from suite import PROFILES, Report, Test, judge, results

OUTPUT = """
=== RUN   TestConformance/A
--- FAIL: TestConformance (70.01s)
    --- SKIP: TestConformance/MeshTest (0.00s)
    --- PASS: TestConformance/A (0.24s)
        --- FAIL: TestConformance/A/inner (0.24s)
    --- FAIL: TestConformance/B (0.50s)
    --- SKIP: TestConformance/C (0.00s)
    --- SKIP: TestConformance/E (0.00s)
"""
TESTS = [Test(name, features, False, {}) for name, features in (
    ("A", ("Gateway",)), ("B", ("Gateway", "HTTPRoute")), ("C", ("Gateway", "HTTPRouteRetry")), ("D", ("Gateway",)), ("E", ("Gateway",)))]


def test_what_ran_is_held_against_what_the_suite_has():
    verdict = judge(TESTS, ["Gateway", "HTTPRoute"], results(OUTPUT))
    assert verdict == (["A"], ["B"], ["D", "E"], {"C": ["HTTPRouteRetry"]})
    assert not verdict.complete


@pytest.mark.parametrize(("claimed", "ended", "complete"), [
    (["Gateway", "HTTPRoute"], {"A": "PASS", "B": "PASS", "C": "SKIP", "D": "PASS", "E": "PASS"}, True),
    (["Gateway", "HTTPRoute", "HTTPRouteRetry"], {"A": "PASS", "B": "PASS", "C": "SKIP", "D": "PASS", "E": "PASS"}, False),
    (["Gateway", "HTTPRoute"], {"A": "PASS", "B": "PASS", "D": "PASS"}, False),
    (["Gateway", "HTTPRoute"], {"A": "PASS", "B": "FAIL", "D": "PASS", "E": "PASS"}, False),
    ([], {}, False),
])
def test_a_run_is_complete_when_everything_claimed_has_passed(claimed, ended, complete):
    assert judge(TESTS, claimed, ended).complete is complete


def report(**changed: str) -> Report:
    one = "{{name: {name}, summary: s, core: {{result: {core}, statistics: {{Passed: 2, Failed: 0, Skipped: 0}}}}, {extended}}}"
    said = {"core": "success", "extended": "extended: {result: success, statistics: {Passed: 1, Failed: 0, Skipped: %s}}"
            % changed.pop("skipped", "0")}
    lines = [one.format(name=name, **said | changed) for name in PROFILES[-1:]] + [one.format(name=name, **said) for name in PROFILES[:-1]]
    return Report("profiles: [" + ", ".join(lines) + "]")


@pytest.mark.parametrize(("changed", "succeeded"), [
    ({}, True), ({"core": "failure"}, False), ({"core": "partial"}, False), ({"extended": "extended: null"}, False), ({"skipped": "1"}, False)])
def test_a_report_succeeded_when_all_profiles_have(changed, succeeded):
    assert report(**changed).succeeded is succeeded


def test_profiles_are_in_one_order_however_the_suite_wrote_them():
    assert tuple(report().profiles) == PROFILES
