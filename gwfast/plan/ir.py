"""The plan: what will run, frozen and printable.

    Plan
      binds     address:port -> listeners, each with its own isolated hosts
        Listener  -> hosts, most specific first (exact, then wildcards by length, then any)
          Host      -> entries in the spec's final order
            Entry     one match of one rule
      backends  one per (namespace, service, port, protocol) that any rule names, in the order of their keys
      endpoints where they are now: the only part that changes when a pod comes or goes

A request is served by the most specific listener of its bind alone (isolation, spec 5.3). Within it, every host that
covers the request's name is tried in order (spec 5.1 gives precedence to a hostname, not exclusiveness): the first
entry that matches serves it; none means 404. The hosts of a listener are its routes' own hostnames, not what they have in
common with the listener's: the route whose own hostname is more specific comes first. A connection that is not HTTP is
matched as a request for '/' at the name that its SNI says ('' where there is none): no listener or no entry closes it.

Every object is immutable. Building again after a change reuses each object that did not change (the same
identity), so that whoever turns a plan into a table can keep what it made of it. Sequences that may be long (entries,
hosts, backends, endpoints) are tuples or sharing.LongSequence, which shares its pieces with the one before.

Every hostname and field name is lower-case; every path is normalised as a request's is (absolute, unreserved octets
decoded, no escapes of '/', no dot segments).
"""
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from gwfast.errors import Source
from gwfast.graph.model import TargetPolicy
from gwfast.identity import digest, identity

NOWHERE = Source("", 0)
Mode = Literal["http", "https", "terminate", "passthrough", "tcp", "udp"]  # of a listener
Transport = Literal["http", "tls", "tcp", "udp"]  # of a bind


class _Node(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    pass


class ValueMatch(_Node, frozen=True):
    """A condition on one header or query parameter. `regex` is a full match."""

    name: str
    value: str
    regex: bool = False


class Match(_Node, frozen=True):
    """All of it must hold. path_type: 'Exact', 'PathPrefix' (by element, no trailing '/' except for '/'),
    'RegularExpression' (full match of the normalised path). `index` is its place in the rule's list."""

    path_type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    path: str = "/"
    method: str = ""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    index: int = 0


class HeaderFilter(_Node, frozen=True):
    """RequestHeaderModifier or ResponseHeaderModifier."""

    on: Literal["request", "response"]
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class PathModifier(_Node, frozen=True):
    """type 'ReplaceFullPath' or 'ReplacePrefixMatch'. `prefix` is the rule's matched prefix, filled at run time from
    the entry that matched."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    value: str


class RewriteFilter(_Node, frozen=True):
    """URLRewrite."""

    hostname: str = ""
    path: PathModifier | None = None


class RedirectFilter(_Node, frozen=True):
    """RequestRedirect. Empty or 0 means: derive it from the request and the listener (spec 5.5)."""

    scheme: str = ""
    hostname: str = ""
    path: PathModifier | None = None
    port: int = 0
    status: int = 302


class CorsFilter(_Node, frozen=True):
    """CORS. origins: 'scheme://host[:port]', the host may begin with '*'; ('*',) allows every one. Of methods and headers
    () says nothing, and ('*',) whatever is asked for."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 5


class Certificate(_Node, frozen=True):
    """A chain and its private key, PEM. `names` are the DNS names that it is for, `not_after` is in seconds since the
    epoch. What is printed of it never has the key; `digest` stands for both."""

    chain: bytes
    key: bytes
    names: tuple[str, ...] = ()
    not_after: float = 0.0
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            force_setattr(self, "digest", digest(msgspec.msgpack.encode((self.chain, self.key)), 16).hex())

    def __repr__(self) -> str:
        return f"Certificate({', '.join(self.names) or 'no names'}, {self.digest})"


class ServerTLS(_Node, frozen=True):
    """How a listener ends TLS. ciphers: an OpenSSL list, '' for the default; client_ca: PEM of every authority that
    certificates of clients are checked against, () asks for none; alpn: HTTP, h2 and http/1.1 are offered."""

    certificates: tuple[Certificate, ...] = ()
    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str = ""
    client_ca: tuple[bytes, ...] = ()
    client_mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"
    alpn: bool = True


class BackendTLS(_Node, frozen=True):
    """How a backend is spoken to over TLS. ca: PEM of every authority, `system`: those of the system; hostname: the SNI,
    and the name in its certificate unless there are `sans`, of which one has to be there; certificate: the Gateway's
    own; alpn: what is offered, () for nothing. `id` stands for all of it."""

    ca: tuple[bytes, ...] = ()
    system: bool = False
    hostname: str = ""
    sans: tuple[tuple[Literal["Hostname", "URI"], str], ...] = ()
    certificate: Certificate | None = None
    alpn: tuple[str, ...] = ()
    id: int = 0  # is made of the others

    def __post_init__(self) -> None:
        certificate = self.certificate.digest if self.certificate else ""
        content = (self.ca, self.system, self.hostname, self.sans, certificate, self.alpn)
        force_setattr(self, "id", identity(msgspec.msgpack.encode(content)))


class RetryBudget(_Node, frozen=True):
    """How many of a backend's requests may be retries: `percent` of those of the last `interval`, and `minimum` in each
    `minimum_interval` whatever that comes to. Intervals are in seconds."""

    percent: int
    interval: float
    minimum: int
    minimum_interval: float


class SessionPersistence(_Node, frozen=True):
    """How a session is known by its client. name: of the cookie or header, '' for one that is made up; path: of the cookie;
    absolute_timeout: in seconds, None for none; permanent: the cookie outlives the client's own session."""

    type: Literal["Cookie", "Header"] = "Cookie"
    name: str = ""
    path: str = "/"
    absolute_timeout: float | None = None
    permanent: bool = False


class Backend(_Node, frozen=True):
    """A Service port (or what stands for one). Where its endpoints are is said by the Endpoints of the same `key`, so
    that a rule stays the same object while they come and go. retry_budget: None for the default (limits); session:
    where the rule has none of its own. Neither is a part of the key, since it is the same place whatever is said of it: of
    one key there is one Backend in a plan."""

    namespace: str
    name: str
    port: int
    protocol: Literal["http", "h2c", "ws", "tcp", "udp"] = "http"
    tls: BackendTLS | None = None
    retry_budget: RetryBudget | None = None
    session: SessionPersistence | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}/{self.dialect}"

    @property
    def dialect(self) -> str:
        """The protocol that is spoken with it, and behind '@' the id of its TLS settings."""
        return f"{self.protocol}@{self.tls.id:016x}" if self.tls else self.protocol


