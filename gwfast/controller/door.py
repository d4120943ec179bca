"""The door of the stream: connections from accept on, until it is known who they are.

    Door(context, serve, log)           serve(reader, writer, address) has a connection once TLS stands, in a task of its own
    door.known()                        of the task that calls: it is no stranger any more

Rules:
- A stranger has a place from accept on (see crowd): who floods, with or without a handshake, takes places from its own address,
  and somebody from another one always finds one.
- From one address come so many at once and so many a second; what is more is closed before it costs a handshake.
- The handshake has HANDSHAKE_TIMEOUT; what comes then is `serve`'s to bound. What the kernel keeps of what nobody has read is
  bounded as well.
- Where no descriptors are left a stranger goes, and the next one waits for a moment.
"""
import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable

from gwfast import limits
from gwfast.crowd import Crowd
from gwfast.kubernetes.pace import Bucket

BACKLOG = 512  # connections that the kernel keeps until they are accepted: data planes that come all at once, and strangers
ACCEPTS = 16  # at once: then others have the loop
REST = 0.1  # seconds until it is tried again, where no descriptors are left
RECEIVE_BYTES = 64 * 1024  # that the kernel keeps of one connection: data planes say little
SHUTDOWN_TIMEOUT = 2.0  # for the other side to say that it ends too
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # of a machine that has IPv4 alone, or IPv6
ADDRESSES = 1024  # of which it is known how often they came

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


class Door:
    """Lets strangers in. Everything happens on one event loop."""

    def __init__(self, context: ssl.SSLContext, serve: Serve, log):
        self._context = context
        self._serve = serve
        self._log = log
        self._sockets: list[socket.socket] = []
        self._crowd: Crowd[asyncio.Task] = Crowd(limits.STREAM_STRANGERS, limits.STREAM_STRANGERS_OF_ONE)
        self._came: dict[str, Bucket] = {}  # by address, who came last is last
        self._tasks: set[asyncio.Task] = set()
        self._rests: set[asyncio.TimerHandle] = set()

    @property
    def strangers(self) -> int:
        return len(self._crowd)

    @property
    def connections(self) -> int:
        return len(self._tasks)

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port. OSError where that cannot be."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        refused: OSError | None = None
        for family, *_, address in dict.fromkeys(found):
            try:
                self._sockets.append(_listening(family, (address[0], port, *address[2:])))
                port = self._sockets[-1].getsockname()[1]
            except OSError as error:
                refused = error
                if error.errno not in NOT_HERE:
                    break
        if refused and (not self._sockets or refused.errno not in NOT_HERE):
            self._shut()
            raise refused
        for each in self._sockets:
            loop.add_reader(each, self._accept, each)
        return port

    def known(self) -> None:
        """Take note that the connection of this task is no stranger's."""
        if (task := asyncio.current_task()) is not None:
            self._crowd.go(task)

    async def close(self) -> None:
        """Listen no more, and end everything."""
        self._shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        for timer in self._rests:
            timer.cancel()
        for each in self._sockets:
            loop.remove_reader(each)
            each.close()
        self._sockets.clear()

    # ---- One connection

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(listening, error)
                return
            if self._comes_too_often(address[0]):
                connection.close()
            else:
                self._welcome(connection, address[0])

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """Make room where no descriptors, or no memory, are left."""
        self._log.stranger("a connection of a data plane cannot be accepted", error=error.strerror or str(error))
        if (oldest := self._crowd.oldest()) is not None:
            oldest.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._rests = {timer for timer in self._rests if timer.when() > loop.time()}
        self._rests.add(loop.call_later(REST, lambda: loop.add_reader(listening, self._accept, listening)))

    def _comes_too_often(self, address: str) -> bool:
        bucket = self._came.pop(address, None) or Bucket(limits.STREAM_COMES_PER_SECOND, limits.STREAM_COMES)
        self._came[address] = bucket
        if len(self._came) > ADDRESSES:
            del self._came[next(iter(self._came))]
        if bucket.wait(asyncio.get_running_loop().time()):
            return True
        bucket.take()
        return False

    def _welcome(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        task = asyncio.ensure_future(self._meet(connection, address))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._gone(task, connection))
        leaves = self._crowd.come(task, address)
        if leaves is not None:
            leaves.cancel()

    async def _meet(self, connection: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limits.STREAM_HEAD_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context, ssl_handshake_timeout=limits.HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT)
        except (OSError, EOFError):
            return  # it broke off, or speaks no TLS
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._serve(reader, writer, address)
        finally:
            transport.abort()

    def _gone(self, task: asyncio.Task, connection: socket.socket) -> None:
        """Forget a connection, whose task may not even have begun."""
        self._tasks.discard(task)
        self._crowd.go(task)
        connection.close()
        if not task.cancelled() and task.exception() is not None:
            self._log.bug("a connection of a data plane ended", task.exception())


def _listening(family: int, address: tuple) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
