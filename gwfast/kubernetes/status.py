"""StatusWriter: writes the status of objects where it differs from what should stand there, and nothing else.

    follow(view) ──what may have changed──┐
    object_changed(key) ──────────────────┼─> keys, the oldest first ─> merged ─(differs)─> PATCH .../status ─> what stands now
    lead(True) ──everything───────────────┘        newest view, newest object    with resourceVersion

Rules:
- Only a leader writes: asked before each write. One that has just come to lead compares everything once.
- What waits is keys. Classes and Gateways go before routes: there are few of them, and people wait for them.
- A write names the resourceVersion that it was made for: 409 means that the object has changed, and is looked at again, as the
  watch tells it or, where that is late, as a GET does. 404: it has gone, as the watch will say, or the API server has just
  begun and does not know its kind yet.
- What the API server does not keep of what we say (a field that the CRD does not have) is not said again.
- What somebody undoes again and again is written less and less often (gwfast.kubernetes.pace).
- Where the API server does not answer everything waits, longer each time.
- A failure is told once for each object and reason, and those that are about a kind once for the kind.
- An object whose status cannot be made, which is a bug, is logged and left, until it changes; the others are written.
"""
from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from gwfast.config.model import Key
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.merge import Frame, joined, merged, patch, released
from gwfast.kubernetes.pace import UNDONE_FREE, Bucket, Patience
from gwfast.kubernetes.seen import Seen
from gwfast.kubernetes.statuses import KINDS, PARENTS, Statuses, View
from gwfast.observe.log import Log

RATE, BURST = 400.0, 500.0  # writes a second, and at once: 1,000 routes have theirs 2 s after the first, 5,000 after 12 s
WRITES = 8  # at a time: an API server does one in some 3 ms
COMPARED = 64  # objects that are looked at before the event loop has its turn
CONFLICT_WAIT, CONFLICT_WAIT_MOST = 0.05, 2.0  # seconds until what had changed is looked at again, twice as long each time
GONE_WAIT = 5.0  # until the same is done with what is not there: an API server that has just begun does not have all kinds
FORBIDDEN_WAIT = 30.0  # seconds until something is written again that may not be: roles are rarely changed
REFUSED_WAIT = 300.0  # and that the API server finds invalid
AWAY_WAIT, AWAY_WAIT_MOST = 0.5, 30.0  # seconds that everything waits where there is no answer, twice as long each time
LEASE_WAIT = 0.5  # seconds until the lease is looked at again where it has run out and nobody has said so yet
MANAGER = "gwfast"  # fieldManager


class Objects(Protocol):
    """What a writer has to know of objects (gwfast.kubernetes.source)."""

    objects: Mapping[Key, Seen]

    def status_path(self, key: Key) -> str:
        """Return the path of an object's status subresource; '' where the server does not have its kind."""


class StatusStats(msgspec.Struct):
    """What a writer counts. seconds: that writes took, all together."""

    writes: int = 0
    conflicts: int = 0
    failures: int = 0
    undone: int = 0
    seconds: float = 0.0
    waiting: int = 0


class _Fresh(NamedTuple):
    """What stands in an object, as an answer said it; true as long as the source has it in one of the `older` versions."""

    older: frozenset[str]
    version: str
    generation: int
    status: dict[str, Any]


class _Change(NamedTuple):
    key: Key
    path: str
    uid: str
    version: str
    wanted: dict[str, Any] | None
    difference: dict[str, Any]


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    generation: int = 0


class _Answer(msgspec.Struct):
    metadata: _Metadata
    status: dict[str, Any] = {}


