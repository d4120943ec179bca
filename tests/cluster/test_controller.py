"""Controller and data planes as they are installed (deploy/install.yaml): traffic, statuses, who is refused, and what may go wrong."""
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import yaml

from cluster import FROZEN, PROJECT, Cluster, Failed
from sandbox import Process
from support.waiting import elapse

SYSTEM, FLEET = "gwfast-system", "gwfast-gwfast"
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: NAME}
spec: {gatewayClassName: gwfast, listeners: [{name: web, protocol: HTTP, port: 80}]}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME}
spec: {parentRefs: [{name: PARENT}], rules: [{matches: [{path: {value: PATH}}], backendRefs: [{name: BACKEND, port: 80}]}]}
"""
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: 3000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: echo
        image: gwfast:any
        args: [echo, "--host", "0.0.0.0", "--namespace", NAME, "3000"]
        readinessProbe: {httpGet: {path: /, port: 3000}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
"""
# Run on the node: open a stream with a token, print what it says first.
ASK = """
import asyncio, json, sys
from gwfast.controller.link import NoLink, link, where
async def main():
    real = asyncio.open_connection
    async def dial(host, port, **more):
        return await real(sys.argv[1], port, **more)
    asyncio.open_connection = dial
    try:
        made = await link(where("https://gwfast-controller.gwfast-system.svc:8443", sys.argv[2], sys.argv[3]), "", "test")
    except NoLink as error:
        print(json.dumps(str(error)))
        return
    found = []
    async for text in made.lines():
        line = json.loads(text)
        if line["type"] == "PUT":
            found.append([line["kind"], line.get("namespace", ""), line["name"]])
        if line["type"] == "SYNC":
            break
    print(json.dumps(found))
    made.close()
asyncio.run(main())
"""


def text(what: str, **words: str) -> str:
    for name, word in words.items():
        what = what.replace(name, word)
    return what


class Load:
    """Requests one after the other, each on a connection of its own, until it is told to stop; what was not 200."""

    def __init__(self, cluster: Cluster, address: str, path: str = "/"):
        self.wrong: list[str] = []
        self.count = 0
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(cluster, address, path), daemon=True) for _ in range(2)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, requests: int = 100) -> None:
        """Return when so many more have been made."""
        until = self.count + requests
        self._cluster.wait_for(lambda: self.count >= until or self.wrong, "requests to be made", 120.0)

    def _run(self, cluster: Cluster, address: str, path: str) -> None:
        while not self._stop.is_set():
            try:
                status = cluster.http(address, 80, path).status
            except OSError as error:
                status = repr(error)
            self.count += 1
            if status != 200:
                self.wrong.append(f"{time.strftime('%H:%M:%S')} {status}")
            elapse(0.005)


class World:
    """An installed controller and a namespace."""

    def __init__(self, cluster: Cluster, namespace: str):
        self.cluster, self.namespace = cluster, namespace

    def apply(self, what: str, **words: str) -> None:
        self.cluster.apply(text(what, **words), "-n", self.namespace)

    def programmed(self, name: str) -> str:
        """Return the address of a Gateway once it is programmed."""
        def ready() -> bool:
            return self.cluster.condition("Gateway", name, "Programmed", self.namespace) == "True"
        self.cluster.wait_for(ready, f"Gateway {name} to be programmed", 60.0)
        return self.cluster.get("Gateway", name, self.namespace)["status"]["addresses"][0]["value"]

    def get(self, address: str, path: str = "/") -> str:
        """Return which Deployment answers, or the status where none does."""
        try:
            answer = self.cluster.http(address, 80, path)
        except OSError:
            return "refused"
        return json.loads(answer.body)["namespace"] if answer.status == 200 else str(answer.status)

    def until(self, address: str, expected: str, path: str = "/", seconds: float = 90.0) -> None:
        self.cluster.wait_for(lambda: self.get(address, path) == expected, f"{path} to be {expected}", seconds)

    def leader(self) -> str:
        """Return the Pod that leads."""
        lease = self.cluster.get("Lease", "gateway-controller.gwfast.dev", SYSTEM)
        return lease["spec"].get("holderIdentity", "").split("_")[0]

    def route(self, **words: str) -> bool:
        """Apply a route; whether an API server that has had trouble took it."""
        try:
            self.apply(ROUTE, **words)
        except Failed:
            return False
        return True

    def accepted(self, route: str) -> bool:
        """Whether the status of a route says that it is accepted."""
        parents = (self.cluster.get("HTTPRoute", route, self.namespace) or {}).get("status", {}).get("parents") or ()
        return any(one["type"] == "Accepted" and one["status"] == "True" for each in parents for one in each["conditions"])

    def rolled(self, deployment: str, namespace: str) -> None:
        self.cluster.kubectl("rollout", "status", f"deployment/{deployment}", "-n", namespace, "--timeout=120s")

    def restart(self, deployment: str, namespace: str) -> None:
        self.cluster.kubectl("rollout", "restart", f"deployment/{deployment}", "-n", namespace)
        self.rolled(deployment, namespace)


