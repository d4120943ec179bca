"""The graph: what the resources mean together. Nodes refer to each other downwards, or by key and id.

    Graph
      classes, policies                       conditions only
      gateways ──> GatewayNode ──> listeners  its own, then those of its ListenerSets, in merge order
      listener_sets ──> ListenerSetNode
      listeners ──> ListenerNode ──> attachments ──> Attachment(route, hostnames)
      routes ──> RouteNode ──> parents (conditions)
                          └──> rules ──> backends ──(target)──> targets ──> Target (addresses)

Rules:
- Every node is immutable and compares by identity. Attaching again after a change reuses every node that the change does not
  reach: a later stage keeps what it made of a node for as long as the node stays the same.
- A mistake in a resource is a Condition on a node, never an exception. The condition names the field to blame.
- Endpoints are not part of a route: a BackendNode names a `target`, whose addresses may change while the route stays the same.
- Hostnames are lower-case. '' is a listener without a hostname, or any host.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from gwfast.config.model import (
    BackendPolicy,
    BackendTLSPolicy,
    Gateway,
    GatewayClass,
    GatewayParameters,
    GatewayParametersSpec,
    GRPCRouteRule,
    HTTPRouteRule,
    Key,
    Listener,
    ListenerFilter,
    ListenerSet,
    ObjectMeta,
    ParentReference,
    PythonFilter,
    Resource,
    RetryConstraint,
    Route,
    SessionPersistence,
    TCPRouteRule,
    TLSRouteRule,
    UDPRouteRule,
    XBackend,
    XBackendTrafficPolicy,
    XTelemetryPolicy,
)
from gwfast.identity import digest

Status = Literal["True", "False", "Unknown"]  # of a condition
Doubt = Literal["expired", "not_yet_valid", "kept"]  # kept: an earlier version of the Secret serves
POLICY_KINDS = ("BackendTLSPolicy", "XBackendTrafficPolicy", "BackendPolicy")
FILTER_KIND = "PythonFilter"  # has a status as policies have
TELEMETRY_KIND = "XTelemetryPolicy"  # is for Gateways, where POLICY_KINDS are for backends
ROUTES: tuple[type[Route], ...] = get_args(Route)
ROUTE_KINDS = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")


ParametersJudge = Callable[[GatewayParametersSpec | None, GatewayParametersSpec | None], tuple[str, str] | None]


class GraphOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of the operator about attachment, and the filters that this version serves.

    controller_name: '' serves every class (file mode); a name serves the GatewayClasses that carry it (cluster mode).
    gateway: 'name' or 'namespace/name'. parameters_fault: says what is wrong (field, words) with a class's GatewayParameters and
    a Gateway's over them. dns_templates: names to look a Service up by, first one that resolves wins.
    """

    controller_name: str = ""
    gateway_class: str = ""
    gateway: str = ""
    strict_services: bool = False  # a Service that is not among the resources is BackendNotFound, not a DNS name
    dns_templates: tuple[str, ...] = ("{name}.{namespace}", "{name}")
    retry_attempts: int | None = 1  # of a `retry` that does not say how many; None: as many as the gateway likes (API 1.6)
    one_kind_a_host: bool = False  # of an HTTPRoute and a GRPCRoute with a hostname of one listener the older has it (API 1.6)
    own_addresses: bool = False  # every Gateway has addresses of its own: no two meet on a port
    data_plane: bool = False  # of a controller, which has judged parameters and addresses: listeners are where Services lead to
    unusable_addresses: tuple[str, ...] = ()  # addresses that could not be bound
    parameters_fault: ParametersJudge | None = None
    filters_by_class: bool = False  # filters in Python are for Gateways alone whose GatewayParameters allow them; no files
    filters: tuple[str, ...] = (
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS", "RequestMirror",
        "ExternalAuth")


def of_bundle(options: GraphOptions, bundle: str) -> GraphOptions:
    """Return these options as a version of the Gateway API ('1.6.1'; '': ours) has it: up to 1.6 a hostname of a listener was for
    routes of one kind (grpcroute_types.go:126-137), and `retry.attempts` had no default (httproute_types.go)."""
    version = re.match(r"(\d+)\.(\d+)", bundle)
    if version is None or (int(version[1]), int(version[2])) > (1, 6):
        return options
    return msgspec.structs.replace(options, one_kind_a_host=True, retry_attempts=None)


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """Compares and hashes by identity."""


