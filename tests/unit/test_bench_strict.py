"""Clients that forgive nothing find what there is to find, and what is no failure is none."""
import asyncio
import contextlib

import pytest
from bench import strict

PATIENCE = 30.0
SETTINGS = strict.frame(4, 0, 0, b"")
OK2 = strict.frame(1, 4, 1, b"\x88") + strict.frame(0, 1, 1, b"hi")
GOAWAY = strict.frame(7, 0, 0, (1).to_bytes(4) + bytes(4))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nhi"

# What a server says before it ends the connection, and what is counted of the first one: answered, retried, failed, ended.
CASES = {
    "an answer, then the end": ("http1", OK % b"", (1, 1, 0, 0)),
    "an answer that is said to be the last": ("http1", OK % b"Connection: close\r\n", (1, 0, 0, 1)),
    "half of a body": ("http1", OK[:-1] % b"", (0, 0, 1, 0)),
    "half of a head": ("http1", b"HTTP/1.1 200 OK\r\nCont", (0, 0, 1, 0)),
    "nothing": ("http1", b"", (0, 0, 1, 0)),
    "another status": ("http1", (OK % b"").replace(b"200", b"503"), (0, 0, 1, 0)),
    "one answer for each connection": ("http1-new", OK % b"Connection: close\r\n", (1, 0, 0, 0)),
    "streams that GOAWAY leaves out": ("h2c", SETTINGS + OK2 + GOAWAY, (1, strict.STREAMS, 0, 1)),
    "streams that nobody answers": ("h2c", SETTINGS + OK2, (1, 0, 1, 0)),
    "a stream that is reset": ("h2c", SETTINGS + strict.frame(3, 0, 1, bytes(4)), (0, 0, 1, 0)),
    "GOAWAY that is an error": ("h2c", SETTINGS + strict.frame(7, 0, 0, (1).to_bytes(4) + (11).to_bytes(4)), (0, 0, 1, 0)),
    "another status over HTTP/2": ("h2c", SETTINGS + strict.frame(1, 4, 1, b"\x8d"), (0, 0, 1, 0)),
    "a WebSocket that ends": ("websocket", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", (0, 0, 1, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_counted(name):
    wire, said, (answered, retried, failed, ended) = CASES[name]

    async def main():
        async def serve(reader, writer):
            await reader.read(1)
            writer.write(said)
            await writer.drain()
            writer.write_eof()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            client, life = strict.client(wire, server.sockets[0].getsockname()[1])

            async def once(client, stack):
                try:
                    await life(client, stack)
                finally:
                    client.stop = True
            await asyncio.wait_for(client.ask(once), PATIENCE)
        return client.count
    count = asyncio.run(main())
    assert (count.answered, count.retried, count.failed, count.ended) == (answered, retried, failed, ended), count.said


def test_a_refused_connection_is_a_failure():
    async def main():
        client, life = strict.client("http1", 1)  # where nobody listens

        async def once(client, stack):
            client.stop = True
            await life(client, stack)
        await asyncio.wait_for(client.ask(once), PATIENCE)
        return client.count
    assert asyncio.run(main()).failed == 1
