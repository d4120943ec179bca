"""Keeps a resource from the stages that fail on it: a bug of ours that one resource brings out must not stop all other changes.

    resources ──(what is held: as it was)──> stages ──> outcome
                        ^                      └──raised──> which of the changes is it? ──> held

Rules:
- An exception that a stage raises is a bug of the stage: it has conditions and notes for resources that are wrong. The log gets
  its traceback.
- Stages that raised are dropped, since they may have taken over half of a change. New ones start from all resources.
- The resources that the stages fail on are among those that changed since the last run that succeeded. They are found by trying
  halves of these, and held: the last good version of a held resource takes its place, if there is one.
- A held resource is tried again when it changes. All of them are tried again after AGAIN seconds, twice as long each time.
- A search ends after TRIES failures, and the changes that are left are held together until AGAIN: when everything fails, that
  must not take an hour to find out.
- OSError and MemoryError are no resource's fault: they are raised, and nothing is held.
- The result of the stages may turn out to be wrong later (no image can be made of the plan). `doubt` makes the next run search
  with stages that go as far as that, and `accept` says that the result was good.
"""
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from gwfast.config.model import Key, Resource
from gwfast.errors import Problem

Outcome = TypeVar("Outcome", covariant=True)
Resources = Mapping[Key, Resource]

AGAIN, AGAIN_MOST = 60.0, 3600.0  # seconds: each try that fails costs a look at everything
TRIES = 64  # failures of one search: four or five culprits among some thousands are found with that
NOBODYS = (OSError, MemoryError)
REASON = "InternalError"


class Stages(Protocol[Outcome]):
    """Steps that remember what they came to the last time."""

    def run(self, resources: Resources, changed: Iterable[Key] | None) -> Outcome:
        """Return what comes of resources, of which these (None: any) are others than the last time."""


class _Held(msgspec.Struct, frozen=True, eq=False):
    """what: the resource that is held, None: that it has gone. before: what stands in for it. until: when it is tried again."""

    what: Resource | None
    before: Resource | None
    why: str
    until: float
    wait: float


class Quarantine:
    """Runs stages on all but what they fail on. begin(far): makes stages, far: that look as far as where they were doubted.
    bug(words, error): told of each failure, in the thread that runs the stages."""

    def __init__(self, begin: Callable[[bool], Any], bug: Callable[[str, Exception], None],
                 clock: Callable[[], float] = time.monotonic):
        self._begin = begin
        self._bug = bug
        self._clock = clock
        self._held: dict[Key, _Held] = {}
        self._given: Resources = {}  # to the stages, the last time that they came to something
        self._good: Resources = {}  # the same, once it was accepted
        self._doubted = False
        self.changed: frozenset[Key] = frozenset()  # keys that the last run may have seen other versions of
        self.begin_anew()

    def begin_anew(self) -> None:
        """Make other stages, which look at everything."""
        self.stages: Any = self._begin(False)
        self._new = True

    def doubt(self) -> None:
        """Know that something failed on what came of the last run."""
        self._doubted = True

    def accept(self) -> None:
        """Know that what came of the last run is good."""
        if not self._doubted:
            self._good = self._given

    @property
    def held(self) -> frozenset[Key]:
        """The keys of what is held."""
        return frozenset(self._held)

    def problems(self) -> Iterator[Problem]:
        """Say what is held."""
        for key, held in sorted(self._held.items(), key=lambda one: one[0]):
            stays = "its last good version serves" if held.before is not None else "it is not served"
            one = held.what or held.before
            assert one is not None  # something was held
            yield Problem(source=one.source, resource=str(key), reason=REASON,
                          message=f"gwfast fails on it, which is a bug of gwfast: {held.why}; {stays}")

    def run(self, resources: Resources, changed: Iterable[Key] | None) -> Any:
        """Return what comes of resources, of which these (None: any) are others than the last time.

        What stages raise on no resources at all, or on what was good before, is raised, and what is NOBODYS.
        """
        freed = self._free(resources)
        given = self._without_held(resources)
        anew = self._new or self._doubted or changed is None
        self.changed = frozenset((self._given.keys() | given.keys()) if anew else {*(changed or ()), *freed} - self._held.keys())
        if not self._doubted:
            try:
                outcome = self.stages.run(given, None if anew else self.changed)
            except Exception as error:
                self.begin_anew()
                if isinstance(error, NOBODYS):
                    raise
                self._bug("a change failed; what it failed on is looked for", error)
            else:
                self._given, self._new = given, False
                return outcome
        return self._search(given, freed)

    # ---- What is held

    def _free(self, resources: Resources) -> dict[Key, _Held]:
        """Let go of what is another one now, and of what is to be tried again."""
        now = self._clock()
        freed = {key: held for key, held in self._held.items() if resources.get(key) is not held.what or now >= held.until}
        for key in freed:
            del self._held[key]
        return freed

    def _without_held(self, resources: Resources) -> Resources:
        return _changed(resources, {key: held.before for key, held in self._held.items()}) if self._held else resources

    def _search(self, given: Resources, freed: Mapping[Key, _Held]) -> Any:
        """Find what the stages fail on, hold it, and return what comes of the rest."""
        search = _Search(lambda: self._begin(self._doubted), given, self._good)
        search.find()
        self.changed = frozenset(self.changed | self._given.keys() | search.good.keys())
        for key, error in search.found.items():
            known = freed.get(key)
            again = known is not None and known.what is given.get(key) and key not in search.left
            wait = min(known.wait * 2, AGAIN_MOST) if known is not None and again else AGAIN
            self._held[key] = _Held(given.get(key), search.good.get(key), f"{type(error).__name__}: {error}",
                                    self._clock() + wait, wait)
            if not again:
                self._bug(f"gwfast fails on {key}, which is held back", error)
        self._given, self._new, self.stages = search.good, False, search.stages
        if self._doubted:
            self._doubted = False
            self.begin_anew()
            search.outcome = self.stages.run(search.good, None)
            self._new = False
        return search.outcome


