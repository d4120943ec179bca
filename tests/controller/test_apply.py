"""The applier against an API server of some lines: what is written, how often, and what the watch tells meanwhile."""
import io
import json

import pytest
from controller_cases import Waits, run_beside

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import apply as module
from gwfast.controller.apply import HASH, Applier, path, projected
from gwfast.controller.fleet import CONTROLLER
from gwfast.kubernetes.client import ApiError
from gwfast.observe.log import Log
from support.api_objects import Server

LABEL = "gwfast.dev_gateway-controller"
KEY = Key("Service", "shop", "web-gwfast")
DEPLOYMENT = Key("Deployment", "shop", "web-gwfast")


def made(key=KEY, **spec):
    group, version, _ = module.PATHS[key.kind]
    return {"apiVersion": f"{group}/{version}".lstrip("/"), "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": {CONTROLLER: LABEL}}, "spec": spec}


class World(Waits):
    """An applier that runs, its server, and what it told."""

    def __init__(self):
        self.server, self.told, self.foreign, self.log = Server(), {}, [], io.StringIO()
        self.may, self.holds = True, ""
        self.applier = Applier(self.server, LABEL, Log("text", "debug", self.log), self.tell, self.foreign.append,
                               lambda: self.may, self.held)
        self.applier.lead(True)

    async def held(self, found):
        return self.holds

    def tell(self, key, words):
        self.told[key] = words


def run(test):
    run_beside(test, World, lambda world: world.applier)


def test_what_is_not_there_is_made_once():
    async def test(world):
        world.applier.want({KEY: made(type="ClusterIP")}, ())
        await world.until(lambda: KEY in world.told)
        await world.still()
        assert world.server.writes() == [("PATCH", path(KEY))]
        query = world.server.said[-1][2]
        assert query == "fieldManager=gwfast&force=true" and len(world.server.objects[path(KEY)]["metadata"]["annotations"][HASH]) == 32
        world.applier.seen(KEY, world.server.objects[path(KEY)])
        await world.still()
        assert len(world.server.writes()) == 1
    run(test)


def test_what_the_watch_tells_while_an_answer_is_on_its_way_is_newer():
    """The answer must not hide an address that the Service has got since."""
    async def test(world):
        later = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        world.server.meanwhile = lambda now: world.applier.seen(KEY, now | {"status": later})
        world.applier.want({KEY: made(type="LoadBalancer")}, ())
        await world.until(lambda: KEY in world.told)
        assert world.applier.owned[KEY]["status"] == later
    run(test)


def test_what_is_right_when_a_controller_starts_is_not_written():
    async def test(world):
        wanted = made(type="ClusterIP")
        there = json.loads(json.dumps(wanted)) | {"status": {}}
        there["metadata"]["annotations"] = {HASH: module.hash_of(wanted), "others.example/x": "y"}
        there["spec"]["clusterIP"] = "10.0.0.1"
        world.applier.seen(KEY, there)
        world.applier.want({KEY: wanted}, ())
        await world.still()
        assert world.server.said == []
        world.applier.want({KEY: made(type="NodePort")}, ())
        await world.until(lambda: world.server.writes())
    run(test)


def test_what_somebody_changes_is_written_again_but_not_all_the_time(monkeypatch):
    monkeypatch.setattr(module, "DRIFT_WAIT", 3600.0)

    async def test(world):
        world.applier.want({KEY: made(type="ClusterIP")}, ())
        await world.until(lambda: KEY in world.told)
        for writes in (1, 2):
            for _ in range(50):
                there = json.loads(json.dumps(world.server.objects[path(KEY)]))
                there["spec"]["type"] = "NodePort"
                world.applier.seen(KEY, there)
                await world.still()
            assert len(world.server.writes()) == writes
            world.applier._rests[KEY] = 0.0  # an hour later
            world.applier._wake.set()
            await world.until(lambda: len(world.server.writes()) == writes + 1)  # noqa: B023
            await world.still()
            assert world.applier.owned[KEY]["spec"]["type"] == "ClusterIP" and len(world.server.writes()) == writes + 1
    run(test)


def test_what_an_api_server_writes_in_its_own_way_is_no_change():
    async def test(world):
        world.server.meanwhile = None
        original = world.server.request

        async def request(method, target, body=None, **more):
            answer = json.loads(await original(method, target, body, **more))
            if method == "PATCH":
                answer["spec"]["cpu"] = world.server.objects[path(KEY)]["spec"]["cpu"] = "1"
            return json.dumps(answer).encode()
        world.server.request = request
        world.applier.want({KEY: made(cpu="1000m")}, ())
        await world.until(lambda: KEY in world.told)
        world.applier.seen(KEY, world.server.objects[path(KEY)])
        await world.still()
        assert len(world.server.writes()) == 1
    run(test)


def test_an_object_of_somebody_else_is_left_alone():
    async def test(world):
        world.server.objects[path(KEY)] = {"metadata": {"name": KEY.name, "labels": {CONTROLLER: "another"}}}
        world.applier.want({KEY: made()}, ())
        await world.until(lambda: world.told.get(KEY))
        assert world.server.writes() == [] and world.foreign == [KEY] and "somebody else" in world.told[KEY]
    run(test)


