"""Finds entries that no request can ever reach, because an entry before them takes every request that they would match.

Rules:
- a path takes another if both are equal, or if it is PathPrefix '/' or an expression that takes as much
- conditions (method, headers, query) take more if they are a subset of the other's
- an entry takes what is on later hosts too if its host has all names of the listener
- an entry is reported only if that is certain: one with more than MOST conditions is compared with equal and empty ones alone
"""
from collections.abc import Iterator
from itertools import chain, combinations

import msgspec

from gwfast.graph.hostnames import covers
from gwfast.plan.ir import Entry, Host, Listener, Match, Plan

EVERYTHING = ("/.*", ".*")  # regular expressions that take every path
MOST = 6  # 2 ** 6 subsets are looked up per entry


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """`entry` never matches on this host: `by` comes first and takes all of its requests."""

    listener: Listener
    host: Host
    entry: Entry
    by: Entry


def shadows(plan: Plan) -> list[Shadow]:
    """Return every entry of `plan` that cannot match, in the plan's order."""
    return [Shadow(listener=listener, host=host, entry=entry, by=by)
            for bind in plan.binds for listener in bind.listeners
            for host, entry, by in _of(listener)]


def _of(listener: Listener) -> Iterator[tuple[Host, Entry, Entry]]:
    everywhere: dict[tuple, Entry] = {}  # of the hosts that have all names of the listener: they come last
    for host in listener.hosts:
        alive = set()  # matches that have an entry which is reached: others of theirs are for what is left
        seen = everywhere if covers(host.hostname, listener.hostname) else {}
        for entry in host.entries:
            match = entry.match
            conditions = _conditions(match)
            paths = [(match.path_type, match.path), ("PathPrefix", "/")]
            by = next((seen[path, subset] for path in paths for subset in _subsets(conditions) if (path, subset) in seen),
                      None)
            place = (id(entry.rule), match.index)
            if by is None:
                alive.add(place)
            elif place not in alive:
                yield host, entry, by
            seen.setdefault((paths[match.path_type == "RegularExpression" and match.path in EVERYTHING], conditions), entry)


def _conditions(match: Match) -> frozenset:
    method = [("method", match.method)] if match.method else []
    return frozenset(chain(method, (("header", each.name, each.value, each.regex) for each in match.headers),
                           (("query", each.name, each.value, each.regex) for each in match.query)))


def _subsets(conditions: frozenset) -> Iterator[frozenset]:
    if len(conditions) > MOST:
        yield from (frozenset(), conditions)
        return
    for size in range(len(conditions) + 1):
        yield from map(frozenset, combinations(conditions, size))
