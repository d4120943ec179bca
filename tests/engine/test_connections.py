"""A client's connection: what it is told, when it ends, what it may cost."""
import contextlib
import functools
import json
import os
import pty
import socket
import ssl
import struct
import threading
import tty

import pytest
from support.scripted import head, one_rule, rest

from gwfast.plan import ir

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
NOWHERE = ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(ir.Listener(id="d/g/web"),)),))


def nowhere(addresses):
    return NOWHERE


def proxied(addresses):
    plan = one_rule(addresses)
    return ir.Plan(binds=tuple(ir.Bind(address="", port=80, proxy_protocol=True, listeners=bind.listeners)
                               for bind in plan.binds), backends=plan.backends, endpoints=plan.endpoints)


def test_pipelined_requests_wait_for_a_client_that_does_not_read(start):
    """Thousands of requests in one piece, answers taken late: each gets one, in bounded memory."""
    engine = start([], nowhere, keepalive_requests=20000)
    client = engine.connect()
    sender = threading.Thread(target=client.sendall, args=(b"".join(GET % n for n in range(20000)),))
    sender.start()
    got, answers = b"", 0
    while answers < 20000:
        data = client.recv(65536)
        assert data
        got += data
        *whole, got = got.split(b"404 Not Found\n")
        answers += len(whole)
    sender.join()
    assert engine.count("requests") == 20000


def test_requests_per_connection_are_bounded(start, backend):
    engine = start([("127.0.0.1", backend.port)], keepalive_requests=3)
    client = engine.connect()
    client.sendall(b"".join(GET % n for n in range(5)))
    upstream = backend.accept()
    for _ in range(3):
        head(upstream)
        upstream.sendall(NOTHING)
    answers = rest(client)
    assert answers.count(b"HTTP/1.1 204 ") == 3
    assert answers.count(b"Connection: close") == 1


def test_a_client_that_asked_for_the_end_is_not_waited_for(start):
    """It sends nothing more (RFC 9112 9.6): the connection is gone before the client closes its side."""
    engine = start([], nowhere)
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert rest(client).startswith(b"HTTP/1.1 404 ")
    engine.wait("connections_open", 0)


def test_a_body_that_still_comes_does_not_cost_the_answer(start):
    """Who asked for the end but has not sent its body yet is read on after the answer: an RST would destroy it."""
    engine = start([], nowhere)
    client = engine.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n")
    engine.wait("requests", 1)
    client.sendall(b"." * 100000)
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.endswith(b"404 Not Found\n")
    assert engine.count("connections_open") == 1
    client.close()
    engine.wait("connections_open", 0)


def test_connections_beyond_the_limit_wait(start):
    engine = start([], nowhere, connections=2)
    first, second, third = engine.connect(), engine.connect(), engine.connect()
    third.sendall(GET % 3)
    for client in (first, second):
        client.sendall(GET % 1)
        assert head(client).startswith(b"HTTP/1.1 404 ")
    assert engine.count("connections") == 2
    first.close()
    assert head(third).startswith(b"HTTP/1.1 404 ")


def test_connections_of_one_address_are_capped(start):
    engine = start([], nowhere, connections_per_address=2)
    kept = [engine.connect() for _ in range(2)]
    for client in kept:
        client.sendall(GET % 1)
        assert head(client).startswith(b"HTTP/1.1 404 ")
    assert rest(engine.connect()) in (b"", b"<RST>")
    kept.pop().close()
    engine.wait("connections_open", 1)
    again = engine.connect()
    again.sendall(GET % 1)
    assert head(again).startswith(b"HTTP/1.1 404 ")
    assert engine.count("connections_refused") == 1


