"""Certificates, keys and certificate authorities of Secrets, ConfigMaps, ClusterTrustBundles and CertificateFiles, checked.

Rules:
- A check returns the PEM as it was written, or words that say what is wrong with it. Nothing is fetched.
- A certificate that OpenSSL would refuse at the first handshake is refused here, where a condition can say so.
- A certificate that was good goes on serving when its Secret breaks, and one that has expired serves (as in nginx); a condition
  says so. A reference that is not permitted any more leads nowhere at once.
- A CertificateFile names files of the machine that gwfast runs on. In a cluster these are files of a Pod, which are not meant for
  everybody who may write a Gateway: there it is refused, whatever it names.
- cryptography and pyOpenSSL are imported when the first certificate is checked: most configurations have none.
"""
from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from gwfast.config.model import (CERTIFICATES_GROUP, OWN_GROUP, CertificateFile, ClusterTrustBundle, ConfigMap, Key,
                                 LocalObjectReference, ObjectReference, Resource, Secret)
from gwfast.config.model import SecretObjectReference as SecretReference
from gwfast.graph.model import Certificate, Doubt
from gwfast.graph.refs import Resources

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


class Refusal(NamedTuple):
    """A mistake in the resource that a reference leads to: a reason of the spec, and words."""

    reason: str
    message: str


T = TypeVar("T", Certificate, bytes)


class Found(NamedTuple, Generic[T]):
    """The value that a reference leads to (None if it cannot be used), and what is wrong with it (None if nothing is). Both are
    there for a value that serves although something is wrong with it."""

    value: T | None
    wrong: Refusal | None = None


Reference = SecretReference | ObjectReference | LocalObjectReference
Place = tuple[Key, Key, Callable]  # the owner of a reference, the resource, and its check: a CertificateFile may have two


class _Held(NamedTuple):
    """The last good value of a reference, and why it is in doubt ('': it is not)."""

    value: Any  # the type is that which the check in its Place returns
    doubt: Doubt | Literal[""]


class Credentials:
    """Resolves references to certificates and authorities; checks a Secret or ConfigMap once while it is the same.

    keeps: a reference whose Secret or ConfigMap is no good any more leads to what it held when it was. files: CertificateFiles
    are taken.
    """

    def __init__(self, resources: Resources, keeps: bool = False, files: bool = True):
        self._resources = resources
        self._keeps = keeps
        self._files = files
        self._checked: dict[Key, tuple[Resource, dict[Callable, Any]]] = {}  # the results by check
        self._held: dict[str, dict[Place, _Held]] = defaultdict(dict)  # by the kind that refers
        self._asked: set[Place] = set()
        self._doubts: dict[str, dict[Key, Doubt]] = {}  # by the same kinds
        self.turns_at = math.inf  # when a certificate will begin or cease to be valid

    def certificate(self, ref: SecretReference, owner: Resource, invalid: str) -> Found[Certificate]:
        """Return the Certificate that a certificateRef of `owner` names; `invalid` is the reason for all but a missing grant."""
        if is_file(ref):
            return self._find(ref, owner, certificate_of_files, invalid) if self._files else _of_a_machine(ref, invalid)
        if (ref.group, ref.kind) != ("", "Secret"):
            return Found(None, Refusal(invalid, f"certificates are Secrets, not {ref.group}/{ref.kind}"))
        return self._find(ref, owner, certificate, invalid)

    def authorities(self, ref: ObjectReference | LocalObjectReference, owner: Resource, kind_reason: str) -> Found[bytes]:
        """Return the PEM that a caCertificateRef of `owner` names; `kind_reason` is the one for a wrong kind."""
        if is_bundle(ref):
            return self._find(ref, owner, authorities_of_cluster, "InvalidCACertificateRef")
        if is_file(ref):
            reason = "InvalidCACertificateRef"
            return self._find(ref, owner, authorities_of_files, reason) if self._files else _of_a_machine(ref, reason)
        if (ref.group, ref.kind) != ("", "ConfigMap"):
            return Found(None, Refusal(kind_reason, f"certificate authorities are ConfigMaps, not {ref.group}/{ref.kind}"))
        return self._find(ref, owner, authorities, "InvalidCACertificateRef")

    def doubts(self) -> dict[Key, Doubt]:
        """Return the Secrets and ConfigMaps that serve all the same, and why they should not."""
        return {key: doubt for found in self._doubts.values() for key, doubt in found.items()}

    def forget(self, key: Key) -> None:
        """Drop what was made of a resource that is gone."""
        self._checked.pop(key, None)

    @contextlib.contextmanager
    def all_of(self, *kinds: str) -> Iterator[None]:
        """Ask within for every reference that owners of these kinds make: what others of them led to is dropped."""
        self._asked.clear()
        yield
        for kind in kinds:
            held = self._held[kind] = {place: one for place, one in self._held[kind].items() if place in self._asked}
            self._doubts[kind] = {key: one.doubt for (_, key, _), one in held.items() if one.doubt}

    def _find(self, ref: Reference, owner: Resource, check: Callable[[Any], T | str], reason: str) -> Found[T]:
        key = authority_key(ref, owner.metadata.namespace)
        place = (owner.key, key, check)
        self._asked.add(place)
        source = (owner.group, owner.kind, owner.metadata.namespace)
        if key.namespace and not self._resources.permits(source, (ref.group, ref.kind), key.namespace, ref.name):
            self._held[owner.kind].pop(place, None)
            return Found(None, Refusal(
                "RefNotPermitted",
                f"no ReferenceGrant in {key.namespace} lets a {owner.kind} of {owner.metadata.namespace} "
                f"refer to {ref.kind} {ref.name}",
            ))
        resource = self._resources.get(*key)
        result = self._check(resource, check) if resource else f"there is no {key}"
        if not isinstance(result, str):
            return self._hold(place, result, reason)
        # Authorities that were deleted are trusted no longer: then no request is served, which is safe. Without
        # a good authority a BackendTLSPolicy is not accepted, and what it protects fails (backendtlspolicy_types.go:183-187).
        held = self._held[owner.kind].pop(place, None)
        message = f"{key}: {result}" if resource else result
        ends = check not in (certificate, certificate_of_files) and (resource is None or owner.kind == "BackendTLSPolicy")
        if held is None or not self._keeps or ends:
            return Found(None, Refusal(reason, message))
        self._held[owner.kind][place] = _Held(held.value, "kept")
        return Found(held.value, Refusal(reason, f"{message}; what was there before serves on"))

    def _hold(self, place: Place, value: T, reason: str) -> Found[T]:
        """Take note of what is good, or is as long as nobody looks at the clock: that is for clients to decide."""
        doubt: Literal["expired", "not_yet_valid", ""] = ""
        message = ""
        now: float = time.time()
        what = "tls.crt" if place[1].kind == "Secret" else "the certificate"
        if isinstance(value, Certificate):
            self.turns_at = min([self.turns_at, *(at for at in (value.not_before, value.not_after) if at > now)])
            if value.not_after <= now:
                doubt, message = "expired", f"{what} expired on {_day(value.not_after)}"
            elif value.not_before > now:
                doubt, message = "not_yet_valid", f"{what} is not valid before {_day(value.not_before)}"
        self._held[place[0].kind][place] = _Held(value, doubt)
        return Found(value, Refusal(reason, f"{place[1]}: {message}; it is served all the same") if doubt else None)

    def _check(self, resource: Resource, check: Callable[[Any], T | str]) -> T | str:
        key = resource.key
        known = self._checked.get(key)
        if known is None or known[0] is not resource:
            known = self._checked[key] = (resource, {})
        if check not in known[1]:
            known[1][check] = check(resource)
        found: T | str = known[1][check]
        return found


