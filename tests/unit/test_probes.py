"""Probes again and again: when who is asked, and what is believed. The endpoints are real servers."""
import asyncio
import contextlib
import functools
import os
import resource
import time

from probe_servers import OK, run, serving, subject

from gwfast import limits
from gwfast.endpoints import probes
from gwfast.endpoints.link import RESULTS
from gwfast.endpoints.probes import Clock, Prober
from support.waiting import elapse

BAD = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


class World:
    """Servers whose answers a test sets, and a prober with what it marks."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.marks: list[tuple[int, int, bool]] = []
        self.then: list[dict[str, int]] = []  # the prober's results at each mark
        self.prober = Prober(self.loop, self.mark)
        self.answers: dict[str, bytes | None] = {}  # by path; None: hang
        self.times: dict[str, list[float]] = {}
        self.open = self.most = 0

    def mark(self, *mark):
        self.marks.append(mark)
        self.then.append(dict(self.prober.results))

    async def serve(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        with contextlib.suppress(ConnectionError):
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.times.setdefault(path, []).append(time.monotonic())
            answer = self.answers.get(path, OK)
            if answer is not None:
                writer.write(answer)
            await reader.read()
        self.open -= 1
        writer.close()

    def count(self, path: str = "/") -> int:
        return len(self.times.get(path, ()))

    async def until(self, true) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):     # the folder's own
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return found


def prober_test(scenario):
    """Run a test on a World and its server's port; nothing of it is open when it ends."""
    @functools.wraps(scenario)
    def test():
        async def main():
            world = World()
            descriptors = sockets()
            bugs = []
            world.loop.set_exception_handler(lambda _, context: bugs.append(context))
            async with serving(world.serve) as port:
                try:
                    await scenario(world, port)
                finally:
                    world.prober.close()
                await world.until(lambda: not world.open)
            await world.until(lambda: sockets() <= descriptors)
            assert not bugs
        run(main)
    del test.__wrapped__  # or pytest takes its parameters for fixtures
    return test


@prober_test
async def test_thresholds(world, port):
    one = subject(port, interval=20, unhealthy=3, healthy=2)
    world.prober.follow({one: [(7, 1)]})
    await world.until(lambda: world.count() >= 3)
    assert world.marks == [] and world.prober.unhealthy == {}
    world.answers["/"] = BAD
    await world.until(lambda: world.prober.unhealthy)
    assert world.then[0]["status"] == 3 and world.marks == [(7, 1, True)]
    assert world.prober.unhealthy == {(7, 1): "it answered 500"}
    world.answers["/"] = OK
    await world.until(lambda: not world.prober.unhealthy)
    assert world.then[1]["passed"] - world.then[0]["passed"] == 2 and world.marks == [(7, 1, True), (7, 1, False)]


@prober_test
async def test_only_failures_in_a_row_count(world, port):
    world.prober.follow({subject(port, interval=15, unhealthy=2): [(7, 1)]})
    for _ in range(6):
        before = world.prober.results["status"]
        world.answers["/"] = BAD
        await world.until(lambda before=before: world.prober.results["status"] > before)
        world.answers["/"] = OK
        passed = world.prober.results["passed"]
        await world.until(lambda passed=passed: world.prober.results["passed"] > passed)
        if world.prober.results["status"] == before + 2:     # the loop was slow: two in a row
            return
    assert world.marks == []


@prober_test
async def test_at_once_then_at_intervals_that_differ(world, port):
    began = time.monotonic()
    world.prober.follow({subject(port, path=f"/{n}", interval=400): [(n, 1)] for n in range(20)})
    await world.until(lambda: all(world.count(f"/{n}") for n in range(20)))
    assert max(world.times[f"/{n}"][0] for n in range(20)) - began < 2
    await world.until(lambda: all(world.count(f"/{n}") >= 3 for n in range(20)))
    first = [world.times[f"/{n}"][1] - world.times[f"/{n}"][0] for n in range(20)]
    then = [world.times[f"/{n}"][2] - world.times[f"/{n}"][1] for n in range(20)]
    assert all(0.15 < gap < 2 for gap in first) and max(first) - min(first) > 0.05
    assert all(0.3 < gap < 2 for gap in then)


