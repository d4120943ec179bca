"""Random requests and responses in random pieces through the engine, with h11 on both ends: every body arrives whole.

The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import os
import random
import threading

import h11
import pytest
from support.scripted import Backend
from support.random_traffic import events, framing, pieces, send, serve

SEEDS = int(os.environ.get("GWFAST_SEEDS", "25"))
SIZES = (0, 1, 7, 100, 4096, 8193, 33000, 70001, 300000)


def body_of(rng) -> bytes:
    return rng.randbytes(rng.choice(SIZES))


def converse(rng, client):
    """Send a few requests, pipelined, and check each answer."""
    protocol = h11.Connection(h11.CLIENT)
    bodies = [body_of(rng) for _ in range(rng.randrange(1, 6))]
    out = bytearray()
    for n, body in enumerate(bodies):
        request = h11.Connection(h11.CLIENT)
        how = framing(rng, len(body), False)
        method = "POST" if body or rng.random() < 0.5 else "GET"
        fields = [("Host", "a"), ("N", str(n))] + ([how] if body or method == "POST" else [])
        out += request.send(h11.Request(method=method, target=f"/{n}", headers=fields))
        for piece in pieces(rng, body) if len(fields) > 2 else ():
            out += request.send(h11.Data(data=piece))
        out += request.send(h11.EndOfMessage())
    sender = threading.Thread(target=guarded_send, args=(random.Random(rng.random()), client, bytes(out)), daemon=True)
    sender.start()
    for body in bodies:
        protocol.send(h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
        protocol.send(h11.EndOfMessage())
        got = bytearray()
        for event in events(client, protocol):
            if isinstance(event, h11.Response):
                assert event.status_code == 200
            elif isinstance(event, h11.Data):
                got += event.data
        assert bytes(got) == bytes(reversed(body))
        protocol.start_next_cycle()
    sender.join()


def guarded_send(rng, client, data):
    try:
        send(rng, client, data)
    except OSError:
        pass


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_body_arrives_whole(start, backend, seed):
    backend.socket.settimeout(None)
    other = Backend()
    other.socket.settimeout(None)
    for each in (backend, other):
        threading.Thread(target=serve, args=(each, seed), daemon=True).start()
    engine = start([("127.0.0.1", backend.port), ("127.0.0.1", other.port)])
    rng = random.Random(seed)
    failures = []

    def talk(each):
        try:
            converse(random.Random(each), engine.connect())
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=talk, args=(rng.random(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.socket.shutdown(2)
    backend.socket.shutdown(2)
    other.close()
    assert not failures
    assert engine.count("bad_request") == engine.count("upstream_malformed") == engine.count("internal") == 0
