"""What HTTP calls things, where Python has to know it."""
import re

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Fields that say where a message ends or belong to one connection: only the proxy itself writes them (RFC 9110 7.6.1).
FRAMING = frozenset(("connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-connection", "te",
                     "trailer", "transfer-encoding", "upgrade"))

# Fields of which a message has one, that are no lists (RFC 9110 5.3): what is added takes the place of what is there.
SINGLE = frozenset((
    "age", "authorization", "content-location", "content-range", "content-type", "date", "etag", "expires", "from",
    "if-modified-since", "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "origin",
    "proxy-authorization", "referer", "retry-after", "server", "user-agent"))


def is_token(text: str) -> bool:
    """Return whether this can be the name of a field or a cookie, or a method (RFC 9110 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None
