"""What Prometheus reads, read back."""
import os
import re

import pytest

from gwfast import _counters, limits
from gwfast.observe.metrics import HELP, Stats, render
from gwfast.observe.routes import RouteCounts

SAMPLE = re.compile(r'(gwfast_[a-z0-9_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)')
COUNTERS = {
    "global": {"requests": 12, "connections_open": 3, "something_new": 4},
    "faults": {"no_rule": 2},
    "routes": {
        ("HTTPRoute", "shop/api"): {"2xx": 7, "5xx": 1, "4xx": 0, "bytes_in": 10, "bytes_out": 20,
                                    "duration_us": 1_500_000, "buckets": [1, 2, 5]},
        ("", "other"): {"2xx": 1, "bytes_in": 1, "bytes_out": 2, "duration_us": 3, "buckets": [1, 0, 0]},
    },
    "buckets_us": (100, 2500),
}


def scrape(counters=COUNTERS, stats=None):
    """Parse the text strictly: HELP, TYPE, then that family's samples."""
    text = render(counters, stats or Stats()).decode()
    assert text.endswith("\n")
    samples, family = {}, ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family and line.split()[3] in ("counter", "gauge", "histogram")
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name.startswith(family)
            assert (key := f"{name}{{{labels}}}" if labels else name) not in samples
            samples[key] = float(value)
    return samples


ROUTE = 'kind="HTTPRoute",route="shop/api"'


@pytest.mark.parametrize("sample, value", [
    ("gwfast_requests_total", 12),
    ("gwfast_connections_open", 3),
    ("gwfast_something_new_total", 4),
    ('gwfast_faults_total{fault="no_rule"}', 2),
    (f'gwfast_route_requests_total{{{ROUTE},code="2xx"}}', 7),
    (f'gwfast_route_requests_total{{{ROUTE},code="5xx"}}', 1),
    ('gwfast_route_requests_total{kind="",route="other",code="2xx"}', 1),
    (f"gwfast_route_bytes_in_total{{{ROUTE}}}", 10),
    (f'gwfast_route_duration_seconds_bucket{{{ROUTE},le="0.0001"}}', 1),
    (f'gwfast_route_duration_seconds_bucket{{{ROUTE},le="0.0025"}}', 3),
    (f'gwfast_route_duration_seconds_bucket{{{ROUTE},le="+Inf"}}', 8),
    (f"gwfast_route_duration_seconds_count{{{ROUTE}}}", 8),
    (f"gwfast_route_duration_seconds_sum{{{ROUTE}}}", 1.5),
    ("gwfast_worker_restarts_total", 2),
    ("gwfast_ready", 1),
    ('gwfast_problems{severity="error"}', 3),
    ('gwfast_problems{severity="note"}', 0),
    ('gwfast_certificate_expiry_timestamp_seconds{namespace="shop",secret="web"}', 1.5e9),
])
def test_sample(sample, value):
    stats = Stats(worker_restarts=2, ready=True, problems={"error": 3}, certificates={("shop", "web"): 1.5e9})
    assert scrape(stats=stats)[sample] == value


def filters(fd: int) -> dict[str, float]:
    """What is said of filters in Python, where it is not 0."""
    return {name.removeprefix("gwfast_python_filter_"): n for name, n in scrape(_counters.read(fd)).items()
            if name.startswith("gwfast_python_filter_") and n}


@pytest.fixture
def memory():
    fd = _counters.create(2, 4)
    yield fd
    os.close(fd)


def test_filters_in_python_add_up_by_name_whatever_becomes_of_workers(memory):
    first, second = _counters.Counters(memory, 0), _counters.Counters(memory, 1)
    assert (first.filter_row("n/a"), first.filter_row("n/b"), first.filter_row("n/a")) == (0, 1, 0)
    assert (second.filter_row("n/b"), second.filter_row("n/a")) == (0, 1)
    for worker, row, what in ((first, 0, "requests"), (first, 0, "timeout"), (first, 1, "load"), (second, 0, "load"), (second, 1, "requests")):
        worker.count_filter(row, what)
    first.unloaded(1, True)
    second.unloaded(0, True)
    counted = {'requests_total{filter="n/a"}': 2, 'failures_total{filter="n/a",reason="timeout"}': 1,
               'failures_total{filter="n/b",reason="load"}': 2}
    assert filters(memory) == counted | {'unloaded{filter="n/b"}': 2}
    del first
    again = _counters.Counters(memory, 0)       # who takes a dead worker's place: its gauges are no more, its counts are
    assert filters(memory) == counted | {'unloaded{filter="n/b"}': 1}
    assert again.filter_row("n/b") == 1
    again.count_filter(1, "stop")
    second.unloaded(0, False)
    assert filters(memory) == counted | {'failures_total{filter="n/b",reason="stop"}': 1}


