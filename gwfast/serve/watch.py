"""Watches the configuration's files and folders: tells which paths changed, a few milliseconds after they did.

Rules:
- A folder is watched with all below it; a file by the folders that its name, and each link on the way, stands in
  (editors replace files; a mounted ConfigMap swaps the link `..data`).
- A regular file counts when it is complete: closed by who wrote it, or moved or linked into place.
- In a folder only names that the loader reads count, and no hidden ones.
- Bursts become one call: SETTLE after the last event, at most BURST after the first.
- `changed(paths)` gets files and folders, or None: anything may have changed.
- Where the kernel gives no more watches, modification times are polled every second instead, and `warn` says so.
- What could not be read is looked at every second until it can be, or cannot for another reason: the kernel does not tell
  when a link's target, a mount or a permission further up comes back.
"""
import asyncio
import errno
import os
from collections.abc import Callable, Iterable

from gwfast.config.files import SUFFIXES, obstacle
from gwfast.serve import inotify
from gwfast.serve.inotify import Event, INotify

SETTLE = 0.002
BURST = 0.010
POLL = 1.0
LINKS = 40  # of one path, as the kernel's limit
DATA = "..data"  # the link that a mounted ConfigMap or Secret swaps; other names that begin so are its versions

_MASK = (inotify.CREATE | inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE
         | inotify.ATTRIB | inotify.ONLYDIR)
_NO_MORE = (errno.ENOSPC, errno.ENOMEM)  # watches
_TOLD = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # by the folder above when it is back, or by who reads it


