"""The controller's certificate authority, and the certificate of the stream, kept in a Secret.

    renewed(data, names, now) -> data | None     pure: what the Secret should hold; None: what it holds is right
    Authority.run()                              reads the Secret, and where it leads writes it, for as long as it runs

    ca.crt ca.key       the authority that signs
    next.crt next.key   the one that will, from PREPARED before the end on: believed already, and kept until it signs
    last.crt            the one that did, until it ends
    tls.crt tls.key     of the stream, for the names of its Service

Rules:
- Whoever believes (data planes) reads all authorities, `bundle`. A new one signs only once it was believed for SPREAD: by then
  each data plane that runs has read it, as its kubelet brings it within two minutes.
- Keys are ECDSA P-256. A certificate is valid from a little before now: clocks differ.
- Only the leader writes, with the resourceVersion that it read. What is there and cannot be read is replaced, and that is told.
"""
import asyncio
import base64
import datetime
from collections.abc import Callable, Mapping

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gwfast.controller.fleet import PROGRAM
from gwfast.kubernetes import paths
from gwfast.kubernetes.client import ApiError, Client, Unreachable, api_backoff

DAY = datetime.timedelta(days=1)
AUTHORITY_LASTS = 730 * DAY
PREPARED = 180 * DAY  # before its end: as long as somebody may leave a cluster alone and come back to it
SPREAD = 7 * DAY  # that the next authority is believed before it signs
SERVER_LASTS = 90 * DAY
SERVER_RENEWED = 30 * DAY  # before its end (cert-manager: a third)
BEFORE = datetime.timedelta(minutes=10)  # that clocks may differ
LOOK = 600.0  # seconds between two looks at the Secret
LOOK_SOON = 2.0  # the same while there is none yet: the leader makes it
SECRET = f"{PROGRAM}-authority"

Data = Mapping[str, bytes]


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def renewed(data: Data, names: tuple[str, ...], now: datetime.datetime) -> dict[str, bytes] | None:
    """Return what the Secret should hold, None where it does."""
    current, coming = _pair(data, "ca"), _pair(data, "next")
    last = _certificate(data.get("last.crt", b""))
    if current is None or current.certificate.not_valid_after_utc <= now:
        last = current.certificate if current else None
        current, coming = coming or _authority(now), None
    if coming is None and current.certificate.not_valid_after_utc - now <= PREPARED:
        coming = _authority(now)
    if coming is not None and now - coming.certificate.not_valid_before_utc >= SPREAD:
        current, coming, last = coming, None, current.certificate
    if last is not None and last.not_valid_after_utc <= now:
        last = None
    server = _pair(data, "tls")
    if server is None or not _serves(server.certificate, current, names, now):
        server = _server(current, names, now)
    found = _written("ca", current) | _written("tls", server) | (_written("next", coming) if coming else {})
    if last is not None:
        found["last.crt"] = _pem(last)
    return None if found == dict(data) else found


def bundle_of(data: Data) -> str:
    """Return the authorities to believe, as PEM."""
    return b"".join(data.get(name, b"") for name in ("ca.crt", "next.crt", "last.crt")).decode("ascii", "replace")


def _pair(data: Data, name: str) -> Pair | None:
    certificate = _certificate(data.get(f"{name}.crt", b""))
    try:
        key = load_pem_private_key(data.get(f"{name}.key", b""), None)
    except (ValueError, TypeError):
        return None
    if certificate is None or not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return Pair(certificate, key)


