"""Fleets and names: what is called how, who gets which data planes, and what stays where parameters are wrong."""
import re

import pytest
from controller_cases import SITE, planned

from gwfast.config.model import Key
from gwfast.controller.fleet import Known, Records, fleet_name, label_value, service_name

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: %s}
spec: {controllerName: gwfast.dev/gateway-controller%s}
---"""
OF_CLASS = ", parametersRef: {group: gwfast.dev, kind: GatewayParameters, namespace: gwfast-system, name: all}"
PARAMETERS = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: %s, namespace: %s}
spec: %s
---"""


def gateway(name, of="gwfast", namespace="shop", infrastructure="{}"):
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{gatewayClassName: {of}, listeners: [{{name: a, port: 80, protocol: HTTP}}], infrastructure: {infrastructure}}}
---"""


def plan(*parts, records=None, known=None):
    return planned("".join(parts).removesuffix("---"), records, known)


def key(name, namespace="shop"):
    return Key("Gateway", namespace, name)


OWN = "{parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: own}}"
BASE = CLASS % ("gwfast", "")


@pytest.mark.parametrize("text", ["web", "a" * 63, "a" * 64, "a" * 253, "1st", "a.b", "a.b-", "x" * 62 + ".y", "a-b", "9" * 253])
def test_names_are_labels(text):
    name, label = service_name(text), label_value(text)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", label) or text.endswith("-")
    assert (label == text) is (len(text) <= 63)
    assert (name == text) is bool(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", text))


def test_names_that_differ_stay_different():
    names = ["a" * 100, "a" * 101, "a.b", "a-b", "a--b", "1a", "g-1a", "a" * 63 + ".b", "a" * 63 + "-b"]
    assert len({service_name(name) for name in names}) == len({label_value(name) for name in names}) == len(names)


def test_a_fleet_for_each_class_and_its_gateways():
    found = plan(BASE, CLASS % ("other", ""), gateway("a"), gateway("b"), gateway("c", "third"))
    assert {place: fleet.gateways for place, fleet in found.fleets.items()} == {
        ("gwfast-system", "gwfast-gwfast"): (key("a"), key("b")), ("gwfast-system", "gwfast-other"): ()}
    assert {one.name: need.service for one, need in found.needs.items()} == {"a": "a-gwfast", "b": "b-gwfast"}


def test_two_gateways_never_share_a_name():
    found = plan(BASE, CLASS % ("b-gwfast", ""), gateway("a", "b-gwfast"), gateway("a-b"))
    names = {one.name: need.service for one, need in found.needs.items()}
    assert names["a"] == "a-b-gwfast" and re.fullmatch("a-b-gwfast-[0-9a-f]{8}", names["a-b"])
    # Whoever has it keeps it, in any order,
    records = Records(names={(key("a-b"), "gwfast"): "a-b-gwfast"})
    found = plan(BASE, CLASS % ("b-gwfast", ""), gateway("a", "b-gwfast"), gateway("a-b"), records=records)
    assert found.needs[key("a-b")].service == "a-b-gwfast" != found.needs[key("a")].service
    # and a class that is another has another name.
    found = plan(BASE, CLASS % ("new", ""), gateway("a-b", "new"), records=records)
    assert found.needs[key("a-b")].service == "a-b-new"


def test_what_others_have_is_not_ours():
    found = plan(BASE, gateway("a"), gateway("gwfast", namespace=SITE.namespace), records=Records(foreign={("shop", "a-gwfast")}))
    assert re.fullmatch("a-gwfast-[0-9a-f]{8}", found.needs[key("a")].service)
    assert found.needs[key("gwfast", SITE.namespace)].service != fleet_name("gwfast")


def test_a_gateway_of_its_own():
    found = plan(BASE, gateway("a"), gateway("b", infrastructure=OWN), PARAMETERS % ("own", "shop", "{dedicated: true, replicas: 5}"))
    fleet = found.fleets["shop", "b-gwfast"]
    assert (fleet.gateway, fleet.gateways, fleet.parameters.replicas) == (key("b"), (key("b"),), 5)
    assert found.fleets["gwfast-system", "gwfast-gwfast"].gateways == (key("a"),)
    assert found.needs[key("b")].fleet == ("shop", "b-gwfast")


def test_a_class_whose_gateways_all_have_their_own_has_no_fleet():
    parts = (CLASS % ("gwfast", OF_CLASS), PARAMETERS % ("all", "gwfast-system", "{dedicated: true}"), gateway("a"))
    assert set(plan(*parts).fleets) == {("shop", "a-gwfast")}
    shared = plan(*parts, gateway("b", infrastructure=OWN), PARAMETERS % ("own", "shop", "{dedicated: false}"))
    assert set(shared.fleets) == {("shop", "a-gwfast"), ("gwfast-system", "gwfast-gwfast")}


def test_parameters_that_become_wrong_change_nothing():
    known, right, wrong = Known(), PARAMETERS % ("all", "gwfast-system", "{replicas: 5}"), PARAMETERS % ("all", "gwfast-system", "{options: {x: y}}")
    before = plan(CLASS % ("gwfast", OF_CLASS), right, gateway("a"), known=known)
    for after in (plan(CLASS % ("gwfast", OF_CLASS), wrong, gateway("a"), known=known),
                  plan(CLASS % ("gwfast", OF_CLASS), gateway("a"), known=known)):
        assert after.fleets == before.fleets and after.fleets["gwfast-system", "gwfast-gwfast"].parameters.replicas == 5
    # A controller that starts does not know what was right: it touches nothing, and knows whose data planes are which.
    records = Records(names={(key("a"), "gwfast"): "a-gwfast"}, dedicated={key("a")})
    anew = plan(CLASS % ("gwfast", OF_CLASS), wrong, gateway("a"), gateway("b"), records=records)
    assert {place: (fleet.gateways, fleet.parameters) for place, fleet in anew.fleets.items()} == {
        ("gwfast-system", "gwfast-gwfast"): ((key("b"),), None), ("shop", "a-gwfast"): ((key("a"),), None)}


def test_a_gateway_that_is_refused_keeps_what_it_has_and_gets_nothing_new():
    parts = (BASE, gateway("a", infrastructure=OWN))
    assert plan(*parts).needs == {}
    known = Known()
    plan(*parts, PARAMETERS % ("own", "shop", "{service: {type: NodePort}}"), known=known)
    there = Records(names={(key("a"), "gwfast"): "a-gwfast"})
    assert plan(*parts, records=there, known=known).needs[key("a")].parameters.service.type == "NodePort"
    assert plan(*parts, records=there).needs[key("a")].parameters is None
