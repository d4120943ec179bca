"""The reports in conformance/ are whole, and what README.md, conformance/README.md and docs/conformance.md say of them is so."""
import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cluster"))

import one_address
from suite import PROFILES, Report

from gwfast.kubernetes.features import supported_features

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "conformance"
REPORTS = sorted(FOLDER.glob("*.yaml"))
DOCS = (ROOT / "docs/conformance.md").read_text()
CORE = {"Gateway", "ReferenceGrant", "HTTPRoute", "GRPCRoute", "TLSRoute"}
OF_NO_PROFILE = {"GRPCRouteNamedRouteRule": "GRPCRouteNamedRule"}  # a feature that no profile counts, and its test


def rows(text: str) -> list[list[str]]:
    """The cells of each line of tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.fixture(params=REPORTS, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def report(file: Path) -> Report:
    return Report(file.read_text())


def test_every_profile_succeeded(file: Path, report: Report) -> None:
    raw, told = report.raw, report.raw["implementation"]
    assert (raw["kind"], raw["apiVersion"], raw["gatewayAPIVersion"]) == ("ConformanceReport", "gateway.networking.k8s.io/v1", "v1.6.1")
    assert file.name == f"{raw['gatewayAPIChannel']}-{told['version']}-{raw['mode']}-report.yaml"
    assert all(told[name] for name in ("organization", "project", "url", "version", "contact")), told
    assert re.fullmatch(r"v\d+\.\d+\.\d+", told["version"])
    assert report.succeeded
    assert "unsupported" not in file.read_text() or raw["gatewayAPIChannel"] == "standard"


def test_the_gateway_class_claims_what_passed(report: Report) -> None:
    claimed = supported_features(report.raw["gatewayAPIVersion"], report.raw["gatewayAPIChannel"], infrastructure=True)
    assert set(claimed) == report.features | CORE | set(OF_NO_PROFILE)
    assert set(OF_NO_PROFILE.values()) <= set(report.raw["succeededProvisionalTests"])


def test_every_report_is_in_the_table_of_its_readme() -> None:
    table = {link: (channel, version, mode) for channel, version, mode, link in
             (row for row in rows((FOLDER / "README.md").read_text())[2:])}
    expected = {}
    for file in REPORTS:
        raw = Report(file.read_text()).raw
        expected[f"[link](./{file.name})"] = (raw["gatewayAPIChannel"], f"[{raw['implementation']['version']}](../CHANGELOG.md)", raw["mode"])
    assert table == expected
    assert {(channel, mode) for channel, _, mode in expected.values()} == {
        ("experimental", "default"), ("experimental", "dedicated"), ("standard", "default")}


def test_the_table_of_the_documentation_is_what_the_report_says() -> None:
    (file,) = FOLDER.glob("experimental-*-default-report.yaml")
    report = Report(file.read_text())
    said = {row[0]: row[1:4] for row in rows(DOCS) if row[0] in PROFILES}
    assert said == {one.name: [str(one.core.passed), str(one.extended.passed), f"{len(one.features)} of {len(one.features) + len(one.unsupported)}"]
                    for one in report.profiles.values()}
    assert file.name in DOCS


def test_the_documentation_says_which_tests_need_an_address_for_each_gateway() -> None:
    told = DOCS.partition("## One process, one address")[2].partition("\n## ")[0]
    said = dict(re.findall(r"(?m)^- ([^:]+): ((?:`\w+`(?:,\s+)?)+)$", told.replace("\n  ", " ")))
    expected = {reason: list(names) for reason, names in one_address.NEEDED["v1.6.1"].items()}
    assert {reason: re.findall(r"`(\w+)`", names) for reason, names in said.items()} == expected


def test_the_readme_leads_there() -> None:
    assert "(docs/conformance.md)" in (ROOT / "README.md").read_text()
