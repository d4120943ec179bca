"""XBackends and filters of listeners over changes: each graph is that of a fresh start from the same resources."""
import msgspec
import pytest
import yaml

from gwfast.config.load import load
from gwfast.config.model import Key
from gwfast.graph.attach import Attacher, attach
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import to_builtins

BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners:
  - name: web
    protocol: HTTP
    port: 80
    filters: {requests: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: auth, port: 80}}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: x}]}]
"""
PARTS = {
    "out": """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: x}
spec: {type: ExternalHostname, port: {number: 80}, externalHostname: {hostname: a.example}}
""",
    "pods": """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: x}
spec:
  type: EndpointSelector
  port: {number: 8080}
  endpointSelector: {matchLabels: {app: x}}
  tls: {mode: ServerOnly, validation: {hostname: x.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}
""",
    "clear": """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: x}
spec: {type: EndpointSelector, port: {number: 8080}, endpointSelector: {matchLabels: {app: x}}}
""",
    "selected": """
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {selector: {app: x}, ports: [{port: 80}]}
""",
    "more": """
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {selector: {app: x, tier: web}, ports: [{port: 80}]}
""",
    "slice": """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 1}]
endpoints: [{addresses: [10.0.0.1]}]
""",
    "auth": """
apiVersion: v1
kind: Service
metadata: {name: auth}
spec: {ports: [{port: 80}]}
""",
    "other port": """
apiVersion: v1
kind: Service
metadata: {name: auth}
spec: {ports: [{port: 81}]}
""",
    "policy": """
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec: {targetRefs: [{group: "", kind: Service, name: auth}], validation: {hostname: a.example, wellKnownCACertificates: System}}
""",
}


@pytest.fixture
def resources(tmp_path):
    def made(*parts: str) -> dict:
        (tmp_path / "all.yaml").write_text("\n---\n".join([BASE, *(PARTS[name] for name in parts)]))
        loaded = load([str(tmp_path)])
        assert not [one for one in loaded.problems if one.severity == "error"]
        return loaded.resources
    return made


def said(graph) -> dict:
    conditions = {str(key): [(one.type, one.status, one.reason, one.message) for one in node.conditions]
                  for nodes in (graph.listeners, graph.policies) for key, node in nodes.items()}
    return conditions | {"notes": sorted((one.reason, one.message) for one in graph.notes)}


STEPS = [(), ("out",), ("out", "auth"), ("out", "other port"), ("out", "auth", "policy"), ("clear", "auth"), ("clear", "selected", "auth"),
         ("clear", "selected", "slice"), ("clear", "more", "slice", "auth"), ("pods", "selected", "slice", "auth"),
         ("clear", "selected", "slice", "auth"), ("selected", "slice"), ()]


def test_a_change_gives_what_a_fresh_start_does(resources):
    attacher, builder = Attacher(), Builder()
    for step in STEPS:
        found = resources(*step)
        graph, fresh = attacher.attach(found), attach(found)
        assert said(graph) == said(fresh), step
        assert yaml.safe_dump(to_builtins(builder.build(graph))) == yaml.safe_dump(to_builtins(build(fresh))), step


def targets(graph) -> dict:
    return {key: (target.addresses, target.hosts) for key, target in graph.targets.items()}


@pytest.mark.parametrize("parts, expected", [
    (("out",), ((), ("a.example",))), (("clear",), ((), ())), (("clear", "more", "slice"), ((), ())),
    (("clear", "selected", "slice"), ((("10.0.0.1", 8080),), ())),
], ids=("a name", "no Service", "a Service that selects less", "Pods, at its own port"))
def test_where_an_x_backend_is(resources, parts, expected):
    found = targets(attach(resources(*parts, "auth")))
    (place,) = [value for key, value in found.items() if key.startswith("default/XBackend.x:")]
    assert place == expected


def test_authorities_that_are_not_there_are_not_asked_in_clear(resources):
    graph = attach(resources("pods", "selected", "slice", "auth"))
    assert not any("XBackend" in key for key in graph.targets)
    (node,) = [node for key, node in graph.policies.items() if key == Key("XBackend", "default", "x")]
    assert [(one.type, one.status, one.reason) for one in node.conditions] == [("Accepted", "False", "NoValidCACertificate")]
    assert msgspec.to_builtins(graph.routes[Key("HTTPRoute", "default", "r")].rules[0].backends[0].status) == 500
