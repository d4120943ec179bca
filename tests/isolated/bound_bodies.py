"""Bodies far larger than memory would like, both ways, past a reader that is slower than the writer: the engine holds a
few reads of each direction, whatever the size."""
import socket

from measure import allocated, private
from world import World

SIZE = 512 << 20
PIECE = bytes(65536)
MOST = 256 << 10


class Pipe:
    """One direction: what is written, what is read, and the most that was held meanwhile."""

    def __init__(self, world: World, writer: socket.socket, reader: socket.socket):
        self.world, self.writer, self.reader = world, writer, reader
        self.room = bytearray(65536)

    def run(self, size: int) -> tuple[int, int]:
        """Move `size` bytes; the writer always writes what it can, the reader takes one piece a turn."""
        written = read = most = turns = 0
        before = allocated(), private()
        while read < size:
            while written < size:
                try:
                    written += self.writer.send(PIECE[:size - written])
                except BlockingIOError:
                    break
            self.world.engine.drain()
            try:
                read += self.reader.recv_into(self.room)
            except BlockingIOError:
                pass
            most = max(most, allocated())
            turns += 1
        return most - before[0], private() - before[1]


def upload(world: World) -> tuple[int, int]:
    client = world.connect()
    client.send(b"POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
    world.until(lambda: world.backends)
    backend, = world.backends
    world.selector.unregister(backend)
    while b"\r\n\r\n" not in backend.recv(65536, socket.MSG_PEEK):
        world.engine.drain()
    backend.recv(65536)
    try:
        return Pipe(world, client, backend).run(SIZE)
    finally:
        world.reset(client)
        world.selector.register(backend, 1, world.answer)
        world.idle()


def download(world: World) -> tuple[int, int]:
    client = world.connect()
    client.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    world.until(lambda: world.unanswered)
    backend = world.unanswered.pop()
    backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    world.until(lambda: b"\r\n\r\n" in peek(client))
    client.recv(65536)
    try:
        return Pipe(world, backend, client).run(SIZE)
    finally:
        world.reset(client)
        world.idle()


def peek(client: socket.socket) -> bytes:
    try:
        return client.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def main() -> None:
    world = World()
    for way in (upload, download):
        held, pages = way(world)
        print(f"{way.__name__}: {held} bytes allocated at most, {pages} resident")
        assert held <= MOST and pages <= 4 * MOST, way.__name__
    world.close()


main()
