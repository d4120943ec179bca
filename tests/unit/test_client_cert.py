"""What a backend is told of a client's certificate."""
from hashlib import sha256

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from support import pki
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gwfast import limits
from gwfast.serve.client_cert import words


def certificate(common, *names):
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    builder = x509.CertificateBuilder(who, who, key.public_key(), 1, pki.START, pki.END)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


@pytest.mark.parametrize(("common", "names", "expected"), [
    ("client", (), 'Subject="CN=client"'),
    ("client", (DNS("a.example"), URI("spiffe://a/b"), DNS("b.example")),
     'Subject="CN=client";URI=spiffe://a/b;DNS=a.example;DNS=b.example'),
    ("client", (URI("urn:a;Hash=0,x"),), 'Subject="CN=client";URI="urn:a;Hash=0,x"'),
    ('a"b', (), r'Subject="CN=a\\\"b"'),
    ("ä\r\nHost: evil", (), 'Subject="CN=%C3%A4%0D%0AHost: evil"'),
    ("50%", (), 'Subject="CN=50%25"'),
], ids=["subject", "names", "a name that is quoted", "quotes", "what no field may have", "percent"])
def test_words(common, names, expected):
    der = certificate(common, *names)
    assert words(der).decode() == f"Hash={sha256(der).hexdigest()};{expected}"


def test_too_many_names_are_left_out():
    der = certificate("client", *(DNS(f"{n}.example") for n in range(limits.CLIENT_CERT_BYTES // 10)))
    assert words(der).decode() == f"Hash={sha256(der).hexdigest()}"


def test_what_is_no_certificate():
    with pytest.raises(ValueError):
        words(b"no")
