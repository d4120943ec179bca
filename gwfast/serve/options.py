"""What the engine in a worker is told once, when it starts (all of it plain data: it crosses a process boundary)."""
from typing import Literal

import msgspec

from gwfast import limits


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes; the defaults and their reasons are in `gwfast.limits`."""

    trusted_proxies: tuple[str, ...] = ()  # CIDRs whose X-Forwarded-* are believed
    via: str = ""  # pseudonym for Via; '' leaves the field out
    request_id: bool = True  # X-Request-Id made where a trusted client sent none
    access_log: Literal["json", "common", "off"] = "off"
    access_log_fd: int = 1
    connections: int = limits.CONNECTIONS  # 0: half of the limit on open files
    connections_per_address: int = 0  # 0: no cap
    head_timeout: float = limits.HEAD_TIMEOUT
    body_timeout: float = limits.BODY_TIMEOUT
    send_timeout: float = limits.SEND_TIMEOUT
    idle_timeout: float = limits.IDLE_TIMEOUT
    connect_timeout: float = limits.CONNECT_TIMEOUT
    response_timeout: float = limits.RESPONSE_TIMEOUT
    upstream_body_timeout: float = limits.UPSTREAM_BODY_TIMEOUT
    tunnel_idle_timeout: float = limits.TUNNEL_IDLE_TIMEOUT
    keepalive_requests: int = limits.KEEPALIVE_REQUESTS
    pool_size: int = limits.POOL_SIZE
    pool_idle: float = limits.POOL_IDLE
    pool_age: float = limits.POOL_AGE
