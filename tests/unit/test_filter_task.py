"""A FilterTask runs what does not wait at once, in a task that looks like one of its own; what waits goes on as that task."""
import asyncio
import contextvars
import os
import weakref

import pytest
import uvloop

from gwfast.engine import counters
from gwfast.extend.filter_steps import Steps
from gwfast.extend.filter_task import FilterTask
from gwfast.serve.extensions import _serve

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def run(main) -> None:
    async def limited():
        async with asyncio.timeout(30):
            await main()
    uvloop.run(limited())
    asyncio.run(limited())


class Turn:
    """A FilterTask that is parked, and what a host does with it."""

    def __init__(self):
        self.memory = counters.create(1, 4)
        self.counters = counters.Counters(self.memory, 0)
        self.turn = FilterTask(asyncio.get_running_loop(), _serve)

    def run(self, function, *arguments):
        """Run a coroutine function to its end, or until it waits: return the task then, else what park() does."""
        steps = Steps(self.counters, counters.place(0), function, *arguments)
        if self.turn.first(steps):
            return self.turn.park()
        return self.turn.go_on(awaits, steps)

    def __getattr__(self, name):
        return getattr(self.turn, name)

    def __del__(self):
        os.close(self.memory)


async def awaits(steps):
    await steps


async def parked() -> Turn:
    made = Turn()
    while not made.ready:
        await asyncio.sleep(0)
    return made


def test_what_does_not_wait_is_over_at_once_in_one_task():
    async def main():
        seen = []

        async def step(number):
            seen.append((number, asyncio.current_task() is turn.task, asyncio.get_running_loop()))
        turn, own = await parked(), asyncio.current_task()
        for number in range(3):
            assert turn.ready and turn.run(step, number) is None
        assert asyncio.current_task() is own
        assert seen == [(number, True, asyncio.get_running_loop()) for number in range(3)]
        turn.end()
    run(main)


def test_what_waits_goes_on_as_that_task():
    async def main():
        async def step():
            before = asyncio.current_task()
            await asyncio.sleep(0.001)
            ended.append((before, asyncio.current_task()))
        ended: list = []
        turn = await parked()
        task = turn.run(step)
        assert task is turn.task and turn.used and not ended
        await task
        assert ended == [(task, task)]
    run(main)


def test_it_is_cancelled_as_any_task():
    async def main():
        turn = await parked()
        task = turn.run(asyncio.sleep, 3600)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    run(main)


async def within_timeout():
    async with asyncio.timeout(3600):
        return


async def expires():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(3600)


async def waits_for():
    assert await asyncio.wait_for(asyncio.sleep(0, 5), 3600) == 5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(3600), 0.001)


async def gathers():
    assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0.001, 2)) == [1, 2]


async def groups():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
    assert [each.result() for each in tasks] == [0, 1, 2]
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(expired())
            await asyncio.sleep(3600)


async def expired():
    raise TimeoutError


async def shields():
    assert await asyncio.shield(asyncio.ensure_future(asyncio.sleep(0.001, 3))) == 3


async def cancels_and_waits():
    asyncio.current_task().cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await asyncio.sleep(3600)
    assert asyncio.current_task().uncancel() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("late", [False, True], ids=["in its first step", "later"])
@pytest.mark.parametrize("what", [within_timeout, expires, waits_for, gathers, groups, shields, cancels_and_waits])
def test_what_asyncio_has_works_in_it(what, late):
    async def main():
        async def step():
            if late:
                await asyncio.sleep(0)
            await what()
            done.append(asyncio.current_task())
        done: list = []
        turn = await parked()
        task = turn.run(step)
        if task is not None:
            await task
        assert done == [turn.task]
    run(main)


async def sets():
    VARIABLE.set("set")


KEPT: list = []


async def keeps():
    KEPT.append(asyncio.current_task())


async def calls_back():
    asyncio.current_task().add_done_callback(KEPT.append)


async def cancels():
    asyncio.current_task().cancel()


async def refers():
    KEPT.append(weakref.ref(asyncio.current_task()))


async def names():
    asyncio.current_task().set_name("of a filter")


@pytest.mark.parametrize("touch", [sets, keeps, calls_back, cancels, refers, names])
def test_a_task_that_was_touched_ends(touch):
    """And whoever waits for its end hears of it."""
    async def main():
        KEPT.clear()
        turn = await parked()
        turn.run(touch)
        assert not turn.ready and not turn.parked
        while not turn.task.done():
            await asyncio.sleep(0)
        while touch is calls_back and KEPT != [turn.task]:
            await asyncio.sleep(0)
        KEPT.clear()
    run(main)


def test_a_variable_that_is_set_is_given_back_with_its_context():
    async def main():
        turn = await parked()
        context = turn.run(sets)
        assert context[VARIABLE] == "set" and VARIABLE.get() == "unset"
    run(main)


def test_it_is_ready_only_where_a_new_task_would_have_the_same_variables():
    async def main():
        turn = await parked()
        context = contextvars.copy_context()
        context.run(VARIABLE.set, "other")
        assert turn.ready and not context.run(lambda: turn.ready) and turn.ready
        turn.end()
    run(main)
