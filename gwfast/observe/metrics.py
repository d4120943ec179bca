"""Prometheus text from the workers' counters and the supervisor's own numbers.

Labels are bounded: routes by the counter slots (those beyond share one), the rest by tables.
"""
import platform
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gwfast import __version__
from gwfast.observe.processes import Process

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGES = {"connections_open", "udp_sessions_open", "requests_open", "requests_waiting", "upstream_open", "upstream_idle",
          "table_generation"}
HELP = {
    "connections": "Connections of clients that were accepted.",
    "connections_open": "Connections of clients that are open now.",
    "connections_refused": "Connections of clients closed at once because of --connections or --connections-per-address.",
    "requests": "HTTP requests that were read, those included that no route took or that were refused.",
    "requests_open": "HTTP requests that are being served now.",
    "requests_waiting": "Requests that wait now for an endpoint to take one more (circuitBreaker of a BackendPolicy).",
    "requests_waited": "Requests that ever waited for an endpoint to take one more (circuitBreaker of a BackendPolicy).",
    "bytes_in": "Bytes of request bodies, and from clients on connections that are passed on.",
    "bytes_out": "Bytes of response bodies, and to clients on connections that are passed on.",
    "upstream_connects": "Connections to backends that were begun.",
    "upstream_connect_errors": "Connections to backends that could not be opened.",
    "upstream_reused": "Requests that were sent to a backend on a connection that was open already.",
    "upstream_retries": "Requests that were sent to a backend once more after a failure.",
    "upstream_open": "Connections to backends that are open now.",
    "upstream_idle": "Connections to backends that are open now and serve no request.",
    "endpoint_ejections": "Times that an endpoint was put out because it failed (healthCheck.passive of a BackendPolicy).",
    "tunnels": "Connections that became tunnels: WebSockets, other upgrades, and those of TCPRoutes and TLSRoutes.",
    "tls_handshakes": "TLS handshakes with clients that were completed.",
    "tls_resumed": "TLS handshakes with clients that resumed a session.",
    "tls_failures": "TLS handshakes with clients that failed.",
    "upstream_tls_handshakes": "TLS handshakes with backends that were completed.",
    "upstream_tls_resumed": "TLS handshakes with backends that resumed a session.",
    "http2_connections": "Connections of clients that spoke HTTP/2.",
    "http2_resets": "HTTP/2 streams that clients reset.",
    "http2_floods": "HTTP/2 connections of clients that were ended because they asked for too much (ENHANCE_YOUR_CALM).",
    "udp_sessions": "UDP sessions that were begun, each of one client's address and port.",
    "udp_sessions_open": "UDP sessions that are open now.",
    "udp_evicted": "UDP sessions that ended early because there were too many, for a newer one.",
    "udp_moved": "UDP sessions that ended because what their clients send belongs to another endpoint now.",
    "log_dropped": "Lines of the access log that were dropped because nobody read them.",
    "messages_dropped": "Lines of the program's own log and of filters in Python that were dropped because nobody read them.",
    "table_generation": "Number of the oldest routing table that a worker serves; gwfast_generation once all are up to date.",
    "tables_swapped": "Routing tables that workers took over, counted in each worker.",
    "bugs": "Requests that were ended by a bug of gwfast.",
    "drains": "Times that a worker's event loop took the events that waited.",
    "events": "Events of sockets and timers that workers' event loops took.",
}


# As Prometheus' client libraries name them.
PROCESS = (
    ("cpu_seconds_total", "counter", "User and system CPU time spent, in seconds"),
    ("resident_memory_bytes", "gauge", "Resident memory, what it shares with others included, in bytes"),
    ("virtual_memory_bytes", "gauge", "Virtual memory, in bytes"),
    ("open_fds", "gauge", "Open file descriptors"),
    ("max_fds", "gauge", "File descriptors that may be open at most"),
    ("start_time_seconds", "gauge", "Start time, in seconds since the Unix epoch"),
)


Family = tuple[str, str, str, list[tuple[str, float]]]  # name, type, help; labels in braces (or '') and value of each


class Stats(msgspec.Struct):
    """What the supervisor counts itself. Times in seconds, Unix time where the name says timestamp."""

    workers: int = 0
    workers_running: int = 0
    worker_restarts: int = 0
    workers_stuck: int = 0
    worker_hangs: int = 0
    connections_passed_on: int = 0
    messages_dropped: int = 0
    ready: bool = False
    generation: int = 0
    reloads: int = 0
    reload_failures: int = 0
    rounds_failed: int = 0  # of them, those that made no table at all
    reload_seconds: float = 0.0  # the last
    reload_timestamp_seconds: float = 0.0  # the last that succeeded
    image_bytes: int = 0
    credentials_bytes: int = 0
    images_refused: int = 0
    entries: int = 0
    config_unreadable: int = 0  # files and folders
    routes_uncounted: int = 0
    backends_uncounted: int = 0
    ports_failed: int = 0
    backends_unresolved: int = 0  # their names resolve to nothing
    backends_without_endpoints: int = 0  # for whatever reason
    supervisor_bugs: int = 0
    problems: dict[str, int] = {}
    certificates: dict[tuple[str, str], float] = {}  # when those of (namespace, Secret) expire
    certificate_doubts: dict[str, int] = {}  # Secrets and ConfigMaps that serve all the same, by why they should not


