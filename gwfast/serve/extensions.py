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
- What a filter sets is refused where it sets it (see gwfast.sendable), and what it made of a head is looked at once more here.
"""
from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gwfast import sendable
from gwfast.engine.counters import Counters, place
from gwfast.extend.filter_steps import Steps
from gwfast.filters import TLS, BodyTooLarge, Filter, Request, Response
from gwfast.plan.ir import ExtensionFilter
from gwfast.serve.loading import make
from gwfast.sendable import InvalidTypeError, InvalidValueError

FAILURES = (Exception, SystemExit)  # sys.exit() of one filter is not the end of a worker that serves others
TOLD = 10.0
LOOKED = 1.0  # seconds between two looks at files
_definition = msgspec.json.Decoder(ExtensionFilter).decode
_HOP = ("connection", "content-length", "host", "te", "transfer-encoding", "upgrade")


class NotLoaded(RuntimeError):
    """There is no version of the filter that could run."""


class Blocked(TimeoutError):
    """One step of a filter, in which nothing else ran, took longer than all of it may."""


class Version:
    """A filter as it was loaded once. Whoever begins with it enters, and leaves when it is over."""

    def __init__(self, loaded: Loaded, made: Any):
        self.loaded, self.made = loaded, made
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

    def begin(self, talk: Any) -> asyncio.Task:
        """Show a request to its filter."""
        return self.keep(self.loop.create_task(self._request(self._loaded[talk.id], talk)))

    def respond(self, talk: Any, status: int, fields: list[tuple[bytes, bytes]], length: int | None) -> asyncio.Task:
        """Show the response to it, too."""
        return self.keep(self.loop.create_task(self._response(talk.version, talk, status, fields, length)))

    def wrong(self, identity: int, version: Version | None, error: BaseException) -> None:
        """Tell of what was raised in the middle of a round, also by a version of what no table names any more."""
        if loaded := version.loaded if version is not None else self._loaded.get(identity):
            loaded.wrong(error)

    async def _request(self, loaded: Loaded, talk: Any) -> None:
        head = _Head(talk.head())
        name, secure, known, route, backends = talk.facts()
        request = Request._of(head.method, head.path, head.query, head.host, head.fields.copy(), peer=name, route=route,
                              backends=backends, tls=TLS(*known) if secure else None, read=lambda: self._body(loaded, talk))
        talk.request = request
        loaded.asked()
        limit = asyncio.timeout(loaded.definition.timeout)
        try:
            async with limit:
                if loaded.version is None and loaded.ready is not None:
                    await asyncio.shield(loaded.ready)
                if loaded.version is None:
                    raise NotLoaded("it is not loaded")
                version = talk.version = loaded.version.enter()
                asked = getattr(version.made, "on_request", None)
                steps = loaded.steps(asked, request)
                answer = await steps if asked is not None else None
            loaded.check(steps)
            if answer is not None:
                talk.answer(*_answer(answer))
                return
            choice = sendable.place_of(request.backend, request.backends)
            body = request._body if request._read is None and request._body is not None else None
            if body is not None and not talk.whole:
                raise InvalidValueError("replace_body() needs the whole body to be there: await request.body() first")
            if talk.before_routes:  # which listener it came to is decided (gateway_types.go, ListenerFilters)
                request.host = head.host
            changed = head.written(request, body)
        except BodyTooLarge:
            talk.fail(413)
            return
        except FAILURES as error:
            loaded.wrong(error, reason="timeout" if limit.expired() else "")
            if not loaded.definition.open:
                talk.fail(500)
            else:
                talk.pass_on(None, None, -1, False)
            return
        talk.pass_on(changed, body, choice, version.listens)

    async def _body(self, loaded: Loaded, talk: Any) -> bytes:
        most = loaded.definition.max_body
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
        limit = asyncio.timeout(version.loaded.definition.timeout)
        steps = version.loaded.steps(version.made.on_response, talk.request, response)
        try:
            async with limit:
                await steps
            version.loaded.check(steps)
            head = _response_head(response, names, length)
        except FAILURES as error:
            version.loaded.wrong(error, reason="timeout" if limit.expired() else "")
            if not version.loaded.definition.open:
                talk.fail(500)
                return
            response = Response._of(status, plain)
            head = _response_head(response, names, length)
        talk.respond(head, _change(version.loaded, response) if response._observers or response._transforms else None)


class _Head:
    """A request's head, taken apart."""

    def __init__(self, raw: bytes):
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        self.method, self.target, _ = first.split(" ")
        self.path, mark, query = self.target.partition("?")
        self.query, self._mark = query, mark
        self.host, self.fields, self._hop = "", [], []
        for line in lines:
            name, value = line.split(":", 1)
            value = value.strip(" \t")
            if name.lower() == "host":
                self.host = value
            elif name.lower() in _HOP:
                self._hop.append((name, value))
            else:
                self.fields.append((name, value))

    def written(self, request: Request, body: bytes | None) -> bytes | None:
        """Return the head that `request` has become; None where it is what it was."""
        same = ((request.method, request.path, request.query, request.host) == (self.method, self.path, self.query, self.host)
                and request.headers.items() == self.fields)
        if same and body is None:
            return None
        for check, value in ((sendable.method, request.method), (sendable.path, request.path), (sendable.query, request.query),
                             (sendable.host, request.host)):
            check(value)
        hop = self._hop
        if body is not None:
            hop = [field for field in hop if field[0].lower() not in ("content-length", "transfer-encoding")]
            hop.append(("Content-Length", str(len(body))))
        target = request.path + ("?" + request.query if request.query or self._mark and request.query == self.query else "")
        lines = [f"{request.method} {target} HTTP/1.1", f"Host: {request.host}", *_lines(request.headers.items(), self.fields),
                 *(f"{name}: {value}" for name, value in hop)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _lines(fields: list[tuple[str, str]], came: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Return the lines of fields. What is none of those that came is looked at once more: it is the last chance."""
    known = frozenset(came)
    for each in fields:
        if each not in known:
            sendable.field(*each)
    return [f"{name}: {value}" for name, value in fields]


def _answer(answer: object) -> tuple[bytes, bytes]:
    if not isinstance(answer, Response):
        raise InvalidTypeError(f"on_request returns a Response or None, not {type(answer).__name__}: {answer!r:.80}")
    body = bytes(answer.body)
    lines = [f"HTTP/1.1 {sendable.status(answer.status)} -", *_lines(answer.headers.items()), f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


def _response_head(response: Response, names: list[tuple[str, str]], length: int | None) -> bytes:
    lines = [f"HTTP/1.1 {sendable.status(response.status)} -", *_lines(response.headers.items(), names)]
    if response._transforms:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None:
        lines.append(f"Content-Length: {length}")
    else:
        lines += [f"{name}: {value}" for name, value in names if name.lower() == "content-length"]  # of what has no body
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


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
