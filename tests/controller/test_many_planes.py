"""Fifty data planes of one controller: a change costs what changed, times those that need it. Counted in lines and bytes."""
import asyncio
import contextlib
from collections import Counter

import pytest
from stream_world import DEADLINE, NAME, Log, Reviews, credentials, service

from gwfast import limits
from gwfast.controller import track, wire
from gwfast.controller.feed import EMPTY, Feed
from gwfast.controller.link import link, where
from gwfast.controller.stream import StreamServer

PLANES = 50


class World:
    """A server, and planes of two fleets: how many lines of each type each of them has heard, and the version that it has."""

    def __init__(self, shared):
        self.reviews, self.feeds = Reviews(), {"ns/fleet": EMPTY, "ns/other": EMPTY}
        self.server = StreamServer(self.reviews, Log())
        made = credentials()
        self.server.use(made["tls.crt"], made["tls.key"])
        self.authority = made["ca.crt"]
        self.tokens = ["good"] * shared + ["other"] * (PLANES - shared)
        self.heard = [Counter() for _ in self.tokens]
        self.versions = ["" for _ in self.tokens]
        self.news = asyncio.Event()

    def say(self, fleet, *resources):
        before = self.feeds[fleet]
        edits = {one.key: one for one in resources}
        feed = Feed(f"{fleet} {before.number + 1}", "1.7.0", before.number + 1, before.objects.changed(edits), tuple(edits))
        self.feeds[fleet] = feed
        self.server.publish({fleet: feed})

    async def follow(self, number, folder):
        (folder / f"token{number}").write_text(self.tokens[number])
        (folder / "ca.crt").write_bytes(self.authority)
        to = where(f"https://{NAME}:{self.port}", str(folder / f"token{number}"), str(folder / "ca.crt"))
        made = await link(to, "", f"pod{number}", f"127.0.0.1:{self.port}")
        try:
            async for text in made.lines():
                line = wire.parse(text)
                self.heard[number][line.type] += 1
                self.versions[number] = line.version or self.versions[number]
                self.news.set()
        finally:
            made.close()

    async def served(self):
        """Wait until each plane has what its fleet is told; return what they heard since the last time, and forget it."""
        wanted = [self.feeds[{"good": "ns/fleet", "other": "ns/other"}[token]].version for token in self.tokens]
        async with asyncio.timeout(DEADLINE):
            while self.versions != wanted:
                self.news.clear()
                await self.news.wait()
        heard, self.heard = self.heard, [Counter() for _ in self.tokens]
        return heard

    def counted(self):
        before = self.server.lines, self.server.bytes
        return lambda: (self.server.lines - before[0], self.server.bytes - before[1])


@contextlib.asynccontextmanager
async def world(shared, folder, monkeypatch):
    for name in ("STREAM_PING", "STREAM_SILENT", "STREAM_AGE"):
        monkeypatch.setattr(limits, name, 3600.0)  # nothing is said but what is counted
    made = World(shared)
    for fleet in made.feeds:
        made.say(fleet, *(service(f"s{number}") for number in range(200)))
    made.port = await made.server.start("127.0.0.1", 0)
    tasks = [asyncio.create_task(made.follow(number, folder)) for number in range(PLANES)]
    try:
        heard = await made.served()
        assert all(each == Counter({"SNAPSHOT": 1, "PUT": 200, "SYNC": 1}) for each in heard)
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await made.server.close()


@pytest.mark.parametrize("need", [1, PLANES])
def test_a_change_costs_what_changed_times_those_that_need_it(tmp_path, monkeypatch, need):
    async def test():
        encoded = []
        real = track.encode
        monkeypatch.setattr(track, "encode", lambda resource: encoded.append(resource) or real(resource))
        async with world(need, tmp_path, monkeypatch) as made:
            for number in range(5):
                changed, counted = service("s7", 1000 + number), made.counted()
                del encoded[:]
                made.say("ns/fleet", changed)
                heard = await made.served()
                lines = wire.put(changed.key, wire.encode(changed)), wire.say("SYNC", version=f"ns/fleet {2 + number}", bundle="1.7.0", number=2 + number)
                assert heard == [Counter({"PUT": 1, "SYNC": 1})] * need + [Counter()] * (PLANES - need)
                assert counted() == (2 * need, sum(map(len, lines)) * need)
                assert encoded == [changed], "it is encoded once, whoever hears of it"
    asyncio.run(test())


def test_what_nobody_needs_is_told_nobody(tmp_path, monkeypatch):
    async def test():
        async with world(1, tmp_path, monkeypatch) as made:
            counted = made.counted()
            made.server.publish({})
            made.say("ns/fleet", service("s1", 99))
            await made.served()
            assert counted()[0] == 2
    asyncio.run(test())
