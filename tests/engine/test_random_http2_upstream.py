"""Random traffic to backends of HTTP/2 that answer late, reset, refuse, go away, change their windows and die, from clients
that leave, while tables change.

Whatever happens, an answer that looks whole is the right one for its request, a request that a backend sees whole is one that
a client sent, and nothing is left behind. The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import os
import random

import pytest
from support.http2_backend import Http2Backend
from support.scripted import one_rule
from support.random_faults import SHORT, ask, quietly, under_changes
from support.random_http2 import handler, settings

SEEDS = min(int(os.environ.get("GWFAST_SEEDS", "8")), 1000)
CLIENTS = 12


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_mixed_up_and_nothing_is_left(start, seed):
    rng = random.Random(seed)
    failures = []
    backends = [Http2Backend(handler(random.Random(f"{seed} {n}"), failures), settings(rng)) for n in range(2)]
    addresses = [("127.0.0.1", backend.port) for backend in backends]

    def plan(chosen):
        return one_rule(chosen, protocol="h2c")

    engine = start(addresses, plan, pool_size=rng.choice((0, 1, 100)), **SHORT)

    def talk(name):
        quietly(ask, random.Random(f"{seed} {name}"), engine.connect(), name)

    under_changes(engine, plan, addresses, rng, CLIENTS, talk, failures)
    for backend in backends:
        backend.close()
    assert not failures
    engine.wait("upstream_open", 0)
    assert engine.count("upstream_idle") == engine.count("internal") == engine.count("bugs") == 0
