"""The conformance suite's output and reports are read for what they are."""
import sys
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "cluster"))

import one_address
from conformance import LOGS, PUBLISHED, arguments
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


@pytest.mark.parametrize(("argv", "to"), [
    ([], PUBLISHED), (["--mode", "standard"], PUBLISHED), (["--mode", "dedicated"], PUBLISHED), (["--to", "x"], Path("x")),
    (["--mode", "one-process"], LOGS), (["--version", "1.7.0"], LOGS), (["--version", "v1.7.0", "--to", "x"], Path("x")),
    (["--run-test=HTTPRouteWeight"], LOGS), (["--timeout-config-overrides=MaxTimeToConsistency:4"], LOGS)])
def test_only_whole_runs_of_the_release_are_published(argv, to):
    assert arguments(argv).to == to


@pytest.mark.parametrize("mode", ["default", "standard", "dedicated"])
def test_the_suite_is_told_to_leave_nothing_out(mode):
    flags = dict(flag.split("=", 1) for flag in arguments(["--mode", mode]).suite_flags())
    assert set(flags) == {"--organization", "--project", "--url", "--contact", "--version", "--gateway-class", "--conformance-profiles",
                          "--usable-address", "--unusable-address", "--mode", "--report-output"}
    assert set(flags["--conformance-profiles"].split(",")) == set(PROFILES)


def test_one_address_leaves_out_what_needs_another():
    (skipped,) = (flag for flag in arguments(["--mode", "one-process"]).suite_flags() if flag.startswith("--skip-tests="))
    assert skipped.partition("=")[2].split(",") == list(one_address.needing("v1.6.1"))


@pytest.mark.parametrize(("argv", "name", "comment"), [
    ([], "experimental-v0.1.0-default-report.yaml", ""),
    (["--mode", "dedicated"], "experimental-v0.1.0-dedicated-report.yaml", ""),
    (["--mode", "standard"], "standard-v0.1.0-default-report.yaml", ""),
    (["--version", "1.7.0"], "development-v1.7.0-experimental-v0.1.0-default-report.yaml",
     "# A check of development, not to be published: the suite was built with sigs.k8s.io/gateway-api-conformance-images v0.1.0 for v0.2.0.\n")])
def test_a_report_is_what_the_suite_wrote_and_says_where_it_was_another_suite(tmp_path, monkeypatch, argv, name, comment):
    monkeypatch.setattr("conformance.__version__", "0.1.0")
    run = arguments([*argv, "--to", str(tmp_path)])
    run.report = tmp_path / "report"
    mode = next(flag for flag in run.suite_flags() if flag.startswith("--mode=")).partition("=")[2]
    run.report.write_text(f"mode: {mode}\nkind: ConformanceReport\n")
    written = run.publish()
    assert written == tmp_path / name and written.read_text() == comment + run.report.read_text()
    assert yaml.safe_load(written.read_text())["kind"] == "ConformanceReport"
    version = next(flag for flag in run.suite_flags() if flag.startswith("--version="))
    assert ("conformance-images v0.1.0" in version) == bool(comment)


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
