"""What outlives a table: numbers that stay the same from one image to the next, and the addresses of backends.

Rules:
- an identity (an endpoint's address, a route, a rule with its weights) keeps its slot while any image holds it
- who holds an identity says so with `take...` and lets go with `drop...`; a freed slot is the last to be used again,
  since workers may still finish requests on the table before
- a slot that is given to another identity gets another `generation`; workers reset state that carries a different one
"""
from collections import deque
from typing import Any, NamedTuple

from gwfast import limits

SHARED = 0  # counter slot of the routes beyond the bound
UNROUTED = 1  # counter slot of requests that found no route


class Place(NamedTuple):
    """Where an identity's state lies: its first slot and the generation it carries there."""

    slot: int
    generation: int


class _Slots:
    """Ranges of consecutive slots by identity, counted by how many hold them."""

    def __init__(self, first: int = 0, bound: int | None = None):
        self.size = first
        self.bound = bound
        self.places: dict[Any, Place] = {}
        self._held: dict[object, int] = {}
        self._free: dict[int, deque[int]] = {}  # by length of the range
        self._generations = 0
        self._holders: dict[int, Any] | None = {}  # None: somebody came or went
        self.shared: dict[object, int] = {}  # identities beyond the bound, counted by how many hold them

    def take_or_share(self, identity) -> int:
        """As take(), of one slot: which it is; SHARED for those beyond the bound, as long as somebody holds them."""
        place = None if identity in self.shared else self.take(identity)
        if place is None:
            self.shared[identity] = self.shared.get(identity, 0) + 1
            return SHARED
        return place.slot

    def drop_or_leave(self, identity) -> None:
        """Let go of what take_or_share() gave."""
        held = self.shared.get(identity)
        if held is None:
            self.drop(identity)
        elif held > 1:
            self.shared[identity] = held - 1
        else:
            del self.shared[identity]

    def taken(self, identity, length: int = 1) -> Place:
        """As take(), where there is no bound."""
        place = self.take(identity, length)
        assert place is not None
        return place

    def take(self, identity, length: int = 1) -> Place | None:
        place = self.places.get(identity)
        if place is not None:
            self._held[identity] += 1
            return place
        slot = self._room(length)
        if slot is None:
            return None
        self._generations = self._generations % 0xFFFFFFFF + 1
        place = self.places[identity] = Place(slot, self._generations)
        self._held[identity] = 1
        self._holders = None
        return place

    def _room(self, length: int) -> int | None:
        free = self._free.get(length)
        if free:
            return free.popleft()
        if self.bound is not None and self.size + length > self.bound:
            return None
        self.size += length
        return self.size - length

    def drop(self, identity, length: int = 1) -> None:
        held = self._held.get(identity)
        if held is None:
            return
        if held > 1:
            self._held[identity] = held - 1
            return
        del self._held[identity]
        self._free.setdefault(length, deque()).append(self.places.pop(identity).slot)
        self._holders = None

    @property
    def holders(self) -> dict[int, Any]:
        """Who holds each first slot; the same dict until that changes."""
        if self._holders is None:
            self._holders = {place.slot: identity for identity, place in self.places.items()}
        return self._holders


class Registry:
    """Slots of endpoints, routes and selectors, and the current addresses of every backend."""

    def __init__(self, counter_slots: int = 1024):
        self._endpoints = _Slots()
        self._counters = _Slots(first=2, bound=counter_slots)
        self._backends = _Slots(first=1, bound=limits.BACKENDS_SHOWN)
        self._picks = _Slots()
        self._addresses: dict[str, tuple[tuple[str, int], ...]] = {}
        self.changed: set[str] = set()  # keys of backends whose addresses changed since an image was built

    def resolved(self, key: str, addresses: tuple[tuple[str, int], ...]) -> bool:
        """Set the addresses, (ip, port) each, that were looked up for the backend with this `Backend.key`; return
        whether that is news."""
        addresses = tuple(addresses)
        if self._addresses.get(key) == addresses:
            return False
        self._addresses[key] = addresses
        self.changed.add(key)
        return True

    def forget(self, key: str) -> None:
        """Drop what was looked up for a backend."""
        if self._addresses.pop(key, None):
            self.changed.add(key)

    def addresses(self, endpoints) -> tuple[tuple[str, int], ...]:
        """Return the current addresses of a plan's Endpoints."""
        return self._addresses.get(endpoints.key, endpoints.addresses) if endpoints.named else endpoints.addresses

    def take_endpoint(self, ip: str, port: int, dialect: str) -> Place:
        """Return the slot and generation of an endpoint's state in every worker; `dialect` is a Backend's."""
        return self._endpoints.taken((ip, port, dialect))

    def drop_endpoint(self, ip: str, port: int, dialect: str) -> None:
        self._endpoints.drop((ip, port, dialect))

    def take_counter(self, kind: str, route: str) -> int:
        """Return the counter slot of a route ('namespace/name'); SHARED when there are more routes than slots."""
        return self._counters.take_or_share((kind, route))

    def drop_counter(self, kind: str, route: str) -> None:
        self._counters.drop_or_leave((kind, route))

    def take_backend(self, key: str) -> int:
        """Return the counter row of the backend with this key; SHARED when there are more backends than rows."""
        return self._backends.take_or_share(key)

    def drop_backend(self, key: str) -> None:
        self._backends.drop_or_leave(key)

    @property
    def uncounted(self) -> tuple[int, int]:
        """How many routes, and how many backends, share a row of the counters."""
        return len(self._counters.shared), len(self._backends.shared)

    def take_pick(self, rule_id: str, weights: tuple[int, ...]) -> Place:
        """Return where the selector state of a rule with these weights lies: one slot, then one a weight."""
        return self._picks.taken((rule_id, weights), len(weights) + 1)

    def drop_pick(self, rule_id: str, weights: tuple[int, ...]) -> None:
        self._picks.drop((rule_id, weights), len(weights) + 1)

    @property
    def counters(self) -> dict[int, tuple[str, str]]:
        """The route, (kind, 'namespace/name'), of every counter slot that is held by one; the same dict until that changes."""
        return self._counters.holders

    @property
    def backends(self) -> dict[int, str]:
        """The backend, by its key, of every counter row that is held by one; the same dict until that changes."""
        return self._backends.holders

    @property
    def endpoints(self) -> dict[tuple[str, int, str], Place]:
        """The place of every endpoint, (ip, port, dialect), that is held."""
        return self._endpoints.places

    @property
    def endpoint_holders(self) -> dict[int, object]:
        """The endpoint of every slot that is held by one; the same dict until that changes."""
        return self._endpoints.holders

    @property
    def endpoint_slots(self) -> int:
        return self._endpoints.size

    @property
    def counter_slots(self) -> int:
        return self._counters.size

    @property
    def pick_slots(self) -> int:
        return self._picks.size
