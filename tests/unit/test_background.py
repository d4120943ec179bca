"""The thread beside the loop: in order, with results and errors, and never waited for at the end."""
import asyncio
import os
import subprocess
import sys
import threading

import pytest
import uvloop

from gwfast.serve.background import NICE, SWITCH, BackgroundThread


def run(scenario):
    async def main():
        background = BackgroundThread(asyncio.get_running_loop(), "aside")
        try:
            await asyncio.wait_for(scenario(background), 20)
        finally:
            background.close()
    uvloop.run(main())


def test_one_after_the_other_in_one_thread():
    async def scenario(background):
        done = []
        threads = await asyncio.gather(*(background.run(lambda n=n: done.append(n) or threading.get_ident())
                                         for n in range(100)))
        assert done == list(range(100)) and len(set(threads)) == 1 and threads[0] != threading.get_ident()
    run(scenario)


def test_it_is_nice_when_it_is_told_to_and_alone_in_it():
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scenario(background):
        before = nice()
        assert await background.run(nice) == before
        await background.be_nice()
        assert await background.run(nice) == min(before + NICE, 19)
        assert nice() == before
    run(scenario)


def test_an_event_does_not_wait_for_a_plan():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        async def scenario(background):
            assert sys.getswitchinterval() == pytest.approx(SWITCH)
        run(scenario)
    finally:
        sys.setswitchinterval(before)


def test_what_is_raised_arrives_and_the_next_runs():
    async def scenario(background):
        with pytest.raises(ZeroDivisionError):
            await background.run(lambda: 1 / 0)
        assert await background.run(divmod, 7, 2) == (3, 1)
    run(scenario)


def test_who_does_not_wait_any_more_is_no_trouble():
    async def scenario(background):
        go = threading.Event()
        future = background.run(go.wait)
        future.cancel()
        go.set()
        assert await background.run(int) == 0
    run(scenario)


def test_a_program_ends_while_it_works():
    program = ("import asyncio, threading, uvloop\n"
               "from gwfast.serve.background import BackgroundThread\n"
               "async def main():\n"
               "    busy = threading.Event()\n"
               "    aside = BackgroundThread(asyncio.get_running_loop(), 'aside')\n"
               "    aside.run(lambda: (busy.set(), threading.Event().wait()))\n"
               "    busy.wait()\n"
               "    aside.close()\n"
               "uvloop.run(main())\n")
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