@pytest.fixture(scope="module")
def installed(session_cluster: Cluster) -> Iterator[Cluster]:
    session_cluster.apply(PROJECT / "deploy" / "install.yaml")
    session_cluster.kubectl("rollout", "status", "deployment/gwfast-controller", "-n", SYSTEM, "--timeout=120s")
    yield session_cluster
    # But for the CRDs: other tests of this cluster go on with them.
    things = [each for each in yaml.safe_load_all((PROJECT / "deploy" / "install.yaml").read_text())
              if each and each["kind"] != "CustomResourceDefinition"]
    session_cluster.kubectl("delete", "-f", "-", "--wait=false", text=yaml.safe_dump_all(things))


@pytest.fixture
def world(installed: Cluster, namespace: str) -> World:
    made = World(installed, namespace)
    made.apply(ECHO, NAME="one")
    made.apply(GATEWAY, NAME="g")
    made.apply(ROUTE, NAME="r", PARENT="g", PATH="/", BACKEND="one")
    return made


def test_gateways_with_one_port_have_addresses_of_their_own_and_do_not_meet(world):
    first = world.programmed("g")
    world.until(first, "one")
    world.apply(ECHO, NAME="two")
    world.apply(GATEWAY, NAME="other")
    second = world.programmed("other")
    assert first != second
    world.until(second, "404")
    world.apply(ROUTE, NAME="r2", PARENT="other", PATH="/", BACKEND="two")
    world.until(second, "two")
    world.until(first, "one")
    world.cluster.kubectl("delete", "gateway", "other", "-n", world.namespace)
    world.cluster.wait_for(lambda: world.get(second) == "refused", "the other Gateway to be gone")
    world.until(first, "one")


def test_a_route_changes_what_is_served_and_not_whether_its_gateway_is_programmed(world):
    address = world.programmed("g")
    world.until(address, "one")
    before = _programmed(world)
    for at in range(5):
        world.apply(ROUTE, NAME=f"more{at}", PARENT="g", PATH=f"/more{at}", BACKEND="missing")
        world.until(address, "500", f"/more{at}")
    assert _programmed(world) == before


def _programmed(world: World) -> dict:
    conditions = world.cluster.get("Gateway", "g", world.namespace)["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Programmed")


def test_the_leader_dies_and_nobody_notices(world):
    address = world.programmed("g")
    world.until(address, "one")
    before, leader = _programmed(world), world.leader()
    with Load(world.cluster, address) as load:
        world.cluster.kubectl("delete", "pod", leader, "-n", SYSTEM, "--grace-period=0", "--force")
        world.apply(ROUTE, NAME="meanwhile", PARENT="g", PATH="/meanwhile", BACKEND="missing")
        world.until(address, "500", "/meanwhile")  # while nobody leads: any replica tells data planes
        world.cluster.wait_for(lambda: world.leader() not in ("", leader), "another leader")
        world.apply(ROUTE, NAME="after", PARENT="g", PATH="/after", BACKEND="missing")
        world.cluster.wait_for(lambda: world.accepted("after"), "a status by the new leader", 60.0)
        load.goes_on()
    assert load.wrong == []
    assert _programmed(world) == before  # what was True was never anything else
    world.rolled("gwfast-controller", SYSTEM)


