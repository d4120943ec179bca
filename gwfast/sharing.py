"""Immutable collections that share with their predecessor what did not change, so that a change costs its own size.

    sequences   in the order of a key: a tuple where they are short, else a LongSequence

                  LongSequence.pieces ──> (tuple, tuple, tuple, ...)     PIECE items each, about
                                    │             │
                  the one after ──> (same,  new,  same, ...)

    Shards      a mapping: dicts by the hash of the key, of which a change copies those that it touches
    together    short tuples of the same few objects, made once

Rules:
- items compare by identity, keys of one sequence are distinct
- what is handed out never changes; a change that changes nothing returns the same object
- what two versions have in common is found by the identity of pieces: the cost is their number and what differs
"""
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain

SHARED = 4096  # values that are remembered for those that are equal and come later
PIECE = 256
FEW = 16  # a change of more than one of FEW items sorts everything anew

Span = tuple[int, int, int, int]  # items [a:b] of one version came in the place of [c:d] of another


class LongSequence(Sequence):
    """A long sequence in pieces."""

    __slots__ = ("pieces", "_ends")

    def __init__(self, pieces: Iterable[tuple]) -> None:
        self.pieces = tuple(pieces)
        self._ends = tuple(accumulate(map(len, self.pieces)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator:
        return chain.from_iterable(self.pieces)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return tuple(self)[at]
        if at < 0:
            at += len(self)
        if not 0 <= at < len(self):
            raise IndexError(at)
        piece = bisect_right(self._ends, at)
        return self.pieces[piece][at - self._ends[piece]]

    def __repr__(self) -> str:
        return f"LongSequence({', '.join(map(repr, self))})"


# ---- Sequences


def ordered(items: Iterable, key: Callable) -> Sequence:
    """Return `items` in the order of `key`."""
    return _made([tuple(sorted(items, key=key))])


def find(items: Sequence, wanted, key: Callable):
    """Return the item with this key, None if there is none."""
    pieces = _pieces(items)
    piece = pieces[_home(pieces, wanted, key)] if pieces else ()
    at = bisect_left(piece, wanted, key=key)
    return piece[at] if at < len(piece) and key(piece[at]) == wanted else None


def changed(items: Sequence, gone: Collection, come: Collection, key: Callable) -> Sequence:
    """Return `items` (in the order of `key`) without those of `gone` and with those of `come`."""
    if gone and come:
        both = set(map(id, gone)) & set(map(id, come))
        if both:
            gone, come = ([one for one in some if id(one) not in both] for some in (gone, come))
    if not gone and not come:
        return items
    if not items and len(come) == 1:
        return tuple(come)
    if (len(gone) + len(come)) * FEW > len(items):
        left = set(map(id, gone))
        return ordered(chain((one for one in items if id(one) not in left) if left else items, come), key)
    pieces = list(_pieces(items))
    for one in gone:
        wanted = key(one)
        home = _home(pieces, wanted, key)
        piece = _opened(pieces, home)
        del piece[bisect_left(piece, wanted, key=key)]
        if not piece:
            del pieces[home]
    for one in come:
        insort(_opened(pieces, _home(pieces, key(one), key)), one, key=key)
    return _made(pieces)


def _pieces(items: Sequence) -> Sequence[Sequence]:
    return items.pieces if type(items) is LongSequence else (items,) if items else ()


def _home(pieces: Sequence, wanted, key: Callable) -> int:
    """The piece that has, or should have, the item with this key."""
    return max(0, bisect_right(pieces, wanted, key=lambda piece: key(piece[0])) - 1)


def _opened(pieces: list, at: int) -> list:
    if isinstance(pieces[at], tuple):
        pieces[at] = list(pieces[at])
    return pieces[at]


def _made(pieces: list) -> Sequence:
    """A tuple or a LongSequence of these pieces, of which lists are new; too long or too many short ones are cut anew."""
    count = sum(map(len, pieces))
    if count <= 2 * PIECE:
        return tuple(chain.from_iterable(pieces))
    if len(pieces) * PIECE > 4 * count:
        pieces = [list(chain.from_iterable(pieces))]
    return LongSequence(part for piece in pieces for part in _cut(piece))


def _cut(piece: Sequence) -> Iterable[tuple]:
    if len(piece) <= 2 * PIECE:
        return (tuple(piece),)
    return (tuple(piece[at:at + PIECE]) for at in range(0, len(piece), PIECE))


@lru_cache(SHARED)
def interned(*items) -> tuple:
    """Return a tuple of these items (all hashable); of those that were asked for lately the same tuple."""
    return items


# ---- What differs


def difference(before: Sequence, now: Sequence) -> tuple[list, list]:
    """Return what only `before` has and what only `now` has, each in its order."""
    gone, come = [], []
    for a, b, c, d in spans(before, now):
        gone += items_of(before, a, b)
        come += items_of(now, c, d)
    both = set(map(id, gone)) & set(map(id, come))
    if both:
        gone, come = ([one for one in some if id(one) not in both] for some in (gone, come))
    return gone, come


def items_of(items: Sequence, start: int, end: int) -> list:
    """Return items[start:end] at the cost of the pieces that they lie in."""
    if type(items) is not LongSequence:  # an instance check of an abstract class costs more than the slice
        return list(items[start:end])
    found: list = []
    at = 0
    for piece in items.pieces:
        if at >= end:
            break
        if at + len(piece) > start:
            found += piece[max(0, start - at):end - at]
        at += len(piece)
    return found


def spans(before: Sequence, now: Sequence) -> list[Span]:
    """Return where two versions differ: before[a:b] has become now[c:d], all else is the same."""
    if before is now:
        return []
    if not before:
        return [(0, 0, 0, len(now))]
    old, new = _pieces(before), _pieces(now)
    places = {id(piece): at for at, piece in enumerate(old)} if len(old) > 1 else {}
    found: list[Span] = []
    i = start = begin = at = 0  # pieces of `old` taken; where the span begins; where `now` is
    for piece in (*new, None):
        home = len(old) if piece is None else places.get(id(piece), -1)
        if home >= i:
            end = start + sum(map(len, old[i:home]))
            if end > start or at > begin:
                found += _trimmed(before, now, start, end, begin, at)
            i = home + 1
            start = end + (len(piece) if piece is not None else 0)
            begin = at + (len(piece) if piece is not None else 0)
        at += len(piece) if piece is not None else 0
    return found


def _trimmed(before: Sequence, now: Sequence, a: int, b: int, c: int, d: int) -> list[Span]:
    """The span without what both have in common at its start and at its end."""
    old, new = items_of(before, a, b), items_of(now, c, d)
    most = min(len(old), len(new))
    first = next((i for i in range(most) if old[i] is not new[i]), most)
    last = next((i for i in range(most - first) if old[~i] is not new[~i]), most - first)
    if first == len(old) == len(new):
        return []
    return [(a + first, b - last, c + first, d - last)]


# ---- Mappings


class Shards(Mapping):
    """A mapping of any size. Iteration has no certain order."""

    __slots__ = ("_dicts", "_count")

    def __init__(self, items: Mapping = {}) -> None:
        self._count = len(items)
        size = 1
        while size * PIECE < self._count:
            size *= 2
        self._dicts: tuple[dict, ...] = tuple({} for _ in range(size))
        for key, value in items.items():
            self._dicts[hash(key) & size - 1][key] = value

    def __getitem__(self, key):
        return self._dicts[hash(key) & len(self._dicts) - 1][key]

    def get(self, key, default=None):
        return self._dicts[hash(key) & len(self._dicts) - 1].get(key, default)

    def __contains__(self, key) -> bool:
        return key in self._dicts[hash(key) & len(self._dicts) - 1]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator:
        return chain.from_iterable(self._dicts)

    def __repr__(self) -> str:
        return f"Shards({dict(self)!r})"

    def values(self) -> Iterable:  # type: ignore[override]  # a list: a view would be read once more
        return [value for one in self._dicts for value in one.values()]

    def items(self) -> Iterable[tuple]:  # type: ignore[override]
        return [item for one in self._dicts for item in one.items()]

    def changed(self, changes: Mapping) -> "Shards":
        """Return this mapping with other values for some keys; None takes a key out."""
        if self._count:
            changes = {key: value for key, value in changes.items() if self.get(key) is not value}
        if not changes:
            return self
        if not self._count:
            there = {key: value for key, value in changes.items() if value is not None}
            return Shards(there) if there else self
        count = self._count + sum((value is not None) - (key in self) for key, value in changes.items())
        if count > 2 * PIECE * len(self._dicts) or len(changes) * FEW > count:
            return Shards({key: value for key, value in chain(self.items(), changes.items())
                           if value is not None and changes.get(key, value) is not None})
        dicts, copied = list(self._dicts), set()
        for key, value in changes.items():
            at = hash(key) & len(dicts) - 1
            if at not in copied:
                copied.add(at)
                dicts[at] = dict(dicts[at])
            if value is None:
                del dicts[at][key]
            else:
                dicts[at][key] = value
        new = Shards()
        new._dicts, new._count = tuple(dicts), count
        return new

    def differing(self, before: "Shards") -> Iterator:
        """Yield keys, those of all that differs from `before` among them."""
        if len(self._dicts) != len(before._dicts):
            yield from self.keys() | before.keys()
            return
        for old, new in zip(before._dicts, self._dicts, strict=True):
            if old is not new:
                yield from old.keys() | new.keys()


def changes(before: Mapping, now: Mapping) -> dict:
    """Return {key: (value before, value now)} of what differs; None where there is none."""
    if before is now:
        return {}
    if isinstance(now, Shards) and isinstance(before, Shards):
        keys: Iterable = now.differing(before)
    else:
        keys = before.keys() | now.keys()
    pairs = ((key, (before.get(key), now.get(key))) for key in keys)
    return {key: pair for key, pair in pairs if pair[0] is not pair[1]}
