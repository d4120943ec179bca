"""Every byte at every place of a name, a value, a path, a query and a host: bytes are looked at 16 at a time, and what is
found must not depend on where they lie."""
import pytest

from gwfast.http1.parser import request_of

LENGTH = 37                      # two whole blocks and a rest
LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
VISIBLE = bytes(range(0x21, 0x7f))
TOKEN = set(LETTERS + b"!#$%&'*+-.^_`|~")                      # RFC 9110 5.6.2
VALUE = {*VISIBLE, *range(0x80, 0x100), *b" \t"}               # RFC 9110 5.5
PATH = set(VISIBLE) - set(b"#?\\")
QUERY = set(VISIBLE) - set(b"#")
HOST = set(LETTERS + b"-._~!$&'()*+;=")                         # RFC 3986 3.2.2 reg-name, escapes and lists left out

CASES = {
    "name": (b"GET / HTTP/1.1\r\nHost: a\r\n%s: b\r\n\r\n", TOKEN, lambda head: head["fields"][1][0]),
    "last name": (b"GET / HTTP/1.1\r\nHost: a\r\n%s:\r\n\r\n", TOKEN, lambda head: head["fields"][1][0]),
    "value": (b"GET / HTTP/1.1\r\nHost: a\r\nb: x%sx\r\n\r\n", VALUE, lambda head: head["fields"][1][1][1:-1]),
    "path": (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", PATH, lambda head: head["path"][1:]),
    "query": (b"GET /?%s HTTP/1.1\r\nHost: a\r\n\r\n", QUERY, lambda head: head["query"]),
    "host": (b"GET / HTTP/1.1\r\nHost: x%sx\r\n\r\n", HOST, lambda head: head["authority"][1:-1]),
}
ENDS = {"name": b":", "last name": b":", "value": b"", "path": b" ?", "query": b" ", "host": b":"}


@pytest.mark.parametrize("place", CASES)
def test_every_byte_at_every_place(place):
    form, allowed, found = CASES[place]
    for length in (1, 7, 8, 15, 16, LENGTH):
        for at in range(length):
            for byte in range(256):
                if byte in ENDS[place] or (place == "path" and byte == ord("%")) or (place == "host" and byte in b"[."):
                    continue
                text = b"x" * at + bytes([byte]) + b"x" * (length - at - 1)
                head = request_of(form % text)
                if byte in allowed:
                    assert isinstance(head, dict) and found(head) == text, (length, at, bytes([byte]), head)
                else:
                    assert isinstance(head, int), (length, at, bytes([byte]))


@pytest.mark.parametrize("before", range(34))
@pytest.mark.parametrize("odd, plain", [("//", "/"), ("/./", "/"), ("/y/../", "/"), ("%41", "A"), ("/.y", "/.y"), (".y", ".y")])
def test_a_path_is_normalised_wherever_it_needs_that(before, odd, plain):
    for behind in ("", "z", "z" * 20):
        path = "/" + "x" * before + odd + behind
        if odd != "%41" or before:
            head = request_of(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert head["match_path"].decode() == ("/" + "x" * before + plain + behind).replace("//", "/"), path
            assert head["path"].decode() == path


@pytest.mark.parametrize("before", range(34))
def test_labels_of_a_host_are_not_empty(before):
    def host(name):
        return request_of(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    for behind in ("", "y", "y" * 20):
        assert host("x" * before + ".." + behind) == -1
        assert isinstance(host("X" * before + "." + behind), dict) == bool(before)
        if before:
            assert host("X" * before + "." + behind)["host"].decode() == ("x" * before + "." + behind).rstrip(".")


def test_a_name_has_one_hash_in_upper_and_lower_case():
    seen = {}
    for length in range(1, 40):
        name = ("abcdefghij-" * 4)[:length]
        hashes = {request_of(f"GET / HTTP/1.1\r\nHost: a\r\n{text}: b\r\n\r\n".encode())["fields"][1][4]
                  for text in (name, name.upper(), name.title())}
        assert len(hashes) == 1
        seen[hashes.pop()] = name
    assert len(seen) == 39
