"""Nothing left: no descriptors. What can be served is, and what could not be is as soon as it can."""
import os
import resource
import socket

import pytest
from support.scripted import Running, head, one_rule, readable, rest

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
def exhaust():
    """Take every descriptor that is left but `spare`."""
    taken = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 64, hard))

    def take(spare=0):
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for _ in range(spare):
            os.close(taken.pop())

    def give():
        while taken:
            os.close(taken.pop())

    take.give = give
    yield take
    give()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_accepting_goes_on_when_descriptors_are_free_again(start, backend, exhaust):
    """There was no connection then: none that ends can be what goes on with accepting."""
    engine = start([("127.0.0.1", backend.port)])
    with engine.lock:
        client = engine.connect()
        client.sendall(GET % 1)
        exhaust()
        engine.engine.drain()
        exhaust.give()
        assert engine.count("connections") == 0
    for n in range(3):                 # and not only one at a time
        if n:
            client = engine.connect()
            client.sendall(GET % n)
        upstream = backend.accept()
        head(upstream)
        upstream.sendall(NOTHING)
        assert head(client).startswith(b"HTTP/1.1 204 ")
        upstream.close()


@pytest.mark.parametrize("why", ["no descriptors", "it listens no more"])
def test_accepting_goes_on_where_the_port_that_could_not_is_gone(start, exhaust, why):
    """Whoever closes what was to try again lets the others go on: a port that a reload took away, perhaps before this worker did."""
    engine = start([])
    gone = socket.create_server(("127.0.0.1", 0))
    where, copy = gone.getsockname(), gone.dup()
    with engine.lock:
        engine.engine.listen(gone.detach(), 7)
        waits = socket.create_connection(where)
        if why == "no descriptors":
            exhaust()
        else:
            copy.shutdown(socket.SHUT_RDWR)
        engine.engine.drain()
        engine.engine.unlisten(7)
        exhaust.give()
    copy.close()
    client = engine.connect()
    client.sendall(GET % 1)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    waits.close()


def test_idle_connections_to_backends_make_room(start, backend, other, exhaust):
    """The pool holds what another endpoint, or another client, needs more."""
    engine = start([("127.0.0.1", backend.port)])
    clients = [engine.connect() for _ in range(2)]
    for n, client in enumerate(clients):
        client.sendall(GET % n)
    upstreams = [backend.accept() for _ in clients]
    for upstream in upstreams:
        head(upstream)
        upstream.sendall(NOTHING)
    for client in clients:
        head(client)
    engine.wait("upstream_idle", 2)
    engine.apply(one_rule([("127.0.0.1", backend.port), ("127.0.0.1", other.port)]))
    with engine.lock:
        more = [engine.connect() for _ in range(2)]
        exhaust(spare=2)               # for the two clients: one takes an idle connection, one must open another
        for n, client in enumerate(more):
            client.sendall(GET % n)
        engine.engine.drain()
        engine.engine.drain()
        exhaust.give()
    reused, = (each for each in upstreams if readable(each) and each.recv(1, socket.MSG_PEEK))
    for upstream in (reused, other.accept()):
        head(upstream)
        upstream.sendall(NOTHING)
    for client in more:
        assert head(client).startswith(b"HTTP/1.1 204 ")
    assert engine.count("upstream_connect_errors") == 0


def test_an_engine_that_ends_keeps_nothing(backend):
    """Neither its pool nor the loop itself stays open."""
    before = len(os.listdir("/proc/self/fd"))
    for n in range(3):
        engine = Running(one_rule, [("127.0.0.1", backend.port)])
        client = engine.connect()
        client.sendall(GET % n)
        with backend.accept() as upstream:
            head(upstream)
            upstream.sendall(NOTHING)
            assert head(client).startswith(b"HTTP/1.1 204 ")
            engine.close()
            assert rest(upstream) == b""
        del engine, client
    assert len(os.listdir("/proc/self/fd")) <= before
