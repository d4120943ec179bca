"""The admin server: health, metrics, the plan, reload. A table of pages, each a coroutine function."""
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Container, Iterable

from gwfast.observe.h11_server import Answer, Request, Server

CONNECTIONS = 256  # scrapes, probes and people
OF_ONE = 32  # from one address: whoever holds more ends those that it had first, and keeps no probe of a kubelet out

Page = Callable[[], Awaitable[Answer]]


class Admin:
    """Serves `pages`, a dict of 'METHOD /path' to a page. public: those that who is not on this machine gets too; None: all but
    `own`."""

    def __init__(self, pages: dict[str, Page], bug: Callable[[str, BaseException], None], public: Container[str] | None = None,
                 own: Container[str] = ()):
        self._pages = pages
        self._bug = bug
        self._public = public
        self._own = own
        self._server = Server(self._answer, CONNECTIONS, OF_ONE)
        self._listening: list = []

    async def start(self, loop, host: str, port: int) -> tuple[str, int]:
        """Listen; return where (port 0: one that is free). OSError if that cannot be."""
        self._listening.append(await loop.create_server(self._server, host, port))
        return self._listening[0].sockets[0].getsockname()[:2]

    async def take(self, loop, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that listen already."""
        for each in sockets:
            self._listening.append(await loop.create_server(self._server, sock=each))

    @property
    def descriptors(self) -> list[int]:
        """The sockets that it listens on."""
        return [each.fileno() for server in self._listening for each in server.sockets]

    def close(self) -> None:
        """Close the server and its connections."""
        self._stop()
        self._server.close()

    async def leave(self, seconds: float) -> None:
        """Accept no more, answer what was asked, for so many seconds at most, and close."""
        self._stop()
        await self._server.drain(seconds)

    def _stop(self) -> None:
        for each in self._listening:
            each.close()
        self._listening.clear()

    async def _answer(self, request: Request) -> Answer:
        path = request.target.partition("?")[0]
        method = "GET" if request.method == "HEAD" else request.method
        page = self._pages.get(f"{method} {path}")
        private = path in self._own or self._public is not None and path not in self._public
        if page is not None and private and not local(request.peer):
            return Answer(403, f"{path} is answered to this machine alone (127.0.0.1, ::1)\n".encode())
        if page is not None:
            try:
                return await page()
            except Exception as error:
                self._bug(f"admin page {path}", error)
                return Answer(500, b"a bug: see the log\n")
        allowed = [key.split()[0] for key in self._pages if key.split()[1] == path]
        if allowed:
            return Answer(405, b"no such method here\n", headers=(("Allow", ", ".join(allowed)),))
        return Answer(404, "".join(f"{key}\n" for key in self._pages).encode())


def local(address: str) -> bool:
    """Return whether an address is this machine's loopback, or this Pod's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
