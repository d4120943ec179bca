# ruff: noqa: UP031  YAML in its flow style is full of braces
"""Every old shape of spec.md, section 6, becomes the v1 resource that it meant, and says so; none is an error."""
import msgspec
import pytest

from gwfast.config.load import load
from gwfast.config.model import KINDS, Key

V1 = "gateway.networking.k8s.io/v1"
OLD = "networking.x-k8s.io/v1alpha1"


def loaded(folder, text: str):
    folder.joinpath("all.yaml").write_text(text)
    return load([str(folder)])


def spec(resource) -> dict:
    """What was written, without defaults."""
    return resource.spec


SHAPES = {
    "v1alpha1 with parentRefs is the v1alpha2 shape": ("""
apiVersion: gateway.networking.k8s.io/v1alpha1
kind: HTTPRoute
spec:
  parentRefs: [{name: g}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}}]
    backendRefs: [{name: s, port: 80}]
""", """
kind: HTTPRoute
spec:
  parentRefs: [{name: g}]
  rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: s, port: 80}]}]
"""),
    "v1alpha1 with a mapping of header values": ("""
apiVersion: gateway.networking.k8s.io/v1alpha1
kind: HTTPRoute
spec:
  parentRefs: [{name: g}]
  rules:
  - matches: [{headers: {type: Exact, values: {env: canary, x: '1'}}}]
    backendRefs: [{name: s, port: 80}]
  - matches: [{headers: [{values: {a: b}}]}]
""", """
kind: HTTPRoute
spec:
  parentRefs: [{name: g}]
  rules:
  - matches: [{headers: [{name: env, value: canary}, {name: x, value: '1'}]}]
    backendRefs: [{name: s, port: 80}]
  - matches: [{headers: [{name: a, value: b}]}]
"""),
    "v1alpha2 routes are as v1": ("""
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: HTTPRoute
spec: {hostnames: [a.b], rules: [{matches: [{queryParams: [{name: a, value: b}], method: GET}]}]}
""", """
kind: HTTPRoute
spec: {hostnames: [a.b], rules: [{matches: [{queryParams: [{name: a, value: b}], method: GET}]}]}
"""),
    "ReferencePolicy": ("""
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: ReferencePolicy
spec: {from: [{group: g.io, kind: HTTPRoute, namespace: ns}], to: [{group: '', kind: Service}]}
""", """
kind: ReferenceGrant
spec: {from: [{group: g.io, kind: HTTPRoute, namespace: ns}], to: [{group: '', kind: Service}]}
"""),
    "BackendTLSPolicy v1alpha2": ("""
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: BackendTLSPolicy
spec:
  targetRef: {group: '', kind: Service, name: s, namespace: default}
  tls: {caCertRefs: [{group: '', kind: ConfigMap, name: c}], hostname: a.b}
""", """
kind: BackendTLSPolicy
spec:
  targetRefs: [{group: '', kind: Service, name: s}]
  validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: c}], hostname: a.b}
"""),
    "BackendTLSPolicy v1alpha2, well-known certificates": ("""
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: BackendTLSPolicy
spec: {targetRef: {group: '', kind: Service, name: s}, tls: {wellKnownCACerts: System, hostname: a.b}}
""", """
kind: BackendTLSPolicy
spec:
  targetRefs: [{group: '', kind: Service, name: s}]
  validation: {wellKnownCACertificates: System, hostname: a.b}
"""),
    "BackendTLSPolicy v1alpha3 is as v1": ("""
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: BackendTLSPolicy
spec:
  targetRefs: [{group: '', kind: Service, name: s}]
  validation: {wellKnownCACertificates: System, hostname: a.b}
""", """
kind: BackendTLSPolicy
spec:
  targetRefs: [{group: '', kind: Service, name: s}]
  validation: {wellKnownCACertificates: System, hostname: a.b}
"""),
    "TLSRoute v1alpha2 without hostnames, with two rules": ("""
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
spec: {rules: [{backendRefs: [{name: s, port: 1}]}, {backendRefs: [{name: t, port: 1}]}]}
""", """
kind: TLSRoute
spec: {rules: [{backendRefs: [{name: s, port: 1}]}, {backendRefs: [{name: t, port: 1}]}]}
"""),
    "XListenerSet": ("""
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XListenerSet
spec:
  parentRef: {name: g}
  listeners: [{name: a, protocol: HTTP}, {name: b, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}]
""", """
kind: ListenerSet
spec:
  parentRef: {name: g}
  listeners:
  - {name: a, protocol: HTTP, port: 80}
  - {name: b, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: c}]}}
"""),
    "x GatewayClass": (f"""
apiVersion: {OLD}
kind: GatewayClass
spec: {{controller: a.b/c, parametersRef: {{group: core, kind: ConfigMap, name: x, namespace: ns, scope: Namespace}}}}
""", """
kind: GatewayClass
spec: {controllerName: a.b/c, parametersRef: {group: '', kind: ConfigMap, name: x, namespace: ns}}
"""),
    "x Gateway": (f"""
apiVersion: {OLD}
kind: Gateway
spec:
  gatewayClassName: c
  listeners:
  - {{protocol: HTTP, port: 80, hostname: '*', routes: {{kind: HTTPRoute, namespaces: {{from: All}}}}}}
  - protocol: HTTPS
    port: 443
    tls: {{mode: Terminate, certificateRef: {{group: core, kind: Secret, name: s}}}}
    routes: {{group: {OLD.partition("/")[0]}, kind: HTTPRoute, selector: {{matchLabels: {{a: b}}}}}}
""", """
kind: Gateway
spec:
  gatewayClassName: c
  listeners:
  - {name: listener-0, protocol: HTTP, port: 80,
     allowedRoutes: {namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}}
  - {name: listener-1, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: s}]},
     allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
"""),
    "x HTTPRoute": (f"""
apiVersion: {OLD}
kind: HTTPRoute
spec:
  hostnames: [a.b]
  rules:
  - matches:
    - path: {{type: Prefix, value: /a}}
      headers: {{type: Exact, values: {{h: v}}}}
      queryParams: {{type: RegularExpression, values: {{q: w}}}}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {{set: {{x: '1'}}, add: {{w: '2'}}, remove: [z]}}
    - {{type: RequestMirror, requestMirror: {{serviceName: m, port: 81}}}}
    forwardTo:
    - {{serviceName: s, port: 80, weight: 3}}
    - backendRef: {{group: core, kind: Service, name: t}}
      port: 8080
      filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{add: {{p: q}}}}}}]
""", """
kind: HTTPRoute
spec:
  hostnames: [a.b]
  rules:
  - matches:
    - path: {type: PathPrefix, value: /a}
      headers: [{name: h, value: v}]
      queryParams: [{type: RegularExpression, name: q, value: w}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x, value: '1'}], add: [{name: w, value: '2'}], remove: [z]}
    - {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 81}}}
    backendRefs:
    - {name: s, port: 80, weight: 3}
    - name: t
      port: 8080
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: p, value: q}]}}]
"""),
    "x TLSRoute": (f"""
apiVersion: {OLD}
kind: TLSRoute
spec: {{rules: [{{matches: [{{snis: [a.b, '*.c']}}, {{snis: [a.b]}}], forwardTo: [{{serviceName: s, port: 1}}]}}]}}
""", """
kind: TLSRoute
spec: {hostnames: [a.b, '*.c'], rules: [{backendRefs: [{name: s, port: 1}]}]}
"""),
    "x TCPRoute": (f"""
apiVersion: {OLD}
kind: TCPRoute
spec: {{rules: [{{forwardTo: [{{serviceName: s, port: 1}}]}}]}}
""", """
kind: TCPRoute
spec: {rules: [{backendRefs: [{name: s, port: 1}]}]}
"""),
    "x UDPRoute": (f"""
apiVersion: {OLD}
kind: UDPRoute
spec: {{rules: [{{forwardTo: [{{backendRef: {{group: x.io, kind: Yy, name: s}}}}]}}]}}
""", """
kind: UDPRoute
spec: {rules: [{backendRefs: [{group: x.io, kind: Yy, name: s}]}]}
"""),
    "x BackendPolicy": (f"""
apiVersion: {OLD}
kind: BackendPolicy
spec:
  backendRefs: [{{group: core, kind: Service, name: s}}]
  tls: {{certificateAuthorityRef: {{group: core, kind: ConfigMap, name: c}}, options: {{a: b}}}}
""", """
kind: BackendTLSPolicy
spec:
  targetRefs: [{group: '', kind: Service, name: s}]
  validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: c}], hostname: s.default.svc}
  options: {a: b}
"""),
}


