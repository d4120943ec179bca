"""How words are read: what HTTP calls things, and sizes."""
import re
from collections.abc import Callable

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Fields that say where a message ends or belong to one connection: only the proxy itself writes them (RFC 9110 7.6.1).
FRAMING = frozenset(("connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-connection", "te",
                     "trailer", "transfer-encoding", "upgrade"))


def is_token(text: str) -> bool:
    """Return whether this can be the name of a field or a cookie, or a method (RFC 9110 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def size(text: str) -> int:
    """'16384', '16k', '16KiB'."""
    parts = re.fullmatch(r"(\d{1,9}) ?(k|kb|kib|)", text.lower(), re.ASCII)
    if not parts:
        raise ValueError("a size such as 16384, 16k or 16KiB is needed")
    return int(parts[1]) * (1024 if parts[2] else 1)


def bounded(kind: Callable[[str], int], least: int, most: int) -> Callable[[str], int]:
    """Return what reads this kind of number, within these bounds."""
    def parsed(text: str) -> int:
        value = kind(text)
        if not least <= value <= most:
            raise ValueError(f"{least} to {most} can be asked for")
        return value
    return parsed
