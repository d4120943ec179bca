"""The echo backend over HTTP/2, TLS, TCP and UDP: with h2 and the standard library as its clients."""
import asyncio
import json
import os
import socket
import ssl

import h2.config
import h2.connection
import h2.events
import pytest
import uvloop
from support.pki import pair

from gwfast import echo
from gwfast.observe.h2_server import Http2Server

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client) contexts for shop.example; the server asks for a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = pair("shop.example")
    (folder / "c").write_bytes(certificate)
    (folder / "k").write_bytes(key)
    client = ssl.create_default_context(cadata=certificate.decode())
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    client.load_cert_chain(folder / "c", folder / "k")
    return echo.tls_context(str(folder / "c"), str(folder / "k"), str(folder / "c")), client


def served(ask, make=None, server_tls=None, **connecting):
    """Run `ask(reader, writer)` against an echo backend named 'shop'; what it returned."""
    async def main():
        loop = asyncio.get_running_loop()
        server = Http2Server(echo.Echo("shop").answer)
        listening = await loop.create_server(make or server, "127.0.0.1", 0, ssl=server_tls)
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname(), **connecting)
            result = await ask(reader, writer)
        writer.close()
        server.close()
        listening.close()
        return result
    return uvloop.run(main())


class Client:
    """One connection; answers by stream: (headers, body, trailers, whether it was reset)."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.answers: dict[int, list] = {}
        self.ended: set[int] = set()
        self.gone = False
        self.unsent: dict[int, bytes] = {}

    def ask(self, path: str, method: str = "GET", fields=(), body: bytes | None = None) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", method), (":scheme", "http"), (":authority", "shop.example"), (":path", path), *fields],
                             end_stream=body is None)
        self.answers[stream] = [{}, b"", {}]
        if body is not None:
            self.unsent[stream] = body
        return stream

    async def until_ended(self, *streams: int) -> None:
        while not set(streams) <= self.ended:
            self.send_bodies()
            self.writer.write(self.h2.data_to_send())
            data = await self.reader.read(65536)
            if not data:
                self.gone = True
                return
            for event in self.h2.receive_data(data):
                self.take(event)

    def send_bodies(self) -> None:
        for stream, body in list(self.unsent.items()):
            while body and (window := min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)):
                self.h2.send_data(stream, body[:window])
                body = body[window:]
            self.unsent[stream] = body
            if not body:
                self.h2.end_stream(stream)
                del self.unsent[stream]

    def take(self, event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.answers[event.stream_id][0] = dict(event.headers)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id][2] = dict(event.headers)
            case h2.events.DataReceived():
                self.answers[event.stream_id][1] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)


def asked(*requests, **more):
    """Ask everything on one connection at once; the answers in order."""
    async def ask(reader, writer):
        client = Client(reader, writer)
        streams = [client.ask(*one) for one in requests]
        await client.until_ended(*streams)
        return [client.answers[stream] for stream in streams]
    return served(ask, **more)


def test_it_tells_what_arrived():
    (headers, body, trailers), = asked(("/a?b=c", "POST", [("x-two", "1"), ("x-two", "2"), ("x-echo-set-header", "X-A:1")], b"12345"))
    assert (headers[":status"], headers["content-type"], headers["x-a"], trailers) == ("200", "application/json", "1", {})
    told = json.loads(body)
    assert {key: told[key] for key in ("path", "host", "method", "proto", "bytes", "service")} == {
        "path": "/a?b=c", "host": "shop.example", "method": "POST", "proto": "HTTP/2.0", "bytes": 5, "service": "shop"}
    assert told["headers"]["X-Two"] == ["1", "2"] and "tls" not in told


def test_streams_are_answered_as_they_are_ready():
    slow, head, status = asked(("/?delay=50ms",), ("/", "HEAD"), ("/status/404",))
    assert json.loads(slow[1])["path"] == "/?delay=50ms"
    assert (head[0][":status"], head[1]) == ("200", b"") and int(head[0]["content-length"]) > 0
    assert status[0][":status"] == "404"


@pytest.mark.parametrize("size", [0, 5, 16384, 65535, 65536, 1_000_000])
def test_a_grpc_call_gets_back_what_it_sends(size):
    message = os.urandom(size)
    (headers, body, trailers), other = asked(("/any.Service/Method", "POST", GRPC, message), ("/",))
    assert (headers[":status"], headers["content-type"], body, trailers) == ("200", "application/grpc", message, {"grpc-status": "0"})
    assert other[0][":status"] == "200"


def test_what_is_no_http2_ends_the_connection():
    async def ask(reader, writer):
        client = Client(reader, writer)
        writer.write(client.h2.data_to_send() + b"\0\0\1\x09\0\0\0\0\x01x")  # CONTINUATION of nothing
        return await reader.read()
    data = served(ask)
    assert b"\0\0\x08\x07" in data, "GOAWAY"


@pytest.mark.parametrize("at", [1, 3, 10, 23])
def test_the_preface_in_two_parts(at):
    async def ask(reader, writer):
        client = Client(reader, writer)
        first = client.h2.data_to_send()
        writer.write(first[:at])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(first[at:])
        await client.until_ended(client.ask("/"))
        return client.answers[1][0][":status"]
    assert served(ask) == "200"


def test_http11_is_on_the_same_port():
    async def ask(reader, writer):
        writer.write(b"P")
        await asyncio.sleep(0.01)
        writer.write(b"OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return await reader.read()
    assert served(ask).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("alpn, proto", [(["h2"], "HTTP/2.0"), (["http/1.1"], "HTTP/1.1")])
def test_over_tls_alpn_chooses(tls, alpn, proto):
    server, client = tls
    client.set_alpn_protocols(alpn)
    if alpn == ["h2"]:
        body = asked(("/",), server_tls=server, ssl=client, server_hostname="shop.example")[0][1]
    else:
        async def ask(reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            return (await reader.read()).partition(b"\r\n\r\n")[2]
        body = served(ask, server_tls=server, ssl=client, server_hostname="shop.example")
    told = json.loads(body)
    assert told["proto"] == proto
    assert {key: told["tls"][key] for key in ("version", "serverName", "negotiatedProtocol")} == {
        "version": "TLSv1.3", "serverName": "shop.example", "negotiatedProtocol": alpn[0]}
    assert told["tls"]["peerCertificates"][0].startswith("-----BEGIN CERTIFICATE-----")


def test_tcp_comes_back():
    async def ask(reader, writer):
        data = os.urandom(3_000_000)
        got = asyncio.ensure_future(reader.readexactly(len(data)))
        writer.write(data)
        await writer.drain()
        assert await got == data
        writer.write_eof()
        return await reader.read()
    assert served(ask, echo.Tcp) == b""


def test_datagrams_come_back():
    async def main():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(echo.Udp, ("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(server.get_extra_info("sockname"))
            for data in (b"one", b"two", os.urandom(9000)):
                client.send(data)
                assert await asyncio.wait_for(loop.sock_recv(client, 65536), 10) == data
        server.close()
    uvloop.run(main())
