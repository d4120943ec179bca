"""What Gateways got, with what their data planes say of them; and when it is too early to tell.

    assigned(of the provisioner) -> Assigned of each Gateway, or None: ask again, `again` is called

Rules:
- A Gateway is ready where it got its address and its data planes serve it as it is now (standing).
- That one was made or changed a moment ago, and is about to get its address or to be followed by its data planes, is nothing that
  anybody should read in a status: PATIENCE. A status less is written then, while the API server has the Gateway's Service to
  make. Nobody waits longer for it than LONGEST, whatever changes meanwhile.
- Who has just begun to lead waits GRACE for the data planes of Gateways that are programmed, as their statuses say.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gwfast.config.model import Key
from gwfast.controller.standing import Standing
from gwfast.kubernetes.statuses import Assigned

PATIENCE, LONGEST = 0.5, 1.5  # seconds: a round of a data plane takes milliseconds
MAKING = -1  # in the place of a mark: its address is still coming
GRACE = 10.0  # data planes come back within STREAM_BACKOFF_MOST, and a little


class Programmed:
    """Decides what is said. `was(key)`: the status of a Gateway says that it is programmed."""

    def __init__(self, loop, standing: Callable[[], Mapping[Key, Standing]], was: Callable[[Key], bool],
                 again: Callable[[], None]):
        self._loop = loop
        self._standing = standing
        self._was = was
        self._again = again
        self._grace = 0.0  # until when
        self._behind: dict[Key, tuple[int, float]] = {}  # Gateways that are not served yet: mark, and since when
        self._put_off = 0.0  # since when nothing was said
        self._timer = None

    def begin(self) -> None:
        """Take note that this process has begun to lead."""
        self._grace = self._loop.time() + GRACE

    def assigned(self, found: Mapping[Key, Assigned]) -> dict[Key, Assigned] | None:
        """Return what to say of each Gateway; None: not yet."""
        now, standing = self._loop.time(), self._standing()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = max(self._graced(found, standing, now), self._patient(found, standing, now))
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._again)
            return None
        self._put_off = 0.0
        return {key: _joined(one, standing.get(key)) for key, one in found.items()}

    def _graced(self, found: Mapping[Key, Assigned], standing: Mapping[Key, Standing], now: float) -> float:
        """Return how long to wait for data planes that have not come back."""
        if now >= self._grace:
            return 0.0
        missing = any(one.ready and not ((there := standing.get(key)) and there.ready) and self._was(key)
                      for key, one in found.items())
        if not missing:
            self._grace = 0.0
            return 0.0
        return self._grace - now

    def _patient(self, found: Mapping[Key, Assigned], standing: Mapping[Key, Standing], now: float) -> float:
        """Return how long to wait for addresses that are about to come, and for data planes that are about to follow."""
        behind = {key: one.mark for key, one in standing.items() if one.behind}
        behind |= {key: MAKING for key, one in found.items() if one.coming}
        self._behind = {key: (mark, since) for key, mark in behind.items()
                        for since in [self._behind[key][1] if self._behind.get(key, (None,))[0] == mark else now]}
        left = max((since + PATIENCE - now for _, since in self._behind.values()), default=0.0)
        if left <= 0:
            return 0.0
        self._put_off = self._put_off or now
        return min(left, self._put_off + LONGEST - now)


def _joined(got: Assigned, there: Standing | None) -> Assigned:
    if not got.ready or there is not None and there.ready:
        return got
    if there is None or not there.serving and not there.behind:
        return replace(got, ready=False, reason="Pending", message="no data plane serves it yet")
    if there.message:
        return replace(got, ready=False, reason="Pending", message=there.message)
    count = there.serving + there.behind
    return replace(got, ready=False, reason="Pending", message=f"{there.behind} of {count} data planes do not serve it yet")
