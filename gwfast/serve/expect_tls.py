"""Whether TLS will be needed, before anything is parsed: what workers share has to be there before they are forked."""
import os
from collections.abc import Iterable, Iterator

from gwfast.config.files import SUFFIXES, opened

WORDS = (b"HTTPS", b"TLS")  # of listeners, and of BackendTLSPolicy and TLSRoute
MOST = 64 << 20  # bytes that are looked at: more than 100,000 routes have


def expects_tls(paths: Iterable[str]) -> bool:
    """Say whether a file in these mentions TLS; standard input ('-') cannot be looked at and counts as one that does."""
    left = MOST
    for path in _files(paths):
        if path == "-":
            return True
        try:
            with opened(path) as file:
                data = file.read(left) or b""  # None of a FIFO that nobody has written into
        except OSError:
            continue  # who reads it in earnest says so
        if any(word in data for word in WORDS):
            return True
        left -= len(data)
        if left <= 0:
            break
    return False


def _files(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                yield from (os.path.join(folder, name) for name in names if name.endswith(SUFFIXES))
        else:
            yield path