def certificate(secret: Secret) -> Certificate | str:
    """Return the certificate of a kubernetes.io/tls Secret, or what is wrong with it."""
    chain, key = secret.data.get("tls.crt", b""), secret.data.get("tls.key", b"")
    if not chain or not key:
        return "the Secret needs tls.crt and tls.key"
    return _pair(secret.key, chain, key, "tls.crt", "tls.key")


def certificate_of_files(files: CertificateFile) -> Certificate | str:
    """Return the certificate of two files, or what is wrong with them."""
    if files.spec.certificate is None or files.spec.key is None:
        return "it names no certificate and key, only a ca"
    if unread := files.unread.get("certificate") or files.unread.get("key"):
        return unread
    return _pair(files.key, files.content["certificate"], files.content["key"], f"the certificate {files.spec.certificate}",
                 f"the key {files.spec.key}")


def _pair(owner: Key, chain: bytes, key: bytes, chain_name: str, key_name: str) -> Certificate | str:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return f"{chain_name} is not a PEM certificate"
    try:  # whether the parts of an RSA key are primes takes longer than all the rest
        private = serialization.load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        matches = _public(private.public_key()) == _public(certificates[0].public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{key_name} is not an unencrypted PEM private key"
    if not matches:
        return f"{key_name} does not belong to {chain_name}"
    if words := _weakness(private, key_name):
        return words
    not_before, not_after = (at.timestamp() for at in (certificates[0].not_valid_before_utc, certificates[0].not_valid_after_utc))
    return Certificate(secret=owner, chain=chain, key=key, names=_names(certificates[0]), not_before=not_before,
                       not_after=not_after)


def _weakness(key: PrivateKeyTypes, name: str) -> str:
    """Say what keeps OpenSSL (security level 2) or clients from using a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return "" if key.key_size >= 2048 else f"{name} is an RSA key of {key.key_size} bits: 2048 are needed"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        known = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
        return "" if known else f"{name} is on the curve {key.curve.name}: P-256, P-384 or P-521 is needed"
    known = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return "" if known else f"{name} is of a kind that TLS has no use for"


def is_bundle(ref: Reference) -> bool:
    """Whether a caCertificateRef names a ClusterTrustBundle, which is in no namespace."""
    return (ref.group, ref.kind) == (CERTIFICATES_GROUP, "ClusterTrustBundle")


def is_file(ref: Reference) -> bool:
    """Whether a reference names a CertificateFile."""
    return (ref.group, ref.kind) == (OWN_GROUP, CertificateFile.kind)


def _of_a_machine(ref: Reference, reason: str) -> Found[T]:
    return Found(None, Refusal(reason, f"CertificateFile {ref.name} would be files of the Pod that gwfast runs in: in a cluster "
                               "certificates are in Secrets, authorities in ConfigMaps"))


def authority_key(ref: Reference, namespace: str) -> Key:
    """Return what a reference to a certificate or to authorities names, of a resource in `namespace`."""
    return Key(ref.kind, "" if is_bundle(ref) else getattr(ref, "namespace", None) or namespace, ref.name)


def authorities_of_cluster(bundle: ClusterTrustBundle) -> bytes | str:
    """Return the PEM certificates of a ClusterTrustBundle, or what is wrong with them."""
    from cryptography import x509

    pem = bundle.spec.trust_bundle.encode()
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        return "spec.trustBundle is not a PEM certificate"
    return pem


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


def authorities_of_files(files: CertificateFile) -> bytes | str:
    """Return the PEM certificates of a file, or what is wrong with it."""
    from cryptography import x509

    if files.spec.ca is None:
        return "it names no ca"
    if unread := files.unread.get("ca"):
        return unread
    pem = files.content["ca"]
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        return f"the ca {files.spec.ca} is not a PEM certificate"
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


def _public(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
