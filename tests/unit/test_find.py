"""Cases of find() at the edges of what the oracle draws: depths, sizes, strange targets."""
import pytest

from table_verify import verify
from gwfast._match import Table
from gwfast.endpoints.registry import Registry
from gwfast.limits import QUERY_PARAMETERS
from gwfast.plan import ir
from gwfast.plan.image import Images
from gwfast.plan.precedence import entry_key, host_key

DEEP = "/a" * 100


def table(*entries, hostname="", listeners=("",)):
    """Return the Table of (route, Match) pairs on one hostname; the listeners all have them."""
    made = [ir.Entry(match=match, rule=ir.Rule(kind="HTTPRoute", namespace="n", route=route, index=0))
            for route, match in entries]
    host = ir.Host(hostname=hostname, entries=tuple(sorted(made, key=entry_key)))
    bind = ir.Bind(address="", port=80, listeners=tuple(
        ir.Listener(id=name or "any", hostname=name, hosts=(host,)) for name in sorted(listeners, key=host_key)))
    image = Images(Registry()).build(ir.Plan(binds=(bind,)), {"[]:80": 1})
    assert verify(image) is None
    return Table(image)


def route_of(found):
    return found and found[1].split("/")[2]


def header(value, name="x", regex=False):
    return ir.Match(path="/", headers=(ir.ValueMatch(name=name, value=value, regex=regex),))


def query(value, name="q", regex=False):
    return ir.Match(path="/", query=(ir.ValueMatch(name=name, value=value, regex=regex),))


PATHS = [
    # path of a prefix, target, whether it matches
    ("/", "/", True), ("/", "*", False), ("/", "", False), ("/", "//", True), ("/a", "/a", True), ("/a", "/a/", True),
    ("/a", "/a/b", True), ("/a", "/ab", False), ("/a", "/A", False), ("/a", "/", False), ("/a/b", "/a", False),
    ("/a", "/a?/b", True), (DEEP, DEEP, True), (DEEP, DEEP + "/x", True), (DEEP, DEEP[:-2], False),
    (DEEP, DEEP + "x", False), ("/a" * 500, "/a" * 4000, True), ("/b", "/a" * 4000, False), ("/" + "x" * 1023, "/" + "x" * 1023, True),
]


@pytest.mark.parametrize(("prefix", "target", "matches"), PATHS, ids=[f"{p[:9]} {t[:9]} {m}" for p, t, m in PATHS])
def test_prefixes(prefix, target, matches):
    found = table(("r", ir.Match(path=prefix))).find(1, "GET", target)
    assert (found is not None) == matches
    assert not found or found[2] == (0 if prefix == "/" else len(prefix))


def test_exact_paths_of_any_depth():
    for path in ("/", "/a", "/a/", "/a/b", DEEP, DEEP + "/"):
        one = table(("r", ir.Match(path=path, path_type="Exact")))
        assert one.find(1, "GET", path) == ("any", "HTTPRoute/n/r/0", -1)
        for other in {"/", "/a", "/a/", "/a/b", DEEP, DEEP + "/"} - {path}:
            assert one.find(1, "GET", other) is None


def test_patterns_below_their_literal_elements():
    one = table(*((name, ir.Match(path=path, path_type="RegularExpression")) for name, path in [
        ("deep", DEEP + "/[0-9]+"), ("whole", "/x/y"), ("half", "/x/y[0-9]"), ("any", "/[q-s].*"), ("relative", "x.*")]))
    assert [route_of(one.find(1, "GET", path)) for path in (DEEP + "/12", "/x/y", "/x/y7", "/q/1", DEEP, "/x/y/", "x")] == [
        "deep", "whole", "half", "any", None, None, None]


HEADERS = [
    # condition, lines, whether it holds
    ("1", [("X", "1")], True), ("1", [("x", "1"), ("y", "1")], True), ("1", [("X", "1 ")], False), ("1", [], False),
    ("", [("x", "")], True), ("a, b", [("x", "a, b")], True), ("a, b", [("x", "a"), ("X", "b")], True),
    ("a,b", [("x", "a"), ("X", "b")], False), ("a", [("x", "a"), ("X", "b")], False), ("a, ", [("x", "a"), ("x", "")], True),
    ("a, b", [("x", "a")], False), ("a, b, c", [("x", "a"), ("y", "z"), ("x", "b, c")], True), ("A", [("x", "a")], False),
]


@pytest.mark.parametrize("filler", [0, 20], ids=["tried", "keyed"])
@pytest.mark.parametrize(("value", "lines", "holds"), HEADERS, ids=str)
def test_headers(value, lines, holds, filler):
    others = [(f"o{i}", header(f"other-{i}")) for i in range(filler)]
    assert (table(("r", header(value)), *others).find(1, "GET", "/", lines) is not None) == holds


