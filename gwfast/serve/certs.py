"""The contexts that a worker's handshakes begin with, made of the credentials that came with the table.

Rules
- A context is made when a handshake first asks for it, kept while it is among the last that were asked for, and the same
  after a reload that did not change it. Of ten thousand certificates a worker has those in memory that are in use.
- The certificate is the one with the longest name that fits (gateway_types.go: "the longest matching SNI"): the name itself,
  else the wildcard of its parent, else the listener's first. Those of one name and different kinds of key are in one
  context, of which OpenSSL takes the one that the client can verify.
- OpenSSL.SSL is imported by what needs it: a gateway without TLS does not have it in memory.

Resumption. Tickets are sealed with keys of the context that a connection *begins* with, and pyOpenSSL offers no way to set
those keys. So every connection begins with one of two contexts (`roots`: TLS 1.2 and later, TLS 1.3 alone), which are made before
workers are forked and live as long as the gateway; then it is moved to its listener's context. So a ticket is good in
every worker and after every reload. What it costs: OpenSSL is in memory before the first handshake (some 6 MiB, shared by all
processes), where the files mention TLS at the start; where TLS comes with a later reload, or a worker replaces one
that died, its roots are its own, and sessions of the others are begun anew. The keys of tickets change when the gateway is
started anew. What a ticket resumes is bound to its listener and to how that looks at clients (the session id context):
a client that was not asked for a certificate there is asked here (CVE-2025-23419).
"""
from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections import OrderedDict

import msgspec

from gwfast import _tls, limits
from gwfast.plan.credentials import HEADER, MAGIC, BackendSettings, Pair, ServerSettings, name_identity

RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS (nginx, HAProxy: the same)
_settings = msgspec.msgpack.Decoder(ServerSettings).decode
_backend = msgspec.msgpack.Decoder(BackendSettings).decode
_numbers = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_pair = msgspec.msgpack.Decoder(Pair).decode
_roots: dict[str, _tls.Setting] = {}


def roots() -> dict[str, _tls.Setting]:
    """Return the settings that connections of clients begin with, by their lowest version; make them the first time."""
    if not _roots:
        for version in ("1.2", "1.3"):
            _roots[version] = _tls.Setting(_server_context(version))
    return _roots


class Certs:
    """The credentials in a memfd (which is closed); contexts of those `before` that are still right are taken over.

    Raises ValueError where it holds no credentials.
    """

    def __init__(self, fd: int, before: Certs | None = None):
        try:
            self._block = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)
        magic, blobs, size, *counts = self._block[:HEADER * 8].cast("Q")
        if magic != MAGIC:
            raise ValueError("not credentials of this version")
        at = HEADER * 8 + size
        tail = self._block[at:at + 8 * (blobs + 1 + 2 * sum(counts[:3]))].cast("Q")
        self._places, tail = tail[:blobs + 1], tail[blobs + 1:]
        self._runs = []
        for count in counts[:3]:
            self._runs.append((tail[:count], tail[count:2 * count]))
            tail = tail[2 * count:]
        self._made: OrderedDict[tuple, _tls.Setting] = before._made if before else OrderedDict()
        self._asked: dict[tuple[int, bytes], _tls.Setting] = {}

    def server(self, sign: int, sni: bytes) -> _tls.Setting:
        """Return what a handshake begins with on the listener with this identity, for a client that asks for `sni` (lower case;
        b'': it names nobody). KeyError: there is no such listener; OpenSSL.SSL.Error: OpenSSL refuses its settings."""
        found = self._asked.get((sign, sni))
        if found is None:
            if len(self._asked) >= limits.TLS_CONTEXTS:
                self._asked.clear()
            found = self._asked[sign, sni] = self._server(sign, sni.decode("ascii"))
        return found

    def client(self, tls: int) -> tuple[_tls.Setting, bytes]:
        """Return what a handshake with a backend begins with, and the name to ask for. KeyError: there is none."""
        settings = _backend(self._blob(self._find(2, tls)))
        return self._kept((tls,), lambda: _client_setting(settings, self._pairs((settings.certificate,)))), (
            settings.hostname.encode("ascii"))

    def accepts(self, tls: int, certificate: bytes) -> str:
        """Say why the (verified) certificate of a backend, DER, is not that of this backend; '' if it is."""
        sans = _backend(self._blob(self._find(2, tls))).sans
        return "" if not sans or _has_any(certificate, sans) else "none of its names is asked for"

    def told(self, certificate: bytes) -> bytes:
        """Return what backends are told of a client's (verified) certificate, DER."""
        from gwfast.serve.client_cert import words

        return words(certificate)

    def _server(self, sign: int, sni: str) -> _tls.Setting:
        settings = _settings(self._blob(self._find(0, sign)))
        numbers = self._named(sign, sni) or settings.certificates
        pairs = self._pairs(numbers)
        return self._kept((settings.digest, *[pair.digest for pair in pairs]), lambda: _server_setting(settings, pairs))

    def _named(self, sign: int, sni: str) -> tuple[int, ...]:
        for name in (sni, "*." + sni.partition(".")[2]):
            try:
                return _numbers(self._blob(self._find(1, name_identity(sign, name))))
            except KeyError:
                continue
        return ()

    def _kept(self, key: tuple, make) -> _tls.Setting:
        setting = self._made.get(key)
        if setting is None:
            setting = self._made[key] = make()
            while len(self._made) > limits.TLS_CONTEXTS:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(key)
        return setting

    def _find(self, run: int, key: int) -> int:
        keys, numbers = self._runs[run]
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key:
            raise KeyError(key)
        return numbers[at]

    def _blob(self, number: int) -> memoryview:
        begin = HEADER * 8
        return self._block[begin + self._places[number]:begin + self._places[number + 1]]

    def _pairs(self, numbers: tuple[int, ...]) -> list[Pair]:
        return [_pair(self._blob(number)) for number in numbers if number >= 0]


