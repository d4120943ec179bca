"""What a change of a certificate, an authority or a policy reaches: the rest of the graph and of the plan is the same objects."""
import msgspec
from support import pki
import pytest
from graph_cases import EVERYTHING, resources

from gwfast.graph.attach import Attacher
from gwfast.plan.build import Builder

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s}
spec:
  gatewayClassName: any
  tls: {backend: {clientCertificateRef: {name: %s}}}
  listeners:
  - {name: a, protocol: HTTPS, port: 443, hostname: a.test, tls: {certificateRefs: [{name: a}]}}
  - {name: b, protocol: HTTPS, port: 443, hostname: b.test, tls: {certificateRefs: [{name: b}, {name: a}]}}
  - {name: web, protocol: HTTP, port: 80}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec: {parentRefs: [{name: g}], hostnames: [a.test, b.test], rules: [{matches: [{path: {value: /%s}}], backendRefs: [{name: %s, port: 80}]}]}
"""
POLICY = """
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: %s}
spec:
  targetRefs: [{group: "", kind: Service, name: %s}]
  validation: {hostname: %s.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: %s}]}
"""
TRAFFIC = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: t}
spec: {targetRefs: [{group: "", kind: Service, name: %s}], retryConstraint: {budget: {percent: %d}}}
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]}"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, labels: {kubernetes.io/service-name: one}}
addressType: IPv4
ports: [{port: 8443}]
endpoints: [{addresses: [%s]}]
"""


def keyed(*found):
    return {each.key: each for each in found}


def one(text):
    return next(iter(resources(text).values()))


def start():
    texts = [GATEWAY % ("g", "mine"), POLICY % ("p1", "one", "one", "ca1"), POLICY % ("p2", "two", "two", "ca2"), SLICE % "10.0.0.1",
             *(SERVICE % name for name in ("one", "two", "clear")), *(ROUTE % (name, name, name) for name in ("one", "two", "clear"))]
    return resources("\n---\n".join(texts)) | keyed(
        pki.secret("default", "a", "a.test"), pki.secret("default", "b", "b.test"), pki.secret("default", "mine", "g.test"),
        pki.authority("default", "ca1", "1"), pki.authority("default", "ca2", "2"))


# Each change; the routes of the graph, listeners of the plan, rules of the plan and backends that are others afterwards.
CHANGES = {
    "a certificate of one listener": (pki.secret("default", "b", "b.test", "new"), set(), {"b"}, set(), set()),
    "a certificate of two listeners": (pki.secret("default", "a", "a.test", "new"), set(), {"a", "b"}, set(), set()),
    "the same certificate again": (pki.secret("default", "a", "a.test"), set(), set(), set(), set()),
    "a Secret nobody names": (pki.secret("default", "other"), set(), set(), set(), set()),
    "the Gateway's own certificate": (pki.secret("default", "mine", "new"), set(), {"a", "b", "web"}, {"one", "two"}, {"one", "two"}),
    "an authority": (pki.authority("default", "ca1", "new"), {"one"}, {"a", "b", "web"}, {"one"}, {"one"}),
    "the same authority again": (pki.authority("default", "ca1", "1"), set(), set(), set(), set()),
    "an authority nobody names": (pki.authority("default", "ca3", "3"), set(), set(), set(), set()),
    "a policy": (one(POLICY % ("p2", "two", "renamed", "ca2")), {"two"}, {"a", "b", "web"}, {"two"}, {"two"}),
    "a policy for what was clear": (one(POLICY % ("p3", "clear", "clear", "ca1")), {"clear"}, {"a", "b", "web"}, {"clear"}, {"clear"}),
    "endpoints": (one(SLICE % "10.0.0.2"), set(), set(), set(), {"one"}),
}


def made(attacher, builder, found, changed):
    graph = attacher.attach(found, changed)
    return graph, builder.build(graph)


def parts(plan):
    listeners = {one.id.rpartition("/")[2]: one for bind in plan.binds for one in bind.listeners}
    rules = {entry.rule.route: entry.rule for entry in listeners["web"].hosts[0].entries}
    return listeners, rules, {each.key: each for each in plan.endpoints}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_does_not_reach_stays(name):
    change, routes, listeners, rules, backends = CHANGES[name]
    attacher, builder, found = Attacher(EVERYTHING), Builder(), start()
    graph, plan = made(attacher, builder, found, None)
    new_graph, new_plan = made(attacher, builder, found | keyed(change), [change.key])
    assert {key.name for key, node in new_graph.routes.items() if graph.routes[key] is not node} == routes
    (old_listeners, old_rules, old_backends), (new_listeners, new_rules, new_backends) = parts(plan), parts(new_plan)
    assert {at for at, each in new_listeners.items() if old_listeners[at] is not each} == listeners
    assert {at for at, each in new_rules.items() if old_rules[at] is not each} == rules
    changed = {at for at in old_backends.keys() | new_backends if old_backends.get(at) is not new_backends.get(at)}
    assert {at.split("/")[1].split(":")[0] for at in changed} == backends
    if not (listeners or backends):
        assert new_plan is plan
    _, back = made(attacher, builder, found, [change.key])
    assert [each.key for each in back.backends] == [each.key for each in plan.backends]