@pytest.mark.parametrize("old, new", SHAPES.values(), ids=SHAPES)
def test_old_shape_is_read_as_v1(tmp_path, old, new):
    old, new = ((text + "metadata: {name: x}\n").lstrip() for text in (old, new))
    (found,) = (result := loaded(tmp_path, old)).resources.values()
    expected = msgspec.yaml.decode(new, type=KINDS["gateway.networking.k8s.io", found.kind])
    assert found.spec == expected.spec
    assert found.api_version == V1
    assert "OldVersion" in {problem.reason for problem in result.problems}
    assert "error" not in {problem.severity for problem in result.problems}


def test_old_version_is_said_once_per_file(tmp_path):
    text = "---\n".join(
        f"apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\nmetadata: {{name: r{n}}}\nspec: {{}}\n"
        for n in range(3)
    )
    (problem,) = loaded(tmp_path, text).problems
    assert (problem.severity, problem.source.line) == ("note", 1)
    assert "(3 resources)" in problem.message


NO_FORM = [
    ("HTTPRoute", "{rules: [{matches: [{extensionRef: {group: a, kind: B, name: c}}]}]}", "spec.rules[0].matches", 4),
    ("HTTPRoute", "\n  tls: {certificateRef: {group: core, kind: Secret, name: s}}", "spec.tls", 5),
    ("HTTPRoute", "{rules: [{matches: [{path: {type: ImplementationSpecific, value: /a}}]}]}",
     "spec.rules[0].matches[0].path.type", 4),
    ("Gateway", "{gatewayClassName: c, listeners: [{port: 443, protocol: HTTPS, "
     "tls: {certificateRef: {kind: Secret, name: s}, routeOverride: {certificate: Allow}}}]}",
     "spec.listeners[0].tls.routeOverride", 4),
    ("TCPRoute", "{rules: [{forwardTo: [{serviceName: s, port: 1}]}, {forwardTo: [{serviceName: t, port: 1}]}]}",
     "spec.rules[1]", 4),
    ("BackendPolicy", "{backendRefs: [{group: core, kind: Service, name: s, port: 1}], "
     "tls: {certificateAuthorityRef: {group: core, kind: ConfigMap, name: c}}}", "spec.backendRefs", 4),
]


