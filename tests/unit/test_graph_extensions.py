"""Filters in Python in a cluster: where they may run, what their code is, and what statuses say where they do not."""
import msgspec
import pytest
from graph_cases import EVERYTHING, resources

from gwfast.config.model import GatewayParametersSpec, Key
from gwfast.parameters import merged
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.conditions import conditions, problems

CLUSTER = msgspec.structs.replace(EVERYTHING, controller_name="example.net/c", filters_by_class=True)
ROUTE, FILTER, CODE = Key("HTTPRoute", "default", "r"), Key("PythonFilter", "default", "f"), Key("ConfigMap", "default", "code")
PLACE = "{configMap: {name: code}, class: F}"


def world(of_class=None, own=None, spec=PLACE, parents="[{name: g}]", data="{filter.py: one}"):
    """A class that allows what `of_class` says, a Gateway with parameters of its own, and `shut` of a class without any."""
    parameters = "".join(f"""---
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: p, namespace: {namespace}}}
spec: {{{'' if given is None else f'pythonFilters: {str(given).lower()}'}}}
""" for namespace, given in (("infra", of_class), ("default", own)))
    return resources(f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: open}}
spec:
  controllerName: example.net/c
  parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: p, namespace: infra}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: plain}}
spec: {{controllerName: example.net/c}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  gatewayClassName: open
  listeners: [{{name: a, port: 80, protocol: HTTP}}]
  infrastructure: {{parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: p}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: shut}}
spec: {{gatewayClassName: plain, listeners: [{{name: a, port: 80, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  parentRefs: {parents}
  rules: [{{filters: [{{type: ExtensionRef, extensionRef: {{group: gwfast.dev, kind: PythonFilter, name: f}}}}]}}]
---
apiVersion: gwfast.dev/v1alpha1
kind: PythonFilter
metadata: {{name: f}}
spec: {spec}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: code}}
data: {data}
{parameters}""")


def code(graph):
    """The code that is served; None where the rule is refused."""
    rule = graph.routes[ROUTE].rules[0]
    assert bool(rule.filter_targets) != bool(rule.refused) and all(one.status == 500 for one in rule.refused)
    return rule.filter_targets[0].code if rule.filter_targets else None


def told(graph):
    """The route's ResolvedRefs of its first parent, and the filter's Accepted there."""
    found = [next(one for one in each.conditions if one.type == "ResolvedRefs") for each in graph.routes[ROUTE].parents]
    accepted = [each.conditions[0] for each in graph.policies[FILTER].ancestors]
    return found[0], accepted[0]


@pytest.mark.parametrize("own", [None, True, False])
@pytest.mark.parametrize("of_class", [None, True, False])
def test_the_class_allows_and_a_gateway_forbids(of_class, own):
    graph = attach(world(of_class, own), CLUSTER)
    allowed = bool(merged(GatewayParametersSpec(python_filters=of_class), GatewayParametersSpec(python_filters=own)).python_filters)
    resolved, accepted = told(graph)
    assert allowed == (of_class is True and own is not False)
    assert (code(graph) == "one", resolved.status, accepted.status) == (allowed, str(allowed), str(allowed))
    if not allowed:
        why = "pythonFilters: true" if not of_class else "GatewayParameters default/p forbids them (pythonFilters: false)"
        assert resolved.reason == accepted.reason == "RefNotPermitted" and why in resolved.message and why in accepted.message
        assert any(one.reason == "RefNotPermitted" for one in problems(graph))


@pytest.mark.parametrize("own", [True, False])
def test_files_need_nobody_to_allow_them(own):
    assert code(attach(world(False, own), EVERYTHING)) == "one"


def test_each_gateway_of_a_route_has_to_allow_it():
    graph = attach(world(True, parents="[{name: g}, {name: shut}]"), CLUSTER)
    by_gateway = {each.gateway.name: each.conditions[0].status for each in graph.policies[FILTER].ancestors}
    assert (code(graph), by_gateway) == (None, {"g": "True", "shut": "False"})
    assert "GatewayClass plain would allow them" in told(graph)[0].message


@pytest.mark.parametrize(("spec", "data", "words"), [
    ("{file: f.py, class: F}", "{}", "names a file, and in a cluster there is none"),
    (PLACE, "{other.py: one}", "ConfigMap default/code has no filter.py in its data"),
    ("{configMap: {name: none}, class: F}", "{}", "there is no ConfigMap default/none"),
], ids=["a file", "another key", "no ConfigMap"])
def test_what_has_no_code_is_refused(spec, data, words):
    graph = attach(world(True, spec=spec, data=data), CLUSTER)
    resolved, accepted = told(graph)
    assert code(graph) is None and (resolved.status, accepted.status, accepted.reason) == ("False", "False", "Invalid")
    assert words in resolved.message and words in accepted.message


def test_a_module_of_the_image_needs_no_code():
    assert code(attach(world(True, spec="{module: m, class: F}", data="{}"), CLUSTER)) == ""


def test_changes_come_to_what_the_whole_comes_to():
    attacher = Attacher(CLUSTER)
    attacher.attach(world())
    steps = [world(True), world(True, data="{filter.py: two}"), world(True, False), world(True, data="{}"), world(True), world(False),
             {key: one for key, one in world(True).items() if key != CODE}, world(True)]
    for wanted, now in zip((None, "one", "two", None, None, "one", None, None, "one"), [world(), *steps], strict=True):
        graph = attacher.attach(now)
        assert code(graph) == wanted
        assert conditions(graph) == conditions(attach(now, CLUSTER))
