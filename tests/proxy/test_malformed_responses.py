"""Responses that must not reach a client: 502 where nothing was sent yet, an aborted connection where something was.

Whatever a backend does, the client sees one well-formed answer or a connection that ends in the middle of one, and what
the backend sent behind its answer is seen by nobody.
"""
import threading

import pytest
from support.backend import cut, half_close, reset, trickle, wait
from support.wire import Closed, Cut, chunked

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET %s HTTP/1.1\r\nHost: any.example\r\n\r\n"

# Heads that are answered with 502 (limits: bad framing, bad grammar).
HEADS = {
    "nothing": b"",
    "garbage": b"\x16\x03\x01 garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no version": b"200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2 digits": b"HTTP/1.12 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower-case version": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "signed status": b"HTTP/1.1 +200 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "bare LF as line ends": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare LF behind a field": OK + b"X-A: b\nContent-Length: 0\r\n\r\n",
    "folded line": OK + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"X-A : b\r\nContent-Length: 0\r\n\r\n",
    "space before the first field": OK + b" X-A: b\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"X-A\r\nContent-Length: 0\r\n\r\n",
    "empty name": OK + b": b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "CR in a value": OK + b"X-A: b\rc\r\nContent-Length: 0\r\n\r\n",
    "control in a value": OK + b"X-A: b\x01c\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"),
    "unequal lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "list of unequal lengths": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "negative length": OK + b"Content-Length: -1\r\n\r\nhello",
    "hex length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": OK + b"Content-Length:\r\n\r\nhello",
    "length that overflows": OK + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "length with space": OK + b"Content-Length: 1 2\r\n\r\nhello",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + chunked(b"hello"),
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "gzip only": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked(b"hello"),
    "two codings": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"),
    "quoted coding": OK + b'Transfer-Encoding: "chunked"\r\n\r\n' + chunked(b"hello"),
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"),
    "a head cut short": OK + b"Content-Le",
    "too many fields": OK + b"X-A: b\r\n" * 201 + b"\r\n",
    "a line too long": OK + b"X-A: " + b"a" * 17000 + b"\r\n\r\n",
    "a head without end": OK + b"X-A: " + b"a" * 4000 + b"\r\n" + (b"X-B: " + b"b" * 4000 + b"\r\n") * 10,
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "too many 1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + OK + b"Content-Length: 0\r\n\r\n",
    "1xx and then garbage": b"HTTP/1.1 103 Early Hints\r\n\r\ngarbage\r\n\r\n",
}

# Bodies that go wrong behind a good head: the client's connection ends without an end of the body.
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
BODIES = {
    "length cut": OK + b"Content-Length: 10\r\n\r\nhello",
    "chunked cut": CHUNKED,
    "chunked cut in a chunk": CHUNKED + b"5\r\nhe",
    "chunked cut before the last CRLF": CHUNKED + b"0\r\n",
    "bad size": CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n",
    "signed size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "0x size": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "overflow": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "bare LF in a chunk line": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "missing CRLF": CHUNKED + b"5\r\nhello0\r\n\r\n",
    "bad trailer": CHUNKED + b"0\r\nX-A : b\r\n\r\n",
}

# A whole answer and more: the answer arrives, the rest does not, and the connection to the backend is not used again.
EXTRA = {
    "bytes behind a length": OK + b"Content-Length: 5\r\n\r\nhelloEXTRA",
    "bytes behind the last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello") + b"EXTRA",
    "a second response": OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 5\r\n\r\nEXTRA",
    "a body on 204": b"HTTP/1.1 204 No Content\r\n\r\nEXTRA",
    "a length on 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nEXTRA",
    "a body on 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nEXTRA",
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", HEADS)
def test_bad_head_is_502(proxy, case: str, whole: bool) -> None:
    if not whole and len(HEADS[case]) > 1000:
        whole = True
    gateway, backend = proxy
    backend.on("/bad", HEADS[case] if whole else trickle_all(HEADS[case]))
    stream = gateway.connect()
    stream.send(GET % b"/bad")
    response = stream.response()
    assert response.status == 502
    assert all(i.status == 103 for i in response.interim) and len(response.interim) <= 16
    assert not response.fields.get("X-A")
    if response.fields.get("Connection") != "close":
        stream.send(GET % b"/next")
        assert stream.response().status == 200
    stream.close()


