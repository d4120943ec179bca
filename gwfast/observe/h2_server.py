"""HTTP/2 in ordinary Python (h2 on the event loop), and HTTP/1.1 on the same port, for the echo backend.

Rules:
- what a connection speaks is what ALPN chose, in clear what it begins with (prior knowledge, RFC 9113 3.3);
- requests are answered as those of HTTP/1.1 are (see h11_server): bodies are dropped, only counted;
- a gRPC call gets the messages back that it sends, as they come, and `grpc-status: 0` behind the last one: any method is an
  echo, of all four kinds;
- connections, streams of one and what one stream may have waiting are bounded; what h2 refuses ends the connection.
"""
import asyncio

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import msgspec

from gwfast import limits
from gwfast.observe.h11_server import Answer, Connection, Request, Server, told_of_tls

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 128
GRPC_STATUS = (("grpc-status", "0"),)


class Http2Server(Server):
    """Answers with one coroutine function, in HTTP/1.1 and HTTP/2."""

    def __call__(self) -> "Chooser":  # type: ignore[override]  # each is a protocol
        return Chooser(self)


class Chooser(asyncio.Protocol):
    """A connection until it is known what it speaks."""

    def __init__(self, server: Http2Server):
        self._server = server
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there from connection_made on
        self._timer: asyncio.TimerHandle | None = None
        self._first = b""

    def connection_made(self, transport) -> None:
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._become(Http2(self._server) if tls.selected_alpn_protocol() == "h2" else Connection(self._server))
        else:
            self._timer = asyncio.get_running_loop().call_later(limits.HEAD_TIMEOUT, transport.close)

    def connection_lost(self, exc) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._first += data
        if self._first.startswith(PREFACE):
            self._become(Http2(self._server))
        elif not PREFACE.startswith(self._first):
            self._become(Connection(self._server))

    def _become(self, protocol: asyncio.Protocol) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._first:
            protocol.data_received(self._first)


class Stream:
    """A request in the making, then what still has to be sent of its answer."""

    def __init__(self, headers: list[tuple[str, str]], tls: dict | None):
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        fields = [(name, value) for name, value in headers if not name.startswith(":")]
        if ":authority" in pseudo:
            fields.insert(0, ("host", pseudo[":authority"]))
        self.request = Request(pseudo.get(":method", ""), pseudo.get(":path", ""), "HTTP/2.0", fields, 0,
                               tls)
        self.grpc = self.request.header("content-type").startswith("application/grpc")
        self.body_bytes = 0
        self.waiting = bytearray()
        self.unread = 0  # bytes of `waiting` that the client's window gets back once they are sent
        self.ended = False  # nothing comes behind `waiting`
        self.trailers: tuple[tuple[str, str], ...] = ()
        self.task: asyncio.Task | None = None


class Http2(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server):
        self._server = server
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there from connection_made on
        self._timer: asyncio.TimerHandle | None = None
        self._streams: dict[int, Stream] = {}
        self._tls: dict | None = None

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._tls = told_of_tls(transport)
        if len(self._server.connections) >= self._server.most:
            transport.abort()
            return
        self._server.connections.add(self)  # type: ignore[arg-type]  # it has what is asked of a Connection there
        self._h2.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = STREAMS
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for stream in self._streams.values():
            if stream.task is not None:
                stream.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except h2.exceptions.ProtocolError:
            self._flush()  # h2 has written the GOAWAY
            self._transport.close()
            return
        self._flush()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        """Say that nothing new is taken, and end."""
        self._h2.close_connection()
        self._flush()
        self._transport.close()

    def _take(self, event) -> None:
        match event:
            case h2.events.RequestReceived():
                headers: list = event.headers  # of str: see header_encoding
                self._begin(event.stream_id, Stream(headers, self._tls))
            case h2.events.DataReceived():
                self._take_data(event)
            case h2.events.StreamEnded():
                self._take_end(event.stream_id)
            case h2.events.StreamReset():
                self._forget(event.stream_id)
            case h2.events.WindowUpdated() if event.stream_id:
                self._send(event.stream_id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for number in list(self._streams):
                    self._send(number)
            case h2.events.ConnectionTerminated():
                self._transport.close()

    def _begin(self, number: int, stream: Stream) -> None:
        self._streams[number] = stream
        if stream.grpc:
            stream.trailers = GRPC_STATUS
            self._h2.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])

    def _take_data(self, event: h2.events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or not stream.grpc:
            if stream is not None:
                stream.body_bytes += len(event.data)
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        stream.waiting += event.data
        stream.unread += event.flow_controlled_length
        self._send(event.stream_id)

    def _take_end(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.grpc:
            stream.ended = True
            self._send(number)
        else:
            stream.task = asyncio.ensure_future(self._respond(number, stream))

    async def _respond(self, number: int, stream: Stream) -> None:
        request = msgspec.structs.replace(stream.request, body_bytes=stream.body_bytes)
        answer = await self._server.answer(request)
        if self._streams.get(number) is not stream or self._transport.is_closing():
            return
        if answer.upgrade is not None:  # HTTP/2 knows no such thing (RFC 9113 8.6)
            answer = Answer(400, b"no upgrades here\n")
        fields = [(name.lower(), value) for name, value in answer.headers if name.lower() != "connection"]
        self._h2.send_headers(number, [(":status", str(answer.status)), *fields, ("content-type", answer.content_type),
                                       ("content-length", str(len(answer.body)))])
        stream.waiting += answer.body if request.method != "HEAD" else b""
        stream.ended = True
        self._send(number)
        self._flush()

    def _send(self, number: int) -> None:
        """Send what the client's windows admit."""
        stream = self._streams.get(number)
        if stream is None:
            return
        while stream.waiting:
            size = min(len(stream.waiting), self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            self._h2.send_data(number, bytes(stream.waiting[:size]))
            del stream.waiting[:size]
        self._give_back(number, stream)
        if stream.ended:
            if stream.trailers:
                self._h2.send_headers(number, list(stream.trailers), end_stream=True)
            else:
                self._h2.end_stream(number)
            self._forget(number)

    def _give_back(self, number: int, stream: Stream) -> None:
        if stream.unread:
            self._h2.acknowledge_received_data(stream.unread, number)
            stream.unread = 0

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self._give_back(number, stream)
        if stream.task is not None and stream.task is not asyncio.current_task():
            stream.task.cancel()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
        self._idle()

    def _idle(self) -> None:
        """A connection without streams ends after a while."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._streams and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(limits.IDLE_TIMEOUT, self.close)
