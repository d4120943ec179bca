"""What the image writer makes of a plan, and what it keeps when the plan changes."""
import fcntl
import mmap
import os
import struct

import pytest

from table_inspect import binds, rules
from table_verify import verify
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


def test_memory_that_waits_for_an_image_changes_nothing_of_it():
    plain, ahead = Images(Registry()), Images(Registry())
    ahead.prepare()
    for count in (1, 40, 3, 0, 400, 2, 2000, 1):
        one = plan(("", *(entry(f"/{i}" + "x" * (i % 7), rule(f"r{i}")) for i in range(count))))
        image = image_of(one, ahead)
        assert bytes(image) == bytes(image_of(one, plain))
        assert os.fstat(image.fd).st_size == len(image)
        with pytest.raises(PermissionError):
            os.pwrite(image.fd, b"x", 0)
        ahead.prepare()
        ahead.prepare()


def test_a_large_image_has_no_memory_that_waits(monkeypatch):
    monkeypatch.setattr("gwfast.plan.image.AHEAD_MOST", 1000)
    images, before = Images(Registry()), len(os.listdir("/proc/self/fd"))
    image = image_of(plan(("", entry("/" + "x" * 1000, rule()))), images)
    images.prepare()
    assert len(os.listdir("/proc/self/fd")) == before + 1 and len(image) > 1000


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


CERTIFIED = ir.ServerTLS(client_ca=(b"pem",), client_mode="AllowInsecureFallback")
MODES = [("http", None, 0, 0), ("https", ir.ServerTLS(), 1, 0), ("https", CERTIFIED, 1, 2), ("terminate", None, 2, 0),
         ("https", ir.ServerTLS(client_ca=(b"pem",)), 1, 1), ("passthrough", None, 3, 0), ("tcp", None, 4, 0), ("udp", None, 5, 0)]


def test_what_listeners_and_binds_are():
    images = Images(Registry())
    for transport, number in (("http", 0), ("tls", 1), ("tcp", 2), ("udp", 3)):  # each in the place of the one before
        for mode, tls, expected, client_auth in MODES:
            listener = ir.Listener(id="n/g/l", mode=mode, tls=tls)
            one = ir.Plan(binds=(ir.Bind(address="", port=80, transport=transport, listeners=(listener,)),))
            assert binds(image_of(one, images)) == {
                7: (80, number, [("n/g/l", ir.identity("n/g/l"), expected, client_auth)])}


def test_tcp_and_udp_may_share_a_port():
    both = [ir.Bind(address="", port=53, transport=transport, listeners=(ir.Listener(id=transport, mode=transport),))
            for transport in ("tcp", "udp")]
    assert [bind.key for bind in both] == ["[]:53", "udp[]:53"]
    image = Images(Registry()).build(ir.Plan(binds=tuple(both)), {"[]:53": 1, "udp[]:53": 2})
    assert {number: found[2][0][0] for number, found in binds(image).items()} == {1: "tcp", 2: "udp"}


def test_rules_of_grpc_routes_say_so():
    one = ir.Rule(kind="GRPCRoute", namespace="n", route="r", index=0, filters=(ir.AnswerFilter(status=500, reason=""),))
    assert rules(image_of(plan(("", entry("/", one)))))["GRPCRoute/n/r/0"]["flags"] == 8 | 4
    assert told(rule())["flags"] == 0


def test_connections_are_never_shared_with_other_tls_settings():
    settings = [None, ir.BackendTLS(hostname="a"), ir.BackendTLS(hostname="b"),
                ir.BackendTLS(hostname="a", certificate=ir.Certificate(chain=b"c", key=b"k"))]
    backends = [ir.Backend(namespace="n", name="s", port=1, protocol=protocol, tls=tls)
                for tls in settings for protocol in ("http", "h2c")]
    found = tuple(ir.Endpoints(key=one.key, addresses=(("127.0.0.1", 8080),)) for one in backends)
    one = rule(backends=tuple(ir.WeightedBackend(backend=each) for each in backends))
    host = ir.Host(hostname="", entries=(entry("/", one),))
    choices = rules(image_of(plan(listeners=(ir.Listener(id="l", hosts=(host,)),), endpoints=found)))["HTTPRoute/n/r/0"]["choices"]
    assert [choice["backend"][2] for choice in choices] == [one.tls.id if one.tls else 0 for one in backends]
    places = [choice["endpoints"][0][2:] for choice in choices]
    assert len({slot for slot, _ in places}) == len({generation for _, generation in places}) == len(backends)


def test_a_budget_is_of_the_backend_and_changes_in_place():
    images = Images(Registry())
    for budget, expected in [
        (None, (0, 0, 0, 0)), (ir.RetryBudget(percent=0, interval=60, minimum=3, minimum_interval=0.5), (0, 60_000, 3, 500)),
        (ir.RetryBudget(percent=100, interval=3600, minimum=1_000_000, minimum_interval=3600), (100, 3_600_000, 1_000_000, 3_600_000)),
        (None, (0, 0, 0, 0)),
    ]:
        backend = ir.Backend(namespace="n", name="first", port=80, retry_budget=budget)
        assert backend.key == FIRST.key
        one = rule(backends=(ir.WeightedBackend(backend=backend),))
        found = rules(image_of(plan(("", entry("/", one))), images))["HTTPRoute/n/r/0"]["choices"][0]
        assert (found["budget"], len(found["endpoints"])) == (expected, 2)


def test_identities():
    assert ir.identity("n/g/l") == ir.identity(b"n/g/l") == 0x2C42091F67C8869D
    same = [ir.BackendTLS(ca=(b"x",), hostname="a", alpn=("h2",)) for _ in range(2)]
    assert same[0].id == same[1].id and 0 < same[0].id < 1 << 64
    assert len({ir.BackendTLS(**given).id for given in (
        {}, {"system": True}, {"ca": (b"x",)}, {"ca": (b"x", b"y")}, {"ca": (b"xy",)}, {"sans": (("URI", "a"),)},
        {"sans": (("Hostname", "a"),)}, {"alpn": ("h2",)}, {"certificate": ir.Certificate(chain=b"c", key=b"k")})}) == 9
    secret = ir.Certificate(chain=b"chain", key=b"private", names=("a.example",))
    assert "private" not in repr(ir.Plan(binds=(ir.Bind(address="", port=1, listeners=(ir.Listener(
        id="l", tls=ir.ServerTLS(certificates=(secret,))),)),)))


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


HEADER = struct.Struct("<QIIQQIIII")  # and a (place, count) for each section
SECTIONS = 19


@pytest.mark.parametrize("section", range(SECTIONS))
@pytest.mark.parametrize("number", [0, 1], ids=["place", "count"])
def test_a_section_that_is_not_within_the_image_is_refused(section, number):
    whole = bytes(image_of(plan(("", entry("/", rule())))))
    assert HEADER.unpack_from(whole)[2] == HEADER.size + 16 * SECTIONS
    at = HEADER.size + 16 * section + 8 * number
    broken = whole[:at] + struct.pack("<Q", len(whole) + 8) + whole[at + 8:]
    with pytest.raises(ValueError, match="not a table image"):
        Table(broken)


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
