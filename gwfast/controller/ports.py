"""Target ports: each (Gateway, port, transport) of a fleet has one of its own, on which the fleet's data planes listen.

    ports = Ports()
    ports.follow(recorded)               what a record says, all of it, as one who assigns nothing; returns what is believed
    ports.adopt(recorded)                the same, as one who assigns: what it does not say and is free stays
    ports.read(gateway, recorded)        what somebody says of one Gateway: {(port, transport): target}
    ports.assign(wanted)                 {gateway: {(port, transport), ...}} -> {gateway: {(port, transport): target}}

Rules:
- The record is the controller's own (see record): one that starts, or takes over, reads it before it assigns anything, so nothing
  moves. Where there is none yet the Gateways' Services say it.
- Who has rights in a namespace can write its Services. So what they say takes nothing from a Gateway that is known to have it;
  for one that starts the older Gateway has it, and a number outside of the range is nobody's.
- A namespace has TARGETS_PER_NAMESPACE and a quarter of the record at most, so that others have some too.
- What has a target keeps it for as long as it is wanted. What is freed rests, so that what a load balancer still sends to
  a Gateway that has gone does not reach another one.
- Port 80 is 10080 where that is free, for people who look; others go where the hash of their name says, so that a Service
  that was deleted by hand is most often made with the same targets again.
- TCP and UDP have targets of their own; no number is below 1024, as data planes have no rights to bind it.
"""
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gwfast import limits
from gwfast.config.model import Key
from gwfast.identity import identity

Transport = str  # TCP or UDP
Wanted = tuple[int, Transport]  # a listener's port
FIRST, LAST = 10_000, 29_999  # above what needs rights, below NodePorts (30000) and the kernel's own ports (32768)
RESTING = 4096  # freed targets that are given to nobody else, a fifth of all


class Ports:
    """The target ports of one fleet."""

    def __init__(self) -> None:
        self._targets: dict[Key, dict[Wanted, int]] = {}
        self._owners: dict[tuple[int, Transport], tuple[Key, Wanted]] = {}
        self._resting: dict[tuple[int, Transport], None] = {}
        self._taken: Counter[tuple[str, Transport]] = Counter()  # by namespace; '': of all
        self._bytes: Counter[str] = Counter()  # of the record, by namespace; '': of all

    def read(self, gateway: Key, recorded: Mapping[Wanted, int]) -> None:
        """Take what a Service says, unless it is known better, or the target is another Gateway's."""
        for wanted, target in recorded.items():
            free = FIRST <= target <= LAST and (target, wanted[1]) not in self._owners
            if free and wanted not in self._targets.get(gateway, ()) and self._may_have(gateway, wanted):
                self._take(gateway, wanted, target)

    def follow(self, recorded: Mapping[Key, Mapping[Wanted, int]]) -> dict[Key, dict[Wanted, int]]:
        """Know what Services say, as one who assigns nothing; return it. Of two that claim one target it stays with the one that
        had it before, else with the one that is first in `recorded`."""
        for moved in (False, True):  # what is freed may be what another one moves to
            for gateway, known in list(self._targets.items()):
                for wanted, target in list(known.items()):
                    said = recorded.get(gateway, {}).get(wanted)
                    free = said is not None and FIRST <= said <= LAST and (said, wanted[1]) not in self._owners
                    if said is None or moved and said != target and free:
                        self._free(gateway, wanted)
        for gateway, all_said in recorded.items():
            self.read(gateway, all_said)
        return {gateway: dict(self._targets.get(gateway, {})) for gateway in recorded}

    def adopt(self, recorded: Mapping[Key, Mapping[Wanted, int]]) -> None:
        """Know what a record says; what was given and is not in it yet stays, where nobody has it by now."""
        before = {gateway: dict(known) for gateway, known in self._targets.items()}
        self.follow(recorded)
        for gateway, known in before.items():
            self.read(gateway, known)

    def assign(self, wanted: Mapping[Key, Iterable[Wanted]]) -> dict[Key, dict[Wanted, int]]:
        """Give every port a target, and free those that nobody wants. A port for which none is left is not in the result."""
        asked = {gateway: sorted(set(ports)) for gateway, ports in wanted.items()}
        for gateway in list(self._targets):
            for port in self._targets[gateway].keys() - set(asked.get(gateway, ())):
                self._free(gateway, port)
        for gateway, ports in asked.items():
            for port in ports:
                if port not in self._targets.get(gateway, ()):
                    self._find(gateway, port)
        return {gateway: {port: known[port] for port in ports if port in known}
                for gateway, ports in asked.items() for known in (self._targets.get(gateway, {}),)}

    def has(self, gateway: Key, wanted: Wanted, target: int) -> bool:
        """Whether a Gateway is known to have a target."""
        return self._targets.get(gateway, {}).get(wanted) == target

    def _may_have(self, gateway: Key, wanted: Wanted) -> bool:
        """Whether one is left: there are so many, and a namespace has a part of them at most."""
        transport, more, namespace = wanted[1], _bytes(gateway), gateway.namespace
        most = limits.PORTS_RECORD_BYTES
        return (self._taken["", transport] <= LAST - FIRST
                and self._taken[namespace, transport] < limits.TARGETS_PER_NAMESPACE
                and self._bytes[""] + more <= most and self._bytes[namespace] + more <= most // 4)

    def _find(self, gateway: Key, wanted: Wanted) -> None:
        if not self._may_have(gateway, wanted):
            return
        for resting in (False, True):
            for target in _candidates(gateway, wanted):
                if (target, wanted[1]) not in self._owners and (resting or (target, wanted[1]) not in self._resting):
                    self._take(gateway, wanted, target)
                    return

    def _take(self, gateway: Key, wanted: Wanted, target: int) -> None:
        self._targets.setdefault(gateway, {})[wanted] = target
        self._owners[target, wanted[1]] = (gateway, wanted)
        for namespace in ("", gateway.namespace):
            self._taken[namespace, wanted[1]] += 1
            self._bytes[namespace] += _bytes(gateway)
        self._resting.pop((target, wanted[1]), None)

    def _free(self, gateway: Key, wanted: Wanted) -> None:
        target = self._targets[gateway].pop(wanted)
        if not self._targets[gateway]:
            del self._targets[gateway]
        del self._owners[target, wanted[1]]
        for namespace in ("", gateway.namespace):
            self._taken[namespace, wanted[1]] -= 1
            self._bytes[namespace] -= _bytes(gateway)
        if not self._taken[gateway.namespace, wanted[1]]:
            del self._taken[gateway.namespace, wanted[1]]
        if not self._bytes[gateway.namespace]:
            del self._bytes[gateway.namespace]
        self._resting[target, wanted[1]] = None
        if len(self._resting) > RESTING:
            del self._resting[next(iter(self._resting))]


def _bytes(gateway: Key) -> int:
    """Return what one target has in the record, at most: its Gateway's name and namespace, and ' 65535/TCP=29999'."""
    return len(gateway.namespace) + len(gateway.name) + 18


def _candidates(gateway: Key, wanted: Wanted) -> Iterator[int]:
    """Yield every target, the one that is wished for first."""
    port, transport = wanted
    if port + FIRST <= LAST:
        yield port + FIRST
    size = LAST - FIRST + 1
    first = identity(f"{gateway} {port} {transport}")
    for step in range(size):
        yield FIRST + (first + step) % size
