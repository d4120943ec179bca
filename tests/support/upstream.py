"""What tests take from others: nothing of it lies in this tree, and what is not here is skipped by name.

    Gateway API    CRDs, examples, invalid examples and the conformance suite's manifests: of the Go modules
                   sigs.k8s.io/gateway-api and .../conformance, once, into build/gateway-api (needs Go)
    corpora        requests that other projects' parsers are tested with: a folder that GWFAST_CORPORA names

A test that needs something has `pytestmark = needs(...)`; conftest fetches once a run, before any test is looked at, and says
at its end how many tests were skipped for what.
"""
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
sys.path.append(str(TESTS / "cluster"))  # where Go modules are known
import binaries  # noqa: E402

HERE = ROOT / "build" / "gateway-api"
CORPORA = Path(os.environ.get("GWFAST_CORPORA") or ROOT.parent / "shared" / "corpora")
API, SUITE = "sigs.k8s.io/gateway-api", "sigs.k8s.io/gateway-api/conformance"
OLD, NEW = binaries.RELEASES  # the release that everything is tested with, and the next
# Folder here -> the module, and where in it the same lies.
PARTS = {
    "crds": (API, "config/crd"),
    "examples": (API, "examples"),
    "invalid-examples": (API, "hack/invalid-examples"),
    "conformance": (SUITE, "tests"),
}
WANTED = {OLD: tuple(PARTS), NEW: ("crds",)}
PATIENCE = 120.0  # seconds that a module may take
ABSENT = "not here: "  # begins a reason of ours; tests that want a program say it in these words:
WANTING = re.compile(r"not here|not installed|could not import|there is no |a cluster needs|needs? root")


def folder(part: str, version: str = OLD) -> Path:
    """Return where a part of a release is, or would be."""
    return HERE / version / part


def fetch() -> str:
    """Put into build/ what is wanted and is not there; return why something cannot be had, '' where all is there."""
    for version, parts in WANTED.items():
        for part in parts:
            if not folder(part, version).is_dir():
                try:
                    _fetch(part, version)
                except (RuntimeError, OSError) as problem:
                    return str(problem)
    return ""


def _fetch(part: str, version: str) -> None:
    module, inside = PARTS[part]
    source = Path(binaries.module_folder(module, version, PATIENCE))
    HERE.joinpath(version).mkdir(parents=True, exist_ok=True)
    background = Path(tempfile.mkdtemp(dir=HERE / version))
    for file in (source / inside).rglob("*.yaml"):
        if "mesh" not in file.relative_to(source).parts:
            _copy(file, background / file.relative_to(source / inside))
    if part == "conformance":
        _copy(source / "base" / "manifests.yaml", background / "base-manifests.yaml")
    try:
        background.rename(folder(part, version))
    except OSError:  # somebody else was faster
        shutil.rmtree(background)


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(file.read_bytes())  # not its mode: the files of modules are read-only


def needs(part: str, version: str = OLD) -> pytest.MarkDecorator:
    """Return the mark of tests that need a part of the Gateway API, or the corpora."""
    if part == "corpora":
        return pytest.mark.skipif(not CORPORA.is_dir(), reason=f"{ABSENT}the corpora of other projects (GWFAST_CORPORA names a folder)")
    return pytest.mark.skipif(not folder(part, version).is_dir(), reason=f"{ABSENT}the Gateway API's {part} of {version}")


def wanted(reasons: Iterable[str], why: str) -> list[str]:
    """Return what to say at the end of a run in which these were the reasons of skips. why: what fetch() returned."""
    found = Counter(reason.removeprefix("Skipped: ").removeprefix(ABSENT) for reason in reasons if WANTING.search(reason))
    if not found:
        return []
    words = ", ".join(f"{what} ({count})" for what, count in found.most_common())
    return [f"{found.total()} skipped for want of something: {words}", *([f"the Gateway API's files were not fetched: {why}"] if why else [])]
