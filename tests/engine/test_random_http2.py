"""Random requests, windows and pieces through the engine, with h2 as the client and h11 as the backend: every body that is not
reset arrives whole, and nothing stays behind.

The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import os
import random
import socket
import threading

import h2.events
import h2.settings
import pytest
from support.http2_client import Http2
from support.random_traffic import serve

SEEDS = int(os.environ.get("GWFAST_SEEDS", "25"))
SIZES = (0, 1, 100, 4096, 16385, 33000, 70001, 200000)
INITIAL = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
FRAME = h2.settings.SettingCodes.MAX_FRAME_SIZE


def say_more(rng, client, bodies) -> None:
    """A piece of each body that windows allow."""
    for stream, body in list(bodies.items()):
        padding = rng.choice((None, None, 0, 9))
        room = min(client.protocol.local_flow_control_window(stream), client.protocol.max_outbound_frame_size) - 10
        n = max(0, min(rng.choice((1, 100, 5000, 16384)), room, len(body)))
        if n or not body:
            client.protocol.send_data(stream, body[:n], end_stream=n == len(body), pad_length=padding if room > 0 else None)
            bodies[stream] = body[n:]
            if n == len(body):
                del bodies[stream]
    client.flush()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_bodies_come_back_reversed(backend, start, seed):
    rng = random.Random(seed)
    running = start([("127.0.0.1", backend.port)])
    serving = threading.Thread(target=serve, args=(backend, seed), daemon=True)
    serving.start()
    client = Http2(running.connect(), settings={INITIAL: rng.choice((1, 1000, 65535, 1 << 20)), FRAME: rng.choice((16384, 1 << 20))},
                   acknowledge=True)
    client.socket.settimeout(20)
    sizes = SIZES if client.protocol.local_settings.initial_window_size > 1 else SIZES[:3]
    sent, bodies, gone = {}, {}, set()
    for _ in range(rng.randint(1, 30)):
        body = rng.randbytes(rng.choice(sizes))
        fields = [("content-length", str(len(body)))] if rng.random() < 0.5 else []
        stream = client.ask("/", "POST", fields, end=False)
        sent[stream] = bodies[stream] = body
    while bodies:
        say_more(rng, client, bodies)
        if rng.random() < 0.1:
            stream = rng.choice(list(sent))
            if stream in bodies:
                client.protocol.reset_stream(stream, 8)
                gone.add(stream)
                del bodies[stream]
                client.flush()
        if not any(client.protocol.local_flow_control_window(stream) > 10 for stream in bodies) and bodies:
            client.turn()
    for stream in sent.keys() - gone:
        assert client.over(stream) == "ended"
        assert client.body(stream) == sent[stream][::-1]
    running.wait("requests_open", 0)
    assert not [event for event in client.events if isinstance(event, h2.events.ConnectionTerminated)]
    backend.socket.shutdown(socket.SHUT_RDWR)      # nothing is accepted once the backend's connections are closed
    serving.join()
