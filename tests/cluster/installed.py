"""gwfast as people install it, for the tests of this folder: install.yaml or the chart, a backend, Gateways with a route, and load.

    install_yaml(cluster)                          kubectl apply of deploy/install.yaml
    install(cluster, "a.b=JSON", ...)              the chart with values; HELM says where helm is, needs_helm skips without
    address(cluster, "my-gateway")                 of a Gateway, once it is programmed and answers
    with Load(cluster, host) as load: ...          requests all the time, each on a connection of its own; load.lost, load.asked
"""
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest
import yaml

from cluster import Cluster

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm/gwfast"
SYSTEM = "gwfast-system"
BUILT = DEPLOY.parent / "build/helm/helm"
HELM = str(BUILT) if BUILT.exists() else shutil.which("helm")
needs_helm = pytest.mark.skipif(not HELM, reason="there is no helm: run ci/helm")
KUBERNETES = "1.30"  # the version that templates are rendered for, where no cluster is asked
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
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: my-gateway}
spec:
  gatewayClassName: gwfast
  listeners:
  - {name: web, protocol: HTTP, port: 80}
---
"""
ROUTED = GATEWAY + """
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


def parameters(name: str, spec: str, namespace: str = "default") -> str:
    return f"""
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


def routed(name: str = "my", own: str = "", more: str = "", of: str = "gwfast") -> str:
    """NAME-gateway, with a route to the backend; own: the name of its GatewayParameters; more: of its spec."""
    text = ROUTED.replace("my-", f"{name}-").replace("gatewayClassName: gwfast", f"gatewayClassName: {of}")
    if own:
        more = f"  infrastructure: {{parametersRef: {{group: gwfast.dev, kind: GatewayParameters, name: {own}}}}}\n{more}"
    return text.replace("spec:\n  gatewayClassName", f"spec:\n{more}  gatewayClassName")


def install_yaml(cluster: Cluster) -> None:
    cluster.apply(DEPLOY / "install.yaml", "--server-side")


def install(cluster: Cluster, *values: str) -> None:
    """Install the chart with values, each `a.b=JSON`."""
    sets = [part for value in values for part in ("--set-json", value)]
    text = subprocess.run([HELM, "template", "gwfast", CHART, "--namespace", SYSTEM, "--kube-version", KUBERNETES, *sets],
                          capture_output=True, text=True, check=True).stdout
    cluster.kubectl("create", "namespace", SYSTEM)
    cluster.apply(yaml.safe_dump_all(each for each in yaml.safe_load_all(text) if each))


def address(cluster: Cluster, name: str) -> str:
    """The address of a Gateway, once it is programmed and answers."""
    cluster.wait_for(lambda: cluster.condition("Gateway", name, "Programmed") == "True", f"{name} to be programmed", 60)
    found = cluster.get("Gateway", name)["status"]["addresses"][0]["value"]
    cluster.wait_for(lambda: cluster.http(found, 80, "/api/x").status == 200, f"{name} to answer", 30)
    return found


def told(cluster: Cluster, name: str, type: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition of a Gateway."""
    conditions = (cluster.get("Gateway", name) or {}).get("status", {}).get("conditions") or ()
    return next(((one["status"], one["reason"], one["message"]) for one in conditions if one["type"] == type), ("", "", ""))


def logs(cluster: Cluster) -> str:
    return "\n".join(cluster.kubectl("logs", each["metadata"]["name"], "-n", SYSTEM, check=False) for each in cluster.objects("Pod", SYSTEM))


class Load:
    """Requests all the time, by a few clients; what is not answered with 200 is lost."""

    def __init__(self, cluster: Cluster, host: str, target: str = "/api/x", clients: int = 2):
        self.lost: list[int | str] = []
        self.asked = 0
        self._cluster, self._host, self._target = cluster, host, target
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for each in self._threads:
            each.join(30)

    def _ask(self) -> None:
        while not self._ends.wait(0.005):
            try:
                status = self._cluster.http(self._host, 80, self._target, timeout=15).status
                self.lost += [] if status == 200 else [status]
            except OSError as problem:
                self.lost.append(repr(problem))
            self.asked += 1

    def goes_on(self, requests: int = 100) -> None:
        """Return when so many more have been made."""
        until = self.asked + requests
        self._cluster.wait_for(lambda: self.asked >= until or self.lost, "requests to be made", 60)
