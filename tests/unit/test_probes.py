"""Probes: what each kind of answer means, when who is asked, and what is believed of it. The endpoints are real servers."""
import asyncio
import contextlib
import functools
import os
import random
import resource
import time

import h2.config
import h2.connection
import h2.events
import pytest
import uvloop

from gwfast import limits
from gwfast.endpoints import probes
from gwfast.endpoints.link import RESULTS, Failed, Subject
from gwfast.endpoints.probe import probe
from gwfast.endpoints.probe2 import serving_status
from gwfast.endpoints.probes import Prober
from gwfast.graph.model import Active
from gwfast.observe.h2_server import Http2Server
from gwfast.observe.h11_server import Answer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def active(type="HTTP", interval=10_000, timeout=5000, unhealthy=1, healthy=1, **more) -> Active:
    return Active(type=type, interval_ms=interval, timeout_ms=timeout, unhealthy=unhealthy, healthy=healthy, **more)


def subject(port: int, protocol: str = "http", tls: int = 0, ip: str = "127.0.0.1", **check) -> Subject:
    return Subject(ip, port, protocol, tls, "svc.ns", active(**check))


def run(scenario, *arguments):
    return uvloop.run(asyncio.wait_for(scenario(*arguments), 20))


@contextlib.asynccontextmanager
async def serving(protocol, **more):
    """A server with this protocol factory, or whose connections this coroutine function of a reader and a writer serves."""
    loop = asyncio.get_running_loop()
    if asyncio.iscoroutinefunction(protocol):
        server = await asyncio.start_server(protocol, "127.0.0.1", 0, **more)
    else:
        server = await loop.create_server(protocol, "127.0.0.1", 0, **more)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(*pieces: bytes, close: bool = True):
    """Answer whatever comes with these bytes, and close or hang."""
    async def serve(reader, writer):
        await reader.read(65536)
        for piece in pieces:
            writer.write(piece)
        if not close:
            await reader.read(1)
        writer.close()
    return serve


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

    from issuer import Issuer

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


# -- when who is asked, and what is believed -----------------------------------------------------------------------------------


class World:
    """Servers whose answers a test sets, and a prober with what it marks."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.marks: list[tuple[int, int, bool]] = []
        self.prober = Prober(self.loop, lambda *mark: self.marks.append(mark))
        self.answers: dict[str, bytes | None] = {}  # by path; None: hang
        self.times: dict[str, list[float]] = {}
        self.open = self.most = 0

    async def serve(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        with contextlib.suppress(ConnectionError):
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.times.setdefault(path, []).append(time.monotonic())
            answer = self.answers.get(path, OK)
            if answer is not None:
                writer.write(answer)
            await reader.read()
        self.open -= 1
        writer.close()

    def count(self, path: str = "/") -> int:
        return len(self.times.get(path, ()))

    async def until(self, true) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):     # the folder's own
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return found


def prober_test(scenario):
    """Run a test on a World and its server's port; nothing of it is open when it ends."""
    @functools.wraps(scenario)
    def test():
        async def main():
            world = World()
            descriptors = sockets()
            bugs = []
            world.loop.set_exception_handler(lambda _, context: bugs.append(context))
            async with serving(world.serve) as port:
                try:
                    await scenario(world, port)
                finally:
                    world.prober.close()
                await world.until(lambda: not world.open)
            await world.until(lambda: sockets() <= descriptors)
            assert not bugs
        run(main)
    del test.__wrapped__  # or pytest takes its parameters for fixtures
    return test


BAD = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


@prober_test
async def test_thresholds(world, port):
    one = subject(port, interval=20, unhealthy=3, healthy=2)
    world.prober.follow({one: [(7, 1)]})
    await world.until(lambda: world.count() >= 3)
    assert world.marks == [] and world.prober.unhealthy == {}
    world.answers["/"] = BAD
    await world.until(lambda: world.prober.unhealthy)
    assert world.prober.results["status"] == 3 and world.marks == [(7, 1, True)]
    assert world.prober.unhealthy == {(7, 1): "it answered 500"}
    passed = world.prober.results["passed"]
    world.answers["/"] = OK
    await world.until(lambda: not world.prober.unhealthy)
    assert world.prober.results["passed"] - passed == 2 and world.marks == [(7, 1, True), (7, 1, False)]


@prober_test
async def test_only_failures_in_a_row_count(world, port):
    world.prober.follow({subject(port, interval=15, unhealthy=2): [(7, 1)]})
    for _ in range(6):
        before = world.prober.results["status"]
        world.answers["/"] = BAD
        await world.until(lambda before=before: world.prober.results["status"] > before)
        world.answers["/"] = OK
        passed = world.prober.results["passed"]
        await world.until(lambda passed=passed: world.prober.results["passed"] > passed)
        if world.prober.results["status"] == before + 2:     # the loop was slow: two in a row
            return
    assert world.marks == []


