"""What the image writer makes of a plan, and what it keeps when the plan changes."""
import fcntl
import mmap
import os

import pytest

from gwfast._inspect import rules, verify
from gwfast._match import Table
from gwfast.endpoints.registry import SHARED, Registry
from gwfast.plan import ir
from gwfast.plan.image import Images, publish

FIRST = ir.Backend(namespace="n", name="first", port=80)
SECOND = ir.Backend(namespace="n", name="second", port=80, protocol="h2c")
AT_FIRST = ir.Endpoints(key=FIRST.key, addresses=(("127.0.0.1", 8080), ("::1", 81)))
AT_SECOND = ir.Endpoints(key=SECOND.key, source="dns", hosts=("second.n",))
TO_FIRST = (ir.WeightedBackend(backend=FIRST),)


def rule(route="r", index=0, backends=TO_FIRST, filters=()):
    return ir.Rule(kind="HTTPRoute", namespace="n", route=route, index=index, backends=backends, filters=filters)


def entry(path, to, **match):
    return ir.Entry(match=ir.Match(path=path, **match), rule=to)


def plan(*hosts, endpoints=(AT_FIRST, AT_SECOND), address="", listeners=None):
    listeners = listeners or (ir.Listener(id="n/g/web", hosts=tuple(
        ir.Host(hostname=hostname, entries=tuple(entries)) for hostname, *entries in hosts)),)
    return ir.Plan(binds=(ir.Bind(address=address, port=80, listeners=listeners),), backends=(FIRST, SECOND),
                   endpoints=endpoints)


def image_of(plan_, images=None):
    image = (images or Images(Registry())).build(plan_, {bind.key: 7 for bind in plan_.binds})
    assert verify(image) is None
    return image


def told(one_rule):
    return rules(image_of(plan(("", entry("/", one_rule)))))["HTTPRoute/n/r/0"]


FILTERS = [
    (ir.HeaderFilter(on="request", set=(("X-A", "1"),), add=(("X-B", "2"),), remove=("X-C",)),
     [("OP_REQUEST_SET", "X-A", "1", "X-A: 1\r\n"), ("OP_REQUEST_ADD", "X-B", "2", "X-B: 2\r\n"),
      ("OP_REQUEST_REMOVE", "X-C", "", "X-C: \r\n")], 2),
    (ir.HeaderFilter(on="response", set=(("X-A", ""),)), [("OP_RESPONSE_SET", "X-A", "", "X-A: \r\n")], 1),
    (ir.RewriteFilter(hostname="b.test"), [("OP_REWRITE_HOST", "", "b.test", "")], 2),
    (ir.RewriteFilter(path=ir.PathModifier(type="ReplaceFullPath", value="/x/")),
     [("OP_REWRITE_PATH_FULL", "", "/x/", "")], 2),
    (ir.RewriteFilter(path=ir.PathModifier(type="ReplacePrefixMatch", value="/x/")),
     [("OP_REWRITE_PATH_PREFIX", "", "/x", "")], 2),
    (ir.RewriteFilter(path=ir.PathModifier(type="ReplacePrefixMatch", value="/")),
     [("OP_REWRITE_PATH_PREFIX", "", "", "")], 2),
    (ir.RedirectFilter(scheme="https", port=8443, status=301), [("OP_REDIRECT", 301, "https", "", 8443, 0, "")], 4),
    (ir.RedirectFilter(hostname="b.test", path=ir.PathModifier(type="ReplacePrefixMatch", value="/y/")),
     [("OP_REDIRECT", 302, "", "b.test", 0, 2, "/y")], 4),
    (ir.AnswerFilter(status=500, reason="Unsupported"), [("OP_ANSWER", 500)], 4),
]


@pytest.mark.parametrize(("filter_", "ops", "flags"), FILTERS,
                         ids=[f"{i} {case[1][0][0]}" for i, case in enumerate(FILTERS)])
def test_filters(filter_, ops, flags):
    found = told(rule(filters=(filter_,)))
    assert (found["ops"], found["flags"]) == (ops, flags)
    weighted = ir.WeightedBackend(backend=FIRST, filters=(filter_,))
    found = told(rule(backends=(weighted,)))
    assert (found["choices"][0]["ops"], found["flags"]) == (ops, flags & 3)


def test_choices():
    found = told(rule(backends=(
        ir.WeightedBackend(backend=FIRST, weight=3), ir.WeightedBackend(backend=SECOND, weight=0),
        ir.WeightedBackend(weight=1, status=503), ir.WeightedBackend(backend=SECOND, weight=1_000_000))))
    assert found["total"] == 1_000_004
    assert [(c["weight"], c["backend"], c["status"]) for c in found["choices"]] == [
        (3, ("n/first:80", 0, 0), 500), (1, None, 503), (1_000_000, ("n/second:80", 1, 0), 500)]
    assert [endpoint[:2] for endpoint in found["choices"][0]["endpoints"]] == [("127.0.0.1", 8080), ("::1", 81)]
    assert found["choices"][2]["endpoints"] == []


