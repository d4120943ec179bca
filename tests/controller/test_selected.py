"""Services that find the Pods of XBackends: which there are, what they are called, and what becomes of them."""
import asyncio
import io
import json
import re

import pytest
from controller_cases import OPTIONS, SITE, Waits, resources, run_beside, uid_of
from support.api_objects import Server
from support.provisioning import World as Provisioning

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller.apply import path
from gwfast.controller.objects import key_of
from gwfast.controller.owners import Owners
from gwfast.controller.selected import LETTERS, Maker, Selectors, generation_of
from gwfast.controller.wire import decode, encode
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.refs import BACKEND
from gwfast.kubernetes.client import ApiError
from gwfast.observe.log import Log

FRONT = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: gwfast}
spec: {controllerName: gwfast.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: shop}
spec: {gatewayClassName: gwfast, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: shop}
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: %s}]}]}
---
"""
BACKEND_OF = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: %s, namespace: shop}
spec: {type: EndpointSelector, port: {number: %d}, endpointSelector: {matchLabels: {app: %s}}}
---
"""
OUTSIDE = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: pods, namespace: shop}
spec: {type: ExternalHostname, port: {number: 443}, externalHostname: {hostname: api.example}}
---
"""
PODS = Key("XBackend", "shop", "pods")
ONE = FRONT + ROUTE % ("r", "pods") + BACKEND_OF % ("pods", 3000, "api")
NAME = re.compile(f"pods-[{LETTERS}]{{5}}")
SERVICES = "/api/v1/namespaces/shop/services/"


def graph(text):
    return attach(resources(text), OPTIONS)


def there(made, **metadata):
    """An object as the API server has it."""
    return made | {"metadata": made["metadata"] | {"uid": f"uid-of-{made['metadata']['name']}"} | metadata}


def looked(text, owned=(), foreign=(), selectors=None):
    found = {Key("Service", "shop", each["metadata"]["name"]): each for each in owned}
    return (selectors or Selectors("label", uid_of)).look(graph(text), found, foreign)


# ---- What there should be


def test_an_xbackend_that_selects_pods_has_a_headless_service():
    found = looked(ONE)
    ((key, made),) = found.made.items()
    assert NAME.fullmatch(key.name) and found.of == {key: PODS} and not found.over and not found.idle
    assert made["spec"] == {
        "type": "ClusterIP", "clusterIP": "None", "ipFamilyPolicy": "PreferDualStack", "selector": {"app": "api"},
        "ports": [{"port": 3000, "protocol": "TCP", "targetPort": 3000}]}
    assert made["metadata"]["ownerReferences"] == [{
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackend", "name": "pods", "uid": "uid-of-pods", "controller": True}]
    assert made["metadata"]["generateName"] == "pods-"
    assert made["metadata"]["labels"].items() >= {"gwfast.dev/controller": "label", BACKEND: "pods"}.items()


def test_what_nobody_here_serves_has_none():
    assert not looked(FRONT + BACKEND_OF % ("pods", 3000, "api")).made
    assert not looked(FRONT + ROUTE % ("r", "pods") + OUTSIDE).made
    assert not Selectors("label", lambda key: "").look(graph(ONE), {}).made, "its uid is not known yet"


def test_two_with_one_selector_have_one_each():
    found = looked(FRONT + "".join(ROUTE % (name, name) + BACKEND_OF % (name, 3000, "api") for name in ("pods", "same")))
    assert sorted(each.name for each in found.of.values()) == ["pods", "same"] and len(found.made) == 2


@pytest.mark.parametrize("name", ["a" * 253, "1.2", "shop.pods", "a-" * 100 + "a"])
def test_names_of_resources_that_are_no_names_of_services(name):
    ((key, made),) = looked(FRONT + ROUTE % ("r", f"'{name}'") + BACKEND_OF % (f"'{name}'", 80, "x")).made.items()
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", key.name) and len(key.name) <= 63
    assert len(made["metadata"]["labels"][BACKEND]) <= 63 and key.name.startswith(made["metadata"]["generateName"])


def test_a_name_stays_and_is_found_again():
    selectors = Selectors("label", uid_of)
    first = looked(ONE, selectors=selectors)
    assert looked(ONE, selectors=selectors).made == first.made
    (made,) = first.made.values()
    again = looked(ONE, [there(made)])  # of a controller that knows nothing
    assert again.made == first.made and not again.over
    changed = looked(ONE.replace("app: api", "app: other").replace("3000", "4000"), [there(made)])
    ((key, new),) = changed.made.items()
    assert [key] == list(first.made) and new["spec"]["selector"] == {"app": "other"} and new["spec"]["ports"][0]["targetPort"] == 4000


def test_a_name_of_somebody_else_is_left_to_them():
    selectors = Selectors("label", uid_of)
    (taken,) = looked(ONE, selectors=selectors).made
    (free,) = looked(ONE, foreign={("shop", taken.name)}, selectors=selectors).made
    assert free != taken


def test_of_several_the_oldest_stays():
    (made,) = looked(ONE).made.values()
    other = made | {"metadata": made["metadata"] | {"name": "pods-2"}}
    found = looked(ONE, [there(other, creationTimestamp="2026-01-02T00:00:00Z"), there(made, creationTimestamp="2026-01-01T00:00:00Z")])
    assert [key.name for key in found.made] == [made["metadata"]["name"]] and [key.name for key in found.over] == ["pods-2"]


def test_what_is_needed_no_more():
    (made,) = looked(ONE).made.values()
    (key,) = looked(FRONT + ROUTE % ("r", "pods") + OUTSIDE, [there(made)]).over  # it selects nothing now
    assert key.name == made["metadata"]["name"]
    unused = looked(FRONT + BACKEND_OF % ("pods", 3000, "api"), [there(made)])
    assert not unused.over and unused.idle == {key}
    gone = looked(FRONT, [there(made)])
    assert not gone.over and not gone.idle, "it goes with its XBackend, which may only not be known"
    ends = looked(ONE, [there(made, deletionTimestamp="2026-01-01T00:00:00Z")])
    assert key not in ends.made and len(ends.made) == 1


def test_the_one_of_an_xbackend_that_had_its_name_is_not_its_own():
    (made,) = looked(ONE).made.values()
    former = there(made, ownerReferences=[made["metadata"]["ownerReferences"][0] | {"uid": "another"}])
    found = looked(ONE, [former])
    assert former["metadata"]["name"] not in {key.name for key in found.made} and len(found.made) == 1
    assert [key.name for key in found.over] == [former["metadata"]["name"]], "it would add the Pods that the former selected"
    unknown = Selectors("label", lambda key: "").look(graph(ONE), {key_of(former): former})
    assert not unknown.over and not unknown.made


def test_who_lets_pods_in_that_are_not_ready_is_put_right():
    (made,) = looked(ONE).made.values()
    spoilt = there(made) | {"spec": made["spec"] | {"publishNotReadyAddresses": True}}
    ((_, mended),) = looked(ONE, [spoilt]).made.items()
    assert mended["spec"]["publishNotReadyAddresses"] is False
    assert "publishNotReadyAddresses" not in made["spec"], "the API server does not answer with what is false"


# ---- Whose endpoints are served


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop, labels: {%s}}
spec: {selector: {app: %s}, ports: [{port: 80}]}
---
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s-1, namespace: shop, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
endpoints: [%s]
ports: [{port: 80}]
---
"""


