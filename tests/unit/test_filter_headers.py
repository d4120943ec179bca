"""Headers of filters in Python are a mapping over lines: what they answer is what a plain list of fields would."""
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwfast.filters import Headers, InvalidTypeError

NAMES = ("x", "X", "xy", "x-user", "X-User", "content-type", "Content-Type", "cookie", "x" * 40)
SINGLE = {"content-type"}
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xff, exclude_characters="\x7f" + "".join(map(chr, range(0x80, 0xa0)))), max_size=700)
CHANGES = st.lists(st.tuples(st.sampled_from(("add", "set", "delete", "setdefault", "extend", "update")), st.sampled_from(NAMES), VALUES), max_size=12)


class Listed:
    """The same, kept as a list."""

    def __init__(self):
        self.fields: list[tuple[str, str]] = []

    def named(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def change(self, what: str, name: str, value: str) -> None:
        known = self.named(name)
        if what in ("set", "update", "delete") or what in ("add", "extend") and name.lower() in SINGLE:
            self.fields = [field for field in self.fields if field[0].lower() != name.lower()]
        if what != "delete" and (what != "setdefault" or not known):
            self.fields.append((name, value))


def change(headers: Headers, what: str, name: str, value: str) -> None:
    match what:
        case "add":
            headers.add(name, value)
        case "set":
            headers[name] = value
        case "delete":
            if name in headers:
                del headers[name]
            else:
                with pytest.raises(KeyError):
                    del headers[name]
        case "setdefault":
            headers.setdefault(name, value)
        case "extend":
            headers.extend([(name, value)])
        case "update":
            headers.update({name: value})


@given(CHANGES)
def test_they_are_what_a_list_would_be(changes):
    headers, listed = Headers(), Listed()
    for each in changes:
        change(headers, *each)
        listed.change(*each)
    assert headers.items() == listed.fields and len(headers) == len(listed.fields)
    assert list(headers) == list(dict.fromkeys(name.lower() for name, _ in listed.fields))
    for name in NAMES:
        known = [value for key, value in listed.fields if key.lower() == name.lower()]
        assert headers.get_all(name) == known and headers.get(name) == (known[0] if known else None) and (name in headers) == bool(known)
    assert headers == Headers(headers) == Headers._of(headers._lines())
    assert headers._lines().decode("latin-1") == "".join(f"{name}: {value}\r\n" for name, value in listed.fields)


def test_what_is_no_name_is_nowhere():
    headers = Headers([("x", "y: z"), ("a", "")])
    for name in ("x: y", "x:", "", ":", "\xe9", "\u0142", "x\r\n"):
        assert headers.get(name) is None and name not in headers and headers.get_all(name) == []
        with pytest.raises(KeyError):
            headers[name]
    assert headers.get("b", "default") == "default" and headers["a"] == "" and None not in headers
    for name in (None, b"x", 1):
        with pytest.raises(InvalidTypeError):
            headers.get(name)
    with pytest.raises(TypeError):
        hash(headers)
    assert repr(headers) == "Headers([('x', 'y: z'), ('a', '')])" and headers != [("x", "y: z")] and headers != Headers()


def test_those_that_are_given_to_others_are_their_own():
    first = Headers({"x": "1"})
    second = Headers(first)
    second["x"] = "2"
    second.extend(second)
    second.update(second)
    for third in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert third == first
        third["x"] = "3"
    assert first.items() == [("x", "1")] and second.items() == [("x", "2"), ("x", "2")]
