"""What all kinds of cases share.

Each `run(options)` yields Figures and Notes. Contenders take turns (A B C A B C), so that what disturbs the machine
disturbs all of them.
"""
from collections.abc import Callable, Iterator

import msgspec

from bench.contenders import Contender
from bench.scenes import Scene, plain
from bench.stage import Figure, Note, Options
from bench.wire import CLEAR, Wire

WARM_UP = 0.2  # seconds
Found = Iterator[Figure | Note]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case by name; `scene` is made when it is run, `wire` is what clients speak. `rounds` of `seconds` of load each:
    what makes it repeatable."""

    name: str
    about: str
    scene: Callable[[], Scene] = plain
    wire: Wire = CLEAR
    rounds: int = 3
    seconds: float = 0.5
    setup: float = 4.0  # seconds until everybody is started, about

    def told(self, options: Options) -> "Case":
        """The case with the rounds and seconds that were asked for, or in the share of its time."""
        own = self.shorter(options.share) if options.share < 1 else self
        return msgspec.structs.replace(own, rounds=options.rounds or own.rounds, seconds=options.seconds or own.seconds)

    def shorter(self, share: float) -> "Case":
        """The case in about this share of its time: fewer rounds, but three, and shorter ones, but half; less of a budget."""
        changed = {"rounds": max(min(3, self.rounds), round(self.rounds * share)), "seconds": self.seconds * max(0.5, share)}
        if hasattr(self, "budget"):
            changed["budget"] = self.budget * max(0.2, share)
        return msgspec.structs.replace(self, **changed)

    def run(self, options: Options) -> Found:
        raise AssertionError("a kind of case says how")

    def takes(self, contenders: int) -> float:
        """About how many seconds it takes with so many contenders; for the time that remains."""
        return self.setup + contenders * self.rounds * self.seconds

    def figure(self, contender: Contender | str, measure: str, unit: str, value: float, **more) -> Figure:
        name = contender if isinstance(contender, str) else contender.name
        return Figure(case=self.name, contender=name, measure=measure, unit=unit, value=value, **more)

    def note(self, contender: Contender, note: str) -> Note:
        return Note(case=self.name, contender=contender.name, note=note)
