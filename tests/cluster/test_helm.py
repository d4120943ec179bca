"""helm against a real API server: what the chart makes is what the kinds' schemas say, an upgrade to the next version keeps what Gateways
have, and what docs/kubernetes.md says of uninstalling works in the order that it says.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster import Cluster, Failed
from installed import BACKEND, CHART, DEPLOY, HELM, ROUTED, SYSTEM, Load, address, install_yaml, logs, needs_helm

HERE = Path(__file__).parent
EVERYTHING = ['serviceMonitor={"create":true,"labels":{"release":"prometheus"}}', "networkPolicy.create=true", 'watchNamespaces=["default"]',
              'gatewayClass.parameters={"autoscaling":{"minReplicas":2,"maxReplicas":4},"podDisruptionBudget":{"minAvailable":1}}']
OURS = ("Service", "Deployment", "ServiceAccount", "PodDisruptionBudget", "ConfigMap", "EndpointSlice", "HorizontalPodAutoscaler")


@pytest.fixture
def cluster(fresh_cluster: Cluster) -> Cluster:
    return fresh_cluster


def helm(cluster: Cluster, *arguments: str | Path) -> str:
    """Run helm on the node and return what it writes. Raises Failed."""
    argv = cluster.sandbox.command([HELM, "--kubeconfig", cluster.kubeconfig, *arguments])
    home = {"HELM_CACHE_HOME": str(cluster.state / "helm"), "HELM_CONFIG_HOME": str(cluster.state / "helm"), "HELM_DATA_HOME": str(cluster.state / "helm")}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, env=os.environ | home)
    if done.returncode:
        raise Failed(f"helm {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


@needs_helm
@pytest.mark.parametrize("mode", ["controller", "one-process"])
def test_what_the_chart_makes_is_what_the_kinds_say(cluster: Cluster, mode: str) -> None:
    """Everything on: no field that a kind does not have, and none that it does not take."""
    cluster.apply(HERE / "monitors.yaml")
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
    cluster.kubectl("create", "namespace", SYSTEM)
    sets = [part for value in (f'mode="{mode}"', *EVERYTHING) for part in ("--set-json", value)]
    text = helm(cluster, "template", "gwfast", CHART, "--namespace", SYSTEM, "--validate", *sets)
    cluster.apply(text, "--validate=strict")
    name = "gwfast-controller" if mode == "controller" else "gwfast"
    monitor = cluster.wait_for(lambda: cluster.get("ServiceMonitor", name, SYSTEM), "the API server to read what it has just learnt of")
    assert monitor["spec"]["endpoints"]
    monitors = cluster.wait_for(lambda: [cluster.objects("PodMonitor", SYSTEM)], "the API server to read what it has just learnt of")[0]
    assert len(cluster.objects("NetworkPolicy", SYSTEM)) == len(monitors) == (mode == "controller")
    cluster.wait_for(lambda: cluster.objects("PodDisruptionBudget", SYSTEM), "the PodDisruptionBudget")
    if mode == "controller":
        cluster.comes_to(lambda: [cluster.get("HorizontalPodAutoscaler", "gwfast-gwfast", SYSTEM)["spec"][name] for name in
                                  ("minReplicas", "maxReplicas")], [2, 4], "the autoscaler")
        cluster.comes_to(lambda: cluster.get("PodDisruptionBudget", "gwfast-gwfast", SYSTEM)["spec"]["minAvailable"], 1, "the budget")


@needs_helm
def test_an_upgrade_keeps_what_gateways_have(cluster: Cluster, tmp_path: Path) -> None:
    """To the next version of the chart and of the program, under load: Services, addresses and target ports stay, every answer is 200."""
    helm(cluster, "install", "gwfast", CHART, "--namespace", SYSTEM, "--create-namespace", "--wait")
    cluster.apply(BACKEND + ROUTED)
    host = address(cluster, "my-gateway")
    following = tmp_path / "gwfast"
    shutil.copytree(CHART, following)
    meta = (following / "Chart.yaml").read_text()
    (following / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*$", r'\1: "99.0.0"', meta))

    def kept() -> list:
        services = [cluster.get("Service", "my-gateway-gwfast"), cluster.get("Service", "gwfast-gwfast", SYSTEM)]
        return [(one["metadata"]["uid"], one["spec"]["clusterIPs"], one["spec"]["ports"]) for one in services]

    def rolled() -> bool:
        images = {container["image"] for pod in cluster.objects("Pod", SYSTEM) for container in pod["spec"]["containers"]}
        return images == {"gwfast:99.0.0"}
    before = kept()
    with Load(cluster, host) as load:
        helm(cluster, "upgrade", "gwfast", following, "--namespace", SYSTEM, "--wait")
        cluster.wait_for(rolled, "controller and data planes to roll", 150)
        load.goes_on()
    assert load.lost == [] and kept() == before
    assert helm(cluster, "list", "--namespace", SYSTEM, "-o", "json").count("gwfast-99.0.0") == 1
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said


def uninstalling(way: str) -> list[list[str]]:
    """The commands of the page for one of the two ways to install."""
    section = (DEPLOY.parent / "docs/kubernetes.md").read_text().partition("## Uninstall")[2]
    gateways, plain, chart = re.findall(r"(?s)```console\n(.*?)```", section)
    lines = [line.removeprefix("$ ") for line in (gateways + (chart if way == "helm" else plain)).splitlines()]
    return [line.partition("#")[0].split() for line in lines]


@pytest.mark.parametrize("way", ["install.yaml", pytest.param("helm", marks=needs_helm)])
def test_nothing_is_left_behind_what_the_page_says_of_uninstalling(cluster: Cluster, way: str) -> None:
    if way == "helm":
        helm(cluster, "install", "gwfast", CHART, "--namespace", SYSTEM, "--create-namespace", "--wait")
    else:
        install_yaml(cluster)
    cluster.apply(BACKEND + ROUTED)
    address(cluster, "my-gateway")
    steps = uninstalling(way)
    assert [each[0] for each in steps] == (["kubectl", "helm", "kubectl", "kubectl"] if way == "helm" else ["kubectl"] * 2)
    for program, *arguments in steps:
        arguments = [str(DEPLOY.parent / each) if each.startswith("deploy/") else each for each in arguments]
        assert helm(cluster, *arguments) if program == "helm" else cluster.kubectl(*arguments, seconds=240)

    def left() -> list[str]:
        return [f"{kind} {one['metadata']['name']}" for kind in OURS for place in ("default", SYSTEM) for one in cluster.objects(kind, place)
                if "gwfast" in one["metadata"]["name"]]
    cluster.wait_for(lambda: left() == [], "everything to go", 90)
    assert not [one for one in cluster.objects("CustomResourceDefinition") if one["spec"]["group"] == "gwfast.dev"]
    assert not [one for kind in ("ClusterRole", "ClusterRoleBinding") for one in cluster.objects(kind) if "gwfast" in one["metadata"]["name"]]
    assert cluster.get("HTTPRoute", "my-route")  # what is not gwfast's stays
