r"""nginx's own words in annotations: what is recognised becomes a filter, every line of the rest is shown.

    text ──> statements (words, line, whether it opens a block) ──> Said for each

Rules:
- A statement is recognised whole or not at all. One with a variable in it is not: gwfast has none.
- Inside a block (`if`, `location`) nothing is recognised: what it does depends on what the block says.
- Only configuration-snippet and server-snippet are about requests; of the others every line is lost.
"""
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gwfast.config.scalars import FIELD_NAME, FIELD_VALUE
from gwfast.ingress.annotations.table import Asked, Said, converted, lost, not_needed, reduced

SNIPPETS = ("configuration-snippet", "server-snippet", "auth-snippet", "stream-snippet", "modsecurity-snippet")
_TOKEN = re.compile(r"""\s+|\#[^\n]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[;{}]|(?:[^\s;{}"'\\]|\\.|\$\{[^}]*\})+|.""", re.S)


class Statement(NamedTuple):
    """One directive: its words without quotes, the line it begins on (from 0), how deep it stands, and its text."""

    words: tuple[str, ...]
    line: int
    depth: int
    text: str


def statements(text: str) -> Iterator[Statement]:
    """Yield the directives of a snippet in order; a block is one, and so is each directive in it."""
    words: list[str] = []
    begun, depth, line, start = 0, 0, 0, 0
    for token in _TOKEN.finditer(text):
        found = token[0]
        if found in (";", "{", "}"):
            if words:
                yield Statement(tuple(words), begun, depth, " ".join(text[start:token.end()].split()))
                words = []
            depth += {"{": 1, "}": -1}.get(found, 0)
        elif not found.isspace() and found[0] != "#":
            if not words:
                begun, start = line, token.start()
            words.append(_unquoted(found))
        line += found.count("\n")
    if words:
        yield Statement(tuple(words), begun, depth, " ".join(text[start:].split()))


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def snippet(asked: Asked, name: str, text: str) -> Said:
    """Convert a snippet; what is said of it is the worst that is said of its lines."""
    worst = not_needed("it has no directives")
    for each in statements(text):
        said = lost("no filter says this") if each.depth or name not in SNIPPETS[:2] else _one(asked, each)
        asked.snippet_lines.append((name, each.line, each.text, said))
        if said.outcome.rank > worst.outcome.rank:
            worst = said
    count = sum(one[0] == name for one in asked.snippet_lines)
    return Said(worst.outcome, f"{count} directive{'' if count == 1 else 's'}, each below" if count else worst.words)


def _one(asked: Asked, each: Statement) -> Said:
    handler = _KNOWN.get(each.words[0])
    if handler is None or "{" in each.text:
        return lost("no filter says this")
    if any("$" in word for word in each.words[1:]):
        return lost("gwfast has no variables")
    return handler(asked, each.words)


def _add_header(asked: Asked, words: tuple[str, ...]) -> Said:
    if len(words) not in (3, 4) or words[3:] not in ((), ("always",)) or not _field(words[1], words[2]):
        return lost("it is not a field with a value")
    asked.response_headers[words[1]] = words[2]
    return converted("ResponseHeaderModifier")


def _more_set_headers(asked: Asked, words: tuple[str, ...]) -> Said:
    pairs = [tuple(map(str.strip, word.partition(":")[::2])) for word in words[1:]]
    if not pairs or any(word.startswith("-") for word in words[1:]):
        return lost("for some statuses or types alone no filter changes fields")
    if any(value and not _field(name, value) for name, value in pairs):
        return lost("it is not a field with a value")
    for name, value in pairs:
        if value:
            asked.response_headers[name] = value
        else:
            asked.response_removed.append(name)
    return converted("ResponseHeaderModifier")


def _more_clear_headers(asked: Asked, words: tuple[str, ...]) -> Said:
    if len(words) < 2 or not all(re.match(FIELD_NAME, word) and "*" not in word for word in words[1:]):
        return lost("only whole names of fields can be removed")
    asked.response_removed += [word.rstrip(":") for word in words[1:]]
    return converted("ResponseHeaderModifier")


def _hide(asked: Asked, words: tuple[str, ...]) -> Said:
    return _more_clear_headers(asked, words)


def _set_header(asked: Asked, words: tuple[str, ...]) -> Said:
    if len(words) != 3 or not re.match(FIELD_NAME, words[1]):
        return lost("it is not a field with a value")
    return _request_field(asked, words[1], words[2])


def _more_set_input(asked: Asked, words: tuple[str, ...]) -> Said:
    pairs = [tuple(map(str.strip, word.partition(":")[::2])) for word in words[1:]]
    if not pairs or any(word.startswith("-") for word in words[1:]):
        return lost("for some types alone no filter changes fields")
    said = [_request_field(asked, name, value) for name, value in pairs]
    return max(said, key=lambda one: one.outcome.rank)


def _request_field(asked: Asked, name: str, value: str) -> Said:
    if name.lower() == "host":
        return lost("the Host is upstream-vhost's")
    if not re.match(FIELD_NAME, name) or value and not _field(name, value):
        return lost("it is not a field with a value")
    if value:
        asked.request_headers[name] = value
    else:
        asked.request_removed.append(name)
    return converted("RequestHeaderModifier")


def _field(name: str, value: str) -> bool:
    return bool(re.match(FIELD_NAME, name) and re.match(FIELD_VALUE, value) and len(value) <= 4096)


_KNOWN: dict[str, Callable[[Asked, tuple[str, ...]], Said]] = {
    "add_header": _add_header,
    "more_set_headers": _more_set_headers,
    "more_clear_headers": _more_clear_headers,
    "proxy_hide_header": _hide,
    "proxy_set_header": _set_header,
    "more_set_input_headers": _more_set_input,
    **dict.fromkeys(
        (
            "proxy_buffer_size",
            "proxy_buffers",
            "proxy_busy_buffers_size",
            "proxy_buffering",
            "client_body_buffer_size",
            "proxy_max_temp_file_size",
            "client_header_buffer_size",
            "large_client_header_buffers",
        ),
        lambda asked, words: not_needed("gwfast streams; a head has 32 KiB"),
    ),
    "client_max_body_size": lambda asked, words: reduced("gwfast has no limit of a request's body yet"),
    "proxy_ssl_server_name": lambda asked, words: not_needed("SNI is always sent"),
    "proxy_http_version": lambda asked, words: not_needed("backends are spoken to in HTTP/1.1"),
    **dict.fromkeys(
        ("proxy_read_timeout", "proxy_send_timeout", "proxy_connect_timeout"),
        lambda asked, words: reduced(
            "times are of all: gwfast run --response-timeout, --stream-idle-timeout, --connect-timeout"
        ),
    ),
}
