"""One change at a time: what it does not reach stays the same object, and the result is the one from scratch."""
import msgspec
import pytest
from graph_cases import EVERYTHING, born, edited, resources, said
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.config.model import Key, Listener
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.conditions import problems

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s}
spec:
  gatewayClassName: any
  allowedListeners: {namespaces: {from: All}}
  listeners:
  - name: web
    protocol: HTTP
    port: 80
    allowedRoutes:
      namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}
  - {name: other, protocol: HTTP, port: 81, hostname: "*.example"}
"""
LISTENER_SET = """
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: set}
spec: {parentRef: {name: g}, listeners: [{name: more, protocol: HTTP, port: 82}]}
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {ports: [{port: %d}]}"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s1, labels: {kubernetes.io/service-name: s1}}
addressType: IPv4
ports: [{port: %d}]
endpoints: [{addresses: [127.0.0.5]}]
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {team: %s}}"
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: away}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: "", kind: Service}]
"""
POLICY = """
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: "", kind: Service, name: %s}]
  validation: {hostname: a.example, wellKnownCACertificates: System}
"""
TRAFFIC = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: t}
spec: {targetRefs: [{group: "", kind: Service, name: %s}], %s}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s}
spec:
  parentRefs: [%s]
  hostnames: [%s]
  rules: [{backendRefs: [%s]}]
"""


def route(name, service="s1", parent="name: g", hostname="a.example", kind="HTTPRoute", namespace="default"):
    return ROUTE % (kind, name, f"{{{parent}}}", hostname, f"{{namespace: {namespace}, name: {service}, port: 80}}")


def start():
    texts = [GATEWAY % "g", LISTENER_SET, SERVICE % ("s1", "default", 80), SERVICE % ("s2", "default", 80),
             SLICE % 8080, SERVICE % ("s1", "away", 80), GRANT, route("r1"), route("r2", "s2"),
             route("r3", namespace="away"),
             route("r4", parent="kind: ListenerSet, name: set"), route("r5", "nowhere")]
    return resources("\n---\n".join(texts))


def one(text):
    return next(iter(resources(text).values()))


def key(name):
    return Key("HTTPRoute", "default", name)


