"""TLS of a data plane's connection to its controller: a stream's reader and writer.

It is pyOpenSSL's, as that of requests to backends: the interpreter's own would be one more OpenSSL in memory
(serve.light_imports).

Rules:
- Nothing is read or written before the other side has shown a certificate that the authorities vouch for, with the name in it.
- Raises OSError, or TlsError, which says what is wrong with the other side, in OpenSSL's words.
"""
from __future__ import annotations

import asyncio

from gwfast.tls.records import Setting, Tap

PIECE = 256 * 1024
_MORE = -1  # nothing to read until more has come, as Tap.open says it; 0 is the end


class TlsError(Exception):
    """The other side is not who it should be, or breaks TLS; says why."""


class Tunnel:
    """A connection over TLS. As an asyncio.StreamWriter, `write` never waits and `drain` does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tap: Tap):
        self._reader, self._writer, self._tap = reader, writer, tap

    async def read(self) -> bytes:
        """Return what comes next; b'' at the end."""
        said, answer = self._tap.open(b"")  # what came with the handshake, or was more than fits at once
        while said == _MORE:
            self._writer.write(answer)
            data = await self._reader.read(PIECE)
            if not data:
                return b""
            said, answer = self._tap.open(data)
        self._writer.write(answer)
        if isinstance(said, int) and said:
            raise TlsError(self._tap.session.reason() or "it breaks TLS")
        return said or b""

    def write(self, data: bytes) -> None:
        self._writer.write(self._tap.seal(data))

    async def drain(self) -> None:
        await self._writer.drain()

    def abort(self) -> None:
        """End at once."""
        self._writer.transport.abort()


async def dig(host: str, port: int, setting: Setting, name: bytes) -> Tunnel:
    """Connect to a server whose certificate `setting` believes; `name` is what it is asked for."""
    reader, writer = await asyncio.open_connection(host, port)
    tap = Tap(setting, client=True, name=name)
    try:
        done, answer = tap.handshake(b"")
        while not done:
            writer.write(answer)
            data = await reader.read(PIECE)
            if not data:
                raise TlsError("it hung up")
            done, answer = tap.handshake(data)
        writer.write(answer)  # also what tells it why we do not go on
        if done < 0:
            raise TlsError(tap.session.reason() or "the handshake failed")
    except BaseException:
        writer.close()
        raise
    return Tunnel(reader, writer, tap)
