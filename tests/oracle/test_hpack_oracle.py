"""The hpack package as the oracle of ours: what one encodes the other decodes, with both tables in step, block after block.

Where gwfast is stricter than hpack is listed in test_anything_is_read_alike().
"""
import hpack
import pytest
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from gwfast.http2.hpack import Decoder
from gwfast.http2.hpack_encoder import Encoder

NEVER, LARGE, BAD = 4, 1, -1

NAMES = st.one_of(
    st.sampled_from([name for name, _ in hpack.table.HeaderTable.STATIC_TABLE]),
    st.sampled_from([b"x-a", b"x-b", b"x-request-id", b"grpc-timeout", b"a" * 70, b":protocol"]),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=20).map(str.encode))
VALUES = st.one_of(
    st.sampled_from([value for _, value in hpack.table.HeaderTable.STATIC_TABLE]),
    st.sampled_from([b"1", b"text/html; charset=utf-8", b"a" * 100, b"b" * 126, b"c" * 127, b"d" * 300, b"\xff" * 40, b"e" * 4050]),
    st.binary(max_size=30))
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.sampled_from([False] * 5 + [True])), max_size=12)
SIZES = st.one_of(st.none(), st.sampled_from([0, 31, 32, 64, 100, 500, 2000, 4096]), st.integers(0, 4096))
BLOCKS = st.lists(st.tuples(SIZES, SIZES, FIELDS, st.booleans()), min_size=1, max_size=8)


def entries(table) -> list:
    return [(bytes(name), bytes(value)) for name, value in table.dynamic_entries]


@given(BLOCKS)
def test_decoder(blocks):
    """What hpack encodes: fields, never-indexed ones, and the table behind each block."""
    theirs, mine = hpack.Encoder(), Decoder()
    for first, second, fields, huffman in blocks:
        for size in (first, second):
            if size not in (None, theirs.header_table_size):   # told the same twice, hpack announces neither
                theirs.header_table_size = size
        data = theirs.encode(fields, huffman=huffman)
        got = mine.decode(data, left=1 << 20)
        assert [(name, value) for name, value, *_ in got] == [(name, value) for name, value, _ in fields]
        assert all(bool(flags & NEVER) <= never for (_, _, _, flags, _), (*_, never) in zip(got, fields, strict=True))
        assert mine.entries == entries(theirs.header_table)
        assert mine.size == (theirs.header_table._current_size, theirs.header_table_size)


@given(BLOCKS)
def test_encoder(blocks):
    """What we encode; and no block is longer than hpack's by more than what our indexing costs."""
    mine, theirs = Encoder(), hpack.Decoder(1 << 20)
    for first, second, fields, _ in blocks:
        for size in (first, second):
            if size is not None:
                mine.limit(size)
        given = [(name, value, NEVER * never) for name, value, never in fields]
        got = theirs.decode(mine.encode(given), raw=True)
        assert [tuple(field) for field in got] == [(name, value) for name, value, _ in fields]
        assert all(not field.indexable for field, (name, _, never) in zip(got, fields, strict=True)
                   if never and not name.startswith(b":"))
        assert mine.size == (theirs.header_table._current_size, theirs.header_table_size)
        assert [name for name, _ in mine.entries] == [name for name, _ in entries(theirs.header_table)]
        assert [value for _, value in mine.entries] == [value for _, value in entries(theirs.header_table)]


PIECES = st.lists(st.one_of(
    st.binary(max_size=6),
    st.integers(0x80, 0xff).map(lambda octet: bytes([octet])),
    st.sampled_from([b"\x20", b"\x3f\xe1\x1f", b"\x3f\x45", b"\x40\x01a\x01b", b"\x40\x81\x1f\x81\x1f", b"\x7e\x01x", b"\x7f\x00\x01x",
                     b"\x00\x01A\x82\xff\xff", b"\x1f\x00\x83\x18\xc6\x31", b"\x40\x82\x94\xe7\x84\xff\xff\xff\xfb", b"\x5a\x00",
                     b"\xff\x80\x80\x80\x00", b"\x40\x01n\x7f\x81\x01" + b"v" * 256])), max_size=25).map(b"".join)


@given(st.lists(PIECES, min_size=1, max_size=4))
def test_anything_is_read_alike(blocks):
    """Whatever arrives, both refuse it, or both read the same and hold the same table behind it.

    Stricter: integers have at most 5 octets (hpack: 6).
    """
    mine, theirs = Decoder(), hpack.Decoder(1 << 20)
    for data in blocks:
        got = mine.decode(data, left=1 << 20, fields=1000)
        try:
            expected = theirs.decode(data, raw=True)
        except HPACKError:
            assert got == BAD
            return
        if got == BAD:
            assert b"\x80\x80\x80" in data or any(all(c > 127 for c in data[i:i + 4]) for i in range(len(data)))
            return
        assert [field[:2] for field in got] == [tuple(field) for field in expected]
        assert [not field[3] & NEVER for field in got] == [field.indexable for field in expected]
        assert mine.entries == entries(theirs.header_table)


@pytest.mark.parametrize("most", [0, 33, 100, 4096, 32768])
@given(blocks=st.lists(FIELDS, min_size=1, max_size=6))
def test_ours_to_ours(most, blocks):
    """Round trip, whatever the size of the tables."""
    encoder, decoder = Encoder(most), Decoder(most)
    encoder.limit(most)
    for fields in blocks:
        got = decoder.decode(encoder.encode([(name, value) for name, value, _ in fields]), left=1 << 20)
        assert [field[:2] for field in got] == [(name, value) for name, value, _ in fields]
        assert decoder.size == encoder.size
        assert decoder.entries == encoder.entries
