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

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from gwfast import sendable
from gwfast.extend.filter_headers import Headers
from gwfast.extend.filter_request import FilterRequest
from gwfast.sendable import InvalidTypeError, InvalidValueError

__all__ = ["TLS", "BodyTooLarge", "Filter", "Headers", "InvalidTypeError", "InvalidValueError", "Request", "Response"]

class BodyTooLarge(Exception):
    """The request's body is longer than the resource's `maxBody`. A filter that does not catch it answers 413."""


def _checked(slot: str, check: Callable[[Any], Any], doc: str) -> Any:
    """A property that holds what `check` returned of what was assigned."""
    def assign(self: Any, value: Any) -> None:
        setattr(self, slot, check(value))
    return property(attrgetter(slot), assign, doc=doc)


Fields = Headers | Mapping[str, str] | Iterable[tuple[str, str]]


class TLS(NamedTuple):
    """What is known of a client's TLS. certificate: what X-Forwarded-Client-Cert would say of the one that it showed; version:
    'TLSv1.3'; cipher: 'TLS_AES_128_GCM_SHA256'; name: what it asked for (SNI). '' where it showed or said none, and where TLS
    ended before the gateway (X-Forwarded-Proto of a trusted proxy)."""

    certificate: str = ""
    version: str = ""
    cipher: str = ""
    name: str = ""


class Request(FilterRequest):
    """A request on its way to a backend. What is assigned is what the backend gets.

    method, path (as sent, without the query), query ('' where there is none), host (of the Host field), headers.
    peer: the client's address; tls: None in clear; route: 'namespace/name' of the route; backends: the names of the rule's
    backendRefs; backend: '' lets weights choose. A filter of a backendRef runs when that is chosen: it has no `backends`.
    state: for the filter's own, from on_request to on_response.
    """

    __slots__ = ()
    _known = TLS

    async def body(self) -> bytes:
        """Wait for the whole body and return it. Raises BodyTooLarge where it is longer than `maxBody`."""
        if self._body is None:
            read = self._reader()
            self._body = b"" if read is None else await read()
        return self._body


class Response:
    """A response: one that a filter answers with, or a backend's, whose head may be changed and whose body is streamed."""

    __slots__ = ("_body", "_headers", "_observers", "_status", "_transforms")
    _status: int
    _headers: Headers

    def __init__(self, status: int = 200, headers: Fields = (), body: bytes = b""):
        self.status = status
        self.headers = headers
        self.body = body
        self._observers: list[Callable[[bytes, bool], None]] = []
        self._transforms: list[Callable[[bytes, bool], bytes]] = []

    @classmethod
    def _of(cls, status: int, headers: Headers) -> Response:
        """A backend's: what it says is what it should be."""
        made = cls()
        made._status, made._headers = status, headers
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
