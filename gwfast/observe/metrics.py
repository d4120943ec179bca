"""Prometheus text from the workers' counters and the supervisor's own numbers.

Labels are bounded: routes by the counter slots (those beyond share one), the rest by tables.
"""
import platform
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gwfast import __version__
from gwfast.observe.families import GATEWAY, PROCESS, Described
from gwfast.observe.processes import Process

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


# What the supervisor counts itself, in the order in which it is shown: fields of Stats.
OWN = ("workers", "workers_running", "worker_restarts_total", "workers_stuck", "worker_hangs_total",
       "connections_passed_on_total", "ready", "generation", "reloads_total", "reload_failures_total", "reload_seconds",
       "reload_timestamp_seconds", "image_bytes", "credentials_bytes", "images_refused_total", "entries",
       "config_unreadable", "routes_uncounted", "backends_uncounted", "ports_failed", "backends_unresolved",
       "backends_without_endpoints", "supervisor_bugs_total")
Family = tuple[str, list[tuple[str, float]]]  # a name of observe.families; labels in braces (or '') and value of each


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
           more: Iterable[tuple[str, float]] = (), families: Iterable[Family] = ()) -> bytes:
    """Render one scrape. counters: as `RouteCounts.read` gives them; health: endpoints.health.Standing by backend; probes:
    their number by result; processes: of the gateway, by what each is; more: name and value of what others count;
    families: the same with labels."""
    lines: list[str] = []
    totals = counters["global"]
    _globals(lines, totals | {"messages_dropped": totals.get("messages_dropped", 0) + stats.messages_dropped})
    _by(lines, "faults_total", "fault", counters.get("faults", {}).items())
    _by(lines, "mirror_requests_total", "result", counters.get("mirrors", {}).items())
    _by(lines, "backend_endpoints", "backend", ((key, each.endpoints) for key, each in health.items()))
    _by(lines, "backend_endpoints_healthy", "backend", ((key, each.healthy) for key, each in health.items()))
    _by(lines, "endpoint_probes_total", "result", probes.items())
    _by(lines, "tls_failure_reasons_total", "reason", counters.get("handshakes", {}).items())
    _routes(lines, counters)
    _backends(lines, counters)
    _filters(lines, counters.get("filters", {}))
    _own(lines, stats)
    for name, value in more:
        _family(lines, name, [("", value)])
    for name, samples in families:
        _family(lines, name, samples)
    _processes(lines, processes)
    return ("\n".join(lines) + "\n").encode()


def text_of(families: Iterable[Family], processes: Mapping[str, Process] = MappingProxyType({}),
            described: Described = GATEWAY) -> str:
    """Return families, and those of processes, as lines of text."""
    lines: list[str] = []
    for name, samples in families:
        _family(lines, name, samples, described)
    _processes(lines, processes)
    return "".join(f"{line}\n" for line in lines)


def _globals(lines: list[str], totals: dict[str, int]) -> None:
    for name, n in totals.items():
        _family(lines, name if name in GATEWAY else f"{name}_total", [("", n)])


def _routes(lines: list[str], counters: dict) -> None:
    routes = [(_labels(*name), row) for name, row in sorted(counters["routes"].items())]
    _classes(lines, "route_requests_total", routes)
    for name in ("bytes_in", "bytes_out"):
        _family(lines, f"route_{name}_total", ((f"{{{labels}}}", row[name]) for labels, row in routes))
    _family(lines, "route_duration_seconds", _histograms(routes, counters["buckets_us"]))


def _backends(lines: list[str], counters: dict) -> None:
    backends = [(f'backend="{_escape(name)}"', row) for name, row in sorted(counters.get("backends", {}).items())]
    _classes(lines, "backend_requests_total", backends)
    _family(lines, "backend_response_seconds", _histograms(backends, counters["buckets_us"]))


def _classes(lines: list[str], name: str, rows: list[tuple[str, dict]]) -> None:
    _family(lines, name, (
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
    _family(lines, "python_filter_requests_total", ((f'{{filter="{name}"}}', row["requests"]) for name, row in rows))
    _family(lines, "python_filter_unloaded", ((f'{{filter="{name}"}}', row["unloaded"]) for name, row in rows))
    _family(lines, "python_filter_failures_total", (
        (f'{{filter="{name}",reason="{reason}"}}', n) for name, row in rows for reason, n in row.items()
        if reason not in ("requests", "unloaded")))


def _own(lines: list[str], stats: Stats) -> None:
    for name in OWN:
        _family(lines, name, [("", getattr(stats, name.removesuffix("_total")))])
    _by(lines, "problems", "severity", ((severity, stats.problems.get(severity, 0)) for severity in ("error", "warning", "note")))
    _by(lines, "certificates_in_doubt", "reason", (
        (reason, stats.certificate_doubts.get(reason, 0)) for reason in ("expired", "not_yet_valid", "kept")))
    _family(lines, "certificate_expiry_timestamp_seconds", (
        (f'{{namespace="{_escape(namespace)}",secret="{_escape(name)}"}}', expiry)
        for (namespace, name), expiry in stats.certificates.items()))
    _family(lines, "build_info", [(f'{{version="{_escape(__version__)}",python="{platform.python_version()}"}}', 1)])


def _processes(lines: list[str], processes: Mapping[str, Process]) -> None:
    for name in PROCESS if processes else ():
        field = name.removeprefix("process_").removesuffix("_total")
        _family(lines, name, ((f'{{process="{_escape(process)}"}}', getattr(each, field)) for process, each in processes.items()),
                PROCESS, prefix="")


def _by(lines: list[str], name: str, label: str, values: Iterable[tuple[str, float]]) -> None:
    """Render a family with one label."""
    _family(lines, name, ((f'{{{label}="{_escape(value)}"}}', n) for value, n in values))


def _family(lines: list[str], name: str, samples: Iterable[tuple[str, float]], described: Described = GATEWAY,
            prefix: str = "gwfast_") -> None:
    kind, _, text = described.get(name) or ("counter", "", f"What workers count as {name}.")
    lines.append(f"# HELP {prefix}{name} {text}")
    lines.append(f"# TYPE {prefix}{name} {kind}")
    lines.extend(f"{prefix}{name}{labels} {value + 0}" for labels, value in samples)


def _labels(kind: str, route: str) -> str:
    return f'kind="{_escape(kind)}",route="{_escape(route)}"'


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
