"""What a stage fails on is held back, and all others go on."""
import os
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))

from support.failing import Bug, failing, steps
from graph_cases import resources

from gwfast.config import quarantine
from gwfast.config.source import Loaded
from gwfast.config.model import Key, ObjectMeta, Service, ServiceSpec
from gwfast.config.quarantine import Quarantine
from gwfast.errors import Source
from gwfast.plan.dump import to_builtins
from gwfast.serve.generation import Pipeline
from gwfast.serve.options import ServeOptions


def key(name):
    return Key("Service", "n", name)


def version(name, number):
    return Service(metadata=ObjectMeta(name=name, namespace="n", generation=number), spec=ServiceSpec())


class Stages:
    """Come to what they were given, and remember it; fail on resources that are bad, and on pairs that are bad together."""

    def __init__(self, world):
        self.world, self.known = world, {}

    def run(self, resources, changed):
        self.world.runs += 1
        if changed is None:
            self.known = dict(resources)
        for each in changed or ():
            self.known.pop(each, None)
            if each in resources:
                self.known[each] = resources[each]
        assert self.known == dict(resources), "what changed was not told"
        there = {(one.key.name, one.metadata.generation) for one in resources.values()}
        if any(bad <= there for bad in self.world.bad):
            raise Bug("it cannot be done")
        return dict(resources)


class World:
    def __init__(self):
        self.bad, self.runs, self.now, self.bugs = [], 0, 0.0, []
        self.quarantine = Quarantine(lambda far: Stages(self), lambda words, error: self.bugs.append(error), lambda: self.now)
        self.resources = {}

    def round(self, edits):
        before, self.resources = self.resources, dict(self.resources)
        for name, number in edits.items():
            if number is None:
                self.resources.pop(key(name), None)
            elif (there := self.resources.get(key(name))) is None or there.metadata.generation != number:
                self.resources[key(name)] = version(name, number)
        changed = {each for each in before.keys() | self.resources.keys() if before.get(each) is not self.resources.get(each)}
        outcome = self.quarantine.run(self.resources, changed)
        self.quarantine.accept()
        return {each.name: one.metadata.generation for each, one in outcome.items()}


names = st.sampled_from("abcdef")
numbers = st.integers(1, 3)


@settings(max_examples=300)
@given(st.lists(st.frozensets(st.tuples(names, numbers), min_size=1, max_size=2), max_size=4),
       st.lists(st.dictionaries(names, st.none() | numbers, min_size=1), min_size=1, max_size=8))
def test_all_that_does_not_fail_is_served_and_what_fails_is_as_it_was_last(bad, rounds):
    world = World()
    world.bad = bad
    served = {}
    for edits in rounds:
        before, served = served, world.round(edits)
        there = {each.name: one.metadata.generation for each, one in world.resources.items()}
        held = {each.name for each in world.quarantine.held}
        assert {name: served.get(name) for name in there.keys() | served.keys() if name not in held} == {
            name: number for name, number in there.items() if name not in held}
        for name in held:
            assert served.get(name) == before.get(name)
            assert any((name, there[name]) in one for one in bad), "what nothing fails on is not held"
        assert {each.resource for each in world.quarantine.problems()} == {f"Service n/{name}" for name in held}
    world.bad = []
    world.now += quarantine.AGAIN_MOST + 1
    assert world.round({}) == {each.name: one.metadata.generation for each, one in world.resources.items()}
    assert not world.quarantine.held and not list(world.quarantine.problems())


def test_one_among_thousands_is_found_soon_and_costs_nothing_then():
    world = World()
    world.bad = [frozenset({("s777", 1)})]
    served = world.round({f"s{number}": 1 for number in range(3000)})
    assert len(served) == 2999 and "s777" not in served and world.runs < 40
    runs = world.runs
    assert world.round({"s1": 2})["s1"] == 2 and world.runs == runs + 1 and len(world.bugs) == 2
    assert world.round({"s777": 2})["s777"] == 2 and world.runs == runs + 2


