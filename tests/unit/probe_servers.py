"""What the tests of probes have in common: whom to ask, and servers that answer as a test says."""
import asyncio
import contextlib
import inspect

import uvloop

from gwfast.endpoints.link import Subject
from gwfast.graph.model import Active

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def active(type="HTTP", interval=10_000, timeout=5000, unhealthy=1, healthy=1, **more) -> Active:
    return Active(type=type, interval_ms=interval, timeout_ms=timeout, unhealthy=unhealthy, healthy=healthy, **more)


def subject(port: int, protocol: str = "http", tls: int = 0, ip: str = "127.0.0.1", **check) -> Subject:
    return Subject(ip, port, protocol, tls, "svc.ns", active(**check))


def run(scenario, *arguments):
    return uvloop.run(asyncio.wait_for(scenario(*arguments), 20))


@contextlib.asynccontextmanager
async def serving(protocol, **more):
    """A server with this protocol factory, or whose connections this coroutine function of a reader and a writer serves."""
    loop = asyncio.get_running_loop()
    if inspect.iscoroutinefunction(protocol):
        server = await asyncio.start_server(protocol, "127.0.0.1", 0, **more)
    else:
        server = await loop.create_server(protocol, "127.0.0.1", 0, **more)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(*pieces: bytes, close: bool = True):
    """Answer whatever comes with these bytes, and close or hang."""
    async def serve(reader, writer):
        await reader.read(65536)
        for piece in pieces:
            writer.write(piece)
        if not close:
            await reader.read(1)
        writer.close()
    return serve
