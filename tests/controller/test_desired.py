"""What is there against what should be: EndpointSlices, what is removed and what never is, addresses."""
import msgspec
import pytest
from controller_cases import AUTHORITY, SITE, planned, targets_for, uid_of

from gwfast.config.model import Key
from gwfast.controller import desired as wanted
from gwfast.controller.desired import KUBERNETES, OURS, Slices, assigned, desired, doomed, mirrors
from gwfast.controller.fleet import Known
from support.desired_world import CLASS, G, GATEWAY, WITH_PARAMETERS, make

DEDICATED = """
---
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own, namespace: shop}
spec: {dedicated: true%s}
"""
OWN = ", infrastructure: {parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: own}}"


def slice_of(namespace, service, *endpoints, keeper=KUBERNETES, name="xyz"):
    metadata = {"name": f"{service}-{name}", "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": keeper}}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": list(endpoints), "ports": [{"name": "admin", "port": 9000}]}


def endpoint(address, ready=True, **more):
    return {"addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": False}, **more}


def there(made, *slices):
    """What was made, as the API server has it, and EndpointSlices."""
    found = {key: {**each, "metadata": {**each["metadata"], "uid": f"uid-of-{key.kind}-{key.name}"}} for key, each in made.items()}
    return found | {Key("EndpointSlice", each["metadata"]["namespace"], each["metadata"]["name"]): each for each in slices}


def test_endpoints_of_a_shared_fleet_are_mirrored():
    plan, targets, made = make(CLASS + GATEWAY % ("g", "") + GATEWAY % ("h", ""))
    source = slice_of("gwfast-system", "gwfast-gwfast", endpoint("10.0.0.1", nodeName="n", zone="z", targetRef={"kind": "Pod"}),
                      endpoint("10.0.0.2", ready=False))
    owned = there(made, source, slice_of("gwfast-system", "another", endpoint("10.0.0.3")))
    found = mirrors(plan, SITE, owned, Slices(owned), targets, uid_of)
    assert [key.name for key in found] == ["g-gwfast-xyz", "h-gwfast-xyz"]
    one = found[Key("EndpointSlice", "shop", "g-gwfast-xyz")]
    assert one["metadata"]["ownerReferences"] == [
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "g", "uid": uid_of(G), "controller": True}]
    assert one["metadata"]["labels"]["kubernetes.io/service-name"] == "g-gwfast"
    assert one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == OURS
    assert one["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": source["endpoints"][0]["conditions"], "nodeName": "n", "zone": "z"},
                                endpoint("10.0.0.2", ready=False)]
    ports = {(each["name"], each["protocol"]): each["port"] for each in one["ports"]}
    assert ports == {("http-80", "TCP"): targets[G][80, "TCP"], ("udp-53", "UDP"): targets[G][53, "UDP"]}


def test_nothing_is_made_for_what_has_no_uid_yet():
    plan = planned(CLASS + GATEWAY % ("g", ""))
    assert desired(plan, SITE, lambda key: "", targets_for(plan), AUTHORITY) == {}


def test_what_is_not_needed_goes_and_nothing_else():
    _, _, before = make(CLASS + GATEWAY % ("g", "") + GATEWAY % ("h", OWN) + DEDICATED % "")
    plan, _, made = make(CLASS + GATEWAY % ("g", ""))
    mirrored = slice_of("shop", "h-gwfast", endpoint("10.0.0.1"), keeper=OURS)
    owned = there(before, slice_of("gwfast-system", "gwfast-gwfast", endpoint("10.0.0.1")), mirrored)
    gone = doomed(plan, made, owned, Slices(owned))
    assert {(key.kind, key.name) for key in gone} == {
        ("Service", "h-gwfast"), ("Deployment", "h-gwfast"), ("ServiceAccount", "h-gwfast"), ("PodDisruptionBudget", "h-gwfast"),
        ("ConfigMap", "h-gwfast-ca"), ("EndpointSlice", "h-gwfast-xyz")}
    assert doomed(plan, made, there(made), Slices({})) == set()


def test_what_is_being_deleted_is_left_to_it():
    _, _, before = make(CLASS + GATEWAY % ("g", ""))
    plan, _, made = make(CLASS)
    owned = there(before)
    owned[Key("Service", "shop", "g-gwfast")]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert doomed(plan, made, owned, Slices(owned)) == set()


