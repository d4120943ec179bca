"""What all contenders are told: a folder of Gateway API resources, as gwfast reads it, and the plan that gwfast makes of
it, from which the configuration of every other one is written.

    World(folder)            gateway.json     one Gateway: HTTP on the spec's port 80, or HTTPS on 443 and a Secret
      .backends({...})       services.json    a Service and an EndpointSlice for each name, with its ports on 127.0.0.1
      .routes([...])         routes-0.json    HTTPRoutes (or a GRPCRoute), `per_file` in each file
      .plan()                                 the plan of what the files say now; costs what changed
      .log                                    the files as they were written, one after the other

Each contender listens on a port of its own in the place of 80 or 443.
"""
import base64
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from bench.wire import CLEAR, Wire, certificate
from gwfast.plan.ir import Plan
from gwfast.serve.files import Files
from gwfast.serve.generation import Pipeline
from gwfast.serve.options import ServeOptions

GATEWAY, DISCOVERY = "gateway.networking.k8s.io/v1", "discovery.k8s.io/v1"
Resource = dict[str, Any]


def resource(api: str, kind: str, name: str, **rest: Any) -> Resource:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "bench", **rest.pop("metadata", {})},
            **rest}


def gateway(wire: Wire = CLEAR, sets: bool = False) -> list[Resource]:
    """The Gateway, and over TLS its Secret; `sets`: ListenerSets of its namespace may join it."""
    listener: Resource = {"name": "web", "protocol": "HTTPS" if wire.tls else "HTTP", "port": wire.port}
    spec = {"gatewayClassName": "gwfast", "listeners": [listener]}
    if sets:
        spec["allowedListeners"] = {"namespaces": {"from": "Same"}}
    made = [resource(GATEWAY, "Gateway", "bench", spec=spec)]
    if wire.tls:
        listener["tls"] = {"certificateRefs": [{"name": "bench"}]}
        chain, key = (base64.b64encode(each).decode() for each in certificate())
        made.append(resource("v1", "Secret", "bench", type="kubernetes.io/tls", data={"tls.crt": chain, "tls.key": key}))
    return made


def listener_set(number: int, hostname: str) -> Resource:
    return resource(GATEWAY, "ListenerSet", f"set-{number}", spec={
        "parentRef": {"name": "bench"},
        "listeners": [{"name": "web", "protocol": "HTTP", "port": 80, "hostname": hostname}]})


def service(name: str, ports: Iterable[int], h2c: bool = False) -> list[Resource]:
    """A Service and where its endpoints are. `h2c`: they speak HTTP/2."""
    port = {"name": "web", "port": 80} | ({"appProtocol": "kubernetes.io/h2c"} if h2c else {})
    return [resource("v1", "Service", name, spec={"ports": [port]})] + [
        resource(DISCOVERY, "EndpointSlice", f"{name}-{port}", addressType="IPv4",
                 metadata={"labels": {"kubernetes.io/service-name": name}},
                 ports=[{"name": "web", "port": port}], endpoints=[{"addresses": ["127.0.0.1"]}]) for port in ports]


def route(name: str, to: str, match: dict | None = None, hostname: str = "", parent: dict | None = None,
          **more: Any) -> Resource:
    """An HTTPRoute with one rule; no match: everything. `more`: fields of the rule."""
    rule = {"backendRefs": [{"name": to, "port": 80}], **more}
    if match:
        rule["matches"] = [match]
    spec = {"parentRefs": [parent or {"name": "bench"}], "rules": [rule]}
    if hostname:
        spec["hostnames"] = [hostname]
    return resource(GATEWAY, "HTTPRoute", name, spec=spec)


def calls(name: str, to: str, service: str) -> Resource:
    """A GRPCRoute for every method of one service."""
    rule = {"matches": [{"method": {"service": service}}], "backendRefs": [{"name": to, "port": 80}]}
    return resource(GATEWAY, "GRPCRoute", name, spec={"parentRefs": [{"name": "bench"}], "rules": [rule]})


def prefix(path: str) -> dict:
    return {"path": {"type": "PathPrefix", "value": path}}


def header(name: str, value: str) -> dict:
    return {"headers": [{"name": name, "value": value}]}


class World:
    """The folder."""

    def __init__(self, folder: Path, routes: Iterable[Resource], services: dict[str, list[int]],
                 listener_sets: Iterable[Resource] = (), wire: Wire = CLEAR) -> None:
        self.folder, self.wire = folder, wire
        self.log: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        sets = list(listener_sets)
        self._write("gateway", [*gateway(wire, bool(sets)), *sets])
        self.services(services)
        self._routes = list(routes)
        self._per_file = 1 if len(self._routes) <= 5000 else 100
        for start in range(0, len(self._routes), self._per_file):
            self._write_routes(start)
        self._pipeline: Pipeline | None = None
        self._changed: set[str] | None = None

    def services(self, services: dict[str, list[int]]) -> None:
        self._write("services", [each for name, ports in services.items() for each in service(name, ports, self.wire.grpc)])

    def put(self, number: int, route: Resource) -> None:
        """Put a route into the place of another, or behind the last."""
        self._routes[number:number + 1] = [route]
        self._write_routes(number - number % self._per_file)

    def __len__(self) -> int:
        return len(self._routes)

    def plan(self) -> Plan:
        """The plan of what the files say now. ValueError where something in them is wrong."""
        if self._pipeline is None:
            self._pipeline = Pipeline(Files((str(self.folder),)), ServeOptions())
        reading = self._pipeline.read(self._changed)
        self._changed = set()
        if reading.unreadable:
            raise ValueError(reading.unreadable[:3])
        return reading.plan

    def _write_routes(self, start: int) -> None:
        self._write(f"routes-{start // self._per_file}", self._routes[start:start + self._per_file])

    def _write(self, name: str, resources: list[Resource]) -> None:
        """Put a new file in the place of the old one, whole: as editors and deployments do."""
        file, new = self.folder / f"{name}.json", self.folder / f".{name}.new"
        new.write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": resources}))
        os.replace(new, file)
        self.log.append(file)
        if getattr(self, "_changed", None) is not None:
            self._changed.add(str(file))
