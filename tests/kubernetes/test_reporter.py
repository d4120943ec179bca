"""Which addresses Gateways have, whose Lease it is, and when a reporter writes."""
import asyncio
import json

import pytest
from writer_world import GATEWAY, OURS, WAIT, G, World, resources, route, until

from gwfast.config.model import Key
from gwfast.graph.attach import attach
from gwfast.graph.model import GraphOptions
from gwfast.kubernetes.client import ApiError
from gwfast.kubernetes.publish import of_machine, of_service, typed
from gwfast.kubernetes.reporter import Reporter, ReportOptions, assign, lease_name


IP = "10.0.0.1"


@pytest.mark.parametrize(("name", "expected"), [
    (OURS, "gateway-controller.gwfast.dev"), ("example.net/a", "a.example.net"),
    ("example.net/a/b", "a-b.example.net-"), ("example.net/A", "a.example.net-"), ("example.net/_", "example.net-"),
    ("example.net/" + "a" * 300, "a" * 200 + "-"), ("example.net/a.-", "a.example.net-"),
])
def test_a_lease_is_named_as_its_controller(name, expected):
    found = lease_name(name)
    assert found.startswith(expected) and len(found) <= 253
    assert (found == expected) == (not expected.endswith("-"))
    import re
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", found)


def test_leases_of_different_controllers_differ():
    names = ["a.b/c", "a.b/C", "a.b/c/", "a.b/c-", "a.b/c!", "a.b/c~"]
    assert len({lease_name(name) for name in names}) == len(names)


# ---- Addresses

@pytest.mark.parametrize(("spec", "ingress", "expected"), [
    ({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}, None, [("IPAddress", "10.96.0.1"), ("IPAddress", "fd00::1")]),
    ({"clusterIP": "10.96.0.1"}, None, [("IPAddress", "10.96.0.1")]),
    ({"clusterIP": "None", "clusterIPs": ["None"]}, None, []),
    ({"type": "NodePort", "clusterIP": "10.96.0.1", "externalIPs": ["1.2.3.4"]}, None, [("IPAddress", "1.2.3.4"), ("IPAddress", "10.96.0.1")]),
    ({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}, None, []),
    ({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["1.2.3.4"]}, [], [("IPAddress", "1.2.3.4")]),
    ({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}, [{"ip": "5.6.7.8"}, {"hostname": "lb.example"}, {"ip": "5.6.7.8"}],
     [("IPAddress", "5.6.7.8"), ("Hostname", "lb.example")]),
    ({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}, [{"ports": [{"port": 80, "protocol": "TCP"}]}], []),
    ({"type": "ExternalName", "externalName": "lb.example"}, None, [("Hostname", "lb.example")]),
], ids=["both families", "an old server", "headless", "node port", "no balancer yet", "external", "balancer", "ports alone", "a name"])
def test_addresses_of_a_service(spec, ingress, expected):
    status = {} if ingress is None else {"loadBalancer": {"ingress": ingress}}
    assert list(of_service(json.dumps({"metadata": {}, "spec": spec, "status": status}).encode())) == expected


def test_the_address_of_this_machine(monkeypatch):
    monkeypatch.delenv("POD_IP", raising=False)
    assert of_machine("https://127.0.0.1:6443") == (("IPAddress", "127.0.0.1"),)
    assert of_machine("https://[::1]") in ((("IPAddress", "::1"),), ())
    assert of_machine("https://nowhere.invalid:6443") == ()
    monkeypatch.setenv("POD_IP", "10.244.0.7")
    assert of_machine("https://127.0.0.1:6443") == (("IPAddress", "10.244.0.7"),)


def gateways(addresses):
    text = GATEWAY % ("g", 80)
    spec = ", ".join(f"{{type: IPAddress, value: {value}}}" if value else "{type: IPAddress}" for value in addresses)
    found = resources(text.replace("spec: {", f"spec: {{addresses: [{spec}], " if addresses else "spec: {"))
    return attach(found, GraphOptions())


PUBLISHED, LISTENER = typed(["9.9.9.9", "lb.example"]), "default/g/web"


