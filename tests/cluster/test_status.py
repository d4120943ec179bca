"""Status as `kubectl` reads it, written by `gwfast run --kubernetes`: of every kind, beside others, by one of two, at speed."""
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import yaml

from cluster import Cluster
from sandbox import Process
from support.waiting import elapse

API = "gateway.networking.k8s.io"
LEASE = 15.0  # seconds after its last renewal that a Lease is over
QUIET = 20.0  # seconds that a cluster is watched in which nothing happens
KINDS = ("GatewayClass", "Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "BackendTLSPolicy",
         "XBackendTrafficPolicy", "BackendPolicy")


class World:
    """A namespace with a class of its own, whose controller is `name`; the gateways that serve it are ended with the test."""

    def __init__(self, cluster: Cluster, namespace: str):
        self.cluster, self.namespace = cluster, namespace
        self.name = f"status.example/{namespace}"
        self.lease = f"{namespace}.status.example"
        self.running: list[Process] = []
        self.apply({"apiVersion": f"{API}/v1", "kind": "GatewayClass", "metadata": {"name": namespace}, "spec": {"controllerName": self.name}})

    def run(self, *options: str, admin: int = 9000) -> Process:
        argv = [sys.executable, "-m", "gwfast", "run", "--kubernetes", "--controller-name", self.name, "--workers", "1",
                "--admin", f"127.0.0.1:{admin}", "--access-log", "off", "--drain-timeout", "1", *options]
        self.running.append(self.cluster.run(argv))
        return self.running[-1]

    def apply(self, *things: dict) -> None:
        placed = [thing if thing["kind"] == "GatewayClass" else thing | {"metadata": {"namespace": self.namespace} | thing["metadata"]}
                  for thing in things]
        self.cluster.apply(yaml.safe_dump_all(placed))

    def status(self, kind: str, name: str) -> dict:
        return (self.cluster.get(kind, name, self.namespace) or {}).get("status") or {}

    def write_status(self, kind: str, name: str, patch: dict) -> None:
        path = self.cluster.api.path(kind, self.namespace, name)
        self.cluster.api.patch(f"{path}/status", {"status": patch})

    def until(self, condition: Callable, what: str, seconds: float = 90.0):
        return self.cluster.wait_for(condition, what, seconds)

    def comes_to(self, read: Callable, wanted: object, what: str = "") -> None:
        self.cluster.comes_to(read, wanted, what, 90.0)

    def counted(self, name: str, admin: int = 9000) -> float:
        text = self.cluster.http("127.0.0.1", admin, "/metrics").body.decode()
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"gwfast_{name} "))

    def leads(self, admin: int) -> bool:
        return self.counted("leader", admin) == 1


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> Iterator[World]:
    made = World(cluster, namespace)
    yield made
    for process in made.running:
        process.thaw()
        process.stop()
    cluster.kubectl("delete", "gatewayclass", namespace)


def gateway(name: str = "g", *listeners: dict, **spec: object) -> dict:
    given = list(listeners) or [{"name": "web", "protocol": "HTTP", "port": 8000}]
    return {"apiVersion": f"{API}/v1", "kind": "Gateway", "metadata": {"name": name}, "spec": {"gatewayClassName": "", "listeners": given} | spec}


def route(name: str = "r", kind: str = "HTTPRoute", parents: tuple = ("g",), **spec: object) -> dict:
    version = {"HTTPRoute": "v1", "GRPCRoute": "v1", "TLSRoute": "v1", "TCPRoute": "v1", "UDPRoute": "v1"}[kind]
    return {"apiVersion": f"{API}/{version}", "kind": kind, "metadata": {"name": name},
            "spec": {"parentRefs": [{"name": one} if isinstance(one, str) else one for one in parents],
                     "rules": [{"backendRefs": [{"name": "b", "port": 80}]}]} | spec}


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [
    {"name": "tcp", "port": 80}, {"name": "udp", "port": 80, "protocol": "UDP"}]}}


def policies() -> list[dict]:
    target = {"targetRefs": [{"group": "", "kind": "Service", "name": "b"}]}
    return [
        {"apiVersion": f"{API}/v1", "kind": "BackendTLSPolicy", "metadata": {"name": "p"},
         "spec": target | {"validation": {"hostname": "b.example", "wellKnownCACertificates": "System"}}},
        {"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy", "metadata": {"name": "p"},
         "spec": target | {"retryConstraint": {"budget": {"percent": 20, "interval": "10s"}}}},
        {"apiVersion": "gwfast.dev/v1alpha1", "kind": "BackendPolicy", "metadata": {"name": "p"}, "spec": target},
    ]