class _Search:
    """One search. good: what was come through with, found: what was not, and why; left: what of that was not looked at alone."""

    def __init__(self, begin: Callable[[], Any], given: Resources, good: Resources):
        self._begin = begin
        self._given = given
        self._known: Resources | None = None  # by the stages
        self._failures = 0
        self._error: Exception = RuntimeError()  # the last one
        self.stages = begin()
        self.outcome: object = None
        self.good = good
        self.found: dict[Key, Exception] = {}
        self.left: set[Key] = set()

    def find(self) -> None:
        """Come through with as much as can be; what the stages raise where that is nothing."""
        if self._goes(self._given):
            return
        self._split(self._suspects())
        if self._goes(self.good):
            return
        error = self._error
        self.good, self._failures = {}, 0  # versions that were good may not be any more
        self.found.clear()
        self.left.clear()
        self._run({})
        self._split(self._suspects())
        if self.left:
            raise error  # to go on serving is worth more than the little that was found out

    def _suspects(self) -> list[Key]:
        """Return the keys of what is not as it was when it was good, but for what was found."""
        keys = (self._given.keys() | self.good.keys()) - self.found.keys()
        return sorted(key for key in keys if self._given.get(key) is not self.good.get(key))

    def _split(self, suspects: list[Key]) -> None:
        """Take of what fails together all that does not fail."""
        if len(suspects) <= 1 or self._failures >= TRIES:
            self.found |= dict.fromkeys(suspects, self._error)
            self.left.update(suspects if len(suspects) > 1 else ())
            return
        for half in (suspects[:len(suspects) // 2], suspects[len(suspects) // 2:]):
            if self._failures >= TRIES or not self._goes(_changed(self.good, {key: self._given.get(key) for key in half}), half):
                self._split(half)

    def _goes(self, resources: Resources, changed: Iterable[Key] | None = None) -> bool:
        """Whether the stages come through with resources, which are good then."""
        try:
            self._run(resources, changed)
        except NOBODYS:
            raise
        except Exception as error:
            self._failures += 1
            self._error = error
            return False
        return True

    def _run(self, resources: Resources, changed: Iterable[Key] | None = None) -> None:
        if self._known is resources:
            return
        try:
            self.outcome = self.stages.run(resources, changed if self._known is self.good else None)
        except BaseException:
            self.stages, self._known = self._begin(), None
            raise
        self._known = self.good = resources


def _changed(resources: Resources, edits: Mapping[Key, Resource | None]) -> Resources:
    found = dict(resources)
    for key, resource in edits.items():
        if resource is None:
            found.pop(key, None)
        else:
            found[key] = resource
    return found
