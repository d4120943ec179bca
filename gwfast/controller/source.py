"""A controller as a Source: what it tells this data plane to serve, and the other way round, what is served.

    event loop                                                    pipeline's thread
    link ──lines──> batch ──SYNC──> pending ──changed()──────────> load(): Received ──> Loaded
      ^                                                              └──> Copy (a file)
      └──SERVED <── Answers: workers serve what was loaded last

Rules:
- What lies between two SYNCs is taken at once or not at all; a link that breaks off leaves what is there.
- The first load() waits for a controller, and begins with the last good copy where none answers within STREAM_FIRST.
- An object that is not understood keeps its last good version, and the controller is told.
- Another controller is asked as soon as one is said to lead; the link to the one before stays until that one answers.
- What is served is said anew on each link: a controller that has just begun to lead knows it before it writes. It is said
  with the number of the last SYNC of that link that is served: a version that has gone and come back is another one.
"""
from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from gwfast import limits
from gwfast.backoff import Backoff
from gwfast.config.source import Loaded
from gwfast.config.source import brief
from gwfast.controller import wire
from gwfast.controller.copy import Copy, Kept
from gwfast.controller.link import Link, NoLink, Where, link
from gwfast.controller.received import Batch, Received
from gwfast.errors import Source
from gwfast.graph.model import Graph

ENDED = "it has ended the stream"  # as it does from time to time


