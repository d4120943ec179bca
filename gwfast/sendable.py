"""What a filter in Python may set (see gwfast.filters): each function returns what it was given, or raises in the filter's line.

Rules
- What is of another type than its place wants is an InvalidTypeError; what HTTP has no place for is an InvalidValueError. A
  message says what the place is, what came, and what would be right.
- What a filter makes of a head is held to the grammar that clients are held to; the fields that frame a message are not its own.
"""
import re
from collections.abc import Iterable
from typing import Any

from gwfast.grammar import FRAMING, is_token

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5
_TARGET = re.compile(r"[\x21\x22\x24-\x7e]*")  # no white space, no '#', no control characters
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")


class InvalidTypeError(TypeError):
    """What a filter set is of another type than its place wants."""


class InvalidValueError(ValueError):
    """What a filter set, or made of a head, cannot be sent."""


def _kind(value: object) -> str:
    shown = repr(value)
    return f"{type(value).__name__}: {shown if len(shown) <= 80 else shown[:77] + '...'}"


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidTypeError(f"{what} is a str, not {_kind(value)}")
    return value


def function(what: str, value: Any) -> Any:
    """Return what can be called, or raise as `field`."""
    if not callable(value):
        raise InvalidTypeError(f"{what} is a function, not {_kind(value)}")
    return value


def field(name: object, value: object) -> tuple[str, str]:
    """Return this field; raise what a filter gets to see that may not set it."""
    name = _text("the name of a field", name)
    value = _text(f"the value of the field {name!r}", value)
    if not is_token(name):
        raise InvalidValueError(f"{name!r} is no name of a field (RFC 9110 5.1)")
    if name.lower() in FRAMING:
        raise InvalidValueError(f"a filter may not set the field {name!r}: only the gateway writes it (RFC 9110 7.6.1)")
    if not _VALUE.fullmatch(value):
        raise InvalidValueError(f"{value!r} is no value of a field ({name}): it has a character that is none of latin-1, or a "
                                "line's end, NUL or another control character (RFC 9110 5.5)")
    return name, value


def fields(given: Any) -> list[tuple[str, str]]:
    """Return a new list of these fields: pairs, a mapping, or Headers; or raise as `field`."""
    pairs = given.items() if hasattr(given, "items") else given
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise InvalidTypeError(f"fields are (name, value) pairs or a mapping, not {_kind(given)}")
    found = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidTypeError(f"a field is a (name, value) pair, not {_kind(pair)}")
        found.append(field(*pair))
    return found


def body(value: Any) -> Any:
    """Return this body, or raise as `field`."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidTypeError(f"a body is bytes, not {_kind(value)}")
    return value


def _allowed(what: str, value: object, pattern: re.Pattern[str], why: str) -> str:
    text = _text(what, value)
    if not pattern.fullmatch(text):
        raise InvalidValueError(f"{text!r} is no {what.removeprefix('a ')}{why}")
    return text


def method(value: object) -> str:
    """Return this method, or raise as `field`."""
    if not is_token(text := _text("a method", value)):
        raise InvalidValueError(f"{text!r} is no method (RFC 9110 9.1)")
    return text


def path(value: object) -> str:
    """Return this path, or raise as `field`."""
    text = _text("a path", value)
    if not _TARGET.fullmatch(text) or not text.startswith(("/", "*")):
        raise InvalidValueError(f"{text!r} is no path: it begins with '/', and what is neither visible ASCII nor allowed is "
                                "percent-encoded (RFC 3986 3.3)")
    return text


def query(value: object) -> str:
    """Return this query, or raise as `field`."""
    return _allowed("a query", value, _TARGET, ": what is neither visible ASCII nor allowed is percent-encoded (RFC 3986 3.4)")


def host(value: object) -> str:
    """Return this host, with a port or without, or raise as `field`."""
    return _allowed("a host", value, _HOST, " (RFC 9110 7.2)")


def status(value: object) -> int:
    """Return this status of an answer, or raise as `field`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(f"a status is an int, not {_kind(value)}")
    if not 200 <= value <= 599:
        raise InvalidValueError(f"{value} is no status of an answer: those are 200 to 599")
    return value


def place_of(backend: object, backends: tuple[str, ...]) -> int:
    """Return the place of a backend that a filter chose among those of its rule, or raise as `field`; -1: it chose none ('')."""
    backend = _text("a backend", backend)
    if not backend:
        return -1
    if not backends:
        raise InvalidValueError(f"backend {backend!r} cannot be chosen: it is a backendRef's filter, or its rule has none")
    for i, name in enumerate(backends):
        if backend in (name, name.partition(":")[0], name.partition("/")[2].partition(":")[0]):
            return i
    raise InvalidValueError(f"backend {backend!r} is none of the rule's: {', '.join(backends)}")