def render(counters: dict, stats: Stats, health: Mapping[str, Any] = MappingProxyType({}),
           probes: Mapping[str, int] = MappingProxyType({}), processes: Mapping[str, Process] = MappingProxyType({}),
           more: Iterable[tuple[str, str, str, float]] = (), families: Iterable[Family] = ()) -> bytes:
    """Render one scrape. counters: as `RouteCounts.read` gives them; health: endpoints.health.Standing by backend; probes:
    their number by result; processes: of the gateway, by what each is; more: name, type, help and value of what others count;
    families: the same with labels."""
    lines: list[str] = []
    totals = counters["global"]
    _globals(lines, totals | {"messages_dropped": totals.get("messages_dropped", 0) + stats.messages_dropped})
    _family(lines, "faults_total", "counter",
            "Requests and connections that failed, by the word that the access log has in flags.",
            ((f'{{fault="{_escape(word)}"}}', n) for word, n in counters.get("faults", {}).items()))
    _family(lines, "mirror_requests_total", "counter", "Copies of requests for mirrors, by what became of them.", (
        (f'{{result="{word}"}}', n) for word, n in counters.get("mirrors", {}).items()))
    _family(lines, "backend_endpoints", "gauge", "Endpoints of a backend whose health a BackendPolicy watches.",
            ((f'{{backend="{_escape(key)}"}}', each.endpoints) for key, each in health.items()))
    _family(lines, "backend_endpoints_healthy", "gauge",
            "Endpoints of a backend whose health a BackendPolicy watches, without those that are out or unhealthy now.",
            ((f'{{backend="{_escape(key)}"}}', each.healthy) for key, each in health.items()))
    _family(lines, "endpoint_probes_total", "counter",
            "Probes of endpoints (healthCheck.active of a BackendPolicy), by what became of them.",
            ((f'{{result="{word}"}}', n) for word, n in probes.items()))
    _family(lines, "tls_failure_reasons_total", "counter", "Beginnings of TLS by clients that came to nothing, by the reason.", (
        (f'{{reason="{word}"}}', n) for word, n in counters.get("handshakes", {}).items()))
    _routes(lines, counters)
    _backends(lines, counters)
    _filters(lines, counters.get("filters", {}))
    _own(lines, stats)
    for name, kind, text, value in more:
        _family(lines, name, kind, text, [("", value)])
    for family in families:
        _family(lines, *family)
    _processes(lines, processes)
    return ("\n".join(lines) + "\n").encode()


def text_of(families: Iterable[Family]) -> str:
    """Return families as lines of text."""
    lines: list[str] = []
    for family in families:
        _family(lines, *family)
    return "".join(f"{line}\n" for line in lines)


def _globals(lines: list[str], totals: dict[str, int]) -> None:
    for name, n in totals.items():
        kind = "gauge" if name in GAUGES else "counter"
        suffix = "" if kind == "gauge" else "_total"
        _family(lines, name + suffix, kind, HELP.get(name, f"What workers count as {name}."), [("", n)])


def _routes(lines: list[str], counters: dict) -> None:
    routes = [(_labels(*name), row) for name, row in sorted(counters["routes"].items())]
    _classes(lines, "route_requests_total",
             "Requests of a route by class of status; none: what has no status, as connections.", routes)
    for name, text in (("bytes_in", "Bytes of request bodies, by route."), ("bytes_out", "Bytes of response bodies, by route.")):
        _family(lines, f"route_{name}_total", "counter", text, ((f"{{{labels}}}", row[name]) for labels, row in routes))
    _family(lines, "route_duration_seconds", "histogram",
            "Time from the first byte of a request to the end of its response, or that a connection lasted, by route.",
            _histograms(routes, counters["buckets_us"]))


def _backends(lines: list[str], counters: dict) -> None:
    backends = [(f'backend="{_escape(name)}"', row) for name, row in sorted(counters.get("backends", {}).items())]
    _classes(lines, "backend_requests_total", "Requests that were for a backend, by class of the status that the client got; "
             "none: what has no status, as connections.", backends)
    _family(lines, "backend_response_seconds", "histogram",
            "Time from the first byte of a request to the head of its backend's response, all attempts included, by backend.",
            _histograms(backends, counters["buckets_us"]))


