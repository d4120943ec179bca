"""Elections: one leader at most, at any moment, by clocks that are not compared."""
import asyncio
import re
from contextlib import asynccontextmanager

import msgspec
import pytest
from servers import Exchange, run, serving, until

from gwfast.kubernetes.access import Access
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.seen import Seen

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Leases:
    """An API server with one Lease."""

    def __init__(self):
        self.lease: dict | None = None
        self.version = 0
        self.writes: list[tuple[str, dict]] = []
        self.reads = 0
        self.frozen = False  # nothing is answered
        self.status = 0  # of each answer
        self.unwatched = False  # lists and watches may not be read
        self.watching = 0  # watches that were begun
        self.changed = asyncio.Event()

    async def __call__(self, x: Exchange) -> None:
        if self.frozen:
            await x.closed()
            return
        if self.status:
            await x.refuse(self.status)
            return
        where = x.path.removeprefix("/apis/coordination.k8s.io/v1/namespaces/ns/leases")
        if x.method == "GET" and not where:
            assert x.query["fieldSelector"] == "metadata.name=gwfast"
            await (self.watch(x) if x.query.get("watch") else self.list(x))
        elif x.method == "POST":
            if where or self.lease is not None:
                await x.refuse(409, "AlreadyExists")
                return
            await self.write(x)
        elif where != "/gwfast" or self.lease is None:
            await x.refuse(404, "NotFound")
        elif x.method == "GET":
            self.reads += 1
            await x.answer(self.lease)
        elif x.json()["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            await x.refuse(409, "Conflict")
        else:
            await self.write(x)

    async def list(self, x: Exchange) -> None:
        if self.unwatched:
            await x.refuse(403, "Forbidden")
            return
        await x.answer({"metadata": {"resourceVersion": str(self.version)}, "items": [self.lease] if self.lease else []})

    async def watch(self, x: Exchange) -> None:
        version = int(x.query["resourceVersion"])
        self.watching += 1
        await x.begin()
        while True:
            changed = self.changed
            if self.lease is not None and self.version > version:
                version = self.version
                await x.line({"type": "MODIFIED", "object": self.lease})
            await changed.wait()

    async def write(self, x: Exchange) -> None:
        self.writes.append((x.method, x.json()["spec"]))
        self.put(x.json())
        await x.answer(self.lease, 201 if x.method == "POST" else 200)

    def put(self, lease: dict) -> None:
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()
        self.lease = lease | {"metadata": lease["metadata"] | {"resourceVersion": str(self.version)}}

    @property
    def holder(self) -> str:
        return self.lease and self.lease["spec"]["holderIdentity"] or ""


class Clock:
    """Time that goes on when a test says so: however slow the machine is, no lease expires by itself."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Candidate(Election):
    """An election that keeps what it told."""

    def __init__(self, client: Client, who: str, **options):
        self.told: list[bool] = []
        super().__init__(client, "ns", "gwfast", who, self.told.append, **options)
        self.task: asyncio.Task | None = None

    def start(self) -> "Candidate":
        self.task = asyncio.create_task(self.run())
        return self

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def voting(*names: str, **options):
    """Candidates, of one server; quick ones: 1.5 s, 1 s, 0.1 s."""
    options = dict(duration=1.5, renew=1.0, retry=0.1) | options
    leases = Leases()
    leases.unwatched = options.pop("unwatched", False)
    async with serving(leases) as server:
        clients = [Client(Access(server.url)) for _ in names]
        candidates = [Candidate(client, name, **options) for client, name in zip(clients, names, strict=True)]
        try:
            yield leases, *candidates
        finally:
            for candidate in candidates:
                if candidate.task:
                    await candidate.stop()
            for client in clients:
                await client.close()


def test_a_lease_is_made_renewed_and_given_back():
    async def test():
        async with voting("me", duration=15.0, clock=Clock()) as (leases, me):
            assert not me.leads
            me.start()
            await until(lambda: len(leases.writes) >= 3)
            assert me.leads and me.told == [True] and me.holder == "me"
            (method, first), (renewal, second) = leases.writes[:2]
            assert (method, renewal, leases.reads) == ("POST", "PUT", 0), "a renewal is one request"
            assert first["holderIdentity"] == "me" and first["leaseDurationSeconds"] == 15 and first["leaseTransitions"] == 0
            assert STAMP.fullmatch(first["acquireTime"]) and STAMP.fullmatch(first["renewTime"])
            assert second["acquireTime"] == first["acquireTime"] and second["renewTime"] > first["renewTime"]
            await me.stop()
            await me.release()
            assert me.told == [True, False] and not me.leads
            _, last = leases.writes[-1]
            assert (last["holderIdentity"], last["leaseDurationSeconds"], last["leaseTransitions"]) == ("", 1, 0)
    run(test)


@pytest.mark.parametrize("unwatched", [False, True])
def test_who_waits_takes_what_is_given_back_at_once(unwatched):
    """Who watches has the next try in an hour."""
    async def test():
        async with voting("one", "two", unwatched=unwatched, clock=Clock(), retry=0.1 if unwatched else 3600.0) as (leases, one, two):
            one.start()
            await until(lambda: one.leads)
            two.start()
            await until(lambda: leases.reads > 3 if unwatched else leases.watching == 2)
            assert not two.leads and two.holder == "one"
            await one.stop()
            await one.release()
            await until(lambda: two.leads)
            assert leases.lease["spec"]["leaseTransitions"] == 1 and two.told == [True]
    run(test)


def test_a_leader_that_is_killed_is_followed_when_its_lease_has_expired():
    async def test():
        clock = Clock()
        async with voting("one", "two", clock=clock) as (leases, one, two):
            one.start()
            await until(lambda: one.leads)
            two.start()
            await until(lambda: two.holder == "one")
            await one.stop()
            await until(lambda: two._seen[0] == str(leases.version))
            clock.now += 1.9
            reads = leases.reads
            await until(lambda: leases.reads > reads + 2)
            assert not one.leads and not two.leads, "its own clock has ended it before"
            clock.now += 0.2
            await until(lambda: two.leads)
            await until(lambda: one.told == [True, False])
            assert leases.lease["spec"]["leaseTransitions"] == 1
    run(test)


def test_a_renewal_is_seen_when_it_is_made():
    """Of a leader that dies another one leads when the lease is over, and not a look later."""
    async def test():
        clock = Clock()
        async with voting("two", duration=15.0, renew=10.0, retry=2.0, clock=clock) as (leases, two):
            spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0}
            leases.put({"metadata": {"name": "gwfast"}, "spec": spec})
            two.start()
            await until(lambda: leases.watching == 1 and two.holder == "one")
            clock.now += 1.5
            leases.put({"metadata": {"name": "gwfast"}, "spec": spec})
            await until(lambda: two._seen == (str(leases.version), clock.now))
            reads = leases.reads
            clock.now += 14.999  # the next try is at the end of it, which has all but come
            assert two._pause() == pytest.approx(0.001)
            await until(lambda: leases.reads > reads)
            assert not two.leads
            clock.now += 0.001
            await until(lambda: two.leads)
    run(test)


def test_who_watches_asks_where_a_renewal_is_overdue_alone():
    async def test():
        clock = Clock()
        async with voting("two", duration=15.0, renew=10.0, retry=0.01, clock=clock) as (leases, two):
            lease = {"metadata": {"name": "gwfast"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}}
            leases.put(lease)
            two.start()
            await until(lambda: two._due() > 0)
            reads = leases.reads
            for _ in range(50):
                leases.put(lease)
                await until(lambda: two._seen[0] == str(leases.version))
            assert leases.reads <= reads + 2 < 50, "those that were on their way"
            clock.now += 2.0
            await until(lambda: leases.reads > reads + 10)  # the watch may be cut off
            assert not two.leads
    run(test)


def test_another_holder_is_told_of():
    async def test():
        async with voting("two", retry=3600.0, clock=Clock()) as (leases, two):
            told = []
            two.seen = lambda: told.append(two.holder)
            leases.put({"metadata": {"name": "gwfast"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}})
            two.start()
            await until(lambda: leases.watching == 1 and told == ["one"])
            leases.put({"metadata": {"name": "gwfast"}, "spec": {"holderIdentity": "three", "leaseDurationSeconds": 15}})
            await until(lambda: told == ["one", "three"])
    run(test)


def test_a_watch_that_is_behind_says_nothing():
    async def test():
        async with voting("one", retry=3600.0, clock=Clock()) as (leases, one):
            leases.put({"metadata": {"name": "gwfast"}, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15}})
            old = msgspec.json.encode(leases.lease)
            leases.put(leases.lease)
            one.start()
            await until(lambda: one.holder == "other")
            seen = one._seen
            one.put(("ns", "gwfast"), Seen("u", "1"), old, None)
            assert one._seen == seen == ("2", one._clock.now)
            one.put(("ns", "gwfast"), Seen("u", "3"), b'{"metadata": {"resourceVersion": "3"}, "spec": {"holderIdentity": 7}}', None)
            assert not one.task.done() and not one.leads
    run(test)


@pytest.mark.parametrize("how", ["frozen", "status"])
def test_a_leader_that_cannot_renew_leads_no_more(how):
    async def test():
        clock = Clock()
        async with voting("one", clock=clock) as (leases, one):
            one.start()
            await until(lambda: one.leads)
            setattr(leases, how, True if how == "frozen" else 503)
            clock.now += 1.1
            await until(lambda: one.told == [True, False])
            assert not one.leads
            setattr(leases, how, 0)
            await until(lambda: one.told == [True, False, True])
            assert leases.lease["spec"]["leaseTransitions"] == 0, "nobody else had it"
    run(test)


def test_a_leader_whose_lease_was_taken_leads_no_more():
    async def test():
        async with voting("one", clock=Clock()) as (leases, one):
            one.start()
            await until(lambda: one.leads)
            leases.put(leases.lease | {"spec": leases.lease["spec"] | {"holderIdentity": "two", "leaseDurationSeconds": 60}})
            await until(lambda: one.told == [True, False])
            assert one.holder == "two" and not one.leads
            await one.stop()
            await one.release()
            assert leases.holder == "two", "what is not ours is not given back"
    run(test)


def test_a_lease_that_was_deleted_is_made_anew():
    async def test():
        async with voting("one", clock=Clock()) as (leases, one):
            one.start()
            await until(lambda: one.leads)
            leases.lease = None
            await until(lambda: leases.lease)
            assert one.leads and one.told == [True]
    run(test)


def test_what_else_is_in_a_lease_is_left():
    async def test():
        async with voting("one") as (leases, one):
            leases.put({"metadata": {"name": "gwfast", "labels": {"a": "b"}, "finalizers": ["f"]}, "spec": {"strategy": "x"}})
            one.start()
            await until(lambda: one.leads)
            assert leases.lease["metadata"]["labels"] == {"a": "b"} and leases.lease["metadata"]["finalizers"] == ["f"]
            assert leases.lease["spec"]["strategy"] == "x" and leases.lease["spec"]["leaseTransitions"] == 0
    run(test)


@pytest.mark.parametrize("lease", [{"metadata": {}}, {"metadata": {}, "spec": {"holderIdentity": 7}}, {"spec": {}, "metadata": {"resourceVersion": 1}},
                                   {"spec": {"holderIdentity": 7}, "metadata": {"resourceVersion": "1"}},
                                   {"spec": {"leaseDurationSeconds": "x"}, "metadata": {"resourceVersion": "1"}}])
def test_a_lease_that_makes_no_sense_is_nobodys_to_lead(lease):
    async def test():
        async with voting("one") as (leases, one):
            leases.lease = lease
            one.start()
            await until(lambda: leases.reads > 2)
            assert not one.leads and not one.task.done()
            leases.lease = None
            await until(lambda: one.leads)
    run(test)


def test_a_process_that_was_frozen_sees_that_its_lease_is_over():
    """Its loop has not turned, so nothing was told: whoever asks `leads` before a write does not write."""
    async def test():
        clock = Clock()
        async with voting("one", clock=clock, duration=15.0, renew=10.0, retry=60.0) as (leases, one):
            one.start()
            await until(lambda: one.leads)
            clock.now += 9.9
            assert one.leads
            clock.now += 0.2
            assert not one.leads and one.told == [True]
    run(test)


def test_clocks_of_machines_are_not_compared():
    """A renewTime of long ago, or of the future, says nothing: only that it changes."""
    async def test():
        clock = Clock()
        async with voting("one", retry=0.01, clock=clock) as (leases, one):
            spec = {"holderIdentity": "other", "leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z", "leaseTransitions": 3}
            one.start()
            for stamp in ("2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z") * 3:
                leases.put({"metadata": {"name": "gwfast"}, "spec": spec | {"renewTime": stamp}})
                for wait in (0.0, 0.9):  # the other one lives: it has written within the second that it gave
                    clock.now += wait
                    reads = leases.reads
                    await until(lambda: one._seen[0] == str(leases.version) and (not wait or leases.reads > reads + 2))  # noqa: B023
                    assert not one.leads
            clock.now += 0.2
            await until(lambda: one.leads)
            assert leases.lease["spec"]["leaseTransitions"] == 4
    run(test)


def test_many_candidates_have_one_leader_at_most():
    async def test():
        names = [f"c{number}" for number in range(8)]
        async with voting(*names, retry=0.05, clock=Clock()) as (leases, *candidates):
            for candidate in candidates:
                candidate.start()
            for _ in range(4):
                await until(lambda: leaders(candidates))
                (leader,) = leaders(candidates)
                assert leases.holder == leader.identity
                await leader.stop()
                await leader.release()
                candidates.remove(leader)
            await until(lambda: leaders(candidates))
            assert len(leaders(candidates)) == 1 and leases.lease["spec"]["leaseTransitions"] == 4
    run(test)


def leaders(candidates: list[Candidate]) -> list[Candidate]:
    found = [candidate for candidate in candidates if candidate.leads]
    assert len(found) <= 1
    return found


def test_giving_back_does_not_wait_long_for_an_api_server_that_is_gone():
    async def test():
        async with voting("one", duration=6000.0, renew=4000.0) as (leases, one):
            one.start()
            await until(lambda: one.leads)
            await one.stop()
            leases.frozen = True
            await one.release()
            assert one.told == [True, False]
    run(test)
