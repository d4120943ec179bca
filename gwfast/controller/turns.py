"""Turns: so many at once, and who waits is served address by address, so that who asks most does not keep others waiting.

    await turns.take(address)
    turns.give()
"""
import asyncio
from collections import deque


class Turns:
    """At most `most` at once."""

    def __init__(self, most: int):
        self._free = most
        self._waiting: dict[str, deque[asyncio.Future]] = {}  # by address, in the order in which their turns come

    async def take(self, address: str) -> None:
        """Wait for a turn; whoever has one gives it back."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give()  # it came while we were told to give up
            elif turn in (waiting := self._waiting.get(address, deque())):
                waiting.remove(turn)
                if not waiting:
                    del self._waiting[address]
            raise

    def give(self) -> None:
        """Let the next one have its turn: the first of the next address."""
        while self._waiting:
            address = next(iter(self._waiting))
            waiting = self._waiting.pop(address)
            turn = waiting.popleft()
            if waiting:
                self._waiting[address] = waiting  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
