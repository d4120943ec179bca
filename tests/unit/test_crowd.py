"""Places for strangers: who comes finds one, and takes it from whoever has most."""
import random
from collections import Counter

import pytest

from gwfast.crowd import Crowd


def test_who_comes_takes_the_place_of_the_oldest_of_its_address():
    crowd = Crowd(10, 2)
    assert [crowd.come(who, "a") for who in (1, 2, 3, 4)] == [None, None, 1, 2]
    assert crowd.come(5, "::ffff:a") == 3, "IPv4, as a socket of IPv6 has it"
    assert len(crowd) == 2 and 4 in crowd and 1 not in crowd


def test_where_all_places_are_taken_the_address_with_most_gives_one():
    crowd = Crowd(4, 3)
    assert [crowd.come(who, address) for who, address in ((1, "one"), (2, "flood"), (3, "flood"), (4, "flood"))] == [None] * 4
    assert crowd.come(5, "another") == 2 and crowd.come(6, "third") == 3
    assert crowd.come(7, "fourth") == 1, "who has been there longest, where all have one"


def test_who_goes_leaves_a_place_and_may_go_twice():
    crowd = Crowd(2, 1)
    crowd.come(1, "a")
    crowd.go(1)
    crowd.go(1)
    assert len(crowd) == 0 and crowd.come(2, "a") is None and not crowd._of.keys() - {"a"}


@pytest.mark.parametrize("seed", range(5))
def test_a_flood_from_some_addresses_takes_nothing_from_others(seed):
    rng, crowd, there = random.Random(seed), Crowd(64, 16), {}
    for who in range(5000):
        address = rng.choice("abcde") if rng.random() < 0.9 else f"honest{rng.randrange(8)}"
        leaves = crowd.come(who, address)
        if leaves is not None:
            assert not there.pop(leaves).startswith("honest") or max(Counter(there.values()).values()) <= 16
        there[who] = address
        counts = Counter(there.values())
        assert len(crowd) == len(there) <= 64 and max(counts.values()) <= 16
        if address.startswith("honest") and rng.random() < 0.9:  # served at once, as a rule
            crowd.go(who)
            del there[who]
