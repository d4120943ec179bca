"""Splits text into documents, and decodes JSON documents into values. YAML documents are decoded by `composer`.

Rules:
- A mapping with the same key twice is an error, in YAML and in JSON.
- The depth of a document, and the number of nodes that aliases add, are bounded: no document exhausts the stack or the memory.
- A TextError's line counts from 0 at the start of the text given.
"""
import json
import re
from collections.abc import Iterator

import msgspec

_END = re.compile(rb"^\.\.\.(?=\s|\Z)", re.MULTILINE)
_EMPTY = re.compile(rb"(?:\s|[#%][^\n]*)*")


class TextError(Exception):
    """Text that is no document; `line` counts from 0."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


# ---- Text into documents


def documents(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (line, text) of each document; line counts from 1 and is where the text starts; some may be empty.

    `---` and `...` at the start of a line end a document wherever they stand, even inside a scalar (YAML 1.1,
    section 9.1). Of several JSON objects, each on a line of its own, every line is a document.
    """
    if data.lstrip()[:1] == b"{":
        rows = data.split(b"\n")
        if len(rows) > 1 and all(not row or (row[0] == 123 and row[-1] == 125) for row in map(bytes.strip, rows)):
            yield from ((line, row) for line, row in enumerate(rows, 1) if row.strip())
            return
    if b"\n..." in data or data.startswith(b"..."):
        data = _END.sub(b"---", data)
    first, *others = (b"\n" + data).split(b"\n---")
    line, parts = 0, [first]
    for part in others:
        if part[:1].strip():  # '----' is no marker
            parts.append(part)
            continue
        document = b"\n---".join(parts)
        yield line, document
        line += document.count(b"\n") + 1
        parts = [part]
    yield line, b"\n---".join(parts)


def is_empty(text: bytes) -> bool:
    """Return whether a document holds nothing but space, comments and directives."""
    return _EMPTY.fullmatch(text) is not None


# ---- JSON


def json_values(text: bytes) -> list[tuple[int, bytes]]:
    """Return (line, text) of each JSON value in text, line from 0; raise TextError for what is not JSON."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
        return [(0, text)]
    except (msgspec.DecodeError, RecursionError):
        return list(_concatenated(text))


def _concatenated(data: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        text, start = data.decode(), 0
    except UnicodeDecodeError as error:
        raise TextError("not UTF-8", data.count(b"\n", 0, error.start)) from None
    decoder, space = json.JSONDecoder(), re.compile(r"[ \t\r\n]*")
    while (start := space.match(text, start).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "pos", start)
            message = f"malformed JSON: {getattr(error, 'msg', 'nested too deep')}"
            raise TextError(message, text.count("\n", 0, at)) from None
        yield text.count("\n", 0, start), text[start:end].encode()
        start = end


def json_value(text: bytes) -> object:
    """Decode one JSON value in which no key may stand twice; raise TextError.

    Lengths are compared first: decoding drops duplicates, so what is encoded again is shorter than the compact text. A text that
    is compact already is not made so once more.
    """
    try:
        value = msgspec.json.decode(text)
        length = len(msgspec.json.encode(value))
        if length != len(text) and length != len(msgspec.json.format(text, indent=-1)):
            json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise TextError("not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise TextError(f"malformed JSON: {error}") from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise TextError(f"key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return value