def test_unknown_parameters_remove_nothing():
    _, _, before = make(CLASS + GATEWAY % ("g", ""))
    wrong = CLASS.replace("controller}", "controller, parametersRef: {group: a.b, kind: C, name: c}}")
    owned = there(before, slice_of("shop", "g-gwfast", endpoint("10.0.0.1"), keeper=OURS))
    plan = planned(wrong + GATEWAY % ("g", ""), wanted.records(owned, set()), Known())
    made = desired(plan, SITE, uid_of, {}, AUTHORITY)
    assert made == {} and doomed(plan, made | mirrors(plan, SITE, owned, Slices(owned), {}, uid_of), owned, Slices(owned)) <= {
        Key("EndpointSlice", "shop", "g-gwfast-xyz")}


@pytest.mark.parametrize("ready, left", [(False, True), (True, False)])
def test_who_moves_to_data_planes_of_its_own_is_served_by_the_others_until_they_serve(ready, left):
    plan, _, made = make(CLASS + GATEWAY % ("g", OWN) + DEDICATED % "")
    old = slice_of("shop", "g-gwfast", endpoint("10.0.0.1"), keeper=OURS, name="old")
    owned = there(made, old, slice_of("shop", "g-gwfast", endpoint("10.0.0.2", ready), name="new"))
    gone = doomed(plan, made, owned, Slices(owned))
    assert gone == (set() if left else {Key("EndpointSlice", "shop", "g-gwfast-old")})


def test_who_moves_back_keeps_its_own_data_planes_until_nobody_is_led_to_them():
    """By the Service, which selects them still, or by endpoints that Kubernetes made of them: only then may they end."""
    _, _, own = make(CLASS + GATEWAY % ("g", OWN) + DEDICATED % "")
    plan, _, made = make(CLASS + GATEWAY % ("g", ""))
    old = {Key(kind, "shop", "g-gwfast") for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget")}
    old.add(Key("ConfigMap", "shop", "g-gwfast-ca"))
    service, endpoints = Key("Service", "shop", "g-gwfast"), slice_of("shop", "g-gwfast", endpoint("10.0.0.2"))
    for led, slices, goes in ((True, [endpoints], False), (True, [], False), (False, [endpoints], False), (False, [], True)):
        owned = there(own if led else own | {service: made[service]}, *slices, slice_of("shop", "g-gwfast", endpoint("10.0.0.1"), keeper=OURS, name="new"))
        gone = {key for key in doomed(plan, made, owned, Slices(owned)) if key.kind != "EndpointSlice"}
        assert gone == (old if goes else set()), (led, slices)


def test_pods_that_kubernetes_takes_for_ready():
    ready = slice_of("sys", "f", endpoint("10.0.0.1", targetRef={"kind": "Pod", "uid": "a"}), endpoint("10.0.0.2", ready=False, targetRef={"uid": "b"}))
    slices = Slices(there({}, ready, slice_of("sys", "f", endpoint("10.0.0.3"), name="other"), slice_of("sys", "g", endpoint("10.0.0.4", targetRef={"uid": "c"}))))
    assert slices.pods(("sys", "f")) == {"a"} and slices.pods(("sys", "none")) == frozenset()


def test_records():
    _, targets, made = make(CLASS + GATEWAY % ("g", "") + GATEWAY % ("h", OWN) + DEDICATED % "")
    found = wanted.records(made, {("a", "b")})
    assert found.names == {(G, "gwfast"): "g-gwfast", (Key("Gateway", "shop", "h"), "gwfast"): "h-gwfast"}
    assert found.dedicated == {Key("Gateway", "shop", "h")} and found.foreign == {("a", "b")}
    assert wanted.targets_of(made[Key("Service", "shop", "g-gwfast")]) == targets[G]


BALANCED = {"type": "LoadBalancer"}
ADDRESSES = [
    # spec.addresses, what the Service says, addresses, reason
    ("", {"spec": BALANCED}, [], "AddressNotAssigned"),
    ("", {"spec": BALANCED, "status": {"loadBalancer": {}}}, [], "AddressNotAssigned"),
    ("", {"spec": BALANCED, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}}},
     [("IPAddress", "192.0.2.1"), ("Hostname", "lb.example")], ""),
    ("", {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}},
     [("IPAddress", "10.0.0.1"), ("IPAddress", "fd00::1")], ""),
    ("", {"spec": {"type": "NodePort", "clusterIP": "10.0.0.1"}}, [("IPAddress", "10.0.0.1")], ""),
    ("", {"spec": {"type": "ClusterIP", "clusterIP": "None"}}, [], "AddressNotAssigned"),
    (", addresses: [{type: IPAddress}]", {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}, [("IPAddress", "10.0.0.1")], ""),
    (", addresses: [{value: 192.0.2.9}]", {"spec": BALANCED}, [], "AddressNotUsable"),
    (", addresses: [{value: 192.0.2.9}]", {"spec": BALANCED, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}, [],
     "AddressNotUsable"),
    (", addresses: [{value: 192.0.2.9}]", {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.9"]}},
     [("IPAddress", "192.0.2.9")], ""),
    (", addresses: [{value: 192.0.2.9}, {value: 192.0.2.8}]",
     {"spec": BALANCED, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}, [("IPAddress", "192.0.2.9")], "AddressNotUsable"),
    (", addresses: [{value: 192.0.2.9}, {}]", {"spec": BALANCED, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}},
     [("IPAddress", "192.0.2.9")], ""),
]


