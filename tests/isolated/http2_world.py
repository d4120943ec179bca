"""Worlds (see world.py) whose clients speak TLS and HTTP/2, and whose backend speaks HTTP/2: frames by hand, so that they cost little."""
import ssl
import struct
import sys
from pathlib import Path

from support.scripted import one_rule
from world import World

from gwfast.plan import ir
from gwfast.plan.credentials import Credentials
from gwfast.serve.certs import Certs

sys.path.append(str(Path(__file__).parents[1]))
from support.issuer import Issuer  # noqa: E402

NAME = "a.test"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def frames(buffer: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """The whole frames of it, as (kind, flags, stream, payload), and the rest."""
    found, at = [], 0
    while at + 9 <= len(buffer):
        head, flags, stream = struct.unpack_from(">IBI", buffer, at)
        end = at + 9 + (head >> 8)
        if end > len(buffer):
            break
        found.append((head & 255, flags, stream, buffer[at + 9:end]))
        at = end
    return found, buffer[at:]


def literal(name: bytes, value: bytes) -> bytes:
    """A field line that no table takes (RFC 7541 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(path: bytes, method: bytes = b"GET", scheme: bytes = b"http", *more: tuple[bytes, bytes]) -> bytes:
    pseudo = ((b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", NAME.encode()))
    return b"".join(literal(*field) for field in (*pseudo, *more))


def world_of(secure: bool, protocol: str = "http", kind: type[World] = World) -> World:
    """A world with everything to one backend of this protocol; its clients begin with TLS where it is secure."""
    tls = ir.ServerTLS(certificates=(Issuer().issue(NAME),)) if secure else None

    def plan(addresses) -> ir.Plan:
        made = one_rule(addresses, protocol)
        if not secure:
            return made
        listener = ir.Listener(id="default/gateway/web", mode="https", tls=tls, hosts=made.binds[0].listeners[0].hosts)
        return ir.Plan(binds=(ir.Bind(address="", port=443, transport="tls", listeners=(listener,)),), backends=made.backends,
                       endpoints=made.endpoints)

    world = kind(plan)
    if secure:
        world.engine.secure(Certs(Credentials().publish(plan([]))))
    return world


class Secure:
    """A client's socket over TLS that sends, receives and ends as one in clear does."""

    def __init__(self, world: World, context: ssl.SSLContext, session: ssl.SSLSession | None = None):
        self.world = world
        self.stream = context.wrap_socket(world.connect(), server_hostname=NAME, do_handshake_on_connect=False, session=session)
        world.until(self.shaken)

    def shaken(self) -> bool:
        try:
            self.stream.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def send(self, data: bytes) -> int:
        return self.stream.send(data)

    def recv(self, n: int) -> bytes:
        try:
            return self.stream.recv(n)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def setsockopt(self, *option) -> None:
        self.stream.setsockopt(*option)

    def close(self) -> None:
        self.stream.close()


def client_context(*alpn: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Http2:
    """A client of HTTP/2 on any socket of a world."""

    def __init__(self, world: World, sock, scheme: bytes):
        self.world, self.socket, self.scheme = world, sock, scheme
        self.next, self.rest, self.ended = 1, b"", False
        self.socket.send(PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))

    def ask(self, count: int, path: bytes, body: bytes | None = None, *more: tuple[bytes, bytes]) -> list[int]:
        """Begin so many streams: their numbers."""
        block = request(path, b"GET" if body is None else b"POST", self.scheme, *more)
        numbers = [self.next + 2 * n for n in range(count)]
        self.next += 2 * count
        end = END_STREAM if body is None else 0
        self.socket.send(b"".join(frame(HEADERS, END_HEADERS | end, n, block) + (b"" if body is None else frame(DATA, END_STREAM, n, body))
                                  for n in numbers))
        return numbers

    def read(self) -> list[tuple[int, int, int, bytes]]:
        """Frames that are there; where there are none, the world turns."""
        try:
            some = self.socket.recv(1 << 18)
        except BlockingIOError:
            self.world.turn()
            return []
        except ConnectionResetError:
            some = b""
        self.ended = not some
        found, self.rest = frames(self.rest + some)
        return found

    def over(self, numbers: list[int]) -> tuple[int, int]:
        """Read until these streams are over: how many ended, how many were reset."""
        left, ended = set(numbers), 0
        for _ in range(10_000):
            for kind, flags, stream, _payload in self.read():
                if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                    ended += stream in left and kind != RST_STREAM
                    left.discard(stream)
            if not left or self.ended:
                return ended, len(numbers) - ended
        raise AssertionError(f"{len(left)} streams are never over")

    def reset(self, numbers: list[int]) -> None:
        self.socket.send(b"".join(frame(RST_STREAM, 0, n, struct.pack(">I", 8)) for n in numbers))


class Http2BackendWorld(World):
    """Its backend speaks HTTP/2 in clear and answers as gRPC does: by what the first DATA of a stream says."""

    def accept(self, listening) -> None:
        super().accept(listening)
        newest = next(reversed(self.backends))
        newest.sendall(frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
        self.backends[newest] = None           # the preface has not come

    def answer(self, connection) -> None:
        try:
            data = connection.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self.forget(connection)
            return
        before = self.backends[connection]
        if before is None:
            assert data.startswith(PREFACE)
            before, data = b"", data[len(PREFACE):]
        found, self.backends[connection] = frames(before + data)
        answers = b"".join(reply(*one) for one in found)
        try:
            connection.setblocking(True)
            connection.sendall(answers)
            connection.setblocking(False)
        except ConnectionError:
            self.forget(connection)
            return
        if any(payload.endswith(b"bye") for kind, _, _, payload in found if kind == DATA):
            self.forget(connection)


ANSWER = b"\x88" + literal(b"content-type", b"application/grpc")     # :status 200
TRAILERS = literal(b"grpc-status", b"0")


def reply(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """What the backend says to a frame."""
    if kind == SETTINGS and not flags & ACK:
        return frame(SETTINGS, ACK, 0)
    if kind == PING and not flags & ACK:
        return frame(PING, ACK, 0, payload)
    if kind == DATA and payload.endswith(b"reset"):
        return frame(RST_STREAM, 0, stream, struct.pack(">I", 2))
    if kind == DATA and payload.endswith(b"half"):
        return frame(HEADERS, END_HEADERS, stream, ANSWER) + frame(RST_STREAM, 0, stream, struct.pack(">I", 2))
    if kind == DATA and payload.endswith(b"hello"):
        return (frame(HEADERS, END_HEADERS, stream, ANSWER) + frame(DATA, 0, stream, payload)
                + frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS))
    return b""
