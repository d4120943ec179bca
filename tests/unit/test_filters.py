"""What a filter in Python sets is refused where it is set, or is what can be sent."""
import traceback
from collections.abc import Callable

import pytest

from gwfast.filters import Headers, Request, Response

BACKENDS = ("default/one:80", "default/two:8080")


def request() -> Request:
    return Request("GET", "/a", "b=c", "a.example", [("x", "1")], backends=BACKENDS)


def assign(name: str, value) -> Callable:
    return lambda: setattr(request(), name, value)


def respond(name: str, value) -> Callable:
    return lambda: setattr(Response(), name, value)


# Each way in which a field gets in, given (name, value).
WAYS = {
    "[]": lambda name, value: request().headers.__setitem__(name, value),
    "add": lambda name, value: request().headers.add(name, value),
    "setdefault": lambda name, value: request().headers.setdefault(name, value),
    "update with a mapping": lambda name, value: request().headers.update({name: value}),
    "update with pairs": lambda name, value: request().headers.update([("y", "1"), (name, value)]),
    "extend": lambda name, value: request().headers.extend([(name, value)]),
    "Headers": lambda name, value: Headers([(name, value)]),
    "Headers of a mapping": lambda name, value: Headers({name: value}),
    "Request": lambda name, value: Request("GET", "/", headers=[(name, value)]),
    "Response": lambda name, value: Response(200, [(name, value)]),
    "Response of a mapping": lambda name, value: Response(200, {name: value}),
    "headers of a request": lambda name, value: setattr(request(), "headers", [(name, value)]),
    "headers of a response": lambda name, value: setattr(Response(), "headers", {name: value}),
}
FIELDS = [
    ("x", 1, TypeError), ("x", None, TypeError), ("x", b"1", TypeError), ("x", 1.5, TypeError), ("x", ("1",), TypeError), ("x", True, TypeError),
    (b"x", "1", TypeError), (None, "1", TypeError), (1, "1", TypeError),
    ("x", "1\r\ny: 2", ValueError), ("x", "1\n", ValueError), ("x", "1\r", ValueError), ("x", "\0", ValueError), ("x", "\x7f", ValueError),
    ("x", "\u0142", ValueError), ("", "1", ValueError), ("x y", "1", ValueError), ("x:", "1", ValueError), ("x\r\n", "1", ValueError),
    ("\xe9", "1", ValueError), (":path", "1", ValueError),
    ("content-length", "5", ValueError), ("Transfer-Encoding", "chunked", ValueError), ("HOST", "a", ValueError), ("connection", "x", ValueError),
    ("te", "trailers", ValueError), ("upgrade", "h2c", ValueError),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "value", "error"), FIELDS, ids=lambda each: repr(each) if not isinstance(each, type) else "")
def test_a_field_that_cannot_be_sent_is_refused_whichever_way_it_comes(way, name, value, error):
    with pytest.raises(error) as refused:
        WAYS[way](name, value)
    assert repr(name) in str(refused.value) or repr(value) in str(refused.value)


