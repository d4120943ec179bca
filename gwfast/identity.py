"""Bits that stand for content, the same in every process, so that nothing has to be numbered across them.

BLAKE2 is taken from where hashlib has it: hashlib itself loads OpenSSL, 4 MiB that a gateway without TLS has no use for.
"""
from _blake2 import blake2b


def digest(content: bytes, size: int = 8) -> bytes:
    """Return `size` bytes that stand for `content`."""
    return blake2b(content, digest_size=size).digest()


def identity(content: str | bytes) -> int:
    """Return 64 bits that stand for `content` in tables and credentials; never 0."""
    return int.from_bytes(digest(content.encode() if isinstance(content, str) else content), "little") or 1
