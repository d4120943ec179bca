"""The admin server's pages and manners, over real sockets."""
import asyncio
import contextlib
import socket
from unittest.mock import MagicMock

import pytest
import uvloop

from gwfast import limits
from gwfast.observe import admin as admin_module
from gwfast.observe import h11_server
from gwfast.observe.admin import Admin
from gwfast.observe.h11_server import Answer, Request
from gwfast.serve import supervisor
from gwfast.serve.options import ServeOptions


class Pages:
    def __init__(self):
        self.bugs: list[str] = []
        self.reloading = asyncio.Event()
        self.reloaded = asyncio.Event()
        self.admin = Admin({"GET /healthz": self.healthz, "POST /reload": self.reload, "GET /bug": self.bug},
                           lambda what, error: self.bugs.append(f"{what}: {error}"))

    async def healthz(self):
        return Answer(200, b"ok\n")

    async def reload(self):
        self.reloading.set()
        await self.reloaded.wait()
        return Answer(200, b"reloaded\n")

    async def bug(self):
        raise RuntimeError("oops")


def run(scenario):
    async def main():
        pages = Pages()
        where = await pages.admin.start(asyncio.get_running_loop(), "127.0.0.1", 0)
        with contextlib.closing(pages.admin):
            await asyncio.wait_for(scenario(pages, where), 20)
    uvloop.run(main())


async def talk(where, data, end=True):
    """Send bytes and return all that comes until the server closes (at our half-close with `end`)."""
    reader, writer = await asyncio.open_connection(*where)
    writer.write(data)
    if end:
        writer.write_eof()
    got = await reader.read()
    writer.close()
    return got.decode()


@pytest.mark.parametrize("request_line, status, body", [
    ("GET /healthz", 200, "ok\n"),
    ("GET /healthz?x=1", 200, "ok\n"),
    ("HEAD /healthz", 200, ""),
    ("GET /bug", 500, "a bug: see the log\n"),
    ("GET /reload", 405, "no such method here\n"),
    ("DELETE /healthz", 405, "no such method here\n"),
    ("GET /", 404, "GET /healthz\nPOST /reload\nGET /bug\n"),
])
def test_page(request_line, status, body):
    async def scenario(pages, where):
        got = await talk(where, f"{request_line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head, _, rest = got.partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ") and rest == body
        assert pages.bugs == (["admin page /bug: oops"] if status == 500 else [])
    run(scenario)


@pytest.mark.parametrize("data, status", [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01\x00\xa5\x01\x00", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * limits.HEAD_BYTES * 2, 431),
], ids=["no host", "TLS", "large head"])
def test_what_h11_refuses_is_answered_and_closed(data, status):
    async def scenario(pages, where):
        got = await talk(where, data, end=False)
        assert got.startswith(f"HTTP/1.1 {status} ") and "connection: close" in got.lower() and pages.bugs == []
    run(scenario)


@pytest.mark.parametrize("method, path, peer, status", [
    ("GET", "/healthz", "10.0.0.9", 200), ("HEAD", "/healthz?x", "10.0.0.9", 200), ("POST", "/reload", "10.0.0.9", 403),
    ("POST", "/reload?x", "fd00::9", 403), ("POST", "/reload", "", 403), ("POST", "/reload", "::ffff:10.0.0.9", 403),
    ("POST", "/reload", "127.0.0.1", 200), ("POST", "/reload", "::1", 200), ("POST", "/reload", "::ffff:127.0.0.1", 200)])
def test_some_pages_are_for_this_machine_alone(method, path, peer, status):
    async def ask(public):
        pages = Pages()
        pages.reloaded.set()
        pages.admin._public = public
        answer = await pages.admin._answer(Request(method, path, "HTTP/1.1", [], 0, peer=peer))
        assert pages.reloading.is_set() == (answer.status == 200 and method == "POST")
        return answer
    answer = asyncio.run(ask({"/healthz"}))
    assert answer.status == status and (status == 200 or answer.body.startswith(b"/reload is answered to this machine alone"))
    assert asyncio.run(ask(None)).status == 200


def test_who_asks_is_known_by_address():
    async def scenario(pages, where):
        pages.admin._public = {"/healthz"}
        pages.reloaded.set()
        assert "HTTP/1.1 200" in await talk(where, b"POST /reload HTTP/1.1\r\nHost: a\r\n\r\n")
    run(scenario)


@pytest.mark.parametrize("where, public", [
    ({"controller": "https://controller:9443"}, {"/healthz", "/readyz", "/metrics"}),
    ({"kubernetes": True}, {"/healthz", "/readyz", "/metrics"}), ({}, None)], ids=["of a controller", "one process", "files"])
def test_in_a_cluster_other_pods_are_told_no_rules(where, public, monkeypatch):
    class Seen(Exception):
        pass

    def admin(pages, bug, public=None, own=()):
        assert own == {"/upgrade"}
        raise Seen(public)
    monkeypatch.setattr(supervisor, "Admin", admin)

    async def make():
        with pytest.raises(Seen) as seen:
            supervisor.Supervisor(asyncio.get_running_loop(), MagicMock(), ServeOptions(paths=(), **where),
                                  MagicMock(), [], MagicMock())
        assert seen.value.args == (public,)
    asyncio.run(make())


