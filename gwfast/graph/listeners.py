"""Listeners: what one is on its own, and which of them get in each other's way (spec 5.3).

    examine    protocol, route kinds, certificates, options, client authorities  one listener
    settle     the same port or hostname twice, in order of precedence           one Gateway with its ListenerSets
    overlap    TLS hostnames and certificates that more than one listener has    one Gateway with its ListenerSets
    claim      an address and port that an older Gateway has                     all Gateways

Rules:
- A Draft collects faults. Of several faults of one kind its conditions tell the first.
- If two listeners of one owner conflict, both are refused; of two owners, the first in the order of precedence keeps its own.
- HTTPS listeners and TLS listeners of both modes share a port: a connection belongs to one of them by its SNI.
"""
from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import Literal, NamedTuple

from gwfast.config.model import (
    GATEWAY_GROUP,
    FrontendTLSValidation,
    Gateway,
    Key,
    Listener,
    ListenerSet,
    ListenerTLSConfig,
    SecretObjectReference,
)
from gwfast.graph.certificates import Credentials, ciphers_fault
from gwfast.graph.hostnames import Hostnames
from gwfast.graph.model import Certificate, Condition, FrontNode, ListenerNode, ListenerTLS, Status

_KINDS = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute", "TCPRoute"),  # Passthrough: TLSRoute alone
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
_HOSTED = ("HTTP", "HTTPS", "TLS")  # share a port by hostname


TLS_MIN_VERSION = "gwfast.dev/tls-min-version"  # of tls.options: "1.2" or "1.3"
TLS_CIPHERS = "gwfast.dev/tls-ciphers"  # an OpenSSL list for TLS 1.2; those of TLS 1.3 are all good


class Fault(NamedTuple):
    """A mistake: a condition's reason, words, and the path of the field to blame."""

    reason: str
    message: str
    field: str


class Draft:
    """A listener while it is being judged."""

    __slots__ = (
        "gateway", "owner", "listener", "field", "protocol", "hostname", "kinds", "tls", "proxy_protocol",
        "addresses", "target_port", "client_certificate", "front", "refused", "conflict", "unresolved", "unusable", "overlapping",
    )

    def __init__(self, gateway: Gateway, owner: Gateway | ListenerSet, index: int, listener: Listener):
        self.gateway = gateway
        self.owner = owner
        self.listener = listener
        self.field = f"spec.listeners[{index}]"
        self.protocol = listener.protocol
        self.hostname = (listener.hostname or "").lower() if listener.protocol in _HOSTED else ""
        self.kinds: tuple[tuple[str, str], ...] = ()
        self.tls: ListenerTLS | None = None
        self.proxy_protocol = False
        self.addresses: tuple[str, ...] = ("",)
        self.target_port: int | None = 0
        self.client_certificate: Certificate | None = None
        self.front: FrontNode | None = None
        self.refused: Fault | None = None  # Accepted=False
        self.conflict: Fault | None = None  # Conflicted=True, Accepted=False
        self.unresolved: Fault | None = None  # ResolvedRefs=False
        self.unusable: Fault | None = None  # Programmed=False
        self.overlapping: Fault | None = None  # OverlappingTLSConfig=True

    @property
    def valid(self) -> bool:
        return self.refused is None and self.conflict is None

    @property
    def port(self) -> tuple[int, str]:
        return (self.listener.port, "UDP" if self.protocol == "UDP" else "TCP")

    def node(self, identity: str) -> ListenerNode:
        """Return the listener as it was judged, without routes."""
        unusable = self.conflict or self.unusable
        if unusable is None and self.refused is not None:
            unusable = Fault("Invalid", self.refused.message, self.refused.field)
        return ListenerNode(
            id=identity, name=self.listener.name, resource=self.listener, owner=self.owner.key,
            gateway=self.gateway.key, protocol=self.protocol, port=self.listener.port, hostname=self.hostname,
            addresses=self.addresses, target_port=self.target_port, proxy_protocol=self.proxy_protocol, accepted=self.valid,
            programmed=unusable is None, supported_kinds=self.kinds, tls=self.tls,
            client_certificate=self.client_certificate, front=self.front, conditions=self._conditions(unusable),
        )

    def _conditions(self, unusable: Fault | None) -> tuple[Condition, ...]:
        generation = self.owner.metadata.generation
        overlapping = self.overlapping
        return (
            condition("Accepted", self.conflict or self.refused, generation),
            condition("Programmed", unusable, generation),
            condition("ResolvedRefs", self.unresolved, generation),
            condition("Conflicted", self.conflict, generation, when_wrong="True", when_right="NoConflicts"),
            *([condition("OverlappingTLSConfig", overlapping, generation, when_wrong="True")] if overlapping else ()),
        )


