"""Write the wire tests' tables as files to start a fuzzer from: python seeds.py FOLDER."""
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
import test_wire_chunks
import test_wire_requests
import test_wire_responses

REQUEST, RESPONSE, CHUNKS, TRAILERS = range(4)


def seeds():
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
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for parser, data in seeds():
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(bytes([parser, 128]) + data)
