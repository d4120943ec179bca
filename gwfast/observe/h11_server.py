"""HTTP/1.1 in ordinary Python (h11 on the event loop) for what is not the hot path: admin, the echo backend.

Rules:
- one request at a time per connection: while it is answered nothing more is read;
- request bodies are read and dropped, only counted;
- a probe asks the same again and again, on a connection for each time: what h11 has read once, byte for byte, it is not asked to
  read again (`Server.known`), and its answer is the last of its connection;
- heads, times and connections are bounded; what h11 refuses gets its status and the connection closes.
"""
import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import h11
import msgspec

from gwfast import limits
from gwfast.crowd import Crowd

CONNECTIONS = 1024  # open at once: few clients are expected
KNOWN = 16  # requests that are not read again: one for each page that is probed, and for each that probes
KNOWN_BYTES = 1024  # of such a request


class Request(msgspec.Struct, frozen=True):
    """A request whose body has been read. Names of `headers` as they came, values latin-1; `tls` as told_of_tls says."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body_bytes: int
    tls: dict | None = None
    peer: str = ""  # the address of who asks

    def header(self, name: str) -> str:
        """Return the first value of a field, '' without one."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Answer(msgspec.Struct, frozen=True):
    """What to answer; with status 101, `upgrade(transport, first_bytes)` gives the protocol that takes over."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    upgrade: Callable[[asyncio.Transport, bytes], asyncio.BaseProtocol] | None = None


NO_TUNNELS = Answer(405, b"no such method here\n", headers=(("Connection", "close"),))


class Server:
    """Answers with one coroutine function; call it to get a protocol, `close` ends every connection.

    most: connections; one more is refused, or takes the place of another one where `of_one` address may have so many.
    """

    def __init__(self, answer: Callable[[Request], Awaitable[Answer]], most: int = CONNECTIONS, of_one: int = 0):
        self.answer = answer
        self.most = most
        self.crowd: Crowd[Connection] | None = Crowd(most, of_one) if of_one else None
        self.connections: set[Connection] = set()
        self.leaving = False  # answers are the last ones of their connections
        self.known: dict[bytes, Request] = {}  # by the bytes that were all of a connection
        self._left = asyncio.Event()

    def __call__(self) -> "Connection":
        return Connection(self)

    def welcome(self, connection: "Connection", address: str) -> bool:
        """Take a connection in, where there is a place."""
        if self.crowd is not None and (leaves := self.crowd.come(connection, address)) is not None:
            leaves.drop()
        elif self.crowd is None and len(self.connections) >= self.most:
            return False
        self.connections.add(connection)
        return True

    def leave(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self._left.set()
        if self.crowd is not None:
            self.crowd.go(connection)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()

    async def drain(self, seconds: float) -> None:
        """Answer what was asked, for so many seconds at most, and close every connection."""
        self.leaving = True
        for connection in list(self.connections):
            if not connection.asked:
                connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    self._left.clear()
                    await self._left.wait()
        self.close()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server):
        self._server = server
        self._known = False  # what came is not read again
        self._read_by: h11.Connection | None = None
        self._first = b""  # all that came, as long as that may become known
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there from connection_made on
        self._timer: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None  # while it is answered
        self._body_bytes = 0
        self._task: asyncio.Task | None = None

    def connection_made(self, transport) -> None:
        self._transport = transport
        if not self._server.welcome(self, self._peer()):
            transport.abort()
            return
        self._close_in(limits.HEAD_TIMEOUT)

    def connection_lost(self, exc) -> None:
        self._server.leave(self)
        self._close_in(None)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._known:
            return
        if self._read_by is not None:
            self._first = b""
        elif (known := self._server.known.get(data)) is not None:
            self._known = True
            self._ask(msgspec.structs.replace(known, tls=told_of_tls(self._transport), peer=self._peer()))
            return
        elif len(data) <= KNOWN_BYTES:
            self._first = data
        self._h11.receive_data(data)
        self._read()

    def eof_received(self) -> bool:
        if not self._known:
            self._h11.receive_data(b"")
            self._read()
        return self._task is not None  # the answer may still be wanted

    @property
    def _h11(self) -> h11.Connection:
        if self._read_by is None:
            self._read_by = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HEAD_BYTES)
        return self._read_by

    @property
    def asked(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._task is not None

    def close(self) -> None:
        self._transport.close()

    def drop(self) -> None:
        """End at once: another one needs the place."""
        self._transport.abort()

    def _peer(self) -> str:
        return (self._transport.get_extra_info("peername") or ("",))[0]

    def _read(self) -> None:
        """Take what has come, up to one whole request."""
        try:
            while self._task is None and not self._transport.is_closing():
                event = self._h11.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    if self._h11.they_are_waiting_for_100_continue:
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _take(self, event) -> None:
        match event:
            case h11.Request():
                self._request, self._body_bytes = event, 0
                self._close_in(limits.BODY_TIMEOUT)
            case h11.Data():
                self._body_bytes += len(event.data)
                self._close_in(limits.BODY_TIMEOUT)
            case h11.EndOfMessage():
                self._ask(self._whole())
            case h11.ConnectionClosed():
                self._transport.close()

    def _whole(self) -> Request:
        """Return the request that has been read; remember it, where whoever asks so again can be answered as if it had been."""
        head = self._request
        assert head is not None
        request = Request(head.method.decode("latin-1"), head.target.decode("latin-1"),
                          "HTTP/" + head.http_version.decode("latin-1"),
                          [(name.decode("latin-1"), value.decode("latin-1"))
                           for name, value in head.headers.raw_items()], self._body_bytes, told_of_tls(self._transport),
                          self._peer())
        last = self._h11.our_state is h11.SEND_RESPONSE and self._h11.their_state is h11.MUST_CLOSE
        if self._first and last and request.method == "GET" and not self._body_bytes and not self._h11.trailing_data[0] \
                and len(self._server.known) < KNOWN:
            self._server.known[self._first] = request
        return request

    def _ask(self, request: Request) -> None:
        self._close_in(None)
        self._transport.pause_reading()
        self._task = asyncio.ensure_future(self._respond(request))

    async def _respond(self, request: Request) -> None:
        try:
            answer = NO_TUNNELS if request.method == "CONNECT" else await self._server.answer(request)
        except Exception:
            self._transport.close()
            raise  # a bug: the loop's exception handler tells it
        self._task = None
        if self._transport.is_closing():
            return
        if answer.upgrade is not None:
            self._hand_over(answer, answer.upgrade)
            return
        if self._known:
            self._transport.write(_last(answer))
            self._transport.close()
            return
        self._write(answer)
        if self._h11.our_state is h11.MUST_CLOSE:
            self._transport.close()
            return
        self._h11.start_next_cycle()
        self._close_in(limits.IDLE_TIMEOUT)
        self._transport.resume_reading()
        self._read()

    def _write(self, answer: Answer) -> None:
        headers = _fields(answer, self._server.leaving)
        head = h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer.status))
        data = self._h11.send(head)
        if self._request is None or self._request.method != b"HEAD":
            data += self._h11.send(h11.Data(data=answer.body))
        self._transport.write(data + self._h11.send(h11.EndOfMessage()))

    def _hand_over(self, answer: Answer, upgrade: Callable) -> None:
        self._send(h11.InformationalResponse(status_code=101, headers=list(answer.headers),
                                             reason=_reason(101)))
        self._server.leave(self)
        first, _ = self._h11.trailing_data
        self._transport.set_protocol(upgrade(self._transport, first))
        self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._request = None  # what is refused may be none
            self._write(Answer(status, _reason(status) + b"\n", headers=(("Connection", "close"),)))
        self._transport.close()

    def _send(self, event) -> None:
        self._transport.write(self._h11.send(event))

    def _close_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._transport.close)


def _fields(answer: Answer, last: bool) -> list[tuple[str, str]]:
    fields = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    if answer.content_type:
        fields.append(("Content-Type", answer.content_type))
    if last and ("Connection", "close") not in fields:
        fields.append(("Connection", "close"))
    return fields


def _last(answer: Answer) -> bytes:
    """Return what h11 would send as the last answer of a connection."""
    fields = _fields(answer, True)
    head = b"HTTP/1.1 %d %s\r\n" % (answer.status, _reason(answer.status))
    return head + "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1") + b"\r\n" + answer.body


def told_of_tls(transport: asyncio.Transport) -> dict | None:
    """Describe a connection's TLS in the words of the Gateway API's echo-basic; None in clear. peerCertificates: PEM."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return None
    import ssl  # the supervisor's admin server speaks none: it would have 4 MiB for nothing

    peer = tls.getpeercert(binary_form=True)
    return {"version": tls.version(), "cipherSuite": tls.cipher()[0], "serverName": getattr(tls, "asked_name", None) or "",
            "negotiatedProtocol": tls.selected_alpn_protocol() or "",
            **({"peerCertificates": [ssl.DER_cert_to_PEM_cert(peer)]} if peer else {})}


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
