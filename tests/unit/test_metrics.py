"""What Prometheus reads, read back."""
import itertools
import os
import re
import resource
import time

import pytest

from gwfast import limits

from gwfast.engine import counters
from gwfast.endpoints.health import Standing
from gwfast.endpoints.registry import Registry
from gwfast.observe import processes
from gwfast.observe.families import CONTROLLER, GATEWAY, PROCESS
from gwfast.observe.metrics import Stats, render, text_of
from gwfast.observe.routes import RouteCounts

SAMPLE = re.compile(r'((?:gwfast|process)_[a-z0-9_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)')
COUNTERS = {
    "global": {"requests": 12, "connections_open": 3, "something_new": 4},
    "faults": {"no_rule": 2},
    "routes": {
        ("HTTPRoute", "shop/api"): {"2xx": 7, "5xx": 1, "4xx": 0, "bytes_in": 10, "bytes_out": 20,
                                    "duration_us": 1_500_000, "buckets": [1, 2, 5]},
        ("", "other"): {"2xx": 1, "bytes_in": 1, "bytes_out": 2, "duration_us": 3, "buckets": [1, 0, 0]},
    },
    "backends": {
        "shop/api:80/http": {"2xx": 6, "none": 2, "bytes_in": 1, "bytes_out": 2, "duration_us": 2_500_000, "buckets": [1, 2, 3]},
    },
    "buckets_us": (100, 2500),
}


def scrape(counted=COUNTERS, stats=None, **more):
    """Parse the text strictly, as the format and promtool's linter want it: HELP, TYPE, then that family's samples, each once."""
    text = render(counted, stats or Stats(), **more).decode()
    assert text.endswith("\n") and "\n\n" not in text
    samples, families, family, kind = {}, {}, "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert family in families or not family
            family, said = line.removeprefix("# HELP ").split(" ", 1)
            assert family not in families and said not in families.values()
            families[family] = said
            kind = ""
        elif line.startswith("# TYPE "):
            assert not kind
            of, kind = line.removeprefix("# TYPE ").split(" ")
            assert of == family
            lint(family, families[family], kind)
        else:
            assert kind
            name, labels, value = SAMPLE.fullmatch(line).groups()
            endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert name in [family + ending for ending in endings]
            assert (key := f"{name}{{{labels}}}" if labels else name) not in samples
            samples[key] = float(value)
    histograms(samples, [name for name in families if name.endswith("_seconds") and f"# TYPE {name} histogram" in text])
    return samples


UNITS = {"milliseconds", "ms", "minutes", "hours", "kilobytes", "kib", "mb", "percent", "at", "us"}


def lint(name: str, said: str, kind: str) -> None:
    """What promtool's linter asks of a family, and that its HELP can be read without its neighbours."""
    assert re.fullmatch(r"(gwfast|process)_[a-z][a-z0-9_]*[a-z0-9]", name) and kind in ("counter", "gauge", "histogram")
    assert (kind == "counter") == name.endswith("_total")
    assert not name.endswith(("_count", "_sum", "_bucket", "_info")) or name == "gwfast_build_info"
    assert not UNITS & set(name.split("_")) and not {"counter", "gauge", "histogram"} & set(name.split("_"))
    assert said[:1].isupper() and said.endswith(".") and len(said.split()) >= 4 and "\\" not in said, said
    assert not re.match(r"(Those|They|It|That|The same|Of)\b", said) and " of them that " not in said, said
    assert ("timestamp" in name) == ("epoch" in said) or name == "process_start_time_seconds", said


def histograms(samples: dict[str, float], names: list[str]) -> None:
    """Buckets rise with le up to +Inf, which is the count, and each has a sum."""
    for name in names:
        series = {}
        for sample, value in samples.items():
            if sample.startswith(f"{name}_bucket{{"):
                labels, le = re.fullmatch(r'.*?\{(.*),le="(.*?)"\}', sample).groups()
                series.setdefault(labels, []).append((float(le), value))
        for labels, buckets in series.items():
            assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets)
            assert buckets[-1] == (float("inf"), samples[f"{name}_count{{{labels}}}"]) and f"{name}_sum{{{labels}}}" in samples


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
    ('gwfast_backend_requests_total{backend="shop/api:80/http",code="2xx"}', 6),
    ('gwfast_backend_requests_total{backend="shop/api:80/http",code="none"}', 2),
    ('gwfast_backend_response_seconds_bucket{backend="shop/api:80/http",le="0.0025"}', 3),
    ('gwfast_backend_response_seconds_count{backend="shop/api:80/http"}', 6),
    ('gwfast_backend_response_seconds_sum{backend="shop/api:80/http"}', 2.5),
    ("gwfast_reload_timestamp_seconds", 1.7e9),
    ("gwfast_routes_uncounted", 5),
    ("gwfast_worker_restarts_total", 2),
    ("gwfast_ready", 1),
    ('gwfast_problems{severity="error"}', 3),
    ('gwfast_problems{severity="note"}', 0),
    ('gwfast_certificate_expiry_timestamp_seconds{namespace="shop",secret="web"}', 1.5e9),
])
def test_sample(sample, value):
    stats = Stats(worker_restarts=2, ready=True, reload_timestamp_seconds=1.7e9, routes_uncounted=5, problems={"error": 3}, certificates={("shop", "web"): 1.5e9})
    assert scrape(stats=stats)[sample] == value


