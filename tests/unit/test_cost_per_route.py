"""What a route costs on its way from a file to a table, in calls of functions: they are the same on every machine.

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
MOST = {
    "common": {"load": 74, "attach": 85, "build": 53, "image": 12},  # a few hosts, one Service
    "wide": {"load": 74, "attach": 88, "build": 57, "image": 23},  # a host for each route, many Services
}
SERVICES = {"common": 1, "wide": 50}


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


def costs(folder: Path, shape: str, routes: int) -> dict[str, int]:
    folder.mkdir()
    services, hosts = SERVICES[shape], routes if shape == "wide" else 10
    items = [*gateway(), *(item for n in range(services) for item in service(f"backend-{n}", [8000]))]
    items += [route(f"route-{n}", f"backend-{n % services}", prefix(f"/route/{n}"), hostname=f"host-{n % hosts}.example")
              for n in range(routes)]
    (folder / "all.json").write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}))
    found = {}
    found["load"], loaded = calls(lambda: Loader([str(folder)]).load())
    found["attach"], graph = calls(lambda: Attacher(refuse_regex=regex.check).attach(loaded.resources))
    found["build"], plan = calls(lambda: Builder().build(graph))
    binds = {bind.key: number for number, bind in enumerate(plan.binds)}
    found["image"], _ = calls(lambda: Images(Registry()).build(plan, binds))
    listener = plan.binds[0].listeners[0]
    assert not loaded.problems and len(listener.hosts) == hosts and sum(len(host.entries) for host in listener.hosts) == routes
    return found


@pytest.mark.parametrize("shape", MOST)
def test_calls_for_a_route(shape, tmp_path):
    costs(tmp_path / "warm", shape, FEW)  # what is made once by a process is made
    few, many = costs(tmp_path / "few", shape, FEW), costs(tmp_path / "many", shape, MANY)
    each = {stage: (many[stage] - few[stage]) / (MANY - FEW) for stage in few}
    assert [stage for stage in each if each[stage] > MOST[shape][stage]] == [], each
