"""Reads files into resources, again and again. Only what changed is read; a resource that is wrong keeps its last good version.

    paths -> File (stat, documents by digest) -> Item (one resource in one place) -> claims: Key -> Items -> Store
                                                                        PEM files that CertificateFiles name ────^

Rules:
- A file is read when its stat changed, a document is parsed when its text changed, and a resource is a new object
  when its content changed; otherwise it is the same object. `generation` starts at 1 and counts changes of content.
- Of several resources with one key the first wins: paths in the order given, files by name, then by line.
- A resource that became invalid keeps its last good version. So do all resources of a file that cannot be read or parsed any
  more, and of everything below a folder or link that cannot be followed. A resource that no file holds any longer is removed.
- Nothing that a file says raises an exception: every problem is in `Loaded.problems`.
"""
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Set

from gwfast.collector import without_collector
from gwfast.config import model as m
from gwfast.config.findings import Finding
from gwfast.config.files import File, Walk, alone, gone, matters, signature
from gwfast.config.pem import PemFiles
from gwfast.config.read import Item
from gwfast.config.source import Loaded
from gwfast.config.store import Store, content, same
from gwfast.errors import Problem, Source


def load(paths: Iterable[str]) -> Loaded:
    """Read files, folders and '-' (standard input) once."""
    return Loader(paths).load()