def test_what_is_held_is_tried_again_less_and_less_often():
    world = World()
    world.bad = [frozenset({("a", 2)})]
    world.round({"a": 1, "b": 1})
    assert world.round({"a": 2, "b": 2}) == {"a": 1, "b": 2}
    for wait in (quarantine.AGAIN, 2 * quarantine.AGAIN, 4 * quarantine.AGAIN):
        runs = world.runs
        world.now += wait - 1
        world.round({"b": world.runs})
        assert world.runs == runs + 1
        world.now += 1
        assert world.round({"b": world.runs})["a"] == 1 and world.runs > runs + 2
    world.bad = []
    world.now += quarantine.AGAIN_MOST
    assert world.round({})["a"] == 2


def test_where_everything_fails_the_search_ends_and_what_was_good_stays(monkeypatch):
    monkeypatch.setattr(quarantine, "TRIES", 16)
    world = World()
    everything = {f"s{number}" for number in range(1000)}
    world.round(dict.fromkeys(everything, 1))
    world.bad = [frozenset({(name, 2)}) for name in everything]
    runs = world.runs
    assert world.round(dict.fromkeys(everything, 2)) == dict.fromkeys(everything, 1) and world.runs < runs + 40
    world.bad = []
    world.now += quarantine.AGAIN
    assert world.round({}) == dict.fromkeys(everything, 2)


def test_what_was_good_and_fails_now_is_held_too():
    world = World()
    world.round({"a": 1, "b": 1, "c": 1})
    world.bad = [frozenset({("b", 1)})]
    assert world.round({"a": 2}) == {"a": 2, "c": 1}
    assert world.round({"a": 3, "b": 2}) == {"a": 3, "b": 2, "c": 1}


def test_what_fails_on_nothing_at_all_is_raised_and_forgotten():
    world = World()
    world.round({"a": 1})
    world.bad = [frozenset()]
    for _ in range(2):
        with pytest.raises(Bug):
            world.round({"a": 2})
    world.bad = []
    assert world.round({"b": 1}) == {"a": 2, "b": 1}


@pytest.mark.parametrize("error", quarantine.NOBODYS)
def test_what_is_nobodys_fault_is_raised_and_nothing_is_held(error, monkeypatch):
    world = World()
    world.round({"a": 1})
    with monkeypatch.context() as patch:
        def fail(*given):
            raise error
        patch.setattr(Stages, "run", fail)
        with pytest.raises(error):
            world.round({"a": 2})
    assert not world.quarantine.held and not world.bugs
    assert world.round({"b": 1}) == {"a": 2, "b": 1}


# ---- The pipeline


WORLD = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners:
  - {name: web, protocol: HTTP, port: 80}
  - {name: tcp, protocol: TCP, port: 90}