class Condition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A condition of the spec. `field` is the path of the field to blame ('spec.rules[0].backendRefs[1]') where the
    condition says that something is wrong; it is for people and does not enter a cluster's status."""

    type: str
    status: Status
    reason: str
    message: str = ""
    observed_generation: int = 1
    field: str = ""


class Refused(Node, frozen=True):
    """A filter that cannot be resolved or is not served: a request that reaches it is answered with `status`.

    `index` is its place among the filters of the rule or backendRef."""

    index: int
    type: str
    reason: str
    message: str = ""
    status: int = 500


class FilterTarget(Node, frozen=True):
    """Where a filter leads; `index` is its place in the list. The other fields are as those of a BackendNode. A mirror without a
    target is dropped. extension: the filter in Python that an ExtensionRef names; code: the text in its ConfigMap."""

    index: int
    target: str = ""
    passed: str = ""
    traffic: TargetTraffic | None = None
    reason: str = ""
    message: str = ""
    extension: PythonFilter | None = None
    code: str = ""


class TargetTLS(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a BackendTLSPolicy says of TLS to a Service: authorities in PEM or those of the system, the name that is
    asked for, and the names of which the certificate has to have one (none: the one that is asked for)."""

    ca: tuple[bytes, ...] = ()
    system: bool = False
    hostname: str = ""
    sans: tuple[tuple[Literal["Hostname", "URI"], str], ...] = ()
    certificate: Certificate | None = None  # of an XBackend; else the Gateway's own is shown

    @property
    def digest(self) -> str:
        return digest(msgspec.msgpack.encode(self)).hex()


class TargetTraffic(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The retry constraint and the sessions that an XBackendTrafficPolicy, or an XBackend itself, gives to a target."""

    retry: RetryConstraint | None = None
    session: SessionPersistence | None = None


class Passive(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """So many failures in a row put an endpoint out, for `ejection_ms` times how often that happened; never more than
    `percent` of a backend's endpoints, but one."""

    failures: int
    ejection_ms: int
    percent: int


class Active(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A probe, and how many in a row change what is believed. hostname '': the Service's own."""

    type: Literal["HTTP", "TCP", "GRPC"]
    interval_ms: int
    timeout_ms: int
    unhealthy: int
    healthy: int
    method: str = "GET"
    path: str = "/"
    hostname: str = ""
    statuses: tuple[int, ...] = (200,)
    service: str = ""  # of grpc.health.v1


class TargetPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a BackendPolicy, 'namespace/name', says of a target. 0: not asked for."""

    name: str
    passive: Passive | None = None
    active: Active | None = None
    slow_start_ms: int = 0
    parallel: int = 0  # requests at once, of each endpoint
    pending: int = 0
    pending_ms: int = 0


class Target(Node, frozen=True):
    """A port of a Service, or of what stands for one, as a place to send to.

    key: 'namespace/name:port/protocol', and behind '@' the digest of what a BackendTLSPolicy says.
    traffic: may change while the key stays; the rules that lead here say the same (BackendNode).
    protocol: 'http' and 'h2c' are whatever ALPN says and HTTP/2 where there is `tls`, 'ws' is HTTP/1.1.
    source 'slices': `addresses` are (ip, port) of the ready endpoints, `names` (host, port) of those that have to be looked
    up, every one; nothing means 503.
    source 'dns': `hosts` are names to look up, first one that resolves wins, with `host_port`.
    The policy is no part of the key: what is known of the endpoints lives on when it changes.
    """

    namespace: str
    name: str
    port: int
    protocol: Literal["http", "h2c", "ws", "tcp", "udp"] = "http"
    tls: TargetTLS | None = None
    traffic: TargetTraffic | None = None
    policy: TargetPolicy | None = None
    source: Literal["slices", "dns"] = "slices"
    addresses: tuple[tuple[str, int], ...] = ()
    names: tuple[tuple[str, int], ...] = ()
    hosts: tuple[str, ...] = ()
    host_port: int = 0

    @property
    def key(self) -> str:
        key = f"{self.namespace}/{self.name}:{self.port}/{self.protocol}"
        return f"{key}@{self.tls.digest}" if self.tls else key


def over_tls(target: str) -> bool:
    """Return whether the key is that of a target that is spoken to over TLS."""
    return "@" in target


class BackendNode(Node, frozen=True):
    """A backendRef. `target` is a key of Graph.targets; '' when the reference is refused: this share of the
    weight is answered with `status` because of `reason` ('' where not the reference is wrong, but what it leads to).

    passed: the target of TLS that passes through, where that is another one: no BackendTLSPolicy wraps it again."""

    index: int
    weight: int = 1
    target: str = ""
    passed: str = ""
    traffic: TargetTraffic | None = None  # of the target
    status: int = 0  # 0: nothing is wrong
    reason: str = ""
    message: str = ""
    refused: tuple[Refused, ...] = ()  # of its own filters
    filter_targets: tuple[FilterTarget, ...] = ()  # by its own filters


class RuleNode(Node, frozen=True):
    """A rule of a route, `rule` as written (HTTPRouteRule, GRPCRouteRule, ...), with its references resolved.

    `dropped` says why the rule is not served at all ('' if it is); it then must not appear in a plan."""

    index: int
    rule: HTTPRouteRule | GRPCRouteRule | TLSRouteRule | TCPRouteRule | UDPRouteRule
    backends: tuple[BackendNode, ...] = ()
    refused: tuple[Refused, ...] = ()
    filter_targets: tuple[FilterTarget, ...] = ()  # by its own filters
    dropped: str = ""

    def targets(self) -> Iterable[BackendNode | FilterTarget]:
        """Return everything that it leads to: its backends, and where filters lead."""
        filters = self.filter_targets
        for each in self.backends:
            if each.filter_targets:
                filters += each.filter_targets
        return self.backends + filters if filters else self.backends


class ParentNode(Node, frozen=True):
    """A parentRef of a route and what came of it. `listeners` are the ids it attached to: empty unless accepted."""

    index: int
    ref: ParentReference
    gateway: Key
    accepted: bool = False
    listeners: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


class RouteNode(Node, frozen=True):
    """A route. `parents` has the parentRefs that name a Gateway or ListenerSet which is served here, no others."""

    key: Key
    resource: Route
    parents: tuple[ParentNode, ...] = ()
    rules: tuple[RuleNode, ...] = ()

    @property
    def kind(self) -> str:
        return self.key.kind

    @property
    def age(self) -> tuple[float, str]:
        """The spec's tie-break between routes: the older first, then by '{namespace}/{name}'."""
        return age(self.resource.metadata)


class Attachment(Node, frozen=True):
    """A route on a listener with its own hostnames that match there: ('',) where it has none, which is any host."""

    route: RouteNode
    hostnames: tuple[str, ...] = ("",)


class Certificate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A certificate chain and its key, PEM, both checked. `names` are the DNS names that the certificate is for,
    `not_before` and `not_after` are in seconds since the epoch."""

    secret: Key
    chain: bytes
    key: bytes
    names: tuple[str, ...] = ()
    not_before: float = 0
    not_after: float = math.inf

    def __repr__(self) -> str:
        return f"Certificate({self.secret})"


class FrontNode(Node, frozen=True):
    """The filters of a listener with their references resolved, as those of a RuleNode are."""

    filters: tuple[ListenerFilter, ...]
    filter_targets: tuple[FilterTarget, ...] = ()
    refused: tuple[Refused, ...] = ()


class ListenerTLS(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """min_version, ciphers: of the listener's tls.options, '' is the default; client_ca: PEM of every CA that client
    certificates are checked against, () asks for no certificate."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificates: tuple[Certificate, ...] = ()
    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str = ""
    client_ca: tuple[bytes, ...] = ()
    client_mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class ListenerNode(Node, frozen=True):
    """A listener of a Gateway or of a ListenerSet.

    id: 'namespace/gateway/listener' or 'namespace/listenerset/listener'. gateway: who it belongs to in the end.
    addresses: IPs to bind, ('',) is all. accepted: it may take part; routes attach to it whether or not it is.
    target_port: where it listens in a data plane, what the Service of its Gateway leads to: None while nothing does.
    served: it is accepted and programmed, and has a place: only such a listener is planned.
    client_certificate: of its Gateway, what backends that speak TLS are shown.
    attachments: accepted routes, in no order (`route.age` is the spec's).
    shared: an HTTPRoute and a GRPCRoute have a host in common.
    """

    id: str
    name: str
    resource: Listener
    owner: Key
    gateway: Key
    protocol: str
    port: int
    hostname: str = ""
    addresses: tuple[str, ...] = ("",)
    target_port: int | None = 0  # 0: its own, or what --port-map says
    proxy_protocol: bool = False
    accepted: bool = True
    programmed: bool = True
    supported_kinds: tuple[tuple[str, str], ...] = ()  # (group, kind)
    tls: ListenerTLS | None = None
    client_certificate: Certificate | None = None
    front: FrontNode | None = None  # filters of its own
    attachments: Sequence[Attachment] = ()
    shared: bool = False
    conditions: tuple[Condition, ...] = ()

    @property
    def served(self) -> bool:
        return self.accepted and self.programmed and self.target_port is not None

    @property
    def attached_routes(self) -> int:
        return len(self.attachments)


class ListenerSetNode(Node, frozen=True):
    """A ListenerSet whose parent Gateway is served here. accepted: its Gateway allows it and a listener is valid."""

    key: Key
    resource: ListenerSet
    gateway: Key
    accepted: bool = True
    listeners: tuple[str, ...] = ()  # ids; none where the Gateway does not allow the set
    conditions: tuple[Condition, ...] = ()


class GatewayNode(Node, frozen=True):
    """A Gateway that is served here. `listeners` are ids of its own listeners, then of its ListenerSets' in merge
    order."""

    key: Key
    resource: Gateway
    accepted: bool = True
    kept: bool = False  # it is not accepted because of its parameters alone: the data planes that serve it go on doing so
    addresses: tuple[str, ...] = ("",)
    listeners: tuple[str, ...] = ()
    listener_sets: tuple[Key, ...] = ()  # the accepted ones
    parameters: GatewayParameters | None = None  # its own, which stand over those of its class
    conditions: tuple[Condition, ...] = ()


class GatewayClassNode(Node, frozen=True):
    key: Key
    resource: GatewayClass
    parameters: GatewayParameters | None = None
    conditions: tuple[Condition, ...] = ()


class AncestorNode(Node, frozen=True):
    """The conditions of a policy for one Gateway whose routes use its target."""

    gateway: Key
    conditions: tuple[Condition, ...] = ()


class PolicyNode(Node, frozen=True):
    key: Key
    resource: BackendTLSPolicy | XBackendTrafficPolicy | BackendPolicy | PythonFilter | XTelemetryPolicy | XBackend
    accepted: bool = True
    conditions: tuple[Condition, ...] = ()  # the same for every ancestor
    ancestors: tuple[AncestorNode, ...] = ()


class Note(Node, frozen=True):
    """Something to say about a resource that no condition carries."""

    resource: Resource
    field: str
    reason: str
    message: str
    severity: Literal["error", "warning", "note"] = "warning"


class Graph(Node, frozen=True):
    """Everything attached. The mappings are not changed after the graph is handed out; two graphs share what is the
    same in both (gwfast.sharing)."""

    classes: dict[Key, GatewayClassNode]
    gateways: dict[Key, GatewayNode]
    listener_sets: dict[Key, ListenerSetNode]
    listeners: Mapping[str, ListenerNode]  # by id
    routes: Mapping[Key, RouteNode]
    targets: Mapping[str, Target]  # by key
    policies: dict[Key, PolicyNode]
    faulty: tuple[tuple[Resource, tuple[Condition, ...]], ...] = ()  # where a condition says that something is wrong
    troubled: tuple[Key, ...] = ()  # routes of which something is wrong or not served
    notes: tuple[Note, ...] = ()
    idle: str = ""  # why nothing is served
    doubts: dict[Key, Doubt] = {}  # Secrets and ConfigMaps that serve all the same, and why they should not
    turns_at: float = math.inf  # seconds since the epoch: when a certificate begins or ceases to be valid


def age(metadata: ObjectMeta) -> tuple[float, str]:
    """Return what sorts resources the way the spec breaks ties: the oldest first, then '{namespace}/{name}'.

    A resource without a creation time (a file has none) counts as younger than every one that has."""
    created = metadata.creation_timestamp
    return (created.timestamp() if created else math.inf, f"{metadata.namespace}/{metadata.name}")
