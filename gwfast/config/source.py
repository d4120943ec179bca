"""Where resources come from: files and folders, a cluster, or a controller. The stages that follow know only this interface.

    Source.load()  in the pipeline's thread: what the source says now, and what changed since the last time (Loaded)
    Source.watch() on the event loop: calls `changed` when load() would say something new

Rules:
- `changed(what)` passes on a hint for load(): for files their absolute paths; None says that anything may have changed.
- load() never raises an exception because of what it reads: problems are in Loaded.problems.
- The first load() returns all resources: it waits in its thread until the source has them, and `waits` says what it waits for.
- `brief` says how much work follows load(). A changed route, or changed Pods behind a Service, concern themselves alone, while
  every route may depend on a Namespace, a Service or a Gateway.
"""
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import msgspec

from gwfast import errors
from gwfast.config.model import Key, Resource

BRIEF = 32  # changes that are a moment's work together: some 10 ms
BRIEF_KINDS = frozenset(("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "EndpointSlice"))


def brief(kinds: Collection[str]) -> bool:
    """Whether changes of objects of these kinds, one for each object, are a moment's work together."""
    return len(kinds) <= BRIEF and BRIEF_KINDS.issuperset(kinds)


class Loaded(msgspec.Struct, kw_only=True):
    """The resources that a source has now, and which of them are new, changed or gone since the last time."""

    resources: dict[Key, Resource]
    problems: list[errors.Problem]
    unreadable: tuple[tuple[str, str], ...] = ()  # absolute paths, and why: to be looked at again
    added: frozenset[Key] = frozenset()
    changed: frozenset[Key] = frozenset()
    removed: frozenset[Key] = frozenset()
    bundle: str = ""  # version of the Gateway API that the source holds, such as '1.6.1'; '' where that is ours
    named: frozenset[str] = frozenset()  # absolute paths of files that the resources name, to be watched as the paths are
    failed: int = 0  # files, folders and objects that were looked at and hold something new that is wrong, or cannot be read


class Source(Protocol):
    """A place that resources come from. `place` names all of it in a message: the first path, the API server's URL."""

    place: errors.Source

    @property
    def waits(self) -> str:
        """The words for what the first load() waits for; '' if it does not wait."""

    @property
    def brief(self) -> bool:
        """load() has a few changes to tell, and what follows from them is a moment's work."""

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
