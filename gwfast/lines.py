"""Lines out of what comes in pieces, whatever the pieces: the time is that of the bytes, not of bytes times pieces.

Rules:
- A line is told without its end. One without an end that has more than `most` bytes is LongLine.
- Who takes pieces that are there already waits for nothing: `breathe` lets others run after each PIECES of them.
"""
import asyncio

PIECES = 256  # each is some 10 us of work: 3 ms until others run


class LongLine(ValueError):
    """A line has no end."""


class Lines:
    """The lines of one direction of one connection."""

    def __init__(self, most: int):
        self._most = most
        self._rest = bytearray()  # of a line that has no end yet

    def take(self, piece: bytes) -> list[bytes]:
        """Return the lines that end in a piece; LongLine."""
        first, *others = piece.split(b"\n")  # what came before has no newline
        self._rest += first
        lines = []
        if others:
            lines = [bytes(self._rest), *others[:-1]]
            self._rest = bytearray(others[-1])
        if len(self._rest) > self._most:
            raise LongLine(f"a line of more than {self._most >> 10} KiB")
        return lines

    @property
    def begun(self) -> bool:
        """Whether there is a line without its end."""
        return bool(self._rest)


class Breath:
    """Counts the pieces that one coroutine has taken."""

    def __init__(self):
        self._pieces = 0

    async def breathe(self) -> None:
        """Let others run, where it is time."""
        self._pieces += 1
        if self._pieces >= PIECES:
            self._pieces = 0
            await asyncio.sleep(0)
