"""Requests of engine tests: what is sent, what the backend has to receive, and what comes back."""
import re
import socket

from gwfast.http1.chunked import chunks_of
from support.http2_client import Http2
from support.scripted import head, readable

FORWARDED = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"


def refused(status: bytes, fields: bytes = b"") -> bytes:
    line = status + b"\n"
    return b"HTTP/1.1 %s\r\nDate: @\r\n%sContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
        status, fields, len(line), line)


def normal(data: bytes) -> bytes:
    """A message (and the 1xx before it) with its chunks as one, and without its date."""
    before, found = b"", re.match(rb"(HTTP/1.1 1\d\d .*?\r\n\r\n)*", data, re.S)
    before, data = data[:found.end()], data[found.end():]
    head, end, body = data.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" in head:
        content, used, _ = chunks_of(body)
        body = b"<%s>%s" % (content, body[used:])
    return before + re.sub(rb"Date: [^\r]{29}\r\n", b"Date: @\r\n", head + end) + body


def expect(connection: socket.socket, message: bytes) -> None:
    """Read until this message is whole."""
    wanted, got = normal(message), b""
    try:
        while normal(got) != wanted and len(got) < 2 * len(message) + 100:
            if not (data := connection.recv(65536)):
                break
            got += data
    except TimeoutError:
        pass
    assert normal(got) == wanted


def asked(backend, last: socket.socket | None) -> socket.socket:
    """The connection on which the next request comes: the last one, or a new one."""
    if last is not None:
        ready = readable(last, backend.socket, seconds=5)
        if last in ready and last.recv(1, socket.MSG_PEEK):
            return last
    return backend.accept()


def ask(engine, version: str, *fields: tuple[str, str], path="/", method="GET"):
    """Send a request; return what waits for its answer: () -> (status, Location)."""
    if version == "http1":
        client = engine.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())

        def answer():
            lines = head(client).decode().split("\r\n")
            return int(lines[0].split()[1]), next((line[10:] for line in lines if line.startswith("Location: ")), "")
        return answer
    client = Http2(engine.connect())
    stream = client.ask(path, method=method, fields=[(name.lower(), value) for name, value in fields])

    def answer_http2():
        got = client.head(stream)
        return int(got[b":status"]), got.get(b"location", b"").decode()
    return answer_http2
