"""Requests to the API server, and streams of lines.

    request  a connection of the pool ──> 2xx: its body
                                          401: credentials are read again, once
                                          429, 503: what Retry-After says is waited for, and asked again
                                          else ApiError, with what the Status object says
    watch    a connection of its own ──> a line for each event, until the server ends it

Rules:
- JSON only. Redirects are not followed: credentials are for one server.
- A connection has one request at a time. One that was closed while it was idle is no error: what changes nothing when it is done
  twice is sent again (all but POST; what has a resourceVersion is refused by the API server the second time).
- Every wait ends: a request has one deadline, a watch one for its head and one for each silence.
- Who is cancelled leaves no connection behind.
- That the API server cannot be reached, and that it can be again, is told once each, by whoever finds it.
"""
import asyncio
import string
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from platform import machine
from urllib.parse import quote

import h11
import msgspec

from gwfast import __version__, limits
from gwfast.backoff import Backoff
from gwfast.errors import UsageError
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.credentials import Credentials
from gwfast.kubernetes.http import Connection, Idle, Malformed, TooLong, connect
from gwfast.kubernetes.plugin import NoCredentials
from gwfast.lines import Lines, LongLine
from gwfast.observe.log import Log

_AS_IT_IS = string.punctuation.replace("#", "")  # in a path; all else is escaped: it may be of a name that somebody wrote
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
USER_AGENT = f"gwfast/{__version__} ({sys.platform}/{_ARCH.get(machine(), machine())}) kubernetes/v1".encode()
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # server-side apply: JSON is YAML
URGENT = 2  # connections beside those of other requests
ERROR_BYTES = 1024 * 1024  # of an answer that is no 2xx: a Status object


class ApiError(Exception):
    """An answer that is no 2xx. `status` is HTTP's (or a Status object's code), `reason` the API's word: NotFound, Conflict."""

    def __init__(self, status: int, reason: str = "", message: str = "", retry_after: float | None = None):
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Unreachable(Exception):
    """No answer could be had: no connection, no TLS, no credentials, a timeout, an answer that ended or made no sense."""


class Excessive(Unreachable):
    """An answer, or a line of it, is longer than is kept; a list can be asked for in smaller pages."""


def api_backoff() -> Backoff:
    """Return how to wait for the API server."""
    return Backoff(limits.API_BACKOFF, limits.API_BACKOFF_MOST)


