"""A certificate authority for tests, and both ends of a handshake in memory.

    Issuer()                          its `ca` in PEM, certificates by `issue(...)`
    meet(setting, client)             a server (as a worker has it) and a pyOpenSSL client shake hands
"""
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from OpenSSL import SSL, _util, crypto

from gwfast.tls import records
from gwfast.plan.ir import Certificate

NOW = datetime.now(UTC)


@cache
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


class Issuer:
    """An authority of its own, with P-256 (or one RSA key for all)."""

    def __init__(self, name: str = "tests", issuer: "Issuer | None" = None):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._above = issuer or self
        self._certificate = self._sign(self._above, self._name, self._key.public_key(), [
            (x509.BasicConstraints(ca=True, path_length=None), True)])
        self.ca = self._certificate.public_bytes(Encoding.PEM)

    @staticmethod
    def _sign(issuer: "Issuer", name, public, extensions, algorithm=hashes.SHA256):
        builder = x509.CertificateBuilder(issuer._name, name, public, x509.random_serial_number(),
                                          NOW - timedelta(days=1), NOW + timedelta(days=30))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer._key, algorithm())

    def issue(self, *names: str, uris: tuple[str, ...] = (), common: str = "", kind: str = "ec", algorithm=hashes.SHA256,
              ) -> Certificate:
        """Return a certificate for DNS names and URIs, with its key."""
        key = rsa_key() if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common or "subject")])
        alternatives = [*map(x509.DNSName, names), *map(x509.UniformResourceIdentifier, uris)]
        extensions = [(x509.SubjectAlternativeName(alternatives), False)] if alternatives else []
        made = self._sign(self, subject, key.public_key(), extensions, algorithm)
        return Certificate(chain=made.public_bytes(Encoding.PEM), names=names, not_after=made.not_valid_after_utc.timestamp(),
                           key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def client(issuer: Issuer | None = None, *, name: str = "a.test", version: int = 0, ciphers: str = "", certificate: Certificate | None = None,
           alpn: tuple[bytes, ...] = (), suites: str = "", groups: str = "") -> SSL.Connection:
    """A pyOpenSSL client; version: the only one that it speaks; certificate: what it shows; ciphers of TLS 1.2, suites of TLS 1.3."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    assert not groups or _util.lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1
    if suites:
        context.set_tls13_ciphersuites(suites.encode())
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if ciphers:
        context.set_cipher_list(ciphers.encode())
    if issuer:
        context.get_cert_store().add_cert(crypto.X509.from_cryptography(issuer._certificate))
        context.set_verify(SSL.VERIFY_PEER)
    if certificate:
        context.use_certificate(x509.load_pem_x509_certificate(certificate.chain))
        context.use_privatekey(load_pem_private_key(certificate.key, None))
    if alpn:
        context.set_alpn_protos(list(alpn))
    return _connection(context, name)


def again(before: SSL.Connection, name: str = "a.test") -> SSL.Connection:
    """The same client once more: it has a session to resume."""
    connection = _connection(before.get_context(), name)
    connection.set_session(before.get_session())
    return connection


def _connection(context: SSL.Context, name: str) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    connection.set_tlsext_host_name(name.encode())
    connection.set_connect_state()
    return connection


def step(connection: SSL.Connection, data: bytes) -> bytes:
    """Let a client go on with what has arrived; return what it sends. SSL.Error: it ends."""
    if data:
        connection.bio_write(data)
    try:
        connection.do_handshake()
        connection.recv(1)  # tickets
    except SSL.WantReadError:
        pass
    except SSL.ZeroReturnError:
        pass
    try:
        return connection.bio_read(1 << 16)
    except SSL.WantReadError:
        return b""


def meet(setting: records.Setting, connection: SSL.Connection) -> records.Tap:
    """Shake hands; return the server's end. ConnectionError: what the server says; SSL.Error: what the client says."""
    tap = records.Tap(setting)
    sent = step(connection, b"")
    for _ in range(10):
        result, answer = tap.handshake(sent)
        if result < 0:
            raise ConnectionError(tap.session.reason())
        sent = step(connection, answer)
        if result == 1:
            return tap
    raise ConnectionError("it does not end")


def group(connection: SSL.Connection) -> str:
    """Of which group the key exchange was."""
    return _util.ffi.string(_util.lib.SSL_get0_group_name(connection._ssl)).decode()


def common_name(connection: SSL.Connection) -> str:
    """Who the client sees."""
    subject = connection.get_peer_certificate(as_cryptography=True).subject
    return subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
