"""Addresses of backends that only have names: looked up by the system's resolver, again and again.

Rules:
- A backend's names are tried in order and the first that has addresses wins; each name that EndpointSlices of addressType
  FQDN have is an endpoint, or several, of its own.
- A new name is looked up at once, then every `refresh` seconds (with jitter), PARALLEL at a time.
- A name that stops resolving keeps its last addresses for KEEP seconds, then has none.
- In a cluster a name may not lead to the gateway's own machine or link (`elsewhere`): who writes a Service of type ExternalName
  would come to the admin port, and to a cloud's metadata. The API server refuses such addresses in EndpointSlices for the same
  reason.
- IP literals and localhost need no lookup. The system's resolver (getaddrinfo) is used because it alone knows
  /etc/hosts, nsswitch and what a container runtime puts there; it tells no TTL, hence the refresh.
"""
import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable, Iterable

import msgspec

PARALLEL = 8
TIMEOUT = 10.0  # of one lookup that the system's resolver does not end itself
KEEP = 60.0
ADDRESSES = 64  # of one name
LOCALHOST = ("127.0.0.1",)
OWN = "it leads to this machine or its link, where no name may lead in a cluster"

Addresses = tuple[str, ...]


class Name(msgspec.Struct, eq=False):
    """What is known of a name. `tried` is set once the first lookup has ended."""

    name: str
    tried: asyncio.Event
    addresses: Addresses = ()
    good_at: float = 0.0
    error: str = ""
    awaited: bool = False  # a table has waited for it, and will not again
    task: asyncio.Task | None = None


class Resolver:
    """Keeps the wanted names resolved; `changed()` is called when addresses did. allowed: whether a name may have an address."""

    def __init__(self, loop, changed: Callable[[], None], refresh: float = 5.0, keep: float = KEEP,
                 allowed: Callable[[str], bool] = lambda address: True):
        self._loop = loop
        self._changed = changed
        self._refresh = refresh
        self._keep = keep
        self._allowed = allowed
        self._names: dict[str, Name] = {}
        self._slots = asyncio.Semaphore(PARALLEL)

    @property
    def failed(self) -> dict[str, str]:
        """Names that have no address now, and why."""
        return {each.name: each.error for each in self._names.values() if each.error and not each.addresses}

    def want(self, names: Iterable[str]) -> None:
        """Resolve these names from now on, and no others."""
        wanted = set(names)
        for gone in self._names.keys() - wanted:
            self._forget(gone)
        for new in wanted - self._names.keys():
            self._names[new] = self._begin(new)

    async def settle(self, timeout: float) -> None:
        """Wait until each name that is new since the last time has been looked up, at most so many seconds."""
        new = [each for each in self._names.values() if not each.tried.is_set() and not each.awaited]
        waits = [asyncio.ensure_future(each.tried.wait()) for each in new]
        for each in new:
            each.awaited = True
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout)
            for wait in late:
                wait.cancel()

    def addresses(self, hosts: Iterable[str]) -> Addresses:
        """Return the addresses of the first of these names that has some, sorted."""
        for host in hosts:
            known = self._names.get(host)
            if known is not None and known.addresses:
                return known.addresses
        return ()

    def endpoints(self, of) -> tuple[tuple[str, int], ...]:
        """Return the addresses, (ip, port) each, of a plan's Endpoints that have names."""
        if of.hosts:
            return tuple((ip, of.host_port) for ip in self.addresses(of.hosts))
        found = {(ip, port) for host, port in of.names for ip in self.addresses((host,))}
        return tuple(sorted(found.union(of.addresses)))

    def close(self) -> None:
        """Stop looking up."""
        for name in list(self._names):
            self._forget(name)

    def _begin(self, name: str) -> Name:
        entry = Name(name, asyncio.Event())
        if found := literal(name):
            self._take(entry, found)
            entry.tried.set()
        else:
            entry.task = self._loop.create_task(self._keep_resolved(entry))
        return entry

    def _forget(self, name: str) -> None:
        task = self._names.pop(name).task
        if task is not None:
            task.cancel()

    async def _keep_resolved(self, entry: Name) -> None:
        while True:
            async with self._slots:
                before = entry.addresses
                await self._look_up(entry)
            first = not entry.tried.is_set()
            entry.tried.set()
            if entry.addresses != before or first:
                self._changed()
            await asyncio.sleep(self._refresh * random.uniform(0.8, 1.2))

    async def _look_up(self, entry: Name) -> None:
        now = self._loop.time()
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self._loop.getaddrinfo(entry.name, None, type=socket.SOCK_STREAM)
            self._take(entry, {sockaddr[0] for *_, sockaddr in found})
            entry.good_at = now
        except (OSError, UnicodeError, TimeoutError) as error:
            entry.error = str(error) or "the lookup took too long"
            if now - entry.good_at > self._keep:
                entry.addresses = ()

    def _take(self, entry: Name, found: Iterable[str]) -> None:
        """Use what a name leads to, as far as it may."""
        allowed = {address for address in found if self._allowed(address)}
        entry.addresses, entry.error = _usable(allowed), "" if allowed else OWN


def elsewhere(address: str) -> bool:
    """Return whether an address is another machine's than ours, and not of our link alone (169.254.169.254, fe80::)."""
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    own = found.is_loopback or found.is_unspecified or found.is_link_local
    return not (own or found.is_multicast or str(found) == "255.255.255.255")


def literal(name: str) -> Addresses:
    """Return the address that a name is itself: an IP literal or localhost; () for others."""
    if name.rstrip(".").lower() == "localhost":
        return LOCALHOST
    try:
        return (str(ipaddress.ip_address(name)),)
    except ValueError:
        return ()


def _usable(found: set[str]) -> Addresses:
    """Sorted, bounded; those to which this machine has no route (IPv6, often) only where there is no other."""
    reachable = [address for address in found if _has_route(address)]
    return tuple(sorted(reachable or found)[:ADDRESSES])


def _has_route(address: str) -> bool:
    """Ask the kernel; connecting a datagram socket sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
