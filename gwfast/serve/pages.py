"""What the admin server says about a supervisor: a page each for people, probes, Prometheus and `gwfast reload`."""
import json
import os
from collections.abc import Awaitable

import msgspec

from gwfast import __version__
from gwfast.errors import Problem
from gwfast.observe import metrics, processes, sink
from gwfast.observe.admin import Page
from gwfast.observe.h11_server import Answer
from gwfast.plan.dump import to_builtins
from gwfast.plan.ir import Plan
from gwfast.serve.sockets import Port
from gwfast.serve.told import located
from gwfast.serve.upgrade import NotUpgraded

JSON = "application/json"
OWN = frozenset({"/upgrade"})  # answered to this machine alone, always
PUBLIC = frozenset({"/healthz", "/readyz", "/metrics"})  # what a data plane of a controller answers to other Pods: no rules


def pages(supervisor) -> dict[str, Page]:
    """Return the pages of a supervisor by 'METHOD /path'."""
    made = Pages(supervisor)
    return {
        "GET /healthz": made.healthz,
        "GET /readyz": made.readyz,
        "GET /metrics": made.metrics,
        "GET /status": made.status,
        "GET /config": made.config,
        "POST /reload": made.reload,
        "POST /upgrade": made.upgrade,
    }


class Pages:
    """Each method is a page."""

    def __init__(self, supervisor):
        self._of = supervisor

    async def healthz(self) -> Answer:
        return Answer(200, b"ok\n")

    async def readyz(self) -> Answer:
        why = self._of.unready
        return Answer(503, f"not ready: {why}\n".encode()) if why else Answer(200, b"ready\n")

    async def metrics(self) -> Answer:
        stats = msgspec.structs.replace(self._of.stats, ready=self._of.ready, messages_dropped=sink.pump())
        text = metrics.render(self._of.counted.read(), stats, self._of.health.read(), self._of.prober.results,
                              processes.read(self._of.processes), self._of.follower.metrics() if self._of.follower else (),
                              self._of.source.metrics())
        return Answer(200, text, metrics.CONTENT_TYPE)

    async def status(self) -> Answer:
        return _json({
            "version": __version__,
            "ready": self._of.ready,
            "generation": self._of.stats.generation,
            "workers": [{"pid": member.pid, "generation": member.applied, "stuck": member.vital.stuck}
                        for member in self._of.pool.members],
            "ports": [_port(port) for port in self._of.ports],
            "unresolved": self._of.resolver.failed,
            "backends": {key: {"endpoints": standing.endpoints, "out": standing.out, "unhealthy": standing.unhealthy}
                         for key, standing in self._of.health.read().items()},
            "problems": [str(problem) for problem in await self._located()],
        })

    async def config(self) -> Answer:
        if self._of.reading is None:
            return Answer(503, b"not read yet\n")
        return Answer(200, await self._of.background.run(_plan_json, self._of.reading.plan), JSON)

    async def reload(self) -> Answer:
        failures = self._of.stats.rounds_failed
        await self._of.reload()
        failed = self._of.stats.rounds_failed > failures
        problems = [msgspec.to_builtins(problem) | {"text": str(problem)}
                    for problem in await self._located()]
        return _json({"generation": self._of.stats.generation, "failed": failed, "problems": problems},
                     500 if failed else 200)

    async def upgrade(self) -> Answer:
        try:
            done = await self._of.succession.upgrades.upgrade()
        except NotUpgraded as why:
            return _json({"upgraded": False, "reason": str(why), "pid": os.getpid(), "version": __version__}, 500)
        return _json({"upgraded": True, **msgspec.to_builtins(done)})

    def _located(self) -> Awaitable[list[Problem]]:
        return self._of.background.run(located, self._of.problems)


def _port(port: Port) -> dict:
    return {"key": port.key, "address": port.address, "spec_port": port.spec_port, "port": port.port,
            "error": port.error}


def _plan_json(plan: Plan) -> bytes:
    return json.dumps(to_builtins(plan), indent=1).encode() + b"\n"


def _json(value, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value, indent=1).encode() + b"\n", JSON)
