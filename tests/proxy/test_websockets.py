"""WebSockets with a browser-grade client and server (the websockets package), over HTTP/1.1 and TLS; and over HTTP/2 (RFC 8441)."""
import os
import socket
import ssl
import threading
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import websockets.sync.client
import websockets.sync.server
from support.gateway import Gateway, free_port, gateway, resource, route, rule, write
from support.tls import HOST, authority, backend_tls, config_map, https, secret, trusting
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

MEGABYTE = 1 << 20
APP_PROTOCOLS = {"plain": "", "ws": "kubernetes.io/ws", "wss": "kubernetes.io/wss"}


PAGES = '''
from gwfast.filters import Filter, Response


class Page(Filter):
    async def on_request(self, request):
        return Response(200, [], b"a page")


class Paint(Filter):
    async def on_request(self, request):
        request.path = "/refuses"

    async def on_response(self, request, response):
        response.status = 200
'''


def extension(name: str) -> dict:
    return {"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": name}}


class Echo:
    """A server that sends every message back; the messages 'close' and 'fragments' are orders."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.paths: list[str] = []
        self.server = websockets.sync.server.serve(self.one, "127.0.0.1", 0, max_size=None, subprotocols=["chat"], ping_interval=None,
                                                   ssl=tls, process_request=self.refuse)
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def refuse(self, connection, request):
        return connection.respond(403, "no") if request.path == "/refuses" else None

    def one(self, connection) -> None:
        self.paths.append(connection.request.path)
        try:
            for message in connection:
                if message == "close":
                    connection.close(4001, "as asked")
                elif message == "fragments":
                    connection.send(["fra", "gme", "nts"])
                else:
                    connection.send(message)
        except ConnectionClosed:
            pass

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, dict[str, Echo], int, int]]:
    clear, secure, folder = free_port(), free_port(), tmp_path_factory.mktemp("websockets") / "conf"
    folder.mkdir()
    for name, pem in zip(("c", "k"), authority().certificate("backend.example"), strict=True):
        (folder.parent / name).write_bytes(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder.parent / "c", folder.parent / "k")
    echoes = {name: Echo(tls if name == "wss" else None) for name in APP_PROTOCOLS}
    services = [one for name, protocol in APP_PROTOCOLS.items() for one in (
        resource("Service", name, {"ports": [{"port": 80, **({"appProtocol": protocol} if protocol else {})}]}, "v1"),
        {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
         "addressType": "IPv4", "ports": [{"port": echoes[name].port}], "endpoints": [{"addresses": ["127.0.0.1"]}]})]
    write(folder, "all.yaml", gateway(clear, https(secure)), secret(HOST, *authority().certificate(HOST)), services,
          backend_tls("wss", "backend.example"), config_map("authority", authority().pem),
          [resource("PythonFilter", name, {"file": "pages.py", "class": name.capitalize()}, "gwfast.dev/v1alpha1") for name in ("page", "paint")],
          route("all", *[rule(name, path=f"/{name}") for name in APP_PROTOCOLS],
                *[rule("plain", path=f"/{name}", filters=[extension(name)]) for name in ("page", "paint")]))
    (folder / "pages.py").write_text(PAGES)
    running = Gateway(folder, "--access-log", "off", "--drain-timeout", "3s")
    yield running, echoes, clear, secure
    running.stop()
    for echo in echoes.values():
        echo.close()


@pytest.fixture(params=["clear", "tls"])
def connect(world, request):
    """Connect as a browser does: connect(path, ...)."""
    _, _, clear, secure = world

    def to(path: str = "/plain/chat", subprotocols=("chat",), **more):
        more |= {"max_size": None, "proxy": None, "subprotocols": list(subprotocols)}
        if request.param == "clear":
            return websockets.sync.client.connect(f"ws://127.0.0.1:{clear}{path}", **more)
        raw = socket.create_connection(("127.0.0.1", secure), 10)
        context = trusting(authority().pem)
        # This client reads and writes in two threads, and before Python 3.13 an SSLSocket has no lock: the tickets that TLS 1.3 sends
        # behind the handshake, read while the request is written, may break it.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return websockets.sync.client.connect(f"wss://{HOST}:{secure}{path}", sock=raw, ssl=context, server_hostname=HOST, **more)
    return to


@pytest.mark.parametrize("path", [f"/{name}/a?b=c" for name in APP_PROTOCOLS])
def test_messages_of_every_kind(world, connect, path: str) -> None:
    with connect(path, subprotocols=["other", "chat"]) as client:
        assert client.subprotocol == "chat"
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for message in ("", "hello", "grüße 🙂", b"", b"\0\xff", os.urandom(MEGABYTE), "x" * MEGABYTE, os.urandom(10 * MEGABYTE)):
            client.send(message)
            assert client.recv(30) == message
        assert world[1][path.split("/")[1]].paths[-1] == path


def test_without_compression(connect) -> None:
    with connect(compression=None) as client:
        for size in (125, 126, 65535, 65536, MEGABYTE):
            client.send(message := os.urandom(size))
            assert client.recv(30) == message


def test_fragments_both_ways(connect) -> None:
    with connect() as client:
        client.send(["in ", "three ", "parts"])
        assert client.recv(10) == "in three parts"
        client.send(os.urandom(1000) for _ in range(1000))
        assert len(client.recv(30)) == 1_000_000
        client.send("fragments")
        assert list(client.recv_streaming())[:3] == ["fra", "gme", "nts"], "as they were sent"


def test_pings(connect) -> None:
    with connect() as client:
        for payload in ("", "x" * 125):
            assert client.ping(payload).wait(10)


def test_many_messages_in_flight(connect) -> None:
    with connect() as client:
        sender = threading.Thread(target=lambda: [client.send(str(n)) for n in range(5000)])
        sender.start()
        assert [client.recv(30) for _ in range(5000)] == [str(n) for n in range(5000)]
        sender.join()


def test_either_side_closes(connect) -> None:
    with connect() as client:
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")
    with connect() as client:
        client.close(1000, "done")
        assert client.close_code == 1000


def test_no_rule_is_404(connect) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect("/elsewhere")
    assert refused.value.response.status_code == 404


# ---- over HTTP/2: the stream of an extended CONNECT is the connection


class Http2Socket:
    """One HTTP/2 connection, and a WebSocket on each of its streams."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.status: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.sides: dict[int, Protocol] = {}
        self.waiting: dict[int, list[Frame]] = {}
        self.settled = False
        while not self.settled:
            self.read()
        assert self.h2.remote_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def read(self) -> None:
        """Take in what comes next."""
        data = self.sock.recv(65536)
        assert data, "the gateway ended the connection"
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RemoteSettingsChanged():
                    self.settled = True
                case h2.events.ResponseReceived():
                    self.status[event.stream_id] = dict(event.headers)
                case h2.events.DataReceived():
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self.sides[event.stream_id].receive_data(event.data)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self.ended.add(event.stream_id)
        self.flush()

    def open(self, authority: str, path: str) -> int:
        """Ask for a WebSocket; the stream, once it was answered."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", path),
                                      (":authority", authority), ("sec-websocket-version", "13"),
                                      ("sec-websocket-protocol", "chat"), ("origin", "https://a.example")])
        self.flush()
        self.sides[stream], self.waiting[stream] = Protocol(CLIENT, max_size=None), []
        while stream not in self.status:
            self.read()
        return stream

    def send(self, stream: int, opcode: Opcode, data: bytes, fin: bool = True) -> None:
        frame = Frame(opcode, data, fin=fin).serialize(mask=True, extensions=[])
        while frame:
            while not (window := self.h2.local_flow_control_window(stream)):
                self.read()
            size = min(window, self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, frame[:size])
            frame = frame[size:]
            self.flush()

    def receive(self, stream: int) -> Frame:
        """Return the next frame of this stream."""
        waiting = self.waiting[stream]
        while not waiting:
            waiting += self.sides[stream].events_received()
            if not waiting:
                self.read()
        return waiting.pop(0)


@pytest.fixture(params=["clear", "tls"])
def http2(world, request) -> Iterator[tuple[Http2Socket, str]]:
    _, _, clear, secure = world
    port = clear if request.param == "clear" else secure
    sock = socket.create_connection(("127.0.0.1", port), 10)
    if request.param == "tls":
        sock = trusting(authority().pem, "h2").wrap_socket(sock, server_hostname=HOST)
        assert isinstance(sock, ssl.SSLSocket) and sock.selected_alpn_protocol() == "h2"
    sock.settimeout(10)
    with sock:
        yield Http2Socket(sock), f"{HOST}:{port}"


def test_over_http2(world, http2) -> None:
    connection, host = http2
    stream = connection.open(host, "/plain/h2?x=y")
    assert connection.status[stream][":status"] == "200" and "sec-websocket-accept" not in connection.status[stream]
    for data in (b"hello", b"", os.urandom(MEGABYTE)):
        connection.send(stream, Opcode.BINARY, data)
        assert connection.receive(stream).data == data
    assert world[1]["plain"].paths[-1] == "/plain/h2?x=y"
    connection.send(stream, Opcode.TEXT, b"fragments")
    assert [connection.receive(stream).data for _ in range(3)] == [b"fra", b"gme", b"nts"]


@pytest.mark.parametrize("path", ["/page", "/paint"])
def test_a_filter_makes_no_tunnel_of_a_page(http2, path: str) -> None:
    """What a filter in Python answers, or makes of a refusal, is no WebSocket: 500, where a 2xx would say that there is one."""
    connection, host = http2
    assert connection.status[connection.open(host, path)][":status"] == "500"


def test_two_of_them_on_one_connection(http2) -> None:
    connection, host = http2
    first, second = connection.open(host, "/plain/1"), connection.open(host, "/wss/2")
    for n in range(100):
        for stream in (first, second):
            connection.send(stream, Opcode.TEXT, b"%d of %d" % (n, stream))
            assert connection.receive(stream).data == b"%d of %d" % (n, stream)


def test_the_end_arrives_over_http2(http2) -> None:
    connection, host = http2
    stream = connection.open(host, "/plain/end")
    connection.send(stream, Opcode.CLOSE, b"\x03\xe8")
    assert connection.receive(stream).opcode is Opcode.CLOSE
    while stream not in connection.ended:
        connection.read()
    other = connection.open(host, "/plain/after")
    assert connection.status[other][":status"] == "200", "the connection goes on"


def test_no_rule_is_404_over_http2(http2) -> None:
    connection, host = http2
    assert connection.status[connection.open(host, "/elsewhere")][":status"] == "404"
