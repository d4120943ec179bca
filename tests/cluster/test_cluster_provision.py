"""What a controller makes in a real cluster, with the rights that deploy/install.yaml gives it: Deployments, Services, addresses, and that
nothing goes which is needed. Data planes are a server of some lines; the controller is provisioner.py.
"""
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster import Cluster
from conftest import require_cluster
from support.waiting import elapse

HERE = Path(__file__).parent
INSTALL = HERE.parents[1] / "deploy/install.yaml"
SYSTEM = "gwfast-system"
# Listens at every target port, as it is not told which are used, and answers with the name of its Pod. Its admin port is ready last.
DATA_PLANE = """
import os, resource, selectors, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
done, ready = os.pipe()
child = os.fork() == 0  # half of the ports each: a process may not have so many sockets
watched = selectors.EpollSelector()
def listen(port):
    watched.register(socket.create_server(("0.0.0.0", port)), selectors.EVENT_READ)
for port in range(20_000, 30_000) if child else range(10_000, 20_000):
    listen(port)
if child:
    os.write(ready, b"x")
else:
    os.read(done, 1)
    listen(9000)
body = os.environ["POD_NAME"].encode()
while True:
    for key, _ in watched.select():
        connection, _ = key.fileobj.accept()
        connection.settimeout(1)
        try:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s" % (len(body), body))
        except OSError:
            pass
        connection.close()
"""
IMAGES = [("^data-plane$", {"entrypoint": [sys.executable, "-c", DATA_PLANE], "env": {"PATH": "/usr/bin:/bin"}})]


class Controller:
    """One provisioner.py, with the rights of the chart's ServiceAccount."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, *watched: str):
        argv = [sys.executable, HERE / "provisioner.py", SYSTEM, *watched]
        self.process = cluster.run(argv, env={"KUBECONFIG": str(kubeconfig)})
        self._cluster = cluster
        cluster.wait_for(lambda: self.lines, "the controller to begin")

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.process.log.read_text().splitlines(keepends=True)
                if line.startswith("{") and line.endswith("\n")]

    @property
    def said(self) -> dict:
        return self.lines[-1]

    def lead(self, leads: bool = True) -> None:
        self.process.send_signal(signal.SIGUSR1 if leads else signal.SIGUSR2)

    def quiet(self) -> int:
        """Wait until it has written nothing for a second, and return how much it has written."""
        began, writes = time.monotonic(), self.said["writes"]
        end = began + 30
        while time.monotonic() - began < 1 and time.monotonic() < end:
            if (now := self.said["writes"]) != writes:
                began, writes = time.monotonic(), now
            elapse(0.05)
        return writes

    def forbidden(self) -> list[str]:
        return [line for line in self.process.log.read_text().splitlines() if "orbidden" in line or "Traceback" in line]


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Cluster, Path]]:
    """A cluster with what install.yaml says, but its Deployment; and the kubeconfig of the ServiceAccount."""
    require_cluster()
    with Cluster(images=IMAGES) as cluster:
        cluster.install_crds()
        things = [each for each in yaml.safe_load_all(INSTALL.read_text()) if each["kind"] not in ("CustomResourceDefinition", "Deployment")]
        cluster.apply(yaml.safe_dump_all(things))
        token = cluster.kubectl("create", "token", "gwfast-controller", "-n", SYSTEM, "--duration", "2h").strip()
        kubeconfig = cluster.state / "controller-kubeconfig"
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        kubeconfig.write_text(yaml.safe_dump(config))
        yield cluster, kubeconfig


@pytest.fixture
def start(world) -> Iterator[Callable[..., Controller]]:
    cluster, kubeconfig = world
    started: list[Controller] = []

    def start(*watched: str, leads: bool = True) -> Controller:
        started.append(Controller(cluster, kubeconfig, *watched))
        if leads:
            started[-1].lead()
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def cluster(world) -> Cluster:
    return world[0]


@pytest.fixture
def namespace(cluster: Cluster, request) -> Iterator[str]:
    name = f"n{abs(hash(request.node.name)) % 10**8}"
    cluster.kubectl("create", "namespace", name)
    cluster.wait_for(lambda: cluster.get("ServiceAccount", "default", name))
    yield name
    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "--all", "-n", name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def gateway(name: str, namespace: str, *ports: int, infrastructure: str = "{}", addresses: str = "[]") -> str:
    listeners = ", ".join(f"{{name: l{port}, port: {port}, protocol: HTTP}}" for port in ports or (80,))
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{gatewayClassName: gwfast, listeners: [{listeners}], infrastructure: {infrastructure}, addresses: {addresses}}}
---
"""


