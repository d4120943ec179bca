"""Requests and watches: what goes over the wire, what is waited for, and what is left behind."""
import asyncio
import socket
from contextlib import aclosing, asynccontextmanager

import pytest
from servers import Exchange, run, serving, until

from gwfast import __version__, limits
from gwfast.kubernetes.access import Access, Material
from gwfast.kubernetes.client import MERGE_PATCH, ApiError, Client, Excessive, Unreachable
from gwfast.kubernetes.http import Connection, TooLong


@asynccontextmanager
async def talking(answer, *, prefix: str = "", connections: int = 8, **access):
    """A server and its client; nothing of the client may be left open at the end."""
    async with serving(answer) as server:
        client = Client(Access(server.url + prefix, **access), connections=connections)
        try:
            yield client, server
        finally:
            await client.close()
            await until(lambda: server.open == 0, "connections were left open")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(limits, "API_BACKOFF", 0.001)


async def lines_of(client: Client, path: str = "/w", **options) -> list[bytes]:
    async with aclosing(client.watch(path, **options)) as lines:
        return [line async for line in lines]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_request_as_it_is_sent(loop):
    async def answer(x: Exchange):
        await x.answer(b"{}")

    async def test():
        async with talking(answer, prefix="/k8s/clusters/c-1", token=Material("token", b"secret\n")) as (client, server):
            assert await client.request("PATCH", "/api/v1/x?a=b", {"a": 1}, content_type=MERGE_PATCH) == b"{}"
            assert await client.request("GET", "/api/v1/x", accept="application/json;as=Table") == b"{}"
            assert await client.request("PUT", "/api/v1/x", b'{"raw":1}') == b"{}"
            patch, get, put = server.exchanges
            assert (patch.method, patch.target, patch.body) == ("PATCH", "/k8s/clusters/c-1/api/v1/x?a=b", b'{"a":1}')
            assert patch.fields["content-type"] == "application/merge-patch+json"
            assert patch.fields["authorization"] == "Bearer secret"
            assert patch.fields["host"] == server.url.removeprefix("http://")
            assert patch.fields["user-agent"].startswith(f"gwfast/{__version__} (linux/")
            assert patch.fields["user-agent"].partition(") ")[2].startswith("kubernetes/")
            assert get.fields["accept"] == "application/json;as=Table" and "content-type" not in get.fields
            assert put.body == b'{"raw":1}' and put.fields["content-length"] == "9"
            assert server.connections == 1, "an idle connection is used again"
    run(test, loop)


def test_who_we_are_otherwise():
    async def answer(x: Exchange):
        await x.answer(b"{}")

    async def test():
        who = dict(username="u", password="p:q", impersonate=(("Impersonate-User", "a"), ("Impersonate-Group", "g")))
        async with talking(answer, **who) as (client, server):
            await client.request("GET", "/x")
            fields = server.exchanges[0].fields
            assert fields["authorization"] == "Basic dTpwOnE=" and fields["impersonate-user"] == "a"
    run(test)


def test_connections_are_capped():
    waiting = []

    async def answer(x: Exchange):
        waiting.append(x)
        await until(lambda: len(waiting) >= 3)
        await x.answer(b"{}")

    async def test():
        async with talking(answer, connections=3) as (client, server):
            await asyncio.gather(*(client.request("GET", f"/{i}") for i in range(30)))
            assert len(waiting) == 30 and server.most_open == 3
    run(test)


def test_what_is_urgent_does_not_wait_for_others():
    async def answer(x: Exchange):
        if x.path == "/lease":
            await x.answer(b"{}")
        else:
            await x.closed()

    async def test():
        async with talking(answer, connections=2) as (client, server):
            tasks = [asyncio.create_task(client.request("GET", "/list")) for _ in range(5)]
            await until(lambda: len(server.exchanges) == 2)
            assert await client.request("GET", "/lease", urgent=True) == b"{}"
            assert len(server.exchanges) == 3
            for task in tasks:
                task.cancel()
    run(test)


@pytest.mark.parametrize(("path", "sent"), [
    ("/api/v1/secrets/a%20b?labelSelector=app+in+%28a%29&x=(a,b)", "/api/v1/secrets/a%20b?labelSelector=app+in+%28a%29&x=(a,b)"),
    ("/a b\r\nHost: evil\r\n\r\n", "/a%20b%0D%0AHost:%20evil%0D%0A%0D%0A"),
    ("/é#x\0", "/%C3%A9%23x%00"),
])
def test_what_somebody_wrote_is_no_end_of_a_request(path, sent):
    async def answer(x: Exchange):
        await x.answer(x.target.encode())

    async def test():
        async with talking(answer) as (client, _):
            assert await client.request("GET", path) == sent.encode()
    run(test)


