"""TLS to the API server, who is believed, certificates that are replaced, and proxies."""
import asyncio
import os
from contextlib import aclosing

import pytest
from support.pki import EXPIRED, pair
from servers import Exchange, run, serving, until

from gwfast import limits
from gwfast.errors import UsageError
from gwfast.kubernetes.access import Access, Exec, Material
from gwfast.kubernetes.client import Client, Unreachable
from support.api_tls import CHAIN, KEY, serial, server_context, whoami


def pem(data: bytes, field: str = "certificate-authority-data") -> Material:
    return Material(field, data)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("believed", [{"authority": pem(CHAIN), "server_name": "a.test"}, {"insecure": True}])
def test_a_server_that_is_believed(believed, loop):
    body = bytes(range(256)) * 8000

    async def answer(x: Exchange):
        if x.path == "/w":
            await x.begin()
            for _ in range(100):
                await x.line(b"y" * 10_000)
            return await x.end()
        await x.answer(x.body)

    async def test():
        async with serving(answer, server_context()) as server:
            client = Client(Access(server.url, **believed))
            assert await client.request("PUT", "/", body) == body
            assert await client.request("PUT", "/", body) == body
            assert server.connections == 1
            async with aclosing(client.watch("/w")) as lines:
                assert [len(line) async for line in lines] == [10_000] * 100
            await client.close()
            await until(lambda: server.open == 0)
    run(test, loop)


@pytest.mark.parametrize(("access", "words"), [
    ({"authority": pem(CHAIN)}, "IP address mismatch"),
    ({"authority": pem(CHAIN), "server_name": "b.test"}, "Hostname mismatch"),
    ({"authority": pem(pair("b.test")[0]), "server_name": "a.test"}, "self-signed certificate"),
    ({"server_name": "a.test"}, "self-signed certificate"),
])
def test_a_server_that_is_not_believed(access, words):
    async def test():
        async with serving(whoami, server_context()) as server:
            client = Client(Access(server.url, **access))
            with pytest.raises(Unreachable, match=words):
                await client.request("GET", "/")
            assert not server.exchanges
            await client.close()
    run(test)


def test_a_server_whose_certificate_has_expired():
    chain, key = pair("a.test", until=EXPIRED)

    async def test():
        async with serving(whoami, server_context(chain, key)) as server:
            client = Client(Access(server.url, authority=pem(chain), server_name="a.test"))
            with pytest.raises(Unreachable, match="expired"):
                await client.request("GET", "/")
            await client.close()
    run(test)


def test_http_where_https_is_spoken_and_the_other_way_round():
    async def test():
        for tls, scheme in ((None, "https"), (server_context(), "http")):
            async with serving(whoami, tls) as server:
                client = Client(Access(f"{scheme}://127.0.0.1:{server.port}", insecure=True))
                with pytest.raises(Unreachable):
                    await client.request("GET", "/", timeout=5)
                await client.close()
                await until(lambda: server.open == 0)
    run(test)


