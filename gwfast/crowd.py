"""Who is connected and has not said who it is: so many at once, and a part of them from one address.

    crowd.come(who, address) -> who has to leave for it, None where there is room
    crowd.go(who)

Rules:
- Nobody is turned away, or who holds every place would keep all others out: who comes takes the place of who came first, from its
  own address where that has its part already, else from the address that has most. Who floods from one address takes places from
  itself alone.
- An address that IPv6 writes for IPv4 is that of IPv4.
"""
from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


class Crowd(Generic[Who]):
    """Places for `most`, and for `of_one` from one address."""

    def __init__(self, most: int, of_one: int):
        self.most = most
        self.of_one = of_one
        self._addresses: dict[Who, str] = {}
        self._of: dict[str, dict[Who, None]] = {}  # by address, who came first is first

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, who: object) -> bool:
        return who in self._addresses

    def come(self, who: Who, address: str) -> Who | None:
        """Take one in; return the one whose place it has then."""
        address = address.removeprefix("::ffff:")
        leaves = None
        if len(self._of.get(address, ())) >= self.of_one:
            leaves = next(iter(self._of[address]))
        elif len(self._addresses) >= self.most:
            leaves = self.oldest()
        if leaves is not None:
            self.go(leaves)
        self._addresses[who] = address
        self._of.setdefault(address, {})[who] = None
        return leaves

    def oldest(self) -> Who | None:
        """Return who came first from the address that has most; None: nobody is here."""
        if not self._of:
            return None
        most: dict[Who, None] = max(self._of.values(), key=len)
        return next(iter(most))

    def go(self, who: Who) -> None:
        """Forget one, if it is here still."""
        address = self._addresses.pop(who, None)
        if address is not None:
            del self._of[address][who]
            if not self._of[address]:
                del self._of[address]