class StatusWriter:
    """Writes what `statuses` say of `source.objects` while `leads()`; all on the event loop.

    narrowed: not every Gateway of our controller's name is served here, so entries of our name may be another's.
    """

    def __init__(self, client: Client, source: Objects, statuses: Statuses, leads: Callable[[], bool], log: Log, *,
                 narrowed: bool = False, stats: StatusStats | None = None, rate: float = RATE, burst: float = BURST):
        self._client = client
        self._source = source
        self._statuses = statuses
        self._leads = leads
        self._log = log
        self._narrowed = narrowed
        self.stats = stats or StatusStats()
        self._bucket = Bucket(rate, burst)
        self._view: View = None  # type: ignore[assignment]  # there once there is something to say
        self._leading = False
        self._first: dict[Key, None] = {}  # keys that wait: classes, Gateways, ListenerSets
        self._rest: dict[Key, None] = {}
        self._busy: dict[Key, bool] = {}  # being written; True: and asked for again
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(WRITES)
        self._pump: asyncio.Task | None = None
        self._tasks: set[asyncio.Task] = set()
        self._away, self._away_until = 0, 0.0  # times in a row that there was no answer, and when the next one is hoped for
        self._forget_all()

    def _forget_all(self) -> None:
        self._fresh: dict[Key, _Fresh] = {}
        self._left: dict[Key, dict[str, Any]] = {}  # what we said of an object before it was no longer ours, or changed
        self._kept: dict[Key, tuple] = {}  # (what stands, what we say) where the API server keeps no more of it
        self._refused: dict[Key, tuple] = {}  # (what we say, until when it is not said again)
        self._conflicts: dict[Key, tuple[str, int]] = {}  # version of the source that was too old, and how often
        self._told: set[tuple] = set()
        self._patience = Patience()

    # ---- What may have changed

    def follow(self, view: View) -> None:
        """Take what serves now."""
        before, self._view = self._view, view
        if not self._leading:
            return
        try:
            changed = self._statuses.changed(before, view)
        except Exception as error:
            self._log.bug("it is not known which statuses changed: all are compared", error)
            changed = self._everything()
        for key in changed:
            if before is not None and (self._narrowed or key.kind in PARENTS and key not in _nodes(view, key)):
                self._leave(key, before)
            self._ask(key)

    def _leave(self, key: Key, before: View) -> None:
        """Remember what was said of an object that may not be ours any more."""
        try:
            said = self._statuses.status(before, key)
        except Exception as error:
            self._log.bug("what was said of an object is not known: it is left as it is", error, object=str(key))
        else:
            if said is not None:
                self._left[key] = joined(self._left.get(key), said)

    def lead(self, leads: bool) -> None:
        """Begin to write, and compare everything; or end."""
        if leads == self._leading:
            return
        self._leading = leads
        self._forget_all()
        if leads:
            self._pump = asyncio.get_running_loop().create_task(self._run())
            for key in self._everything():
                self._ask(key)
        else:
            self._stop()

    def object_changed(self, key: Key) -> None:
        """Look at an object again: somebody has changed its status, or it has come or gone."""
        if not self._leading or key.kind not in KINDS:
            return
        seen, fresh = self._source.objects.get(key), self._fresh.get(key)
        if seen is None:
            self._forget(key)
        elif fresh is not None and seen.resource_version == fresh.version:
            del self._fresh[key]  # it is what we wrote
        else:
            self._ask(key)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be compared or written."""
        return not (self._first or self._rest or self._busy or self._later)

    def close(self) -> None:
        """End at once."""
        self._leading = False
        self._stop()

    def _everything(self) -> dict[Key, None]:
        """What has a status of ours, or should have."""
        found = self._statuses.all(self._view) if self._view is not None else {}
        if not self._narrowed:
            name = self._statuses.controller_name.encode()
            found |= dict.fromkeys(key for key, seen in self._source.objects.items() if key not in found and name in seen.status)
        return found

    # ---- What waits

    def _ask(self, key: Key) -> None:
        if key in self._busy:
            self._busy[key] = True
            return
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        (self._first if key.kind in PARENTS else self._rest).setdefault(key)
        self._count()
        self._wake.set()

    def _ask_later(self, key: Key, delay: float) -> None:
        if not self._leading:
            return
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        self._later[key] = asyncio.get_running_loop().call_later(delay, self._ask_now, key)

    def _ask_now(self, key: Key) -> None:
        self._later.pop(key, None)
        self._ask(key)

    def _count(self) -> None:
        self.stats.waiting = len(self._first) + len(self._rest) + len(self._busy) + len(self._later)

    def _forget(self, key: Key) -> None:
        for known in (self._fresh, self._left, self._kept, self._refused, self._conflicts, self._first, self._rest):
            known.pop(key, None)
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        self._patience.forget(key)
        self._count()

    def _stop(self) -> None:
        for timer in self._later.values():
            timer.cancel()
        for task in (self._pump, *self._tasks):
            if task is not None:
                task.cancel()
        self._pump = None
        for known in (self._first, self._rest, self._busy, self._later):
            known.clear()
        self._tasks.clear()
        self._slots = asyncio.Semaphore(WRITES)
        self._count()

    # ---- One after the other

    async def _run(self) -> None:
        compared = 0
        while True:
            if self._view is None or not (self._first or self._rest):
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._slots.acquire()
            if (wait := self._bucket.wait(time.monotonic())) > 0:
                await asyncio.sleep(wait)
            key = self._next()
            busy = False
            try:
                busy = key is not None and self._begin(key)
            except Exception as error:
                self._failed_on(key, error)
            if not busy:
                self._slots.release()
            compared += 1
            if compared % COMPARED == 0:
                await asyncio.sleep(0)
            if not self._leads():
                await asyncio.sleep(LEASE_WAIT)

    def _next(self) -> Key | None:
        if not self._leads():
            return None
        for keys in (self._first, self._rest):
            if keys:
                key = next(iter(keys))
                del keys[key]
                return key
        return None

    def _begin(self, key: Key) -> bool:
        """Compare an object with what it should be; return whether a task has begun to write."""
        seen = self._source.objects.get(key)
        path = self._source.status_path(key)
        if seen is None or not path:
            self._forget(key)
            return False
        version, _ = self._conflicts.get(key, ("", 0))
        late = version == seen.resource_version and key not in self._fresh
        change = None if late else self._change(key, seen, path)
        if change is None and not late:
            self._count()
            return False
        self._bucket.take()
        self._busy[key] = False
        self._count()
        work = self._read(key, seen, path) if change is None else self._write(change)
        task = asyncio.get_running_loop().create_task(self._finish(key, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _finish(self, key: Key, work) -> None:
        slots = self._slots
        try:
            await work
        except Exception as error:
            self._failed_on(key, error)
        finally:
            slots.release()
            if slots is self._slots:  # else it was stopped, and others are at work
                if self._busy.pop(key, False):
                    self._ask(key)
                self._count()

    def _failed_on(self, key: Key | None, error: Exception) -> None:
        self.stats.failures += 1
        self._count()
        self._log.bug("a status was not written", error, object=str(key))

    # ---- What differs

    def _stands(self, key: Key, seen: Seen) -> _Fresh:
        fresh = self._fresh.get(key)
        if fresh is not None and seen.resource_version in fresh.older:
            return fresh
        self._fresh.pop(key, None)
        return _Fresh(frozenset(), seen.resource_version, seen.generation, _object(seen.status))

    def _change(self, key: Key, seen: Seen, path: str) -> _Change | None:
        stands = self._stands(key, seen)
        wanted = self._statuses.status(self._view, key)
        should = self._should(key, stands, wanted)
        difference = patch(stands.status, should)
        if not difference:
            self._left.pop(key, None)
            return None
        if self._kept.get(key) == (stands.status, wanted):
            return None
        now = time.monotonic()
        refused, until = self._refused.get(key, (None, 0.0))
        wait = until - now if refused == (wanted, stands.generation) else self._patience.wait(key, (seen.uid, wanted), now)
        if wait > 0:
            self._ask_later(key, wait)
            return None
        return _Change(key, path, seen.uid, stands.version, wanted, difference)

    def _should(self, key: Key, stands: _Fresh, wanted: dict[str, Any] | None) -> dict[str, Any]:
        said = self._left.get(key)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        mine = (said or {}) if self._narrowed else None
        frame = Frame(key, self._statuses.controller_name, now, stands.generation, mine)
        if wanted is None and key.kind in ("Gateway", "ListenerSet"):
            untouched = said is not None and merged(frame, stands.status, said) == stands.status
            return released(frame, stands.status) if untouched else stands.status
        return merged(frame, stands.status, wanted)

    # ---- The API server

    async def _write(self, change: _Change) -> None:
        body = {"metadata": {"resourceVersion": change.version}, "status": change.difference}
        path = f"{change.path}?fieldManager={MANAGER}"
        begin = time.monotonic()
        try:
            answer = await self._client.request("PATCH", path, body, content_type="application/merge-patch+json")
        except ApiError as error:
            self._failed(change, error)
            return
        except Unreachable as error:
            await self._unreachable(change.key, error)
            return
        now = time.monotonic()
        self.stats.writes += 1
        self.stats.seconds += now - begin
        if self._away:
            self._away = 0
            self._told.discard(("", "unreachable"))
        self._written(change, answer, now)

    def _written(self, change: _Change, answer: bytes, now: float) -> None:
        key = change.key
        undone = self._patience.wrote(key, (change.uid, change.wanted), now)
        self.stats.undone += undone > 0
        if undone > UNDONE_FREE:
            self._tell((key, "undone"), "somebody undoes a status that is written here: is there another controller of the same "
                       "controllerName?", key)
        self._conflicts.pop(key, None)
        self._refused.pop(key, None)
        stands = self._know(key, change.version, answer)
        if stands is None:
            return
        if change.wanted is not None and patch(stands.status, self._should(key, stands, change.wanted)):
            self._kept[key] = (stands.status, change.wanted)
        else:
            self._kept.pop(key, None)
        if not self._busy.get(key):  # else it has changed since
            self._left.pop(key, None)

    def _know(self, key: Key, version: str, answer: bytes) -> _Fresh | None:
        """Remember an object as an answer has it, until the source does; None where the source has gone on."""
        found = msgspec.json.decode(answer, type=_Answer)
        seen, before = self._source.objects.get(key), self._fresh.get(key)
        older = frozenset((version,)) | (before.older if before is not None else frozenset())
        fresh = _Fresh(older, found.metadata.resource_version, found.metadata.generation, found.status)
        if seen is not None and seen.resource_version in older and seen.resource_version != fresh.version:
            self._fresh[key] = fresh
        return fresh

    async def _read(self, key: Key, seen: Seen, path: str) -> None:
        """Look at an object that has changed before the watch says so."""
        try:
            answer = await self._client.request("GET", path.removesuffix("/status"))  # which who may write a status may read
        except ApiError as error:
            self._failed(_Change(key, path, seen.uid, seen.resource_version, None, {}), error)
        except Unreachable as error:
            await self._unreachable(key, error)
        else:
            self._know(key, seen.resource_version, answer)
            version, times = self._conflicts.get(key, ("", 0))
            self._conflicts[key] = ("", times)
            self._busy[key] = True

    def _failed(self, change: _Change, error: ApiError) -> None:
        key = change.key
        if error.status == 404:
            self._ask_later(key, GONE_WAIT * random.uniform(0.8, 1.2))  # where the watch has not said so by then
        elif error.status == 409:
            self.stats.conflicts += 1
            _, times = self._conflicts.get(key, ("", 0))
            seen = self._source.objects.get(key)
            self._fresh.pop(key, None)
            self._conflicts[key] = (seen.resource_version if seen else "", times + 1)
            most = min(CONFLICT_WAIT_MOST, CONFLICT_WAIT * 2.0 ** min(times, 16))
            self._ask_later(key, random.uniform(most / 2, most))
        elif error.status in (400, 413, 422):
            stands = self._source.objects.get(key)
            self._refused[key] = ((change.wanted, stands.generation if stands else 0), time.monotonic() + REFUSED_WAIT)
            self._failure((key, error.reason, error.message), "the API server refuses a status", key, error)
            self._ask_later(key, REFUSED_WAIT)
        else:
            about = (key.kind, error.status) if error.status in (401, 403) else (key, error.status)
            self._failure(about, "a status cannot be written", key, error)
            self._ask_later(key, FORBIDDEN_WAIT * random.uniform(0.8, 1.2))

    async def _unreachable(self, key: Key, error: Unreachable) -> None:
        """Hold a place among those that write while there is no answer: when all do, nothing is asked for."""
        self._busy[key] = True
        self._failure(("", "unreachable"), "statuses cannot be written: the API server does not answer", key, error)
        now = time.monotonic()
        if now >= self._away_until:  # else another one has found out at the same time
            most = min(AWAY_WAIT_MOST, AWAY_WAIT * 2.0 ** min(self._away, 16))
            self._away, self._away_until = self._away + 1, now + random.uniform(most / 2, most)
        await asyncio.sleep(self._away_until - now)

    def _failure(self, about: tuple, message: str, key: Key, error: Exception) -> None:
        self.stats.failures += 1
        self._tell(about, message, key, str(error))

    def _tell(self, about: tuple, message: str, key: Key, error: str = "") -> None:
        if about in self._told:
            return
        self._told.add(about)
        self._log.warning(message, object=str(key), **({"error": error} if error else {}))


def _nodes(view: View, key: Key) -> Mapping[Key, Any]:
    graph = view.graph
    kinds: dict[str, Mapping[Key, Any]] = {"GatewayClass": graph.classes, "Gateway": graph.gateways}
    return kinds.get(key.kind, graph.listener_sets)


def _object(status: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(status) if status else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
