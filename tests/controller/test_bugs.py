"""What a controller fails on keeps nobody else from what is told, made and served."""
import asyncio
import base64
import json
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[1]))

import feed_world
from controller_cases import CLASS, SITE, OPTIONS as GRAPH, resources
from support.failing import Bug, failing, steps
from feed_world import FLEETS, start

from gwfast import limits
from gwfast.config.source import Loaded
from gwfast.config.model import Key, ObjectMeta, Service
from gwfast.controller import authority
from gwfast.controller import desired as wanted
from gwfast.controller import fleet as fleets
from gwfast.controller.apply import Applier
from gwfast.controller.fleet import Known, Records, plan
from gwfast.graph.attach import attach
from gwfast.kubernetes import api
from gwfast.kubernetes.api import CORE
from gwfast.kubernetes.client import ApiError
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.referred import Referred
from gwfast.controller.received import Batch, Received
from gwfast.controller.run import Brain, ControllerOptions
from gwfast.controller.wire import encode
from gwfast.errors import Source

GATEWAY = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: shop}
spec: {gatewayClassName: gwfast, listeners: [{name: web, protocol: HTTP, port: 80}]}
"""
OPTIONS = ControllerOptions(controller_name="gwfast.dev/x", url="https://c:1", host="c", image="i", namespace="sys", listen=("", 1),
                            admin=("", 2))


class Site:
    """A brain, and what a controller does with it."""

    def __init__(self):
        self.resources, self._loaded, self.told, self.bugs = {}, {}, {}, []
        self.brain = Brain(SimpleNamespace(load=self._load), OPTIONS, lambda words, error: self.bugs.append(error))

    def _load(self, changed):
        before, now = self._loaded, dict(self.resources)
        self._loaded = now
        return Loaded(resources=now, problems=[], added=frozenset(now.keys() - before.keys()),
                      removed=frozenset(before.keys() - now.keys()),
                      changed=frozenset(each for each in now.keys() & before.keys() if now[each] is not before[each]))

    def serve(self, put):
        self.resources |= put
        for changed in ({"cluster"}, None):
            try:
                self.brain.read(changed)
                news = self.brain.feed(FLEETS, [])
            except Bug as error:
                self.bugs.append(error)
            else:
                self.told |= news
                return {fleet: {key: encode(one) for key, one in feed.objects.items()} for fleet, feed in self.told.items()}
        raise AssertionError("nobody is told of anything")


def fresh(there):
    return Site().serve(there)


def of(one):
    return {one.key: one}


ROUTES = [of(feed_world.route("a", "r1", [("a", "g1", None)], service, "c", feed_world.MIRROR)) for service in ("v2", "v1")]


def two(service):
    return of(feed_world.route("b", "r2", [("b", "g1", None)], service, None))


def test_wherever_it_fails_on_one_fleets_are_told_of_the_others():
    second, third = ROUTES
    (poison,) = second.values()

    def touches(thing):
        return any(one is poison for one in (thing, getattr(thing, "resource", None)))

    site = Site()
    site.serve(start())
    found = steps(lambda: site.serve(second), touches, "gwfast.graph", "gwfast.controller")
    assert {"gwfast.controller.feed", "gwfast.controller.wire"} <= {step.module for step in found} and not site.bugs
    held = 0
    for step in found:
        site = Site()
        site.serve(start())
        with failing(step, touches):
            told = [(site.serve(second | two(service)), service, [each.resource for each in site.brain.problems])
                    for service in ("v1", "v2")]
        assert site.bugs
        for feeds, service, problems in told:  # where all stages that are new come through, nothing is held
            assert problems in ([], ["HTTPRoute a/r1"])
            held += bool(problems)
            assert feeds == fresh(start() | two(service) | ({} if problems else second)), step
        assert site.serve(third) == fresh(start() | two("v2") | third) and not site.brain.problems
    assert held > len(found)


def test_what_a_data_plane_fails_on_is_told_and_the_rest_serves(monkeypatch):
    received, poison, other = Received(Source("c", 0)), Key("HTTPRoute", "a", "r1"), Key("HTTPRoute", "b", "r2")
    received.take(Batch({key: encode(one) for key, one in start().items()}, True, "v1"))
    before = received._store.served[poison]
    texts = [encode(one) for each in (ROUTES[0], two("v1")) for one in each.values()]
    found = steps(lambda: Received(Source("c", 0)).take(Batch({poison: texts[0]}, False, "v2")), lambda thing: thing == texts[0],
                  "gwfast.controller.wire", "gwfast.config")
    assert found
    for step in found:
        with failing(step, lambda thing: thing == texts[0]):
            loaded = received.take(Batch({poison: texts[0], other: texts[1]}, False, "v2"))
        assert loaded.resources[poison] is before and encode(loaded.resources[other]) == texts[1] and poison in received.undecodable
        (problem,) = loaded.problems
        assert "Bug: in" in problem.message and problem.resource == str(poison)
        received.take(Batch({other: encode(start()[other])}, False, "v3"))


def planned(text, known, spoilt=None):
    return plan(attach(resources(text), GRAPH), SITE, Records(), known, spoilt)


@pytest.mark.parametrize("step", ["_gateway_parameters", "_name", "_ports"])
def test_a_gateway_that_cannot_be_planned_needs_what_it_needed(monkeypatch, step):
    known, text = Known(), CLASS + GATEWAY % "g" + GATEWAY % "other"
    before = planned(text, known)
    key = Key("Gateway", "shop", "g")
    real = getattr(fleets, step)

    def fail(what, *more):
        if getattr(what, "key", what) == key:
            raise Bug
        return real(what, *more)
    monkeypatch.setattr(fleets, step, fail)
    spoilt = {}
    now = planned(text + GATEWAY % "third", known, spoilt)
    assert now.needs[key] is before.needs[key] and spoilt.keys() == {key}
    assert {each.name for each in now.needs} == {"g", "other", "third"}
    assert all(each in now.fleets[now.needs[each].fleet].gateways for each in now.needs)
    alone = planned(text, Known(), spoilt)  # a controller that has just begun knows nothing of it
    assert {each.name for each in alone.needs} == {"other"}
    service = {"metadata": {"name": "g-gwfast", "namespace": "shop"}, "spec": {}}
    owned = {Key("Service", "shop", "g-gwfast"): service, Key("Service", "shop", "old"): service}
    assert not wanted.doomed(alone, {}, owned, wanted.Slices(owned), spoilt), "nothing goes while one is not known"
    assert wanted.doomed(alone, {}, owned, wanted.Slices(owned)) == owned.keys()


def test_a_class_whose_parameters_cannot_be_read_keeps_the_last_ones(monkeypatch):
    known, text = Known(), CLASS + GATEWAY % "g"
    before = planned(text, known)

    def fail(*given):
        raise Bug
    monkeypatch.setattr(fleets, "_class_parameters", fail)
    spoilt = {}
    now = planned(text, known, spoilt)
    assert spoilt.keys() == {Key("GatewayClass", "", "gwfast")} and now.fleets == before.fleets
    assert SITE.namespace in {place[0] for place in now.fleets}


# ---- What runs for as long as the controller does


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


class Log:
    """Keeps what went wrong."""

    def __init__(self):
        self.bugs = []

    def bug(self, message, error, **fields):
        self.bugs.append(error)

    def __getattr__(self, level):
        return lambda *message, **fields: None


class Failing:
    """A client that answers with a bug, so many times, and then as it should."""

    def __init__(self, times, answer=b"{}"):
        self.times, self.answer = times, answer

    async def request(self, *given, **named):
        self.times -= 1
        if self.times >= 0:
            raise Bug
        return self.answer


async def runs_on(work, condition):
    task = asyncio.create_task(work)
    try:
        await until(condition)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_secret_of_certificates_that_cannot_be_taken_ends_nobody(monkeypatch):
    monkeypatch.setattr(limits, "API_BACKOFF", 0.001)
    log, taken = Log(), []
    secret = json.dumps({"metadata": {}, "data": {"tls.crt": base64.b64encode(b"no certificate").decode()}}).encode()

    def take():
        taken.append(it.certificate)
        if len(taken) < 3:
            raise ssl.SSLError("no start line")
    it = authority.Authority(Failing(2, secret), "ns", ("c.test",), log, take)
    asyncio.run(runs_on(it.run(), lambda: len(taken) == 3 and it.certificate))
    assert len(log.bugs) == 4 and set(taken) == {b"no certificate"}


def test_an_election_that_fails_in_an_unforeseen_way_is_tried_again():
    log, answer = Log(), b'{"metadata": {"name": "l", "resourceVersion": "1"}, "spec": {}}'
    election = Election(Failing(3, answer), "ns", "l", "me", lambda leads: None, retry=0.001, log=log)
    asyncio.run(runs_on(election.run(), lambda: election.leads))
    assert len([each for each in log.bugs if isinstance(each, Bug)]) >= 3


def test_what_is_referred_to_and_cannot_be_read_keeps_nobody_waiting():
    async def test():
        log, moved = Log(), []
        (kind,) = [each for each in CORE if each.name == "Secret"]
        referred = Referred(Failing(1), kind, (), lambda name, raw: None, lambda: moved.append(referred.settled), log)
        referred.want(frozenset([("n", "s")]))
        await until(lambda: moved)
        assert moved == [True] and referred.settled and not referred.unanswered and len(log.bugs) == 1
    asyncio.run(test())


def test_an_object_that_cannot_be_compared_stops_no_other(monkeypatch):
    poison, other = Key("Service", "shop", "a"), Key("Service", "shop", "b")
    made = {key: {"apiVersion": "v1", "kind": "Service", "metadata": {"name": key.name, "namespace": "shop"}, "spec": {}}
            for key in (poison, other)}
    monkeypatch.setattr(Applier, "_differs", lambda self, key: 1 // (key != poison))
    log, told = Log(), []
    client = SimpleNamespace(request=lambda method, *given, **named: answered(method, made[other]))
    applier = Applier(client, "l", log, lambda key, words: told.append(key), lambda key: None)
    applier.lead(True)
    applier.want(made, ())
    asyncio.run(runs_on(applier.run(), lambda: other in told))
    assert poison not in told and [type(each) for each in log.bugs] == [ZeroDivisionError]


async def answered(method, thing):
    if method == "GET":
        raise ApiError(404, "NotFound", "")
    return json.dumps(thing).encode()


def test_kinds_that_cannot_be_taken_are_asked_for_again(monkeypatch):
    monkeypatch.setattr(api, "RETRY", 0.001)
    log, changes = Log(), []

    async def discover(client):
        return {each.names: each for each in CORE}

    def changed():
        changes.append(1)
        if len(changes) < 3:
            discovery.served = {}
            raise Bug
    monkeypatch.setattr(api, "discover", discover)
    discovery = api.Discovery(Failing(0), changed, log)
    asyncio.run(runs_on(discovery.run(), lambda: len(changes) >= 3))
    assert len([each for each in log.bugs if isinstance(each, Bug)]) == 2


def test_an_object_that_is_another_than_its_line_says_is_not_taken():
    received, said = Received(Source("c", 0)), Key("Service", "a", "one")
    loaded = received.take(Batch({said: encode(Service(metadata=ObjectMeta(name="two", namespace="a")))}, True, "v1"))
    assert loaded.resources == {} and received.undecodable == {said: "it is Service a/two"}
    service = encode(Service(metadata=ObjectMeta(name="one", namespace="a")))
    assert received.take(Batch({said: service}, True, "v2")).resources.keys() == {said} and received.undecodable == {}
