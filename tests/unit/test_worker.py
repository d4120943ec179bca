"""How often a worker looks at its timers: less often while there are none, at once as often as ever when something comes."""
import asyncio
import socket

import pytest

from gwfast.serve import watchdog
from gwfast.serve.control import Told
from gwfast.serve.worker import REST, TICK, Worker


class Engine:
    """What a worker's tick asks of one."""

    def __init__(self):
        self.idle, self.wake, self.ticks, self.connections = True, None, 0, 0

    def rest(self, wake):
        self.wake = wake

    def tick(self):
        self.ticks += 1

    def finish(self, handed_over):
        pass


@pytest.fixture
def worker(monkeypatch):
    loop, (ours, theirs) = asyncio.new_event_loop(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    made = Worker(loop, ours)
    made._engine, made._drain_timeout = Engine(), 3600.0
    made.timers = []  # those that were not cancelled, and in how many seconds each was due
    real = loop.call_later

    def call_later(seconds, function):
        timer = real(seconds, function)
        made.timers.append((timer, seconds))
        return timer
    monkeypatch.setattr(loop, "call_later", call_later)
    yield made
    theirs.close()
    made._channel.close()
    loop.close()


def due(worker):
    (timer, seconds), *others = [each for each in worker.timers if not each[0].cancelled()]
    assert not others and timer is worker._timer
    worker.timers[:] = [(timer, seconds)]
    return seconds


def turn(worker):
    """Let the timer be over."""
    worker.timers.clear()
    worker._tick()
    return due(worker)


def test_it_rests_while_there_is_nothing_to_look_at(worker):
    assert [turn(worker), turn(worker)] == [REST, REST] and worker._engine.ticks == 2
    worker._engine.idle = False
    assert turn(worker) == TICK and worker._engine.wake is None


def test_traffic_wakes_it_once(worker):
    assert turn(worker) == REST
    worker._engine.wake()
    first = worker._timer
    worker._engine.wake()
    assert due(worker) == TICK and worker._timer is first, "what comes often does not put the tick off"


def test_what_the_supervisor_tells_wakes_it(worker):
    assert turn(worker) == REST
    worker.received(Told("anything"), ())
    assert due(worker) == TICK


def test_the_end_is_not_waited_for(worker):
    assert turn(worker) == REST
    worker.finish()
    assert due(worker) == TICK
    worker._engine.connections = 1
    assert turn(worker) == TICK, "a drain is timed"


def test_a_worker_that_rests_is_not_silent():
    assert TICK < REST < watchdog.CALM
