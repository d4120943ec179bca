"""The ordinary server under any bytes at any split: no exception, and an answer or an end to each."""
import asyncio

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gwfast.observe.h11_server import Answer, Server

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nzzz",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nxxx",
]


class Transport:
    """The byte edge: what is written is kept, closing is noted."""

    def __init__(self):
        self.written = b""
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.written += data

    def close(self):
        self.closed = True

    abort = close

    def get_extra_info(self, name):
        return None

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    resume_reading = pause_reading


@st.composite
def streams(draw):
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=3)):
        data[at] = value
    at = draw(st.integers(0, len(data)))
    return bytes(data[:at]), bytes(data[at:])


@given(streams())
def test_no_bytes_raise(parts):
    bugs = []

    async def answer(request):
        return Answer(200, request.target.encode("latin-1"))

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
        connection, transport = Server(answer)(), Transport()
        connection.connection_made(transport)
        for part in parts:
            if part and not transport.closed:
                connection.data_received(part)
            while connection._task is not None and not transport.closed:
                await asyncio.sleep(0)
        if not transport.closed:
            connection.eof_received()
        await asyncio.sleep(0)
        assert transport.closed or connection._task is not None
        connection.connection_lost(None)
    uvloop.run(main())
    assert not bugs
