"""The plan does not depend on the order in which resources are read; no live entry is said to be shadowed."""
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.config.model import (
    Gateway,
    GatewaySpec,
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
    Listener,
    ObjectMeta,
    ParentReference,
)
from gwfast.graph.attach import Attacher, attach
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import to_builtins
from gwfast.plan.explain import Request, explain
from gwfast.plan.shadow import shadows

PATHS = ["/", "/a", "/a/", "/a/b"]
HOSTNAMES = ["a.example", "b.a.example", "*.example", "*.a.example"]

matches = st.builds(
    lambda kind, path, method, header, query: HTTPRouteMatch(
        path=HTTPPathMatch(type=kind, value=path), method=method,
        headers=tuple(HTTPHeaderMatch(name=name, value="1") for name in header),
        query_params=tuple(HTTPQueryParamMatch(name=name, value="1") for name in query)),
    st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]), st.sampled_from(PATHS),
    st.sampled_from([None, "GET"]),
    st.sets(st.sampled_from("xy")).map(sorted), st.sets(st.sampled_from("q")).map(sorted))
rules = st.lists(matches, min_size=1, max_size=3).map(
    lambda matches: HTTPRouteRule(matches=tuple(matches), backend_refs=(HTTPBackendRef(name="svc", port=80),)))
routes = st.builds(
    lambda created, hostnames, rules: (created, tuple(hostnames), tuple(rules)),
    st.sampled_from([None, 1, 2]), st.lists(st.sampled_from(HOSTNAMES), max_size=2, unique=True),
    st.lists(rules, min_size=1, max_size=2))
requests = st.builds(
    lambda method, host, path, headers, query: Request(
        method=method, scheme="http", address="", port=80, host=host, path=path, query=query,
        headers=tuple((name, "1") for name in headers)),
    st.sampled_from(["GET", "POST"]), st.sampled_from(["a.example", "c.b.a.example", "z.example", "other"]),
    st.sampled_from([*PATHS, "/a/b/c", "/ab"]), st.sets(st.sampled_from("xy")).map(sorted),
    st.sampled_from(["", "q=1"]))

GATEWAYS = [
    Gateway(metadata=ObjectMeta(name=name, namespace="ns"), spec=GatewaySpec(gateway_class_name="any", listeners=(
        Listener(name="web", port=port, protocol="HTTP"),
        Listener(name="wild", port=port, protocol="HTTP", hostname="*.a.example"))))
    for name, port in (("one", 80), ("two", 81))
]


def route(name, spec):
    created, hostnames, rules = spec
    created = created and datetime(2026, 1, created, tzinfo=UTC)
    metadata = ObjectMeta(name=name, namespace="ns", creation_timestamp=created)
    return HTTPRoute(metadata=metadata, spec=HTTPRouteSpec(
        parent_refs=(ParentReference(name="one"), ParentReference(name="two")), hostnames=hostnames, rules=rules))


@settings(max_examples=60)
@given(st.lists(routes, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_resources_does_not_matter(specs, random):
    resources = [*GATEWAYS, *(route(f"r{i}", spec) for i, spec in enumerate(specs))]
    wanted = to_builtins(build(attach(resources)))
    random.shuffle(resources)
    assert to_builtins(build(attach(resources))) == wanted


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("pqr"), st.none() | routes), min_size=1, max_size=8))
def test_edits_through_the_graph_lead_to_the_plan_from_nothing(edits):
    attacher, builder, present = Attacher(), Builder(), {}
    for name, spec in edits:
        if spec is None:
            present.pop(name, None)
        else:
            present[name] = route(name, spec)
        resources = [*GATEWAYS, *present.values()]
        plan = builder.build(attacher.attach(resources))
        assert to_builtins(plan) == to_builtins(build(attach(resources)))


@settings(max_examples=80)
@given(st.lists(routes, min_size=1, max_size=3), st.lists(requests, min_size=20, max_size=40))
def test_what_is_called_shadowed_serves_no_request(specs, asked):
    plan = build(attach([*GATEWAYS, *(route(f"r{i}", spec) for i, spec in enumerate(specs))]))
    dead = {(each.listener.id, each.host.hostname, id(each.entry)) for each in shadows(plan)}
    for request in asked:
        found = explain(plan.binds[0], request)
        if found.entry:
            assert (found.listener.id, found.host.hostname, id(found.entry)) not in dead