@pytest.mark.parametrize("weights", [(), (0,), (0, 0)], ids=str)
def test_no_weight_is_answered_with_500(weights):
    found = told(rule(backends=tuple(ir.WeightedBackend(backend=FIRST, weight=weight) for weight in weights)))
    assert (found["choices"], found["total"], found["empty"]) == ([], 0, 500)


def test_addresses_change_without_a_new_plan():
    registry = Registry()
    images = Images(registry)
    one = plan(("", entry("/", rule(backends=(ir.WeightedBackend(backend=SECOND),)))))

    def endpoints():
        return rules(image_of(one, images))["HTTPRoute/n/r/0"]["choices"][0]["endpoints"]

    assert endpoints() == []
    assert registry.resolved(SECOND.key, (("10.0.0.1", 80), ("10.0.0.2", 80)))
    before = endpoints()
    assert [endpoint[:2] for endpoint in before] == [("10.0.0.1", 80), ("10.0.0.2", 80)]
    assert not registry.resolved(SECOND.key, (("10.0.0.1", 80), ("10.0.0.2", 80)))
    registry.resolved(SECOND.key, (("10.0.0.2", 80), ("fe80::1%1", 80), ("not an address", 80)))
    after = endpoints()
    assert after[0] == before[1], "an endpoint keeps its slot and sign"
    assert after[1][0] == "fe80::1" and len(after) == 2
    registry.forget(SECOND.key)
    assert endpoints() == []


def test_endpoints_change_while_the_rule_stays_the_same_object():
    images, one = Images(Registry()), entry("/", rule())
    host = ir.Host(hostname="", entries=(one,))
    for addresses in ((("127.0.0.9", 1),), (), (("127.0.0.8", 1), ("127.0.0.9", 1))):
        now = ir.Endpoints(key=FIRST.key, addresses=addresses)
        one = plan(listeners=(ir.Listener(id="l", hosts=(host,)),), endpoints=(now, AT_SECOND))
        found = rules(image_of(one, images))
        assert tuple(e[:2] for e in found["HTTPRoute/n/r/0"]["choices"][0]["endpoints"]) == addresses


def test_a_backend_that_a_rule_names_anew_has_its_endpoints():
    images, hosts = Images(Registry()), []
    for turn in range(3):
        hosts = [("", *(entry(f"/{i}", rule(f"r{i}")) for i in range(turn % 2)))]
        found = rules(image_of(plan(*hosts), images))
        for one in found.values():
            assert len(one["choices"][0]["endpoints"]) == 2


def test_selector_state_moves_only_when_weights_change():
    images = Images(Registry())

    def pick(*weights, **other):
        backends = tuple(ir.WeightedBackend(backend=FIRST, weight=weight) for weight in weights)
        one = plan(("", entry("/", rule(backends=backends, **other))))
        return rules(image_of(one, images))["HTTPRoute/n/r/0"]["pick"]

    first = pick(1, 2)
    assert pick(1, 2, filters=(ir.RewriteFilter(hostname="b.test"),)) == first
    assert pick(2, 1)[1] != first[1]
    assert pick(5) == (0, 0)


def test_rules_that_vanish_give_everything_back():
    registry = Registry()
    images = Images(registry)
    two = (ir.WeightedBackend(backend=FIRST), ir.WeightedBackend(backend=FIRST))
    for turn in range(50):
        image = image_of(plan(("", entry("/", rule(f"r{turn}", backends=two)))), images)
        assert list(rules(image)) == [f"HTTPRoute/n/r{turn}/0"]
    assert list(registry.counters.values()) == [("HTTPRoute", "n/r49")]
    assert (registry.counter_slots, registry.pick_slots, registry.endpoint_slots) == (4, 6, 2)
    image_of(ir.Plan(), images)
    assert (registry.counters, registry.endpoints) == ({}, {})


def test_an_image_does_not_grow_without_end():
    images = Images(Registry())
    sizes = [len(image_of(plan(("", entry("/" + "x" * 1000, rule(f"r{turn}", filters=(
        ir.HeaderFilter(on="request", set=(("x", f"{turn}" * 1000),)),))))), images)) for turn in range(2000)]
    assert max(sizes) < 3 << 20


def test_what_fails_leaves_nothing_behind():
    registry = Registry()
    images = Images(registry)
    good = plan(("", entry("/", rule())))
    image_of(good, images)
    with pytest.raises(ValueError, match="look-around"):
        images.build(plan(("", entry("/", rule("other")), entry("(?=a)", rule("bad"), path_type="RegularExpression"))),
                     {"[]:80": 1})
    assert registry.counters == {}
    assert list(rules(image_of(good, images))) == ["HTTPRoute/n/r/0"]


