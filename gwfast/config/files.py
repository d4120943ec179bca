"""Files of configuration: Walk finds those below the given paths, and a File reads its own again when it has changed.

Rules:
- The files of a folder are those with a known suffix, at any depth. Names that begin with a dot are passed over: the files of a
  mounted ConfigMap's `..data` folder are reached by links. Each real file counts once.
- A File keeps the items that it was read into, by the digest of each document. It keeps no text.
- A path that cannot be read does not count as empty: a folder that cannot be listed, a link that leads nowhere or in a circle,
  a name whose kind the kernel does not tell. It has an `obstacle`, and the items that were read from it, or below it, stay.
"""
import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gwfast import limits
from gwfast.config import model as m
from gwfast.config import text
from gwfast.config.findings import Finding
from gwfast.config.read import Item, digest, read
from gwfast.errors import Problem, Source

SUFFIXES = (".yaml", ".yml", ".json")
_RACY = 50_000_000  # ns: a file that changed this short a time before it was read may change again unseen
_GONE = (errno.ENOENT, errno.ENOTDIR)


class File:
    """One file: the items in it, each with the digest of its document.

    `index` is the place of the path given that it was found under. There may be 100,000 files: what is small here is
    small in memory."""

    __slots__ = ("path", "absolute", "index", "signature", "items", "broken", "obstacle", "explicit")

    def __init__(self, path: str, index: int, explicit: bool) -> None:
        absolute = os.path.abspath(path)
        self.path = path
        self.absolute = path if path == absolute else absolute
        self.index = index
        self.explicit = explicit  # named by the user: when it is gone, that is a problem
        self.signature: int | None = None
        self.items: tuple[Item, ...] = ()
        self.broken = False
        self.obstacle = ""  # why it cannot be read

    @property
    def order(self) -> tuple[int, str]:
        """The key that files are sorted by."""
        return self.index, self.path

    def refresh(self) -> list[Item]:
        """Read the file; return the items that are new or stand on another line."""
        try:
            data = self._data()
        except (OSError, ValueError) as error:
            self.signature = None
            if not self.explicit and gone(self.path):
                self.forget()  # since it was listed
                return []
            why = words(self.path, error)
            if self.obstacle == why:
                return []
            item = Item(0, findings=((0, Finding("", f"cannot be read: {why}", reason="Unreadable")),))
            self.items, moved, self.obstacle = (item,), [item], why
            item.line, item.held_by = 1, self
        else:
            moved, self.obstacle = self._parse(data), ""
        self.broken = any(item.broken for item in self.items)
        return moved

    def forget(self) -> None:
        """Drop what the file held: it is gone."""
        self.items, self.broken, self.obstacle = (), False, ""

    def _data(self) -> bytes:
        if self.path == "-":
            self.signature = 0
            return sys.stdin.buffer.read()
        with opened(self.path) as file:
            info = _regular(file)
            data = file.read()
            after = _regular(file)
        if (after.st_size, signature(after)) != (info.st_size, signature(info)):
            raise ValueError("it is being written")
        racy = time.time_ns() - info.st_mtime_ns < _RACY
        self.signature = None if racy else signature(info)
        return data

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
                if item.line != line + item.offset or item.held_by is not self:
                    item.line, item.held_by = line + item.offset, self
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


def opened(path: str) -> BinaryIO:
    """Open a file for reading, without waiting for whoever may write into a FIFO."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _regular(file: BinaryIO) -> os.stat_result:
    """Return the status of a file that may be read whole. Raise ValueError for another."""
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise ValueError("not a regular file")
    if info.st_size > limits.CONFIG_FILE_BYTES:
        raise ValueError(f"larger than {limits.CONFIG_FILE_BYTES} bytes")
    return info


def signature(info: os.stat_result) -> int:
    """Return what tells one state of a file from the next without reading it."""
    return hash((info.st_mtime_ns, info.st_size, info.st_ino, info.st_dev))


def matters(path: str, known: Iterable[str]) -> bool:
    """Whether a path that is no file of ours may bring or take files: a new one, a folder, a swapped `..data`."""
    name = os.path.basename(path)
    if name.startswith(".") and name != "..data":
        return False
    if not gone(path):
        return name == "..data" or name.endswith(SUFFIXES) or os.path.isdir(path) or not os.path.isfile(path)
    return any(other.startswith(path + os.sep) for other in known)


def alone(path: str) -> bool:
    """Whether a path is a regular file that has no other name: no link leads to it that would make it count elsewhere."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def gone(path: str) -> bool:
    """Whether nothing has this name any more; where that cannot be told, something may."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno in _GONE
    return False


def obstacle(path: str) -> str:
    """Return why a file or folder cannot be read now, '' if it can."""
    try:
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                if first := next(entries, None):
                    os.lstat(first.path)
        else:
            with opened(path) as file:
                _regular(file)
                file.read(1)
    except (OSError, ValueError) as error:
        return words(path, error)
    return ""


def words(path: str, error: Exception) -> str:
    """Say why a path cannot be read."""
    if getattr(error, "errno", 0) in _GONE:
        with contextlib.suppress(OSError):
            return f"it is a link to {os.readlink(path)}, where nothing is"
    return getattr(error, "strerror", None) or str(error)


class Walk:
    """A walk over the files of folders and those below them, each real file once, without hidden ones (`..data` of mounted
    ConfigMaps). `obstacles` are the names that it could not look at or into, and why."""

    def __init__(self) -> None:
        self.obstacles: dict[str, str] = {}
        self._seen: set[tuple[int, int]] = set()

    def first(self, info: os.stat_result) -> bool:
        """Whether a file or folder is met for the first time."""
        identity = (info.st_dev, info.st_ino)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def folder(self, path: str, given: bool = True) -> Iterator[tuple[str, int]]:
        """Yield the files by name, each with its signature; 0 is that of one that cannot be read.

        given: by the user, who means something even where it is gone."""
        try:
            info = os.stat(path)
            with os.scandir(path) as entries:
                names = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            if given or not gone(path):
                self.obstacles[path.rstrip("/") or "/"] = words(path, error)
            return
        if not self.first(info):
            return
        for entry in names:
            yield from self._entry(path, entry)

    def _entry(self, above: str, entry: os.DirEntry) -> Iterator[tuple[str, int]]:
        try:
            info = entry.stat()
        except OSError as error:
            yield from self._obstacle(above, entry, error)
            return
        if stat.S_ISDIR(info.st_mode):
            yield from self.folder(entry.path, given=False)
        elif entry.name.endswith(SUFFIXES) and self.first(info):
            yield entry.path, signature(info)

    def _obstacle(self, above: str, entry: os.DirEntry, error: OSError) -> Iterator[tuple[str, int]]:
        """Take in a name that cannot be looked at: gone in between, a link to nowhere, in a folder that may only be listed."""
        if gone(entry.path):
            return
        if not entry.is_symlink():
            self.obstacles[above.rstrip("/") or "/"] = words(above, error)
        elif entry.name.endswith(SUFFIXES):
            yield entry.path, 0
        else:
            self.obstacles[entry.path] = words(entry.path, error)
