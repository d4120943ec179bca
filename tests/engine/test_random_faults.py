"""Random traffic in which clients and backends cut, reset, stall and talk nonsense, while tables change.

Whatever happens, an answer that looks whole is the right one for its request, a request that a backend sees whole is
one that a client sent, and nothing is left behind. The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import os
import random
import socket
import threading

import pytest
from support.scripted import one_rule
from support.random_faults import SHORT, accept, ask, quietly, under_changes

SEEDS = min(int(os.environ.get("GWFAST_SEEDS", "10")), 1000)
CLIENTS = 12


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_mixed_up_and_nothing_is_left(start, backend, other, seed):
    rng = random.Random(seed)
    failures = []
    for each in (backend, other):
        each.socket.settimeout(None)
        threading.Thread(target=accept, args=(each, seed, failures), daemon=True).start()
    addresses = [("127.0.0.1", backend.port), ("127.0.0.1", other.port)]
    engine = start(addresses, pool_size=rng.choice((0, 1, 100)), **SHORT)

    def talk(name):
        quietly(ask, random.Random(f"{seed} {name}"), engine.connect(), name)

    under_changes(engine, one_rule, addresses, rng, CLIENTS, talk, failures)
    assert not failures
    with engine.lock:
        assert engine.count("upstream_open") == engine.count("upstream_idle")
    assert engine.count("internal") == engine.count("bugs") == 0
    for each in (backend, other):
        each.socket.shutdown(socket.SHUT_RDWR)
