"""Files of configuration: which there are below the paths given, and what is in each, read again when it changed.

Rules:
- A folder's files are those with a known suffix, at any depth; names that begin with a dot are passed over, which is
  right for the `..data` folders of mounted ConfigMaps: their files are reached by links. Each real file counts once.
- A file keeps its items by the digest of each document, and no text.
"""
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator

from gwfast import limits
from gwfast.config import model as m
from gwfast.config import text
from gwfast.config.decode import Finding
from gwfast.config.read import Item, digest, read
from gwfast.errors import Problem, Source

SUFFIXES = (".yaml", ".yml", ".json")
_RACY = 50_000_000  # ns: a file that changed this short a time before it was read may change again unseen


class File:
    """One file: the items in it, each with the digest of its document.

    `index` is the place of the path given that it was found under. There may be 100,000 files: what is small here is
    small in memory."""

    __slots__ = ("path", "absolute", "index", "signature", "items", "broken", "explicit")

    def __init__(self, path: str, index: int, explicit: bool) -> None:
        absolute = os.path.abspath(path)
        self.path = path
        self.absolute = path if path == absolute else absolute
        self.index = index
        self.explicit = explicit  # named by the user: when it is gone, that is a problem
        self.signature: int | None = None
        self.forget()

    @property
    def order(self) -> tuple[int, str]:
        """What files sort by."""
        return self.index, self.path

    def refresh(self) -> list[Item]:
        """Read the file; return the items that are new or stand on another line."""
        try:
            data = self._data()
        except (OSError, ValueError) as error:
            self.signature = None
            words = getattr(error, "strerror", None) or str(error)
            item = Item(0, findings=((0, Finding("", f"cannot be read: {words}", reason="Unreadable")),))
            self.items, moved = (item,), [item]
            item.line, item.file = 1, self
        else:
            moved = self._parse(data)
        self.broken = any(item.broken for item in self.items)
        return moved

    def forget(self) -> None:
        """Drop what the file held: it is gone."""
        self.items: tuple[Item, ...] = ()
        self.broken = False

    def _data(self) -> bytes:
        if self.path == "-":
            self.signature = 0
            return sys.stdin.buffer.read()
        with open(self.path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ValueError("not a regular file")
            if info.st_size > limits.CONFIG_FILE_BYTES:
                raise ValueError(f"larger than {limits.CONFIG_FILE_BYTES} bytes")
            racy = time.time_ns() - info.st_mtime_ns < _RACY
            self.signature = None if racy else signature(info)
            return file.read()

    def _parse(self, data: bytes) -> list[Item]:
        before: dict[int, list[Item]] = {}
        for item in self.items:
            before.setdefault(item.document, []).append(item)
        now: dict[int, list[Item]] = {}
        documents = [(line, part, digest(part)) for line, part in text.documents(data.removeprefix(b"\xef\xbb\xbf"))]
        known = self._list_items(before, {name for _, _, name in documents})
        moved = []
        for line, document, name in documents:
            items = before.get(name)
            if items is None or name in now:
                items = read(document, known)
            while name in now:
                name += 1  # the same text once more: another resource, which will be a duplicate
            now[name] = items
            for item in items:
                item.document = name
                if item.line != line + item.offset or item.file is not self:
                    item.line, item.file = line + item.offset, self
                    moved.append(item)
        self.items = tuple(item for items in now.values() for item in items)
        return moved

    @staticmethod
    def _list_items(documents: dict[int, list[Item]], stay: set[int]) -> dict[int, Item]:
        """Find the items of Lists whose text changed: most of them will be in the new text too."""
        return {
            item.digest: item for name in documents.keys() - stay for item in documents[name] if item.digest
        }

    def problem(self, line: int, finding: Finding, key: m.Key | None, more: str = "") -> Problem:
        return Problem(
            source=Source(self.path, line), resource=str(key) if key else "", field=finding.field,
            reason=finding.reason, message=finding.message + more, severity=finding.severity,
        )


def signature(info: os.stat_result) -> int:
    """Return what tells one state of a file from the next without reading it."""
    return hash((info.st_mtime_ns, info.st_size, info.st_ino, info.st_dev))


def matters(path: str, known: Iterable[str]) -> bool:
    """Whether a path that is no file of ours may bring or take files: a new one, a folder, a swapped `..data`."""
    name = os.path.basename(path)
    if name.startswith(".") and name != "..data":
        return False
    if os.path.lexists(path):
        return name == "..data" or name.endswith(SUFFIXES) or os.path.isdir(path)
    return any(other.startswith(path + os.sep) for other in known)


def alone(path: str) -> bool:
    """Whether a path is a regular file that has no other name: no link leads to it that would make it count elsewhere."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def folder(path: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files of a folder and those below it by name, without hidden ones (`..data` of mounted ConfigMaps)."""
    try:
        info = os.stat(path)
        with os.scandir(path) as entries:
            names = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError:
        return
    if (info.st_dev, info.st_ino) in seen:
        return
    seen.add((info.st_dev, info.st_ino))
    for entry in names:
        try:
            info = entry.stat()
        except OSError:
            continue  # a link to nowhere, or gone in between
        if stat.S_ISDIR(info.st_mode):
            yield from folder(entry.path, seen)
        elif entry.name.endswith(SUFFIXES) and stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            yield entry.path, info
