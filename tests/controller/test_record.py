"""The record of target ports: what it says, who may write it, and that no target is given twice."""
import asyncio
import io
import random

import pytest
from controller_cases import SITE
from support.api_objects import Server
from support.provisioning import BOTH, CLASS, EVIL, GATEWAY, NEW, OLD, VICTIM, WEB, run

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import apply as applying
from gwfast.controller import assign
from gwfast.controller import record as module
from gwfast.controller.apply import path
from gwfast.controller.fleet import hashed
from gwfast.controller.ports import Ports
from gwfast.controller.record import Keeper, read, written
from gwfast.kubernetes.client import ApiError
from gwfast.observe.log import Log

RECORD = Key("ConfigMap", SITE.namespace, "gwfast-gwfast-ports")
LONG = Key("Gateway", "n" * 63, ".".join(["a" * 62] * 4))
HEAD = {"name": RECORD.name, "namespace": RECORD.namespace, "labels": {"gwfast.dev/controller": SITE.label}}


# ---- What it says


@pytest.mark.parametrize("targets", [
    {}, {EVIL: {WEB: 10080}}, {EVIL: {WEB: 10080, (443, "TCP"): 10443, (53, "UDP"): 10080}, VICTIM: {WEB: 10081}, LONG: {(1, "TCP"): 29999}}])
def test_what_is_written_is_read(targets):
    assert read(written(targets)) == targets


def test_people_can_read_it():
    assert written({EVIL: {(443, "TCP"): 10443, WEB: 10080}, Key("Gateway", "aaa", "x"): {WEB: 10081}, VICTIM: {}}) == {
        "aaa": "g 80/TCP=10080 443/TCP=10443\nx 80/TCP=10081"}


@pytest.mark.parametrize("text", [
    "", "g", "g 80", "g 80/TCP", "g 80/TCP=", "g 80/TCP=x", "g 80/SCTP=10080", "g /TCP=10080", "g 80/TCP=9000", "g 80/TCP=30000",
    "g x/TCP=10080", "g 80/TCP=10080=1", "g -80/TCP=10080", "g 800000/TCP=10080", "\n\n"])
def test_what_cannot_be_read_is_nobodys(text):
    assert read({"ns": f"{text}\nok 80/TCP=10090"}) == {Key("Gateway", "ns", "ok"): {WEB: 10090}}


def test_a_target_that_is_in_it_twice_is_the_first_ones():
    assert read({"b": "g 80/TCP=10080", "a": "g 80/TCP=10080 81/TCP=10080 82/UDP=10080"}) == {
        Key("Gateway", "a", "g"): {WEB: 10080, (82, "UDP"): 10080}}


def test_nobody_fills_it_and_it_never_outgrows_a_config_map(monkeypatch):
    """With names as long as they may be: a namespace has a quarter."""
    monkeypatch.setattr(limits, "PORTS_RECORD_BYTES", 20_000)
    ports = Ports()
    evil = {Key("Gateway", "n" * 63, f"{at:03}" + "a" * 250): [(65535, "TCP"), (65534, "UDP")] for at in range(100)}
    others = {Key("Gateway", f"shop{at}", "web"): [WEB, (443, "TCP")] for at in range(50)}
    given = ports.assign(evil | others)
    assert all(len(given[key]) == 2 for key in others)
    size = {name: len(text) + len(name) for name, text in written(given).items()}
    assert sum(size.values()) <= 20_000 and size["n" * 63] <= 5_000 and sum(len(given[key]) for key in evil) > 10
    ports.assign({})
    assert not +ports._bytes and not +ports._taken


# ---- Who gives what


def stored(world):
    return read(world.server.objects.get(path(RECORD), {}).get("data", {}))


def recorded(world, targets):
    """A record as the API server has it."""
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": HEAD | {"uid": "r", "resourceVersion": "7"}, "data": written(targets)}
    world.server.objects[path(RECORD)] = found
    world.provisioner.take(RECORD, found)


