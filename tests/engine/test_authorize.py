"""ExternalAuth over HTTP: what the authorizer is asked, what goes on, and what the client gets where it does not."""
import socket
import struct
from collections.abc import Callable

import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule, readable
from support.exchanges import FORWARDED, asked, expect, refused

from gwfast import limits
from gwfast.plan import ir
from support.authorizers import ASKED, AUTHORIZER, BODY, FAILED, FIELDS, GET, OK, SENT, YES


@pytest.fixture
def begin_behind(start, backend, other) -> Callable:
    """begin_behind(rule's filters, backendRef's filters): an engine whose authorizer, AUTHORIZER, is `other`."""
    def begin(rule=(), behind=(), **more):
        def plan(addresses) -> ir.Plan:
            made = one_rule(addresses)
            made = one_rule(addresses, filters=rule, backends=(ir.WeightedBackend(backend=made.backends[0], filters=behind),), **more)
            return ir.Plan(binds=made.binds, backends=(*made.backends, AUTHORIZER), endpoints=(
                *made.endpoints, ir.Endpoints(key=AUTHORIZER.key, addresses=(("127.0.0.1", other.port),))))
        return start([("127.0.0.1", backend.port)], plan, request_id=False)
    return begin


def on(what: str, **ops) -> ir.HeaderFilter:
    return ir.HeaderFilter(on=what, **ops)


# The filter, what the authorizer is asked, what it says, what the backend gets
PASSES = {
    "nothing configured": ({}, ASKED, YES, SENT),
    "path": ({"path": "/check/it"}, ASKED.replace(b"/x", b"/check/it/x"), YES, SENT),
    "fields": ({"headers": ("x-b", "cookie", "x-none")}, ASKED.replace(b"Content-L", b"X-B: 2\r\nCookie: c\r\nContent-L"), YES, SENT),
    "fields of the answer": ({}, ASKED, b"HTTP/1.1 200 OK\r\nx-b: 3\r\nX-User: u\r\nContent-Type: t\r\nServer: s\r\nHost: h\r\n"
                                        b"Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nno",
                             SENT.replace(b"X-B: 2\r\n", b"")[:-2] + b"x-b: 3\r\nX-User: u\r\nServer: s\r\n\r\n"),
    "some of the answer": ({"answers": ("x-user",)}, ASKED, b"HTTP/1.1 200 OK\r\nX-B: 3\r\nX-User: u\r\nContent-Length: 0\r\n\r\n",
                           SENT[:-2] + b"X-User: u\r\n\r\n"),
    "chunks and hints": ({}, ASKED, b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", SENT),
    "filters before and behind": (
        {"before": (on("request", set=(("authorization", "you"),)),), "after": (on("request", remove=("x-user",), add=(("x-b", "3"),)),)},
        ASKED.replace(b"Authorization: me", b"authorization: you"),
        b"HTTP/1.1 200 OK\r\nX-User: u\r\nX-Group: g\r\nContent-Length: 0\r\n\r\n",
        b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n" + FIELDS.replace(b"Authorization: me\r\n", b"") +
        b"authorization: you\r\nX-Group: g\r\nx-b: 3\r\n\r\n"),
    "rewritten before": ({"before": (ir.RewriteFilter(hostname="b"),)}, ASKED.replace(b"Host: a", b"Host: b"), YES,
                         SENT.replace(b"Host: a", b"Host: b", 1)),
}


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES)
def test_what_passes(begin, backend, other, case):
    """Twice, on the same connections."""
    given, question, says, sent = case
    engine = begin(**given)
    client, authorizer, upstream = engine.connect(), None, None
    for _ in range(2):
        client.sendall(GET)
        authorizer = asked(other, authorizer)
        expect(authorizer, question)
        authorizer.sendall(says)
        upstream = asked(backend, upstream)
        expect(upstream, sent)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ")
        assert client.recv(2) == b"ok"
    assert len(other.accepted) == 1 and engine.count("denied") == engine.count("authorizer_failed") == 0


