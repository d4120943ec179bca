"""Endpoints that the supervisor's probes found unhealthy: the marks that a worker follows (upstream/endpoint_state.pxd)."""
from collections import Counter

import pytest
from msgspec import structs
from support.scripted import head, one_rule, readable

from gwfast.engine import counters
from gwfast.graph.model import Active, TargetPolicy

POLICY = TargetPolicy(name="n/p", active=Active(type="TCP", interval_ms=1000, timeout_ms=1000, unhealthy=1, healthy=1))
CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def probed(addresses, policy=POLICY):
    plan = one_rule(addresses)
    return structs.replace(plan, endpoints=(structs.replace(plan.endpoints[0], policy=policy),))


@pytest.fixture
def world(start, backend, other):
    """An engine before two endpoints, and what both served of 24 requests."""
    running = start([("127.0.0.1", each.port) for each in (backend, other)], probed)
    names = {backend.socket: "first", other.socket: "second"}

    def served() -> Counter:
        found = Counter()
        client = running.connect()
        for _ in range(24):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            which = readable(*names, seconds=5)[0]
            upstream = (backend if which is backend.socket else other).accept()
            head(upstream)
            upstream.sendall(CLOSE)
            upstream.close()
            head(client)
            found[names[which]] += 1
        return found

    places = [running.registry.endpoints["127.0.0.1", each.port, "http"] for each in (backend, other)]
    return running, served, places


def test_who_is_marked_gets_nothing(world, backend, other):
    running, served, (first, second) = world
    assert served().keys() == {"first", "second"}
    counters.mark(running.counters, *first, True)
    assert served() == {"second": 24}
    running.apply(probed([("127.0.0.1", each.port) for each in (backend, other)]))        # a reload changes nothing
    assert served() == {"second": 24}
    counters.mark(running.counters, *first, False)
    assert served().keys() == {"first", "second"}
    assert counters.ejected(running.counters, [first, second]) == []


def test_where_all_are_marked_all_are_used(world):
    running, served, places = world
    for place in places:
        counters.mark(running.counters, *place, True)
    assert served().keys() == {"first", "second"}


def test_a_mark_of_another_endpoint_is_none(world):
    running, served, (first, _) = world
    counters.mark(running.counters, first.slot, first.generation + 1, True)
    assert served().keys() == {"first", "second"}
    counters.mark(running.counters, *first, True)
    counters.mark(running.counters, first.slot, first.generation + 1, False)     # who goes takes no other's mark away
    assert served() == {"second": 24}


def test_without_the_policy_a_mark_is_none(world, backend, other):
    running, served, (first, _) = world
    counters.mark(running.counters, *first, True)
    running.apply(probed([("127.0.0.1", each.port) for each in (backend, other)], None))
    assert served().keys() == {"first", "second"}


def test_beyond_the_cells_there_is_nothing_to_mark():
    fd = counters.create(1, 4)
    counters.mark(fd, 1 << 31, 1, True)
    assert counters.ejected(fd, [(1 << 31, 1)]) == []


def test_failures_are_not_counted_without_passive(world, backend, other):
    """Of a backend that is probed, and no more, no endpoint is ejected."""
    running, served, places = world
    client = running.connect()
    for _ in range(10):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        which = readable(backend.socket, other.socket, seconds=5)[0]
        upstream = (backend if which is backend.socket else other).accept()
        head(upstream)
        upstream.sendall(CLOSE.replace(b"200", b"500"))
        upstream.close()
        assert head(client).startswith(b"HTTP/1.1 500")
    assert counters.ejected(running.counters, places) == []
    assert running.count("endpoint_ejections") == 0
