"""Chunked bodies and trailers at every split point."""
import itertools

import pytest

from gwfast import limits

from gwfast.http1 import chunked
from gwfast.http1.chunked import chunks_at, kept, trailers_at, trailers_of

MORE, END, BAD, LARGE = 0, 2, -1, -3

READ = {
    "nothing": (b"0\r\n", b""),
    "one": (b"5\r\nhello\r\n0\r\n", b"hello"),
    "two": (b"5\r\nhello\r\n6\r\n world\r\n000\r\n", b"hello world"),
    "hexadecimal": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n", b"0123456789" * 2),
    "CRLF in data": (b"4\r\n\r\n\r\n\r\n0\r\n", b"\r\n\r\n"),
    "zeros before": (b"0000000000000005\r\nhello\r\n0\r\n", b"hello"),
    "extension": (b"5;a\r\nhello\r\n0;b=c\r\n", b"hello"),
    "extensions": (b"5;a=b;c;d=\"e\"\r\nhello\r\n0\r\n", b"hello"),
    "extension, quoted": (b"1;a=\"; = \\\" \\\\ \t!\";b\r\nx\r\n0\r\n", b"x"),
    "extension, bad white space": (b"1; a \t= b ; c=\"d\" ;e\r\nx\r\n0\r\n", b"x"),
    "extension, the longest": (b"1;" + b"a" * (limits.CHUNK_EXTENSION_BYTES - 1) + b"\r\nx\r\n0\r\n", b"x"),
}

# Of backends; the same of clients is refused (below).
READ_OF_RESPONSES = {
    "space behind": (b"5 \r\nhello\r\n0\r\n", b"hello"),
    "padded": (b"5   \t\r\nhello\r\n0     \r\n", b"hello"),
    "tab behind, and an extension": (b"5\t;a\r\nhello\r\n0 ;b=c\r\n", b"hello"),
    "white space behind an extension": (b"5;a \r\nhello\r\n0;b=c \r\n", b"hello"),
    "white space behind quotes": (b"5;a=\"b\" \r\nhello\r\n0\r\n", b"hello"),
}
REFUSED_OF_RESPONSES = {
    "space before": (b" 5\r\n", 1),
    "space within": (b"5 5\r\n", 3),
    "space, LF": (b"5 \n", 3),
    "bare LF": (b"5\n", 2),
    "word behind space": (b"5 a\r\n", 3),
    "space and CR alone": (b"5 \rX", 4),
    "spaces, too many": (b"5" + b" " * 300, limits.CHUNK_EXTENSION_BYTES + 3),
    "extension without value": (b"5;a= \r\n", 6),
}


@pytest.mark.parametrize(("body", "data"), [*READ.values(), *READ_OF_RESPONSES.values()], ids=[*READ, *READ_OF_RESPONSES])
def test_a_response_is_read_at_every_cut(body, data):
    for at in range(len(body) + 1):
        assert chunked.chunks_of(body, [at], lenient=True) == (data, len(body), END)
    assert chunked.chunks_of(body, range(1, len(body)), lenient=True) == (data, len(body), END)


@pytest.mark.parametrize(("body", "used"), REFUSED_OF_RESPONSES.values(), ids=REFUSED_OF_RESPONSES)
def test_a_response_is_refused_where_it_cannot_go_on(body, used):
    assert chunked.chunks_of(body, lenient=True)[1:] == (used, BAD)
    assert chunked.chunks_of(body, range(1, len(body)), lenient=True)[1:] == (used, BAD)


SIFTED = {
    "none": (b"\r\n", b""),
    "one": (b"X: 1\r\n\r\n", b"X: 1\r\n"),
    "one that must not be": (b"Content-Length: 1\r\n\r\n", b""),
    "among others": (b"A: 1\r\nHost: b\r\nB: 2\r\nTransfer-Encoding: chunked\r\nETag: c\r\n\r\n", b"A: 1\r\nB: 2\r\nETag: c\r\n"),
    "as many as a head may have": (b"A: 1\r\n" * 200 + b"\r\n", b"A: 1\r\n" * 200),
}