@prober_test
async def test_a_timeout_is_exact(world, port):
    world.answers["/"] = None
    began = time.monotonic()
    world.prober.follow({subject(port, timeout=200): [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    assert 0.19 < time.monotonic() - began < 1
    assert world.prober.unhealthy == {(7, 1): "no answer in 0.2 s"}
    await world.until(lambda: not world.open)


@prober_test
async def test_a_loop_that_is_late_is_no_failure(world, port):
    """An answer is there in time, and nobody reads it because this process is busy. The server is in this process too: a probe takes
    a dozen turns of the loop, each of which may count BEAT and LATE where others have the processor between them."""
    timeout = round(40 * 1000 * (probes.BEAT + probes.LATE))
    world.prober.follow({subject(port, timeout=timeout, interval=50): [(7, 1)]})
    for _ in range(2):
        count = world.count()
        await world.until(lambda count=count: world.count() > count)
        elapse(1.5 * timeout / 1000)
    await world.until(lambda: world.prober.results["passed"] >= 2)
    assert world.marks == [] and world.prober.results["late"] == 0


def test_the_clock_stands_still_while_the_loop_is_late():
    async def main():
        clock = Clock(asyncio.get_running_loop())
        clock.run()
        await asyncio.sleep(0.05)
        begin, real = clock.now(), time.monotonic()
        await asyncio.sleep(0.3)
        quiet, before = clock.now() - begin, time.monotonic() - real
        elapse(0.5)
        await asyncio.sleep(0)
        busy = clock.now() - begin - quiet
        clock.stop()
        stopped = clock.now()
        elapse(0.1)
        assert 0.05 < quiet <= before + 0.001 and busy < 0.2
        assert clock.now() - stopped >= 0.1          # nobody looked: nothing is known to be late
    run(main)


@prober_test
async def test_so_many_at_a_time(world, port):
    world.answers = {f"/{n}": None for n in range(30)}
    before, limits.PROBES = limits.PROBES, 4
    try:
        world.prober.follow({subject(port, path=f"/{n}", timeout=50): [(n, 1)] for n in range(30)})
        await world.until(lambda: len(world.prober.unhealthy) == 30)
    finally:
        limits.PROBES = before
    assert world.most <= 5                   # the server hears of an end a little later
    assert world.prober.results["late"] == 30


@prober_test
async def test_what_stays_keeps_what_is_believed(world, port):
    world.answers["/"] = BAD
    one = subject(port, interval=30)
    world.prober.follow({one: [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    other = subject(port, path="/other")
    world.prober.follow({one: [(7, 1), (8, 2)], other: [(9, 3)]})      # another backend has it too
    assert world.marks == [(7, 1, True), (8, 2, True)]
    world.answers["/strict"] = BAD
    world.prober.follow({subject(port, path="/strict", unhealthy=9): [(7, 1)], other: [(9, 3)]})   # another check
    assert world.marks[2:] == [(8, 2, False)] and set(world.prober.unhealthy) == {(7, 1)}
    await world.until(lambda: world.count("/strict") == 1)
    assert set(world.prober.unhealthy) == {(7, 1)}
    world.prober.follow({other: [(9, 3)]})
    assert world.marks[3:] == [(7, 1, False)] and world.prober.unhealthy == {}
    count = world.count(), world.count("/strict")
    await asyncio.sleep(0.1)
    assert (world.count(), world.count("/strict")) == count and world.count("/other") == 1


@prober_test
async def test_another_endpoint_in_the_slot_begins_anew(world, port):
    world.answers["/"] = BAD
    world.prober.follow({subject(port): [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    world.prober.follow({subject(port, path="/new"): [(7, 2)]})
    assert world.marks == [(7, 1, True), (7, 1, False)] and world.prober.unhealthy == {}


@prober_test
async def test_an_endpoint_is_out_while_one_of_two_says_so(world, port):
    world.answers = {"/a": BAD, "/b": BAD}
    world.prober.follow({subject(port, path=path, interval=20): [(7, 1)] for path in ("/a", "/b")})
    await world.until(lambda: world.count("/a") > 2 and world.count("/b") > 2)
    world.answers.pop("/a")
    count = world.count("/a")
    await world.until(lambda: world.count("/a") > count + 2)
    assert world.marks == [(7, 1, True)]
    world.answers.pop("/b")
    await world.until(lambda: not world.prober.unhealthy)
    assert world.marks == [(7, 1, True), (7, 1, False)]


@prober_test
async def test_what_we_cannot_ask_says_nothing(world, port):
    world.prober.follow({subject(port, interval=20, unhealthy=3): [(7, 1)]})   # one may be on its way, which the server cannot take
    await world.until(lambda: world.count())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        await world.until(lambda: world.prober.results["unable"] > 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert world.marks == []


def test_a_probe_that_waits_for_its_turn_has_all_its_time():
    """The time of a probe begins with it, not when it was due."""
    async def main():
        world = World()
        world.answers = {"/slow": None}
        before, limits.PROBES = limits.PROBES, 1
        try:
            async with serving(world.serve) as port:
                world.prober.follow({subject(port, path="/slow", timeout=200): [(1, 1)],
                                     subject(port, path="/fast", timeout=100): [(2, 1)]})
                await world.until(lambda: world.prober.results["passed"] and world.prober.results["late"])
                world.prober.close()
                await world.until(lambda: not world.open)
        finally:
            limits.PROBES = before
        assert set(world.prober.unhealthy) == {(1, 1)}
    run(main)


def test_there_is_a_word_for_each_end():
    assert len(set(RESULTS)) == len(RESULTS) and probes.LATE < probes.BEAT
