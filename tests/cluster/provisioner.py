"""A controller without its stream: follows the cluster of KUBECONFIG and provisions, so that what it makes can be looked at.

    python provisioner.py NAMESPACE [WATCHED-NAMESPACE ...]

Each line of its output is JSON: {"writes": n, "assigned": {"namespace/name": [[address, ...], reason]}, "targets": {...}}, when one of
them has changed. USR1 lets it lead, USR2 no longer; it does not at first.
"""
import asyncio
import json
import signal
import sys

from gwfast.controller.authority import Authority
from gwfast.controller.fleet import Site
from gwfast.parameters import fault
from gwfast.controller.provision import Provisioner
from gwfast.graph.attach import Attacher
from gwfast.graph.model import GraphOptions
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.kubeconfig import from_kubeconfig
from gwfast.kubernetes.source import KubernetesSource
from gwfast.observe.log import Log

NAME = "gwfast.dev/gateway-controller"
QUIET = 0.05  # seconds between two looks at whether something is to be said


class Controller:
    def __init__(self, namespace: str, watched: list[str]):
        self.log = Log("text", "debug")
        access = from_kubeconfig()
        self.client = Client(access, log=self.log)
        self.source = KubernetesSource(self.client, access.server, namespaces=watched, controller_name=NAME, log=self.log)
        self.authority = Authority(self.client, namespace, (f"gwfast-controller.{namespace}.svc",), self.log, lambda: self.provisioner.look())
        site = Site(controller_name=NAME, namespace=namespace, image="data-plane", url=f"https://gwfast-controller.{namespace}.svc:8443")
        self.provisioner = Provisioner(self.client, site, self.uid, lambda: self.authority.bundle, self.log, namespaces=watched)
        self.attacher = Attacher(GraphOptions(controller_name=NAME, strict_services=True, own_addresses=True, parameters_fault=fault))
        self.changed = asyncio.Event()
        self.said = ""

    def uid(self, key) -> str:
        seen = self.source.objects.get(key)
        return seen.uid if seen else ""

    async def follow(self) -> None:
        loop = asyncio.get_running_loop()
        self.source.watch(loop, lambda _: self.changed.set(), self.log.warning)
        while True:
            loaded = await loop.run_in_executor(None, self.source.load, None)
            self.provisioner.follow(self.attacher.attach(loaded.resources))
            await self.changed.wait()
            self.changed.clear()

    def lead(self, leads: bool) -> None:
        self.authority.lead(leads)
        self.provisioner.lead(leads)

    async def tell(self) -> None:
        while True:
            made = self.provisioner
            said = json.dumps({
                "writes": made.writes,
                "assigned": {f"{key.namespace}/{key.name}": [[value for _, value in one.addresses], "" if one.ready else one.reason]
                             for key, one in made.assigned.items()},
                "targets": {f"{key.namespace}/{key.name}": {f"{port}/{transport}": target for (port, transport), target in found.items()}
                            for key, found in made.targets.items()},
                "fleets": sorted("/".join(place) for place in made.fleets)}, sort_keys=True)
            if said != self.said:
                self.said = said
                print(said, flush=True)
            await asyncio.sleep(QUIET)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.lead, True)
        loop.add_signal_handler(signal.SIGUSR2, self.lead, False)
        async with asyncio.TaskGroup() as tasks:
            for each in (self.follow(), self.tell(), self.provisioner.run(), self.authority.run()):
                tasks.create_task(each)


if __name__ == "__main__":
    asyncio.run(Controller(sys.argv[1], sys.argv[2:]).run())
