"""What the controller may write: its own, and nothing of others, by an admission policy where roles cannot say so; asked as its
ServiceAccount at a real API server.
"""

import pytest

from cluster import Cluster, Failed
from installed import BACKEND, SYSTEM, address, install, install_yaml, logs, needs_helm, parameters, routed

CONTROLLER = "system:serviceaccount:gwfast-system:gwfast-controller"
LABELLED = "{name: %s, namespace: default, labels: {gwfast.dev/controller: gwfast.dev_gateway-controller}}"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: %s
spec:
  replicas: 0
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {serviceAccountName: %s, containers: [{name: a, image: busybox}]}
"""


@pytest.fixture
def cluster(fresh_cluster: Cluster) -> Cluster:
    return fresh_cluster


def refused(cluster: Cluster, words: str, *arguments: str, text: str | None = None) -> bool:
    """Whether the controller is told this. A policy takes effect a moment after it was written."""
    try:
        cluster.kubectl(*arguments, "--as", CONTROLLER, text=text)
    except Failed as problem:
        return words in str(problem)
    return False


def test_nothing_of_others(cluster: Cluster) -> None:
    install_yaml(cluster)
    cluster.apply(BACKEND + routed("my"))
    host = address(cluster, "my-gateway")
    cluster.kubectl("create", "configmap", "others", "--from-literal=a=b")
    dry, theirs = "--dry-run=server", "somebody else's"
    patch = ("patch", "configmap", "others", "--type=merge", dry, "-p")
    # Each takes effect at a moment of its own.
    for words, arguments in (
            (theirs, (*patch, '{"data": {"a": "c"}}')), (theirs, (*patch, '{"metadata": {"labels": {"gwfast.dev/controller": "x"}}}')),
            (theirs, ("delete", "configmap", "others", dry)), (theirs, ("delete", "service", "kubernetes", dry)),
            ("without its label", ("create", "configmap", "new", dry)),
            ("without its label", ("label", "service", "my-gateway-gwfast", "gwfast.dev/controller-", dry))):
        cluster.wait_for(lambda words=words, arguments=arguments: refused(cluster, words, *arguments), f"{arguments} to be refused")
    cluster.wait_for(lambda: refused(cluster, "the ServiceAccount that was made for them", "create", dry, "-f", "-",
                                     text=DEPLOYMENT % (LABELLED % "x", "default")), "another ServiceAccount to be refused")
    cluster.kubectl("create", dry, "-f", "-", "--as", CONTROLLER, text=DEPLOYMENT % (LABELLED % "x", "x"))
    cluster.kubectl("create", "configmap", "new", dry)  # others may what they may
    for verb, what in (("create", "pods"), ("update", "deployments.apps"), ("patch", "secrets"), ("create", "roles"),
                       ("patch", "gateways.gateway.networking.k8s.io"), ("create", "pods/exec")):
        answer = cluster.kubectl("auth", "can-i", verb, what, "-n", "default", "--as", CONTROLLER, check=False)
        assert "no" in answer.splitlines(), (verb, what, answer)
    # With all that it makes, changes and removes its own.
    cluster.apply(parameters("own", "{dedicated: true, replicas: 1}") + routed("own", "own"))
    address(cluster, "own-gateway")
    cluster.kubectl("delete", "gateways.gateway.networking.k8s.io", "own-gateway")
    cluster.wait_for(lambda: not cluster.get("Deployment", "own-gateway-gwfast"), "its Deployment to go")
    assert cluster.http(host, 80, "/api/x").status == 200
    said = logs(cluster)
    assert "orbidden" not in said and "Traceback" not in said, said


@needs_helm
def test_dedicated_data_planes_in_some_namespaces_alone(cluster: Cluster) -> None:
    install(cluster, 'rbac.dedicatedNamespaces=["default"]')
    cluster.apply(BACKEND + parameters("own", "{dedicated: true, replicas: 1}") + routed("own", "own"))
    address(cluster, "own-gateway")
    assert "orbidden" not in logs(cluster)
    cluster.kubectl("create", "namespace", "other")
    cluster.apply((parameters("own", "{dedicated: true, replicas: 1}", "other") + routed("own", "own")).replace(
        "{name: own-gateway}", "{name: own-gateway, namespace: other}"))
    cluster.wait_for(lambda: any("Deployment other/own-gateway-gwfast" in line and "orbidden" in line for line in logs(cluster).splitlines()),
                     "the log to tell what is not allowed")
    assert cluster.condition("Gateway", "own-gateway", "Programmed", "other") != "True"
    assert cluster.get("Deployment", "own-gateway-gwfast", SYSTEM) is None
