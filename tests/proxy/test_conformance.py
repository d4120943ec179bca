"""The conformance suite's own manifests, through a running gateway: each with the requests of conformance_cases.py.

One gateway serves one manifest after another: the folder's file is replaced, which is a reload each time. Every Gateway
gets an address of its own in 127.0.0.0/8 and every Service a backend of its own name.
"""
import json
import re
import socket
from pathlib import Path

import pytest
from support import upstream
import yaml
from conformance_cases import CASES
from support.backend import Backend
from support.gateway import Gateway, free_port, listener, resource, route, until, write
from support.wire import Message, Stream
from support.conformance import holds

MANIFESTS = upstream.folder("conformance")
pytestmark = upstream.needs("conformance")
PORTS = (80, 8080, 8090)
MARKER = "127.0.0.99"  # the address of a Gateway that says which manifest is served


def documents(name: str) -> list[dict]:
    return [d for d in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()) if d]


class Suite:
    """A gateway, its backends, and the manifest it serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in PORTS}
        self.backends: dict[str, Backend] = {}
        self.addresses: dict[str, str] = {}
        self.served = 0
        # Documents that every manifest may refer to; of the Gateways only those that it does refer to.
        base = [d for d in documents("base-manifests") if d["kind"] in ("Namespace", "Service", "Gateway")]
        self.base = [d for d in base if "tls" not in d["metadata"]["name"] and "https" not in d["metadata"]["name"]]
        self.write([])
        port_map = ",".join(f"{a}:{b}" for a, b in self.ports.items())
        self.gateway = Gateway(folder, "--port-map", port_map, "--access-log", "off")

    def serve(self, found: list[dict]) -> None:
        """Put this manifest into the folder and wait until it is served."""
        self.write(found)
        expected = f"http://marker/{self.served}"
        until(lambda: self.ask(MARKER, "GET", "marker", "/", {}).fields.get("Location") == expected)

    def write(self, found: list[dict]) -> None:
        self.served += 1
        self.addresses.clear()
        used = {name for d in found for name in self.parents(d)}
        wanted = [d for d in self.base if d["kind"] != "Gateway" or d["metadata"]["name"] in used]
        here = [self.adapted(d) for d in (*wanted, *found)]
        slices = {d["metadata"]["labels"]["kubernetes.io/service-name"] for d in here if d["kind"] == "EndpointSlice"}
        here += [self.slice(d) for d in here if d["kind"] == "Service" and d["metadata"]["name"] not in slices]
        marker = {"type": "RequestRedirect", "requestRedirect": {
            "path": {"type": "ReplaceFullPath", "replaceFullPath": f"/{self.served}"}}}
        write(self.folder, "all.yaml", *here, resource("Gateway", "marker", {
            "gatewayClassName": "gwfast", "listeners": [listener(80)],
            "addresses": [{"type": "IPAddress", "value": MARKER}]}),
            route("marker", {"filters": [marker]}, parent="marker"))

    def parents(self, document: dict) -> list[str]:
        spec = document.get("spec", {})
        return [ref["name"] for ref in (*spec.get("parentRefs", ()), spec.get("parentRef", {"name": ""}))]

    def backend(self, name: str) -> Backend:
        return self.backends.setdefault(name, Backend(name))

    def adapted(self, document: dict) -> dict:
        """The document for this machine: addresses on loopback, endpoints that are ours."""
        name = document["metadata"]["name"]
        if document["kind"] == "Gateway":
            address = self.addresses.setdefault(name, f"127.0.0.{10 + len(self.addresses)}")
            document["spec"] |= {"gatewayClassName": "gwfast", "addresses": [{"type": "IPAddress", "value": address}]}
        if document["kind"] == "EndpointSlice" and document["addressType"] == "IPv4":
            backend = self.backend(document["metadata"]["labels"]["kubernetes.io/service-name"])
            document["ports"][0]["port"] = backend.port
            document["endpoints"] = [{"addresses": [backend.address]}]
        return document

    def slice(self, service: dict) -> dict:
        name, backend = service["metadata"]["name"], self.backend(service["metadata"]["name"])
        ports = [{"name": port.get("name", ""), "port": backend.port} for port in service["spec"]["ports"]]
        return {**resource("EndpointSlice", f"{name}-ours", api="discovery.k8s.io/v1",
                           namespace=service["metadata"]["namespace"], labels={"kubernetes.io/service-name": name}),
                "addressType": "IPv4", "ports": ports, "endpoints": [{"addresses": [backend.address]}]}

    def ask(self, address: str, method: str, host: str, target: str, fields: dict, port: int = 80) -> Message:
        stream = Stream(socket.create_connection((address, self.ports[port]), 10))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        stream.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n".encode())
        response = stream.response(method)
        stream.close()
        return response


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance") / "conf"
    folder.mkdir()
    suite = Suite(folder)
    yield suite
    suite.gateway.stop()
    for backend in suite.backends.values():
        backend.close()
        assert not backend.dirty


LINE = re.compile(r"(?:([A-Z]+) )?(?:@(\S+) )?([^\s/]*)(/\S*)((?: +[^ :]+:\S*)*) +-> +(\S+)(.*)")


def lines(text: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip()]


def check(suite: Suite, line: str) -> str:
    """Send a line's request; '' or what is different from what the line says."""
    match = LINE.fullmatch(line)
    assert match, f"not a case: {line}"
    method, gateway, host, target, fields, outcome, checks = match.groups()
    address = suite.addresses[gateway] if gateway else next(iter(suite.addresses.values()))
    port = int(host.rpartition(":")[2]) if re.search(r":(80|8080|8090)$", host) else 80
    port = 8080 if gateway and gateway.endswith("8080") else port
    pairs = dict(field.split(":", 1) for field in fields.split())
    response = suite.ask(address, method or "GET", host or "any.example", target, pairs, port)
    got = json.loads(response.body) if response.fields.get("X-Backend") else None
    wrong = [] if outcome in (str(response.status), short(got)) else [f"{response.status} {short(got)}"]
    wrong += [check for check in checks.split() if not holds(check, got or {}, response)]
    return f"{line}\n    got {' '.join(wrong)} in {response.raw.decode()}{got}" if wrong else ""