def parameters(name: str, namespace: str, spec: str) -> str:
    return f"""
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


def own(name: str) -> str:
    return f"{{parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: {name}}}}}"


def address(cluster: Cluster, controller: Controller, name: str) -> str:
    """The first address of a Gateway, once it has one."""
    return cluster.wait_for(lambda: (controller.said["assigned"].get(name) or [[]])[0], f"{name} to have an address")[0]


def answer(cluster: Cluster, host: str, port: int = 80) -> str:
    """Who answers there, once somebody does."""
    return cluster.wait_for(lambda: cluster.http(host, port).body.decode(), f"{host}:{port} to answer")


def gone(cluster: Cluster, kind: str, name: str, namespace: str) -> None:
    cluster.wait_for(lambda: cluster.get(kind, name, namespace) is None, f"{kind} {namespace}/{name} to go")


def test_a_gateway_has_a_service_an_address_and_shared_data_planes(cluster, start, namespace):
    controller = start()
    cluster.apply(gateway("web", namespace) + gateway("other", namespace, 80, 8080))
    web, other = (address(cluster, controller, f"{namespace}/{name}") for name in ("web", "other"))
    assert web != other
    assert answer(cluster, web).startswith("gwfast-gwfast-")
    service = cluster.get("Service", "web-gwfast", namespace)
    assert service["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "web"
    assert [each["kind"] for each in service["metadata"]["ownerReferences"]] == ["Gateway"] and "selector" not in service["spec"]
    cluster.comes_to(lambda: controller.said["targets"][f"{namespace}/web"], {"80/TCP": service["spec"]["ports"][0]["targetPort"]})
    cluster.comes_to(lambda: len({target for key, each in controller.said["targets"].items() if key.startswith(f"{namespace}/")
                                  for target in each.values()}), 3)
    cluster.comes_to(lambda: cluster.get("Deployment", "gwfast-gwfast", SYSTEM)["spec"]["replicas"], 2)
    cluster.wait_for(lambda: cluster.get("PodDisruptionBudget", "gwfast-gwfast", SYSTEM), "the PodDisruptionBudget")
    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "web", "-n", namespace)
    gone(cluster, "Service", "web-gwfast", namespace)
    cluster.wait_for(lambda: not [each for each in cluster.objects("EndpointSlice", namespace) if each["metadata"]["name"].startswith("web")])
    assert answer(cluster, other, 8080) and not controller.forbidden()


def ready(cluster: Cluster, at: str, name: str) -> set[tuple[str, ...]]:
    """The addresses of a Service's endpoints that are ready."""
    return {tuple(end["addresses"]) for each in cluster.objects("EndpointSlice", at) for end in each["endpoints"] or ()
            if each["metadata"]["labels"]["kubernetes.io/service-name"] == name and end["conditions"]["ready"]}


def everything_ready(cluster: Cluster, namespace: str, *services: str) -> bool:
    """Whether all Pods of all Deployments are ready, and the Services of Gateways lead to those of the shared ones."""
    deployments = [each for at in (namespace, SYSTEM) for each in cluster.objects("Deployment", at)]
    fleet = ready(cluster, SYSTEM, "gwfast-gwfast")
    return len(fleet) == 2 and all(each["status"].get("readyReplicas") == each["spec"]["replicas"] for each in deployments) and all(
        ready(cluster, namespace, name) == fleet for name in services)


def test_endpoints_follow_the_pods_of_the_fleet(cluster, start, namespace):
    controller = start()
    cluster.apply(gateway("web", namespace))
    host = address(cluster, controller, f"{namespace}/web")
    before = answer(cluster, host)
    cluster.kubectl("delete", "pods", "-n", SYSTEM, "-l", "gwfast.dev/fleet=gwfast-gwfast", "--wait=false")
    cluster.wait_for(lambda: len(ready(cluster, namespace, "web-gwfast")) == 2
                     and ready(cluster, namespace, "web-gwfast") == ready(cluster, SYSTEM, "gwfast-gwfast"))
    cluster.wait_for(lambda: cluster.http(host, 80).body.decode() != before)


