"""What tenants may say of data planes, in a cluster where gwfast is installed: what reaches further than their namespace is refused, and
what they have serves on.
"""
from collections.abc import Iterator

import pytest

from cluster import Cluster
from conftest import require_cluster
from installed import BACKEND, SYSTEM, Load, address, install_yaml, parameters, routed, told
from node.network import NODE_IP


@pytest.fixture(scope="module")
def world() -> Iterator[Cluster]:
    require_cluster()
    with Cluster() as cluster:
        cluster.install_crds()
        install_yaml(cluster)
        cluster.apply(BACKEND)
        yield cluster


@pytest.fixture
def cluster(world: Cluster) -> Iterator[Cluster]:
    yield world
    world.kubectl("delete", "gateways.gateway.networking.k8s.io", "--all")


def test_what_a_tenant_must_not_give(cluster: Cluster) -> None:
    """A patch that takes an address of others is refused with what would be right; the Gateway serves as before, and on once it is mended."""
    right, wrong = "{dedicated: true, replicas: 1}", "{dedicated: true, replicas: 1, patches: [{kind: Service, value: {spec: {externalIPs: [10.96.0.1]}}}]}"
    cluster.apply(parameters("own", right) + routed("own", "own"))
    host = address(cluster, "own-gateway")
    with Load(cluster, host) as load:
        cluster.apply(parameters("own", wrong))
        cluster.wait_for(lambda: told(cluster, "own-gateway", "Accepted")[:2] == ("False", "InvalidParameters"), "the parameters to be refused")
        message = told(cluster, "own-gateway", "Accepted")[2]
        assert "GatewayParameters default/own spec.patches" in message and "allow dedicated, replicas, " in message
        load.goes_on()
        assert "externalIPs" not in cluster.get("Service", "own-gateway-gwfast")["spec"]
        old = {each["metadata"]["name"] for each in cluster.objects("Pod", SYSTEM) if "controller" in each["metadata"]["name"]}
        cluster.kubectl("delete", "pods", "-n", SYSTEM, *old)  # who comes next does not know what was right
        cluster.wait_for(lambda: not old & {each["metadata"]["name"] for each in cluster.objects("Pod", SYSTEM)}
                         and cluster.get("Deployment", "gwfast-controller", SYSTEM)["status"].get("readyReplicas") == 2, "other controllers", 90)
        load.goes_on()
        assert cluster.get("Deployment", "own-gateway-gwfast")["spec"]["replicas"] == 1
        cluster.apply(parameters("own", right.replace("1", "2")))
        cluster.wait_for(lambda: told(cluster, "own-gateway", "Accepted")[0] == "True", "the parameters to be taken")
        cluster.wait_for(lambda: cluster.get("Deployment", "own-gateway-gwfast")["spec"]["replicas"] == 2)
        load.goes_on()
    assert load.lost == []


def test_a_gateway_that_moves_loses_nothing(cluster: Cluster) -> None:
    """From shared data planes to its own, back, and back again before it has arrived: one address, every answer 200."""
    shared, own = routed("move"), parameters("moving", "{dedicated: true, replicas: 1}") + routed("move", "moving")
    cluster.apply(shared)
    host = address(cluster, "move-gateway")

    def keepers() -> set[str]:
        return {one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for one in cluster.objects("EndpointSlice", "default")
                if one["metadata"]["labels"]["kubernetes.io/service-name"] == "move-gateway-gwfast"}

    def arrived_at_own() -> bool:
        return keepers() == {"endpointslice-controller.k8s.io"} and bool(cluster.get("Service", "move-gateway-gwfast")["spec"].get("selector"))

    def arrived_at_shared() -> bool:
        return keepers() == {"gwfast.dev"} and not cluster.get("Deployment", "move-gateway-gwfast") and (
            "selector" not in cluster.get("Service", "move-gateway-gwfast")["spec"])
    with Load(cluster, host) as load:
        for _ in range(2):
            cluster.apply(own)
            cluster.wait_for(arrived_at_own, "its own data planes to serve", 90)
            load.goes_on(300)
            cluster.apply(shared)
            cluster.wait_for(arrived_at_shared, "the shared ones to serve", 90)
            load.goes_on(300)
        cluster.apply(own)
        cluster.wait_for(lambda: cluster.get("Deployment", "move-gateway-gwfast"), "it to move")
        cluster.apply(shared)
        cluster.wait_for(arrived_at_shared, "it to be back", 90)
        cluster.wait_for(lambda: not [each for each in cluster.objects("Pod", "default") if each["metadata"]["name"].startswith("move-")], "", 90)
        load.goes_on(300)
    assert load.lost == []
    cluster.comes_to(lambda: cluster.get("Gateway", "move-gateway")["status"]["addresses"][0]["value"], host)


