"""Configuration text into resources: `pytest bench/test_load.py --benchmark-enable`.

Times are for GWFAST_BENCH_ROUTES HTTPRoutes (1,000); divide by their number to compare runs.
"""
import os
from itertools import count

import msgspec
import pytest
import yaml

from gwfast.config.load import Loader, load

ROUTES = int(os.environ.get("GWFAST_BENCH_ROUTES", "1000"))


def route(number: int, path: str = "things") -> str:
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: route-{number}
  namespace: team-{number % 50}
spec:
  parentRefs:
  - name: edge
    namespace: infra
  hostnames:
  - "app-{number}.example.com"
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /api/v{number % 7}/{path}-{number}
    backendRefs:
    - name: service-{number % 500}
      port: 8080
      weight: 1
"""


def json_route(number: int) -> bytes:
    return msgspec.json.encode(yaml.load(route(number), yaml.CSafeLoader))


FORMS = {
    "yaml documents": ("r.yaml", lambda: "---\n".join(map(route, range(ROUTES))).encode()),
    "json list": ("r.json", lambda: b'{"kind":"List","items":[' + b",\n".join(map(json_route, range(ROUTES))) + b"]}"),
    "json lines": ("r.json", lambda: b"\n".join(map(json_route, range(ROUTES)))),
}


@pytest.mark.parametrize("name, text", FORMS.values(), ids=FORMS)
def test_load_all(benchmark, tmp_path, name, text):
    (tmp_path / name).write_bytes(text())
    loaded = benchmark.pedantic(load, ([str(tmp_path)],), rounds=3)
    assert len(loaded.resources) == ROUTES and not loaded.problems


def test_one_of_many_documents_changed(benchmark, tmp_path):
    path = tmp_path / "r.yaml"
    texts = [route(number) for number in range(ROUTES)]
    path.write_text("---\n".join(texts))
    loader = Loader([str(tmp_path)])
    loader.load()

    versions = count()

    def change():
        texts[ROUTES // 2] = route(ROUTES // 2, f"changed-{next(versions)}")
        path.write_text("---\n".join(texts))
        return ({str(path)},), {}

    loaded = benchmark.pedantic(loader.load, setup=change, rounds=20)
    assert len(loaded.changed) == 1


def test_one_of_many_files_changed(benchmark, tmp_path):
    for number in range(ROUTES):
        (tmp_path / f"r{number}.yaml").write_text(route(number))
    loader = Loader([str(tmp_path)])
    loader.load()
    path = tmp_path / f"r{ROUTES // 2}.yaml"
    versions = count()

    def change():
        path.write_text(route(ROUTES // 2, f"changed-{next(versions)}"))
        return ({str(path)},), {}

    loaded = benchmark.pedantic(loader.load, setup=change, rounds=20)
    assert len(loaded.changed) == 1


def test_nothing_changed_and_nobody_said_what(benchmark, tmp_path):
    for number in range(ROUTES):
        (tmp_path / f"r{number}.yaml").write_text(route(number))
    loader = Loader([str(tmp_path)])
    loader.load()
    loaded = benchmark.pedantic(loader.load, rounds=5, warmup_rounds=1)
    assert not loaded.changed
