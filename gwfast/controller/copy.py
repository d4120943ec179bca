"""The last good copy of a feed: a file in a folder of a data plane, from which it starts where no controller answers.

    {"type":"COPY","version":"0.9.0"}      who wrote it (the program)
    lines of a feed, up to SYNC            the whole, then what changed (wire)
    {"type":"SUM","version":"5e…"}         a digest of the lines since the last SUM
    ...

Rules:
- It contains Secrets: nobody but the owner may read it, or see it while it is written.
- What is read ends where a sum is wrong: a crash, or a full disk, leaves the version before. Nothing of it is half there.
- A change costs its own size; what has grown to twice its size is written anew, beside, and takes the old one's place at once.
- Whoever serves never waits for the disk: a thread of its own writes, and is told of what is newest once it can go on.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Lock

import msgspec

from gwfast import __version__
from gwfast.config.model import Key, Resource
from gwfast.controller.wire import SNAPSHOT, Line, encode, parse, put, say
from gwfast.identity import blake2b, digest

NAME = "feed"
GROWN = 4 * 1024 * 1024  # bytes that a copy may have more than twice what it was, before it is written anew
DAMAGED = "the last good copy is damaged: it is not used"


class Kept(msgspec.Struct):
    """What a copy held. version: '' where another program wrote it, which may have left out what it did not know."""

    version: str
    bundle: str
    objects: dict[Key, bytes]


class Copy:
    """Reads and keeps the copy of a folder. `warn` gets words for the log, from any thread."""

    def __init__(self, folder: str, warn: Callable[[str, str], None]):
        self._path = os.path.join(folder, NAME)
        self._folder = folder
        self._warn = warn
        self._writer = ThreadPoolExecutor(1, "copy")
        self._lock = Lock()
        self._more: list[bytes] = []  # to be appended
        self._whole: tuple[Mapping[Key, Resource], str, str] | None = None  # to be written anew
        self._scheduled = False
        self._base = 0  # bytes of it when it was written anew; 0: there is none that can be added to
        self._added = 0  # bytes since then
        self._failed = False

    def read(self) -> Kept | None:
        """Return what is there; None where nothing is, or nothing that is good."""
        try:
            with open(self._path, "rb") as file:
                return self._read(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("the last good copy cannot be read", f"{self._path}: {error.strerror}")
            return None

    def keep(self, changes: Iterable[bytes], resources: Mapping[Key, Resource], version: str, bundle: str, whole: bool) -> None:
        """Keep what is served now: add `changes` (lines), or write it anew. `resources` does not change any more."""
        with self._lock:
            if whole or self._whole is not None or not self._base or self._added > self._base + GROWN:
                self._whole, self._more = (resources, version, bundle), []
                self._base, self._added = self._base or 1, 0
            else:
                lines = b"".join((*changes, say("SYNC", version=version, bundle=bundle)))
                self._more.append(lines + _sum(lines))
                self._added += len(lines)
            if not self._scheduled:
                self._scheduled = True
                self._writer.submit(self._write)

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.shutdown(wait=True)

    # ---- Reading

    def _read(self, file) -> Kept | None:
        first = file.readline()
        head = _line(first)
        if head is None or head.type != "COPY":
            self._warn(DAMAGED, self._path)
            return None
        kept: Kept | None = None
        group: list[bytes] = []
        for text in file:
            line = _line(text)
            group.append(text)
            if line is None or line.type == "SUM" and line.version != _digest(b"".join(group[:-1])):
                break
            if line.type == "SUM":
                kept = _applied(kept, group)
                group = []
        if group or kept is None:
            self._warn("the end of the last good copy is damaged" if kept else DAMAGED, self._path)
        if kept is not None and head.version != __version__:
            kept.version = ""
        return kept

    # ---- Writing, in a thread of its own

    def _write(self) -> None:
        with self._lock:
            self._scheduled = False
            more, self._more = self._more, []
            whole, self._whole = self._whole, None
        try:
            if whole is not None:
                self._write_whole(*whole)
            if more:
                self._append(b"".join(more))
            self._failed = False
        except OSError as error:
            with self._lock:
                self._base, self._more = 0, []  # what comes next cannot be added to what is there
            if not self._failed:
                self._warn("the last good copy cannot be written", f"{self._path}: {error.strerror}")
            self._failed = True

    def _write_whole(self, resources: Mapping[Key, Resource], version: str, bundle: str) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        beside = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        size = 0
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            for piece in _whole(resources, version, bundle):
                size += file.write(piece)
            file.flush()
            os.fsync(fd)
        os.replace(beside, self._path)
        self._sync_folder()
        with self._lock:
            self._base = size

    def _append(self, data: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        with open(fd, "ab") as file:
            file.write(data)
            file.flush()
            os.fdatasync(fd)

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _whole(resources: Mapping[Key, Resource], version: str, bundle: str) -> Iterable[bytes]:
    """Yield the lines of a copy of everything."""
    yield say("COPY", version=__version__)
    mark = blake2b(digest_size=32)
    for line in chain([SNAPSHOT], (put(key, encode(one)) for key, one in resources.items()),
                      [say("SYNC", version=version, bundle=bundle)]):
        mark.update(line)
        yield line
    yield say("SUM", version=mark.hexdigest())


def _applied(kept: Kept | None, group: list[bytes]) -> Kept | None:
    """Apply a group of lines to what was there."""
    objects = dict(kept.objects) if kept else {}
    for line in map(parse, group):
        match line.type:
            case "SNAPSHOT":
                objects.clear()
            case "PUT":
                objects[line.key] = bytes(line.object)
            case "GONE":
                objects.pop(line.key, None)
            case "SYNC":
                return Kept(line.version, line.bundle, objects)
    return kept


def _digest(data: bytes) -> str:
    return digest(data, 32).hex()


def _sum(data: bytes) -> bytes:
    return say("SUM", version=_digest(data))


def _line(text: bytes) -> Line | None:
    try:
        return parse(text) if text.endswith(b"\n") else None
    except (msgspec.MsgspecError, ValueError):
        return None
