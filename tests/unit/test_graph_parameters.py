"""parametersRef of classes and Gateways: what is not there, and what somebody says is wrong with it."""
import msgspec
import pytest
from graph_cases import EVERYTHING, check, resources

from gwfast.config.model import Key
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.model import GraphOptions
from gwfast.parameters import fault

NAME = "example.net/controller"
CLUSTER = msgspec.structs.replace(EVERYTHING, controller_name=NAME, parameters_fault=fault)


def documents(of_class="", own="", class_spec=None, own_spec=None, addresses=""):
    """A class with parameters (the text of its parametersRef) and a Gateway with its own, and GatewayParameters of both."""
    text = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: any}}
spec: {{controllerName: {NAME}{of_class and f', parametersRef: {of_class}'}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  gatewayClassName: any
  listeners: [{{name: a, port: 80, protocol: HTTP}}]
  addresses: [{addresses}]
  infrastructure: {{{own and f'parametersRef: {own}'}}}
"""
    for name, namespace, spec in (("c", "infra", class_spec), ("o", "default", own_spec)):
        if spec is not None:
            text += f"""---
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""
    return resources(text)


OF_CLASS = "{group: gwfast.dev, kind: GatewayParameters, name: c, namespace: infra}"
OWN = "{group: gwfast.dev, kind: GatewayParameters, name: o}"
WRONG = [
    ("unknown kind", {"of_class": "{group: a.b, kind: C, name: c}"}, "class", "parameters of kind a.b/C are not known here"),
    ("unknown kind of a Gateway", {"own": "{group: '', kind: ConfigMap, name: c}"}, "gateway", "parameters of kind /ConfigMap are not"),
    ("no namespace", {"of_class": "{group: gwfast.dev, kind: GatewayParameters, name: c}", "class_spec": "{}"}, "class",
     "the reference has to name"),
    ("not there", {"of_class": OF_CLASS}, "class", "there is no GatewayParameters infra/c"),
    ("a Gateway's is not there", {"own": OWN}, "gateway", "there is no GatewayParameters default/o"),
    ("an unknown option", {"of_class": OF_CLASS, "class_spec": "{options: {drain-time: 3s}}"}, "class",
     "GatewayParameters infra/c spec.options.drain-time: gwfast run has no option --drain-time"),
    ("a value that the option does not take", {"of_class": OF_CLASS, "class_spec": "{options: {drain-timeout: 3x}}"}, "class",
     "spec.options.drain-timeout: '3x': a time such as"),
    ("an option of the controller's", {"own": OWN, "own_spec": "{dedicated: true, options: {admin: ':9'}}"}, "gateway",
     "spec.options.admin: is decided by the controller"),
    ("Pods without dedicated", {"own": OWN, "own_spec": "{replicas: 2}"}, "gateway", "spec.replicas: is about Pods"),
    ("what reaches further than its namespace", {"own": OWN, "own_spec": "{dedicated: true, hostNetwork: true}"}, "gateway",
     "GatewayParameters default/o spec.hostNetwork: is not allowed in the parameters of a Gateway: those of its GatewayClass "
     "(spec.allowedForGateways) allow dedicated, replicas, autoscaling, "),
    ("what its class does not allow", {"of_class": OF_CLASS, "own": OWN, "class_spec": "{allowedForGateways: [service]}",
                                       "own_spec": "{dedicated: true}"}, "gateway", "spec.dedicated: is not allowed in the parameters of "
     "a Gateway: those of its GatewayClass (spec.allowedForGateways) allow service"),
    ("a class that allows nothing", {"of_class": OF_CLASS, "own": OWN, "class_spec": "{allowedForGateways: []}",
                                     "own_spec": "{service: {type: NodePort}}"}, "gateway", "allow nothing"),
    ("a Gateway that allows itself what it likes", {"own": OWN, "own_spec": "{allowedForGateways: [patches], patches: []}"}, "gateway",
     "spec.allowedForGateways: is for the parameters of a GatewayClass alone"),
    ("a Gateway that allows itself addresses", {"own": OWN, "own_spec": "{addresses: [0.0.0.0/0]}"}, "gateway",
     "spec.addresses: is for the parameters of a GatewayClass alone"),
    ("a network that is none", {"of_class": OF_CLASS, "class_spec": "{addresses: [10.0.0.0/8, 10.0.0.1/8]}"}, "class",
     "spec.addresses[1]: 10.0.0.1/8 has host bits set; a network such as 192.0.2.0/24 is needed"),
    ("a patch of a name", {"of_class": OF_CLASS, "own": OWN, "class_spec": "{allowedForGateways: [dedicated, patches]}",
                           "own_spec": "{dedicated: true, patches: [{kind: Service, value: {metadata: {name: x}}}]}"},
     "gateway", "spec.patches[0].value.metadata.name: cannot be patched"),
]


@pytest.mark.parametrize("given, place, words", [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_parameters_that_are_wrong(given, place, words):
    graph = attach(documents(**given), CLUSTER)
    node = graph.classes[Key("GatewayClass", "", "any")] if place == "class" else graph.gateways[Key("Gateway", "default", "g")]
    accepted = next(one for one in node.conditions if one.type == "Accepted")
    assert (accepted.status, accepted.reason) == ("False", "InvalidParameters") and words in accepted.message
    check(graph, "Gateway/default/g Accepted=True" if place == "class" else "Gateway/default/g Accepted=False Programmed=False/Invalid")


def test_parameters_that_are_right_are_in_the_nodes():
    found = documents(OF_CLASS, OWN, "{dedicated: true, replicas: 3}", "{replicas: 4, options: {via: edge}}")
    graph = attach(found, CLUSTER)
    (of_class,), (gateway,) = graph.classes.values(), graph.gateways.values()
    assert of_class.parameters is found[Key("GatewayParameters", "infra", "c")]
    assert gateway.parameters is found[Key("GatewayParameters", "default", "o")] and gateway.accepted
    assert all(one.status == "True" for node in (of_class, gateway) for one in node.conditions)


@pytest.mark.parametrize("own_spec, addresses, accepted, kept", [
    ("{}", "", True, False), ("{hostNetwork: true}", "", False, True), ("{hostNetwork: true}", "{type: Hostname, value: a.example}", False, False),
    ("{}", "{type: Hostname, value: a.example}", False, False),
])
def test_parameters_alone_take_nothing_from_data_planes(own_spec, addresses, accepted, kept):
    found = documents(own=OWN, own_spec=own_spec, addresses=addresses)
    node = attach(found, msgspec.structs.replace(CLUSTER, own_addresses=True)).gateways[Key("Gateway", "default", "g")]
    assert (node.accepted, node.kept) == (accepted, kept)


def test_a_fault_of_the_class_is_not_its_gateways():
    graph = attach(documents(OF_CLASS, OWN, "{options: {x: y}}", "{dedicated: true}"), CLUSTER)
    assert next(iter(graph.gateways.values())).accepted


@pytest.mark.parametrize("given", [{"of_class": OF_CLASS, "own": OWN}, {"own": OWN, "own_spec": "{replicas: 2}"}])
def test_where_nothing_is_made_of_them_parameters_take_nothing_from_what_is_served(given):
    graph = attach(documents(**given), EVERYTHING)
    assert next(iter(graph.gateways.values())).accepted
    expected = ["there is no GatewayParameters infra/c", "there is no GatewayParameters default/o"] if "of_class" in given else []
    assert [note.message for note in graph.notes] == expected


def test_parameters_that_come_and_go_are_seen():
    """Incremental: a change of the GatewayParameters alone."""
    with_them, without = documents(OF_CLASS, OWN, "{}", "{}"), documents(OF_CLASS, OWN)
    attacher = Attacher(CLUSTER)
    for found in (without, without | with_them, without):
        graph = attacher.attach(found)
        there = Key("GatewayParameters", "default", "o") in found
        assert next(iter(graph.gateways.values())).accepted is there
        assert {one.status for one in next(iter(graph.classes.values())).conditions if one.type == "Accepted"} == {str(there)}


# ---- Where one process serves all Gateways: whose parameters go wrong is served on


ONE_PROCESS = GraphOptions(controller_name=CLUSTER.controller_name, strict_services=True, parameters_fault=fault)
GATEWAY = Key("Gateway", "default", "g")


def test_a_gateway_that_was_served_is_served_on_and_says_what_is_wrong():
    right = documents(own=OWN, own_spec="{dedicated: true}")
    wrong = [documents(own=OWN, own_spec="{dedicated: true, options: {x: y}}"),
             {key: one for key, one in right.items() if key.kind != "GatewayParameters"}]
    attacher = Attacher(ONE_PROCESS)
    assert attacher.attach(right).gateways[GATEWAY].accepted
    for found, words in (*zip(wrong, ("gwfast run has no option --x", "there is no GatewayParameters default/o"), strict=True), (right, "")):
        graph = attacher.attach(found)
        node = graph.gateways[GATEWAY]
        accepted = next(one for one in node.conditions if one.type == "Accepted")
        assert (accepted.status, node.kept, words in accepted.message) == (("False", True, True) if words else ("True", False, True))
        assert not words or accepted.reason == "InvalidParameters"
        assert all(one.served for one in graph.listeners.values()), words
    for found in wrong:  # of one that was never right nothing is served
        graph = attach(found, ONE_PROCESS)
        assert not graph.gateways[GATEWAY].kept and not any(one.served for one in graph.listeners.values())


def test_what_was_never_served_is_not_served_on():
    attacher = Attacher(ONE_PROCESS)
    wrong = documents(own=OWN, own_spec="{options: {x: y}}")
    for _ in range(2):
        attacher.attach(wrong)
        found = {key: one for key, one in wrong.items()}
        found[GATEWAY] = msgspec.structs.replace(wrong[GATEWAY])
        graph = attacher.attach(found)
        assert not any(one.served for one in graph.listeners.values())


def test_an_address_that_cannot_be_had_ends_it_as_ever():
    attacher = Attacher(ONE_PROCESS)
    attacher.attach(documents(own=OWN, own_spec="{dedicated: true}"))
    graph = attacher.attach(documents(own=OWN, own_spec="{options: {x: y}}", addresses="{type: Hostname, value: a.example}"))
    assert not any(one.served for one in graph.listeners.values())
