"""Automata over bytes, made of the syntax trees of `regex`.

    ("set", mask of bytes)  ("cat", trees)  ("alt", trees)  ("rep", tree, least, most or None)

Rules:
- every byte of a tree becomes a position (Glushkov); a set of positions is the bits of an int, bit 0 is the place before
  the first byte
- the states of the deterministic automaton are the sets that can be reached; where these are more than STATES but the
  positions are few, the automaton follows all positions at once: still in time linear in the input
"""
import sys
from array import array
from typing import NamedTuple

POSITIONS = 2_000  # bytes after repetitions are written out; bounds the time to build
STATES = 2_000  # of a deterministic automaton: 2 bytes each and class
PLACES = 255  # of another: sets of 4 words


class Unsupported(ValueError):
    """A pattern that is malformed, or that cannot become an automaton within the bounds; says why."""


class Automaton(NamedTuple):
    """An automaton over bytes, in the layout of `table.automaton.Automaton`.

    Deterministic (count > 0): `table` holds the next states, uint16 [state][class]; state 0 refuses all that follows,
    states from `accept` on accept. Else `table` holds sets of places, 32 bytes each: the accepting ones; those that
    follow each of `places`; those that bytes of each class lead to. Place 0 is before the first byte.
    """

    classes: bytes  # class of each of the 256 bytes
    width: int  # number of classes
    table: bytes
    literal: bytes  # every match begins with this
    count: int = 0  # type: ignore[assignment]  # the layout's word; nobody counts in a tuple of these
    start: int = 0
    accept: int = 0
    places: int = 0

    def fullmatch(self, value: str | bytes) -> bool:
        """Say whether the whole of `value` matches."""
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        if self.count:
            return self._deterministic(data)
        here = 1
        for byte in data:
            row = 1 + self.places + self.classes[byte]
            here = _union(self._set(1 + place) for place in _bits(here)) & self._set(row)
        return bool(here & self._set(0))

    def _deterministic(self, data: bytes) -> bool:
        table = memoryview(self.table).cast("H")
        state = self.start
        for byte in data:
            state = table[state * self.width + self.classes[byte]]
        return state >= self.accept

    def _set(self, row: int) -> int:
        return int.from_bytes(self.table[row * 32:row * 32 + 32], sys.byteorder)


def automaton_of(tree) -> Automaton:
    """Return the automaton that matches what `tree` means; raise Unsupported beyond the bounds."""
    if size(tree) > POSITIONS:
        raise Unsupported(f"the pattern is longer than {POSITIONS} places once its repetitions are written out")
    positions, literal = _Positions(tree), _literal(tree)[0]
    automaton = _determine(positions, literal)
    if automaton is None and len(positions.bytes) <= PLACES:
        automaton = _undetermined(positions, literal)
    if automaton is None:
        raise Unsupported(f"the pattern needs more than {STATES} states, and has more than {PLACES} places")
    return automaton


def size(node) -> int:
    """Return how many bytes a tree has once its repetitions are written out."""
    if node[0] == "set":
        return 1
    if node[0] == "rep":
        return max(size(node[1]), 1) * max(node[2], node[3] or 0, 1)
    return sum(map(size, node[1]))


class _Positions:
    def __init__(self, tree):
        self.bytes = [0]  # by position: the mask of bytes that lead to it
        self.follow = [0]
        empty, first, last = self.place(tree)
        self.follow[0] = first
        self.accepting = last | (1 if empty else 0)

    def place(self, node):
        """Give every byte of `node` a position; return (may be empty, positions it may begin at, and end at)."""
        if node[0] == "set":
            self.bytes.append(node[1])
            self.follow.append(0)
            bit = 1 << len(self.bytes) - 1
            return False, bit, bit
        if node[0] == "cat":
            return self.sequence(self.place(item) for item in node[1])
        if node[0] == "alt":
            parts = [self.place(item) for item in node[1]]
            return any(part[0] for part in parts), _union(part[1] for part in parts), _union(part[2] for part in parts)
        return self.sequence(self.copies(*node[1:]))

    def copies(self, node, least, most):
        for _ in range(least - 1 if most is None else least):
            yield self.place(node)
        if most is None:
            empty, first, last = self.place(node)
            self.link(last, first)
            yield empty or least == 0, first, last
        for _ in range((most or 0) - least):
            _, first, last = self.place(node)
            yield True, first, last

    def sequence(self, parts):
        empty, first, last = True, 0, 0
        for part_empty, part_first, part_last in parts:
            self.link(last, part_first)
            if empty:
                first |= part_first
            last = part_last | (last if part_empty else 0)
            empty = empty and part_empty
        return empty, first, last

    def link(self, before: int, after: int):
        for position in _bits(before):
            self.follow[position] |= after


def _union(sets) -> int:
    result = 0
    for positions in sets:
        result |= positions
    return result


def _bits(mask: int):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _kinds(positions: _Positions):
    """Return the positions that each byte leads to, and the classes of bytes that lead to the same."""
    leading = [0] * 256
    for position, mask in enumerate(positions.bytes):
        for byte in _bits(mask):
            leading[byte] |= 1 << position
    return leading, {mask: number for number, mask in enumerate(dict.fromkeys(leading))}


def _determine(positions: _Positions, literal: bytes) -> Automaton | None:
    """Return the automaton whose states are sets of positions; None if they are too many."""
    leading, kinds = _kinds(positions)
    numbers = {0: 0, 1: 1}  # set of positions -> state
    rows = [[0] * len(kinds)]
    queue = [1]
    for state in queue:
        after = _union(positions.follow[position] for position in _bits(state))
        row = []
        for mask in kinds:
            target = after & mask
            if target not in numbers:
                if len(numbers) >= STATES:
                    return None
                numbers[target] = len(numbers)
                queue.append(target)
            row.append(numbers[target])
        rows.append(row)
    accepting = [bool(state & positions.accepting) for state in numbers]
    order = sorted(range(len(rows)), key=accepting.__getitem__)  # the accepting ones behind the others
    place = {state: number for number, state in enumerate(order)}
    table = array("H", [place[target] for state in order for target in rows[state]])
    return Automaton(bytes(kinds[mask] for mask in leading), len(kinds), table.tobytes(), literal,
                     count=len(rows), start=place[1], accept=len(rows) - sum(accepting))


def _undetermined(positions: _Positions, literal: bytes) -> Automaton:
    leading, kinds = _kinds(positions)
    sets = [positions.accepting, *positions.follow, *kinds]
    table = b"".join(mask.to_bytes(32, sys.byteorder) for mask in sets)
    return Automaton(bytes(kinds[mask] for mask in leading), len(kinds), table, literal, places=len(positions.follow))


def _common(texts: list[bytes]) -> bytes:
    """Return what all texts begin with."""
    first, last = min(texts), max(texts)
    return next((first[:i] for i, byte in enumerate(first) if last[i:i + 1] != bytes([byte])), first)


def _literal(node) -> tuple[bytes, bool]:
    """Return what every match of `node` begins with, and whether that is all of every match."""
    if node[0] == "set":
        single = node[1].bit_count() == 1
        return (bytes([node[1].bit_length() - 1]) if single else b""), single
    if node[0] == "rep":
        return (_literal(node[1])[0] if node[2] else b""), False
    parts = [_literal(item) for item in node[1]]
    if node[0] == "alt":
        return _common([part for part, _ in parts]), False
    literal = b""
    for part, whole in parts:
        literal += part
        if not whole:
            return literal, False
    return literal, True
