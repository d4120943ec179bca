"""How values of annotations are read: as ingress-nginx reads them. Each returns a value, or says in a ValueError what would
be right."""
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")  # Go's strconv.ParseBool
_TIME = re.compile(r"(\d+)(ms|s|m|h|d|w|M|y|)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000, "": 1}
_SIZE = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def boolean(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("true or false is needed")


def number(text: str) -> int:
    if not re.fullmatch(r"[-+]?\d{1,18}", text.strip()):
        raise ValueError("a whole number is needed")
    return int(text)


def words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def multiline(text: str) -> str:
    return text


def listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(number(one) for one in listed(text))


def networks(text: str) -> tuple[str, ...]:
    """'10.0.0.0/8,192.0.2.1'."""
    return tuple(str(ipaddress.ip_network(one, strict=False)) for one in listed(text))


def seconds(text: str) -> float:
    """'60', '60s', '5m': a time of nginx."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise ValueError("a time such as 60 or 60s is needed")
    return int(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """'8m', '0': bytes; nginx's units."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError("a size such as 8m is needed")
    return int(found[1]) * _UNITS[found[2].lower()]


def path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("a path that begins with / is needed")
    return text


def url(text: str) -> str:
    """'https://host/path', with nginx's variables where there are some."""
    text = text.strip()
    if not re.match(r"(?:https?://|\$scheme://|/|\$)", text) or any(one.isspace() for one in text):
        raise ValueError("a URL is needed")
    if "$" not in text:
        urlsplit(text)
    return text


def one_of(*known: str, upper: bool = False) -> Callable[[str], str]:
    """Return what reads one of some words; `upper`: whatever their case."""
    def read(text: str) -> str:
        word = text.strip().upper() if upper else text.strip()
        if word not in known:
            raise ValueError(f"one of {', '.join(known)} is needed")
        return word
    return read
