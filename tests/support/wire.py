"""HTTP/1.1 on a blocking socket, strictly: what both ends of the proxy tests read with.

A Stream reads whole messages. Whatever is not exactly RFC 9112 raises Dirty: the backend collects those (nothing dirty
may ever reach it), the client fails its test with them.
"""
import os
import re
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")  # ci/sanitize
TIMEOUT = 30.0 if SANITIZED else 10.0  # seconds; a sanitized build is slow
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") (/[!\"$-~]*|\*) HTTP/1\.([01])")  # a gateway sends origin-form only, no '#'
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d) ?([\t -~\x80-\xff]*)")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[\t ]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[\t ]*")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})")  # extensions end at a gateway
NO_TRAILERS = ("content-length", "transfer-encoding", "host", "authorization", "trailer", "te")


class Dirty(Exception):
    """Bytes that RFC 9112 does not allow."""


class Cut(Dirty):
    """The other side ended the connection within a message: nobody can take it for a whole one."""


class Closed(Exception):
    """The other side ended the connection between two messages."""


class Fields(list[tuple[str, str]]):
    """Field lines in order, names as they were sent."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return ", ".join(self.all(name)) if self.all(name) else None


class Message(NamedTuple):
    """start: (method, target, minor) or (minor, status, reason). `size` is the body's, also where it was not kept."""

    start: tuple
    fields: Fields
    raw: bytes
    body: bytes = b""
    size: int = 0
    trailers: Fields = Fields()
    interim: tuple["Message", ...] = ()

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def target(self) -> str:
        return self.start[1]

    @property
    def status(self) -> int:
        return self.start[1]

    @property
    def minor(self) -> int:
        return self.start[2] if isinstance(self.start[0], str) else self.start[0]


class Stream:
    """A socket and what was read from it but not yet used."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(TIMEOUT)
        self.buffer = bytearray()

    def __del__(self) -> None:
        self.sock.close()  # of a test that failed

    def fill(self) -> bool:
        some = self.sock.recv(65536)
        self.buffer += some
        return bool(some)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def rest(self, most: int = 1 << 24) -> bytes:
        """Everything until the other side closes; an RST is an end too."""
        try:
            while len(self.buffer) < most and self.fill():
                pass
        except ConnectionResetError:
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    def at_end(self) -> bool:
        """The other side has closed and sent nothing more."""
        return not self.rest()

    def line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > 65536:
                raise Dirty(f"a line without end: {bytes(self.buffer[:80])!r}...")
            if not self.fill():
                if self.buffer:
                    raise Cut(f"ended within a line: {bytes(self.buffer)!r}")
                raise Closed
        line = bytes(self.buffer[:end + 1])
        del self.buffer[:end + 1]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            raise Dirty(f"line end: {line!r}")
        return line[:-2]

    def exactly(self, n: int, keep: bool = True) -> bytes:
        kept, left = [], n
        while left:
            if not self.buffer and not self.fill():
                raise Cut(f"{left} of {n} bytes are missing")
            some = bytes(self.buffer[:left])
            del self.buffer[:left]
            left -= len(some)
            if keep:
                kept.append(some)
        return b"".join(kept)

    def fields(self) -> tuple[Fields, bytes]:
        found, raw = Fields(), b""
        while line := self.line():
            raw += line + b"\r\n"
            if not (match := FIELD_LINE.fullmatch(line)):
                raise Dirty(f"field line: {line!r}")
            found.append((match[1].decode(), match[2].decode("latin-1")))
        return found, raw + b"\r\n"

    def head(self, pattern: re.Pattern[bytes]) -> tuple[re.Match[bytes], Fields, bytes]:
        line = self.line()
        if not (match := pattern.fullmatch(line)):
            raise Dirty(f"start line: {line!r}")
        try:
            fields, raw = self.fields()
        except Closed:
            raise Cut("ended within a head") from None
        return match, fields, line + b"\r\n" + raw

    def request(self, keep: bool = True, before_body=None) -> Message:
        """The next request, whole. `before_body(message)` is called between head and body. Closed at a clean end."""
        match, fields, raw = self.head(REQUEST_LINE)
        message = Message((match[1].decode(), match[2].decode(), int(match[3])), fields, raw)
        if message.target == "*" and message.method != "OPTIONS":
            raise Dirty(f"target: {raw!r}")
        hosts = fields.all("Host")
        if len(hosts) != 1 or re.search(r"[,@/\s]", hosts[0]):
            raise Dirty(f"Host: {raw!r}")
        length = framing(fields, raw)
        if length == "chunked" and not message.minor:
            raise Dirty(f"chunked in HTTP/1.0: {raw!r}")
        if before_body:
            before_body(message)
        return self.with_body(message, length or 0, keep)

    def response(self, method: str = "GET", keep: bool = True) -> Message:
        """The next final response with the 1xx before it."""
        interim = []
        while True:
            match, fields, raw = self.head(STATUS_LINE)
            message = Message((int(match[1]), int(match[2]), match[3].decode("latin-1")), fields, raw,
                              interim=tuple(interim))
            if message.status == 101 or message.status >= 200:
                break
            interim.append(message)
        if method == "HEAD" or message.status in (101, 204, 304):
            return message
        length = framing(fields, raw)
        if length is None:
            body = self.rest()
            return message._replace(body=body, size=len(body))
        return self.with_body(message, length, keep)

    def with_body(self, message: Message, length: int | str, keep: bool) -> Message:
        if length != "chunked":
            return message._replace(body=self.exactly(length, keep), size=length)
        chunks, size = [], 0
        try:
            for chunk in self.chunks(keep):
                chunks.append(chunk[1])
                size += chunk[0]
            trailers = self.fields()[0]
            if bad := [name for name, _ in trailers if name.lower() in NO_TRAILERS]:
                raise Dirty(f"trailers: {bad}")
            return message._replace(body=b"".join(chunks), size=size, trailers=trailers)
        except Closed:
            raise Cut("ended within a chunked body") from None

    def chunks(self, keep: bool) -> Iterator[tuple[int, bytes]]:
        while True:
            line = self.line()
            if not (match := CHUNK_LINE.fullmatch(line)):
                raise Dirty(f"chunk line: {line!r}")
            if not (size := int(match[1], 16)):
                return
            yield size, self.exactly(size, keep)
            if self.exactly(2) != b"\r\n":
                raise Dirty("no CRLF behind a chunk")


def framing(fields: Fields, raw: bytes) -> int | str | None:
    """'chunked', the length, or None where neither is said; Dirty where two readers could differ."""
    lengths, codings = fields.all("Content-Length"), fields.all("Transfer-Encoding")
    if codings:
        if lengths or codings != ["chunked"]:
            raise Dirty(f"framing: {raw!r}")
        return "chunked"
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(r"\d{1,19}", lengths[0]):
        raise Dirty(f"framing: {raw!r}")
    return int(lengths[0])


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """A chunked body of these chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"
