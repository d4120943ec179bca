"""One probe: what each kind of answer means. The endpoints are real servers."""
import asyncio
import functools
import random

import h2.config
import h2.connection
import h2.events
import pytest
from probe_servers import OK, run, says, serving, subject

from gwfast.endpoints.link import RESULTS, Failed, Subject
from gwfast.endpoints.probe import probe
from gwfast.endpoints.http2_probe import serving_status
from gwfast.observe.h2_server import Http2Server
from gwfast.observe.h11_server import Answer


async def outcome(what: Subject, certs=None, seconds: float = 5.0) -> tuple[str, str]:
    """How a probe ends: (result, why)."""
    try:
        async with asyncio.timeout(seconds):
            await probe(asyncio.get_running_loop(), what, certs)
    except Failed as failed:
        assert failed.result in RESULTS
        return failed.result, str(failed)
    except TimeoutError:
        return "late", ""
    return "passed", ""


async def asked(server, certs=None, seconds: float = 5.0, **more) -> tuple[str, str]:
    async with serving(server) as port:
        return await outcome(subject(port, **more), certs, seconds)


# -- HTTP/1.1 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "result"), [
    (says(OK), "passed"),
    (says(OK, close=False), "passed"),
    (says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"), "passed"),
    (says(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK), "passed"),
    (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "passed"),
    (says(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 300_000, close=False), "passed"),
    (says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "status"),
    (says(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n", close=False), "status"),
    (says(b"HTTP/1.1 204 No Content\r\n\r\n"), "status"),
    (says(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "status"),
    (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"), "broken"),
    (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", close=False), "broken"),
    (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"), "broken"),
    (says(b"SSH-2.0-OpenSSH_9.6\r\n", close=False), "late"),
    (says(b"\0" * 100), "broken"),
    (says(), "broken"),
    (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, close=False), "broken"),
    (says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 10_000, close=False), "broken"),
    (says(close=False), "late"),
    (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhangs", close=False), "late"),
    (says(b"HTTP/1.1 200", close=False), "late"),
], ids=["200", "200 stays open", "1.0", "1xx", "chunks", "endless", "500", "500 hangs", "204", "302", "cut", "101", "two lengths",
        "ssh", "zeros", "closes", "long head", "1xx without end", "hangs", "body hangs", "head hangs"])
def test_answers(answer, result):
    assert run(functools.partial(asked, answer, seconds=0.5 if result == "late" else 5))[0] == result


def test_statuses_that_are_expected():
    answer = says(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert run(functools.partial(asked, answer, statuses=(200, 204)))[0] == "passed"
    assert run(functools.partial(asked, says(OK), statuses=(204,))) == ("status", "it answered 200")


def test_the_question():
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        heard.append(await reader.read())        # the probe closes
        writer.close()
    assert run(functools.partial(asked, serve, path="/ready?full=1"))[0] == "passed"
    assert heard[0] == (b"GET /ready?full=1 HTTP/1.1\r\nHost: svc.ns\r\nUser-Agent: gwfast-probe\r\nAccept: */*\r\n"
                        b"Connection: close\r\n\r\n")


def test_head():
    assert run(functools.partial(asked, says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", close=False), method="HEAD"))[0] == "passed"


def test_nobody_listens():
    async def scenario():
        async with serving(says()) as port:
            pass
        return [await outcome(subject(port, type=type)) for type in ("TCP", "HTTP", "GRPC")]
    assert run(scenario) == [("refused", "no connection: Connection refused")] * 3


def test_tcp_asks_for_a_connection_alone():
    assert run(functools.partial(asked, says(close=False), type="TCP"))[0] == "passed"


def test_ipv6():
    async def scenario():
        server = await asyncio.start_server(says(OK), "::1", 0)
        found = await outcome(subject(server.sockets[0].getsockname()[1], ip="::1"))
        server.close()
        return found[0]
    assert run(scenario) == "passed"


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------------


async def by_path(request) -> Answer:
    assert request.header("host") == "svc.ns"
    return Answer(int(request.target[1:4]), b"x" * (300_000 if request.target.endswith("long") else 2))


@pytest.mark.parametrize(("path", "result"), [("/200", "passed"), ("/200long", "passed"), ("/503", "status")])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_h2c(path, result, method):
    assert run(functools.partial(asked, Http2Server(by_path), protocol="h2c", path=path, method=method))[0] == result


@pytest.mark.parametrize("protocol", ["h2c", "grpc"])
@pytest.mark.parametrize(("answer", "result"), [
    (says(OK), "broken"), (says(b"\0" * 1000), "broken"), (says(), "broken"), (says(close=False), "late"),
    (says(b"\0\0\0\4\0\0\0\0\0" * 20_000, close=False), "broken"),
], ids=["1.1", "zeros", "closes", "hangs", "settings without end"])
def test_no_http2(protocol, answer, result):
    more = {"protocol": "h2c"} if protocol == "h2c" else {"type": "GRPC"}
    assert run(functools.partial(asked, answer, seconds=0.5 if result == "late" else 5, **more))[0] == result


@pytest.mark.parametrize("protocol", ["http", "h2c"])
def test_any_bytes(protocol):
    """Nothing that an endpoint says is a bug of ours: noise, and good answers with noise in them."""
    def answers(rng: random.Random):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_outbound_headers=False))
        connection.initiate_connection()
        good = connection.data_to_send() + b"\0\0\3\1\5\0\0\0\1\x88\x88\x88" if protocol == "h2c" else OK
        for _ in range(300):
            data = bytearray(good * rng.randrange(1, 4) if rng.random() < 0.8 else rng.randbytes(rng.randrange(1, 200)))
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            yield bytes(data)

    async def scenario():
        waiting = answers(random.Random(1))

        async def serve(reader, writer):
            await reader.read(65536)
            writer.write(next(waiting))
            writer.close()
        async with serving(serve) as port:
            return {(await outcome(subject(port, protocol)))[0] for _ in range(300)}
    assert run(scenario) <= {"passed", "status", "broken"}


# -- gRPC --------------------------------------------------------------------------------------------------------------------


class HealthService(asyncio.Protocol):
    """A gRPC server: `answer(service)` gives (fields, body, trailers); None: it hangs."""

    def __init__(self, answer):
        self._answer = answer
        self._body = b""
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport):
        self._transport = transport
        self._h2.initiate_connection()

    def data_received(self, data):
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.fields = dict(event.headers)
            if isinstance(event, h2.events.DataReceived):
                self._body += event.data
            if isinstance(event, h2.events.StreamEnded):
                self._respond()
        self._transport.write(self._h2.data_to_send())

    def _respond(self):
        assert self.fields[":path"] == "/grpc.health.v1.Health/Check" and self.fields["te"] == "trailers"
        assert self._body[:1] == b"\0" and int.from_bytes(self._body[1:5]) == len(self._body) - 5
        answer = self._answer(self._body[7 if len(self._body) < 7 + 128 else 8:].decode())
        if answer is None:
            return
        fields, body, trailers = answer
        self._h2.send_headers(1, fields, end_stream=not body and not trailers)
        if body:
            self._h2.send_data(1, body, end_stream=not trailers)
        if trailers:
            self._h2.send_headers(1, trailers, end_stream=True)


HEAD = [(":status", "200"), ("content-type", "application/grpc")]
FINE = [("grpc-status", "0")]


def message(content: bytes, flag: bytes = b"\0") -> bytes:
    return flag + len(content).to_bytes(4) + content


@pytest.mark.parametrize(("answer", "expected"), [
    ((HEAD, message(b"\x08\x01"), FINE), ("passed", "")),
    ((HEAD, message(b"\x08\x02"), FINE), ("status", "it answered NOT_SERVING")),
    ((HEAD, message(b""), FINE), ("status", "it answered UNKNOWN")),
    ((HEAD, message(b"\x08\x03"), FINE), ("status", "it answered SERVICE_UNKNOWN")),
    ((HEAD, message(b"\x08\x09"), FINE), ("status", "it answered 9")),
    (([*HEAD, ("grpc-status", "12")], b"", None), ("status", "it answered grpc-status 12")),
    (([*HEAD, ("grpc-status", "5")], b"", None), ("status", "it answered grpc-status 5")),
    ((HEAD, message(b"\x08\x01"), [("grpc-status", "14")]), ("status", "it answered grpc-status 14")),
    ((HEAD, message(b"\x08\x01"), None), ("status", "it answered without a grpc-status")),
    (([(":status", "503")], b"", None), ("status", "it answered 503")),
    (([(":status", "200"), ("content-type", "text/html")], b"hello", None), ("broken", "its answer is no gRPC")),
    ((HEAD, message(b"\x08\x01", b"\1"), FINE), ("broken", "its answer is no HealthCheckResponse")),
    ((HEAD, message(b"\x08\x01") * 2, FINE), ("broken", "its answer is no HealthCheckResponse")),
    ((HEAD, b"", FINE), ("broken", "its answer is no HealthCheckResponse")),
    (None, ("late", "")),
], ids=["serving", "not serving", "unknown", "service unknown", "another", "unimplemented", "not found", "unavailable", "no status",
        "503", "no gRPC", "compressed", "two messages", "no message", "hangs"])
def test_grpc(answer, expected):
    assert run(functools.partial(asked, lambda: HealthService(lambda _: answer), type="GRPC",
                                 seconds=5 if answer else 0.5)) == expected


@pytest.mark.parametrize("name", ["", "shop.Cart", "x" * 253], ids=["server", "service", "long"])
def test_grpc_names_the_service(name):
    def answer(service):
        return HEAD, message(b"\x08\x01" if service == name else b"\x08\x03"), FINE
    assert run(functools.partial(asked, lambda: HealthService(answer), type="GRPC", service=name))[0] == "passed"


@pytest.mark.parametrize(("content", "state"), [
    (b"\x08\x01", 1), (b"", 0), (b"\x08\x02\x08\x01", 1), (b"\x12\x02hi\x08\x01", 1), (b"\x11" + b"x" * 8 + b"\x1d" + b"x" * 4 + b"\x08\x01", 1),
    (b"\x08\x81\x00", 1), (b"\x08", None), (b"\x08\x80", None), (b"\x12\x09hi", None), (b"\x0b\x01", None), (b"\x08" + b"\x80" * 10 + b"\x01", None),
], ids=["serving", "empty", "twice", "string before", "fixed before", "long form", "cut", "cut varint", "cut string", "group", "endless"])
def test_a_message_is_read_strictly(content, state):
    if state is None:
        with pytest.raises((ValueError, IndexError)):
            serving_status(message(content))
    else:
        assert serving_status(message(content)) == state


# -- TLS ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Server contexts for backend.test by what ALPN they have, and credentials: (contexts, certs by what is trusted, ids)."""
    pytest.importorskip("OpenSSL", reason="TLS is not installed")
    import ssl
    from contextlib import closing

    from support.issuer import Issuer

    from gwfast.plan.credentials import Credentials
    from gwfast.plan.ir import Backend, BackendTLS, Plan
    from gwfast.serve.certs import Certs
    folder = tmp_path_factory.mktemp("tls")
    ca, stranger = Issuer(), Issuer()
    found = ca.issue("backend.test")
    (folder / "chain").write_bytes(found.chain)
    (folder / "key").write_bytes(found.key)

    def context(*alpn):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(folder / "chain", folder / "key")
        if alpn:
            made.set_alpn_protocols(list(alpn))
        return made
    offered = ("h2", "http/1.1")
    known = {
        "trusted": BackendTLS(ca=(ca.ca,), hostname="backend.test", alpn=offered),
        "stranger": BackendTLS(ca=(stranger.ca,), hostname="backend.test", alpn=offered),
        "other name": BackendTLS(ca=(ca.ca,), hostname="other.test", alpn=offered),
        "other san": BackendTLS(ca=(ca.ca,), hostname="backend.test", alpn=offered, sans=(("Hostname", "san.test"),)),
        "nothing offered": BackendTLS(ca=(ca.ca,), hostname="backend.test"),
    }
    plan = Plan(backends=tuple(Backend(namespace="n", name=f"b{i}", port=443, tls=each) for i, each in enumerate(known.values())))
    with closing(Credentials()) as writer:
        certs = Certs(writer.publish(plan))
    return context, certs, {name: each.id for name, each in known.items()}


@pytest.mark.parametrize(("trust", "alpn", "more", "result"), [
    ("trusted", (), {}, "passed"),
    ("trusted", ("http/1.1",), {}, "passed"),
    ("trusted", ("h2", "http/1.1"), {}, "passed"),
    ("trusted", ("h2",), {"protocol": "h2c"}, "passed"),
    ("trusted", (), {"protocol": "h2c"}, "broken"),
    ("trusted", (), {"type": "TCP"}, "passed"),
    ("trusted", ("h2", "http/1.1"), {"path": "/503"}, "status"),
    ("nothing offered", (), {"protocol": "tcp"}, "passed"),
    ("stranger", (), {}, "tls"),
    ("other name", (), {}, "tls"),
    ("other san", (), {}, "tls"),
    ("stranger", (), {"type": "TCP"}, "tls"),
], ids=["no ALPN", "1.1", "2", "h2c", "h2c without ALPN", "TCP", "503", "tcp", "stranger", "other name", "other san", "TCP stranger"])
def test_tls(tls, trust, alpn, more, result):
    context, certs, ids = tls

    async def scenario():
        async with serving(Http2Server(by_path), ssl=context(*alpn)) as port:
            return await outcome(subject(port, tls=ids[trust], **{"path": "/200", **more}), certs)
    assert run(scenario)[0] == result


@pytest.mark.parametrize(("alpn", "result"), [(("h2",), "passed"), (("http/1.1",), "broken")])
def test_grpc_over_tls(tls, alpn, result):
    context, certs, ids = tls

    async def scenario():
        async with serving(lambda: HealthService(lambda _: (HEAD, message(b"\x08\x01"), FINE)), ssl=context(*alpn)) as port:
            return await outcome(subject(port, tls=ids["trusted"], type="GRPC"), certs)
    assert run(scenario)[0] == result


@pytest.mark.parametrize(("answer", "result"), [(says(OK), "tls"), (says(), "broken"), (says(close=False), "late")],
                         ids=["in clear", "closes", "hangs"])
def test_no_tls(tls, answer, result):
    _, certs, ids = tls
    assert run(functools.partial(asked, answer, certs, tls=ids["trusted"], seconds=0.5 if result == "late" else 5))[0] == result
