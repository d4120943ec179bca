"""Response heads: framing that only one reading has, and everything else refused."""
import pytest
from replay import check_response

BAD = -7
GET, HEAD, POST = 1, 2, 3
NONE, LENGTH, CHUNKED, CLOSE, TUNNEL = 0, 1, 2, 3, 4
HOP = 1


def answer(status: str = "200 OK", *fields: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", *fields, "", ""]).encode("latin-1")


SERVED = {
    "length": (answer("200 OK", "Content-Length: 5"), {"status": 200, "reason": b"OK", "framing": LENGTH, "minor": 1,
                                                       "content_length": 5, "keep_alive": 1, "upgrade": 0}),
    "length 0": (answer("404 Not Found", "Content-Length: 0"), {"framing": LENGTH, "keep_alive": 1}),
    "chunked": (answer("200 OK", "transfer-encoding: Chunked"),
                {"framing": CHUNKED, "keep_alive": 1, "flags": {b"transfer-encoding": HOP}}),
    "until close": (answer(), {"framing": CLOSE, "keep_alive": 0}),
    "empty reason": (answer("200 "), {"reason": b"", "status": 200}),
    "no reason": (answer("200"), {"reason": b"", "status": 200}),
    "reason with obs-text": (answer("200 \xe4 \t!"), {"reason": b"\xe4 \t!"}),
    "value with obs-text": (answer("200 OK", "X: \xe4"), {"status": 200}),
    "unknown status": (answer("599 X", "Content-Length: 1"), {"status": 599, "framing": LENGTH}),
    "close": (answer("200 OK", "Content-Length: 1", "Connection: close"), {"keep_alive": 0}),
    "http/1.0": (answer("200 OK", "Content-Length: 1", version="HTTP/1.0"), {"keep_alive": 0, "minor": 0}),
    "http/1.0 keep-alive": (answer("200 OK", "Content-Length: 1", "Connection: keep-alive", version="HTTP/1.0"),
                            {"keep_alive": 1}),
    "named by connection": (answer("200 OK", "X-A: 1", "Connection: x-a", "Content-Length: 1"),
                            {"flags": {b"x-a": HOP, b"connection": HOP}}),
    "100": (answer("100 Continue"), {"framing": NONE, "keep_alive": 1}),
    "103": (answer("103 Early Hints", "Link: a"), {"framing": NONE}),
    "101": (answer("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"),
            {"framing": TUNNEL, "upgrade": 1}),
    "204": (answer("204 No Content"), {"framing": NONE, "keep_alive": 1}),
    "204 with length": (answer("204 No Content", "Content-Length: 5"),
                        {"framing": NONE, "keep_alive": 0, "content_length": 0, "flags": {b"content-length": HOP}}),
    "204 with length 0": (answer("204 No Content", "Content-Length: 0"),
                          {"framing": NONE, "keep_alive": 1, "flags": {b"content-length": HOP}}),
    "204 with chunks": (answer("204 No Content", "Transfer-Encoding: chunked"), {"framing": NONE, "keep_alive": 0}),
    "304 with length": (answer("304 Not Modified", "Content-Length: 5"),
                        {"framing": NONE, "keep_alive": 1, "content_length": 5, "flags": {}}),
    "205 has a body": (answer("205 Reset Content", "Content-Length: 0"), {"framing": LENGTH}),
}

REFUSED = {
    "nothing like it": b"\x00",
    "request": b"GET / HTTP/1.1\r\n",
    "empty line before": b"\r\nHTTP/1.1 200 OK\r\n",
    "http/0.9": b"<html>",
    "http/2": b"HTTP/2 200\r\n",
    "http/2.0": b"HTTP/2.0 200 OK\r\n",
    "http/1.2": b"HTTP/1.2 200 OK\r\n",
    "small letters": b"http/1.1 200 OK\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n",
    "tab": b"HTTP/1.1\t200 OK\r\n",
    "no status": b"HTTP/1.1 OK\r\n",
    "status 099": b"HTTP/1.1 099 X\r\n",
    "status 600": b"HTTP/1.1 600 X\r\n",
    "short status": b"HTTP/1.1 20 OK\r\n",
    "long status": b"HTTP/1.1 2000 OK\r\n",
    "status with sign": b"HTTP/1.1 +20 OK\r\n",
    "tab behind status": b"HTTP/1.1 200\tOK\r\n",
    "bare LF": b"HTTP/1.1 200 OK\n",
    "bare CR": b"HTTP/1.1 200 OK\rX",
    "NUL in reason": b"HTTP/1.1 200 O\x00K\r\n",
    "obs-fold": answer("200 OK", "X: a", " b")[:-2],
    "space before colon": answer("200 OK", "X : a")[:-2],
    "no colon": answer("200 OK", "Xa")[:-2],
    "bare LF in fields": b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 5\r\n",
    "bare LF at the end": b"HTTP/1.1 200 OK\r\n\n",
    "NUL in value": answer("200 OK", "X: \x00")[:-2],
    "length and coding": answer("200 OK", "Content-Length: 1", "Transfer-Encoding: chunked")[:-2],
    "coding and length": answer("200 OK", "Transfer-Encoding: chunked", "Content-Length: 1")[:-2],
    "lengths": answer("200 OK", "Content-Length: 1", "Content-Length: 2")[:-2],
    "equal lengths": answer("200 OK", "Content-Length: 1", "Content-Length: 1")[:-2],
    "length list": answer("200 OK", "Content-Length: 1, 1")[:-2],
    "length with sign": answer("200 OK", "Content-Length: +1")[:-2],
    "length, empty": answer("200 OK", "Content-Length:")[:-2],
    "length, too much": answer("200 OK", "Content-Length: 9223372036854775808")[:-2],
    "coding gzip": answer("200 OK", "Transfer-Encoding: gzip, chunked")[:-2],
    "coding identity": answer("200 OK", "Transfer-Encoding: identity")[:-2],
    "codings": answer("200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")[:-2],
    "coding in http/1.0": answer("200 OK", "Transfer-Encoding: chunked", version="HTTP/1.0")[:-2],
    "bad length of 304": answer("304 Not Modified", "Content-Length: x")[:-2],
    "connection names length": answer("200 OK", "Connection: content-length")[:-2],
    "101 without upgrade": answer("101 Switching Protocols"),
    "101 without connection": answer("101 Switching Protocols", "Upgrade: websocket"),
    "101 to h2c": answer("101 Switching Protocols", "Connection: upgrade", "Upgrade: h2c"),
    "one field too many": answer("200 OK", *(f"f{i}: 1" for i in range(200)))[:-2] + b"f",
}


@pytest.mark.parametrize("data, expected", SERVED.values(), ids=SERVED)
def test_served(guard, data, expected):
    check_response(guard, data, expected)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(guard, data):
    check_response(guard, data, BAD)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1", b"HTTP/1.1 20", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r",
                                  answer()[:-1]])
def test_partial(guard, data):
    check_response(guard, data, 0)


@pytest.mark.parametrize("fields", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]], ids=str)
def test_head_has_no_body(guard, fields):
    check_response(guard, answer("200 OK", *fields), {"framing": NONE, "keep_alive": 1}, method=HEAD)


@pytest.mark.parametrize("options", [{"line": 20}, {"head": 40}, {"count": 1}], ids=str)
def test_limits(guard, options):
    check_response(guard, answer("200 OK", "Content-Length: 12345", "X: y"), BAD, **options)
