"""Decodes a JSON value into a resource of the model, and says what is wrong where that cannot be done.

Rules:
- A valid resource is decoded in one step, from the text to the structs.
- Everything else is decoded as a Python value first. Nulls are dropped, as the API server prunes them. Unknown fields are errors,
  as in kubectl's strict validation: `backendRef` in the place of `backendRefs` would leave a rule without backends.
- All errors are found, not only the first: the field that msgspec refuses is taken out of the value, and the rest is decoded
  again, a bounded number of times.
- A message says what is allowed in the API's words; the field is a path such as 'spec.rules[0].name'.
"""
import re
from collections.abc import Iterable, Iterator, Sized
from functools import cache, lru_cache

import msgspec
from msgspec import inspect

from gwfast import limits
from gwfast.config.findings import Finding
from gwfast.config.model import ObjectMeta, Resource
from gwfast.config.scalars import WORDS


_METADATA = {field.encode_name for field in msgspec.structs.fields(ObjectMeta)} | ObjectMeta.others
_PLACE = re.compile(r"(?s)(.*?)(?: - at `(?:key in )?`?\$([^`]*)`)?")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_NAMES = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "a boolean", "object": "a mapping",
    "array": "a list", "null": "null", "datetime": "an RFC 3339 time",
}


@cache
def decoder(kind: type[Resource]) -> msgspec.json.Decoder[Resource]:
    return msgspec.json.Decoder(kind)


def decode(value: object, kind: type[Resource]) -> tuple[Resource | None, list[Finding]]:
    """Decode a JSON object of a kind; return None for the resource where a finding is an error."""
    findings: list[Finding] = []
    value = _pruned(value, _type(kind), "", findings)
    refused: list[str] = []
    gaps: dict[int, list[int]] = {}  # of each list (by identity) the original indices that were taken out
    while len(findings) < limits.PROBLEMS_PER_RESOURCE:
        try:
            resource = msgspec.convert(value, kind)
            return (None if refused else resource), findings
        except msgspec.ValidationError as error:
            explained = _explain(error, value, _type(kind))
            for path, message in explained:
                field = _original(path, value, gaps)
                if not any(f"{other}.".startswith((f"{field}.", f"{field}[")) for other in refused):
                    findings.append(Finding(field, message))
                refused.append(field)
            if not _take_out(explained[0][0], value, gaps):
                break
    return None, findings


def only_known(value: dict[str, object], kind: type[Resource]) -> bool:
    """Whether there is no unknown field where a decoder does not look: in metadata, and in Kubernetes' own kinds."""
    if not _ours(kind).isdisjoint(value):
        return False
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and not metadata.keys() <= _METADATA:
        return False
    if kind.__struct_config__.forbid_unknown_fields:
        return True
    findings: list[Finding] = []
    _pruned(value, _type(kind), "", findings)
    return not findings


