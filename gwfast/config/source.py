"""Where resources come from: files and folders, a cluster, or a controller. What follows knows only this.

    Source.load()  in the pipeline's thread: what the source says now, and what changed since the last time (Loaded)
    Source.watch() on the event loop: calls `changed` when load() would say something new

Rules:
- `changed(what)` gets what load() may be told as a hint (for files: absolute paths), or None: anything may have changed.
- load() never raises for what it reads: that is in Loaded.problems.
- The first load() says all that there is: it waits (in its thread) until the source is whole, and `waits` says for what.
"""
from collections.abc import Callable, Iterable
from typing import Protocol

from gwfast import errors
from gwfast.config.load import Loaded


class Source(Protocol):
    """A place that resources come from. `place` names all of it in a message: the first path, the API server's URL."""

    place: errors.Source
    waits: str  # what the first load() waits for; '': nothing

    def load(self, changed: set[str] | None) -> Loaded:
        """Read what changed. `changed` is what `watch` told, joined; None: anything; an empty set: time has passed."""

    def watch(self, loop, changed: Callable[[set[str] | None], None], warn: Callable[[str], None]) -> None:
        """Begin to tell what changes; `warn` is for the log."""

    def look_again(self, unread: Iterable[tuple[str, str]]) -> None:
        """Look again at what could not be read (Loaded.unreadable) until it can be."""

    def metrics(self) -> Iterable[tuple]:
        """Return what is counted, as families of observe.metrics."""

    def close(self) -> None:
        """Stop; `changed` is not called any more."""
