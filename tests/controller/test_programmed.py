"""When Gateways are said to be programmed: by data planes, and not before it is known."""
import pytest

from gwfast.config.model import Key
from gwfast.controller.programmed import GRACE, LONGEST, PATIENCE, Programmed
from gwfast.controller.standing import Peer, Standing, standing
from gwfast.controller.wire import Problem
from gwfast.kubernetes.statuses import Assigned

G, H = Key("Gateway", "ns", "g"), Key("Gateway", "ns", "h")
MARKS = {"fleet": {G: 3, H: 5}}
GOT = {G: Assigned(addresses=(("IPAddress", "10.0.0.1"),))}


def peer(number, fleet="fleet", **more):
    return Peer(fleet, "10.0.0.9", "pod", number=number, **more)


@pytest.mark.parametrize("peers, expected", [
    ([], (False, 0, 0)), ([peer(0)], (False, 0, 0)), ([peer(3)], (True, 1, 0)), ([peer(9), peer(3)], (True, 2, 0)),
    ([peer(2)], (False, 0, 1)), ([peer(3), peer(2)], (False, 1, 1)), ([peer(3), peer(0)], (True, 1, 0)),
    ([peer(9, "another")], (False, 0, 0)), ([peer(3, left=True)], (True, 1, 0)), ([peer(2, left=True)], (False, 0, 0)),
    ([peer(3), peer(2, left=True)], (True, 1, 0)),
], ids=["nobody", "one that has just begun", "one", "two", "one that is behind", "one of two is behind", "one has just begun",
        "another fleet's", "one that may come back", "one that served less", "an old one has left"])
def test_how_a_gateway_stands(peers, expected):
    found = standing(MARKS, peers)[G]
    assert (found.ready, found.serving, found.behind) == expected and found.mark == 3


def test_each_gateway_stands_for_itself_and_problems_are_told():
    found = standing(MARKS, [peer(4), peer(4, problems=(Problem(message="taken", gateway="ns/g"), Problem(message="x", gateway="ns/o")))])
    assert (found[G].ready, found[G].message, found[H].behind) == (False, "pod: taken", 2)


@pytest.mark.parametrize("first, second, ready", [(True, False, True), (False, True, True), (False, False, False), (True, True, True)])
def test_one_that_moves_is_served_where_one_fleet_does(first, second, ready):
    peers = [Peer(fleet, number=3 if serves else 2) for fleet, serves in (("old", first), ("new", second))]
    assert standing({"old": {G: 3}, "new": {G: 3}}, peers)[G].ready is ready


class Loop:
    """A clock that tests turn, and the timers that are set."""

    def __init__(self):
        self.now, self.timers = 100.0, []

    def time(self):
        return self.now

    def call_later(self, delay, call):
        timer = Timer(self.now + delay, call)
        self.timers.append(timer)
        return timer

    def turn(self, seconds):
        self.now += seconds
        due = [one for one in self.timers if one.at <= self.now + 1e-9 and not one.cancelled]
        self.timers = [one for one in self.timers if one not in due]
        for one in due:
            one.call()


class Timer:
    def __init__(self, at, call):
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self):
        self.cancelled = True


class World:
    def __init__(self, was=()):
        self.loop, self.stands, self.again = Loop(), {}, 0
        self.programmed = Programmed(self.loop, lambda: self.stands, lambda key: key in was, self._again)

    def _again(self):
        self.again += 1

    def say(self, **stands):
        self.stands = {G: Standing(**stands)} if stands else {}
        found = self.programmed.assigned(GOT)
        return found and (found[G].ready, found[G].message)


def test_what_data_planes_serve_is_ready_at_once():
    assert World().say(ready=True, serving=1) == (True, "")


def test_what_nobody_serves_is_not():
    assert World().say() == (False, "no data plane serves it yet")
    assert World().say(ready=False) == (False, "no data plane serves it yet")
    assert World().say(ready=False, serving=1, message="pod: taken") == (False, "pod: taken")


def test_who_is_about_to_follow_is_waited_for():
    world = World()
    assert world.say(ready=True, mark=1, serving=2) == (True, "")
    assert world.say(ready=False, mark=2, behind=2) is None
    world.loop.turn(PATIENCE / 2)
    assert world.again == 0 and world.say(ready=False, mark=2, serving=1, behind=1) is None
    assert world.say(ready=True, mark=2, serving=2) == (True, "")
    assert world.say(ready=False, mark=3, behind=2) is None
    world.loop.turn(PATIENCE)
    assert world.again == 1
    assert world.say(ready=False, mark=3, serving=1, behind=1) == (False, "1 of 2 data planes do not serve it yet")


def test_nobody_is_waited_for_for_ever():
    world, mark = World(), 1
    while world.say(ready=False, mark=mark, behind=1) is None:
        world.loop.turn(PATIENCE / 2)
        mark += 1
        assert world.loop.now < 100 + LONGEST + PATIENCE
    assert world.loop.now >= 100 + LONGEST


def test_who_has_just_begun_to_lead_waits_for_data_planes_of_what_was_programmed():
    world = World(was=[G])
    world.programmed.begin()
    assert world.say() is None
    world.loop.turn(1)
    assert world.say(ready=True, serving=1) == (True, "")
    assert world.say() == (False, "no data plane serves it yet")  # once was enough
    world.programmed.begin()
    assert world.say() is None
    world.loop.turn(GRACE)
    assert world.again == 1 and world.say() == (False, "no data plane serves it yet")


def test_what_was_not_programmed_waits_for_nobody():
    world = World()
    world.programmed.begin()
    assert world.say() == (False, "no data plane serves it yet")


def test_what_got_no_address_is_said_as_it_is():
    world = World(was=[G])
    world.programmed.begin()
    got = {G: Assigned(ready=False, reason="AddressNotAssigned", message="none")}
    assert world.programmed.assigned(got) == got


def test_an_address_that_is_about_to_come_is_waited_for():
    """Once, for a moment: a status less is written. What does not come is said then, and what changed beside it."""
    world, coming = World(), {G: Assigned(ready=False, reason="AddressNotAssigned", message="none", coming=True)}
    assert world.programmed.assigned(coming) is None
    world.loop.turn(PATIENCE / 2)
    assert world.again == 0 and world.programmed.assigned(coming) is None
    world.stands = {G: Standing(ready=True, serving=1)}
    assert world.programmed.assigned(GOT) == GOT
    assert world.programmed.assigned(coming) is None
    world.loop.turn(PATIENCE)
    assert world.again == 1 and world.programmed.assigned(coming) == coming
    assert world.programmed.assigned(coming) == coming, "nobody waits for it again"
