"""Certificates for tests. The same names give the same bytes in every run: an Ed25519 key made of them signs without chance.

    pair("a.example")            certificate and key in PEM, valid from 2020 to 2120
    filled(text)                 'CERTIFICATE a.example b.example', 'KEY ...' in quotes, replaced by PEM in a JSON string;
                                 'EXPIRED ...' is a certificate that was valid in 2020
    credentials(secrets, ...)    resources that hold such certificates
"""
import json
import re
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gwfast.config.model import ConfigMap, ObjectMeta, Secret

START, END, EXPIRED = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2120, 2021))
PLACEHOLDER = re.compile(r'"(CERTIFICATE|EXPIRED|KEY)((?: [^"\s]+)*)"')


@cache
def pair(*names: str, until: datetime = END) -> tuple[bytes, bytes]:
    """Return (certificate, key) in PEM, self-signed, for DNS names."""
    seed = sha256(" ".join(names).encode()).digest()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(who, who, key.public_key(), seed[0] + 1, START, until)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, None).public_bytes(Encoding.PEM), private


def filled(text: str) -> str:
    """Return a configuration with PEM in the place of the words that stand for it; lines keep their numbers."""
    def pem(found: re.Match[str]) -> str:
        names = found[2].split()
        certificate, key = pair(*names, until=EXPIRED) if found[1] == "EXPIRED" else pair(*names)
        return json.dumps((key if found[1] == "KEY" else certificate).decode())
    return PLACEHOLDER.sub(pem, text)


def secret(namespace: str, name: str, *names: str) -> Secret:
    """Return a kubernetes.io/tls Secret with a certificate for `names`."""
    chain, key = pair(*names)
    return Secret(metadata=ObjectMeta(namespace=namespace, name=name, generation=1), type="kubernetes.io/tls",
                  data={"tls.crt": chain, "tls.key": key})


def authority(namespace: str, name: str, *names: str) -> ConfigMap:
    """Return a ConfigMap with a certificate authority."""
    return ConfigMap(metadata=ObjectMeta(namespace=namespace, name=name, generation=1),
                     data={"ca.crt": pair(*names)[0].decode()})


def suite_credentials() -> dict:
    """Return what the API's conformance suite makes itself before it starts."""
    namespace, web = "gateway-conformance-infra", "gateway-conformance-web-backend"
    found = [secret(namespace, f"{name}-certificate", "example.org", "second-example.org")
             for name in ("tls-validity-checks", "tls-terminate-checks", "tls-passthrough-checks", "tls-checks-client")]
    found += [authority(namespace, f"{name}-ca-certificate")
              for name in ("tls-checks", "tls-validity-checks", "tls-validity-checks-per-port", "mismatch", "backend-tls-checks")]
    found += [secret(web, "certificate", "example.org"), authority(web, "web-backend-cm")]
    return {each.key: each for each in found}
