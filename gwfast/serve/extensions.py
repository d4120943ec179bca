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
from functools import partial
from typing import Any

import msgspec

from gwfast import sendable
from gwfast.engine.counters import Counters, place
from gwfast.extend.filter_head import FilterHead, put_fields
from gwfast.extend.filter_steps import Steps
from gwfast.extend.filter_task import FilterTask
from gwfast.filters import BodyTooLarge, Filter, Request, Response
from gwfast.plan.ir import ExtensionFilter
from gwfast.serve.loading import make
from gwfast.sendable import InvalidTypeError, InvalidValueError

FAILURES = (Exception, SystemExit)  # sys.exit() of one filter is not the end of a worker that serves others
OF_REQUESTS = (*FAILURES, asyncio.CancelledError)  # one that cancels itself has failed
TOLD = 10.0
LOOKED = 1.0  # seconds between two looks at files
_definition = msgspec.json.Decoder(ExtensionFilter).decode
_HOP = ("connection", "content-length", "host", "te", "transfer-encoding", "upgrade")


class NotLoaded(RuntimeError):
    """There is no version of the filter that could run."""


class Blocked(TimeoutError):
    """One step of a filter, in which nothing else ran, took longer than all of it may."""


async def _passes(request: Request) -> None:
    """The on_request of a class that has none."""


async def _serve(turn: FilterTask) -> None:
    """Run what a FilterTask is given, one after the other, until one of them has waited."""
    while not turn.used:
        await turn
        if turn.job is None:
            return
        function, arguments = turn.job
        await function(*arguments)
        del function, arguments


class Version:
    """A filter as it was loaded once. Whoever begins with it enters, and leaves when it is over."""

    def __init__(self, loaded: Loaded, made: Any):
        self.loaded, self.made = loaded, made
        self.on_request = getattr(made, "on_request", _passes)
        self.listens = getattr(type(made), "on_response", Filter.on_response) is not Filter.on_response
        self._inside = 0
        self._retired = False

    def enter(self) -> Version:
        self._inside += 1
        return self

    def leave(self) -> None:
        self._inside -= 1
        self._end()

    def retire(self) -> None:
        """Nobody begins with it any more."""
        self._retired = True
        self._end()

    def _end(self) -> None:
        if self._retired and not self._inside and hasattr(self.made, "stop"):
            host = self.loaded.host
            host.keep(host.loop.create_task(self._stop()))

    async def _stop(self) -> None:
        try:
            await self.loaded.steps(self.made.stop)
        except FAILURES as error:
            self.loaded.wrong(error, "did not stop well", "stop")


class Loaded:
    """A filter, or why there is none."""

    def __init__(self, host: Host, definition: ExtensionFilter):
        self.host, self.definition = host, definition
        self.name = definition.name
        self.row = host.counters.filter_row(self.name)
        self.place = place(self.row, False)
        self.version: Version | None = None
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

    async def loading(self) -> Version:
        """Wait until it is loaded; NotLoaded where it cannot be."""
        if self.version is None and self.ready is not None:
            await asyncio.shield(self.ready)
        if self.version is None:
            raise NotLoaded("it is not loaded")
        return self.version

    def check(self, steps: Steps) -> None:
        """Raise Blocked where one of these steps took longer than all of them may."""
        if steps.longest > self.definition.timeout:
            raise Blocked(f"it blocked its worker for {steps.longest:.1f} s: await what waits, and compute in threads")

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

    def asked(self) -> None:
        """Count a request that it is shown."""
        self.host.counters.count_filter(self.row, "requests")

    def _failed(self, error: BaseException, what: str, last: bool = True) -> None:
        if last and not self._gone:
            self.host.counters.unloaded(self.row, True)
        self.wrong(error, what, "load")

    def wrong(self, error: BaseException, what: str = "failed", reason: str = "") -> None:
        """Count what went wrong and tell it, the first time with its traceback."""
        kinds = {NotLoaded: "not_loaded", InvalidTypeError: "invalid", InvalidValueError: "invalid", Blocked: "timeout"}
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


