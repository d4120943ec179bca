"""A Kubernetes of its own on this machine, for tests, benchmarks and `make cluster`: up in 4 to 7 s, gone without a trace.

    with Cluster() as cluster:                              # or start() and stop(); many may run side by side
        cluster.install_crds()                              # the Gateway API's, experimental; and deploy/crds
        cluster.apply(yaml_text)                            # kubectl apply -f -; apply(path) too
        cluster.kubectl("get", "pods", "-A")                # its output; raises Failed with what it said
        cluster.get("Gateway", "my-gateway", "default")     # an object as a dict, None where there is none
        cluster.wait_for(lambda: cluster.condition("Gateway", "my-gateway", "Programmed") == "True")
        cluster.comes_to(lambda: cluster.condition("Gateway", "my-gateway", "Programmed"), "True")     # says what it was instead
        gateway = cluster.run([sys.executable, "-m", "gwfast", "run", "--kubernetes", ...])   # on the node, with KUBECONFIG
        cluster.http("10.244.240.1", 80, "/path")           # Response(status, headers, body)
        with cluster.connect("10.96.0.1", 443) as connection: ...
        cluster.apiserver.kill(); cluster.apiserver.start(); cluster.apiserver.freeze(); cluster.apiserver.thaw()
        cluster.cut_watches()

etcd, the API server and the controller manager are the real ones (binaries.py); node/ stands for everything else, and says what it
can. Pods are reached at their addresses, Services at their cluster, external and load balancers' addresses, from `run`, `connect` and
`http` alike; all of it is inside a sandbox (sandbox.py), which nothing leaves. `api` is a client of the API server for
what kubectl is too slow for. Standard library, PyYAML and cryptography; import it with this folder on sys.path. Needs what
`binaries.missing()` asks for.
"""
import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

import binaries
import credentials
from kubeapi import Api, ApiError
from node.network import NODE_IP, NODE_NETWORK
from sandbox import Process, Sandbox

PROJECT = Path(__file__).parents[2]
API_PORT, KUBELET_PORT = 6443, 10250
SERVICES = "10.96.0.0/16"
CONTROLLERS = (
    "namespace-controller", "deployment-controller", "replicaset-controller", "daemonset-controller", "statefulset-controller",
    "job-controller", "endpointslice-controller", "endpoints-controller", "garbage-collector-controller", "serviceaccount-controller",
    "root-ca-certificate-publisher-controller", "disruption-controller", "horizontal-pod-autoscaler-controller",
    "clusterrole-aggregation-controller", "validatingadmissionpolicy-status-controller")
STATE = "gwfast-cluster-"
FROZEN = float(os.environ.get("GWFAST_FROZEN", "15"))  # seconds that tests keep the API server from answering, on open connections
START_SECONDS = 120.0  # on a machine that is busy with other things
WAIT_SECONDS = 60.0  # a deadline on such a machine, too: what happens takes a second or two
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Failed(Exception):
    """What kubectl, or a part of the cluster, said when it could not."""


# In what a test waits for: not yet. An object, or a part of it, is not there; or who has to answer is not.
NOT_YET = (OSError, ApiError, Failed, LookupError, TypeError, AttributeError)


class Response(NamedTuple):
    """An answer: `headers` has the last field of each name, in lower case."""
    status: int
    headers: dict[str, str]
    body: bytes


