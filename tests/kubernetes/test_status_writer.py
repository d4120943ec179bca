"""When a status is written, and what happens where it cannot be."""
import asyncio
import time
from unittest import mock

import pytest
from writer_world import GATEWAY, OURS, C, G, World, fails, key_of, resources, route, until

from gwfast.config.model import Key
from gwfast.kubernetes import pace, status, statuses
from gwfast.kubernetes.client import Unreachable
from gwfast.kubernetes.pace import UNDONE_FREE, Bucket, Patience
from gwfast.kubernetes.statuses import Assigned

R = key_of()
FOREIGN = {"parentRef": {"name": "x"}, "controllerName": "example.net/other", "conditions": [{"type": "Accepted"}]}


def scenario(function):
    """Run a test on an event loop, and leave nothing behind."""
    def test():
        async def run():
            made = []
            await function(lambda *texts, **options: made.append(World(*texts, **options)) or made[-1])
            for world in made:
                world.writer.close()
            await asyncio.sleep(0)
        asyncio.run(run())
    test.__name__, test.__doc__ = function.__name__, function.__doc__
    return test


async def started(world):
    world.writer.lead(True)
    world.follow()
    return await world.settled()


@scenario
async def test_everything_is_written_once(make):
    world = make(route())
    asked = await started(world)
    assert sorted(asked) == sorted(("PATCH", key) for key in (C, G, R))
    assert [key for _, key in asked[:2]] == [C, G]  # those that people wait for
    assert world.parents() == [("g", OURS, 1)]
    assert world.status(G)["listeners"][0]["attachedRoutes"] == 1
    world.follow()
    for key in (C, G, R):
        world.tell(key)
    assert await world.settled() == []
    assert world.writer.stats.writes == 3 and world.writer.stats.waiting == 0


@scenario
async def test_a_change_writes_what_it_changes(make):
    world = make(route(), route("other"))
    await started(world)
    world.put(route(generation=2))
    world.follow()
    assert await world.settled() == [("PATCH", R)]
    assert world.parents() == [("g", OURS, 2)]
    world.put(route("third"))
    world.follow()
    assert sorted(await world.settled()) == [("PATCH", G), ("PATCH", key_of("third"))]


@scenario
async def test_nothing_is_written_by_one_that_does_not_lead(make):
    world = make(route())
    world.follow()
    world.tell(R)
    await asyncio.sleep(0)
    assert world.asked == [] and world.writer.idle
    world.writer.lead(True)
    assert len(await world.settled()) == 3
    world.writer.lead(False)
    world.put(route(generation=2))
    world.follow()
    world.change(G, {"conditions": []})
    await asyncio.sleep(0)
    assert world.asked == [] and world.writer.idle
    world.writer.lead(True)
    assert sorted(await world.settled()) == [("PATCH", G), ("PATCH", R)]