def _certificate(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _written(name: str, pair: Pair) -> dict[str, bytes]:
    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {f"{name}.crt": _pem(pair.certificate), f"{name}.key": key}


def _serves(certificate: x509.Certificate, authority: Pair, names: tuple[str, ...], now: datetime.datetime) -> bool:
    """Whether a certificate of the stream is good: the authority's, for these names, and not near its end."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # of cryptography, InvalidSignature and others
        return False
    left = certificate.not_valid_after_utc - now
    return said.get_values_for_type(x509.DNSName) == list(names) and left > SERVER_RENEWED


def _begun(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, lasts: datetime.timedelta
) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - BEFORE).not_valid_after(now + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False)


def _authority(now: datetime.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{PROGRAM} controller {now:%Y-%m-%d}")
    certificate = (_begun(name, key, now, AUTHORITY_LASTS).issuer_name(name)
                   .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                   .add_extension(_usage(True), critical=True).sign(key, hashes.SHA256()))
    return Pair(certificate, key)


def _server(authority: Pair, names: tuple[str, ...], now: datetime.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    lasts = min(SERVER_LASTS, authority.certificate.not_valid_after_utc - now)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (_begun(_name(names[0][:64]), key, now, lasts).issuer_name(authority.certificate.subject)
                   .add_extension(identifier, critical=False)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(_usage(False), critical=True)
                   .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                   .sign(authority.key, hashes.SHA256()))
    return Pair(certificate, key)


class Authority:
    """What the Secret says. names: DNS names of the stream's Service. `changed` is called when what is read is another."""

    def __init__(self, client: Client, namespace: str, names: tuple[str, ...], log, changed: Callable[[], None] = lambda: None):
        self.bundle = ""  # PEM
        self.certificate = b""  # of the stream: PEM, as its key
        self.key = b""
        self._client = client
        self._collection = paths.collection("", "v1", "secrets", namespace)
        self._namespace = namespace
        self._names = names
        self._log = log
        self._changed = changed
        self._leads = asyncio.Event()
        self._again = asyncio.Event()

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""
        (self._leads.set if leads else self._leads.clear)()
        self._again.set()

    async def run(self) -> None:
        """Look at the Secret again and again, until cancelled."""
        backoff = api_backoff()
        while True:
            self._again.clear()
            try:
                await self._look()
                backoff.reset()
                wait = LOOK if self.certificate else LOOK_SOON
            except (ApiError, Unreachable, msgspec.DecodeError) as error:
                place = f"{self._namespace}/{SECRET}"
                self._log.warning(f"the Secret {place} cannot be read or written; it is tried again", error=str(error))
                wait = backoff.next()
            except Exception as error:  # what somebody wrote there is no reason to end
                self._log.bug("what the Secret of the stream's certificates says was not taken; it is tried again", error)
                wait = backoff.next()
            try:
                async with asyncio.timeout(wait):
                    await self._again.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        try:
            there = msgspec.json.decode(await self._client.request("GET", f"{self._collection}/{SECRET}"))
        except ApiError as error:
            if error.status != 404:
                raise
            there = None
        data = _decoded(there)
        if self._leads.is_set() and (made := renewed(data, self._names, datetime.datetime.now(datetime.UTC))) is not None:
            await self._write(there, made)
            self._log.info("certificates of the stream were made anew", secret=f"{self._namespace}/{SECRET}")
            data = made
        self._take(data)

    async def _write(self, there: dict | None, data: Data) -> None:
        """Write what was made; ApiError (409) where somebody else has written since."""
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        if there is not None:
            await self._client.request("PUT", f"{self._collection}/{SECRET}", {**there, "data": encoded})
            return
        body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": encoded,
                "metadata": {"name": SECRET, "namespace": self._namespace, "labels": {
                    "app.kubernetes.io/name": PROGRAM, "app.kubernetes.io/managed-by": PROGRAM}}}
        await self._client.request("POST", self._collection, body)

    def _take(self, data: Data) -> None:
        found = bundle_of(data), data.get("tls.crt", b""), data.get("tls.key", b"")
        if found != (self.bundle, self.certificate, self.key):
            before = self.bundle, self.certificate, self.key
            self.bundle, self.certificate, self.key = found
            try:
                self._changed()
            except BaseException:
                self.bundle, self.certificate, self.key = before
                raise


def _decoded(there: dict | None) -> dict[str, bytes]:
    """Return what a Secret holds; what is no base64 is nothing."""
    found = {}
    for name, text in ((there or {}).get("data") or {}).items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except ValueError:
            found[name] = b""
    return found