def words(conditions: list[dict]) -> dict[str, str]:
    return {one["type"]: f"{one['status']}/{one['reason']}" for one in conditions}


def entries(status: dict) -> list[dict]:
    return status.get("parents", []) + status.get("ancestors", [])


def named(world: World, *things: dict) -> tuple[dict, ...]:
    for thing in things:
        if thing["kind"] == "Gateway":
            thing["spec"]["gatewayClassName"] = thing["spec"]["gatewayClassName"] or world.namespace
    return things


FINE = {"Accepted": "True/Accepted", "ResolvedRefs": "True/ResolvedRefs"}


def test_every_kind(world: World):
    listeners = [{"name": "web", "protocol": "HTTP", "port": 8000}, {"name": "tls", "protocol": "TLS", "port": 8001, "tls": {"mode": "Passthrough"}},
                 {"name": "tcp", "protocol": "TCP", "port": 8002}, {"name": "udp", "protocol": "UDP", "port": 8003},
                 {"name": "odd", "protocol": "ODD", "port": 8004}]
    more = {"apiVersion": f"{API}/v1", "kind": "ListenerSet", "metadata": {"name": "s"},
            "spec": {"parentRef": {"name": "g"}, "listeners": [{"name": "extra", "protocol": "HTTP", "port": 8005}]}}
    routes = [route(kind.lower(), kind, **({"hostnames": [f"{kind.lower()}.example"]} if kind in ("TLSRoute", "GRPCRoute", "HTTPRoute") else {}))
              for kind in KINDS if kind.endswith("Route")]
    both = route("both", parents=("g", {"name": "s", "kind": "ListenerSet"}), hostnames=["both.example"])
    world.run("--publish-status-address", "192.0.2.7,lb.example")
    world.apply(*named(world, SERVICE, gateway("g", *listeners, allowedListeners={"namespaces": {"from": "Same"}}), more, both, *routes, *policies()))
    known = {"Accepted": "True/Accepted", "SupportedVersion": "True/SupportedVersion"}
    of_class = world.until(lambda: (found := world.cluster.get("GatewayClass", world.namespace)["status"])["supportedFeatures"]
                           and words(found["conditions"]) == known and found, "the class's features")
    names = [one["name"] for one in of_class["supportedFeatures"]]
    assert names == sorted(names) and "HTTPRouteRetry" in names and "UDPRoute" in names

    attached = {"web": 3, "tls": 1, "tcp": 1, "udp": 1, "odd": 0}
    world.comes_to(lambda: {one["name"]: one["attachedRoutes"] for one in world.status("Gateway", "g")["listeners"]}, attached)
    world.comes_to(lambda: words(world.status("Gateway", "g")["conditions"]), {
        "Accepted": "True/ListenersNotValid", "Programmed": "True/Programmed", "ResolvedRefs": "True/ResolvedRefs"})
    world.comes_to(lambda: [(one["type"], one["value"]) for one in world.status("Gateway", "g")["addresses"]],
                   [("IPAddress", "192.0.2.7"), ("Hostname", "lb.example")])
    world.comes_to(lambda: world.status("Gateway", "g")["attachedListenerSets"], 1)
    status = world.status("Gateway", "g")
    assert [one["kind"] for one in status["listeners"][1]["supportedKinds"]] == ["TLSRoute"]
    assert words(status["listeners"][4]["conditions"])["Accepted"] == "False/UnsupportedProtocol"
    world.comes_to(lambda: [(words(found["conditions"]), found["listeners"][0]["attachedRoutes"]) for found in [world.status("ListenerSet", "s")]],
                   [({"Accepted": "True/Accepted", "Programmed": "True/Programmed"}, 1)])

    for thing in (*routes, both):
        world.comes_to(lambda thing=thing: [(one["controllerName"], words(one["conditions"])) for one in entries(
            world.status(thing["kind"], thing["metadata"]["name"]))], [(world.name, FINE)] * len(thing["spec"]["parentRefs"]))
    for thing in policies():
        world.comes_to(lambda thing=thing: [(one["ancestorRef"]["name"], words(one["conditions"])["Accepted"]) for one in entries(
            world.status(thing["kind"], "p"))], [("g", "True/Accepted")])
    assert world.counted("status_failures_total") == 0