def test_infrastructure_and_listeners_that_change_are_followed(cluster, start, namespace):
    start()
    cluster.apply(gateway("web", namespace, infrastructure="{labels: {team: a}, annotations: {example.com/x: z}}"))
    service = cluster.wait_for(lambda: cluster.get("Service", "web-gwfast", namespace))
    assert service["metadata"]["labels"]["team"] == "a" and service["metadata"]["annotations"]["example.com/x"] == "z"
    cluster.kubectl("annotate", "service", "web-gwfast", "-n", namespace, "others.example/kept=yes")
    cluster.apply(gateway("web", namespace, 80, 8080, infrastructure="{labels: {other: b}}"))

    def followed():
        service = cluster.get("Service", "web-gwfast", namespace)
        meta = service["metadata"]
        return {each["port"] for each in service["spec"]["ports"]} == {80, 8080} and meta["labels"].get("other") == "b" and (
            "team" not in meta["labels"] and "example.com/x" not in meta["annotations"] and meta["annotations"]["others.example/kept"] == "yes")
    cluster.wait_for(followed, "the Service to follow")
    old = {each["port"]: each["targetPort"] for each in service["spec"]["ports"]}
    now = {each["port"]: each["targetPort"] for each in cluster.get("Service", "web-gwfast", namespace)["spec"]["ports"]}
    assert now[80] == old[80] != now[8080]


def test_what_somebody_changes_is_changed_back(cluster, start, namespace):
    controller = start()
    cluster.apply(gateway("web", namespace))
    address(cluster, controller, f"{namespace}/web")
    controller.quiet()
    cluster.kubectl("scale", "deployment", "gwfast-gwfast", "-n", SYSTEM, "--replicas", "3")
    cluster.wait_for(lambda: cluster.get("Deployment", "gwfast-gwfast", SYSTEM)["spec"]["replicas"] == 2)
    cluster.kubectl("delete", "service", "web-gwfast", "-n", namespace)
    cluster.wait_for(lambda: cluster.http(address(cluster, controller, f"{namespace}/web"), 80, timeout=1).status == 200)


@pytest.mark.parametrize("name", ["a" * 253, "1" * 64, "web.example"])
def test_names_that_are_no_names_of_services(cluster, start, namespace, name):
    name = name if len(name) < 253 else ".".join(["a" * 60] * 4)[:243] + ".example.b"
    controller = start()
    cluster.apply(gateway(f"'{name}'", namespace))
    assert answer(cluster, address(cluster, controller, f"{namespace}/{name}"))
    (service,) = cluster.objects("Service", namespace)
    label = service["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"]
    assert len(label) <= 63 and (label == name) is (len(name) <= 63)


def test_data_planes_of_its_own_and_back(cluster, start, namespace):
    controller = start()
    cluster.apply(gateway("web", namespace))
    host = address(cluster, controller, f"{namespace}/web")
    cluster.apply(parameters("own", namespace, "{dedicated: true, replicas: 1}")
                  + gateway("web", namespace, infrastructure="{labels: {team: a}, " + own("own")[1:]))
    cluster.wait_for(lambda: cluster.http(host, 80).body.decode().startswith("web-gwfast-"), "its own data planes to answer")
    for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget"):
        cluster.comes_to(lambda kind=kind: cluster.get(kind, "web-gwfast", namespace)["metadata"]["labels"]["team"], "a", kind)
    pods = [each for each in cluster.objects("Pod", namespace) if each["metadata"]["labels"].get("team") == "a"]
    assert pods and all(each["spec"]["serviceAccountName"] == "web-gwfast" for each in pods)
    cluster.wait_for(lambda: f"{namespace}/web-gwfast" in controller.said["fleets"], "the fleet to be known")
    cluster.apply(gateway("web", namespace))
    cluster.wait_for(lambda: cluster.http(host, 80).body.decode().startswith("gwfast-gwfast-"), "the shared ones to answer")
    gone(cluster, "Deployment", "web-gwfast", namespace)
    gone(cluster, "ServiceAccount", "web-gwfast", namespace)
    cluster.comes_to(lambda: controller.said["fleets"], [f"{SYSTEM}/gwfast-gwfast"])
    assert not controller.forbidden()