class Part:
    """A program of the cluster, which may be killed, frozen and started again with the same arguments and data."""

    def __init__(self, cluster: "Cluster", name: str, argv: list[str], ready: Callable[[], bool], env: Mapping[str, str] | None = None):
        self.name, self.argv, self.process = name, argv, None
        self._cluster, self._ready, self._env = cluster, ready, env

    def start(self, wait: bool = True) -> None:
        self.process = self._cluster.sandbox.run(self.argv, env=self._env, cwd=self._cluster.state, log=self.log)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once it answers. Raises Failed with the end of its log where it ends or stays silent."""
        end = time.monotonic() + seconds
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"{self.name} did not start ({self.process}):\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it with SIGKILL: nothing is told to anybody."""
        self.process.thaw()
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay, and nobody answers."""
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def mend(self) -> None:
        """Let it run, whatever a test has done to it."""
        self.process.thaw()
        if self.process.poll() is not None:
            self.start()

    @property
    def log(self) -> Path:
        return self._cluster.state / f"{self.name}.log"


class Cluster:
    """One cluster. `images` are [(regular expression, {"entrypoint": [...], ...})] before the usual ones (node/images.py), `hosts`
    names that its DNS knows besides, `etcd`, `apiserver` and `controllers` more arguments for those programs."""

    def __init__(self, *, authorization: str = "RBAC", images: Sequence[tuple[str, dict]] = (), hosts: Mapping[str, str] | None = None,
                 etcd: Sequence[str] = (), apiserver: Sequence[str] = (), controllers: Sequence[str] = (), keep: Path | None = None):
        if why := binaries.missing():
            raise Failed(why)
        self._keep = keep
        self.state = keep or state_folder()
        self.state.mkdir(parents=True, exist_ok=True)
        self.pki, self.kubeconfig = self.state / "pki", self.state / "kubeconfig"
        self.sandbox = Sandbox(NODE_NETWORK)
        self.api: Api | None = None
        self.etcd = Part(self, "etcd", etcd_arguments(self.state, etcd), self._etcd_ready)
        self.apiserver = Part(self, "kube-apiserver", apiserver_arguments(self.pki, authorization, apiserver), self._apiserver_ready)
        self.controllers = Part(self, "kube-controller-manager", controller_arguments(self, controllers), self._controllers_ready)
        node = [sys.executable, "-m", "node", "--state", str(self.state), "--programs", str(binaries.folder()),
                "--images", json.dumps(list(images)), "--hosts", json.dumps(dict(hosts or {}))]
        self.node = Part(self, "node", node, self._node_ready, os.environ | {"PYTHONPATH": str(Path(__file__).parent)})

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.etcd, self.apiserver, self.controllers, self.node

    def start(self) -> None:
        """Start everything; return once the node and the default ServiceAccount are there."""
        self.token = credentials.issue(self.pki, ("localhost", "127.0.0.1", NODE_IP, "10.96.0.1", "kubernetes", "kubernetes.default",
                                                  "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"))
        credentials.write_kubeconfig(self.kubeconfig, f"https://127.0.0.1:{API_PORT}", self.pki)
        context = ssl.create_default_context(cafile=self.pki / "ca.crt")
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        self.api = Api("127.0.0.1", API_PORT, context, connect=self.sandbox.connect)
        self.sandbox.start()
        for part in self.parts:
            part.start(wait=part is self.etcd)
        for part in self.parts[1:]:
            part.wait_ready()

    def stop(self) -> None:
        """End everything at once, Pods and programs of `run` too, and remove what was written."""
        if self.api:
            self.api.close_all()
        self.sandbox.stop()
        if not self._keep:
            shutil.rmtree(self.state, ignore_errors=True)

    def mend(self) -> None:
        """Let every part run, whatever a test has done to it, and return once all answer."""
        for part in self.parts:
            part.mend()
        for part in self.parts:
            part.wait_ready()

    # ---- objects

    def kubectl(self, *arguments: str | os.PathLike, text: str | None = None, check: bool = True, seconds: float = 120.0) -> str:
        """Return what kubectl writes; `text` is its standard input. Raises Failed."""
        argv = self.sandbox.command([binaries.program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments])
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds, env=self.environment)
        if check and done.returncode:
            raise Failed(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, what: str | Path, *arguments: str) -> str:
        """kubectl apply of a text, file or folder."""
        if isinstance(what, Path):
            return self.kubectl("apply", "-f", what, *arguments)
        return self.kubectl("apply", "-f", "-", *arguments, text=what)

    def create(self, *things: dict, connections: int = 1) -> None:
        """Create objects as fast as the API server takes them: in order, or over several connections in any."""
        if connections == 1:
            for thing in things:
                self._create(thing)
            return
        with ThreadPoolExecutor(connections) as threads:
            list(threads.map(self._create, things))

    def _create(self, thing: dict) -> None:
        kind = thing["kind"] + (f".{group}" if (group := thing["apiVersion"].rpartition("/")[0]) else "")
        self.api.create(self.api.path(kind, thing["metadata"].get("namespace", "default")), thing)

    def get(self, kind: str, name: str, namespace: str = "default") -> dict | None:
        try:
            return self.api.get(self.api.path(kind, namespace, name))
        except ApiError as problem:
            if problem.code != 404:
                raise
            return None

    def objects(self, kind: str, namespace: str = "") -> list[dict]:
        return self.api.get(self.api.path(kind, namespace))["items"]

    def condition(self, kind: str, name: str, condition: str, namespace: str = "default") -> str:
        """Return the status of one of an object's own conditions: True, False, Unknown, or '' where there is none."""
        thing = self.get(kind, name, namespace) or {}
        found = [one for one in thing.get("status", {}).get("conditions") or () if one["type"] == condition]
        return found[0]["status"] if found else ""

    def install_crds(self, channel: str = "experimental", version: str = binaries.GATEWAY_API) -> None:
        """Install the Gateway API's CRDs and gwfast's own; return once all are established."""
        files = [*binaries.crds(channel, version), *sorted((PROJECT / "deploy" / "crds").glob("*.yaml"))]
        things = [thing for file in files for thing in yaml.load_all(file.read_text(), LOADER) if thing]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self._install, things))
        names = {thing["metadata"]["name"] for thing in things if thing["kind"] == "CustomResourceDefinition"}
        self.wait_for(lambda: names <= self._established(), "the CRDs to be established")

    def _install(self, thing: dict) -> None:
        path = self.api.path(thing["kind"])
        try:
            self.api.create(path, thing)
        except ApiError as problem:
            if problem.code != 409:
                raise
            self.api.patch(f"{path}/{thing['metadata']['name']}", thing)
        finally:
            self.api.close()

    def _established(self) -> set[str]:
        return {one["metadata"]["name"] for one in self.objects("CustomResourceDefinition")
                if any(c["type"] == "Established" and c["status"] == "True" for c in one.get("status", {}).get("conditions") or ())}

    # ---- programs and traffic

    @property
    def environment(self) -> dict[str, str]:
        """This process' own, with KUBECONFIG."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)}

    def run(self, argv: Sequence[str | os.PathLike], *, env: Mapping[str, str] | None = None, log: Path | None = None,
            cwd: str | os.PathLike = PROJECT) -> Process:
        """Start a program on the node (no Pod); `env` is added to `environment`. Its output is in `log`, a file of its own if None."""
        if log is None:
            handle, name = tempfile.mkstemp(prefix=f"{Path(argv[0]).name}-", suffix=".log", dir=self.state)
            os.close(handle)
            log = Path(name)
        return self.sandbox.run(argv, env=self.environment | dict(env or {}), cwd=cwd, log=log)

    def conformance(self, *flags: str, log: Path | None = None, program: str = "") -> Process:
        """Start the Gateway API's own conformance suite with its flags (--gateway-class=gwfast, --run-test=..., --report-output=...);
        `program` is the path of another release's."""
        suite = [program or binaries.program("conformance.test"), "-test.run=^TestConformance$", "-test.timeout=0", "-test.v"]
        return self.run([*suite, *flags], log=log)

    def exec(self, pod: str, *argv: str, namespace: str = "default") -> str:
        """Run a program inside the first container of a Pod and return what it writes. Raises Failed."""
        pid = self.pids(namespace, pod)[0]
        done = subprocess.run(["nsenter", f"--target={pid}", "--all", "--root", "--wd", "--", *argv], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(f"exec {pod}: {done.stderr.strip()}")
        return done.stdout

    def pids(self, namespace: str, pod: str) -> list[int]:
        """The first process of each container of a Pod that runs, as this side numbers them (see `family`)."""
        thing = self.get("Pod", pod, namespace) or {}
        inside = [int(one["containerID"].rpartition("/")[2]) for one in thing.get("status", {}).get("containerStatuses") or ()
                  if "running" in one.get("state", {})]
        known = dict(seen_inside(self.sandbox.pid))
        return [known[number] for number in inside if number in known]

    def connect(self, host: str, port: int, timeout: float | None = 10.0) -> Any:
        """Return a TCP connection from the node to an address of the cluster."""
        return self.sandbox.connect(host, port, timeout)

    def http(self, host: str, port: int, target: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None,
             body: bytes | None = None, timeout: float = 10.0, tls: ssl.SSLContext | None = None, name: str = "") -> Response:
        """Make one request on a connection of its own; `tls` and `name` (SNI) for HTTPS. Raises OSError."""
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        raw = self.connect(host, port, timeout)
        try:
            connection.sock = tls.wrap_socket(raw, server_hostname=name or host) if tls else raw
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            return Response(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except http.client.HTTPException as problem:
            raise OSError(f"no answer of HTTP: {problem!r}") from None
        finally:
            connection.close()
            raw.close()

    # ---- trouble

    def cut_watches(self) -> None:
        """Reset every connection to the API server, watches and all."""
        subprocess.run(self.sandbox.command(["ss", "-K", "-t", "sport", "=", f":{API_PORT}"]), capture_output=True, check=True)

    @contextlib.contextmanager
    def partitioned(self) -> Iterator[None]:
        """Drop every packet to and from the API server meanwhile: nobody is told, connections stay open on both sides."""
        rules = "table inet partition {\n" + "".join(
            f"chain {hook} {{ type filter hook {hook} priority -300; tcp dport {API_PORT} drop; tcp sport {API_PORT} drop; }}\n"
            for hook in ("input", "output")) + "}\n"
        subprocess.run(self.sandbox.command(["nft", "-f", "-"]), input=rules, text=True, check=True)
        try:
            yield
        finally:
            subprocess.run(self.sandbox.command(["nft", "delete", "table", "inet", "partition"]), check=True)

    def wait_for(self, condition: Callable[[], Any], what: str = "", seconds: float = WAIT_SECONDS) -> Any:
        """Return what `condition` returns once that is true; NOT_YET in it means not yet. Raises TimeoutError."""
        end, last = time.monotonic() + seconds, None
        while True:
            try:
                if found := condition():
                    return found
                last = None
            except NOT_YET as problem:
                last = problem
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:.0f} s for {what or 'it'}" + (f": {last!r}" if last else "")) from last
            time.sleep(0.02)

    def comes_to(self, read: Callable[[], Any], wanted: Any, what: str = "", seconds: float = WAIT_SECONDS) -> None:
        """Return once `read` returns `wanted`; TimeoutError says what it returned last. For each state that follows by itself: an
        `assert` would ask whether it has followed already."""
        last: list[Any] = [None]

        def there() -> bool:
            last[0] = read()
            return last[0] == wanted
        try:
            self.wait_for(there, what, seconds)
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}; wanted {wanted!r}, got {last[0]!r}") from problem

    # ---- readiness of the parts

    def _etcd_ready(self) -> bool:
        with contextlib.suppress(OSError), self.sandbox.connect("127.0.0.1", 2379, 1.0):
            return True
        return False

    def _apiserver_ready(self) -> bool:
        try:
            return self.api.get("/readyz") == "ok"
        except (ApiError, OSError):
            return False

    def _controllers_ready(self) -> bool:
        """The controllers run once the first namespace has its ServiceAccount."""
        with contextlib.suppress(ApiError, OSError):
            return bool(self.api.get("/api/v1/namespaces/default/serviceaccounts/default"))
        return False

    def _node_ready(self) -> bool:
        with contextlib.suppress(ApiError, OSError), self.sandbox.connect(NODE_IP, KUBELET_PORT, 1.0):
            conditions = self.api.get("/api/v1/nodes/node").get("status", {}).get("conditions") or ()
            return any(one["type"] == "Ready" for one in conditions)
        return False


