"""What a common route costs on its way from a file to a table, in calls of functions: they are the same on every machine.

Each stage runs with two numbers of routes; the difference is what routes cost, whatever the rest does.
"""
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench.world import gateway, prefix, route, service
from gwfast.config.load import Loader
from gwfast.endpoints.registry import Registry
from gwfast.graph.attach import Attacher
from gwfast.plan import regex
from gwfast.plan.build import Builder
from gwfast.plan.image import Images

FEW, MANY = 100, 400
# Calls for each route, of C functions too; what a stage needs when this was written, and a twentieth for other versions of Python.
MOST = {"load": 75, "attach": 101, "build": 54, "image": 12}


def calls(run: Callable[[], object]) -> tuple[int, object]:
    """How many calls `run` makes, and what it returns."""
    count = 0

    def profile(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        made = run()
    finally:
        sys.setprofile(None)
    return count, made


def costs(folder: Path, routes: int) -> dict[str, int]:
    folder.mkdir()
    items = [*gateway(), *service("backend", [8000])]
    items += [route(f"route-{n}", "backend", prefix(f"/route/{n}"), hostname=f"host-{n % 10}.example") for n in range(routes)]
    (folder / "all.json").write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}))
    found = {}
    found["load"], loaded = calls(lambda: Loader([str(folder)]).load())
    found["attach"], graph = calls(lambda: Attacher(refuse_regex=regex.check).attach(loaded.resources))
    found["build"], plan = calls(lambda: Builder().build(graph))
    binds = {bind.key: number for number, bind in enumerate(plan.binds)}
    found["image"], _ = calls(lambda: Images(Registry()).build(plan, binds))
    assert not loaded.problems and sum(len(host.entries) for host in plan.binds[0].listeners[0].hosts) == routes
    return found


@pytest.fixture(scope="module")
def per_route(tmp_path_factory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("routes")
    costs(folder / "warm", FEW)  # what is made once by a process is made
    few, many = costs(folder / "few", FEW), costs(folder / "many", MANY)
    return {stage: (many[stage] - few[stage]) / (MANY - FEW) for stage in few}


@pytest.mark.parametrize("stage", MOST)
def test_calls_for_a_route(per_route, stage):
    assert per_route[stage] <= MOST[stage], per_route
