"""The entries of one listener: by hostname, in the spec's final order, changed in place.

    rows    hostname -> [(key, entry), ...] sorted by key; no two keys are equal
    hosts   what of it goes into a plan, most specific hostname first

Rules:
- up to FEW changes are found by bisection, so that one changed route costs little on a host with 100,000; more are
  sorted in at once
- a host whose entries are the same objects as before stays the same object
"""
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_, itemgetter

from gwfast.plan.ir import Entry, Host
from gwfast.plan.precedence import Key, host_key

Row = tuple[Key, Entry]
FEW = 64
_key = itemgetter(0)
_entry = itemgetter(1)


class Order:
    """Ordered entries by hostname."""

    def __init__(self) -> None:
        self.hosts: tuple[Host, ...] = ()
        self._rows: dict[str, list[Row]] = {}

    def change(self, gone: Mapping[str, list[Row]], come: Mapping[str, list[Row]]) -> None:
        """Take out the rows of `gone` and put in those of `come`, both by hostname."""
        changed = gone.keys() | come.keys()
        for hostname in changed:
            rows = _merged(self._rows.get(hostname, []), gone.get(hostname, []), come.get(hostname, []))
            if rows:
                self._rows[hostname] = rows
            else:
                self._rows.pop(hostname, None)
        if len(changed) > FEW:
            self._sort(changed)
        elif changed:
            self._patch(changed)

    def _sort(self, changed: Iterable[str]) -> None:
        known = {host.hostname: host for host in self.hosts}
        made = {hostname: self._host(hostname, known.get(hostname)) for hostname in changed if hostname in self._rows}
        self.hosts = tuple([made.get(name) or known[name] for name in sorted(self._rows, key=host_key)])

    def _patch(self, changed: Iterable[str]) -> None:
        hosts = list(self.hosts)
        for hostname in changed:
            at = bisect_left(hosts, host_key(hostname), key=_host_key)
            until = at + 1 if at < len(hosts) and hosts[at].hostname == hostname else at
            last = hosts[at] if until > at else None
            hosts[at:until] = [self._host(hostname, last)] if hostname in self._rows else []
        self.hosts = tuple(hosts)

    def _host(self, hostname: str, last: Host | None) -> Host:
        entries = tuple(map(_entry, self._rows[hostname]))
        return last if last and same(entries, last.entries) else Host(hostname=hostname, entries=entries)


def same(a: tuple, b: tuple) -> bool:
    """Say whether two tuples have the same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))


def _merged(rows: list[Row], gone: list[Row], come: list[Row]) -> list[Row]:
    if len(gone) + len(come) > FEW:
        left = set(map(id, gone))
        return sorted(chain((row for row in rows if id(row) not in left), come), key=_key)
    for row in gone:
        del rows[bisect_left(rows, row[0], key=_key)]
    for row in come:
        insort(rows, row, key=_key)
    return rows


def _host_key(host: Host) -> tuple[int, int, str]:
    return host_key(host.hostname)
