"""The server that data planes ask what to serve, and that hears what they serve: one request each, both ways at once.

    POST /v1/feed                          ──>  200, and lines (wire) until either side ends it
    Authorization: Bearer TOKEN                 401 nobody's token, 403 a ServiceAccount without data planes,
    Gwfast-Version: what it has already         503 the API server, or this controller, cannot say yet
    (lines: what it serves)                     or the fleet has as many streams as it may

Rules:
- TLS 1.3 with the certificate of `use`, which may change; connections keep the one that they began with.
- A ServiceAccount has the name and namespace of its fleet: it hears of that fleet, and of no other.
- Strangers have few connections (see door), short heads and little time. A token that cannot be right, or names a ServiceAccount
  without data planes, is refused before the API server is asked. A fleet has as many streams as its replicas, a Pod one: see
  room.
- What a data plane says is bounded, in rate too, and what follows from it is told together after a rest; one that is silent, or
  takes nothing, is left. A stream ends after STREAM_AGE, so that tokens are looked at again: a data plane comes back with what it
  has, and is told the rest.
- `changed` is called when what is served may be another thing: see `standing`.
"""
from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Callable, Iterable, Mapping

import h11
import msgspec

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import wire
from gwfast.controller.door import Door
from gwfast.controller.feed import Feed
from gwfast.controller.request import Refused, answer, field, read_request, token_of
from gwfast.controller.review import Reviewer, Unavailable
from gwfast.controller.room import Full, leaving
from gwfast.controller.standing import Peer, Standing, standing
from gwfast.controller.track import Track
from gwfast.kubernetes.pace import Bucket
from gwfast.lines import Breath, Lines, LongLine

READ_BYTES = 64 * 1024
REST = 30.0  # seconds after the last stream that was told everything
CHANGED_REST = 0.05  # seconds between two calls of `changed`: many data planes say at once that they serve something
READS_PER_SECOND, READS = 50.0, 200  # of what a data plane says: it says a line when it serves something else


