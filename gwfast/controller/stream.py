"""The server that data planes ask what to serve, and that hears what they serve: one request each, both ways at once.

    POST /v1/feed                          ──>  200, and lines (wire) until either side ends it
    Authorization: Bearer TOKEN                 401 nobody's token, 403 a ServiceAccount without data planes,
    Gwfast-Version: what it has already         503 the API server, or this controller, cannot say yet
    (lines: what it serves)

Rules:
- TLS 1.3 with the certificate of `use`, which may change; connections keep the one that they began with.
- A ServiceAccount has the name and namespace of its fleet: it hears of that fleet, and of no other.
- Strangers have few connections, short heads and little time.
- What a data plane says is bounded; one that is silent, or takes nothing, is left. A stream ends after STREAM_AGE, so that tokens
  are looked at again: a data plane comes back with what it has, and is told the rest.
- `changed` is called when what is served may be another thing: see `standing`.
"""
from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus

import h11
import msgspec

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import wire
from gwfast.controller.feed import Feed
from gwfast.controller.review import Reviewer, Unavailable
from gwfast.controller.standing import Peer, Standing, standing
from gwfast.controller.track import Track
from gwfast.lines import Breath, Lines, LongLine

PATH = b"/v1/feed"
READ_BYTES = 64 * 1024
REST = 30.0  # seconds after the last stream that was told everything