def test_drain_answers_what_is_in_flight_and_says_close(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    busy, idle = engine.connect(), engine.connect()
    idle.sendall(GET % 0)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(NOTHING)
    head(idle)
    busy.sendall(GET % 1)
    head(upstream)
    queued = engine.connect()
    queued.sendall(GET % 2)
    with engine.lock:
        engine.engine.finish()
    with pytest.raises(ConnectionRefusedError):
        engine.connect()
    upstream.sendall(NOTHING)
    assert b"Connection: close" in head(busy)
    idle.sendall(GET % 3)              # an idle connection may still ask, once
    served = {head(upstream).split()[1]}
    upstream.sendall(NOTHING)
    other = backend.accept()           # what waited in the queue is served as well
    served.add(head(other).split()[1])
    other.sendall(NOTHING)
    assert served == {b"/2", b"/3"}
    assert b"Connection: close" in rest(idle) and b"Connection: close" in rest(queued)
    engine.wait("connections_open", 0)


def drain_until_idle_ones_end(engine):
    idle = engine.connect()
    engine.wait("connections_open", 2)
    with engine.lock:
        engine.engine.finish()
    assert rest(idle) == b""


def test_drain_waits_for_a_client_that_reads_slowly(start):
    """Answers that are complete for the gateway are not yet so for the client."""
    engine = start([], nowhere, keepalive_requests=200000)
    client = engine.connect()
    client.setblocking(False)
    sent = 0
    try:
        while sent < 100 << 20:
            sent += client.send(GET % 7 * 1000)
    except BlockingIOError:
        client.settimeout(5)
    drain_until_idle_ones_end(engine)
    answers = rest(client)
    assert answers.count(b"HTTP/1.1 404 ") == answers.count(b"404 Not Found\n") == engine.count("requests")
    assert answers.endswith(b"404 Not Found\n") and answers.count(b"Connection: close") == 1


def test_drain_lets_a_request_arrive(start):
    engine = start([], nowhere)
    client = engine.connect()
    client.sendall(b"GET / HT")
    engine.wait("connections_open", 1)
    with engine.lock:
        engine.engine.drain()
    drain_until_idle_ones_end(engine)
    client.sendall(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert rest(client).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(("line", "address"), [
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n", b"192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n", b"2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((192, 0, 2, 9, 127, 0, 0, 1, 0, 80, 0, 80)), b"192.0.2.9"),
    (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"127.0.0.1"),
], ids=["v1-4", "v1-6", "v1-unknown", "v2-4", "v2-local"])
@pytest.mark.parametrize("piece", [1000, 1], ids=["whole", "bytes"])
def test_proxy_protocol(start, backend, line, address, piece):
    engine = start([("127.0.0.1", backend.port)], proxied)
    client = engine.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = line + GET % 1
    for at in range(0, len(data), piece):
        client.sendall(data[at:at + piece])
    upstream = backend.accept()
    assert b"X-Forwarded-For: " + address + b"\r\n" in head(upstream)


@pytest.mark.parametrize("line", [GET % 1, b"PROXY TCP4 1.2.3 127.0.0.1 1 2\r\n", b"PROXY TCP4 1.2.3.4 127.0.0.1 1 99999\r\n",
                                  b"PROXY " + b"x" * 200, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12)])
def test_a_connection_without_its_proxy_line_is_closed(start, backend, line):
    engine = start([("127.0.0.1", backend.port)], proxied)
    client = engine.connect()
    client.sendall(line + GET % 1)
    assert rest(client) in (b"", b"<RST>")
    assert engine.count("proxy_header") == 1


def test_forwarded_fields_of_strangers_are_overwritten(start, backend):
    engine = start([("127.0.0.1", backend.port)])
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"
                   b"X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine\r\n\r\n")
    got = head(backend.accept())
    assert got.count(b"X-Forwarded-For:") == 1 and b"X-Forwarded-For: 127.0.0.1\r\n" in got
    assert b"X-Forwarded-Proto: http\r\n" in got and b"X-Forwarded-Host: a\r\n" in got
    assert not any(word in got for word in (b"6.6.6.6", b"evil", b"mine", b"Forwarded: for"))


def test_forwarded_fields_of_trusted_proxies_are_continued(start, backend):
    engine = start([("127.0.0.1", backend.port)], trusted_proxies=("127.0.0.0/8",))
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n"
                   b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\nX-Request-Id: mine\r\n\r\n")
    got = head(backend.accept())
    assert b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 127.0.0.1\r\n" in got and got.count(b"X-Forwarded-For:") == 1
    assert b"X-Forwarded-Proto: https\r\n" in got and b"X-Forwarded-Proto: http\r\n" not in got
    assert b"X-Forwarded-Host: outer\r\n" in got and b"X-Request-Id: mine\r\n" in got


@pytest.fixture
def log(tmp_path):
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    yield fd
    os.close(fd)


def logged(engine, fd) -> bytes:
    with engine.lock:
        engine.engine.tick()
    return os.pread(fd, 1 << 20, 0)


