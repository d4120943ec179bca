"""The selector keeps every backend within one request of its exact share (Tijdeman 1980)."""
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast._pick import sequence

weights = st.lists(st.integers(1, 5) | st.integers(1, 100) | st.integers(1, 1_000_000), min_size=1, max_size=16)


def worst(weights, picks):
    """Return how far any backend ever was from its exact share."""
    total, counts, off = sum(weights), [0] * len(weights), Fraction(0)
    for step, backend in enumerate(picks, 1):
        counts[backend] += 1
        off = max(off, max(abs(count - Fraction(step * weight, total))
                           for count, weight in zip(counts, weights, strict=True)))
    return off


@settings(max_examples=60)
@given(weights)
def test_each_is_within_one_of_its_share(weights):
    assert worst(weights, sequence(weights, 400)) < 1


@pytest.mark.parametrize("weights", [
    [1], [1, 1], [2, 1], [1, 1_000_000], [1_000_000] * 16, [1] * 15 + [1_000_000], [999_983, 999_979, 3],
    [7, 5, 3, 2], [3, 3, 4], [90, 9, 1],
], ids=str)
def test_cases(weights):
    assert worst(weights, sequence(weights, 1000)) < 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_a_round_gives_each_exactly_its_weight_and_repeats(weights):
    total = sum(weights)
    picks = sequence(weights, 2 * total)
    assert picks[:total] == picks[total:]
    assert Counter(picks[:total]) == dict(enumerate(weights))


def test_it_stays_exact_at_the_end_of_the_longest_round():
    weights = [1_000_000, 1, 500_000]
    counts = Counter(sequence(weights, sum(weights)))
    assert counts == dict(enumerate(weights))