def test_binds_without_a_socket_are_left_out():
    image = Images(Registry()).build(plan(("", entry("/", rule()))), {})
    with pytest.raises(KeyError):
        Table(image).find(1, "GET", "/")


def test_a_listener_may_have_several_addresses():
    host = ir.Host(hostname="a.test", entries=(entry("/", rule()),))
    listener = ir.Listener(id="n/g/web", hostname="a.test", hosts=(host,))
    both = ir.Plan(binds=tuple(ir.Bind(address=a, port=80, listeners=(listener,)) for a in ("127.0.0.1", "127.0.0.2")))
    table = Table(Images(Registry()).build(both, {"[127.0.0.1]:80": 1, "[127.0.0.2]:80": 2}))
    for bind in (1, 2):
        assert table.find(bind, "GET", "/x", [("Host", "a.test")]) == ("n/g/web", "HTTPRoute/n/r/0", 0)
        assert table.find(bind, "GET", "/x", [("Host", "b.test")]) is None


def test_routes_beyond_the_bound_share_a_counter():
    found = rules(image_of(plan(("", *(entry(f"/{i}", rule(f"r{i}")) for i in range(5)))), Images(Registry(4))))
    assert sorted(one["counter"] for one in found.values()) == [SHARED, SHARED, SHARED, 2, 3]


@pytest.mark.parametrize("cut", [(0, 50), (60, 160), (150, 200), (0, 200)], ids=str)
def test_many_that_leave_and_come_back_at_once(cut):
    entries = [entry(f"/{i:03}", rule(f"r{i}")) for i in range(200)]
    hosts = [ir.Host(hostname=f"h{i:03}.test", entries=(one,)) for i, one in enumerate(entries)]
    images = Images(Registry())
    for gone in ((0, 0), cut, (0, 0), (199, 200), cut):
        kept = [i for i in range(200) if not gone[0] <= i < gone[1]]
        shared = ir.Host(hostname="all.test", entries=tuple(entries[i] for i in kept))
        listener = ir.Listener(id="l", hosts=(*(hosts[i] for i in kept), shared))
        table = Table(image_of(plan(listeners=(listener,)), images))
        for i in range(200):
            expected = ("l", f"HTTPRoute/n/r{i}/0", 4) if i in kept else None
            assert table.find(7, "GET", f"/{i:03}", [("host", "all.test")]) == expected
            assert table.find(7, "GET", f"/{i:03}", [("host", f"h{i:03}.test")]) == expected


def test_publish_seals():
    for image in (image_of(plan(("", entry("/", rule())))), bytes(image_of(plan()))):
        fd = publish(image)
        try:
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[:] == bytes(image)
                assert verify(mapped) is None
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            assert seals & fcntl.F_SEAL_WRITE and seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_GROW
            with pytest.raises(OSError):
                os.write(fd, b"x")
        finally:
            os.close(fd)


BROKEN = [("empty", lambda b: b""), ("short", lambda b: b[:100]), ("cut", lambda b: b[:-8]),
          ("long", lambda b: b + bytes(8)), ("magic", lambda b: b"x" + b[1:]),
          ("version", lambda b: b[:8] + b"\xff" + b[9:]),
          ("sections", lambda b: b[:32] + b"\xff" * 80 + b[112:])]


@pytest.mark.parametrize("broken", [case[1] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_image_is_refused(broken):
    whole = bytes(image_of(plan(("", entry("/", rule())))))
    with pytest.raises(ValueError, match="not a table image"):
        Table(broken(whole))
    assert verify(broken(whole)) == "header"


def test_verify_sees_what_check_does_not():
    whole = bytes(image_of(plan(
        ("*.a.test", entry("/a", rule(), headers=(ir.ValueMatch(name="x", value="a.*", regex=True),)),
         entry("/a/[0-9]+", rule("s"), path_type="RegularExpression"),
         *(entry("/m", rule(f"m{i}"), headers=(ir.ValueMatch(name="x", value=str(i)),)) for i in range(20))))))
    parts = set()
    for at in range(250, len(whole), 4):
        broken = whole[:at] + b"\xf7\xff\xff\xff" + whole[at + 4:]
        parts.add(verify(broken))
    assert {"automata", "predicates", "choices", "backends", "rules", "listeners", "binds", None} <= parts


def test_the_percent_slash_is_one_rule_or_ambiguous():
    table = Table(image_of(plan(("", entry("/a/b", rule("deep")), entry("/a", rule("flat")),
                                 entry("/a%2Fb", rule("flat"), path_type="Exact")))))
    assert table.find(7, "GET", "/a%2Fb", slash_path="/a/b") == "ambiguous"
    assert table.find(7, "GET", "/a/x%2Fb", slash_path="/a/x/b") == ("n/g/web", "HTTPRoute/n/flat/0", 2)
    assert table.find(7, "GET", "/x%2Fb", slash_path="/x/b") is None
