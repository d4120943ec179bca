"""X-Forwarded-Client-Cert: what a backend is told of the certificate that a client showed, and that was verified.

    Hash=<SHA-256 of its DER, hex>;Subject="<RFC 4514>";URI=<each>;DNS=<each>

The keys, their order and the quotes are Envoy's, so that what reads its field reads ours. Rules:
- One element: what clients or proxies before said in such a field is never passed on.
- A value is quoted where it has one of `,;=` or a space; `"` and backslash are escaped; what a field value may not have (RFC
  9110 5.5), and what is not ASCII, is percent-encoded, in quotes or not.
"""
from collections.abc import Iterable
from hashlib import sha256

from gwfast import limits

PLAIN = frozenset(chr(c) for c in range(0x20, 0x7F)) - {"%"}


def words(der: bytes) -> bytes:
    """Return the field's value for a certificate; ValueError where that cannot be read."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    parts = [f"Hash={sha256(der).hexdigest()}", f"Subject={_value(certificate.subject.rfc4514_string(), True)}"]
    try:
        names: Iterable[x509.GeneralName] = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = ()
    parts += [f"URI={_value(each.value)}" for each in names if isinstance(each, x509.UniformResourceIdentifier)]
    parts += [f"DNS={_value(each.value)}" for each in names if isinstance(each, x509.DNSName)]
    text = ";".join(parts)
    return (text if len(text) <= limits.CLIENT_CERT_BYTES else parts[0]).encode("ascii")


def _value(text: str, quoted: bool = False) -> str:
    text = "".join(c if c in PLAIN else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)
    if not quoted and not any(c in ',;= "\\' for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