def test_names_with_an_underscore_are_not_there():
    one = table(("r", header("1", name="x_a")), *((f"o{i}", header(str(i), name=f"x_{i}")) for i in range(20)))
    assert one.find(1, "GET", "/", [("x_a", "1"), ("x_3", "3")]) is None


def test_a_pattern_reads_all_lines_of_a_field():
    one = table(("r", header("(a|b)(, (a|b))*", regex=True)))
    assert one.find(1, "GET", "/", [("x", "a"), ("x", "b, a"), ("X", "b")])
    assert not one.find(1, "GET", "/", [("x", "a"), ("x", "c")])


QUERIES = [
    ("1", "?q=1", True), ("1", "?Q=1", False), ("1", "?q=2&q=1", False), ("1", "?q=1&q=2", True), ("", "?q", True),
    ("", "?q=", True), ("", "?", False), ("", "", False), ("a b", "?q=a%20b", True), ("a+b", "?q=a+b", True),
    ("a b", "?q=a+b", False), ("%zz", "?q=%zz", True), ("%", "?q=%", True), ("%4", "?q=%4", True), ("1", "?%71=%31", True),
    ("a=b", "?q=a=b", True), ("1", "?&&q=1&", True), ("1", "?q=1;x=2", False), ("ÿ", "?q=%C3%BF", True),
]


@pytest.mark.parametrize("filler", [0, 20], ids=["tried", "keyed"])
@pytest.mark.parametrize(("value", "asked", "holds"), QUERIES, ids=str)
def test_queries(value, asked, holds, filler):
    others = [(f"o{i}", query(f"other-{i}")) for i in range(filler)]
    assert (table(("r", query(value)), *others).find(1, "GET", "/" + asked) is not None) == holds


@pytest.mark.parametrize(("before", "holds"), [(QUERY_PARAMETERS - 1, True), (QUERY_PARAMETERS, False)])
def test_parameters_are_looked_at_up_to_a_limit(before, holds):
    asked = "".join(f"p{i}&" for i in range(before)) + "q=1"
    assert (table(("r", query("1"))).find(1, "GET", "/?" + asked) is not None) == holds


def test_a_query_longer_than_any_line_has_no_parameters():
    one = table(("r", query("1")))
    assert one.find(1, "GET", "/?q=1&" + "x" * 8000)
    assert not one.find(1, "GET", "/?q=1&" + "x" * 70000)


HOSTS = [
    ("a.test", "a.test", True), ("a.test", "b.a.test", False), ("*.test", "a.test", True), ("*.test", "test", False),
    ("*.test", "b.a.test", True), ("*.test", ".test", False), ("*.test", "atest", False), ("", "", True), ("", "x", True),
    ("*." + "a." * 70 + "test", "b." + "a." * 70 + "test", True), ("*.test", "a." * 120 + "test", True),
    ("a.test", "", False), ("*.a.test", "x.b.test", False),
]


@pytest.mark.parametrize(("pattern", "host", "covers"), HOSTS, ids=[f"{p[:9]} {h[:9]} {c}" for p, h, c in HOSTS])
def test_hosts_and_listeners(pattern, host, covers):
    match = ("r", ir.Match(path="/"))
    for one in (table(match, hostname=pattern), table(match, listeners=(pattern,))):
        assert (one.find(1, "GET", "/", [("host", host)]) is not None) == covers


def test_the_most_specific_listener_alone():
    one = table(("r", ir.Match(path="/")), hostname="x.a.test", listeners=("", "*.test", "*.a.test", "y.a.test"))
    assert one.find(1, "GET", "/", [("host", "x.a.test")])[0] == "*.a.test"
    assert one.find(1, "GET", "/", [("host", "y.a.test")]) is None


def test_a_thousand_that_share_a_path():
    def conditions(i):
        return (ir.ValueMatch(name="x-tenant", value=f"t{i // 10}"), ir.ValueMatch(name=f"x-{i % 7}", value=f"v{i % 10}"))

    one = table(*((f"r{i}", ir.Match(path="/", headers=conditions(i), method=("GET", "POST")[i % 2])) for i in range(1000)),
                ("rest", ir.Match(path="/")))
    for i in (0, 1, 499, 500, 998, 999):
        lines = [("x-tenant", f"t{i // 10}"), (f"X-{i % 7}", f"v{i % 10}"), ("accept", "*/*")]
        assert route_of(one.find(1, ("GET", "POST")[i % 2], "/", lines)) == f"r{i}"
        assert route_of(one.find(1, ("POST", "GET")[i % 2], "/", lines)) == "rest"
        assert route_of(one.find(1, "PUT", "/", lines)) == "rest"