""" + "".join(f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
apiVersion: gwfast.dev/v1alpha1
kind: BackendPolicy
metadata: {{name: {name}}}
spec: {{targetRefs: [{{group: "", kind: Service, name: {name}}}], healthCheck: {{passive: {{consecutiveFailures: 3}}}}}}
""" for name in ("one", "two", "poison"))
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: g, sectionName: web}]
  hostnames: [%s.test]
  rules:
  - matches: [{path: {value: /%s}}, {path: {type: RegularExpression, value: '/[a-z]+/%s'}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]
    timeouts: {request: 3s}
    backendRefs: [{name: %s, port: 80}]
"""


def route(name, path):
    return resources(ROUTE % (name, name, path, path, name))


class Memory:
    """A Source of what a test puts there."""

    place = Source("memory", 0)

    def __init__(self):
        self.resources, self._loaded = {}, {}

    def load(self, changed):
        before, self._loaded = self._loaded, dict(self.resources)
        now = self._loaded
        return Loaded(resources=now, problems=[], added=frozenset(now.keys() - before.keys()),
                      removed=frozenset(before.keys() - now.keys()),
                      changed=frozenset(each for each in now.keys() & before.keys() if now[each] is not before[each]))


class Site:
    """A pipeline, and what a supervisor does with it."""

    def __init__(self, **options):
        self.source, self.bugs, self._generations = Memory(), [], count(1)
        self.pipeline = Pipeline(self.source, ServeOptions(), bug=lambda words, error: self.bugs.append(error), **options)

    def serve(self, put):
        self.source.resources |= put
        for changed in ({"memory"}, None):
            try:
                reading = self.pipeline.read(changed)
                binds = {bind.key: number for number, bind in enumerate(reading.plan.binds, 1)}
                table, _ = self.pipeline.image(reading.plan, binds, {}, next(self._generations))
            except Bug as error:
                self.bugs.append(error)
            else:
                for descriptor in table:
                    os.close(descriptor)
                self.pipeline.accept()
                return reading
        raise AssertionError("nobody's changes are served")


def shown(reading):
    return to_builtins(reading.plan)


def fresh(there):
    return shown(Site().serve(there))


CHANGES = {
    "route": (route("poison", "first"), route("poison", "second"), route("poison", "third")),
    "service": tuple(resources("{apiVersion: v1, kind: Service, metadata: {name: poison}, spec: {ports: [{port: 80, targetPort: %d}]}}"
                               % number) for number in (1, 2, 3)),
    "slice": tuple(resources("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: poison, labels: "
                             "{kubernetes.io/service-name: poison}}, addressType: IPv4, ports: [{port: 80}], endpoints: "
                             "[{addresses: [10.0.0.%d]}]}" % number) for number in (1, 2, 3)),
    "gateway": tuple(resources("{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: poison}, spec: "
                               "{gatewayClassName: c, listeners: [{name: web, protocol: HTTP, port: %d}]}}" % number)
                     for number in (81, 82, 83)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_wherever_a_stage_fails_on_one_the_others_are_served(what):
    """Each function of the graph and the plan that gets it, or what was made of it, fails on its second version."""
    first, second, third = CHANGES[what]
    (poison,) = second.values()

    def touches(thing):
        made_of = (thing, getattr(thing, "resource", None), getattr(getattr(thing, "route", None), "resource", None))
        return any(one is poison for one in made_of)

    start, two, one = resources(WORLD) | route("one", "1") | route("poison", "0") | first, route("two", "2"), route("one", "3")
    site, held = Site(), 0
    site.serve(start)
    found = steps(lambda: site.serve(second), touches, "gwfast.graph", "gwfast.plan")
    assert len(found) > 1 and not site.bugs
    for step in found:
        site, alone = Site(), Site()
        site.serve(start)
        with failing(step, touches):
            readings = site.serve(second | two), site.serve(one)
            first_reading = alone.serve(start | second)  # has no last good version
        last = site.serve(third)
        assert shown(last) == fresh(start | third | two | one) and not last.unreadable, step
        assert site.bugs, step
        for reading, there in zip(readings, (start | two, start | two | one), strict=True):
            held += check(reading, there | second, there)
        check(first_reading, start | second, {})
    assert held > len(found)


def check(reading, whole, good):
    """Whether one is held, and all others serve. Where all stages that are new come through, none is."""
    held = [each for each in whole if str(each) in [problem.resource for problem in reading.unreadable]]
    assert len(held) == len(reading.unreadable) <= 1
    assert all(each.name == "poison" for each in held), "it, or what cannot be served for it"
    for problem in reading.unreadable:
        assert problem.reason == quarantine.REASON and ("its last good version serves" if good else "it is not served") in problem.message
    there = {each: good.get(each) if each in held else one for each, one in whole.items()}
    assert shown(reading) == fresh({each: one for each, one in there.items() if one is not None})
    return bool(held)


def test_what_cannot_be_written_into_an_image_is_held_too(monkeypatch):
    """An image fails in what is compiled: a pattern that no table can hold."""
    from gwfast.plan import image
    real = image.Images.build

    def build(self, plan, *more):
        if "/second" in str(to_builtins(plan)):
            raise Bug("no table can hold it")
        return real(self, plan, *more)
    monkeypatch.setattr(image.Images, "build", build)
    site, start = Site(), resources(WORLD) | route("one", "1") | route("poison", "first")
    site.serve(start)
    reading = site.serve(route("poison", "second") | route("two", "2"))
    assert shown(reading) == fresh(start | route("two", "2"))
    assert [each.resource for each in reading.unreadable] == ["HTTPRoute default/poison"]
    assert shown(site.serve(route("poison", "third"))) == fresh(start | route("two", "2") | route("poison", "third"))


def test_an_image_for_which_there_is_no_memory_holds_nothing(monkeypatch):
    site = Site()
    site.serve(resources(WORLD) | route("one", "1"))
    with monkeypatch.context() as patch:
        patch.setattr(site.pipeline, "write", lambda *given: (_ for _ in ()).throw(OSError("ENOMEM")))
        with pytest.raises(OSError, match="ENOMEM"):
            site.serve(route("one", "2"))
    assert not site.serve({}).unreadable and not site.bugs