def _server_context(min_version: str):
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _bound(context, min_version)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets alone
    return context


def _bound(context, min_version: str) -> None:
    """What holds for every context."""
    from OpenSSL import SSL

    context.set_min_proto_version(SSL.TLS1_3_VERSION if min_version == "1.3" else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(RELEASE_BUFFERS)


def _server_setting(settings: ServerSettings, pairs: list[Pair]) -> _tls.Setting:
    from OpenSSL import SSL, crypto

    context = _server_context(settings.min_version)
    if settings.ciphers:
        context.set_cipher_list(settings.ciphers.encode("ascii"))
    for pair in pairs:
        _use(context, pair)
    context.set_session_id(settings.digest)
    verify, lenient = SSL.VERIFY_NONE, settings.client_mode == "AllowInsecureFallback"
    if settings.client_ca:
        verify = SSL.VERIFY_PEER if lenient else SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        authorities = _authorities(settings.client_ca)
        _trust(context, authorities)
        context.set_client_ca_list([crypto.X509.from_cryptography(each).get_subject() for each in authorities])
    return _tls.Setting(context, root=roots()[settings.min_version], verify=verify, lenient=lenient, alpn=settings.alpn)


def _client_setting(settings: BackendSettings, pairs: list[Pair]) -> _tls.Setting:
    from OpenSSL import SSL
    from OpenSSL._util import lib

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    _bound(context, "1.2")
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if settings.system:
        context.set_default_verify_paths()
    _trust(context, _authorities(settings.ca))
    if not settings.sans:
        name = settings.hostname.encode("ascii")
        lib.X509_VERIFY_PARAM_set1_host(lib.SSL_CTX_get0_param(context._context), name, len(name))
    for pair in pairs:
        _use(context, pair)
    if settings.alpn:
        context.set_alpn_protos([each.encode("ascii") for each in settings.alpn])
    return _tls.Setting(context, verify=SSL.VERIFY_PEER)


def _use(context, pair: Pair) -> None:
    """Add a certificate with its chain and key. OpenSSL keeps a chain for each only where it reads it from a file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    fd = os.memfd_create("gwfast-chain", os.MFD_CLOEXEC)
    try:
        os.write(fd, pair.chain)
        context.use_certificate_chain_file(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    context.use_privatekey(load_pem_private_key(pair.key, None))


def _authorities(pems: tuple[bytes, ...]) -> list:
    from cryptography import x509

    return [each for pem in pems for each in x509.load_pem_x509_certificates(pem)]


def _trust(context, authorities: list) -> None:
    from OpenSSL import crypto

    store = context.get_cert_store()
    for each in authorities:
        store.add_cert(crypto.X509.from_cryptography(each))


def _has_any(der: bytes, sans: tuple[tuple[str, str], ...]) -> bool:
    from cryptography import x509

    try:
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    hosts = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    uris = set(names.get_values_for_type(x509.UniformResourceIdentifier))
    for kind, value in sans:
        if kind == "URI" and value in uris:
            return True
        value = value.lower()
        if kind == "Hostname" and (value in hosts or "*." + value.partition(".")[2] in hosts):
            return True
    return False
