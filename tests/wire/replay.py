"""The one checker of heads: every prefix, every split, at the guard page, with and without bytes behind."""
from gwfast.http1.parser import request_at, response_at


def replay(parse, guard, data: bytes, **options):
    """Return the verdict on data, after asserting that it does not depend on how the bytes arrive.

    A prefix is PARTIAL (0) until the verdict falls and gives that verdict from then on; what had been seen at any
    earlier point does not change it; nothing behind the head does.
    """
    address = guard.at(data)
    whole = parse(address, len(data), **options)
    decided = None
    for n in range(len(data) + 1):
        verdict = parse(guard.at(data[:n]), n, **options)
        if decided is None and verdict != 0:
            decided = n
        assert verdict == (0 if decided is None else whole), (n, data[:n])
    address = guard.at(data)
    last = len(data) if decided is None else decided
    for seen in range(last):
        assert parse(address, len(data), seen=seen, **options) == whole, ("seen", seen)
    for n in range(1, last + 1):  # byte by byte
        assert parse(guard.at(data[:n]), n, seen=n - 1, **options) == (whole if n == decided else 0), ("bytewise", n)
    tail = data + b"\r\n GET / \x00"
    if whole != 0:
        assert parse(guard.at(tail), len(tail), **options) == whole
    return whole


def check(parse, guard, data: bytes, expected, **options) -> None:
    """Assert a verdict: an int, or the parts that a head must have."""
    result = replay(parse, guard, data, **options)
    if isinstance(expected, int):
        assert result == expected
        return
    assert isinstance(result, dict), result
    assert result["head_len"] == len(data)
    for key, value in expected.items():
        got = flags_of(result) if key == "flags" else names_of(result) if key == "names" else result[key]
        assert got == value, (key, got, value)


def flags_of(head) -> dict:
    return {name.lower(): flags for name, _, _, flags, _, _ in head["fields"] if flags}


def names_of(head) -> list:
    return [name for name, *_ in head["fields"]]


def check_request(guard, data, expected, **options):
    check(request_at, guard, data, expected, **options)


def check_response(guard, data, expected, **options):
    check(response_at, guard, data, expected, **options)
