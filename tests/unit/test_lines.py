"""Lines out of pieces: what they are, how long, and how long others wait."""
import asyncio
import time

import pytest

from gwfast import lines
from gwfast.lines import Breath, Lines, LongLine

TEXT = b"one\n\ntwo, which is longer\n" + b"x" * 100 + b"\nrest"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_lines_whatever_they_come_in(size):
    cut = Lines(100)
    found = [line for at in range(0, len(TEXT), size) for line in cut.take(TEXT[at:at + size])]
    assert found == TEXT.split(b"\n")[:-1] and cut.begun
    assert cut.take(b"\n") == [b"rest"] and not cut.begun


@pytest.mark.parametrize("size", [1, 7, 101])
def test_a_line_without_an_end_is_bounded(size):
    cut = Lines(100)
    with pytest.raises(LongLine):
        for _ in range(101):
            cut.take(b"x" * size)


def test_the_time_is_that_of_the_bytes():
    cut, began = Lines(1 << 20), time.process_time()
    for _ in range(1 << 20):
        cut.take(b"x")
    assert time.process_time() - began < 20  # some 0.5 s; where each piece copies what came before, minutes


def test_others_run_now_and_then():
    async def run():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)
        task, breath = asyncio.ensure_future(other()), Breath()
        for _ in range(10 * lines.PIECES):
            await breath.breathe()
        task.cancel()
        assert turns >= 10
    asyncio.run(run())
