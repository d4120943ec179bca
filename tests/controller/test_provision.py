"""The provisioner without a cluster: whose target ports are whose, what is told of them, and when it looks."""
import asyncio

import pytest
from controller_cases import SITE
from support.api_objects import Server

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import provision as module
from gwfast.controller.apply import path
from gwfast.controller.owners import Owners
from gwfast.controller.provision import Provisioner
from support.provisioning import BOTH, CLASS, EVIL, GATEWAY, NEW, OLD, VICTIM, WEB, gateway, run


def test_a_service_that_says_anothers_target_takes_nothing_from_it():
    """From a replica that follows, and from it when it leads then."""
    async def test(world):
        world.service(EVIL, 15000)
        world.service(VICTIM, 10080)
        world.follow(BOTH)
        await world.targets({EVIL: 15000, VICTIM: 10080})
        world.service(EVIL, 10080)
        world.follow(BOTH + GATEWAY % ("third", NEW))
        await world.targets({EVIL: 15000, VICTIM: 10080, Key("Gateway", "third", "g"): None})
        world.provisioner.lead(True)
        await world.until(lambda: world.provisioner.targets[Key("Gateway", "third", "g")])
        assert world.provisioner.targets[EVIL] == {WEB: 15000} and world.provisioner.targets[VICTIM] == {WEB: 10080}
    run(test)


@pytest.mark.parametrize("leads", [False, True])
def test_of_two_that_say_one_target_the_older_gateway_has_it(leads):
    """Where it is not known who had it: a controller that starts."""
    async def test(world):
        world.provisioner.lead(leads)
        world.service(EVIL, 10080)
        world.service(VICTIM, 10080)
        world.follow(BOTH)
        await world.until(lambda: world.provisioner.targets)
        assert world.provisioner.targets[VICTIM] == {WEB: 10080}
        assert world.provisioner.targets[EVIL].get(WEB) not in ((10080,) if leads else (10080, 15000))
    run(test)


def endpoints(keeper, ready=True, name="a"):
    labels = {"kubernetes.io/service-name": "g-gwfast", "endpointslice.kubernetes.io/managed-by": keeper}
    key = Key("EndpointSlice", "victim", f"g-gwfast-{name}")
    return key, {"metadata": {"name": key.name, "namespace": "victim", "labels": labels},
                 "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]}


def test_shared_data_planes_serve_on_for_a_while_behind_one_that_has_moved(monkeypatch):
    """Until it is known everywhere that its endpoints are others."""
    own = CLASS + GATEWAY.replace("]}\n", "], infrastructure: {parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: own}}}\n") % (
        "victim", OLD) + """
---
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own, namespace: victim}
spec: {dedicated: true}
"""
    shared, alone = ("gwfast-system", "gwfast-gwfast"), ("victim", "g-gwfast")

    def of(world):
        return {place for place, fleet in world.provisioner.fleets.items() if VICTIM in fleet.gateways}

    async def test(world):
        world.service(VICTIM, 10080)
        mirrored, there = endpoints(module.wanted.OURS, name="old")
        world.provisioner.take(mirrored, there)
        world.follow(own)
        await world.until(lambda: of(world) == {shared, alone} and world.provisioner.moves)
        await world.targets({VICTIM: 10080})  # of both
        world.provisioner.take(*endpoints(module.wanted.KUBERNETES, name="new"))
        world.provisioner.take(mirrored, None)
        looks = world.provisioner._rests
        await world.until(lambda: world.provisioner._rests != looks)  # it has looked
        assert of(world) == {shared, alone}
        world.provisioner._left[alone] = 0.0  # the while is over
        world.provisioner.look()
        await world.until(lambda: of(world) == {alone} and not world.provisioner.moves)
    monkeypatch.setattr(module, "DRAIN_DELAY", 3600.0)
    run(test)


def test_endpoints_that_are_being_written_lead_to_shared_data_planes_already():
    """Who changes its mind a moment later moves from there: they serve on until it is known that nobody is led to them."""
    async def test(world):
        world.provisioner.lead(True)
        source, there = endpoints(module.wanted.KUBERNETES)
        there["metadata"] |= {"name": "gwfast-gwfast-a", "namespace": "gwfast-system"}
        there["metadata"]["labels"]["kubernetes.io/service-name"] = "gwfast-gwfast"
        there |= {"addressType": "IPv4", "ports": []}
        world.provisioner.take(Key("EndpointSlice", "gwfast-system", "gwfast-gwfast-a"), there)
        world.follow(CLASS + GATEWAY % ("victim", OLD))
        mirrored = Key("EndpointSlice", "victim", "g-gwfast-a")
        await world.until(lambda: mirrored in world.provisioner._made)
        world.provisioner._applier._owned.pop(mirrored, None)  # the answer is on its way
        records = world.provisioner._records(world.provisioner._applier.owned, module.wanted.Slices({}))
        assert records.mirrored == {("victim", "g-gwfast")} and not records.shared
        world.provisioner.lead(False)
        assert not module.wanted.mirrored_places(world.provisioner._made)
    run(test)


def test_a_gateway_for_which_no_target_is_left_is_told(monkeypatch):
    monkeypatch.setattr(limits, "TARGETS_PER_NAMESPACE", 0)

    async def test(world):
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: world.provisioner.assigned)
        found = world.provisioner.assigned[VICTIM]
        assert not found.ready and found.reason == "NoResources" and found.message.startswith("no target port is left for 80/TCP:")
    run(test)


