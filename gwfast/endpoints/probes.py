"""The probes of all endpoints that a BackendPolicy checks actively: when each is asked, and what is believed of it.

    follow(wanted)   whom to ask: {Subject: places}; a place is the (slot, generation) of an endpoint's health cell
    unhealthy        {place: why} of those that are out

Rules
- An endpoint is believed to be healthy until `unhealthy` probes in a row failed, then unhealthy until `healthy` in a row passed.
- The supervisor probes, once for all workers and for all backends that ask the same of the same address. What is believed is
  marked in the cells, where workers look. An endpoint is out while one of those that ask finds it unhealthy.
- A new one is asked at once, then every `interval`; the first time sooner and each time a little sooner or later, so that
  those that came together do not stay together.
- PROBES are asked at a time, the others wait in their order. The time of a probe begins when it does, and is that of a clock
  which stands still while the event loop is late: a gateway that is busy (a table is being made) says nothing about backends.
- What stays over a reload keeps what is believed of it; so does an endpoint of which another thing is asked now, until
  that says otherwise.
"""
import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from gwfast import limits
from gwfast.endpoints.link import RESULTS, Failed, Subject
from gwfast.endpoints.probe import probe

BEAT = 0.02  # seconds between two looks at whether the event loop is late
LATE = 0.004  # that timers may be (uvloop's are whole milliseconds); a thread that wants the GIL waits 5 ms for it

Place = tuple[int, int]


class Clock:
    """Counts the seconds in which an event loop was not late. It has to be looked at while it runs."""

    def __init__(self, loop):
        self._loop = loop
        self._lost = self._due = 0.0  # seconds ever; when the next beat should be
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Begin, unless it runs."""
        if self._timer is None:
            self._beat()

    def stop(self) -> None:
        """Take no more looks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def now(self) -> float:
        now = time.monotonic()
        if self._timer is not None and now > self._due + LATE:
            self._lost += now - self._due
            self._due = now + BEAT
        return now - self._lost

    def _beat(self) -> None:
        self.now()
        self._due = time.monotonic() + BEAT
        self._timer = self._loop.call_later(BEAT, self._beat)


class Watch:
    """What is known of one subject. why: '' as long as it is believed to be healthy."""

    def __init__(self, subject: Subject, why: str):
        self.subject = subject
        self.why = why
        self.places: tuple[Place, ...] = ()
        self.row = 0  # probes in a row that say otherwise than is believed
        self.asked = False  # ever
        self.began = self.until = 0.0  # of the last probe, by the loop's clock and by that of probes
        self.stopped = False
        self.timer: asyncio.TimerHandle = None  # type: ignore[assignment]  # there while it is probed, and after
        self.task: asyncio.Task | None = None

    def hear(self, why: str) -> None:
        """Take in how a probe ended ('': it passed)."""
        self.row = 0 if bool(why) == bool(self.why) else self.row + 1
        if self.row in (0, self.subject.check.unhealthy if why else self.subject.check.healthy):
            self.row, self.why = 0, why


class Prober:
    """mark(slot, generation, unhealthy): as engine.counters.mark. results: probes ever, by their result."""

    def __init__(self, loop, mark: Callable[[int, int, bool], None]):
        self._loop = loop
        self._mark = mark
        self._certs = None
        self._wanted: Mapping[Subject, Iterable[Place]] = {}
        self._watches: dict[Subject, Watch] = {}
        self._at: dict[Place, list[Watch]] = {}
        self._due: deque[Watch] = deque()
        self._running = 0
        self._clock = Clock(loop)
        self.results = dict.fromkeys(RESULTS, 0)
        self.unhealthy: dict[Place, str] = {}

    def follow(self, wanted: Mapping[Subject, Iterable[Place]], certs=None) -> None:
        """Probe these from now on. certs: of their TLS (serve.certs.Certs)."""
        self._certs = certs
        if wanted == self._wanted:
            return
        left: dict[Place, str] = {}  # found unhealthy by those that go
        for gone in self._watches.keys() - wanted.keys():
            watch = self._watches.pop(gone)
            left |= dict.fromkeys(watch.places, watch.why) if watch.why else {}
            self._stop(watch)
        before, self._at, self._wanted = self._at, {}, wanted
        for subject, places in wanted.items():
            known = self._watches.get(subject)
            if known is not None:
                watch = known
            else:
                watch = self._watches[subject] = Watch(subject, next((left[place] for place in places if place in left), ""))
                self._due.append(watch)
            watch.places = tuple(places)
            for place in watch.places:
                self._at.setdefault(place, []).append(watch)
        self._settle({**before, **self._at})
        self._begin()

    def close(self) -> None:
        """Ask nobody any more; what is marked stays."""
        for watch in self._watches.values():
            self._stop(watch)
        self._clock.stop()

    def _settle(self, places: Iterable[Place]) -> None:
        """Mark what is believed of these."""
        for place in places:
            why = next((watch.why for watch in self._at.get(place, ()) if watch.why), "")
            if bool(why) != (place in self.unhealthy):
                self._mark(*place, bool(why))
            if why:
                self.unhealthy[place] = why
            else:
                self.unhealthy.pop(place, None)

    # one after the other

    def _stop(self, watch: Watch) -> None:
        watch.stopped = True
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.task is not None:
            watch.task.cancel()

    def _comes_due(self, watch: Watch) -> None:
        self._due.append(watch)
        self._begin()

    def _begin(self) -> None:
        """Ask those that are due, as many as may be asked at a time."""
        while self._due and self._running < limits.PROBES:
            watch = self._due.popleft()
            if watch.stopped:
                continue
            self._running += 1
            self._clock.run()
            timeout = watch.subject.check.timeout_ms / 1000
            watch.began, watch.until = self._loop.time(), self._clock.now() + timeout
            watch.task = self._loop.create_task(probe(self._loop, watch.subject, self._certs))
            watch.task.add_done_callback(partial(self._ended, watch))
            watch.timer = self._loop.call_later(timeout, self._expire, watch)

    def _expire(self, watch: Watch) -> None:
        left = watch.until - self._clock.now()
        if left > LATE:
            watch.timer = self._loop.call_later(left, self._expire, watch)
        elif watch.task is not None:
            watch.task.cancel()

    def _ended(self, watch: Watch, task: asyncio.Task) -> None:
        self._running -= 1
        watch.timer.cancel()
        watch.task = None
        error = None if task.cancelled() else task.exception()
        if not watch.stopped:
            self._judge(watch, task, error)
            self._plan(watch)
        self._begin()
        if not self._running:
            self._clock.stop()

    def _judge(self, watch: Watch, task: asyncio.Task, error: BaseException | None) -> None:
        result, why = "passed", ""
        if task.cancelled():
            result, why = "late", f"no answer in {watch.subject.check.timeout_ms / 1000:g} s"
        elif isinstance(error, Failed):
            result, why = error.result, str(error)
        elif error is not None:  # of our own: it says nothing about the endpoint
            self._loop.call_exception_handler({"message": "a probe did not come to an end", "exception": error})
            return
        self.results[result] += 1
        if result != "unable":
            watch.hear(why)
            self._settle(watch.places)

    def _plan(self, watch: Watch) -> None:
        spread = random.uniform(0.9, 1.1) if watch.asked else random.uniform(0.5, 1.0)
        watch.asked = True
        then = watch.began + watch.subject.check.interval_ms / 1000 * spread
        watch.timer = self._loop.call_at(max(then, self._loop.time()), self._comes_due, watch)
