"""Routes: references, filters, Services and what stands for them; one small configuration per case."""
from support import pki
import pytest
from graph_cases import EVERYTHING, check, resources

from gwfast.config.model import Key
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.conditions import problems
from gwfast.graph.model import GraphOptions

FILES = GraphOptions()
BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: any
  listeners:
  - {name: web, protocol: HTTP, port: 80, allowedRoutes: {namespaces: {from: All}}}
  - {name: named, protocol: HTTP, port: 81, hostname: "*.example"}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: web, port: 80, targetPort: 8080}, {name: ws, port: 81, appProtocol: kubernetes.io/ws},
  {name: h2c, port: 82, appProtocol: kubernetes.io/h2c}, {name: tls, port: 83, appProtocol: https},
  {name: wss, port: 84, appProtocol: kubernetes.io/wss}, {name: own, port: 85, appProtocol: example.net/own},
  {name: dns, port: 53, protocol: UDP}]}
"""


def route(name="r", rules="", kind="HTTPRoute", metadata="", parents="{name: g, sectionName: web}", more=""):
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}{metadata}}}
spec: {{parentRefs: [{parents}], rules: [{rules}]{more}}}
"""


def of(*texts):
    return resources("\n---\n".join((BASE, *texts)))


def backend(text):
    return f"{{backendRefs: [{text}]}}"


def first_backend(graph, name="r", kind="HTTPRoute", namespace="default"):
    return graph.routes[Key(kind, namespace, name)].rules[0].backends[0]


# ---- References to backends