def test_it_looks_at_once_after_quiet_and_rests_then(monkeypatch):
    looks = []
    monkeypatch.setattr(module, "REST", 3600.0)
    monkeypatch.setattr(Provisioner, "_look", lambda self: looks.append(len(looks)))

    async def test(world):
        for _ in range(100):
            world.provisioner.look()
        await world.until(lambda: looks == [0])
        for _ in range(100):
            world.provisioner.look()
            await asyncio.sleep(0)
        assert looks == list(range(module.LOOKS))
        world.provisioner.lead(True)
        await world.until(lambda: len(looks) == module.LOOKS + 1)
    run(test)


def test_what_fails_for_one_is_logged_once_and_the_others_are_made(monkeypatch):
    real = module.wanted.objects.for_gateway

    def fail(need, *more):
        if need.node.key == EVIL:
            raise RecursionError("too deep")
        return real(need, *more)
    monkeypatch.setattr(module.wanted.objects, "for_gateway", fail)

    async def test(world):
        world.provisioner.lead(True)
        world.service(EVIL, 15000)
        world.follow(BOTH)
        await world.until(lambda: path(Key("Service", "victim", "g-gwfast")) in world.server.objects)
        world.follow(BOTH + GATEWAY % ("third", NEW))
        await world.until(lambda: path(Key("Service", "third", "g-gwfast")) in world.server.objects)
        assert world.log.getvalue().count("objects could not be made") == 1
        assert not [one for one in world.server.said if one[1] == path(Key("Service", "aaa", "g-gwfast")) and one[0] != "GET"]
    run(test)


def test_nothing_goes_while_lists_are_missing(monkeypatch):
    """A replica that starts while Gateways may not be listed knows of none."""
    monkeypatch.setattr(module, "UNCERTAIN", 0.01)
    certain = []

    async def test(world):
        service = Key("Service", "victim", "g-gwfast")
        world.provisioner.lead(True)
        world.service(VICTIM, 10080)
        world.server.objects[path(service)] = world.provisioner._applier.owned[service]
        looks, real = [], world.provisioner._look
        world.provisioner._look = lambda: (real(), looks.append(1))
        world.follow(CLASS)
        await world.until(lambda: len(looks) > 3)
        assert not [one for one in world.server.said if path(service) == one[1]]
        certain.append(True)
        await world.until(lambda: path(service) not in world.server.objects)
    run(test, certain=lambda: bool(certain))


CLASSES = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gwfast"
OURS, OTHERS = ({"metadata": {"name": "gwfast", "uid": "c", "generation": 1}, "spec": {"controllerName": name}}
                for name in (SITE.controller_name, "others.example/x"))


@pytest.mark.parametrize("live, of_class, planned, goes", [
    (gateway(), OURS, None, False),  # the plan knew nothing of it
    (gateway(generation=2), OURS, 1, False),  # nor what it is now
    (gateway(), OURS, 1, True),
    (None, OURS, None, True),
    (gateway(uid="another"), OURS, None, True),
    (gateway(deletionTimestamp="2026-01-01T00:00:00Z"), OURS, None, True),
    (gateway(class_name="another"), OURS, None, True),
    (gateway(), OTHERS, None, True),
    (gateway(), None, None, True),
])
def test_what_a_gateway_still_asks_for_does_not_go(live, of_class, planned, goes):
    server = Server()
    server.objects = {where: each for where, each in (
        ("/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/g", live), (CLASSES, of_class)) if each}
    owner = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "g", "uid": "uid-of-g"}
    found = {"metadata": {"namespace": "shop", "labels": {"gateway.networking.k8s.io/gateway-class-name": "gwfast"},
                          "ownerReferences": [owner]}}
    words = asyncio.run(Owners(server, SITE.controller_name, lambda key: planned).held(found))
    assert words == ("" if goes else "Gateway shop/g is there, and not as it was when its deletion was planned")


@pytest.mark.parametrize("live, planned, goes", [(OURS, None, False), (OURS, 1, True), (OTHERS, None, True), (None, None, True)])
def test_what_a_class_still_asks_for_does_not_go(live, planned, goes):
    server = Server()
    server.objects = {CLASSES: live} if live else {}
    owner = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "name": "gwfast", "uid": "c"}
    found = {"metadata": {"namespace": "gwfast-system", "ownerReferences": [owner]}}
    assert (asyncio.run(Owners(server, SITE.controller_name, lambda key: planned).held(found)) == "") == goes
