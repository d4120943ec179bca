"""A client of HTTP/2 on the h2 library, one connection: what it sends is what RFC 9113 allows unless a test says otherwise."""
import contextlib

import h2.config
import h2.connection
import h2.events
import h2.settings


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