def test_a_filter_in_python_has_every_sample_before_it_fails(memory):
    """Prometheus does not see the first failure of a series that begins with it."""
    assert "gwfast_python_filter_requests_total" not in "".join(scrape(_counters.read(memory)))
    _counters.Counters(memory, 1).filter_row("n/a")
    found = scrape(_counters.read(memory))
    assert {name: n for name, n in found.items() if name.startswith("gwfast_python_filter_")} == {
        'gwfast_python_filter_requests_total{filter="n/a"}': 0, 'gwfast_python_filter_unloaded{filter="n/a"}': 0} | {
        f'gwfast_python_filter_failures_total{{filter="n/a",reason="{reason}"}}': 0
        for reason in ("blocked", "exception", "invalid", "load", "not_loaded", "stop", "timeout")}


def test_filters_in_python_are_bounded(memory):
    worker = _counters.Counters(memory, 0)
    longest = f"{'n' * 63}/{'f' * 253}"
    rows = [worker.filter_row(name) for name in [longest, *(f"n/{i}" for i in range(limits.FILTERS_SHOWN + 5))]]
    assert rows == [*range(limits.FILTERS_SHOWN - 1)] + [limits.FILTERS_SHOWN - 1] * 7
    for row in rows:
        worker.count_filter(row, "requests")
        worker.unloaded(row, True)
    found = filters(memory)
    assert found.pop('requests_total{filter="other filters"}') == 7
    assert found[f'requests_total{{filter="{longest}"}}'] == found[f'unloaded{{filter="{longest}"}}'] == 1
    assert len(found) == 2 * (limits.FILTERS_SHOWN - 1)
    with pytest.raises(ValueError, match="as long as this"):
        worker.filter_row("n" * 320)


def test_a_class_that_nothing_counted_has_no_sample():
    assert f'gwfast_route_requests_total{{{ROUTE},code="4xx"}}' not in scrape()


def test_labels_are_escaped():
    route = COUNTERS["routes"]["HTTPRoute", "shop/api"]
    samples = scrape(COUNTERS | {"routes": {("HTTPRoute", 'a"b\\c\nd/e'): route}})
    assert r'gwfast_route_bytes_in_total{kind="HTTPRoute",route="a\"b\\c\nd/e"}' in samples


def test_what_the_counters_give_is_what_is_rendered():
    counters = pytest.importorskip("gwfast._counters")
    samples = scrape(RouteCounts(lambda: counters.read(counters.create(2, 16))).read())
    assert samples["gwfast_requests_total"] == 0


def test_every_counter_of_the_engine_says_what_it_is():
    counters = pytest.importorskip("gwfast._counters")
    assert set(counters.read(counters.create(1, 2))["global"]) == set(HELP)


# What the slots counted, each by a number, at the times that `assign` names them; then what the routes counted.
A, B = ("HTTPRoute", "n/a"), ("HTTPRoute", "n/b")


@pytest.mark.parametrize("steps, expected", [
    ([({2: A}, {}), (None, {2: 5})], {A: 5}),
    ([({2: A}, {}), ({2: A}, {2: 5}), (None, {2: 7})], {A: 7}),
    ([({2: A}, {}), ({2: B}, {2: 5}), (None, {2: 7})], {B: 2}),
    ([({2: A}, {}), ({2: B}, {2: 5}), ({2: B, 3: A}, {2: 6}), (None, {2: 7, 3: 1})], {B: 2, A: 1}),
    ([({2: A}, {}), ({}, {2: 5}), (None, {2: 7})], {}),
    ([({2: A}, {}), ({}, {2: 5}), ({2: A}, {2: 7}), (None, {2: 8})], {A: 1}),
    ([({2: A}, {}), ({2: B}, {2: 5}), (None, {2: 5})], {}),
], ids=["first", "stays", "another", "another-stays", "gone", "comes-back", "nothing-yet"])
def test_a_route_begins_at_zero(steps, expected):
    counted = {}
    counts = RouteCounts(lambda: {"routes": {slot: row(n) for slot, n in counted.items()}})
    for names, now in steps:
        counted |= now
        if names is not None:
            counts.assign(names)
    assert counts.read() == {"routes": {name: row(n) for name, n in expected.items()}}


def row(n: int) -> dict:
    return {"2xx": n, "bytes_in": 3 * n, "buckets": [0, n]}
