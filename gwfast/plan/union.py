"""Tries many regular expressions on a path together: one automaton says which of them match.

    patterns -> syntax trees -> one tree of what they begin with -> positions (Glushkov) -> deterministic automaton

Rules:
- a path has visible ASCII alone (`http.target.scan_target`): '.' is one byte, and other bytes match nothing
- patterns that begin alike share the positions of what they begin with: '/.*/' of a thousand patterns is one loop
- what ends with '.*' is known to match before the '.*' begins: the automaton says so there and goes on without it, else it
  would remember each of them until the end, and n patterns would need 2^n states
- a list is split in two until each part keeps the bounds. Expressions that do not even in small parts ('/.*/a/.*/b/.*', often)
  are searched for the text that each of them needs: the automaton tells which of these texts a path has, and only their
  expressions are tried, one by one
"""
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from gwfast import limits
from gwfast.plan import regex
from gwfast.plan.automaton import size

Determine = Callable[..., bytes | None]
VISIBLE = (1 << 0x7F) - (1 << 0x21)
ANY = ("set", VISIBLE)
SMALL = 64  # patterns that are not split further
SIEVED = limits.UNION_PATTERNS
TEXT = 3  # bytes that say enough
ENDINGS = 16  # ways to end that are written out: '(a|b)?' has three


class Part(NamedTuple):
    """Patterns in the order in which they were given, and their automaton in the layout of `table.automaton.Automaton`.

    b"" where there is but one pattern; `sure`: who it says matches, else who may.
    """

    patterns: tuple[str, ...]
    automaton: bytes = b""
    sure: bool = True


