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
every worker and after every reload. What a ticket resumes is bound to its listener and to how that looks at clients (the
session id context): a client that was not asked for a certificate there is asked here (CVE-2025-23419). What it costs:
- OpenSSL is in memory before the first handshake (some 6 MiB, shared by all processes), where the files mention TLS at the
  start, and so is a fork server, which has the roots for workers that replace others (`spawn`; some 3 MiB).
- Where TLS comes with a later reload, the roots of each worker are its own until the gateway is started again: a client
  that comes to another worker begins a new session.
- The keys of tickets live as long as the gateway. Who steals its memory can read the TLS 1.2 sessions that were given
  tickets; those of TLS 1.3 stay secret, for a resumption exchanges new keys (RFC 8446 2.2). Keys that change by the hour need
  what pyOpenSSL does not offer, or new processes.
"""
from __future__ import annotations

import contextlib
import mmap
import os
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from gwfast import limits

from gwfast.tls import records
from gwfast.plan.credentials import HEADER, MAGIC, BackendSettings, Pair, ServerSettings, name_identity
from gwfast.serve import light_imports

# TLS 1.2: Mozilla's intermediate list (ssl-config.mozilla.org), AEAD with forward secrecy alone, without its DHE: nginx has that
# only with parameters of its own, and clients can make a server compute for nothing by it (CVE-2002-20001). TLS 1.3: its three.
CIPHERS = ":".join(f"ECDHE-{key}-{cipher}" for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
                   for key in ("ECDSA", "RSA"))
SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
# Groups that no quantum computer breaks come first, at the price of a HelloRetryRequest where a client has one and did not
# guess it (as OpenSSL and Go do); a '/' is where the next choice begins. An OpenSSL before 3.5 knows none of these.
GROUPS = ("X25519MLKEM768:SecP256r1MLKEM768/X25519:P-256/P-384:P-521", "X25519:P-256:P-384:P-521")
PRIORITIZE_CHACHA = 0x00200000  # SSL_OP_PRIORITIZE_CHACHA: who asks for it first has no AES in hardware
RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS (nginx, HAProxy: the same)
HOST_FLAGS = 0x04 | 0x20  # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NEVER_CHECK_SUBJECT (RFC 9525 6.3)
_settings = msgspec.msgpack.Decoder(ServerSettings).decode
_backend = msgspec.msgpack.Decoder(BackendSettings).decode
_numbers = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_pair = msgspec.msgpack.Decoder(Pair).decode
_roots: dict[str, records.Setting] = {}


def roots() -> dict[str, records.Setting]:
    """Return the settings that connections of clients begin with, by their lowest version; make them the first time."""
    if not _roots:
        light_imports.load_openssl()  # before the fork, so that all share it
        for version in ("1.2", "1.3"):
            _roots[version] = records.Setting(_server_context(version))
    return _roots


class Certs:
    """The credentials in a memfd (which is closed); contexts of those `before` that are still right are taken over.

    Raises ValueError where it holds no credentials.
    """

    def __init__(self, fd: int, before: Certs | None = None):
        self._file = os.fstat(fd).st_ino
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
        self._made: OrderedDict[tuple, records.Setting] = before._made if before else OrderedDict()
        self._asked: dict[tuple[int, bytes], records.Setting] = {}

    def same(self, fd: int) -> bool:
        """Say whether a descriptor is of the memfd that this was made of."""
        return os.fstat(fd).st_ino == self._file

    def server(self, listener_id: int, sni: bytes) -> records.Setting:
        """Return what a handshake begins with on the listener with this identity, for a client that asks for `sni` (lower case;
        b'': it names nobody). KeyError: there is no such listener; OpenSSL.SSL.Error: OpenSSL refuses its settings."""
        found = self._asked.get((listener_id, sni))
        if found is None:
            if len(self._asked) >= limits.TLS_CONTEXTS:
                self._asked.clear()
            found = self._asked[listener_id, sni] = self._server(listener_id, sni.decode("ascii"))
        return found

    def client(self, tls: int) -> tuple[records.Setting, bytes]:
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

    def _server(self, listener_id: int, sni: str) -> records.Setting:
        settings = _settings(self._blob(self._find(0, listener_id)))
        numbers = self._named(listener_id, sni) or settings.certificates
        pairs = self._pairs(numbers)
        return self._kept((settings.digest, *[pair.digest for pair in pairs]), lambda: _server_setting(settings, pairs))

    def _named(self, listener_id: int, sni: str) -> tuple[int, ...]:
        for name in (sni, "*." + sni.partition(".")[2]):
            try:
                return _numbers(self._blob(self._find(1, name_identity(listener_id, name))))
            except KeyError:
                continue
        return ()

    def _kept(self, key: tuple, make) -> records.Setting:
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
    from OpenSSL._util import lib

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _bound(context, min_version)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | PRIORITIZE_CHACHA)
    context.set_cipher_list(CIPHERS.encode())
    context.set_tls13_ciphersuites(SUITES.encode())
    if not any(lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1 for groups in GROUPS):
        raise RuntimeError("this OpenSSL knows no group of ours")
    lib.ERR_clear_error()  # of the one that it does not know
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets alone
    return context


def _bound(context, min_version: str) -> None:
    """What holds for every context."""
    from OpenSSL import SSL

    context.set_min_proto_version(SSL.TLS1_3_VERSION if min_version == "1.3" else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(RELEASE_BUFFERS)


def _server_setting(settings: ServerSettings, pairs: list[Pair]) -> records.Setting:
    from OpenSSL import SSL

    context = _server_context(settings.min_version)
    if settings.ciphers:
        context.set_cipher_list(settings.ciphers.encode("ascii"))
    for pair in reversed(pairs):  # of one kind of key the first named is used: OpenSSL keeps the last
        with contextlib.suppress(SSL.Error):  # one that it refuses does not keep the others from serving
            _use(context, pair)
    context.set_session_id(settings.digest)
    verify, lenient = SSL.VERIFY_NONE, settings.client_mode == "AllowInsecureFallback"
    if settings.client_ca:
        verify = SSL.VERIFY_PEER if lenient else SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        _trust(context, False, settings.client_ca)
        with _file(b"\n".join(settings.client_ca)) as path:
            context.load_client_ca(path)
    return records.Setting(context, root=roots()[settings.min_version], verify=verify, lenient=lenient, alpn=settings.alpn)


def controller(authorities: bytes, name: str) -> tuple[records.Setting, bytes]:
    """Return what a handshake with a controller begins with, and the name to ask for: TLS 1.3, and a certificate with this name
    that these authorities (PEM) vouch for. ValueError: there are none."""
    from OpenSSL import SSL

    try:
        context = _client_context("1.3", False, (authorities,))
    except SSL.Error:
        raise ValueError("it holds no certificates") from None
    _ask_for(context, name)
    return records.Setting(context, verify=SSL.VERIFY_PEER), name.encode("ascii")


def _client_setting(settings: BackendSettings, pairs: list[Pair]) -> records.Setting:
    from OpenSSL import SSL

    context = _client_context("1.2", settings.system, settings.ca)
    if not settings.sans:
        _ask_for(context, settings.hostname)
    for pair in pairs:
        _use(context, pair)
    if settings.alpn:
        context.set_alpn_protos([each.encode("ascii") for each in settings.alpn])
    return records.Setting(context, verify=SSL.VERIFY_PEER)


def _client_context(min_version: str, system: bool, authorities: tuple[bytes, ...]):
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    _bound(context, min_version)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    _trust(context, system, authorities)
    return context


def _ask_for(context, name: str) -> None:
    """Let a server's certificate have this name."""
    from OpenSSL._util import lib

    param = lib.SSL_CTX_get0_param(context._context)
    lib.X509_VERIFY_PARAM_set_hostflags(param, HOST_FLAGS)
    if not lib.X509_VERIFY_PARAM_set1_host(param, name.encode("ascii"), len(name)):
        raise ValueError(f"OpenSSL takes no host {name!r}")


