"""What a data plane was told, batch by batch, into config's resources. In the pipeline's thread; knows nothing of the network.

    Batch (what lies between two SYNCs) ──decode──> Store ──> Loaded
                                          └──> undecodable: objects that are not understood; their last good versions serve
"""
from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gwfast.collector import without_collector
from gwfast.config.source import Loaded
from gwfast.config.model import Key, Resource
from gwfast.config.store import Store, same
from gwfast.controller import wire
from gwfast.errors import Problem, Source


class Batch(msgspec.Struct):
    """Objects as they came; None: it has gone. whole: there are no others. version, bundle: of what there is then."""

    objects: dict[Key, bytes | None] = {}
    whole: bool = False
    version: str = ""
    bundle: str = ""
    number: int = 0  # of the SYNC behind it, on the link that there is

    def add(self, later: Batch) -> None:
        """Take what came later."""
        if later.whole:
            self.objects, self.whole = {}, True
        self.objects |= later.objects
        self.version, self.bundle, self.number = later.version, later.bundle, later.number

    def lines(self) -> Iterator[bytes]:
        """Yield what says the same on the wire."""
        for key, text in self.objects.items():
            yield wire.gone(key) if text is None else wire.put(key, text)


class Received:
    """The resources of all batches so far. version, bundle: of the last one."""

    def __init__(self, place: Source):
        self._place = place
        self._store = Store()
        self.version = self.bundle = ""
        self.undecodable: dict[Key, str] = {}  # and why

    def take(self, batch: Batch | None) -> Loaded:
        """Take a batch, where there is one; say what there is, and what changed since the last time."""
        with without_collector():
            if batch is not None:
                self._apply(batch)
            changes = self._store.settle()
            return Loaded(resources=dict(self._store.served), problems=list(self._problems()), bundle=self.bundle,
                          added=changes.added, changed=changes.changed, removed=changes.removed)

    def _apply(self, batch: Batch) -> None:
        self.version, self.bundle = batch.version, batch.bundle
        gone = [key for key, text in batch.objects.items() if text is None]
        if batch.whole:
            gone += self._store.written.keys() - batch.objects.keys()
        for key in gone:
            self.undecodable.pop(key, None)
            self._store.drop(key)
        for key, text in batch.objects.items():
            if text is not None:
                self._put(key, text)

    def _put(self, key: Key, text: bytes) -> None:
        resource: Resource | None
        try:
            resource, wrong = wire.decode(text)
        except Exception as error:  # also a bug of ours: what it makes fail is this object alone
            resource, wrong = None, f"{type(error).__name__}: {error}"
        if resource is not None and resource.key != key:
            wrong, resource = f"it is {resource.key}", None
        self.undecodable.pop(key, None)
        if resource is None:
            if wrong:
                self.undecodable[key] = wrong
            return
        before = self._store.written.get(key)
        if before is None or before.metadata.generation != resource.metadata.generation or not same(before, resource):
            self._store.put(resource.key, resource)  # whose strings are the resource's own

    def _problems(self) -> Iterator[Problem]:
        for key, wrong in sorted(self.undecodable.items()):
            yield Problem(source=self._place, resource=str(key), reason="Invalid",
                          message=f"this version of gwfast does not understand it, its last good version serves: {wrong}")
