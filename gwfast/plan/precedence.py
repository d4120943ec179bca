"""Which match comes first: the spec's order (spec 5.1), to the last tie-break.

Rules:
- a route's own hostname takes precedence over less specific ones: exact, then wildcards by length, then none
- on one hostname an entry's key decides; the smaller key comes first; no two entries of a host have equal keys
- regular expressions come between Exact paths and prefixes (the API leaves it open; Contour, NGINX and Envoy Gateway do so), a
  longer one before a shorter one; those of a GRPCRoute come behind every prefix but '/': a named service is more than any;
  what takes every call comes last
- of equal numbers of headers and of parameters, exact ones come before regular expressions
- methods of gRPC are paths of which the same order is that of spec 5.6: service, then method (graph.methods)
- a route without creationTimestamp counts as younger than any that has one, and as old as the others without
"""
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

from gwfast.graph.methods import ANY_CALL
from gwfast.plan.ir import Entry
from gwfast.sharing import SHARED

PATH_RANK = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}
EVERY = (-1, 1)  # the Key.path of a match that takes every call
NEVER = "~"  # sorts behind every timestamp


class Key(NamedTuple):
    """The position of an entry on its host; each field is one criterion of the spec, smaller is better."""

    path_rank: int
    path: tuple[int, int]  # minus its length; an expression of a GRPCRoute is the prefix '/', with minus its own, every call 1
    method: int  # 0 where the match names one
    headers: int  # minus their number
    query: int
    header_expressions: int
    query_expressions: int
    created: str
    route: str  # 'namespace/name'
    kind: str
    rule: int
    match: int


CRITERIA: Any = cast(Any, Key)(  # words in the place of figures
    path_rank="{better} path beats {worse}",
    path="longer path ({better} characters) beats shorter ({worse})",
    method="a match with a method beats one without",
    headers="more headers ({better}) beat fewer ({worse})",
    query="more query parameters ({better}) beat fewer ({worse})",
    header_expressions="fewer regular expressions on headers ({better}) beat more ({worse})",
    query_expressions="fewer regular expressions on query parameters ({better}) beat more ({worse})",
    created="the older route wins ({better}, {worse})",
    route="the route first in the alphabet wins ({better}, {worse})",
    kind="a {better} comes before a {worse}",
    rule="the earlier rule of the route wins (rules[{better}], rules[{worse}])",
    match="the earlier match of the rule wins (matches[{better}], matches[{worse}])",
)


def entry_key(entry: Entry) -> Key:
    """Return the place of `entry` among the entries of its host."""
    match, rule = entry.match, entry.rule
    rank, length = PATH_RANK[match.path_type], (-len(match.path), 0)
    if rule.kind == "GRPCRoute" and match.path_type == "RegularExpression":
        rank, length = PATH_RANK["PathPrefix"], EVERY if match.path == ANY_CALL[1] else (-1, length[0])
    return Key(
        rank,
        length,
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query),
        sum(each.regex for each in match.headers) if match.headers else 0,
        sum(each.regex for each in match.query) if match.query else 0,
        rule.created or NEVER,
        f"{rule.namespace}/{rule.route}",
        rule.kind,
        rule.index,
        match.index,
    )


@lru_cache(SHARED)
def instant(moment: datetime | None) -> str:
    """Return a creationTimestamp as entry_key() has it: in order, '' for none."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def host_key(hostname: str) -> tuple[int, int, str]:
    """Return the place of `hostname`: exact names, then wildcards, the longest first, then '' (any)."""
    if not hostname:
        return (2, 0, "")
    return (1, -len(hostname), hostname) if hostname.startswith("*.") else (0, 0, hostname)


def covers(pattern: str, host: str) -> bool:
    """Say whether `pattern` ('a.example', '*.example' for any number of labels, '' for all) takes `host`."""
    return not pattern or pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:])
                                              and len(host) >= len(pattern))


def reason(better: Entry, worse: Entry) -> str:
    """Say in words why `better` comes before `worse` on one host."""
    first, second = entry_key(better), entry_key(worse)
    name = next(name for name, a, b in zip(Key._fields, first, second, strict=True) if a != b)
    one, other = getattr(first, name), getattr(second, name)
    if name == "path" and other == EVERY:
        return "what takes every call of gRPC comes last"
    return getattr(CRITERIA, name).format(better=_told(name, one, other), worse=_told(name, other, one))


def _told(name: str, value: Any, other: Any) -> str:
    if name == "path_rank":
        return {rank: kind for kind, rank in PATH_RANK.items()}[value]
    if name == "path":
        return str(-value[value[0] == other[0]])
    if name == "created":
        return "no creationTimestamp" if value == NEVER else value
    return str(-value) if name in ("headers", "query") else str(value)
