"""Requests that an edge proxy must refuse: each gets its status, the connection closes, nothing reaches the backend.

The rules are RFC 9112's and RFC 9110's; the section stands beside each group.
"""
import pytest
from support.wire import chunked

H = "Host: a.example\r\n"


def get(*lines: str, host: str = H) -> str:
    return "GET /bad HTTP/1.1\r\n" + host + "".join(f"{line}\r\n" for line in lines) + "\r\n"


def post(*lines: str, body: str = "") -> str:
    return "POST /bad HTTP/1.1\r\n" + H + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body


CHUNKED = "Transfer-Encoding: chunked"
BODY = chunked(b"hello").decode()

REFUSED = {
    # 9112 6.1, 6.3: framing that two readers could take differently
    "length and chunked": (post("Content-Length: 5", CHUNKED, body=BODY), 400),
    "chunked and length": (post(CHUNKED, "Content-Length: 5", body=BODY), 400),
    "unequal lengths": (post("Content-Length: 5", "Content-Length: 6", body="hello!"), 400),
    "equal lengths": (post("Content-Length: 5", "Content-Length: 5", body="hello"), 400),
    "a list of lengths": (post("Content-Length: 5, 5", body="hello"), 400),
    "signed length": (post("Content-Length: +5", body="hello"), 400),
    "negative length": (post("Content-Length: -5", body="hello"), 400),
    "hex length": (post("Content-Length: 0x5", body="hello"), 400),
    "empty length": (post("Content-Length:", body="hello"), 400),
    "length with space": (post("Content-Length: 1 2", body="hello"), 400),
    "length that overflows": (post("Content-Length: 18446744073709551621", body="hello"), 400),
    "length of many digits": (post("Content-Length: " + "0" * 30 + "5", body="hello"), 400),
    "xchunked": (post("Transfer-Encoding: xchunked", body=BODY), 400),
    "identity": (post("Transfer-Encoding: identity", body=BODY), 400),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=BODY), 400),
    "chunked twice": (post("Transfer-Encoding: chunked, chunked", body=BODY), 400),
    "two codings": (post(CHUNKED, CHUNKED, body=BODY), 400),
    "quoted": (post('Transfer-Encoding: "chunked"', body=BODY), 400),
    "vertical tab": (post("Transfer-Encoding: \x0bchunked", body=BODY), 400),
    "form feed": (post("Transfer-Encoding: chunked\x0c", body=BODY), 400),
    "empty coding": (post("Transfer-Encoding:", body=BODY), 400),
    "leading comma": (post("Transfer-Encoding: ,chunked", body=BODY), 400),
    "chunked with a parameter": (post("Transfer-Encoding: chunked;a=b", body=BODY), 400),
    "chunked in HTTP/1.0": ("POST /bad HTTP/1.0\r\n" + H + CHUNKED + "\r\n\r\n" + BODY, 400),
    # 9112 5: field lines
    "folded line": (get("X-A: b", " c"), 400),
    "folded with a tab": (get("X-A: b", "\tc"), 400),
    "white space before the first field": ("GET /bad HTTP/1.1\r\n " + H + "\r\n", 400),
    "space before the colon": (get("X-A : b"), 400),
    "tab before the colon": (get("X-A\t: b"), 400),
    "space in a name": (get("X A: b"), 400),
    "empty name": (get(": b"), 400),
    "no colon": (get("X-A"), 400),
    "slash in a name": (get("X/A: b"), 400),
    "8-bit name": (get("X-\xe9: b"), 400),
    "space before Content-Length's colon": (post("Content-Length : 5", body="hello"), 400),
    "bare CR in a value": (get("X-A: b\rc"), 400),
    "bare LF as a line end": (get().replace("\r\n", "\n"), 400),
    "bare LF behind one field": (f"GET /bad HTTP/1.1\r\n{H}X-A: b\nX-B: c\r\n\r\n", 400),
    "bare CR as a line end": (f"GET /bad HTTP/1.1\r{H}\r\n", 400),
    "NUL in a value": (get("X-A: b\0c"), 400),
    "control in a value": (get("X-A: b\x01c"), 400),
    "DEL in a value": (get("X-A: b\x7fc"), 400),
    "NUL in a name": (get("X-\0A: b"), 400),
    # 9112 3.2, 9110 7.2: Host
    "no Host": (get(host=""), 400),
    "two Hosts": (get(host=H + "Host: b.example\r\n"), 400),
    "the same Host twice": (get(host=H + H), 400),
    "a list of Hosts": (get(host="Host: a.example, b.example\r\n"), 400),
    "Host with userinfo": (get(host="Host: me@a.example\r\n"), 400),
    "Host with a path": (get(host="Host: a.example/x\r\n"), 400),
    "Host with a space": (get(host="Host: a b\r\n"), 400),
    "Host with a bad port": (get(host="Host: a.example:8x\r\n"), 400),
    "empty Host": (get(host="Host:\r\n"), 400),
    # 9112 3: request lines
    "two spaces": ("GET  /bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "a tab": ("GET\t/bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "space behind the version": ("GET /bad HTTP/1.1 \r\n" + H + "\r\n", 400),
    "space in the target": ("GET /bad x HTTP/1.1\r\n" + H + "\r\n", 400),
    "a relative target": ("GET bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "8-bit target": ("GET /b\xe9d HTTP/1.1\r\n" + H + "\r\n", 400),
    "control in the target": ("GET /b\x01d HTTP/1.1\r\n" + H + "\r\n", 400),
    "fragment": ("GET /bad#x HTTP/1.1\r\n" + H + "\r\n", 400),
    "'*' for GET": ("GET * HTTP/1.1\r\n" + H + "\r\n", 400),
    "absolute form that differs from Host": ("GET http://b.example/bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "absolute form with userinfo": ("GET http://me@a.example/bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "method that is no token": ("G(T /bad HTTP/1.1\r\n" + H + "\r\n", 400),
    "bad escape": ("GET /%zz HTTP/1.1\r\n" + H + "\r\n", 400),
    "escaped NUL": ("GET /a%00b HTTP/1.1\r\n" + H + "\r\n", 400),
    "backslash": ("GET /a\\b HTTP/1.1\r\n" + H + "\r\n", 400),
    "escaped backslash": ("GET /a%5cb HTTP/1.1\r\n" + H + "\r\n", 400),
    "CONNECT": ("CONNECT a.example:80 HTTP/1.1\r\n" + H + "\r\n", 405),
    "TRACE": ("TRACE /bad HTTP/1.1\r\n" + H + "\r\n", 405),
    "HTTP/0.9": ("GET /bad\r\n", (400, 505)),
    "HTTP/2.0 in text": ("GET /bad HTTP/2.0\r\n" + H + "\r\n", (400, 505)),
    "HTTP/9.9": ("GET /bad HTTP/9.9\r\n" + H + "\r\n", (400, 505)),
    "HTTP/1.10": ("GET /bad HTTP/1.10\r\n" + H + "\r\n", (400, 505)),
    "http/1.1": ("GET /bad http/1.1\r\n" + H + "\r\n", 400),
    "not HTTP at all": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # 9110 10.1.1, 7.6.1
    "unknown expectation": (post("Content-Length: 5", "Expect: the-unexpected", body="hello"), 417),
    "Connection names Host": (get("Connection: Host"), 400),
    "Connection names Content-Length": (post("Content-Length: 5", "Connection: content-length", body="hello"), 400),
    "Connection names Transfer-Encoding": (post(CHUNKED, "Connection: transfer-encoding", body=BODY), 400),
    "Connection names Authorization": (get("Authorization: x", "Connection: Authorization"), 400),
    "Connection names Cookie": (get("Cookie: x=y", "Connection: close, Cookie"), 400),
    "Connection names X-Forwarded-For": (get("Connection: x-forwarded-for"), 400),
    # limits
    "request line too long": ("GET /" + "a" * 17000 + " HTTP/1.1\r\n" + H + "\r\n", 414),
    "field line too long": (get("X-A: " + "a" * 17000), 431),
    "too many fields": (get(*["X-A: b"] * 200), 431),
    "head too large": (get(*["X-A: " + "a" * 4000] * 9), 431),
    "request line without end": ("GET /" + "a" * 40000, 414),
    "field name without end": ("GET /bad HTTP/1.1\r\n" + H + "a" * 40000, 431),
}

# 9112 7.1: these are found in a body, when the head may already be on its way; the backend must then see a body that
# does not end.
CHUNKS = {
    "signed size": "+5\r\nhello\r\n0\r\n\r\n",
    "0x": "0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": "0_5\r\nhello\r\n0\r\n\r\n",
    "leading space": " 5\r\nhello\r\n0\r\n\r\n",
    "space behind the size": "5 \r\nhello\r\n0\r\n\r\n",
    "too many digits": "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "overflow": "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "largest": "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "not hex": "g\r\nhello\r\n0\r\n\r\n",
    "empty size": "\r\nhello\r\n0\r\n\r\n",
    "bare LF behind the size": "5\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "bare LF in an extension": "5;a\nhello\r\n0\r\n\r\n",
    "NUL in an extension": "5;a\0b\r\nhello\r\n0\r\n\r\n",
    "long extensions": "5;" + "a" * 5000 + "\r\nhello\r\n0\r\n\r\n",
    "no CRLF behind the data": "5\r\nhello0\r\n\r\n",
    "bare LF behind the data": "5\r\nhello\n0\r\n\r\n",
    "data longer than its size": "5\r\nhello!\r\n0\r\n\r\n",
    "negative": "-5\r\nhello\r\n0\r\n\r\n",
    "trailer: Content-Length": "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer: Transfer-Encoding": "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer: Host": "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
    "trailer: Authorization": "5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n",
    "trailer without colon": "5\r\nhello\r\n0\r\nX-A\r\n\r\n",
    "trailer folded": "5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "trailers too large": "5\r\nhello\r\n0\r\n" + "X-A: " + "a" * 17_000 + "\r\n\r\n",
}


def answer_of(got: bytes) -> int:
    """Status of the one answer in these bytes; AssertionError for more than one."""
    assert got.startswith(b"HTTP/1.1 "), got
    assert got.count(b"HTTP/1.1 ") == 1, got
    assert b"\r\nconnection: close\r\n" in got.lower(), got
    return int(got[9:12])


@pytest.mark.parametrize("case", REFUSED)
def test_refused(proxy, case: str) -> None:
    gateway, backend = proxy
    data, status = REFUSED[case]
    got = gateway.send(data.encode("latin-1") + b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n" * ("without end" not in case))
    assert answer_of(got) in (status if isinstance(status, tuple) else (status,))
    assert not backend.requests


@pytest.mark.parametrize("case", CHUNKS)
def test_bad_body(proxy, case: str) -> None:
    gateway, backend = proxy
    data = post(CHUNKED, body=CHUNKS[case]) + get(host=H).replace("/bad", "/smuggled")
    got = gateway.send(data.encode("latin-1"))
    assert answer_of(got) == (431 if case == "trailers too large" else 400)
    assert not backend.requests, "no request was complete"


def test_a_request_cut_short_is_no_request(proxy) -> None:
    gateway, backend = proxy
    for data in (b"GET /cut HTTP/1.1\r\nHost: a", b"GET /cut HTTP/1.1\r\nHost: a\r\n", b"G", b""):
        stream = gateway.connect()
        stream.send(data)
        stream.half_close()
        got = stream.rest()
        assert not got or answer_of(got) == 400
        stream.close()
    assert not backend.requests


@pytest.mark.parametrize("framing", ["Content-Length: 10", CHUNKED], ids=["length", "chunked"])
def test_a_body_cut_short_is_not_ended_for_the_backend(proxy, framing: str) -> None:
    gateway, backend = proxy
    stream = gateway.connect()
    stream.send(post(framing, body="5\r\nhello\r\n" if framing == CHUNKED else "hello").encode())
    stream.half_close()
    stream.rest()
    stream.close()
    assert not backend.requests
