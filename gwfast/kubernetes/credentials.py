"""What we show the API server: tokens, certificates, passwords; read again when they may be old.

    token, file      the file is read again after API_TOKEN_AGE, and when the API server says 401: the kubelet renews it
    certificates     files are looked at for a new connection, after API_TOKEN_AGE
    exec             the program is asked for a token or a certificate, and again when that expires or the API server says 401

Rules:
- What cannot be read again leaves what there was; it is told once. What was never there is a NoCredentials.
- `generation` counts how often what a connection shows (certificates, authorities) has changed: older connections are not
  used for new requests.
"""
import asyncio
import base64
import os
import ssl
import time
from collections.abc import Callable

from gwfast import limits
from gwfast.errors import UsageError
from gwfast.kubernetes.access import Access, Material
from gwfast.kubernetes.plugin import Issued, NoCredentials, ask


class Credentials:
    """The credentials of one Access. `warn` gets words for the log."""

    def __init__(self, access: Access, warn: Callable[[str], None] = lambda text: None):
        self._access = access
        self._warn = warn
        self._told = ""
        self._token: tuple[bytes, float] = (b"", float("-inf"))  # and when it was read, monotonic
        self._context: ssl.SSLContext | None = None
        self._made_from: tuple = ()
        self._looked = float("-inf")  # when files of certificates were looked at
        self._issued: Issued | None = None
        self._asking = asyncio.Lock()
        self.generation = 0
        self.context()  # what is wrong is said at once

    async def fields(self) -> list[tuple[str, bytes]]:
        """Return the header fields of a request; NoCredentials."""
        access = self._access
        if access.exec is not None and (self._issued is None or self._issued.is_over()):
            await self._ask(self._issued)
        token = self._issued.token if self._issued else self._read_token()
        fields = [(name, value.encode()) for name, value in access.impersonate]
        if token:
            fields.append(("Authorization", b"Bearer " + token))
        elif access.username:
            basic = base64.b64encode(f"{access.username}:{access.password}".encode())
            fields.append(("Authorization", b"Basic " + basic))
        return fields

    async def renew(self) -> bool:
        """Look for others, for the API server refused these; whether there may be any."""
        self._looked = float("-inf")
        if self._access.exec is not None:
            await self._ask(self._issued)
            return True
        self._token = (self._token[0], float("-inf"))
        return bool(self._access.token.file or self._access.certificate.file)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS of a new connection, None for http; UsageError where certificates make no sense."""
        access = self._access
        if not access.server.startswith("https:"):
            return None
        now = time.monotonic()
        if self._context is not None and now - self._looked < limits.API_TOKEN_AGE and not self._made_from_other_certificate():
            return self._context
        self._looked = now
        try:
            made_from = (access.authority.read(), *self._own_certificate())
            if made_from != self._made_from:
                self._context, self._made_from = self._make(*made_from), made_from
                self.generation += 1
        except (OSError, UsageError) as error:
            if self._context is None or self._made_from_other_certificate() and not self._made_from[1]:  # it was never complete
                raise
            self._tell(f"certificates were not read again: {error}")
        return self._context

    # -- own

    def _read_token(self) -> bytes:
        material, (token, read) = self._access.token, self._token
        if not material or time.monotonic() - read < limits.API_TOKEN_AGE:
            return token
        try:
            token = material.read().strip()
            if not token or not token.isascii() or not token.decode().isprintable():
                raise ValueError("holds no token")
        except (OSError, ValueError) as error:
            token = self._token[0]
            words = f"{material.field}: {error}"
            if not token:
                raise NoCredentials(words) from None
            self._tell(f"the token was not read again: {words}")
        self._token = (token, time.monotonic())
        return token

    async def _ask(self, before: Issued | None) -> None:
        """Ask the plugin, once for all who found that what they have is over."""
        async with self._asking:
            if self._issued is not before:
                return
            try:
                self._issued = await ask(self._access)
            except NoCredentials as error:
                if before is None:
                    raise
                self._tell(f"other credentials were not given: {error}")
                before.keep_for(limits.API_BACKOFF_MOST)

    def _own_certificate(self) -> tuple[bytes, bytes]:
        if self._issued is not None and self._issued.certificate:
            return self._issued.certificate, self._issued.key
        return self._access.certificate.read(), self._access.key.read()

    def _made_from_other_certificate(self) -> bool:
        return self._issued is not None and bool(self._issued.certificate) and self._made_from[1:] != (
            self._issued.certificate, self._issued.key)

    def _make(self, authority: bytes, certificate: bytes, key: bytes) -> ssl.SSLContext:
        access = self._access
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whatever is named as an authority is one, as for Go
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif access.authority:
            with _said(access.authority, "holds no certificate (PEM)"):
                context.load_verify_locations(cadata=authority.decode("ascii", "ignore"))
        else:
            context.load_default_certs()
        if certificate:
            with _said(access.certificate or Material("the certificate of the exec plugin"), "and its key make no pair (PEM)"):
                _load_pair(context, certificate, key)
        return context

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._warn(text)


class _said:
    """Says where what is wrong with certificates was said."""

    def __init__(self, material: Material, words: str):
        self._material = material
        self._words = words

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, (ssl.SSLError, ValueError)):
            raise UsageError(f"{self._material.field}: {self._words}: {error}") from None


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a certificate and its key, which ssl wants from a file: in memory, for a key does not belong on a disk."""
    number = os.memfd_create("certificate")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{number}", password=_no_password)
    finally:
        os.close(number)


def _no_password() -> str:
    raise ValueError("the key is encrypted")
