"""The order of matches and hostnames: every criterion of spec 5.1, each against the next."""
import itertools

import pytest

from gwfast.plan.ir import Entry, Match, Rule, ValueMatch
from gwfast.plan.precedence import covers, entry_key, host_key, reason


def entry(path="PathPrefix /a", method="", headers=0, query=0, created="2026-01-01T00:00:00Z", route="ns/b", rule=1,
          match=1, kind="HTTPRoute", expressions=(0, 0)):
    path_type, value = path.split(" ")
    namespace, name = route.split("/")
    conditions = [tuple(ValueMatch(name=f"n{i}", value="v", regex=i < some) for i in range(n))
                  for n, some in zip((headers, query), expressions, strict=True)]
    return Entry(match=Match(path_type=path_type, path=value, method=method, headers=conditions[0], query=conditions[1],
                             index=match),
                 rule=Rule(kind=kind, namespace=namespace, route=name, index=rule, created=created))


# Each line beats the one below it; every criterion is there once with all later criteria turned against it.
LADDER = [
    ("exact, short", entry("Exact /a", created="", route="z/z", rule=9, match=9)),
    ("long regular expression", entry("RegularExpression /[a-z]+/x", created="", route="z/z", rule=9, match=9)),
    ("short regular expression", entry("RegularExpression /.*", created="", route="z/z", rule=9, match=9)),
    ("long prefix", entry("PathPrefix /a/long/one", created="", route="z/z", rule=9, match=9)),
    ("method", entry(method="GET", created="", route="z/z", rule=9, match=9)),
    ("two headers", entry(headers=2, created="", route="z/z", rule=9, match=9)),
    ("one header", entry(headers=1, query=1, created="", route="z/z", rule=9, match=9)),
    ("fewer query parameters", entry(headers=1, created="2020-01-01T00:00:00Z", route="a/a", rule=0, match=0)),
    ("query", entry(query=2, created="", route="z/z", rule=9, match=9)),
    ("exact values", entry(query=1, headers=0, created="", route="z/z", rule=9, match=9)),
    ("an expression on a parameter", entry(query=1, expressions=(0, 1), route="a/a", rule=0, match=0)),
    ("older", entry(created="2025-01-01T00:00:00Z", route="z/z", rule=9, match=9)),
    ("namespace", entry(route="a/z", rule=9, match=9)),
    ("name", entry(route="ns-1/a", rule=9, match=9)),  # 'ns-1/a' < 'ns/a': the text as a whole is compared
    ("second name", entry(route="ns/a", rule=9, match=9)),
    ("first rule", entry(rule=0, match=9)),
    ("first match", entry(match=0)),
    ("second match", entry(match=1)),
    ("no timestamp", entry(created="", route="a/a", rule=0, match=0)),
    ("a gRPC expression, long", entry("RegularExpression /[^/]+/Ping", created="", kind="GRPCRoute", route="z/z", rule=9, match=9)),
    ("a gRPC expression, short", entry("RegularExpression /.+", kind="GRPCRoute", method="GET")),
    ("short prefix", entry("PathPrefix /", method="GET", headers=3)),
    ("every call", entry("RegularExpression /.*", kind="GRPCRoute", method="GET", headers=9, created="", route="a/a", rule=0, match=0)),
]


PAIRS = list(itertools.combinations(LADDER, 2))


@pytest.mark.parametrize(("better", "worse"), PAIRS, ids=[f"{a[0]} > {b[0]}" for a, b in PAIRS])
def test_every_rung_beats_all_below_it(better, worse):
    assert entry_key(better[1]) < entry_key(worse[1])


@pytest.mark.parametrize(("better", "worse", "words"), [
    (entry("Exact /a"), entry(), "Exact path beats PathPrefix"),
    (entry("PathPrefix /abc"), entry(), "longer path (4 characters) beats shorter (2)"),
    (entry(method="GET"), entry(), "a match with a method beats one without"),
    (entry(headers=2), entry(), "more headers (2) beat fewer (0)"),
    (entry(query=1), entry(), "more query parameters (1) beat fewer (0)"),
    (entry(headers=1), entry(headers=1, expressions=(1, 0)), "fewer regular expressions on headers (0) beat more (1)"),
    (entry(query=1), entry(query=1, expressions=(0, 1)), "fewer regular expressions on query parameters (0) beat more (1)"),
    (entry("RegularExpression /.*"), entry("PathPrefix /long"), "RegularExpression path beats PathPrefix"),
    (entry("RegularExpression /a.*"), entry("RegularExpression /.*"), "longer path (4 characters) beats shorter (3)"),
    (entry("PathPrefix /s"), entry("RegularExpression /.+", kind="GRPCRoute"), "longer path (2 characters) beats shorter (1)"),
    (entry("PathPrefix /"), entry("RegularExpression /.*", kind="GRPCRoute"), "what takes every call of gRPC comes last"),
    (entry(), entry(created=""), "the older route wins (2026-01-01T00:00:00Z, no creationTimestamp)"),
    (entry(route="a/b"), entry(), "the route first in the alphabet wins (a/b, ns/b)"),
    (entry(rule=0), entry(), "the earlier rule of the route wins (rules[0], rules[1])"),
    (entry(match=0), entry(), "the earlier match of the rule wins (matches[0], matches[1])"),
], ids=["path", "length", "method", "headers", "query", "header expressions", "query expressions", "expression", "expressions",
        "gRPC", "every call", "age", "name", "rule", "match"])
def test_the_reason_names_the_first_difference(better, worse, words):
    assert reason(better, worse) == words


def test_hosts_are_ordered_most_specific_first():
    ordered = ["a.example", "z.example", "*.b.example.com", "*.example.com", "*.com", ""]
    assert sorted(set(ordered), key=host_key) == ordered


@pytest.mark.parametrize(("pattern", "host", "expected"), [
    ("", "any.example", True),
    ("", "", True),
    ("a.example", "a.example", True),
    ("a.example", "b.example", False),
    ("*.example", "a.example", True),
    ("*.example", "a.b.example", True),
    ("*.example", "example", False),
    ("*.example", ".example", False),
    ("*.example", "anexample", False),
])
def test_covers(pattern, host, expected):
    assert covers(pattern, host) is expected