@pytest.mark.parametrize(("section", "kept_lines"), SIFTED.values(), ids=SIFTED)
def test_trailers_of_a_response_are_sifted(section, kept_lines):
    for n in range(len(section)):
        assert chunked.sifted(section[:n]) == 0
    assert chunked.sifted(section) == (len(section), kept_lines)
    assert chunked.sifted(section + b"HTTP/1.1 200 OK\r\n") == (len(section), kept_lines)


@pytest.mark.parametrize("section", [b"X Y: 1\r\n\r\n", b"X: 1\n\r\n", b" X: 1\r\n\r\n", b"X: 1\r\n\rX", b": 1\r\n\r\n", b"X: \0\r\n\r\n"])
def test_trailers_of_a_response_that_are_no_fields_are_refused(section):
    assert chunked.sifted(section) == BAD


@pytest.mark.parametrize("read", [chunked.sifted, trailers_of], ids=["response", "request"])
@pytest.mark.parametrize("section", [b"X: " + b"x" * 100, b"A: 1\r\n" * 20, b"A: 1\r\n" * 4 + b"\r\n", b"X: " + b"x" * 57 + b"\r\n\r\n"],
                         ids=["a line", "lines", "too many", "a byte"])
def test_trailers_beyond_the_limits_are_too_large(section, read):
    assert read(section, limit=62, room=3) == LARGE
    for largest in (b"A: 1\r\n" * 3 + b"\r\n", b"X: " + b"x" * 55 + b"\r\n\r\n"):
        assert read(largest, limit=62, room=3)[0] == len(largest)


REFUSED = {
    "no size": (b"\r\n", 1),
    "plus": (b"+5\r\n", 1),
    "minus": (b"-5\r\n", 1),
    "0x": (b"0x5\r\n", 2),
    "underscore": (b"1_0\r\n", 2),
    "space before": (b" 5\r\n", 1),
    "space behind": (b"5 \r\n", 2),
    "tab behind": (b"5\t;a\r\n", 2),
    "17 digits": (b"00000000000000005\r\n", 17),
    "overflow": (b"8000000000000000\r\n", 16),
    "bare LF": (b"5\n", 2),
    "bare CR": (b"5\rhello", 3),
    "semicolon alone": (b"5;\r\n", 3),
    "semicolon, LF": (b"5;\n", 3),
    "semicolon twice": (b"5;;a\r\n", 3),
    "no semicolon": (b"5a\xe4", 3),
    "extension with CTL": (b"5;\x00", 3),
    "extension with bare CR": (b"5;a\rX", 5),
    "extension with bare LF": (b"5;a\n", 4),
    "extension, bad token": (b"5;a[=b\r\n", 4),
    "extension without value": (b"5;a=\r\n", 5),
    "extension, white space at the end": (b"5;a \r\n", 5),
    "extension, white space behind value": (b"5;a=b \r\n", 7),
    "extension, two words": (b"5;a b\r\n", 5),
    "extension, quote with CR": (b"5;a=\"\r\n", 6),
    "extension, quote with 8 bits": (b"5;a=\"\xe4\"\r\n", 6),
    "extension, escaped CTL": (b"5;a=\"\\\x01\"\r\n", 7),
    "extension, word behind quote": (b"5;a=\"b\"c\r\n", 8),
    "extension, too long": (b"1;" + b"a" * 300, limits.CHUNK_EXTENSION_BYTES + 3),
    "data too long": (b"5\r\nhello!", 9),
    "data without CRLF": (b"5\r\nhello0\r\n", 9),
    "data with bare LF": (b"5\r\nhello\n", 9),
    "data with bare CR": (b"5\r\nhello\rX", 10),
    "bad second size": (b"1\r\na\r\nx\r\n", 7),
}


@pytest.mark.parametrize("data, body", READ.values(), ids=READ)
def test_read(guard, data, body):
    address = guard.at(data)
    assert chunks_at(address, len(data)) == (body, len(data), END)
    for cuts in itertools.chain(((n,) for n in range(len(data))), [range(len(data))]):
        assert chunks_at(address, len(data), cuts) == (body, len(data), END)
    for n in range(len(data)):
        got, used, result = chunks_at(guard.at(data[:n]), n)
        assert (used, result) == (n, MORE)
        assert body.startswith(got)
    behind = data + b"X: y\r\n\r\n"
    assert chunks_at(guard.at(behind), len(behind)) == (body, len(data), END)