@cache
def _ours(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the fields of a kind that gwfast alone writes."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name[0] == "-")


@cache
def _type(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    fields: dict[str, inspect.Type] = {
        field.encode_name: field.type for field in _structure(_type(kind)).fields if field.encode_name not in _ours(kind)}
    return fields | {"kind": inspect.StrType()} if issubclass(kind, Resource) else fields


@lru_cache(1000)
def _meant(name: str, kind: type[msgspec.Struct]) -> str:
    from difflib import get_close_matches  # rarely needed
    near = get_close_matches(name[:100], [*_fields(kind), *getattr(kind, "others", ())], 1)
    return f", did you mean {near[0]}?" if near else ""


def _alternatives(kind: inspect.Type | None) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,) if kind else ()


def _mapping(kind: inspect.Type | None) -> inspect.StructType | inspect.DictType | None:
    """Find the alternative of a type that a mapping can be."""
    return next((each for each in _alternatives(kind) if isinstance(each, (inspect.StructType, inspect.DictType))), None)


def _item(kind: inspect.Type | None) -> inspect.Type | None:
    """Find the type of the items of a list that is of this type."""
    return next((each.item_type for each in _alternatives(kind) if isinstance(each, inspect.VarTupleType)), None)


def _value(kind: inspect.StructType | inspect.DictType | None, name: str) -> inspect.Type | None:
    """Find the type of a value in a mapping of this type."""
    if isinstance(kind, inspect.StructType):
        return _fields(kind.cls).get(name)
    return kind.value_type if kind else None


def _structure(kind: inspect.Type | None) -> inspect.StructType:
    found = _mapping(kind)
    assert isinstance(found, inspect.StructType), kind
    return found


def _pruned(value: object, kind: inspect.Type | None, path: str, findings: list[Finding]) -> object:
    if isinstance(value, list):
        item = _item(kind)
        return [_pruned(child, item, f"{path}[{index}]", findings) for index, child in enumerate(value)]
    if not isinstance(value, dict):
        if isinstance(kind, inspect.BytesType) and isinstance(value, str):
            return "".join(value.split())  # base64 in Kubernetes may be wrapped
        return value
    pruned, inner = {}, _mapping(kind)
    for name, child in value.items():
        if child is None:
            continue
        at = f"{path}.{name}" if path else name
        if isinstance(inner, inspect.StructType) and name not in _fields(inner.cls):
            findings += _unknown_field(name, at, inner.cls)
        else:
            pruned[name] = _pruned(child, _value(inner, name), at, findings)
    return pruned


def _unknown_field(name: str, path: str, kind: type[msgspec.Struct]) -> Iterator[Finding]:
    others: frozenset[str] | None = getattr(kind, "others", None)
    if kind.__struct_config__.forbid_unknown_fields or others is not None and name not in others:
        yield Finding(path, f"unknown field{_meant(name, kind)}", reason="UnknownField")


def _explain(error: msgspec.ValidationError, value: object, kind: inspect.Type) -> list[tuple[str, str]]:
    """Say what an error is about: paths in the value, and words. What is missing in one mapping is said at once."""
    said = _PLACE.fullmatch(str(error))
    message, place = (said[1], said[2] or "") if said else (str(error), "")
    path = place.lstrip(".").replace("[...]", "")
    given, at = _at(path, value, kind)
    if message.startswith("Object missing required field") and isinstance(given, dict):
        missing = [field.encode_name for field in _structure(at).fields if field.required and field.encode_name not in given]
        return [(f"{path}.{name}" if path else name, "is required") for name in missing]
    if place.endswith("[...]") and isinstance(given, dict):  # a mapping of strings: msgspec does not say which
        path += next((f".{name}" for name, each in given.items() if not isinstance(each, str)), "")
        given, at = _at(path, value, kind)
    return [(path, _words(message, given, at))]


def _at(path: str, value: object, kind: inspect.Type | None) -> tuple[object, inspect.Type | None]:
    """Find the value at a path and the type that it should have."""
    for container, step in _steps(path, value):
        kind = _item(kind) if isinstance(container, list) else _value(_mapping(kind), str(step))
        value = _child(container, step)
    return value, kind


def _words(message: str, given: object, kind: inspect.Type | None) -> str:
    shown = repr(given) if len(repr(given)) < 80 else repr(given)[:77] + "..."
    if match := re.fullmatch(r"Expected `([^`]*)`, got `(\w+)`", message):
        wanted = " or ".join(_NAMES.get(name, name) for name in match[1].split(" | ") if name != "null")
        quote = "; quote it" if match[1].startswith("str") and isinstance(given, (bool, int, float)) else ""
        return f"must be {wanted}, not {_NAMES.get(match[2], match[2])}{quote}"
    if message.startswith("Invalid enum value"):
        allowed = [value for each in _alternatives(kind) if isinstance(each, inspect.LiteralType) for value in each.values]
        return f"{shown} is not allowed, must be one of {', '.join(map(str, allowed))}"
    if match := re.fullmatch(r"(?s)Expected `str` matching regex (.*)", message):
        pattern = next((pattern for pattern in WORDS if repr(pattern) == match[1]), None)
        return f"{shown} is not allowed, must be {WORDS[pattern] if pattern else match[1]}"
    if match := re.fullmatch(r"Expected `(\w+)` of length (>=|<=) (\d+)", message):
        unit = {"str": "characters", "array": "items", "object": "entries"}.get(match[1], "bytes")
        has = len(given) if isinstance(given, Sized) else 0
        return f"must have at {'least' if match[2] == '>=' else 'most'} {match[3]} {unit}, has {has}"
    if match := re.fullmatch(r"Expected `\w+` (>=|<=) (\d+)(?:\.0)?", message):
        return f"{shown} is not allowed, must be at {'least' if match[1] == '>=' else 'most'} {match[2]}"
    return message[0].lower() + message[1:].replace("`", "")


def _steps(path: str, value: object) -> Iterator[tuple[dict[str, object] | list[object], str | int]]:
    """Yield each container on the way along a path, as far as there is one, and the step taken from it."""
    for name, index in _STEP.findall(path):
        step = name or int(index)
        if not isinstance(value, (dict, list)) or (isinstance(value, dict) and step not in value):
            return
        yield value, step
        value = _child(value, step)


def _child(container: dict[str, object] | list[object], step: str | int) -> object:
    return container[int(step)] if isinstance(container, list) else container[str(step)]


def _written(index: int, gaps: Iterable[int]) -> int:
    """Give an index in a list from which items were taken out as the index in the list as it was written."""
    for gap in sorted(gaps):
        index += gap <= index
    return index


def _original(path: str, value: object, gaps: dict[int, list[int]]) -> str:
    """Give a path in a value from which list items were taken out as the path in the value as it was written."""
    written = iter([_written(int(step), gaps.get(id(container), ())) for container, step in _steps(path, value)
                    if isinstance(container, list)])
    return re.sub(r"\[\d+\]", lambda match: f"[{next(written, match[0][1:-1])}]", path)


def _take_out(path: str, value: object, gaps: dict[int, list[int]]) -> bool:
    """Remove the deepest part of a path that is there, so that the rest can be looked at; False at the root."""
    steps = list(_steps(path, value))
    if not steps:
        return False
    container, step = steps[-1]
    if isinstance(container, list):
        taken = gaps.setdefault(id(container), [])
        taken.append(_written(int(step), taken))
        del container[int(step)]
    else:
        del container[str(step)]
    return True