def condition(type: str, fault: Fault | None, generation: int, when_wrong: Status = "False", when_right: str = "") -> Condition:
    """Return a condition that holds unless there is a fault; its reason is then `when_right`, or the type's own name."""
    if fault is None:
        right: Status = "False" if when_wrong == "True" else "True"
        return Condition(type=type, status=right, reason=when_right or type, observed_generation=generation)
    return Condition(
        type=type, status=when_wrong, reason=fault.reason, message=fault.message, field=fault.field,
        observed_generation=generation,
    )


# ---- One listener


def examine(draft: Draft, credentials: Credentials) -> None:
    """Judge a listener on its own."""
    if draft.protocol not in _KINDS:
        known = ", ".join(_KINDS)
        message = f"protocol {draft.protocol} is not one of {known}"
        draft.refused = Fault("UnsupportedProtocol", message, f"{draft.field}.protocol")
        return
    _examine_kinds(draft)
    if draft.protocol in ("HTTPS", "TLS"):
        _examine_tls(draft, credentials)


def _examine_kinds(draft: Draft) -> None:
    tls = draft.listener.tls
    kinds = _KINDS[draft.protocol]
    if draft.protocol == "TLS" and tls and tls.mode == "Passthrough":
        kinds = ("TLSRoute",)
    wanted = [(kind.group, kind.kind) for kind in draft.listener.allowed_routes.kinds]
    possible = [(GATEWAY_GROUP, kind) for kind in kinds]
    draft.kinds = tuple(kind for kind in wanted if kind in possible) if wanted else tuple(possible)
    wrong = [kind for kind in wanted if kind not in possible]
    if not wrong:
        return
    field = f"{draft.field}.allowedRoutes.kinds[{wanted.index(wrong[0])}]"
    message = f"{wrong[0][1]} cannot attach to a listener of protocol {draft.protocol}, which takes {', '.join(kinds)}"
    draft.unresolved = Fault("InvalidRouteKinds", message, field)
    if not draft.kinds:
        draft.unusable = Fault("Invalid", message, field)


def _examine_tls(draft: Draft, credentials: Credentials) -> None:
    config = draft.listener.tls or ListenerTLSConfig()
    version, ciphers = _options(draft, config.options)
    if config.mode == "Passthrough":
        draft.tls = ListenerTLS(mode=config.mode)
        return
    certificates = _certificates(draft, config.certificate_refs, credentials)
    validation, field = _validation(draft.gateway, draft.listener.port)
    if draft.protocol != "HTTPS" or validation is None:
        draft.tls = ListenerTLS(certificates=certificates, min_version=version, ciphers=ciphers)
        return
    authorities = _authorities(draft, validation, field, credentials)
    draft.tls = ListenerTLS(
        certificates=certificates, client_ca=authorities, client_mode=validation.mode, min_version=version, ciphers=ciphers,
    )


