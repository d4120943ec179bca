"""Who is measured: each contender is started with one worker on one core, forwarding everything to one backend.

All of them keep connections alive on both sides, write no access log and add the same X-Forwarded fields (the floor
parses nothing and so adds nothing).
"""
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.machine import children, free_port, running, until

HERE = Path(__file__).parent


class Contender(msgspec.Struct, frozen=True):
    """A running proxy: `workers` carry traffic, `others` (supervisor, master) do not."""

    name: str
    port: int
    workers: list[int]
    others: list[int]
    version: str = ""


def compiled(name: str, directory: Path) -> str:
    """Compile bench/NAME.c; the path of the program."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return str(program)


def answers(port: int, path: str = "/") -> bool:
    """One plain request is answered with 200."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


@contextlib.contextmanager
def backend(directory: Path, core: int | None = None) -> Iterator[int]:
    """The benchmarks' backend; its port."""
    port = free_port()
    with running([compiled("backend", directory), str(port)], core):
        until(lambda: answers(port))
        yield port


@contextlib.contextmanager
def floor(directory: Path, backend_port: int, core: int | None) -> Iterator[Contender]:
    port = free_port()
    with running([compiled("floor", directory), str(port), str(backend_port)], core) as process:
        until(lambda: answers(port))
        yield Contender("floor", port, [process.pid], [])


NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.err;
events {{ worker_connections 10240; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    keepalive_requests 10000000;
    upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 10000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(directory: Path, backend_port: int, core: int | None) -> Iterator[Contender]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if not program:
        raise FileNotFoundError("nginx is not installed")
    port = free_port()
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, backend=backend_port, port=port))
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    with running([program, "-p", str(directory), "-e", str(directory / "nginx.err"), "-c", str(file)], core) as process:
        until(lambda: answers(port))
        yield Contender("nginx", port, children(process.pid), [process.pid], version)


CONFIG = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: bench}}
spec:
  gatewayClassName: gwfast
  addresses: [{{value: 127.0.0.1}}]
  listeners: [{{name: web, protocol: HTTP, port: {port}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: backend}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: backend-1, labels: {{kubernetes.io/service-name: backend}}}}
addressType: IPv4
ports: [{{port: {backend}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: bench}}
spec:
  parentRefs: [{{name: bench}}]
  rules:
  - backendRefs: [{{name: backend, port: 80}}]
"""


@contextlib.contextmanager
def gateway(directory: Path, port: int, core: int | None = None, *options: str) -> Iterator[Contender]:
    """gwfast on a folder of configuration; ready when /readyz says so."""
    import gwfast
    admin = free_port()
    command = [sys.executable, "-m", "gwfast", "run", str(directory), "--workers", "1", "--access-log", "off",
               "--admin", f"127.0.0.1:{admin}", *options]
    with running(command, core) as process:
        until(lambda: answers(admin, "/readyz"), 120)
        yield Contender("gwfast", port, [pid for pid in children(process.pid) if is_worker(pid)],
                        [process.pid], gwfast.__version__)


def is_worker(pid: int) -> bool:
    """A child that serves: Python's own helpers (the resource tracker) are no workers."""
    return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.contextmanager
def gwfast(directory: Path, backend_port: int, core: int | None) -> Iterator[Contender]:
    port = free_port()
    folder = directory / "gwfast"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(CONFIG.format(port=port, backend=backend_port))
    with gateway(folder, port, core) as contender:
        yield contender


CONTENDERS: dict[str, Callable] = {"floor": floor, "nginx": nginx, "gwfast": gwfast}
