"""Files and folders as a Source: a Loader that reads them, and a Watcher that tells which of them, and of the files that they
name, changed.

Rule: what `watch` tells are absolute paths, which is what `load` wants to hear.
"""
from collections.abc import Callable, Iterable

from gwfast.config import composer  # noqa: F401 - what is wrong with PyYAML is told at the start
from gwfast.config.load import Loader
from gwfast.config.source import Loaded
from gwfast.errors import Source as Place
from gwfast.serve.watch import Watcher


class Files:
    """The files and folders of a command line; '-' is standard input."""

    waits = ""  # what is there is read at once
    brief = False  # nobody knows what a file says before it is read

    def __init__(self, paths: Iterable[str]):
        self._loader = Loader(paths)
        self._watcher: Watcher | None = None
        self._loop = None
        self._named: frozenset[str] = frozenset()
        self.place = Place(self._loader.paths[0])

    def load(self, changed: set[str] | None) -> Loaded:
        """Read the paths that changed; None: look at every one."""
        loaded = self._loader.load(changed)
        if self._loop is not None and loaded.named != self._named:
            self._named = loaded.named
            self._loop.call_soon_threadsafe(self._follow, loaded.named)  # load() is in another thread
        return loaded

    def _follow(self, named: frozenset[str]) -> None:
        if self._watcher is not None:
            self._watcher.follow(named)

    def watch(self, loop, changed: Callable[[set[str] | None], None], warn: Callable[[str], None]) -> None:
        """Begin to tell which paths changed."""
        self._loop = loop
        self._watcher = Watcher(loop, self._loader.paths, changed, warn)

    def look_again(self, unread: Iterable[tuple[str, str]]) -> None:
        """Look again at what could not be read until it can be."""
        if self._watcher is not None:
            self._watcher.look_again(unread)

    def metrics(self) -> tuple:
        """Nothing is counted: the supervisor counts what could not be read."""
        return ()

    def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
