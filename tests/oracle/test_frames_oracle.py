"""hyperframe as the oracle of frames: what it reads we read alike, or refuse by a rule that is named here; and what it
writes, we read.
"""
import hyperframe.frame as hf
import pytest
from hyperframe.exceptions import HyperframeError
from hypothesis import given
from hypothesis import strategies as st

from gwfast.http2.frames import Reader

BAD = -1
BEGIN = hf.SettingsFrame(0).serialize()
FLAGS = {"END_STREAM": 1, "ACK": 1, "END_HEADERS": 4, "PADDED": 8, "PRIORITY": 32}
TYPES = {kind.type: kind for kind in (hf.DataFrame, hf.HeadersFrame, hf.PriorityFrame, hf.RstStreamFrame, hf.SettingsFrame,
                                      hf.PushPromiseFrame, hf.PingFrame, hf.GoAwayFrame, hf.WindowUpdateFrame, hf.ContinuationFrame)}


def begun(block: int = 0) -> Reader:
    reader = Reader()
    reader.next(BEGIN)
    if block:
        head = hf.HeadersFrame(block).serialize()
        assert reader.next(head)[0] == len(head)
    return reader


# Why a frame may be refused that hyperframe takes.
STRICTER = {
    # hyperframe counts the fields of the priority as room for padding (RFC 9113 6.2: what is left for the block)
    "padding behind a priority": lambda frame: (isinstance(frame, hf.HeadersFrame) and {"PADDED", "PRIORITY"} <= set(frame.flags)
                                                and frame.pad_length > frame.body_len - 5),
    "nobody pushes": lambda f: isinstance(f, hf.PushPromiseFrame),
    "even streams": lambda f: f.stream_id and f.stream_id % 2 == 0 and f.type in TYPES and not isinstance(f, hf.PriorityFrame),
    "a block goes on": lambda f: isinstance(f, hf.ContinuationFrame),
    "push is 0 or 1": lambda f: isinstance(f, hf.SettingsFrame) and f.settings.get(2, 0) > 1,
    "windows": lambda f: isinstance(f, hf.SettingsFrame) and f.settings.get(4, 0) > 2**31 - 1,
    "sizes of frames": lambda f: isinstance(f, hf.SettingsFrame) and not 2**14 <= f.settings.get(5, 2**14) < 2**24,
    "extended CONNECT is 0 or 1": lambda f: isinstance(f, hf.SettingsFrame) and f.settings.get(8, 0) > 1,
    # a setting that comes twice: hyperframe keeps the last
    "each setting": lambda f: isinstance(f, hf.SettingsFrame) and f.body_len // 6 > len(f.settings),
}


def by_hyperframe(data: bytes):
    """Read a frame, or None where hyperframe refuses it. It does not ignore the reserved bit of increments (RFC 9113 6.9)."""
    if data[3] == 8 and len(data) > 9:
        data = data[:9] + bytes([data[9] & 127]) + data[10:]
    try:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9:9 + length]))
    except HyperframeError:
        return None
    return frame


def check_alike(parts: dict, frame, length: int) -> None:
    assert parts["stream"] == frame.stream_id
    assert parts["length"] == length
    if frame.type is None:      # ExtensionFrame
        assert (parts["type"], parts["flags"], parts["payload"], parts["idle"]) == (frame.type, frame.flag_byte, frame.body, 1)
        return
    assert parts["type"] == frame.type
    assert parts["flags"] == sum(FLAGS[name] for name in frame.flags)
    if isinstance(frame, hf.DataFrame | hf.HeadersFrame | hf.ContinuationFrame):
        assert parts["payload"] == frame.data
    if isinstance(frame, hf.RstStreamFrame):
        assert parts["code"] == frame.error_code
    if isinstance(frame, hf.GoAwayFrame):
        assert (parts["last_stream"], parts["code"]) == (frame.last_stream_id & 2**31 - 1, frame.error_code)
    if isinstance(frame, hf.WindowUpdateFrame):
        assert parts["code"] == frame.window_increment
    if isinstance(frame, hf.PingFrame):
        assert parts["payload"] == frame.opaque_data
    if isinstance(frame, hf.PriorityFrame | hf.HeadersFrame):
        itself = frame.depends_on == frame.stream_id and (isinstance(frame, hf.PriorityFrame) or "PRIORITY" in frame.flags)
        assert (parts["error"] == 1) == itself


