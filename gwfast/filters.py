"""Filters in Python: what a class that a PythonFilter names is given, and what it may do.

    from gwfast.filters import Filter, Request, Response

    class Flags(Filter):
        async def on_request(self, request: Request) -> Response | None:
            if request.headers.get("x-preview") == self.config["word"]:
                request.backend = "preview"

Rules
- A filter is made once in each worker, with the `config` of its resource; `start` and `stop` are called around its life.
- `on_request` runs before the request goes to a backend. It may change the method (but not to or from HEAD, whose responses
  have no body), path, query, host and headers, read the body, replace it, choose the backend among those of the
  rule, or answer itself by returning a Response.
- A ReplacePrefixMatch behind it takes the matched prefix off the path that it left, where that path still begins with it;
  else the filter's path is the one that is sent.
- `on_response` runs when the head of a backend's response has come. It may change status and headers, watch the body (`observe`)
  or rewrite it piece by piece (`transform`). It is not called for answers that the gateway makes itself.
- Both run on the worker's event loop: what waits must be awaited, what computes for long holds up everybody.
- What a request says is taken apart when it is first looked at, and its head is written again where it was changed: a filter
  that looks at nothing costs nearly nothing, and so does one that does not wait.
- What cannot be sent is refused where it is set, in the filter's own line: a TypeError where it is no str (of a body: no
  bytes), a ValueError where its place may not hold it (a field with a line's end, a backend that the rule has not).
- An exception, or more time than the resource's `timeout`, is a 500, or as if nothing had been done where `failure: Open`.
"""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from gwfast import sendable
from gwfast.grammar import SINGLE
from gwfast.sendable import InvalidTypeError, InvalidValueError

__all__ = ["TLS", "BodyTooLarge", "Filter", "Headers", "InvalidTypeError", "InvalidValueError", "Request", "Response"]

class BodyTooLarge(Exception):
    """The request's body is longer than the resource's `maxBody`. A filter that does not catch it answers 413."""


def _checked(slot: str, check: Callable[[Any], Any], doc: str) -> Any:
    """A property that holds what `check` returned of what was assigned."""
    def assign(self: Any, value: Any) -> None:
        setattr(self, slot, check(value))
    return property(attrgetter(slot), assign, doc=doc)


class Headers:
    """Fields in their order. Names are compared without case; a name may come several times, but for what a message has once
    (Content-Type, Date, ...): there what is added takes the place of what is there. A backend gets one Cookie field of several.

    Wherever fields are given at once they are (name, value) pairs, a mapping or other Headers.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields = ()):
        self._fields: list[tuple[str, str]] = []
        self.extend(fields)

    @classmethod
    def _of(cls, fields: list[tuple[str, str]]) -> Headers:
        """Those of a message that was read: they are what they should be, and as many as they are."""
        made = cls.__new__(cls)
        made._fields = fields
        return made

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of this name."""
        name = name.lower()
        for key, value in self._fields:
            if key.lower() == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """Return every value of this name."""
        name = name.lower()
        return [value for key, value in self._fields if key.lower() == name]

    def add(self, name: str, value: str) -> None:
        """Put a field behind the others, whether there is one of its name or not."""
        self._add(sendable.field(name, value))

    def extend(self, fields: Fields) -> None:
        """Put these fields behind the others."""
        for field in sendable.fields(fields):
            self._add(field)

    def _add(self, field: tuple[str, str]) -> None:
        if field[0].lower() in SINGLE:
            self._remove(field[0])
        self._fields.append(field)

    def update(self, fields: Fields) -> None:
        """Put these fields in the place of all of their names."""
        new = sendable.fields(fields)
        for name, _ in new:
            self._remove(name)
        for field in new:
            self._add(field)

    def setdefault(self, name: str, value: str) -> str:
        """Return the first value of this name; where there is none, it gets this one."""
        new = sendable.field(name, value)
        if (known := self.get(name)) is not None:
            return known
        self._fields.append(new)
        return value

    def items(self) -> list[tuple[str, str]]:
        """Return (name, value) of every field, in order."""
        return list(self._fields)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        """Put one field in the place of all of its name."""
        new = sendable.field(name, value)
        self._remove(name)
        self._fields.append(new)

    def __delitem__(self, name: str) -> None:
        if not self._remove(name):
            raise KeyError(name)

    def _remove(self, name: str) -> bool:
        name = name.lower()
        left = [field for field in self._fields if field[0].lower() != name]
        before, self._fields = self._fields, left
        return len(left) < len(before)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self._fields))

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


