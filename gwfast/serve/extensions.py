"""Runs the filters in Python that a table names (see gwfast.filters), on the worker's event loop.

Rules
- A filter is known by the id of its definition: one that a new table names as well is the same object, with what it remembers.
- A file that changed is loaded again, looked at once a second, and so is other code of a ConfigMap, which a new table brings;
  where that fails, or its start() does, the version before goes on. A filter that was never loaded fails every request: 500,
  or as if it were not there (`failure: Open`).
- A request ends with the version that it began with, its response and the pieces of that included; a version is stopped behind
  the last of its requests.
- What a filter raises, and what comes too late, is told with its traceback the first time, then at most every TOLD seconds.
- Requests and failures of each are counted by its name in the memory of the counters, so that a worker's death loses none.
- While a step of a filter runs, the memory of the counters says which one: a supervisor that sees this worker's loop stand still
  can tell whose it is. A step that alone took longer than `timeout` is a failure as if it had waited so long.
- A filter begins at once, in the engine's call, and mostly ends there: no task, no timer and no parsed head is made for one that
  does not wait (extend.filter_task). One that waits goes on as a task, with what is left of its `timeout`.
- What a filter sets is refused where it sets it (see gwfast.sendable), and what it made of a head is looked at once more here.
"""
from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from gwfast.engine.counters import Counters, place
from gwfast.extend.filter_host import FAILURES as OF_REQUESTS
from gwfast.extend.filter_host import FilterHost
from gwfast.extend.filter_steps import Steps
from gwfast.extend.filter_task import FilterTask
from gwfast.extend.filter_version import FilterEntry, FilterVersion
from gwfast.filters import BodyTooLarge, Filter, Headers, Request, Response
from gwfast.plan.ir import ExtensionFilter
from gwfast.serve.loading import make
from gwfast.sendable import InvalidTypeError, InvalidValueError

FAILURES = (Exception, SystemExit)  # sys.exit() of one filter is not the end of a worker that serves others
TOLD = 10.0
LOOKED = 1.0  # seconds between two looks at files
_definition = msgspec.json.Decoder(ExtensionFilter).decode


Came = tuple[int, bytes, bytes]  # of a response: its status, its fields, the lines that say how long it is


class NotLoaded(RuntimeError):
    """There is no version of the filter that could run."""


class Blocked(TimeoutError):
    """One step of a filter, in which nothing else ran, took longer than all of it may."""


async def _passes(request: Request) -> None:
    """The on_request of a class that has none."""


async def _serve(turn: FilterTask) -> None:
    """Wait for what a FilterTask goes on with, and run that."""
    try:
        await turn
    except asyncio.CancelledError as cancelled:  # by the first step of the filter: it is for what that waits for
        task = asyncio.current_task()
        if turn.job is None or task is None:
            raise
        task.uncancel()
        task.cancel(*cancelled.args)
    if turn.job is not None:
        function, arguments = turn.job
        await function(*arguments)


class Version(FilterVersion):
    """A filter as it was loaded once. Whoever begins with it enters, and leaves when it is over."""

    def __init__(self, loaded: Loaded, made: Any):
        listens = getattr(type(made), "on_response", Filter.on_response) is not Filter.on_response
        super().__init__(loaded, made, getattr(made, "on_request", _passes), listens)

    def end(self) -> None:
        if hasattr(self.made, "stop"):
            host = self.loaded.host
            host.keep(host.loop.create_task(self._stop()))

    async def _stop(self) -> None:
        try:
            await self.loaded.steps(self.made.stop)
        except FAILURES as error:
            self.loaded.wrong(error, "did not stop well", "stop")


