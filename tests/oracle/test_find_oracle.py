"""find() against the oracle, on generated plans and requests."""
import matcher
import plans
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast._match import Table
from table_verify import verify
from gwfast.endpoints.registry import Registry
from gwfast.plan.image import Images

IDS = {"[]:80": 1}
random_source = st.randoms(use_true_random=True)


def same(image, plan, random, times):
    """Ask both for `times` requests; return how many of them found a rule."""
    table, found = Table(image), 0
    assert verify(image) is None
    for _ in range(times):
        request = plans.request(random, plan)
        expected = matcher.find(plan.binds[0], *request)
        assert table.find(1, *request) == expected, request
        found += expected is not None
    return found


@pytest.mark.parametrize("most", [4, 12, 100], ids=["few entries", "some entries", "many entries share a path"])
@settings(max_examples=60)
@given(random=random_source)
def test_find_is_the_oracle(most, random):
    plan = plans.plan(random, most)
    same(Images(Registry()).build(plan, IDS), plan, random, 100)


@settings(max_examples=60)
@given(random=random_source)
def test_an_image_does_not_depend_on_what_was_built_before(random):
    images, plan = Images(Registry()), plans.plan(random)
    for _ in range(5):
        same(images.build(plan, IDS), plan, random, 10)
        plan = plans.changed(random, plan)


@settings(max_examples=60)
@given(random=random_source)
def test_a_connection_is_a_request_for_the_root(random):
    """The name is lower-case; no method, header or query is there to match."""
    plan = plans.plan(random)
    bind, table = plan.binds[0], Table(Images(Registry()).build(plan, IDS))
    for name in {name.lower() for name in plans.NAMES}:
        listener, found = matcher.listener_of(bind, name), matcher.find(bind, "OTHER", "/", [("host", name)])
        assert table.route(1, name) == (listener and (listener.id, found[1] if found else None))


def test_the_requests_find_rules():
    from random import Random

    random = Random(1)
    plan = plans.plan(random, 100)
    assert same(Images(Registry()).build(plan, IDS), plan, random, 300) > 150
