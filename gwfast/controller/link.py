"""One connection from a data plane to a controller: lines both ways in one request (see stream).

Rules:
- The controller is believed by the authorities of a file, and by the name in its URL, wherever it is dialled. Files are read
  again for each connection: certificates and tokens are renewed.
- A link that is silent for STREAM_SILENT has ended.
"""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import h11
import msgspec

from gwfast import __version__, limits
from gwfast.tls.records import Setting
from gwfast.controller.tunnel import TlsError, Tunnel, dig
from gwfast.lines import Breath, Lines, LongLine

CONNECT_TIMEOUT = 10.0  # TCP and TLS and the head of the answer
ANSWER_BYTES = 4096  # of the words that come with a refusal


class NoLink(Exception):
    """The controller cannot be reached, or does not want us; says why."""


class Where(msgspec.Struct, frozen=True):
    """A controller and what a data plane shows it."""

    host: str
    port: int
    token_file: str
    ca_file: str


def where(url: str, token_file: str, ca_file: str) -> Where:
    """Read a URL that kinds.stream_url took."""
    parts = urlsplit(url)
    return Where(parts.hostname or "", parts.port or 443, token_file, ca_file)


class Link:
    """A connection that was accepted."""

    def __init__(self, connection: h11.Connection, tunnel: Tunnel):
        self._connection = connection
        self._tunnel = tunnel
        self._breath = Breath()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what the controller says until it ends; NoLink where it breaks off."""
        lines = Lines(limits.STREAM_LINE_BYTES)
        while isinstance(event := await self._event(), h11.Data):
            try:
                said = lines.take(bytes(event.data))
            except LongLine:
                raise NoLink("it sent a line without an end") from None
            for line in said:
                yield line

    async def say(self, line: bytes) -> None:
        """Tell the controller; NoLink."""
        try:
            self._tunnel.write(self._connection.send(h11.Data(data=line)))
            async with asyncio.timeout(limits.STREAM_SEND_TIMEOUT):
                await self._tunnel.drain()
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            raise NoLink(_words(error)) from None

    def close(self) -> None:
        self._tunnel.abort()

    async def _event(self):
        while True:
            try:
                event = self._connection.next_event()
                if event is not h11.NEED_DATA:
                    await self._breath.breathe()
                    return event
                async with asyncio.timeout(limits.STREAM_SILENT):
                    self._connection.receive_data(await self._tunnel.read())
            except TimeoutError:
                raise NoLink("it says nothing any more") from None
            except (OSError, TlsError, h11.ProtocolError) as error:
                raise NoLink(_words(error)) from None


async def link(to: Where, version: str, pod: str, address: str = "") -> Link:
    """Connect to a controller, at `address` ('host:port') where that is given; NoLink."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _link(to, version, pod, address)
    except TimeoutError:
        raise NoLink("it does not answer") from None
    except (OSError, TlsError, h11.ProtocolError) as error:
        raise NoLink(_words(error)) from None


async def _link(to: Where, version: str, pod: str, address: str) -> Link:
    token, secured = _token(to.token_file), _setting(to.ca_file, to.host)
    host, port = to.host, to.port
    if address:
        host, _, number = address.rpartition(":")
        host, port = host.strip("[]"), int(number)
    tunnel = await dig(host, port, *secured)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.STREAM_HEAD_BYTES)
    made = Link(connection, tunnel)
    try:
        headers = [("Host", to.host), ("Authorization", f"Bearer {token}"), ("Transfer-Encoding", "chunked"),
                   ("User-Agent", f"gwfast/{__version__}"), ("Gwfast-Version", version), ("Gwfast-Pod", pod)]
        tunnel.write(connection.send(h11.Request(method="POST", target="/v1/feed", headers=headers)))
        answer = await made._event()
        while isinstance(answer, h11.InformationalResponse):
            answer = await made._event()
        if not isinstance(answer, h11.Response):
            raise NoLink("it hung up")
        if answer.status_code != 200:
            raise NoLink(f"{answer.status_code}: {await _said(made)}")
    except BaseException:
        made.close()
        raise
    return made


async def _said(made: Link) -> str:
    """Return what comes with a refusal."""
    text = b""
    while isinstance(event := await made._event(), h11.Data) and len(text) < ANSWER_BYTES:
        text += event.data
    return text[:ANSWER_BYTES].decode("utf-8", "replace").strip()


def _token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, ValueError) as error:
        raise NoLink(f"{path}: {getattr(error, 'strerror', None) or 'it is no token'}") from None
    if not token or not token.isprintable() or " " in token:
        raise NoLink(f"{path}: it is no token")
    return token


def _setting(path: str, name: str) -> tuple[Setting, bytes]:
    from gwfast.serve import certs  # and OpenSSL with it

    try:
        with open(path, "rb") as file:
            authorities = file.read()
    except OSError as error:
        raise NoLink(f"{path}: {error.strerror}") from None
    try:
        return certs.controller(authorities, name)
    except ValueError as error:
        raise NoLink(f"{path}: {error}") from None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