def services(world):
    return {where: [each["targetPort"] for each in found["spec"]["ports"]] for where, found in world.server.objects.items() if where.endswith("/services/g-gwfast")}


def test_a_target_is_recorded_before_anybody_hears_of_it():
    async def test(world):
        gate, request = asyncio.Event(), world.server.request

        async def slow(method, target, *more, **options):
            if "configmaps" in target and method == "POST":
                await gate.wait()
            return await request(method, target, *more, **options)
        world.server.request = slow
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: path(Key("Service", SITE.namespace, "gwfast-gwfast")) in world.server.objects)
        await world.still()
        assert not any(world.provisioner.targets.values()) and not services(world)
        assert world.provisioner.assigned[VICTIM].reason == "AddressNotAssigned", "and nobody is told that there is none left"
        gate.set()
        await world.until(lambda: len(services(world)) == 2)
        assert world.provisioner.targets == stored(world) == {VICTIM: {WEB: 10080}, EVIL: world.provisioner.targets[EVIL]}
        posts = [at for at, said in enumerate(world.server.said) if said[0] == "POST"]
        assert len(posts) == 1 and posts[0] < min(
            at for at, said in enumerate(world.server.said) if said[0] == "PATCH" and "services/g-gwfast" in said[1])
    run(test)


@pytest.mark.parametrize("leads", [False, True])
def test_what_services_say_is_nothing_where_there_is_a_record(leads):
    """Neither to a controller that starts, nor for one that follows: who can write Services gets no target by that."""
    async def test(world):
        recorded(world, {VICTIM: {WEB: 10080}, EVIL: {WEB: 15000}})
        world.service(EVIL, 10080)
        world.service(VICTIM, 12345)
        world.provisioner.lead(leads)
        world.follow(BOTH)
        await world.targets({EVIL: 15000, VICTIM: 10080})
        world.service(EVIL, 10080)
        world.follow(BOTH + GATEWAY % ("third", NEW))
        third = Key("Gateway", "third", "g")
        await world.until(lambda: third in world.provisioner.targets and bool(world.provisioner.targets[third]) == leads)
        assert world.provisioner.targets[EVIL] == {WEB: 15000} and world.provisioner.targets[VICTIM] == {WEB: 10080}
        if leads:
            await world.until(lambda: services(world).get(path(Key("Service", "aaa", "g-gwfast"))) == [15000]
                              and services(world).get(path(Key("Service", "victim", "g-gwfast"))) == [10080])
    run(test)


def test_a_service_that_was_there_first_gets_no_target_that_it_names():
    """A Gateway that is not recorded: its namespace may have its Service before the controller, with a target that rests."""
    async def test(world):
        recorded(world, {VICTIM: {WEB: 10080}})
        world.service(EVIL, 15000)
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: world.provisioner.targets.get(EVIL))
        assert world.provisioner.targets[EVIL] != {WEB: 15000} and stored(world) == world.provisioner.targets
    run(test)


def test_a_record_that_is_lost_is_made_anew_from_services_the_older_gateway_first():
    async def test(world):
        world.service(EVIL, 10080)
        world.service(VICTIM, 10080)
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: stored(world).get(VICTIM) == {WEB: 10080} and stored(world).get(EVIL))
        assert stored(world)[EVIL] != {WEB: 10080}
    run(test)


def test_what_services_say_serves_on_until_there_is_a_record():
    """An update from a version without it: data planes hear of no Gateway that listens nowhere."""
    async def test(world):
        refused = ApiError(403, "Forbidden", "configmaps is forbidden")
        request = world.server.request

        async def refuse(method, target, *more, **options):
            if method == "POST":
                raise refused
            return await request(method, target, *more, **options)
        world.server.request = refuse
        world.service(VICTIM, 10080)
        world.provisioner.lead(True)
        seen = []
        world.provisioner._changed = lambda: seen.append(world.provisioner.targets)
        world.follow(BOTH)
        await world.until(lambda: EVIL in world.provisioner.assigned and "forbidden" in world.provisioner.assigned[EVIL].message)
        assert all(targets[VICTIM] == {WEB: 10080} and not targets[EVIL] for targets in seen)
        assert world.provisioner.assigned[EVIL].message.startswith("ConfigMap") and not world.provisioner.assigned[EVIL].ready
        assert world.log.getvalue().count("record of target ports cannot be written") == 1
    run(test)


