"""What the parts of a cluster know each other by: an authority, certificates, a key for ServiceAccount tokens, kubeconfigs.

`issue(folder, names)` writes ca.crt, server.crt/.key, admin.crt/.key (in group system:masters), sa.key/.pub and tokens.csv.
"""
import json
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

VALID = timedelta(days=2)  # a cluster of tests does not live longer
BACKDATED = timedelta(hours=1)
NAME = x509.oid.NameOID


class Authority:
    """A certificate authority with its certificate in PEM."""

    def __init__(self, name: str):
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NAME.COMMON_NAME, name)])
        built = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = built.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def issue(self, common_name: str, organization: str = "", names: tuple[str, ...] = ()) -> tuple[bytes, bytes]:
        """Return (certificate, key) in PEM, for servers with DNS names and addresses, for clients with an organization."""
        key = generate_private_key(SECP256R1())
        about = [x509.NameAttribute(NAME.COMMON_NAME, common_name)]
        if organization:
            about.append(x509.NameAttribute(NAME.ORGANIZATION_NAME, organization))
        builder = self._builder(x509.Name(about), key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([general_name(one) for one in names]), False)
        usage = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM), private(key)

    def _builder(self, subject: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number(), now - BACKDATED, now + VALID)


def general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def private(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def issue(folder: Path, names: tuple[str, ...]) -> str:
    """Write everything and return the administrator's token."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, signing = Authority("cluster"), generate_private_key(SECP256R1())
    files = {"ca.crt": authority.certificate, "sa.key": private(signing)}
    files["server.crt"], files["server.key"] = authority.issue("kube-apiserver", names=names)
    files["admin.crt"], files["admin.key"] = authority.issue("admin", "system:masters")
    files["sa.pub"] = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = secrets.token_hex(16)
    files["tokens.csv"] = f'{token},admin-by-token,admin-by-token,"system:masters"\n'.encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return token


def write_kubeconfig(file: Path, server: str, folder: Path) -> None:
    """Write a kubeconfig (JSON is YAML) by which kubectl is the administrator."""
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "gwfast",
        "clusters": [{"name": "gwfast", "cluster": {"server": server, "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": "admin", "user": {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}}],
        "contexts": [{"name": "gwfast", "context": {"cluster": "gwfast", "user": "admin"}}]}, indent=1))
