"""HTTPRoutes and GRPCRoutes with one hostname on one listener: both serve, in the order of their matches."""
import pytest

from gwfast.config.load import load
from gwfast.config.model import Key
from gwfast.graph.attach import Attacher
from gwfast.graph.model import GraphOptions
from gwfast.plan import dump, explain
from gwfast.plan.build import Builder, build

GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: web, protocol: HTTP, port: 80}]
"""
ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s, creationTimestamp: "2026-01-0%dT00:00:00Z"}
spec:
  parentRefs: [{name: gw}]
  hostnames: [%s]
  rules: [%s]
"""
BACKEND = "backendRefs: [{name: s, port: 80}]"
ALL = "{%s}" % BACKEND


def match(value):
    return f"{{matches: [{value}], {BACKEND}}}"


ROUTES = {
    "site": ("HTTPRoute", ALL), "api": ("HTTPRoute", match("{path: {value: /api}}")),
    "posts": ("HTTPRoute", match("{path: {type: Exact, value: /pkg.Shop/Buy}}")),
    "shop": ("GRPCRoute", match("{method: {service: pkg.Shop}}")), "buy": ("GRPCRoute", match("{method: {service: pkg.Shop, method: Buy}}")),
    "calls": ("GRPCRoute", ALL), "canary": ("GRPCRoute", match("{headers: [{name: x-env, value: canary}]}")),
}


def graph_of(tmp_path, names, hosts="a.example", **options):
    text = GATEWAY + "".join(ROUTE % (ROUTES[name][0], name, index + 1, hosts, ROUTES[name][1]) for index, name in enumerate(names))
    (tmp_path / "x.yaml").write_text(text)
    loaded = load([str(tmp_path)])
    assert not loaded.problems
    return Attacher(GraphOptions(**options)).attach(loaded.resources)


def taken(plan, path, *headers, method="POST"):
    """Return the route that takes a request; '' for none."""
    (found,) = [explain.explain(bind, explain.read_request(method, f"http://a.example{path}", headers)) for bind in plan.binds]
    return found.entry.rule.route if found.entry else ""


CALL = "content-type: application/grpc+proto"
CASES = [
    # routes, the oldest first; path; fields; who takes it
    (["site", "calls"], "/pkg.Shop/Buy", [CALL], "calls"),
    (["calls", "site"], "/pkg.Shop/Buy", [CALL], "calls"),
    (["calls", "site"], "/pkg.Shop/Buy", [], "site"),
    (["calls", "site"], "/pkg.Shop/Buy", ["content-type: application/grpc-web"], "site"),
    (["site", "calls"], "/api/x", ["content-type: application/json"], "site"),
    (["site", "api", "calls"], "/api/x", [], "api"),
    (["site", "shop"], "/pkg.Shop/Buy", [], "shop"),
    (["site", "shop"], "/pkg.Other/Buy", [CALL], "site"),
    (["site", "shop", "calls"], "/pkg.Shop/Buy", [CALL], "shop"),
    (["calls", "shop", "site"], "/pkg.Other/Buy", [CALL], "calls"),
    (["posts", "buy", "site"], "/pkg.Shop/Buy", [CALL], "posts"),  # equal matches: the older
    (["buy", "posts", "site"], "/pkg.Shop/Buy", [CALL], "buy"),
    (["calls", "canary", "site"], "/pkg.Shop/Buy", [CALL, "x-env: canary"], "canary"),
    (["calls"], "/pkg.Shop/Buy", [], "calls"),
    (["calls", "api"], "/other", [], "calls"),
]


@pytest.mark.parametrize("routes, path, fields, name", CASES)
def test_both_serve_in_the_order_of_their_matches(tmp_path, routes, path, fields, name):
    graph = graph_of(tmp_path, routes)
    assert all(parent.accepted for node in graph.routes.values() for parent in node.parents)
    assert taken(build(graph), path, *fields) == name


def test_equal_names_of_both_kinds(tmp_path):
    """Nothing is left to tell equal matches apart: the kind does."""
    text = GATEWAY + ROUTE % ("HTTPRoute", "x", 1, "a.example", match("{path: {value: /pkg.Shop}}"))
    text += ROUTE % ("GRPCRoute", "x", 1, "a.example", match("{method: {service: pkg.Shop}}"))
    (tmp_path / "x.yaml").write_text(text)
    plan = build(Attacher().attach(load([str(tmp_path)]).resources))
    (host,) = plan.binds[0].listeners[0].hosts
    assert [entry.rule.kind for entry in host.entries] == ["GRPCRoute", "HTTPRoute"]


@pytest.mark.parametrize("routes, loser", [(["site", "calls"], "GRPCRoute"), (["calls", "site"], "HTTPRoute")])
def test_where_one_kind_has_a_host_it_is_the_older(tmp_path, routes, loser):
    graph = graph_of(tmp_path, routes, one_kind_a_host=True)
    for key, node in graph.routes.items():
        (parent,) = node.parents
        assert parent.accepted == (key.kind != loser)
        assert parent.accepted or parent.conditions[0].reason == "HostnameConflict"


def test_a_host_comes_to_be_shared_and_is_so_no_more(tmp_path):
    """A plan that follows changes is the plan that is made of the last one at once."""
    attacher, builder = Attacher(), Builder()
    path = tmp_path / "x.yaml"
    for names, hosts in ((["calls"], "a.example"), (["calls", "site"], "a.example"), (["calls", "shop", "site"], "a.example"),
                         (["site"], "a.example"), (["site", "calls"], '"*.example"'), (["calls"], "a.example")):
        path.write_text(GATEWAY + "".join(ROUTE % (ROUTES[name][0], name, index + 1, hosts, ROUTES[name][1])
                                          for index, name in enumerate(names)))
        resources = load([str(tmp_path)]).resources
        graph = attacher.attach(resources)
        shared = {"calls", "site"} <= set(names)
        assert graph.listeners["default/gw/web"].shared == shared
        plan = builder.build(graph)
        assert dump.to_builtins(plan) == dump.to_builtins(build(Attacher().attach(resources)))
        if "calls" in names:
            (node,) = [entry.match for host in plan.binds[0].listeners[0].hosts for entry in host.entries
                       if entry.rule.route == "calls"][:1]
            assert bool(node.headers) == shared
    assert Key("GRPCRoute", "default", "calls") in graph.routes
