"""Programs that give credentials: client-go's exec plugins (client.authentication.k8s.io v1 and v1beta1).

    KUBERNETES_EXEC_INFO={"kind":"ExecCredential","apiVersion":...,"spec":{"interactive":false,"cluster":{...}}} command args
    stdout: {"kind":"ExecCredential","apiVersion":...,
             "status":{"expirationTimestamp":...,"token":...,"clientCertificateData":...,"clientKeyData":...}}

Rules:
- It runs without a terminal and without input, for API_PLUGIN_TIMEOUT at most; what it says on standard error is in the message.
- What it gave is used until it expires, or until the API server refuses it.
"""
import asyncio
import base64
import os
import signal
import time
from contextlib import suppress
from datetime import datetime

import msgspec

from gwfast import limits
from gwfast.kubernetes.access import Access, Exec

OUTPUT_BYTES = 1024 * 1024  # of what a program may say: a token and a chain of certificates have some 10 KiB
BEFORE = 10.0  # seconds before the end that credentials are asked for again: clocks differ, and a request takes time


class NoCredentials(Exception):
    """There is nothing to show the API server; the message says why and, where it is known, what to do."""


class Issued:
    """What a plugin gave, and until when."""

    def __init__(self, token: bytes, certificate: bytes, key: bytes, expires: float | None):
        self.token = token
        self.certificate = certificate
        self.key = key
        self._expires = expires  # Unix time

    def is_over(self) -> bool:
        return self._expires is not None and time.time() > self._expires - BEFORE

    def keep_for(self, seconds: float) -> None:
        """Do not ask again so soon: the plugin has just failed."""
        self._expires = time.time() + BEFORE + seconds


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _Status | None = None


async def ask(access: Access) -> Issued:
    """Run the plugin of an Access; NoCredentials."""
    plugin = access.exec
    assert plugin is not None
    output = await _run(plugin, os.environ | dict(plugin.env) | {"KUBERNETES_EXEC_INFO": _told(access, plugin)})
    try:
        credential = msgspec.json.decode(output, type=_Credential)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(plugin, f"what it wrote is no ExecCredential: {error}") from None
    if credential.kind != "ExecCredential" or credential.api_version != plugin.api_version:
        raise _wrong(plugin, f"it wrote {credential.api_version or '?'} {credential.kind or '?'}, "
                             f"not {plugin.api_version} ExecCredential")
    status = credential.status or _Status()
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise _wrong(plugin, "it gave a certificate or a key, and both are needed")
    if not status.token and not status.client_certificate_data:
        raise _wrong(plugin, "it gave neither a token nor a certificate")
    if not status.token.isascii() or status.token and not status.token.isprintable():
        raise _wrong(plugin, "its token cannot be sent")
    expires = status.expiration_timestamp
    return Issued(status.token.encode(), status.client_certificate_data.encode(), status.client_key_data.encode(),
                  expires.timestamp() if expires else None)


def _told(access: Access, plugin: Exec) -> str:
    """Make KUBERNETES_EXEC_INFO."""
    spec: dict[str, object] = {"interactive": False}
    if plugin.cluster_info:
        cluster = {"server": access.server, "tls-server-name": access.server_name, "insecure-skip-tls-verify": access.insecure,
                   "certificate-authority-data": base64.b64encode(access.authority.read()).decode(), "proxy-url": access.proxy,
                   "config": plugin.config}
        spec["cluster"] = {name: value for name, value in cluster.items() if value}
    return msgspec.json.encode({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}).decode()


async def _run(plugin: Exec, environment: dict[str, str]) -> bytes:
    null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(plugin.command, *plugin.args, env=environment, stdin=null, stdout=pipe,
                                                       stderr=pipe, start_new_session=True)
    except FileNotFoundError:
        raise _wrong(plugin, "there is no such program") from None
    except (OSError, ValueError) as error:
        raise _wrong(plugin, f"it cannot be run: {getattr(error, 'strerror', None) or error}") from None
    try:
        async with asyncio.timeout(limits.API_PLUGIN_TIMEOUT):
            output, errors = await asyncio.gather(_all(process.stdout), _all(process.stderr))
            await process.wait()
    except TimeoutError:
        raise _wrong(plugin, f"it did not end within {limits.API_PLUGIN_TIMEOUT:.0f} s") from None
    finally:
        await _end(process)
    if len(output) > OUTPUT_BYTES:
        raise _wrong(plugin, f"it wrote more than {OUTPUT_BYTES >> 20} MiB")
    if process.returncode:
        said = errors[-1000:].decode(errors="replace").strip()
        raise _wrong(plugin, f"it ended with status {process.returncode}{': ' + said if said else ''}")
    return output


async def _all(reader: asyncio.StreamReader | None) -> bytes:
    """Read to the end, and keep a little more than OUTPUT_BYTES at most."""
    kept = bytearray()
    assert reader is not None  # a pipe was asked for
    while data := await reader.read(65536):
        if len(kept) <= OUTPUT_BYTES:
            kept += data
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """See that nothing is left of a program that did not end by itself: neither its children, nor what it was read by."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # nothing public closes its pipes


def _wrong(plugin: Exec, text: str) -> NoCredentials:
    hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
    return NoCredentials(f"{plugin.field}: {plugin.command}: {text}{hint}")
