"""One kind of the API server, in all namespaces or in some, and the versions that it is read at one after the other.

Rules:
- A kind that is served at a better version is read there, and left where it was read after that: nothing is missing meanwhile.
- What has gone with the old version is told when the new one is whole.
"""
import asyncio
from collections.abc import Callable, Iterable, Iterator

from gwfast.kubernetes.api import Kind
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Name, Seen

# An object's kind, name, what is seen of it, its JSON, and what was seen before; None: it has gone.
Put = Callable[[Kind, Name, Seen | None, bytes | None, Seen | None], None]


class _List:
    """A Sink for the lists of a kind at one version."""

    def __init__(self, feed: "Feed", kind: Kind, namespaces: Iterable[str]):
        self._feed = feed
        self.kind = kind
        self.reflectors = [feed.reflector(kind, namespace, self) for namespace in namespaces]
        self._tasks = [asyncio.ensure_future(reflector.run()) for reflector in self.reflectors]

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        self._feed.put(self.kind, name, seen, raw, before)

    def gone(self, name: Name) -> None:
        self._feed.put(self.kind, name, None, None, None)

    def synced(self) -> None:
        self._feed.synced(self)

    def known(self) -> Iterator[Name]:
        return (name for reflector in self.reflectors for name in reflector.known)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def forget(self) -> None:
        self.stop()
        for reflector in self.reflectors:
            reflector.forget()


class Feed:
    """The objects of one kind. `put` gets each of them, `moved()` is called when a list is complete."""

    def __init__(self, client: Client, kind: Kind, namespaces: Iterable[str], put: Put, moved: Callable[[], None], log):
        self._client = client
        self._namespaces = tuple(namespaces) if kind.namespaced and namespaces else ("",)
        self._put = put
        self._moved = moved
        self._log = log
        self._next: _List | None = None  # at another version, until it is whole
        self._list = _List(self, kind, self._namespaces)

    @property
    def kind(self) -> Kind:
        """The kind at the version that is read."""
        return self._list.kind

    @property
    def reflectors(self) -> tuple[Reflector, ...]:
        """Who reads it."""
        return tuple(self._list.reflectors)

    @property
    def waits(self) -> bool:
        """Whether a first list is still to come."""
        return not all(each.synced or each.state in ("absent", "forbidden") for each in self._list.reflectors)

    @property
    def forbidden(self) -> bool:
        """Whether a list may not be read."""
        return any(each.state == "forbidden" for each in self._list.reflectors)

    @property
    def watched(self) -> bool:
        """Whether everything is watched at this moment: what is not known is not there."""
        return all(each.synced and each.state == "watching" for each in self._list.reflectors)

    def seen(self, name: Name) -> Seen | None:
        """Return what the API server says about an object."""
        return next((seen for each in self._list.reflectors if (seen := each.known.get(name)) is not None), None)

    def names(self) -> Iterator[Name]:
        """Return the names of all objects."""
        return self._list.known()

    def follow(self, kind: Kind) -> None:
        """Read the kind as it is served now."""
        if self._next is not None:
            self._next.stop()
            self._next = None
        if kind != self.kind:
            self._next = _List(self, kind, self._namespaces)

    def stop(self) -> None:
        """Read no more; nothing is told."""
        self._list.stop()
        if self._next is not None:
            self._next.stop()

    def forget(self) -> None:
        """Read no more: all have gone."""
        if self._next is not None:
            self._next.stop()
        self._list.forget()

    # what lists say

    def reflector(self, kind: Kind, namespace: str, sink: _List) -> Reflector:
        return Reflector(self._client, kind.collection(namespace), sink, keep_status=kind.status, log=self._log)

    def put(self, kind: Kind, name: Name, seen: Seen | None, raw: bytes | None, before: Seen | None) -> None:
        self._put(kind, name, seen, raw, before)

    def synced(self, done: _List) -> None:
        if done is self._next and all(each.synced for each in done.reflectors):
            former, self._list, self._next = self._list, done, None
            former.stop()
            now = set(done.known())
            for name in former.known():
                if name not in now:
                    self._put(former.kind, name, None, None, None)
        self._moved()