def filters(fd: int) -> dict[str, float]:
    """What is said of filters in Python, where it is not 0."""
    return {name.removeprefix("gwfast_python_filter_"): n for name, n in scrape(counters.read(fd)).items()
            if name.startswith("gwfast_python_filter_") and n}


@pytest.fixture
def memory():
    fd = counters.create(2, 4)
    yield fd
    os.close(fd)


def test_filters_in_python_add_up_by_name_whatever_becomes_of_workers(memory):
    first, second = counters.Counters(memory, 0), counters.Counters(memory, 1)
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
    again = counters.Counters(memory, 0)       # who takes a dead worker's place: its gauges are no more, its counts are
    assert filters(memory) == counted | {'unloaded{filter="n/b"}': 1}
    assert again.filter_row("n/b") == 1
    again.count_filter(1, "stop")
    second.unloaded(0, False)
    assert filters(memory) == counted | {'failures_total{filter="n/b",reason="stop"}': 1}


def test_a_filter_in_python_has_every_sample_before_it_fails(memory):
    """Prometheus does not see the first failure of a series that begins with it."""
    assert "gwfast_python_filter_requests_total" not in "".join(scrape(counters.read(memory)))
    counters.Counters(memory, 1).filter_row("n/a")
    found = scrape(counters.read(memory))
    assert {name: n for name, n in found.items() if name.startswith("gwfast_python_filter_")} == {
        'gwfast_python_filter_requests_total{filter="n/a"}': 0, 'gwfast_python_filter_unloaded{filter="n/a"}': 0} | {
        f'gwfast_python_filter_failures_total{{filter="n/a",reason="{reason}"}}': 0
        for reason in ("blocked", "exception", "invalid", "load", "not_loaded", "stop", "timeout")}


def test_filters_in_python_are_bounded(memory):
    worker = counters.Counters(memory, 0)
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
    samples = scrape(RouteCounts(lambda rows: counters.read(counters.create(2, 16), rows)).read())
    assert samples["gwfast_requests_total"] == 0


def test_every_counter_of_the_engine_says_what_it_is():
    assert not [name for name in counters.read(counters.create(1, 2))["global"] if name not in GATEWAY and f"{name}_total" not in GATEWAY]


@pytest.mark.parametrize("described, prefix", [(GATEWAY, "gwfast_"), (CONTROLLER, "gwfast_"), (PROCESS, "")])
def test_every_family_can_be_linted(described, prefix):
    for name, (kind, labels, said) in described.items():
        lint(prefix + name, said, kind)
        assert re.fullmatch(r"([a-z]+( [a-z]+)*)?", labels)


def test_what_is_rendered_is_described_and_what_is_described_is_rendered():
    """Those of a cluster and of a controller come from elsewhere: tests/kubernetes and tests/controller have them."""
    health = {"n/a:80/http": Standing(2, {}, {})}
    counted = COUNTERS | {"global": counters.read(counters.create(1, 2))["global"], "filters": {"n/f": {"requests": 1, "unloaded": 0, "load": 2}}}
    text = render(counted, Stats(certificates={("n", "s"): 1.0}), health, {"failed": 1}, processes.read({"worker": os.getpid()})).decode()
    rendered = set(re.findall(r"(?m)^# TYPE (\S+)", text))
    assert rendered <= {f"gwfast_{name}" for name in GATEWAY} | PROCESS.keys()
    elsewhere = {f"gwfast_{name}" for name in GATEWAY if name.startswith(("kubernetes_", "status_", "leader", "controller_"))}
    assert ({f"gwfast_{name}" for name in GATEWAY} | PROCESS.keys()) - rendered == elsewhere
    for name, labels in re.findall(r"(?m)^(\w+)\{(.*)\} ", text):
        of = re.sub(r"_(bucket|sum|count)$", "", name) if name not in rendered else name
        told = (GATEWAY | PROCESS)[of.removeprefix("gwfast_")][1].split()
        assert [label for label in re.findall(r'(\w+)="', labels) if label != "le"] == told, name


