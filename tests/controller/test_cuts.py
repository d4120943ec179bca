"""A stream that is cut at any byte leaves what was there, or what there is then; never half of it."""
import asyncio

import h11
from stream_world import Log, service

from gwfast import limits
from gwfast.backoff import Backoff
from gwfast.controller import wire
from gwfast.controller.link import Link, NoLink, where
from gwfast.controller.source import ControllerSource
from gwfast.controller.wire import encode, gone, put, say

FIRST = [wire.SNAPSHOT, *(put(one.key, encode(one)) for one in (service("a"), service("b"))), say("SYNC", version="1")]
CHANGE = [put(service("a").key, encode(service("a", 81))), gone(service("b").key), put(service("c").key, encode(service("c"))),
          b'{"type":"SOMETHING","new":[1,{}]}\n', b"no JSON\n", say("SYNC", version="2")]
AGAIN = [wire.SNAPSHOT, put(service("d").key, encode(service("d"))), say("SYNC", version="3")]


class Tunnel:
    """What a link reads from, and writes to."""

    def __init__(self, data):
        self.pieces = [data, b""]

    async def read(self):
        return self.pieces.pop(0)

    def write(self, data):
        pass

    async def drain(self):
        pass

    def abort(self):
        pass


async def listen(source, data):
    """Let a source hear these bytes, and then the end."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/v1/feed", headers=[("Host", "x"), ("Transfer-Encoding", "chunked")]))
    made = Link(connection, Tunnel(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data))
    assert isinstance(await made._event(), h11.Response)
    try:
        await source._listen(made, Backoff(limits.STREAM_BACKOFF, limits.STREAM_BACKOFF_MOST))
    except NoLink:
        pass


def chunked(lines):
    return b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)


def ports(loaded):
    return {key.name: one.spec.ports[0].port for key, one in loaded.resources.items()}


def test_at_every_byte():
    first, change, again = map(chunked, (FIRST, CHANGE, AGAIN))
    seen = []

    async def run(at):
        source = ControllerSource(where("https://x", "", ""), log=Log())
        source._changed = lambda _: None
        await listen(source, first)
        assert ports(source.load(None)) == {"a": 80, "b": 80}
        await listen(source, (change + again)[:at])
        found = ports(source.load(None))
        assert (source._version, found) in (("1", {"a": 80, "b": 80}), ("2", {"a": 81, "c": 80}), ("3", {"d": 80}))
        seen.append(source._version)

    async def every():
        for at in range(len(change + again) + 1):
            await run(at)
    asyncio.run(every())
    assert seen == sorted(seen) and set(seen) == {"1", "2", "3"}


def test_one_byte_at_a_time():
    async def run():
        source = ControllerSource(where("https://x", "", ""), log=Log())
        source._changed = lambda _: None
        lines = b"".join(FIRST + CHANGE)
        await listen(source, chunked([lines[at:at + 1] for at in range(len(lines))]))
        assert ports(source.load(None)) == {"a": 81, "c": 80}
    asyncio.run(run())


def test_what_is_not_understood_keeps_its_last_good_version_and_is_told():
    async def run():
        source = ControllerSource(where("https://x", "", ""), log=Log())
        source._changed = lambda _: None
        await listen(source, chunked(FIRST))
        source.load(None)
        undecodable = encode(service("a")).replace(b'"port":80', b'"port":"eighty"')
        newer = encode(service("b", 82)).replace(b'"spec":{', b'"spec":{"fromTheFuture":{},')
        unknown = b'{"apiVersion":"example.com/v1","kind":"New","metadata":{"name":"n"}}'
        await listen(source, chunked([put(service("a").key, undecodable), put(service("b").key, newer), put(service("n").key, unknown),
                                      say("SYNC", version="2")]))
        loaded = source.load(None)
        assert ports(loaded) == {"a": 80, "b": 82}
        assert [(one.resource, one.reason) for one in loaded.problems] == [("Service ns/a", "Invalid")]
        source.serves([])
        assert (loaded.bundle, [one.resource for one in source._served]) == ("", ["Service ns/a"])
        await listen(source, chunked([put(service("a").key, encode(service("a", 83))), say("SYNC", version="3")]))
        assert ports(source.load(None))["a"] == 83 and not source.load(None).problems
    asyncio.run(run())
