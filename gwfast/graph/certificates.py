"""Certificates, keys and certificate authorities as the resources hold them: are they what they should be?

Rules:
- Nothing is fetched and nothing is trusted: PEM in, the same PEM out, or words that say what is wrong.
- What OpenSSL would refuse at the first handshake is refused here, where there is a condition to say so.
- cryptography and pyOpenSSL are imported when there is something to check: most configurations have nothing.
"""
from __future__ import annotations

import time
from typing import NamedTuple

from gwfast.config.model import ConfigMap, Key, LocalObjectReference, ObjectReference, Resource, Secret
from gwfast.config.model import SecretObjectReference as SecretReference
from gwfast.graph.model import Certificate
from gwfast.graph.refs import Resources


class Refusal(NamedTuple):
    """Why a reference is not usable: a reason of the spec, and words."""

    reason: str
    message: str


class Credentials:
    """Resolves references to certificates and authorities; checks a Secret or ConfigMap once while it is the same."""

    def __init__(self, resources: Resources):
        self._resources = resources
        self._checked: dict[Key, tuple[Resource, object]] = {}

    def certificate(self, ref: SecretReference, owner: Resource, invalid: str) -> Certificate | Refusal:
        """Return what a certificateRef of `owner` names; `invalid` is the reason for all but a missing grant."""
        if (ref.group, ref.kind) != ("", "Secret"):
            return Refusal(invalid, f"certificates are Secrets, not {ref.group}/{ref.kind}")
        found = self._find(ref, owner, invalid)
        if isinstance(found, Refusal):
            return found
        result = self._check(found, certificate)
        if isinstance(result, Certificate) and result.not_after <= time.time():
            result = f"tls.crt expired on {_day(result.not_after)}"
        return Refusal(invalid, f"{found.key}: {result}") if isinstance(result, str) else result

    def authorities(
        self, ref: ObjectReference | LocalObjectReference, owner: Resource, kind_reason: str
    ) -> bytes | Refusal:
        """Return the PEM that a caCertificateRef of `owner` names; `kind_reason` is the one for a wrong kind."""
        if (ref.group, ref.kind) != ("", "ConfigMap"):
            return Refusal(kind_reason, f"certificate authorities are ConfigMaps, not {ref.group}/{ref.kind}")
        found = self._find(ref, owner, "InvalidCACertificateRef")
        if isinstance(found, Refusal):
            return found
        result = self._check(found, authorities)
        return Refusal("InvalidCACertificateRef", f"{found.key}: {result}") if isinstance(result, str) else result

    def forget(self, key: Key) -> None:
        """Drop what was made of a resource that is gone."""
        self._checked.pop(key, None)

    def _find(self, ref, owner: Resource, missing: str) -> Resource | Refusal:
        namespace = getattr(ref, "namespace", None) or owner.metadata.namespace
        source = (owner.group, owner.kind, owner.metadata.namespace)
        if not self._resources.permits(source, (ref.group, ref.kind), namespace, ref.name):
            return Refusal(
                "RefNotPermitted",
                f"no ReferenceGrant in {namespace} lets a {owner.kind} of {owner.metadata.namespace} "
                f"refer to {ref.kind} {ref.name}",
            )
        found = self._resources.get(ref.kind, namespace, ref.name)
        return found or Refusal(missing, f"there is no {ref.kind} {namespace}/{ref.name}")

    def _check(self, resource: Resource, check):
        key = resource.key
        known = self._checked.get(key)
        if known is None or known[0] is not resource:
            known = self._checked[key] = (resource, check(resource))
        return known[1]


def certificate(secret: Secret) -> Certificate | str:
    """Return the certificate of a kubernetes.io/tls Secret, or what is wrong with it."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    chain, key = secret.data.get("tls.crt", b""), secret.data.get("tls.key", b"")
    if not chain or not key:
        return "the Secret needs tls.crt and tls.key"
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return "tls.crt is not a PEM certificate"
    try:  # whether the parts of an RSA key are primes takes longer than all the rest
        private = serialization.load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        matches = _public(private.public_key()) == _public(certificates[0].public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls.key is not an unencrypted PEM private key"
    if not matches:
        return "tls.key does not belong to tls.crt"
    if words := _weakness(private):
        return words
    not_after = certificates[0].not_valid_after_utc.timestamp()
    return Certificate(secret=secret.key, chain=chain, key=key, names=_names(certificates[0]), not_after=not_after)


def _weakness(key) -> str:
    """Say what keeps OpenSSL (security level 2) or clients from using a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return "" if key.key_size >= 2048 else f"tls.key is an RSA key of {key.key_size} bits: 2048 are needed"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        known = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
        return "" if known else f"tls.key is on the curve {key.curve.name}: P-256, P-384 or P-521 is needed"
    known = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return "" if known else "tls.key is of a kind that TLS has no use for"


def authorities(config_map: ConfigMap) -> bytes | str:
    """Return the PEM certificates under ca.crt, or what is wrong with them."""
    from cryptography import x509

    pem = config_map.binary_data.get("ca.crt") or config_map.data.get("ca.crt", "").encode()
    if not pem:
        return "the ConfigMap needs ca.crt"
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        return "ca.crt is not a PEM certificate"
    return pem


def ciphers_fault(ciphers: str) -> str:
    """Say what is wrong with a list of ciphers for TLS 1.2, '' if nothing is."""
    from OpenSSL import SSL

    try:
        SSL.Context(SSL.TLS_SERVER_METHOD).set_cipher_list(ciphers.encode())
    except SSL.Error:
        return f"OpenSSL knows no cipher of {ciphers!r}"
    return ""


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _public(key) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
