"""Connections to backends: reused, retried, replaced, chosen."""
import socket
import struct

import pytest
from support.scripted import head, one_rule, readable, rest
from support.pools import GET, NOTHING, served


def ask(client, upstream, n=0):
    client.sendall(GET % n)
    assert head(upstream).startswith(b"GET /%d " % n)
    upstream.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]


def test_one_connection_serves_many_requests(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    for n in range(1, 10):
        ask(client, upstream, n)
    assert engine.count("upstream_connects") == 1
    assert engine.count("upstream_reused") == 9


def test_a_stale_connection_is_replaced_unnoticed(start, backend):
    """The backend closes as the request arrives: the client sees one good answer."""
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    client.sendall(GET % 1)
    head(upstream)
    upstream.close()
    fresh = backend.accept()
    assert head(fresh).startswith(b"GET /1 ")
    fresh.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")
    assert engine.count("upstream_retries") == 1


def test_a_request_that_is_not_idempotent_is_not_sent_twice(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
    head(upstream)
    upstream.close()
    assert head(client).startswith(b"HTTP/1.1 502 ")
    assert engine.count("upstream_retries") == 0
    assert engine.count("upstream_reset") == 1


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("asks", [GET % 1, b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"], ids=["GET", "POST"])
def test_a_connection_that_was_closed_before_the_request_came_is_replaced(start, backend, asks, hard):
    """Whatever the method: nobody can have looked at it. The engine sees the request before it sees the end."""
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    engine.wait("upstream_idle", 1)
    if hard:
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with engine.lock:
        client.sendall(asks)
        upstream.close()
    fresh = backend.accept()
    assert head(fresh).startswith(asks[:8])
    if asks.startswith(b"POST"):
        assert fresh.recv(4, socket.MSG_WAITALL) == b"body"
    fresh.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")
    assert engine.count("upstream_reset") == 0


@pytest.mark.parametrize("reads", [0, 1 << 16], ids=["unread", "read"])
def test_a_request_that_came_is_not_sent_twice(start, backend, reads):
    """The backend's end acknowledges it, or is a reset: it may have been acted on."""
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    assert readable(upstream, seconds=5)
    if reads:
        assert upstream.recv(reads).endswith(b"body")
    upstream.close()
    assert head(client).startswith(b"HTTP/1.1 502 ")
    assert engine.count("upstream_retries") == 0


def test_a_dead_endpoint_costs_no_request(start, backend):
    engine = start([("127.0.0.1", closed_port()), ("127.0.0.1", backend.port)])
    for n in range(10):
        client = engine.connect()
        client.sendall(GET % n)
        upstream = backend.accept() if not n else upstream
        head(upstream)
        upstream.sendall(NOTHING)
        assert head(client).startswith(b"HTTP/1.1 204 ")
        client.close()


def test_only_dead_endpoints_is_503(start):
    engine = start([("127.0.0.1", closed_port()), ("127.0.0.1", closed_port())])
    client = engine.connect()
    client.sendall(GET % 0)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    assert engine.count("upstream_connect_errors") == 2


def test_no_endpoint_is_503(start):
    engine = start([])
    client = engine.connect()
    client.sendall(GET % 0)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    assert engine.count("no_endpoint") == 1


def test_bytes_behind_a_response_end_its_connection(start, backend):
    """A second response that nobody asked for is never seen by the next client."""
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(GET % 0)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(NOTHING + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert head(client).startswith(b"HTTP/1.1 204 ")
    client.sendall(GET % 1)
    fresh = backend.accept()
    assert head(fresh).startswith(b"GET /1 ")
    fresh.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")


def test_an_unasked_response_on_an_idle_connection_ends_it(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client, upstream = served(engine, backend)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert rest(upstream) in (b"", b"<RST>")
    client.sendall(GET % 1)
    fresh = backend.accept()
    head(fresh)
    fresh.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")


def test_the_least_busy_of_two_is_chosen(start, backend, other):
    """Power of two choices on outstanding requests: with two endpoints the idle one gets the next request."""
    engine = start([("127.0.0.1", backend.port), ("127.0.0.1", other.port)])
    clients = [engine.connect() for _ in range(10)]
    for n, client in enumerate(clients):
        client.sendall(GET % n)
        engine.wait("requests_open", n + 1)
    engine.wait("upstream_connects", 10)
    for each in (backend, other):
        for _ in range(5):
            head(each.accept())


def test_requests_go_where_the_new_table_says(start, backend, other):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(GET % 0)
    upstream = backend.accept()
    head(upstream)
    engine.apply(one_rule([("127.0.0.1", other.port)]))
    upstream.sendall(NOTHING)          # in flight: keeps its table
    assert head(client).startswith(b"HTTP/1.1 204 ")
    client.sendall(GET % 1)
    fresh = other.accept()
    assert head(fresh).startswith(b"GET /1 ")
    fresh.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")