class Watcher:
    """Watches until closed. '-' (standard input) is not watched."""

    def __init__(self, loop, paths: Iterable[str], changed: Callable[[set[str] | None], None],
                 warn: Callable[[str], None]):
        self._loop = loop
        self._paths = self._given = [os.path.abspath(path) for path in paths if path != "-"]
        self._changed = changed
        self._warn = warn
        self._folders: dict[int, set[str]] = {}  # by watch descriptor: links give a folder several names
        self._trees: set[str] = set()  # watched folders of which every name counts
        self._names: dict[str, dict[str, set[str]]] = {}  # folder -> name in it -> the paths it is a part of
        self._waiting: set[str] | None = set()
        self._timer: asyncio.TimerHandle | None = None
        self._first = 0.0
        self._poller: asyncio.Task | None = None
        self._unread: dict[str, str] = {}  # paths, and why
        self._looker: asyncio.Task | None = None
        self._unwatched: set[str] = set()  # folders
        self._inotify: INotify | None = None
        self.started = asyncio.Event()  # what changes from now on is told
        try:
            self._inotify = INotify()
            self._add_all()
        except OSError as error:
            self._poll_instead(error)
        else:
            loop.add_reader(self._inotify.fileno(), self._read)
            self.started.set()

    @property
    def polling(self) -> bool:
        """Whether modification times are polled."""
        return self._poller is not None

    def follow(self, named: Iterable[str]) -> None:
        """Watch these files (absolute paths) beside the paths given, and no others."""
        new = [*self._given, *sorted(set(named).difference(self._given))]
        come, gone = set(new).difference(self._paths), set(self._paths).difference(new)
        self._paths = new
        for places in self._names.values():
            for name in [name for name, paths in places.items() if paths & gone]:
                places[name] -= gone
        for path in sorted(come):
            self._watch_again(path)
            self._note(path)  # it may have changed since it was read

    def look_again(self, unread: Iterable[tuple[str, str]]) -> None:
        """Look at these (path, why) that could not be read, and no others, until that is not so any more."""
        self._unread = dict(unread)
        if self._unread and self._looker is None:
            self._looker = self._loop.create_task(self._look())

    def close(self) -> None:
        """Stop; `changed` is not called any more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._poller, self._looker):
            if task is not None:
                task.cancel()
        self._stop_inotify()

    # what is watched

    def _add_all(self) -> None:
        for path in self._paths:
            self._add(path)

    def _add(self, path: str) -> None:
        """Watch a path: its name, its links, and all below it where it is a folder."""
        for folder, name in _steps(path):
            self._names.setdefault(folder, {}).setdefault(name, set()).add(path)
            self._add_folder(folder)
        if os.path.isdir(path):
            self._add_tree(path)

    def _add_tree(self, top: str) -> None:
        for folder, names in _tree(top):
            self._trees.add(folder)
            self._add_folder(folder)
            for name in names:
                if os.path.islink(path := os.path.join(folder, name)):
                    for where, step in _steps(path):
                        self._names.setdefault(where, {}).setdefault(step, set()).add(path)
                        self._add_folder(where)

    def _add_folder(self, folder: str) -> None:
        try:
            number = self._inotify.add_watch(folder, _MASK)  # type: ignore[union-attr]  # none: nobody comes here
        except OSError as error:
            if error.errno in _NO_MORE:
                raise
            if error.errno not in _TOLD and folder not in self._unwatched:
                self._unwatched.add(folder)
                self._warn(f"cannot watch {folder}: {error.strerror}")
            return
        self._unwatched.discard(folder)
        self._folders.setdefault(number, set()).add(folder)

    # what happened

    def _read(self) -> None:
        try:
            for event in self._inotify.read():  # type: ignore[union-attr]  # it is what the loop reads
                self._take(event)
        except OSError as error:
            self._poll_instead(error)

    def _take(self, event: Event) -> None:
        if event.mask & inotify.Q_OVERFLOW:
            self._add_all()
            self._note(None)
        elif event.mask & inotify.IGNORED:
            for folder in self._folders.pop(event.wd, ()):
                self._note(folder)
        elif event.name:
            for folder in self._folders.get(event.wd, ()):
                self._take_name(folder, event)

    def _take_name(self, folder: str, event: Event) -> None:
        path = os.path.join(folder, event.name)
        if _unfinished(path, event.mask) or self._only_touched(path, event.mask):
            return
        for given in list(self._names.get(folder, {}).get(event.name, ())):
            self._add(given)
            self._note(given)
        if folder not in self._trees:
            return
        if event.name == DATA:
            self._add_tree(folder)
            self._note(folder)
        elif _matters(path, event):
            if os.path.isdir(path) or os.path.islink(path):
                self._add(path)
            self._note(path)

    def _only_touched(self, path: str, mask: int) -> bool:
        """Whether attributes of a file changed, and it can be read or not as before: it may be half written."""
        if not mask & inotify.ATTRIB or mask & inotify.ISDIR:
            return False
        return path not in self._unread and os.access(path, os.R_OK)

    # what is told

    def _note(self, path: str | None) -> None:
        now = self._loop.time()
        if path is None:
            self._waiting = None
        elif self._waiting is not None:
            self._waiting.add(path)
        if self._timer is None:
            self._first = now
        else:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(now + SETTLE, self._first + BURST), self._tell)

    def _tell(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, set()
        self._changed(waiting)

    # without inotify

    def _poll_instead(self, error: OSError) -> None:
        self._stop_inotify()
        self._warn(f"cannot watch files ({error.strerror}; see fs.inotify in sysctl): "
                   f"looking at them every {POLL:g} s instead")
        self._poller = self._loop.create_task(self._poll())

    def _stop_inotify(self) -> None:
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    async def _poll(self) -> None:
        before = await self._loop.run_in_executor(None, _marks, self._paths)
        self.started.set()
        self._note(None)  # what changed until now has not been seen
        while True:
            await asyncio.sleep(POLL)
            now = await self._loop.run_in_executor(None, _marks, self._paths)
            changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
            before = now
            if changed:
                self._changed(changed)


    # what could not be read

    async def _look(self) -> None:
        while self._unread:
            await asyncio.sleep(POLL)
            unread = self._unread
            now = await self._loop.run_in_executor(None, _obstacles, unread)
            for path, why in now.items():
                if why != unread[path] and unread is self._unread:
                    self._watch_again(path)
                    self._note(path)
        self._looker = None

    def _watch_again(self, path: str) -> None:
        if self._inotify is None:
            return
        try:
            self._add(path)
        except OSError as error:
            self._poll_instead(error)


def _obstacles(paths: Iterable[str]) -> dict[str, str]:
    return {path: obstacle(path) for path in paths}


def _steps(path: str) -> list[tuple[str, str]]:
    """Each (folder, name) whose change makes `path` mean something else, links followed."""
    steps: list[tuple[str, str]] = []
    left = [path]
    while left and len(steps) < LINKS:
        folder, name = os.path.split(left.pop())
        real = os.path.realpath(folder)
        steps.append((real, name))
        if real != folder and os.path.islink(folder):
            left.append(folder)
        whole = os.path.join(folder, name)
        if os.path.islink(whole):
            left.append(os.path.normpath(os.path.join(folder, os.readlink(whole))))
    return steps


def _matters(path: str, event: Event) -> bool:
    """Whether a name in a watched folder is one that is read, or a folder or link that may lead to such."""
    if event.name.startswith("."):
        return False
    return event.name.endswith(SUFFIXES) or bool(event.mask & inotify.ISDIR) or os.path.islink(path)


def _unfinished(path: str, mask: int) -> bool:
    """Whether a created regular file is yet to be written: it will be closed."""
    if not mask & inotify.CREATE or mask & inotify.ISDIR:
        return False
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_nlink == 1 and not os.path.islink(path)


def _tree(top: str):
    """Every folder from `top` down (links followed, each folder once, none that is hidden), and its names."""
    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(top, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        try:
            status = os.stat(folder)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder, files + below


def _marks(paths: Iterable[str]) -> dict[str, tuple]:
    """What tells a changed file, by path."""
    marks: dict[str, tuple] = {}
    for path in paths:
        _mark(marks, path)
        for folder, names in _tree(path):
            for name in names:
                _mark(marks, os.path.join(folder, name))
    return marks


def _mark(marks: dict[str, tuple], path: str) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return
    marks[path] = (status.st_mtime_ns, status.st_size, status.st_dev, status.st_ino, status.st_mode)