def test_json_log(start, backend, log):
    engine = start([("127.0.0.1", backend.port)], log=log)
    client = engine.connect()
    client.sendall(b'POST /a?b="c HTTP/1.1\r\nHost: a\r\nUser-Agent: "q\\\xff"\r\nContent-Length: 3\r\n\r\nabc')
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
    assert head(client).startswith(b"HTTP/1.1 201 ")
    client.sendall(b"BAD\r\n\r\n")
    rest(client)
    first, second = (json.loads(line) for line in logged(engine, log).splitlines())
    expected = {"client": "127.0.0.1", "method": "POST", "host": "a", "target": '/a?b="c', "status": 201, "flags": "-",
                "bytes_in": 3, "bytes_out": 2, "listener": "default/gateway/web", "route": "default/all", "rule": 0,
                "backend": "default/echo:80", "endpoint": f"127.0.0.1:{backend.port}", "user_agent": '"q\\\xff"'}
    assert {name: first[name] for name in expected} == expected
    assert len(first["request_id"]) == 36
    assert (second["status"], second["flags"]) == (400, "bad_request")


def terminal():
    ends = pty.openpty()
    tty.setraw(ends[1])
    return ends


LOGS = {"pipe": os.pipe, "terminal": terminal, "socket": lambda: [end.detach() for end in socket.socketpair()]}


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("size", [100, 6000], ids=["short lines", "lines beyond PIPE_BUF"])
def test_a_log_that_nobody_reads_stops_nothing(start, size, kind):
    """A full pipe would hold a worker up for ever; lines are dropped, and those that are read are whole."""
    reader, writer = LOGS[kind]()
    engine = start([], nowhere, log=writer)
    client = engine.connect()
    for n in range(300):               # the first leaves an odd number of pages: a long one fits in half
        client.sendall(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (size if n else 3500)))
        assert head(client).startswith(b"HTTP/1.1 404 ")
        assert client.recv(14, socket.MSG_WAITALL) == b"404 Not Found\n"
        with engine.lock:
            engine.engine.tick()
    assert engine.count("log_dropped") > 0
    os.set_blocking(reader, False)
    got = b""
    for _ in range(3):                 # the rest of a line that had begun comes with the next batch
        while True:
            try:
                got += os.read(reader, 65536)
            except BlockingIOError:
                break
        with engine.lock:
            engine.engine.tick()
    for line in got.splitlines():
        assert json.loads(line)["status"] == 404
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("address", "status"), [("", 503), ("127.0.0.1", 503), ("127.0.0.2", 404)])
def test_a_connection_outlives_the_bind_it_came_by(start, address, status):
    """Its Gateway moved to another address: where that covers the connection's, it is served on; else it is told so."""
    engine = start([])
    client = engine.connect()
    client.sendall(GET % 1)
    assert head(client).startswith(b"HTTP/1.1 503 ")
    client.recv(100)
    plan = one_rule([])
    engine.apply(ir.Plan(binds=tuple(ir.Bind(address=address, port=80, listeners=bind.listeners) for bind in plan.binds),
                         backends=plan.backends, endpoints=plan.endpoints), bind_id=7)
    client.sendall(GET % 2)
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"Connection: close" in answer) == (status == 404)


def test_our_own_answers_are_logged_with_their_size(start, log):
    engine = start([], nowhere, log=log)
    client = engine.connect()
    client.sendall(GET % 1 + b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + b"BAD\r\n\r\n")
    answers = rest(client)
    lines = [json.loads(line) for line in logged(engine, log).splitlines()]
    assert [(line["status"], line["bytes_out"]) for line in lines] == [(404, 14), (404, 0), (400, 16)]
    assert answers.endswith(b"400 Bad Request\n")


