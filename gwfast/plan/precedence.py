"""Which match comes first: the spec's order (spec 5.1), to the last tie-break.

Rules:
- a route's own hostname takes precedence over less specific ones: exact, then wildcards by length, then none
- on one hostname an entry's key decides; the smaller key comes first; no two entries of a host have equal keys
- a regular expression comes after every prefix (the API leaves it open), a longer one before a shorter one
- methods of gRPC are paths of which the same order is that of spec 5.6: service, then method (graph.methods)
- a route without creationTimestamp counts as younger than any that has one, and as old as the others without
"""
from typing import NamedTuple

from gwfast.plan.ir import Entry

PATH_RANK = {"Exact": 0, "PathPrefix": 1, "RegularExpression": 2}
NEVER = "~"  # sorts behind every timestamp


class Key(NamedTuple):
    """The position of an entry on its host; each field is one criterion of the spec, smaller is better."""

    path_rank: int
    path: int  # minus its length
    method: int  # 0 where the match names one
    headers: int  # minus their number
    query: int
    created: str
    route: str  # 'namespace/name'
    kind: str
    rule: int
    match: int


CRITERIA = Key(
    path_rank="{better} path beats {worse}",
    path="longer path ({better} characters) beats shorter ({worse})",
    method="a match with a method beats one without",
    headers="more headers ({better}) beat fewer ({worse})",
    query="more query parameters ({better}) beat fewer ({worse})",
    created="the older route wins ({better}, {worse})",
    route="the route first in the alphabet wins ({better}, {worse})",
    kind="a {better} comes before a {worse}",
    rule="the earlier rule of the route wins (rules[{better}], rules[{worse}])",
    match="the earlier match of the rule wins (matches[{better}], matches[{worse}])",
)


def entry_key(entry: Entry) -> Key:
    """Return the place of `entry` among the entries of its host."""
    match, rule = entry.match, entry.rule
    return Key(
        PATH_RANK[match.path_type],
        -len(match.path),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query),
        rule.created or NEVER,
        f"{rule.namespace}/{rule.route}",
        rule.kind,
        rule.index,
        match.index,
    )


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
    at = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return CRITERIA[at].format(better=_told(at, first), worse=_told(at, second))


def _told(at: int, key: Key) -> str:
    value = key[at]
    if at == 0:
        return {rank: kind for kind, rank in PATH_RANK.items()}[value]
    if at == 5:
        return "no creationTimestamp" if value == NEVER else value
    return str(-value if at in (1, 3, 4) else value)