class MirrorFilter(_Node, frozen=True):
    """RequestMirror: of every `denominator` requests, `numerator` are sent to this backend too."""

    backend: Backend
    numerator: int = 1
    denominator: int = 1


class AuthorizeFilter(_Node, frozen=True):
    """ExternalAuth over HTTP, or over gRPC (`grpc`). path: in front of the request's; headers: what the authorizer is shown
    besides Host and Authorization (over gRPC: what it is shown, () is all); answers: what of its fields goes on with the
    request, () is all; max_body: how much of a body it is shown."""

    backend: Backend
    grpc: bool = False
    path: str = ""
    headers: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    max_body: int = 0


class ExtensionFilter(_Node, frozen=True):
    """A filter in Python. name: of its resource, 'namespace/name'; module, file (a path) or config_map ('namespace/name key'), of
    which this is the `code`; config: JSON; timeout: seconds; open: a failure lets requests pass; max_body: bytes. `id` stands for
    all of it but the code, which is loaded again where it changes, as a file is."""

    name: str
    module: str = ""
    file: str = ""
    config_map: str = ""
    code: str = ""
    class_name: str = ""
    config: str = "{}"
    timeout: float = 1.0
    open: bool = False
    max_body: int = 65536
    id: int = 0  # is made of the others

    def __post_init__(self) -> None:
        content = (self.name, self.module, self.file, self.config_map, self.class_name, self.config, self.timeout, self.open,
                   self.max_body)
        force_setattr(self, "id", identity(msgspec.msgpack.encode(content)))


class AnswerFilter(_Node, frozen=True):
    """Answer with this status at this place of the chain: a filter that cannot be resolved or is not served."""

    status: int
    reason: str


Filter = (HeaderFilter | RewriteFilter | RedirectFilter | CorsFilter | MirrorFilter | AuthorizeFilter | ExtensionFilter
          | AnswerFilter)


