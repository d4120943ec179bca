"""Requests at an endpoint whose number a policy limits: whatever workers do, and die of, no more than that are under way."""
import os

from gwfast.engine import counters
from table_inspect import busy_at, leave_place, place_at
from hypothesis import given
from hypothesis import strategies as st

WORKERS, SLOTS = 3, 2
KINDS = ("take", "take", "leave", "die", "renew")
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, WORKERS - 1), st.integers(0, SLOTS - 1)),
                 max_size=60)


@given(steps=steps, most=st.integers(1, 4))
def test_they_are(steps, most):
    fd = counters.create(WORKERS, 1)
    try:
        workers = [counters.Counters(fd, n) for n in range(WORKERS)]
        generations, held, total = [1] * SLOTS, {}, SLOTS
        for what, worker, slot in steps:
            mine = held.setdefault((worker, slot, generations[slot]), 0)
            others = sum(n for (_, s, generation), n in held.items() if (s, generation) == (slot, generations[slot]))
            if what == "take":
                assert place_at(workers[worker], slot, generations[slot], most) == (others < most)
                held[worker, slot, generations[slot]] += others < most
            elif what == "leave" and mine:
                leave_place(workers[worker], slot, generations[slot])
                held[worker, slot, generations[slot]] -= 1
            elif what == "die":            # with all that it has, at every endpoint
                counters.forget(fd, worker)
                held = {key: n for key, n in held.items() if key[0] != worker}
            elif what == "renew":          # the slot is another endpoint's: what is under way at the old one is not its
                total += 1
                generations[slot] = total
            for s in range(SLOTS):
                expected = sum(n for (_, at, generation), n in held.items() if (at, generation) == (s, generations[s]))
                assert busy_at(workers[0], s, generations[s]) == expected <= most
    finally:
        os.close(fd)


def test_an_old_endpoint_says_nothing_of_the_new_one():
    fd = counters.create(1, 1)
    try:
        worker = counters.Counters(fd, 0)
        assert place_at(worker, 0, 1, 1) and not place_at(worker, 0, 1, 1)
        assert place_at(worker, 0, 2, 1)
        leave_place(worker, 0, 1)
        assert busy_at(worker, 0, 2) == 1 and not place_at(worker, 0, 1, 1)
    finally:
        os.close(fd)