def _options(draft: Draft, written: dict[str, str]) -> tuple[Literal["1.2", "1.3"], str]:
    """Return the least version and the ciphers that tls.options say: an option that is not known, or not understood, refuses the
    listener, because whoever wrote it relies on it."""
    version: Literal["1.2", "1.3"] = "1.2"
    ciphers = ""
    for name, value in written.items():
        wrong = f"the option {name} is not known here"
        if name == TLS_MIN_VERSION:
            version = "1.3" if value == "1.3" else "1.2"
            wrong = "" if value in ("1.2", "1.3") else f"{name} is {value!r}, 1.2 or 1.3 is needed"
        elif name == TLS_CIPHERS:
            ciphers = value
            wrong = ciphers_fault(value)
        if wrong and draft.refused is None:
            draft.refused = Fault("UnsupportedValue", wrong, f"{draft.field}.tls.options[{name}]")
    return ("1.2", "") if draft.refused else (version, ciphers)


def _certificates(draft: Draft, refs: tuple[SecretObjectReference, ...], credentials: Credentials) -> tuple[Certificate, ...]:
    certificates = []
    for index, ref in enumerate(refs):
        found = credentials.certificate(ref, draft.owner, "InvalidCertificateRef")
        if found.value is not None:
            certificates.append((found.wrong is not None, found.value))
        if found.wrong and draft.unresolved is None:
            draft.unresolved = Fault(*found.wrong, f"{draft.field}.tls.certificateRefs[{index}]")
    if not refs:
        draft.unresolved = Fault(
            "InvalidCertificateRef", "a listener that terminates TLS needs a certificate",
            f"{draft.field}.tls.certificateRefs",
        )
    if not certificates and draft.unresolved:
        draft.unusable = Fault("Invalid", draft.unresolved.message, draft.unresolved.field)
    return tuple(one for _, one in sorted(certificates, key=itemgetter(0)))  # of one name the first serves: better a good one


def _validation(gateway: Gateway, port: int) -> tuple[FrontendTLSValidation | None, str]:
    frontend = gateway.spec.tls.frontend if gateway.spec.tls else None
    if frontend is None:
        return None, ""
    for index, per_port in enumerate(frontend.per_port):
        if per_port.port == port:
            return per_port.tls.validation, f"spec.tls.frontend.perPort[{index}].tls.validation"
    return frontend.default.validation, "spec.tls.frontend.default.validation"


def _authorities(draft: Draft, validation: FrontendTLSValidation, field: str, credentials: Credentials) -> tuple:
    authorities = []
    for index, ref in enumerate(validation.ca_certificate_refs):
        found = credentials.authorities(ref, draft.gateway, "InvalidCACertificateKind")
        if found.value is not None:
            authorities.append(found.value)
        if found.wrong and draft.unresolved is None:
            draft.unresolved = Fault(*found.wrong, f"{field}.caCertificateRefs[{index}]")
    if not authorities:
        message = "none of the certificate authorities for clients is valid"
        draft.refused = Fault("NoValidCACertificate", message, f"{field}.caCertificateRefs")
    return tuple(authorities)


# ---- The listeners of one Gateway and its ListenerSets


def settle(groups: list[list[Draft]]) -> None:
    """Judge which listeners are distinct; one group per owner, in order of precedence."""
    earlier: dict[tuple, _Taken] = {}
    for group in groups:
        for port, drafts in _by_port(draft for draft in group if draft.protocol in _KINDS).items():
            taken = earlier.setdefault(port, _Taken())
            for draft in drafts:
                draft.conflict = taken.clash(draft)
            rest = [draft for draft in drafts if draft.conflict is None]
            _refuse_indistinct(rest)
            for draft in rest:
                taken.add(draft)


class _Taken:
    """The listeners of one port so far: by hostname, and one of each family of protocols."""

    def __init__(self):
        self._hosts: dict[tuple[str, str], Draft] = {}
        self._families: dict[str, Draft] = {}

    def add(self, draft: Draft) -> None:
        self._hosts.setdefault((_family(draft.protocol), draft.hostname), draft)
        self._families.setdefault(_family(draft.protocol), draft)

    def clash(self, draft: Draft) -> Fault | None:
        others = [other for family, other in self._families.items() if family != _family(draft.protocol)]
        others += [other for other in [self._hosts.get((_family(draft.protocol), draft.hostname))] if other]
        return _clash(draft, others[0]) if others else None


