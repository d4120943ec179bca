"""Ports of this machine that lead into a cluster, as `kubectl port-forward` has them; for people, who are outside.

    forwards = Forwards(cluster.sandbox)
    await forwards.open(8080, lambda: ("10.244.240.1", 80))      asked for each connection; None closes it at once
"""
import asyncio
import contextlib
import socket
from collections.abc import Callable

from sandbox import Sandbox

CHUNK = 1 << 16
CONNECT_SECONDS = 5.0
Target = Callable[[], tuple[str, int] | None]


class Forwards:
    """Relays of TCP connections on 127.0.0.1, on the running event loop."""

    def __init__(self, sandbox: Sandbox):
        self._sandbox = sandbox
        self._servers: list[asyncio.Server] = []

    async def open(self, port: int, target: Target) -> int:
        """Listen, and return the port (0: a free one). Raises OSError where it is taken."""
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._relay(reader, writer, target)
        server = await asyncio.start_server(relay, "127.0.0.1", port)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
            where = target()
            if where is None:
                return
            far_reader, far_writer = await asyncio.wait_for(self._connect(*where), CONNECT_SECONDS)
            with contextlib.closing(far_writer):
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = self._sandbox.new_socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, (host, port))
        except BaseException:
            raw.close()
            raise
        return await asyncio.open_connection(sock=raw)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, and pass the end on."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
