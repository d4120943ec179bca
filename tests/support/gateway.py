"""A real `gwfast run` on a folder of its own, and the resources that the tests put there."""
import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import yaml
from support.backend import Backend
from support.ports import free_port
from support.waiting import PATIENCE, until  # noqa: F401 - who has a gateway waits for it
from support.wire import TIMEOUT, Message, Stream

API = "gateway.networking.k8s.io/v1"
INSTALLED = os.environ.get("GWFAST_PROGRAM")  # ci/package tests what people install
PROGRAM = [INSTALLED] if INSTALLED else [sys.executable, "-m", "gwfast"]


def resource(kind: str, name: str, spec: dict | None = None, api: str = API, namespace: str = "", **more) -> dict:
    """A resource; `more` are metadata."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **more}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **({"spec": spec} if spec else {})}


def gateway(*listeners: dict | int, name: str = "gw", **spec) -> dict:
    """A Gateway on 127.0.0.1; an int is a plain HTTP listener on that port."""
    full = [listener(one) if isinstance(one, int) else one for one in listeners]
    return resource("Gateway", name, {"gatewayClassName": "gwfast", "listeners": full,
                                      "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}], **spec})


def listener(port: int, name: str = "", **more) -> dict:
    return {"name": name or f"http-{port}", "protocol": "HTTP", "port": port, **more}


def service(name: str, *backends: Backend, namespace: str = "") -> list[dict]:
    """A Service on port 80 and one EndpointSlice for each backend (their ports differ)."""
    label = {"kubernetes.io/service-name": name}
    slices = [{**resource("EndpointSlice", f"{name}-{n}", api="discovery.k8s.io/v1", namespace=namespace, labels=label),
               "addressType": "IPv6" if ":" in backend.address else "IPv4", "ports": [{"port": backend.port}],
               "endpoints": [{"addresses": [backend.address]}]} for n, backend in enumerate(backends)]
    return [resource("Service", name, {"ports": [{"port": 80}]}, "v1", namespace), *slices]


def route(name: str, *rules: dict, parent: str = "gw", namespace: str = "", **spec) -> dict:
    return resource("HTTPRoute", name, {"parentRefs": [{"name": parent}], "rules": list(rules), **spec},
                    namespace=namespace)


def rule(*backends: str | dict, path: str = "", exact: str = "", regex: str = "", filters: list | None = None,
         **match) -> dict:
    """A rule with at most one match. A backend is the name of a Service on port 80 or a whole backendRef."""
    kind, value = next(((k, v) for k, v in (("Exact", exact), ("RegularExpression", regex)) if v), ("PathPrefix", path))
    if value:
        match["path"] = {"type": kind, "value": value}
    refs = [{"name": b, "port": 80} if isinstance(b, str) else b for b in backends]
    return {**({"matches": [match]} if match else {}), **({"filters": filters} if filters else {}), "backendRefs": refs}


class Gateway:
    """A running gateway. `port` is its first listener's; its output goes to files in the folder's parent."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None, ready: bool = True, serves: bool = True,
                 program: list[str] = PROGRAM) -> None:
        """serves: wait until it serves something; else, until it has a table at least, as one has that is told to serve later."""
        self.folder = folder
        self.ended = False
        self.admin = free_port()
        self.out, self.err = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.err"
        command = [*program, "run", str(folder), "--admin", f"127.0.0.1:{self.admin}", *options]
        if "--workers" not in options:
            command += ["--workers", "1"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env={**os.environ, **(env or {})})
        if ready:
            try:
                until(self.ready if serves else self.begun)
            except AssertionError as late:
                self.kill()
                raise AssertionError(f"{late}\n{self.errors()}") from None

    def __repr__(self) -> str:
        return f"<Gateway {self.folder}>"

    @functools.cached_property
    def port(self) -> int:
        for file in sorted(self.folder.iterdir()):
            for document in yaml.safe_load_all(file.read_text()):
                if document and document["kind"] == "Gateway":
                    return document["spec"]["listeners"][0]["port"]
        raise LookupError("no Gateway in the folder")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.errors()
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def begun(self) -> bool:
        return self.process.poll() is None and "table serves" in self.errors()

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a request to the admin port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Samples of /metrics: 'name{labels}' -> value."""
        lines = [line for line in self.ask("/metrics")[1].splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def errors(self) -> str:
        return self.err.read_text()

    def log(self) -> list[dict]:
        """The access log's lines so far (JSON)."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return [pid for pid in children(self.process.pid) if comm(pid) == "gwfast-worker"]

    def connect(self, port: int | None = None) -> Stream:
        return Stream(socket.create_connection(("127.0.0.1", port or self.port), TIMEOUT))

    def get(self, target: str = "/", host: str = "any.example", method: str = "GET", port: int | None = None,
            body: bytes = b"", **fields: str) -> Message:
        """One request on a connection of its own. Names of fields: x_test is X-Test."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        lines += f"Content-Length: {len(body)}\r\n" if body else ""
        stream = self.connect(port)
        try:
            stream.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode() + body)
            return stream.response(method)
        finally:
            stream.close()

    def send(self, data: bytes, port: int | None = None) -> bytes:
        """Everything that comes back for these bytes until the gateway closes the connection."""
        stream = self.connect(port)
        try:
            stream.send(data)
            return stream.rest()
        finally:
            stream.close()

    def write(self, name: str, *documents: dict | list) -> None:
        """Put a file in place whole, so that it is never seen half written."""
        write(self.folder, name, *documents)

    def serves(self, target: str, status: int = 200, **more) -> Message:
        """Wait until a request is answered with this status."""
        def asked():
            answer = self.get(target, **more)
            return answer.status == status and answer
        return until(asked)

    def kill(self) -> None:
        """End everything at once."""
        self.ended = True
        for pid in (self.process.pid, *self.workers()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, expected: int | None = 0) -> None:
        """End it and hold what must always hold: it ends by itself, with this status, and printed no traceback."""
        self.ended = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end after SIGTERM:\n{self.errors()}") from None
        assert expected is None or status == expected, self.errors()
        for unwanted in ("Traceback", "AddressSanitizer", "runtime error:", "Segmentation"):
            assert unwanted not in self.errors(), self.errors()


def write(folder: Path, name: str, *documents: dict | list) -> None:
    flat = [one for some in documents for one in (some if isinstance(some, list) else [some])]
    new = folder.parent / f".{folder.name}.{name}.new"
    new.write_text(yaml.safe_dump_all(flat))
    os.replace(new, folder / name)


def children(pid: int) -> list[int]:
    """All processes below one; those that end meanwhile are left out."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    except OSError:
        pass
    return found


def comm(pid: int) -> str:
    """The name of a process, '' if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """There is such a process and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
