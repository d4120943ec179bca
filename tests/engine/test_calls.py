"""Requests of the gateway's own (mirrors' copies, questions to authorizers) and the endpoints that they go to."""
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec import structs
from support.scripted import Backend, head, one_rule
from support.authorizers import FAILED, OK, YES
from support.exchanges import asked, expect

from gwfast import limits

from gwfast.engine import counters
from gwfast.graph.model import Passive, TargetPolicy
from gwfast.plan import ir

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
ERROR = b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n"
THEIRS = ir.Backend(namespace="default", name="theirs", port=80)
CLOSED = (1, 2, 3, 4)              # ports that nobody listens on
KINDS = {"mirror": ir.MirrorFilter(backend=THEIRS), "authorizer": ir.AuthorizeFilter(backend=THEIRS)}
WATCHED = TargetPolicy(name="n/p", passive=Passive(failures=2, ejection_ms=60_000, percent=100))


@pytest.fixture
def begin(start, backend) -> Callable:
    """begin(kind, ports): an engine whose mirror or authorizer has these endpoints."""
    def begin(kind, ports, policy=None):
        where = ir.Endpoints(key=THEIRS.key, addresses=tuple(("127.0.0.1", port) for port in ports), policy=policy)

        def plan(addresses) -> ir.Plan:
            made = one_rule(addresses, filters=(KINDS[kind],))
            return structs.replace(made, backends=(*made.backends, THEIRS), endpoints=(*made.endpoints, where))
        return start([("127.0.0.1", backend.port)], plan)
    return begin


class Turns:
    """One client, whose requests are called about and then answered by the backend."""

    def __init__(self, engine, backend):
        self.engine, self.backend = engine, backend
        self.client, self.upstream = engine.connect(), None
        self.ends: Counter = Counter()

    def ask(self, kind: str, theirs: Backend, says: bytes) -> bytes:
        """The status that the client gets where they say this, and close."""
        self.client.sendall(GET)
        if kind == "mirror":
            self.serve()
        call = theirs.accept()
        head(call)
        call.sendall(says)
        call.close()
        if kind == "authorizer" and says == YES:
            self.serve()
        if kind == "mirror":
            end = "mirror_answered" if says in (YES, ERROR) else "mirror_failed"
            self.ends[end] += 1
            self.engine.wait(end, self.ends[end])
        return head(self.client).split()[1]

    def serve(self) -> None:
        self.upstream = asked(self.backend, self.upstream)
        head(self.upstream)
        self.upstream.sendall(OK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", [1, 2])
def test_another_endpoint_is_tried_where_no_connection_can_be_made(begin, backend, other, kind, dead):
    engine = begin(kind, [*CLOSED[:dead], other.port])
    turns = Turns(engine, backend)
    for _ in range(200):                               # until chance chose one that is dead
        assert turns.ask(kind, other, YES) == b"200"
        if engine.count("upstream_connect_errors"):
            break
    assert 1 <= engine.count("upstream_connect_errors") <= dead
    assert engine.count("mirror_failed") == engine.count("authorizer_failed") == 0


@pytest.mark.parametrize(("dead", "tried"), [(1, 1), (2, 2), (4, 3)])      # limits.CONNECT_ATTEMPTS
def test_where_all_are_dead_it_has_failed(begin, dead, tried):
    engine = begin("authorizer", CLOSED[:dead])
    client = engine.connect()
    client.sendall(GET)
    expect(client, FAILED)
    assert engine.count("upstream_connect_errors") == tried
    engine.wait("requests_open", 0)


def test_all_mirrors_are_dead(begin, backend):
    engine = begin("mirror", CLOSED[:2])
    client = engine.connect()
    client.sendall(GET)
    upstream = asked(backend, None)
    head(upstream)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    engine.wait("mirror_failed", 1)
    assert engine.count("upstream_connect_errors") == 2


FAILURES = {"5xx": ERROR, "garbage": b"what\r\n\r\n", "a part": b"HTTP/1.1 200", "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("says", FAILURES.values(), ids=FAILURES)
def test_what_they_do_wrong_counts_for_their_health(begin, backend, other, kind, says):
    engine = begin(kind, [other.port], WATCHED)
    place = engine.registry.endpoints["127.0.0.1", other.port, "http"]
    turns = Turns(engine, backend)
    for said, out in ((says, 0), (YES, 0), (says, 0), (says, 1)):
        turns.ask(kind, other, said)
        assert len(counters.ejected(engine.counters, [place])) == out
    assert engine.count("endpoint_ejections") == 1
    turns.ask(kind, other, YES)                        # where all are out, all are used


@pytest.mark.parametrize("kind", KINDS)
def test_each_connection_that_ends_without_an_answer_counts(begin, backend, other, kind):
    engine = begin(kind, [other.port], WATCHED)
    turns = Turns(engine, backend)
    turns.client.sendall(GET)
    for n in range(limits.CONNECT_ATTEMPTS):
        call = other.accept()
        head(call)
        assert engine.count("endpoint_ejections") == (n == 2)      # WATCHED: the second put it out
        call.close()
    if kind == "mirror":
        turns.serve()
    assert head(turns.client).split()[1] == (b"200" if kind == "mirror" else b"403")


def test_no_connection_counts_for_their_health(begin):
    engine = begin("authorizer", CLOSED[:1], WATCHED)
    client = engine.connect()
    for n in range(2):
        client.sendall(GET)
        expect(client, FAILED)
        assert engine.count("endpoint_ejections") == n


def test_a_copy_goes_on_with_the_table_that_it_began_with(begin, backend, other):
    """The endpoints that it may try are those of then, whatever comes meanwhile."""
    engine = begin("mirror", [other.port], WATCHED)
    place = engine.registry.endpoints["127.0.0.1", other.port, "http"]
    client = engine.connect()
    upstream, copies = None, []
    for _ in range(2):
        client.sendall(GET)
        upstream = asked(backend, upstream)
        head(upstream)
        upstream.sendall(OK)
        head(client)
        copies.append(other.accept())
    for _ in range(3):
        engine.apply(one_rule([("127.0.0.1", backend.port)]))
    for copy in copies:
        head(copy)
        copy.sendall(ERROR)
        copy.close()
    engine.wait("mirror_answered", 2)
    assert len(counters.ejected(engine.counters, [place])) == 1