def test_an_api_server_that_is_frozen_takes_nothing_from_anybody(world):
    """Its connections stay open and nobody answers: nobody leads then, and one leads after it."""
    address = world.programmed("g")
    world.until(address, "one")
    before = _programmed(world)
    with Load(world.cluster, address) as load:
        world.cluster.apiserver.freeze()
        elapse(FROZEN)
        world.cluster.apiserver.thaw()
        world.cluster.apiserver.wait_ready()
        world.cluster.wait_for(lambda: world.route(NAME="after", PARENT="g", PATH="/after", BACKEND="missing"), "kubectl apply", 120.0)
        world.until(address, "500", "/after", 120.0)
        world.cluster.wait_for(lambda: world.accepted("after"), "a status by who leads", 120.0)
        load.goes_on()
    assert load.wrong == []
    assert _programmed(world) == before
    world.cluster.wait_for(lambda: world.leader() in {pod["metadata"]["name"] for pod in world.cluster.objects("Pod", SYSTEM)},
                           "one that is there to lead")


def test_nothing_is_lost_while_all_of_it_is_rolled(world):
    address = world.programmed("g")
    world.until(address, "one")
    with Load(world.cluster, address) as load:
        world.restart(FLEET, SYSTEM)
        world.restart("gwfast-controller", SYSTEM)
        world.restart("one", world.namespace)
        load.goes_on()
    assert load.wrong == []


def test_a_data_plane_starts_again_without_a_controller(world):
    address = world.programmed("g")
    world.until(address, "one")
    cluster = world.cluster
    cluster.kubectl("scale", "deployment/gwfast-controller", "-n", SYSTEM, "--replicas=0")
    try:
        cluster.kubectl("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=gwfast-controller", "-n", SYSTEM,
                        "--timeout=60s")
        for pod in _planes(cluster):
            for pid in cluster.pids(SYSTEM, pod):
                _kill(pid)

        def again() -> bool:
            pods = [cluster.get("Pod", pod, SYSTEM) for pod in _planes(cluster)]
            return all(pod["status"]["containerStatuses"][0]["restartCount"] and pod["status"]["containerStatuses"][0]["ready"]
                       for pod in pods)
        cluster.wait_for(again, "the data planes to be there again", 60.0)
        world.until(address, "one")
        cluster.wait_for(lambda: all("the last good copy serves" in cluster.kubectl("logs", pod, "-n", SYSTEM) for pod in _planes(cluster)),
                         "their logs to tell whence they serve")
    finally:
        cluster.kubectl("scale", "deployment/gwfast-controller", "-n", SYSTEM, "--replicas=2")
        world.rolled("gwfast-controller", SYSTEM)


def _planes(cluster: Cluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.objects("Pod", SYSTEM)
            if pod["metadata"]["labels"].get("gwfast.dev/fleet") == FLEET and not pod["metadata"].get("deletionTimestamp")]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# ---- Who is told what


@pytest.fixture
def asked(world, tmp_path):
    """Return a function: what the stream says to who shows a token."""
    world.programmed("g")
    cluster = world.cluster
    (tmp_path / "ca.crt").write_text(cluster.get("ConfigMap", f"{FLEET}-ca", SYSTEM)["data"]["ca.crt"])
    (tmp_path / "ask.py").write_text(ASK)
    address = cluster.get("Service", "gwfast-controller", SYSTEM)["spec"]["clusterIP"]

    def ask(token: str):
        (tmp_path / "token").write_text(token)
        log = tmp_path / "answer"
        process: Process = cluster.run([sys.executable, *(str(tmp_path / "ask.py"), address, str(tmp_path / "token"),
                                                          str(tmp_path / "ca.crt"))], log=log)
        cluster.wait_for(lambda: process.poll() is not None, "the stream to answer")
        return json.loads(log.read_text().splitlines()[-1])
    return ask


