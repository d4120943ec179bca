"""How regular expressions on paths are put together: in few parts, of bounded size, what is known is not made again."""
import pytest

from gwfast import limits
from gwfast._match import Table
from gwfast.table.union import determine
from gwfast.endpoints.registry import Registry
from gwfast.plan import ir, union
from gwfast.plan.image import Images
from gwfast.plan.union import Part, split

SHAPES = {
    "a literal beginning": "/api/{:04}/v[0-9]+/[a-z]*",
    "a class first": "/[a-z]+/service-{:04}/.*",
    "anything first": "/.*/service-{:04}/.*",
    "anything first and an end": ".*/file-{:04}[.](png|jpg)",
    "of either case": "(?i)/shop/item-{:04}(/.*)?",
    "anything in the middle": "/.*/a{:04}/.*/b{:04}/.*",
}


def many(shape, count=1000):
    return [SHAPES[shape].format(n, n) for n in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thousand_are_one_automaton_of_bounded_size(shape):
    (part,) = split(many(shape), {}, determine)
    assert len(part.patterns) == 1000
    assert len(part.automaton) < 1000 * 1024  # alone they take two to three times that
    assert part.sure == (shape != "anything in the middle")


def test_more_than_a_part_takes_are_several():
    parts = split(many("a class first", 3 * limits.UNION_PATTERNS), {}, determine)
    assert 3 <= len(parts) <= 6
    assert sorted(one for part in parts for one in part.patterns) == sorted(many("a class first", 3 * limits.UNION_PATTERNS))


def test_a_pattern_that_says_little_is_alone_only_if_it_is_too_much():
    """Each of these alone has thousands of states; they have no text that a path must have."""
    greedy = [f"/.*[{a}{b}].{{10}}" for a in "abc" for b in "xyz"]
    parts = split([*greedy, *many("a class first", 100)], {}, determine)
    assert sorted(part.patterns for part in parts if len(part.patterns) == 1) == sorted((one,) for one in greedy)
    assert sorted(len(part.patterns) for part in parts)[-1] >= 50


def test_a_part_keeps_the_order_that_was_given():
    assert split(["/b", "/a", "/[ab]c"], {}, determine)[0].patterns == ("/b", "/a", "/[ab]c")


def test_what_can_match_no_path_is_no_error():
    assert split(["/é", "/ü.*", "/a b"], {}, determine)[0].sure
    assert split(["/a"], {}, determine) == [Part(("/a",))]


def test_the_parts_that_are_known_are_not_made_again(monkeypatch):
    known, made = {}, []
    monkeypatch.setattr(union, "union", lambda *args, known_union=union.union: made.append(args) or known_union(*args))
    first = split(many("a class first", 100), known, determine)
    assert split(many("a class first", 100), known, determine) == first and len(made) == 1


def entry(pattern, version=0):
    return ir.Entry(match=ir.Match(path_type="RegularExpression", path=pattern),
                    rule=ir.Rule(kind="HTTPRoute", namespace="n", route=f"r{version}", index=0))


def plan(hosts):
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(ir.Listener(id="l", hosts=tuple(hosts)),)),))


def test_a_change_makes_only_the_automaton_of_its_host(monkeypatch):
    """Hosts with the same patterns share one; a writer that starts over makes none anew."""
    made = []
    monkeypatch.setattr(union, "union", lambda *args, known_union=union.union: made.append(args) or known_union(*args))
    images = Images(Registry())
    hosts = [ir.Host(hostname=f"{n}.test", entries=tuple(map(entry, many(shape, 10))))
             for n, shape in enumerate([*SHAPES, *SHAPES])]
    images.build(plan(hosts), {"[]:80": 1})
    assert len(made) == len(SHAPES)  # the first has none, the last is tried first as the others are
    text = "x" * 100_000
    for version in range(30):  # until it is wasteful
        new = entry("/[a-z]+/new", f"{version}{text}")
        hosts[1] = ir.Host(hostname="1.test", entries=(*hosts[1].entries[:10], new))
        image = images.build(plan(hosts), {"[]:80": 1})
    assert len(made) == len(SHAPES) + 1
    assert Table(image).find(1, "GET", "/q/new", [("host", "1.test")])[1] == new.rule.id
