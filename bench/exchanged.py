"""An exchange through an engine, whose client and backends take turns with it in one process: it runs when the kernel has
something for it. What client and backends do themselves is not counted (see watched.py).
"""
import asyncio
import os
import re
import select
import socket
import ssl
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events

from bench.watched import Exchange
from gwfast.engine import counters
from gwfast.engine.engine import Engine
from gwfast.serve.certs import Certs
from gwfast.serve.options import EngineOptions

PATIENCE_MS = 5000
BUFFER = 1 << 20


class Client:
    """Speaks HTTP/1.1 in clear. `wait` lets the engine run until a connection can be read."""

    def __init__(self, port: int, lines: Exchange, wait: Callable[[socket.socket], object]):
        self._lines, self._wait = lines, wait
        self._request = lines.request
        self._socket = socket.create_connection(("127.0.0.1", port))

    def ask(self) -> None:
        self._send(self._request)

    def take(self) -> None:
        """Take the answer."""
        got = b""
        while not got.endswith(self._lines.end):
            got += self._receive()
        if self._lines.session and (cookie := re.search(rb"(?i)\r\nset-cookie: ([^;\r]+)", got)):
            self._request = self._lines.request.replace(b"\r\n\r\n", b"\r\nCookie: " + cookie[1] + b"\r\n\r\n")

    @property
    def waits(self) -> socket.socket:
        return self._socket

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _receive(self) -> bytes:
        self._wait(self._socket)
        more = self._socket.recv(BUFFER)
        assert more, "the engine closed the connection"
        return more


class Secured(Client):
    """The same over TLS; `alpn` is what it offers."""

    alpn = "http/1.1"

    def __init__(self, port: int, lines: Exchange, wait: Callable[[socket.socket], object]):
        super().__init__(port, lines, wait)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([self.alpn])
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="www.example.com")
        while not self._shaken():
            self._in.write(super()._receive())

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            super()._send(self._out.read())
        return True

    def _send(self, data: bytes) -> None:
        self._tls.write(data)
        super()._send(self._out.read())

    def _receive(self) -> bytes:
        while True:
            self._in.write(super()._receive())
            try:
                return self._tls.read(BUFFER)
            except ssl.SSLWantReadError:  # a ticket, or a part of a record
                pass


def multiplexed(base: type[Client]) -> type[Client]:
    """Return a client that speaks HTTP/2: one stream after the other on its connection."""

    class Multiplexed(base):
        alpn = "h2"

        def __init__(self, port: int, lines: Exchange, wait: Callable[[socket.socket], object]):
            super().__init__(port, lines, wait)
            self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            self._http2.initiate_connection()
            line, *fields = lines.request.decode().removesuffix("\r\n\r\n").split("\r\n")
            method, path, _ = line.split()
            named = dict(field.split(": ", 1) for field in fields)
            scheme = "https" if base is Secured else "http"
            self._fields = [(":method", method), (":scheme", scheme), (":authority", named.pop("Host")), (":path", path),
                            *((name.lower(), value) for name, value in named.items() if name != "Connection")]

        def ask(self) -> None:
            self._http2.send_headers(self._http2.get_next_available_stream_id(), self._fields, end_stream=True)
            self._send(self._http2.data_to_send())

        def take(self) -> None:
            ended = False
            while not ended:
                for event in self._http2.receive_data(self._receive()):
                    if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                        self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    ended |= isinstance(event, h2.events.StreamEnded)
            self._send(self._http2.data_to_send())

        def _send(self, data: bytes) -> None:
            if data:
                super()._send(data)

    return Multiplexed


CLIENTS = {"http1": Client, "tls": Secured, "http2": multiplexed(Client), "http2 over tls": multiplexed(Secured)}


class Stage:
    """An engine between one client and its backends."""

    def __init__(self, lines: Exchange):
        self.lines = lines
        log = {"access_log": "json", "access_log_fd": os.memfd_create("log")} if lines.log else {}
        self.engine = Engine(worker=0, workers=1, counters_fd=counters.create(1, 64), options=EngineOptions(**log))
        with open(lines.image, "rb") as image:
            self.engine.swap(image.fileno())
        if lines.credentials:
            self.engine.secure(Certs(os.open(lines.credentials, os.O_RDONLY)))
        self.loop = self._extended() if lines.loop else None
        front = socket.create_server(("127.0.0.1", 0))
        self.port = front.getsockname()[1]
        self.engine.listen(front.detach(), 1)
        self.listening = {socket.socket(fileno=os.dup(each)): answer
                          for each, answer in zip(lines.backends, lines.answers, strict=True)}
        self.events = select.poll()
        self.events.register(self.engine.epoll_fd, select.POLLIN)
        self.client: Client | None = None
        self.backends: dict[socket.socket, bytes] = {}

    def _extended(self) -> asyncio.AbstractEventLoop:
        """Let filters in Python run; return the event loop that they run on."""
        from gwfast.serve.extensions import Host

        loop = asyncio.new_event_loop()
        loop.add_reader(self.engine.epoll_fd, self.engine.drain)
        host = Host(loop, print, self.engine.counters)
        self.engine.extend(host)
        host.use(self.engine.extensions())
        return loop

    def run(self, times: int) -> None:
        for _ in range(times):
            self.exchange()
            if self.lines.new:
                self.client.close()
                self.client = None
                self.drain()

    def exchange(self) -> None:
        if self.client is None:
            self.client = CLIENTS[self.lines.client](self.port, self.lines, self.until)
        self.client.ask()
        for _ in range(self.lines.asks):
            self.answer()
        self.client.take()

    def answer(self) -> None:
        """Let the engine run until a backend is asked; let that one answer."""
        while (one := self.until(*self.listening, *self.backends)) in self.listening:
            backend = one.accept()[0]
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            self.backends[backend] = self.listening[one]
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            self.until(one)
            got += one.recv(BUFFER)
            assert got, "the engine closed a connection to a backend"
        one.sendall(self.backends[one])

    def until(self, *connections: socket.socket) -> socket.socket:
        while not (ready := select.select(connections, [], [], 0)[0]):
            self.drain()
        return ready[0]

    def drain(self) -> None:
        assert self.loop or self.events.poll(PATIENCE_MS), "the engine waits for something that does not come"
        if self.loop:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        else:
            self.engine.drain()