def test_replicas_are_the_autoscalers(cluster, start, namespace):
    controller = start()
    cluster.apply(parameters("own", namespace, "{dedicated: true, replicas: 3}") + gateway("web", namespace, infrastructure=own("own")))
    cluster.wait_for(lambda: (cluster.get("Deployment", "web-gwfast", namespace) or {"spec": {}})["spec"].get("replicas") == 3)
    cluster.apply(parameters("own", namespace, "{dedicated: true, autoscaling: {minReplicas: 1, maxReplicas: 5}}"))
    cluster.wait_for(lambda: cluster.get("HorizontalPodAutoscaler", "web-gwfast", namespace))
    controller.quiet()
    assert cluster.get("Deployment", "web-gwfast", namespace)["spec"]["replicas"] == 3
    cluster.kubectl("scale", "deployment", "web-gwfast", "-n", namespace, "--replicas", "2")
    controller.quiet()
    assert cluster.get("Deployment", "web-gwfast", namespace)["spec"]["replicas"] == 2
    cluster.apply(parameters("own", namespace, "{dedicated: true, replicas: 1}"))
    cluster.wait_for(lambda: cluster.get("Deployment", "web-gwfast", namespace)["spec"]["replicas"] == 1)
    gone(cluster, "HorizontalPodAutoscaler", "web-gwfast", namespace)


def test_a_failover_changes_nothing(cluster, start, namespace):
    first, second = start(), start(leads=False)
    cluster.apply(parameters("own", namespace, "{dedicated: true, replicas: 1}")
                  + gateway("a", namespace, 80, 8080) + gateway("b", namespace) + gateway("c", namespace, infrastructure=own("own")))
    for name in "abc":
        answer(cluster, address(cluster, first, f"{namespace}/{name}"))
    cluster.wait_for(lambda: everything_ready(cluster, namespace, "a-gwfast", "b-gwfast"), "every data plane to be ready, and known")
    first.quiet()
    cluster.wait_for(lambda: {**second.said, "writes": 0} == {**first.said, "writes": 0}, "the second to know what the first does")

    def there():
        kinds = ("Service", "Deployment", "ServiceAccount", "PodDisruptionBudget", "EndpointSlice", "ConfigMap")
        return {(kind, each["metadata"]["name"]): (each["metadata"]["uid"], None if kind == "EndpointSlice" else each["metadata"].get(
            "generation"), each.get("spec")) for kind in kinds for at in (namespace, SYSTEM) for each in cluster.objects(kind, at)}

    def readiness():
        """What is not the controller's: a Pod that is not ready for a moment, on a machine that is busy."""
        return {each["metadata"]["name"]: each["metadata"]["generation"] for at in (namespace, SYSTEM) for each in cluster.objects("EndpointSlice", at)}
    before, ends = there(), readiness()
    first.process.kill()
    second.lead()
    assert second.quiet() == 0 or readiness() != ends
    assert there() == before
    ends = readiness()
    third = start()  # one that knows nothing, while the API server is slow to answer it
    cluster.cut_watches()
    assert third.quiet() == 0 or readiness() != ends
    assert there() == before


def test_two_that_lead_at_once_give_no_target_twice(cluster, start, namespace):
    """One that has lost its lease and does not know it yet, and the next one: the API server refuses the record of one of them."""
    first, second = start(), start()
    names = [f"g{at}" for at in range(12)]
    for at in range(0, len(names), 3):
        cluster.apply("".join(gateway(name, namespace, 80, 443) for name in names[at:at + 3]))

    def recorded() -> list[str]:
        found = (cluster.get("ConfigMap", "gwfast-gwfast-ports", SYSTEM) or {}).get("data") or {}
        said = [each for line in found.get(namespace, "").splitlines() for each in line.split()[1:]]
        targets = [each.partition("=")[2] for each in said]
        assert len(targets) == len(set(targets)), found
        return targets
    cluster.wait_for(lambda: len(recorded()) == 24, "all to be recorded")
    cluster.wait_for(lambda: first.said["targets"] == second.said["targets"] and all(
        len(first.said["targets"].get(f"{namespace}/{name}", ())) == 2 for name in names), "both to know the same")
    given = [target for name in names for target in first.said["targets"][f"{namespace}/{name}"].values()]
    assert sorted(map(str, given)) == sorted(recorded())

    def led() -> dict[str, set[int]]:
        found = {name: cluster.get("Service", f"{name}-gwfast", namespace) for name in names}
        return {name: {port["targetPort"] for port in each["spec"]["ports"]} for name, each in found.items() if each}
    expected = {name: set(first.said["targets"][f"{namespace}/{name}"].values()) for name in names}
    cluster.wait_for(lambda: led() == expected, "Services to lead there")
    assert not first.forbidden() and not second.forbidden()


