"""Any sequence of edits: the plan built on the one before equals the plan built from nothing, and is in order."""
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.config.model import (
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
    Key,
    Listener,
    ObjectMeta,
)
from gwfast.graph.model import Attachment, BackendNode, Graph, ListenerNode, RouteNode, RuleNode, Target
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import to_builtins
from gwfast.plan.precedence import entry_key, host_key

OWNER = Key("Gateway", "ns", "gw")
WRITTEN = Listener(name="l", port=80, protocol="HTTP")
TARGETS = {f"ns/s{i}:80/http": Target(namespace="ns", name=f"s{i}", port=80) for i in range(3)}

matches = st.builds(
    lambda kind, path, method, headers: HTTPRouteMatch(
        path=HTTPPathMatch(type=kind, value=path), method=method,
        headers=tuple(HTTPHeaderMatch(name=name, value="1") for name in headers)),
    st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]), st.sampled_from(["/", "/a", "/a/", "/a/b"]),
    st.sampled_from([None, "GET"]), st.lists(st.sampled_from(["x", "X", "y"]), max_size=2))
rules = st.tuples(
    st.lists(matches, min_size=1, max_size=3).map(tuple), st.sampled_from(sorted(TARGETS)), st.booleans())
hostnames = st.lists(
    st.sampled_from(["", "a.b", "*.b", "c.a.b", "*.a.b"]), min_size=1, max_size=3, unique=True).map(tuple)
routes = st.tuples(st.sampled_from([None, 1, 2]), st.lists(rules, min_size=1, max_size=3).map(tuple))
edits = st.one_of(
    st.tuples(st.just("route"), st.sampled_from("pqrs"), routes),
    st.tuples(st.just("gone"), st.sampled_from("pqrs"), st.none()),
    st.tuples(st.just("attach"), st.sampled_from("pqrs"),
              st.lists(st.tuples(st.integers(0, 2), hostnames), max_size=3)),
    st.tuples(st.just("serve"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("turn"), st.just(0), st.none()),
)


def route_node(name, spec):
    created, written = spec
    resource = HTTPRoute(
        metadata=ObjectMeta(name=name, namespace="ns",
                            creation_timestamp=created and datetime(2026, 1, created, tzinfo=UTC)),
        spec=HTTPRouteSpec(rules=tuple(
            HTTPRouteRule(matches=matches, backend_refs=(HTTPBackendRef(name=target, port=80),))
            for matches, target, _ in written)))
    nodes = tuple(RuleNode(index=i, rule=rule, backends=(BackendNode(index=0, target=target),),
                           dropped="no" if dropped else "")
                  for i, (rule, (_, target, dropped)) in enumerate(zip(resource.spec.rules, written, strict=True)))
    return RouteNode(key=resource.key, resource=resource, rules=nodes)


class World:
    """The nodes of a graph that is edited; what an edit does not touch stays the same object."""

    def __init__(self):
        self.routes, self.attached, self.served, self.turned = {}, {}, [True] * 3, False
        self.attachments = {}

    def edit(self, what, who, how):
        match what:
            case "route":
                self.routes[who] = route_node(who, how)
            case "gone":
                self.routes.pop(who, None)
            case "attach":
                self.attached[who] = dict(how)
            case "serve":
                self.served[who] = how
            case "turn":
                self.turned = not self.turned

    def graph(self):
        listeners = {}
        for i, served in enumerate(self.served):
            attachments = [self.attachment(name, i) for name in self.routes if i in self.attached.get(name, ())]
            listeners[f"ns/gw/{i}"] = ListenerNode(
                id=f"ns/gw/{i}", name=str(i), resource=WRITTEN, owner=OWNER, gateway=OWNER, protocol="HTTP",
                port=80 + i // 2, hostname="*.b" if i else "", programmed=served,
                attachments=tuple(attachments[::-1 if self.turned else 1]))
        return Graph(classes={}, gateways={}, listener_sets={}, listeners=listeners, routes={}, targets=TARGETS,
                     policies={})

    def attachment(self, name, listener):
        wanted = Attachment(route=self.routes[name], hostnames=self.attached[name][listener])
        known = self.attachments.get((name, listener))
        if known and (known.route, known.hostnames) == (wanted.route, wanted.hostnames):
            return known
        self.attachments[name, listener] = wanted
        return wanted


@settings(max_examples=150)
@given(st.lists(edits, min_size=1, max_size=14))
def test_every_edit_leads_to_the_plan_from_nothing(sequence):
    world, builder = World(), Builder()
    for edit in sequence:
        world.edit(*edit)
        graph = world.graph()
        plan = builder.build(graph)
        assert to_builtins(plan) == to_builtins(build(graph))
        check_order(plan)
        assert builder.build(world.graph()) is plan


def check_order(plan):
    for bind in plan.binds:
        for listener in bind.listeners:
            names = [host_key(host.hostname) for host in listener.hosts]
            assert names == sorted(set(names))
            for host in listener.hosts:
                keys = [entry_key(entry) for entry in host.entries]
                assert keys and keys == sorted(set(keys))