def slice_of(name, *addresses):
    return SLICE % (name, name, ", ".join(f"{{addresses: [{each}], conditions: {{ready: {str(ready).lower()}}}}}" for each, ready in addresses))


def served(text):
    (target,) = graph(text).targets.values()
    return target.addresses


def test_endpoints_of_its_own_service_are_served_and_others_until_it_has_some():
    own, others = SERVICE % ("pods-abcde", "gwfast.dev/backend: pods", "api"), SERVICE % ("users", "", "api") + slice_of("users", ("10.0.0.9", True))
    assert served(ONE + others) == (("10.0.0.9", 3000),)
    assert served(ONE + others + own) == (("10.0.0.9", 3000),), "Kubernetes has not said yet what it selects"
    mine = slice_of("pods-abcde", ("10.0.0.1", True), ("10.0.0.2", False))
    assert served(ONE + others + own + mine) == (("10.0.0.1", 3000),)
    assert served(ONE + others + own + slice_of("pods-abcde")) == (), "it is known that there are none"
    old = SERVICE % ("pods-abcde", "gwfast.dev/backend: pods", "former")
    assert served(ONE + old + mine) == (("10.0.0.1", 3000),), "until what it selects has followed"
    stranger = SERVICE % ("x", "gwfast.dev/backend: another", "other") + slice_of("x", ("10.0.0.3", True))
    assert served(ONE + stranger) == ()