@scenario
async def test_the_lease_is_asked_before_each_write(make):
    world = make(route(), leads=False)
    world.writer.lead(True)
    world.follow()
    await until(lambda: world.writer.stats.waiting == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.asked == []
    world.leads = True
    assert len(await world.settled()) == 3


@scenario
async def test_losing_the_lease_ends_what_waits(make):
    world = make(*[route(f"r{n}") for n in range(30)], burst=5, rate=0.001)
    world.writer.lead(True)
    world.follow()
    await until(lambda: len(world.asked) == 5)
    world.writer.lead(False)
    assert world.writer.idle and world.writer.stats.waiting == 0


@scenario
async def test_foreign_entries_and_conditions_stay(make):
    world = make(route())
    await started(world)
    theirs = {"type": "example.net/T", "status": "True", "reason": "S", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    world.change(R, {"parents": [FOREIGN, *world.status(R)["parents"]]})
    world.change(G, {"conditions": [theirs, *world.status(G)["conditions"]]})
    assert await world.settled() == []
    world.put(route(generation=2))
    world.assigned = {G: Assigned(ready=False, message="x")}
    world.follow()
    assert sorted(await world.settled()) == [("PATCH", G), ("PATCH", R)]
    assert world.status(R)["parents"][0] == FOREIGN and len(world.status(R)["parents"]) == 2
    assert world.status(G)["conditions"][0] == theirs and len(world.status(G)["conditions"]) == 4


@scenario
async def test_a_route_that_leaves(make):
    world = make(route())
    await started(world)
    world.change(R, {"parents": [FOREIGN, *world.status(R)["parents"]]})
    world.put(route(generation=2, parents=("elsewhere",)))
    world.follow()
    await world.settled()
    assert world.status(R)["parents"] == [FOREIGN]


@scenario
async def test_what_we_said_before_we_began_is_taken_back(make):
    """A route that left while nobody led."""
    world = make(route(parents=("elsewhere",)), route("fine", parents=("elsewhere",)))
    world.change(R, {"parents": [{"parentRef": {"name": "g"}, "controllerName": OURS, "conditions": []}, FOREIGN]})
    world.change(key_of("fine"), {"parents": [FOREIGN]})
    assert ("PATCH", key_of("fine")) not in await started(world)
    assert world.status(R)["parents"] == [FOREIGN]


@scenario
async def test_one_of_several_with_our_name_leaves_what_it_did_not_say(make):
    world = make(route(parents=("elsewhere", "g")), narrowed=True)
    another = {"parentRef": {"name": "elsewhere"}, "controllerName": OURS, "conditions": []}
    world.change(R, {"parents": [another]})
    await started(world)
    assert [one["parentRef"]["name"] for one in world.status(R)["parents"]] == ["elsewhere", "g"]
    world.put(route(generation=2, parents=("elsewhere",)))
    world.follow()
    await world.settled()
    assert world.status(R)["parents"] == [another]


@scenario
async def test_a_gateway_that_is_another_controllers_now(make):
    """Untouched by anybody since: it is as before a controller came. Touched: it is the new one's."""
    world = make(GATEWAY % ("h", 81))
    h = Key("Gateway", "default", "h")
    await started(world)
    assert world.status(h)["conditions"][0]["status"] == "True"
    for key, name, port in ((G, "g", 80), (h, "h", 81)):
        world.put((GATEWAY % (name, port)).replace("ours", "theirs"))
        world.resources[key].metadata.generation = 2
    taken = world.status(h)["conditions"][0] | {"reason": "New", "observedGeneration": 2}
    world.change(h, {"conditions": [taken]})
    world.follow()
    await world.settled()
    assert world.status(h)["conditions"] == [taken] and world.status(h)["listeners"]
    assert [(one["type"], one["status"], one["reason"]) for one in world.status(G)["conditions"]] == [
        ("Accepted", "Unknown", "Pending"), ("Programmed", "Unknown", "Pending")]
    assert "listeners" not in world.status(G)
    world.follow()
    world.tell(G)
    assert await world.settled() == []


# ---- Versions

@scenario
async def test_the_answer_is_known_before_the_watch_tells_it(make):
    world = make(route())
    await started(world)
    world.watched = False
    for generation in (2, 3, 4):
        world.put(route(generation=generation))
        if generation == 2:
            world.tell(R)
        world.follow()
        if generation == 2:
            assert await world.settled() == [("PATCH", R)]
    world.tell(R)
    assert await world.settled() == [("PATCH", R)]
    assert world.parents() == [("g", OURS, 4)]
    assert world.writer.stats.conflicts == 0


@scenario
async def test_two_writes_before_the_watch_tells_the_first(make):
    world = make(route())
    await started(world)
    world.watched = False
    for n in range(3):
        world.assigned = {G: Assigned(ready=False, message=str(n))}
        world.follow()
        assert await world.settled() == [("PATCH", G)]
    world.tell(G)
    assert await world.settled() == []
    assert world.status(G)["conditions"][1]["message"] == "2"


@scenario
async def test_a_conflict_waits_for_the_watch(make):
    world = make(route())
    await started(world)
    world.watched = False
    world.touch(R)
    world.assigned = {G: Assigned(ready=False)}
    world.put(route("new"))
    world.tell(key_of("new"))
    world.touch(G)
    world.follow()
    await until(lambda: world.writer.stats.conflicts == 1)
    world.tell(G)
    asked = await world.settled()
    assert asked.count(("GET", G)) == 0 and asked.count(("PATCH", G)) == 2
    assert world.status(G)["conditions"][1]["status"] == "False"


@scenario
async def test_a_conflict_that_the_watch_does_not_explain_is_looked_at(make):
    world = make(route())
    await started(world)
    world.watched = False
    world.change(G, {"conditions": [{"type": "example.net/T"}, *world.status(G)["conditions"]]})
    world.assigned = {G: Assigned(ready=False)}
    world.follow()
    asked = await world.settled()
    assert asked == [("PATCH", G), ("GET", G), ("PATCH", G)]
    assert [one["type"] for one in world.status(G)["conditions"]] == ["example.net/T", "Accepted", "Programmed", "ResolvedRefs"]
    world.tell(G)
    assert await world.settled() == []


@scenario
async def test_newest_state_wins(make):
    """What changes while a write is under way is written behind it, once."""
    world = make(route())
    world.writer.lead(True)
    world.follow()
    await until(lambda: world.asked)
    for generation in range(2, 9):
        world.put(route(generation=generation))
        world.follow()
    asked = await world.settled()
    assert world.parents() == [("g", OURS, 8)]
    assert 1 <= asked.count(("PATCH", R)) <= 3


# ---- Failures

@scenario
async def test_an_object_that_has_gone_is_forgotten(make):
    world = make(route())
    world.watched = False
    world.drop(R)
    world.writer.lead(True)
    world.resources |= resources(route())
    world.follow()
    await until(lambda: len(world.asked) == 3 and world.writer.stats.waiting == 1)
    world.tell(R)
    await world.settled()
    assert world.log.lines == [] and world.writer.stats.failures == 0
    world.watched = True
    world.put(route())
    world.follow()
    assert ("PATCH", R) in await world.settled()


@scenario
async def test_what_an_api_server_that_has_just_begun_does_not_find_is_asked_for_again(make):
    world = make(route())
    world.faults = [fails(404, "NotFound")] * 3
    with mock.patch.object(status, "GONE_WAIT", 0.001):
        assert len(await started(world)) == 6
    assert world.writer.stats.writes == 3


@scenario
async def test_what_is_refused_is_not_asked_again(make):
    world = make(route())
    await started(world)
    world.faults = [fails(422, "Invalid")]
    world.put(route(generation=2))
    world.follow()
    await until(lambda: world.writer.stats.failures == 1)
    for _ in range(3):
        world.tell(R)
    await until(lambda: world.writer.stats.waiting == 1)
    assert [key for _, key in world.asked] == [R]
    assert len(world.log.lines) == 1 and "refuses" in world.log.lines[0][0] and world.log.lines[0][1]["object"] == str(R)
    world.put(route(generation=3))
    world.follow()
    assert (await world.settled())[-1] == ("PATCH", R)
    assert world.parents() == [("g", OURS, 3)]


@scenario
async def test_what_is_forbidden_is_told_once_for_its_kind(make):
    world = make(*[route(f"r{n}") for n in range(9)])
    world.faults = [lambda *_: None] * 2 + [fails(403, "Forbidden")] * 9
    world.writer.lead(True)
    world.follow()
    await until(lambda: world.writer.stats.failures == 9)
    assert len(world.log.lines) == 1
    assert not world.writer.idle  # it is tried again


@scenario
async def test_without_an_answer_everything_waits(make):
    def away(method, key):
        raise Unreachable("connection refused")

    world = make(*[route(f"r{n}") for n in range(50)])
    world.faults = [away] * 8
    world.writer.lead(True)
    world.follow()
    await until(lambda: len(world.asked) == 8)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.asked) == 8 and len(world.log.lines) == 1
    assert len(await world.settled()) == 8 + 52
    assert world.writer.stats.writes == 52


@scenario
async def test_what_the_server_does_not_keep_is_not_said_again(make):
    world = make(route())
    world.gone_fields = ("attachedListenerSets", "supportedFeatures")
    assert len(await started(world)) == 3
    for key in (C, G):
        world.tell(key)
    assert await world.settled() == []
    world.assigned = {G: Assigned(ready=False)}
    world.follow()
    assert await world.settled() == [("PATCH", G)]
    world.touch(G)
    assert await world.settled() == []


class Clock:
    """The writer's, which goes on when a test says so, too."""

    def __init__(self):
        self.later = 0.0

    def monotonic(self):
        return time.monotonic() + self.later


@scenario
async def test_what_is_undone_again_and_again_is_written_less_and_less_often(make):
    clock = Clock()
    with mock.patch.object(status, "time", clock), mock.patch.object(pace, "UNDONE_WAIT", 3000.0), \
            mock.patch.object(pace, "UNDONE_WAIT_MOST", 3600.0), mock.patch.object(pace, "FORGOTTEN", 9000.0):
        await undone(make(route()), clock)


async def undone(world, clock):
    await started(world)
    for _ in range(UNDONE_FREE):
        world.change(R, {"parents": []})
        assert await world.settled() == [("PATCH", R)]
    world.change(R, {"parents": []})
    await until(lambda: world.writer.stats.waiting == 1)
    for _ in range(50):
        world.touch(R)
        await asyncio.sleep(0)
    assert world.asked == []
    assert not world.writer.idle
    clock.later += pace.UNDONE_WAIT
    world.touch(R)
    assert (await world.settled()) == [("PATCH", R)]
    assert world.parents() == [("g", OURS, 1)]
    assert len(world.log.lines) == 1 and "undoes" in world.log.lines[0][0]
    world.put(route(generation=2))  # something new is said at once
    world.follow()
    assert await world.settled() == [("PATCH", R)]


# ---- Pace

def test_a_bucket():
    bucket = Bucket(rate=10, burst=3)
    for _ in range(3):
        assert bucket.wait(100.0) == 0
        bucket.take()
    assert bucket.wait(100.0) == pytest.approx(0.1)
    assert bucket.wait(100.05) == pytest.approx(0.05)
    assert bucket.wait(100.2) == 0
    bucket.take()
    assert bucket.wait(1000.0) == 0
    for _ in range(3):
        bucket.take()
    assert bucket.wait(1000.0) > 0


def test_patience_is_bounded_and_forgets():
    patience, now, waits = Patience(), 1000.0, []
    for _ in range(12):
        waits.append(patience.wait(R, "x", now))
        now += waits[-1]
        assert patience.wait(R, "x", now) == 0
        patience.wrote(R, "x", now)
    assert waits == pytest.approx([0, pace.SPACING, pace.SPACING, 1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert patience.wait(R, "y", now) == pytest.approx(pace.SPACING)
    assert patience.wait(R, "y", now + pace.SPACING) == 0
    assert patience.wait(R, "x", now + pace.FORGOTTEN + 1) == 0
    for n in range(5000):
        patience.wrote(key_of(str(n)), "x", now + n)
    assert len(patience._written) <= 2 * pace.FORGOTTEN + 10


@scenario
async def test_a_thousand_routes_at_once(make):
    world = make(*[route(f"r{n}") for n in range(1000)])
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert len(await started(world)) == 1002
    assert loop.time() - begin >= (1002 - status.BURST) / status.RATE - 0.1  # no flood


@pytest.mark.parametrize("module, name", [(statuses, "status_of"), (status, "merged")], ids=lambda one: getattr(one, "__name__", one))
def test_what_it_fails_on_is_left_and_the_others_are_written(monkeypatch, module, name):
    bugs, poison, real = [], key_of("poison"), getattr(module, name)

    def fail(*given):
        if poison in [getattr(one, "key", one) for one in given]:
            raise ZeroDivisionError
        return real(*given)

    async def test(make):
        world = make(route("poison"), route("r"))
        world.log.bug = lambda message, error, **fields: bugs.append(fields["object"])
        await started(world)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            world.put(route("poison", 2))
            world.put(route("r", 2))
            world.follow()
            await world.settled()
            assert (world.parents()[0][2], world.parents("poison")[0][2]) == (2, 1)
        assert set(bugs) == {str(poison)} and world.writer.stats.failures == len(bugs)
        world.put(route("poison", 3))
        world.follow()
        await world.settled()
        assert world.parents("poison")[0][2] == 3
    scenario(test)()


def test_where_it_is_not_known_what_changed_everything_is_compared(monkeypatch):
    bugs = []

    def fail(self, before, now):
        raise ZeroDivisionError

    async def test(make):
        world = make(route("r"))
        world.log.bug = lambda message, error, **fields: bugs.append(error)
        await started(world)
        monkeypatch.setattr(statuses.Statuses, "changed", fail)
        world.put(route("r", 2))
        world.follow()
        await world.settled()
        assert world.parents()[0][2] == 2 and len(bugs) == 1
    scenario(test)()
