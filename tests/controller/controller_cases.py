"""What the controller's tests share: a plan from YAML, and what should be there for it."""
import asyncio

import msgspec
import yaml

from gwfast.config.model import KINDS
from gwfast.controller import desired as wanted
from gwfast.controller.fleet import Known, Records, Site, plan
from gwfast.parameters import fault
from gwfast.controller.ports import Ports
from gwfast.graph.attach import attach
from gwfast.graph.model import GraphOptions

SITE = Site(controller_name="gwfast.dev/gateway-controller", namespace="gwfast-system", image="registry.example/gwfast:1.0",
            url="https://gwfast-controller.gwfast-system.svc:8443")
OPTIONS = GraphOptions(controller_name=SITE.controller_name, strict_services=True, own_addresses=True, parameters_fault=fault)
CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: gwfast}
spec: {controllerName: gwfast.dev/gateway-controller}
"""
AUTHORITY = "-----BEGIN CERTIFICATE-----\n"


def resources(text):
    found = {}
    for document in filter(None, yaml.safe_load_all(text)):
        kind = KINDS[document["apiVersion"].rpartition("/")[0], document["kind"]]
        resource = msgspec.convert(document, kind)
        resource.metadata.namespace = (resource.metadata.namespace or "default") if kind.namespaced else ""
        resource.metadata.generation = resource.metadata.generation or 1
        found[resource.key] = resource
    return found


def uid_of(key):
    return f"uid-of-{key.name}"


class Waits:
    """What a world is waited for with: that something is so, or that all that is to happen has happened."""

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    async def still(self):
        for _ in range(200):
            await asyncio.sleep(0)


def run_beside(test, make, part):
    """Run a coroutine function of a world, which is made on the event loop, while a part of that world runs."""
    async def main():
        world = make()
        task = asyncio.create_task(part(world).run())
        try:
            await test(world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    asyncio.run(main())


def planned(text, records=None, known=None):
    return plan(attach(resources(text), OPTIONS), SITE, records or Records(), known or Known())


def targets_for(found):
    """Target ports as a leader without a record assigns them."""
    assigned = {}
    for fleet in found.fleets.values():
        needs = {key: found.needs[key].ports for key in fleet.gateways}
        if fleet.gateway and fleet.parameters.host_network:
            assigned |= {key: {port: port[0] for port in ports} for key, ports in needs.items()}
        else:
            assigned |= Ports().assign(needs)
    return assigned


def made(text):
    """{Key: object} of what a cluster with nothing in it gets."""
    found = planned(text)
    return wanted.desired(found, SITE, uid_of, targets_for(found), AUTHORITY)
