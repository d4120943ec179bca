"""Prometheus text from the workers' counters and the supervisor's own numbers.

Labels are bounded: routes by the counter slots (those beyond share one), the rest by tables.
"""
import platform
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gwfast import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGES = {"connections_open", "udp_sessions_open", "requests_open", "requests_waiting", "upstream_open", "upstream_idle",
          "table_generation"}
HELP = {
    "connections": "Client connections accepted.",
    "connections_open": "Client connections open now.",
    "connections_refused": "Client connections closed because of a cap.",
    "requests": "Requests read, also those that no route took.",
    "requests_open": "Requests in flight.",
    "requests_waiting": "Those that wait for an endpoint to take one more (BackendPolicy).",
    "requests_waited": "Requests that waited so.",
    "bytes_in": "Bytes of request bodies.",
    "bytes_out": "Bytes of response bodies.",
    "upstream_connects": "Connections opened to backends.",
    "upstream_connect_errors": "Connections to backends that failed.",
    "upstream_reused": "Requests sent on a pooled connection.",
    "upstream_retries": "Requests sent again.",
    "upstream_open": "Connections to backends open now.",
    "upstream_idle": "Connections to backends idle in a pool.",
    "endpoint_ejections": "Times that an endpoint was put out because it failed (BackendPolicy).",
    "tunnels": "Upgraded connections.",
    "tls_handshakes": "TLS handshakes with clients that were completed.",
    "tls_resumed": "Those that resumed a session.",
    "tls_failures": "TLS handshakes with clients that failed.",
    "upstream_tls_handshakes": "TLS handshakes with backends that were completed.",
    "upstream_tls_resumed": "Those that resumed a session.",
    "http2_connections": "HTTP/2 connections of clients.",
    "http2_resets": "HTTP/2 streams that clients reset.",
    "http2_floods": "HTTP/2 connections ended because their clients asked for too much (ENHANCE_YOUR_CALM).",
    "udp_sessions": "UDP sessions, each a client's address.",
    "udp_sessions_open": "UDP sessions open now.",
    "udp_evicted": "UDP sessions that ended early for a newer one.",
    "udp_moved": "UDP sessions that ended because their clients belong to another endpoint now.",
    "log_dropped": "Access log lines dropped because nobody read them.",
    "messages_dropped": "Lines of the program's own log and of filters in Python dropped because nobody read them.",
    "table_generation": "The oldest table that a worker serves.",
    "tables_swapped": "Tables taken over by workers.",
    "bugs": "Requests ended by a bug of gwfast.",
    "drains": "Times that an engine took the events that waited.",
    "events": "Events that it took.",
}


class Stats(msgspec.Struct):
    """What the supervisor counts itself. Times in seconds (Unix time where `_at`)."""

    workers: int = 0
    workers_running: int = 0
    worker_restarts: int = 0
    workers_stuck: int = 0
    worker_hangs: int = 0
    messages_dropped: int = 0
    ready: bool = False
    generation: int = 0
    reloads: int = 0
    reload_failures: int = 0
    reload_seconds: float = 0.0  # the last
    reload_at: float = 0.0  # the last that succeeded
    image_bytes: int = 0
    credentials_bytes: int = 0
    images_refused: int = 0
    entries: int = 0
    config_unreadable: int = 0  # files and folders
    ports_failed: int = 0
    backends_unresolved: int = 0  # their names resolve to nothing
    backends_without_endpoints: int = 0  # for whatever reason
    supervisor_bugs: int = 0
    problems: dict[str, int] = {}
    certificates: dict[tuple[str, str], float] = {}  # when those of (namespace, Secret) expire
    certificate_doubts: dict[str, int] = {}  # Secrets and ConfigMaps that serve all the same, by why they should not


def render(counters: dict, stats: Stats, health: Mapping[str, Any] = MappingProxyType({}),
           probes: Mapping[str, int] = MappingProxyType({})) -> bytes:
    """Render one scrape. counters: as `RouteCounts.read` gives them; health: endpoints.health.Standing by backend; probes:
    their number by result."""
    lines: list[str] = []
    totals = counters["global"]
    _globals(lines, totals | {"messages_dropped": totals.get("messages_dropped", 0) + stats.messages_dropped})
    _family(lines, "faults_total", "counter", "Requests that failed, by the word of the access log.",
            ((f'{{fault="{_escape(word)}"}}', n) for word, n in counters.get("faults", {}).items()))
    _family(lines, "mirror_requests_total", "counter", "Copies of requests for mirrors, by what became of them.", (
        (f'{{result="{word}"}}', n) for word, n in counters.get("mirrors", {}).items()))
    _family(lines, "backend_endpoints", "gauge", "Endpoints of the backends that a BackendPolicy watches.",
            ((f'{{backend="{_escape(key)}"}}', each.endpoints) for key, each in health.items()))
    _family(lines, "backend_endpoints_healthy", "gauge", "Those of them that are not out.",
            ((f'{{backend="{_escape(key)}"}}', each.healthy) for key, each in health.items()))
    _family(lines, "endpoint_probes_total", "counter", "Probes of endpoints (BackendPolicy), by what became of them.",
            ((f'{{result="{word}"}}', n) for word, n in probes.items()))
    _family(lines, "tls_failure_reasons_total", "counter", "Beginnings of TLS by clients that came to nothing, by the reason.", (
        (f'{{reason="{word}"}}', n) for word, n in counters.get("handshakes", {}).items()))
    _routes(lines, counters)
    _filters(lines, counters.get("filters", {}))
    _own(lines, stats)
    return ("\n".join(lines) + "\n").encode()


