"""What HTTP calls things, where Python has to know it."""
import re

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_token(text: str) -> bool:
    """Return whether this can be the name of a field or a cookie, or a method (RFC 9110 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None