class Host:
    """Runs filters for an engine (`extend.python_filter.Extensions.host`). tell(text) takes what people should know."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None], counters: Counters):
        self.loop, self.tell, self.counters = loop, tell, counters
        self._loaded: dict[int, Loaded] = {}
        self._texts: dict[int, bytes] = {}  # what they were loaded from
        self._kept: set[asyncio.Task] = set()  # the loop itself keeps tasks only weakly
        self._looked = 0.0
        self._turn: FilterTask | None = None  # what the next filter runs in

    def use(self, definitions: list[tuple[int, bytes]]) -> None:
        """Load what a table names and is not loaded, and stop what it does not name."""
        wanted = dict(definitions)
        for known in self._loaded.keys() - wanted.keys():
            self._loaded.pop(known).stop()
            del self._texts[known]
        for each, definition in wanted.items():
            if each not in self._loaded:
                self._loaded[each] = Loaded(self, _definition(definition))
            elif self._texts[each] != definition:  # an id stands for all but the code
                self._loaded[each].exchange(_definition(definition))
            self._texts[each] = definition

    def look(self) -> None:
        """Look whether files have changed, once a second."""
        now = time.monotonic()
        if now - self._looked >= LOOKED:
            self._looked = now
            for each in self._loaded.values():
                each.look()

    def keep(self, task: asyncio.Task) -> asyncio.Task:
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task

    # What the engine calls

    def begin(self, talk: Any) -> asyncio.Task | None:
        """Show a request to its filter. None: what becomes of it is decided, and `talk` was told."""
        return self._run(talk, self._request, self._loaded[talk.id], talk)

    def respond(self, talk: Any, status: int, fields: list[tuple[bytes, bytes]], length: int | None) -> asyncio.Task | None:
        """Show the response to it, too. As begin()."""
        return self._run(talk, self._response, talk.version, talk, status, fields, length)

    def wrong(self, identity: int, version: Version | None, error: BaseException) -> None:
        """Tell of what was raised in the middle of a round, also by a version of what no table names any more."""
        if loaded := version.loaded if version is not None else self._loaded.get(identity):
            loaded.wrong(error)

    def _run(self, talk: Any, function: Callable[..., Any], *arguments: Any) -> asyncio.Task | None:
        """Run what shows something to a filter: to its end, where that does not wait, else as a task."""
        turn = self._turn
        if turn is None or not turn.ready:
            if turn is None or turn.parked or turn.task.done():
                if turn is not None:
                    turn.end()  # it would show the variables of another context
                self._turn = FilterTask(self.loop, _serve)
            return self.keep(self.loop.create_task(function(*arguments)))
        self._turn = None
        left = turn.run(function, *arguments)
        if left is None:
            self._turn = turn
            return None
        self._turn = FilterTask(self.loop, _serve)
        if isinstance(left, asyncio.Task):
            return self.keep(left)
        talk.context = left
        return None

    async def _request(self, loaded: Loaded, talk: Any) -> None:
        request = talk.request = Request._of(partial(FilterHead, talk.head()), talk, partial(self._body, loaded, talk))
        if not talk.deciding:
            request._keep()
        loaded.asked()
        limit = None
        try:
            version = loaded.version
            steps = None if version is None else self._enter(talk, version, request)
            if steps is None or not steps.start():
                request._keep()
                limit = asyncio.timeout(loaded.definition.timeout - (steps.longest if steps else 0))
                async with limit:
                    if steps is None:
                        version = await loaded.loading()
                        steps = self._enter(talk, version, request)
                    answer = await steps
            else:
                answer = steps.value
            loaded.check(steps)
            if answer is not None:
                talk.answer(*_answer(answer))
                return
            changes = self._changes(talk, request)
        except BodyTooLarge:
            talk.fail(413)
            return
        except OF_REQUESTS as error:
            if talk.over and isinstance(error, asyncio.CancelledError):  # nobody waits for it any more
                raise
            loaded.wrong(error, reason="timeout" if limit is not None and limit.expired() else "")
            if not loaded.definition.open:
                talk.fail(500)
            else:
                talk.pass_on(None, None, -1, False)
            return
        talk.pass_on(*changes, talk.version.listens)

    def _changes(self, talk: Any, request: Request) -> tuple[bytes | None, bytes | None, int]:
        """Return the head and the body that it sends instead (None: as they are), and the place of the backend that it chose."""
        choice = sendable.place_of(request.backend, request.backends) if request.backend else -1
        body = request._body if request._read is None and request._body is not None else None
        if body is not None and not talk.whole:
            raise InvalidValueError("replace_body() needs the whole body to be there: await request.body() first")
        if talk.before_routes and request._came is not None:  # which listener it came to is decided (gateway_types.go,
            request.host = request._came.host                 # ListenerFilters)
        return request._written(body), body, choice

    def _enter(self, talk: Any, version: Version, request: Request) -> Steps:
        talk.version = version.enter()
        return Steps(self.counters, version.loaded.place, version.on_request, request)

    async def _body(self, loaded: Loaded, talk: Any) -> bytes:
        most = loaded.definition.max_body
        if talk.deciding and not talk.whole:  # in the middle of a round of the engine: no more can come in there
            await asyncio.sleep(0)
        if not talk.body(most):
            talk.waiter = self.loop.create_future()
            await talk.waiter
        body = talk.taken()
        if len(body) > most:
            raise BodyTooLarge(f"more than {most} bytes")
        return body

    async def _response(self, version: Version, talk: Any, status: int, fields: list, length: int | None) -> None:
        names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        plain = [field for field in names if field[0].lower() not in ("content-length", "transfer-encoding")]
        response = Response._of(status, plain.copy())
        limit = None
        steps = version.loaded.steps(version.made.on_response, talk.request, response)
        try:
            if not steps.start():
                limit = asyncio.timeout(version.loaded.definition.timeout - steps.longest)
                async with limit:
                    await steps
            version.loaded.check(steps)
            head = _response_head(response, names, length)
        except OF_REQUESTS as error:
            if talk.over and isinstance(error, asyncio.CancelledError):
                raise
            version.loaded.wrong(error, reason="timeout" if limit is not None and limit.expired() else "")
            if not version.loaded.definition.open:
                talk.fail(500)
                return
            response = Response._of(status, plain)
            head = _response_head(response, names, length)
        talk.respond(head, _change(version.loaded, response) if response._observers or response._transforms else None)


def _head(status: int, fields: list[tuple[str, str]], came: list[tuple[str, str]], more: list[tuple[str, str]]) -> bytes:
    """Return the head of a response: these fields, looked at where they are none of those that came, and `more`."""
    parts = [f"HTTP/1.1 {sendable.status(status)} -\r\n"]
    put_fields(parts, fields, came)
    parts += [f"{name}: {value}\r\n" for name, value in more]
    return ("".join(parts) + "\r\n").encode("latin-1")


def _answer(answer: object) -> tuple[bytes, bytes]:
    if not isinstance(answer, Response):
        raise InvalidTypeError(f"on_request returns a Response or None, not {type(answer).__name__}: {answer!r:.80}")
    body = bytes(answer.body)
    return _head(answer.status, answer.headers._fields, [], [("Content-Length", str(len(body)))]), body


def _response_head(response: Response, names: list[tuple[str, str]], length: int | None) -> bytes:
    if response._transforms:
        more = [("Transfer-Encoding", "chunked")]
    elif length is not None:
        more = [("Content-Length", str(length))]
    else:
        more = [field for field in names if field[0].lower() == "content-length"]  # of what has no body
    return _head(response.status, response.headers._fields, names, more)


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
