"""Bits that stand for content, the same in every process, so that nothing has to be numbered across them.

    label_value(name)    what stands for a name in a label of Kubernetes: the name, or as much of it as has room, and a hash

BLAKE2 is taken from where hashlib has it: hashlib itself loads OpenSSL, 4 MiB that a gateway without TLS has no use for.
"""
from _blake2 import blake2b

LABEL_LENGTH = 63  # of a label's value, and of a Service's name (RFC 1035)
HASH_LENGTH = 8  # hexadecimal digits


def digest(content: bytes, size: int = 8) -> bytes:
    """Return `size` bytes that stand for `content`."""
    return blake2b(content, digest_size=size).digest()


def hashed(text: str, of: str, most: int = LABEL_LENGTH) -> str:
    """Return `text`, cut to fit, with a hash of `of`."""
    return f"{text[:most - HASH_LENGTH - 1].rstrip('-._')}-{digest(of.encode(), HASH_LENGTH // 2).hex()}"


def label_value(text: str) -> str:
    """Return what stands for a name in a label: the name itself, unless it is too long."""
    return text if len(text) <= LABEL_LENGTH else hashed(text, text)


def identity(content: str | bytes) -> int:
    """Return 64 bits that stand for `content` in tables and credentials; never 0."""
    return int.from_bytes(digest(content.encode() if isinstance(content, str) else content), "little") or 1
