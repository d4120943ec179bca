"""The plan of hand-made graphs: what gets in, in which form, and which objects stay the same."""
import pytest

from gwfast.config.model import (
    HTTPBackendRef,
    HTTPHeader,
    HTTPHeaderFilter,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRoute,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
    Key,
    Listener,
    ObjectMeta,
)
from gwfast.errors import Source
from gwfast.graph.model import (
    Attachment,
    BackendNode,
    Graph,
    ListenerNode,
    ListenerTLS,
    Refused,
    RouteNode,
    RuleNode,
    Target,
)
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import match_data, to_builtins
from gwfast.plan.ir import AnswerFilter, HeaderFilter
from gwfast.plan.matches import plan_match

TARGET = "default/svc:80/http"


def path(value, kind="PathPrefix"):
    return HTTPRouteMatch(path=HTTPPathMatch(type=kind, value=value))


def rule(*matches, filters=(), backend_filters=()):
    return HTTPRouteRule(matches=matches or (HTTPRouteMatch(),), filters=filters,
                         backend_refs=(HTTPBackendRef(name="svc", port=80, filters=backend_filters),))


def route(name, *rules, nodes=None, line=1):
    resource = HTTPRoute(metadata=ObjectMeta(name=name, namespace="default"), source=Source("routes.yaml", line),
                         spec=HTTPRouteSpec(rules=rules))
    nodes = nodes or [{"backends": (BackendNode(index=0, target=TARGET),)}] * len(rules)
    nodes = tuple(RuleNode(index=i, rule=rules[i], **given) for i, given in enumerate(nodes))
    return RouteNode(key=resource.key, resource=resource, rules=nodes)


def listener(name, *attachments, **given):
    owner = Key("Gateway", "default", "gw")
    return ListenerNode(**{"id": f"default/gw/{name}", "name": name, "owner": owner, "gateway": owner, "port": 80,
                           "resource": Listener(name=name, port=80, protocol="HTTP"), "protocol": "HTTP",
                           "attachments": attachments} | given)


def graph(*listeners, targets=None):
    return Graph(classes={}, gateways={}, listener_sets={}, listeners={each.id: each for each in listeners}, routes={},
                 targets=targets or {TARGET: Target(namespace="default", name="svc", port=80)}, policies={})


def on(node, *hostnames):
    return Attachment(route=node, hostnames=hostnames or ("",))


def entries(plan):
    return [(host.hostname, entry.rule.route, entry.match.path)
            for bind in plan.binds for each in bind.listeners for host in each.hosts for entry in host.entries]


def test_hosts_and_entries_are_in_the_final_order():
    short, long = route("short", rule(path("/a"), path("/z"))), route("long", rule(path("/a/b"), path("/a", "Exact")))
    plan = build(graph(listener("web", on(short, "", "*.example", "a.example"), on(long, "*.b.example", ""))))
    assert entries(plan) == [
        ("a.example", "short", "/a"), ("a.example", "short", "/z"),
        ("*.b.example", "long", "/a"), ("*.b.example", "long", "/a/b"),
        ("*.example", "short", "/a"), ("*.example", "short", "/z"),
        ("", "long", "/a"), ("", "long", "/a/b"), ("", "short", "/a"), ("", "short", "/z"),
    ]


def test_listeners_are_grouped_by_address_and_port_most_specific_first():
    plan = build(graph(
        listener("any"), listener("exact", hostname="a.example"), listener("wild", hostname="*.example"),
        listener("two", port=8080, addresses=("127.0.0.2", "127.0.0.1"), proxy_protocol=True),
        listener("tls", port=443, protocol="HTTPS", tls=ListenerTLS()), listener("off", port=99, programmed=False),
        listener("udp", port=443, protocol="UDP"), listener("pass", port=443, hostname="a.example", protocol="TLS",
                                                            tls=ListenerTLS(mode="Passthrough")),
    ))
    assert [(each.address, each.port, each.transport, each.proxy_protocol, [one.id[11:] for one in each.listeners])
            for each in plan.binds] == [
        ("", 80, "http", False, ["exact", "wild", "any"]), ("", 443, "tls", False, ["pass", "tls"]),
        ("", 443, "udp", False, ["udp"]),
        ("127.0.0.1", 8080, "http", True, ["two"]), ("127.0.0.2", 8080, "http", True, ["two"]),
    ]
    assert len({each.key for each in plan.binds}) == 5
    assert [one.mode for each in plan.binds[1:3] for one in each.listeners] == ["passthrough", "https", "udp"]


def test_only_what_is_served_gets_in():
    nodes = [{"dropped": "refused"}, {"backends": (BackendNode(index=0, target=TARGET),)}]
    dropped = route("dropped", rule(path("/a")), rule(path("/b")), nodes=nodes)
    plan = build(graph(listener("web", on(dropped)), listener("off", on(route("other", rule())), accepted=False)))
    assert entries(plan) == [("", "dropped", "/b")]
    assert plan.binds[0].listeners[0].hosts[0].entries[0].rule.id == "HTTPRoute/default/dropped/1"


