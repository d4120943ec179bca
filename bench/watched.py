"""What callgrind watches: each operation many times, in a process that does nothing else.

Rules: instructions are counted inside `spin` doors and inside Loop.run alone, and every call of Engine.tick ends a
profile (see count.py). So an operation is a function of how often; what it costs to begin is what no time at all costs.
"""
import os
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from gwfast import _counters, _hpack, _hpack_encode, _http1, _match, _pick
from gwfast._engine import Engine
from gwfast.serve.options import EngineOptions

OFTEN, SELDOM = 1000, 100      # times in a round, for what is short and for what is long
ROUNDS = 4                     # the first warms up; of the others the cheapest counts: one may see a second's turn
STEPS = (0,) + (1,) * ROUNDS
PATIENCE_MS = 5000

Run = Callable[[int], object]


class Find(msgspec.Struct, tag=True):
    """A lookup in a table image (a file)."""

    image: str
    path: str
    headers: list[tuple[str, str]]

    def begin(self) -> Run:
        table = _match.Table(Path(self.image).read_bytes())
        return lambda times: table.spin(1, "GET", [self.path], self.headers, times)


class Parse(msgspec.Struct, tag=True):
    """The head of a request or of a response."""

    data: bytes

    def begin(self) -> Run:
        response = self.data.startswith(b"HTTP/")
        assert _http1.spin(self.data, response, 1)[0] == len(self.data)
        return lambda times: _http1.spin(self.data, response, times)


class Pick(msgspec.Struct, tag=True):
    """A choice among backends with these weights."""

    weights: list[int]

    def begin(self) -> Run:
        return lambda times: _pick.spin(self.weights, times)


class Decode(msgspec.Struct, tag=True):
    """A field block of HTTP/2, behind others that its table is from."""

    blocks: list[bytes]

    def begin(self) -> Run:
        decoder = _hpack.Decoder()
        for block in self.blocks:
            assert decoder.spin(block, 1)[0] == 0
        return lambda times: decoder.spin(self.blocks[-1], times)


class Encode(msgspec.Struct, tag=True):
    """The field block of a response with status 200, whose fields were sent before."""

    fields: list[tuple[bytes, bytes]]

    def begin(self) -> Run:
        encoder = _hpack_encode.Encoder()
        return lambda times: encoder.spin(self.fields, times)


class Exchange(msgspec.Struct, tag=True):
    """A request through an engine: its sockets end in this process, on a client and backends that know their lines."""

    image: str
    backends: list[int]    # descriptors of listening sockets, the image's endpoints
    request: bytes
    answer: bytes
    end: bytes         # what the client gets last
    new: bool = False  # a connection for each request

    def begin(self) -> Run:
        stage = Stage(self)
        return stage.run


Job = Find | Parse | Pick | Decode | Encode | Exchange


class Stage:
    """An engine between one client and its backends, who take turns with it: it runs when the kernel has something for it."""

    def __init__(self, lines: Exchange):
        self.lines = lines
        self.engine = Engine(worker=0, workers=1, counters_fd=_counters.create(1, 64), options=EngineOptions())
        with open(lines.image, "rb") as image:
            self.engine.swap(image.fileno())
        front = socket.create_server(("127.0.0.1", 0))
        self.port = front.getsockname()[1]
        self.engine.listen(front.detach(), 1)
        self.listening = [socket.socket(fileno=os.dup(each)) for each in lines.backends]
        self.events = select.poll()
        self.events.register(self.engine.epoll_fd, select.POLLIN)
        self.client: socket.socket | None = None
        self.backends: list[socket.socket] = []

    def run(self, times: int) -> None:
        for _ in range(times):
            self.exchange()
            if self.lines.new:
                self.client.close()
                self.client = None
                self.drain()

    def exchange(self) -> None:
        if self.client is None:
            self.client = socket.create_connection(("127.0.0.1", self.port))
        self.client.sendall(self.lines.request)
        backend = self.asked()
        self.take(backend, b"\r\n\r\n")
        backend.sendall(self.lines.answer)
        self.take(self.client, self.lines.end)

    def asked(self) -> socket.socket:
        """Let the engine run until a backend has something to read: that one."""
        while True:
            one = self.until(*self.listening, *self.backends)
            if one not in self.listening:
                return one
            self.backends.append(one.accept()[0])
            self.backends[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def take(self, connection: socket.socket, end: bytes) -> None:
        """Let the engine run until these bytes came."""
        got = b""
        while not got.endswith(end):
            self.until(connection)
            more = connection.recv(1 << 20)
            assert more, (got, self.lines)
            got += more

    def until(self, *connections: socket.socket) -> socket.socket:
        while not (ready := select.select(connections, [], [], 0)[0]):
            self.drain()
        return ready[0]

    def drain(self) -> None:
        assert self.events.poll(PATIENCE_MS), "the engine waits for something that does not come"
        self.engine.drain()


def times(job: Job) -> int:
    return SELDOM if isinstance(job, Exchange) else OFTEN


def main(jobs: Path) -> None:
    mark = Engine(worker=0, workers=1, counters_fd=_counters.create(1, 64), options=EngineOptions()).tick
    for job in msgspec.json.decode(jobs.read_bytes(), type=list[Job]):
        run = job.begin()
        mark()
        for rounds in STEPS:
            run(rounds * times(job))
            mark()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
