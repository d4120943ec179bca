"""Times of single functions of the hot path: find, pick, parse, writing an image. `pytest bench --benchmark-enable`.

Tables have GWFAST_BENCH_ROUTES routes (1,000).
"""
import os

import pytest

from bench import plans
from bench.operations import HEADS
from gwfast import _pick
from gwfast.http1 import parser
from gwfast._match import Table
from gwfast.endpoints.registry import Registry
from gwfast.plan.image import Images

ROUTES = int(os.environ.get("GWFAST_BENCH_ROUTES", "1000"))
TIMES = 1000  # lookups a call: what the call itself costs does not count


@pytest.fixture(scope="module")
def tables():
    """Return {name: (Table, requests)}."""
    return {name: (Table(plans.image(plan)), requests) for name, plan, requests in plans.lookups(ROUTES)}


@pytest.mark.parametrize("which", range(len(plans.WHICH)), ids=plans.WHICH)
@pytest.mark.parametrize("name", ["prefix", "host", "header", "pattern", "patterns alike"])
def test_find(benchmark, tables, name, which):
    table, requests = tables[name]
    path, headers = requests[which]
    found, _ = benchmark(table.spin, 1, "GET", [path], headers, TIMES)
    assert found == (0 if plans.WHICH[which] == "none" else TIMES)


@pytest.mark.parametrize("count", [2, 4, 16])
def test_pick(benchmark, count):
    weights = [1_000_000 - n for n in range(count)]
    assert 0 <= benchmark(_pick.spin, weights, TIMES)[0] < count


@pytest.mark.parametrize("head", HEADS)
def test_parse(benchmark, head):
    data = HEADS[head]
    assert benchmark(parser.spin, data, data.startswith(b"HTTP/"), TIMES)[0] == len(data)


@pytest.mark.parametrize("made", [plans.prefixes, plans.hosts], ids=["one host", "a host each"])
class TestImage:
    def test_from_scratch(self, benchmark, made):
        plan = made(ROUTES)
        image = benchmark.pedantic(lambda: Images(Registry()).build(plan, plans.BIND), rounds=3)
        assert len(image) > ROUTES * 100

    def test_one_change(self, benchmark, made):
        images, plan, turn = Images(Registry()), made(ROUTES), 0
        images.build(plan, plans.BIND)

        def change():
            nonlocal plan, turn
            turn += 1
            plan = plans.changed(plan, turn * 7919 % ROUTES, turn)
            return (plan, plans.BIND), {}

        assert len(benchmark.pedantic(images.build, setup=change, rounds=9)) > ROUTES * 100