def short(got: dict | None) -> str:
    """The backend's name as the table writes it."""
    return got["backend"].removeprefix("infra-backend-") if got else ""


@pytest.mark.parametrize("manifest", CASES)
def test_conformance(suite: Suite, manifest: str) -> None:
    found = documents(manifest)
    suite.serve(found)
    wrong = []
    for line in lines(CASES[manifest]):
        if line.startswith("without "):
            found = [d for d in found if d["kind"] != line.split()[1]]
            suite.serve(found)
        else:
            wrong.append(check(suite, line))
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_weights(suite: Suite) -> None:
    """70 : 30 : 0 is exact, not only near it."""
    suite.serve(documents("httproute-weight"))
    address = next(iter(suite.addresses.values()))
    got = [short(json.loads(suite.ask(address, "GET", "any.example", "/", {}).body)) for _ in range(100)]
    assert (got.count("v1"), got.count("v2"), got.count("v3")) == (70, 30, 0)


def test_backend_filter_goes_with_its_backend(suite: Suite) -> None:
    suite.serve(documents("httproute-request-header-modifier-backend-weights"))
    address = next(iter(suite.addresses.values()))
    for _ in range(20):
        got = json.loads(suite.ask(address, "GET", "any.example", "/", {}).body)
        assert ["backend", got["backend"]] in [[name.lower(), value] for name, value in got["fields"]]


def copies(suite: Suite, *names: str) -> dict[str, list]:
    """What backends got, by their names as the table writes them."""
    return {name: [request for request in suite.backend(f"infra-backend-{name}").requests if request.target != "/marker"]
            for name in names}


@pytest.mark.parametrize("manifest, mirrors", [("httproute-request-mirror", ["v2"]),
                                               ("httproute-request-multiple-mirrors", ["v2", "v3"])])
def test_mirrors_get_what_the_backend_gets(suite: Suite, manifest: str, mirrors: list[str]) -> None:
    """Each rule of the manifest; the same request line, Host and fields."""
    suite.serve(documents(manifest))
    address = next(iter(suite.addresses.values()))
    paths = [match["path"]["value"] for d in documents(manifest) for rule in d["spec"]["rules"] for match in rule["matches"]]
    assert len(paths) > 1
    for path in paths:
        for backend in suite.backends.values():
            backend.requests.clear()
        response = suite.ask(address, "GET", "any.example", path, {"X-Header-Remove": "v", "X-Header-Add": "v"})
        assert response.status == 200, response.raw
        until(lambda: all(copies(suite, *mirrors).values()))
        original, = copies(suite, "v1")["v1"]
        for copy, in copies(suite, *mirrors).values():
            assert (copy.target, [*copy.fields]) == (original.target, [*original.fields])


def test_a_percentage_is_mirrored(suite: Suite) -> None:
    suite.serve(documents("httproute-request-percentage-mirror"))
    address = next(iter(suite.addresses.values()))
    rules = [rule for d in documents("httproute-request-percentage-mirror") for rule in d["spec"]["rules"]]
    assert rules
    for rule in rules:
        for backend in suite.backends.values():
            backend.requests.clear()
        mirror, = [one["requestMirror"] for one in rule["filters"] if one["type"] == "RequestMirror"]
        fraction = mirror.get("fraction", {})
        share = mirror.get("percent", 100 * fraction.get("numerator", 1) / fraction.get("denominator", 100))
        for _ in range(100):
            assert suite.ask(address, "GET", "any.example", rule["matches"][0]["path"]["value"], {}).status == 200
        until(lambda share=share: len(copies(suite, "v2")["v2"]) == share)
        assert len(copies(suite, "v1")["v1"]) == 100
