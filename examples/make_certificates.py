"""Makes the certificates that the examples and the demo are served with: an authority of their own, valid for 30 days.

    .venv/bin/python examples/make_certificates.py            into examples/certificates/
    .venv/bin/python examples/make_certificates.py FOLDER

For curl, openssl and `gwfast echo`: ca.crt, client.crt, client.key, backend.crt, backend.key. For the gateway: certificates.yaml,
with a kubernetes.io/tls Secret for each of CERTIFICATES and the ConfigMap `authority`, as `kubectl create secret tls` and
`kubectl create configmap --from-file=ca.crt` would make them. What it writes is for this machine alone: never commit it.
"""
import base64
import datetime
import os
import sys
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = Path(__file__).parent / "certificates"
DAYS = 30
CERTIFICATES = {  # Secret: its names
    "shop": ("shop.example", "localhost"),
    "apps": ("*.apps.example",),
    "database": ("database.example",),
    "backend": ("backend.example",),
    "client": ("client.example",),
}
FILES = ("client", "backend")  # of these in files of their own as well


class Authority:
    """Signs certificates. `pem` is its own."""

    def __init__(self, name: str = "gwfast examples") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = _builder(self._name, self._name, self._key, DAYS)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates and lists
        self.pem = _signed(builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                           .add_extension(usage, critical=True).add_extension(self._id, critical=False), self._key)

    def certificate(self, *names: str, kind: str = "ecdsa", days: float = DAYS) -> tuple[bytes, bytes]:
        """Make a certificate for DNS names, and its key (PEM). kind: ecdsa (P-256) or rsa (2048 bits); days < 0: expired."""
        key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = (_builder(subject, self._name, key, days)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._id), critical=False)
                   .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                                  critical=False))
        return _signed(builder, self._key), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(subject: x509.Name, issuer: x509.Name, key, days: float) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    begin = end - datetime.timedelta(days=DAYS, hours=1)
    return x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), begin, end)


def _signed(builder: x509.CertificateBuilder, key) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def secret(name: str, chain: bytes, key: bytes) -> dict:
    """Return a kubernetes.io/tls Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}}


def config_map(name: str, *authorities: bytes) -> dict:
    """Return a ConfigMap with authorities."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"ca.crt": b"".join(authorities).decode()}}


def make(folder: Path) -> None:
    """Write everything. Keys are for their owner's eyes."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    _write(folder / "ca.crt", authority.pem)
    resources = [config_map("authority", authority.pem)]
    for name, names in CERTIFICATES.items():
        chain, key = authority.certificate(*names)
        resources.append(secret(name, chain, key))
        if name in FILES:
            _write(folder / f"{name}.crt", chain)
            _write(folder / f"{name}.key", key)
    _write(folder / "certificates.yaml", yaml.safe_dump_all(resources, sort_keys=False).encode())


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    os.replace(new, path)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