class Loader:
    """Loads paths repeatedly, at a cost in proportion to what changed."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._files: dict[str, File] = {}
        self._absolute: dict[str, File] = {}
        self._folders: dict[str, tuple[str, int]] = {}  # that hold files of ours: as they are named, and the path's index
        self._obstacles: dict[str, tuple[str, int]] = {}  # paths that cannot be followed: why, and how many resources they held
        self._blind: dict[str, str] = {}  # the same by absolute path
        self._claims: dict[m.Key, tuple[Item, ...]] = {}
        self._held: dict[m.Key, File] = {}  # keys that a broken file held when it was good
        self._store = Store()
        self._good = self._store.written
        self._troubled: set[File] = set()
        self._rivals: set[m.Key] = set()
        self._refused: dict[m.Key, list[Finding]] = {}  # valid by themselves, but not as a change
        self._pem = PemFiles()
        self._unfound: frozenset[str] = frozenset()  # files that resources name and that could not be read, the last time
        self._failed: set[str] = set()  # paths of which this load found something new that is wrong

    def load(self, changed: set[str] | None = None) -> Loaded:
        """Read what changed. `changed` are absolute paths that may have; without it every path is looked at."""
        with without_collector():
            touched: set[m.Key] = set()
            self._failed.clear()
            for file, left in self._stale(changed):
                touched |= self._read(file, left)
            for key in touched:
                self._decide(key)
            return self._loaded(changed)

    # ---- Files

    def _stale(self, changed: set[str] | None) -> list[tuple[File, bool]]:
        """Find the files to read again, and whether each is gone."""
        if changed is not None and self._come(changed - self._absolute.keys() - self._pem.paths):
            named = [self._absolute[path] for path in sorted(changed & self._absolute.keys())]
            if not any(os.path.isdir(file.path) for file in named):
                return [(file, not file.explicit and gone(file.path)) for file in named]
        found: dict[str, File] = {}
        stale, blind = [], set()
        self._folders.clear()
        walk, last = Walk(), None
        for path, index, explicit, now in self._walk(walk):
            if not explicit and (above := path.rpartition("/")[0] or "/") != last:
                self._folders.setdefault(os.path.abspath(above), (above, index))
                last = above
            file = found[path] = self._files.get(path) or File(path, index, explicit)
            if file.signature is None or file.signature != now:
                stale.append((file, False))
            if not now:
                blind.add(path)
        held: Counter[str] = Counter()
        for path, file in self._files.items():
            if path in found:
                continue
            if obstacle := _obstacle(path, walk.obstacles.keys() | blind):
                found[path] = file  # nobody knows whether it is gone
                held[obstacle] += sum(item.key is not None for item in file.items)
            else:
                stale.append((file, True))
        self._failed.update(walk.obstacles.keys() - self._obstacles.keys())
        self._obstacles = {path: (why, held[path]) for path, why in walk.obstacles.items()}
        self._blind = {os.path.abspath(path): why for path, why in walk.obstacles.items()}
        self._files = found
        self._absolute = {file.absolute: file for path, file in found.items() if path != "-"}
        return stale

    def _come(self, unknown: set[str]) -> bool:
        """Take in the files that came into folders of ours. False: something came or went that takes a look at every path."""
        come = []
        for path in unknown:
            if path in self._blind or matters(path, self._absolute):
                folder, name = os.path.split(path)
                if folder not in self._folders or not alone(path):
                    return False
                given, index = self._folders[folder]
                come.append(File(os.path.join(given, name), index, False))
        for file in come:
            self._files[file.path] = self._absolute[file.absolute] = file
        return True

    def _walk(self, walk: Walk) -> Iterator[tuple[str, int, bool, int]]:
        """Yield (path, index of the path given, named by the user, stat signature) of each file; each real file once."""
        for index, path in enumerate(self.paths):
            if path == "-":
                yield path, index, True, 0
            elif os.path.isdir(path) or self._was_folder(path, index):
                for name, now in walk.folder(path):
                    yield name, index, False, now
            else:
                try:
                    info = os.stat(path)
                except OSError:
                    yield path, index, True, 0
                    continue
                if walk.first(info):
                    yield path, index, True, signature(info)

    def _was_folder(self, path: str, index: int) -> bool:
        """Whether a path given that is nothing now has been a folder."""
        return not os.path.exists(path) and any(file.index == index and not file.explicit for file in self._files.values())

    def _read(self, file: File, left: bool) -> set[m.Key]:
        """Read a file again, or drop what it held where it has left; return the keys that it claims, or claimed,
        differently."""
        before = {id(item): item for item in file.items}
        touched: set[m.Key] = set()
        if left:
            self._files.pop(file.path, None)
            self._absolute.pop(file.absolute, None)
            file.forget()
        else:
            for item in file.refresh():
                if item.key in self._rivals:
                    touched.add(item.key)
                else:
                    self._move(item)
        after = {id(item): item for item in file.items}
        old = [before[name] for name in before.keys() - after.keys()]
        new = [after[name] for name in after.keys() - before.keys()]
        if any(finding.severity == "error" for item in new for _, finding in item.findings):
            self._failed.add(file.path)
        for item in old:
            if item.key:
                rest = tuple(other for other in self._claims[item.key] if other is not item)
                self._claims[item.key] = rest
                if file.broken and not rest and item.key in self._good:
                    self._held[item.key] = file
        for item in new:
            if item.key:
                self._claims[item.key] = (*self._claims.get(item.key, ()), item)
        touched |= {item.key for item in (*old, *new) if item.key}
        if not file.broken:
            touched |= {key for key, holder in self._held.items() if holder is file}
        (self._troubled.add if any(map(_troubled, file.items)) else self._troubled.discard)(file)
        return touched

    def _move(self, item: Item) -> None:
        """Keep `source` true where text around an unchanged resource moved."""
        if item.resource is not None and item.key is not None:
            item.resource.source = Source(item.file.path, item.line)
            self._store.move(item.key)

    # ---- Resources

    def _decide(self, key: m.Key) -> None:
        """Choose which of the items that claim a key is served."""
        claims, current = self._claims.get(key, ()), self._good.get(key)
        if len(claims) == 1 and claims[0].resource and current is None and key not in self._rivals and key not in self._held:
            self._replace(key, claims[0], claims[0].resource, None)  # nearly every key of a first load, done shortly
            return
        items = sorted(claims, key=lambda item: (item.file.order, item.line))
        self._refused.pop(key, None)
        self._rivals.discard(key)
        if not items:
            self._claims.pop(key, None)
            holder = self._held.get(key)
            if not (holder and holder.broken):
                self._held.pop(key, None)
                self._store.drop(key)
            return
        self._held.pop(key, None)
        self._claims[key] = tuple(items)
        first = items[0] if items[0].resource or current else next((each for each in items if each.resource), None)
        if first and first.resource and first.resource is not current:
            self._replace(key, first, first.resource, current)
        self._move(first or items[0])
        if len(items) > 1 or key in self._refused:
            self._rivals.add(key)

    def _used(self, key: m.Key) -> Item | None:
        """Find the item that is served; None where none of those that are written is."""
        return next((item for item in self._claims[key] if item.resource and item.resource is self._good.get(key)), None)

    def _replace(self, key: m.Key, item: Item, new: m.Resource, current: m.Resource | None) -> None:
        if current is None:
            new.metadata.generation = max(1, new.metadata.generation)
        elif same(current, new) and new.metadata.generation <= current.metadata.generation:
            item.resource = new = current
        elif refused := list(new.validate_update(current)):
            self._refused[key] = refused
            self._failed.add(item.file.path)
            return
        else:
            generation = current.metadata.generation + (content(current) != content(new))
            new.metadata.generation = max(generation, new.metadata.generation)
        self._store.put(key, new, item.selection)

    def _loaded(self, looked: set[str] | None) -> Loaded:
        changes = self._store.settle()
        resources = dict(self._store.served)
        filled = self._pem.fill(resources, changes.added | changes.changed | changes.removed, looked)
        unfound = tuple(self._pem.unreadable())
        self._failed.update({path for path, _ in unfound} - self._unfound)
        self._unfound = frozenset(path for path, _ in unfound)
        return Loaded(resources=resources, problems=[*self._problems(), *self._pem.problems()],
                      unreadable=self._unreadable() + unfound, named=self._pem.paths, failed=len(self._failed),
                      added=changes.added, changed=changes.changed | filled - changes.added - changes.removed,
                      removed=changes.removed)

    def _unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return what could not be read, and why."""
        return (*self._blind.items(), *((file.absolute, file.obstacle) for file in self._troubled if file.obstacle))

    # ---- Problems

    def _problems(self) -> Iterator[Problem]:
        for path, (why, held) in self._obstacles.items():
            kept = f"; the last good versions of the {held} resources that it held keep serving" if held else ""
            yield Problem(source=Source(path), reason="Unreadable", message=f"cannot be read: {why}{kept}")
        for file in sorted(self._troubled, key=lambda file: file.order):
            notes: dict[Finding, list[Item]] = {}
            for item in filter(_troubled, file.items):
                yield from self._findings(file, item)
                if item.note:
                    notes.setdefault(item.note, []).append(item)
            for note, items in notes.items():
                more = f" ({len(items)} resources)" if len(items) > 1 else ""
                yield file.problem(items[0].line, note, None if more else items[0].key, more)
        for key in sorted(self._rivals):
            yield from self._rival_problems(key, self._claims[key])

    def _findings(self, file: File, item: Item) -> Iterator[Problem]:
        kept = ""
        if item.resource is None and item.key in self._good and self._claims[item.key][0] is item:
            used = self._used(item.key)
            kept = f"; {used.file.path}:{used.line} is used" if used else "; the last good version keeps serving"
        elif item.broken and (held := sum(holder is file for holder in self._held.values())):
            kept = f"; the last good versions of the {held} resources that it held keep serving"
        for line, finding in item.findings:
            more = kept if finding.severity == "error" else ""
            yield file.problem(item.line - item.offset + line, finding, item.key, more)

    def _rival_problems(self, key: m.Key, items: tuple[Item, ...]) -> Iterator[Problem]:
        first, *others = items
        used = self._used(key) or first
        for finding in self._refused.get(key, ()):
            yield first.file.problem(first.line, finding, key, "; the last good version keeps serving")
        for other in others:
            equal = first.resource and other.resource and content(first.resource) == content(other.resource)
            which = "is used" if used is first else "is invalid"
            message = f"is already written at {first.file.path}:{first.line}, which {which}"
            finding = Finding("metadata.name", message, "warning" if equal else "error", "Duplicate")
            yield other.file.problem(other.line, finding, key)


def _obstacle(path: str, obstacles: Set[str]) -> str:
    """Return which of the obstacles a path leads through: a folder, or a link with the name of a folder or a file."""
    above = path
    while obstacles and (above := above.rpartition("/")[0]):
        if above in obstacles:
            return above
    return ""


def _troubled(item: Item) -> bool:
    return bool(item.findings) or item.note is not None
