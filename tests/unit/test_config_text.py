"""Text into documents and values, as Kubernetes reads them; hostile text ends in a TextError, quickly."""
import json

import pytest
import yaml

from gwfast import limits
from gwfast.config.composer import build, compose, find_line
from gwfast.config.text import TextError, documents, is_empty, json_value, json_values


def value(text: str | bytes) -> object:
    data = text.encode() if isinstance(text, str) else text
    return build(compose(data), len(data))


SPLITS = {
    "one": ("a: 1\n", [(1, "a: 1")]),
    "two": ("a: 1\n---\nb: 2\n", [(1, "a: 1"), (3, "b: 2")]),
    "marker first": ("---\na: 1\n---\nb: 2\n", [(2, "a: 1"), (4, "b: 2")]),
    "content beside the marker": ("--- {a: 1}\n--- # c\nb: 2\n", [(1, "{a: 1}"), (2, "# c\nb: 2")]),
    "empty and comments": ("# x\n\n---\n---\n# y\n---\na: 1\n", [(7, "a: 1")]),
    "end marker": ("a: 1\n...\nb: 2\n...\n", [(1, "a: 1"), (3, "b: 2")]),
    "directive": ("%YAML 1.1\n---\na: 1\n...\n%YAML 1.1\n---\nb: 2\n", [(3, "a: 1"), (7, "b: 2")]),
    "four dashes are text": ("a: |\n  x\n----\n---\nb: 2\n", [(1, "a: |\n  x\n----"), (5, "b: 2")]),
    "dashes inside a line": ("a: x---\n---\nb: ---y\n", [(1, "a: x---"), (3, "b: ---y")]),
    "windows lines": ("a: 1\r\n---\r\nb: 2\r\n", [(1, "a: 1"), (3, "b: 2")]),
    "no last newline": ("a: 1\n---", [(1, "a: 1")]),
    "json lines": ('{"a":1}\n\n{"a":2}\n', [(1, '{"a":1}'), (3, '{"a":2}')]),
    "one json over lines": ('{\n"a":1\n}\n', [(1, '{\n"a":1\n}')]),
    "json with markers": ('{"a":1}\n---\n{"b":1}', [(1, '{"a":1}'), (3, '{"b":1}')]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("text, expected", SPLITS.values(), ids=SPLITS)
def test_documents(text, expected):
    found = []
    for line, part in documents(text.encode()):
        if not is_empty(part):
            lead = len(part) - len(part.lstrip())
            found.append((line + part.count(b"\n", 0, lead), part.strip().decode()))
    assert found == expected


def test_documents_agree_with_yaml():
    markers = ["---", "--- # c", "...\n---"] * 5
    text = "\n".join(f"{marker}\nk{n}: v\nlist:\n- ---x\n" for n, marker in enumerate(markers))
    mine = [value(part) for _, part in documents(text.encode()) if not is_empty(part)]
    assert mine == list(yaml.load_all(text, yaml.CSafeLoader))


SCALARS = {
    "true": True, "on": True, "Yes": True, "y": True, "FALSE": False, "off": False, "n": False,
    "~": None, "null": None, "": None,
    "0": 0, "80": 80, "-1": -1, "+1": 1, "0x1F": 31, "0o17": 15, "017": 15, "0b11": 3, "1_000": 1000,
    "089": 89, "1.5": 1.5, "1e3": 1000, ".5": 0.5, "1e400": "1e400", "9" * 500: "9" * 500,
    "1:30": "1:30", "2024-01-01": "2024-01-01", "2024-01-01T00:00:00Z": "2024-01-01T00:00:00Z",
    ".inf": ".inf", ".nan": ".nan", "1.2.3.4": "1.2.3.4", "a": "a", "oN": "oN", "'on'": "on", '"80"': "80",
    "!!str 80": "80", "!!int '80'": 80, "!!float 1": 1, "!!bool 'yes'": True, "!!null ''": None, "!!binary aGk=": "hi",
    "!!timestamp 2024-01-01": "2024-01-01",
}


@pytest.mark.parametrize("text, expected", SCALARS.items(), ids=[text[:24] or "empty" for text in SCALARS])
def test_scalar(text, expected):
    found = value(f"a: {text}\n")["a"]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("text, expected", [
    ("on: 1", {"true": 1}), ("80: 1", {"80": 1}), ("'on': 1", {"on": 1}), ("1.5: 1", {"1.5": 1}),
    ("0x10: 1", {"16": 1}),
    ("? a\n: 1", {"a": 1}), ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
    ("x: &x {a: 1, b: 2}\nz: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "z": {"a": 1, "b": 3}}),
    ("z: {<<: [{a: 1}, {a: 2, b: 2}], c: 3}", {"z": {"a": 1, "b": 2, "c": 3}}), ("'<<': 1", {"<<": 1}),
    ("a: [1, [2, {b: 3}]]", {"a": [1, [2, {"b": 3}]]}), ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
])
def test_mapping(text, expected):
    assert value(text) == expected


BOMB = "a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "duplicate key": ("a: 1\nb:\n  c: 1\n  c: 2\n", "key 'c' is there twice", 3),
    "duplicate after conversion": ("'1': a\n1: b\n", "key '1' is there twice", 1),
    "billion laughs": (BOMB, "aliases expand to too much", None),
    "alias to itself": ("a: 1\nb: &x [*x]\n", "aliases expand to too much", None),
    "alias to its mapping": ("a: &x\n  b: *x\n", "aliases expand to too much", None),
    "merge bomb": ("a: &a {x: 1}\n" + "".join(
        f"{b}: &{b} {{<<: [{','.join(['*' + a] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "aliases expand to too much", None),
    "deep flow": ("[" * 100_000, "nested deeper than 100 levels", 0),
    "deep block": ("\n".join(" " * n + "a:" for n in range(2000)), "nested deeper than 100 levels", None),
    "deep sequence": ("- " * 50_000, "nested deeper than 100 levels", 0),
    "deep through aliases": ("".join(
        f"k{n}: &a{n} {'[' * 60}{f'*a{n - 1}' if n else 1}{']' * 60}\n" for n in range(40)),
        "aliases expand to too much", None),
    "undefined alias": ("a: 1\nb: *x\n", "found undefined alias", 1),
    "unknown tag": ("a: 1\nb: !foo 1\n", "tag !foo is not allowed", 1),
    "python tag": ("a: !!python/object/apply:os.system [x]\n", "is not allowed", 0),
    "wrong tag": ("a: !!int x\n", "'x' is no int", 0),
    "not base64": ("a: !!binary '*'\n", "!!binary is not base64", 0),
    "null key": ("a: 1\n~: 1\n", "cannot be null", 1),
    "list as key": ("? [a]\n: 1\n", "a mapping's key must be a string", 0),
    "merge of a scalar": ("<<: 1\n", "'<<' merges mappings only", 0),
    "tab": ("a:\n\t- b\n", "cannot start any token", 1),
    "unclosed": ("a: [1\nb: 2\n", "expected", None),
    "control character": ("a: \x01\n", "control characters are not allowed", 0),
    "not UTF-8": (b"a: 1\nb: \xff\n", "UTF-8", 1),
}


@pytest.mark.parametrize("text, message, line", REFUSED.values(), ids=REFUSED)
def test_refused(text, message, line):
    with pytest.raises(TextError) as error:
        value(text)
    assert message in str(error.value)
    assert line is None or error.value.line == line


def test_aliases_are_allowed_up_to_a_bound():
    each = limits.ALIAS_NODES // 10
    text = f"a: &a [{', '.join(['1'] * each)}]\nb: [{', '.join(['*a'] * 9)}]\n"
    assert [len(part) for part in value(text)["b"]] == [each] * 9


JSON = {
    "one": ('{"a":1}', [(0, {"a": 1})]),
    "space around": (' {"a":1} \n', [(0, {"a": 1})]),
    "two on a line": ('{"a":1} {"b":2}', [(0, {"a": 1}), (0, {"b": 2})]),
    "pretty printed": ('{\n "a":1\n}\n{\n "b": 2\n}\n', [(0, {"a": 1}), (3, {"b": 2})]),
    "escapes": ('{"a":"\\u00e9\\n\\ud83d\\ude00","b":1e5,"c":1.50}', [(0, {"a": "é\n😀", "b": 1e5, "c": 1.5})]),
}


@pytest.mark.parametrize("text, expected", JSON.values(), ids=JSON)
def test_json(text, expected):
    assert [(line, json_value(raw)) for line, raw in json_values(text.encode())] == expected


@pytest.mark.parametrize("text, message, line", [
    ('{"a":1,"a":1}', "key 'a' is there twice", 0),
    ('{"a":{"b":[{"c":1,"c":{"d":"\\u00e9"}}]}}', "key 'c' is there twice", 0),
    ('{"a":1}\n{"b":}', "malformed JSON", 1),
    ('{"a":', "malformed JSON", 0),
    (b'{"a":"\xff"}', "not UTF-8", 0),
    ("[" * 100_000, "malformed JSON", 0),
    ("[" * 100_000 + "]" * 100_000, "malformed JSON", 0),
])
def test_json_refused(text, message, line):
    with pytest.raises(TextError) as error:
        for _, raw in json_values(text.encode() if isinstance(text, str) else text):
            json_value(raw)
    assert message in str(error.value) and error.value.line == line


TREE = """\
kind: X
metadata: {name: a,
  labels: {b: c}}
spec:
  rules:
  - name: x
    matches:
    - path: 1
    -
      path:
        value: /
  hosts: [a,
    b]
"""


@pytest.mark.parametrize("path, line", [
    ("", 1), ("kind", 1), ("metadata", 2), ("metadata.labels", 3), ("metadata.labels.b", 3), ("spec", 4),
    ("spec.rules", 5), ("spec.rules[0]", 6), ("spec.rules[0].name", 6), ("spec.rules[0].matches[0].path", 8),
    ("spec.rules[0].matches[1].path.value", 11), ("spec.hosts[0]", 12), ("spec.hosts[1]", 13),
    ("spec.rules[0].matches[1].absent.more", 10), ("spec.rules[7].name", 5), ("absent", 1),
])
def test_line_of_a_field_or_its_nearest_ancestor(path, line):
    assert find_line(compose(TREE.encode()), path) + 1 == line


def test_json_positions_are_found_as_in_yaml():
    text = json.dumps({"a": [{"b": 1}, {"c": 2}]}, indent=1).encode()
    assert text.split(b"\n")[find_line(compose(text), "a[1].c")].strip() == b'"c": 2'