def test_versions_that_are_not_known(world: World):
    """A class stays Accepted, and says so (gatewayclass_types.go)."""
    crd = world.cluster.api.path("CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io")
    world.run()

    def supported() -> str:
        found = words((world.cluster.get("GatewayClass", world.namespace).get("status") or {}).get("conditions", ()))
        return found.get("SupportedVersion", "") if found.get("Accepted") == "True/Accepted" else ""
    world.until(lambda: supported() == "True/SupportedVersion", "the bundle to be known")
    before = world.cluster.api.get(crd)["metadata"]["annotations"]
    try:
        world.cluster.api.patch(crd, {"metadata": {"annotations": {f"{API}/bundle-version": "v1.99.0"}}})
        world.until(lambda: supported() == "False/UnsupportedVersion", "the new one to be seen")
    finally:
        world.cluster.api.patch(crd, {"metadata": {"annotations": before}})
    world.until(lambda: supported() == "True/SupportedVersion", "the old one again")


def test_entries_and_conditions_of_others_stay(world: World):
    world.apply(*named(world, gateway(), route(), SERVICE, *policies()))
    gateway_process = world.run()
    theirs = {"type": "Accepted", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 1}
    tested = theirs | {"type": "status.example/Tested"}
    world.until(lambda: entries(world.status("BackendTLSPolicy", "p")) and world.status("Gateway", "g").get("listeners")
                and entries(world.status("HTTPRoute", "r")), "statuses")
    for kind, name, refs in (("HTTPRoute", "r", ("parents", "parentRef")), ("BackendTLSPolicy", "p", ("ancestors", "ancestorRef"))):
        entry = {refs[1]: {"group": API, "kind": "Gateway", "name": "other"}, "controllerName": "status.example/other", "conditions": [theirs]}
        world.write_status(kind, name, {refs[0]: [entry, *world.status(kind, name)[refs[0]]]})
    status = world.status("Gateway", "g")
    status["listeners"][0]["conditions"].append(tested)
    world.write_status("Gateway", "g", {"conditions": [tested, *status["conditions"]], "listeners": status["listeners"]})

    world.apply(*named(world, gateway("g", {"name": "web", "protocol": "HTTP", "port": 8000, "hostname": "*.example"}), route(hostnames=["a.example"])))
    world.until(lambda: all(one["observedGeneration"] == 2 for one in world.status("Gateway", "g")["conditions"][1:]), "the Gateway's new generation")
    world.until(lambda: world.status("HTTPRoute", "r")["parents"][-1]["conditions"][0]["observedGeneration"] == 2, "the route's new generation")
    status = world.status("Gateway", "g")
    assert status["conditions"][0] == tested and tested in status["listeners"][0]["conditions"]
    assert world.status("HTTPRoute", "r")["parents"][0]["conditions"] == [theirs]
    assert world.status("BackendTLSPolicy", "p")["ancestors"][0]["conditions"] == [theirs]

    world.apply(route(parents=("elsewhere",)))  # it leaves
    world.until(lambda: len(world.status("HTTPRoute", "r")["parents"]) == 1, "our entry to go")
    world.until(lambda: len(world.status("BackendTLSPolicy", "p")["ancestors"]) == 1, "our ancestor to go")
    assert world.status("HTTPRoute", "r")["parents"][0]["conditions"] == [theirs]
    assert gateway_process.poll() is None


def test_a_gateway_of_another_controller_is_left_alone_and_one_that_was_ours_is_given_back(world: World):
    other = {"apiVersion": f"{API}/v1", "kind": "GatewayClass", "metadata": {"name": f"{world.namespace}-other"}, "spec": {"controllerName": "status.example/other"}}
    world.apply(other, *named(world, gateway(), gateway("theirs", {"name": "web", "protocol": "HTTP", "port": 8010}, gatewayClassName=f"{world.namespace}-other"),
                              route(parents=("g", "theirs"))))
    world.run()
    world.until(lambda: words(world.status("Gateway", "g").get("conditions", ())).get("Programmed") == "True/Programmed", "Programmed")
    assert set(words(world.status("Gateway", "theirs")["conditions"]).values()) == {"Unknown/Pending"}
    world.comes_to(lambda: [one["parentRef"]["name"] for one in entries(world.status("HTTPRoute", "r"))], ["g"])
    world.apply(gateway(gatewayClassName=f"{world.namespace}-other"))
    world.until(lambda: set(words(world.status("Gateway", "g")["conditions"]).values()) == {"Unknown/Pending"}, "its status to be given back")
    world.until(lambda: not (status := world.status("Gateway", "g")).get("listeners") and not status.get("addresses"), "the rest of it to go")
    world.until(lambda: not entries(world.status("HTTPRoute", "r")), "our entry to go")
    world.cluster.kubectl("delete", "gatewayclass", f"{world.namespace}-other")


