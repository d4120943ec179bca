"""A class, backends and a gateway of a namespace's own, which follows what kubectl says."""
import json
import sys
from collections.abc import Iterator

import yaml
from cluster import Cluster, Failed
from node.network import NODE_IP
from sandbox import Process

ADMIN = 9010
BACKENDS = {"a": 9101, "b": 9102}


class World:
    """A namespace with a class of its own, two backends (Services a and b), and a gateway that serves that class."""

    def __init__(self, cluster: Cluster, namespace: str):
        self.cluster, self.namespace = cluster, namespace
        self.running = [cluster.run([sys.executable, "-m", "gwfast", "echo", "--host", "0.0.0.0",
                                     *(f"{name}={port}" for name, port in BACKENDS.items())])]
        self.apply(f"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: GatewayClass
            metadata: {{name: {namespace}}}
            spec: {{controllerName: traffic.example/{namespace}}}
        """, *(self.service(name) for name in BACKENDS))
        self.gateway = self.run()

    def run(self, *options: str) -> Process:
        argv = [sys.executable, "-m", "gwfast", "run", "--kubernetes", "--controller-name", f"traffic.example/{self.namespace}",
                "--workers", "1", "--admin", f"127.0.0.1:{ADMIN}", "--access-log", "off", "--drain-timeout", "1",
                "--publish-status-address", "192.0.2.1", *options]
        self.running.append(self.cluster.run(argv))
        return self.running[-1]

    def apply(self, *texts: str) -> None:
        """kubectl apply; NAMESPACE in a text is the namespace's name."""
        things = [thing for text in texts for thing in yaml.safe_load_all(text.replace("NAMESPACE", self.namespace))]
        for thing in things:
            if thing["kind"] not in ("GatewayClass", "Namespace"):
                thing["metadata"].setdefault("namespace", self.namespace)
        self.cluster.apply(yaml.safe_dump_all(things))

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        self.cluster.kubectl("delete", kind, name, "-n", namespace or self.namespace, "--wait=false")

    @staticmethod
    def service(name: str, namespace: str = "NAMESPACE") -> str:
        return f"""
            apiVersion: v1
            kind: Service
            metadata: {{name: {name}, namespace: {namespace}}}
            spec: {{ports: [{{port: 80}}]}}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
            addressType: IPv4
            endpoints: [{{addresses: [{NODE_IP}]}}]
            ports: [{{port: {BACKENDS[name]}, name: ""}}]
        """.replace("\n            ", "\n")

    def get(self, path: str = "/", host: str = "x.test", port: int = 8000) -> str:
        """Return the name of the backend that answers, or the status where none does; 'refused' where nobody listens."""
        try:
            answer = self.cluster.http("127.0.0.1", port, path, headers={"Host": host})
        except OSError:
            return "refused"
        return json.loads(answer.body)["service"] if answer.status == 200 else str(answer.status)

    def in_the_end(self, *arguments: str) -> None:
        """kubectl, again and again until an API server that has had trouble does it."""
        def done() -> bool:
            try:
                self.cluster.kubectl(*arguments, "-n", self.namespace)
            except Failed:
                return False
            return True
        self.cluster.wait_for(done, "kubectl " + " ".join(arguments), 90.0)

    def until(self, expected: str, path: str = "/", host: str = "x.test", port: int = 8000) -> None:
        self.cluster.wait_for(lambda: self.get(path, host, port) == expected,
                              f"{host}:{port}{path} to be {expected}, not {self.get(path, host, port)}")


def served(cluster: Cluster, namespace: str) -> Iterator[World]:
    """Give a world, and end what runs in it."""
    made = World(cluster, namespace)
    yield made
    for process in made.running:
        process.stop()
    cluster.mend()
    cluster.kubectl("delete", "gatewayclass", namespace)


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: NAMESPACE
  listeners:
  - {name: web, protocol: HTTP, port: 8000}
"""


def route(backend: str = "a", path: str = "/", name: str = "r", parent: str = "name: gw", **more: object) -> str:
    return yaml.safe_dump({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name} | more.pop("metadata", {}),
        "spec": {"parentRefs": [yaml.safe_load(f"{{{parent}}}")], "rules": [
            {"matches": [{"path": {"value": path}}], "backendRefs": [yaml.safe_load(f"{{name: {backend}, port: 80}}")]}]} | more})
