"""Tokens of sessions: SipHash's vectors, the form that they have, and that nobody else makes one."""
import base64

import pytest

from gwfast.exchange import session_token

KEY = bytes(range(32))
PLACE = bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 7)) + (8080).to_bytes(2, "big")
ISSUED = 1_700_000_000_123


# vectors_sip128 of the reference implementation, and those of OpenSSL's SIPHASH.
@pytest.mark.parametrize("n, expected", [
    (0, "a3817f04ba25a8e66df67214c7550293"),
    (1, "da87c1d86b99af44347659119b22fc45"),
    (7, "a1f1ebbed8dbc153c0b84aa61ff08239"),
    (8, "3b62a9ba6258f5610f83e264f31497b4"),
    (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
    (24, "2db479ae78bd50d8882a8a178a6132ad"),
    (40, "df6a301e95c95dad97ae0cc8c6913bd8"),
    (63, "5150d1772f50834a503e069a973fbd7c"),
], ids=lambda value: f"{value} bytes" if isinstance(value, int) else "")
def test_siphash(n, expected):
    assert session_token.siphash(bytes(range(16)), bytes(range(n))).hex() == expected


def by_the_book(key: bytes, rule: int, backend: int, place: bytes, issued: int) -> bytes:
    body = backend.to_bytes(8, "little") + place + issued.to_bytes(6, "little")
    tag = session_token.siphash(key[:16], rule.to_bytes(8, "little") + body)
    stream = b"".join(session_token.siphash(key[16:], tag + i.to_bytes(8, "little")) for i in range(2))
    return base64.urlsafe_b64encode(tag + bytes(a ^ b for a, b in zip(body, stream, strict=True)))


@pytest.mark.parametrize("rule, backend, issued", [
    (7, 9, ISSUED), (0, 0, 0), (2**64 - 1, 2**64 - 1, 2**48 - 1),
], ids=["some", "least", "most"])
def test_a_token_is_read_as_it_was_written(rule, backend, issued):
    text = session_token.write(KEY, rule, backend, PLACE, issued)
    assert text == by_the_book(KEY, rule, backend, PLACE, issued)
    assert session_token.read(KEY, rule, text) == (backend, PLACE, issued)


def test_tokens_of_this_form_stay_valid():
    """Those that clients hold outlive a version of gwfast."""
    text = b"rsaJYYLaiJmWw07xr6JP2z0UvcwcrC-Xe0_ZMctl8rRyTfu7grbfW3M8F3ErGFPC"
    assert session_token.read(KEY, 7, text) == (9, bytes(range(18)), 123456789012)


def test_a_token_is_of_its_rule_and_key():
    text = session_token.write(KEY, 7, 9, PLACE, ISSUED)
    assert session_token.read(KEY, 8, text) is None
    for i in (0, 15, 16, 31):
        other = bytearray(KEY)
        other[i] ^= 1
        assert session_token.read(bytes(other), 7, text) is None


def test_no_character_can_be_changed():
    text = session_token.write(KEY, 7, 9, PLACE, ISSUED)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    forged = [text[:i] + bytes((c,)) + text[i + 1:] for i in range(64) for c in alphabet if c != text[i]]
    assert len(forged) == 64 * 63
    assert [each for each in forged if session_token.read(KEY, 7, each)] == []


@pytest.mark.parametrize("change", [
    lambda text: b"", lambda text: text[:-1], lambda text: text + b"A", lambda text: text + b"=", lambda text: text * 2,
    lambda text: b"+" + text[1:], lambda text: b"/" + text[1:], lambda text: b"\0" + text[1:], lambda text: b"\xff" * 64,
    lambda text: b" " + text[:-1], lambda text: text[:-1] + b"=",
], ids=["nothing", "shorter", "longer", "padded", "twice", "plus", "slash", "NUL", "bytes", "shifted", "equals"])
def test_what_has_not_the_form_is_none(change):
    assert session_token.read(KEY, 7, change(session_token.write(KEY, 7, 9, PLACE, ISSUED))) is None
