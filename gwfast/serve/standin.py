"""Who accepts in the place of a worker that does not answer.

The kernel goes on to give connections to a worker's listening sockets whether it takes them or not, and a socket that is closed
resets what waits there. But the supervisor has the same sockets: it takes what waits and gives it to workers that answer, so
that nothing is lost, and nothing is lost either where the worker comes back and takes some itself. Datagrams are not taken: of
UDP a worker's clients wait until it answers or is replaced.
"""
import os
import socket
from collections.abc import Callable, Iterable

from gwfast.serve.sockets import Port

ACCEPTS = 64  # connections taken in one event
AGAIN = 0.1  # seconds until the next attempt where the system had no room for one


class StandIn:
    """Stands in for one worker. give(bind, fd) passes a connection on; the descriptor is not its own."""

    def __init__(self, loop, give: Callable[[int, int], None]):
        self._loop = loop
        self._give = give
        self._sockets: dict[int, socket.socket] = {}  # by bind: copies, so that they stay as long as they are watched
        self._watching = False

    def stand_in(self, ports: Iterable[Port], index: int) -> None:
        """Take over the sockets of the worker with this index, those that it was told to accept on."""
        for port in ports:
            if port.listening:
                self.add(port, index)

    def add(self, port: Port, index: int) -> None:
        """Take over one more."""
        if not port.udp:
            self._sockets[port.bind] = port.sockets[index].dup()
            if self._watching:
                self._watch(port.bind)

    def attend(self, there_are_takers: bool) -> None:
        """Take what waits as long as there is somebody to give it to: else it waits for the worker or its successor."""
        if there_are_takers == self._watching:
            return
        self._watching = there_are_takers
        for bind in self._sockets:
            self._watch(bind) if there_are_takers else self._unwatch(bind)

    def drop(self, bind: int) -> None:
        """Nobody is to accept on this bind any more: give away what waits, and refuse what comes."""
        if (one := self._sockets.get(bind)) is None:
            return
        while self._watching and self._take(bind):
            pass
        self._close(bind)
        one.shutdown(socket.SHUT_RDWR)
        one.close()

    def drop_all(self) -> None:
        for bind in list(self._sockets):
            self.drop(bind)

    def leave(self) -> None:
        """The worker is back, or another one in its place."""
        for bind, one in list(self._sockets.items()):
            self._close(bind)
            one.close()

    def _close(self, bind: int) -> None:
        if self._watching:
            self._unwatch(bind)
        del self._sockets[bind]

    def _watch(self, bind: int) -> None:
        if bind in self._sockets and self._watching:
            self._loop.add_reader(self._sockets[bind].fileno(), self._take, bind)

    def _unwatch(self, bind: int) -> None:
        self._loop.remove_reader(self._sockets[bind].fileno())

    def _take(self, bind: int) -> bool:
        """Take what waits, bounded; return whether there may be more."""
        for _ in range(ACCEPTS):
            try:
                self._pass_on(bind, self._sockets[bind].accept()[0].detach())
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return False
            except OSError:  # no descriptors: level-triggered, this would be called again at once
                self._unwatch(bind)
                self._loop.call_later(AGAIN, self._watch, bind)
                return False
        return True

    def _pass_on(self, bind: int, fd: int) -> None:
        try:
            self._give(bind, fd)
        finally:
            os.close(fd)
