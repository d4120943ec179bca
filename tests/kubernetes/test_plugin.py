"""Programs that give credentials: what they are told, what they may say, and when they are asked again."""
import base64
import json
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from support.pki import pair
from servers import Exchange, run, serving, until
from support.api_tls import serial, server_context, whoami

from gwfast import limits
from gwfast.kubernetes.access import EXEC_VERSIONS, Access, Exec, Material
from gwfast.kubernetes.client import ApiError, Client, Unreachable

PROGRAM = """\
import json, os, sys
folder = sys.argv[1]
with open(os.path.join(folder, "asked"), "a") as file:
    file.write(json.dumps({"info": json.loads(os.environ["KUBERNETES_EXEC_INFO"]), "args": sys.argv[2:], "env": os.environ.get("MINE"),
                           "stdin": sys.stdin.read()}) + "\\n")
sys.stderr.write("it is said\\n")
answer = open(os.path.join(folder, "answer")).read()
status, _, text = answer.partition(" ")
sys.stdout.write(text)
sys.exit(int(status))
"""


class Plugin:
    """A plugin in a folder: what it answers next, and what it was asked."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "plugin.py").write_text(PROGRAM)

    def answers(self, text: str | None = None, status: int = 0, version: str = EXEC_VERSIONS[0], **fields) -> None:
        text = text if text is not None else json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": fields})
        (self.folder / "answer").write_text(f"{status} {text}")

    @property
    def asked(self) -> list[dict]:
        file = self.folder / "asked"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def exec(self, **others) -> Exec:
        return Exec(**dict(field="user 'u': exec", command=sys.executable, args=(str(self.folder / "plugin.py"), str(self.folder), "more"),
                           env=(("MINE", "yes"),), install_hint="get it from x") | others)


@pytest.fixture
def plugin(tmp_path):
    return Plugin(tmp_path)


async def token(x: Exchange):
    if x.fields.get("authorization") == "Bearer refused":
        await x.refuse(401, "Unauthorized")
    else:
        await x.answer(x.fields.get("authorization", "").encode())


@asynccontextmanager
async def talking(plugin: Plugin, answer=token, tls=None, access: dict | None = None, **others):
    async with serving(answer, tls) as server:
        client = Client(Access(server.url, exec=plugin.exec(**others), **(access or {})))
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize("version", EXEC_VERSIONS)
def test_a_token(plugin, version):
    plugin.answers(token="one", version=version)

    async def test():
        access = {"authority": Material("ca", b"PEM"), "server_name": "kube"}
        async with talking(plugin, api_version=version, cluster_info=True, config={"audience": "a"}, access=access) as client:
            for _ in range(3):
                assert await client.request("GET", "/") == b"Bearer one"
            (asked,) = plugin.asked
            assert asked["args"] == ["more"] and asked["env"] == "yes" and asked["stdin"] == ""
            assert asked["info"] == {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False, "cluster": {
                "server": client.access.server, "tls-server-name": "kube", "config": {"audience": "a"},
                "certificate-authority-data": base64.b64encode(b"PEM").decode()}}}
    run(test)


def test_it_is_not_told_of_the_cluster_unless_it_wants_to(plugin):
    plugin.answers(token="one")

    async def test():
        async with talking(plugin) as client:
            await client.request("GET", "/")
            assert plugin.asked[0]["info"]["spec"] == {"interactive": False}
    run(test)


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def test_what_expires_is_asked_for_again(plugin):
    async def test():
        async with talking(plugin) as client:
            plugin.answers(token="one", expirationTimestamp=stamp(-1))
            assert await client.request("GET", "/") == b"Bearer one"
            plugin.answers(token="two", expirationTimestamp=stamp(3600))
            for _ in range(3):
                assert await client.request("GET", "/") == b"Bearer two"
            assert len(plugin.asked) == 2
    run(test)


def test_what_is_refused_is_asked_for_again_once(plugin):
    async def test():
        async with talking(plugin) as client:
            plugin.answers(token="refused")
            with pytest.raises(ApiError, match="401"):
                await client.request("GET", "/")
            assert len(plugin.asked) == 2
            plugin.answers(token="good")
            assert await client.request("GET", "/") == b"Bearer good"
            assert len(plugin.asked) == 3
    run(test)


def test_all_who_need_credentials_ask_once(plugin):
    import asyncio
    plugin.answers(token="one")

    async def test():
        async with talking(plugin) as client:
            await asyncio.gather(*(client.request("GET", "/") for _ in range(8)))
            assert len(plugin.asked) == 1
    run(test)


def test_a_plugin_that_fails_later_leaves_what_there_was(plugin):
    async def test():
        async with talking(plugin) as client:
            told = []
            client._credentials._warn = told.append
            plugin.answers(token="one", expirationTimestamp=stamp(-1))
            await client.request("GET", "/")
            plugin.answers("", status=1)
            for _ in range(3):
                assert await client.request("GET", "/") == b"Bearer one"
            assert len(plugin.asked) == 2, "it is not run for each request"
            assert len(told) == 1 and "it ended with status 1: it is said" in told[0]
    run(test)


def test_a_certificate(plugin):
    first, second = pair("one.client"), pair("two.client")

    def answers(chain: bytes, key: bytes) -> None:
        plugin.answers(clientCertificateData=chain.decode(), clientKeyData=key.decode(), expirationTimestamp=stamp(-1))

    async def test():
        answers(*first)
        tls = server_context(clients=first[0] + second[0])
        async with talking(plugin, whoami, tls, {"insecure": True}) as client:
            assert await client.request("GET", "/") == f"0 {serial(first[0])}".encode()
            answers(*second)
            assert await client.request("GET", "/") == f"1 {serial(second[0])}".encode()
    run(test)


WRONG = {
    "status": ({"status": 3, "text": "{}"}, "it ended with status 3: it is said"),
    "no JSON": ({"text": "token"}, "what it wrote is no ExecCredential"),
    "nothing": ({"text": ""}, "what it wrote is no ExecCredential"),
    "another version": ({"version": EXEC_VERSIONS[1], "token": "t"}, "it wrote client.authentication.k8s.io/v1beta1 ExecCredential, not"),
    "no status": ({"text": '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}'}, "neither a token nor a certificate"),
    "no key": ({"clientCertificateData": "x"}, "a certificate or a key, and both are needed"),
    "a line break": ({"token": "a\r\nX: y"}, "its token cannot be sent"),
    "no time": ({"token": "a", "expirationTimestamp": "soon"}, "what it wrote is no ExecCredential"),
    "no pair": ({"clientCertificateData": "x", "clientKeyData": "y"}, "the certificate of the exec plugin: and its key make no pair"),
}


@pytest.mark.parametrize(("answer", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(answer, words, plugin):
    plugin.answers(**answer)

    async def test():
        async with talking(plugin, tls=server_context(), access={"insecure": True}) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", "/")
            assert words in str(caught.value)
            assert "exec plugin" in words or "user 'u': exec" in str(caught.value) and "get it from x" in str(caught.value)
    run(test)


@pytest.mark.parametrize(("command", "words"), [("no-such-program-here", "there is no such program; get it from x"),
                                                ("/", "it cannot be run: Permission denied")])
def test_a_program_that_cannot_be_run(command, words, plugin):
    async def test():
        async with talking(plugin, command=command) as client:
            with pytest.raises(Unreachable, match=words):
                await client.request("GET", "/")
    run(test)


@pytest.mark.parametrize("why", ["it takes too long", "nobody wants it any more"])
def test_a_program_that_does_not_end(why, plugin, monkeypatch):
    """Its children end with it."""
    import asyncio
    monkeypatch.setattr(limits, "API_PLUGIN_TIMEOUT", 0.2 if why == "it takes too long" else 60.0)
    pid = plugin.folder / "pid"

    async def test():
        async with talking(plugin, command="sh", args=("-c", f"sleep 60 & echo $! > {pid}.new && mv {pid}.new {pid}; wait")) as client:
            asked = asyncio.create_task(client.request("GET", "/"))
            await until(pid.exists)
            if why == "it takes too long":
                with pytest.raises(Unreachable, match="it did not end within"):
                    await asked
            else:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            await until(lambda: not alive(int(pid.read_text())))
    run(test)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_says_too_much(plugin):
    async def test():
        async with talking(plugin, command="sh", args=("-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2")) as client:
            with pytest.raises(Unreachable, match="it wrote more than 1 MiB"):
                await client.request("GET", "/")
    run(test)
