"""What people install, in a cluster that authorizes by RBAC: deploy/install.yaml, and the chart as one process; traffic, conditions, addresses,
data planes of a Gateway's own, and what is left when all goes.
"""

import pytest

from cluster import Cluster
from installed import BACKEND, DEPLOY, ROUTED, SYSTEM, address, install, logs, needs_helm

PATIENT = 30.0  # seconds for an answer on a machine that is busy with other things: what is lost is refused, or never answered
DEDICATED = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own}
spec: {dedicated: true, replicas: 1, options: {via: own}}
---
""" + ROUTED.replace("spec:\n  gatewayClassName", "spec:\n  infrastructure: {labels: {team: shop}, parametersRef: "
                     "{group: gwfast.dev, kind: GatewayParameters, name: own}}\n  gatewayClassName").replace("my-", "own-")


@pytest.fixture
def cluster(fresh_cluster: Cluster) -> Cluster:
    return fresh_cluster


def test_install_yaml(cluster: Cluster) -> None:
    cluster.apply(DEPLOY / "install.yaml", "--server-side")
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")
    assert cluster.http(host, 80, "/other").status == 404
    cluster.comes_to(lambda: cluster.condition("GatewayClass", "gwfast", "Accepted", ""), "True")
    cluster.comes_to(lambda: [{each["type"]: each["status"] for each in parent["conditions"]}
                              for parent in cluster.get("HTTPRoute", "my-route")["status"]["parents"]],
                     [{"Accepted": "True", "ResolvedRefs": "True"}], "the status of the route")

    cluster.apply(DEDICATED)
    own = address(cluster, "own-gateway")
    assert own != host
    cluster.comes_to(lambda: [each["spec"]["serviceAccountName"] for each in cluster.objects("Pod", "default")
                              if each["metadata"]["labels"].get("team") == "shop"], ["own-gateway-gwfast"])
    for verb, what in (("get", "pods"), ("list", "secrets"), ("watch", "gateways.gateway.networking.k8s.io")):
        asked = cluster.kubectl("auth", "can-i", verb, what, "--as", "system:serviceaccount:default:own-gateway-gwfast", check=False)
        assert asked.strip().endswith("no"), asked

    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "own-gateway")
    cluster.wait_for(lambda: not any(cluster.get(kind, "own-gateway-gwfast")
                                     for kind in ("Service", "Deployment", "ServiceAccount", "PodDisruptionBudget")))
    assert cluster.http(host, 80, "/api/x").status == 200
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said

    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "my-gateway")
    cluster.kubectl("delete", "gatewayclass", "gwfast")
    cluster.wait_for(lambda: [each["metadata"]["name"] for each in cluster.objects("Deployment", SYSTEM)] == ["gwfast-controller"],
                     "the data planes to go with their class")
    cluster.wait_for(lambda: cluster.get("Service", "my-gateway-gwfast") is None, "its Service to go")


def test_a_controller_that_rolls_loses_nothing_and_makes_nothing_anew(cluster: Cluster) -> None:
    cluster.apply(DEPLOY / "install.yaml", "--server-side")
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")

    def uids():
        return {(kind, each["metadata"]["name"]): each["metadata"]["uid"]
                for kind, at in (("Service", "default"), ("Deployment", SYSTEM), ("ServiceAccount", SYSTEM), ("Service", SYSTEM))
                for each in cluster.objects(kind, at)}
    before, lost = uids(), []
    old = {each["metadata"]["uid"] for each in cluster.objects("Pod", SYSTEM) if "controller" in each["metadata"]["name"]}
    cluster.kubectl("rollout", "restart", "deployment/gwfast-controller", "-n", SYSTEM)

    def rolled():
        try:
            lost.extend([answer.status] if (answer := cluster.http(host, 80, "/api/x", timeout=PATIENT)).status != 200 else [])
        except OSError as problem:
            lost.append(problem)
        pods = [each for each in cluster.objects("Pod", SYSTEM) if "controller" in each["metadata"]["name"]]
        return len(pods) == 2 and not old & {each["metadata"]["uid"] for each in pods} and all(
            any(one["type"] == "Ready" and one["status"] == "True" for one in each["status"].get("conditions") or ()) for each in pods)
    cluster.wait_for(rolled, "the controller to have rolled", 90)
    assert lost == [] and uids() == before


@needs_helm
def test_rights_in_some_namespaces_and_none_for_dedicated_data_planes(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "other")
    install(cluster, 'watchNamespaces=["default"]', "rbac.dedicated=false", 'gatewayClass.parameters={"replicas":1,"options":{"via":"edge"}}')
    cluster.apply(BACKEND + ROUTED + ROUTED.replace("{name: my-gateway}", "{name: my-gateway, namespace: other}", 1))
    host = address(cluster, "my-gateway")
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said
    cluster.comes_to(lambda: cluster.get("Deployment", "gwfast-gwfast", SYSTEM)["spec"]["replicas"], 1)
    assert not [each for each in cluster.objects("Service", "other")]
    cluster.apply(DEDICATED)
    cluster.wait_for(lambda: any("Deployment default/own-gateway-gwfast" in line and "orbidden" in line
                                 for line in logs(cluster).splitlines()), "the log to tell what is not allowed")
    assert cluster.condition("Gateway", "own-gateway", "Programmed") != "True"
    assert cluster.http(host, 80, "/api/x").status == 200


@needs_helm
def test_the_chart_as_one_process(cluster: Cluster) -> None:
    install(cluster, 'mode="one-process"')
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")
    assert host == cluster.get("Service", "gwfast", SYSTEM)["status"]["loadBalancer"]["ingress"][0]["ip"]
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said


def test_data_planes_that_roll_lose_nothing(cluster: Cluster) -> None:
    """Connections that come while Pods go: endpoints that end are known everywhere before their Pod stops."""
    cluster.apply(DEPLOY / "install.yaml", "--server-side")
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")
    cluster.kubectl("rollout", "status", "deployment/gwfast-gwfast", "-n", SYSTEM, "--timeout=60s")
    old = {each["metadata"]["uid"] for each in cluster.objects("Pod", SYSTEM)}
    cluster.kubectl("rollout", "restart", "deployment/gwfast-gwfast", "-n", SYSTEM)
    lost, asked = [], 0

    def rolled():
        nonlocal asked
        for _ in range(20):
            asked += 1
            try:
                if (status := cluster.http(host, 80, "/api/x", timeout=PATIENT).status) != 200:
                    lost.append(status)
            except OSError as problem:
                lost.append(problem)
        pods = [each for each in cluster.objects("Pod", SYSTEM) if "controller" not in each["metadata"]["name"]]
        return asked > 100 and len(pods) == 2 and not old & {each["metadata"]["uid"] for each in pods}
    cluster.wait_for(rolled, "the data planes to have rolled", 120)
    assert lost == []