class Loaded(FilterEntry):
    """A filter, or why there is none."""

    def __init__(self, host: Host, definition: ExtensionFilter):
        self.host, self.definition = host, definition
        self.name = definition.name
        self.timeout, self.open, self.max_body = definition.timeout, definition.open, definition.max_body
        self.row = host.counters.filter_row(self.name)
        self.place = place(self.row, False)
        self.ready: asyncio.Task | None = None
        self._gone = False
        self._loads = 0
        self._seen: tuple | None = None
        self._told = 0.0
        self._untold = 0
        self.load()

    def load(self) -> None:
        """Import it and make one; what goes wrong is told, and what was there stays."""
        self._seen = self._file_state()
        try:
            made = self.run(make, self.definition, loading=True)
        except FAILURES as error:
            self._failed(error, "cannot be loaded")
            return
        self._loads += 1
        self.ready = self.host.keep(self.host.loop.create_task(self._start(Version(self, made), self._loads)))

    def exchange(self, definition: ExtensionFilter) -> None:
        """Load other code of the same filter."""
        self.definition = definition
        self.load()

    async def _start(self, version: Version, number: int) -> None:
        try:
            if hasattr(version.made, "start"):
                await self.steps(version.made.start, loading=True)
        except FAILURES as error:
            self._failed(error, "cannot be started", number == self._loads)
            return
        if self._gone or number != self._loads:  # meanwhile it left the table, or its file changed again
            version.retire()
            return
        self.host.counters.unloaded(self.row, False)
        before, self.version = self.version, version
        if before is not None:
            before.retire()

    def stop(self) -> None:
        """No table names it any more."""
        self._gone = True
        self.host.counters.unloaded(self.row, False)
        if self.version is not None:
            version, self.version = self.version, None
            version.retire()

    def steps(self, function: Callable[..., Any], *arguments: Any, loading: bool = False) -> Steps:
        """Return what awaits a coroutine function of the filter, and says meanwhile that it runs."""
        return Steps(self.host.counters, place(self.row, loading), function, *arguments)

    async def loading(self) -> FilterVersion:
        """Wait until it is loaded; NotLoaded where it cannot be."""
        if self.version is None and self.ready is not None:
            await asyncio.shield(self.ready)
        if self.version is None:
            raise NotLoaded("it is not loaded")
        return self.version

    def blocked(self, seconds: float) -> None:
        """Raise Blocked: one of its steps took so long, which is more than all of them may."""
        raise Blocked(f"it blocked its worker for {seconds:.1f} s: await what waits, and compute in threads")

    async def body_of(self, talk: Any) -> bytes:
        """Read the body of a request."""
        if talk.deciding and not talk.whole:  # in the middle of a round of the engine: no more can come in there
            await asyncio.sleep(0)
        if not talk.body(self.max_body):
            talk.waiter = self.host.loop.create_future()
            await talk.waiter
        body = talk.taken()
        if len(body) > self.max_body:
            raise BodyTooLarge(f"more than {self.max_body} bytes")
        return body

    def run(self, function: Callable[..., Any], *arguments: Any, loading: bool = False) -> Any:
        """Call a function of the filter, and say meanwhile that it runs."""
        before = self.host.counters.runs(place(self.row, loading))
        try:
            return function(*arguments)
        finally:
            self.host.counters.runs(before)

    def _file_state(self) -> tuple | None:
        if not self.definition.file:
            return None
        try:
            state = os.stat(self.definition.file)
        except OSError:
            return ()
        return state.st_mtime_ns, state.st_size, state.st_ino

    def look(self) -> None:
        """Load it again if its file has changed."""
        state = self._file_state()
        if state not in (self._seen, ()):
            self.load()

    def _failed(self, error: BaseException, what: str, last: bool = True) -> None:
        if last and not self._gone:
            self.host.counters.unloaded(self.row, True)
        self.wrong(error, what, "load")

    def wrong(self, error: BaseException, what: str = "failed", reason: str = "") -> None:
        """Count what went wrong and tell it, the first time with its traceback."""
        kinds: dict[type[BaseException], str] = {
            NotLoaded: "not_loaded", InvalidTypeError: "invalid", InvalidValueError: "invalid", Blocked: "timeout"}
        self.host.counters.count_filter(self.row, reason or kinds.get(type(error), "exception"))
        now = time.monotonic()
        if self._told and now - self._told < TOLD:
            self._untold += 1
            return
        whole = not self._told and not isinstance(error, Blocked)  # whose traceback is not the filter's
        lines = traceback.format_exception(error) if whole else traceback.format_exception_only(error)
        more = f" ({self._untold} more since)" if self._untold else ""
        self._told, self._untold = now, 0
        self.host.tell(f"PythonFilter {self.name} {what}{more}: {''.join(lines).strip()}")


