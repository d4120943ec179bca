"""Hostnames: what a listener and a route have in common (spec 5.2).

Rules:
- '' is any host. '*.example.com' is every name below example.com, over any number of labels, not example.com itself.
- Names are lower-case.
"""
from collections import Counter
from collections.abc import Iterable, Sequence

from gwfast.sharing import together


def covers(pattern: str, hostname: str) -> bool:
    """Return whether every host that `hostname` stands for is one that `pattern` stands for."""
    if not pattern or pattern == hostname:
        return True
    return pattern.startswith("*.") and len(hostname) > len(pattern) - 1 and hostname.endswith(pattern[1:])


def common(a: str, b: str) -> str | None:
    """Return the more specific of two hostnames if they have hosts in common, None if they have none."""
    if covers(a, b):
        return b
    return a if covers(b, a) else None


def intersection(listener: str, hostnames: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hostnames of a route that a listener takes: () if there are none, ('',) if it is any host."""
    if not hostnames:
        return together(listener)
    if not listener:
        return hostnames
    shared = (common(listener, hostname) for hostname in hostnames)
    return tuple(dict.fromkeys(name for name in shared if name is not None))


def suffixes(hostname: str):
    """Yield the names above a hostname: a.b.c has b.c and c; *.b.c has b.c and c."""
    dot = hostname.find(".")
    while dot >= 0:
        yield hostname[dot + 1:]
        dot = hostname.find(".", dot + 1)


class Hostnames:
    """A bag of hostnames that says in time linear in a name's labels whether it meets another one."""

    def __init__(self):
        self._names = Counter()
        self._above = Counter()

    def add(self, hostname: str, times: int = 1) -> None:
        self._names[hostname] += times
        for suffix in suffixes(hostname):
            self._above[suffix] += times
        if not self._names[hostname]:
            del self._names[hostname]

    def update(self, hostnames: Iterable[str]) -> None:
        for hostname in hostnames:
            self.add(hostname)

    def meets(self, hostname: str) -> bool:
        """Return whether any host is one of `hostname`'s and one of this bag's."""
        names = self._names
        if not names:
            return False
        if not hostname or "" in names or hostname in names:
            return True
        if hostname.startswith("*.") and self._above[hostname[2:]]:
            return True
        return any(f"*.{suffix}" in names for suffix in suffixes(hostname))

    def meets_beside(self, hostnames: Sequence[str]) -> bool:
        """Return whether any of `hostnames`, which are in this bag, meets one of the others."""
        for hostname in hostnames:
            self.add(hostname, -1)
        met = any(self.meets(hostname) for hostname in hostnames)
        self.update(hostnames)
        return met
