"""Cluster mode measured on a real API server (tests/cluster): python -m bench cluster [--routes 5000] [--rounds 200].

    change      from the API server's answer to a change of a route to the first request that it serves
    gateway     from the answer to a new Gateway and its route to the first request (controller and data plane)
    burst       1,000 routes created at full speed: until the last is served, and until every status is written
    start       from the start of the process to the first request, with all routes there
    memory      proportional set size of every process
    idle        writes to the API server, and CPU time, while nothing happens
    fleet       lines, bytes and CPU time of the controller for a change that 1 of 50 data planes needs, or all of them do

Every figure is of this machine in one run; `goal` is what the project asks of itself. Needs what tests/cluster needs.
"""
import contextlib
import http.client
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
NAMESPACE, SYSTEM = "bulk", "gwfast-system"
BACKEND_PORT, PORT, ADMIN = 9080, 8080, 9000
SERVICES, CONNECTIONS = 200, 8
CONNECT = 0.005  # seconds until an address that leads nowhere yet is asked for anew: what is measured is no finer than that
BESIDE = ("leases", "nodes", "pods", "services")  # whose status is written by the cluster itself
CLASS = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "gwfast"},
         "spec": {"controllerName": "gwfast.dev/gateway-controller"}}


class Figure(msgspec.Struct, kw_only=True):
    """One row: `value` and `worst` in `unit`, `goal` as the project has it ('' : none)."""

    case: str
    mode: str
    value: float
    worst: float | None = None
    unit: str = "ms"
    goal: str = ""


# ---- objects


def gateway(name: str = "g", port: int = PORT) -> dict:
    listener = {"name": "http", "protocol": "HTTP", "port": port, "allowedRoutes": {"namespaces": {"from": "Same"}}}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "gwfast", "listeners": [listener]}}


def route(name: str, path: str, *, parent: str = "g", service: int = 0) -> dict:
    first = {"matches": [{"path": {"type": "PathPrefix", "value": path}}, {"headers": [{"name": "x-v", "value": "2"}]}],
             "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]}}],
             "backendRefs": [{"name": f"s{service}", "port": 80, "weight": 9},
                             {"name": f"s{(service + 1) % SERVICES}", "port": 80, "weight": 1}]}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": f"a{service}"}},
            "spec": {"parentRefs": [{"name": parent, "sectionName": "http"}], "hostnames": [f"{name}.example.com"],
                     "rules": [first, {"backendRefs": [{"name": f"s{service}", "port": 80}]}]}}


def services(address: str) -> Iterator[dict]:
    """Yield Services without selectors, and an EndpointSlice of each that leads to the one backend."""
    for number in range(SERVICES):
        about = {"name": f"s{number}", "namespace": NAMESPACE}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {"ports": [{"name": "http", "port": 80}]}}
        yield {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": about | {"labels": {"kubernetes.io/service-name": f"s{number}"}},
               "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
               "ports": [{"name": "http", "port": BACKEND_PORT, "protocol": "TCP"}]}


# ---- the cluster


