"""Objects of an API server into config's resources: bytes in, Loaded out. In the pipeline's thread; knows nothing of the network.

    Kind, name, JSON ──read──> resource ──> Store ──> Loaded
                         └──> problems: of an object, or of a field that nobody here knows

Rules:
- What an object holds is read anew whenever it comes; where it says the same as before, the resource stays the same object.
- An object that is wrong by our own checks (an older CustomResourceDefinition has none) is not served. A route has its `fault`,
  so that the graph's conditions and its status say why; of another kind a problem does. Unlike a file, which may be half of
  what somebody is writing, an object is what it says now: every replica serves the same, whenever it began.
- Fields that this version does not know are ignored, with one warning for each kind and field: the server has a newer bundle.
- An object that this fails on, which is a bug, is a problem that names it; what it said before stays, and the others are taken.
- Of two objects with one key (ListenerSet and XListenerSet of one name) the one that is called so today is used.
"""
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from gwfast.config import model as m
from gwfast.config.findings import Finding
from gwfast.config.source import Loaded
from gwfast.config.quarantine import REASON
from gwfast.config.read import Item, read_object
from gwfast.config.store import Changes, Store, same
from gwfast.errors import Problem
from gwfast.kubernetes.api import Kind, Name2
from gwfast.kubernetes.seen import Name

Pending = Mapping[tuple[Name2, Name], tuple[Kind, bytes | None]]  # None: it has gone
_INDEX = re.compile(r"\[\d+\]")


class Objects:
    """The resources that objects say, kept up to date object by object."""

    def __init__(self, bug: Callable[[m.Key, Exception], None] = lambda key, error: None) -> None:
        """bug: told of each object that could not be taken."""
        self._bug = bug
        self._store = Store()
        self._wrong: dict[m.Key, tuple[Finding, ...]] = {}
        self._unknown: dict[tuple[str, str], dict[m.Key, None]] = {}  # kind and field: who has it
        self._strange: dict[m.Key, tuple[str, ...]] = {}  # the same the other way round
        self._former: dict[m.Key, dict[Kind, Item]] = {}  # objects of kinds that are called otherwise today
        self._lent: set[m.Key] = set()  # keys that one of those serves
        self._failed: set[m.Key] = set()
        self._bugs: dict[tuple[Kind, m.Key], str] = {}  # what could not be taken as it is now, and why

    @property
    def resources(self) -> Mapping[m.Key, m.Resource]:
        """The resources as they were read."""
        return self._store.written

    def take(self, pending: Pending, release: int = 0) -> set[m.Key]:
        """Take objects that came, changed or went; return the keys of the resources that are not what they were. release: of the
        Gateway API, as read_object has it."""
        touched = set()
        for (_, name), (kind, raw) in pending.items():
            key = m.Key(kind.kind, *name)
            before = self.resources.get(key)
            try:
                self._take(kind, key, raw, release)
                self._bugs.pop((kind, key), None)
            except Exception as error:
                self._bugs[kind, key] = f"{type(error).__name__}: {error}"
                self._bug(key, error)
            if self.resources.get(key) is not before:
                touched.add(key)
        return touched

    def _take(self, kind: Kind, key: m.Key, raw: bytes | None, release: int) -> None:
        if kind.rank:
            self._take_former(kind, key, raw, release)
        elif raw is None:
            self._drop(key)
        else:
            self._put(key, read_object(raw, kind.read_as, release))

    def loaded(self, more: Iterable[Problem] = (), bundle: str = "") -> Loaded:
        """Say what there is, and what changed since the last time."""
        changes: Changes = self._store.settle()
        failed, self._failed = self._failed, set()
        return Loaded(resources=dict(self._store.served), problems=[*more, *self._problems()], failed=len(failed), bundle=bundle,
                      added=changes.added, changed=changes.changed, removed=changes.removed)

    def _put(self, key: m.Key, item: Item) -> None:
        """Take an object of a kind that is called so today."""
        if item.resource is None:
            self._drop(key)
            self._note(key, item)
            return
        self._note(key, item)
        self._lent.discard(key)
        self._keep(key, item)

    def _keep(self, key: m.Key, item: Item) -> None:
        before, now = self.resources.get(key), item.resource
        assert now is not None
        if before is None or now.metadata.generation != before.metadata.generation or not same(before, now):
            self._store.put(key, now, item.selection)

    def _drop(self, key: m.Key) -> None:
        self._note(key, None)
        if key not in self._lent:
            self._store.drop(key)
        if key in self._former:
            self._lend(key)

    # ---- What was called otherwise

    def _take_former(self, kind: Kind, key: m.Key, raw: bytes | None, release: int) -> None:
        items = self._former.setdefault(key, {})
        if raw is None:
            items.pop(kind, None)
            if not items:
                del self._former[key]
        else:
            items[kind] = read_object(raw, kind.read_as, release)
        if key in self._lent or key not in self.resources:
            self._lend(key)

    def _lend(self, key: m.Key) -> None:
        """Let the best of the former objects have a key that nothing else has, if there is one."""
        items = sorted(self._former.get(key, {}).items(), key=lambda one: one[0].rank)
        self._note(key, items[0][1] if items else None)
        best = next((item for _, item in items if item.resource is not None), None)
        if best is not None:
            self._lent.add(key)
            self._keep(key, best)
        elif key in self._lent and not items:
            self._lent.discard(key)
            self._store.drop(key)

    # ---- Problems

    def _note(self, key: m.Key, item: Item | None) -> None:
        """Take note of what is wrong with an object, and of no more than that."""
        found = [finding for _, finding in item.findings] if item else []
        strange = tuple(dict.fromkeys(_INDEX.sub("[]", one.field) for one in found if one.reason == "UnknownField"))
        for field in self._strange.pop(key, ()):
            holders = self._unknown[key.kind, field]
            holders.pop(key, None)
            if not holders:
                del self._unknown[key.kind, field]
        for field in strange:
            self._unknown.setdefault((key.kind, field), {})[key] = None
        if strange:
            self._strange[key] = strange
        told = item is not None and item.resource is not None and item.resource.fault is not None  # by the graph
        wrong = tuple(one for one in found if one.reason != "UnknownField" and not (told and one.severity == "error"))
        if wrong:
            self._wrong[key] = wrong
        else:
            self._wrong.pop(key, None)
        if told or item is not None and item.resource is None:
            self._failed.add(key)

    def _problems(self) -> Iterator[Problem]:
        for (kind, key), why in sorted(self._bugs.items(), key=lambda one: one[0][1]):
            stays = "what it said before stays" if key in self.resources else "it is not served"
            yield Problem(source=m.NOWHERE, resource=f"{kind.name} {key.namespace}/{key.name}".replace(" /", " "), reason=REASON,
                          message=f"gwfast fails to read it, which is a bug of gwfast: {why}; {stays}")
        for key, found in sorted(self._wrong.items()):
            for one in found:
                yield Problem(source=m.NOWHERE, resource=str(key), field=one.field, reason=one.reason, severity=one.severity,
                              message=one.message)
        for (_, field), holders in sorted(self._unknown.items()):
            key = next(iter(holders))
            yield Problem(source=m.NOWHERE, resource=str(key), field=field, reason="UnknownField", severity="warning",
                          message=f"this version of gwfast does not know this field of {key.kind}, it is ignored wherever it is")
        for key, items in sorted(self._former.items()):
            if key not in self._lent and key in self.resources:
                for kind in items:
                    yield Problem(source=m.NOWHERE, resource=f"{kind.name} {key.namespace}/{key.name}", reason="Duplicate",
                                  message=f"{key} has the same name and is used", severity="warning")