class StreamServer:
    """Tells each fleet what it has to serve. Everything happens on one event loop."""

    def __init__(self, reviewer: Reviewer, log, changed: Callable[[], None] = lambda: None):
        self._reviewer = reviewer
        self._log = log
        self._changed = changed
        self._tracks: dict[str, Track] | None = None  # None: nobody has said which fleets there are
        self._rooms: Mapping[str, int] = {}
        self._streams: dict[_Stream, None] = {}  # the oldest first
        self._left: list[Peer] = []  # whose streams have ended a moment ago
        self._door: Door = None  # type: ignore[assignment]  # there once it listens
        self._context: ssl.SSLContext | None = None
        self._changes: asyncio.TimerHandle | None = None
        self._changed_at = float("-inf")
        self._rest: asyncio.TimerHandle | None = None
        self._away = False
        self.leader = ""  # its address; '': we are, or nobody knows
        self.refused = 0
        self.lines = self.bytes = 0  # that data planes were told

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. OSError where that cannot be."""
        context = _context()
        context.sni_callback = self._current
        self._door = Door(context, self._connected, self._log)
        return await self._door.open(host, port)

    def use(self, certificate: bytes, key: bytes) -> None:
        """Show this certificate (PEM) from now on."""
        context = _context()
        _load(context, certificate, key)
        self._context = context

    def publish(self, news: Mapping[str, Feed | None]) -> None:
        """Take feeds that are new, by fleet; None: there is no such fleet any more."""
        tracks = self._tracks = self._tracks or {}
        for fleet, feed in news.items():
            if feed is None:
                tracks.pop(fleet, None)
            else:
                tracks.setdefault(fleet, Track()).publish(feed)
        for stream in list(self._streams):
            if stream.peer.fleet in news:
                stream.wake(gone=stream.peer.fleet not in tracks)

    def expect(self, rooms: Mapping[str, int]) -> None:
        """Take how many streams each fleet may have."""
        self._rooms = rooms

    def lead(self, leader: str) -> None:
        """Say who has to hear what is served: an address, '' where that is us or nobody knows."""
        if leader != self.leader:
            self.leader = leader
            for stream in self._streams:
                stream.wake()

    def withdraw(self, away: bool) -> None:
        """Tell nobody anything while `away`: what this controller knows may be old, and another one may know better."""
        self._away = away
        for stream in list(self._streams) if away else ():
            stream.wake(gone=True)

    @property
    def peers(self) -> list[Peer]:
        """The data planes that listen now."""
        return [stream.peer for stream in self._streams]

    def standing(self) -> dict[Key, Standing]:
        """Return how each Gateway is served."""
        return standing({fleet: track.feed.marks for fleet, track in (self._tracks or {}).items()},
                        [*self.peers, *self._left])

    def serves(self, fleet: str, gateway: Key, pods: Iterable[str] = ()) -> bool:
        """Return whether the data planes of a fleet serve a Gateway as it is now, all that serve anything, and these Pods (uids):
        one that does not listen here at this moment has not said so."""
        track = (self._tracks or {}).get(fleet)
        marks = {gateway: track.feed.marks[gateway]} if track is not None and gateway in track.feed.marks else {}
        peers = [*self.peers, *self._left]
        found = standing({fleet: marks}, peers).get(gateway)
        return found is not None and found.ready and {one.pod_uid for one in peers if one.number >= found.mark}.issuperset(pods)

    async def close(self) -> None:
        """End everything."""
        for timer in (self._rest, self._changes):
            if timer is not None:
                timer.cancel()
        if self._door is not None:
            await self._door.close()

    # ---- One connection

    def _current(self, connection: ssl.SSLObject, *_) -> int | None:
        if self._context is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._context
        return None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        try:
            await self._serve(reader, writer, address)
        except (OSError, EOFError, TimeoutError, h11.ProtocolError, ValueError):
            pass  # the other side broke off, or speaks no HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.STREAM_HEAD_BYTES)
        try:
            async with asyncio.timeout(limits.HEAD_TIMEOUT):
                request = await read_request(connection, reader)
            peer = await self._peer(request, address)
            self._make_room(peer)
        except Refused as refused:
            self.refused += 1
            self._log.stranger("a data plane was refused", address=address, status=refused.status, why=refused.message)
            await answer(connection, writer, refused)
            return
        self._door.known()
        await self._tell(connection, reader, writer, peer, field(request, b"gwfast-version"))

    async def _peer(self, request: h11.Request, address: str) -> Peer:
        """Return who asks, once the API server has said so."""
        token = token_of(request)
        account = self._reviewer.claimed(token)
        if account is None:
            raise Refused(401, "the token is none, not for this audience, or over")
        fleet = "/".join(account)
        self._check(fleet)  # before anybody is asked
        try:
            caller = await self._reviewer.caller(token, address)
        except Unavailable as error:
            raise Refused(503, f"the token cannot be reviewed now: {error}") from None
        if caller is None or caller.account != account:
            raise Refused(401, "the token is nobody's, or not for this audience")
        self._check(fleet)
        return Peer(fleet, address, caller.pod or field(request, b"gwfast-pod")[:253], caller.pod_uid)

    def _check(self, fleet: str) -> None:
        """Raise Refused where there is nothing to tell a fleet."""
        if self._away:
            raise Refused(503, "this controller cannot reach the API server; another one may lead")
        if self._tracks is None:
            raise Refused(503, "this controller does not know yet what there is to serve")
        if fleet not in self._tracks:
            raise Refused(403, f"ServiceAccount {fleet} has no data planes here")

    def _make_room(self, peer: Peer) -> None:
        """End the streams in whose place this one comes; Refused."""
        room = self._rooms.get(peer.fleet, limits.STREAM_CONNECTIONS)
        try:
            ends = set(leaving(peer, self.peers, room, limits.STREAM_CONNECTIONS))
        except Full as error:
            raise Refused(503, str(error)) from None
        for stream in [one for one in self._streams if one.peer in ends]:
            del self._streams[stream]
            stream.cut()

    async def _tell(self, connection: h11.Connection, reader, writer, peer: Peer, version: str) -> None:
        stream = _Stream(self, connection, reader, writer, peer, self._tracks[peer.fleet])  # type: ignore[index]  # see _check
        self._streams[stream] = None
        self._log.info("a data plane listens", fleet=peer.fleet, pod=peer.pod, address=peer.address)
        self.said()
        try:
            await stream.run(version)
        finally:
            self._streams.pop(stream, None)
            self._log.info("a data plane does not listen any more", fleet=peer.fleet, pod=peer.pod, address=peer.address)
            if peer.number:
                peer.left = True
                self._left.append(peer)
                asyncio.get_running_loop().call_later(limits.STREAM_LINGER, self._forget, peer)
            self.said()

    def _forget(self, peer: Peer) -> None:
        """Count a data plane no more that has not come back."""
        self._left.remove(peer)
        self.said()

    def said(self) -> None:
        """Take note that a data plane has come, gone, or said something new."""
        if self._changes is None:
            loop = asyncio.get_running_loop()
            self._changes = loop.call_at(max(loop.time(), self._changed_at + CHANGED_REST), self._tell_of_changes)

    def _tell_of_changes(self) -> None:
        self._changes, self._changed_at = None, asyncio.get_running_loop().time()
        self._changed()

    def tells(self, data: bytes) -> None:
        """Count what a data plane is told."""
        self.lines += data.count(b"\n")
        self.bytes += len(data)

    def told(self) -> None:
        """Let what was encoded rest, once nobody needs it any more."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(REST, self._drop_lines)

    def _drop_lines(self) -> None:
        for track in (self._tracks or {}).values():
            track.rest()


