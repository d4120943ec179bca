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


PLACE, SHARED = ("shop", "a-gwfast"), ("gwfast-system", "gwfast-gwfast")
TO_OWN = (gateway("a", infrastructure=OWN), PARAMETERS % ("own", "shop", "{dedicated: true}"))
BACK = (gateway("a"),)
MOVES = [
    # what it asks for; deployment, mirrored, shared and own endpoints that are ready, acknowledged; fleet, also, mirrored
    ("shared", BACK, "", SHARED, None, SHARED),
    ("shared, and its endpoints are there", BACK, "mirrored shared acknowledged", SHARED, None, SHARED),
    ("its own from the beginning", TO_OWN, "deployment", PLACE, None, None),
    ("its own, which serve", TO_OWN, "deployment own", PLACE, None, None),
    ("to its own", TO_OWN, "mirrored shared", PLACE, SHARED, SHARED),
    ("to its own, which are not ready", TO_OWN, "deployment mirrored shared", PLACE, SHARED, SHARED),
    ("to its own, which serve", TO_OWN, "deployment mirrored shared own", PLACE, SHARED, None),
    ("back", BACK, "deployment own", PLACE, SHARED, None),
    ("back, and the shared ones know it", BACK, "deployment own acknowledged", PLACE, SHARED, SHARED),
    ("back, and the shared ones are no longer ready", BACK, "deployment own mirrored acknowledged", PLACE, SHARED, SHARED),
    ("back, and its endpoints are there", BACK, "deployment own mirrored shared acknowledged", SHARED, None, SHARED),
    ("back, behind a new leader", BACK, "deployment own mirrored shared", PLACE, SHARED, SHARED),
    ("back, and its own are no endpoints any more", BACK, "deployment mirrored shared", SHARED, None, SHARED),
    ("back from the network of nodes", BACK, "deployment own host", SHARED, None, SHARED),
]


@pytest.mark.parametrize("parts, there, fleet, also, mirrored", [case[1:] for case in MOVES], ids=[case[0] for case in MOVES])
def test_a_gateway_that_moves_is_served_by_both(parts, there, fleet, also, mirrored):
    words = there.split()
    records = Records(names={(key("a"), "gwfast"): "a-gwfast"}, dedicated={key("a")} if "deployment" in words else set(),
                      host_network={key("a")} if "host" in words else set(), mirrored={PLACE} if "mirrored" in words else set(),
                      shared={PLACE} if "shared" in words else set(), own={PLACE} if "own" in words else set(),
                      acknowledged=lambda place, gateway: "acknowledged" in words and (place, gateway) == (SHARED, key("a")))
    found = plan(BASE, *parts, records=records)
    need = found.needs[key("a")]
    assert (need.fleet, need.also, need.mirrored) == (fleet, also, mirrored)
    both = {fleet, also} - {None}
    assert {place for place, one in found.fleets.items() if key("a") in one.gateways} == both
    if PLACE in both:  # what was made for it stays as it is, where it goes
        assert (found.fleets[PLACE].parameters is None) is (parts is BACK)


def test_a_gateway_whose_own_data_planes_are_on_the_network_of_nodes_moves_at_once():
    """They listen on its own ports, not on its target ports: they cannot serve for the others, nor the others for them."""
    of_class = PARAMETERS % ("all", "gwfast-system", "{hostNetwork: true}")
    records = Records(names={(key("a"), "gwfast"): "a-gwfast"}, mirrored={PLACE}, shared={PLACE})
    need = plan(CLASS % ("gwfast", OF_CLASS), of_class, *TO_OWN, records=records).needs[key("a")]
    assert (need.fleet, need.also, need.mirrored) == (PLACE, None, None)