def test_a_refused_backend_keeps_its_weight_and_answers():
    nodes = [{"backends": (BackendNode(index=0, weight=3, status=500, reason="RefNotPermitted"),)}]
    (host,) = build(graph(listener("web", on(route("r", rule(), nodes=nodes))))).binds[0].listeners[0].hosts
    (backend,) = host.entries[0].rule.backends
    assert (backend.weight, backend.backend, backend.status) == (3, None, 500)


def test_a_refused_filter_answers_in_its_place():
    written = HTTPRouteFilter(type="RequestHeaderModifier", request_header_modifier=HTTPHeaderFilter(
        set=(HTTPHeader(name="a", value="1"),)))
    refused = (Refused(index=1, type="ExtensionRef", reason="BackendNotFound", message="no such filter", status=500),)
    nodes = [{"refused": refused, "backends": (BackendNode(index=0, target=TARGET, refused=refused),)}]
    node = route("r", rule(filters=(written, written), backend_filters=(written, written)), nodes=nodes)
    (entry,) = build(graph(listener("web", on(node)))).binds[0].listeners[0].hosts[0].entries
    for filters in (entry.rule.filters, entry.rule.backends[0].filters):
        assert isinstance(filters[0], HeaderFilter)
        assert isinstance(filters[1], AnswerFilter)
        assert (filters[1].status, filters[1].reason) == (500, "no such filter (BackendNotFound)")


@pytest.mark.parametrize(("written", "expected"), [
    (HTTPRouteMatch(), {"path": {"type": "PathPrefix", "value": "/"}}),
    (path("/a/"), {"path": {"type": "PathPrefix", "value": "/a"}}),
    (path("/%7Ea/%2a", "Exact"), {"path": {"type": "Exact", "value": "/~a/%2A"}}),
    (path("/%7E/", "RegularExpression"), {"path": {"type": "RegularExpression", "value": "/%7E/"}}),
    (HTTPRouteMatch(method="GET", headers=(HTTPHeaderMatch(name="X-A", value="B"),
                                           HTTPHeaderMatch(name="x-a", value="C"))),
     {"path": {"type": "PathPrefix", "value": "/"}, "method": "GET", "headers": [{"name": "x-a", "value": "B"}]}),
    (HTTPRouteMatch(query_params=(HTTPQueryParamMatch(name="A", value="x.*", type="RegularExpression"),
                                  HTTPQueryParamMatch(name="A", value="2"), HTTPQueryParamMatch(name="a", value="3"))),
     {"path": {"type": "PathPrefix", "value": "/"},
      "queryParams": [{"type": "RegularExpression", "name": "A", "value": "x.*"}, {"name": "a", "value": "3"}]}),
], ids=["default", "slash", "escapes", "regex", "headers", "query"])
def test_matches_are_in_normal_form(written, expected):
    assert match_data(plan_match(written)) == expected


# ---- objects that stay the same


@pytest.fixture
def world():
    return {"a": route("a", rule(path("/a")), rule(path("/a2"))), "b": route("b", rule(path("/b")))}


def planned(builder, world, **given):
    return builder.build(graph(
        listener("web", on(world["a"], "a.example", "both.example"), on(world["b"], "both.example")),
        listener("other", on(world["b"]), port=81), **given))


def test_nothing_changed_is_the_same_plan(world):
    builder = Builder()
    assert planned(builder, world) is planned(builder, world)


def test_a_changed_rule_leaves_everything_else_the_same(world):
    builder = Builder()
    before = planned(builder, world)
    world["a"] = route("a", rule(path("/a")), rule(path("/changed")))
    after = planned(builder, world)
    assert after.binds[1] is before.binds[1]
    both_before, both_after = (plan.binds[0].listeners[0].hosts[1] for plan in (before, after))
    assert [entry.match.path for entry in both_after.entries] == ["/changed", "/a", "/b"]
    assert both_after.entries[1] is both_before.entries[1]  # /a2 was first before
    assert both_after.entries[2] is both_before.entries[2]
    assert both_after.entries[0].rule is both_before.entries[0].rule  # only the match changed
    assert after.backends[0] is before.backends[0]


def test_a_route_made_again_with_the_same_content_is_the_same(world):
    builder = Builder()
    before = planned(builder, world)
    world["a"], world["b"] = route("a", rule(path("/a")), rule(path("/a2"))), route("b", rule(path("/b")))
    assert planned(builder, world) is before


def test_endpoints_change_without_the_rules(world):
    builder = Builder()
    before = planned(builder, world)
    moved = {TARGET: Target(namespace="default", name="svc", port=80, addresses=(("10.0.0.1", 80),))}
    after = planned(builder, world, targets=moved)
    assert after.endpoints[0].addresses == (("10.0.0.1", 80),)
    assert after is not before
    assert all(new is old for new, old in zip(after.binds, before.binds, strict=True))
    assert after.backends[0] is before.backends[0]


def test_what_nobody_names_is_gone(world):
    builder = Builder()
    assert to_builtins(planned(builder, world))["backends"].keys() == {TARGET}
    empty = builder.build(graph(listener("web")))
    assert (entries(empty), empty.backends, empty.endpoints) == ([], (), ())
    assert builder.build(graph()).binds == ()
    assert entries(planned(builder, world)) == entries(planned(Builder(), world))