def test_a_port_that_is_taken(world: World):
    holder = world.cluster.run([sys.executable, "-c", "import socket,time; s=socket.create_server(('0.0.0.0', 8020)); time.sleep(600)"])
    world.running.append(holder)
    world.until(lambda: world.cluster.connect("127.0.0.1", 8020).close() is None, "the port")
    world.apply(*named(world, gateway("g", {"name": "web", "protocol": "HTTP", "port": 8000}, {"name": "taken", "protocol": "HTTP", "port": 8020})))
    world.run()
    world.comes_to(lambda: [words(one["conditions"])["Programmed"] for one in world.status("Gateway", "g")["listeners"]],
                   ["True/Programmed", "False/PortUnavailable"])
    world.comes_to(lambda: words(world.status("Gateway", "g")["conditions"])["Programmed"], "True/Programmed")
    holder.stop()
    world.until(lambda: words(world.status("Gateway", "g")["listeners"][1]["conditions"])["Programmed"] == "True/Programmed", "the port to be had")


def test_the_service_in_front(world: World):
    front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"}, "spec": {"ports": [{"port": 80}]}}
    world.apply(*named(world, gateway()))
    world.run("--publish-service", f"{world.namespace}/front")
    world.until(lambda: words(world.status("Gateway", "g").get("conditions", ())).get("Programmed") == "False/AddressNotAssigned", "no Service yet")
    world.apply(front)
    address = world.until(lambda: (world.status("Gateway", "g").get("addresses") or [{}])[0].get("value"), "the address")
    assert address == world.cluster.get("Service", "front", world.namespace)["spec"]["clusterIP"]
    world.comes_to(lambda: words(world.status("Gateway", "g")["conditions"])["Programmed"], "True/Programmed")


def test_an_old_bundle(new_cluster: Callable[..., Cluster]):
    """v1.4: XListenerSets with ports, no attachedListenerSets."""
    cluster = new_cluster()
    cluster.install_crds(version="v1.4.1")
    world = World(cluster, "default")
    old_set = {"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XListenerSet", "metadata": {"name": "s"},
               "spec": {"parentRef": {"name": "g"}, "listeners": [{"name": "extra", "protocol": "HTTP", "port": 8005}]}}
    world.apply(*named(world, gateway(allowedListeners={"namespaces": {"from": "Same"}}), old_set, route(), SERVICE))
    world.run()
    world.comes_to(lambda: [(words(found["conditions"]), found["listeners"][0]["port"]) for found in [world.status("XListenerSet", "s")]],
                   [({"Accepted": "True/Accepted", "Programmed": "True/Programmed"}, 8005)])
    assert "attachedListenerSets" not in world.until(lambda: (status := world.status("Gateway", "g")).get("listeners") and status, "the Gateway")
    world.until(lambda: entries(world.status("HTTPRoute", "r")), "the route")
    names = world.until(lambda: [one["name"] for one in cluster.get("GatewayClass", "default")["status"]["supportedFeatures"]], "features")
    assert "HTTPRouteCORS" in names and "ListenerSet" not in names
    world.until(lambda: world.counted("status_waiting") == 0, "it to be quiet")
    assert world.counted("status_failures_total") == 0 and world.counted("status_undone_total") == 0


# ---- One of two

def stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def written(world: World, begin: str, holder: str) -> list[dict]:
    """Return what the Lease has said since a version of it, until somebody held it."""
    found = []
    for event in world.cluster.api.watch(world.cluster.api.path("Lease", "default"), begin):
        if event["type"] != "BOOKMARK" and event["object"]["metadata"]["name"] == world.lease:
            found.append(event["object"]["spec"])
            if found[-1]["holderIdentity"] == holder:
                break
    return found