def test_a_server_that_never_says_anything(monkeypatch):
    monkeypatch.setattr(limits, "API_CONNECT_TIMEOUT", 0.2)

    async def test():
        held = []
        listening = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", 0)
        client = Client(Access(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", insecure=True))
        with pytest.raises(Unreachable, match="no connection within"):
            await client.request("GET", "/")
        for writer in held:
            writer.close()
        listening.close()
        await client.close()
    run(test)


def test_a_certificate_of_our_own_and_its_replacement(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "API_TOKEN_AGE", 0.0)
    first, second = pair("one.client"), pair("two.client")
    files = [tmp_path / "tls.crt", tmp_path / "tls.key"]

    def write(chain: bytes, key: bytes) -> None:
        files[0].write_bytes(chain)
        files[1].write_bytes(key)

    async def test():
        write(*first)
        async with serving(whoami, server_context(clients=first[0] + second[0])) as server:
            told = []
            certificate, key = (Material(f"client-{file.suffix}", file=str(file)) for file in files)
            client = Client(Access(server.url, insecure=True, certificate=certificate, key=key))
            client._credentials._warn = told.append
            for _ in range(2):
                assert await client.request("GET", "/") == f"0 {serial(first[0])}".encode()
            write(*second)
            assert await client.request("GET", "/") == f"1 {serial(second[0])}".encode(), "a new connection shows the new one"
            write(second[0], b"half a k")
            assert await client.request("GET", "/") == f"1 {serial(second[0])}".encode()
            files[1].unlink()
            assert await client.request("GET", "/") == f"1 {serial(second[0])}".encode()
            assert len(told) == 2 and all(text.startswith("certificates were not read again") for text in told)
            await client.close()
    run(test)


@pytest.mark.parametrize(("access", "words"), [
    ({"authority": pem(b"no certificate")}, "certificate-authority-data: holds no certificate"),
    ({"authority": pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, "certificate-authority-data: holds no"),
    ({"authority": pem("Zertifikat für a.test\n".encode() + CHAIN)}, ""),
    ({"certificate": pem(CHAIN, "client-certificate"), "key": pem(pair("b.test")[1])}, "client-certificate: and its key make no pair"),
    ({"certificate": pem(CHAIN, "client-certificate"), "key": pem(b"x")}, "client-certificate: and its key make no pair"),
])
def test_what_makes_no_sense_is_said_at_once(access, words):
    descriptors = len(os.listdir("/proc/self/fd"))
    if words:
        with pytest.raises(UsageError, match=words):
            Client(Access("https://127.0.0.1", **access))
    else:
        Client(Access("https://127.0.0.1", **access))
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_makes_no_sense_is_said_at_once_with_a_plugin_too():
    with pytest.raises(UsageError, match="certificate-authority-data: holds no certificate"):
        Client(Access("https://127.0.0.1", authority=pem(b"x"), exec=Exec("exec", "true")))


def test_an_encrypted_key_asks_nobody():
    from cryptography.hazmat.primitives import serialization as s
    key = s.load_pem_private_key(KEY, None).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"pw"))
    with pytest.raises(UsageError, match="encrypted"):
        Client(Access("https://127.0.0.1", certificate=pem(CHAIN, "client-certificate"), key=pem(key)))


# ---- proxies


class Proxy:
    """A proxy for CONNECT; `asked` are the heads that came."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"):
        self.answer = answer
        self.asked: list[bytes] = []

    async def __call__(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head)
            writer.write(self.answer)
            if b" 200 " not in self.answer.split(b"\r\n")[0]:
                return
            host, port = head.split()[1].decode().rsplit(":", 1)
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(self.pump(reader, back), self.pump(there, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        writer.close()


@pytest.mark.parametrize("tls", [True, False])
def test_by_way_of_a_proxy(tls):
    async def test():
        proxy = Proxy()
        listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
        async with serving(whoami, server_context() if tls else None) as server:
            port = listening.sockets[0].getsockname()[1]
            access = Access(server.url, authority=pem(CHAIN), server_name="a.test", proxy=f"http://u%40:p@127.0.0.1:{port}")
            client = Client(access)
            assert (await client.request("GET", "/")).startswith(b"0")
            assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
            assert b"Proxy-Authorization: Basic dUA6cA==" in proxy.asked[0]
            await client.close()
            await until(lambda: server.open == 0)
        listening.close()
    run(test)


@pytest.mark.parametrize(("answer", "words"), [(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "refuses: 407"),
                                               (b"nonsense\r\n\r\n", "the proxy's answer"), (b"", "the proxy")])
def test_a_proxy_that_refuses(answer, words):
    async def test():
        listening = await asyncio.start_server(Proxy(answer), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        client = Client(Access("https://127.0.0.1:1", insecure=True, proxy=f"http://127.0.0.1:{port}"))
        with pytest.raises(Unreachable, match=words):
            await client.request("GET", "/", timeout=5)
        await client.close()
        listening.close()
    run(test)
