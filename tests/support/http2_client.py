"""A client of HTTP/2 on the h2 library, one connection: what it sends is what RFC 9113 allows unless a test says otherwise."""
import contextlib
import socket

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, UNKNOWN = range(11)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME = 1 << 14


class Http2:
    """A connection in clear with prior knowledge. `lenient` leaves out h2's own checks of what is sent."""

    def __init__(self, connection, lenient=False, settings=None, acknowledge=True):
        self.socket = connection
        self.protocol = h2.connection.H2Connection(h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=not lenient, normalize_outbound_headers=not lenient))
        if settings:               # before the first SETTINGS, so that these say it
            self.protocol.local_settings = h2.settings.Settings(
                client=True, initial_values={**self.protocol.local_settings, **settings})
            self.protocol.decoder.max_allowed_table_size = self.protocol.local_settings.header_table_size
        self.protocol.initiate_connection()
        self.acknowledge = acknowledge     # of payload: give the window back
        self.events = []
        self.ended = False
        self.flush()

    def flush(self):
        if data := self.protocol.data_to_send():
            with contextlib.suppress(OSError):
                self.socket.sendall(data)

    def ask(self, path="/", method="GET", fields=(), end=True, body=b"", flush=True) -> int:
        """Begin a stream with a head, and its body if there is one: its number."""
        stream = self.protocol.get_next_available_stream_id()
        self.protocol.send_headers(stream, [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path),
                                            *fields], end_stream=end and not body)
        if body:
            self.protocol.send_data(stream, body, end_stream=end)
        if flush:
            self.flush()
        return stream

    def turn(self):
        """Read once."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        for event in self.protocol.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and self.acknowledge:
                self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    def until(self, what, stream=None):
        """Read until an event of this class (of this stream) came: that event; None where the connection ended first."""
        while True:
            for event in self.events:
                if isinstance(event, what) and stream in (None, getattr(event, "stream_id", None)):
                    return event
            if self.ended:
                return None
            self.turn()

    def over(self, stream):
        """Read until a stream is over: 'ended', the error code that reset it, or None where the connection ended first."""
        event = self.until((h2.events.StreamEnded, h2.events.StreamReset), stream)
        return "ended" if isinstance(event, h2.events.StreamEnded) else event and int(event.error_code)

    def head(self, stream) -> dict:
        return dict(self.until(h2.events.ResponseReceived, stream).headers)

    def body(self, stream) -> bytes:
        return b"".join(event.data for event in self.events
                        if isinstance(event, h2.events.DataReceived) and event.stream_id == stream)

    def goodbye(self):
        """Read until the connection ends: the last GOAWAY's error code, or None."""
        while not self.ended:
            self.turn()
        codes = [int(event.error_code) for event in self.events if isinstance(event, h2.events.ConnectionTerminated)]
        return codes[-1] if codes else None


def raw_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


WIDE = raw_frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + raw_frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")


class Ended(Exception):
    """The connection, with this error code."""


class Frames:
    """A client that sends frames as it is told to and reads them one by one; fields are never indexed."""

    def __init__(self, connection, greet=WIDE):
        self.socket, self.got = connection, b""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + greet + raw_frame(SETTINGS, ACK, 0))
        self.next = 1
        self.decoder = hpack.Decoder(max_header_list_size=1 << 20)

    def head(self, method="GET", path="/", end=True, fields=(), coder=None) -> tuple[int, bytes]:
        """The next stream's number, and the frames that open it. coder: one that has a table."""
        number, self.next = self.next, self.next + 2
        if coder is None:
            coder = hpack.Encoder()
            coder.header_table_size = 0
        block = coder.encode([(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path), *fields], huffman=False)
        parts = [block[at:at + FRAME] for at in range(0, len(block), FRAME)]
        kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
        flags = [END_STREAM if end else 0, *[0] * (len(parts) - 1)]
        flags[-1] |= END_HEADERS
        return number, b"".join(raw_frame(kind, flag, number, part) for kind, flag, part in zip(kinds, flags, parts, strict=True))

    def ask(self, **options) -> int:
        number, frame = self.head(**options)
        self.socket.sendall(frame)
        return number

    def frame(self) -> tuple[int, int, int, bytes]:
        """Type, flags, stream and payload of the next one."""
        while len(self.got) < 9 or len(self.got) < 9 + int.from_bytes(self.got[:3], "big"):
            data = self.socket.recv(1 << 18)
            if not data:
                raise Ended(None)
            self.got += data
        n = int.from_bytes(self.got[:3], "big")
        kind, flags, stream, payload = self.got[3], self.got[4], int.from_bytes(self.got[5:9], "big"), self.got[9:9 + n]
        self.got = self.got[9 + n:]
        if kind == GOAWAY:
            raise Ended(int.from_bytes(payload[4:8], "big"))
        return kind, flags, stream, payload

    def reply(self, stream) -> list[tuple[str, str]]:
        """Read up to the head of this stream's response, informational ones too; or RST_STREAM's code, as its status."""
        block = b""
        while True:
            kind, flags, number, payload = self.frame()
            if kind == RST_STREAM and number == stream:
                return [(":status", f"reset {int.from_bytes(payload, 'big')}")]
            if kind in (HEADERS, CONTINUATION):
                block += payload
                if flags & END_HEADERS:
                    fields = self.decoder.decode(block)
                    if number == stream:
                        return fields
                    block = b""

    def until(self, kind, streams, flags=0) -> None:
        """Read until such a frame came for each of these streams."""
        missing = set(streams)
        while missing:
            found, flagged, stream, _ = self.frame()
            if found == kind and flagged & flags == flags or (flags == END_STREAM and found == HEADERS and flagged & END_STREAM):
                missing.discard(stream)

    def answers(self) -> list[tuple[int, int, int]]:
        """What else is said up to the answer to a PING, the connection's window aside: type, stream and first four octets."""
        self.socket.sendall(raw_frame(PING, 0, 0, b"question"))
        said = []
        while True:
            kind, flags, stream, payload = self.frame()
            if kind == PING and payload == b"question":
                return said
            if kind != WINDOW_UPDATE or stream:
                said.append((kind, stream, int.from_bytes(payload[:4], "big")))


def goodbye(client) -> int:
    """Read to the end: the error code of the GOAWAY."""
    with pytest.raises(Ended) as ended:
        while True:
            client.frame()
    return ended.value.args[0]