def split(patterns: list[str], known: dict, determine: Determine) -> list[Part]:
    """Return `patterns` in parts. `known` {(sure, patterns): automaton} is looked at first and gets what is made.

    `determine` makes an automaton of positions (`table.union.determine`).
    """
    place = {pattern: number for number, pattern in enumerate(patterns)}
    parts, left, rest = [], [sorted(patterns)], []  # sorted, so that patterns that begin alike stay together
    while left:
        some = left.pop()
        part = _part(sorted(some, key=place.__getitem__), True, known, determine)
        if part is not None:
            parts.append(part)
        elif len(some) > SMALL:
            left += [some[:len(some) // 2], some[len(some) // 2:]]
        else:
            rest += some
    rest.sort(key=place.__getitem__)
    told = [pattern for pattern in rest if len(_text(pattern)) >= TEXT]
    parts += [Part((pattern,)) for pattern in rest if len(_text(pattern)) < TEXT]
    for at in range(0, len(told), SIEVED):
        some = told[at:at + SIEVED]
        part = _part(some, False, known, determine)
        parts += [part] if part is not None else [Part((pattern,)) for pattern in some]
    return parts


def _part(patterns: list[str], sure: bool, known: dict, determine: Determine) -> Part | None:
    if len(patterns) == 1:
        return Part((patterns[0],))
    key = (sure, tuple(patterns))
    made = known[key] = known[key] if key in known else union(key[1], sure, determine)
    return None if made is None else Part(key[1], made, sure)


def union(patterns: tuple[str, ...], sure: bool, determine: Determine) -> bytes | None:
    """Return the automaton of several patterns, as `Part` has it; None where it is beyond the bounds."""
    if len(patterns) > limits.UNION_PATTERNS:
        return None
    positions = _Positions()
    for number, pattern in enumerate(patterns):
        positions.add(number, _items(pattern) if sure else (((("rep", ANY, 0, None), *_text(pattern)), True),))
    if not positions.place_all():
        return None
    most = min(limits.UNION_STATES, limits.UNION_GROWTH * len(positions.masks))
    return determine(positions.masks, positions.follow, positions.ends, positions.opens, len(patterns), most, limits.UNION_WORK)


# ---- Trees as sequences of items ----

@lru_cache(maxsize=10_000)
def _items(pattern: str) -> tuple[tuple[tuple, bool], ...]:
    """Return the ways to match: (items one behind the other, whether anything may follow)."""
    tree = _visible(regex.tree(pattern))
    if tree is None:
        return ()
    return tuple(_endings(_flat(tree))) or ((_flat(tree), False),)


@lru_cache(maxsize=10_000)
def _text(pattern: str) -> tuple:
    """Return the longest text, its letters perhaps of either case, that what `pattern` matches must have."""
    best: tuple = ()
    run: tuple = ()
    for item in _flat(_visible(regex.tree(pattern)) or ANY):
        run = (*run, item) if item[0] == "set" and item[1].bit_count() <= 2 else ()
        best = max(best, run, key=len)
    return best


def _visible(node):
    """Return what of a tree can be in a path; None for nothing."""
    if node[0] == "set":
        return ("set", node[1] & VISIBLE) if node[1] & VISIBLE else None
    if node[0] == "rep":
        inner = _visible(node[1])
        return ("rep", inner, *node[2:]) if inner else None if node[2] else ("cat", ())
    parts = [_visible(item) for item in node[1]]
    if node[0] == "cat":
        return None if None in parts else ("cat", tuple(parts))
    some = tuple(part for part in parts if part)
    return some[0] if len(some) == 1 else ("alt", some) if some else None


def _flat(node) -> tuple:
    return tuple(one for item in node[1] for one in _flat(item)) if node[0] == "cat" else (node,)


def _endings(items: tuple) -> list[tuple[tuple, bool]]:
    """Write out the alternatives that items end with; an empty list where these are too many."""
    found, left = [], [(items, False)]
    while left:
        items, opened = left.pop()
        last: tuple = items[-1] if items else ANY
        if items and last[0] == "rep" and last[1] == ANY and last[3] is None:
            left.append((items[:-1] + (ANY,) * last[2], True))
        elif last[0] == "rep" and last[2:] == (0, 1):
            left += [(items[:-1], opened), (items[:-1] + _flat(last[1]), opened)]
        elif last[0] == "alt":
            left += [(items[:-1] + _flat(branch), opened) for branch in last[1]]
        else:
            found.append((items, opened))
        if len(found) + len(left) > ENDINGS:
            return []
    return found


# ---- Positions ----

class _Branch:
    """A place behind some items: the items that may follow, and the patterns that end there or go on with anything."""

    __slots__ = ("branches", "ends", "opens")

    def __init__(self):
        self.branches, self.ends, self.opens = {}, [], []


class _Positions:
    """Every byte of the items has a position; 0 is the place before the first byte."""

    def __init__(self):
        self.masks: list[int] = [0]
        self.follow: list[list[int]] = [[]]
        self.ends: list[tuple[int, ...]] = [()]
        self.opens: list[tuple[int, ...]] = [()]
        self.root, self.places, self.links = _Branch(), 1, 0

    def add(self, number: int, ways) -> None:
        for items, opened in ways:
            branch = self.root
            for item in items:
                after = branch.branches.get(item)
                if after is None:
                    after = branch.branches[item] = _Branch()
                    self.places += size(item)
                branch = after
            known = branch.opens if opened else branch.ends
            if number not in known:
                known.append(number)

    def place_all(self) -> bool:
        """Give every item its positions; say whether that is within the bounds."""
        if self.places > limits.UNION_STATES * limits.UNION_GROWTH:
            return False
        left = [(self.root, [0])]
        while left and self.links <= limits.UNION_WORK // 16:
            branch, before = left.pop()
            for position in before:
                self.ends[position] += tuple(branch.ends)
                self.opens[position] += tuple(branch.opens)
            for item, after in branch.branches.items():
                empty, first, last = self.place(item)
                self.link(before, first)
                left.append((after, last + before if empty else last))
        return not left

    def place(self, node):
        """Give every byte of `node` a position; return (may be empty, positions it may begin at, and end at)."""
        if node[0] == "set":
            self.masks.append(node[1])
            self.follow.append([])
            self.ends.append(())
            self.opens.append(())
            only = [len(self.masks) - 1]
            return False, only, only
        if node[0] == "cat":
            return self.sequence(map(self.place, node[1]))
        if node[0] == "alt":
            parts = [self.place(item) for item in node[1]]
            return (any(part[0] for part in parts), [one for part in parts for one in part[1]],
                    [one for part in parts for one in part[2]])
        return self.sequence(self.copies(*node[1:]))

    def copies(self, node, least, most):
        for number in range(max(least, 1) if most is None else most):
            empty, first, last = self.place(node)
            if most is None and number >= least - 1:
                self.link(last, first)
            yield empty or number >= least, first, last

    def sequence(self, parts):
        empty = True
        first: list[int] = []
        last: list[int] = []
        for part_empty, part_first, part_last in parts:
            self.link(last, part_first)
            if empty:
                first = first + part_first
            last = part_last + last if part_empty else part_last
            empty = empty and part_empty
        return empty, first, last

    def link(self, before: list[int], after: list[int]) -> None:
        self.links += len(before) * len(after)
        for position in before:
            self.follow[position] += after
