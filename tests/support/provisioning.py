"""A provisioner without a cluster: what there is, and an API server of some lines that it writes to."""
import io

from controller_cases import AUTHORITY, CLASS, OPTIONS, SITE, Waits, resources, run_beside, uid_of

from gwfast.config.model import Key
from gwfast.controller.provision import Provisioner
from gwfast.graph.attach import attach
from gwfast.observe.log import Log
from support.api_objects import Server


GATEWAY = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: %s, creationTimestamp: %s}
spec: {gatewayClassName: gwfast, listeners: [{name: a, port: 80, protocol: HTTP}]}
"""

OLD, NEW = '"2026-01-01T00:00:00Z"', '"2026-01-02T00:00:00Z"'

EVIL, VICTIM = Key("Gateway", "aaa", "g"), Key("Gateway", "victim", "g")

BOTH = CLASS + GATEWAY % ("aaa", NEW) + GATEWAY % ("victim", OLD)
WEB = (80, "TCP")


class World(Waits):
    """A provisioner that knows what there is, and an API server of some lines that it writes to."""

    def __init__(self, **more):
        self.server, self.log = Server(), io.StringIO()
        self.provisioner = Provisioner(self.server, SITE, uid_of, lambda: AUTHORITY, Log("text", "debug", self.log), **more)
        self.provisioner._reflectors.clear()  # all that there is was listed

    def follow(self, text):
        self.provisioner.follow(attach(resources(text), OPTIONS))

    def service(self, gateway, target):
        """A Service of a Gateway, as who has rights in its namespace may write it."""
        key = Key("Service", gateway.namespace, f"{gateway.name}-gwfast")
        owner = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": gateway.name, "uid": uid_of(gateway)}
        labels = {"gwfast.dev/controller": SITE.label, "gateway.networking.k8s.io/gateway-class-name": "gwfast"}
        self.provisioner.take(key, {
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": "u", "labels": labels, "ownerReferences": [owner]},
            "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": target}]}})

    async def targets(self, expected):
        await self.until(lambda: {key: found.get(WEB) for key, found in self.provisioner.targets.items()} == expected)


def run(test, **more):
    run_beside(test, lambda: World(**more), lambda world: world.provisioner)


def gateway(uid="uid-of-g", generation=1, class_name="gwfast", **more):
    return {"metadata": {"name": "g", "uid": uid, "generation": generation, **more}, "spec": {"gatewayClassName": class_name}}
