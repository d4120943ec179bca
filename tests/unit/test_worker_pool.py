"""Workers as the supervisor sees them: real processes, a table that they refuse, deaths in a row."""
import asyncio
import contextlib
import io
import json
import os
import signal

import pytest
import uvloop

pytest.importorskip("gwfast.engine.engine", reason="the engine is not built")

from gwfast.engine import counters
from gwfast.endpoints.registry import Registry
from gwfast.observe.log import Log
from gwfast.observe.metrics import Stats
from gwfast.plan.image import Images, publish
from gwfast.plan.ir import AnswerFilter, Bind, Entry, Host, Listener, Match, Plan, Rule
from gwfast.serve.worker_pool import WorkerPool
from gwfast.serve.options import ServeOptions
from gwfast.serve.sockets import Ports, Wanted

PATIENCE = 30.0


def plan(status):
    """Everything on one bind is answered with a status."""
    rule = Rule(kind="HTTPRoute", namespace="default", route="r", index=0,
                filters=(AnswerFilter(status=status, reason="Test"),))
    host = Host(hostname="", entries=(Entry(match=Match(), rule=rule),))
    listener = Listener(id="default/gw/l", hosts=(host,))
    return Plan(binds=(Bind(address="127.0.0.1", port=80, listeners=(listener,)),))


class Stage:
    """A pool with one port, and what it logs."""

    def __init__(self, workers):
        loop = asyncio.get_running_loop()
        self.stats = Stats(workers=workers)
        self.stream = io.StringIO()
        self.ports = Ports(workers, port_map={80: 0})
        self.ports.open([Wanted(bind.key, bind.address, bind.port, bind.transport) for bind in plan(200).binds])
        self.counters = counters.create(workers, 16)
        self.pool = WorkerPool(loop, ServeOptions(paths=(), workers=workers, drain_timeout=5.0), self.counters, self.ports,
                         self.stats, Log("json", "debug", self.stream))
        self.images = Images(Registry(16))
        self.port, = self.ports

    def events(self, msg):
        return [event for line in self.stream.getvalue().splitlines() if (event := json.loads(line))["msg"] == msg]

    async def publish(self, status, generation):
        self.pool.publish(generation, (publish(self.images.build(plan(status), self.ports.ids, generation)),))
        if not self.port.listening:
            self.pool.listen(self.port)
        assert await self.pool.settled(generation, PATIENCE)

    async def status(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return int(head.split()[1])


def run(scenario, workers=1):
    async def main():
        stage = Stage(workers)
        try:
            await scenario(stage)
        finally:
            stage.pool.finish()
            stage.ports.close()
            assert await stage.pool.gone(PATIENCE)
            os.close(stage.counters)
    uvloop.run(main())


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_table_may_come_before_the_workers_are_there_and_again_after():
    async def scenario(stage):
        stage.pool.start()
        await stage.publish(418, 1)
        await until(lambda: stage.stats.workers_running == 2)
        assert {await stage.status() for _ in range(8)} == {418}
        await stage.publish(503, 2)
        assert [member.applied for member in stage.pool.members] == [2, 2]
        assert {await stage.status() for _ in range(8)} == {503}
    run(scenario, workers=2)


def test_a_table_that_is_none_is_refused_and_the_one_before_serves():
    async def scenario(stage):
        stage.pool.start()
        await stage.publish(418, 1)
        await until(lambda: stage.stats.workers_running == 1)
        fd = os.memfd_create("nonsense")
        os.write(fd, b"nonsense" * 1000)
        stage.pool.publish(2, (fd,))
        assert await stage.pool.settled(2, PATIENCE)
        assert stage.stats.images_refused == 1 and stage.pool.members[0].applied == 1
        assert "ValueError" in stage.events("a worker refused")[0]["error"]
        assert await stage.status() == 418
        await stage.publish(503, 3)
        assert await stage.status() == 503
    run(scenario)


def test_who_dies_is_back_at_once_and_who_keeps_dying_waits():
    async def scenario(stage):
        stage.pool.start()
        await stage.publish(418, 1)
        member, = stage.pool.members
        for _ in range(3):
            await until(lambda: member.applied == 1)
            pid = member.pid
            os.kill(pid, signal.SIGKILL)
            assert await stage.status() == 418  # it waited in the queue
            assert member.pid != pid
        deaths = stage.events("a worker died and is replaced")
        assert [event["status"] for event in deaths] == ["SIGKILL"] * 3 and stage.stats.worker_restarts == 3
        if all(event["after_s"] < 1 for event in deaths):
            assert [event["wait_s"] for event in deaths] == [0.0, 0.1, 0.2]
    run(scenario)


def test_a_port_that_is_taken_away_is_closed_everywhere():
    async def scenario(stage):
        stage.pool.start()
        await stage.publish(418, 1)
        await until(lambda: stage.stats.workers_running == 2)
        assert await stage.status() == 418
        gone, = stage.ports.keep([])
        stage.pool.unlisten(gone)

        async def refused():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", stage.port.port)
                writer.close()
                return False
            return True
        async with asyncio.timeout(PATIENCE):
            while not await refused():
                await asyncio.sleep(0.005)
    run(scenario, workers=2)