class ControllerSource:
    """What one fleet is told. state_dir: the folder of the last good copy, '' for none."""

    def __init__(self, to: Where, *, state_dir: str = "", log):
        self.place = Source(f"https://{to.host}:{to.port}", 0)
        self.linked = False
        self._to = to
        self._log = log
        self._pod = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME", "")
        self._copy = Copy(state_dir, lambda words, place: log.warning(words, place=place)) if state_dir else None
        self._kept: Kept | None = None  # of the copy, until somebody knows better
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # there from the start on
        self._changed: Callable[[set[str] | None], None] = lambda _: None
        self._task: asyncio.Task | None = None
        self._saying: asyncio.Task | None = None
        self._version = ""  # of all that came
        self._batch = Batch()
        self._link: Link | None = None
        self._mover: asyncio.Task | None = None  # connects to who leads
        self._moved = asyncio.Event()
        self._served: tuple[wire.Problem, ...] | None = None  # what cannot be, of all else; None: nothing serves yet
        self._said = b""  # of that, on the link that there is
        self._number = 0  # of the last SYNC of this link, as far as it was loaded
        self._handed = self._loaded = self._answered = 0  # batches: over to be loaded, that were, and that the workers serve
        self._words = ""  # of the last failure
        self._closed = False
        self._whole = threading.Event()  # there is something to load, or no more to wait for
        self._lock = threading.Lock()
        self._pending: Batch | None = None
        self._received = Received(self.place)

    @property
    def waits(self) -> str:
        """What the first load waits for; '': nothing."""
        return "" if self._whole.is_set() else f"the controller at {self.place.file} to say what to serve"

    @property
    def brief(self) -> bool:
        """Whether what came since the last load is a moment's work."""
        with self._lock:
            batch = self._pending
            return (batch is not None and not batch.whole and batch.bundle == self._received.bundle
                    and brief([key.kind for key in batch.objects]))

    # ---- Source, on the event loop

    def watch(self, loop: asyncio.AbstractEventLoop, changed: Callable[[set[str] | None], None],
              warn: Callable[[str], None]) -> None:
        """Begin to listen."""
        self._loop, self._changed = loop, changed
        self._task = loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.bug("the controller is not followed any more", task.exception())

    def look_again(self, unread: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: it is the controller that speaks."""

    def metrics(self) -> tuple:
        """Nothing beside what the follower counts."""
        return ()

    def close(self) -> None:
        """Stop listening; a load that waits ends."""
        if self._closed:
            return
        self._closed = True
        for task in (self._task, self._saying):
            if task is not None:
                task.cancel()
        self._whole.set()
        if self._copy is not None:
            self._copy.close()

    async def _run(self) -> None:
        if self._copy is not None:
            self._kept = await self._loop.run_in_executor(None, self._copy.read)
        if self._kept is not None:
            self._version = self._kept.version
            self._loop.call_later(limits.STREAM_FIRST, self._begin_with_copy)
        backoff = Backoff(limits.STREAM_BACKOFF, limits.STREAM_BACKOFF_MOST)
        leader: Link | None = None
        while True:
            try:
                made, leader = leader or await link(self._to, self._version, self._pod), None
                self._tell("")
                leader = await self._listen(made, backoff)
                if leader is None:
                    raise NoLink(ENDED)
            except NoLink as error:
                self._tell(str(error))
                await asyncio.sleep(backoff.next())

    def _tell(self, words: str) -> None:
        """Log what keeps us from listening, once, and that we do again."""
        self.linked = not words
        if words == ENDED and not self._words:
            return
        if words and words != self._words:
            self._log.warning("the controller cannot be followed, what it said last serves",
                              controller=self.place.file, error=words)
        elif not words and self._words:
            self._log.info("the controller is followed again", controller=self.place.file)
        self._words = words

    def _begin_with_copy(self) -> None:
        """Serve what was kept: no controller has answered."""
        if self._kept is not None and not self._closed:
            self._log.warning("no controller answers: the last good copy serves", controller=self.place.file)
            kept, self._kept = self._kept, None
            self._hand_over(_batch_of(kept))

    # ---- A link

    async def _listen(self, made: Link, backoff: Backoff) -> Link | None:
        """Follow a link until it ends, or until there is one to who leads, which is returned; NoLink."""
        self._link, self._batch = made, Batch()
        self._take_number(0)  # those of another controller mean nothing here
        self._said = b""
        self._moved.clear()
        reading, pinging = asyncio.ensure_future(self._read(made, backoff)), asyncio.ensure_future(self._ping(made))
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({reading, pinging, moved}, return_when=asyncio.FIRST_COMPLETED)
            if moved.done():
                mover, self._mover = self._mover, None
                return mover.result() if mover is not None else None
            (reading if reading.done() else pinging).result()
            return None
        finally:
            self._link = None
            made.close()
            self._seek("")
            await _cancelled(reading, pinging, moved)

    async def _read(self, made: Link, backoff: Backoff) -> None:
        self._say_again()
        async for text in made.lines():
            try:
                line = wire.parse(text)
            except (msgspec.MsgspecError, ValueError):
                continue
            self._take(line)
            if line.type == "SYNC":
                backoff.reset()

    async def _ping(self, made: Link) -> None:
        while True:
            await asyncio.sleep(limits.STREAM_PING)
            await made.say(wire.PING)

    def _take(self, line: wire.Line) -> None:
        match line.type:
            case "SNAPSHOT":
                self._batch = Batch(whole=True)
            case "PUT":
                self._batch.objects[line.key] = bytes(line.object)
            case "GONE":
                self._batch.objects[line.key] = None
            case "SYNC":
                batch, self._batch = self._batch, Batch()
                batch.version, batch.bundle, batch.number = line.version, line.bundle, line.number
                self._synced(batch)
            case "LEADER":
                self._seek(line.address)

    def _seek(self, leader: str) -> None:
        """Connect to who leads; '': stay."""
        if self._mover is not None:
            self._mover.cancel()
            self._mover = None
        if leader:
            self._mover = asyncio.ensure_future(self._reach(leader))
            self._mover.add_done_callback(lambda task: None if task.cancelled() else self._moved.set())

    async def _reach(self, address: str) -> Link:
        backoff = Backoff(limits.STREAM_BACKOFF, limits.STREAM_BACKOFF_MOST)
        while True:
            try:
                return await link(self._to, self._version, self._pod, address)
            except (NoLink, ValueError):
                await asyncio.sleep(backoff.next())

    def _synced(self, batch: Batch) -> None:
        """Take what is complete: behind what was kept, where it is what has changed since."""
        kept, self._kept = self._kept, None
        if kept is not None and not batch.whole:
            first = _batch_of(kept)
            first.add(batch)
            batch = first
        elif batch.version == self._version and not batch.whole and not batch.objects:
            self._take_number(batch.number)  # nothing else is new
            self._say_again()
            return
        self._hand_over(batch)

    def _take_number(self, number: int) -> None:
        """Take note that what came last is what this SYNC says."""
        with self._lock:
            if self._pending is not None:
                self._pending.number = number
            else:
                self._number = number

    def _hand_over(self, batch: Batch) -> None:
        self._version = batch.version
        with self._lock:
            self._handed += 1
            if self._pending is None:
                self._pending = batch
            else:
                self._pending.add(batch)
        self._whole.set()
        self._changed({self.place.file})

    # ---- Source, in the pipeline's thread

    def load(self, changed: set[str] | None) -> Loaded:
        """Decode what came since the last time. The first time: wait until the controller, or the copy, has said all."""
        self._whole.wait()
        with self._lock:
            batch, self._pending, self._loaded = self._pending, None, self._handed
            self._number = batch.number if batch is not None else self._number
        loaded = self._received.take(batch)
        if batch is not None and self._copy is not None and not self._closed:
            self._copy.keep(batch.lines(), loaded.resources, batch.version, batch.bundle, batch.whole)
        return loaded

    # ---- What is served

    def serves(self, problems: list[wire.Problem]) -> None:
        """Tell the controller that the workers serve what was loaded last, but for these."""
        undecodable = [wire.Problem(message=wrong, resource=str(key))
                       for key, wrong in sorted(self._received.undecodable.items())]
        self._served = tuple(replace(each, message=each.message[:limits.STREAM_PROBLEM_CHARS])
                             for each in [*problems, *undecodable][:limits.STREAM_PROBLEMS])
        self._answered = self._loaded
        if self._number or self._answered == self._handed:
            self._say()

    def _say_again(self) -> None:
        """Say what is served where that is all that came."""
        if self._served is not None and self._answered == self._handed:
            self._say()

    def _say(self) -> None:
        """Say what is served, where that was not said."""
        if self._link is None or self._served is None or not self._received.version:
            return
        said = wire.say("SERVED", version=self._received.version, number=self._number, problems=self._served)
        if said != self._said:
            self._said = said
            self._saying = asyncio.ensure_future(self._tell_served(self._link, said))

    async def _tell_served(self, made: Link, said: bytes) -> None:
        with contextlib.suppress(NoLink):  # who reads finds out
            await made.say(said)


class Answers:
    """Tells a controller what the workers serve: a follower of the supervisor."""

    def __init__(self, source: ControllerSource):
        self._source = source

    def follow(self, graph: Graph, unbound: Iterable[tuple[str, str, str]]) -> None:
        """Take note of a graph that the workers serve now, but for these listeners."""
        problems = []
        for identity, _, why in unbound:
            gateway = graph.listeners[identity].gateway
            problems.append(wire.Problem(message=why, gateway=f"{gateway.namespace}/{gateway.name}", resource=identity))
        self._source.serves(problems)

    def metrics(self) -> Iterable[tuple[str, float]]:
        """Return name and value of what is counted."""
        return [("controller_connected", float(self._source.linked))]

    async def close(self) -> None:
        """End: this data plane drains, and does not count any more."""
        self._source.close()


def _batch_of(kept: Kept) -> Batch:
    return Batch(dict(kept.objects), True, kept.version, kept.bundle)


async def _cancelled(*tasks: asyncio.Future) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(BaseException):
            await task
