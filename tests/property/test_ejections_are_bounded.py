"""Whatever fails whenever: never more of a backend's endpoints are out than its policy allows, nor for longer."""
import os

from hypothesis import given
from hypothesis import strategies as st

from gwfast import limits

from gwfast.engine import counters
from table_inspect import endpoint_failed
from gwfast.endpoints.registry import Registry
from gwfast.graph.model import Passive, TargetPolicy
from gwfast.plan import ir
from gwfast.plan.image import Images

BACKEND = ir.Backend(namespace="n", name="b", port=80)


def world(endpoints: int, passive: Passive | None):
    """An image of one backend, and the places of its endpoints."""
    rule = ir.Rule(kind="HTTPRoute", namespace="n", route="r", index=0, backends=(ir.WeightedBackend(backend=BACKEND),))
    hosts = (ir.Host(hostname="", entries=(ir.Entry(match=ir.Match(), rule=rule),)),)
    bind = ir.Bind(address="", port=80, listeners=(ir.Listener(id="n/g/web", hosts=hosts),))
    addresses = tuple((f"10.0.0.{i + 1}", 80) for i in range(endpoints))
    where = ir.Endpoints(key=BACKEND.key, addresses=addresses, policy=TargetPolicy(name="n/p", passive=passive))
    registry = Registry()
    image = Images(registry).build(ir.Plan(binds=(bind,), backends=(BACKEND,), endpoints=(where,)), {bind.key: 0})
    return image, [registry.endpoints[(*address, "http")] for address in addresses]


steps = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5000), st.sampled_from(["fails"] * 9 + ["marked"])), max_size=200)


@given(endpoints=st.integers(1, 20), failures=st.integers(1, 3), percent=st.integers(0, 100),
       base=st.integers(10, 400_000), steps=steps)
def test_never_more_than_the_share(endpoints, failures, percent, base, steps):
    image, places = world(endpoints, Passive(failures=failures, ejection_ms=base, percent=percent))
    fd = counters.create(1, 4)
    worker = counters.Counters(fd, 0)
    most = max(1, endpoints * percent // 100) if percent else 0
    row, until, times, now = [0] * endpoints, [0] * endpoints, [0] * endpoints, 1000
    marked = [False] * endpoints  # as probes find; it is out then, and takes nothing from the share
    longest = max(base, round(limits.EJECTION_MOST * 1000))
    for which, later, what in steps:
        which, now = which % endpoints, now + later
        if what == "marked":
            marked[which] = not marked[which]
            counters.mark(fd, *places[which], marked[which])
            continue
        row[which] += 1
        fits = until[which] <= now and sum(one > now for one in until) < most
        expected = row[which] >= failures and fits and not marked[which]
        assert endpoint_failed(worker, image, 0, which, now) == expected
        if expected:
            times[which] = max(0, times[which] - (now - until[which]) // base) + 1
            row[which], until[which] = 0, now + min(base * times[which], longest)
        assert sum(one > now for one in until) <= most
    os.close(fd)
    assert len(places) == endpoints


def test_another_endpoint_in_the_slot_begins_anew():
    fd = counters.create(1, 4)
    worker = counters.Counters(fd, 0)
    image, places = world(1, Passive(failures=1, ejection_ms=1 << 30, percent=10))
    assert endpoint_failed(worker, image, 0, 0, 1)
    slot, generation = places[0]
    assert counters.ejected(fd, [(slot, generation + 1)]) == []
    os.close(fd)
