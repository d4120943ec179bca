"""Requests of any shape, with mirrors that do whatever they like: the client never sees anything of them, and each mirror that behaves
gets exactly the request that the backend gets.
"""
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, route, rule, service, until, write
from support.wire import Closed, Fields, Message, Stream

sys.path.append(str(Path(__file__).parents[1] / "engine"))
from support.http2_backend import Http2Backend  # noqa: E402
from support.http2_client import Http2  # noqa: E402
from support.waiting import elapse  # noqa: E402

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
MIRRORS = ("one", "two", "three")
over = threading.Event()           # the example is, so that nobody needs to hang any longer


# ---- what mirrors do: with a connection, before the body or behind it -------------------------------------------------

def leave(stream: Stream) -> None:
    raise Closed


def answer_and_leave(stream: Stream) -> None:
    stream.send(FINE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    raise Closed


def sending(data: bytes) -> Callable[[Stream], None]:
    return lambda stream: stream.send(data)


def reset(stream: Stream) -> None:
    stream.reset()
    raise Closed


def read_a_little(stream: Stream) -> None:
    stream.sock.settimeout(0.1)    # there may be no body
    stream.exactly(1)
    stream.reset()
    raise Closed


def hang(stream: Stream) -> None:
    over.wait(10)
    raise Closed


# Those that behave read the whole request, and keep the connection or say that they do not
HEALTHY = {
    "length": FINE,
    "chunks": b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\n\r\n",
    "none": b"HTTP/1.1 204 No Content\r\n\r\n",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + FINE,
    "an error": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 3\r\n\r\nno!",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"y" * 300_000,
    "the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    "garbage": b"\0what\r\n\r\n",
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "more than was asked": FINE + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf",
    "nothing": b"",
}
CLOSES = ("the end", "garbage", "a switch", "more than was asked", "cut", "nothing", "answers garbage", "hints for ever")
IDEMPOTENT = ("PUT", "DELETE", "OPTIONS")
# The others do this when they have read the head
WILD = {"leaves": leave, "resets": reset, "hangs": hang, "reads a little": read_a_little, "answers and leaves": answer_and_leave,
        "answers early": sending(FINE), "answers garbage": sending(b"garbage\r\n\r\n"), "hints for ever": sending(b"HTTP/1.1 103 E\r\n\r\n" * 40)}


class Request(NamedTuple):
    method: str
    fields: tuple[tuple[str, str], ...]
    pieces: tuple[bytes, ...]      # of the body, each in a chunk and segments of its own
    chunked: bool
    trailers: tuple[tuple[str, str], ...]
    pause: bool                    # between two of them


BODIES = st.lists(st.one_of(st.binary(min_size=1, max_size=30), st.integers(1, 9000).map(lambda n: random.Random(n).randbytes(n))),
                  max_size=5)
NAMES = st.text("abcxyz-", min_size=1, max_size=8).map(lambda name: "x-m" + name)
FIELDS = st.lists(st.tuples(NAMES, st.text("abc =;,", max_size=20).map(str.strip)), max_size=4).map(tuple)
REQUESTS = st.builds(Request, st.sampled_from(("POST", "PUT", "PATCH", "DELETE", "OPTIONS")), FIELDS, BODIES.map(tuple), st.booleans(), FIELDS,
                     st.booleans())
WAYS = st.one_of(st.sampled_from([*HEALTHY]), st.sampled_from([*WILD]))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, Backend, dict[str, Backend], Http2Backend]]:
    folder = tmp_path_factory.mktemp("mirrors") / "conf"
    folder.mkdir()
    app, mirrors = Backend("app"), {name: Backend(name) for name in MIRRORS}

    async def keep(request) -> None:
        await request.ended.wait()
        await request.answer(b"y" * 1000, 200 + len(request.body) % 300)
    second = Http2Backend(keep)
    second_service = service("second", mirrors["one"])
    second_service[0]["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/h2c"
    second_service[1]["ports"][0]["port"] = second.port
    filters = [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}} for name in (*MIRRORS, "second")]
    filters.insert(1, {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Set", "value": "1"}]}})
    write(folder, "all.yaml", gateway(free_port()), service("app", app), second_service,
          *(service(name, mirror) for name, mirror in mirrors.items()), route("r", rule("app", filters=filters)))
    running = Gateway(folder, "--access-log", "off")
    yield running, app, mirrors, second
    running.stop()
    second.close()
    for each in (app, *mirrors.values()):
        each.close()
    assert not app.dirty and not second.failures


def behave(mirror: Backend, target: str, way: str) -> None:
    """Let a mirror do this with the next request, whose target this is."""
    def before(stream: Stream, request: Message) -> None:
        if way in WILD:
            WILD[way](stream)

    def handler(stream: Stream, request: Message) -> bool:
        if way in HEALTHY:
            stream.send(HEALTHY[way])
        return way not in CLOSES
    mirror.before_body[target], mirror.handlers[target] = before, handler


def ask(gw: Gateway, target: str, request: Request, second: bool) -> tuple[int, bytes]:
    """Send it, in pieces; status and body of what the client gets."""
    return (ask_http2 if second else ask_http1)(gw, target, request)


def ask_http1(gw: Gateway, target: str, request: Request) -> tuple[int, bytes]:
    stream, size = gw.connect(), sum(map(len, request.pieces))
    framing = "Transfer-Encoding: chunked" if request.chunked else f"Content-Length: {size}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.fields)
    stream.send(f"{request.method} {target} HTTP/1.1\r\nHost: any.example\r\n{lines}{framing}\r\n\r\n".encode())
    for piece in request.pieces:
        stream.send(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
        elapse(0.002 * request.pause)
    if request.chunked:
        stream.send(b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in request.trailers).encode() + b"\r\n")
    answer = stream.response()
    # the connection goes on, and nothing of a mirror is in it
    stream.send(b"GET /again HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
    assert stream.response().status == 200 and stream.at_end()
    return answer.status, answer.body


def ask_http2(gw: Gateway, target: str, request: Request) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", gw.port), 10) as sock:
        client, size = Http2(sock), sum(map(len, request.pieces))
        fields = (*request.fields, *(() if request.chunked else (("content-length", str(size)),)))
        trailers = request.trailers if request.chunked else ()
        stream = client.ask(target, request.method, fields, end=not request.pieces and not trailers)
        for n, piece in enumerate(request.pieces, 1):
            client.protocol.send_data(stream, piece, end_stream=n == len(request.pieces) and not trailers)
            client.flush()
            elapse(0.002 * request.pause)
        if trailers:
            client.protocol.send_headers(stream, list(trailers), end_stream=True)
            client.flush()
        assert client.over(stream) == "ended"
        return int(client.head(stream)[b":status"]), client.body(stream)


def copies(gw: Gateway) -> float:
    """How many are over."""
    return sum(n for name, n in gw.metrics().items() if name.startswith("gwfast_mirror_requests_total"))


def told(request: Message) -> tuple:
    """What a backend or a mirror was told: everything."""
    return request.raw, request.body, request.trailers


@given(request=REQUESTS, second=st.booleans(), ways=st.tuples(WAYS, WAYS, WAYS))
@example(Request("POST", (), (b"a" * 9000,) * 4, False, (), True), False, ("hangs", "resets", "length"))
def test_mirrors_are_never_seen(world, request, second, ways) -> None:
    gw, app, mirrors, h2c = world
    over.clear()
    before = copies(gw)
    target = f"/{time.monotonic_ns()}"
    app.on(target, FINE, close=False)
    for name, way in zip(MIRRORS, ways, strict=True):
        behave(mirrors[name], target, way)
        mirrors[name].on("/again", FINE, close=False)
    body = b"".join(request.pieces)
    try:
        assert ask(gw, target, request, second) == (200, b"fine")
    finally:
        over.set()
    until(lambda: copies(gw) == before + (1 if second else 2) * (len(MIRRORS) + 1))    # those of '/again' too: all are over
    [got] = app.seen(target)
    assert got.body == body and got.trailers == Fields(request.trailers if request.chunked else ()) and got.fields.get("x-set") == "1"
    for name, way in zip(MIRRORS, ways, strict=True):
        if way in HEALTHY:
            seen = [told(each) for each in mirrors[name].seen(target)]
            # one that ends a connection without a word is told again what may be said twice (RFC 9110 9.2.2), three times in all
            often = len(seen) if way == "nothing" and request.method in IDEMPOTENT and len(seen) <= 3 else 1
            assert seen == [told(got)] * often and seen
        assert not mirrors[name].dirty or way in WILD
        mirrors[name].dirty.clear()    # of those that left
    [copy] = [each for each in h2c.requests if each.fields[b":path"] == target.encode()]
    assert copy.body == body and copy.reset is None and copy.fields[b":method"] == request.method.encode()
    assert copy.trailers == {name.encode(): value.encode() for name, value in got.trailers}