def test_a_record_that_is_deleted_is_written_again():
    async def test(world):
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: len(stored(world)) == 2)
        before = stored(world)
        del world.server.objects[path(RECORD)]
        world.provisioner.take(RECORD, None)
        world.service(EVIL, 10080)  # what Services say now is nothing
        await world.until(lambda: stored(world) == before)
        assert world.provisioner.targets == before
    run(test)


@pytest.mark.parametrize("edited", [
    {"victim": "", "aaa": "g 80/TCP=10080"}, {"victim": "nonsense"}, {"aaa": "other 80/TCP=10080", "victim": "g 80/TCP=10080"}, {}])
def test_a_record_that_was_changed_by_hand_is_put_right_and_gives_nothing_twice(edited):
    async def test(world):
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: len(stored(world)) == 2)
        found = world.server.objects[path(RECORD)]
        world.server.objects[path(RECORD)] = found | {"data": edited, "metadata": found["metadata"] | {
            "resourceVersion": str(int(found["metadata"]["resourceVersion"]) + 1)}}
        world.provisioner.take(RECORD, world.server.objects[path(RECORD)])
        await world.until(lambda: stored(world).keys() == {EVIL, VICTIM} and world.provisioner.targets == stored(world))
        assert stored(world)[EVIL] != stored(world)[VICTIM]
    run(test)


def test_a_target_is_freed_after_the_service_that_leads_to_it(monkeypatch):
    monkeypatch.setattr(assign, "STRANGE", 0.01)
    async def test(world):
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: len(services(world)) == 2 and len(stored(world)) == 2)
        service = Key("Service", "victim", "g-gwfast")
        world.service(VICTIM, 10080)
        world.provisioner._applier._held = lambda found: _words("not now")
        world.follow(CLASS + GATEWAY % ("aaa", NEW) + GATEWAY % ("third", NEW))
        await world.until(lambda: Key("Gateway", "third", "g") in stored(world))
        assert stored(world)[VICTIM] == {WEB: 10080}, "its Service may not go: the plan may be behind"
        world.provisioner.take(service, None)
        await world.until(lambda: VICTIM not in stored(world))
    run(test)


async def _words(text):
    return text


def test_nothing_is_freed_while_lists_are_missing(monkeypatch):
    monkeypatch.setattr(assign, "STRANGE", 0.01)
    certain = []

    async def test(world):
        recorded(world, {VICTIM: {WEB: 10080}})
        world.provisioner.lead(True)
        world.follow(CLASS + GATEWAY % ("aaa", NEW))
        await world.until(lambda: EVIL in stored(world))
        assert stored(world)[VICTIM] == {WEB: 10080} and stored(world)[EVIL] != {WEB: 10080}
        certain.append(True)
        world.follow(CLASS + GATEWAY % ("aaa", NEW))
        await world.until(lambda: VICTIM not in stored(world))
    run(test, certain=lambda: bool(certain))


def test_what_nobody_knows_of_stays_for_a_while():
    """Another one that leads may have recorded it a moment ago."""
    async def test(world):
        recorded(world, {VICTIM: {WEB: 10080}})
        world.provisioner.lead(True)
        world.follow(CLASS + GATEWAY % ("aaa", NEW))
        await world.until(lambda: EVIL in stored(world))
        world.follow(CLASS + GATEWAY % ("aaa", NEW) + GATEWAY % ("third", NEW))
        await world.until(lambda: Key("Gateway", "third", "g") in stored(world))
        assert stored(world)[VICTIM] == {WEB: 10080}
    run(test)


# ---- Two that take themselves for the leader


