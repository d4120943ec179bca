"""How long to wait before what failed is tried again."""
import random


class Backoff:
    """Waits twice as long each time, from `first` to `most` seconds, up to a half less by chance."""

    def __init__(self, first: float, most: float):
        self._first = first
        self._most = most
        self._times = 0

    def next(self, at_least: float | None = None) -> float:
        """Return seconds; `at_least` is what the other side asked for."""
        wait = min(self._first * 2**min(self._times, 30), self._most) * random.uniform(0.5, 1.0)
        self._times += 1
        return wait if at_least is None else at_least + random.uniform(0, self._first)

    def reset(self) -> None:
        """Begin anew: it went well."""
        self._times = 0