@pytest.mark.parametrize("data, used", REFUSED.values(), ids=REFUSED)
def test_refused_at_the_first_wrong_byte(guard, data, used):
    address = guard.at(data)
    for cuts in itertools.chain([()], ((n,) for n in range(len(data))), [range(len(data))]):
        assert chunks_at(address, len(data), cuts)[1:] == (used, BAD)
    assert chunks_at(guard.at(data[:used - 1]), used - 1)[2] == MORE


def test_the_cap_is_the_limit():
    assert chunked.EXTENSION_BYTES == limits.CHUNK_EXTENSION_BYTES


TRAILERS = {
    "none": (b"\r\n", []),
    "one": (b"X-Sum: 1\r\n\r\n", [(b"X-Sum", b"1")]),
    "some": (b"a: 1\r\nB:\t2 \r\ngrpc-status: 0\r\n\r\n", [(b"a", b"1"), (b"B", b"2"), (b"grpc-status", b"0")]),
}

BARRED = [
    "Content-Length", "Transfer-Encoding", "HOST", "Authorization", "Connection", "Keep-Alive", "Upgrade", "TE",
    "Trailer", "Expect", "Cookie", "Set-Cookie", "Cache-Control", "Range", "Max-Forwards", "If-Match", "If-None-Match",
    "WWW-Authenticate", "Proxy-Authenticate", "Proxy-Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Any",
    "X-Real-IP", "Via"]

DROPPED = ["Content-Type", "Content-Encoding", "Content-Range", "AGE", "Date", "Expires", "Location", "Retry-After",
           "Vary", "Warning", "Pragma"]

BROKEN = {
    "bare LF": b"a: 1\n", "end with LF": b"\n", "end with CR": b"\rX", "no colon": b"a\r\n",
    "space before colon": b"a : 1\r\n",
    "fold": b"a: 1\r\n b\r\n", "CTL": b"a: \x01\r\n", "empty name": b": a\r\n",
    **{name: f"x: y\r\n{name}: 1\r\n".encode() for name in BARRED}}


@pytest.mark.parametrize("data, fields", TRAILERS.values(), ids=TRAILERS)
def test_trailers(guard, data, fields):
    length, got = trailers_at(guard.at(data), len(data))
    assert length == len(data)
    assert [(name, value) for name, value, *_ in got] == fields
    for n in range(len(data)):
        assert trailers_at(guard.at(data[:n]), n) == 0
    behind = data + b"GET"
    assert trailers_at(guard.at(behind), len(behind)) == (length, got)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_trailers(guard, data):
    assert trailers_at(guard.at(data), len(data), limit=64) == BAD
    decided = [trailers_at(guard.at(data[:n]), n, limit=64) for n in range(len(data))]
    assert decided == sorted(decided, reverse=True)
    assert set(decided) <= {0, BAD}


def test_room_for_trailers(guard):
    data = b"a: 1\r\nb: 1\r\nc: 1\r\n\r\n"
    assert trailers_at(guard.at(data), len(data), room=3)[0] == len(data)
    assert trailers_at(guard.at(data), len(data), room=2) == LARGE


def test_dropped_trailers(guard):
    data = "".join(f"{name}: 1\r\n" for name in DROPPED).encode() + b"X: 1\r\n\r\n"
    length, fields = trailers_at(guard.at(data), len(data))
    assert length == len(data)
    assert [name.decode() for name, _, _, flags, *_ in fields if flags == 1] == DROPPED


@pytest.mark.parametrize("data, flags, left", [
    (b"\r\n", 3, b""),
    (b"a: 1\r\n\r\n", 3, b"a: 1\r\n"),
    (b"vary: 1\r\na: 1\r\nb_c: 1\r\nd:  1 \r\ndate: 1\r\n\r\n", 3, b"a: 1\r\nd:  1 \r\n"),
    (b"vary: 1\r\na: 1\r\nb_c: 1\r\n\r\n", 1, b"a: 1\r\nb_c: 1\r\n"),
    (b"age: 1\r\n\r\n", 1, b""),
], ids=repr)
def test_kept_trailers(data, flags, left):
    assert kept(data, flags) == left
