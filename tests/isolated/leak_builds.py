"""One route changed, added and removed in files, over and over: what every stage remembers is what is there now.

The writer of images only appends some parts and starts over when they have doubled; what is compared is what is held
each time that it has just started over.
"""
import functools
import gc
import os
import tempfile
from pathlib import Path

from measure import held

from gwfast.config import composer, read
from gwfast.plan.image import Images
from gwfast.serve.files import Files
from gwfast.serve.generation import Pipeline
from gwfast.serve.options import ServeOptions

GATEWAY = """
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: c, listeners: [
  {name: web, protocol: HTTP, port: 80}]}}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %(name)s}
spec:
  parentRefs: [{name: g}]
  hostnames: ["%(name)s.example.com"]
  rules:
  - matches: [{path: {type: RegularExpression, value: "/%(name)s/[0-9]+"}}, {headers: [{name: x-version, value: "%(n)s"}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-a, value: "%(text)s"}]}}]
    backendRefs: [{name: %(name)s, port: 80, weight: %(weight)s}, {name: absent, port: 80}]
---
{apiVersion: v1, kind: Service, metadata: {name: %(name)s}, spec: {ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %(name)s, labels: {"kubernetes.io/service-name": %(name)s}},
 addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: ["10.0.%(high)s.%(low)s"]}]}
"""


class Site:
    """A folder, and the stages that read it."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "gateway.yaml").write_text(GATEWAY)
        for n in range(20):
            self.write(f"kept-{n}", n)
        self.pipeline = Pipeline(Files((str(folder),)), ServeOptions())
        self.refresh(None)

    def write(self, name: str, n: int) -> str:
        file = self.folder / f"{name}.yaml"
        file.write_text(ROUTE % {"name": name, "n": n, "weight": 1 + n % 50, "text": f"{n:06}" * 650,
                                 "high": n >> 8 & 255, "low": n & 255})
        return str(file)

    def refresh(self, changed: set[str] | None) -> None:
        reading = self.pipeline.read(changed)
        assert not reading.unreadable
        table, _ = self.pipeline.image(reading.plan, {bind.key: 0 for bind in reading.plan.binds}, {}, 1)
        for fd in table:
            os.close(fd)
        reading.problems()

    def turn(self, n: int) -> None:
        """A route changes, a new one comes, and the one of the last turn goes."""
        gone = self.folder / f"passing-{n - 1}.yaml"
        gone.unlink(missing_ok=True)
        self.refresh({self.write("kept-3", n), self.write(f"passing-{n}", n), str(gone), str(self.folder)})


def empty_caches() -> None:
    """Each is bounded, but not full yet."""
    for cache in [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]:
        cache.cache_clear()
    for cache in (composer._scalars, composer._keys, read._shared):
        cache.clear()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        n, marks = 0, []
        while len(marks) < 6:
            images: Images = site.pipeline._images
            before = images._writer
            site.turn(n)
            n += 1
            if images._writer is not before:
                empty_caches()
                marks.append(held())
                print(n, marks[-1])
            assert n < 2000, "the writer never starts over"
        for name, most in (("allocated", 64 << 10), ("files", 0), ("maps", 2)):
            assert getattr(marks[-1], name) - getattr(marks[1], name) <= most, (name, marks)


main()
