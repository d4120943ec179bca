"""A coroutine awaited through its Steps is what it is without: what it returns, raises and is told; and each step is said and measured."""
import asyncio
import os

import pytest
import uvloop

from gwfast.engine import counters
from gwfast.extend.filter_steps import Steps
from support.waiting import elapse


class Wrong(Exception):
    pass


async def returns(value):
    return value


async def waits(value):
    await asyncio.sleep(0.001)
    return value


async def raises(error):
    await asyncio.sleep(0)
    raise error


async def goes_on(value):
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return value


def future(value):
    made = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(made.set_result, value)
    return made


@pytest.fixture
def place():
    """Somewhere to say what runs: counters, the mark of a filter, and what reads it."""
    memory = counters.create(1, 4)
    worker = counters.Counters(memory, 0)
    yield worker, counters.place(worker.filter_row("n/a")), counters.Pulse(memory)
    os.close(memory)


def run(awaits):
    async def main():
        async with asyncio.timeout(30):
            return await awaits()
    return uvloop.run(main())


@pytest.mark.parametrize("function", [returns, waits, future])
@pytest.mark.parametrize("value", [None, 1, (1, 2), (), StopIteration(3), ValueError("a value")], ids=repr)
def test_what_it_returns(place, function, value):
    worker, mark, pulse = place

    async def awaits():
        return await Steps(worker, mark, function, value)
    assert run(awaits) is value
    assert pulse.running(0) is None


@pytest.mark.parametrize("error", [Wrong, KeyboardInterrupt, asyncio.CancelledError, TimeoutError])
def test_what_it_raises(place, error):
    worker, mark, pulse = place

    async def awaits():
        with pytest.raises(error) as caught:
            await Steps(worker, mark, raises, error("told"))
        assert caught.value.args == ("told",)
        assert "raises" in [frame.name for frame in caught.traceback]
    run(awaits)
    assert pulse.running(0) is None


def test_it_is_cancelled_and_may_go_on(place):
    worker, mark, _ = place

    async def awaits():
        for function, ends in ((waits, asyncio.CancelledError), (goes_on, None)):
            task = asyncio.ensure_future(wrapped(function))
            await asyncio.sleep(0)
            task.cancel()
            if ends:
                with pytest.raises(ends):
                    await task
            else:
                assert await task == 5
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await Steps(worker, mark, asyncio.sleep, 60)

    async def wrapped(function):
        return await Steps(worker, mark, function, 5)
    run(awaits)


def test_what_is_no_coroutine_function_is_named(place):
    worker, mark, _ = place

    async def awaits():
        with pytest.raises(TypeError, match="plain is no coroutine function: `async def` is needed"):
            await Steps(worker, mark, plain)

    def plain():
        return None
    run(awaits)


def test_each_step_is_said_and_the_longest_measured(place):
    worker, mark, pulse = place
    seen = []

    async def filter_like():
        seen.append(pulse.running(0))
        await asyncio.sleep(0.01)
        seen.append(pulse.running(0))
        elapse(0.03)

    async def awaits():
        steps = Steps(worker, mark, filter_like)
        task = asyncio.ensure_future(wrapped(steps))
        await asyncio.sleep(0)
        seen.append(pulse.running(0))
        await task
        assert 0.03 <= steps.longest < 5

    async def wrapped(steps):
        await steps
    run(awaits)
    assert seen == [("n/a", False), None, ("n/a", False)]