class Host(FilterHost):
    """Runs filters for an engine (`extend.python_filter.PythonFilters.host`). tell(text) takes what people should know."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None], counters: Counters):
        super().__init__(loop, counters, _serve, Request)
        self.tell = tell
        self._texts: dict[int, bytes] = {}  # what they were loaded from
        self._kept: set[asyncio.Task] = set()  # the loop itself keeps tasks only weakly
        self._looked = 0.0

    def use(self, definitions: list[tuple[int, bytes]]) -> None:
        """Load what a table names and is not loaded, and stop what it does not name."""
        wanted = dict(definitions)
        for known in self.entries.keys() - wanted.keys():
            self.entries.pop(known).stop()
            del self._texts[known]
        for each, definition in wanted.items():
            if each not in self.entries:
                self.entries[each] = Loaded(self, _definition(definition))
            elif self._texts[each] != definition:  # an id stands for all but the code
                self.entries[each].exchange(_definition(definition))
            self._texts[each] = definition

    def look(self) -> None:
        """Look whether files have changed, once a second."""
        now = time.monotonic()
        if now - self._looked >= LOOKED:
            self._looked = now
            for each in self.entries.values():
                each.look()

    def keep(self, task: asyncio.Task) -> asyncio.Task:
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task

    def wrong(self, identity: int, version: FilterVersion | None, error: BaseException) -> None:
        """Tell of what was raised in the middle of a round, also by a version of what no table names any more."""
        if loaded := version.loaded if version is not None else self.entries.get(identity):
            loaded.wrong(error)

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _request(self, loaded: Loaded, talk: Any, request: Request, steps: Steps | None) -> None:
        """Go on with a filter that waits; `steps` None: nothing was done yet, perhaps because it is not loaded."""
        request._keep()
        limit = answer = None
        try:
            if steps is None and loaded.version is not None:
                steps = self.enter(talk, loaded.version, request)
                steps.start()
            if steps is not None and steps.ended:
                answer = steps.value
            else:
                limit = asyncio.timeout(loaded.timeout - (steps.longest if steps else 0))
                async with limit:
                    if steps is None:
                        steps = self.enter(talk, await loaded.loading(), request)
                    answer = await steps
        except OF_REQUESTS as error:
            if talk.over and isinstance(error, asyncio.CancelledError):  # nobody waits for it any more
                raise
            self.failed(loaded, talk, error, limit)
            return
        self.decide(loaded, talk, request, steps, answer)

    def failed(self, loaded: Loaded, talk: Any, error: BaseException, limit: asyncio.Timeout | None = None) -> None:
        """Do what becomes of a request whose filter has failed."""
        if isinstance(error, BodyTooLarge):
            talk.fail(413)
            return
        loaded.wrong(error, reason="timeout" if limit is not None and limit.expired() else "")
        if loaded.open:
            talk.pass_on(None, None, -1, False)
        else:
            talk.fail(500)

    def answered(self, answer: object) -> tuple[bytes, bytes]:
        """Return the head and the body of a filter's own answer."""
        if not isinstance(answer, Response):
            raise InvalidTypeError(f"on_request returns a Response or None, not {type(answer).__name__}: {answer!r:.80}")
        body = bytes(answer.body)
        return _head(answer, b"Content-Length: %d\r\n" % len(body)), body

    # -- responses -----------------------------------------------------------------------------------------------------

    def response(self, status: int, lines: bytes) -> Response:
        """Return what a filter is shown of a response."""
        return Response._of(status, Headers._of(lines))

    async def _response(self, loaded: Loaded, talk: Any, response: Response, steps: Steps, came: Came) -> None:
        """As _request(): `steps` may not have begun."""
        limit = None
        try:
            if not steps.begun:
                steps.start()
            if not steps.ended:
                limit = asyncio.timeout(loaded.timeout - steps.longest)
                async with limit:
                    await steps
        except OF_REQUESTS as error:
            if talk.over and isinstance(error, asyncio.CancelledError):
                raise
            self.response_failed(loaded, talk, error, came, limit)
            return
        self.decide_response(loaded, talk, response, steps, came)

    def decide_response(self, loaded: Loaded, talk: Any, response: Response, steps: Steps, came: Came) -> None:
        """Let a response go on as the filter, which has ended, has left it."""
        try:
            if steps.longest > loaded.timeout:
                loaded.blocked(steps.longest)
            changes = response._observers or response._transforms
            head = _head(response, b"Transfer-Encoding: chunked\r\n" if response._transforms else came[2])
            talk.respond(head, _change(loaded, response) if changes else None)
        except OF_REQUESTS as error:
            self.response_failed(loaded, talk, error, came)

    def response_failed(self, loaded: Loaded, talk: Any, error: BaseException, came: Came,
                        limit: asyncio.Timeout | None = None) -> None:
        """Do what becomes of a response whose filter has failed."""
        loaded.wrong(error, reason="timeout" if limit is not None and limit.expired() else "")
        if loaded.open:
            status, lines, more = came
            talk.respond(_head(self.response(status, lines), more), None)
        else:
            talk.fail(500)


def _head(response: Response, more: bytes) -> bytes:
    """Return the head of a response, with these lines behind its own."""
    return b"HTTP/1.1 %d -\r\n%b%b\r\n" % (response.status, response.headers._lines(), more)


def _change(loaded: Loaded, response: Response) -> Callable[[bytes, bool], bytes]:
    observers, transforms = response._observers, response._transforms

    def change(piece: bytes, last: bool) -> bytes:
        try:
            for see in observers:
                see(piece, last)
            for each in transforms:
                piece = each(piece, last)
                if not isinstance(piece, bytes):
                    raise InvalidTypeError(f"{each!r} returned {type(piece).__name__} in the place of bytes")
            return piece
        except SystemExit as error:  # the engine takes failures, and nothing else
            raise RuntimeError(f"it exits: SystemExit({error.code!r})") from error
    return lambda piece, last: loaded.run(change, piece, last)