@pytest.mark.parametrize(("addresses", "published", "unbound", "expected", "reason"), [
    ((), PUBLISHED, [], PUBLISHED, ""),
    ((), (), [], (), "AddressNotAssigned"),
    ((IP,), PUBLISHED, [], typed([IP]), ""),
    (("",), PUBLISHED, [], PUBLISHED, ""),
    ((IP, ""), PUBLISHED, [], typed([IP]) + PUBLISHED, ""),
    ((IP, "10.0.0.2"), PUBLISHED, [(LISTENER, IP, "taken")], typed(["10.0.0.2"]), "AddressNotUsable"),
    ((IP,), PUBLISHED, [("default/other/web", IP, "taken")], typed([IP]), ""),
    ((), PUBLISHED, [(LISTENER, "", "taken")], PUBLISHED, "unserved"),
], ids=["published", "nothing", "its own", "any", "both", "one cannot be bound", "another's", "a port cannot be opened"])
def test_what_a_gateway_gets(addresses, published, unbound, expected, reason):
    found = assign(gateways(addresses), published, "why", unbound)[G]
    assert found.addresses == expected
    assert found.ready == (reason in ("", "unserved"))
    assert found.unserved == (((LISTENER, "taken"),) if reason == "unserved" else ())
    if not found.ready:
        assert found.reason == reason and found.message == {"AddressNotAssigned": "why", "AddressNotUsable": "taken"}[reason]


# ---- Who writes

class Cluster(World):
    """Beside the objects a Lease, and a Service that is followed."""

    def __init__(self, *texts):
        super().__init__(*texts)
        self.lease, self.service, self.channel, self.bundles = None, None, "standard", "1.6.1"
        self.status_changed = None
        self.events = asyncio.Queue()

    async def request(self, method, path, body=None, **more):
        if "leases" in path:
            return self._leased(method, body)
        if path.startswith("/api/v1/namespaces/ingress/services?"):
            items = [self.service] if self.service else []
            return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()
        return await super().request(method, path, body, **more)

    def _leased(self, method, body):
        if method == "GET" and self.lease is None:
            raise ApiError(404, "NotFound")
        if method in ("POST", "PUT"):
            found = json.loads(body) if isinstance(body, bytes) else json.loads(json.dumps(body))
            self.version += 1
            found.setdefault("metadata", {})["resourceVersion"] = str(self.version)
            self.lease = found
        return json.dumps(self.lease).encode()

    async def watch(self, path, **_):
        while True:
            yield json.dumps(await self.events.get()).encode()


def run(function):
    def test():
        async def main():
            made = []

            def reporter(world, make=None, **options):
                options = ReportOptions(controller_name=OURS, **options)
                made.append(Reporter(world, world, "https://127.0.0.1:1", "gw", options, world.log, make))
                return made[-1]
            async with asyncio.timeout(WAIT):
                await function(reporter)
            for one in made:
                await one.close()
        asyncio.run(main())
    test.__name__, test.__doc__ = function.__name__, function.__doc__
    return test


def graph_of(world):
    return world.attacher.attach(dict(world.resources))


@run
async def test_without_election_it_writes_at_once(reporter):
    world = Cluster(route())
    one = reporter(world, lease=None, publish_addresses=("1.2.3.4",))
    one.follow(graph_of(world))
    await until(lambda: one.writer.idle)
    assert world.status(G)["addresses"] == [{"type": "IPAddress", "value": "1.2.3.4"}]
    assert world.parents() == [("g", OURS, 1)]
    assert world.lease is None and one.leads


@run
async def test_the_lease_is_taken_and_given_back(reporter):
    world = Cluster(route())
    one = reporter(world)
    assert not one.leads
    one.follow(graph_of(world))
    await until(lambda: one.stats.writes == 3)
    assert one.leads and world.lease["metadata"]["name"] == "gateway-controller.gwfast.dev"
    assert world.lease["spec"]["holderIdentity"].count("_") >= 1
    await one.close()
    assert not world.lease["spec"]["holderIdentity"] and not one.writer._leading
    asked = len(world.asked)
    world.tell(G)
    one.follow(graph_of(world))
    await asyncio.sleep(0)
    assert len(world.asked) == asked


