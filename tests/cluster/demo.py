"""`make cluster`: a Kubernetes on this machine with gwfast, a Gateway, a route and echo backends, until Ctrl-C.

The Gateway is on port 8080 of this machine, the API server on 6443, for kubectl; CLUSTER_PORT and CLUSTER_API_PORT move them
where those are taken. Everything else is inside namespaces, and nothing stays.
"""
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import binaries
import credentials
from cluster import API_PORT, PROJECT, Cluster, Failed
from forward import Forwards
from node.network import NODE_IP
from sandbox import Process

PORT = int(os.environ.get("CLUSTER_PORT", "8080"))
API = int(os.environ.get("CLUSTER_API_PORT", "6443"))
DEMO = Path(__file__).with_name("demo.yaml")
KUBECONFIG = binaries.BUILD / "kubeconfig"
LOGS = ("logs", "--namespace", "gwfast-system", "--selector", "app.kubernetes.io/name=gwfast-controller", "--prefix", "--tail=-1")
READY_SECONDS = 60.0
LOOK_SECONDS = 0.2  # for what the controllers have said

GUIDE = """
  the Gateway       http://127.0.0.1:{port}     {yaml}, as kubectl applied it
  the API server    https://127.0.0.1:{api}    Kubernetes {version}

Try, in another terminal:

  export KUBECONFIG={kubeconfig}
  kubectl get gatewayclass,gateway,httproute -o wide
  kubectl get pods,services -A
  kubectl describe httproute my-route

  curl -i http://127.0.0.1:{port}/api/users
  a redirect        curl -i http://127.0.0.1:{port}/old/users
  the canary        for i in $(seq 50); do curl -s http://127.0.0.1:{port}/api | grep '"pod"'; done | sort | uniq -c
  a change, live    kubectl patch httproute my-route --type json -p '[{{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 9}}]'
  a rollout         kubectl rollout restart deployment api

What the controllers say (Ctrl-C ends the cluster):
"""


def require_free(name: str, port: int) -> None:
    """End with one clear line where somebody else listens there."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            sys.exit(f"cluster: port {port} is in use; {name}={port + 1} make cluster moves it")


def gateway_address(cluster: Cluster) -> str:
    """The address that the Gateway says it has, once it is programmed."""
    if cluster.condition("Gateway", "my-gateway", "Programmed") != "True":
        return ""
    return cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"]


def prepare(cluster: Cluster) -> tuple[Process, str]:
    """Install gwfast as users do, and the demo; return what follows the controllers' log, and the Gateway's address."""
    cluster.install_crds()
    cluster.apply(PROJECT / "deploy" / "install.yaml")
    cluster.apply(DEMO)
    try:
        address = cluster.wait_for(lambda: gateway_address(cluster), "the Gateway to be programmed", READY_SECONDS)
        cluster.wait_for(lambda: cluster.http(address, 80, "/api").status == 200, "the first answer", READY_SECONDS)
    except TimeoutError as problem:
        raise Failed(f"{problem}; the controllers say:\n{cluster.kubectl(*LOGS)}") from None
    return cluster.run([binaries.program("kubectl"), *LOGS, "--follow"]), address


async def show(cluster: Cluster, shown: Process, address: str) -> None:
    """Open the ports (OSError where one is taken), say what there is to try, and print what the controllers say until somebody ends it."""
    forwards = Forwards(cluster.sandbox)
    await forwards.open(PORT, lambda: (address, 80))
    await forwards.open(API, lambda: (NODE_IP, API_PORT))
    credentials.write_kubeconfig(KUBECONFIG, f"https://127.0.0.1:{API}", cluster.pki)
    version = cluster.api.get("/version")["gitVersion"]
    print(GUIDE.format(port=PORT, api=API, version=version, kubeconfig=KUBECONFIG, yaml=os.path.relpath(DEMO)), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with shown.log.open() as log:
        while not ended.is_set() and shown.poll() is None:
            print(log.read(), end="", flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
        print(log.read(), end="", flush=True)
    await forwards.close()


def main() -> int:
    require_free("CLUSTER_PORT", PORT)
    require_free("CLUSTER_API_PORT", API)
    began = time.monotonic()
    try:
        with Cluster() as cluster:
            print(f"cluster: etcd, API server, controllers and a node are up after {time.monotonic() - began:.1f} s", flush=True)
            asyncio.run(show(cluster, *prepare(cluster)))
    except (Failed, TimeoutError, OSError) as problem:
        print(f"cluster: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        KUBECONFIG.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
