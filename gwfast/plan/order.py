"""Keeps the entries of one listener by hostname, in the order in which the specification has them tried.

    hosts   what goes into a plan, most specific hostname first

Rules:
- the cost of a change is the number of entries that come and go, not of those that stay (sharing.changed)
- a host whose entries are the same objects as before stays the same object
"""
from collections.abc import Mapping, Sequence

from gwfast.plan.ir import Entry, Host
from gwfast.plan.precedence import entry_key, host_key
from gwfast.sharing import changed, find


class Order:
    """Ordered entries by hostname. `entries` counts them."""

    def __init__(self) -> None:
        self.hosts: Sequence[Host] = ()
        self.entries = 0

    def change(self, gone: Mapping[str, list[Entry]], come: Mapping[str, list[Entry]]) -> None:
        """Take out the entries of `gone` and put in those of `come`, both by hostname."""
        left, new = [], []
        for hostname in {**gone, **come}:  # routes come by name, and their hostnames often do so too: there is little to sort
            host = find(self.hosts, host_key(hostname), _host_key) if self.hosts else None
            before = host.entries if host else ()
            entries = changed(before, gone.get(hostname, ()), come.get(hostname, ()), entry_key)
            if entries is before:
                continue
            self.entries += len(entries) - len(before)
            if host:
                left.append(host)
            if entries:
                new.append(Host(hostname=hostname, entries=entries))
        self.hosts = changed(self.hosts, left, new, _host_key)


def _host_key(host: Host) -> tuple[int, int, str]:
    return host_key(host.hostname)
