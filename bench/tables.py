"""From text to a table: the CPU time of each stage for many routes, once as YAML and once as JSON."""
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from bench.world import Resource, gateway, prefix, route, service


class Stage(msgspec.Struct, frozen=True):
    format: str
    routes: int
    stage: str
    seconds: float


def resource(number: int) -> Resource:
    return route(f"route-{number}", "backend", prefix(f"/route/{number}"), hostname=f"host-{number % 100}.example")


def write(folder: Path, form: str, routes: int) -> None:
    """One file with the Gateway and the Service, one with every route."""
    (folder / "gateway.json").write_bytes(listed([*gateway(), *service("backend", [8000])]))
    if form == "yaml":
        texts = (yaml.dump(resource(number), Dumper=yaml.CSafeDumper) for number in range(routes))
        (folder / "routes.yaml").write_text("---\n".join(texts))
    else:
        (folder / "routes.json").write_bytes(listed([resource(number) for number in range(routes)]))


def listed(items: list[Resource]) -> bytes:
    return msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items})


def stages(folder: Path) -> Iterator[tuple[str, float]]:
    """Run the pipeline through its doors; each stage's name and seconds."""
    from gwfast.config.load import load
    from gwfast.endpoints.registry import Registry
    from gwfast.graph.attach import attach
    from gwfast.plan.build import build
    from gwfast.plan.image import Images
    start = last = time.process_time()

    def took(stage: str) -> tuple[str, float]:
        nonlocal last
        last, before = time.process_time(), last
        return stage, last - before

    loaded = load([str(folder)])
    assert not [p for p in loaded.problems if p.severity == "error"], loaded.problems[:3]
    yield took("load")
    graph = attach(loaded.resources)
    yield took("attach")
    plan = build(graph)
    yield took("build")
    Images(Registry()).build(plan, {bind.key: n for n, bind in enumerate(plan.binds)}, 1)
    yield took("image")
    yield "all", last - start


def run(routes: int) -> list[Stage]:
    found = []
    for form in ("yaml", "json"):
        with tempfile.TemporaryDirectory() as temporary:
            write(Path(temporary), form, routes)
            gc.collect()
            found += [Stage(form, routes, stage, seconds) for stage, seconds in stages(Path(temporary))]
    return found


def table(found: list[Stage]) -> str:
    names = [stage.stage for stage in found if stage.format == found[0].format]
    lines = [f"{found[0].routes} routes, seconds of CPU time", f"{'':6}" + "".join(f"{name:>9}" for name in names)]
    for form in dict.fromkeys(stage.format for stage in found):
        lines.append(f"{form:6}" + "".join(f"{stage.seconds:9.2f}" for stage in found if stage.format == form))
    return "\n".join(lines)