def trickle_all(data: bytes):
    """Byte by byte; a gateway that hangs up in between is right."""
    def step(stream) -> None:
        try:
            trickle(data)(stream)
        except OSError:
            pass
    return step


@pytest.mark.parametrize("end", [cut, half_close, reset], ids=["cut", "half-close", "reset"])
@pytest.mark.parametrize("case", BODIES)
def test_bad_body_is_no_end(proxy, case: str, end) -> None:
    gateway, backend = proxy
    backend.on("/bad", BODIES[case], end)
    stream = gateway.connect()
    stream.send(GET % b"/bad")
    with pytest.raises((Cut, ConnectionResetError, Wrong)):
        response = stream.response()
        raise Wrong if response.status == 502 else AssertionError(response)
    stream.close()


class Wrong(Exception):
    """A 502: the gateway had not sent the head yet when it saw that the body is bad."""


@pytest.mark.parametrize("case", EXTRA)
def test_extra_bytes_are_seen_by_nobody(proxy, case: str) -> None:
    gateway, backend = proxy
    backend.on("/extra", EXTRA[case], close=False)
    stream = gateway.connect()
    for n in range(3):
        before = backend.connections
        stream.send(GET % b"/extra")
        response = stream.response()
        assert response.status in (200, 204, 304)
        assert response.body in (b"hello", b"")
        stream.send(GET % b"/next")
        assert b'"/next"' in stream.response().body
        assert backend.connections > before or n == 0, "the connection with the extra bytes is not used again"
    assert not stream.buffer
    stream.close()


def test_body_on_head_is_dropped(proxy) -> None:
    gateway, backend = proxy
    backend.on("/extra", OK + b"Content-Length: 5\r\n\r\nEXTRA", close=False)
    stream = gateway.connect()
    for _ in range(2):
        stream.send(b"HEAD /extra HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.response("HEAD").status == 200
        stream.send(GET % b"/next")
        assert b'"/next"' in stream.response().body
    stream.close()


def test_chunk_extensions_of_responses_are_dropped(proxy) -> None:
    gateway, backend = proxy
    backend.on("/ext", OK + b"Transfer-Encoding: chunked\r\n\r\n5;secret=1\r\nhello\r\n0\r\n\r\n", close=False)
    stream = gateway.connect()
    stream.send(GET % b"/ext")
    while b"0\r\n\r\n" not in stream.buffer:
        assert stream.fill()
    assert b"secret" not in stream.buffer
    stream.close()


def test_reset_before_an_answer_is_502(proxy) -> None:
    """Of a POST: it must not be sent twice."""
    gateway, backend = proxy
    backend.on("/reset", reset)
    stream = gateway.connect()
    stream.send(b"POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert stream.response().status == 502
    assert len(backend.seen("/reset")) == 1
    stream.close()


def test_client_that_leaves_takes_its_backend_along(proxy) -> None:
    """A client that resets in the middle of a response: the backend's connection ends, nobody gets the rest."""
    gateway, backend = proxy
    gone, go_on = threading.Event(), threading.Event()

    def answer(stream, request) -> None:
        stream.send(OK + b"Content-Length: 100000000\r\n\r\n" + b"x" * 100_000)
        go_on.wait(10)
        try:
            for _ in range(10_000):
                stream.send(b"x" * 10_000)
        except OSError:
            gone.set()
            raise
    backend.handlers["/leave"] = answer
    stream = gateway.connect()
    stream.send(GET % b"/leave")
    assert stream.fill()
    stream.reset()
    go_on.set()
    assert gone.wait(10)


def test_client_that_leaves_before_the_answer(proxy) -> None:
    gateway, backend = proxy
    arrived, go_on = threading.Event(), threading.Event()

    def answer(stream, request) -> None:
        arrived.set()
        wait(go_on)(stream)
        stream.send(OK + b"Content-Length: 0\r\n\r\n")
    backend.handlers["/leave"] = answer
    stream = gateway.connect()
    stream.send(GET % b"/leave")
    assert arrived.wait(10)
    stream.reset()
    go_on.set()
    assert gateway.get("/next").status == 200


def test_closed_is_not_an_answer(proxy) -> None:
    """The client's own check: a connection that ends between answers is seen as that."""
    gateway, _ = proxy
    stream = gateway.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    stream.response()
    with pytest.raises(Closed):
        stream.response()
    stream.close()