@pytest.mark.parametrize("asked, service, addresses, reason", ADDRESSES)
def test_addresses(asked, service, addresses, reason):
    plan = planned(CLASS + GATEWAY % ("g", asked))
    need = plan.needs[G]
    found = assigned(need, service, plan.fleets[need.fleet], Slices({}))
    assert list(found.addresses) == addresses and found.ready is (not reason) and (not reason or found.reason == reason)


def test_addresses_on_the_network_of_nodes_are_those_of_ready_pods():
    plan = planned(WITH_PARAMETERS % "{hostNetwork: true}" + GATEWAY % ("g", OWN) + DEDICATED % "")
    one = slice_of("shop", "g-gwfast", endpoint("192.0.2.1"), endpoint("192.0.2.2", ready=False), endpoint("192.0.2.3"))
    found = assigned(plan.needs[G], {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}, plan.fleets["shop", "g-gwfast"],
                     Slices(there({}, one)))
    assert found.addresses == (("IPAddress", "192.0.2.1"), ("IPAddress", "192.0.2.3"))


TWO = ", addresses: [{value: 192.0.2.9}, {value: 198.51.100.1}]"
FORBIDDEN = [
    # parameters of the class, what the Service asks for, what the Gateway is told
    ("{}", {"loadBalancerIP": "192.0.2.9"}, "its Service g-gwfast was not given 192.0.2.9, 198.51.100.1"),
    ("{addresses: [198.51.100.0/24]}", {"loadBalancerIP": "198.51.100.1"},
     "it must not ask for 192.0.2.9: the parameters of its GatewayClass (spec.addresses) allow 198.51.100.0/24"),
    ("{addresses: []}", {}, "it must not ask for 192.0.2.9, 198.51.100.1: the parameters of its GatewayClass (spec.addresses) allow none"),
    ("{service: {type: NodePort}}", {}, "it must not ask for 192.0.2.9, 198.51.100.1: the parameters of its GatewayClass (spec.addresses) "
     "say none, and its Service is not of type LoadBalancer"),
    ("{service: {type: ClusterIP}, addresses: [192.0.2.9]}", {"externalIPs": ["192.0.2.9"]},
     "it must not ask for 198.51.100.1: the parameters of its GatewayClass (spec.addresses) allow 192.0.2.9"),
    ("{service: {type: ClusterIP}, addresses: [0.0.0.0/0]}", {"externalIPs": ["192.0.2.9", "198.51.100.1"]}, ""),
]


@pytest.mark.parametrize("parameters, asks, message", FORBIDDEN)
def test_an_address_that_the_class_does_not_let_it_have(parameters, asks, message):
    """CVE-2020-8554: with externalIPs a Service gets what is sent to the address of somebody else."""
    plan, _, made = make(WITH_PARAMETERS % parameters + GATEWAY % ("g", TWO))
    spec = made[Key("Service", "shop", "g-gwfast")]["spec"]
    assert {name: spec[name] for name in ("loadBalancerIP", "externalIPs") if name in spec} == asks
    need = plan.needs[G]
    found = assigned(need, {"spec": spec}, plan.fleets[need.fleet], Slices({}))
    assert (found.ready, found.reason, found.message) == (not message, "AddressNotUsable" if message else "Pending", message)