@run
async def test_a_service_that_gets_its_address_late(reporter):
    world = Cluster(route())
    one = reporter(world, lease=None, publish_service=("ingress", "gw"))
    one.follow(graph_of(world))
    await until(lambda: "no Service" in json.dumps(world.status(G)))
    assert [one["reason"] for one in world.status(G)["conditions"]] == ["Accepted", "AddressNotAssigned", "ResolvedRefs"]
    service = {"metadata": {"namespace": "ingress", "name": "gw", "uid": "1", "resourceVersion": "900"},
               "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1"}}
    world.events.put_nowait({"type": "ADDED", "object": service})
    await until(lambda: "no address yet" in json.dumps(world.status(G)))
    metadata = service["metadata"] | {"resourceVersion": "901"}
    world.events.put_nowait({"type": "MODIFIED", "object": service | {
        "metadata": metadata, "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}})
    await until(lambda: world.status(G).get("addresses") == [{"type": "Hostname", "value": "lb.example"}])
    assert [one["reason"] for one in world.status(G)["conditions"]] == ["Accepted", "Programmed", "ResolvedRefs"]
    world.events.put_nowait({"type": "DELETED", "object": service | {"metadata": service["metadata"] | {"resourceVersion": "902"}}})
    await until(lambda: world.status(G)["addresses"] == [])


@run
async def test_ports_that_cannot_be_opened(reporter):
    world = Cluster(GATEWAY % ("h", 81))
    one = reporter(world, lease=None, publish_addresses=("1.2.3.4",))
    one.follow(graph_of(world), [(LISTENER, "", "cannot listen on 80: address in use")])
    await until(lambda: one.writer.idle)
    programmed = world.status(G)["listeners"][0]["conditions"][1]
    assert (programmed["status"], programmed["reason"]) == ("False", "PortUnavailable") and "in use" in programmed["message"]
    assert world.status(Key("Gateway", "default", "h"))["listeners"][0]["conditions"][1]["status"] == "True"
    one.follow(graph_of(world))
    await until(lambda: one.writer.idle)
    assert world.status(G)["listeners"][0]["conditions"][1]["status"] == "True"


# ---- Who makes objects beside it

X_BACKEND = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: x}
spec: {type: EndpointSelector, port: {number: 80}, endpointSelector: {matchLabels: {app: x}}}
"""


class Making:
    """Notes what it is told."""

    def __init__(self, leads, changed):
        self.may, self.changed, self.faults, self.graphs, self.led, self.runs = leads, changed, {}, [], [], False

    def follow(self, graph):
        self.graphs.append(graph)

    def lead(self, leads):
        self.led.append(leads)

    async def run(self):
        self.runs = True
        await asyncio.Event().wait()


@run
async def test_who_makes_objects_is_asked_for_with_the_first_xbackend_and_hears_who_leads(reporter):
    world, made = Cluster(route()), []

    def make(*given):
        made.append(Making(*given))
        return made[-1]
    one = reporter(world, make)
    one.follow(graph_of(world))
    await until(lambda: one.leads)
    assert not made
    world.resources |= resources(X_BACKEND)
    one.follow(graph_of(world))
    one.follow(graph_of(world))
    (maker,) = made
    await until(lambda: maker.runs)
    assert len(maker.graphs) == 2 and maker.led == [True] and maker.may()
    one._lead(False)
    assert maker.led == [True, False]
    await one.close()
    assert not [each for each in one._tasks if not each.done() and not each.cancelling()]


@run
async def test_without_a_lease_yet_who_makes_objects_does_not_lead(reporter):
    world, made = Cluster(route()), []
    world.resources |= resources(X_BACKEND)
    one = reporter(world, lambda *given: made.append(Making(*given)) or made[-1])
    one.follow(graph_of(world))
    assert made[0].led == [False]
    await until(lambda: made[0].led == [False, True])
