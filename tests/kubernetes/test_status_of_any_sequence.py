"""Whatever happens, in whatever order, and however late the watch tells it: what stands in the end is what a fresh start would say."""
import asyncio
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from writer_world import OURS, C, G, World, fails, key_of, route, until

from gwfast.kubernetes import pace, status
from gwfast.kubernetes.client import Unreachable
from gwfast.kubernetes.statuses import Assigned

SOON = 0.0005  # in the place of every wait
QUICK = [(pace, "SPACING"), (pace, "UNDONE_WAIT"), (pace, "UNDONE_WAIT_MOST"), (status, "CONFLICT_WAIT"), (status, "AWAY_WAIT"),
         (status, "AWAY_WAIT_MOST"), (status, "GONE_WAIT"), (status, "FORBIDDEN_WAIT"), (status, "REFUSED_WAIT"), (status, "LEASE_WAIT")]
THEIRS = "example.net/other"
NAMES = ("a", "b", "c")
STEPS = st.lists(st.tuples(
    st.sampled_from(["edit", "edit", "edit", "drop", "leave", "foreign", "undo", "condition", "assign", "late", "tell", "fault", "fault",
                     "fault", "lease", "turn", "follow", "follow", "follow", "lead"]),
    st.integers(0, 5)), max_size=20)


def away(method, key):
    raise Unreachable("connection refused")


FAULTS = (fails(409, "Conflict"), fails(404, "NotFound"), fails(500, "InternalError"), fails(422, "Invalid"), fails(403, "Forbidden"), away)


class Sequence:
    def __init__(self):
        self.world = World(*[route(name) for name in NAMES])
        self.generation = 1
        self.foreign: dict = {}  # what others say, by key

    async def step(self, what: str, n: int) -> None:
        world, key = self.world, key_of(NAMES[n % len(NAMES)])
        self.generation += 1
        if what in ("edit", "leave"):
            world.put(route(key.name, self.generation, ("elsewhere",) if what == "leave" else ("g", "elsewhere")[:1 + n % 2]))
        elif what == "drop":
            world.drop(key)
            self.foreign.pop(key, None)
        elif what == "assign":
            world.assigned = {G: Assigned(ready=n % 2 == 0, message=str(n))}
        elif what in ("foreign", "undo", "condition"):
            self.meddle(what, G if what == "condition" else key)
        elif what == "late":
            world.watched = False
        elif what == "tell":
            self.tell()
        elif what == "fault":
            world.faults.append(FAULTS[n])
        elif what == "lease":
            world.leads = not world.leads
        elif what == "lead":
            world.writer.lead(n != 0)
        elif what == "turn":
            await asyncio.sleep(SOON * n)
        else:
            world.follow()

    def meddle(self, what: str, key) -> None:
        """Others write: an entry of theirs, a condition of theirs, or ours away."""
        if key not in self.world.server:
            return
        found = self.world.status(key)
        if what == "condition":
            theirs = {"type": "example.net/T", "status": "True", "reason": "R", "message": str(self.generation)}
            rest = [one for one in found.get("conditions", ()) if one["type"] != theirs["type"]]
            self.foreign[key] = [theirs]
            self.world.change(key, {"conditions": [theirs, *rest]})
        elif what == "foreign":
            theirs = {"parentRef": {"name": str(self.generation)}, "controllerName": THEIRS, "conditions": []}
            self.foreign[key] = [*self.foreign.get(key, ()), theirs]
            self.world.change(key, {"parents": [*found.get("parents", ()), theirs]})
        else:
            self.world.change(key, {"parents": [one for one in found.get("parents", ()) if one["controllerName"] != OURS]})

    def tell(self) -> None:
        self.world.watched = True
        for key in list(self.world.known):
            self.world.tell(key)

    async def end(self) -> None:
        self.world.faults.clear()
        self.world.leads = True
        if not self.world.watched:
            self.tell()
        self.world.follow()
        self.world.writer.lead(True)
        await until(lambda: self.world.writer.idle)
        self.world.writer.lead(False)

    def check(self) -> None:
        for key, theirs in self.foreign.items():
            found = self.world.status(key)
            entries = [one for one in found.get("parents", ()) if one["controllerName"] == THEIRS]
            assert theirs == (entries or [one for one in found.get("conditions", ()) if one["type"] == "example.net/T"])
        for name in NAMES:
            if key_of(name) in self.world.server:
                ours = [one for one in self.world.status(key_of(name)).get("parents", ()) if one["controllerName"] == OURS]
                refs = [ref.name for ref in self.world.resources[key_of(name)].spec.parent_refs]
                assert len(ours) == ("g" in refs)
                assert all(each["observedGeneration"] == self.world.server[key_of(name)]["metadata"]["generation"]
                           for one in ours for each in one["conditions"])
        assert {one["type"] for one in self.world.status(C)["conditions"]} == {"Accepted", "SupportedVersion"}
        assert len(self.world.status(G)["listeners"]) == 1

    async def quiet(self) -> None:
        """A writer that begins now has nothing to write."""
        self.world.asked.clear()
        self.world.writer.lead(True)
        await until(lambda: self.world.writer.idle)
        assert self.world.asked == []


@settings(max_examples=300)
@given(STEPS)
def test_the_end_is_what_a_fresh_start_says(steps):
    async def run():
        sequence = Sequence()
        sequence.world.writer.lead(True)
        for what, n in steps:
            await sequence.step(what, n)
            for _ in range(3 * n):  # and some of what follows from it happens before the next
                await asyncio.sleep(0)
        await sequence.end()
        sequence.check()
        await sequence.quiet()
        sequence.world.writer.close()
        await asyncio.sleep(0)

    patches = [mock.patch.object(module, name, SOON) for module, name in QUICK]
    for one in patches:
        one.start()
    try:
        asyncio.run(run())
    finally:
        for one in patches:
            one.stop()