def test_a_new_certificate_leaves_the_hosts_of_its_listener():
    attacher, builder, found = Attacher(EVERYTHING), Builder(), start()
    before = parts(made(attacher, builder, found, None)[1])[0]["b"]
    secret = pki.secret("default", "b", "b.test", "new")
    after = parts(made(attacher, builder, found | keyed(secret), [secret.key])[1])[0]["b"]
    assert after.hosts is before.hosts and after.tls is not before.tls
    assert after.tls.certificates[0].digest != before.tls.certificates[0].digest
    assert after.tls.certificates[1].digest == before.tls.certificates[1].digest


@pytest.mark.parametrize("service", ["one", "clear"], ids=["over TLS", "in clear"])
def test_a_budget_changes_the_backends_that_rules_name_and_no_key(service):
    attacher, builder, found = Attacher(EVERYTHING), Builder(), start()
    _, plan = made(attacher, builder, found, None)
    seen = []
    for percent in (None, 20, 30, 30, None):
        policy = one(TRAFFIC % (service, percent or 0))
        graph, now = made(attacher, builder, found | (keyed(policy) if percent else {}), [policy.key])
        rule, = (rule for name, rule in parts(now)[1].items() if name == service)
        named, = (each.backend for each in rule.backends)
        planned, = (each for each in now.backends if each.name == service)
        assert named is planned
        assert (planned.retry_budget and planned.retry_budget.percent) == percent
        assert [each.key for each in now.backends] == [each.key for each in plan.backends]
        assert [each.key for each in now.endpoints] == [each.key for each in now.backends]
        seen.append((graph.routes, now, {name: each for name, each in parts(now)[1].items() if name != service}))
    assert all(others == seen[0][2] for _, _, others in seen)  # the rules of others are the same objects
    assert seen[1][1] is not seen[2][1]


MIRROR = "[{type: RequestMirror, requestMirror: {backendRef: {name: one, port: 80}}}]"
AUTHORIZER = "[{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: one, port: 80}}}]"


@pytest.mark.parametrize(("filters", "on_backend"), [(MIRROR, False), (MIRROR, True), (AUTHORIZER, False)],
                         ids=["mirror of a rule", "mirror of a backendRef", "authorizer"])
def test_a_budget_changes_the_backends_that_filters_lead_to(filters, on_backend):
    place = "port: 80}]" if on_backend else "backendRefs:"
    filtered = (ROUTE % ("led", "led", "clear")).replace(place, {
        True: f"port: 80, filters: {filters}}}]", False: f"filters: {filters}, backendRefs:"}[on_backend])
    attacher, builder, found = Attacher(EVERYTHING), Builder(), start() | resources(filtered)
    made(attacher, builder, found, None)
    for percent in (20, 30, None):
        policy = one(TRAFFIC % ("one", percent or 0))
        _, now = made(attacher, builder, found | (keyed(policy) if percent else {}), [policy.key])
        planned, = (each for each in now.backends if each.name == "one")
        rule = parts(now)[1]["led"]
        (led,) = (rule.backends[0] if on_backend else rule).filters
        assert led.backend is planned and (planned.retry_budget and planned.retry_budget.percent) == percent


def test_gateways_with_certificates_of_their_own_have_backends_of_their_own():
    found = start() | resources((GATEWAY % ("h", "b")).replace("port: 4", "port: 5").replace("port: 80", "port: 81"))
    route = one(ROUTE % ("one", "one", "one"))
    refs = tuple(msgspec.structs.replace(route.spec.parent_refs[0], name=name) for name in "gh")
    found[route.key] = msgspec.structs.replace(route, spec=msgspec.structs.replace(route.spec, parent_refs=refs))
    plan = Builder().build(Attacher(EVERYTHING).attach(found))
    ones = [each for each in plan.backends if each.name == "one"]
    assert {each.tls.certificate.names for each in ones} == {("g.test",), ("b.test",)}
    assert len({each.tls.id for each in ones}) == len({each.key for each in ones}) == 2
    shown = {listener.id.split("/")[1]: entry.rule.backends[0].backend.tls.certificate.names
             for bind in plan.binds for listener in bind.listeners for host in listener.hosts for entry in host.entries
             if entry.rule.route == "one"}
    assert shown == {"g": ("g.test",), "h": ("b.test",)}
