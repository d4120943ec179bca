"""What a fleet was told in the past, so that who knows some of it is told the rest alone; and who serves what.

    publish(feed)          the newest
    news(version)          lines from a version that somebody has to the newest: what has changed, or everything
    number(version)        when that was: 0 where nobody remembers

Rules:
- Nobody has a queue: who is slow is told what is newest of each object once it can take more.
- An object is encoded once for all who hear of it, and what was encoded is dropped when nobody has asked for a while.
- What is remembered are keys, not more of them than a snapshot has.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from gwfast.config.model import Key, Resource
from gwfast.controller.feed import EMPTY, Feed
from gwfast.controller.wire import SNAPSHOT, encode, gone, put, say

VERSIONS = 1024  # that are remembered at most, and
KEYS_LEAST = 1024  # keys, where a feed has fewer objects
PIECE = 64 * 1024  # bytes of lines that are written at once, about


class Track:
    """The history of one feed."""

    def __init__(self):
        self.feed: Feed = EMPTY
        self._past: deque[tuple[int, str, tuple[Key, ...]]] = deque()  # number, version, and what it took to get there
        self._keys = 0
        self._numbers: dict[str, int] = {}
        self._lines: dict[Key, tuple[Resource, bytes]] = {}

    def publish(self, feed: Feed) -> None:
        """Take the next feed."""
        self.feed = feed
        self._past.append((feed.number, feed.version, feed.changed))
        self._keys += len(feed.changed)
        self._numbers[feed.version] = feed.number
        while len(self._past) > VERSIONS or len(self._past) > 1 and self._keys > max(KEYS_LEAST, len(feed.objects)):
            number, version, keys = self._past.popleft()
            self._keys -= len(keys)
            if self._numbers.get(version) == number:
                del self._numbers[version]

    def number(self, version: str) -> int:
        """Return the number of a version that was published, the latest; 0 where none is known."""
        return self._numbers.get(version, 0)

    def news(self, version: str) -> Iterable[bytes]:
        """Return pieces of lines, all of what there is to tell now to who has a version."""
        feed = self.feed
        known = self.number(version)
        if known:
            keys = {key for number, _, changed in self._past if number > known for key in changed}
            pairs = [(key, feed.objects.get(key)) for key in keys]
        else:
            pairs = list(feed.objects.items())
        return _pieces(self._told(feed, pairs, not known))

    def rest(self) -> None:
        """Drop what was encoded: nobody has asked for a while."""
        self._lines.clear()

    def _told(self, feed: Feed, pairs: list[tuple[Key, Resource | None]], whole: bool) -> Iterator[bytes]:
        if whole:
            yield SNAPSHOT
        for key, resource in pairs:
            yield gone(key) if resource is None else self._line(key, resource)
        yield say("SYNC", version=feed.version, bundle=feed.bundle, number=feed.number)

    def _line(self, key: Key, resource: Resource) -> bytes:
        known = self._lines.get(key)
        if known is None or known[0] is not resource:
            known = self._lines[key] = (resource, put(key, encode(resource)))
        return known[1]


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    waiting, size = [], 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