def test_who_is_no_data_plane_is_told_nothing(world, asked):
    cluster = world.cluster
    own = cluster.kubectl("create", "token", "default", "-n", world.namespace, "--audience=gwfast-controller").strip()
    assert asked(own).startswith("403: ServiceAccount")
    assert asked("nonsense").startswith("401:")
    other = cluster.kubectl("create", "token", FLEET, "-n", SYSTEM).strip()  # for the API server
    assert asked(other).startswith("401:")


def test_a_fleet_is_told_of_its_own_gateways_alone(world, asked):
    cluster = world.cluster
    world.apply("""
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: alone}
spec: {dedicated: true, replicas: 1}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: private}
spec:
  gatewayClassName: gwfast
  infrastructure: {parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: alone}}
  listeners: [{name: web, protocol: HTTP, port: 80}]
""")
    world.apply(ROUTE, NAME="inside", PARENT="private", PATH="/", BACKEND="one")
    address = world.programmed("private")
    world.until(address, "one")
    mine = world.namespace

    def told(fleet: str, namespace: str, *names: tuple[str, str]) -> list:
        """What a fleet is told once these are among it: the replica that answers may not know yet what the other one serves."""
        token = cluster.kubectl("create", "token", fleet, "-n", namespace, "--audience=gwfast-controller").strip()
        wanted = [[kind, mine, name] for kind, name in names]
        return cluster.wait_for(lambda: (found := asked(token)) and all(one in found for one in wanted) and found, f"{fleet} to be told of {wanted}")
    shared = told(FLEET, SYSTEM, ("Gateway", "g"), ("HTTPRoute", "r"), ("Service", "one"))
    private = told("private-gwfast", mine, ("Gateway", "private"), ("HTTPRoute", "inside"), ("Service", "one"))
    assert not [one for one in shared if one[2] in ("private", "inside")]
    assert not [one for one in private if one[2] in ("g", "r")]


FILTERED = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: filters}
spec: {pythonFilters: true}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: CLASS}
spec:
  controllerName: gwfast.dev/gateway-controller
  parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: filters, namespace: NAMESPACE}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: filtered}
spec: {gatewayClassName: CLASS, listeners: [{name: web, protocol: HTTP, port: 80}]}
---
apiVersion: gwfast.dev/v1alpha1
kind: PythonFilter
metadata: {name: f}
spec: {configMap: {name: code}, class: Adds}
"""
CODE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: code}
data:
  filter.py: |
    class Adds:
        def __init__(self, config):
            pass

        async def on_response(self, request, response):
            response.headers["x-filter"] = "VALUE"
"""
FILTERED_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME}
spec:
  parentRefs: [{name: PARENT}]
  rules:
  - matches: [{path: {value: /filtered}}]
    filters: [{type: ExtensionRef, extensionRef: {group: gwfast.dev, kind: PythonFilter, name: f}}]
    backendRefs: [{name: one, port: 80}]