REFERENCES = {
    "a port of a Service": ("{name: s, port: 80}", "default/s:80/http", ""),
    "an upgrade to WebSocket": ("{name: s, port: 81}", "default/s:81/ws", ""),
    "HTTP/2 with prior knowledge": ("{name: s, port: 82}", "default/s:82/h2c", ""),
    "an application protocol with TLS": ("{name: s, port: 83}", "", "UnsupportedProtocol"),
    "WebSockets over TLS": ("{name: s, port: 84}", "", "UnsupportedProtocol"),
    "an application protocol that nobody knows": ("{name: s, port: 85}", "", "UnsupportedProtocol"),
    "no such port": ("{name: s, port: 86}", "", "BackendNotFound"),
    "a port of another transport": ("{name: s, port: 53}", "", "BackendNotFound"),
    "no port": ("{name: s}", "", "UnsupportedValue"),
    "no such Service": ("{name: nowhere, port: 80}", "", "BackendNotFound"),
    "another kind": ("{kind: Bucket, name: s, port: 80}", "", "InvalidKind"),
    "another group": ("{group: example.net, kind: Service, name: s, port: 80}", "", "InvalidKind"),
    "another namespace": ("{namespace: other, name: s, port: 80}", "", "RefNotPermitted"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_backend_reference(name):
    ref, target, reason = REFERENCES[name]
    graph = attach(of(route(rules=backend(ref))), EVERYTHING)
    node = first_backend(graph)
    assert (node.target, node.reason, node.status) == (target, reason, 500 if reason else 0)
    assert list(graph.targets) == ([target] if target else [])
    resolved = f"False/{reason}" if reason else "True/ResolvedRefs"
    check(graph, f"HTTPRoute/default/r@g Accepted=True ResolvedRefs={resolved}")
    told = [(one.field, one.reason) for one in problems(graph)]
    assert told == ([("spec.rules[0].backendRefs[0]", reason)] if reason else [])


@pytest.mark.parametrize(("kind", "protocol"), [
    ("GRPCRoute", "h2c"), ("TLSRoute", "tcp"), ("TCPRoute", "tcp"), ("UDPRoute", "udp"),
])
def test_other_kinds_speak_their_own_protocol(kind, protocol):
    port = 53 if protocol == "udp" else 82
    more = ", hostnames: [a.example]" if kind == "TLSRoute" else ""
    graph = attach(of(route(rules=backend(f"{{name: s, port: {port}}}"), kind=kind, more=more)), EVERYTHING)
    assert first_backend(graph, kind=kind).target == f"default/s:{port}/{protocol}"


def test_every_wrong_reference_is_told():
    rules = backend("{name: s, port: 9}, {name: s, port: 80}, {kind: Bucket, name: s, port: 1}")
    graph = attach(of(route(rules=f"{backend('{name: s, port: 80}')}, {rules}")), EVERYTHING)
    assert [(one.field, one.reason) for one in problems(graph)] == [
        ("spec.rules[1].backendRefs[0]", "BackendNotFound"), ("spec.rules[1].backendRefs[2]", "InvalidKind"),
    ]
    assert [one.status for one in graph.routes[Key("HTTPRoute", "default", "r")].rules[1].backends] == [500, 0, 500]


# ---- ReferenceGrants


FROM = "gateway.networking.k8s.io, kind: HTTPRoute, namespace: default"


def grant(source=FROM, target='"", kind: Service', name="grant"):
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: {name}, namespace: other}}
spec: {{from: [{{group: {source}}}], to: [{{group: {target}}}]}}
"""


OTHER = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: other}\nspec: {ports: [{port: 80}]}"
GRANTS = {
    "fits": (grant(), True),
    "fits by name": (grant(target='"", kind: Service, name: s'), True),
    "of another name": (grant(target='"", kind: Service, name: t'), False),
    "to another kind": (grant(target='"", kind: Secret'), False),
    "to another group": (grant(target="example.net, kind: Service"), False),
    "from another kind": (grant(source="gateway.networking.k8s.io, kind: GRPCRoute, namespace: default"), False),
    "from another group": (grant(source="example.net, kind: HTTPRoute, namespace: default"), False),
    "from another namespace": (grant(source="gateway.networking.k8s.io, kind: HTTPRoute, namespace: third"), False),
    "of another namespace": (grant().replace("namespace: other", "namespace: third"), False),
}


@pytest.mark.parametrize("name", GRANTS)
def test_reference_grant(name):
    text, permitted = GRANTS[name]
    graph = attach(of(OTHER, text, route(rules=backend("{namespace: other, name: s, port: 80}"))), EVERYTHING)
    assert first_backend(graph).reason == ("" if permitted else "RefNotPermitted")


def test_two_grants_for_the_same_must_both_go():
    attacher = Attacher(EVERYTHING)
    found = of(OTHER, grant(), grant(name="again"), route(rules=backend("{namespace: other, name: s, port: 80}")))
    for names, permitted in ((("grant", "again"), True), (("again",), True), ((), False), (("grant",), True)):
        some = {key: one for key, one in found.items() if key.kind != "ReferenceGrant" or key.name in names}
        assert (first_backend(attacher.attach(some)).status == 0) is permitted, names


# ---- Services and what stands for them


def endpoint_slice(name, ports, endpoints, service="s", kind="IPv4"):
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {kind}
ports: [{ports}]
endpoints: [{endpoints}]
"""