def test_a_gateways_own_service_type_gives_it_no_address():
    own = GATEWAY % ("g", TWO + OWN) + DEDICATED.replace("dedicated: true", "service: {type: ClusterIP}") % ""
    for parameters, asks in (("{}", None), ("{addresses: [192.0.2.0/24]}", ["192.0.2.9"])):
        _, _, made = make(WITH_PARAMETERS % parameters + own)
        assert made[Key("Service", "shop", "g-gwfast")]["spec"].get("externalIPs") == asks


def test_an_address_that_cannot_be_had_says_why():
    plan = planned(CLASS + GATEWAY % ("g", ""))
    need, fleet = plan.needs[G], plan.fleets["gwfast-system", "gwfast-gwfast"]
    made = assigned(need, None, fleet, Slices({}))
    assert made.reason == "AddressNotAssigned" and made.coming == bool(need.ports)
    assert not assigned(need, None, fleet, Slices({}), "it is refused").coming, "not in a moment"
    found = assigned(need, None, fleet, Slices({}), "403 Forbidden: no")
    assert (found.ready, found.reason, found.message) == (False, "Pending", "403 Forbidden: no")
    service = {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}
    found = assigned(need, service, fleet, Slices({}), "422 Invalid: no")
    assert not found.ready and found.addresses and "422" in found.message


def test_at_most_sixteen_addresses():
    plan = planned(CLASS + GATEWAY % ("g", ""))
    ingress = [{"ip": f"192.0.2.{number}"} for number in range(20)]
    found = assigned(plan.needs[G], {"spec": BALANCED, "status": {"loadBalancer": {"ingress": ingress}}},
                     plan.fleets["gwfast-system", "gwfast-gwfast"], Slices({}))
    assert len(found.addresses) == 16 and msgspec.to_builtins(found)["ready"]


def test_what_cannot_be_made_stays_and_the_others_are_made(monkeypatch):
    text = CLASS + GATEWAY % ("g", "") + GATEWAY % ("h", OWN) + DEDICATED % ""
    plan, targets, before = make(text)
    real, owned = wanted.objects.for_fleet, there(before)

    def fail(fleet, *more):
        if fleet.gateway:
            raise RecursionError("too deep")
        return real(fleet, *more)
    monkeypatch.setattr(wanted.objects, "for_fleet", fail)
    spoilt = {}
    now = desired(plan, SITE, uid_of, targets, AUTHORITY, spoilt)
    assert list(spoilt) == [("shop", "h-gwfast")] and isinstance(spoilt["shop", "h-gwfast"], RecursionError)
    assert before.keys() - now.keys() == {key for key in before if key.namespace == "shop" and key.kind != "Service"}
    assert doomed(plan, now, owned, Slices(owned), spoilt) == set()
    assert doomed(plan, now, owned, Slices(owned)), "nothing else keeps them"


def test_a_service_that_cannot_be_made_stays_and_the_others_are_made(monkeypatch):
    plan, targets, before = make(CLASS + GATEWAY % ("g", "") + GATEWAY % ("h", ""))
    real, owned = wanted.objects.for_gateway, there(before)

    def fail(need, *more):
        if need.service == "g-gwfast":
            raise ValueError("odd")
        return real(need, *more)
    monkeypatch.setattr(wanted.objects, "for_gateway", fail)
    spoilt = {}
    now = desired(plan, SITE, uid_of, targets, AUTHORITY, spoilt)
    assert list(spoilt) == [G] and before.keys() - now.keys() == {Key("Service", "shop", "g-gwfast")}
    assert doomed(plan, now, owned, Slices(owned), spoilt) == set()


def test_who_lacks_a_target_port_is_told():
    plan, _, made = make(CLASS + GATEWAY % ("g", ""))
    need = plan.needs[G]
    service = there(made)[Key("Service", "shop", "g-gwfast")]
    service["spec"]["clusterIP"] = "10.0.0.9"
    service["spec"]["type"] = "ClusterIP"
    for one, shown in ((service, (("IPAddress", "10.0.0.9"),)), (None, ())):
        found = assigned(need, one, plan.fleets[need.fleet], Slices({}), lacking="no target port is left")
        assert (found.ready, found.reason, found.message, found.addresses) == (False, "NoResources", "no target port is left", shown)
