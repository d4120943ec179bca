"""Whatever probes say in whatever order: what is believed changes after so many in a row that say otherwise, and only then."""
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from gwfast.endpoints.link import Subject
from gwfast.endpoints.probes import Watch
from gwfast.graph.model import Active


def believed(results: list[bool], unhealthy: int, healthy: int, begin: bool) -> list[bool]:
    """The slow way: look at the whole history for the last run that was long enough."""
    found = []
    for n in range(1, len(results) + 1):
        state = begin
        for passed, run in groupby(results[:n]):
            if len(list(run)) >= (healthy if passed else unhealthy):
                state = passed
        found.append(state)
    return found


@given(results=st.lists(st.booleans(), max_size=60), unhealthy=st.integers(1, 5), healthy=st.integers(1, 5), begin=st.booleans())
def test_thresholds(results, unhealthy, healthy, begin):
    check = Active(type="TCP", interval_ms=1, timeout_ms=1, unhealthy=unhealthy, healthy=healthy)
    watch = Watch(Subject("a", 1, "http", 0, "", check), "" if begin else "as it was")
    seen = []
    for n, passed in enumerate(results):
        watch.hear("" if passed else f"{n}")
        seen.append(not watch.why)
    assert seen == believed(results, unhealthy, healthy, begin)