NAMED = "{name: web, port: 9090}"
SLICES = {
    "the slice's port by the Service port's name": (
        [endpoint_slice("a", "{name: x, port: 1}, " + NAMED, "{addresses: [127.0.0.5]}")], (("127.0.0.5", 9090),)),
    "several slices, no endpoint twice": (
        [endpoint_slice("a", NAMED, "{addresses: [127.0.0.6]}, {addresses: [127.0.0.5]}"),
         endpoint_slice("b", NAMED, "{addresses: [127.0.0.5]}"),
         endpoint_slice("c", NAMED, '{addresses: ["::1"]}', kind="IPv6")],
        (("127.0.0.5", 9090), ("127.0.0.6", 9090), ("::1", 9090))),
    "ready or not known": (
        [endpoint_slice("a", NAMED, "{addresses: [127.0.0.5], conditions: {ready: false}}, "
                        "{addresses: [127.0.0.6], conditions: {ready: true}}, {addresses: [127.0.0.7]}")],
        (("127.0.0.6", 9090), ("127.0.0.7", 9090))),
    "the target port where no name fits": (
        [endpoint_slice("a", "{port: 8080}", "{addresses: [127.0.0.5]}")], (("127.0.0.5", 8080),)),
    "a port of every number": (
        [endpoint_slice("a", "{name: web}", "{addresses: [127.0.0.5]}")], (("127.0.0.5", 8080),)),
    "another transport": (
        [endpoint_slice("a", "{name: web, port: 9, protocol: UDP}", "{addresses: [127.0.0.5]}")], ()),
    "no endpoint": ([endpoint_slice("a", NAMED, "")], ()),
    "another Service": (
        [endpoint_slice("a", NAMED, ""), endpoint_slice("b", NAMED, "{addresses: [127.0.0.5]}", "t")], ()),
}


@pytest.mark.parametrize("name", SLICES)
def test_endpoints(name):
    texts, addresses = SLICES[name]
    graph = attach(of(*texts, route(rules=backend("{name: s, port: 80}"))), FILES)
    target = graph.targets["default/s:80/http"]
    assert (target.source, target.addresses) == ("slices", addresses)


