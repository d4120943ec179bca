"""GatewayParameters: a Gateway's over those of its class, field by field; what it may give; and options as arguments."""
import typing

import msgspec
import pytest

from gwfast import options
from gwfast.config.model import GatewayParametersSpec, ParameterName
from gwfast.parameters import ALLOWED, OURS, arguments, fault, may_ask, merged, options_known

MERGED = [
    # of the class, of the Gateway, what stands
    ({"replicas": 3}, {}, {"replicas": 3}),
    ({"replicas": 3}, {"replicas": 0}, {"replicas": 0}),
    ({"replicas": 3}, {"autoscaling": {"maxReplicas": 5}}, {"autoscaling": {"maxReplicas": 5}}),
    ({"autoscaling": {"maxReplicas": 5}}, {"replicas": 1}, {"replicas": 1}),
    ({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}, {"autoscaling": {"maxReplicas": 9}},
     {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}),
    ({"podDisruptionBudget": {"minAvailable": 1}}, {"podDisruptionBudget": {"maxUnavailable": "50%"}},
     {"podDisruptionBudget": {"maxUnavailable": "50%"}}),
    ({"service": {"type": "NodePort", "annotations": {"a": "1", "b": "2"}}}, {"service": {"annotations": {"b": "3"}}},
     {"service": {"type": "NodePort", "annotations": {"a": "1", "b": "3"}}}),
    ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
    ({"tolerations": [{"key": "a"}]}, {"tolerations": []}, {"tolerations": []}),
    ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"b": "2"}}, {"nodeSelector": {"a": "1", "b": "2"}}),
    ({"resources": {"requests": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "2"}}},
     {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
    ({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]},
     {"env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]}),
    ({"patches": [{"kind": "Service", "value": {"a": 1}}]}, {"patches": [{"kind": "Deployment", "value": {}}]},
     {"patches": [{"kind": "Service", "value": {"a": 1}}, {"kind": "Deployment", "value": {}}]}),
    ({"image": {"repository": "r", "tag": "1"}}, {"image": {"tag": "2"}}, {"image": {"repository": "r", "tag": "2"}}),
    ({"pythonFilters": True}, {}, {"pythonFilters": True}),
    ({"pythonFilters": True}, {"pythonFilters": False}, {"pythonFilters": False}),
    ({"pythonFilters": False}, {"pythonFilters": True}, {"pythonFilters": False}),
    ({}, {"pythonFilters": True}, {}),
    ({"dedicated": True}, {"dedicated": False}, {"dedicated": False}),
    ({"addresses": ["10.0.0.0/8"], "allowedForGateways": []}, {"addresses": ["::/0"], "allowedForGateways": ["env"]},
     {"addresses": ["10.0.0.0/8"], "allowedForGateways": []}),
    ({}, {"addresses": ["::/0"], "allowedForGateways": ["env"]}, {}),
]


def spec(value):
    return msgspec.convert(value, GatewayParametersSpec)


@pytest.mark.parametrize("of_class, own, expected", MERGED)
def test_a_gateways_parameters_stand_over_those_of_its_class(of_class, own, expected):
    assert merged(spec(of_class), spec(own)) == spec(expected)
    assert merged(spec(of_class), None) == spec(of_class)


def test_every_option_of_run_is_known_or_is_the_controllers():
    flags = {option.flag[2:] for option in (*options.READING, *options.CLUSTER, *options.REPORTING, *options.SERVING, *options.TRAFFIC)}
    assert flags - options_known().keys() <= OURS
    assert {"drain-timeout", "workers", "access-log", "session-key-file", "max-fields"} <= options_known().keys()


def test_options_are_arguments():
    given = {"drain-timeout": "60s", "forward-client-cert": "true", "access-log": "off"}
    assert arguments(given) == ["--access-log", "off", "--drain-timeout", "60s", "--forward-client-cert"]
    assert arguments({"forward-client-cert": "off"}) == arguments(None) == []


@pytest.mark.parametrize("name, value, words", [
    ("workers", "64", ""), ("workers", "auto", ""), ("workers", "0", "auto or a whole number"), ("session-key-file", "/no/such", ""),
    ("forward-client-cert", "perhaps", "one of"), ("max-fields", "1", "32 to 1000"), ("port-map", "80:1", "decided by the controller"),
    ("publish-service", "a/b", "decided by the controller"), ("kubeconfig", "x", "decided by the controller"),
    ("--via", "x", "gwfast run has no option"),
])
def test_what_an_option_may_be(name, value, words):
    found = fault(spec({"options": {name: value}}), None)
    assert (found is None) if not words else (found[0] == f"spec.options.{name}" and words in found[1])


def nested(levels):
    value = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("field, value", [
    ("spec.patches[1].value", {"patches": [{"kind": "Service", "value": {}}, {"kind": "Deployment", "value": {"spec": nested(900)}}]}),
    ("spec.affinity", {"affinity": {"nodeAffinity": nested(40)}}), ("spec.resources", {"resources": {"a": nested(40)}}),
    ("spec.tolerations", {"tolerations": [{"key": nested(40)}]}), ("spec.env", {"env": [{"name": "A", "valueFrom": {"a": nested(40)}}]}),
    ("spec.autoscaling", {"autoscaling": {"maxReplicas": 2, "behavior": {"a": nested(40)}}}),
])
def test_what_is_nested_too_deep_is_refused(field, value):
    """Of a class and of a Gateway: objects are made by functions that recurse."""
    words = "is nested more than 32 levels deep"
    assert fault(spec(value), None) == (field, words)
    assert fault(spec({"allowedForGateways": [*value]}), spec(value)) == (field, words)


def fields():
    return [each for each in GatewayParametersSpec.__struct_encode_fields__ if each not in ("allowedForGateways", "addresses")]


ONE = {"affinity": {}, "tolerations": [], "nodeSelector": {}, "env": [], "patches": [], "image": {}, "serviceAccount": {}, "hostNetwork": True, "adminPort": 9,
       "priorityClassName": "p", "dedicated": True, "replicas": 1, "autoscaling": {"maxReplicas": 2}, "podDisruptionBudget": {"minAvailable": 1},
       "resources": {}, "topologySpreadConstraints": [], "pod": {}, "service": {}, "options": {}, "pythonFilters": False}


@pytest.mark.parametrize("field", fields())
def test_what_a_gateway_may_give_is_its_classs_to_say(field):
    """By default what stays within its namespace; a list of the class's takes the default's place, in both directions."""
    own = spec({"dedicated": True} | {field: ONE[field]})
    others = [each for each in fields() if each != field]
    found = fault(None, own)
    assert (found is None) is (field in ALLOWED)
    assert found is None or found == (f"spec.{field}", f"is not allowed in the parameters of a Gateway: those of its GatewayClass "
                                      f"(spec.allowedForGateways) allow {', '.join(ALLOWED)}")
    assert fault(spec({"allowedForGateways": ["dedicated", field] if field != "dedicated" else [field]}), own) is None
    assert fault(spec({"allowedForGateways": others}), own)[0] == f"spec.{field}"
    assert fault(spec({field: ONE[field]}), None) is None  # a class may all


def test_every_field_can_be_allowed():
    names = given_literals()
    assert set(names) == set(fields()) >= set(ALLOWED) and len(names) == len(set(names))


def given_literals():
    return typing.get_args(ParameterName)


ASKED = [
    # networks of the class, an address, whether a load balancer may be asked for it, and externalIPs may be that
    (None, "203.0.113.9", True, False), ([], "203.0.113.9", False, False), (["203.0.113.0/24"], "203.0.113.9", True, True),
    (["203.0.113.9"], "203.0.113.9", True, True), (["203.0.113.0/24"], "203.0.114.9", False, False), (["0.0.0.0/0"], "2001:db8::1", False, False),
    (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True, True), (["0.0.0.0/0"], "::ffff:203.0.113.9", False, False),
    (["0.0.0.0/0", "::/0"], "no address", False, False), (["10.0.0.0/8"], "010.0.0.1", False, False),
]


@pytest.mark.parametrize("networks, address, balanced, external", ASKED)
def test_addresses_that_may_be_asked_for(networks, address, balanced, external):
    given = spec({"addresses": networks} if networks is not None else {})
    assert (may_ask(given, address, True), may_ask(given, address, False)) == (balanced, external)


def test_what_is_nested_as_kubernetes_does_is_taken():
    assert fault(spec({"affinity": nested(31), "patches": [{"kind": "Deployment", "value": {"spec": nested(30)}}]}), None) is None