class Client:
    """One API server. `connections` bounds those of requests; each watch has one of its own beside them.

    UsageError where its certificates make no sense.
    """

    def __init__(self, access: Access, *, connections: int = limits.API_CONNECTIONS, log: Log | None = None):
        self.access = access
        self.log = log or Log(level="error")
        self._prefix = access.server.split("://", 1)[1].partition("/")[2]
        self._credentials = Credentials(access, lambda text: self.log.warning(text))
        self._slots = asyncio.Semaphore(connections)
        self._urgent = asyncio.Semaphore(URGENT)
        self._idle: list[tuple[Connection, asyncio.TimerHandle]] = []  # the one used last is at the end
        self._open: set[Connection] = set()
        self.answers: Counter[tuple[str, int]] = Counter()  # by method and status
        self.unanswered = 0  # requests and watches
        self._reached = True
        self._answered_at = float("-inf")  # an answer came last, monotonic
        self._closed = False

    async def request(self, method: str, path: str, body: object | bytes | None = None, *,
                      content_type: str = "application/json", accept: str = "application/json",
                      timeout: float = limits.API_TIMEOUT, urgent: bool = False) -> bytes:
        """Return the body of a 2xx; ApiError, Unreachable. `timeout` is for all of it, waits for 429 and 503 too.

        `body` is sent as it is where it is bytes, else as JSON; `path` begins with a slash and has its query. What is `urgent`
        does not wait for others: a Lease is not lost because long lists have all the connections.
        """
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        fields = [("Accept", accept.encode())]
        if body is not None:
            fields.append(("Content-Type", content_type.encode()))
        deadline = asyncio.get_running_loop().time() + timeout
        backoff = api_backoff()
        for tried in range(limits.API_RETRIES + 1):
            async with self._answered(deadline - asyncio.get_running_loop().time(), path):
                answer = await self._exchange(self._urgent if urgent else self._slots, method, path, fields, data)
            if not isinstance(answer, ApiError):
                return answer
            wait = _patience(answer, method, backoff)
            if wait is None or tried == limits.API_RETRIES or asyncio.get_running_loop().time() + wait >= deadline:
                raise answer
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def watch(self, path: str, *, accept: str = "application/json",
                    silent: float | None = None) -> AsyncGenerator[bytes]:
        """Yield a line for each event until the server ends the answer; ApiError, Unreachable. Close it (contextlib.aclosing).

        One that says nothing for `silent` seconds (API_SILENT) is Unreachable.
        """
        silent = silent or limits.API_SILENT
        async with self._answered(limits.API_TIMEOUT, path):
            connection = await self._begin(path, accept)
        try:
            lines = Lines(limits.API_LINE_BYTES)
            while data := await self._next(connection, silent, path):
                try:
                    events = lines.take(data)
                except LongLine:
                    raise Excessive(f"{path}: an event of more than {limits.API_LINE_BYTES >> 20} MiB") from None
                for event in events:
                    yield event
            if lines.begun:
                raise Unreachable(f"{path}: the watch ended within an event")
        finally:
            self._drop(connection)

    async def close(self) -> None:
        """End every connection; what waits for an answer finds it Unreachable."""
        self._closed = True
        for connection in list(self._open):
            self._drop(connection)

    # -- one request

    async def _exchange(self, slots: asyncio.Semaphore, method: str, path: str, fields: list, data: bytes) -> bytes | ApiError:
        """Ask once, and once more with new credentials where they were refused."""
        for again in (True, False):
            async with slots:
                connection, head = await self._ask(method, path, fields, data)
                try:
                    good = 200 <= head.status_code < 300
                    body = await connection.body(limits.API_ANSWER_BYTES if good else ERROR_BYTES)
                except BaseException:
                    self._drop(connection)
                    raise
                self._give_back(connection)
            if good:
                return body
            if head.status_code != 401 or not again or not await self._credentials.renew():
                return _error(head, body)
        raise AssertionError

    async def _ask(self, method: str, path: str, fields: list, data: bytes):
        """Send a request on a connection, a new one where there is none or those that were idle have been closed."""
        fields = [("User-Agent", USER_AGENT), *await self._credentials.fields(), *fields]
        target = quote(f"/{self._prefix}{path}" if self._prefix else path, safe=_AS_IT_IS)
        while True:
            connection = self._take() or await self._connect()
            try:
                head = await connection.ask(method, target, fields, data)
                self.answers[method, head.status_code] += 1
                return connection, head
            except BaseException as error:
                self._drop(connection)
                if isinstance(error, Idle) and connection.used and method != "POST":
                    continue
                raise

    async def _begin(self, path: str, accept: str) -> Connection:
        """Open a watch; ApiError."""
        for again in (True, False):
            async with self._slots:
                connection, head = await self._ask("GET", path, [("Accept", accept.encode())], b"")
            if head.status_code == 200:
                return connection
            try:
                body = await connection.body(ERROR_BYTES)
            finally:
                self._drop(connection)
            if head.status_code != 401 or not again or not await self._credentials.renew():
                raise _error(head, body)
        raise AssertionError

    async def _next(self, connection: Connection, silent: float, path: str) -> bytes:
        """Return what follows of a watch, b'' at its end."""
        try:
            async with asyncio.timeout(silent):
                event = await connection.event()
        except TimeoutError:
            raise Unreachable(f"{path}: the watch was silent for {silent:.0f} s") from None
        except (OSError, Malformed) as error:
            raise Unreachable(f"{path}: the watch was cut: {error}") from None
        return bytes(getattr(event, "data", b""))

    @asynccontextmanager
    async def _answered(self, timeout: float, path: str):
        """Make what may go wrong an Unreachable, and tell when that begins and ends."""
        began = time.monotonic()  # the loop's clock stands still within a turn
        try:
            async with asyncio.timeout(timeout):
                yield
        except ApiError:
            self._tell(None)
            raise
        except (OSError, Malformed, Idle, NoCredentials, UsageError, h11.LocalProtocolError) as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            kind = Excessive if isinstance(error, TooLong) else Unreachable
            self.unanswered += 1
            if kind is Unreachable and self._answered_at < began:  # nobody else had an answer meanwhile
                self._tell(words)
            raise kind(f"{self.access.server}{path}: {words}") from None
        self._tell(None)

    @property
    def reached(self) -> bool:
        """Whether there was an answer the last time."""
        return self._reached

    def _tell(self, words: str | None) -> None:
        if words is None:
            self._answered_at = time.monotonic()
        if words is not None and self._reached and not self._closed:
            self.log.warning("the API server does not answer; what is known serves on", server=self.access.server, error=words)
        if words is None and not self._reached:
            self.log.info("the API server answers again", server=self.access.server)
        self._reached = words is None

    # -- connections

    async def _connect(self) -> Connection:
        if self._closed:
            raise ConnectionError("the client is closed")
        try:
            async with asyncio.timeout(limits.API_CONNECT_TIMEOUT):
                connection = await connect(self.access, self._credentials)
        except TimeoutError:
            raise ConnectionError(f"no connection within {limits.API_CONNECT_TIMEOUT:.0f} s") from None
        self._open.add(connection)
        return connection

    def _take(self) -> Connection | None:
        """Take an idle connection that can be used."""
        self._credentials.context()  # whether certificates have changed
        while self._idle:
            connection, timer = self._idle.pop()
            timer.cancel()
            if not connection.stream.ended and connection.generation == self._credentials.generation:
                return connection
            self._drop(connection)
        return None

    def _give_back(self, connection: Connection) -> None:
        if self._closed or not connection.ready():
            self._drop(connection)
            return
        timer = asyncio.get_running_loop().call_later(limits.API_IDLE, self._expire, connection)
        self._idle.append((connection, timer))

    def _expire(self, connection: Connection) -> None:
        self._idle = [entry for entry in self._idle if entry[0] is not connection]
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.stream.abort()


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""


def _error(head, body: bytes) -> ApiError:
    fields = {name: value.decode("latin-1") for name, value in head.headers}
    retry_after = fields.get(b"retry-after", "")
    patience = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 9 else None
    if 300 <= head.status_code < 400:
        return ApiError(head.status_code, "", f"redirects are not followed: {fields.get(b'location', '')}", patience)
    try:
        said = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Status(message=body[:200].decode(errors="replace").strip())
    return ApiError(head.status_code, said.reason, said.message, patience)


def _patience(error: ApiError, method: str, backoff: Backoff) -> float | None:
    """Return how long to wait before a request is sent again, None where that is of no use."""
    if error.retry_after is not None and (error.status == 429 or error.status >= 500):
        return backoff.next(error.retry_after)
    if error.status == 429 or error.status == 503 and method != "POST":
        return backoff.next()
    return None
