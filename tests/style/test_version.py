"""One place for the version, gwfast/__init__.py: whatever else says it says the same. tests/deploy/test_chart.py has the chart."""
import re
from pathlib import Path

import pytest

from gwfast import __version__

ROOT = Path(__file__).parents[2]
# Each place that says the version, and how.
SAID = {
    "deploy/helm/gwfast/Chart.yaml": r"(?m)^(?:version|appVersion): \"?([^\"\n]+)",
    "deploy/install.yaml": r"\bgwfast:([\w.]+)",
    "docs/kubernetes.md": r"\bgwfast:([\d.]+\d)",
    "docs/packages.md": r"VERSION=([\d.]+)",
    "Dockerfile": r"VERSION=([\d.]+)",
    "docs/conformance.md": r"conformance/experimental-v([\d.]+)-default",
    "conformance/README.md": r"\[v([\d.]+)\]|--version=v([\d.]+)|-v([\d.]+)-(?:default|dedicated)",
}


@pytest.mark.parametrize("file", SAID)
def test_says_the_version(file: str) -> None:
    said = [next(filter(None, found)) if isinstance(found, tuple) else found for found in re.findall(SAID[file], (ROOT / file).read_text())]
    assert said and set(said) == {__version__}


def test_the_reports_are_of_the_version() -> None:
    for report in (ROOT / "conformance").glob("*.yaml"):
        assert f"-v{__version__}-" in report.name and re.search(rf"(?m)^  version: v{re.escape(__version__)}$", report.read_text())


def test_the_distribution_reads_it() -> None:
    import tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"] and project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gwfast.__version__"}
