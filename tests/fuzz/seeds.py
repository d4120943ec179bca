"""Write the wire tests' tables as files to start a fuzzer from: python seeds.py FOLDER."""
import hashlib
import sys
from pathlib import Path

sys.path.extend([str(Path(__file__).parents[1] / folder) for folder in ("wire", "property", "")])
import test_extauthz
import test_wire_chunks
import test_wire_frames
import test_wire_hello
import test_wire_hpack
import test_wire_requests
import test_wire_responses
from support.protobuf import frame, message

REQUEST, RESPONSE, CHUNKS, TRAILERS = range(4)


def http1():
    """Yield inputs of _fuzz_http1.pyx."""
    yield from (bytes([parser, 128]) + data for parser, data in heads())


def hpack():
    """Yield inputs of _fuzz_hpack.pyx."""
    for most, blocks, _, _ in test_wire_hpack.EXAMPLES.values():
        parts = [bytes.fromhex(block) for block in blocks]
        padded = [part + b"\x82" * (-len(part) % 4) for part in parts]
        yield bytes([255 if most > 256 else 0x44, 255, 3]) + b"".join(bytes([len(part) // 4]) + part for part in padded)
    for table in (test_wire_hpack.REFUSED.values(), (data for data, _ in test_wire_hpack.SERVED.values())):
        yield from (bytes([255, 255, 3, 255]) + bytes.fromhex(data) for data in table)


def frames():
    """Yield inputs of _fuzz_frames.pyx."""
    for table in (test_wire_frames.SERVED, test_wire_frames.REFUSED):
        yield from (b"\x0e" + test_wire_frames.BEGIN + data for data, _ in table.values())
    yield b"\x0e" + test_wire_frames.BEGIN + test_wire_frames.OPEN + test_wire_frames.GOES_ON * 9


def http2_head():
    """Yield inputs of _fuzz_http2_head.pyx."""
    get = ((":method", "GET"), (":scheme", "https"), (":path", "/a/../b%2Fc?q=1"), (":authority", "a.test:8443"))
    post = ((":method", "POST"), *get[1:])
    lists = (
        get, get[:3] + (("host", "a.test"),), get + (("host", "a.test:8443"), ("accept", "*/*"), ("x_y", "z")), get[1:], get + get[:1],
        get + (("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "")), get + (("te", "trailers"),), get + (("te", "gzip"),),
        get + (("connection", "close"),), get + (("transfer-encoding", "chunked"),), (("accept", "*/*"), *get), get + (("Accept", "*/*"),),
        post, post + (("content-length", "5"), ("expect", "100-continue")), post + (("content-length", "5"), ("content-length", "6")),
        ((":method", "OPTIONS"), get[1], (":path", "*"), get[3]), ((":method", "CONNECT"), get[3]), ((":method", "TRACE"), *get[1:]),
        ((":method", "CONNECT"), (":protocol", "websocket"), *get[1:], ("sec-websocket-key", "x"), ("sec-websocket-version", "13")),
        get[:3] + ((":authority", "[::1]"),), get[:3] + ((":authority", "a@b"),), get[:2] + ((":path", ""), get[3]))
    for fields in lists:
        text = "".join(f"{name}\t{value}\n" for name, value in fields).encode()
        yield from (bytes([ended]) + text for ended in (0, 1))
    for _, blocks, _, _ in test_wire_hpack.EXAMPLES.values():
        yield from (b"\x03" + bytes.fromhex(block) for block in blocks)


def hello():
    """Yield inputs of _fuzz_hello.pyx."""
    yield from (b"\x55" + data for data, *_ in test_wire_hello.SERVED.values())
    yield from (b"\x55" + data for _, data in test_wire_hello.REFUSED.values())
    yield from (b"\x55" + test_wire_hello.recut(data, 50) for data, *_ in test_wire_hello.REAL.values())


def verdict():
    """Yield inputs of _fuzz_verdict.pyx."""
    whole = (test_extauthz.GOOD, *test_extauthz.BAD.values(), *(frame(each) for each in answers()))
    yield from (b"\0\0" + data for data in whole)
    yield from (b"\1\0" + data[5:] for data in whole)
    yield from (b"\2" + bytes([split]) + data + b"body" for data, _ in test_wire_requests.SERVED.values() for split in (0, 3, 200))


def answers():
    """Yield messages with every field that is read."""
    for name in (b"x-a", b"authorization", b"set-cookie", b"connection", b"content-length", b"transfer-encoding", b":path", b"x_y"):
        for more in ((), ((2, message((1, 1))),), ((2, b""),), *(((3, action),) for action in range(4))):
            one = message((1, message((1, name), (2, b"5"))), *more)
            yield message((1, message((1, 0))), (3, message((2, one), (2, one), (5, name), (6, one), (6, one))))
            yield message((1, message((1, 7))), (2, message((1, message((1, 401))), (2, one), (2, one), (3, b"no"))))
    yield message((1, message((1, 0))), (3, message((2, message((1, message((1, b"x-raw"), (3, b"raw"))))))))


def heads():
    """Yield (parser, bytes)."""
    for table in (test_wire_requests.SERVED, test_wire_requests.REFUSED):
        yield from ((REQUEST, data) for data, _ in table.values())
    yield from ((RESPONSE, data) for data, _ in test_wire_responses.SERVED.values())
    yield from ((RESPONSE, data) for data in test_wire_responses.REFUSED.values())
    for table in (test_wire_chunks.READ, test_wire_chunks.REFUSED):
        yield from ((CHUNKS, data) for data, _ in table.values())
    yield from ((TRAILERS, data) for data, _ in test_wire_chunks.TRAILERS.values())
    yield from ((TRAILERS, data) for data in test_wire_chunks.BROKEN.values())


if __name__ == "__main__":
    for target in (http1, hpack, frames, http2_head, hello, verdict):
        folder = Path(sys.argv[1]) / target.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for data in target():
            (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