REFUSED = {
    **{f"method {value!r}": (assign("method", value), error) for value, error in (
        (None, TypeError), (b"GET", TypeError), (1, TypeError), ("", ValueError), ("G T", ValueError), ("GET\r\n", ValueError),
        ("HEAD", ValueError))},
    **{f"path {value!r}": (assign("path", value), error) for value, error in (
        (None, TypeError), (b"/", TypeError), (["/"], TypeError), ("", ValueError), ("a", ValueError), ("/a b", ValueError), ("/a#b", ValueError),
        ("/a\r\n", ValueError), ("/\0", ValueError), ("/\xe9", ValueError), ("http://a/", ValueError))},
    **{f"query {value!r}": (assign("query", value), error) for value, error in (
        (None, TypeError), (b"a=b", TypeError), ({"a": "b"}, TypeError), ("a b", ValueError), ("a\n", ValueError), ("\u0142", ValueError))},
    **{f"host {value!r}": (assign("host", value), error) for value, error in (
        (None, TypeError), (b"a", TypeError), (80, TypeError), ("a b", ValueError), ("a/b", ValueError), ("a\r\nx: y", ValueError),
        ("u@a", ValueError))},
    **{f"backend {value!r}": (assign("backend", value), error) for value, error in (
        (None, TypeError), (b"one", TypeError), (1, TypeError), ("three", ValueError), ("other/one", ValueError), ("default/one:81", ValueError))},
    **{f"body {value!r}": (lambda value=value: request().replace_body(value), TypeError) for value in ("a", None, 5, ["a"])},
    **{f"headers {value!r}": (assign("headers", value), TypeError) for value in (None, "x: 1", b"x", 1, [("x",)], ["xy"], [None], {"x"})},
    **{f"status {value!r}": (respond("status", value), error) for value, error in (
        ("200", TypeError), (None, TypeError), (200.0, TypeError), (True, TypeError), (99, ValueError), (101, ValueError), (600, ValueError))},
    **{f"body of a response {value!r}": (respond("body", value), TypeError) for value in ("a", None, 5, {"a": 1}, [1])},
    "headers of a response": (respond("headers", None), TypeError),
    "a Response of a status that is none": (lambda: Response("200"), TypeError),
    "a Response of a body that is none": (lambda: Response(200, [], "text"), TypeError),
    "a Request of a path that is none": (lambda: Request("GET", None), TypeError),
    "a Request of a method that is none": (lambda: Request("", "/"), ValueError),
    "an observer": (lambda: Response().observe(None), TypeError),
    "a transform": (lambda: Response().transform(b""), TypeError),
    "a backend where there are none": (lambda: setattr(Request("GET", "/"), "backend", "one"), ValueError),
    "GET of a HEAD": (lambda: setattr(Request("HEAD", "/"), "method", "GET"), ValueError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sent_is_refused_where_it_is_set(name):
    act, error = REFUSED[name]
    with pytest.raises(error):
        act()


def test_what_was_refused_has_changed_nothing():
    one = request()
    for act in (lambda: setattr(one, "path", "a"), lambda: one.headers.update({"x": "2", "y": 1}), lambda: one.headers.__setitem__("x", 2),
                lambda: one.headers.extend([("z", "1"), ("y", None)]), lambda: setattr(one, "headers", {"x": b""}),
                lambda: setattr(one, "backend", "three"), lambda: one.replace_body("a")):
        with pytest.raises((TypeError, ValueError)):
            act()
    assert (one.path, one.headers.items(), one.backend, one._body) == ("/a", [("x", "1")], "", None)


def test_a_traceback_has_the_line_that_set_it():
    one = request()
    with pytest.raises(TypeError) as refused:
        one.headers["x-user"] = None
    lines = [frame.line for frame in traceback.extract_tb(refused.value.__traceback__)]
    assert lines[0] == 'one.headers["x-user"] = None'
    assert str(refused.value) == "the value of the field 'x-user' is a str, not NoneType: None"


def test_what_can_be_sent_is_taken():
    one = request()
    one.method, one.path, one.query, one.host = "PURGE", "/a%20b;c", "", "[::1]:80"
    one.backend = "two"
    one.backend = ""
    one.headers["x"] = "caf\xe9\t"
    one.headers.update({"X": "2", "y": ""})
    one.headers.extend([("y", "3")])
    assert one.headers.setdefault("Y", "4") == "" and one.headers.setdefault("z", "5") == "5"
    assert one.headers.items() == [("X", "2"), ("y", ""), ("y", "3"), ("z", "5")]
    one.headers = one.headers
    one.headers = Headers({"only": "this"})
    one.replace_body(bytearray(b"new"))
    assert one.headers.items() == [("only", "this")] and one._body == b"new"
    answer = Response(299, {"x": "1"}, memoryview(b"body"))
    assert (answer.status, answer.headers.items(), bytes(answer.body)) == (299, [("x", "1")], b"body")