EXTERNAL = """
apiVersion: v1
kind: Service
metadata: {name: e}
spec: {type: ExternalName, externalName: db.example.net}
---
apiVersion: v1
kind: Service
metadata: {name: e2}
spec: {type: ExternalName, externalName: db.example.net, ports: [{port: 80, targetPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: same}
spec: {clusterIP: None, ports: [{name: a, port: 81}, {name: b, port: 82, targetPort: web}]}
"""
TEMPLATE = GraphOptions(dns_templates=("{name}.{namespace}.svc",))
NAMES = {
    "no Service": ("{name: api, port: 80}", FILES, ("api.default", "api"), 80),
    "a Service without slices": ("{name: s, port: 80}", FILES, ("s.default", "s"), 8080),
    "its target port is its port": ("{name: same, port: 81}", FILES, ("same.default", "same"), 81),
    "its target port is a name": ("{name: same, port: 82}", FILES, ("same.default", "same"), 82),
    "an ExternalName with a target port": ("{name: e2, port: 80}", FILES, ("db.example.net",), 5432),
    "an ExternalName": ("{name: e, port: 5432}", FILES, ("db.example.net",), 5432),
    "an ExternalName, strictly": ("{name: e, port: 5432}", EVERYTHING, ("db.example.net",), 5432),
    "a template": ("{name: api, port: 80}", TEMPLATE, ("api.default.svc",), 80),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_to_look_up(name):
    ref, options, hosts, port = NAMES[name]
    graph = attach(of(EXTERNAL, route(rules=backend(ref))), options)
    target = graph.targets[first_backend(graph).target]
    assert (target.source, target.hosts, target.host_port) == ("dns", hosts, port)
    check(graph, "HTTPRoute/default/r@g ResolvedRefs=True/ResolvedRefs")


def test_slices_of_names_are_endpoints_each_with_its_port():
    texts = [endpoint_slice("a", NAMED, "{addresses: [b.example.net]}, {addresses: [a.example.net, c]}", kind="FQDN"),
             endpoint_slice("b", "{name: web, port: 7070}", "{addresses: [d.example.net]}", kind="FQDN")]
    expected = (("a.example.net", 9090), ("b.example.net", 9090), ("c", 9090), ("d.example.net", 7070))
    target = attach(of(*texts, route(rules=backend("{name: s, port: 80}"))), FILES).targets["default/s:80/http"]
    assert (target.source, target.names, target.addresses, target.hosts) == ("slices", expected, (), ())
    beside = endpoint_slice("c", NAMED, "{addresses: [10.0.0.1]}")
    target = attach(of(*texts, beside, route(rules=backend("{name: s, port: 80}"))), FILES).targets["default/s:80/http"]
    assert (target.names, target.addresses) == (expected, (("10.0.0.1", 9090),))


def test_a_strict_service_without_slices_has_no_endpoints():
    target = attach(of(route(rules=backend("{name: s, port: 80}"))), EVERYTHING).targets["default/s:80/http"]
    assert (target.source, target.addresses) == ("slices", ())


# ---- BackendTLSPolicy


def policy(name="p", section="", validation="{hostname: a.example, wellKnownCACertificates: System}", target="s"):
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}}}
spec: {{targetRefs: [{{group: "", kind: Service, name: {target}{section}}}], validation: {validation}}}
"""


ONE_CA = '{hostname: a.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: %s}]}'


@pytest.mark.parametrize(("texts", "hostname"), [
    ([policy()], "a.example"), ([policy(section=", sectionName: web")], "a.example"),
    ([policy(section=", sectionName: ws")], None), ([policy(target="other")], None),
    ([policy(), policy("q", section=", sectionName: web", validation="{hostname: b.example, wellKnownCACertificates: System}")],
     "b.example"),
    ([policy(validation=ONE_CA % "nowhere")], ""),
    ([policy(), policy("q", section=", sectionName: web", validation=ONE_CA % "nowhere")], ""),
], ids=["Service", "port", "another port", "another Service", "port before Service", "invalid", "invalid for the port"])
def test_what_a_policy_protects_is_sent_over_tls_or_not_at_all(texts, hostname):
    graph = attach(of(*texts, route(rules=backend("{name: s, port: 80}"))), FILES)
    node = first_backend(graph)
    check(graph, "HTTPRoute/default/r@g ResolvedRefs=True")  # what is wrong is wrong with the policy
    if hostname == "":
        assert (node.target, node.status) == ("", 500)
    else:
        tls = graph.targets[node.target].tls
        assert (node.status, tls and tls.hostname) == (0, hostname)
        assert node.target.startswith("default/s:80/http@" if hostname else "default/s:80/http")
        assert graph.targets[node.target].key == node.target


@pytest.mark.parametrize(("port", "kind", "target"), [
    (83, "HTTPRoute", "default/s:83/http@"), (84, "HTTPRoute", "default/s:84/ws@"), (81, "HTTPRoute", "default/s:81/ws@"),
    (80, "GRPCRoute", "default/s:80/h2c@"), (82, "TCPRoute", "default/s:82/tcp@"), (53, "UDPRoute", "default/s:53/udp"),
])
def test_what_is_spoken_over_tls(port, kind, target):
    found = of(policy(), route(rules=backend(f"{{name: s, port: {port}}}"), kind=kind))
    node = first_backend(attach(found, FILES), kind=kind)
    assert node.target.startswith(target) and ("@" in node.target) == ("@" in target)


def test_tls_that_passes_through_is_not_wrapped_again():
    text = route(rules=backend("{name: s, port: 80}"), kind="TLSRoute", more=", hostnames: [a.example]")
    node = first_backend(attach(of(policy(), text), FILES), kind="TLSRoute")
    assert node.target.startswith("default/s:80/tcp@") and node.passed == "default/s:80/tcp"
    node = first_backend(attach(of(policy(validation=ONE_CA % "nowhere"), text), FILES), kind="TLSRoute")
    assert (node.target, node.passed, node.status) == ("", "default/s:80/tcp", 500)


def test_a_policy_and_its_authorities_come_and_go():
    attacher, found = Attacher(FILES), of(route(rules=backend("{name: s, port: 80}")))
    protected = found | resources(policy(validation=ONE_CA % "ca"))
    ca, other_ca = ({each.key: each} for each in (pki.authority("default", "ca"), pki.authority("default", "ca", "b")))
    seen = [attacher.attach(each) for each in (
        found, protected, protected | ca, protected | other_ca, found)]
    nodes = [first_backend(graph) for graph in seen]
    assert [node.status for node in nodes] == [0, 500, 0, 0, 0]
    assert len({node.target for node in nodes}) == 4 and nodes[0].target == nodes[4].target
    assert list(seen[4].targets) == ["default/s:80/http"]


def test_policy_conditions():
    found = of(
        policy("option", section=", sectionName: tls").replace("validation:", "options: {example.net/a: b}, validation:"),
        policy("fine", section=", sectionName: web"), policy("later", section=", sectionName: web"),
        policy("ca", section=", sectionName: ws", validation=ONE_CA % "ca"),
        policy("no-port", section=", sectionName: nowhere"), policy("whole"),
        policy("other", section=", sectionName: h2c",
               validation="{hostname: a.example, wellKnownCACertificates: example.net/Set}"),
        route(rules=backend("{name: s, port: 80}")),
    )
    ca = pki.authority("default", "ca")
    found[ca.key] = ca
    check(
        attach(found, EVERYTHING), "BackendTLSPolicy/default/fine Accepted=True ResolvedRefs=True",
        "BackendTLSPolicy/default/later Accepted=False/Conflicted", "BackendTLSPolicy/default/ca Accepted=True",
        "BackendTLSPolicy/default/no-port Accepted=False/TargetNotFound",
        "BackendTLSPolicy/default/whole Accepted=True",
        "BackendTLSPolicy/default/other Accepted=False/Invalid",
        "BackendTLSPolicy/default/option Accepted=False/Invalid ResolvedRefs=True",
    )


# ---- XBackendTrafficPolicy


def traffic(name="t", target="s", says="retryConstraint: {}", day=1):
    return f"""
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {{name: {name}, creationTimestamp: "2026-01-0{day}T00:00:00Z"}}
spec: {{targetRefs: [{{group: "", kind: Service, name: {target}}}], {says}}}
"""


PERCENT = "retryConstraint: {budget: {percent: %d}}"


@pytest.mark.parametrize(("texts", "percent"), [
    ([traffic()], 20), ([traffic(says=PERCENT % 0)], 0), ([traffic(target="other")], None),
    ([traffic(says="")], None), ([policy(), traffic()], 20),
    ([traffic(says=PERCENT % 1, day=2), traffic("u", says=PERCENT % 2)], 2), ([traffic("v", says=PERCENT % 1),
      traffic("u", says=PERCENT % 2)], 2),
], ids=["defaults", "none", "another Service", "says nothing", "over TLS", "the oldest", "the first by name"])
def test_what_a_policy_says_of_traffic_goes_with_the_target(texts, percent):
    graph = attach(of(*texts, route(rules=backend("{name: s, port: 80}"))), FILES)
    node = first_backend(graph)
    target = graph.targets[node.target]
    assert node.traffic == target.traffic
    assert (target.traffic and target.traffic.retry.budget.percent) == percent
    assert target.key == node.target and node.target.startswith("default/s:80/http")


@pytest.mark.parametrize(("kind", "port", "has"), [
    ("HTTPRoute", 80, True), ("GRPCRoute", 80, True), ("HTTPRoute", 84, True), ("TCPRoute", 82, False), ("UDPRoute", 53, False),
])
def test_traffic_is_that_of_requests(kind, port, has):
    found = of(policy(), traffic(), route(rules=backend(f"{{name: s, port: {port}}}"), kind=kind))
    assert bool(first_backend(attach(found, FILES), kind=kind).traffic) == has


def test_conditions_of_policies_about_traffic():
    found = of(traffic(day=2), traffic("younger", day=3), traffic("nowhere", target="nowhere"), policy(),
               traffic("other").replace('group: ""', "group: x.io"),
               route(rules=backend("{name: s, port: 80}, {name: nowhere, port: 80}")))
    graph = attach(found, EVERYTHING)
    check(graph, "XBackendTrafficPolicy/default/t Accepted=True", "BackendTLSPolicy/default/p Accepted=True",
          "XBackendTrafficPolicy/default/younger Accepted=False/Conflicted",
          "XBackendTrafficPolicy/default/nowhere Accepted=False/TargetNotFound")
    other = graph.policies["XBackendTrafficPolicy", "default", "other"]  # has no ancestor that its status could be for
    assert (other.accepted, other.ancestors, other.conditions[0].reason) == (False, (), "TargetNotFound")


@pytest.mark.parametrize(("name", "fine"), [
    ("me", True), ("''", True), ("__Host-me", True), ("'a b'", False), ("'a;b'", False), ("'a=b'", False), (r'"a\r\nb: c"', False),
    ('"\u00e4"', False),
])
def test_a_session_has_a_name_that_can_be_written(name, fine):
    found = of(traffic(says=f"retryConstraint: {{}}, sessionPersistence: {{sessionName: {name}}}"),
               route(rules=backend("{name: s, port: 80}")))
    graph = attach(found, FILES)
    check(graph, f"XBackendTrafficPolicy/default/t Accepted={'True' if fine else 'False/Invalid'}")
    assert bool(first_backend(graph).traffic) == fine
    assert [one.field for one in problems(graph) if one.reason == "Invalid"] == (
        [] if fine else ["spec.sessionPersistence.sessionName"])


def test_an_option_of_a_policy_that_is_not_known_is_told():
    found = of(policy().replace("validation:", "options: {example.net/a: b}, validation:"))
    assert ("spec.options[example.net/a]", "Invalid") in [(one.field, one.reason) for one in problems(attach(found, FILES))]


def test_nothing_that_a_traffic_policy_says_is_left_out():
    assert problems(attach(of(traffic(says="retryConstraint: {}, sessionPersistence: {cookie: {}}")), FILES)) == []


# ---- Filters and rules that are not served

MIRROR = "{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}}}"
AUTH = "{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: %s, port: 80}}}"
EXTENSION = "{type: ExtensionRef, extensionRef: {group: example.net, kind: Wasm, name: x}}"
CORS = "{type: CORS, cors: {allowOrigins: ['*']}}"
HEADERS = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}"


def filtered(filters, on_backend):
    """A graph with a rule that has these filters, or whose backendRef has them: the graph, the rule, and who has them."""
    inner = f", filters: [{filters}]"
    ref = f"{{name: s, port: 80{inner if on_backend else ''}}}"
    graph = attach(of(route(rules=f"{{backendRefs: [{ref}]{'' if on_backend else inner}}}")), EVERYTHING)
    rule = graph.routes[Key("HTTPRoute", "default", "r")].rules[0]
    return graph, rule, rule.backends[0] if on_backend else rule


@pytest.mark.parametrize(("filters", "index", "reason", "resolved"), [
    (f"{HEADERS}, {EXTENSION}", 1, "InvalidKind", "False/InvalidKind"),
    (f"{CORS}, {AUTH % 'nowhere'}", 1, "UnsupportedValue", "False/BackendNotFound"), (AUTH % "nowhere", 0, "UnsupportedValue", "False/BackendNotFound"),
])
@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backendRef"])
def test_a_filter_that_is_not_served_is_answered(filters, index, reason, resolved, on_backend):
    graph, rule, _ = filtered(filters, on_backend)
    refused = rule.backends[0].refused if on_backend else rule.refused
    assert [(one.index, one.status, one.reason) for one in refused] == [(index, 500, reason)]
    check(graph, f"HTTPRoute/default/r@g Accepted=True PartiallyInvalid=True ResolvedRefs={resolved}")
    place = f"spec.rules[0]{'.backendRefs[0]' if on_backend else ''}.filters[{index}]"
    missing = [f"{place}.externalAuth.backendRef"] if resolved.endswith("BackendNotFound") else []
    assert [one.field for one in problems(graph)] == [place, *missing]


@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backendRef"])
def test_mirrors_lead_somewhere_or_are_dropped(on_backend):
    graph, rule, node = filtered(f"{HEADERS}, {MIRROR % 'nowhere'}, {MIRROR % 's'}", on_backend)
    assert [(each.index, each.target) for each in node.filter_targets] == [(1, ""), (2, rule.backends[0].target)] and not node.refused
    check(graph, "HTTPRoute/default/r@g Accepted=True PartiallyInvalid=absent ResolvedRefs=False/BackendNotFound")
    place = f"spec.rules[0]{'.backendRefs[0]' if on_backend else ''}.filters[1].requestMirror.backendRef"
    assert [one.field for one in problems(graph)] == [place]


ASK = "{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: %s, port: 80}}}"


@pytest.mark.parametrize(("name", "on_backend", "words", "resolved"), [
    ("s", False, "", "True"), ("nowhere", False, "its authorizer cannot be asked", "False/BackendNotFound"),
    ("s", True, "", "True"), ("nowhere", True, "its authorizer cannot be asked", "False/BackendNotFound")])
def test_an_authorizer_that_cannot_be_asked_is_500(name, on_backend, words, resolved):
    graph, rule, node = filtered(f"{HEADERS}, {ASK % name}", on_backend)
    assert [(each.index, each.status, each.message) for each in node.refused] == ([(1, 500, words)] if words else [])
    assert [(each.index, each.target) for each in node.filter_targets] == ([] if words else [(1, rule.backends[0].target)])
    check(graph, f"HTTPRoute/default/r@g Accepted=True ResolvedRefs={resolved}")


@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backendRef"])
def test_an_authorizer_over_grpc_speaks_http2_whatever_its_port_says(on_backend):
    graph, rule, node = filtered(f"{AUTH % 's'}", on_backend)
    assert [each.target for each in node.filter_targets] == [rule.backends[0].target.replace("/http", "/h2c")] and not node.refused
    check(graph, "HTTPRoute/default/r@g PartiallyInvalid=absent Accepted=True ResolvedRefs=True")


def test_filters_that_are_served_leave_no_trace():
    graph = attach(of(route(rules=f"{{filters: [{HEADERS}, {CORS}], backendRefs: [{{name: s, port: 80}}]}}")), EVERYTHING)
    check(graph, "HTTPRoute/default/r@g PartiallyInvalid=absent Accepted=True ResolvedRefs=True")
    assert not problems(graph)


PREFIX = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}"
REDIRECT = "{type: RequestRedirect, requestRedirect: {hostname: a.example}}"
BAD = {
    "ReplacePrefixMatch without a prefix": (
        f"{{matches: [{{path: {{type: Exact, value: /a}}}}], filters: [{PREFIX}]}}", "UnsupportedValue"),
    "redirect and rewrite": (f"{{filters: [{REDIRECT}, {PREFIX}]}}", "IncompatibleFilters"),
    "an expression that cannot be served": (
        "{matches: [{path: {type: RegularExpression, value: 'bad'}}]}", "UnsupportedValue"),
    "an expression for a header": (
        "{matches: [{headers: [{type: RegularExpression, name: a, value: 'bad'}]}]}", "UnsupportedValue"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_rule_that_cannot_be_served_is_dropped(name):
    bad, reason = BAD[name]
    fine = "{matches: [{path: {type: RegularExpression, value: '/good'}}], backendRefs: [{name: s, port: 80}]}"

    def graph(rules):
        return Attacher(EVERYTHING, lambda pattern: "no" if pattern == "bad" else None).attach(of(route(rules=rules)))

    some, none = graph(f"{fine}, {bad}"), graph(bad)
    name = "HTTPRoute/default/r@g"
    check(some, f"{name} Accepted=True PartiallyInvalid=True", "Gateway/default/g#web attached=1")
    check(none, f"{name} Accepted=False/{reason} PartiallyInvalid=absent", "Gateway/default/g#web attached=0")
    assert [rule.dropped for rule in some.routes[Key("HTTPRoute", "default", "r")].rules] == ["", reason]
    condition = some.routes[Key("HTTPRoute", "default", "r")].parents[0].conditions[2]
    assert condition.message.startswith("Dropped Rule 1")
    for each in (some, none):
        assert [(one.severity, one.reason) for one in problems(each)] == [("error", reason)]


@pytest.mark.parametrize(("session", "message"), [
    ("{sessionName: 'a;b'}", "'a;b' is not the name of a cookie or header"),
    ("{sessionName: Content-Length, type: Header}", "Content-Length is not for sessions"),
    ("{sessionName: x_y, type: Header}", "'x_y' has a '_'"),
    ("{sessionName: x_y}", ""), ("{cookie: {name: x_y}}", ""), ("{cookie: {}}", ""),
    ("{type: Header, header: {name: Host}}", "Host is not for sessions"),
    ("{type: Header, header: {name: x_y}}", "'x_y' has a '_'"),
    ("{cookie: {path: shop}}", "'shop' is not the path of a cookie"),
    ("{cookie: {path: '/a; Secure'}}", "'/a; Secure' is not the path of a cookie"),
], ids=("no token", "framing", "underscore", "underscore in a cookie", "and by its new name", "no name", "framing, new",
        "underscore, new", "a path", "a path that says more"))
def test_the_name_of_a_session(session, message):
    graph = attach(of(route(rules=f"{{timeouts: {{request: 1s}}, retry: {{attempts: 2}}, sessionPersistence: {session}}}")), EVERYTHING)
    found = [(one.field, one.severity, one.reason, one.message[:len(message)]) for one in problems(graph)]
    field = next(each for name, each in (("sessionName", "sessionName"), ("path", "cookie.path"), ("header", "header.name"),
                                         ("", "cookie.name")) if name in session)
    assert found == ([(f"spec.rules[0].sessionPersistence.{field}", "error", "UnsupportedValue", message)] if message else [])
    check(graph, f"HTTPRoute/default/r@g Accepted={not message} ResolvedRefs=True")


# ---- Parents


def test_parents_that_are_not_there():
    parents = "{name: nowhere}, {name: g, sectionName: web}, {kind: Service, group: '', name: s}"
    graph = attach(of(route(rules="{}", parents=parents)), FILES)
    node = graph.routes[Key("HTTPRoute", "default", "r")]
    assert [(parent.index, parent.accepted) for parent in node.parents] == [(1, True)]
    assert [(one.field, one.severity) for one in problems(graph)] == [
        ("spec.parentRefs[0]", "error"), ("spec.parentRefs[2]", "note")
    ]


def test_a_route_without_parents_is_told():
    told = problems(attach(of(route(rules="{}", parents="")), FILES))
    assert [(one.field, one.severity) for one in told] == [("spec.parentRefs", "warning")]


def test_a_policy_for_a_port_whose_name_is_not_known_protects_it():
    found = of(policy(section=", sectionName: web", target="api"), route(rules=backend("{name: api, port: 80}")))
    assert first_backend(attach(found, FILES)).reason == "UnsupportedProtocol"


def test_two_parent_refs_to_one_listener_attach_once():
    parents = "{name: g, sectionName: web}, {name: g, port: 80}"
    graph = attach(of(route(rules=backend("{name: s, port: 80}"), parents=parents)), FILES)
    assert len(graph.listeners["default/g/web"].attachments) == 1
    assert [parent.listeners for parent in graph.routes[Key("HTTPRoute", "default", "r")].parents] == [
        ("default/g/web",), ("default/g/web",)
    ]


def test_hostnames_are_those_in_common():
    text = route(rules="{}", parents="{name: g}", more=", hostnames: [a.example, b.net]")
    graph = attach(of(text), FILES)
    assert graph.listeners["default/g/web"].attachments[0].hostnames == ("a.example", "b.net")
    assert graph.listeners["default/g/named"].attachments[0].hostnames == ("a.example",)