def test_what_is_served_follows_change_by_change():
    """The graph of changes is that of a fresh start."""
    mine = slice_of("pods-abcde", ("10.0.0.1", True))
    own, users = SERVICE % ("pods-abcde", "gwfast.dev/backend: pods", "api"), SERVICE % ("users", "", "api") + slice_of("users", ("10.0.0.9", True))
    attacher, before = Attacher(OPTIONS), {}
    for more in ("", users, users + own, users + own + mine, own + mine, own, users, ""):
        now = resources(ONE + more)
        now |= {key: before[key] for key in now if key in before and key.kind not in ("Service", "EndpointSlice")}
        changed = {key for key in now.keys() | before.keys() if now.get(key) is not before.get(key)}
        (target,) = attacher.attach(now, changed).targets.values()
        assert target.addresses == served(ONE + more), more
        before = now


def test_data_planes_are_told_what_a_service_was_made_for():
    own = SERVICE % ("pods-abcde", "gwfast.dev/backend: pods, team: a", "former")
    there = {key: decode(encode(one))[0] for key, one in resources(ONE + own + slice_of("pods-abcde", ("10.0.0.1", True))).items()}
    (target,) = attach(there, OPTIONS).targets.values()
    assert target.addresses == (("10.0.0.1", 3000),)
    assert there[Key("Service", "shop", "pods-abcde")].metadata.labels == {BACKEND: "pods"}


# ---- Making them


class World(Waits):
    """A maker that leads, an API server of some lines, and the XBackends' uids."""

    def __init__(self):
        self.server, self.log, self.certain, self.changes = Server(), io.StringIO(), True, 0
        self.maker = Maker(self.server, SITE.controller_name, uid_of, Log("text", "debug", self.log), may=lambda: True,
                           certain=lambda: self.certain, changed=self.changed)
        self.maker._reflectors.clear()  # all that there is was listed
        self.maker.lead(True)

    def changed(self):
        self.changes += 1

    @property
    def services(self):
        return {where.removeprefix(SERVICES): each for where, each in self.server.objects.items() if where.startswith(SERVICES)}

    def tell(self):
        """What the watch tells: all that is there."""
        for name, each in self.services.items():
            self.maker._take(Key("Service", "shop", name), json.loads(json.dumps(each)))


def run(test):
    run_beside(test, World, lambda world: world.maker)


def test_one_is_made_changed_and_removed():
    async def test(world):
        world.maker.follow(graph(ONE))
        await world.until(lambda: world.services)
        world.tell()
        world.maker.follow(graph(ONE.replace("app: api", "app: other")))
        await world.until(lambda: [each["spec"]["selector"].get("app") for each in world.services.values()] == ["other"])
        world.tell()
        live = resources(ONE)[PODS]
        world.server.objects["/apis/gateway.networking.x-k8s.io/v1alpha1/namespaces/shop/xbackends/pods"] = {
            "metadata": {"name": "pods", "uid": "uid-of-pods", "generation": live.metadata.generation}}
        world.certain = False
        world.maker.follow(graph(ONE.replace("name: r", "name: r").replace("parentRefs: [{name: g}]", "parentRefs: [{name: elsewhere}]")))
        await world.still()
        assert world.services, "routes may not be known"
        world.certain = True
        world.maker.follow(graph(FRONT + BACKEND_OF % ("pods", 3000, "other")))
        await world.until(lambda: not world.services)
    run(test)


