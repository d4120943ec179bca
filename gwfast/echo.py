"""The echo backend of the demo and the benchmarks.

    gwfast echo PORT...            answers JSON that tells what arrived, as the Gateway API's echo-basic does
    gwfast echo --fast PORT...     answers every request with the same 35 bytes, as fast as Python can
    gwfast echo --tcp PORT...      sends back what a connection brings
    gwfast echo --udp PORT...      sends back each datagram

With --tls-cert and --tls-key all but datagrams are over TLS; with --tls-client-ca clients must have a certificate of it.
HTTP/1.1 and HTTP/2 are on the same port: what ALPN says, in clear what the client begins with. Of a gRPC call any method
sends back what it gets.

Without --fast: the response to any path is {path, host, method, proto, headers, namespace, ingress, service, pod}
and tls where there is one;
`X-Echo-Set-Header: name:value, ...` sets response headers, `?delay=1.5` waits (seconds, or with a unit: 500ms),
`/status/NNN` answers that status, `/ws` is a WebSocket that sends back what it gets (RFC 6455).
"""
import asyncio
import base64
import contextlib
import hashlib
import json
import re
import signal
import ssl
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from gwfast.grammar import is_token
from gwfast.observe.h2_server import Http2Server
from gwfast.observe.h11_server import Answer, Request

WEBSOCKET_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
CONNECTIONS = 65536
MESSAGE_BYTES = 1024 * 1024
FRAMING = ("content-length", "transfer-encoding", "connection")
DELAY = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


class Echo:
    """Answers as one named backend."""

    def __init__(self, service: str, namespace: str = "default", pod: str = ""):
        self._who = {"namespace": namespace, "ingress": "", "service": service, "pod": pod or service}

    async def answer(self, request: Request) -> Answer:
        """Tell the client what it sent."""
        url = urlsplit(request.target)
        if url.path == "/ws" and request.header("upgrade").lower() == "websocket":
            return _accept_websocket(request)
        await asyncio.sleep(_delay(dict(parse_qsl(url.query)).get("delay", "")))
        headers = _asked_headers(request)
        status = re.fullmatch(r"/status/([2-5]\d\d)", url.path)
        return Answer(int(status[1]) if status else 200, self._describe(request), "application/json", headers)

    def _describe(self, request: Request) -> bytes:
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault("-".join(map(str.capitalize, name.split("-"))), []).append(value)
        host = headers.pop("Host", [""])[0]
        told = {"path": request.target, "host": host, "method": request.method, "proto": request.version,
                "headers": headers, "bytes": request.body_bytes} | self._who
        if request.tls is not None:
            told["tls"] = request.tls
        return json.dumps(told, indent=1).encode() + b"\n"


def _delay(text: str) -> float:
    parsed = DELAY.fullmatch(text)
    return float(parsed[1]) * SECONDS[parsed[2]] if parsed else 0.0


def _asked_headers(request: Request) -> tuple[tuple[str, str], ...]:
    asked = []
    for item in request.header("x-echo-set-header").split(","):
        name, colon, value = item.partition(":")
        if colon and is_token(name.strip()) and name.strip().lower() not in FRAMING:
            asked.append((name.strip(), value.strip()))
    return tuple(asked)


def _accept_websocket(request: Request) -> Answer:
    key = request.header("sec-websocket-key")
    if request.method != "GET" or not key or request.header("sec-websocket-version") != "13":
        return Answer(400, b"not a WebSocket handshake\n")
    accept = base64.b64encode(hashlib.sha1((key + WEBSOCKET_KEY).encode()).digest()).decode()
    headers = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept))
    return Answer(101, headers=headers, upgrade=WebSocket)