def test_pipelined_requests_are_answered_in_order_one_by_one():
    async def scenario(pages, where):
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                     b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await pages.reloading.wait()
        assert (await talk(where, b"GET /healthz HTTP/1.0\r\n\r\n")).endswith("ok\n")  # others are served meanwhile
        pages.reloaded.set()
        got = await reader.readuntil(b"ok\n")
        assert [part.partition(b"HTTP/1.1")[0] for part in got.split(b"\r\n\r\n")[1:]] == [b"reloaded\n", b"ok\n"]
        writer.close()
    run(scenario)


def test_a_slow_head_is_cut(monkeypatch):
    monkeypatch.setattr(limits, "HEAD_TIMEOUT", 0.05)

    async def scenario(_, where):
        assert await talk(where, b"GET / HTT", end=False) == ""
    run(scenario)


def test_connections_are_bounded_and_who_floods_keeps_no_probe_out(monkeypatch):
    """A kubelet whose probes get no answer ends the Pod."""
    monkeypatch.setattr(admin_module, "CONNECTIONS", 4)
    monkeypatch.setattr(admin_module, "OF_ONE", 3)

    async def scenario(pages, where):
        flood = []
        for _ in range(20):
            flood.append(await asyncio.open_connection(*where, local_addr=("127.0.0.2", 0)))
            flood[-1][1].write(b"GET /healthz HTTP/1.1\r\n")
        assert (await talk(where, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).endswith("ok\n")
        for reader, writer in flood[:17]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        flood[-1][1].write(b"Host: a\r\n\r\n")  # the newest ones have their places
        assert (await flood[-1][0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        for _, writer in flood[17:]:
            writer.close()
        while pages.admin._server.connections:
            await asyncio.sleep(0)
        assert len(pages.admin._server.crowd) == 0
    run(scenario)


def test_100_continue():
    async def scenario(pages, where):
        pages.reloaded.set()
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await reader.readuntil(b"reloaded\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    run(scenario)


class Told:
    """A server that answers with who asked for what, and counts what h11 is asked to read."""

    def __init__(self, monkeypatch):
        self.server, self.read = h11_server.Server(self.answer), 0
        real = h11_server.h11.Connection

        def counted(*given, **named):
            self.read += 1
            return real(*given, **named)
        monkeypatch.setattr(h11_server.h11, "Connection", counted)

    async def answer(self, request):
        return Answer(200, f"{request.method} {request.target} {request.header('x-a')} {request.peer}".encode())

    async def ask(self, *pieces, source="127.0.0.1", end=False):
        reader, writer = await asyncio.open_connection(sock=socket.create_connection(self.where, source_address=(source, 0)))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.write_eof()
        got = await reader.read()
        writer.close()
        return got.decode()


def told(monkeypatch, scenario):
    async def main():
        made = Told(monkeypatch)
        listening = await asyncio.get_running_loop().create_server(made.server, "127.0.0.1", 0)
        made.where = listening.sockets[0].getsockname()[:2]
        try:
            await asyncio.wait_for(scenario(made), 60)
        finally:
            listening.close()
            made.server.close()
    uvloop.run(main())


PROBE = b"GET /readyz HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.33\r\nX-A: b\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("end", [False, True], ids=["open", "half closed"])
def test_a_probe_is_read_once_and_answered_alike(monkeypatch, end):
    async def scenario(made):
        answers = [await made.ask(PROBE, end=end) for _ in range(3)]
        assert made.read == 1
        assert len(set(answers)) == 1 and answers[0].endswith("\r\n\r\nGET /readyz b 127.0.0.1")
        assert answers[0].startswith("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n") and "\r\nConnection: close\r\n" in answers[0]
    told(monkeypatch, scenario)


def test_who_asks_is_whoever_does_this_time(monkeypatch):
    async def scenario(made):
        for source in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            assert (await made.ask(PROBE, source=source)).endswith(f" b {source}")
        assert made.read == 1
    told(monkeypatch, scenario)


@pytest.mark.parametrize("request_bytes", [
    PROBE.replace(b"Connection: close\r\n", b""), PROBE.replace(b"GET", b"HEAD"), PROBE + PROBE, PROBE.replace(b"b\r\n", b"b" * 2000 + b"\r\n"),
    PROBE.replace(b"X-A: b\r\n", b"Content-Length: 1\r\n") + b"x"],
    ids=["stays open", "no body wanted", "two", "long", "body"])
def test_what_is_no_probe_is_read_each_time(monkeypatch, request_bytes):
    async def scenario(made):
        first, second = [await made.ask(request_bytes, end=True) for _ in range(2)]
        assert first == second and first.startswith("HTTP/1.1 200 OK\r\n") and made.read == 2 and not made.server.known
    told(monkeypatch, scenario)


def test_no_more_probes_are_known_than_there_is_room_for(monkeypatch):
    async def scenario(made):
        for number in range(h11_server.KNOWN + 5):
            assert f"GET /{number} b " in await made.ask(PROBE.replace(b"/readyz", b"/%d" % number))
        assert len(made.server.known) == h11_server.KNOWN
    told(monkeypatch, scenario)
