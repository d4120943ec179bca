"""Text into documents, documents into JSON values, fields into lines.

Rules:
- YAML is read as Kubernetes reads it (sigs.k8s.io/yaml): YAML 1.1 scalars become JSON values, `on` and `yes` are
  booleans, timestamps stay strings, keys become strings; then the JSON is decoded by type, and only there.
- A mapping with the same key twice is an error, in YAML and in JSON.
- Nothing here depends on how deep or how often a document refers to itself: depth and the nodes that aliases add
  are bounded, and nothing recurses before its depth was checked.
- A TextError's line counts from 0 at the start of the text given.
"""
import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator

import msgspec
import yaml

from gwfast import limits
from gwfast.errors import UsageError

try:
    from yaml._yaml import CParser
except ImportError:
    raise UsageError("PyYAML has no libyaml: install a wheel of pyyaml, or libyaml-dev and rebuild it") from None

_END = re.compile(rb"^\.\.\.(?=\s|\Z)", re.MULTILINE)
_EMPTY = re.compile(rb"(?:\s|[#%][^\n]*)*")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


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


# ---- YAML into values

_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
for _true, _false in (("y", "n"), ("yes", "no"), ("on", "off"), ("true", "false")):
    for _form in (str.lower, str.title, str.upper):
        _WORDS[_form(_true)], _WORDS[_form(_false)] = True, False
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"


def _plain(text: str) -> object:
    """Resolve a plain scalar. A float without a fraction becomes an integer, as it does on its way through Go."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-." or len(text) > limits.NUMBER_DIGITS:
        return text
    digits = text.replace("_", "")
    if match := _INTEGER.fullmatch(digits):
        sign, *forms = match.groups()
        number, base = next((form, base) for form, base in zip(forms, (16, 8, 2, 10), strict=True) if form)
        return int(sign + number, base)
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        if number - number == 0:  # finite
            return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return text


def _key(text: str) -> str | None:
    value = _plain(text)
    return value if value is None or isinstance(value, str) else json.dumps(value)


class _Cache(dict):
    """Results of a function of one string: the same few hundred words fill most configurations."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[str], object]) -> None:
        self.function = function

    def __missing__(self, text: str) -> object:
        value = self.function(text)
        if len(self) < 10_000 and len(text) < 64:
            self[text] = value
        return value


_scalars, _keys = _Cache(_plain), _Cache(_key)


class _Composer(CParser):
    """Compose nodes without resolving tags: they are resolved once, and cached, where values are built."""

    def __init__(self, text: bytes) -> None:
        self.depth = 0
        CParser.__init__(self, text)

    def resolve(self, kind: type, value: object, implicit: object) -> None:
        return None

    def descend_resolver(self, node: object, index: object) -> None:
        self.depth += 1
        if self.depth > limits.DOCUMENT_DEPTH:
            raise TextError(f"nested deeper than {limits.DOCUMENT_DEPTH} levels", node.start_mark.line)

    def ascend_resolver(self) -> None:
        self.depth -= 1


def compose(text: bytes) -> yaml.Node | None:
    """Compose the one YAML document in text; raise TextError."""
    try:
        return _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise TextError(message, mark.line if mark else 0) from None
    except yaml.reader.ReaderError as error:
        raise TextError(f"{error.reason} at byte {error.position}", text.count(b"\n", 0, error.position)) from None
    except UnicodeDecodeError as error:
        raise TextError("not UTF-8", text.count(b"\n", 0, error.start)) from None


class _Builder:
    """Build the JSON value of a node. Aliases may add ALIAS_NODES nodes to those that the text spells out."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size + limits.ALIAS_NODES

    def value(self, node: yaml.Node, depth: int = 0) -> object:
        if type(node) is yaml.ScalarNode:
            return _tagged(node) if node.tag else node.value if node.style else _scalars[node.value]
        self.left -= len(node.value)
        if self.left < 0 or depth > limits.DOCUMENT_DEPTH:
            raise TextError("aliases expand to too much", node.start_mark.line)
        if node.tag and node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise TextError(f"tag {node.tag} is not allowed", node.start_mark.line)
        if type(node) is yaml.SequenceNode:
            return [self.value(child, depth + 1) for child in node.value]
        return self.mapping(node, depth)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, object]:
        value, merged = {}, {}
        for name, child in node.value:
            if type(name) is not yaml.ScalarNode:
                raise TextError("a mapping's key must be a string", name.start_mark.line)
            key = name.value if name.style or name.tag else _keys[name.value]
            if key is None:
                raise TextError("a mapping's key cannot be null", name.start_mark.line)
            if key == "<<" and not name.style:
                merged = {**self.merge(child, depth), **merged}
            elif key in value:
                raise TextError(f"key {key!r} is there twice", name.start_mark.line)
            elif type(child) is yaml.ScalarNode and not child.tag:
                value[key] = child.value if child.style else _scalars[child.value]
            else:
                value[key] = self.value(child, depth + 1)
        return {**merged, **value} if merged else value

    def merge(self, node: yaml.Node, depth: int) -> dict[str, object]:
        value = self.value(node, depth + 1)
        merged = {}
        for mapping in reversed(value if isinstance(value, list) else [value]):
            if not isinstance(mapping, dict):
                raise TextError("'<<' merges mappings only", node.start_mark.line)
            merged.update(mapping)
        return merged


def _tagged(node: yaml.ScalarNode) -> object:
    tag = node.tag.removeprefix(_TAG)
    value = None if tag == "str" else _scalars[node.value]
    if tag in ("str", "timestamp"):
        return node.value
    if tag == "binary":
        try:
            return base64.b64decode("".join(node.value.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise TextError("!!binary is not base64 of text", node.start_mark.line) from None
    types = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    if tag not in types:
        raise TextError(f"tag {node.tag} is not allowed", node.start_mark.line)
    if not isinstance(value, types[tag]) or (tag != "bool" and isinstance(value, bool)):
        raise TextError(f"{node.value!r} is no {tag}", node.start_mark.line)
    return value


def build(node: yaml.Node, size: int) -> object:
    """Build the JSON value of a composed document of `size` bytes; raise TextError."""
    return _Builder(size).value(node)


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
    while (start := space.match(text, start).end()) < len(text):
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

    Lengths are compared first: decoding drops duplicates, so what is encoded again is shorter than the compact text.
    """
    try:
        value = msgspec.json.decode(text)
        if len(msgspec.json.encode(value)) != len(msgspec.json.format(text, indent=-1)):
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


# ---- Fields into lines


def find_line(node: yaml.Node | None, path: str) -> int:
    """Return the line (from 0) of the field at a path such as 'spec.rules[0].name', or of its nearest ancestor."""
    line = node.start_mark.line if node else 0
    for name, index in _STEP.findall(path):
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, child) for key, child in node.value if key.value == name), None)
            if not pair:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line
        else:
            break
    return line