# Each change, and the routes and listeners that may be other objects afterwards.
CHANGES = {
    "nothing": (None, set(), set()),
    "a route": (one(route("r2", "s1")), {"r2"}, {"g/web", "g/other"}),
    "a route's parent": (one(route("r2", "s2", parent="kind: ListenerSet, name: set")), {"r2"},
                         {"g/web", "g/other", "set/more"}),
    "a new route": (one(route("r9")), {"r9"}, {"g/web", "g/other"}),
    "a Service's port": (one(SERVICE % ("s1", "default", 81)), {"r1", "r4"}, {"g/web", "g/other", "set/more"}),
    "a Service nobody names": (one(SERVICE % ("s9", "default", 80)), set(), set()),
    "a Service that was missing": (one(SERVICE % ("nowhere", "default", 80)), {"r5"}, {"g/web", "g/other"}),
    "endpoints": (one(SLICE % 9090), set(), set()),
    "a grant": (one(GRANT.replace("namespace: default", "namespace: third")), {"r3"}, {"g/web", "g/other"}),
    "a policy": (one(POLICY % "s2"), {"r2"}, {"g/web", "g/other"}),
    "a policy about traffic": (one(TRAFFIC % ("s2", "retryConstraint: {}")), {"r2"}, {"g/web", "g/other"}),
    "a policy that says nothing": (one(TRAFFIC % ("s2", "")), set(), set()),
    "a namespace's labels": (one(NAMESPACE % ("default", "x")), {"r1", "r2", "r3", "r5"}, {"g/web", "g/other"}),
    "a namespace's other labels": (one(NAMESPACE % ("default", "y")), set(), set()),
    "another Gateway": (one((GATEWAY % "g2").replace("port: 8", "port: 9")), set(), {"g2/web", "g2/other"}),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("told", [True, False], ids=["told", "found"])
def test_what_a_change_does_not_reach_stays(name, told):
    change, routes, listeners = CHANGES[name]
    attacher, found = Attacher(EVERYTHING), start()
    before = attacher.attach(found)
    after = found if change is None else found | {change.key: change}
    now = attacher.attach(after, None if not told else [change.key] if change else [])
    stale = {at.name for at, node in now.routes.items() if before.routes.get(at) is not node}
    assert stale == routes
    assert {at for at, node in now.listeners.items() if before.listeners.get(at) is not node} == {
        f"default/{one}" for one in listeners
    }
    assert rendered(now) == rendered(attach(after, EVERYTHING))
    back = attacher.attach(found)
    assert rendered(back) == rendered(before)


def test_endpoints_change_their_target_alone():
    attacher, found = Attacher(EVERYTHING), start()
    before = attacher.attach(found)
    change = one(SLICE % 9090)
    now = attacher.attach(found | {change.key: change}, [change.key])
    changed = {at for at, target in now.targets.items() if before.targets[at] is not target}
    assert changed == {"default/s1:80/http"}
    assert now.targets["default/s1:80/http"].addresses == (("127.0.0.5", 9090),)


def test_a_rule_that_did_not_change_stays():
    attacher, found = Attacher(EVERYTHING), start()
    rule = found[key("r1")].spec.rules[0]
    named = msgspec.structs.replace(rule, name="second")
    found[key("r1")] = edited(found[key("r1")], rules=(rule, named))
    before = attacher.attach(found).routes[key("r1")]
    found[key("r1")] = edited(found[key("r1")], rules=(rule, msgspec.structs.replace(named, name="third")))
    now = attacher.attach(found).routes[key("r1")]
    assert now.rules[0] is before.rules[0] and now.rules[1] is not before.rules[1]


def test_a_target_lives_as_long_as_a_rule_names_it():
    attacher, found = Attacher(EVERYTHING), start()
    assert "default/s2:80/http" in attacher.attach(found).targets
    graph = attacher.attach({at: resource for at, resource in found.items() if at != key("r2")})
    assert "default/s2:80/http" not in graph.targets and key("r2") not in graph.routes


def test_a_graph_that_was_handed_out_does_not_change():
    attacher, found = Attacher(EVERYTHING), start()
    graph = attacher.attach(found)
    before = rendered(graph)
    attacher.attach(resources(GATEWAY % "other"))
    assert rendered(graph) == before


# ---- Any sequence of changes


def rendered(graph):
    """Everything that a graph says, in an order of its own."""
    return {
        "said": said(graph),
        "attached": {
            at: sorted((str(each.route.key), each.hostnames) for each in node.attachments)
            for at, node in graph.listeners.items()
        },
        "rules": {
            str(at): [[(each.target, each.status, each.reason, each.traffic) for each in rule.backends] for rule in node.rules]
            for at, node in graph.routes.items()
        },
        "targets": {at: (target.source, target.addresses, target.hosts, target.traffic) for at, target in graph.targets.items()},
        "problems": [str(problem) for problem in problems(graph)],
        "served": {at: (node.served, node.addresses) for at, node in graph.listeners.items()},
    }


names = st.sampled_from(["r1", "r2", "r3", "r6"])
routes = st.builds(
    route, names, st.sampled_from(["s1", "s2", "nowhere"]),
    st.sampled_from(["name: g", "name: g, sectionName: web", "name: g2", "kind: ListenerSet, name: set"]),
    st.sampled_from(["a.example", "'*.example'", "b.net", ""]), st.sampled_from(["HTTPRoute", "GRPCRoute"]),
    st.sampled_from(["default", "away"]),
)
edits = st.one_of(
    routes.map(one), st.tuples(routes.map(one), st.integers(1, 3)).map(lambda pair: born(*pair)),
    st.builds(lambda name, port: one(SERVICE % (name, "default", port)), st.sampled_from(["s1", "s2"]),
              st.sampled_from([80, 81])),
    st.sampled_from([8080, 9090]).map(lambda port: one(SLICE % port)),
    st.sampled_from(["x", "y"]).map(lambda team: one(NAMESPACE % ("default", team))),
    st.sampled_from(["s1", "s2"]).map(lambda name: one(POLICY % name)),
    st.builds(lambda name, percent: one(TRAFFIC % (name, f"retryConstraint: {{budget: {{percent: {percent}}}}}")),
              st.sampled_from(["s1", "s2"]), st.sampled_from([0, 50])),
    st.just(one(GRANT)), st.sampled_from(["g", "g2"]).map(lambda name: one(GATEWAY % name)), st.just(one(LISTENER_SET)),
    st.just(edited(one(GATEWAY % "g"), listeners=(Listener(name="web", port=81, protocol="HTTP"),))),
)
steps = st.lists(st.tuples(st.booleans(), st.lists(edits, min_size=1, max_size=3)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_sequence_of_changes_ends_where_scratch_does(steps):
    attacher, found = Attacher(EVERYTHING), start()
    attacher.attach(found)
    for remove, changed in steps:
        found = dict(found)
        for resource in changed:
            if remove:
                found.pop(resource.key, None)
            else:
                found[resource.key] = resource
        now = attacher.attach(found, [resource.key for resource in changed])
        assert rendered(now) == rendered(attach(found, EVERYTHING))
