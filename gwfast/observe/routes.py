"""What was counted by route.

Workers count in slots that outlive a table. A slot whose route is gone is given to another one and counts on from where
it was, so what it had counted until then is remembered and taken off: a route begins at zero.
"""
from collections.abc import Callable

SHARED, UNROUTED = ("", "other"), ("", "none")  # routes beyond the bound; requests that found no route

Name = tuple[str, str]  # kind, 'namespace/name'


class RouteCounts:
    """Names what `read_slots` (`_counters.read` of one memfd) counts by slot; whose a slot is, `assign` tells."""

    def __init__(self, read_slots: Callable[[], dict]):
        self._read_slots = read_slots
        self._names: dict[int, Name] = {}
        self._before: dict[int, dict] = {}  # by slot: its counts when its route came

    def assign(self, names: dict[int, Name]) -> None:
        """Say whose the slots are from now on; call it before the workers serve the table that says so too."""
        new = [slot for slot, name in names.items() if self._names.get(slot) != name]
        rows = self._read_slots()["routes"] if new else {}
        before = {slot: rows[slot] for slot in new if slot in rows}
        self._before = {slot: row for slot, row in self._before.items() if slot in names and slot not in new} | before
        self._names = names

    def read(self) -> dict:
        """Return what `_counters.read` does, with the routes that counted something by name."""
        counters = self._read_slots()
        rows = {self._names[slot]: _less(row, self._before.get(slot))
                for slot, row in counters["routes"].items() if slot in self._names}
        return counters | {"routes": {name: row for name, row in rows.items() if any(row["buckets"])}}


def _less(row: dict, before: dict | None) -> dict:
    if before is None:
        return row
    return {name: [n - m for n, m in zip(value, before[name], strict=True)] if isinstance(value, list)
            else value - before[name] for name, value in row.items()}
