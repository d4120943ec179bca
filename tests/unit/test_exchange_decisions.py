"""The decisions of an exchange, apart from who acts on them: what is due, whether a request is sent once more, and when."""
import itertools

import pytest

from gwfast.exchange import deadlines, retry

NOW = 1000


@pytest.mark.parametrize(("request_", "attempt", "again", "first"), [
    (0, 0, 0, 0), (5, 0, 0, 5), (0, 5, 0, 5), (0, 0, 5, 5), (5, 4, 6, 4), (5, 7, 6, 5), (9, 8, 7, 7), (0, 8, 9, 8), (9, 0, 8, 8)])
def test_the_first_deadline(request_, attempt, again, first):
    assert deadlines.first(request_, attempt, again) == first


@pytest.mark.parametrize(("request_", "attempt", "again"), list(itertools.product((0, NOW - 1, NOW, NOW + 1), repeat=3)))
def test_what_is_due(request_, attempt, again):
    """The end of the request goes before all, since nothing follows it; a next attempt before the end of one that is over."""
    passed = [name for name, at in (("request", request_), ("retry", again), ("attempt", attempt)) if 0 < at <= NOW]
    assert deadlines.due(request_, attempt, again, NOW) == (passed[0] if passed else "nothing")


@pytest.mark.parametrize(("facts", "answer"), [
    # nobody has looked at it: of any method, twice
    ({"refused": True}, "now"), ({"refused": True, "idempotent": False}, "now"), ({"refused": True, "once": True}, "now"),
    ({"refused": True, "by_rule": True}, "now"), ({"refused": True, "resent": 1}, "now"), ({"refused": True, "resent": 2}, "never"),
    # what was not kept cannot be sent again
    ({"lost": True}, "never"), ({"lost": True, "refused": True}, "never"), ({"lost": True, "reused": True}, "never"),
    # nobody knows what became of it: an idempotent one, where no byte came
    ({}, "in budget"), ({"idempotent": False}, "never"), ({"received": True}, "never"), ({"once": True}, "never"),
    # a connection of the pool says nothing of its endpoint, once
    ({"reused": True}, "now"), ({"reused": True, "by_rule": True}, "now"), ({"reused": True, "late": True}, "now"),
    ({"reused": True, "resent": 1}, "in budget"), ({"reused": True, "resent": 1, "by_rule": True}, "never"),
    ({"reused": True, "idempotent": False}, "never"), ({"reused": True, "received": True}, "never"),
    # what is an answer, or the rule's, or too late
    ({"reset": True}, "never"), ({"by_rule": True}, "never"), ({"late": True}, "never"), ({"resent": 1}, "in budget"),
], ids=str)
def test_whether_it_is_sent_again_unnoticed(facts, answer):
    assert retry.resends(**facts) == answer


@pytest.mark.parametrize("status", [400, 463, 464, 503, 527, 528, 599, 655])
def test_codes_of_a_rule(status):
    assert retry.retries([status], status)
    assert not any(retry.retries([status], other) for other in (100, 200, 399, 656, 700, status - 1, status + 1))


def test_the_backoff_grows_to_ten_times_and_half_as_much_again():
    assert [retry.backoff(100, behind, 0) for behind in range(6)] == [100, 200, 400, 800, 1000, 1000]
    assert retry.backoff(100, 1000, 0) == 1000
    for behind in range(6):
        least = retry.backoff(100, behind, 0)
        assert all(least <= retry.backoff(100, behind, random) <= least * 3 // 2 for random in (1, 0x7FFF, 0xFFFF, 1 << 40))
    assert retry.backoff(100, 0, 0xFFFF) == 150 and retry.backoff(0, 3, 0xFFFF) == 0