Fields = Headers | Mapping[str, str] | Iterable[tuple[str, str]]


class TLS(NamedTuple):
    """What is known of a client's TLS. certificate: what X-Forwarded-Client-Cert would say of the one that it showed; version:
    'TLSv1.3'; cipher: 'TLS_AES_128_GCM_SHA256'; name: what it asked for (SNI). '' where it showed or said none, and where TLS
    ended before the gateway (X-Forwarded-Proto of a trusted proxy)."""

    certificate: str = ""
    version: str = ""
    cipher: str = ""
    name: str = ""


class Came(Protocol):
    """A request's head, taken apart (extend.filter_head.FilterHead)."""

    method: str
    path: str
    query: str
    host: str
    fields: list[tuple[str, str]]

    def written(self, request: Request, body: bytes | None) -> bytes | None:
        """Return the head that it has become; None where it is what it was."""


class Shown(Protocol):
    """Where a request comes from: its engine (extend.python_filter.PythonFilter)."""

    def facts(self) -> tuple[str, bool, tuple[str, ...], str, tuple[str, ...]]:
        """Return the client's address, whether it is over TLS, what TLS says, the route, the rule's backends."""


def _of_head(slot: str, check: Callable[[Any], Any], doc: str) -> Any:
    """As _checked: one of what a request's head says, which is taken apart when the first of them is asked for."""
    def look(self: Request) -> Any:
        if self._raw is not None:
            self._take_head()
        return getattr(self, slot)

    def assign(self: Request, value: Any) -> None:
        if self._raw is not None:
            self._take_head()
        setattr(self, slot, check(value))
    return property(look, assign, doc=doc)


def _of_facts(slot: str, doc: str) -> Any:
    """A property that is one of what is known of a request beside its head, which is asked for with the first of them."""
    def look(self: Request) -> Any:
        if self._shown is not None:
            self._take_facts()
        return getattr(self, slot)

    def assign(self: Request, value: Any) -> None:
        if self._shown is not None:
            self._take_facts()
        setattr(self, slot, value)
    return property(look, assign, doc=doc)