@pytest.mark.parametrize("kind, text, field, line", NO_FORM, ids=[f"{case[0]}-{case[2]}" for case in NO_FORM])
def test_what_has_no_v1_form_is_a_warning_with_its_place(tmp_path, kind, text, field, line):
    result = loaded(tmp_path, f"apiVersion: {OLD}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {text}\n")
    found = [problem for problem in result.problems if problem.field == field]
    assert [(problem.severity, problem.reason, problem.source.line) for problem in found] == [
        ("warning", "NoV1Form", line)
    ]
    assert len(result.resources) == 1


@pytest.mark.parametrize("value", ["5", "[]", "x", "{spec: 5}", "{spec: {rules: 5}}", "{spec: {rules: [5, [], {}]}}",
                                   "{spec: {gateways: 5, rules: [{forwardTo: [5], matches: [5], filters: [5]}]}}",
                                   "{spec: {listeners: [5, {routes: 5, tls: 5}]}}", "{spec: {backendRefs: 5, tls: 5}}",
                                   "{spec: {targetRef: 5, tls: 5, rules: [{matches: [{headers: {values: 5}}]}]}}",
                                   "{spec: {rules: [{matches: [{snis: 5, headers: [5]}]}]}, metadata: 5}",
                                   "{spec: {listeners: [{routes: {selector: 5, namespaces: 5, group: []}}]}}"])
@pytest.mark.parametrize("api_version, kind", [
    *[(OLD, kind) for kind in ("GatewayClass", "Gateway", "HTTPRoute", "TLSRoute", "TCPRoute", "BackendPolicy")],
    ("gateway.networking.k8s.io/v1alpha1", "HTTPRoute"), ("gateway.networking.k8s.io/v1alpha2", "BackendTLSPolicy"),
    ("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet"),
])
def test_nonsense_in_an_old_shape_is_a_problem_and_no_exception(tmp_path, api_version, kind, value):
    body = value if value.startswith("{") else "{spec: %s}" % value
    text = "{apiVersion: %s, kind: %s, %s" % (api_version, kind, body[1:])
    result = loaded(tmp_path, text)
    assert result.resources == {}
    assert "error" in {problem.severity for problem in result.problems}


GATEWAYS = f"""
apiVersion: {OLD}
kind: Gateway
metadata: {{name: g, namespace: infra}}
spec:
  gatewayClassName: c
  listeners:
  - {{protocol: HTTP, port: 80, routes: {{kind: HTTPRoute, selector: {{matchLabels: {{app: web}}}},
     namespaces: {{from: NAMESPACES}}}}}}
  - {{protocol: TCP, port: 81, routes: {{kind: TCPRoute, namespaces: {{from: All}}}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: apps, labels: {{team: a}}}}
---
apiVersion: {OLD}
kind: HTTPRoute
metadata: {{name: r, namespace: apps, labels: {{app: LABEL}}}}
spec:
  GATEWAYS
  rules: [{{forwardTo: [{{serviceName: s, port: 80}}]}}]
"""
SELECTED = [("infra", "g", "listener-0")]


