"""Slots keep their identities, and change their sign when they change hands."""
from hypothesis import given
from hypothesis import strategies as st

from gwfast.endpoints.registry import SHARED, Registry


def test_an_endpoint_keeps_its_slot_while_anyone_holds_it():
    registry = Registry()
    first = registry.take_endpoint("10.0.0.1", 80, "http")
    assert registry.take_endpoint("10.0.0.1", 80, "http") == first
    assert registry.take_endpoint("10.0.0.1", 80, "h2c") != first
    registry.drop_endpoint("10.0.0.1", 80, "http")
    assert registry.take_endpoint("10.0.0.1", 80, "http") == first


def test_a_slot_that_changes_hands_changes_its_sign():
    registry = Registry()
    first = registry.take_endpoint("10.0.0.1", 80, "http")
    registry.drop_endpoint("10.0.0.1", 80, "http")
    second = registry.take_endpoint("10.0.0.2", 80, "http")
    assert (second.slot, second.generation != first.generation) == (first.slot, True)


def test_counters_are_bounded_and_come_free_again():
    registry = Registry(counter_slots=4)
    slots = [registry.take_counter("HTTPRoute", f"n/{i}") for i in range(4)]
    assert slots == [2, 3, SHARED, SHARED]
    registry.drop_counter("HTTPRoute", "n/0")
    assert registry.take_counter("HTTPRoute", "n/9") == 2
    assert registry.counters == {2: ("HTTPRoute", "n/9"), 3: ("HTTPRoute", "n/1")}


def test_who_holds_the_counters_is_the_same_dict_until_somebody_comes_or_goes():
    registry = Registry()
    for held, take, drop in ((lambda: registry.counters, lambda n: registry.take_counter("HTTPRoute", n),
                              lambda n: registry.drop_counter("HTTPRoute", n)),
                             (lambda: registry.backends, registry.take_backend, registry.drop_backend)):
        take("n/1")
        one = held()
        take("n/1")
        drop("n/1")
        assert held() is one and len(one) == 1
        take("n/2")
        two = held()
        drop("n/1")
        assert (len(one), len(two), len(held())) == (1, 2, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(2, 4))))
def test_ranges_never_overlap(steps):
    registry, held = Registry(), []
    for take, rule, count in steps:
        identity = (f"r{rule}", (1,) * count)
        if take:
            held.append((identity, registry.take_pick(*identity)))
        elif identity in [one for one, _ in held]:
            held.remove(next(pair for pair in held if pair[0] == identity))
            registry.drop_pick(*identity)
        places = dict(held)
        used = [slot for (_, weights), place in places.items()
                for slot in range(place.slot, place.slot + len(weights) + 1)]
        assert len(used) == len(set(used))
        assert max(used, default=0) < max(registry.pick_slots, 1)
        assert len({place.generation for place in places.values()}) == len(places)
