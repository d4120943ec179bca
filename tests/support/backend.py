"""A backend that does what the test says: answers, or stalls, cuts, resets, trickles and lies.

Each path has a handler, a function of (Stream, Message) that may do anything to the connection; a list of steps is one
too. Without a handler the backend answers with what it received, as JSON, and with the fields that X-Echo-Set-Header
asks for ('Name:value;Name:value'). What it received is kept in `requests`, bytes that no proxy may send in `dirty`.
"""
import json
import socket
import threading
from collections.abc import Callable

from support.wire import Closed, Cut, Dirty, Message, Stream

Step = bytes | Callable[[Stream], None]


def cut(stream: Stream) -> None:
    """End the connection in the middle of whatever it was."""
    stream.sock.shutdown(socket.SHUT_RDWR)


def reset(stream: Stream) -> None:
    stream.reset()


def half_close(stream: Stream) -> None:
    stream.half_close()


def trickle(data: bytes) -> Callable[[Stream], None]:
    """Send byte by byte, each in a segment of its own."""
    def step(stream: Stream) -> None:
        stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            stream.send(data[i:i + 1])
    return step


def wait(event: threading.Event) -> Callable[[Stream], None]:
    """Stall until the test goes on."""
    def step(stream: Stream) -> None:
        event.wait(30)
    return step


def drain(stream: Stream) -> None:
    """Read and forget whatever still comes, until the other side ends."""
    stream.rest()


class Backend:
    """A listening socket on 127.0.0.1 and a thread for each connection. `name` is in its answers."""

    def __init__(self, name: str = "backend", address: str = "127.0.0.1") -> None:
        self.name = name
        self.requests: list[Message] = []
        self.dirty: list[str] = []
        self.connections = 0
        self.keep_bodies = True
        self.handlers: dict[str, Callable[[Stream, Message], bool | None]] = {}
        self.before_body: dict[str, Callable[[Stream, Message], None]] = {}
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                                             backlog=1024)
        self.address, self.port = self.listener.getsockname()[:2]
        threading.Thread(target=self.accept, daemon=True).start()

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self.address}:{self.port}>"

    def on(self, path: str, *steps: Step, close: bool = True) -> None:
        """Answer this path with these steps; the connection ends behind them where `close`."""
        def handler(stream: Stream, request: Message) -> bool:
            for step in steps:
                if isinstance(step, bytes):
                    stream.send(step)
                else:
                    step(stream)
            return not close
        self.handlers[path] = handler

    def seen(self, path: str) -> list[Message]:
        """The requests that arrived for this path."""
        return [request for request in self.requests if request.target.partition("?")[0] == path]

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with self.lock:
                self.open.add(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(sock)
        sock.settimeout(60)
        try:
            while self.one(stream):
                pass
        except (Closed, Cut):
            pass
        except Dirty as dirty:
            self.dirty.append(str(dirty))
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(sock)
            sock.close()

    def one(self, stream: Stream) -> bool:
        """One request and its answer; False where the connection ends."""
        def before_body(message: Message) -> None:
            if step := self.before_body.get(message.target.partition("?")[0]):
                step(stream, message)
            elif message.fields.get("Expect"):
                stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = stream.request(self.keep_bodies, before_body)
        self.requests.append(request)
        if handler := self.handlers.get(request.target.partition("?")[0]):
            return bool(handler(stream, request))
        stream.send(self.echo(request))
        return request.fields.get("Connection") != "close"

    def echo(self, request: Message) -> bytes:
        body = json.dumps({"backend": self.name, "method": request.method, "target": request.target,
                           "fields": request.fields, "size": request.size,
                           "body": request.body[:4096].decode("latin-1"), "trailers": request.trailers}).encode()
        asked = (request.fields.get("X-Echo-Set-Header") or "").replace(";", "\r\n")
        return (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Backend: %s\r\n%sContent-Length: %d\r\n\r\n%s"
                % (self.name.encode(), f"{asked}\r\n".encode() if asked else b"", len(body),
                   b"" if request.method == "HEAD" else body))

    def close_idle(self) -> None:
        """Close every open connection, as a server does that restarts."""
        with self.lock:
            for sock in self.open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.close_idle()