class _Refused(Exception):
    """A request that gets no stream."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


class StreamServer:
    """Tells each fleet what it has to serve. Everything happens on one event loop."""

    def __init__(self, reviewer: Reviewer, log, changed: Callable[[], None] = lambda: None):
        self._reviewer = reviewer
        self._log = log
        self._changed = changed
        self._tracks: dict[str, Track] | None = None  # None: nobody has said which fleets there are
        self._streams: set[_Stream] = set()
        self._left: list[Peer] = []  # whose streams have ended a moment ago
        self._connections: set[asyncio.Task] = set()
        self._strangers = 0
        self._server: asyncio.Server | None = None
        self._context: ssl.SSLContext | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._away = False
        self.leader = ""  # its address; '': we are, or nobody knows
        self.refused = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. OSError where that cannot be."""
        context = _context()
        context.sni_callback = self._current
        self._server = await asyncio.start_server(
            self._connected, host or None, port, ssl=context, limit=limits.STREAM_HEAD_BYTES,
            ssl_handshake_timeout=limits.HANDSHAKE_TIMEOUT)
        return self._server.sockets[0].getsockname()[1]

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

    def serves(self, fleet: str, gateway: Key) -> bool:
        """Return whether the data planes of a fleet serve a Gateway as it is now, all that serve anything."""
        track = (self._tracks or {}).get(fleet)
        marks = {gateway: track.feed.marks[gateway]} if track is not None and gateway in track.feed.marks else {}
        found = standing({fleet: marks}, [*self.peers, *self._left]).get(gateway)
        return found is not None and found.ready

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        if self._rest is not None:
            self._rest.cancel()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # ---- One connection

    def _current(self, connection: ssl.SSLObject, *_) -> int | None:
        if self._context is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._context
        return None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            if len(self._connections) <= limits.STREAM_CONNECTIONS and self._strangers < limits.STREAM_STRANGERS:
                await self._serve(reader, writer)
        except (OSError, EOFError, TimeoutError, h11.ProtocolError, ValueError):
            pass  # the other side broke off, or speaks no HTTP
        except asyncio.CancelledError:
            pass  # the end of this server
        except Exception as error:
            self._log.bug("a stream to a data plane ended", error)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.STREAM_HEAD_BYTES)
        address = (writer.get_extra_info("peername") or ("",))[0]
        self._strangers += 1
        try:
            async with asyncio.timeout(limits.HEAD_TIMEOUT):
                request = await _request(connection, reader)
            fleet = await self._fleet(request)
        except _Refused as refused:
            self.refused += 1
            self._log.stranger("a data plane was refused", address=address, status=refused.status, why=refused.message)
            await _answer(connection, writer, refused)
            return
        finally:
            self._strangers -= 1
        await self._tell(connection, reader, writer, Peer(fleet, address, _field(request, b"gwfast-pod")[:253]),
                         _field(request, b"gwfast-version"))

    async def _fleet(self, request: h11.Request) -> str:
        """Return the fleet of who asks."""
        if request.target.partition(b"?")[0] != PATH:
            raise _Refused(404, "there is nothing here")
        if request.method != b"POST":
            raise _Refused(405, "POST is needed")
        scheme, _, token = _field(request, b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise _Refused(401, "a bearer token is needed")
        try:
            account = await self._reviewer.account(token.strip())
        except Unavailable as error:
            raise _Refused(503, f"the token cannot be reviewed now: {error}") from None
        if account is None:
            raise _Refused(401, "the token is nobody's, or not for this audience")
        fleet = "/".join(account)
        if self._away:
            raise _Refused(503, "this controller cannot reach the API server; another one may lead")
        if self._tracks is None:
            raise _Refused(503, "this controller does not know yet what there is to serve")
        if fleet not in self._tracks:
            raise _Refused(403, f"ServiceAccount {fleet} has no data planes here")
        return fleet

    async def _tell(self, connection: h11.Connection, reader, writer, peer: Peer, version: str) -> None:
        stream = _Stream(self, connection, reader, writer, peer, self._tracks[peer.fleet])
        self._streams.add(stream)
        self._log.info("a data plane listens", fleet=peer.fleet, pod=peer.pod, address=peer.address)
        self._changed()
        try:
            await stream.run(version)
        finally:
            self._streams.discard(stream)
            self._log.info("a data plane does not listen any more", fleet=peer.fleet, pod=peer.pod, address=peer.address)
            if peer.number:
                peer.left = True
                self._left.append(peer)
                asyncio.get_running_loop().call_later(limits.STREAM_LINGER, self._forget, peer)
            self._changed()

    def _forget(self, peer: Peer) -> None:
        """Count a data plane no more that has not come back."""
        self._left.remove(peer)
        self._changed()

    def said(self) -> None:
        """Take note that a data plane has said something new."""
        self._changed()

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
        self.peer = peer

    def wake(self, gone: bool = False) -> None:
        """Look for something to tell; gone: the fleet is no more."""
        self._over |= gone
        self._news.set()

    def serves(self, version: str, problems: tuple[wire.Problem, ...] = ()) -> None:
        """Take note of what is served there."""
        number = self._track.number(version)
        if number:
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
        leader = ""
        first = True
        while not self._over and not listening.done():
            self._news.clear()
            if self._server.leader != leader:
                leader = self._server.leader
                await self._send(wire.say("LEADER", address=leader))
            if first or self._track.feed.version != version:
                version, pieces = self._track.feed.version, self._track.news(version)
                for piece in pieces:
                    await self._send(piece)
                self._server.told()
                first = False
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
        self._writer.write(self._connection.send(h11.Data(data=data)))
        try:
            async with asyncio.timeout(limits.STREAM_SEND_TIMEOUT):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError("it takes nothing") from None

    async def _listen(self) -> None:
        """Take lines until the other side breaks off, or is silent for too long."""
        lines, breath = Lines(limits.STREAM_SAID_BYTES), Breath()
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
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
        except (msgspec.MsgspecError, ValueError):
            return
        if line.type == "SERVED":
            before = self.peer.number, self.peer.problems
            self.serves(line.version, line.problems)
            if (self.peer.number, self.peer.problems) != before:
                self._server.said()


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise EOFError
        data = await reader.read(READ_BYTES)
        if not data:
            raise EOFError
        connection.receive_data(data)


async def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, refused: _Refused) -> None:
    body = f"{refused.message}\n".encode()
    head = h11.Response(status_code=refused.status, reason=HTTPStatus(refused.status).phrase.encode(), headers=[
        ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), ("Connection", "close")])
    writer.write(connection.send(head) + connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))
    async with asyncio.timeout(limits.HEAD_TIMEOUT):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _field(request: h11.Request, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context what it takes from files alone, without a file."""
    fd = os.memfd_create("stream", os.MFD_CLOEXEC)
    try:
        os.write(fd, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
