"""No memory: one buffer after the other cannot be had. A message arrives whole, or it shows that it did not; the next is served.

Only debug builds can be told to have none (loop.fail_buffer): ci/debug and ci/sanitize run this.
"""
import asyncio
import contextlib
import functools
import socket
import threading

import h2.events
import pytest
from support.http2_client import Http2
from support.scripted import Running, head, one_rule, rest

from gwfast.plan import ir
from gwfast.serve.extensions import Host

BODY = b"".join(b"%07d\n" % n for n in range(4096))      # 32 KiB, every piece of it another
MOST = 200     # buffers that an exchange takes, at most: a test that has not seen the end by then has gone wrong
RETRY = ir.Retry(codes=(503,), attempts=2, backoff=0.001)


class Served:
    """A backend of HTTP/1.1 that answers what it was sent with the same, and notes bodies that came to their end."""

    def __init__(self, answer: bytes = b""):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.answer = answer
        self.whole: list[bytes] = []
        self.threads: list[threading.Thread] = []
        self.closing = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                connection.settimeout(10)
                asked = head(connection).lower()
                body = chunked(connection) if b"transfer-encoding" in asked else exactly(connection, length(asked))
                self.whole.append(body)
                answer = self.answer or b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                connection.sendall(answer)

    def close(self) -> None:
        self.socket.close()


