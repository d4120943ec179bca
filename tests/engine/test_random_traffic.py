"""Random requests and responses in random pieces through the engine, with h11 on both ends: every body arrives whole.

The seeds are fixed; GWFAST_SEEDS=N runs N of them.
"""
import os
import random
import threading

import h11
import pytest
from support.scripted import Backend

SEEDS = int(os.environ.get("GWFAST_SEEDS", "25"))
SIZES = (0, 1, 7, 100, 4096, 8193, 33000, 70001, 300000)


def body_of(rng) -> bytes:
    return rng.randbytes(rng.choice(SIZES))


def pieces(rng, data: bytes):
    """Cut into a few random pieces, some of them tiny."""
    while data:
        n = rng.choice((1, 2, 3, 17, 1000, 16384, 65536, len(data)))
        yield data[:n]
        data = data[n:] if rng.random() < 0.9 else (yield data[n:]) or b""


def send(rng, connection, data: bytes):
    count = 0
    for piece in pieces(rng, data):
        connection.sendall(piece)
        count += 1
        if count > 20:
            rng = random.Random(0)
            connection.sendall(b"")


def framing(rng, size: int, closing: bool) -> list:
    ways = [("Content-Length", str(size)), ("Transfer-Encoding", "chunked")]
    return rng.choice([*ways, None] if closing else ways)


def events(connection, protocol):
    """Yield h11 events until the other side has said all that it will."""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(connection.recv(65536))
        elif event is h11.PAUSED:
            return
        else:
            yield event
            if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return


def answer(rng, connection):
    """Serve one connection of the engine: each body comes back, reversed, in some framing."""
    protocol = h11.Connection(h11.SERVER)
    while True:
        body = bytearray()
        for event in events(connection, protocol):
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                return
        reply = bytes(reversed(body))
        closing = rng.random() < 0.2
        how = framing(rng, len(reply), closing)
        fields = [how] if how else []
        if closing:
            fields.append(("Connection", "close"))
        out = protocol.send(h11.Response(status_code=200, headers=fields))
        for piece in pieces(rng, reply):
            out += protocol.send(h11.Data(data=piece))
        out += protocol.send(h11.EndOfMessage())
        if rng.random() < 0.2:
            out = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + out
        send(rng, connection, out)
        if closing:
            connection.close()
            return
        protocol.start_next_cycle()


def serve(backend, seed):
    n = 0
    while True:
        try:
            connection = backend.accept()
        except OSError:
            return
        n += 1
        threading.Thread(target=guarded, args=(random.Random(seed * 1000 + n), connection), daemon=True).start()


def guarded(rng, connection):
    try:
        answer(rng, connection)
    except (OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
        connection.close()


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
