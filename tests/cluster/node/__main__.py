"""The node's program: see the package."""
import argparse
import itertools
import json
import ssl
import threading
import time
from pathlib import Path

from kubeapi import Api, ApiError, Informer
from node import dns, kubelet, network
from node.container import Container, now
from node.images import Images
from node.pod import Pod
from node.services import LoadBalancers, Services
from node.volumes import Sources
from node.work import Work, is_final

NAME = "node"
API_PORT = 6443
WRITERS = 4  # threads that write to the API server
DNS_IP = "10.96.0.10"
STRATEGIC = "application/strategic-merge-patch+json"
KUBE_DNS = [
    ("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns"}, "spec": {
        "clusterIP": DNS_IP, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}}),
    ("endpointslices", {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": {
        "name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"}}, "endpoints": [{"addresses": [network.NODE_IP]}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}),
]


class Node:
    """Everything that the node knows, and the threads that keep the cluster so."""

    def __init__(self, state: Path, programs: Path, images: list, hosts: dict[str, str]):
        context = ssl.create_default_context(cafile=state / "pki" / "ca.crt")
        context.load_cert_chain(state / "pki" / "admin.crt", state / "pki" / "admin.key")
        self.state, self.api = state, Api("127.0.0.1", API_PORT, context)
        self.images = Images(programs, images)
        self.pods: dict[str, Pod] = {}
        self._numbers = itertools.count()
        self._work = Work(WRITERS, self._report)
        self._watch_everything(hosts)

    def _watch_everything(self, hosts: dict[str, str]) -> None:
        watch = {name: Informer(self.api, path, getattr(self, f"_on_{name}")) for name, path in (
            ("pods", "/api/v1/pods"), ("services", "/api/v1/services"), ("slices", "/apis/discovery.k8s.io/v1/endpointslices"),
            ("secrets", "/api/v1/secrets"), ("config_maps", "/api/v1/configmaps"))}
        self._informers = watch
        self.sources = Sources(self.api, watch["secrets"].objects, watch["config_maps"].objects)
        self.services = Services(watch["services"].objects, watch["slices"].objects)
        self.balancers = LoadBalancers(self.api, watch["services"].objects)
        self.names = dns.Names(watch["services"].objects, self.services.slices_of, hosts)

    def run(self) -> None:
        network.forget_all()
        self.services.start()
        self.balancers.start()
        dns.serve(network.NODE_IP, self.names.answer)
        threading.Thread(target=kubelet.Server(self, self.state / "pki").serve_forever, daemon=True).start()
        for informer in [one for name, one in self._informers.items() if name != "pods"]:
            informer.start()
        for informer in [one for name, one in self._informers.items() if name != "pods"]:
            informer.synced.wait()
        self._informers["pods"].start()
        self._register()
        threading.Event().wait()

    # ---- what the watches say

    def _on_pods(self, event: str, thing: dict) -> None:
        about, pod = thing["metadata"], self.pods.get(thing["metadata"]["uid"])
        if event == "DELETED":
            if pod:
                pod.forget()
        elif pod:
            pod.update(thing)
        elif thing["spec"].get("nodeName", "") not in ("", NAME) or thing.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            if about.get("deletionTimestamp"):
                self._work.later(self._remove, thing)
        elif about.get("deletionTimestamp"):
            self._work.later(self._remove, thing)
        elif not thing["spec"].get("nodeName"):
            if not thing["spec"].get("schedulingGates") and self._selects(thing["spec"].get("nodeSelector") or {}):
                self._work.later(self._bind, thing)
        else:
            pod = self.pods[about["uid"]] = Pod(self, thing, next(self._numbers))
            pod.start()

    def _on_services(self, event: str, thing: dict) -> None:
        self.services.wake()
        self.balancers.wake()

    def _on_slices(self, event: str, thing: dict) -> None:
        self.services.wake()

    def _on_secrets(self, event: str, thing: dict) -> None:
        self._on_data("secret", thing)

    def _on_config_maps(self, event: str, thing: dict) -> None:
        self._on_data("configmap", thing)

    def _on_data(self, kind: str, thing: dict) -> None:
        about = thing["metadata"]
        for pod in list(self.pods.values()):
            if pod.namespace == about["namespace"] and pod.refers_to(kind, about["name"]):
                pod.wake()

    # ---- what Pods ask for

    def tell(self, pod: Pod) -> None:
        """Have a Pod's status written, or the Pod removed where it has finished."""
        self._work.tell(pod)

    def container(self, namespace: str, pod_name: str, container_name: str) -> Container | None:
        for pod in list(self.pods.values()):
            if (pod.namespace, pod.pod_name) == (namespace, pod_name):
                return next((one for one in pod.containers if one.name == container_name), None)
        return None

    def resolver(self, namespace: str, spec: dict) -> str:
        """The resolv.conf of a Pod."""
        if spec.get("dnsPolicy") == "None":
            said = spec.get("dnsConfig") or {}
            lines = [f"nameserver {one}" for one in said.get("nameservers") or ()]
            return "\n".join(lines + [f"search {' '.join(said.get('searches') or ())}"]) + "\n"
        return f"nameserver {DNS_IP}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"

    def service_links(self, namespace: str, all_of_them: bool) -> dict[str, str]:
        """The variables that tell of Services, as Docker's links did: of the API server, and of a Pod's own namespace."""
        wanted = [("default", "kubernetes")]
        if all_of_them:
            wanted += [where for where in list(self._informers["services"].objects) if where[0] == namespace and where != wanted[0]]
        env: dict[str, str] = {}
        for where in wanted:
            if service := self._informers["services"].objects.get(where):
                env |= links_to(service)
        return env

    # ---- writing

    def _report(self, pod: Pod) -> None:
        finished, status = pod.finished, pod.report()
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.pod_name}"
        try:
            if status:
                self.api.patch(f"{path}/status", {"metadata": {"uid": pod.uid}, "status": status}, STRATEGIC)
        except (ApiError, OSError) as problem:
            pod.untold()
            if not is_final(problem):
                raise
        if finished:
            self.pods.pop(pod.uid, None)
            self._work.later(self._remove, pod.thing)

    def _remove(self, thing: dict) -> None:
        about = thing["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": about["uid"]}}
        self.api.delete(f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}", options)

    def _bind(self, thing: dict) -> None:
        about = thing["metadata"]
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": about["name"], "uid": about["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NAME}}
        self.api.create(f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/binding", body)

    def _selects(self, selector: dict[str, str]) -> bool:
        return selector.items() <= node_object()["metadata"]["labels"].items()

    def _register(self) -> None:
        """Tell of the node, and of the cluster's DNS."""
        wanted = [("/api/v1/nodes", node_object())]
        roots = {"services": "/api/v1", "endpointslices": "/apis/discovery.k8s.io/v1"}
        wanted += [(f"{roots[plural]}/namespaces/kube-system/{plural}", thing) for plural, thing in KUBE_DNS]
        for path, thing in wanted:
            while not self._create(path, thing):
                time.sleep(0.05)
        self.api.patch(f"/api/v1/nodes/{NAME}/status", {"status": node_object()["status"]})

    def _create(self, path: str, thing: dict) -> bool:
        try:
            self.api.create(path, thing)
        except ApiError as problem:
            return problem.code == 409 or problem.code == 422 and "already allocated" in str(problem)
        except OSError:
            return False
        return True


def links_to(service: dict) -> dict[str, str]:
    spec, name = service["spec"], service["metadata"]["name"].upper().replace("-", "_")
    if spec.get("clusterIP") in (None, "", "None") or not spec.get("ports"):
        return {}
    host, first = spec["clusterIP"], spec["ports"][0]
    env = {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(first["port"]),
           f"{name}_PORT": f"{first.get('protocol', 'TCP').lower()}://{host}:{first['port']}"}
    for port in spec["ports"]:
        protocol = port.get("protocol", "TCP")
        start = f"{name}_PORT_{port['port']}_{protocol}"
        env |= {start: f"{protocol.lower()}://{host}:{port['port']}", f"{start}_PROTO": protocol.lower(),
                f"{start}_PORT": str(port["port"]), f"{start}_ADDR": host}
        if port.get("name"):
            env[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    return env


def node_object() -> dict:
    room = {"cpu": "64", "memory": "64Gi", "pods": "1000", "ephemeral-storage": "100Gi"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now(), "lastTransitionTime": now()}
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
            "status": {"addresses": [{"type": "InternalIP", "address": network.NODE_IP}, {"type": "Hostname", "address": NAME}],
                       "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.PORT}}, "capacity": room, "allocatable": room,
                       "conditions": [ready], "nodeInfo": {
                           "kubeletVersion": "v0", "osImage": "processes", "containerRuntimeVersion": "process://1", "kernelVersion": "",
                           "architecture": "amd64", "operatingSystem": "linux", "bootID": "", "machineID": "", "systemUUID": "",
                           "kubeProxyVersion": ""}}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="node", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the cluster's folder, with pki/")
    parser.add_argument("--programs", type=Path, required=True, help="where echo-basic is")
    parser.add_argument("--images", default="[]", help="JSON: [[regular expression, fields of an image]], before the usual ones")
    parser.add_argument("--hosts", default="{}", help="JSON: {name: address} that DNS knows besides")
    options = parser.parse_args()
    Node(options.state, options.programs, json.loads(options.images), json.loads(options.hosts)).run()


if __name__ == "__main__":
    main()
