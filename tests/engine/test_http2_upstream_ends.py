"""A backend of HTTP/2 that ends its connection without a word of GOAWAY: what nobody has looked at is sent again, whatever its method
(RFC 9110 9.2.2); what came there is not.
"""
import functools
import socket

import h2.config
import h2.connection
import h2.events
import pytest
from support.scripted import head, one_rule, readable
from support.http2_upstream import arrived

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"


class Server:
    """The other end of one connection, which does nothing by itself."""

    def __init__(self, connection):
        self.socket = connection
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.bodies, self.ended = {}, []
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def read(self):
        data = self.socket.recv(1 << 16)
        assert data
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.bodies[event.stream_id] = (dict(event.headers)[b":path"], bytearray())
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id][1].extend(event.data)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.append(event.stream_id)
        self.flush()

    def request(self):
        """Wait for a whole request: its stream, path and body."""
        while not self.ended:
            self.read()
        stream = self.ended.pop(0)
        return stream, *self.bodies[stream]

    def answer(self, stream):
        self.h2.send_headers(stream, [(b":status", b"204")], end_stream=True)
        self.flush()

    def close(self):
        """With a FIN: all that came was read."""
        while readable(self.socket):
            self.read()
        self.socket.close()

    def half_close(self):
        """A FIN that the other side's kernel has."""
        self.socket.shutdown(socket.SHUT_WR)
        arrived(self.socket)


@pytest.fixture
def engine(start, backend):
    return start([("127.0.0.1", backend.port)], functools.partial(one_rule, protocol="h2c"))


def served(engine, backend):
    """A client and the end of the connection that has answered its first request."""
    client = engine.connect()
    client.sendall(GET % 0)
    server = Server(backend.accept())
    stream, path, _ = server.request()
    assert path == b"/0"
    server.answer(stream)
    assert head(client).startswith(b"HTTP/1.1 204 ")
    engine.wait("upstream_idle", 1)
    return client, server


def answered(client, backend, path, body=b""):
    """The request comes on another connection, where it is answered."""
    fresh = Server(backend.accept())
    stream, *asked = fresh.request()
    assert asked == [path, body]
    fresh.answer(stream)
    assert head(client).startswith(b"HTTP/1.1 204 ")
    return fresh


@pytest.mark.parametrize("method", [GET, POST], ids=["GET", "POST"])
def test_what_has_ended_is_not_chosen(engine, backend, method):
    """The engine sees the request before it sees the end."""
    client, server = served(engine, backend)
    with engine.lock:
        client.sendall(method % 1)
        arrived(client)
        server.half_close()
    answered(client, backend, b"/1", b"body" if method is POST else b"")
    assert engine.count("upstream_retries") == engine.count("upstream_reset") == 0


def test_what_ends_meanwhile_is_noticed(engine, backend):
    client, server = served(engine, backend)
    with engine.lock:
        client.sendall(POST % 1)
        server.close()
    answered(client, backend, b"/1", b"body")
    assert engine.count("upstream_reset") == 0


def test_what_says_goaway_is_not_chosen(engine, backend):
    client, server = served(engine, backend)
    with engine.lock:
        client.sendall(POST % 1)
        server.h2.close_connection()
        server.flush()
        arrived(server.socket)
    answered(client, backend, b"/1", b"body")
    assert engine.count("upstream_retries") == 0


@pytest.mark.parametrize("method", [GET, POST], ids=["GET", "POST"])
def test_what_came_behind_the_end_is_sent_again(engine, backend, method):
    """A stream is under way, so that the connection is not idle; its own request came there."""
    client, server = served(engine, backend)
    first, second = engine.connect(), client
    first.sendall(POST % 1)
    assert server.request()[1:] == (b"/1", b"body")
    with engine.lock:
        second.sendall(method % 2)
        server.close()
    assert head(first).startswith(b"HTTP/1.1 502 ")
    answered(second, backend, b"/2", b"body" if method is POST else b"")
    assert engine.count("upstream_retries") == 1 and engine.count("upstream_reset") == 1


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_what_came_is_not_sent_twice(engine, backend, reads):
    client, server = served(engine, backend)
    client.sendall(POST % 1)
    assert readable(server.socket, seconds=5)
    if reads:
        server.request()
    server.socket.close()
    assert head(client).startswith(b"HTTP/1.1 502 ")
    assert engine.count("upstream_retries") == 0