SETTING = st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 9]), st.sampled_from([0, 1, 2, 16384, 2**24, 2**31, 2**31 - 1]))
PAYLOADS = st.one_of(
    st.binary(max_size=12), st.binary(min_size=4, max_size=4), st.binary(min_size=8, max_size=8), st.sampled_from([b"", b"\0" * 4, b"\0" * 5]),
    st.lists(SETTING, max_size=4).map(lambda pairs: b"".join(n.to_bytes(2, "big") + v.to_bytes(4, "big") for n, v in pairs)),
    st.builds(lambda padding, data: bytes([padding]) + data, st.integers(0, 8), st.binary(max_size=14)))
ANY = st.builds(
    lambda type, flags, stream, payload: len(payload).to_bytes(3, "big") + bytes([type, flags]) + stream.to_bytes(4, "big") + payload,
    st.integers(0, 9), st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 5, 8, 12, 36, 44])),
    st.sampled_from([0, 0, 1, 1, 2, 3, 2**31 - 1]), PAYLOADS)


def block_of_padding(data: bytes) -> bool:
    """A HEADERS frame with an empty field block and padding: the padding does not exceed what remains (RFC 9113 6.2), but
    hyperframe wants it to be less."""
    return data[3] == 1 and data[4] & (FLAGS["PADDED"] | FLAGS["PRIORITY"]) == FLAGS["PADDED"] and data[9] == len(data) - 10


def test_a_block_may_be_all_padding():
    used, parts = begun(0).next(data := b"\0\0\x09\x01\x08\0\0\0\x01\x08" + b"\0" * 8)
    assert (used, parts["error"], parts["payload"]) == (len(data), 0, b"") and by_hyperframe(data) is None


@given(ANY, st.sampled_from([0, 0, 0, 1, 3]))
def test_any_frame(data, block):
    expected = by_hyperframe(data)
    used, parts = begun(block).next(data)
    if expected is None:
        assert used == BAD or parts["error"] or block_of_padding(data)
        return
    broken = [name for name, rule in STRICTER.items() if rule(expected)]
    if block and not (isinstance(expected, hf.ContinuationFrame) and expected.stream_id == block):
        assert used == BAD
        return
    if used == BAD:
        assert broken
        return
    assert used == len(data)
    assert set(broken) <= {"a block goes on", "each setting"}
    check_alike(parts, expected, len(data) - 9)


WRITTEN = [
    hf.DataFrame(1, b"abc", pad_length=5, flags=["PADDED", "END_STREAM"]), hf.DataFrame(3, b""),
    hf.HeadersFrame(1, b"\x82", flags=["END_HEADERS"]),
    hf.HeadersFrame(1, b"\x82", depends_on=3, stream_weight=7, exclusive=True, pad_length=255, flags=["PRIORITY", "PADDED"]),
    hf.PriorityFrame(1, depends_on=0, stream_weight=255), hf.RstStreamFrame(1, error_code=2**32 - 1),
    hf.SettingsFrame(0, settings={1: 0, 3: 100, 4: 2**31 - 1, 5: 2**24 - 1, 0xffff: 1}), hf.SettingsFrame(0, flags=["ACK"]),
    hf.PingFrame(0, opaque_data=b"12345678", flags=["ACK"]), hf.GoAwayFrame(0, 2**31 - 1, 2, b"why"),
    hf.WindowUpdateFrame(0, 2**31 - 1), hf.WindowUpdateFrame(2**31 - 1, 1)]


@pytest.mark.parametrize("frame", WRITTEN, ids=repr)
def test_what_hyperframe_writes(frame):
    data = frame.serialize()
    used, parts = begun().next(data + b"more")
    assert (used, parts["error"]) == (len(data), 0)
    check_alike(parts, by_hyperframe(data), len(data) - 9)


@given(st.lists(st.tuples(ANY, st.integers(1, 30)), max_size=6))
def test_a_stream_of_frames_however_it_is_cut(frames):
    """The same frames come out, and the same error ends them, whether they come at once or in pieces."""
    data = BEGIN + b"".join(frame for frame, _ in frames)

    def all_of(size):
        reader, got, at, end = Reader(), [], 0, 0
        while end < len(data):
            end = min(end + size, len(data))
            while True:
                used, parts = reader.next(data[at:end])
                if used <= 0:
                    break
                got.append(parts)
                at += used
            if used == BAD:
                return [*got, parts["error"]]
        return got

    once = all_of(len(data))
    for _, size in frames:
        assert all_of(size) == once