class Endpoints(_Node, frozen=True):
    """Where the endpoints of the backend with this key are. source 'slices': `addresses` are (ip, port) of the ready
    ones, and `names` (host, port) of those to look up, each of them; none means 503. source 'dns': `hosts` are names to
    look up, the first that resolves wins, with `host_port`.
    policy: what a BackendPolicy says of them; it is here because it may change, as they do, while the rules stay."""

    key: str
    source: Literal["slices", "dns"] = "slices"
    addresses: tuple[tuple[str, int], ...] = ()
    names: tuple[tuple[str, int], ...] = ()
    hosts: tuple[str, ...] = ()
    host_port: int = 0
    policy: TargetPolicy | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The names that are looked up."""
        return self.hosts + tuple(host for host, _ in self.names)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send to, and nothing to look up."""
        return not (self.addresses or self.hosts or self.names)


class WeightedBackend(_Node, frozen=True):
    """backend None: this share of the weight is answered with `status` (an invalid reference: 500). A GRPCRoute says
    UNAVAILABLE instead, a connection that is not HTTP is closed."""

    weight: int = 1
    backend: Backend | None = None
    status: int = 500
    filters: tuple[Filter, ...] = ()


class Timeouts(_Node, frozen=True):
    """`timeouts` of a rule, in seconds. None: nothing is said; 0: there is none."""

    request: float | None = None
    backend_request: float | None = None


class Retry(_Node, frozen=True):
    """`retry` of a rule. attempts: after the first one, 0 for none, not even where a connection fails; backoff: in seconds. What
    is not said is None and ()."""

    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff: float | None = None


class Rule(_Node, frozen=True):
    """One rule of one route. `id` is 'HTTPRoute/namespace/name/index', stable over reloads."""

    kind: str
    namespace: str
    route: str
    index: int
    name: str = ""
    filters: tuple[Filter, ...] = ()
    backends: tuple[WeightedBackend, ...] = ()
    timeouts: Timeouts | None = None
    retry: Retry | None = None
    session: SessionPersistence | None = None  # None: that of each backend
    source: Source = NOWHERE  # of the route, for people
    created: str = ""  # creationTimestamp of the route, RFC 3339 in UTC; '' if unknown

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.route}/{self.index}"

    @property
    def known_as(self) -> str:
        """The rule's name in its sessions. A rule that has a `name` keeps its sessions when rules are put in front of it."""
        return f"{self.kind}/{self.namespace}/{self.route}#{self.name}" if self.name else self.id


class Entry(_Node, frozen=True):
    """One match of one rule on one host."""

    match: Match
    rule: Rule


class Host(_Node, frozen=True):
    """hostname: that of the routes, 'a.example', '*.example' (any number of labels) or '' (any). `entries` in the spec's final
    order."""

    hostname: str
    entries: Sequence[Entry] = ()


class Listener(_Node, frozen=True):
    """A listener that accepts traffic. `id` is 'namespace/gateway/listener' ('namespace/listenerset/name' for sets).
    `mode` is what becomes of a connection: 'terminate' and 'passthrough' are those of TLS listeners. tls: None where
    TLS does not end here. front: a rule without backends, whose filters every request passes before an entry is looked for."""

    id: str
    hostname: str = ""
    mode: Mode = "http"
    tls: ServerTLS | None = None
    front: Rule | None = None
    hosts: Sequence[Host] = ()


class Bind(_Node, frozen=True):
    """One address and port to listen on. `address` is an IP or '' for all; `port` is the spec's port (the port map is
    applied where sockets are opened). target_port: where to listen instead, and `gateway`, 'namespace/name', whose alone
    that is: 0 and '' where Gateways share their addresses. `listeners` are most specific first. transport: what clients
    begin with; 'tls' is that of HTTPS and of TLS listeners, which share a port by SNI."""

    address: str
    port: int
    transport: Transport = "http"
    proxy_protocol: bool = False
    gateway: str = ""
    target_port: int = 0
    listeners: tuple[Listener, ...] = ()

    @property
    def key(self) -> str:
        place = f"{'udp' if self.transport == 'udp' else ''}[{self.address}]:{self.port}"
        return f"{place} {self.gateway}:{self.target_port}" if self.target_port else place


class Plan(_Node, frozen=True):
    binds: tuple[Bind, ...] = ()
    backends: Sequence[Backend] = ()
    endpoints: Sequence[Endpoints] = ()  # endpoints[i] are those of backends[i]
    troubled: tuple[Rule, ...] = ()  # rules of which something is wrong (plan.problems)
