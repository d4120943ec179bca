"""Clients that forgive nothing: what an upgrade of the gateway must not cost.

    python -m bench.strict WIRE PORT CONNECTIONS     asks until SIGTERM; prints a Count as JSON

WIRE is http1, http1-new (a connection for each request), tls, tls-new, h2c, h2 or websocket. Each connection asks again when it
is answered (HTTP/2: so many streams at a time). Rules:
- A failure is: a connection that is refused or reset, an answer that is cut or other than it should be, a stream that is reset.
- No failure is: the end of a connection that was said with the answer before (`Connection: close`) or by GOAWAY.
- A connection that had served and ends before a byte of the next answer is `retried`, as is a stream that GOAWAY leaves out:
  clients ask again then (RFC 9112 9.3.1, RFC 9113 6.8). A gateway that gives them time to hear of its end has few or none.
"""
import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import Callable

import msgspec

HOST = "www.bench.example"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n%s\r\n"
WEBSOCKET = (f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode()
STREAMS = 10
PATIENCE = 30.0  # seconds for an answer
EVERY = 0.2  # seconds between two messages of a WebSocket
SAID = 20  # failures that are named


class Count(msgspec.Struct):
    """What clients saw. `lived`: WebSockets that were still there at the end."""

    answered: int = 0
    retried: int = 0
    failed: int = 0
    connections: int = 0
    ended: int = 0  # connections whose end was said
    lived: int = 0
    said: list[str] = []

    def fail(self, why: object) -> None:
        self.failed += 1
        if len(self.said) < SAID:
            self.said.append(repr(why))


class Wrong(Exception):
    """An answer that is not what it should be."""


class Client:
    """What all connections of one run share."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None):
        self.port, self.tls = port, tls
        self.count = Count()
        self.stop = False

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname=HOST if self.tls else None)
        self.count.connections += 1
        return opened

    async def ask(self, life: Callable) -> None:
        """Live again and again until the end."""
        while not self.stop:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    await life(self, stack)
            except (OSError, EOFError, Wrong, TimeoutError) as error:
                self.count.fail(error)


async def http1(client: Client, stack: contextlib.AsyncExitStack, new: bool = False) -> None:
    """One connection of HTTP/1.1, to its end."""
    reader, writer = await client.open()
    stack.push_async_callback(close, writer)
    request = (REQUEST % ("Connection: close\r\n" if new else "")).encode()
    served = 0
    while not client.stop:
        try:
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if served and not getattr(error, "partial", b""):
                client.count.retried += 1
                return
            raise
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Wrong(head)
        await asyncio.wait_for(reader.readexactly(int(fields[b"content-length"])), PATIENCE)
        client.count.answered += 1
        served += 1
        if fields.get(b"connection") == b"close":
            client.count.ended += not new
            return


async def http1_new(client: Client, stack: contextlib.AsyncExitStack) -> None:
    await http1(client, stack, True)


class Http2:
    """One connection of HTTP/2: frames as they are, without a table of fields."""

    def __init__(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._count, self._client = client.count, client
        self._reader, self._writer = reader, writer
        self._open: set[int] = set()
        self._next = 1
        self._last: int | None = None  # that GOAWAY says is served
        scheme = b"\x87" if client.tls else b"\x86"
        self._block = b"\x82" + scheme + b"\x84\x01" + bytes([len(HOST)]) + HOST.encode()
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(8, 0, 0, (1 << 30).to_bytes(4)))

    async def live(self) -> None:
        """Ask until the gateway or the run ends it, and is answered."""
        self._fill()
        try:
            while self._open:
                head = await asyncio.wait_for(self._reader.readexactly(9), PATIENCE)
                payload = await asyncio.wait_for(self._reader.readexactly(int.from_bytes(head[:3])), PATIENCE)
                self._take(head[3], head[4], int.from_bytes(head[5:]), payload)
                self._fill()
        except (asyncio.IncompleteReadError, ConnectionError):
            left = {each for each in self._open if self._last is not None and each > self._last}
            self._count.retried += len(left)
            if self._open - left:
                raise

    def _fill(self) -> None:
        while len(self._open) < STREAMS and self._last is None and not self._client.stop:
            self._writer.write(frame(1, 5, self._next, self._block))
            self._open.add(self._next)
            self._next += 2

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (4, 6) and not flags & 1:
            self._writer.write(frame(kind, 1, 0, payload if kind == 6 else b""))
        elif kind == 7:
            if error := int.from_bytes(payload[4:8]):
                raise Wrong(f"GOAWAY with error {error}")
            self._count.ended += self._last is None
            self._last = int.from_bytes(payload[:4])
        elif kind == 3:
            raise Wrong(f"stream {stream} was reset: {int.from_bytes(payload)}")
        elif kind == 1 and payload.lstrip(bytes(range(0x20, 0x40)))[:1] != b"\x88":
            raise Wrong(f"not 200: {payload!r}")
        if kind in (0, 1) and flags & 1:
            self._open.remove(stream)
            self._count.answered += 1


async def http2(client: Client, stack: contextlib.AsyncExitStack) -> None:
    reader, writer = await client.open()
    stack.push_async_callback(close, writer)
    await Http2(client, reader, writer).live()


async def websocket(client: Client, stack: contextlib.AsyncExitStack) -> None:
    """Send a message now and then, which comes back; the end before that of the run is a failure."""
    reader, writer = await client.open()
    stack.push_async_callback(close, writer)
    writer.write(WEBSOCKET)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Wrong(head)
    while not client.stop:
        text = b"%08d" % client.count.answered
        writer.write(b"\x81\x88\0\0\0\0" + text)
        if (back := await asyncio.wait_for(reader.readexactly(10), PATIENCE)) != b"\x81\x08" + text:
            raise Wrong(back)
        client.count.answered += 1
        await asyncio.sleep(EVERY)
    client.count.lived += 1


async def close(writer: asyncio.StreamWriter) -> None:
    """Close, and wait for that: a loop that ends leaves nothing open."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), PATIENCE)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


WIRES = {"http1": (http1, None), "http1-new": (http1_new, None), "tls": (http1, "http/1.1"), "tls-new": (http1_new, "http/1.1"),
         "h2c": (http2, None), "h2": (http2, "h2"), "websocket": (websocket, None)}


def client(wire: str, port: int) -> tuple[Client, Callable]:
    """Return a client of this wire, and the life of one of its connections."""
    life, protocol = WIRES[wire]
    return Client(port, context(protocol) if protocol else None), life


def context(protocol: str) -> ssl.SSLContext:
    """Verify nothing: certificates are made for the run."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    return made


async def run(wire: str, port: int, connections: int) -> Count:
    """Ask until SIGTERM, and until what was asked is answered."""
    asking, life = client(wire, port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, asking, "stop", True)
    await asyncio.gather(*(asking.ask(life) for _ in range(connections)))
    return asking.count


if __name__ == "__main__":
    import uvloop

    print(msgspec.json.encode(uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))).decode())