def test_the_first_address_that_answers(monkeypatch):
    """One that is dead has its share of the time, and leaves some for the others."""
    monkeypatch.setattr(limits, "API_CONNECT_TIMEOUT", 3.0)

    async def answer(x: Exchange):
        await x.answer(b"{}")

    async def test():
        loop = asyncio.get_running_loop()
        with socket.socket() as full, socket.socket() as closed:
            for one in (full, closed):
                one.bind(("127.0.0.1", 0))
            full.listen(0)
            taken = [socket.socket() for _ in range(3)]
            for one in taken:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with talking(answer) as (client, server):
                addresses = [full.getsockname(), closed.getsockname(), ("127.0.0.1", server.port)]

                async def found(host, port, **_):
                    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in addresses]
                with monkeypatch.context() as patched:
                    patched.setattr(loop, "getaddrinfo", found)
                    assert await client.request("GET", "/") == b"{}"
            for one in taken:
                one.close()
    run(test, "asyncio")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_connection_that_was_closed_while_idle_is_no_error(method):
    async def answer(x: Exchange):
        if x.number == 1:
            x.cut()
        else:
            await x.answer(b"%d" % x.number)

    async def test():
        async with talking(answer) as (client, server):
            assert await client.request("GET", "/") == b"0"
            assert await client.request(method, "/", {}) == b"2"
            assert server.connections == 2
    run(test)


def test_what_may_have_been_done_is_not_sent_again():
    async def answer(x: Exchange):
        if x.number == 1:
            x.cut()
        else:
            await x.answer(b"{}")

    async def test():
        async with talking(answer) as (client, server):
            await client.request("GET", "/")
            with pytest.raises(Unreachable):
                await client.request("POST", "/", {})
            assert len(server.exchanges) == 2
    run(test)


def test_a_connection_that_is_known_to_be_closed_is_not_used():
    async def answer(x: Exchange):
        await x.answer(b"{}")
        if x.number == 0:
            x.close()

    async def test():
        async with talking(answer) as (client, server):
            await client.request("GET", "/")
            await until(lambda: server.open == 0)
            await until(lambda: all(connection.stream.ended for connection, _ in client._idle))
            await client.request("POST", "/", {})
            assert len(server.exchanges) == 2
    run(test)


def test_a_new_connection_that_is_closed_is_an_error():
    async def answer(x: Exchange):
        x.cut()

    async def test():
        async with talking(answer) as (client, server):
            with pytest.raises(Unreachable, match="closed before an answer"):
                await client.request("GET", "/")
            assert len(server.exchanges) == 1
    run(test)


def test_nobody_listens():
    async def test():
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            client = Client(Access(f"http://127.0.0.1:{bound.getsockname()[1]}"))
            with pytest.raises(Unreachable, match=r"http://127.0.0.1:\d+/x"):
                await client.request("GET", "/x")
            with pytest.raises(Unreachable):
                await lines_of(client)
            await client.close()
    run(test)


@pytest.mark.parametrize(("status", "fields", "method", "sent"), [
    (429, {"retry_after": "0"}, "POST", 3),
    (503, {"retry_after": "0"}, "POST", 3),
    (500, {"retry_after": "0"}, "GET", 3),
    (429, {}, "POST", 3),
    (503, {}, "GET", 3),
    (503, {}, "POST", 1),
    (500, {}, "GET", 1),
    (404, {"retry_after": "0"}, "GET", 1),
    (409, {}, "PUT", 1),
    (302, {"location": "http://elsewhere"}, "GET", 1),
    (429, {"retry_after": "3600"}, "GET", 1),
])
def test_patience(status, fields, method, sent):
    async def answer(x: Exchange):
        if x.number < 2:
            await x.refuse(status, "Because", **fields)
        else:
            await x.answer(b"done")

    async def test():
        async with talking(answer) as (client, server):
            if sent == 3:
                assert await client.request(method, "/") == b"done"
            else:
                with pytest.raises(ApiError) as caught:
                    await client.request(method, "/", timeout=5)
                assert caught.value.status == status
                assert status == 302 or caught.value.reason == "Because" and caught.value.message == "no: Because"
                assert status != 429 or caught.value.retry_after == 3600
            assert len(server.exchanges) == sent
    run(test)


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(limits, "API_RETRIES", 3)

    async def answer(x: Exchange):
        await x.refuse(429, retry_after="0")

    async def test():
        async with talking(answer) as (client, server):
            with pytest.raises(ApiError):
                await client.request("GET", "/")
            assert len(server.exchanges) == 4
    run(test)