def _globals(lines: list[str], totals: dict[str, int]) -> None:
    for name, n in totals.items():
        kind = "gauge" if name in GAUGES else "counter"
        suffix = "" if kind == "gauge" else "_total"
        _family(lines, name + suffix, kind, HELP.get(name, name.replace("_", " ")), [("", n)])


def _routes(lines: list[str], counters: dict) -> None:
    routes = [(_labels(*name), row) for name, row in sorted(counters["routes"].items())]
    _family(lines, "route_requests_total", "counter", "Requests by route and class of status.", (
        (f'{{{labels},code="{code}"}}', row[code])
        for labels, row in routes for code in ("1xx", "2xx", "3xx", "4xx", "5xx", "none") if row.get(code)))
    for name in ("bytes_in", "bytes_out"):
        _family(lines, f"route_{name}_total", "counter", HELP[name][:-1] + ", by route.",
                ((f"{{{labels}}}", row[name]) for labels, row in routes))
    _family(lines, "route_duration_seconds", "histogram",
            "From a request's first byte to the end of its response.",
            _histograms(routes, counters["buckets_us"]))


def _histograms(routes, bounds_us: Iterable[int]):
    bounds = [f"{bound / 1e6:g}" for bound in bounds_us] + ["+Inf"]
    for labels, row in routes:
        total = 0
        for bound, n in zip(bounds, row["buckets"], strict=True):
            total += n
            yield f'_bucket{{{labels},le="{bound}"}}', total
        yield f"_sum{{{labels}}}", row["duration_us"] / 1e6
        yield f"_count{{{labels}}}", total


def _filters(lines: list[str], filters: Mapping[str, Mapping[str, int]]) -> None:
    rows = [(_escape(name or "other filters"), row) for name, row in sorted(filters.items())]
    _family(lines, "python_filter_requests_total", "counter", "Requests that filters in Python were shown.",
            ((f'{{filter="{name}"}}', row["requests"]) for name, row in rows))
    _family(lines, "python_filter_unloaded", "gauge", "Workers where the last load of a filter in Python failed.",
            ((f'{{filter="{name}"}}', row["unloaded"]) for name, row in rows))
    _family(lines, "python_filter_failures_total", "counter", "What went wrong with filters in Python, by the reason.",
            ((f'{{filter="{name}",reason="{reason}"}}', n) for name, row in rows for reason, n in row.items()
             if reason not in ("requests", "unloaded")))


def _own(lines: list[str], stats: Stats) -> None:
    for name, kind, text in (
        ("workers", "gauge", "Workers that there should be."),
        ("workers_running", "gauge", "Workers that serve a table and answer."),
        ("worker_restarts", "counter", "Workers started again after they died."),
        ("workers_stuck", "gauge", "Workers that do not answer: their event loops have not turned for a second."),
        ("worker_hangs", "counter", "Times that a worker did not answer for a second."),
        ("ready", "gauge", "Whether /readyz says yes."),
        ("generation", "gauge", "The number of the table published last."),
        ("reloads", "counter", "Configurations that became a table."),
        ("reload_failures", "counter", "Configurations that did not."),
        ("reload_seconds", "gauge", "How long the last reload took."),
        ("reload_at", "gauge", "When the last successful reload ended, in Unix time."),
        ("image_bytes", "gauge", "Size of the table."),
        ("credentials_bytes", "gauge", "Size of the certificates and keys beside it."),
        ("images_refused", "counter", "Tables that a worker refused."),
        ("entries", "gauge", "Matches of rules in the table, counted on each host."),
        ("config_unreadable", "gauge", "Files and folders of the configuration that cannot be read; what they held serves on."),
        ("ports_failed", "gauge", "Ports that cannot be listened on."),
        ("backends_unresolved", "gauge", "Backends whose names resolve to nothing."),
        ("backends_without_endpoints", "gauge", "Backends that nothing can be sent to, whatever the reason is."),
        ("supervisor_bugs", "counter", "Errors of the supervisor that should not happen."),
    ):
        suffix = "_total" if kind == "counter" else ""
        _family(lines, name + suffix, kind, text, [("", getattr(stats, name))])
    _family(lines, "problems", "gauge", "Problems of the configuration now, by severity.",
            ((f'{{severity="{severity}"}}', stats.problems.get(severity, 0))
             for severity in ("error", "warning", "note")))
    _family(lines, "certificates_in_doubt", "gauge", "Secrets and ConfigMaps that serve although they should not: what they hold "
            "has expired, is not valid yet, or is broken or gone and what was there before is kept.",
            ((f'{{reason="{reason}"}}', stats.certificate_doubts.get(reason, 0))
             for reason in ("expired", "not_yet_valid", "kept")))
    _family(lines, "certificate_expiry_timestamp_seconds", "gauge",
            "When certificates expire, in Unix time, those that do so first.",
            ((f'{{namespace="{_escape(namespace)}",secret="{_escape(name)}"}}', expiry)
             for (namespace, name), expiry in stats.certificates.items()))
    _family(lines, "build_info", "gauge", "What runs.", [
        (f'{{version="{_escape(__version__)}",python="{platform.python_version()}"}}', 1)])


def _family(lines: list[str], name: str, kind: str, text: str, samples) -> None:
    lines.append(f"# HELP gwfast_{name} {text}")
    lines.append(f"# TYPE gwfast_{name} {kind}")
    lines.extend(f"gwfast_{name}{labels} {value + 0}" for labels, value in samples)


def _labels(kind: str, route: str) -> str:
    return f'kind="{_escape(kind)}",route="{_escape(route)}"'


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
