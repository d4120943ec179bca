"""Backends over TLS that speak HTTP/2 because ALPN says so, and one that no longer does."""
import asyncio
import contextlib
import functools
import ssl
import sys
import threading
from pathlib import Path

import pytest
from support.http2_backend import Http2Backend
from support.scripted import head, one_rule
from support.http2_upstream import BODY, GET, echo, exchange, post

from gwfast.plan import ir
from gwfast.plan.credentials import Credentials
from gwfast.serve.certs import Certs

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from make_certificates import Authority  # noqa: E402

NAME = "backend.example"


@pytest.fixture(scope="module")
def authority():
    return Authority("gwfast engine tests")


@pytest.fixture
def start_tls(start, authority, tmp_path):
    """A backend over TLS that offers these protocols, and an engine in front of it."""
    made = []

    def begin(protocol, alpn, offered=("h2", "http/1.1"), handler=echo):
        chain, key = authority.certificate(NAME)
        (tmp_path / "pair.pem").write_bytes(chain + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "pair.pem")
        context.set_alpn_protocols(alpn)
        made.append(Http2Backend(handler, tls=context))
        tls = ir.BackendTLS(ca=(authority.pem,), hostname=NAME, alpn=offered)
        plan = functools.partial(one_rule, protocol=protocol, tls=tls)
        engine = start([("127.0.0.1", made[-1].port)], plan)
        with engine.lock, contextlib.closing(Credentials()) as writer:
            engine.engine.secure(Certs(writer.publish(plan([("127.0.0.1", made[-1].port)]))))
        return engine, made[-1], context

    yield begin
    for each in made:
        each.close()
        assert not each.failures


@pytest.mark.parametrize("protocol", ["http", "h2c"])
def test_one_connection_for_all(start_tls, protocol):
    engine, backend, _ = start_tls(protocol, ["h2"])
    client = engine.connect()
    for n in range(5):
        assert exchange(client, post(b"%d" % n))[1] == b"%d" % n
    assert exchange(client, post(BODY, chunked=True))[1] == BODY
    assert engine.count("upstream_connects") == engine.count("upstream_open") == engine.count("upstream_idle") == 1
    assert {request.fields[b":scheme"] for request in backend.requests} == {b"https"}


def test_once_it_is_known_many_wait_for_one_connection(start_tls):
    engine, backend, _ = start_tls("http", ["h2"])
    assert exchange(engine.connect(), post(b"a"))[1] == b"a"
    backend.do(lambda: [connection.writer.transport.abort() for connection in backend.connections])
    engine.wait("upstream_open", 0)
    clients = [engine.connect() for _ in range(20)]
    with engine.lock:                                    # all of them in one round
        for client in clients:
            client.sendall(GET)
        threading.Event().wait(0.05)
    for client in clients:
        assert head(client).startswith(b"HTTP/1.1 200 ")
    assert engine.count("upstream_connects") == 2


@pytest.mark.parametrize("protocol", ["http", "h2c"])
def test_a_backend_that_speaks_http2_no_more(start_tls, protocol):
    """What waits for its connection begins anew in HTTP/1.1, where it may."""
    engine, backend, context = start_tls(protocol, ["h2"])
    assert exchange(engine.connect(), post(b"a"))[1] == b"a"
    backend.do(lambda: [connection.writer.transport.abort() for connection in backend.connections])
    engine.wait("upstream_open", 0)

    async def accept(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    def change():
        context.set_alpn_protocols(["http/1.1"])
        backend.accept = quiet(accept)

    backend.do(change)
    got = exchange(engine.connect(), GET)
    if protocol == "http":
        assert got[1] == b"old"
        assert exchange(engine.connect(), GET)[1] == b"old"
        assert engine.count("upstream_retries") == 1
    else:
        assert got[0].startswith(b"HTTP/1.1 503 ")


def quiet(accept):
    async def run(reader, writer):
        try:
            await accept(reader, writer)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
    return run
