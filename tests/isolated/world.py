"""An engine, its backends and its clients in one thread: who acts when is fixed, so what is held can be compared."""
import os
import selectors
import socket
import struct

from support.scripted import Running, one_rule

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEND\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEND\n\r\n0\r\nX-Sum: 1\r\n\r\n"
ANSWERS = {   # by the path's first element
    b"chunked": CHUNKED,
    b"close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nEND\n",
    b"early": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + LENGTH,
    b"cut": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nEND\n",
    b"bad": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    b"never": b"",
}


class Undriven(Running):
    def drive(self):
        """Nothing: the world turns it."""


class World:
    def __init__(self, plan=one_rule, address="127.0.0.1", **options):
        self.selector = selectors.DefaultSelector()
        self.listening = socket.create_server((address, 0), backlog=512)
        self.listening.setblocking(False)
        self.selector.register(self.listening, selectors.EVENT_READ, self.accept)
        self.log = os.open(os.devnull, os.O_WRONLY)
        self.running = Undriven(plan, [("127.0.0.1", self.listening.getsockname()[1])], log=self.log, **options)
        self.engine = self.running.engine
        self.selector.register(self.engine.epoll_fd, selectors.EVENT_READ, self.drain)
        self.backends = {}     # socket -> bytes of a request that is not whole
        self.unanswered = set() # sockets that were asked for what never comes

    def drain(self, _) -> None:
        self.engine.drain()

    def turn(self, timeout=0.02) -> None:
        for key, _ in self.selector.select(timeout):
            key.data(key.fileobj)
        self.engine.tick()

    def until(self, what, turns=2000) -> None:
        for _ in range(turns):
            if what():
                return
            self.turn()
        raise AssertionError("it never came true")

    # ---- the backend: answers a request when it is whole, by its path ----

    def accept(self, listening) -> None:
        connection, _ = listening.accept()
        connection.setblocking(False)
        self.backends[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ, self.answer)

    def answer(self, connection) -> None:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.forget(connection)
            return
        data = self.backends[connection] + data
        head, end, body = data.partition(b"\r\n\r\n")
        whole = end and (not head.startswith(b"POST") or data.endswith((b"\r\n\r\n", b"ENDS")))
        self.backends[connection] = b"" if whole else data
        if whole:
            kind = head.split()[1].split(b"/")[1]
            (self.unanswered.add if kind == b"never" else self.unanswered.discard)(connection)
            try:
                connection.sendall(ANSWERS.get(kind, LENGTH))
            except ConnectionError:
                pass
            if kind in (b"close", b"cut", b"bad"):
                self.forget(connection)

    def forget(self, connection) -> None:
        self.selector.unregister(connection)
        del self.backends[connection]
        self.unanswered.discard(connection)
        connection.close()

    # ---- clients ----

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.running.port))
        connection.setblocking(False)
        return connection

    def ask(self, client, data: bytes, count: int, mark: bytes = b"END\n") -> bytes:
        """Send, and return what came when so many marks were in it, or the connection ended."""
        client.send(data)
        got = b""
        for _ in range(2000):
            try:
                some = client.recv(1 << 20)
                got += some
                if not some or got.count(mark) >= count:
                    return got
            except BlockingIOError:
                self.turn()
            except ConnectionResetError:
                return got
        raise AssertionError(f"no answer, only {got[-200:]!r}")

    def reset(self, client) -> None:
        """Close with an RST: an orderly end would leave the request waiting for its answer."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def idle(self) -> None:
        """Turn until every client is gone and nothing is in flight."""
        self.until(lambda: not self.engine.connections and not self.engine.requests)

    def close(self) -> None:
        self.selector.unregister(self.engine.epoll_fd)
        self.running.close()
        for connection in list(self.backends):
            self.forget(connection)
        self.listening.close()
        self.selector.close()
        os.close(self.log)
