"""The messages of ext_authz against protobuf as it is written down, encoded and decoded here by hand."""
from hypothesis import given
from hypothesis import strategies as st
from support.protobuf import frame, message, path, read

from gwfast.extend import check_request, check_response

# ---- what is asked ----

NAME = st.text("abcXYZ-09", min_size=1, max_size=20).map(lambda name: "x" + name)
VALUE = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=200).map(lambda value: value.strip(" \t\xa0\x85"))


def shown(value: bytes) -> str:
    """UTF-8, each byte that is none as '!'."""
    made, at = "", 0
    while at < len(value):
        for n in (1, 2, 3, 4):
            try:
                made += value[at:at + n].decode()
                at += n
                break
            except UnicodeDecodeError:
                continue
        else:
            made += "!"
            at += 1
    return made


@given(st.lists(st.tuples(NAME, VALUE), max_size=40), st.binary(max_size=5000), st.integers(-1, 1 << 62), st.booleans(),
       st.integers(0, 65535), st.lists(NAME, max_size=3))
def test_a_question_says_what_the_request_is(fields, body, size, https, port, names):
    lines = b"".join(name.encode() + b": " + value.encode("latin-1") + b"\r\n" for name, value in fields)
    made = check_request.check(b"PUT /a%20b?c=d HTTP/1.1\r\nHost: some.example:80\r\n" + lines + b"\r\n", body, ",".join(names).encode(),
                           b"192.0.2.1", b"2001:db8::1", port, size, https, b"the-id", b"HTTP/2", (1_700_000_000, 5))
    assert made[:5] == b"\0" + (len(made) - 5).to_bytes(4, "big")
    asked = path(made[5:], 1)
    assert path(asked, 1, 1, 1, 2) == b"192.0.2.1" and path(asked, 1, 1, 1, 3) is None
    assert path(asked, 2, 1, 1, 2) == b"2001:db8::1" and (path(asked, 2, 1, 1, 3) or 0) == port
    assert (path(asked, 4, 1, 1), path(asked, 4, 1, 2)) == (1_700_000_000, 5)
    http = read(path(asked, 4, 2))
    scheme = b"https" if https else b"http"
    assert (http[1], http[2], http[4], http[5], http[6], http[10]) == (
        [b"the-id"], [b"PUT"], [b"/a%20b?c=d"], [b"some.example:80"], [scheme], [b"HTTP/2"])
    assert http.get(9, [0]) == [size & (1 << 64) - 1] and http.get(12, [b""]) == [body] and 11 not in http
    expected: dict[str, list[str]] = {}
    for name, value in fields:
        if not names or name.lower() in {each.lower() for each in names}:
            expected.setdefault(name.lower(), []).append(shown(value.encode("latin-1")))
    told = {key: ",".join(values) for key, values in expected.items()}
    if not names:
        told |= {":authority": "some.example:80", ":method": "PUT", ":path": "/a%20b?c=d", ":scheme": scheme.decode()}
    entries = [read(each) for each in http.get(3, [])]
    assert {each[1][0].decode(): each.get(2, [b""])[0].decode() for each in entries} == told
    assert len(entries) == len(told)


