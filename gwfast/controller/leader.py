"""Where data planes are sent: to who leads, and away from who led and has lost the API server.

    Leader.look()      something is new of the Lease
    await run()        tells the stream server, until cancelled

Rules:
- It wakes when something is new, and when a leader that cannot renew its Lease has been alone for LEADER_LOST: nobody looks at a
  clock meanwhile.
- The holder of the Lease is named with the address of its stream, which data planes dial.
"""
import asyncio
import contextlib
import os
import socket
import uuid

from gwfast.controller.stream import StreamServer
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.publish import of_machine

LEADER_LOST = 10.0  # seconds that who cannot renew its Lease goes on to tell data planes: then another one leads, if one can


class Leader:
    """Follows an election for a stream server."""

    def __init__(self, election: Election, server: StreamServer):
        self._election = election
        self._server = server
        self._news = asyncio.Event()
        self._lost = 0.0  # since when the Lease says that we lead, and we cannot renew it
        self._away = False
        election.seen = self.look

    def look(self) -> None:
        """Look again: who holds the Lease, or whether we lead, may be new."""
        self._news.set()

    async def run(self) -> None:
        """Tell the server, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            left = self._tell(loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()

    def _tell(self, now: float) -> float | None:
        """Send data planes to who leads; return how long it is until they are sent away, None: nobody thinks of it."""
        ours = self._election.holder == self._election.identity
        self._lost = (self._lost or now) if ours and not self._election.leads else 0.0
        left = self._lost + LEADER_LOST - now if self._lost else None
        if (left is not None and left <= 0) != self._away:
            self._away = not self._away
            self._server.withdraw(self._away)
        self._server.lead("" if ours or self._election.leads else address_of(self._election.holder))
        return left if left is not None and left > 0 else None


def identity(server: str, port: int) -> str:
    """Return who stands for election: a host's name, where its stream is, and a number of this process, with '_' between."""
    host = os.environ.get("POD_IP") or next((value for _, value in of_machine(server)), "127.0.0.1")
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{where}_{uuid.uuid4().hex[:8]}"


def address_of(holder: str) -> str:
    """Return where the stream of a leader is; '' where that is not said."""
    parts = holder.rsplit("_", 2)  # the name of a host may have one, too
    return parts[1] if len(parts) == 3 else ""
