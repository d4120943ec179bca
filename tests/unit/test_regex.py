"""Patterns become automata that match what they mean, or are refused with the reason."""
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.plan import regex

MATCHES = [
    # pattern, what matches, what does not
    ("", [""], ["a"]),
    ("abc", ["abc"], ["ab", "abcd", "ABC", ""]),
    ("^/api/v[0-9]+$", ["/api/v1", "/api/v23"], ["/api/v", "/api/v1/", "x/api/v1"]),
    ("(^a|^b)c$", ["ac", "bc"], ["c"]),
    (r"\A(?:x)\z", ["x"], ["xx"]),
    ("a|b|", ["a", "b", ""], ["ab"]),
    ("(a|ab)(c|bcd)?", ["a", "ab", "ac", "abcd", "abc"], ["abcbcd"]),
    ("a{3}", ["aaa"], ["aa", "aaaa"]),
    ("a{2,}b{0,2}", ["aa", "aaab", "aabb"], ["a", "aabbb"]),
    ("(ab){2,3}?", ["abab", "ababab"], ["ab", "abababab"]),
    ("a{0}b", ["b"], ["ab"]),
    ("a{,2}", ["a{,2}"], ["aa"]),
    ("x{a}", ["x{a}"], ["xa"]),
    (r"\d+\s\w\W", ["12 a-", "1\t_."], ["a b-", "1 a_"]),
    (r"[\d.]+", ["1.2"], ["1,2"]),
    (r"[^\d]", ["a", "é"], ["1", ""]),
    ("[]a]", ["]", "a"], ["[", "]a"]),
    ("[^]a]", ["b"], ["]", "a"]),
    ("[a-]", ["a", "-"], ["b"]),
    ("[[:alpha:][:^word:]-]+", ["a-", "é"], ["1"]),
    ("(?i)Foo[a-c]É", ["foOBé", "FOOAÉ"], ["foodé"]),
    ("(?i:a)b", ["Ab", "ab"], ["AB"]),
    ("a(?i)b|c", ["ab", "aB", "c", "C"], ["AB"]),
    (".", ["a", "é", "€", "😀"], ["", "\n", "ab", b"\xc3", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"]),
    ("(?s).", ["\n"], [""]),
    ("[α-ω]+", ["αβω"], ["a", "Α", b"\xce"]),
    (r"\x41\x{20AC}\.\/", ["A€./"], ["A€x/"]),
    (r"\Qa.b\E.", ["a.bc"], ["axbc"]),
    ("(?P<name>a)(?<other>b)", ["ab"], ["a"]),
    ("(a*)*", ["", "aaa"], ["b"]),
    ("(a|b)*abb", ["abb", "ababb"], ["ab", "abba"]),
    (".*a.{12}", ["a" + "b" * 12, "bbba" + "é" * 12], ["a" + "b" * 11, "b" * 13]),  # 8,192 states and more
]
REFUSED = [
    ("(?=a)b", "look-around"), ("(?!a)b", "look-around"), ("(?<=a)b", "look-around"), ("(?<!a)b", "look-around"),
    (r"(a)\1", "back-reference"), (r"\bword", "word boundary"), (r"\pL", "Unicode class"), (r"\h", "escape"),
    ("a**", "repetition"), ("a++", "repetition"), ("*a", "nothing before"), ("|*", "nothing before"),
    ("(a", "missing ')'"), ("a)", "unmatched ')'"), ("[a", "missing ']'"), ("[z-a]", "bad range"),
    ("[[:nope:]]", "no class"), ("a{1001}", "bad repetition"), ("a{2,1}", "bad repetition"), ("(?m)a", "not supported"),
    ("a^b", "beginning"), ("a$b", "end"), ("(^a)*", "beginning"), ("^*", "anchor"), ("\\", "backslash"),
    (r"\xZZ", "escape"), (r"\x{110000}", "escape"), ("(?P<1>a)", "name"), ("(" * 101 + ")" * 101, "nested"),
    ("(a{1000}){1000}", "2000 places"), (".*a.{100}", "2000 states"),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), MATCHES, ids=[case[0] for case in MATCHES])
def test_matches(pattern, good, bad):
    automaton = regex.compile(pattern)
    assert [value for value in good if not automaton.fullmatch(value)] == []
    assert [value for value in bad if automaton.fullmatch(value)] == []
    assert regex.check(pattern) is None


@pytest.mark.parametrize(("pattern", "why"), REFUSED, ids=[case[0][:20] for case in REFUSED])
def test_refused(pattern, why):
    assert why in regex.check(pattern)
    with pytest.raises(regex.Unsupported):
        regex.compile(pattern)


atoms = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\w", "ab", "(?:b|)", "é"])
patterns = st.recursive(atoms, lambda inner: st.one_of(
    st.builds("{}{}".format, inner, inner), st.builds("(?:{}|{})".format, inner, inner),
    st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"]))), max_leaves=8)


@settings(max_examples=150)
@given(patterns, st.lists(st.text("abcdé", max_size=6), min_size=5, max_size=20))
def test_matches_what_python_matches(pattern, values):
    automaton, expected = regex.compile(pattern), re.compile(pattern, re.ASCII)
    for value in values:
        assert automaton.fullmatch(value) == (expected.fullmatch(value) is not None), value


@given(patterns, st.text("abcdé", max_size=6))
def test_every_match_begins_with_the_literal(pattern, value):
    automaton = regex.compile("/ab" + pattern)
    assert automaton.literal.startswith(b"/ab")
    assert not automaton.fullmatch("/ab" + value) or ("/ab" + value).encode().startswith(automaton.literal)


@given(st.text(r"ab()[]{}*+?|\^$.-0,1:Pi<=!", max_size=12))
def test_any_text_is_compiled_or_refused(pattern):
    try:
        regex.compile(pattern)
    except regex.Unsupported as error:
        assert str(error)
