"""Whatever a client sends as a token selects nothing unless it was made with the gateway's key, and harms nothing."""
from hypothesis import given
from hypothesis import strategies as st

from gwfast.exchange import session_token

KEY = bytes(range(32))
IDENTITIES = st.integers(0, 2**64 - 1)
ALPHABET = list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(IDENTITIES, st.binary(max_size=200) | st.lists(st.sampled_from(ALPHABET), min_size=64, max_size=64).map(bytes))
def test_any_bytes(rule, text):
    assert session_token.read(KEY, rule, text) is None


@given(IDENTITIES, IDENTITIES, st.binary(min_size=18, max_size=18), st.integers(0, 2**48 - 1))
def test_any_token(rule, backend, place, issued):
    text = session_token.write(KEY, rule, backend, place, issued)
    assert len(text) == 64
    assert set(text) <= set(ALPHABET)
    assert session_token.read(KEY, rule, text) == (backend, place, issued)