def test_what_is_refused_is_tried_again_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr(limits, "API_BACKOFF", 0.01)
    monkeypatch.setattr(limits, "API_BACKOFF_MOST", 0.02)

    async def test(world):
        world.server.refuse = ApiError(422, "Invalid", "no")
        world.applier.want({KEY: made()}, ())
        await world.until(lambda: len(world.server.writes()) > 2)
        assert world.told[KEY] == "422 Invalid: no" and world.log.getvalue().count("422 Invalid: no") == 1
        world.server.refuse = None
        await world.until(lambda: world.told[KEY] == "")
    run(test)


def test_who_does_not_lead_writes_nothing():
    async def test(world):
        world.applier.lead(False)
        world.server.objects[path(KEY)] = there = made() | {"metadata": made()["metadata"] | {"uid": "u"}}
        world.applier.seen(KEY, there)
        world.applier.want({DEPLOYMENT: made(DEPLOYMENT)}, {KEY})
        await world.still()
        assert world.server.said == []
        world.applier.lead(True)
        await world.until(lambda: len(world.server.writes()) == 2)
    run(test)


def test_what_is_deleted_is_what_was_seen():
    async def test(world):
        there = made()
        there["metadata"]["uid"] = "u"
        world.server.objects[path(KEY)] = there | {"metadata": there["metadata"] | {"resourceVersion": "7"}}
        world.applier.seen(KEY, there)
        world.applier.want({}, {KEY})
        await world.until(lambda: path(KEY) not in world.server.objects)
        (asked,) = [body for method, _, _, body in world.server.said if method == "DELETE"]
        assert asked["preconditions"] == {"uid": "u", "resourceVersion": "7"}
        await world.still()
        assert len(world.server.writes()) == 1
    run(test)


@pytest.mark.parametrize("manager, given", [("gwfast", True), ("kube-controller-manager", False)])
def test_replicas_are_handed_over(manager, given):
    """Once: where they are ours. Others are not looked at."""
    async def test(world):
        there = made(DEPLOYMENT, replicas=7)
        there["metadata"] |= {"uid": "u", "managedFields": [
            {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}
        world.server.objects[path(DEPLOYMENT)] = there
        world.applier.seen(DEPLOYMENT, there)
        world.applier.want({DEPLOYMENT: made(DEPLOYMENT, paused=False)}, ())
        await world.until(lambda: DEPLOYMENT in world.told)
        said = [(query.partition("&")[0], body["spec"]) for method, _, query, body in world.server.said if method == "PATCH"]
        assert said == [("fieldManager=gwfast-before-autoscaling", {"replicas": 7})] * given + [("fieldManager=gwfast", {"paused": False})]
    run(test)


@pytest.mark.parametrize("said, there, result", [
    ({"a": 1}, {"a": 1, "b": 2}, {"a": 1}), ({"a": {"b": 1}}, {}, {"a": None}), ([1, 2], [2, 1], [2, 1]),
    ([{"name": "a", "x": 1}], [{"name": "b"}, {"name": "a", "x": 2, "y": 3}], [{"name": "a", "x": 2}]),
    ([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}], [{"port": 53, "protocol": "TCP", "nodePort": 1}],
     [{"port": None, "protocol": None}, {"port": 53, "protocol": "TCP"}]),
    ([{"secret": {"a": 1}}, {"configMap": {"b": 2}}], [{"secret": {"a": 1, "m": 0}}, {"configMap": {"b": 3}}],
     [{"secret": {"a": 1}}, {"configMap": {"b": 3}}]),
    ([{"x": 1}, {"x": 2}], [{"x": 1}], [{"x": 1}, {"x": None}]), ([{"x": 1}], [{"x": 1}, {"x": 2}], [{"x": 1}]), ([], [], []),
])
def test_what_is_there_of_what_was_said(said, there, result):
    assert projected(said, there) == result


def test_who_has_lost_its_lease_writes_nothing_though_nobody_told_it_yet(monkeypatch):
    monkeypatch.setattr(module, "CEASED_WAIT", 0.02)

    async def test(world):
        world.may = False
        there = made(DEPLOYMENT)
        world.server.objects[path(DEPLOYMENT)] = there
        world.applier.seen(DEPLOYMENT, there)
        world.applier.want({KEY: made()}, {DEPLOYMENT})
        await world.until(lambda: {where for _, where, _, _ in world.server.said} == {path(KEY), path(DEPLOYMENT)})
        await world.still()
        assert world.server.writes() == [] and world.told == {}
        world.may = True
        await world.until(lambda: sorted(world.server.writes()) == [("DELETE", path(DEPLOYMENT)), ("PATCH", path(KEY))])
    run(test)


def test_what_is_held_is_not_deleted_until_it_is_not(monkeypatch):
    monkeypatch.setattr(limits, "API_BACKOFF", 0.01)

    async def test(world):
        world.holds = "its Gateway is there"
        world.server.objects[path(KEY)] = made()
        world.applier.seen(KEY, made())
        world.applier.want({}, {KEY})
        await world.until(lambda: "its Gateway is there" in world.told.get(KEY, ""))
        assert world.server.writes() == []
        world.holds = ""
        await world.until(lambda: path(KEY) not in world.server.objects)
    run(test)


@pytest.mark.parametrize("change", [{"uid": "another"}, {"labels": {}}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
def test_what_is_another_one_by_now_or_goes_already_is_not_deleted(change):
    async def test(world):
        there = made()
        there["metadata"]["uid"] = "u"
        world.server.objects[path(KEY)] = there | {"metadata": there["metadata"] | change}
        world.applier.seen(KEY, there)
        world.applier.want({}, {KEY})
        await world.until(lambda: KEY in world.told)
        await world.still()
        assert world.server.writes() == []
    run(test)
