"""Keeps the resources of one source, and says which are new, changed or gone since it was last asked.

    put, drop ──> as written ──(Gateways of networking.x-k8s.io select routes)──> as served ──> Changes

Rules:
- `written` holds every resource as it was read. A route of networking.x-k8s.io is served with the parentRefs of the Gateways
  that select it, so it may change though nobody touched it.
- A resource that did not change stays the same object: a source compares with `same` before it puts one.
"""
import msgspec

from gwfast.config import model as m
from gwfast.config import versions


class Changes(msgspec.Struct, frozen=True):
    """The keys of what is new, changed and gone."""

    added: frozenset[m.Key] = frozenset()
    changed: frozenset[m.Key] = frozenset()
    removed: frozenset[m.Key] = frozenset()


class Store:
    """The resources of one source by key. `served` is what follows sees; it is replaced by whoever calls `settle`."""

    def __init__(self) -> None:
        self.written: dict[m.Key, m.Resource] = {}
        self.served: dict[m.Key, m.Resource] = {}
        self._selections: dict[m.Key, versions.Selection] = {}
        self._attached: dict[m.Key, tuple[m.Resource, m.Route]] = {}  # old routes: as written, with parentRefs
        self._touched: set[m.Key] = set()

    def put(self, key: m.Key, resource: m.Resource, selection: versions.Selection | None = None) -> None:
        """Take a resource that is new or changed. `selection` is what an old Gateway or route says instead of parentRefs."""
        self.written[key] = resource
        if selection is not None:
            self._selections[key] = selection
        else:
            self._selections.pop(key, None)
        self._touched.add(key)

    def drop(self, key: m.Key) -> None:
        """Forget a resource."""
        self.written.pop(key, None)
        self._selections.pop(key, None)
        self._touched.add(key)

    def move(self, key: m.Key) -> None:
        """Let what is served stand where what is written stands: the text around it has moved."""
        if attached := self._attached.get(key):
            attached[1].source = self.written[key].source

    def settle(self) -> Changes:
        """Bring `served` up to date; return what that changed."""
        now = {key: self.written.get(key) for key in self._touched}
        if self._selections or self._attached:
            now |= {key: self.written.get(key) for key in self._attached} | self._old_routes()
        self._touched = set()
        added: set[m.Key] = set()
        changed: set[m.Key] = set()
        removed: set[m.Key] = set()
        for key, resource in now.items():
            before = self.served.get(key)
            if resource is None:
                if self.served.pop(key, None) is not None:
                    removed.add(key)
            elif resource is not before:
                self.served[key] = resource
                (changed if before else added).add(key)
        return Changes(frozenset(added), frozenset(changed), frozenset(removed))

    def _old_routes(self) -> dict[m.Key, m.Route]:
        """Give routes of networking.x-k8s.io the parentRefs of the Gateways that select them."""
        routes = {}
        for key, refs in versions.attached(self.written, self._selections).items():
            written = self.written[key]
            known, served = self._attached.get(key, (None, None))
            if isinstance(written, m.Route) and (known is not written or served is None or served.spec.parent_refs != refs):
                served = _with_parents(written, refs)
            if served is not None:
                routes[key] = (written, served)
        self._attached = routes
        return {key: served for key, (_, served) in routes.items()}


def _with_parents(route: m.Route, refs: tuple[m.ParentReference, ...]) -> m.Route:
    return msgspec.structs.replace(route, spec=msgspec.structs.replace(route.spec, parent_refs=refs))


def content(resource: m.Resource) -> tuple:
    """All that counts for `generation`: everything but the metadata and the place."""
    return tuple(
        getattr(resource, name) for name in resource.__struct_fields__
        if name not in ("api_version", "metadata", "status", "source")
    )


def same(old: m.Resource, new: m.Resource) -> bool:
    """Whether two resources of one key say the same; the generation is for whoever compares them."""
    left, right = old.metadata, new.metadata
    return (
        content(old) == content(new)
        and (left.labels, left.annotations, left.creation_timestamp)
        == (right.labels, right.annotations, right.creation_timestamp)
    )
