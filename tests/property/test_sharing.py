"""Collections that share what stays: any sequence of changes ends where a plain list or dict does, and what differs
between two versions is found."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast import sharing
from gwfast.sharing import LongSequence, Shards, changed, changes, difference, find, items_of, ordered, spans


class Item:
    """Compares by identity."""

    def __init__(self, key):
        self.key = key


def key(item):
    return item.key


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    known = sharing.PIECE
    sharing.PIECE = 3
    yield
    sharing.PIECE = known


keys = st.integers(0, 60)
steps = st.lists(st.tuples(st.sets(keys, max_size=3), st.sets(keys, max_size=3)), max_size=25)


@settings(max_examples=150)
@given(st.sets(keys, max_size=60), steps)
def test_a_sequence_is_the_sorted_list(first, steps):
    items = ordered([Item(n) for n in first], key)
    known = {item.key: item for item in items}
    for gone, renewed in steps:
        left = [known.pop(n) for n in sorted(gone | renewed) if n in known]
        come = [Item(n) for n in renewed]
        known |= {item.key: item for item in come}
        now = changed(items, left, come, key)
        assert list(map(id, now)) == [id(known[n]) for n in sorted(known)]
        check_access(now, known)
        check_difference(items, now)
        items = now


def check_access(items, known):
    assert len(items) == len(known)
    assert isinstance(items, LongSequence) == (len(items) > 2 * sharing.PIECE)
    assert [items[i] for i in range(-len(items), len(items))] == 2 * list(items)
    assert list(reversed(items)) == list(items)[::-1]
    assert items_of(items, 2, 9) == list(items)[2:9] == list(items[2:9])
    assert all(find(items, n, key) is known.get(n) for n in range(-1, 62))
    with pytest.raises(IndexError):
        items[len(items)]


def check_difference(before, now):
    old, new = list(before), list(now)
    gone, come = difference(before, now)
    assert gone == [one for one in old if one not in new]
    assert come == [one for one in new if one not in old]
    patched, at = [], 0
    for a, b, c, d in spans(before, now):
        patched += old[at:a] + new[c:d]
        at = b
    assert patched + old[at:] == new


@settings(max_examples=100)
@given(st.lists(keys, unique=True), st.lists(keys, unique=True))
def test_what_differs_is_found_whatever_the_order(some, others):
    items = [Item(n) for n in range(61)]
    check_difference(tuple(items[n] for n in some), tuple(items[n] for n in others))
    check_difference(LongSequence([tuple(items[n] for n in some)]), LongSequence([tuple(items[n] for n in others)]))


def test_what_changes_nothing_is_the_same():
    items = ordered(map(Item, range(20)), key)
    assert changed(items, [], [], key) is items
    assert changed(items, [items[3]], [items[3]], key) is items
    assert spans(items, LongSequence(items.pieces)) == []
    mapping = Shards({n: n for n in range(1, 20)})
    assert mapping.changed({3: mapping[3], 77: None}) is mapping


@settings(max_examples=100)
@given(st.dictionaries(keys, st.integers(1, 9), max_size=60),
       st.lists(st.dictionaries(keys, st.none() | st.integers(1, 9), max_size=4), max_size=25))
def test_a_mapping_is_the_dict(first, steps):
    mapping, known = Shards(first), dict(first)
    for step in steps:
        now = {n: value for n, value in (known | step).items() if value is not None}
        new = mapping.changed(step)
        assert dict(mapping) == known, "what was handed out has changed"
        assert dict(new) == dict(new.items()) == now
        assert sorted(new.values()) == sorted(now.values())
        assert len(new) == len(now)
        assert all((n in new, new.get(n)) == (n in now, now.get(n)) for n in range(62))
        differing = {n: (known.get(n), now.get(n)) for n in range(62) if known.get(n) != now.get(n)}
        assert changes(mapping, new) == changes(known, now) == differing
        mapping, known = new, now