def _classes(lines: list[str], name: str, text: str, rows: list[tuple[str, dict]]) -> None:
    _family(lines, name, "counter", text, (
        (f'{{{labels},code="{code}"}}', row[code])
        for labels, row in rows for code in ("1xx", "2xx", "3xx", "4xx", "5xx", "none") if row.get(code)))


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
    _family(lines, "python_filter_requests_total", "counter", "Requests that a filter in Python was shown.",
            ((f'{{filter="{name}"}}', row["requests"]) for name, row in rows))
    _family(lines, "python_filter_unloaded", "gauge", "Workers where the last load of a filter in Python failed.",
            ((f'{{filter="{name}"}}', row["unloaded"]) for name, row in rows))
    _family(lines, "python_filter_failures_total", "counter", "What went wrong with a filter in Python, by the reason.",
            ((f'{{filter="{name}",reason="{reason}"}}', n) for name, row in rows for reason, n in row.items()
             if reason not in ("requests", "unloaded")))


def _own(lines: list[str], stats: Stats) -> None:
    for name, kind, text in (
        ("workers", "gauge", "Worker processes that there should be."),
        ("workers_running", "gauge", "Worker processes that serve a routing table and answer."),
        ("worker_restarts", "counter", "Worker processes that were started again after they died."),
        ("workers_stuck", "gauge", "Worker processes that do not answer: their event loops have not turned for a second."),
        ("worker_hangs", "counter", "Times that a worker process did not answer for a second."),
        ("connections_passed_on", "counter", "Connections that waited for a worker process that did not answer, and that others "
         "were given."),
        ("ready", "gauge", "Whether the gateway is ready, as /readyz on the admin port says: 1 or 0."),
        ("generation", "gauge", "Number of the routing table that was published last."),
        ("reloads", "counter", "Changes of the configuration that became a routing table."),
        ("reload_failures", "counter", "Files and folders of the configuration that could not be read, decoded or taken when "
         "they were looked at, and changes that did not become a routing table."),
        ("reload_seconds", "gauge", "How long the last reload of the configuration took, in seconds."),
        ("reload_timestamp_seconds", "gauge", "When the last reload of the configuration that succeeded ended, in seconds "
         "since the Unix epoch."),
        ("image_bytes", "gauge", "Size of the routing table, in bytes."),
        ("credentials_bytes", "gauge", "Size of the certificates and keys that workers have, in bytes."),
        ("images_refused", "counter", "Routing tables that a worker refused."),
        ("entries", "gauge", "Matches of rules in the routing table, counted on each host that they serve."),
        ("config_unreadable", "gauge", "Files and folders of the configuration that cannot be read; what they held serves on."),
        ("routes_uncounted", "gauge",
         "Routes that have no metrics of their own and are counted as route \"other\" (--route-metrics)."),
        ("backends_uncounted", "gauge", "Backends that have no metrics of their own and are counted as \"other backends\"."),
        ("ports_failed", "gauge", "Ports of listeners that cannot be listened on."),
        ("backends_unresolved", "gauge", "Backends that are looked up in DNS and whose names resolve to nothing."),
        ("backends_without_endpoints", "gauge", "Backends that nothing can be sent to, whatever the reason is."),
        ("supervisor_bugs", "counter", "Errors of the supervisor that should not happen; its log has their tracebacks."),
    ):
        suffix = "_total" if kind == "counter" else ""
        _family(lines, name + suffix, kind, text, [("", getattr(stats, name))])
    _family(lines, "problems", "gauge", "Problems that the configuration has now, by severity.",
            ((f'{{severity="{severity}"}}', stats.problems.get(severity, 0))
             for severity in ("error", "warning", "note")))
    _family(lines, "certificates_in_doubt", "gauge", "Secrets and ConfigMaps that serve although they should not: what they hold "
            "has expired, is not valid yet, or is broken or gone and what was there before is kept.",
            ((f'{{reason="{reason}"}}', stats.certificate_doubts.get(reason, 0))
             for reason in ("expired", "not_yet_valid", "kept")))
    _family(lines, "certificate_expiry_timestamp_seconds", "gauge",
            "When a certificate expires, in seconds since the Unix epoch; of those that expire first.",
            ((f'{{namespace="{_escape(namespace)}",secret="{_escape(name)}"}}', expiry)
             for (namespace, name), expiry in stats.certificates.items()))
    _family(lines, "build_info", "gauge", "Version of gwfast, and of the Python that runs it; always 1.", [
        (f'{{version="{_escape(__version__)}",python="{platform.python_version()}"}}', 1)])


def _processes(lines: list[str], processes: Mapping[str, Process]) -> None:
    for name, kind, text in PROCESS:
        field = name.removesuffix("_total")
        _family(lines, f"process_{name}", kind, f"{text}, by process of the gateway.",
                ((f'{{process="{_escape(process)}"}}', getattr(each, field)) for process, each in processes.items()), prefix="")


def _family(lines: list[str], name: str, kind: str, text: str, samples, prefix: str = "gwfast_") -> None:
    lines.append(f"# HELP {prefix}{name} {text}")
    lines.append(f"# TYPE {prefix}{name} {kind}")
    lines.extend(f"{prefix}{name}{labels} {value + 0}" for labels, value in samples)


def _labels(kind: str, route: str) -> str:
    return f'kind="{_escape(kind)}",route="{_escape(route)}"'


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
