"""What probes are made of: whom to ask what, a connection to ask on, and how it may fail.

Rules
- TLS is that of requests: the same settings, by the same code (`certs` is serve.certs.Certs).
- PROBE_BYTES are read at most.
- Whatever an endpoint sends, the connection raises OSError or Failed and nothing else.
"""
from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from gwfast import limits
from gwfast.graph.model import Active

if TYPE_CHECKING:
    from gwfast.tls.records import Tap  # and OpenSSL with it

AGENT = "gwfast-probe"
RESULTS = ("passed", "refused", "late", "tls", "broken", "status", "unable")  # late: as whoever asked says
PIECE = 16 * 1024
WHY = 200  # characters: a part of it may come from outside


class Subject(msgspec.Struct, frozen=True):
    """Whom to ask what: an endpoint, the protocol of its backend, the id of its TLS settings (0: in clear), the Host."""

    ip: str
    port: int
    protocol: str
    tls: int
    host: str
    check: Active


class Failed(Exception):
    """A probe did not pass. result: one of RESULTS, "unable" where we could not even ask; `str` is for people."""

    def __init__(self, result: str, why: str):
        super().__init__(why[:WHY])
        self.result = result


class Link:
    """A connection, in clear until `secure`. `chosen` is what ALPN says, '' nothing. Raises OSError where there cannot be one."""

    def __init__(self, loop, ip: str, port: int):
        found = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        family = found[0][0]
        self._address = found[0][4]
        self._loop = loop
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._tap: Tap | None = None
        self._got = 0
        self.chosen = ""

    @property
    def full(self) -> bool:
        """Whether nothing more will be read."""
        return self._got >= limits.PROBE_BYTES

    async def connect(self) -> None:
        try:
            await self._loop.sock_connect(self._socket, self._address)
        except OSError as error:
            raise Failed("refused", f"no connection: {words(error)}") from None

    async def secure(self, certs, tls: int) -> None:
        """Begin TLS as requests do, and look at whose certificate it is."""
        from gwfast.tls.records import Tap

        try:
            setting, name = certs.client(tls)
        except Exception as error:  # requests get 502
            raise Failed("tls", f"its TLS settings cannot be used: {error}") from None
        tap = Tap(setting, client=True, name=name)
        state, out = tap.handshake(b"")
        while not state:
            await self._write(out)
            state, out = tap.handshake(await self._read())
        with contextlib.suppress(OSError):  # of who hung up there is more to say
            await self._write(out)
        why = tap.session.reason() if state < 0 else certs.accepts(tls, tap.session.peer_certificate()[0])
        if state < 0 or why:
            raise Failed("tls", f"no TLS: {why or 'the handshake failed'}")
        self._tap, self.chosen = tap, tap.facts["chosen"]

    async def send(self, data: bytes) -> None:
        await self._write(self._tap.seal(data) if self._tap else data)

    async def receive(self) -> bytes:
        """Return what comes next, b'' at the end. Raise Failed when that was too much."""
        if self._tap is None:
            return await self._read(end=True)
        plain, out = self._tap.open(b"")  # what came with the handshake
        await self._write(out)
        while plain == -1:  # OPEN_MORE
            plain, out = self._tap.open(await self._read())
            await self._write(out)
        return plain if isinstance(plain, bytes) else b""

    def close(self) -> None:
        if self._tap is not None:
            with contextlib.suppress(OSError):
                self._socket.send(self._tap.goodbye())
        self._socket.close()

    async def _write(self, data: bytes) -> None:
        if data:
            await self._loop.sock_sendall(self._socket, data)

    async def _read(self, end: bool = False) -> bytes:
        if self.full:
            raise Failed("broken", f"it sent more than {limits.PROBE_BYTES} bytes and no answer")
        data = await self._loop.sock_recv(self._socket, PIECE)
        self._got += len(data)
        if not data and not end:
            raise Failed("broken", "it hung up")
        return data


def words(error: OSError) -> str:
    """Say what went wrong, without what uvloop adds."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error)
