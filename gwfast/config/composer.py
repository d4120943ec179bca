"""YAML: a document becomes a JSON value, and the path of a field becomes a line.

A node of PyYAML's composer is kept for as long as lines may be asked for; `build` makes the value of it. A process that reads no
YAML, such as a data plane, never imports this module, nor the parser.

Rules:
- YAML is read as Kubernetes reads it (sigs.k8s.io/yaml): YAML 1.1 scalars become JSON values, `on` and `yes` are
  booleans, timestamps stay strings, keys become strings; then the JSON is decoded by type, and only there.
- The rules of `text` hold here.
"""
import base64
import binascii
import json
import re
from collections.abc import Callable

import yaml

from gwfast import limits
from gwfast.config.text import TextError
from gwfast.errors import UsageError

try:
    from yaml._yaml import CParser
except ImportError:
    raise UsageError("PyYAML has no libyaml: install a wheel of pyyaml, or libyaml-dev and rebuild it") from None

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

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

    def descend_resolver(self, node: yaml.Node, index: object) -> None:
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
        value: dict[str, object] = {}
        merged: dict[str, object] = {}
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
        merged: dict[str, object] = {}
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
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
    if tag not in types:
        raise TextError(f"tag {node.tag} is not allowed", node.start_mark.line)
    if not isinstance(value, types[tag]) or (tag != "bool" and isinstance(value, bool)):
        raise TextError(f"{node.value!r} is no {tag}", node.start_mark.line)
    return value


def build(node: yaml.Node, size: int) -> object:
    """Build the JSON value of a composed document of `size` bytes; raise TextError."""
    return _Builder(size).value(node)


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
