"""What holds for all tests: no test may fail because the machine was slow, so hypothesis has no deadline; and what was skipped
because something is not here (upstream.py, programs) is counted at the end of a run, by what it wanted.

GWFAST_EXAMPLES raises the number of examples for a deeper search.
"""
import gc
import os
from collections.abc import Iterator

import pytest
from support import upstream
from hypothesis import HealthCheck, settings

settings.register_profile("gwfast", deadline=None, max_examples=int(os.environ.get("GWFAST_EXAMPLES", "100")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gwfast")

NOT_FETCHED = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the workers of xdist find what this process has fetched
        config.stash[NOT_FETCHED] = upstream.fetch()


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A supervisor or a controller that ran in this process left the collector to itself: without one, what tests leave in
    cycles stays open, until there are more descriptors than select() knows."""
    yield
    if not gc.isenabled():
        gc.enable()
        gc.unfreeze()
        gc.collect()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    for line in upstream.wanted(reasons, terminalreporter.config.stash.get(NOT_FETCHED, "")):
        terminalreporter.write_line(line)