def test_what_retry_after_says_is_waited_for():
    times = []

    async def answer(x: Exchange):
        times.append(asyncio.get_running_loop().time())
        await (x.refuse(429, retry_after="1") if x.number == 0 else x.answer(b"{}"))

    async def test():
        async with talking(answer) as (client, _):
            await client.request("GET", "/")
            assert times[1] - times[0] >= 1.0
    run(test)


@pytest.mark.parametrize(("body", "said"), [(b"<html>no</html>", "<html>no</html>"), (b"\xff\xfe", "\ufffd\ufffd"), (b"", ""), (b"[]", "[]"),
                                            (b'{"reason": "Invalid", "message": "m"}', "m")])
def test_an_error_without_a_status_object(body, said):
    async def answer(x: Exchange):
        await x.answer(body, 422)

    async def test():
        async with talking(answer) as (client, _):
            with pytest.raises(ApiError) as caught:
                await client.request("GET", "/")
            assert (caught.value.status, caught.value.message) == (422, said)
    run(test)


@pytest.mark.parametrize("tokens", [(b"old", b"new"), (b"old", b"old")], ids=["another", "the same"])
def test_credentials_are_read_again_once(tokens, tmp_path):
    before, after = tokens
    file = tmp_path / "token"
    file.write_bytes(before)

    async def answer(x: Exchange):
        file.write_bytes(after)
        if x.fields["authorization"] == "Bearer new":
            await (x.answer(b"good") if x.path == "/x" else x.begin())
            return await x.end() if x.path == "/w" else None
        await x.refuse(401, "Unauthorized")

    async def test():
        for what in (lambda: client.request("GET", "/x"), lambda: lines_of(client)):
            file.write_bytes(before)
            async with talking(answer, token=Material("tokenFile", file=str(file))) as (client, server):
                if after == b"new":
                    assert await what() in (b"good", [])
                else:
                    with pytest.raises(ApiError, match="401 Unauthorized"):
                        await what()
                assert len(server.exchanges) == 2
    run(test)


def test_a_token_file_that_is_written_anew_is_read_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "API_TOKEN_AGE", 0.0)
    file = tmp_path / "token"
    file.write_text("one")

    async def answer(x: Exchange):
        await x.answer(x.fields["authorization"].encode())

    async def test():
        async with talking(answer, token=Material("tokenFile", file=str(file))) as (client, _):
            assert await client.request("GET", "/") == b"Bearer one"
            file.write_text("two\n")
            assert await client.request("GET", "/") == b"Bearer two"
            for broken in ("", "a\nb", "\u00e9"):
                file.write_text(broken)
                assert await client.request("GET", "/") == b"Bearer two", "what cannot be read leaves what there was"
            file.unlink()
            assert await client.request("GET", "/") == b"Bearer two"
    run(test)


async def silence(x: Exchange):
    await x.closed()


async def half_a_head(x: Exchange):
    await x.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    await x.closed()


async def half_a_body(x: Exchange):
    await x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await x.closed()


async def cut_in_the_body(x: Exchange):
    await x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    x.close()


async def cut_in_a_chunk(x: Exchange):
    await x.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    x.close()


async def garbage(x: Exchange):
    await x.send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    await x.closed()


async def long_head(x: Exchange):
    await x.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000)
    await x.closed()


@pytest.mark.parametrize("answer", [silence, half_a_head, half_a_body, cut_in_the_body, cut_in_a_chunk, garbage, long_head])
def test_no_answer(answer, monkeypatch):
    async def test():
        async with talking(answer) as (client, server):
            with pytest.raises(Unreachable):
                await client.request("GET", "/", timeout=0.2)
            await until(lambda: server.open == 0, "the connection is of no use any more")
    run(test)