class Replica:
    """A keeper and its ports, as a provisioner has them, of an API server that others have too."""

    def __init__(self, server, keeps=False):
        self.keeps = keeps  # what it knows nothing of
        self.keeper, self.ports = Keeper(server, Log("text", "debug", io.StringIO()), lambda: None, lambda: True), Ports()
        self.keeper.lead(True)
        self.confirmed = {}

    def look(self, wanted):
        known = self.keeper.entries(RECORD) or {}
        if self.keeper.news(RECORD):
            self.ports.adopt(known)
        given = self.ports.assign(({key: ports for key, ports in known.items()} if self.keeps else {}) | wanted)
        self.keeper.want(RECORD, HEAD, given)
        self.confirmed = {key: {port: target for port, target in ports.items() if known.get(key, {}).get(port) == target}
                          for key, ports in given.items()}


@pytest.mark.parametrize("seed", range(5))
def test_two_leaders_never_give_one_target_twice(seed):
    """Each wants Gateways of its own, the other one's among them or not, as two do whose lists are not alike."""
    async def main():
        rng, server = random.Random(seed), Server()
        replicas = [Replica(server) for _ in range(2)]
        tasks = [asyncio.ensure_future(each.keeper.run()) for each in replicas]
        gateways = [Key("Gateway", "ns", f"g{at}") for at in range(8)]
        try:
            for _ in range(200):
                each = rng.choice(replicas)
                each.look({key: [WEB, (443, "TCP")] for key in rng.sample(gateways, 4)})
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
                if rng.random() < 0.3 and path(RECORD) in server.objects:  # a watch, late or not
                    rng.choice(replicas).keeper.seen(RECORD, server.objects[path(RECORD)])
                said = [(target, port[1]) for ports in read(server.objects.get(path(RECORD), {}).get("data", {})).values()
                        for port, target in ports.items()]
                assert len(said) == len(set(said))
            both = {key: [WEB] for key in gateways}
            async with asyncio.timeout(20):
                while replicas[0].confirmed != replicas[1].confirmed or not all(replicas[0].confirmed.values()):
                    for each in replicas:
                        each.look(both)
                        each.keeper.seen(RECORD, server.objects[path(RECORD)])
                    await asyncio.sleep(0)
            targets = [ports[WEB] for ports in replicas[0].confirmed.values()]
            assert len(set(targets)) == len(gateways)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    asyncio.run(main())


def test_a_leader_that_is_late_is_refused_and_sees_what_there_is():
    async def main():
        server = Server()
        old, new = Replica(server, keeps=True), Replica(server, keeps=True)
        tasks = [asyncio.ensure_future(each.keeper.run()) for each in (old, new)]

        async def settled(replica, wanted):
            async with asyncio.timeout(20):
                while not all(replica.confirmed.get(key) for key in wanted):
                    replica.look(wanted)
                    await asyncio.sleep(0)
        await settled(old, {EVIL: [WEB]})
        new.keeper.seen(RECORD, server.objects[path(RECORD)])
        await settled(new, {EVIL: [WEB], VICTIM: [(443, "TCP")]})
        third = Key("Gateway", "third", "g")
        await settled(old, {EVIL: [WEB], third: [(443, "TCP")]})  # of the one between it knows nothing, and leaves it
        assert old.confirmed[third][443, "TCP"] != 10443 and new.confirmed[VICTIM] == {(443, "TCP"): 10443}
        assert read(server.objects[path(RECORD)]["data"])[VICTIM] == new.confirmed[VICTIM]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    asyncio.run(main())


def test_who_may_not_write_at_this_moment_does_not(monkeypatch):
    monkeypatch.setattr(module, "CEASED_WAIT", 0.01)
    may = []

    async def test(world):
        world.provisioner.lead(True)
        world.follow(BOTH)
        await world.until(lambda: world.provisioner._assigner._given)
        await world.still()
        assert path(RECORD) not in world.server.objects and not any(world.provisioner.targets.values())
        may.append(True)
        await world.until(lambda: len(stored(world)) == 2)
    run(test, may=lambda: bool(may))


