"""Reload: one route changed among thousands; the time from the file's change to the first response that shows it."""
import contextlib
import http.client
import os
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from bench.contenders import CONFIG, gateway
from bench.machine import free_port

# Every route answers by itself with a redirect, so that what is served can be read off the Location field.
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route-{n}}}
spec:
  parentRefs: [{{name: bench}}]
  hostnames: [host-{host}.example]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /route/{n}}}}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /{version}}}}}
"""


class Change(msgspec.Struct, frozen=True):
    shape: str
    routes: int
    milliseconds: float


def hostname(n: int) -> str:
    return f"host-{n % 100}.example"


def route(n: int, version: str) -> str:
    return ROUTE.format(n=n, host=n % 100, version=version)


class Files:
    """One route a file."""

    shape = "one file a route"

    def __init__(self, folder: Path, routes: int) -> None:
        self.folder = folder
        for n in range(routes):
            (folder / f"route-{n}.yaml").write_text(route(n, "first"))

    def change(self, n: int, version: str) -> None:
        replace(self.folder / f"route-{n}.yaml", route(n, version))


class Documents:
    """All routes in one file."""

    shape = "one file of all routes"

    def __init__(self, folder: Path, routes: int) -> None:
        self.file = folder / "routes.yaml"
        self.texts = [route(n, "first") for n in range(routes)]
        self.file.write_text("---".join(self.texts))

    def change(self, n: int, version: str) -> None:
        self.texts[n] = route(n, version)
        replace(self.file, "---".join(self.texts))


def replace(file: Path, text: str) -> None:
    """Put a new file in the place of an old one, whole: as editors and deployments do."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    os.replace(new, file)


def location(connection: http.client.HTTPConnection, n: int) -> str:
    connection.request("GET", f"/route/{n}", headers={"Host": hostname(n)})
    response = connection.getresponse()
    response.read()
    return response.getheader("Location") or ""


def served(connection: http.client.HTTPConnection, n: int, version: str, seconds: float = 60) -> float:
    """Wait until route n shows this version; the moment it did."""
    end = time.perf_counter() + seconds
    while not location(connection, n).endswith(f"/{version}"):
        if time.perf_counter() > end:
            raise TimeoutError(f"route {n} did not become {version} within {seconds} s")
        time.sleep(0.0005)
    return time.perf_counter()


def changes(kind: type, routes: int, count: int) -> list[Change]:
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder, port = Path(temporary), free_port()
        (folder / "gateway.yaml").write_text(CONFIG.format(port=port, backend=1))
        writer = kind(folder, routes)
        stack.enter_context(gateway(folder, port))
        connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)))
        found = []
        for i in range(count):
            n = i * routes // count
            writer.change(n, f"version-{i}")
            start = time.perf_counter()
            found.append(Change(kind.shape, routes, (served(connection, n, f"version-{i}") - start) * 1e3))
            time.sleep(0.1)
        return found


def run(routes: int, count: int) -> list[Change]:
    return [change for kind in (Files, Documents) for change in changes(kind, routes, count)]


def table(found: list[Change]) -> str:
    lines = [f"{'':24} {'routes':>7} {'changes':>8} {'median ms':>10} {'max ms':>8}"]
    for shape in dict.fromkeys(change.shape for change in found):
        some = [change.milliseconds for change in found if change.shape == shape]
        lines.append(f"{shape:24} {found[0].routes:7} {len(some):8} {statistics.median(some):10.1f} {max(some):8.1f}")
    return "\n".join(lines)
