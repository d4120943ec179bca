"""A connection to the API server: bytes one way and the other, over TLS where it is wanted.

TLS is an SSLObject between two MemoryBIOs over the loop's plain transport: uvloop's and asyncio's own TLS keep a buffer of
256 KiB for each connection, and there is a watch for each kind. What has come stays encrypted until it is asked for, so one who
reads slowly is waited for: beyond HELD_BYTES nothing more is read from the network.

Rules:
- One coroutine reads at a time. read() gives b'' where the other side has ended, and raises OSError where the connection is lost.
- abort() may be called at any time, also by one who was cancelled; then nothing is left of the connection.
"""
import asyncio
import socket
import ssl

HELD_BYTES = 64 * 1024  # that have come and nobody has asked for; also of one read
KEEPALIVE = (15, 5, 3)  # seconds until the kernel asks whether the other side is there, between, and how often: gone after 30 s


class Stream(asyncio.Protocol):
    """One connection. `ended` tells that nothing can be sent on it any more."""

    def __init__(self):
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there from connection_made on
        self._held = bytearray()  # what came in clear
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO = None  # type: ignore[assignment]  # there where _tls is
        self._outgoing: ssl.MemoryBIO = None  # type: ignore[assignment]  # and this
        self._reader: asyncio.Future | None = None
        self._writer: asyncio.Future | None = None
        self._paused = False  # nothing more is read from the network
        self._full = False  # the transport has more to send than it wants
        self._error: OSError | None = None
        self.ended = False

    # -- of the loop

    def connection_made(self, transport) -> None:
        self._transport = transport
        if self.ended:  # who wanted it was cancelled
            transport.abort()
            return
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), KEEPALIVE, strict=True):
            peer.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            self._held += data
        else:
            self._incoming.write(data)
        if self._waits() > HELD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self.ended = True
        _wake(self._reader)

    def connection_lost(self, exc) -> None:
        self.ended = True
        self._error = exc if isinstance(exc, OSError) else None
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    # -- of the client

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Make what follows TLS; ssl.SSLError (an OSError) says why it cannot be."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if self.ended and not self._incoming.pending:
                    raise self._error or ConnectionResetError("closed during the TLS handshake") from None
            except ssl.SSLError:
                self._flush()  # an alert tells the other side
                raise
            await self._more()
        self._flush()

    async def read(self) -> bytes:
        """Return what has come, some at least; b'' at the end."""
        while True:
            data = self._take()
            if self._paused and not self.ended and self._waits() <= HELD_BYTES:
                self._paused = False
                self._transport.resume_reading()
            if data is not None:
                return data
            if self.ended:
                if self._error is not None:
                    raise self._error
                return b""
            await self._more()

    async def write(self, data: bytes) -> None:
        """Send; returns once the network has taken most of it."""
        if self.ended:
            raise self._error or ConnectionResetError("closed by the other side")
        if self._tls is None:
            self._transport.write(data)
        else:
            self._tls.write(data)
            self._flush()
        while self._full and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def abort(self) -> None:
        """End it at once."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    # -- own

    def _waits(self) -> int:
        return len(self._held) if self._tls is None else self._incoming.pending

    def _take(self) -> bytes | None:
        """Return what can be read now; None: nothing, b'': the other side has said that nothing follows."""
        if self._tls is None:
            data, self._held = bytes(self._held), bytearray()
            return data or None
        parts, size = [], 0
        try:
            while size < HELD_BYTES and (part := self._tls.read(HELD_BYTES)):
                parts.append(part)
                size += len(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
            return b"".join(parts)
        except ssl.SSLError:
            if not parts:
                self.ended = True
                raise
        self._flush()  # what TLS itself has to say: an answer to a key update
        return b"".join(parts) or None

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._transport.write(data)

    async def _more(self) -> None:
        """Wait until something has come, or the connection has ended."""
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None


def _wake(waiter: asyncio.Future | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
