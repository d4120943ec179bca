"""TCPRoute and TLSRoute: every byte both ways, each end on its own, a reset as a reset, nobody held for ever."""
import collections
import hashlib
import os
import socket
import struct
import threading

import pytest
from support.scripted import one_rule, rest

from gwfast.plan import ir
from support.relays import ECHO, tcp_plan

SHORT = 0.2
BODY = os.urandom(1 << 20) * 8


def tcp(addresses) -> ir.Plan:
    return tcp_plan({ECHO.key: addresses})


def hard(connection) -> None:
    """Close with an RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def related(engine, backend):
    client = engine.connect()
    client.sendall(b"hello")
    upstream = backend.accept()
    assert upstream.recv(5, socket.MSG_WAITALL) == b"hello"
    return client, upstream


def refused(client) -> bool:
    """It ended without a byte: EOF or RST."""
    return rest(client) in (b"", b"<RST>")


def test_bytes_go_both_ways(start, backend):
    client, upstream = related(start([("127.0.0.1", backend.port)], tcp), backend)
    upstream.sendall(b"and you")
    assert client.recv(7, socket.MSG_WAITALL) == b"and you"


def test_a_backend_that_speaks_first(start, backend):
    client = start([("127.0.0.1", backend.port)], tcp).connect()
    backend.accept().sendall(b"220 ready\r\n")
    assert client.recv(11, socket.MSG_WAITALL) == b"220 ready\r\n"


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_each_direction_ends_on_its_own(start, backend, first):
    engine = start([("127.0.0.1", backend.port)], tcp)
    early, late = related(engine, backend)[::1 if first == "client" else -1]
    early.sendall(b"last words")
    early.shutdown(socket.SHUT_WR)
    assert rest(late) == b"last words"
    late.sendall(b"still here")
    assert early.recv(10, socket.MSG_WAITALL) == b"still here"
    with engine.lock:                  # bytes and end are there before the engine looks
        late.sendall(b"x" * 100000)
        late.close()
    assert rest(early) == b"x" * 100000
    engine.wait("connections_open", 0)
    engine.wait("upstream_open", 0)
    assert engine.count("client_gone") == engine.count("upstream_cut") == 0


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_a_reset_is_passed_on_as_one(start, backend, first):
    engine = start([("127.0.0.1", backend.port)], tcp)
    one, other = related(engine, backend)[::1 if first == "client" else -1]
    hard(one)
    assert rest(other) == b"<RST>"
    engine.wait("client_gone" if first == "client" else "upstream_cut", 1)
    engine.wait("connections_open", 0)


def test_last_words_of_a_backend_that_takes_no_more(start, backend):
    """It answered and closed while the client still sends: the answer arrives, and its end."""
    engine = start([("127.0.0.1", backend.port)], tcp)
    client, upstream = related(engine, backend)
    with engine.lock:
        upstream.sendall(b"enough")
        upstream.close()
        client.sendall(b"more")
    assert client.recv(6, socket.MSG_WAITALL) == b"enough"
    client.close()
    engine.wait("connections_open", 0)
    engine.wait("upstream_open", 0)


def test_eight_megabytes_each_way(start, backend):
    engine = start([("127.0.0.1", backend.port)], tcp)
    client, upstream = related(engine, backend)
    got = {}

    def send(side):
        side.settimeout(20)
        side.sendall(BODY)
        side.shutdown(socket.SHUT_WR)

    def receive(side):
        got[side] = hashlib.sha256(rest(side)).digest()
    threads = [threading.Thread(target=work, args=(side,)) for side in (client, upstream) for work in (send, receive)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[client] == got[upstream] == hashlib.sha256(BODY).digest()
    engine.wait("bytes_in", len(BODY) + 5)
    assert engine.count("bytes_out") == len(BODY)


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_who_is_not_read_is_not_sent_to(start, backend, first):
    """One side takes nothing: the other can send what sockets hold and one read, and then waits."""
    backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    engine = start([("127.0.0.1", backend.port)], tcp)
    client, upstream = related(engine, backend)
    sender, reader = (client, upstream)[::1 if first == "client" else -1]
    sender.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            sent += sender.send(bytes(65536))
    reader.settimeout(5)
    sender.shutdown(socket.SHUT_WR)
    assert len(rest(reader)) == sent


def test_another_endpoint_is_tried(start, backend):
    engine = start([("127.0.0.1", closed_port()), ("127.0.0.1", backend.port)], tcp)
    for _ in range(8):
        related(engine, backend)
    assert engine.count("upstream_connects") >= 8


def test_nobody_listens(start):
    engine = start([("127.0.0.1", closed_port()) for _ in range(5)], tcp)
    assert refused(engine.connect())
    engine.wait("connect_failed", 1)
    assert engine.count("upstream_connect_errors") == 3


def test_a_full_queue_is_given_up(start):
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    fill = [socket.socket() for _ in range(4)]
    for each in fill:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    engine = start([full.getsockname()], tcp, connect_timeout=SHORT)
    assert refused(engine.connect())
    engine.wait("connect_timeout", 1)
    for each in (*fill, full):
        each.close()


@pytest.mark.parametrize(("make_plan", "fault"), [
    (lambda addresses: tcp_plan({}), "no_endpoint"),
    (lambda addresses: tcp_plan({}, ((1, None),)), "invalid_backend"),
    (lambda addresses: tcp_plan({}, ()), "invalid_backend"),
    (lambda addresses: ir.Plan(binds=(ir.Bind(address="", port=80, transport="tcp", listeners=(
        ir.Listener(id="default/gateway/l4", mode="tcp"),)),)), "no_route"),
], ids=["no endpoints", "invalid reference", "no backends", "no route"])
def test_nowhere_to_go(start, make_plan, fault):
    engine = start([], make_plan)
    assert refused(engine.connect())
    engine.wait(fault, 1)
    engine.wait("connections_open", 0)


def test_weights_are_exact(start, backend, other):
    """70/20/0 and 10 of an invalid reference: in 100 connections each has its share, the last is closed."""
    one, two, none = (ir.Backend(namespace="default", name=name, port=80, protocol="tcp") for name in ("one", "two", "none"))
    engine = start([], lambda _: tcp_plan(
        {one.key: [("127.0.0.1", backend.port)], two.key: [("127.0.0.1", other.port)]},
        ((70, one), (20, two), (0, none), (10, None))))
    for made, word in ((backend, b"1"), (other, b"2")):
        def serve(made=made, word=word):
            try:
                while True:
                    connection = made.accept()
                    connection.sendall(word)
                    connection.close()
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
    told = collections.Counter(rest(engine.connect()).removesuffix(b"<RST>") for _ in range(100))
    assert told == {b"1": 70, b"2": 20, b"": 10}


def test_an_idle_connection_ends(start, backend):
    engine = start([("127.0.0.1", backend.port)], tcp, tcp_idle_timeout=SHORT)
    client, upstream = related(engine, backend)
    assert refused(client)
    assert refused(upstream)
    engine.wait("idle", 1)


def test_a_connection_outlives_its_table(start, backend, other):
    engine = start([("127.0.0.1", backend.port)], tcp)
    client, upstream = related(engine, backend)
    engine.apply(tcp([("127.0.0.1", other.port)]))
    related(engine, other)
    client.sendall(b"old")
    assert upstream.recv(3, socket.MSG_WAITALL) == b"old"
    upstream.close()
    assert rest(client) == b""


def test_a_port_that_speaks_something_else_now(start, backend):
    """The same socket, another table: what is accepted next is served as that says."""
    engine = start([("127.0.0.1", backend.port)], one_rule)
    kept = engine.connect()
    kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    backend.accept().sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert kept.recv(100).startswith(b"HTTP/1.1 204 ")
    engine.apply(tcp([("127.0.0.1", backend.port)]))
    related(engine, backend)
    kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")     # it is not passed on as if it were HTTP there
    assert rest(kept).startswith(b"HTTP/1.1 404 ")


def test_a_drain_lets_connections_go_on(start, backend):
    engine = start([("127.0.0.1", backend.port)], tcp)
    client, upstream = related(engine, backend)
    with engine.lock:
        engine.engine.finish()
    client.sendall(b"on")
    assert upstream.recv(2, socket.MSG_WAITALL) == b"on"
    with engine.lock:
        engine.engine.abort()
    assert rest(client) == rest(upstream) == b"<RST>"


def test_a_proxy_line_is_not_passed_on(start, backend, tmp_path):
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    engine = start([], lambda _: tcp_plan({ECHO.key: [("127.0.0.1", backend.port)]}, proxy_protocol=True), log=log)
    client = engine.connect()
    client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\nhello")
    upstream = backend.accept()
    assert upstream.recv(5, socket.MSG_WAITALL) == b"hello"
    client.close()
    assert rest(upstream) == b""
    upstream.close()
    engine.wait("connections_open", 0)
    with engine.lock:
        engine.engine.tick()           # writes the log's batch
    os.close(log)
    line = (tmp_path / "log").read_text()
    assert '"client":"192.0.2.7"' in line and '"route":"default/all"' in line and '"bytes_in":5' in line
