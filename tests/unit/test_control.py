"""The control socket: every message crosses it whole, with its descriptors, in order; the end is noticed."""
import asyncio
import os

import pytest
import uvloop

from gwfast.serve import control
from gwfast.serve.options import EngineOptions

MESSAGES = [
    control.Start(1, 2, 30.0, EngineOptions(via="gw", trusted_proxies=("10.0.0.0/8",))),
    control.Listen(3),
    control.Unlisten(3),
    control.Swap(7),
    control.Part(),
    control.Finish(),
    control.Finish(handed_over=True),
    control.Abort(),
    control.Ready(),
    control.Parted(),
    control.Applied(7),
    control.Refused("Swap", "ValueError: no table"),
]


class Ends:
    """Both ends on one loop; what arrives at the far one is kept."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        near, far = control.pair()
        self.got: list = []
        self.arrived = asyncio.Event()
        self.closed = loop.create_future()
        self.near = control.Channel(loop, near, lambda *_: None, lambda: None)
        self.far = control.Channel(loop, far, self.received, lambda: self.closed.set_result(True))

    def received(self, message, descriptors):
        self.got.append((message, descriptors))
        self.arrived.set()

    async def receive(self, count):
        while len(self.got) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)
        return self.got


def run(scenario):
    async def main():
        ends = Ends()
        try:
            await scenario(ends)
        finally:
            ends.near.close()
            ends.far.close()
    uvloop.run(main())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_crosses(message):
    async def scenario(ends):
        ends.near.send(message)
        assert await ends.receive(1) == [(message, [])]
    run(scenario)


def test_a_descriptor_crosses_and_is_the_receivers_own():
    async def scenario(ends):
        read, write = os.pipe()
        ends.near.send(control.Swap(1), (write,))
        os.close(write)
        (_, [theirs]), = await ends.receive(1)
        assert not os.get_inheritable(theirs)
        os.write(theirs, b"through")
        os.close(theirs)
        assert os.read(read, 100) == b"through"
        os.close(read)
    run(scenario)


def test_what_the_socket_does_not_take_waits_and_keeps_its_order_and_descriptors():
    async def scenario(ends):
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        loop.remove_reader(ends.far._end.fileno())  # the other side is busy
        for generation in range(2000):
            ends.near.send(control.Swap(generation), (write,) if generation % 500 == 499 else ())
        os.close(write)
        assert ends.near._waiting
        loop.add_reader(ends.far._end.fileno(), ends.far._read)
        got = await ends.receive(2000)
        assert [message.generation for message, _ in got] == list(range(2000))
        assert [len(descriptors) for _, descriptors in got] == [int(n % 500 == 499) for n in range(2000)]
        for _, descriptors in got:
            for fd in descriptors:
                os.close(fd)
        assert os.read(read, 1) == b""  # no copy was left behind
        os.close(read)
    run(scenario)


def test_the_end_of_the_other_side_is_told_once_and_sending_is_silent():
    async def scenario(ends):
        ends.near.send(control.Finish())
        ends.near.close()
        assert await asyncio.wait_for(ends.closed, 10)
        assert [message for message, _ in ends.got] == [control.Finish()]
        ends.far.send(control.Ready())
        ends.near.send(control.Abort())
    run(scenario)