def test_a_watch_that_does_not_begin(monkeypatch):
    monkeypatch.setattr(limits, "API_TIMEOUT", 0.2)

    async def test():
        async with talking(silence) as (client, _):
            with pytest.raises(Unreachable):
                await lines_of(client)
    run(test)


def test_an_answer_byte_by_byte():
    async def answer(x: Exchange):
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n":
            await x.send(bytes((byte,)))
            await asyncio.sleep(0)
        await x.closed()

    async def test():
        async with talking(answer) as (client, _):
            assert await client.request("GET", "/") == b"hello!"
        async with talking(answer) as (client, _):
            with pytest.raises(Unreachable, match="within an event"):
                await lines_of(client)
    run(test)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_large_body_both_ways(loop):
    body = bytes(range(256)) * 16_000

    async def answer(x: Exchange):
        await x.answer(x.body)

    async def test():
        async with talking(answer) as (client, _):
            assert await client.request("PUT", "/", body) == body
    run(test, loop)


def test_an_answer_that_is_too_long(monkeypatch):
    monkeypatch.setattr(limits, "API_ANSWER_BYTES", 1000)

    async def answer(x: Exchange):
        await x.answer(b"x" * (1001 if x.number else 1000))

    async def test():
        async with talking(answer) as (client, _):
            assert len(await client.request("GET", "/")) == 1000
            with pytest.raises(Excessive):
                await client.request("GET", "/")
    run(test)


@pytest.mark.parametrize("when", ["before it is answered", "within the body", "while it waits for a connection", "while it waits for patience"])
def test_who_is_cancelled_leaves_nothing(when):
    async def answer(x: Exchange):
        if when == "within the body":
            await x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        if when == "while it waits for patience":
            return await x.refuse(429, retry_after="20")
        await x.closed()

    async def test():
        async with talking(answer, connections=1) as (client, server):
            tasks = [asyncio.create_task(client.request("GET", "/"))]
            await until(lambda: server.exchanges)
            if when == "while it waits for a connection":
                tasks.append(asyncio.create_task(client.request("GET", "/")))
                await asyncio.sleep(0)
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if when != "while it waits for patience":
                await until(lambda: server.open == 0)
                assert not client._open
            task = asyncio.create_task(client.request("GET", "/"))
            await until(lambda: len(server.exchanges) == 2, "the place of who was cancelled is free")
            task.cancel()
    run(test)


