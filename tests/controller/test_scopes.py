"""Routability of a Gateway's addresses (GEP-5093), entry by entry: what its Service says, and what is granted of what it has."""
import pytest
from controller_cases import OPTIONS, planned, resources
from support.desired_world import CLASS, GATEWAY, G, WITH_PARAMETERS, make

from gwfast.config.model import Key
from gwfast.controller.desired import Slices, assigned
from gwfast.graph.attach import attach

SERVICE = Key("Service", "shop", "g-gwfast")
BALANCED = {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}
INGRESS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
INTERNAL = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}


def entries(text):
    return f", addresses: [{text}]"


@pytest.mark.parametrize("text, expected", [
    ("{routability: Cluster}", {"type": "ClusterIP"}),
    ("{routability: Cluster, value: 10.96.0.7}", {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}),
    ("{routability: Cluster, value: 10.96.0.7}, {routability: Cluster, value: 'fd00::7'}",
     {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilyPolicy": "PreferDualStack"}),
    ("{routability: Cluster}, {routability: Cluster}", {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}),
    ("{routability: Cluster}, {}", {"type": "LoadBalancer"}),
    ("{routability: Cluster}, {value: 192.0.2.1}", {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}),
    ("{routability: ''}", {"type": "LoadBalancer"}),
    ("{routability: example.com/wan}", {"type": "ClusterIP"}),
])
def test_what_a_service_says(text, expected):
    """What asks for nothing but scopes is not reached from outside, whatever the parameters say."""
    for parameters in (CLASS, WITH_PARAMETERS % "{service: {type: LoadBalancer, externalTrafficPolicy: Local}}"):
        _, _, made = make(parameters + GATEWAY % ("g", entries(text)))
        spec = {name: value for name, value in made[SERVICE]["spec"].items() if name not in ("ports", "externalTrafficPolicy")}
        assert spec == expected and ("externalTrafficPolicy" in made[SERVICE]["spec"]) <= (spec["type"] == "LoadBalancer")


GRANTS = [
    # entries, Service, addresses, what is missing
    ("{routability: Cluster}", INTERNAL, {}, ["10.96.0.7"], []),
    ("{routability: Cluster}", {"type": "ClusterIP"}, {}, [], ["spec.addresses[0] (routability Cluster): its Service has no address yet"]),
    ("{routability: Cluster, value: 10.96.0.7}", INTERNAL, {}, ["10.96.0.7"], []),
    ("{routability: Cluster, value: 10.96.0.8}", INTERNAL, {}, [],
     ["spec.addresses[0] (routability Cluster, 10.96.0.8): its Service has 10.96.0.7, and a cluster IP stays what it is"]),
    ("{routability: Cluster}, {}", BALANCED, INGRESS, ["10.96.0.7", "192.0.2.1"], []),
    ("{}, {routability: Cluster}", BALANCED, INGRESS, ["192.0.2.1", "10.96.0.7"], []),
    ("{}, {routability: Cluster}", BALANCED, {}, ["10.96.0.7"], ["spec.addresses[0] (any): its Service has no address yet"]),
    ("{routability: Cluster}, {routability: Cluster}", BALANCED, {}, ["10.96.0.7", "fd00::7"], []),
    ("{routability: Cluster}, {routability: Cluster}", INTERNAL, {}, ["10.96.0.7"],
     ["spec.addresses[1] (routability Cluster): its Service has no other cluster IP"]),
    ("{value: 10.96.0.7}, {routability: Cluster}", BALANCED, INGRESS, ["10.96.0.7", "fd00::7"], []),
    ("{routability: Cluster, value: 'FD00:0::7'}", BALANCED, {}, ["fd00::7"], []),
    ("{routability: example.com/wan}, {routability: Cluster}", INTERNAL, {}, ["10.96.0.7"],
     ["spec.addresses[0] (routability example.com/wan): this routability is not known here, Cluster is"]),
    ("{routability: example.com/wan}", INTERNAL, {}, [],
     ["spec.addresses[0] (routability example.com/wan): this routability is not known here, Cluster is"]),
]


@pytest.mark.parametrize("text, spec, status, addresses, missing", GRANTS)
def test_what_is_granted(text, spec, status, addresses, missing):
    """Exactly one address for each entry that has one; none of another scope stands in; what there is serves."""
    plan = planned(CLASS + GATEWAY % ("g", entries(text)))
    need = plan.needs[G]
    found = assigned(need, {"spec": spec, "status": status}, plan.fleets[need.fleet], Slices({}))
    assert [value for _, value in found.addresses] == addresses
    assert (found.ready, found.lacks) == (bool(addresses), "; ".join(missing))
    assert found.cluster == frozenset({"10.96.0.7", "fd00::7"} & set(addresses))
    if not addresses:
        assert (found.reason, found.message) == ("AddressNotAssigned", "; ".join(missing))


def test_a_class_says_which_cluster_ips_may_be_asked_for():
    text = WITH_PARAMETERS % "{addresses: [10.96.1.0/24]}" + GATEWAY % ("g", entries("{routability: Cluster, value: 10.96.0.7}"))
    plan, _, made = make(text)
    assert "clusterIP" not in made[SERVICE]["spec"]
    need = plan.needs[G]
    found = assigned(need, {"spec": INTERNAL | {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}}, plan.fleets[need.fleet], Slices({}))
    assert not found.ready and "spec.addresses) do not allow it" in found.lacks


def test_what_the_api_server_refuses_is_said():
    plan = planned(CLASS + GATEWAY % ("g", entries("{routability: Cluster, value: 10.0.0.1}")))
    need = plan.needs[G]
    found = assigned(need, None, plan.fleets[need.fleet], Slices({}), "422 Invalid: not in the service CIDR")
    assert not found.ready and "422" in found.message
    found = assigned(need, {"spec": INTERNAL}, plan.fleets[need.fleet], Slices({}), "422 Invalid: may not change once set")
    assert not found.ready and found.lacks == "spec.addresses[0] (routability Cluster, 10.0.0.1): 422 Invalid: may not change once set"


def test_a_scope_is_no_reason_to_refuse_a_gateway():
    """Where Gateways have addresses of their own: entry by entry; elsewhere it cannot be had at all."""
    found = attach(resources(CLASS + GATEWAY % ("g", entries("{routability: Cluster}, {routability: example.com/wan}"))), OPTIONS)
    assert found.gateways[G].accepted and all(node.programmed for node in found.listeners.values())