def test_the_controllers_families_have_their_types():
    said = text_of([("data_planes", [("", 3.0)])], processes.read({"controller": os.getpid()}), CONTROLLER)
    assert said.startswith("# HELP gwfast_data_planes Data planes that listen here.\n# TYPE gwfast_data_planes gauge\ngwfast_data_planes 3.0\n")
    assert 'process_cpu_seconds_total{process="controller"} ' in said and "# TYPE process_open_fds gauge\n" in said


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
    asked = []

    def read(rows: int) -> dict:
        asked.append(rows)
        backends = {slot: row(n) for slot, n in counted.items() if slot < rows}
        return {"routes": {slot: row(n) for slot, n in counted.items()}, "backends": backends}
    counts = RouteCounts(read)
    for names, now in steps:
        counted |= now
        if names is not None:
            counts.assign(names, {slot: name[1] for slot, name in names.items()})
    assert counts.read() == {"routes": {name: row(n) for name, n in expected.items()},
                             "backends": {name[1]: row(n) for name, n in expected.items()}}
    assert max(asked) <= 4                   # rows that nobody has are not looked at


def row(n: int) -> dict:
    return {"2xx": n, "bytes_in": 3 * n, "buckets": [0, n]}


def test_processes_are_told_of_in_the_words_of_the_client_libraries():
    """This one against what the library of Prometheus would say of it."""
    before = time.process_time()
    while time.process_time() < before + 0.05:
        pass
    found = processes.read({"supervisor": os.getpid(), "gone": 2**22 + 1})
    assert found.keys() == {"supervisor"}
    samples = scrape(processes=found)
    told = {name.removesuffix('{process="supervisor"}'): n for name, n in samples.items() if name.startswith("process_")}
    assert told.keys() == {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
                           "process_open_fds", "process_max_fds", "process_start_time_seconds"}
    assert abs(told["process_cpu_seconds_total"] - time.process_time()) < 1
    assert 1 << 20 < told["process_resident_memory_bytes"] < told["process_virtual_memory_bytes"]
    assert 3 <= told["process_open_fds"] <= told["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert time.time() - 86400 * 30 < told["process_start_time_seconds"] <= time.time() + 1


def test_buckets_are_fine_where_people_wait():
    bounds = [bound / 1e6 for bound in counters.BUCKETS_US]
    assert bounds == sorted(bounds) and {0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10} <= set(bounds)
    assert all(later <= 2.5 * sooner + 1e-9 for sooner, later in itertools.pairwise(bounds) if later <= 10)


def test_a_duration_is_in_the_first_bucket_that_holds_it():
    bounds = counters.BUCKETS_US
    for micros in sorted({0, 10**9, *(bound + by for bound in bounds for by in (-1, 0, 1))}):
        assert counters.bucket(micros) == next((i for i, bound in enumerate(bounds) if micros <= bound), len(bounds))


def test_routes_and_backends_beyond_the_bound_share_a_row_and_are_counted():
    registry = Registry(4)
    assert [registry.take_counter("HTTPRoute", f"n/{i}") for i in (1, 2, 3, 3, 4)] == [2, 3, 0, 0, 0]
    assert registry.uncounted == (2, 0)
    registry.drop_counter("HTTPRoute", "n/1")
    assert registry.take_counter("HTTPRoute", "n/3") == 0       # its rules are all counted in one place
    for _ in range(3):
        registry.drop_counter("HTTPRoute", "n/3")
    assert registry.uncounted == (1, 0) and registry.take_counter("HTTPRoute", "n/3") == 2
    rows = [registry.take_backend(f"n/{i}:80/http") for i in range(limits.BACKENDS_SHOWN + 1)]
    assert rows == [*range(1, limits.BACKENDS_SHOWN), 0, 0] and registry.uncounted == (1, 2)
    assert registry.backends[1] == "n/0:80/http"


def test_families_by_themselves():
    families = [("kubernetes_up", [("", 1)]), ("kubernetes_objects", [('{kind="A"}', 2)])]
    described = {"kubernetes_up": ("gauge", "", "Up."), "kubernetes_objects": ("gauge", "kind", "Objects.")}
    assert text_of(families, described=described) == (
        "# HELP gwfast_kubernetes_up Up.\n# TYPE gwfast_kubernetes_up gauge\ngwfast_kubernetes_up 1\n"
        '# HELP gwfast_kubernetes_objects Objects.\n# TYPE gwfast_kubernetes_objects gauge\ngwfast_kubernetes_objects{kind="A"} 2\n')
    assert text_of(()) == ""
