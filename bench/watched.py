"""What callgrind watches: each operation many times, in a process that does nothing else.

Rules: instructions are counted inside `spin` doors and inside Loop.run alone, and every call of Engine.tick ends a
profile (see count.py). So an operation is a function of how often; what it costs to begin is what no time at all costs.
"""
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from gwfast import _match, _pick

from gwfast.engine import counters

from gwfast.http1 import parser

from gwfast.http2 import hpack, hpack_encoder
from gwfast.engine.engine import Engine
from gwfast.serve.options import EngineOptions

OFTEN, SELDOM = 1000, 100      # times in a round, for what is short and for what is long
ROUNDS = 4                     # the first warms up; of the others the cheapest counts: one may see a second's turn
STEPS = (0,) + (1,) * ROUNDS

Client = Literal["http1", "http2", "tls", "http2 over tls"]
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
        assert parser.spin(self.data, response, 1)[0] == len(self.data)
        return lambda times: parser.spin(self.data, response, times)


class Pick(msgspec.Struct, tag=True):
    """A choice among backends with these weights."""

    weights: list[int]

    def begin(self) -> Run:
        return lambda times: _pick.spin(self.weights, times)


class Decode(msgspec.Struct, tag=True):
    """A field block of HTTP/2, behind others that its table is from."""

    blocks: list[bytes]

    def begin(self) -> Run:
        decoder = hpack.Decoder()
        for block in self.blocks:
            assert decoder.spin(block, 1)[0] == 0
        return lambda times: decoder.spin(self.blocks[-1], times)


class Encode(msgspec.Struct, tag=True):
    """The field block of a response with status 200, whose fields were sent before."""

    fields: list[tuple[bytes, bytes]]

    def begin(self) -> Run:
        encoder = hpack_encoder.Encoder()
        return lambda times: encoder.spin(self.fields, times)


class Exchange(msgspec.Struct, tag=True):
    """A request through an engine (see exchanged.py): its sockets end in this process, on a client and backends that know their
    lines."""

    image: str
    backends: list[int]    # descriptors of listening sockets, the image's endpoints
    answers: list[bytes]   # of each of them
    request: bytes
    end: bytes             # what the client gets last
    new: bool = False      # a connection for each request
    client: Client = "http1"
    credentials: str = ""  # a file with what TLS needs
    asks: int = 1          # backends that are asked for each request
    session: bool = False  # the client shows the cookie that it was given first
    loop: bool = False     # an event loop turns with the engine, for filters in Python
    log: bool = False      # each request is a line of JSON, in a file

    def begin(self) -> Run:
        from bench.exchanged import Stage

        return Stage(self).run


Job = Find | Parse | Pick | Decode | Encode | Exchange


def times(job: Job) -> int:
    return SELDOM if isinstance(job, Exchange) else OFTEN


def main(jobs: Path) -> None:
    mark = Engine(worker=0, workers=1, counters_fd=counters.create(1, 64), options=EngineOptions()).tick
    for job in msgspec.json.decode(jobs.read_bytes(), type=list[Job]):
        run = job.begin()
        mark()
        for rounds in STEPS:
            run(rounds * times(job))
            mark()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
