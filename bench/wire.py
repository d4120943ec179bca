"""What clients speak with a proxy: HTTP/1.1 or HTTP/2, in clear or over TLS, or gRPC; and the certificate for it."""
import datetime
import functools

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST = "www.bench.example"


class Wire(msgspec.Struct, frozen=True):
    """`h2`: HTTP/2, over TLS by ALPN, in clear with prior knowledge. `grpc`: calls, so that backends speak HTTP/2 too."""

    tls: bool = False
    h2: bool = False
    grpc: bool = False

    @property
    def port(self) -> int:
        """The spec's port of the listener."""
        return 443 if self.tls else 80

    def body(self, size: int) -> bytes:
        """A body; a call's is one message, whose prefix is part of the size."""
        return b"\0" + (size - 5).to_bytes(4, "big") + b"." * (size - 5) if self.grpc else b"." * size


CLEAR, TLS, H2C, H2, GRPC = Wire(), Wire(tls=True), Wire(h2=True), Wire(tls=True, h2=True), Wire(h2=True, grpc=True)


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """A certificate for HOST and its key, PEM: ECDSA P-256, of its own authority, for a day; made once in a run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False).sign(key, SHA256()))
    return (made.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