def test_cookies_are_one():
    made = check_request.check(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\ncookie: b=2\r\nTE: trailers\r\n\r\n", names=b"cookie,te,host")
    entries = {each[1][0]: each[2][0] for each in map(read, read(path(made[5:], 1, 4, 2))[3])}
    assert entries[b"cookie"] == b"a=1; b=2" and entries[b"host"] == b"a"


# ---- what is answered ----

@st.composite
def options(draw) -> tuple[bytes, tuple[int, bytes, bytes]]:
    """A HeaderValueOption, and (action, name, value)."""
    name, value = draw(NAME).encode(), draw(VALUE).encode("latin-1")
    append, action, raw = draw(st.sampled_from([None, False, True])), draw(st.integers(0, 3)), draw(st.booleans())
    made = message((1, message((1, name), (3 if raw else 2, value))), *([(2, message((1, int(append))) if append else b"")]
                   if append is not None else []), *([(3, action)] if action else []), (99, b"unknown"), (98, 7))
    acts = {0: 0, 1: 2, 2: 0, 3: 3}[action]
    if append or (append is False and acts == 0):
        acts = int(append)
    return made, (acts, name, value)


@given(st.lists(options(), max_size=20), st.lists(NAME, max_size=5), st.lists(options(), max_size=20), st.integers(0, 16))
def test_what_lets_pass(sets, removes, says, code):
    ok = message(*((2, one) for one, _ in sets), *((5, name.encode()) for name in removes), *((6, one) for one, _ in says))
    data = frame(message((1, message((1, code), (2, b"words"))), (3, ok), (4, b"\x08\x01")))
    assert check_response.verdict(data) == (code, False, 0, b"", [
        *((0, *told) for _, told in sets), *((1, 0, name.encode(), b"") for name in removes), *((2, *told) for _, told in says)])


@given(st.lists(options(), max_size=20), st.binary(max_size=2000), st.integers(0, 600))
def test_what_denies(says, body, status):
    denied = message((1, message((1, status))), *((2, one) for one, _ in says), (3, body))
    assert check_response.verdict(frame(message((1, message((1, 7))), (2, denied)))) == (
        7, True, status, body, [(3, *told) for _, told in says])


GOOD = frame(message((1, message((1, 0))), (3, message((2, message((1, message((1, b"x-a"), (2, b"b"))), (2, message((1, 1)))))))))


@given(st.one_of(st.binary(max_size=300).map(frame), st.binary(max_size=50),
                 st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(
                     lambda change: GOOD[:change[0]] + bytes((change[1],)) + GOOD[change[0] + 1:])))
def test_any_bytes_are_read_or_refused(data):
    told = check_response.verdict(data)
    assert told is None or all(name.isascii() and name and b"\n" not in name + value for _, _, name, value in told[4])


def test_every_part_of_an_answer_is_refused_or_none_of_it_is_missed():
    assert check_response.verdict(GOOD) == (0, False, 0, b"", [(0, 1, b"x-a", b"b")])
    for n in range(len(GOOD)):
        assert check_response.verdict(GOOD[:n]) is None
        assert check_response.verdict(GOOD + GOOD[:n + 1]) is None


# What is malformed, one thing each
BAD = {
    "compressed": b"\1" + frame(b"")[1:],
    "a group": frame(b"\x0b\x0c"),
    "field 0": frame(b"\x00\x01"),
    "a varint of eleven bytes": frame(b"\x20" + b"\x80" * 10 + b"\x01"),
    "a varint above 64 bits": frame(b"\x20" + b"\xff" * 9 + b"\x02"),
    "a length that is longer": frame(b"\x0a\x05\x08"),
    "a status that is a number": frame(message((1, 1))),
    "a name that is none": frame(message((3, message((2, message((1, message((1, b"a b"), (2, b"c"))))))))),
    "no name": frame(message((3, message((2, message((1, b""))))))),
    "a name with a line end": frame(message((3, message((5, b"a\r\nb"))))),
    "a value with a line end": frame(message((3, message((2, message((1, message((1, b"a"), (2, b"b\r\nc: d"))))))))),
    "a value with NUL": frame(message((2, message((2, message((1, message((1, b"a"), (2, b"\0"))))))))),
    "an action that nobody knows": frame(message((3, message((2, message((1, message((1, b"a"), (2, b"b"))), (3, 4))))))),
    "too many": frame(message((3, message(*[(5, b"a")] * 101)))),
}


def test_what_is_malformed_is_refused():
    assert [name for name, data in BAD.items() if check_response.verdict(data) is not None] == []


def test_pseudo_header_fields_are_not_changed():
    assert check_response.verdict(frame(message((3, message((2, message((1, message((1, b":path"), (2, b"/admin"))))))))))[4] == []
