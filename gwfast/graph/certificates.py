"""Certificates, keys and certificate authorities as the resources hold them: are they what they should be?

Rules:
- Nothing is fetched and nothing is trusted: PEM in, the same PEM out, or words that say what is wrong.
- cryptography is imported when the first certificate is checked: most configurations have none.
"""
from __future__ import annotations

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
    from cryptography.hazmat.primitives import serialization

    chain, key = secret.data.get("tls.crt", b""), secret.data.get("tls.key", b"")
    if not chain or not key:
        return "the Secret needs tls.crt and tls.key"
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return "tls.crt is not a PEM certificate"
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return "tls.key is not an unencrypted PEM private key"
    if _public(private.public_key()) != _public(certificates[0].public_key()):
        return "tls.key does not belong to tls.crt"
    return Certificate(secret=secret.key, chain=chain, key=key, names=_names(certificates[0]))


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
