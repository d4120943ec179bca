"""Protobuf as it is written down (protobuf.dev/programming-guides/encoding), and the frame of gRPC: by hand."""

def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields: tuple[int, int | bytes]) -> bytes:
    return b"".join(field(*each) for each in fields)


def frame(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def read(data: bytes) -> dict[int, list]:
    """The fields of a message, in the order of each number."""
    found: dict[int, list] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found.setdefault(tag >> 3, []).append(number())
        else:
            assert tag & 7 == 2
            n = number()
            assert at + n <= len(data)
            found.setdefault(tag >> 3, []).append(data[at:at + n])
            at += n
    return found


def path(data: bytes, *numbers: int):
    """What is at the end of these fields, one in the other; None where there is none."""
    for each in numbers:
        found = read(data).get(each)
        if found is None:
            return None
        data = found[-1]
    return data
