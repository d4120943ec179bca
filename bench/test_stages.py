"""Every stage from files to a lookup, from nothing and after a change of one route: `pytest bench --benchmark-enable`.

There are GWFAST_BENCH_ROUTES routes (1,000), a file each; a change gives the one in the middle another path.
"""
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.world import World, prefix, route
from gwfast._match import Table
from gwfast.config.load import Loader, load
from gwfast.endpoints.registry import Registry
from gwfast.graph.attach import Attacher, attach
from gwfast.plan.build import Builder, build
from gwfast.plan.image import Images

ROUTES = int(os.environ.get("GWFAST_BENCH_ROUTES", "1000"))
BINDS = {"[]:80": 0}
CHANGES = 50
STAGES = ("load", "attach", "build", "image")


class Line:
    """The stages in a row, each with its memory, and what each made last."""

    def __init__(self, folder: Path):
        self.world = World(folder, (route(f"route-{n}", "echo", prefix(f"/route-{n}")) for n in range(ROUTES)),
                           {"echo": [8000]})
        self.loader, self.attacher = Loader([str(folder)]), Attacher()
        self.builder, self.images = Builder(), Images(Registry())
        self.made: dict[str, Any] = {}
        self.versions = count()
        self.run_all()

    def run(self, stage: str, changed: set[str] | None = None) -> None:
        made = self.made
        if stage == "load":
            made[stage] = self.loader.load(changed)
        elif stage == "attach":
            loaded = made["load"]
            made[stage] = self.attacher.attach(loaded.resources, loaded.added | loaded.changed | loaded.removed)
        elif stage == "build":
            made[stage] = self.builder.build(made["attach"])
        else:
            made[stage] = self.images.build(made["build"], BINDS)

    def run_all(self, changed: set[str] | None = None) -> None:
        for stage in STAGES:
            self.run(stage, changed)

    def change(self) -> set[str]:
        """Write another path into one route's file, which is named."""
        self.path = f"/changed-{next(self.versions)}"
        self.world.put(ROUTES // 2, route(f"route-{ROUTES // 2}", "echo", prefix(self.path)))
        return {os.path.abspath(self.world.log[-1])}

    def serves_the_change(self) -> bool:
        found = Table(bytes(self.made["image"])).find(0, "GET", self.path, [("host", "a.example")])
        return found is not None and found[1] == f"HTTPRoute/bench/route-{ROUTES // 2}/0"


@pytest.fixture
def line(tmp_path):
    return Line(tmp_path / "world")


class TestFromNothing:
    def test_load(self, benchmark, line):
        loaded = benchmark.pedantic(load, ([str(line.world.folder)],), rounds=3)
        assert len(loaded.resources) == ROUTES + 3 and not loaded.problems

    def test_attach(self, benchmark, line):
        graph = benchmark.pedantic(attach, (line.made["load"].resources,), rounds=3)
        assert len(graph.routes) == ROUTES

    def test_build(self, benchmark, line):
        plan = benchmark.pedantic(build, (line.made["attach"],), rounds=3)
        assert sum(len(host.entries) for host in plan.binds[0].listeners[0].hosts) == ROUTES

    def test_image(self, benchmark, line):
        image = benchmark.pedantic(lambda: bytes(Images(Registry()).build(line.made["build"], BINDS)), rounds=3)
        assert Table(image).find(0, "GET", "/route-0", [("host", "a.example")]) is not None


@pytest.mark.parametrize("which", STAGES)
def test_one_route_changed(benchmark, line, which):
    """One stage alone: the others run between the rounds."""
    at = STAGES.index(which)

    def ready():
        for stage in STAGES[at + 1:]:
            line.run(stage)
        changed = line.change()
        for stage in STAGES[:at]:
            line.run(stage, changed)
        return (which, changed), {}

    benchmark.pedantic(line.run, setup=ready, rounds=CHANGES)
    for stage in STAGES[at + 1:]:
        line.run(stage)
    assert line.serves_the_change()


def test_one_route_changed_all_stages(benchmark, line):
    """From a written file to a table: what a change costs, watching and publishing left out."""
    benchmark.pedantic(line.run_all, setup=lambda: ((line.change(),), {}), rounds=CHANGES)
    assert line.serves_the_change()