def test_a_record_without_our_label_is_found_and_gets_it_again():
    async def main():
        server = Server()
        server.objects[path(RECORD)] = {"metadata": {"name": RECORD.name, "resourceVersion": "3"}, "data": written({EVIL: {WEB: 10080}})}
        one = Replica(server)
        task = asyncio.ensure_future(one.keeper.run())
        async with asyncio.timeout(20):
            while one.confirmed.get(EVIL) != {WEB: 10080} or not server.objects[path(RECORD)]["metadata"].get("labels"):
                one.look({EVIL: [WEB]})
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    asyncio.run(main())


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_new_gateway_waits_for_its_record_and_then_for_nothing(monkeypatch, asked_first):
    """Whether names are free is asked before, and its Service and its endpoints are written at once."""
    monkeypatch.setattr(applying, "FREE", 3600.0)
    service, mirrored = Key("Service", "victim", "g-gwfast"), Key("EndpointSlice", "victim", "g-gwfast-x")

    async def test(world):
        asked, recorded, answered, request = asyncio.Event(), asyncio.Event(), asyncio.Event(), world.server.request

        async def slow(method, target, *more, **options):
            if method == "GET" and target in (path(service), path(mirrored)):
                await asked.wait()
            if method == "POST" and "configmaps" in target:
                await recorded.wait()
            if method == "PATCH" and target.startswith(path(service)):
                await answered.wait()
            return await request(method, target, *more, **options)
        world.server.request = slow
        world.provisioner.take(*fleet_endpoints())
        world.provisioner.lead(True)
        world.follow(CLASS + GATEWAY % ("victim", OLD))
        first, second = (asked, recorded) if asked_first else (recorded, asked)
        first.set()
        if asked_first:
            await world.until(lambda: all(map(world.provisioner._applier.free, (service, mirrored))))
        else:
            await world.until(lambda: world.provisioner.targets.get(VICTIM))
        second.set()
        await world.until(lambda: path(mirrored) in world.server.objects)
        assert path(service) not in world.server.objects
        answered.set()
        await world.until(lambda: path(service) in world.server.objects)
        for where in (path(service), path(mirrored)):
            assert [said[0] for said in world.server.said if said[1] == where] == ["GET", "PATCH"]
        owners = [world.server.objects[path(key)]["metadata"]["ownerReferences"] for key in (service, mirrored)]
        assert owners[0] == owners[1] and owners[0][0]["kind"] == "Gateway"
    run(test)


def test_a_service_of_somebody_else_is_given_no_endpoints():
    async def test(world):
        service = path(Key("Service", "victim", "g-gwfast"))
        world.server.objects[service] = {"metadata": {"name": "g-gwfast", "labels": {}}}
        world.provisioner.take(*fleet_endpoints())
        world.provisioner.lead(True)
        world.follow(CLASS + GATEWAY % ("victim", OLD))
        own = Key("Service", "victim", hashed("g-gwfast", "g gwfast"))
        await world.until(lambda: path(own) in world.server.objects)
        world.provisioner.take(own, world.server.objects[path(own)])
        await world.until(lambda: path(Key("EndpointSlice", "victim", f"{own.name}-x")) in world.server.objects)
        slices = [found for where, found in world.server.objects.items() if "endpointslices/" in where]
        assert {each["metadata"]["labels"]["kubernetes.io/service-name"] for each in slices} == {own.name}
        assert world.server.objects[service]["metadata"]["labels"] == {}
    run(test)


def fleet_endpoints():
    """An EndpointSlice of the data planes of the class."""
    labels = {"kubernetes.io/service-name": "gwfast-gwfast", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    key = Key("EndpointSlice", SITE.namespace, "gwfast-gwfast-x")
    return key, {"metadata": {"name": key.name, "namespace": key.namespace, "labels": labels}, "addressType": "IPv4",
                 "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}