@prober_test
async def test_at_once_then_at_intervals_that_differ(world, port):
    began = time.monotonic()
    world.prober.follow({subject(port, path=f"/{n}", interval=400): [(n, 1)] for n in range(20)})
    await world.until(lambda: all(world.count(f"/{n}") for n in range(20)))
    assert max(world.times[f"/{n}"][0] for n in range(20)) - began < 0.3
    await world.until(lambda: all(world.count(f"/{n}") >= 3 for n in range(20)))
    first = [world.times[f"/{n}"][1] - world.times[f"/{n}"][0] for n in range(20)]
    then = [world.times[f"/{n}"][2] - world.times[f"/{n}"][1] for n in range(20)]
    assert all(0.19 < gap < 0.6 for gap in first) and max(first) - min(first) > 0.05
    assert all(0.35 < gap < 0.65 for gap in then)


@prober_test
async def test_a_timeout_is_exact(world, port):
    world.answers["/"] = None
    began = time.monotonic()
    world.prober.follow({subject(port, timeout=200): [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    assert 0.19 < time.monotonic() - began < 0.4
    assert world.prober.unhealthy == {(7, 1): "no answer in 0.2 s"}
    await world.until(lambda: not world.open)


@prober_test
async def test_a_loop_that_is_late_is_no_failure(world, port):
    """An answer is there in time, and nobody reads it because this process is busy."""
    world.prober.follow({subject(port, timeout=100, interval=50): [(7, 1)]})
    for _ in range(5):
        count = world.count()
        await world.until(lambda count=count: world.count() > count)
        time.sleep(0.3)
    assert world.marks == [] and world.prober.results["late"] == 0


@prober_test
async def test_so_many_at_a_time(world, port):
    world.answers = {f"/{n}": None for n in range(30)}
    before, limits.PROBES = limits.PROBES, 4
    try:
        world.prober.follow({subject(port, path=f"/{n}", timeout=50): [(n, 1)] for n in range(30)})
        await world.until(lambda: len(world.prober.unhealthy) == 30)
    finally:
        limits.PROBES = before
    assert world.most <= 5                   # the server hears of an end a little later
    assert world.prober.results["late"] == 30


@prober_test
async def test_what_stays_keeps_what_is_believed(world, port):
    world.answers["/"] = BAD
    one = subject(port, interval=30)
    world.prober.follow({one: [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    other = subject(port, path="/other")
    world.prober.follow({one: [(7, 1), (8, 2)], other: [(9, 3)]})      # another backend has it too
    assert world.marks == [(7, 1, True), (8, 2, True)]
    world.answers["/strict"] = BAD
    world.prober.follow({subject(port, path="/strict", unhealthy=9): [(7, 1)], other: [(9, 3)]})   # another check
    assert world.marks[2:] == [(8, 2, False)] and set(world.prober.unhealthy) == {(7, 1)}
    await world.until(lambda: world.count("/strict") == 1)
    assert set(world.prober.unhealthy) == {(7, 1)}
    world.prober.follow({other: [(9, 3)]})
    assert world.marks[3:] == [(7, 1, False)] and world.prober.unhealthy == {}
    count = world.count(), world.count("/strict")
    await asyncio.sleep(0.1)
    assert (world.count(), world.count("/strict")) == count and world.count("/other") == 1


@prober_test
async def test_another_endpoint_in_the_slot_begins_anew(world, port):
    world.answers["/"] = BAD
    world.prober.follow({subject(port): [(7, 1)]})
    await world.until(lambda: world.prober.unhealthy)
    world.prober.follow({subject(port, path="/new"): [(7, 2)]})
    assert world.marks == [(7, 1, True), (7, 1, False)] and world.prober.unhealthy == {}


@prober_test
async def test_an_endpoint_is_out_while_one_of_two_says_so(world, port):
    world.answers = {"/a": BAD, "/b": BAD}
    world.prober.follow({subject(port, path=path, interval=20): [(7, 1)] for path in ("/a", "/b")})
    await world.until(lambda: world.count("/a") > 2 and world.count("/b") > 2)
    world.answers.pop("/a")
    count = world.count("/a")
    await world.until(lambda: world.count("/a") > count + 2)
    assert world.marks == [(7, 1, True)]
    world.answers.pop("/b")
    await world.until(lambda: not world.prober.unhealthy)
    assert world.marks == [(7, 1, True), (7, 1, False)]


@prober_test
async def test_what_we_cannot_ask_says_nothing(world, port):
    world.prober.follow({subject(port, interval=20): [(7, 1)]})
    await world.until(lambda: world.count())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        await world.until(lambda: world.prober.results["unable"] > 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert world.marks == []


def test_a_probe_that_waits_for_its_turn_has_all_its_time():
    """The time of a probe begins with it, not when it was due."""
    async def main():
        world = World()
        world.answers = {"/slow": None}
        before, limits.PROBES = limits.PROBES, 1
        try:
            async with serving(world.serve) as port:
                world.prober.follow({subject(port, path="/slow", timeout=200): [(1, 1)],
                                     subject(port, path="/fast", timeout=100): [(2, 1)]})
                await world.until(lambda: world.prober.results["passed"] and world.prober.results["late"])
                world.prober.close()
                await world.until(lambda: not world.open)
        finally:
            limits.PROBES = before
        assert set(world.prober.unhealthy) == {(1, 1)}
    run(main)


def test_there_is_a_word_for_each_end():
    assert len(set(RESULTS)) == len(RESULTS) and probes.LATE < 0.1