def _by_port(drafts) -> dict[tuple, list[Draft]]:
    ports: dict[tuple, list[Draft]] = {}
    for draft in drafts:
        ports.setdefault(draft.port, []).append(draft)
    return ports


def _family(protocol: str) -> str:
    return "TLS" if protocol in ("HTTPS", "TLS") else protocol


def _refuse_indistinct(drafts: list[Draft]) -> None:
    """Refuse every listener of one owner and port that is not distinct from another one."""
    families = {_family(draft.protocol) for draft in drafts}
    hosts = Counter(draft.hostname for draft in drafts)
    for draft in drafts:
        if len(families) == 1 and hosts[draft.hostname] == 1:
            continue
        for other in drafts:
            if other is not draft and draft.conflict is None:
                draft.conflict = _clash(draft, other)


def _clash(draft: Draft, other: Draft) -> Fault | None:
    where = f"listener {other.listener.name} of {other.owner.key}"
    port = draft.listener.port
    if _family(draft.protocol) != _family(other.protocol):
        message = f"port {port} cannot be {draft.protocol} and {other.protocol} at once: see {where}"
    elif draft.hostname != other.hostname:
        return None
    elif draft.protocol == other.protocol and draft.protocol in _HOSTED:
        message = f"{where} has the same port {port} and the same hostname ({draft.hostname or 'any'})"
        return Fault("HostnameConflict", message, f"{draft.field}.hostname")
    else:
        message = f"port {port} is taken by {where}"
    return Fault("ProtocolConflict", message, f"{draft.field}.port")


def overlap(drafts: list[Draft]) -> None:
    """Say which TLS and HTTPS listeners share hosts with another one on their port (gateway_types.go:1668-1713).

    A client may then reuse a connection for a host of the other listener, which is answered with 421."""
    for group in _by_port(draft for draft in drafts if _family(draft.protocol) == "TLS" and draft.valid).values():
        if len(group) < 2:
            continue
        certified, named = Hostnames(), Hostnames()
        for draft in group:
            certified.update(_certified(draft))
            named.add(draft.hostname)
        for draft in group:
            if certified.meets_beside(_certified(draft)):
                reason, what = "OverlappingCertificates", "certificate"
            elif named.meets_beside([draft.hostname]):
                reason, what = "OverlappingHostnames", "hostname"
            else:
                continue
            message = f"the {what} covers hosts of another listener on port {draft.listener.port}"
            draft.overlapping = Fault(reason, message, draft.field)


def _certified(draft: Draft) -> list[str]:
    return [name for certificate in draft.tls.certificates for name in certificate.names] if draft.tls else []


# ---- All Gateways


def claim(drafts: list[Draft], owners: dict[tuple, Key]) -> None:
    """Give each address and port to the first Gateway that asks for it; `owners` remembers who that was."""
    mine = [draft for draft in drafts if draft.valid and draft.unusable is None]
    for draft in mine:
        other = next((key for place in _places(draft) if (key := owners.get(place))), None)
        if other is not None and other != draft.gateway.key:
            address = ", ".join(draft.addresses) if draft.addresses != ("",) else "every address"
            message = (
                f"port {draft.listener.port} of {address} belongs to {other}, which comes first: "
                "give one of the two Gateways spec.addresses of its own, or another port"
            )
            draft.unusable = Fault("PortUnavailable", message, f"{draft.field}.port")
            continue
        for place in _places(draft):
            owners.setdefault(place, draft.gateway.key)


def _places(draft: Draft):
    """All addresses ('') are those of both families; a single address beside them is a place of its own, because
    the more specific socket gets the connection."""
    families = {"": ("0.0.0.0", "::")}
    for address in draft.addresses:
        for place in families.get(address, (address,)):
            yield (place, *draft.port)
