"""A backend of random traffic."""
import random
import threading

import h11


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