def test_of_two_replicas_one_writes_and_the_other_takes_over(world: World):
    world.apply(*named(world, gateway(), SERVICE))
    replicas = {admin: world.run("--port-map", f"8000:{8000 + admin - 9000}", admin=admin) for admin in (9000, 9001)}
    leader = world.until(lambda: next((admin for admin in replicas if world.leads(admin)), 0), "a leader")
    other = 9001 if leader == 9000 else 9000
    world.apply(route())
    world.until(lambda: entries(world.status("HTTPRoute", "r")), "the route")
    assert world.counted("status_writes_total", other) == 0
    before = world.cluster.get("Lease", world.lease)["spec"]

    begin = world.cluster.get("Lease", world.lease)["metadata"]["resourceVersion"]
    replicas[leader].kill()
    world.until(lambda: world.leads(other), "the other one to lead")
    now = world.cluster.get("Lease", world.lease)["spec"]
    *former, first = written(world, begin, now["holderIdentity"])
    took = stamp(first["acquireTime"]) - stamp((former or [before])[-1]["renewTime"])
    print(json.dumps({"seconds_after_the_last_renewal": round(took, 2)}))
    assert took > LEASE - 0.1, "not before it was over"
    assert now["leaseTransitions"] == before.get("leaseTransitions", 0) + 1 and now["holderIdentity"] != before["holderIdentity"]
    world.apply(route("new"))
    world.until(lambda: entries(world.status("HTTPRoute", "new")), "the new route")

    third = world.run("--port-map", "8000:8002", admin=9002)
    world.until(lambda: world.counted("ready", 9002) == 1, "the third to be ready")
    replicas[other].terminate()
    world.until(lambda: world.leads(9002), "the third to lead")
    last = world.cluster.get("Lease", world.lease)["spec"]["holderIdentity"]
    names = [one["holderIdentity"] for one in written(world, begin, last)]
    assert names[-3:] == [now["holderIdentity"], "", last], "it was given back: nobody waited for it to expire"
    assert third.poll() is None


# ---- Quiet, and fast

def versions(world: World) -> dict[tuple, str]:
    found = {}
    for kind in KINDS:
        for one in world.cluster.objects(kind, "" if kind == "GatewayClass" else world.namespace):
            found[kind, one["metadata"]["name"]] = one["metadata"]["resourceVersion"]
    return found


def test_nothing_is_written_where_nothing_happens(world: World):
    world.apply(*named(world, gateway(), route(), SERVICE, *policies()))
    world.run()
    world.comes_to(lambda: words(world.status("Gateway", "g")["conditions"]), FINE | {"Programmed": "True/Programmed"})
    world.comes_to(lambda: [one["attachedRoutes"] for one in world.status("Gateway", "g")["listeners"]], [1])
    for kind in ("HTTPRoute", "BackendTLSPolicy", "XBackendTrafficPolicy", "BackendPolicy"):
        name = "r" if kind == "HTTPRoute" else "p"
        world.comes_to(lambda kind=kind, name=name: [words(one["conditions"])["Accepted"] for one in entries(world.status(kind, name))],
                       ["True/Accepted"], kind)
    world.until(lambda: words(world.cluster.get("GatewayClass", world.namespace)["status"]["conditions"])["SupportedVersion"], "the class")
    world.until(lambda: world.counted("status_waiting") == 0, "everything to be written")
    before, written = versions(world), world.counted("status_writes_total")
    lease = world.cluster.get("Lease", world.lease)["spec"]["renewTime"]
    end = time.monotonic() + QUIET
    while time.monotonic() < end:  # the one thing that can be seen of nothing is time
        elapse(1)
    assert versions(world) == before and world.counted("status_writes_total") == written
    assert world.cluster.get("Lease", world.lease)["spec"]["renewTime"] > lease


def create(cluster: Cluster, things: list[dict]) -> None:
    try:
        cluster.create(*things)
    finally:
        cluster.api.close()  # that of this thread


def test_a_thousand_routes(world: World):
    """How long it takes is measured by `python -m bench cluster`."""
    count = 1000
    world.apply(*named(world, gateway(), SERVICE))
    world.run()
    world.until(lambda: words(world.status("Gateway", "g").get("conditions", ())).get("Programmed") == "True/Programmed", "Programmed")
    routes = [route(f"r{n}", hostnames=[f"h{n}.example"]) | {"metadata": {"name": f"r{n}", "namespace": world.namespace}} for n in range(count)]
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: create(world.cluster, routes[n::8]), range(8)))
    created, began = time.monotonic() - began, time.monotonic()
    world.until(lambda: all(entries(one.get("status", {})) for one in world.cluster.objects("HTTPRoute", world.namespace)), "all statuses")
    took = time.monotonic() - began
    assert world.until(lambda: world.status("Gateway", "g")["listeners"][0]["attachedRoutes"] == count, "attachedRoutes")
    assert world.counted("status_conflicts_total") < count / 2
    print(json.dumps({"routes": count, "writes": world.counted("status_writes_total"), "conflicts": world.counted("status_conflicts_total"), "write_seconds": world.counted("status_write_seconds_total"), "seconds_to_create": round(created, 2), "seconds_after_the_last": round(took, 2)}))
