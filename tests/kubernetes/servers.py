"""HTTP servers for the client of the API server: each request is answered by a coroutine, which may also misbehave.

    async with serving(answer) as server:      # answer(exchange)
        client = Client(Access(server.url))
"""
import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

import h11
import msgspec
import uvloop

DEADLINE = 60.0  # for what has to happen, on a machine that is busy with other things: no test waits that long unless it fails


def run(test: Callable[[], Awaitable], loop: str = "uvloop"):
    """Run a coroutine function to its end, within DEADLINE."""
    async def bounded():
        async with asyncio.timeout(3 * DEADLINE):
            return await test()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        return runner.run(bounded())


async def until(true: Callable[[], object], what: object = "") -> None:
    """Wait until something is so."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, f"not in time: {what() if callable(what) else what}"
        await asyncio.sleep(0.002)


class Gone(Exception):
    """The client has closed the connection."""


class Exchange:
    """One request and what is answered to it. `number` counts requests of the server, `connection` its connections, from 0."""

    def __init__(self, state: h11.Connection, reader, writer, number: int, connection: int):
        self._h11, self._reader, self.writer = state, reader, writer
        self.number, self.connection = number, connection
        self.method = self.target = ""
        self.fields: dict[str, str] = {}
        self.body = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    def json(self):
        return json.loads(self.body)

    async def read(self) -> bool:
        while (event := await self._event()) not in (h11.PAUSED,):
            match event:
                case h11.Request():
                    self.method, self.target = event.method.decode(), event.target.decode()
                    self.fields = {name.decode(): value.decode() for name, value in event.headers}
                case h11.Data():
                    self.body += event.data
                case h11.EndOfMessage():
                    return True
                case h11.ConnectionClosed():
                    return False
        return False

    async def _event(self):
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(65536))
        return event

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, value: object = b"", status: int = 200, **fields: str) -> None:
        """Answer with bytes or JSON."""
        await self.begin(status, **fields, content_length=str(len(body := _encoded(value))))
        await self.send(self._h11.send(h11.Data(data=body)) + self._h11.send(h11.EndOfMessage()))

    async def refuse(self, status: int, reason: str = "", **fields: str) -> None:
        """Answer with a Status object."""
        await self.answer({"kind": "Status", "code": status, "reason": reason, "message": f"no: {reason}"}, status, **fields)

    async def begin(self, status: int = 200, **fields: str) -> None:
        """Begin an answer in chunks."""
        headers = [(name.replace("_", "-"), value) for name, value in fields.items()]
        await self.send(self._h11.send(h11.Response(status_code=status, headers=headers)))

    async def chunk(self, value: object) -> None:
        await self.send(self._h11.send(h11.Data(data=_encoded(value))))

    async def line(self, value: object) -> None:
        await self.chunk(_encoded(value) + b"\n")

    async def end(self) -> None:
        await self.send(self._h11.send(h11.EndOfMessage()))

    def cut(self) -> None:
        """End the connection at once, with an RST."""
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection after what was sent."""
        self.writer.close()

    async def closed(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self._reader.read(65536):
                pass
        except OSError:
            pass


class Server:
    """What `serving` gives: `exchanges` are those that were begun, `open` is the number of connections that are open."""

    def __init__(self, answer, url: str = ""):
        self._answer = answer
        self.url = url
        self.exchanges: list[Exchange] = []
        self.connections = self.open = self.most_open = 0
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task] = set()

    async def __call__(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        connection, self.connections = self.connections, self.connections + 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._converse(reader, writer, connection)
        except (OSError, h11.ProtocolError, Gone, asyncio.CancelledError):
            pass  # the client went, or the answer was none: both are meant
        except BaseException as error:
            self.failures.append(error)
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.close()

    async def _converse(self, reader, writer, connection: int) -> None:
        state = h11.Connection(h11.SERVER)
        while True:
            exchange = Exchange(state, reader, writer, len(self.exchanges), connection)
            if not await exchange.read():
                return
            self.exchanges.append(exchange)
            await self._answer(exchange)
            if writer.is_closing() or state.our_state is not h11.DONE or state.their_state is not h11.DONE:
                return
            state.start_next_cycle()

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0)


def _encoded(value: object) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value)


@asynccontextmanager
async def serving(answer: Callable[[Exchange], Awaitable], tls: ssl.SSLContext | None = None, port: int = 0):
    """Serve on a port of 127.0.0.1."""
    server = Server(answer)
    listening = await asyncio.start_server(server, "127.0.0.1", port, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
    server.port = port
    try:
        yield server
    finally:
        listening.close()
        await server.end()
    assert not server.failures, server.failures
