"""Field blocks made of anything: read in bounds, alike however they are cut, and what was read can be written and read again."""
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
from guard import Guard

from gwfast.http2.hpack import Decoder
from gwfast.http2.hpack_encoder import Encoder

OK, LARGE, MORE, BAD = 0, 1, 2, -1
KEPT = 4  # FIELD_NEVER_INDEXED
guard = Guard()

LITERALS = st.builds(
    lambda first, name, value: first + bytes([len(name)]) + name + bytes([len(value)]) + value,
    st.sampled_from([b"\x40", b"\x00", b"\x10"]),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"name", b":path", b"content-length", b"cookie"])), st.binary(max_size=100))
BLOCKS = st.lists(st.lists(st.one_of(
    st.binary(max_size=8), LITERALS, LITERALS, st.integers(0x80, 0xff).map(lambda c: bytes([c])),
    st.binary(max_size=40).map(lambda code: b"\x40\x01n" + bytes([128 | len(code)]) + code),
    st.sampled_from([b"\x20", b"\x3f\x45", b"\x3f\xe1\x1f"])), max_size=20).map(b"".join), min_size=1, max_size=4)


def whole(decoder, data, left):
    decoder.begin(left=left)
    return decoder.part_at(guard.at(data), len(data))[0]


def cut(decoder, data, left, cuts):
    decoder.begin(left=left)
    at = 0
    for end in [*sorted(c for c in cuts if c < len(data)), len(data)]:
        result, used = decoder.part_at(guard.at(data[at:end]), end - at, end == len(data))
        at += used
        if result != MORE:
            return result
    raise AssertionError("a last part gives no result")


@given(BLOCKS, st.sampled_from([0, 40, 100, 500, 32768]), st.sampled_from([0, 32, 100, 4096, 32768]), st.lists(st.integers(0, 400), max_size=6))
def test_cuts_do_not_matter(blocks, left, most, cuts):
    one, other = Decoder(most), Decoder(most)
    for data in blocks:
        result = whole(one, data, left)
        assert cut(other, data, left, cuts) == result
        if result == BAD:
            return
        assert (other.fields, other.lines, other.entries, other.size) == (one.fields, one.lines, one.entries, one.size)
        assert one.lines == b"".join(name + b": " + value + b"\r\n" for name, value, *_ in one.fields)
        assert sum(len(name) + len(value) + 32 for name, value, *_ in one.fields) <= left
        assert one.size[0] == sum(len(name) + len(value) + 32 for name, value in one.entries) <= one.size[1]


@given(BLOCKS, st.sampled_from([0, 100, 4096]))
def test_what_was_read_can_be_written(blocks, most):
    reader, encoder, decoder = Decoder(), Encoder(most), Decoder(most)
    for data in blocks:
        fields = reader.decode(data)
        if isinstance(fields, int):
            return
        named = [field for field in fields if not field[3] & 8]   # FIELD_BAD_NAME: never forwarded
        again = decoder.decode(encoder.encode([(name, value, flags & KEPT) for name, value, _, flags, _ in named]))
        assert [field[:3] + field[4:] for field in again] == [field[:3] + field[4:] for field in named]
        assert all(field[3] & ~KEPT == before[3] & ~KEPT for field, before in zip(again, named, strict=True))
        assert decoder.entries == encoder.entries
