"""The control socket between the supervisor and one worker: small typed messages with descriptors, in order.

A SOCK_SEQPACKET pair: a message is one packet of JSON (tagged structs), its descriptors travel beside it. Sending
never blocks: what the socket does not take waits in memory. The end of the other side is `closed`, once.
Who receives descriptors owns them; who sends them keeps its own.
"""
import os
import signal
import socket
from array import array
from collections import deque

import msgspec

from gwfast.serve.options import EngineOptions

PACKET = 64 * 1024
DUMP = signal.SIGURG  # writes a worker's stack: what nobody handles is ignored, so it harms no process that has not said so yet
_ROOM = socket.CMSG_SPACE(8 * array("i").itemsize)  # for descriptors beside a packet


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Start(_Message, frozen=True):
    """To a worker, first: who it is. Descriptors: the counters, an eventfd with which workers wake each other, and a
    file for this worker's stack, where that is asked for."""

    worker: int
    workers: int
    drain_timeout: float
    options: EngineOptions


class Listen(_Message, frozen=True):
    """To a worker: accept on this socket. Descriptor: the socket."""

    bind: int


class Unlisten(_Message, frozen=True):
    """To a worker: stop accepting on this bind."""

    bind: int


class Take(_Message, frozen=True):
    """To a worker: serve this connection of a bind, accepted for a worker that does not answer. Descriptor: the connection."""

    bind: int


class Swap(_Message, frozen=True):
    """To a worker: serve this table. Descriptors: its image, and its credentials where it speaks TLS."""

    generation: int


class Part(_Message, frozen=True):
    """To a worker: others are to read its sockets of UDP as well; who has a session there stays."""


class Finish(_Message, frozen=True):
    """To a worker: drain and end. handed_over: others accept on its sockets now, and what waits there is theirs."""

    handed_over: bool = False


class Abort(_Message, frozen=True):
    """To a worker: end now."""


class Ready(_Message, frozen=True):
    """From a worker: its engine runs."""


class Parted(_Message, frozen=True):
    """From a worker: others may read its sockets of UDP."""


class Applied(_Message, frozen=True):
    """From a worker: this table serves from the next request on."""

    generation: int


class Refused(_Message, frozen=True):
    """From a worker: this message (its type) could not be followed; what was before stays."""

    what: str
    message: str


class Told(_Message, frozen=True):
    """From a worker: what people should know."""

    text: str


class HandshakeFailed(_Message, frozen=True):
    """From a worker: a client could not begin TLS. `unsaid`: how many more there were of which nothing is said."""

    address: str
    reason: str
    detail: str
    unsaid: int


Message = (Start | Listen | Unlisten | Take | Swap | Part | Finish | Abort
           | Ready | Parted | Applied | Refused | Told | HandshakeFailed)
_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.encode


def pair() -> tuple[socket.socket, socket.socket]:
    """Create both ends, non-blocking and not inherited."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


class Channel:
    """One end, read by an event loop.

    `received(message, descriptors)` is called for each message, `closed()` once when the other side is gone. decode: packets are
    other messages than those between a supervisor and its workers.
    """

    def __init__(self, loop, end: socket.socket, received, closed, decode=_decode):
        self._loop = loop
        self._end = end
        self._received = received
        self._closed = closed
        self._decode = decode
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        loop.add_reader(end.fileno(), self._read)

    def send(self, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> None:
        """Send, or keep until the socket takes it; silent when the other side is gone (`closed` says so)."""
        if self._end.fileno() < 0:
            return
        data = _encode(message)
        if self._waiting or not self._try(data, descriptors):
            self._waiting.append((data, [os.dup(fd) for fd in descriptors]))
            self._loop.add_writer(self._end.fileno(), self._write)

    @property
    def waiting(self) -> int:
        """How many messages the socket has not taken yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Close this end; `closed` is not called."""
        if self._end.fileno() < 0:
            return
        self._loop.remove_reader(self._end.fileno())
        self._loop.remove_writer(self._end.fileno())
        self._end.close()
        while self._waiting:
            _close_all(self._waiting.popleft()[1])

    def _try(self, data: bytes, descriptors) -> bool:
        try:
            socket.send_fds(self._end, [data], list(descriptors))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass  # gone: the reader finds out
        return True

    def _write(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            if not self._try(data, descriptors):
                return
            self._waiting.popleft()
            _close_all(descriptors)
        self._loop.remove_writer(self._end.fileno())

    def _read(self) -> None:
        while self._end.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._end.recvmsg(PACKET, _ROOM, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                self.close()
                self._closed()
                return
            self._received(self._decode(data), _descriptors(ancillary))


def _descriptors(ancillary) -> list[int]:
    received = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(data)
    return received.tolist()


def _close_all(descriptors) -> None:
    for fd in descriptors:
        os.close(fd)
