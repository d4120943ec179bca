"""How fast statuses are written: a token bucket for all of them, and patience with whoever undoes one.

    Bucket    so many writes a second, and some at once
    Patience  what was written a moment ago waits a little, so that a Gateway is not written for each of a thousand routes that
              come; what was undone after we wrote it waits longer and longer
"""
from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from gwfast.config.model import Key

SPACING = 0.1  # seconds between two writes of one object
UNDONE_FREE = 2  # times that a status is written again at once: somebody may have restored a backup, or edited it
UNDONE_WAIT = 1.0  # seconds before the next one, twice as long each time,
UNDONE_WAIT_MOST = 60.0  # up to that: two controllers with one name cost the API server two writes a minute
FORGOTTEN = 180.0  # seconds after which what was written is not remembered as undone: longer than the longest wait


class Bucket:
    """Tokens that come back at `rate` a second, up to `burst`. Times are the caller's clock, in seconds."""

    def __init__(self, rate: float, burst: float):
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Return how long to wait for a token; 0.0 where there is one."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def take(self) -> None:
        self._tokens -= 1


class _Written(msgspec.Struct):
    what: int  # hash of what we said
    at: float
    undone: int = 0


class Patience:
    """Remembers what was written lately: to write the same again is to write what somebody undid."""

    def __init__(self):
        self._written: dict[Key, _Written] = {}  # the latest is the last

    def wait(self, key: Key, wanted: Any, now: float) -> float:
        """Return how long to wait before this is written to that object."""
        before = self._written.get(key)
        if before is None or now - before.at > FORGOTTEN:
            return 0.0
        undone = before.undone + 1 - UNDONE_FREE if before.what == _hash(wanted) else 0
        least = SPACING if undone <= 0 else min(UNDONE_WAIT_MOST, UNDONE_WAIT * 2.0 ** min(undone - 1, 16))
        return max(0.0, before.at + least - now)

    def wrote(self, key: Key, wanted: Any, now: float) -> int:
        """Note a write; return how often in a row the same was written again."""
        what = _hash(wanted)
        before = self._written.pop(key, None)
        again = before is not None and before.what == what and now - before.at <= FORGOTTEN
        self._written[key] = _Written(what, now, before.undone + 1 if before is not None and again else 0)
        for old, written in list(islice(self._written.items(), 2)):  # two go for one that comes
            if now - written.at > FORGOTTEN:
                del self._written[old]
        return self._written[key].undone

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)


def _hash(wanted: Any) -> int:
    return hash(msgspec.json.encode(wanted))
