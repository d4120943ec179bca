"""One connection that speaks HTTP/1.1 (h11) with the API server, one request at a time."""
import asyncio
import base64
import socket
from urllib.parse import unquote, urlsplit

import h11

from gwfast import limits
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.credentials import Credentials
from gwfast.kubernetes.stream import Stream
from gwfast.lines import Breath

HEAD_BYTES = 64 * 1024  # of a response's head: warnings may be many (Go: 1 MiB)


class Malformed(Exception):
    """What came is no answer: cut off, too long, or not HTTP."""


class Idle(Exception):
    """The connection was closed before an answer began: it was idle for too long, or the API server ends."""


class Connection:
    """A connection; `generation` is the credentials' when it was made, `used` tells that it has had a request."""

    def __init__(self, stream: Stream, host: str, generation: int):
        self.stream = stream
        self.generation = generation
        self.used = False
        self._heard = False  # something of an answer
        self._host = host
        self._breath = Breath()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    async def ask(self, method: str, target: str, fields: list[tuple[str, bytes]], body: bytes) -> h11.Response:
        """Send a request, return the head of its answer; Idle, Malformed, OSError."""
        if body or method not in ("GET", "DELETE"):
            fields = [*fields, ("Content-Length", str(len(body)).encode())]
        headers = [(b"Host", self._host.encode("ascii")), *((name.encode("ascii"), value) for name, value in fields)]
        request = h11.Request(method=method, target=target, headers=headers)
        data = self._h11.send(request) + self._h11.send(h11.Data(data=body)) + self._h11.send(h11.EndOfMessage())
        self._heard = False
        try:
            await self.stream.write(data)
            while isinstance(event := await self.event(), h11.InformationalResponse):
                pass
        except (OSError, Malformed):
            if not self._heard and self.stream.ended:
                raise Idle("closed before an answer") from None
            raise
        self.used = True
        return event

    async def event(self):
        """Return what follows; Malformed, OSError."""
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                data = await self.stream.read()
                self._heard = self._heard or bool(data)
                self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Malformed(str(error)) from None
        await self._breath.breathe()
        return event

    async def body(self, most: int) -> bytes:
        """Return all of the answer's body; Malformed where it is longer than `most` bytes."""
        body = bytearray()
        while isinstance(event := await self.event(), h11.Data):
            body += event.data
            if len(body) > most:
                raise TooLong(f"an answer of more than {most >> 20} MiB")
        return bytes(body)

    def ready(self) -> bool:
        """Whether another request may follow; prepares for it."""
        if self.stream.ended or self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True


class TooLong(Malformed):
    """An answer, or a line of one, is longer than is kept."""


async def connect(access: Access, credentials: Credentials) -> Connection:
    """Open a connection, by way of a proxy where there is one; OSError, Malformed."""
    url = urlsplit(access.server)
    port = url.port or (443 if url.scheme == "https" else 80)
    context = credentials.context()
    generation = credentials.generation
    proxy = urlsplit(access.proxy) if access.proxy else None
    name = url.hostname or ""
    stream = await (_dial(proxy.hostname or "", proxy.port or 80) if proxy else _dial(name, port))
    try:
        if proxy:
            await _tunnel(stream, f"{_bracketed(name)}:{port}", proxy)
        if context is not None:
            await stream.start_tls(context, access.server_name or name)
    except ValueError as error:
        stream.abort()
        raise Malformed(f"tls-server-name: {error}") from None
    except BaseException:
        stream.abort()
        raise
    return Connection(stream, url.netloc, generation)


async def _dial(host: str, port: int) -> Stream:
    """Connect to the first address of a name that answers; each has its share of the time: one may be dead."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise Malformed(f"{host!r} is no name: {error}") from None
    failed: OSError = ConnectionError(f"{host} has no address")
    for address in dict.fromkeys(where[:2] for *_, where in found):
        stream = Stream()
        try:
            async with asyncio.timeout(limits.API_CONNECT_TIMEOUT / len(found)):
                await loop.create_connection(lambda: stream, *address)  # noqa: B023 - it is called at once
            return stream
        except OSError as error:
            stream.abort()
            failed = ConnectionError(f"{address[0]} does not answer") if isinstance(error, TimeoutError) else error
        except BaseException:
            stream.abort()
            raise
    raise failed


async def _tunnel(stream: Stream, authority: str, proxy) -> None:
    """Ask a proxy for a way to the server (CONNECT)."""
    fields = [(b"Host", authority.encode("ascii"))]
    if proxy.username is not None:
        basic = base64.b64encode(f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode())
        fields.append((b"Proxy-Authorization", b"Basic " + basic))
    state = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    await stream.write(state.send(h11.Request(method="CONNECT", target=authority, headers=fields)))
    try:
        while (event := state.next_event()) is h11.NEED_DATA:
            state.receive_data(await stream.read())
    except h11.RemoteProtocolError as error:
        raise Malformed(f"the proxy's answer: {error}") from None
    if not isinstance(event, h11.Response) or event.status_code // 100 != 2:
        raise Malformed(f"the proxy {proxy.hostname} refuses: {getattr(event, 'status_code', 'closed')}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


