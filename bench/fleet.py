"""Fifty data planes on one controller: what a change costs it that one of them needs, and one that all of them do.

Each is a Pod of a Gateway of its own (GatewayParameters: dedicated), so a process with a stream of its own, and no traffic. Lines
and bytes are what the controller counts of its streams; CPU time is of its process, for ROUNDS changes that are told one by one.
"""
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.cluster import NAMESPACE, ROOT, SYSTEM, Figure, World, cpu_seconds, gateway, memory, processes, route

PLANES, ROUNDS = 50, 40
ADMIN = 9000
PAUSE = 0.15  # seconds
PARAMETERS = {"apiVersion": "gwfast.dev/v1alpha1", "kind": "GatewayParameters",
              "metadata": {"name": "alone", "namespace": NAMESPACE},
              "spec": {"dedicated": True, "replicas": 1, "options": {"workers": "1"}}}


def fleet(world: World) -> Iterator[Figure]:
    """Measure; the counts are also asserted."""
    cluster = world.cluster
    cluster.apply(ROOT / "deploy" / "install.yaml")
    cluster.kubectl("scale", "deployment/gwfast-controller", "-n", SYSTEM, "--replicas=1")
    cluster.create(PARAMETERS, *map(own, range(PLANES)), *(route(f"p{n}", "/", parent=f"n{n}") for n in range(PLANES)))
    controller = Controller(cluster)
    cluster.wait_for(lambda: controller.counted("data_planes") >= PLANES + 2, "all data planes to listen", 600.0)
    cluster.wait_for(lambda: controller.rests(), "them to have everything", 120.0)
    yield Figure(case="memory: controller", mode="fleet", value=memory(controller.pids), unit="MiB", goal="75")
    yield from changes(controller, "1 of 50 needs", 1, lambda number: world.replace(route("p7", f"/{number}", parent="n7")))
    yield from changes(controller, "all 50 need", PLANES, lambda number: world.replace(slice_of(world.node, number)))
    yield Figure(case="memory: controller", mode="fleet", value=memory(controller.pids), unit="MiB", goal="75")


def own(number: int) -> dict:
    """A Gateway with data planes of its own."""
    made = gateway(f"n{number}")
    made["spec"]["infrastructure"] = {"parametersRef": {"group": "gwfast.dev", "kind": "GatewayParameters", "name": "alone"}}
    return made


def slice_of(address: str, number: int) -> dict:
    """The endpoints of what every route leads to, with another one each time."""
    ends = [{"addresses": [each], "conditions": {"ready": True}} for each in (address, f"10.99.0.{1 + number % 250}")]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s0", "namespace": NAMESPACE},
            "endpoints": ends}


class Controller:
    """The only controller: what it counts, and its processes."""

    def __init__(self, cluster: Any):
        self.cluster = cluster
        cluster.wait_for(lambda: len(self._pods()) == 1 and self._pods()[0]["status"].get("podIP"), "one controller", 120.0)
        self._address = self._pods()[0]["status"]["podIP"]
        self._lines = -1.0
        self.pids = processes(cluster, "gwfast-controller")[0]

    def _pods(self) -> list[dict]:
        return [one for one in self.cluster.objects("Pod", SYSTEM) if one["metadata"]["name"].startswith("gwfast-controller")
                and not one["metadata"].get("deletionTimestamp")]

    def counted(self, name: str) -> float:
        """Return a metric, 0 where it is not there yet."""
        try:
            text = self.cluster.http(self._address, ADMIN, "/metrics").body.decode()
        except OSError:
            return 0.0
        found = re.search(rf"^gwfast_{name} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def rests(self) -> bool:
        """Whether nothing was told since the last look."""
        before, self._lines = self._lines, self.counted("data_planes_lines_total")
        return before == self._lines and self.counted("status_waiting") == 0


def changes(controller: Controller, case: str, need: int, change: Callable[[int], object]) -> Iterator[Figure]:
    """Make ROUNDS changes, each of which `need` data planes are told in two lines: the object, and that this was all."""
    told = ("data_planes_lines_total", "data_planes_bytes_total")
    lines, size = map(controller.counted, told)
    cpu = sum(map(cpu_seconds, controller.pids))
    for number in range(ROUNDS):
        change(number)
        time.sleep(PAUSE)  # it is told by then: to look costs the controller, too
        wanted = lines + 2 * need * (number + 1)
        controller.cluster.wait_for(lambda: controller.counted(told[0]) >= wanted, case, 30.0)  # noqa: B023
    cpu = sum(map(cpu_seconds, controller.pids)) - cpu
    lines, size = (controller.counted(name) - before for name, before in zip(told, (lines, size), strict=True))
    assert 2 * need * ROUNDS <= lines <= 2 * need * ROUNDS + ROUNDS * need, lines  # PINGs of ten seconds beside them
    yield Figure(case=f"{case}: lines", mode="fleet", value=lines / ROUNDS, unit="", goal=str(2 * need))
    yield Figure(case=f"{case}: bytes", mode="fleet", value=size / ROUNDS, unit="B")
    yield Figure(case=f"{case}: CPU", mode="fleet", value=1000 * cpu / ROUNDS, unit="ms")