class Request:
    """A request on its way to a backend. What is assigned is what the backend gets.

    method, path (as sent, without the query), query ('' where there is none), host (of the Host field), headers.
    peer: the client's address; tls: None in clear; route: 'namespace/name' of the route; backends: the names of the rule's
    backendRefs; backend: '' lets weights choose. A filter of a backendRef runs when that is chosen: it has no `backends`.
    state: for the filter's own, from on_request to on_response.
    """

    # _raw: what takes the head apart that nobody has looked at; _came: that head, taken apart; _shown: whom to ask for the facts
    __slots__ = ("_backend", "_backends", "_body", "_came", "_headers", "_host", "_method", "_path", "_peer", "_query", "_raw",
                 "_read", "_route", "_shown", "_tls", "state")
    _raw: Callable[[], Came] | None
    _came: Came | None
    _shown: Shown | None

    def __init__(self, method: str, path: str, query: str = "", host: str = "", headers: Fields = (), *,
                 peer: str = "", tls: TLS | None = None, route: str = "", backends: tuple[str, ...] = (),
                 read: Callable[[], Awaitable[bytes]] | None = None):
        self._raw = self._came = self._shown = None
        self._method = ""
        self.method, self.path, self.query, self.host = method, path, query, host
        self.headers = headers
        self.peer, self.tls, self.route, self.backends = peer, tls, route, backends
        self._begin(read)

    @classmethod
    def _of(cls, head: Callable[[], Came], shown: Shown, read: Callable[[], Awaitable[bytes]]) -> Request:
        """One that came: what it says is what it should be."""
        made = cls.__new__(cls)
        made._raw, made._came, made._shown = head, None, shown
        made._begin(read)
        return made

    def _begin(self, read: Callable[[], Awaitable[bytes]] | None) -> None:
        self._backend = ""
        self.state: Any = None
        self._read = read
        self._body: bytes | None = None

    def _take_head(self) -> None:
        assert self._raw is not None
        came = self._came = self._raw()
        self._raw = None
        self._method, self._path, self._query, self._host = came.method, came.path, came.query, came.host
        self._headers = Headers._of(came.fields.copy())

    def _take_facts(self) -> None:
        assert self._shown is not None
        self._peer, secure, known, self._route, self._backends = self._shown.facts()
        self._tls = TLS(*known) if secure else None
        self._shown = None

    def _keep(self) -> None:
        """Whoever has it may look at it after its exchange: ask for what only that knows."""
        if self._shown is not None:
            self._take_facts()

    def _written(self, body: bytes | None) -> bytes | None:
        """Return its head; None where it is what it was."""
        if self._raw is not None:
            if body is None:
                return None
            self._take_head()
        return None if self._came is None else self._came.written(self, body)

    path = _of_head("_path", sendable.path, "As it was sent, without the query.")
    query = _of_head("_query", sendable.query, "'' where there is none.")
    host = _of_head("_host", sendable.host, "Of the Host field.")
    headers = _of_head("_headers", Headers, "All other fields.")
    peer = _of_facts("_peer", "The client's address.")
    tls = _of_facts("_tls", "None in clear.")
    route = _of_facts("_route", "'namespace/name' of the route.")
    backends = _of_facts("_backends", "Names of the rule's backendRefs.")

    @property
    def method(self) -> str:
        if self._raw is not None:
            self._take_head()
        return self._method

    @method.setter
    def method(self, value: str) -> None:
        new, known = sendable.method(value), self.method
        if known and (new == "HEAD") != (known == "HEAD"):
            raise InvalidValueError(f"{new!r} is no method for what was a {known}: responses to HEAD have no body")
        self._method = new

    @property
    def backend(self) -> str:
        """One of `backends`: its whole name, without the port, or without the namespace too; '' lets weights choose."""
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        sendable.place_of(value, self.backends)
        self._backend = value

    async def body(self) -> bytes:
        """Wait for the whole body and return it. Raises BodyTooLarge where it is longer than `maxBody`."""
        if self._body is None:
            self._body = await self._read() if self._read is not None else b""
        return self._body

    def replace_body(self, body: bytes) -> None:
        """Send this in the place of the body, which was read (`body`) or is dropped."""
        self._body = bytes(sendable.body(body))
        self._read = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} of {self.host}>"


class Response:
    """A response: one that a filter answers with, or a backend's, whose head may be changed and whose body is streamed."""

    __slots__ = ("_body", "_headers", "_observers", "_status", "_transforms")

    def __init__(self, status: int = 200, headers: Fields = (), body: bytes = b""):
        self.status = status
        self.headers = headers
        self.body = body
        self._observers: list[Callable[[bytes, bool], None]] = []
        self._transforms: list[Callable[[bytes, bool], bytes]] = []

    @classmethod
    def _of(cls, status: int, fields: list[tuple[str, str]]) -> Response:
        """A backend's: what it says is what it should be."""
        made = cls()
        made._status, made._headers = status, Headers._of(fields)
        return made

    status = _checked("_status", sendable.status, "200 to 599.")
    headers = _checked("_headers", Headers, "Its fields.")
    body = _checked("_body", sendable.body, "Of an answer; empty for a backend's.")

    def observe(self, see: Callable[[bytes, bool], None]) -> None:
        """Call see(piece, last) for each piece of the body as it passes; `last` once, perhaps with an empty piece."""
        self._observers.append(sendable.function("an observer", see))

    def transform(self, change: Callable[[bytes, bool], bytes]) -> None:
        """Send what change(piece, last) returns in the place of each piece. The body has no length then: it goes in chunks."""
        self._transforms.append(sendable.function("a transform", change))

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class Filter:
    """What a PythonFilter's class is, or looks like."""

    def __init__(self, config: dict[str, Any]):
        self.config = config

    async def start(self) -> None:
        """Called once, before the first request."""

    async def stop(self) -> None:
        """Called once, when no table names this filter any more, or its file has changed."""

    async def on_request(self, request: Request) -> Response | None:
        """Look at a request; a Response that is returned is the answer."""
        return None

    async def on_response(self, request: Request, response: Response) -> None:
        """Look at the response to a request that on_request let pass."""
