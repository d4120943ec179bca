"""What the engine in a worker is told once, when it starts (all of it plain data: it crosses a process boundary)."""
from typing import Literal

import msgspec

from gwfast import limits

CONTROLLER_NAME = "gwfast.dev/gateway-controller"
TOKEN_FILE, CA_FILE = "/var/run/secrets/gwfast.dev/token", "/var/run/secrets/gwfast.dev/ca.crt"


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes; the defaults and their reasons are in `gwfast.limits`."""

    trusted_proxies: tuple[str, ...] = ()  # CIDRs whose X-Forwarded-* are believed
    forward_client_cert: bool = False  # X-Forwarded-Client-Cert says which certificate a client showed
    via: str = ""  # pseudonym for Via; '' leaves the field out
    session_key: bytes = b""  # of the tokens of sessions, 32 bytes; without it one that lasts as long as the gateway
    request_id: bool = True  # X-Request-Id made where a trusted client sent none
    access_log: Literal["json", "common", "off"] = "off"
    access_log_fd: int = 1
    connections: int = limits.CONNECTIONS  # 0: half of the limit on open files
    connections_per_address: int = 0  # 0: no cap
    max_header_bytes: int = limits.HEAD_BYTES
    max_field_bytes: int = limits.FIELD_BYTES
    max_fields: int = limits.FIELD_COUNT
    head_timeout: float = limits.HEAD_TIMEOUT
    body_timeout: float = limits.BODY_TIMEOUT
    send_timeout: float = limits.SEND_TIMEOUT
    idle_timeout: float = limits.IDLE_TIMEOUT
    connect_timeout: float = limits.CONNECT_TIMEOUT
    response_timeout: float = limits.RESPONSE_TIMEOUT
    stream_idle_timeout: float = limits.STREAM_IDLE_TIMEOUT  # 0: none
    tunnel_idle_timeout: float = limits.TUNNEL_IDLE_TIMEOUT
    tcp_idle_timeout: float = limits.TCP_IDLE_TIMEOUT
    udp_idle_timeout: float = limits.UDP_IDLE_TIMEOUT
    keepalive_requests: int = limits.KEEPALIVE_REQUESTS
    pool_size: int = limits.POOL_SIZE
    pool_idle: float = limits.POOL_IDLE
    pool_age: float = limits.POOL_AGE


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `gwfast run` was told. `port_map` maps the spec's ports to real ones (0: one that is free)."""

    paths: tuple[str, ...] = ()
    kubernetes: bool = False  # a cluster's API server is read, reached as kubeconfig and context say
    kubeconfig: str = ""
    context: str = ""
    watch_namespaces: tuple[str, ...] = ()  # none: all
    controller_name: str = CONTROLLER_NAME  # of the GatewayClasses of a cluster that are served
    status: bool = True  # it is written, by the replica that leads
    election: bool = True
    election_lease: tuple[str, str] = ("", "")  # namespace and name: the Pod's, and one that follows from the controller's name
    publish_service: tuple[str, str] | None = None  # whose addresses Gateways have that name none
    publish_addresses: tuple[str, ...] = ()
    controller: str = ""  # URL of the controller that says what to serve
    token_file: str = TOKEN_FILE  # what is shown to it
    ca_file: str = CA_FILE  # what it is believed by
    state_dir: str = ""  # of its last good copy
    workers: int = 1
    admin: tuple[str, int] = ("127.0.0.1", 9000)
    gateway: str = ""  # 'name' or 'namespace/name'; '': every Gateway
    gateway_class: str = ""  # '': any
    port_map: dict[int, int] = {}
    bind: str = ""  # address instead of all, for Gateways without addresses
    backlog: int = 65535  # the kernel lowers it to net.core.somaxconn
    watch: bool = True
    drain_timeout: float = limits.DRAIN_TIMEOUT
    worker_timeout: float = limits.WORKER_TIMEOUT  # 0: a worker that does not answer is never killed
    upgrade_timeout: float = limits.UPGRADE_TIMEOUT
    pid_file: str = ""
    dns_templates: tuple[str, ...] = ("{name}.{namespace}", "{name}")
    dns_refresh: float = 5.0
    route_metrics: int = limits.ROUTES_SHOWN  # routes with metrics of their own; those beyond share a slot
    log_format: Literal["json", "text"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    engine: EngineOptions = EngineOptions()