def test_what_is_somebody_elses_stays(cluster, start, namespace):
    controller = start()
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-gwfast", "namespace": namespace},
                    "spec": {"ports": [{"port": 1}]}})
    before = cluster.get("Service", "web-gwfast", namespace)
    cluster.apply(gateway("web", namespace))
    assert answer(cluster, address(cluster, controller, f"{namespace}/web"))
    assert cluster.get("Service", "web-gwfast", namespace) == before


def test_addresses_that_are_asked_for(cluster, start, namespace):
    controller = start()
    cluster.apply(gateway("web", namespace, addresses="[{value: 203.0.113.77}]"))
    cluster.wait_for(lambda: controller.said["assigned"].get(f"{namespace}/web") == [[], "AddressNotUsable"])
    cluster.apply(gateway("other", namespace))
    free = address(cluster, controller, f"{namespace}/other")
    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "other", "-n", namespace)
    gone(cluster, "Service", "other-gwfast", namespace)
    cluster.apply(gateway("web", namespace, addresses=f"[{{value: {free}}}]"))
    cluster.wait_for(lambda: controller.said["assigned"].get(f"{namespace}/web") == [[free], ""])
    assert answer(cluster, free)


def test_what_the_api_server_refuses_is_the_gateways_condition(cluster, start, namespace):
    controller = start()
    cluster.apply(parameters("own", namespace, "{service: {loadBalancerSourceRanges: [everywhere]}}")
                  + parameters("mended", namespace, "{service: {type: ClusterIP}}")
                  + gateway("web", namespace, infrastructure=own("own")))
    cluster.wait_for(lambda: controller.said["assigned"].get(f"{namespace}/web") == [[], "Pending"])
    cluster.apply(gateway("web", namespace, infrastructure=own("mended")))
    address(cluster, controller, f"{namespace}/web")


def test_namespaces_that_are_watched(cluster, start, namespace):
    """Only those: what is elsewhere is neither made nor looked at."""
    controller = start(namespace)
    cluster.kubectl("create", "namespace", f"{namespace}-else")
    cluster.apply(gateway("web", namespace) + gateway("web", f"{namespace}-else"))
    assert answer(cluster, address(cluster, controller, f"{namespace}/web"))
    assert cluster.get("Service", "web-gwfast", f"{namespace}-else") is None
    cluster.kubectl("delete", "namespace", f"{namespace}-else", "--wait=false")


def test_a_class_that_goes_takes_its_fleet(cluster, start, namespace):
    start()
    cluster.create({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "brief"},
                    "spec": {"controllerName": "gwfast.dev/gateway-controller"}})
    cluster.wait_for(lambda: cluster.get("Deployment", "gwfast-brief", SYSTEM))
    cluster.kubectl("delete", "gatewayclass", "brief")
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        gone(cluster, kind, "gwfast-brief", SYSTEM)
    gone(cluster, "ConfigMap", "gwfast-brief-ca", SYSTEM)


def test_the_authority_is_kept(cluster, start, namespace):
    first = start()
    data = cluster.wait_for(lambda: cluster.get("Secret", "gwfast-authority", SYSTEM))["data"]
    first.process.kill()
    second = start()
    second.quiet()
    assert cluster.get("Secret", "gwfast-authority", SYSTEM)["data"] == data
    bundle = cluster.wait_for(lambda: cluster.get("ConfigMap", "gwfast-gwfast-ca", SYSTEM)["data"]["ca.crt"], "the authority to be told")
    assert bundle.startswith("-----BEGIN CERTIFICATE-----")
