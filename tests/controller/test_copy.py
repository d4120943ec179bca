"""The last good copy of a feed: read as it was kept, or not at all; never half."""
import asyncio
import os
import stat

import pytest
from stream_world import Controller, DataPlane, Log, gateway, service
from stream_world import run

from gwfast.controller import copy, wire
from gwfast.controller.copy import Copy


def resources(*some):
    return {one.key: one for one in some}


def lines(*some, gone=()):
    return [wire.put(one.key, wire.encode(one)) for one in some] + [wire.gone(key) for key in gone]


class Keeper:
    """A copy, and what was said about it."""

    def __init__(self, folder):
        self.warned = []
        self.copy = Copy(str(folder), lambda words, place: self.warned.append(words))

    def keep(self, found, version, *changes, whole=False):
        self.copy.keep(changes, found, version, "1.6.1", whole)

    def close(self):
        self.copy.close()


def read(folder):
    keeper = Keeper(folder)
    kept = keeper.copy.read()
    keeper.close()
    return (kept and (kept.version, kept.bundle, {key: wire.decode(text)[0].spec.ports[0].port for key, text in kept.objects.items()}),
            keeper.warned)


def ports(**some):
    return {service(name).key: port for name, port in some.items()}


def write_three(folder):
    """A whole, a change, and one more; each written before the next."""
    for at, (found, changes, whole) in enumerate((
            ([service("a"), service("b")], (), True), ([service("a", 81), service("b")], lines(service("a", 81)), False),
            ([service("a", 81), service("c")], lines(service("c"), gone=[service("b").key]), False)), 1):
        if at == 1:
            keeper = Keeper(folder)
        keeper.keep(resources(*found), f"v{at}", *changes, whole=whole)
        keeper.copy._writer.submit(lambda: None).result()
    keeper.close()
    assert keeper.warned == []


def test_what_was_kept_is_read(tmp_path):
    assert read(tmp_path / "none") == (None, [])
    write_three(tmp_path)
    assert read(tmp_path) == (("v3", "1.6.1", ports(a=81, c=80)), [])
    file = tmp_path / "feed"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["feed"]


def test_a_folder_that_is_not_there_is_made_for_us_alone(tmp_path):
    write_three(tmp_path / "deep")
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_a_copy_cut_anywhere_is_a_version_that_was(tmp_path):
    write_three(tmp_path)
    file = tmp_path / "feed"
    whole, found = file.read_bytes(), []
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        kept, warned = read(tmp_path)
        found.append(kept and kept[0])
        assert kept in (None, ("v1", "1.6.1", ports(a=80, b=80)), ("v2", "1.6.1", ports(a=81, b=80)), ("v3", "1.6.1", ports(a=81, c=80)))
        assert bool(warned) == (whole[:size].count(b'"SUM"') == 0 or not whole[:size].endswith(b"}\n") or b'"SUM"' not in whole[
            :size].splitlines()[-1])
    assert sorted(set(found), key=found.index) == [None, "v1", "v2", "v3"]


@pytest.mark.parametrize("at", range(0, 1000, 37))
def test_a_bit_that_turned_is_found(tmp_path, at):
    write_three(tmp_path)
    file = tmp_path / "feed"
    data = bytearray(file.read_bytes())
    place = at % len(data)
    data[place] ^= 4
    file.write_bytes(data)
    kept, warned = read(tmp_path)
    first = data.index(b"\n")
    assert warned or place < first  # of the first line, which says who wrote it
    assert kept is None or kept in (("", "1.6.1", ports(a=81, c=80)), ("v1", "1.6.1", ports(a=80, b=80)), (
        "v2", "1.6.1", ports(a=81, b=80)), ("v3", "1.6.1", ports(a=81, c=80)))


def test_what_another_version_wrote_is_served_and_fetched_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(copy, "__version__", "0.0.0")
    write_three(tmp_path)
    monkeypatch.undo()
    assert read(tmp_path) == (("", "1.6.1", ports(a=81, c=80)), [])


def test_what_has_grown_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(copy, "GROWN", 0)
    keeper = Keeper(tmp_path)
    keeper.keep(resources(service("a")), "v0", whole=True)
    sizes = []
    for at in range(1, 40):
        keeper.keep(resources(service("a", at)), f"v{at}", *lines(service("a", at)))
        keeper.copy._writer.submit(lambda: None).result()
        sizes.append((tmp_path / "feed").stat().st_size)
    keeper.close()
    assert max(sizes) < 4 * min(sizes) and sizes != sorted(sizes)
    assert read(tmp_path)[0] == ("v39", "1.6.1", ports(a=39))


def test_a_folder_that_cannot_be_written_is_told_once_and_tried_again(tmp_path):
    place = tmp_path / "file"
    place.write_text("")  # no folder
    keeper = Keeper(place)
    for at in range(3):
        keeper.keep(resources(service("a", 80 + at)), f"v{at}", *lines(service("a", 80 + at)))
        keeper.copy._writer.submit(lambda: None).result()
    assert keeper.warned == ["the last good copy cannot be written"]
    place.unlink()
    keeper.keep(resources(service("a", 90)), "v4", *lines(service("a", 90)))
    keeper.close()
    assert read(place) == (("v4", "1.6.1", ports(a=90)), [])


# ---- With a controller, and without


@run
async def test_a_data_plane_starts_without_a_controller(pki, tmp_path):
    state, controller = str(tmp_path / "state"), Controller(pki)
    await controller.start()
    controller.say(gateway(), service("one"))
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"], state=state) as plane:
        await plane.has(controller)
        controller.say(service("two"))
        await plane.has(controller)
    port = controller.port
    await controller.server.close()
    async with DataPlane(tmp_path, port, state=state) as plane:
        await plane.has(controller)
        assert plane.log.said("the last good copy serves") and plane.rounds == 1
        again = Controller(pki)
        await again.start(port)
        again.say(gateway(), service("one"))
        again.say(service("two"))  # the same as there was
        await again.standing(ready=True)
        assert plane.rounds == 1
        again.say(service("three"), gone=[service("one").key])
        await plane.has(again)
    await again.server.close()


@run
async def test_a_controller_that_answers_goes_before_the_copy(pki, tmp_path):
    state, controller = str(tmp_path / "state"), Controller(pki)
    await controller.start()
    controller.say(gateway(), *(service(f"s{at}") for at in range(9)))
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"], state=state) as plane:
        await plane.has(controller)
    controller.say(service("new"), gone=[service("s0").key])
    async with DataPlane(tmp_path, controller.port, state=state) as plane:
        await plane.has(controller)
        assert plane.rounds == 1 and not plane.log.said("last good copy")
    await controller.server.close()


@run
async def test_without_controller_and_copy_it_waits(pki, tmp_path):
    log = Log()
    controller = Controller(pki)
    await controller.start()
    port = controller.port
    await controller.server.close()
    async with DataPlane(tmp_path, port, ca=pki["ca.crt"], state=str(tmp_path / "state"), log=log) as plane:
        async with asyncio.timeout(60):
            while not log.said("cannot be followed"):
                await asyncio.sleep(0.01)
        assert plane.source.waits and plane.rounds == 0
        controller = Controller(pki)
        await controller.start(port)
        controller.say(gateway())
        await plane.has(controller)
        assert plane.source.waits == ""
    await controller.server.close()