def test_a_foreign_service_is_not_touched(monkeypatch):
    names = iter(["pods-taken", "pods-free0"])
    monkeypatch.setattr(Selectors, "_name", lambda self, key, uid, foreign: self._names.get((key, uid)) if self._names.get(
        (key, uid)) and (key.namespace, self._names[key, uid]) not in foreign else next(names))

    async def test(world):
        theirs = {"metadata": {"name": "pods-taken", "namespace": "shop"}, "spec": {"ports": [{"port": 1}]}}
        world.server.objects[SERVICES + "pods-taken"] = theirs
        world.maker.follow(graph(ONE))
        await world.until(lambda: "pods-free0" in world.services)
        assert world.services["pods-taken"] == theirs and not world.maker.faults
    run(test)


def test_why_there_are_no_pods_is_told_where_nothing_else_finds_them(monkeypatch):
    monkeypatch.setattr(limits, "API_BACKOFF", 0.01)

    async def test(world):
        world.server.refuse = ApiError(403, "Forbidden", "services is forbidden")
        world.maker.follow(graph(ONE))
        await world.until(lambda: world.changes)
        assert world.maker.faults == {PODS: "the Service that finds its Pods cannot be made: 403 Forbidden: services is forbidden"}
        world.maker.follow(graph(ONE + SERVICE % ("users", "", "api")))
        assert world.maker.faults == {}
        world.maker.follow(graph(ONE))
        world.server.refuse = None
        await world.until(lambda: world.services and not world.maker.faults)
    run(test)


def test_who_does_not_lead_makes_none_and_who_takes_over_makes_no_other():
    async def test(world):
        world.maker.lead(False)
        world.maker.follow(graph(ONE))
        await world.still()
        assert not world.services
        world.maker.lead(True)
        await world.until(lambda: world.services)
        before = json.dumps(world.services)
        second = World()
        second.server.objects = world.server.objects
        task = asyncio.create_task(second.maker.run())
        second.tell()
        second.maker.follow(graph(ONE))
        await second.still()
        assert json.dumps(world.services) == before and not second.server.writes()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    run(test)


@pytest.mark.parametrize("live, goes", [
    (None, True), ({"uid": "another", "generation": 1}, True), ({"uid": "uid-of-pods", "generation": 1}, True),
    ({"uid": "uid-of-pods", "generation": 2}, False), ({"uid": "uid-of-pods", "generation": 2, "deletionTimestamp": "x"}, True)])
def test_what_an_xbackend_may_ask_for_again_does_not_go(live, goes):
    server = Server()
    if live:
        server.objects["/apis/gateway.networking.x-k8s.io/v1alpha1/namespaces/shop/xbackends/pods"] = {"metadata": {"name": "pods"} | live}
    (made,) = looked(ONE).made.values()
    known = graph(ONE)
    words = asyncio.run(Owners(server, SITE.controller_name, lambda owner: generation_of(known, owner)).held(there(made)))
    assert (words == "") is goes


def test_a_controller_makes_them_beside_what_gateways_have():
    async def test(world):
        world.provisioner.lead(True)
        world.follow(ONE)
        await world.until(lambda: path(Key("Service", "shop", "g-gwfast")) in world.server.objects
                          and any(NAME.fullmatch(where.removeprefix(SERVICES)) for where in world.server.objects))
        (name,) = [where.removeprefix(SERVICES) for where in world.server.objects if NAME.fullmatch(where.removeprefix(SERVICES))]
        world.provisioner.take(Key("Service", "shop", name), json.loads(json.dumps(world.server.objects[SERVICES + name])))
        world.follow(ONE + "\n")
        await world.still()
        assert [where for method, where in world.server.writes() if name in where] == [SERVICES + name], "and leave it there"
        world.follow(ONE.replace("app: api", "app: other"))
        await world.until(lambda: world.server.objects[SERVICES + name]["spec"]["selector"]["app"] == "other")
    run_beside(test, Provisioning, lambda world: world.provisioner)
