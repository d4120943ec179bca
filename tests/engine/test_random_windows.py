"""Random clients with small windows, in clear and over TLS, and some of HTTP/1.1, before backends of both that answer
late, reset, refuse, go away and die, beside mirrors that do the same.

Whatever happens, an answer that looks whole is the right one for its request, and nothing is left behind. In the sanitizer's
build this is the search for what is used after it was freed. The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import contextlib
import functools
import os
import random
import threading

import h2.events
import h2.exceptions
import pytest
from support.http2_backend import Http2Backend
from h2.connection import ConnectionState
from h2.settings import SettingCodes
from support.http2_client import Http2
from support.scripted import Backend, one_rule, readable, shadowed
from support.random_faults import SHORT, accept, ask, content, quietly, under_changes
from support.random_http2 import handler, settings

SEEDS = min(int(os.environ.get("GWFAST_SEEDS", "12")), 10_000)
CLIENTS = 8
SIZES = (0, 1, 100, 5000, 33_000, 70_000)
WINDOWS = (0, 1, 10, 1000, 16_384, 65_535)


class Asked:
    """One stream: what was asked, and how much of its body is still to be sent."""

    def __init__(self, rng, client, token: bytes):
        self.token, self.asked = token, rng.choice(SIZES)
        self.left = content(token, rng.choice(SIZES))
        fields = [("token", token), ("size", b"%d" % len(self.left)), ("asked", b"%d" % self.asked)]
        if rng.random() < 0.5:
            fields.append(("content-length", b"%d" % len(self.left)))
        self.stream = client.ask(method="POST", fields=fields, end=not self.left, flush=False)

    def send(self, rng, client) -> bool:
        """Send a piece of the body as windows allow; False: nothing could be."""
        room = min(client.protocol.local_flow_control_window(self.stream), client.protocol.max_outbound_frame_size, len(self.left))
        n = min(room, rng.choice((1, 100, 16_384)))
        if n <= 0:
            return False
        client.protocol.send_data(self.stream, self.left[:n], end_stream=n == len(self.left))
        self.left = self.left[n:]
        return True


def converse(rng, connection, name: int) -> None:
    """A client of HTTP/2 that opens its windows in small steps, resets, pauses and leaves."""
    client = Http2(connection, settings={SettingCodes.INITIAL_WINDOW_SIZE: rng.choice(WINDOWS)}, acknowledge=False)
    asked = [Asked(rng, client, b"%d-%d." % (name, n)) for n in range(rng.randint(1, 6))]
    client.flush()
    connection.settimeout(20)
    open_ones = {each.stream: each for each in asked}
    seen, reset = 0, False
    while open_ones and not client.ended and client.protocol.state_machine.state is not ConnectionState.CLOSED:
        each = rng.choice(list(open_ones.values()))
        dice = rng.random()
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            if each.left:
                each.send(rng, client)
            if dice < 0.02:
                client.protocol.reset_stream(each.stream, 8)
                del open_ones[each.stream]
                reset = True
            elif dice < 0.9 and client.protocol.remote_flow_control_window(each.stream) < 100_000:
                client.protocol.increment_flow_control_window(rng.choice((1, 7, 1000, 5000, 30_000)), each.stream)
        if dice > 0.995:
            return
        client.flush()
        while not client.ended and (readable(connection) or getattr(connection, "pending", int)()):
            try:
                client.turn()
            except h2.exceptions.ProtocolError:
                if not reset:          # h2 takes a 1xx of a stream that it has reset for an error
                    raise
                return
        for event in client.events[seen:]:
            if client.protocol.state_machine.state is ConnectionState.CLOSED:
                break                  # by a GOAWAY: these were too many small windows at once
            if isinstance(event, h2.events.DataReceived):      # the connection's window is not what is tried here
                client.protocol.increment_flow_control_window(max(event.flow_controlled_length, 1))
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                open_ones.pop(event.stream_id, None)
        seen = len(client.events)
        readable(connection, seconds=rng.choice((0, 0.001, 0.01)))
    for each in asked:
        check(client, each)


def check(client, each: Asked) -> None:
    """An answer that has ended is whole, and its own; or one of the gateway's."""
    events = [event for event in client.events if getattr(event, "stream_id", None) == each.stream]
    if not any(isinstance(event, h2.events.StreamEnded) for event in events):
        return
    fields = next(dict(event.headers) for event in events if isinstance(event, h2.events.ResponseReceived))
    if fields[b":status"] == b"200":
        assert fields[b"token"] == each.token, (fields, each.token)
        assert client.body(each.stream) == content(each.token, each.asked), (len(client.body(each.stream)), each.asked)
    else:
        assert fields[b":status"] in (b"400", b"404", b"408", b"502", b"503", b"504"), fields


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_mixed_up_and_nothing_is_left(start, seed):
    rng = random.Random(seed)
    failures = []
    secure, protocol, mirrored = rng.random() < 0.5, rng.choice(("http", "h2c")), rng.choice((None, "http", "h2c"))
    news = [Http2Backend(handler(random.Random(f"{seed} {n}"), failures), settings(rng)) for n in range(2)]
    olds = [Backend() for _ in range(2)]
    for each in olds:
        each.socket.settimeout(None)
        threading.Thread(target=accept, args=(each, seed, failures), daemon=True).start()
    ports = {kind: [("127.0.0.1", each.port) for each in backends] for kind, backends in (("http", olds), ("h2c", news))}
    plan = functools.partial(one_rule, protocol=protocol, front_tls=secure)
    if mirrored:
        plan = functools.partial(shadowed, shadows=ports[mirrored], protocol=mirrored, front_tls=secure)
        protocol = "http"
    addresses = ports[protocol]
    engine = start(addresses, plan, pool_size=rng.choice((0, 1, 100)), **SHORT)

    def talk(name):
        own = random.Random(f"{seed} {name}")
        old = not secure and own.random() < 0.25       # ask() sends and reads at once, which Python's TLS cannot
        with contextlib.suppress(OSError):
            connection = engine.connect_tls() if secure else engine.connect()
            quietly(ask if old else converse, own, connection, name)

    under_changes(engine, plan, addresses, rng, CLIENTS, talk, failures)
    for each in olds:
        each.socket.shutdown(2)
        each.close()
    for each in news:
        each.close()
    assert not failures
    assert engine.count("internal") == engine.count("bugs") == 0
