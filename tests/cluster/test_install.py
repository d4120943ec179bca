"""What people install, in a cluster that authorizes by RBAC: deploy/install.yaml, and the chart as one process; traffic, conditions, addresses,
data planes of a Gateway's own, and what is left when all goes.
"""
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster import Cluster
from conftest import require_cluster

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEM = "gwfast-system"
BUILT = DEPLOY.parent / "build/helm/helm"
HELM = str(BUILT) if BUILT.exists() else shutil.which("helm")
needs_helm = pytest.mark.skipif(not HELM, reason="there is no helm: run ci/helm")
BACKEND = """
apiVersion: v1
kind: Service
metadata: {name: api-service}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 3000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: echo, image: echo-basic, env: [{name: POD_NAME, value: api}, {name: NAMESPACE, value: default}],
                readinessProbe: {tcpSocket: {port: 3000}}}]
---
"""
ROUTED = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: my-gateway}
spec:
  gatewayClassName: gwfast
  listeners:
  - {name: web, protocol: HTTP, port: 80}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: my-route}
spec:
  parentRefs: [{name: my-gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: api-service, port: 80}]
---
"""
DEDICATED = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own}
spec: {dedicated: true, replicas: 1, options: {via: own}}
---
""" + ROUTED.replace("spec:\n  gatewayClassName", "spec:\n  infrastructure: {labels: {team: shop}, parametersRef: "
                     "{group: gwfast.dev, kind: GatewayParameters, name: own}}\n  gatewayClassName").replace("my-", "own-")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    require_cluster()
    with Cluster() as cluster:
        cluster.install_crds()
        yield cluster


def address(cluster: Cluster, name: str) -> str:
    """The address of a Gateway, once it is programmed and answers."""
    cluster.wait_for(lambda: cluster.condition("Gateway", name, "Programmed") == "True", f"{name} to be programmed", 60)
    found = cluster.get("Gateway", name)["status"]["addresses"][0]["value"]
    cluster.wait_for(lambda: cluster.http(found, 80, "/api/x").status == 200, f"{name} to answer", 30)
    return found


def logs(cluster: Cluster) -> str:
    return "\n".join(cluster.kubectl("logs", each["metadata"]["name"], "-n", SYSTEM, check=False) for each in cluster.objects("Pod", SYSTEM))


def test_install_yaml(cluster: Cluster) -> None:
    cluster.apply(DEPLOY / "install.yaml", "--server-side")
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")
    assert cluster.http(host, 80, "/other").status == 404
    assert cluster.condition("GatewayClass", "gwfast", "Accepted", "") == "True"
    (parent,) = cluster.get("HTTPRoute", "my-route")["status"]["parents"]
    assert {each["type"]: each["status"] for each in parent["conditions"]} == {"Accepted": "True", "ResolvedRefs": "True"}

    cluster.apply(DEDICATED)
    own = address(cluster, "own-gateway")
    assert own != host
    (pod,) = [each for each in cluster.objects("Pod", "default") if each["metadata"]["labels"].get("team") == "shop"]
    assert pod["spec"]["serviceAccountName"] == "own-gateway-gwfast"
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
    assert cluster.get("Service", "my-gateway-gwfast") is None


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
            lost.extend([answer.status] if (answer := cluster.http(host, 80, "/api/x", timeout=5)).status != 200 else [])
        except OSError as problem:
            lost.append(problem)
        pods = [each for each in cluster.objects("Pod", SYSTEM) if "controller" in each["metadata"]["name"]]
        return len(pods) == 2 and not old & {each["metadata"]["uid"] for each in pods} and all(
            any(one["type"] == "Ready" and one["status"] == "True" for one in each["status"].get("conditions") or ()) for each in pods)
    cluster.wait_for(rolled, "the controller to have rolled", 90)
    assert lost == [] and uids() == before


def install(cluster: Cluster, *values: str) -> None:
    """Install the chart with values, each `a.b=JSON`."""
    sets = [part for value in values for part in ("--set-json", value)]
    text = subprocess.run([HELM, "template", "gwfast", DEPLOY / "helm/gwfast", "--namespace", SYSTEM, "--kube-version", "1.30", *sets],
                          capture_output=True, text=True, check=True).stdout
    cluster.kubectl("create", "namespace", SYSTEM)
    cluster.apply(yaml.safe_dump_all(each for each in yaml.safe_load_all(text) if each))


@needs_helm
def test_rights_in_some_namespaces_and_none_for_dedicated_data_planes(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "other")
    install(cluster, 'watchNamespaces=["default"]', "rbac.dedicated=false", 'gatewayClass.parameters={"replicas":1,"options":{"via":"edge"}}')
    cluster.apply(BACKEND + ROUTED + ROUTED.replace("{name: my-gateway}", "{name: my-gateway, namespace: other}", 1))
    host = address(cluster, "my-gateway")
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said
    assert cluster.get("Deployment", "gwfast-gwfast", SYSTEM)["spec"]["replicas"] == 1
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
                if (status := cluster.http(host, 80, "/api/x", timeout=5).status) != 200:
                    lost.append(status)
            except OSError as problem:
                lost.append(problem)
        pods = [each for each in cluster.objects("Pod", SYSTEM) if "controller" not in each["metadata"]["name"]]
        return len(pods) == 2 and not old & {each["metadata"]["uid"] for each in pods}
    cluster.wait_for(rolled, "the data planes to have rolled", 120)
    assert lost == [] and asked > 100
