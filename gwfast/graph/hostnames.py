"""Hostnames: what a listener and a route have in common (spec 5.2).

Rules:
- '' is any host. '*.example.com' is every name below example.com, over any number of labels, not example.com itself.
- Names are lower-case.
"""
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gwfast.sharing import interned


def covers(pattern: str, hostname: str) -> bool:
    """Return whether every host that `hostname` stands for is one that `pattern` stands for."""
    if not pattern or pattern == hostname:
        return True
    return pattern.startswith("*.") and len(hostname) > len(pattern) - 1 and hostname.endswith(pattern[1:])


def matching(listener: str, hostnames: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hostnames of a route that have hosts in common with a listener: () if there are none, ('',) for a route
    without any. They stay as the route says them: it is the route's own hostname that gives it precedence over others
    (spec 5.1), and the listener gets no request for other hosts. Of those that take all of its hosts the most specific
    is left, since it is the one that would be found."""
    if not hostnames:
        return interned("")
    if len(hostnames) == 1 and listener in ("", hostnames[0]):
        return hostnames  # most routes; the lines below would do the same
    above = max((name for name in hostnames if covers(name, listener)), key=lambda name: (name[:2] != "*.", len(name)),
                default=None)
    found = tuple(dict.fromkeys(name for name in hostnames
                                if name == above or (covers(listener, name) and not covers(name, listener))))
    return hostnames if found == hostnames else found  # the route's own tuple, which is there once


def suffixes(hostname: str) -> Iterator[str]:
    """Yield the names above a hostname: a.b.c has b.c and c; *.b.c has b.c and c."""
    dot = hostname.find(".")
    while dot >= 0:
        yield hostname[dot + 1:]
        dot = hostname.find(".", dot + 1)


class Hostnames:
    """A bag of hostnames that says in time linear in a name's labels whether it meets another one."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()
        self._above: Counter[str] = Counter()

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
