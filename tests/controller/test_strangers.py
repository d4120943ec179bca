"""What strangers can do to the port of the stream, and data planes to each other: on the loop that a controller runs on."""
import asyncio
import contextlib
import socket
from functools import partial

import pytest
import uvloop
from stream_world import DEADLINE, Controller, DataPlane, alone, dial, gateway, lines_until_sync, run, service, to

from gwfast import limits
from gwfast.controller import door as module
from gwfast.controller.link import NoLink, link

run = partial(run, on=uvloop.run)
EVIL = "127.0.0.2"


async def started(pki, **rooms):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    controller.server.expect({f"ns/{fleet}": room for fleet, room in rooms.items()})
    return controller


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


async def knock(port, source=EVIL):
    """Connect, without a word of TLS."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def ended(reader):
    """Wait until the other side has ended a connection."""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("come", [knock, partial(dial, source=EVIL)], ids=["no handshake", "no request"])
@run
async def test_who_floods_takes_places_from_itself_alone(pki, tmp_path, monkeypatch, come):
    monkeypatch.setattr(limits, "STREAM_STRANGERS", 6)
    monkeypatch.setattr(limits, "STREAM_STRANGERS_OF_ONE", 4)
    controller = await started(pki)
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await plane.has(controller)
        honest = [await dial(controller.port) for _ in range(2)]
        flood = [await come(controller.port) for _ in range(30)]
        for reader, _ in flood[:26]:
            await ended(reader)
        await until(lambda: controller.server._door.strangers == 6 and controller.server._door.connections == 7)
        for reader, writer in honest:  # they have their places still
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 404")
        made = await link(to(tmp_path, controller.port, pki), "", "pod")
        await lines_until_sync(made)
        made.close()
        controller.say(service("one"))
        await plane.has(controller)
        assert not plane.log.said("cannot be followed")
        for _, writer in flood:
            writer.transport.abort()
    await alone(controller)
    await controller.server.close()


@run
async def test_a_flood_from_everywhere_keeps_no_data_plane_out(pki, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "STREAM_STRANGERS", 4)
    controller = await started(pki)
    flood = [await knock(controller.port, f"127.0.1.{at}") for at in range(1, 20)]
    await until(lambda: controller.server._door.strangers == 4)
    made = await link(to(tmp_path, controller.port, pki), "", "pod")
    assert (await lines_until_sync(made))[0]["type"] == "SNAPSHOT"
    assert controller.server._door.strangers == 3, "one gave its place, and a data plane needs none"
    made.close()
    for _, writer in flood:
        writer.transport.abort()
    await alone(controller)
    await controller.server.close()


@pytest.mark.parametrize("limit, come", [("HANDSHAKE_TIMEOUT", knock), ("HEAD_TIMEOUT", dial)])
@run
async def test_a_handshake_and_a_head_have_little_time(pki, tmp_path, monkeypatch, limit, come):
    monkeypatch.setattr(limits, limit, 0.5)
    controller = await started(pki)
    reader, writer = await come(controller.port)
    if come is dial:
        writer.write(b"POST /v1/feed HTTP/1.1\r\n")
    await ended(reader)
    await alone(controller)
    writer.transport.abort()
    await controller.server.close()


@run
async def test_who_comes_too_often_is_closed_before_a_handshake(pki, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "STREAM_COMES", 3)
    monkeypatch.setattr(limits, "STREAM_COMES_PER_SECOND", 1e-6)
    controller = await started(pki)
    came = [await knock(controller.port) for _ in range(8)]
    for reader, _ in came[3:]:
        await ended(reader)
    await until(lambda: controller.server._door.strangers == 3)
    made = await link(to(tmp_path, controller.port, pki), "", "pod")  # from another address
    await lines_until_sync(made)
    made.close()
    for _, writer in came:
        writer.transport.abort()
    await alone(controller)
    await controller.server.close()


def test_addresses_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES", 3)

    async def come():
        door = module.Door(None, None, None)
        for at in range(10):
            assert not door._comes_too_often(f"10.0.0.{at}")
        assert list(door._came) == ["10.0.0.7", "10.0.0.8", "10.0.0.9"]
    asyncio.run(come())


@run
async def test_a_door_without_descriptors_opens_again(pki, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REST", 0.01)
    controller = await started(pki)
    door = controller.server._door
    reader, stranger = await knock(controller.port)
    await until(lambda: door.strangers == 1)
    refusals, accept = [OSError(24, "Too many open files")] * 3, socket.socket.accept

    def refuse(listening):
        if refusals:
            raise refusals.pop()
        return accept(listening)
    monkeypatch.setattr(socket.socket, "accept", refuse)
    made = await link(to(tmp_path, controller.port, pki), "", "pod")
    assert (await lines_until_sync(made))[0]["type"] == "SNAPSHOT" and not refusals
    await ended(reader)  # it made room
    assert controller.log.said("cannot be accepted")
    made.close()
    stranger.transport.abort()
    await alone(controller)
    await controller.server.close()


@run
async def test_a_port_that_is_taken_is_told(pki):
    controller, other = await started(pki), Controller(pki)
    with pytest.raises(OSError):
        await other.start(controller.port)
    await other.server.close()
    await controller.server.close()
    await other.start(controller.port)
    await other.server.close()


@run
async def test_every_address_of_a_machine_has_one_port(pki):
    controller = Controller(pki)
    controller.port = await controller.server.start("", 0)
    for where in ("127.0.0.1", "::1") if socket.has_ipv6 and len(controller.server._door._sockets) > 1 else ("127.0.0.1",):
        with socket.create_connection((where, controller.port), timeout=DEADLINE):
            pass
    await controller.server.close()


# ---- Who has a token


@run
async def test_a_pod_has_one_stream_and_no_pod_ends_another_ones(pki, tmp_path):
    controller = await started(pki, fleet=2)
    first, second = controller.reviews.of_pod("first"), controller.reviews.of_pod("second")
    other = await link(to(tmp_path, controller.port, pki, second), "", "second")
    await lines_until_sync(other)
    before = None
    for _ in range(5):
        made = await link(to(tmp_path, controller.port, pki, first), "", "second")  # whatever it calls itself
        await lines_until_sync(made)
        await until(lambda: len(controller.server.peers) == 2)
        assert [peer.pod for peer in controller.server.peers] == ["second", "first"]
        if before is not None:
            with pytest.raises(NoLink):
                async for _ in before.lines():
                    pass
            before.close()
        before = made
    for one in (before, other):
        one.close()
    await alone(controller)
    await controller.server.close()


@run
async def test_a_fleet_has_so_many_and_who_shows_no_pod_gives_way(pki, tmp_path):
    controller = await started(pki, fleet=2)
    loose = await link(to(tmp_path, controller.port, pki), "", "loose")
    made = [await link(to(tmp_path, controller.port, pki, controller.reviews.of_pod(pod)), "", pod) for pod in "ab"]
    with pytest.raises(NoLink):
        async for _ in loose.lines():
            pass
    for token in (controller.reviews.of_pod("c"), "good"):
        with pytest.raises(NoLink, match="503: ns/fleet has 2 streams"):
            await link(to(tmp_path, controller.port, pki, token), "", "pod")
    assert sorted(peer.pod for peer in controller.server.peers) == ["a", "b"]
    for one in (loose, *made):
        one.close()
    await alone(controller)
    await controller.server.close()


@run
async def test_fifty_data_planes_that_come_at_once_are_all_let_in(pki, tmp_path):
    controller = await started(pki)
    where = [to(tmp_path, controller.port, pki, "good")] * 50
    made = await asyncio.gather(*(link(one, "", f"pod{at}") for at, one in enumerate(where)))
    assert all([(await lines_until_sync(one))[-1]["type"] == "SYNC" for one in made])
    assert len(controller.server.peers) == 50
    for one in made:
        one.close()
    await alone(controller)
    await controller.server.close()


@run
async def test_many_that_say_something_at_once_are_looked_at_together(pki):
    controller = await started(pki)
    for _ in range(1000):
        controller.server.said()
    await until(lambda: controller.changes == 1)
    for _ in range(1000):
        controller.server.said()
        await asyncio.sleep(0)
    await until(lambda: controller.server._changes is None)
    assert controller.changes < 100
    await controller.server.close()