def _use(context, pair: Pair) -> None:
    """Add a certificate with its chain and key. OpenSSL keeps a chain for each only where it reads it from a file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with _file(pair.chain) as path:
        context.use_certificate_chain_file(path)
    # Whether it is a key has been looked at; of an RSA key that would take longer than the handshake.
    context.use_privatekey(load_pem_private_key(pair.key, None, unsafe_skip_rsa_key_validation=True))


def _trust(context, system: bool, authorities: tuple[bytes, ...]) -> None:
    """Believe these (PEM), and those of the system. A set of them is in memory once: the system's are 0.8 MiB."""
    from OpenSSL._util import lib

    anchors = _anchors(system, authorities)
    store = lib.SSL_CTX_get_cert_store(anchors._context)
    lib.X509_STORE_up_ref(store)
    lib.SSL_CTX_set_cert_store(context._context, store)


@lru_cache(limits.TLS_AUTHORITIES)
def _anchors(system: bool, authorities: tuple[bytes, ...]):
    """Return a context that believes these, also where one is not self-signed: it is an anchor because it was named
    (RFC 5280 6.1)."""
    from OpenSSL import SSL, crypto

    context = SSL.Context(SSL.TLS_METHOD)
    if system:
        context.set_default_verify_paths()
    for pem in authorities:
        with _file(pem) as path:
            context.load_verify_locations(path)
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    return context


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[bytes]:
    """A path where OpenSSL can read this; it is in memory alone."""
    with open(os.memfd_create("gwfast-certificates", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(content)
        yield b"/proc/self/fd/%d" % file.fileno()


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
        parent = value.lower().partition(".")[2]  # of which more than one label is needed, as OpenSSL has it
        if kind == "Hostname" and (value.lower() in hosts or ("." in parent and "*." + parent in hosts)):
            return True
    return False