def length(asked: bytes) -> int:
    return int(asked.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


def exactly(connection: socket.socket, n: int) -> bytes:
    got = b""
    while len(got) < n:
        data = connection.recv(n - len(got))
        if not data:
            raise EOFError
        got += data
    return got


def chunked(connection: socket.socket) -> bytes:
    """A body in chunks and its trailers; one that is cut is an EOFError."""
    body = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += exactly(connection, 1)
        if not (n := int(line, 16)):
            break
        body += exactly(connection, n)
        exactly(connection, 2)
    tail = b"\r\n"
    while not tail.endswith(b"\r\n\r\n"):
        tail += exactly(connection, 1)
    return body + (tail[2:-2] if len(tail) > 4 else b"")


@pytest.fixture
def served():
    made = Served()
    yield made
    made.close()


def passes(engine: Running) -> None:
    """Let the engine take what was sent to it."""
    with engine.lock:
        engine.engine.drain()


def plain(engine: Running, framing: str, pause: bool) -> tuple[int, bytes] | None:
    """Ask over HTTP/1.1: status and body of an answer that came to its end, None where it shows that it did not."""
    with socket.create_connection(("127.0.0.1", engine.port)) as client, contextlib.suppress(OSError):
        client.settimeout(10)
        if framing == "length":
            parts = [b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY[:10_000], BODY[10_000:]]
        else:
            parts = [b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
                     b"%x\r\n%s\r\n" % (10_000, BODY[:10_000]), b"%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(BODY) - 10_000, BODY[10_000:])]
        with contextlib.suppress(OSError):
            for part in parts:
                client.sendall(part)
                if pause:
                    passes(engine)
        got = rest(client)
        first, _, body = got.partition(b"\r\n\r\n")
        if not body and not first.startswith(b"HTTP/1.1 "):
            return None
        if got.endswith(b"<RST>") or len(body) != length(first.lower() + b"\r\n"):
            return None
        return int(first.split()[1]), body
    return None


def multiplexed(engine: Running, pause: bool) -> tuple[int, bytes] | None:
    """The same over HTTP/2, with trailers."""
    with socket.create_connection(("127.0.0.1", engine.port)) as connection:
        connection.settimeout(10)
        client = Http2(connection)
        client.ask("/x", "POST", end=False)
        for at in range(0, len(BODY), 8192):
            client.protocol.send_data(1, BODY[at:at + 8192])
            client.flush()
            if pause:
                passes(engine)
        client.protocol.send_headers(1, [("x-sum", "1")], end_stream=True)
        client.flush()
        while not client.ended and not any(isinstance(each, h2.events.StreamEnded | h2.events.StreamReset) for each in client.events):
            client.turn()
        if not any(isinstance(each, h2.events.StreamEnded) for each in client.events):
            return None
        status = next(int(dict(each.headers)[b":status"]) for each in client.events if isinstance(each, h2.events.ResponseReceived))
        return status, b"".join(each.data for each in client.events if isinstance(each, h2.events.DataReceived))


def scarce(engine: Running, ask, served_bodies, right) -> int:
    """Ask again and again, with another buffer missing each time, until none is missed; return how many were."""
    for n in range(MOST):
        engine.engine.fail_buffer(n)
        got = ask()
        left = engine.engine.fail_buffer(-1)
        assert got is None or got[0] >= 400 or got == right, f"buffer {n}: {got[0]}, {len(got[1])} bytes"
        assert all(body in (BODY, BODY + b"x-sum: 1\r\n", BODY + b"X-Sum: 1\r\n") for body in served_bodies), f"buffer {n}: a body is not what was sent"
        if left >= 0:
            assert got == right        # nothing was missing
            return n
    raise AssertionError("there is no end to the buffers")


def here(engine: Running) -> None:
    if engine.engine.fail_buffer(-1) == -2:
        pytest.skip("only a debug build can be told to have no memory")


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("rule", [{}, {"retry": RETRY}], ids=["plain", "retry"])
def test_http1(start, served, framing, pause, rule):
    engine = start([("127.0.0.1", served.port)], functools.partial(one_rule, **rule))
    here(engine)
    body = BODY + (b"" if framing == "length" else b"X-Sum: 1\r\n")
    assert scarce(engine, lambda: plain(engine, framing, pause), served.whole, (200, body)) > 0
    assert plain(engine, framing, pause) == (200, body)


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("rule", [{}, {"retry": RETRY}], ids=["plain", "retry"])
def test_http2_client(start, served, pause, rule):
    engine = start([("127.0.0.1", served.port)], functools.partial(one_rule, **rule))
    here(engine)
    right = (200, BODY + b"x-sum: 1\r\n")
    assert scarce(engine, lambda: multiplexed(engine, pause), served.whole, right) > 0
    assert multiplexed(engine, pause) == right


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_http2_backend(start_http2, framing, pause):
    whole: list[bytes] = []

    async def echo(request):
        await request.ended.wait()
        if not request.reset:
            whole.append(request.body)
            await request.answer(request.body)

    engine, _ = start_http2(echo)
    here(engine)
    assert scarce(engine, lambda: plain(engine, framing, pause), whole, (200, BODY)) > 0
    assert plain(engine, framing, pause) == (200, BODY)


FILTERS = '''
from gwfast.filters import Filter, Response

class Rewrites(Filter):
    """Everything is written anew: head and body of the request, the head of the response; and its body is looked at."""
    async def on_request(self, request):
        request.replace_body(await request.body())
        request.path = "/other"
        request.headers["x-many"] = "1" * 5000

    async def on_response(self, request, response):
        response.headers["x-many"] = "2" * 5000
        response.observe(lambda piece, last: None)

class Answers(Filter):
    async def on_request(self, request):
        return Response(200, [("x-many", "3" * 5000)], await request.body())
'''


class Filtering(Running):
    """One whose event loop runs filters in Python, too."""

    def drive(self) -> None:
        loop = self.loop = asyncio.new_event_loop()
        host = Host(loop, lambda text: None, self.engine.counters)
        with self.lock:
            self.engine.extend(host)
            host.use(self.engine.extensions())
        loop.add_reader(self.engine.epoll_fd, self.turn)
        loop.call_soon(self.tick)
        loop.run_forever()
        loop.remove_reader(self.engine.epoll_fd)
        loop.close()

    def turn(self) -> None:
        with self.lock:
            self.engine.drain()

    def tick(self) -> None:
        with self.lock:
            self.engine.tick()
        self.loop.stop() if self.stopping else self.loop.call_later(0.01, self.tick)


@pytest.fixture
def filtering(served, tmp_path):
    """Begin with a filter of this name before the backend."""
    running: list[Filtering] = []
    (tmp_path / "filters.py").write_text(FILTERS)

    def begin(name: str) -> Filtering:
        filters = (ir.ExtensionFilter(name=f"default/{name.lower()}", file=str(tmp_path / "filters.py"), class_name=name, timeout=60.0,
                                      id=1),)
        running.append(Filtering(functools.partial(one_rule, filters=filters), [("127.0.0.1", served.port)]))
        return running[-1]

    yield begin
    for each in running:
        each.close()


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("name", ["Rewrites", "Answers"])
def test_filters_in_python(filtering, served, name, framing):
    engine = filtering(name)
    assert plain(engine, framing, False) == (200, BODY)       # trailers go with the body that a filter replaces
    here(engine)
    assert scarce(engine, lambda: plain(engine, framing, False), served.whole, (200, BODY)) > 0
    assert plain(engine, framing, False) == (200, BODY)
