"""What holds for all tests: no test may fail because the machine was slow, so hypothesis has no deadline; and what needs
the Gateway API's own manifests and the corpora (../shared beside the project) is left out, and named, where they are not.

GWFAST_EXAMPLES raises the number of examples for a deeper search.
"""
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("gwfast", deadline=None, max_examples=int(os.environ.get("GWFAST_EXAMPLES", "100")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gwfast")

TESTS = Path(__file__).parent
SHARED = TESTS.parent.parent / "shared"
collect_ignore = [] if SHARED.is_dir() else [
    str(file.relative_to(TESTS)) for file in sorted(TESTS.rglob("test_*.py"))
    if re.search(r'/ "shared["/]', text := file.read_text()) and "skipif(not" not in text]  # some skip by themselves


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A supervisor or a controller that ran in this process left the collector to itself: without one, what tests leave in
    cycles stays open, until there are more descriptors than select() knows."""
    yield
    if not gc.isenabled():
        gc.enable()
        gc.unfreeze()
        gc.collect()


def pytest_terminal_summary(terminalreporter) -> None:
    if collect_ignore:
        terminalreporter.write_line(f"left out, for {SHARED} is not here: {', '.join(collect_ignore)}")
