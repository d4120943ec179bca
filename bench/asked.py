"""Asked once, whatever the wire: to see that an answer is right, and for connections that stay open behind it.

HTTP/1.1 through http.client, HTTP/2 through h2, TLS through ssl; nothing is verified, certificates are made for the run.
"""
import contextlib
import functools
import http.client
import socket
import ssl
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import msgspec

from bench.scenes import Ask
from bench.wire import CLEAR, Wire


class Answer(msgspec.Struct, frozen=True):
    status: int
    backend: str
    size: int


def answer(port: int, ask: Ask, wire: Wire = CLEAR, timeout: float = 10.0) -> Answer:
    """Ask once, over a connection of its own. OSError where there is no whole answer."""
    with answered(port, ask, wire, timeout) as (_, found):
        return found


@contextlib.contextmanager
def answered(port: int, ask: Ask, wire: Wire = CLEAR, timeout: float = 10.0) -> Iterator[tuple[socket.socket, Answer]]:
    """A connection that has had one whole answer, and stays open while the block runs."""
    with contextlib.closing(_connection(port, ask.host, wire, timeout)) as connection:
        try:
            found = (_ask_h2 if wire.h2 else _ask_h1)(connection, ask, wire)
        except (http.client.HTTPException, h2.exceptions.ProtocolError) as error:
            raise OSError(error) from error
        yield connection, found


def _connection(port: int, host: str, wire: Wire, timeout: float) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not wire.tls:
        return plain
    connection = _context(wire.h2).wrap_socket(plain, server_hostname=host)
    if wire.h2 and connection.selected_alpn_protocol() != "h2":
        connection.close()
        raise OSError("HTTP/2 was not chosen")
    return connection


@functools.cache
def _context(two: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if two else ["http/1.1"])
    return context


def _ask_h1(connection: socket.socket, ask: Ask, wire: Wire) -> Answer:
    connection.sendall(ask.bytes())
    response = http.client.HTTPResponse(connection, method=ask.method)
    response.begin()
    return Answer(response.status, response.getheader("X-Backend", ""), len(response.read()))


def _ask_h2(connection: socket.socket, ask: Ask, wire: Wire) -> Answer:
    """A call counts as 200 if its trailer says so."""
    state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    state.initiate_connection()
    fields = [(":method", ask.method), (":scheme", "https" if wire.tls else "http"), (":authority", ask.host),
              (":path", ask.path), *((name.lower(), value) for name, value in ask.headers)]
    state.send_headers(1, fields, end_stream=not ask.body)
    left, size, told = wire.body(ask.body) if ask.body else b"", 0, {}
    while True:
        while left and (some := min(len(left), state.local_flow_control_window(1), state.max_outbound_frame_size)):
            state.send_data(1, left[:some], end_stream=some == len(left))
            left = left[some:]
        connection.sendall(state.data_to_send())
        if not (got := connection.recv(1 << 18)):
            raise ConnectionError("closed before its answer")
        for event in state.receive_data(got):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                told |= dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                size += len(event.data)
                state.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                raise ConnectionError(f"{type(event).__name__} {event.error_code!r}")
            elif isinstance(event, h2.events.StreamEnded):
                right = not wire.grpc or told.get("grpc-status") == "0"
                return Answer(int(told[":status"]) if right else 0, told.get("x-backend", ""), size)