@pytest.mark.parametrize("namespaces, label, gateways, expected", [
    ("All", "web", "gateways: {allow: All}", SELECTED),
    ("All", "other", "gateways: {allow: All}", []),
    ("All", "web", "gateways: {allow: FromList, gatewayRefs: [{name: g, namespace: infra}]}", SELECTED),
    ("All", "web", "gateways: {allow: FromList, gatewayRefs: [{name: h, namespace: infra}]}", [("infra", "h", None)]),
    ("All", "web", "gateways: {allow: SameNamespace}", []),
    ("All", "web", "", []),
    ("Same", "web", "gateways: {allow: All}", []),
    ("Selector, selector: {matchLabels: {team: a}}", "web", "gateways: {allow: All}", SELECTED),
    ("Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a]}]}", "web",
     "gateways: {allow: All}", SELECTED),
    ("Selector, selector: {matchLabels: {team: b}}", "web", "gateways: {allow: All}", []),
    ("All", "web", "gateways: {allow: All}\n  parentRefs: [{name: mine}]", [(None, "mine", None)]),
])
def test_old_gateways_select_old_routes(tmp_path, namespaces, label, gateways, expected):
    text = GATEWAYS.replace("NAMESPACES", namespaces).replace("LABEL", label).replace("GATEWAYS", gateways)
    result = loaded(tmp_path, text)
    assert "error" not in {problem.severity for problem in result.problems}
    route = result.resources[Key("HTTPRoute", "apps", "r")]
    assert [(ref.namespace, ref.name, ref.section_name) for ref in route.spec.parent_refs] == expected
    assert (route.source.line, route.metadata.generation) == (16, 1)


def test_app_protocol_annotation_is_for_ports_that_have_none(tmp_path):
    result = loaded(tmp_path, """
apiVersion: v1
kind: Service
metadata: {name: s, annotations: {networking.x-k8s.io/app-protocol: kubernetes.io/h2c}}
spec: {ports: [{port: 1}, {port: 2, name: x, appProtocol: http}]}
""")
    (service,) = result.resources.values()
    assert [port.app_protocol for port in service.spec.ports] == ["kubernetes.io/h2c", "http"]


@pytest.mark.parametrize("api_version, kind", [
    ("gateway.networking.x-k8s.io/v1alpha1", "XMesh"), ("apps/v1", "Deployment"),
    ("v1", "Pod"), ("v1", "ServiceAccount"), ("v1", "Endpoints"), ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"), ("networking.istio.io/v1", "Gateway"), ("gateway.solo.io/v1", "Gateway"),
    ("serving.knative.dev/v1", "Service"), ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"), ("gwfast.dev/v1alpha1", "Other"),
    ("multicluster.x-k8s.io/v1alpha1", "ServiceImport"), ("cert-manager.io/v1", "Certificate"), ("traefik.io/v1alpha1", "IngressRoute"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("inference.networking.k8s.io/v1", "InferencePool"),
])
def test_other_kinds_are_skipped_with_a_note(tmp_path, api_version, kind):
    result = loaded(tmp_path, f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n")
    assert result.resources == {}
    assert [(problem.severity, problem.message) for problem in result.problems] == [
        ("note", f"{api_version} {kind} is not read here, skipped")]


@pytest.mark.parametrize("api_version, kind, meant", [
    ("gateway.networking.k8s.io/v2", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1alpha", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "HttpRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "HTTPRoutes", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "HTTPRout", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "Gatway", "gateway.networking.k8s.io/v1 Gateway"),
    ("gateway.networking.k8s.io/v1", "ReferencePolicy", "gateway.networking.k8s.io/v1beta1 ReferencePolicy"),
    ("gateway.networking.k8s.io", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8.io/v1", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "BackendPolicy", "gwfast.dev/v1alpha1 BackendPolicy"),
    ("gateway.network.k8s.io/v1", "HttpRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("networking.k8s.io/v1", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("v1", "HTTPRoute", "gateway.networking.k8s.io/v1 HTTPRoute"),
    ("v1", "EndpointSlice", "discovery.k8s.io/v1 EndpointSlice"),
    ("discovery.k8s.io/v2", "EndpointSlice", "discovery.k8s.io/v1 EndpointSlice"),
    ("apps/v1", "Service", "v1 Service"),
    ("v2", "service", "v1 Service"),
    ("v1", "Servce", "v1 Service"),
    ("gwfast.dev/v1", "PythonFilter", "gwfast.dev/v1alpha1 PythonFilter"),
    ("gateway.networking.x-k8s.io/v1", "XBackendTrafficPolicy", "gateway.networking.x-k8s.io/v1alpha1 XBackendTrafficPolicy"),
])
def test_kinds_that_are_all_but_ours_are_errors(tmp_path, api_version, kind, meant):
    (problem,) = loaded(tmp_path, f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n").problems
    assert (problem.severity, problem.reason) == ("error", "UnknownKind")
    assert problem.message == f"{api_version} {kind} does not exist, did you mean {meant}?"
