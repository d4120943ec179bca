"""What the supervisor tells of the health of endpoints: the cells that workers write (upstream/endpoint_state), and its probes.

    follow(watched)   which endpoints there are: {backend key: {'ip:port': (slot, generation)}}
    read()            {backend key: Standing}; each endpoint that went out or came back since the last time is told once
"""
from collections.abc import Callable, Mapping

import msgspec

LINES = 20  # of one reading: when everything breaks at once, the metrics say how much

Watched = Mapping[str, Mapping[str, tuple[int, int]]]


class Standing(msgspec.Struct, frozen=True):
    """The endpoints of a backend: how many there are, for how many seconds more which are out, and which are unhealthy as
    probes say, and why."""

    endpoints: int
    out: dict[str, float]
    unhealthy: dict[str, str]

    @property
    def healthy(self) -> int:
        """How many are neither."""
        return self.endpoints - len(self.out.keys() | self.unhealthy.keys())


class Health:
    """ejected: reads cells, of (slot, generation)s, as engine.counters.ejected does; unhealthy: Prober.unhealthy, which changes;
    tell(what, **facts) writes a line to the log."""

    def __init__(self, ejected: Callable, unhealthy: Mapping[tuple[int, int], str], tell: Callable[..., None]):
        self._ejected = ejected
        self._unhealthy = unhealthy
        self._tell = tell
        self._watched: Watched = {}
        self._out: dict[tuple[str, str], int] = {}  # how often they went out, when last looked at
        self._failing: set[tuple[str, str]] = set()  # unhealthy, then

    def follow(self, watched: Watched) -> None:
        """Look at these from now on."""
        self._watched = watched

    def read(self) -> dict[str, Standing]:
        """Return how the backends stand, and tell what is new."""
        if not self._watched:
            return {}
        places = {place for endpoints in self._watched.values() for place in endpoints.values()}
        cells = {slot: (left, total) for slot, left, total in self._ejected(places)}
        found: dict[str, Standing] = {}
        out: dict[tuple[str, str], int] = {}
        failing: set[tuple[str, str]] = set()
        for key, endpoints in self._watched.items():
            gone = {where: cells[slot] for where, (slot, _) in endpoints.items() if slot in cells}
            unhealthy = {where: self._unhealthy[place] for where, place in endpoints.items() if place in self._unhealthy}
            found[key] = Standing(len(endpoints), {where: round(left, 3) for where, (left, _) in gone.items()}, unhealthy)
            out.update({(key, where): total for where, (_, total) in gone.items()})
            failing.update((key, where) for where in unhealthy)
        self._tell_changes(found, out, failing)
        return found

    def _tell_changes(self, found: dict[str, Standing], out: dict[tuple[str, str], int], failing: set[tuple[str, str]]) -> None:
        new = [one for one, total in out.items() if self._out.get(one) != total]
        sick = sorted(failing - self._failing)
        before, now = self._out.keys() | self._failing, out.keys() | failing
        back = [one for one in before - now if one[1] in self._watched.get(one[0], ())]
        for key, where in new[:LINES]:
            self._tell("an endpoint failed and is out", backend=key, endpoint=where, for_s=found[key].out[where],
                       times=out[key, where])
        for key, where in sick[:LINES]:
            self._tell("an endpoint is unhealthy and out", backend=key, endpoint=where, why=found[key].unhealthy[where])
        for key, where in sorted(back)[:LINES]:
            self._tell("an endpoint is back", backend=key, endpoint=where)
        self._out, self._failing = out, failing