class _Stream:
    """One data plane that listens."""

    def __init__(self, server: StreamServer, connection: h11.Connection, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter, peer: Peer, track: Track):
        self._server = server
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._track = track
        self._news = asyncio.Event()
        self._over = False
        self._told = track.feed.number  # the newest that was told, or that who comes may have had already
        self.peer = peer

    def wake(self, gone: bool = False) -> None:
        """Look for something to tell; gone: the fleet is no more."""
        self._over |= gone
        self._news.set()

    def cut(self) -> None:
        """End at once: another one has its place."""
        self.wake(gone=True)
        self._writer.transport.abort()

    def serves(self, version: str, number: int, problems: tuple[wire.Problem, ...] = ()) -> None:
        """Take note of what is served there. number: which SYNC that answers, 0 where that is not said. Nobody serves what was
        not told: a version that was told before, and has come back since, is not the one that was said now."""
        number = number if 0 < number <= self._told else self._track.number(version)
        if 0 < number <= self._told:
            self.peer.number, self.peer.problems = number, problems[:limits.STREAM_PROBLEMS]

    async def run(self, version: str) -> None:
        """Tell and listen until one of both ends."""
        head = h11.Response(status_code=200, headers=[("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-store")])
        self._writer.write(self._connection.send(head))
        listening = asyncio.ensure_future(self._listen())
        try:
            age = limits.STREAM_AGE * random.uniform(0.8, 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(age):
                    await self._speak(version, listening)
            self._writer.write(self._connection.send(h11.EndOfMessage()))
            async with asyncio.timeout(limits.STREAM_SEND_TIMEOUT):
                await self._writer.drain()
        finally:
            listening.cancel()
            with contextlib.suppress(BaseException):
                await listening

    async def _speak(self, version: str, listening: asyncio.Future) -> None:
        leader, number = "", -1
        while not self._over and not listening.done():
            self._news.clear()
            if self._server.leader != leader:
                leader = self._server.leader
                await self._send(wire.say("LEADER", address=leader))
            if self._track.feed.number != number:
                pieces = self._track.news(version)
                version, number = self._track.feed.version, self._track.feed.number
                self._told = max(self._told, number)
                for piece in pieces:
                    await self._send(piece)
                self._server.told()
                continue
            await self._wait(listening)

    async def _wait(self, listening: asyncio.Future) -> None:
        """Wait for news, or the end of the other side; say that we are there where there are none."""
        waiting = asyncio.ensure_future(self._news.wait())
        try:
            done, _ = await asyncio.wait({waiting, listening}, timeout=limits.STREAM_PING, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not done:
            await self._send(wire.PING)

    async def _send(self, data: bytes) -> None:
        self._server.tells(data)
        self._writer.write(self._connection.send(h11.Data(data=data)))
        try:
            async with asyncio.timeout(limits.STREAM_SEND_TIMEOUT):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError("it takes nothing") from None

    async def _listen(self) -> None:
        """Take lines until the other side breaks off, or is silent for too long."""
        lines, breath, bucket = Lines(limits.STREAM_SAID_BYTES), Breath(), Bucket(READS_PER_SECOND, READS)
        loop = asyncio.get_running_loop()
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                await asyncio.sleep(bucket.wait(loop.time()))
                bucket.take()
                async with asyncio.timeout(limits.STREAM_SILENT):
                    data = await self._reader.read(READ_BYTES)
                if not data:
                    return
                self._connection.receive_data(data)
            elif isinstance(event, h11.Data):
                await breath.breathe()
                try:
                    said = lines.take(bytes(event.data))
                except LongLine:
                    return
                for line in said:
                    self._take(line)
                    await breath.breathe()
            else:  # it says no more, and may go on to listen: only TCP tells when it breaks off
                while await self._reader.read(READ_BYTES):
                    pass
                return

    def _take(self, text: bytes) -> None:
        try:
            line = wire.parse(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        if line.type == "SERVED":
            before = self.peer.number, self.peer.problems
            self.serves(line.version, line.number, line.problems)
            if (self.peer.number, self.peer.problems) != before:
                self._server.said()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a data plane connects once in half an hour
    return context


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context what it takes from files alone, without a file."""
    fd = os.memfd_create("stream", os.MFD_CLOEXEC)
    try:
        os.write(fd, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