def test_who_is_cancelled_while_it_connects_leaves_nothing():
    async def test():
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            taken = [socket.socket() for _ in range(3)]
            for one in taken:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            client = Client(Access(f"http://127.0.0.1:{full.getsockname()[1]}"))
            task = asyncio.create_task(client.request("GET", "/"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not client._open
            await client.close()
            for one in taken:
                one.close()
    run(test)


def test_an_idle_connection_is_closed_after_a_while(monkeypatch):
    monkeypatch.setattr(limits, "API_IDLE", 0.05)

    async def answer(x: Exchange):
        await x.answer(b"{}")

    async def test():
        async with talking(answer) as (client, server):
            await client.request("GET", "/")
            await until(lambda: server.open == 0)
            assert not client._open and not client._idle
    run(test)


# ---- watches


def test_lines_whatever_they_come_in():
    text = b'{"a":1}\n{"b":"' + b"x" * 100 + b'"}\n\n{"c":3}\n'

    async def answer(x: Exchange):
        await x.begin()
        size = int(x.query["size"])
        for at in range(0, len(text), size):
            await x.chunk(text[at:at + size])
        await x.end()

    async def test():
        async with talking(answer) as (client, _):
            for size in (1, 2, 3, 7, 50, 1000):
                assert await lines_of(client, f"/w?size={size}") == text.split(b"\n")[:-1]
    run(test)


def test_a_line_of_many_megabytes_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "API_LINE_BYTES", 1 << 20)

    async def answer(x: Exchange):
        await x.begin()
        await x.line(b"x" * (1 << 20) if x.number == 0 else b"x" * (3 << 20))
        await x.end()

    async def test():
        async with talking(answer) as (client, _):
            assert [len(line) for line in await lines_of(client)] == [1 << 20]
            with pytest.raises(Excessive, match="1 MiB"):
                await lines_of(client)
    run(test)


@pytest.mark.parametrize("how", ["silent", "cut", "in a line", "closed", "garbage"])
def test_a_watch_that_ends_otherwise(how):
    async def answer(x: Exchange):
        await x.begin()
        await x.line(b"one")
        match how:
            case "silent":
                await x.closed()
            case "cut":
                x.cut()
            case "closed":
                x.close()
            case "in a line":
                await x.chunk(b"tw")
                await x.end()
            case "garbage":
                await x.send(b"no chunk\r\n")

    async def test():
        async with talking(answer) as (client, server):
            seen = []
            with pytest.raises(Unreachable):
                async with aclosing(client.watch("/w", silent=1.0)) as lines:
                    async for line in lines:
                        seen.append(line)
            assert seen == [b"one"] or how == "cut" and not seen
            await until(lambda: server.open == 0)
    run(test)


def test_a_watch_that_is_refused():
    async def answer(x: Exchange):
        await x.refuse(410, "Expired") if x.number else await x.refuse(429, "TooManyRequests", retry_after="7")

    async def test():
        async with talking(answer) as (client, server):
            with pytest.raises(ApiError) as caught:
                await lines_of(client)
            assert (caught.value.status, caught.value.retry_after) == (429, 7)
            with pytest.raises(ApiError) as caught:
                await lines_of(client)
            assert (caught.value.status, caught.value.reason) == (410, "Expired")
            await until(lambda: server.open == 0)
    run(test)


def test_who_leaves_a_watch_closes_it():
    async def answer(x: Exchange):
        await x.begin()
        await x.line(b"one")
        await x.closed()

    async def test():
        async with talking(answer, connections=1) as (client, server):
            async with aclosing(client.watch("/w")) as lines:
                assert await anext(lines) == b"one"
                async with aclosing(client.watch("/w")) as others:
                    assert await anext(others) == b"one", "watches are not counted among the connections of requests"
            await until(lambda: server.open == 0)
    run(test)


def test_one_who_reads_slowly_is_waited_for():
    sent = 0

    async def answer(x: Exchange):
        nonlocal sent
        await x.begin()
        for _ in range(2000):
            await x.line(b"x" * 16384)
            sent += 1
        await x.end()

    async def test():
        async with talking(answer) as (client, _):
            async with aclosing(client.watch("/w")) as lines:
                await anext(lines)
                before = -1
                while sent != before:  # until the network is full
                    before = sent
                    await asyncio.sleep(0.1)
                assert sent < 1500
                assert len([line async for line in lines]) == 1999
    run(test)


class Told:
    def __init__(self):
        self.lines = []

    def warning(self, msg, **fields):
        self.lines.append(("warning", msg))

    def info(self, msg, **fields):
        self.lines.append(("info", msg))


def test_one_request_without_an_answer_among_others_with_one_is_not_told():
    async def test():
        over = asyncio.Event()

        async def answer(x: Exchange):
            if x.path == "/slow":
                await over.wait()
                x.cut()
            else:
                await x.answer(b"{}")
        async with serving(answer) as server:
            told = Told()
            client = Client(Access(server.url), log=told)
            slow = asyncio.create_task(client.request("GET", "/slow"))
            await until(lambda: server.exchanges)
            await client.request("GET", "/")
            over.set()
            with pytest.raises(Unreachable):
                await slow
            assert not told.lines
            await client.close()
    run(test)


def test_an_api_server_that_is_away_is_told_once():
    states = []

    async def answer(x: Exchange):
        await (x.answer(b"{}") if states[-1] else x.send(b"nonsense\r\n\r\n"))

    async def test():
        async with serving(answer) as server:
            told = Told()
            client = Client(Access(server.url), log=told)
            for good in (True, False, False, True, True):
                states.append(good)
                await asyncio.gather(*(client.request("GET", "/") for _ in range(3)), return_exceptions=True)
            await client.close()
            assert [level for level, _ in told.lines] == ["warning", "info"]
            with pytest.raises(Unreachable, match="closed"):
                await client.request("GET", "/")
            assert len(told.lines) == 2
    run(test)


def test_crumbs_keep_nobody_waiting():
    class Crumbs:
        """Has everything there already, in chunks of one byte."""

        ended = False
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

        async def write(self, data):
            pass

        async def read(self):
            head, self.head = self.head, b""
            return head or b"1\r\nx\r\n" * 1000

    async def test():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)
        task = asyncio.ensure_future(other())
        connection = Connection(Crumbs(), "x", 0)
        await connection.ask("GET", "/", [], b"")
        with pytest.raises(TooLong):
            await connection.body(100_000)
        task.cancel()
        assert turns > 100
    run(test)