class World:
    """A cluster with a backend, and what is measured in it."""

    def __init__(self, cluster: Any, node: str, routes: int, rounds: int):
        self.cluster, self.node, self.routes, self.rounds = cluster, node, routes, rounds

    def fill(self, informer: Callable[..., Any]) -> None:
        """Install the CRDs, a class, a Gateway and all routes."""
        self.cluster.install_crds()
        self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, CLASS, gateway())
        self.cluster.run([sys.executable, "-m", "gwfast", "echo", "--fast", "--host", self.node, str(BACKEND_PORT)])
        self.create(list(services(self.node)))
        self.create([route(f"r{n}", f"/api/{n}", service=n % SERVICES) for n in range(self.routes)])
        self.statuses = Statuses(informer, self.cluster.api, self.cluster.api.path("HTTPRoute", NAMESPACE))

    def create(self, things: list[dict]) -> float:
        """Create objects over several connections; return when the last answer came."""
        self.cluster.create(*things, connections=CONNECTIONS)
        return time.monotonic()

    def replace(self, thing: dict) -> float:
        """Put an object in the place of the one that is there; return when the API server answered."""
        self.cluster.api.patch(self.path(thing), thing)
        return time.monotonic()

    def path(self, thing: dict) -> str:
        return f"{self.cluster.api.path(thing['kind'], NAMESPACE)}/{thing['metadata']['name']}"

    def until_served(self, address: str, port: int, host: str, path: str, begun: float, most: float = 60.0) -> float:
        """Ask again and again, on one connection; return the seconds from `begun` to the first 200."""
        connection = None
        while time.monotonic() - begun < most:
            try:
                connection = connection or self.connection(address, port)
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    connection.close()
                    return time.monotonic() - begun
            except (OSError, http.client.HTTPException):
                if connection:
                    connection.close()
                connection = None
                time.sleep(0.001)
        raise TimeoutError(f"{host}{path} at {address}:{port} was not served within {most:.0f} s")

    def connection(self, address: str, port: int) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(address, port, timeout=10)
        made.sock = self.cluster.connect(address, port, CONNECT)
        made.sock.settimeout(made.timeout)
        return made

    # ---- what both modes measure

    def changes(self, mode: str, address: str, port: int, goal: str) -> Figure:
        """Change one route again and again."""
        took = []
        for number in range(self.rounds):
            path = f"/changed/{os.getpid()}/{number}"
            thing = route("r1", path)
            thing["spec"]["rules"] = [{"matches": [{"path": {"type": "Exact", "value": path}}],
                                       "backendRefs": [{"name": "s0", "port": 80}]}]
            took.append(self.until_served(address, port, "r1.example.com", path, self.replace(thing)) * 1000)
        return Figure(case="change", mode=mode, value=statistics.median(took), worst=max(took), goal=goal)

    def burst(self, mode: str, address: str, port: int, count: int = 1000) -> list[Figure]:
        """Create routes at full speed."""
        end = self.create([route(f"b{n}", f"/burst/{n}", service=n % SERVICES) for n in range(count)])
        connection = self.connection(address, port)
        served = 0.0
        for number in range(count):
            connection.request("GET", f"/burst/{number}", headers={"Host": f"b{number}.example.com"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                served = max(served, self.until_served(address, port, f"b{number}.example.com", f"/burst/{number}", end))
        written = self.statuses.until({f"b{number}" for number in range(count)}) - end
        for number in range(count):
            self.cluster.api.delete(f"{self.cluster.api.path('HTTPRoute', NAMESPACE)}/b{number}")
        return [Figure(case="burst: served", mode=mode, value=served, unit="s", goal="3"),
                Figure(case="burst: statuses", mode=mode, value=max(0.0, written), unit="s", goal="3")]

    def new_gateways(self, mode: str, count: int = 20) -> Figure:
        """Make Gateways with a route each, and ask at each one's address as soon as its Service has one."""
        took = []
        for number in range(count):
            name = f"n{number}"
            self.cluster.create(route(f"{name}-route", "/new", parent=name), gateway(name))
            begun = time.monotonic()
            while not (found := self.ingress(f"{name}-gwfast")):
                if time.monotonic() - begun > 30:
                    raise TimeoutError(f"Gateway {name} got no address")
                time.sleep(0.002)
            took.append(self.until_served(found, PORT, f"{name}-route.example.com", "/new", begun) * 1000)
        return Figure(case="gateway", mode=mode, value=statistics.median(took), worst=max(took), goal="100")

    def ingress(self, name: str) -> str:
        """Return the load balancer's address of a Service, '' before it has one."""
        thing = self.cluster.get("Service", name, NAMESPACE) or {}
        found = thing.get("status", {}).get("loadBalancer", {}).get("ingress")
        return found[0]["ip"] if found else ""

    def writes(self) -> dict[str, float]:
        """Return the writes that the API server has counted, by resource and verb."""
        text = self.cluster.api.get("/metrics")
        found = re.finditer(r'^apiserver_request_total\{([^}]*)\} (\S+)$', text, re.M)
        counts: dict[str, float] = {}
        for labels, value in (one.groups() for one in found):
            names = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if names.get("verb") in ("POST", "PUT", "PATCH", "DELETE", "APPLY") and names.get("group") != "authentication.k8s.io":
                what = f"{names['verb']} {names.get('resource')}/{names.get('subresource')}"
                counts[what] = counts.get(what, 0) + float(value)
        return counts

    def idle(self, mode: str, pids: list[int], seconds: float = 30.0) -> list[Figure]:
        """Wait, and look at what was written, and at the CPU time of the processes."""
        before, cpu = self.writes(), sum(map(cpu_seconds, pids))
        time.sleep(seconds)
        after = self.writes()
        spent = sum(map(cpu_seconds, pids)) - cpu
        new = {what: count - before.get(what, 0) for what, count in after.items() if count > before.get(what, 0)}
        others = sum(count for what, count in new.items() if "/status" in what and what.split()[1].split("/")[0] not in BESIDE)
        return [Figure(case="idle: status writes", mode=mode, value=others, unit="", goal="0"),
                Figure(case="idle: CPU", mode=mode, value=100 * spent / seconds, unit="%", goal="0.5")]


class Statuses:
    """Which routes have a status of their generation, by a watch of their own."""

    def __init__(self, informer: Callable[..., Any], api: Any, path: str):
        self._written: dict[str, float] = {}
        self._news = threading.Condition()
        informer(api, path, self._changed).start()

    def _changed(self, event: str, thing: dict) -> None:
        name, generation = thing["metadata"]["name"], thing["metadata"]["generation"]
        written = event != "DELETED" and any(
            one["type"] == "Accepted" and one["observedGeneration"] == generation
            for parent in thing.get("status", {}).get("parents") or () for one in parent["conditions"])
        with self._news:
            if written:
                self._written.setdefault(name, time.monotonic())
            else:
                self._written.pop(name, None)
            self._news.notify_all()

    def until(self, names: set[str], most: float = 120.0) -> float:
        """Return when the last of these was written."""
        with self._news:
            if not self._news.wait_for(lambda: names <= self._written.keys(), most):
                missing = len(names - self._written.keys())
                raise TimeoutError(f"{missing} of {len(names)} statuses were not written within {most:.0f} s")
            return max(self._written[name] for name in names)


# ---- processes


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pids: list[int]) -> float:
    """Return the proportional set size of processes in MiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return total / 1024


# ---- the modes


def one_process(world: World) -> Iterator[Figure]:
    """`gwfast run --kubernetes`: everything in one program."""
    mode = "one process"
    command = [sys.executable, "-m", "gwfast", "run", "--kubernetes", "--workers", "1", "--access-log", "off",
               "--publish-status-address", world.node,
               "--admin", f"{world.node}:{ADMIN}"]
    begun = time.monotonic()
    process = world.cluster.run(command)
    took = world.until_served(world.node, PORT, "r0.example.com", "/api/0", begun)
    yield Figure(case="start", mode=mode, value=took, unit="s", goal="3")
    written = world.statuses.until({f"r{number}" for number in range(world.routes)})
    yield Figure(case="start: all statuses", mode=mode, value=written - begun, unit="s")
    from cluster import family
    pids = family(process.pid)
    yield Figure(case="memory", mode=mode, value=memory(pids), unit="MiB", goal="75")
    yield world.changes(mode, world.node, PORT, "5 and 25")
    yield from world.burst(mode, world.node, PORT)
    yield from world.idle(mode, pids)
    process.terminate()
    process.wait()


def controller(world: World) -> Iterator[Figure]:
    """What deploy/install.yaml installs: a controller and data planes."""
    mode = "controller, data plane"
    cluster = world.cluster
    begun = time.monotonic()
    cluster.apply(ROOT / "deploy" / "install.yaml")
    address = cluster.wait_for(lambda: address_of(cluster, "g"), "the Gateway's address", 60)
    took = world.until_served(address, PORT, "r0.example.com", "/api/0", begun)
    yield Figure(case="installed until served", mode=mode, value=took, unit="s")
    written = world.statuses.until({f"r{number}" for number in range(world.routes)})
    yield Figure(case="start: all statuses", mode=mode, value=written - begun, unit="s")
    pids = {name: processes(cluster, name) for name in ("gwfast-controller", "gwfast-gwfast")}
    yield Figure(case="memory: controller", mode=mode, value=memory(pids["gwfast-controller"][0]), unit="MiB", goal="75")
    yield Figure(case="memory: data plane", mode=mode, value=memory(pids["gwfast-gwfast"][0]), unit="MiB", goal="50")
    yield world.changes(mode, address, PORT, "15 and 60")
    yield from world.burst(mode, address, PORT)
    yield world.new_gateways(mode)
    yield from world.idle(mode, [pid for found in pids.values() for pod in found for pid in pod])


def address_of(cluster: Any, name: str) -> str:
    """Return the address of a Gateway that is programmed, '' before."""
    thing = cluster.get("Gateway", name, NAMESPACE) or {}
    conditions = thing.get("status", {}).get("conditions") or ()
    programmed = any((one["type"], one["status"]) == ("Programmed", "True") for one in conditions)
    return thing["status"]["addresses"][0]["value"] if programmed else ""


def processes(cluster: Any, prefix: str) -> list[list[int]]:
    """Return the processes of each Pod of gwfast with such a name."""
    from cluster import family
    pods = [one["metadata"]["name"] for one in cluster.objects("Pod", SYSTEM) if one["metadata"]["name"].startswith(prefix)]
    return [[pid for first in cluster.pids(SYSTEM, pod) for pid in family(first)] for pod in pods]


def fleet(world: World) -> Iterator[Figure]:
    """Fifty data planes: bench.fleet."""
    from bench import fleet
    yield from fleet.fleet(world)


MODES: dict[str, Callable[[World], Iterator[Figure]]] = {"one-process": one_process, "controller": controller, "fleet": fleet}


def run(routes: int = 5000, rounds: int = 200, modes: tuple[str, ...] = ()) -> list[Figure]:
    """Measure; OSError where a cluster cannot be had."""
    sys.path.insert(0, str(ROOT / "tests" / "cluster"))
    import binaries
    import kubeapi
    from cluster import Cluster
    from node.network import NODE_IP
    if why := binaries.missing():
        raise OSError(why)
    figures = []
    for name in modes or MODES:
        with Cluster() as cluster:
            world = World(cluster, NODE_IP, routes, rounds)
            world.fill(kubeapi.Informer)
            print(f"# {routes} routes, {rounds} changes", flush=True)
            for figure in MODES[name](world):
                print(row(figure), flush=True)
                figures.append(figure)
    return figures


def row(figure: Figure) -> str:
    worst = f"  (worst {figure.worst:.1f})" if figure.worst is not None else ""
    goal = f"  [{figure.goal}]" if figure.goal else ""
    return f"{figure.mode:24} {figure.case:22} {figure.value:8.2f} {figure.unit:4}{worst}{goal}"


def table(figures: list[Figure]) -> str:
    return "\n".join(map(row, figures))