# What the authorizer says, what the client gets, and the counter
DENIALS = {
    "401": (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nX-C: 1\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<no/>",
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nX-C: 1\r\nContent-Type: text/html\r\nContent-Length: 5\r\nDate: @\r\n\r\n<no/>",
            "denied"),
    "chunks": (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\nX-T: 1\r\n\r\n",
               b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nDate: @\r\n\r\nno", "denied"),
    "redirect": (b"HTTP/1.1 302 F\r\nLocation: https://login/\r\nContent-Length: 0\r\n\r\n",
                 b"HTTP/1.1 302 F\r\nLocation: https://login/\r\nContent-Length: 0\r\nDate: @\r\n\r\n", "denied"),
    "another success": (b"HTTP/1.1 204 OK\r\n\r\n", FAILED, "denied"),
    "its own error": (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nDate: @\r\n\r\n", "denied"),
    "a long body": (b"HTTP/1.1 429 Slow\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000, refused(b"429 Too Many Requests"), "denied"),
    "garbage": (b"what\r\n\r\n", FAILED, "authorizer_failed"),
    "a switch": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", FAILED, "authorizer_failed"),
    "a cut yes": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", FAILED, "authorizer_failed"),
    "a cut no": (b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\nok", FAILED, "authorizer_failed"),
    "nothing": (b"", FAILED, "authorizer_failed"),
}


@pytest.mark.parametrize("case", DENIALS.values(), ids=DENIALS)
def test_what_is_denied(begin, backend, other, case):
    says, gets, counter = case
    engine = begin()
    client = engine.connect()
    for n in range(1, 3):                  # the client's connection goes on
        client.sendall(GET)
        for _ in range(1 if says else limits.CONNECT_ATTEMPTS):
            authorizer = other.accept()
            expect(authorizer, ASKED)
            authorizer.sendall(says)
            authorizer.close()
        expect(client, gets)
        engine.wait(counter, n)
    engine.wait("requests_open", 0)
    assert len(backend.accepted) == 0 and engine.count("upstream_connects") == (2 if says else 6)


@pytest.mark.parametrize("more", [{"port": 1}, {"ports": ()}], ids=["refuses", "has no endpoints"])
def test_an_authorizer_that_is_not_there(begin, more):
    client = begin(**more).connect()
    for _ in range(3):
        client.sendall(GET)
        expect(client, FAILED)


@pytest.mark.parametrize("size", [0, 5, 1000, 60_000])
def test_a_body_is_shown_and_goes_on(begin, backend, other, size):
    engine = begin(max_body=60_000)
    client = engine.connect()
    body = b"x" * size
    client.sendall(BODY % size + body)
    authorizer = other.accept()
    expect(authorizer, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
    authorizer.sendall(YES)
    expect(backend.accept(), b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: %d\r\n\r\n" % size + body)


def test_a_body_in_chunks_is_shown_with_its_length(begin, backend, other):
    client = begin(max_body=100).connect()
    client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
    authorizer = other.accept()
    expect(authorizer, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    authorizer.sendall(YES)
    expect(backend.accept(), b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_a_larger_body_is_413(begin, other):
    engine = begin(max_body=1000)
    client = engine.connect()
    client.sendall(BODY % 1001 + b"x" * 1001)
    assert head(client).startswith(b"HTTP/1.1 413 ")
    engine.wait("body_too_large", 1)
    assert engine.count("upstream_connects") == 0


def test_a_body_that_is_not_shown_waits(begin, backend, other):
    """The authorizer is asked before it is there."""
    client = begin().connect()
    client.sendall(BODY % 100_000 + b"x" * 10)
    authorizer = other.accept()
    expect(authorizer, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    client.sendall(b"x" * 99_990)
    authorizer.sendall(YES)
    expect(backend.accept(), b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)


def test_a_connection_that_has_ended_meanwhile_is_replaced(begin, backend, other):
    """Whatever the method: it only asks."""
    client = begin(max_body=100).connect()
    for n in range(2):
        client.sendall(BODY % 5 + b"hello")
        authorizer = other.accepted[0] if n else other.accept()
        expect(authorizer, BODY % 5 + b"hello")
        if n:
            authorizer.close()
            authorizer = other.accept()
            expect(authorizer, BODY % 5 + b"hello")
        authorizer.sendall(YES)
        upstream = asked(backend, backend.accepted[0] if n else None)
        expect(upstream, b"POST /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"Content-Length: 5\r\n\r\nhello")
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ") and client.recv(2) == b"ok"


def test_two_authorizers_are_asked_in_turn(begin, backend, other):
    client = begin(after=(ir.AuthorizeFilter(backend=AUTHORIZER, path="/second"),)).connect()
    client.sendall(GET)
    authorizer = other.accept()
    expect(authorizer, ASKED)
    authorizer.sendall(YES)
    authorizer = asked(other, authorizer)
    expect(authorizer, ASKED.replace(b"/x", b"/second/x"))
    authorizer.sendall(YES)
    expect(backend.accept(), SENT)


def test_a_client_that_goes_ends_the_question(begin, other):
    engine = begin()
    client = engine.connect()
    client.sendall(GET)
    authorizer = other.accept()
    head(authorizer)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))     # one that ends may still want its answer
    client.close()
    assert authorizer.recv(1) == b""
    engine.wait("requests_open", 0)


def test_clients_of_http2(begin, backend, other):
    engine = begin()
    client = Http2(engine.connect())
    first, second, authorizer = client.ask("/one"), client.ask("/two"), None
    for path, says in ((b"/one", YES), (b"/two", b"HTTP/1.1 401 No\r\nX-C: 1\r\nContent-Length: 2\r\n\r\nno")):
        authorizer = asked(other, authorizer)
        assert head(authorizer).startswith(b"GET " + path + b" HTTP/1.1\r\n")
        authorizer.sendall(says)
    upstream = backend.accept()
    assert head(upstream).startswith(b"GET /one HTTP/1.1\r\n")
    upstream.sendall(OK)
    assert client.over(first) == client.over(second) == "ended"
    assert client.head(first)[b":status"] == b"200"
    assert (client.head(second)[b":status"], client.head(second)[b"x-c"], client.body(second)) == (b"401", b"1", b"no")


def test_one_that_dies_under_load_lets_nothing_pass(begin, backend, other):
    """200 clients: 100 are answered while it lives, the others get 403; none gets through, none is left waiting."""
    engine = begin()
    clients = [engine.connect() for _ in range(200)]
    passed = []
    for client in clients[:100]:
        client.sendall(GET)
        authorizer = asked(other, other.accepted[-1] if other.accepted else None)
        expect(authorizer, ASKED)
        authorizer.sendall(YES)
        passed.append(upstream := asked(backend, passed[-1] if passed else None))
        expect(upstream, SENT)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ")
    other.close()
    for client in clients[100:]:
        client.sendall(GET)
    statuses = [head(client).split()[1] for client in clients[100:]]
    assert statuses == [b"403"] * 100
    engine.wait("requests_open", 0)


# Filters of the rule, filters of its backendRef, what the authorizers are asked in turn, what the backend gets
ASK = ir.AuthorizeFilter(backend=AUTHORIZER)
BEHIND = {
    "alone": ((), (ASK,), [ASKED], SENT),
    "behind the rule's filters": ((on("request", remove=("x-a",)), on("request", set=(("authorization", "you"),))), (ASK,),
                                  [ASKED.replace(b"Authorization: me", b"authorization: you")],
                                  b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n" + FIELDS.replace(b"X-A: 1\r\n", b"").replace(
                                      b"Authorization: me\r\n", b"") + b"authorization: you\r\n\r\n"),
    "between its own": ((), (on("request", remove=("x-a",)), ASK, on("request", remove=("x-b",))), [ASKED],
                        SENT.replace(b"X-A: 1\r\nX-B: 2\r\n", b"")),
    "one on the rule, two on the backendRef": (
        (ir.AuthorizeFilter(backend=AUTHORIZER, path="/one"), on("request", remove=("x-a",))),
        (ir.AuthorizeFilter(backend=AUTHORIZER, path="/two"), on("request", remove=("x-b",)),
         ir.AuthorizeFilter(backend=AUTHORIZER, path="/three")),
        [ASKED.replace(b"/x", b"/%b/x" % n) for n in (b"one", b"two", b"three")], SENT.replace(b"X-A: 1\r\nX-B: 2\r\n", b"")),
}


@pytest.mark.parametrize("case", BEHIND.values(), ids=BEHIND)
def test_authorizers_of_a_backend_ref(begin_behind, backend, other, case):
    rule, behind, asks, gets = case
    client, authorizer, upstream = begin_behind(rule, behind).connect(), None, None
    for _ in range(2):
        client.sendall(GET)
        for each in asks:
            authorizer = asked(other, authorizer)
            expect(authorizer, each)
            authorizer.sendall(YES)
        upstream = asked(backend, upstream)
        expect(upstream, gets)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ") and client.recv(2) == b"ok"


@pytest.mark.parametrize("after, gets", [((), FAILED), ((ir.RedirectFilter(hostname="b", status=302),), FAILED)], ids=["forward", "redirect"])
def test_a_backend_ref_is_denied(begin_behind, backend, other, after, gets):
    engine = begin_behind((), (ASK, *after))
    client = engine.connect()
    client.sendall(GET)
    authorizer = other.accept()
    expect(authorizer, ASKED)
    authorizer.sendall(b"HTTP/1.1 204 No\r\n\r\n")
    expect(client, gets)
    engine.wait("denied", 1)
    assert not backend.accepted


def test_a_redirect_of_a_backend_ref_is_for_those_who_may(begin_behind, other):
    client = begin_behind((), (ASK, ir.RedirectFilter(hostname="b", status=302))).connect()
    client.sendall(GET)
    authorizer = other.accept()
    expect(authorizer, ASKED)
    authorizer.sendall(YES)
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 302 ") and b"ocation: http://b/x?q=1\r\n" in answer


def test_a_choice_without_an_authorizer_asks_nobody(start, backend, other):
    """Two backendRefs, one of which is guarded: exactly its share is asked."""
    free, guarded = (ir.Backend(namespace="default", name=name, port=80) for name in ("free", "guarded"))

    def plan(addresses) -> ir.Plan:
        made = one_rule(addresses, backends=(ir.WeightedBackend(backend=free), ir.WeightedBackend(backend=guarded, filters=(ASK,))))
        return ir.Plan(binds=made.binds, backends=(free, guarded, AUTHORIZER), endpoints=tuple(
            ir.Endpoints(key=each.key, addresses=(("127.0.0.1", port),))
            for each, port in ((free, backend.port), (guarded, backend.port), (AUTHORIZER, other.port))))
    client = start([("127.0.0.1", backend.port)], plan, request_id=False).connect()
    authorizer = upstream = None
    asks = []
    for _ in range(10):
        client.sendall(GET)
        if readable(other.socket, *([authorizer] if authorizer else []), *([upstream] if upstream else []), backend.socket, seconds=5)[0] in (
                other.socket, authorizer):
            authorizer = asked(other, authorizer)
            expect(authorizer, ASKED)
            authorizer.sendall(YES)
            asks.append(authorizer)
        upstream = asked(backend, upstream)
        expect(upstream, SENT)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ") and client.recv(2) == b"ok"
    assert len(asks) == 5