"""


def test_filters_in_python_run_where_the_class_allows_them(world):
    cluster, klass = world.cluster, f"filters-{world.namespace}"
    world.apply(CODE, VALUE="first")
    twice = text(FILTERED.split("---")[-1], NAMESPACE=world.namespace).replace("{configMap", "{module: m, configMap")
    assert "exactly one of module" in cluster.kubectl("create", "-n", world.namespace, "-f", "-", text=twice, check=False)
    try:
        world.apply(FILTERED, CLASS=klass, NAMESPACE=world.namespace)
        world.apply(FILTERED_ROUTE, NAME="with", PARENT="filtered")
        world.apply(FILTERED_ROUTE, NAME="without", PARENT="g")
        address, shut = world.programmed("filtered"), world.programmed("g")

        def added() -> str | None:
            with contextlib.suppress(OSError):
                return cluster.http(address, 80, "/filtered").headers.get("x-filter")
        cluster.wait_for(lambda: added() == "first", "the filter to add its header")
        world.apply(CODE, VALUE="second")
        cluster.wait_for(lambda: added() == "second", "the filter to be loaded again")
        world.until(shut, "500", "/filtered")
        refused = cluster.wait_for(lambda: _resolved(world, "without", "False"), "the refusal to be told")
        assert refused["reason"] == "RefNotPermitted" and "GatewayClass gwfast would allow them" in refused["message"]
        cluster.wait_for(lambda: _resolved(world, "with", "True"), "the other route to be told that it has its filter")
    finally:
        cluster.kubectl("delete", "gatewayclass", klass, "--wait=false")


def _resolved(world: World, route: str, status: str) -> dict | None:
    """Return ResolvedRefs of a route where it says this."""
    parents = world.cluster.get("HTTPRoute", route, world.namespace).get("status", {}).get("parents") or ()
    return next((one for each in parents for one in each["conditions"] if (one["type"], one["status"]) == ("ResolvedRefs", status)), None)


def test_data_planes_have_no_rights(world):
    world.programmed("g")
    for verb, what in (("get", "secrets"), ("list", "pods"), ("get", "gateways.gateway.networking.k8s.io"), ("list", "services")):
        said = world.cluster.kubectl("auth", "can-i", verb, what, f"--as=system:serviceaccount:{SYSTEM}:{FLEET}", check=False)
        assert said.splitlines()[0].strip() == "no"


# ---- What a tenant may try


TO_ITSELF = """
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {type: ExternalName, externalName: HOST, ports: [{port: 80, targetPort: 9000}]}
"""


def test_who_writes_services_gets_nobody_elses_traffic(world):
    """A target port that a Service names is another Gateway's: while all controllers start anew, who knew better are gone."""
    cluster = world.cluster
    web = world.programmed("g")
    world.until(web, "one")
    world.apply(GATEWAY, NAME="evil")
    evil = world.programmed("evil")

    def targets() -> dict[str, list[int]]:
        return {name: [port["targetPort"] for port in cluster.get("Service", f"{name}-gwfast", world.namespace)["spec"]["ports"]]
                for name in ("g", "evil")}

    def recorded() -> str:
        return cluster.get("ConfigMap", f"{FLEET}-ports", SYSTEM)["data"][world.namespace]
    before, record = targets(), recorded()
    assert sorted(record.splitlines()) == sorted(f"{name} 80/TCP={ports[0]}" for name, ports in before.items())
    patch = [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": before["g"][0]}]
    cluster.kubectl("scale", "deployment", "gwfast-controller", "-n", SYSTEM, "--replicas=0")
    cluster.wait_for(lambda: not [pod for pod in cluster.objects("Pod", SYSTEM) if pod["metadata"]["name"].startswith("gwfast-controller")],
                     "the controllers to end")
    cluster.kubectl("patch", "service", "evil-gwfast", "-n", world.namespace, "--type=json", "-p", json.dumps(patch))
    cluster.kubectl("scale", "deployment", "gwfast-controller", "-n", SYSTEM, "--replicas=2")
    world.rolled("gwfast-controller", SYSTEM)
    cluster.wait_for(lambda: targets() == before, "the Service to be put right")
    assert recorded() == record
    world.until(web, "one")
    world.until(evil, "404")
    cluster.kubectl("delete", "configmap", f"{FLEET}-ports", "-n", SYSTEM)
    cluster.wait_for(lambda: cluster.get("ConfigMap", f"{FLEET}-ports", SYSTEM) is not None and recorded() == record,
                     "the record to be written again")
    assert targets() == before and world.get(web) == "one"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_no_name_leads_to_the_data_plane_itself(world, host):
    """Its admin port tells its own loopback what all tenants' rules are, and reloads."""
    web = world.programmed("g")
    world.apply(TO_ITSELF, NAME="itself", HOST=host)
    world.apply(ROUTE, NAME="to-itself", PARENT="g", PATH="/config", BACKEND="itself")
    world.until(web, "503", "/config")