class WebSocket(asyncio.Protocol):
    """Sends each message back, frame by frame (RFC 6455 5.2), answers pings, ends with the client's close."""

    CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
    ANSWERS = {CONTINUATION: CONTINUATION, TEXT: TEXT, BINARY: BINARY, CLOSE: CLOSE, PING: PONG}

    def __init__(self, transport, first: bytes):
        self._transport = transport
        self._buffer = bytearray()
        self.data_received(first)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._frame():
            pass

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _frame(self) -> bool:
        """Answer one whole frame; False when there is none yet."""
        data = self._buffer
        if len(data) < 2:
            return False
        opcode, masked, short = data[0] & 15, data[1] & 128, data[1] & 127
        at = {126: 4, 127: 10}.get(short, 2)
        size = int.from_bytes(data[2:at]) if at > 2 else short
        if not masked or size > MESSAGE_BYTES:
            self._transport.close()
            return False
        if len(data) < at + 4 + size:
            return False
        payload = _unmask(bytes(data[at:at + 4]), bytes(data[at + 4:at + 4 + size]))
        first = data[0]
        del data[:at + 4 + size]
        if opcode in self.ANSWERS:
            self._transport.write(_frame_of(first & 0x80 | self.ANSWERS[opcode], payload))
        if opcode == self.CLOSE:
            self._transport.close()
        return opcode != self.CLOSE


def _unmask(mask: bytes, payload: bytes) -> bytes:
    n = len(payload)
    key = int.from_bytes((mask * (n // 4 + 1))[:n])
    return (int.from_bytes(payload) ^ key).to_bytes(n)


def _frame_of(first: int, payload: bytes) -> bytes:
    n = len(payload)
    if n < 126:
        size = bytes([n])
    elif n < 65536:
        size = b"\x7e" + n.to_bytes(2)
    else:
        size = b"\x7f" + n.to_bytes(8)
    return bytes([first]) + size + payload


class Fast(asyncio.Protocol):
    """Counts heads without reading them: for requests without bodies, kept alive."""

    def __init__(self, name: str):
        body = f'{{"backend":"{name}"}}'.ljust(34)[:34] + "\n"
        self._answer = (f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                        + body).encode()
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there from connection_made on
        self._rest = b""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        heads = data.count(b"\r\n\r\n")
        if heads:
            self._transport.write(self._answer * heads)
            data = data[data.rindex(b"\r\n\r\n") + 4:]
        self._rest = data


class Tcp(asyncio.Protocol):
    """Sends back what comes, and ends when the client has."""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


class Udp(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from."""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        self._transport.sendto(data, address)


def tls_context(certificate: str, key: str, client_ca: str = "", http: bool = True) -> ssl.SSLContext:
    """Make the context of a server from PEM files. Raises OSError, with ssl.SSLError for what OpenSSL refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if http:
        context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    context.sni_callback = lambda tls, name, _: setattr(tls, "asked_name", name)
    return context


async def run(addresses: list[tuple[str, str, int]], **how) -> None:
    """Serve until TERM or INT, also where INT was ignored at the start, as in the background of a shell."""
    task = asyncio.ensure_future(serve(addresses, **how))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def serve(addresses: list[tuple[str, str, int]], *, mode: str = "http", namespace: str = "default",
                show: bool = False, tls: ssl.SSLContext | None = None) -> None:
    """Serve echo backends (name, host, port) until cancelled; print where each listens. mode: http, fast, tcp, udp."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.DatagramTransport | asyncio.Server] = []
    server: asyncio.DatagramTransport | asyncio.Server
    for name, host, port in addresses:
        if mode == "udp":
            server, _ = await loop.create_datagram_endpoint(Udp, (host, port))
            where = server.get_extra_info("sockname")
        else:
            server = await loop.create_server(_protocol(mode, name, namespace, show), host, port, ssl=tls,
                                              reuse_port=mode == "fast", backlog=1024)
            where = server.sockets[0].getsockname()
        servers.append(server)
        print(f"echo {name} listens on {where[0]}:{where[1]}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        for server in servers:
            server.close()


def _protocol(mode: str, name: str, namespace: str, show: bool):
    """Return what makes the protocol of each connection."""
    if mode == "fast":
        return partial(Fast, name)
    if mode == "tcp":
        return Tcp
    answer = Echo(name, namespace).answer
    return Http2Server(_shown(name, answer) if show else answer, CONNECTIONS)


def _shown(name: str, answer):
    async def shown(request: Request) -> Answer:
        print(f"{name}: {request.method} {request.target}", flush=True)
        return await answer(request)
    return shown
