"""Regular expressions that one automaton is made of say of every path what each of them says alone: where the automaton takes all
of them, where bounds split it, and where it only says who may match.
"""
import re
from contextlib import contextmanager

import matcher
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gwfast import limits
from gwfast._match import Table
from table_verify import verify
from gwfast.endpoints.registry import Registry
from gwfast.plan import ir, regex, union
from gwfast.plan.image import Images
from gwfast.plan.precedence import entry_key

BIND = {"[]:80": 1}
HOST = ("host", "a.test")
atoms = st.sampled_from(["a", "b", "ab", "/", "/ab", "/abc", ".", ".*", ".+", "[ab]", "[^/]+", "[^/a]", r"\w", r"\d", "[[:alpha:]]",
                         "(?:a|)", "(?i:aB)", r"\.", "%C3", "é", "(?:ab|abc)", "a{0,2}", "[a-c0-9]*", "(/.*)?", "(?:/|/.+)?"])
pieces = st.recursive(atoms, lambda inner: st.one_of(
    st.builds("{}{}".format, inner, inner), st.builds("{}{}".format, inner, inner), st.builds("(?:{}|{})".format, inner, inner),
    st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{0,2}", "{2,}"]))), max_leaves=6)
patterns = st.builds("{}{}{}".format, st.sampled_from(["/", "/", "/a", "^/", "", ".*", "(?i)/", "/[^/]+/", "^(?i)/a"]), pieces,
                     st.sampled_from(["", "", ".*", "$", "(/.*)?", ".+$", "[ab]"]))
paths = st.text("aAbcB1/.%C3-", max_size=9).map("/{}".format)
bounds = st.sampled_from([{}, {"SMALL": 2, "UNION_GROWTH": 1}, {"SMALL": 64, "UNION_GROWTH": 1}, {"SMALL": 1, "UNION_STATES": 9},
                          {"SMALL": 64, "UNION_STATES": 5}, {"UNION_WORK": 300}, {"UNION_PATTERNS": 3, "SMALL": 3}])


@contextmanager
def bounded(bounds):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(limits if hasattr(limits, name) else union, name, value)
        yield


def table(entries):
    host = ir.Host(hostname="", entries=tuple(sorted(entries, key=entry_key)))
    plan = ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(ir.Listener(id="l", hosts=(host,)),)),))
    image = Images(Registry()).build(plan, BIND)
    assert verify(image) is None
    return Table(image), plan.binds[0]


def entry(pattern, number, **more):
    return ir.Entry(match=ir.Match(path_type="RegularExpression", path=pattern, **more),
                    rule=ir.Rule(kind="HTTPRoute", namespace="n", route=f"r{number}", index=0))


@settings(max_examples=150, deadline=None)
@given(st.lists(patterns, min_size=2, max_size=12, unique=True), st.lists(paths, min_size=4, max_size=12), bounds)
@example(["/a.*b.*c", "/a.*c.*b", "/a/.*"], ["/abc", "/acb", "/a/", "/abcb"], {"UNION_GROWTH": 1})
@example(["/.*/aaa/.*/bbb", "/.*/bbb/.*/aaa", "/.*aaa"], ["/x/aaa/y/bbb", "/x/bbb/y/aaa"], {"UNION_STATES": 5})
def test_each_matches_what_it_matches_alone(some, paths, bounds):
    some = [pattern for pattern in some if regex.check(pattern) is None]
    entries = [entry(pattern, n, headers=(ir.ValueMatch(name="want", value=str(n)),)) for n, pattern in enumerate(some)]
    with bounded(bounds):
        made, _ = table(entries)
    for path in paths:
        for n, pattern in enumerate(some):
            found = made.find(1, "GET", path, [HOST, ("want", str(n))])
            assert (found is not None) == regex.compile(pattern).fullmatch(path), (pattern, path)
            assert found is None or found[1] == f"HTTPRoute/n/r{n}/0"


conditions = st.builds(
    lambda method, header, query: {
        "method": method, "headers": tuple(ir.ValueMatch(name="h", value=value) for value in header),
        "query": tuple(ir.ValueMatch(name="q", value=value) for value in query)},
    st.sampled_from(["", "", "GET", "POST"]), st.lists(st.sampled_from("123"), max_size=1),
    st.lists(st.sampled_from("12"), max_size=1))
plain = patterns.filter(lambda pattern: "[:" not in pattern and not pattern.startswith("^(?i)"))  # which Python's re refuses


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(plain, conditions), min_size=2, max_size=14), st.lists(paths, min_size=4, max_size=12), bounds)
def test_the_first_that_holds_is_the_oracles(some, paths, bounds):
    entries = [entry(pattern, n, **more) for n, (pattern, more) in enumerate(some) if regex.check(pattern) is None]
    with bounded(bounds):
        made, bind = table(entries)
    for path in paths:
        for method, query, headers in (("GET", "", []), ("POST", "?q=1", [("H", "2")]), ("GET", "?q=2", [("h", "3")])):
            asked = (method, path + query, [HOST, *headers])
            assert made.find(1, *asked) == matcher.find(bind, *asked), asked


def test_python_reads_these_patterns_alike():
    """What the oracle rests on: its `re` knows no POSIX class, and flags at the very beginning alone."""
    assert re.fullmatch("(?i)/aB(/.*)?", "/Ab/c") and re.fullmatch("^/(?:a|)b$", "/b")