def state_folder() -> Path:
    """Return a new folder for a cluster's state, and remove those of owners that were killed before they could."""
    for old in Path(tempfile.gettempdir()).glob(f"{STATE}*"):
        owner = old.name.removeprefix(STATE).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{STATE}{os.getpid()}-"))


def children(pid: int) -> list[int]:
    """The processes that a process has started, whichever of its threads did."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def seen_inside(first: int) -> Iterator[tuple[int, int]]:
    """(number inside, pid here) of every process of a sandbox, by its first one."""
    for pid in family(first):
        with contextlib.suppress(OSError, StopIteration):
            line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:"))
            yield int(line.split()[2]), pid


# ---- arguments


def etcd_arguments(state: Path, more: Sequence[str]) -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [binaries.program("etcd"), "--data-dir", str(state / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            "--unsafe-no-fsync", "--log-level", "warn", *more]


def apiserver_arguments(pki: Path, authorization: str, more: Sequence[str]) -> list[str]:
    return [binaries.program("kube-apiserver"), "--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "0.0.0.0",
            "--advertise-address", NODE_IP, "--secure-port", str(API_PORT), "--service-cluster-ip-range", SERVICES,
            "--tls-cert-file", f"{pki}/server.crt", "--tls-private-key-file", f"{pki}/server.key", "--client-ca-file", f"{pki}/ca.crt",
            "--token-auth-file", f"{pki}/tokens.csv", "--authorization-mode", authorization,
            "--service-account-issuer", "https://kubernetes.default.svc.cluster.local", "--service-account-key-file", f"{pki}/sa.pub",
            "--service-account-signing-key-file", f"{pki}/sa.key", "--kubelet-client-certificate", f"{pki}/admin.crt",
            "--kubelet-client-key", f"{pki}/admin.key", "--kubelet-preferred-address-types", "InternalIP",
            "--allow-privileged=true", "--profiling=false", *more]


def controller_arguments(cluster: Cluster, more: Sequence[str]) -> list[str]:
    pki = cluster.pki
    return [binaries.program("kube-controller-manager"), "--kubeconfig", str(cluster.kubeconfig), "--leader-elect=false",
            "--bind-address", "127.0.0.1", "--secure-port", "0", "--controllers", ",".join(CONTROLLERS),
            "--root-ca-file", f"{pki}/ca.crt", "--service-account-private-key-file", f"{pki}/sa.key",
            "--kube-api-qps", "200", "--kube-api-burst", "400", "--profiling=false", *more]