def test_two_gateways_on_the_network_of_one_node(cluster: Cluster) -> None:
    """Their ports are those of the node, and what each answers probes on is its own."""
    cluster.apply(parameters("nodes", "{dedicated: true, hostNetwork: true, replicas: 1}", SYSTEM) + f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: nodes}}
spec:
  controllerName: gwfast.dev/gateway-controller
  parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: nodes, namespace: {SYSTEM}}}
---
""" + routed("first", of="nodes") + routed("second", of="nodes").replace("port: 80}", "port: 81}", 1))
    for name, port in (("first-gateway", 80), ("second-gateway", 81)):
        cluster.wait_for(lambda name=name: told(cluster, name, "Programmed")[0] == "True", f"{name} to be programmed", 60)
        cluster.comes_to(lambda name=name: [one["value"] for one in cluster.get("Gateway", name)["status"]["addresses"]], [NODE_IP])
        cluster.wait_for(lambda port=port: cluster.http(NODE_IP, port, "/api/x").status == 200, f"{name} to answer")
        assert cluster.http(NODE_IP, port, "/other").status == 404

    def probed() -> list[int]:
        pods = [each for each in cluster.objects("Pod", "default") if each["spec"].get("hostNetwork")]
        return [port["containerPort"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]]
    ports = cluster.wait_for(lambda: len(found := probed()) == 2 and found, "one Pod of each")
    assert len(set(ports)) == 2 and all(28000 <= port < 30000 for port in ports)
    for port in ports:
        cluster.comes_to(lambda port=port: cluster.http(NODE_IP, port, "/readyz").status, 200)
    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "first-gateway", "second-gateway")
    cluster.kubectl("delete", "gatewayclass", "nodes")


def test_an_address_of_somebody_else(cluster: Cluster) -> None:
    """externalIPs would take what is sent to the address of another Gateway (CVE-2020-8554); a load balancer decides itself."""
    cluster.apply(routed("shop"))
    victim = address(cluster, "shop-gateway")
    thief = routed("thief", "ports", more=f"  addresses: [{{value: {victim}}}]\n").replace("value: /api", "value: /stolen")
    cluster.apply(parameters("ports", "{service: {type: NodePort}}") + thief)
    expected = (f"it must not ask for {victim}: the parameters of its GatewayClass (spec.addresses) say none, "
                "and its Service is not of type LoadBalancer")
    cluster.wait_for(lambda: told(cluster, "thief-gateway", "Programmed") == ("False", "AddressNotUsable", expected), "the address to be refused")
    assert "externalIPs" not in cluster.get("Service", "thief-gateway-gwfast")["spec"]
    cluster.apply(parameters("ports", "{service: {type: LoadBalancer}}"))
    cluster.wait_for(lambda: cluster.get("Service", "thief-gateway-gwfast")["spec"].get("loadBalancerIP") == victim, "a load balancer to be asked")
    cluster.wait_for(lambda: told(cluster, "thief-gateway", "Programmed")[:2] == ("False", "AddressNotUsable"), "it to decide")
    assert [cluster.http(victim, 80, path).status for path in ("/api/x", "/stolen")] == [200, 404]


def test_addresses_that_a_class_allows(cluster: Cluster) -> None:
    cluster.apply(parameters("of-class", "{service: {type: ClusterIP}, addresses: [198.51.100.0/24]}", SYSTEM) + f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: bare}}
spec:
  controllerName: gwfast.dev/gateway-controller
  parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: of-class, namespace: {SYSTEM}}}
---
""" + routed("bare", of="bare", more="  addresses: [{value: 198.51.100.7}]\n"))
    assert address(cluster, "bare-gateway") == "198.51.100.7"
    assert cluster.get("Service", "bare-gateway-bare")["spec"]["externalIPs"] == ["198.51.100.7"]
    cluster.kubectl("patch", "gatewayparameters", "of-class", "-n", SYSTEM, "--type=merge", "-p", '{"spec": {"addresses": ["192.0.2.0/24"]}}')
    cluster.wait_for(lambda: told(cluster, "bare-gateway", "Programmed")[:2] == ("False", "AddressNotUsable"), "the address to be refused")
    cluster.wait_for(lambda: "externalIPs" not in cluster.get("Service", "bare-gateway-bare")["spec"], "the address to go")
    cluster.kubectl("delete", "gatewayclass", "bare")
