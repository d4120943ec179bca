"""What tests of random faults have in common."""
import random
import socket
import struct
import threading

import h11

SIZES = (0, 1, 100, 5000, 33000, 200000)
SHORT = {name: 0.4 for name in ("head_timeout", "body_timeout", "send_timeout", "response_timeout",
                                "stream_idle_timeout", "connect_timeout")}

NONSENSE = (b"\0\0\0", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 999 ?\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n", b"HTTP/1.1 200 OK\nA: b\n\n")


class Cut(Exception):
    """This side gave up, as it was meant to."""


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def content(token: bytes, size: int) -> bytes:
    return (token * (size // len(token) + 1))[:size]


def end(rng, connection):
    rng.choice((reset, socket.socket.close))(connection)
    raise Cut


def send(rng, connection, data: bytes, cut: float):
    """Send in pieces; with this probability end somewhere in it."""
    stop = rng.randrange(len(data) + 1) if rng.random() < cut else len(data)
    at = 0
    while at < stop:
        n = min(rng.choice((1, 7, 1000, 16384, 300000)), stop - at) if rng.random() < 0.5 else stop - at
        connection.sendall(data[at:at + n])
        at += n
    if stop < len(data):
        end(rng, connection)


def read(connection) -> bytes:
    """Bytes; ends where another thread ended the connection."""
    for _ in range(50):
        try:
            return connection.recv(65536)
        except TimeoutError:
            if connection.fileno() < 0:
                raise Cut from None
    raise AssertionError("stuck")


def receive(connection, protocol):
    """Yield a message's events; the last one is EndOfMessage, or ConnectionClosed where there is no more."""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(read(connection))
            continue
        yield event
        if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
            return


def serve(rng, connection, failures):
    """A backend's side of one connection."""
    protocol = h11.Connection(h11.SERVER)
    while True:
        if rng.random() < 0.05:
            connection.sendall(rng.choice(NONSENSE))     # before anybody asked
            end(rng, connection)
        request, body = None, b""
        for event in receive(connection, protocol):
            if isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Request):
                request = dict(event.headers)
                if rng.random() < 0.1:
                    end(rng, connection)
            elif isinstance(event, h11.Data):
                body += event.data
        token, size, asked = request[b"token"], int(request[b"size"]), int(request[b"asked"])
        if body != content(token, size):
            failures.append(f"a backend got {body[:50]} ({len(body)}) for {token} ({size})")
        dice = rng.random()
        if dice < 0.06:
            while connection.recv(65536):                # says nothing until the gateway ends it
                pass
            return
        if dice < 0.12:
            connection.sendall(rng.choice(NONSENSE))
            end(rng, connection)
        answer = content(token, asked)
        how = rng.choice((("Content-Length", str(asked)), ("Transfer-Encoding", "chunked"), ("Connection", "close")))
        out = protocol.send(h11.Response(status_code=200, headers=[how, ("token", token)]))
        if answer:
            out += protocol.send(h11.Data(data=answer))
        trailers = [("after", "wards")] if how[1] == "chunked" and rng.random() < 0.3 else []
        out += protocol.send(h11.EndOfMessage(headers=trailers))
        if how == ("Connection", "close"):               # only a clean end may look like one
            send(rng, connection, out, 0)
            if rng.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(b"x" * rng.randrange(3))
                reset(connection)
            raise Cut
        if rng.random() < 0.1:
            connection.sendall(out + NONSENSE[0])        # more than was asked for
            end(rng, connection)
        send(rng, connection, out, 0.1)
        protocol.start_next_cycle()


def ask(rng, connection, name):
    """A client's side of one connection."""
    wanted, out = [], b""
    connection.settimeout(0.1)
    for n in range(rng.randrange(1, 5)):
        token = b"%d-%d." % (name, n)
        size, asked = rng.choice(SIZES), rng.choice(SIZES)
        wanted.append((token, asked))
        request = h11.Connection(h11.CLIENT)
        how = rng.choice((("Content-Length", str(size)), ("Transfer-Encoding", "chunked")))
        out += request.send(h11.Request(method=rng.choice(("PUT", "POST")), target="/", headers=[
            ("Host", "a"), ("token", token), ("size", str(size)), ("asked", str(asked)), how]))
        if size:
            out += request.send(h11.Data(data=content(token, size)))
        out += request.send(h11.EndOfMessage())
    if rng.random() < 0.1:
        out += rng.choice((b"\0", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"))
    sender = threading.Thread(target=quietly, args=(send, rng, connection, out, 0.2), daemon=True)
    sender.start()
    protocol = h11.Connection(h11.CLIENT)
    for token, asked in wanted:
        protocol.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        protocol.send(h11.EndOfMessage())
        status, answer = None, b""
        for event in receive(connection, protocol):
            if isinstance(event, h11.Response):
                status, fields = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                answer += event.data
                if rng.random() < 0.01:
                    end(rng, connection)
            elif isinstance(event, h11.EndOfMessage) and status == 200:
                assert fields[b"token"] == token and answer == content(token, asked), (token, fields, len(answer), asked)
            elif isinstance(event, h11.ConnectionClosed):
                return
        assert status in (200, 400, 404, 408, 502, 503, 504), status
        if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return
        protocol.start_next_cycle()
    sender.join()


def quietly(work, *args):
    try:
        work(*args)
    except (Cut, OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
        pass
    finally:
        if work is not send:
            args[1].close()


def under_changes(engine, plan, addresses, rng, clients, talk, failures):
    """talk(name) for so many clients at once, while the plan has these endpoints, some of them or none; wait for their end."""
    def run(name):
        try:
            talk(name)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
        engine.apply(plan(rng.choice((addresses, addresses[:1], addresses[1:], addresses[::-1], []))))
    for thread in threads:
        thread.join()
    engine.wait("connections_open", 0)
    engine.wait("requests_open", 0)


def accept(backend, seed, failures):
    n = 0
    while True:
        try:
            connection = backend.accept()
        except OSError:
            return
        n += 1
        threading.Thread(target=quietly, args=(serve, random.Random(f"{seed} {backend.port} {n}"), connection, failures),
                         daemon=True).start()
