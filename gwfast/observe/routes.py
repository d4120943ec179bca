"""What was counted by route, and by backend.

Workers count in slots that outlive a table. A slot whose route or backend is gone is given to another one and counts on from
where it was, so what it had counted until then is remembered and taken off: each begins at zero.
"""
from collections.abc import Callable, Mapping
from types import MappingProxyType

SHARED, UNROUTED = ("", "other"), ("", "none")  # routes beyond the bound; requests that found no route
OTHER_BACKENDS = "other backends"  # those beyond the bound

Name = tuple[str, str]  # kind, 'namespace/name'


class _Names:
    """Whose the slots of one kind are."""

    def __init__(self) -> None:
        self.of: dict[int, object] = {}
        self._given: Mapping[int, object] | None = None  # what `of` was made of
        self._before: dict[int, dict] = {}  # by slot: its counts when its name came

    def assign(self, names: Mapping[int, object], rows: Callable[[], Mapping[int, dict]]) -> None:
        if names is self._given:
            return
        new = [slot for slot, name in names.items() if self.of.get(slot) != name]
        counted = rows() if new else {}
        before = {slot: counted[slot] for slot in new if slot in counted}
        self._before = {slot: row for slot, row in self._before.items() if slot in names and slot not in new} | before
        self.of, self._given = dict(names), names

    def named(self, rows: Mapping[int, dict]) -> dict:
        found = {self.of[slot]: _less(row, self._before.get(slot)) for slot, row in rows.items() if slot in self.of}
        return {name: row for name, row in found.items() if any(n for word, n in row.items() if word not in _SUMS)}


class RouteCounts:
    """Names what `read_slots(rows)` (`engine.counters.read` of one memfd) counts by slot; whose a slot
    is, `assign` tells."""

    def __init__(self, read_slots: Callable[[int], dict]):
        self._read_slots = read_slots
        self._routes, self._backends = _Names(), _Names()

    def assign(self, routes: Mapping[int, Name], backends: Mapping[int, str] = MappingProxyType({})) -> None:
        """Say whose the slots are from now on; call it before the workers serve the table that says so too.

        Nothing is done for what is the same dict as the last time.
        """
        rows = max([*backends, *self._backends.of], default=-1) + 1
        self._routes.assign(routes, lambda: self._read_slots(0)["routes"])
        self._backends.assign(backends, lambda: self._read_slots(rows)["backends"])

    def read(self) -> dict:
        """Return what `engine.counters.read` does, with the routes and backends that counted something by name."""
        counters = self._read_slots(max(self._backends.of, default=-1) + 1)
        return counters | {"routes": self._routes.named(counters["routes"]),
                           "backends": self._backends.named(counters.get("backends", {}))}


_SUMS = ("bytes_in", "bytes_out", "duration_us", "buckets")


def _less(row: dict, before: dict | None) -> dict:
    if before is None:
        return row
    return {name: [n - m for n, m in zip(value, before[name], strict=True)] if isinstance(value, list)
            else value - before[name] for name, value in row.items()}
