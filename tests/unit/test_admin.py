"""The admin server's pages and manners, over real sockets."""
import asyncio
import contextlib
from unittest.mock import MagicMock

import pytest
import uvloop

from gwfast import limits
from gwfast.observe import admin as admin_module
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
