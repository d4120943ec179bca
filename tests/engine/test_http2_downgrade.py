"""What is legal to frame in HTTP/2 and must not become something else in HTTP/1.1: malformed requests (RFC 9113 8) reach no
backend, and those that are served reach it as exactly one request."""
import h11
import hpack
import pytest
from support.http2_client import Http2, raw_frame
from support.scripted import head

PROTOCOL_ERROR = 1
BASE = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


def but(**changes) -> list:
    """The usual pseudo-header fields with some changed or (None) left out."""
    return [(name, changes.get(name[1:], value)) for name, value in BASE if changes.get(name[1:], value) is not None]


def among(*fields) -> list:
    return [*BASE, *fields]


MALFORMED = {
    "no method": but(method=None),
    "no scheme": but(scheme=None),
    "no path": but(path=None),
    "empty path": but(path=""),
    "empty method": but(method=""),
    "method with a space": but(method="GET /x HTTP/1.1"),
    "method with CRLF": but(method="GET / HTTP/1.1\r\nx: y"),
    "another scheme": but(scheme="ftp"),
    "empty scheme": but(scheme=""),
    "no authority and no host": but(authority=None),
    "empty authority": but(authority=""),
    "authority and host differ": among(("host", "b")),
    "authority and host differ in the port": among(("host", "a:80")),
    "two hosts": [*but(authority=None), ("host", "a"), ("host", "a")],
    "empty host": [*but(authority=None), ("host", "")],
    "two methods": [(":method", "GET"), *BASE],
    "two paths": [(":path", "/"), *BASE],
    "two schemes": [(":scheme", "http"), *BASE],
    "two authorities": [(":authority", "a"), *BASE],
    "unknown pseudo-header": [(":x", "y"), *BASE],
    "status in a request": [(":status", "200"), *BASE],
    "pseudo-header behind a field": [*BASE[:3], ("x", "y"), BASE[3]],
    "protocol without CONNECT": [*BASE, (":protocol", "websocket")],
    "uppercase name": among(("X-A", "b")),
    "empty name": among(("", "b")),
    "name with a space": among(("x a", "b")),
    "name with a colon": among(("x:a", "b")),
    "name that ends with a colon": among(("x:", "b")),
    "name with CRLF": among(("x: y\r\nz", "b")),
    "name with NUL": among(("x\0", "b")),
    "name with a tab": among(("x\t", "b")),
    "name with 8 bits": among(("x\xe9", "b")),
    "name with DEL": among(("x\x7f", "b")),
    "value with CR": among(("x", "a\rb")),
    "value with LF": among(("x", "a\nb")),
    "value with CRLF and a field": among(("x", "a\r\ny: z")),
    "value with a whole request": among(("x", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n")),
    "value with NUL": among(("x", "a\0b")),
    "value behind a space": among(("x", " a")),
    "value before a space": among(("x", "a ")),
    "value behind a tab": among(("x", "\ta")),
    "value before a tab": among(("x", "a\t")),
    "value of a space": among(("x", " ")),
    "path with CRLF": but(path="/ HTTP/1.1\r\nx: y\r\n\r\n"),
    "authority with CRLF": but(authority="a\r\nx: y"),
    "scheme with CRLF": but(scheme="http\r\n"),
    "connection": among(("connection", "close")),
    "connection of a field": among(("connection", "x"), ("x", "y")),
    "keep-alive": among(("keep-alive", "1")),
    "proxy-connection": among(("proxy-connection", "close")),
    "transfer-encoding": among(("transfer-encoding", "chunked")),
    "transfer-encoding and its opposite": among(("transfer-encoding", "identity")),
    "upgrade": among(("upgrade", "websocket")),
    "upgrade to h2c": among(("upgrade", "h2c"), ("http2-settings", "")),
    "te that is not trailers": among(("te", "gzip")),
    "te with more": among(("te", "trailers, chunked")),
    "two lengths": among(("content-length", "0"), ("content-length", "0")),
    "two lengths that differ": among(("content-length", "0"), ("content-length", "1")),
    "a list of lengths": among(("content-length", "0, 0")),
    "length with a sign": among(("content-length", "+0")),
    "negative length": among(("content-length", "-1")),
    "hexadecimal length": among(("content-length", "0x0")),
    "empty length": among(("content-length", "")),
    "length with a dot": among(("content-length", "0.0")),
    "length that overflows": among(("content-length", "18446744073709551616")),
    "length without a body": among(("content-length", "5")),
    "CONNECT with a path": but(method="CONNECT"),
    "CONNECT without an authority": [(":method", "CONNECT")],
}
REFUSED = {    # and the status that says so
    "absolute path": (but(path="http://a/"), 400),
    "absolute path of another host": (but(path="http://b/admin"), 400),
    "path without a slash": (but(path="a"), 400),
    "path that is a host": (but(path="a:80"), 400),
    "path with a space": (but(path="/a b"), 400),
    "path with a version": (but(path="/ HTTP/1.1"), 400),
    "path with a tab": (but(path="/a\tb"), 400),
    "path with 8 bits": (but(path="/\xe9"), 400),
    "path with a fragment": (but(path="/a#b"), 400),
    "path with NUL": (but(path="/%00"), 400),
    "path with a backslash": (but(path="/a\\b"), 400),
    "path with an encoded backslash": (but(path="/a%5Cb"), 400),
    "path with half an escape": (but(path="/%4"), 400),
    "path with no escape": (but(path="/%zz"), 400),
    "path above the root": (but(path="/../a"), 400),
    "path above the root, encoded": (but(path="/%2e%2e/a"), 400),
    "asterisk that is no OPTIONS": (but(path="*"), 400),
    "OPTIONS and more than an asterisk": (but(method="OPTIONS", path="*x"), 400),
    "authority with userinfo": (but(authority="u@a"), 400),
    "authority with a path": (but(authority="a/b"), 400),
    "authority with a comma": (but(authority="a,b"), 400),
    "authority with a space": (but(authority="a b"), 400),
    "authority with two ports": (but(authority="a:1:2"), 400),
    "authority with a port that is none": (but(authority="a:99999"), 400),
    "authority of a dot": (but(authority="."), 400),
    "authority with half an address": (but(authority="[::1"), 400),
    "plain CONNECT": ([(":method", "CONNECT"), (":authority", "a:443")], 405),
    "TRACE": (but(method="TRACE"), 405),
    "expectation": (among(("expect", "200-ok")), 417),
    "too many fields": (among(*((f"x-{i}", "") for i in range(200))), 431),
    "too large": (among(*((f"x-{i}", "v" * 4000) for i in range(9))), 431),
    "path that is too long": (but(path="/" + "a" * 17000), 414),
}
SERVED = {     # and what a backend reads
    "plain": (BASE, "/"),
    "host in place of an authority": ([*but(authority=None), ("host", "a")], "/"),
    "authority and the same host": (among(("host", "A")), "/"),
    "empty value": (among(("x", "")), "/"),
    "value with 8 bits": (among(("x", "\xe9")), "/"),
    "value that looks like a request line": (among(("x", "GET / HTTP/1.1")), "/"),
    "two slashes": (but(path="//b/c"), "//b/c"),
    "an odd query": (but(path="/?a=http://b/?c&%zz"), "/?a=http://b/?c&%zz"),
    "an encoded slash": (but(path="/a%2Fb"), "/a%2Fb"),
    "an encoded line": (but(path="/a%0d%0ax"), "/a%0d%0ax"),
    "te: trailers": (among(("te", "trailers")), "/"),
    "length of nothing": (among(("content-length", "0")), "/"),
    "another method": (but(method="PURGE"), "/"),
    "crumbs": (among(("cookie", "a"), ("cookie", "b")), "/"),
}


@pytest.fixture
def client(backend, start):
    return Http2(start([("127.0.0.1", backend.port)]).connect())


def send(client, fields) -> int:
    """HEADERS that end a request, written by hpack as they are."""
    encoded = hpack.Encoder().encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields], huffman=False)
    stream = client.protocol.get_next_available_stream_id()
    client.protocol.send_headers(stream, BASE, end_stream=True)     # h2 thinks that this is what was sent
    client.protocol.data_to_send()
    parts = [encoded[at:at + 16384] for at in range(0, len(encoded), 16384)]
    for i, part in enumerate(parts):
        client.socket.sendall(raw_frame(9 if i else 1, (0 if i else 1) | (4 if i == len(parts) - 1 else 0), stream, part))
    return stream


def nobody_asked(backend) -> bool:
    backend.socket.settimeout(0)
    try:
        backend.accept()
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(client, backend, name):
    assert client.over(send(client, MALFORMED[name])) == PROTOCOL_ERROR
    assert nobody_asked(backend)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(client, backend, name):
    fields, status = REFUSED[name]
    stream = send(client, fields)
    assert client.over(stream) == "ended"
    assert client.head(stream)[b":status"] == str(status).encode()
    assert nobody_asked(backend)


@pytest.mark.parametrize("name", SERVED)
def test_served(client, backend, name):
    fields, target = SERVED[name]
    stream = send(client, fields)
    upstream = backend.accept()
    asked = head(upstream)
    protocol = h11.Connection(h11.SERVER)
    protocol.receive_data(asked)
    request = protocol.next_event()
    assert request.method == dict(fields)[":method"].encode()
    assert request.target == target.encode()
    assert [value for field, value in request.headers if field == b"host"] == [dict(fields).get(":authority", "a").encode()]
    assert isinstance(protocol.next_event(), h11.EndOfMessage)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.over(stream) == "ended"
    upstream.setblocking(False)
    with pytest.raises(BlockingIOError):
        upstream.recv(1)