def elsewhere():
    """A client, and its connection as somebody else accepted it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    client.settimeout(5)
    return client, accepted


@pytest.mark.parametrize("when", ["before a byte", "with a request"])
def test_a_connection_that_somebody_else_accepted(start, log, when):
    """It is served as one of its own, also where its first request has come already."""
    engine = start([], nowhere, log=log)
    client, accepted = elsewhere()
    engine.clients.append(client)
    if when == "with a request":
        client.sendall(GET % 1)
    with engine.lock:
        engine.engine.take(accepted.detach(), 0)
    if when == "before a byte":
        client.sendall(GET % 1)
    assert head(client).startswith(b"HTTP/1.1 404 ")
    assert (engine.count("connections"), engine.count("connections_open")) == (1, 1)
    client.sendall(GET % 2)
    assert client.recv(14, socket.MSG_WAITALL) == b"404 Not Found\n"
    assert head(client).startswith(b"HTTP/1.1 404 ")
    assert json.loads(logged(engine, log).splitlines()[0])["client"] == "127.0.0.1"


@pytest.mark.parametrize("what", ["a connection", "a listening socket"])
def test_what_is_closed_is_heard_of_no_more_though_others_have_it(start, what):
    """A child that a filter forked, or the supervisor, has the same open file: nothing that happens there is this engine's business."""
    engine = start([], nowhere)
    if what == "a connection":
        client, copy = elsewhere()
        with engine.lock:
            engine.engine.take(os.dup(copy.fileno()), 0)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert head(client).startswith(b"HTTP/1.1 404 ")
        client.shutdown(socket.SHUT_WR)
        engine.wait("connections_open", 0)
    else:
        copy = socket.create_server(("127.0.0.1", 0))
        with engine.lock:
            engine.engine.listen(os.dup(copy.fileno()), 7)
            engine.engine.unlisten(7)
        client = socket.create_connection(copy.getsockname())
    with engine.lock:
        before = engine.count("events")
        if what == "a connection":
            copy.shutdown(socket.SHUT_RDWR)
        engine.engine.drain()
        assert engine.count("events") == before
    client.close()
    copy.close()


@pytest.mark.parametrize("why", ["no such bind", "gone", "at the cap", "at the cap of its address", "draining"])
def test_a_connection_that_cannot_be_taken_is_closed(start, why):
    engine = start([], nowhere, **({"connections": 1} if why == "at the cap" else {"connections_per_address": 1} if why[:3] == "at " else {}))
    if why.startswith("at the cap"):
        first = engine.connect()
        engine.wait("connections_open", 1)
    client, accepted = elsewhere()
    engine.clients.append(client)
    if why == "gone":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    with engine.lock:
        if why == "draining":
            engine.engine.finish()
        engine.engine.take(accepted.detach(), 9 if why == "no such bind" else 0)
    if why != "gone":
        assert rest(client) in (b"", b"<RST>")
    assert engine.count("connections_refused") == (1 if why.startswith("at the cap") else 0)
    if why.startswith("at the cap"):
        first.sendall(GET % 1)
        assert head(first).startswith(b"HTTP/1.1 404 ")


def says_hello(engine, *behind: bytes) -> bytes:
    """A client that offers TLS, says more at once and reads until the end."""
    goes = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), goes, server_hostname="a.test").do_handshake()
    client = engine.connect()
    client.sendall(b"".join([goes.read(), *behind]))
    return rest(client)


class Refusing:
    """In the place of certificates."""

    def server(self, generation, name):
        raise KeyError(name)


def test_a_listener_that_cannot_serve_says_so(start):
    """A certificate that OpenSSL refuses, say: handshake_failure, which what follows does not overtake."""
    engine = start([], functools.partial(one_rule, front_tls=True))
    with engine.lock:
        engine.engine.secure(Refusing())
    for behind in ([], [bytes(100_000)]):
        assert says_hello(engine, *behind) == b"\x15\3\3\0\2\2\x28"
    engine.wait("tls_failures", 2)
    engine.wait("connections_open", 0)
    assert engine.count("bugs") == 0


def test_a_port_that_serves_nothing_any_more_knows_no_name(start):
    engine = start([], functools.partial(one_rule, front_tls=True))
    engine.apply(NOWHERE, bind_id=7)
    assert says_hello(engine) == b"\x15\3\3\0\2\2\x70"


def test_who_is_told_and_stays_is_not_waited_for(start):
    """A connection that lingers ends by itself, whatever its client does: it has a deadline, and a bound on what is read."""
    engine = start([], functools.partial(one_rule, front_tls=True))
    still, busy = engine.connect(), engine.connect()
    still.sendall(bytes(8))
    busy.sendall(bytes(8))
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while True:
            busy.sendall(bytes(1 << 20))
    assert rest(still) == b"\x15\3\3\0\2\2\x0a"
    engine.wait("connections_open", 0)
