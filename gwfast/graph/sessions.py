"""Are the name and the path of a session what a cookie or a header can have (RFC 6265 4.1.1, RFC 9110 5.1)? The API leaves that
open."""
import re

from gwfast.config.model import SessionPersistence
from gwfast.grammar import is_token

# Fields that frame a message, belong to a connection or say where it goes: no session is known by them.
_TAKEN = frozenset(("connection", "content-length", "cookie", "date", "expect", "host", "keep-alive", "proxy-connection",
                    "set-cookie", "te", "trailer", "transfer-encoding", "upgrade"))
_COOKIE_PATH = re.compile(r"/[ -:<-~]*")  # what a browser takes for none of its own (RFC 6265 5.2.4) begins with no '/'


def session_fault(session: SessionPersistence | None) -> tuple[str, str] | None:
    """Return why sessions cannot be known by what is asked for, and the field that says so; None where they can."""
    if session is None:
        return None
    if session.cookie and not _COOKIE_PATH.fullmatch(session.cookie.path):
        return f"{session.cookie.path!r} is not the path of a cookie: '/' and visible ASCII but ';'", "cookie.path"
    words = _name_fault(session.name, session.type == "Header") if session.name else ""
    return (words, session.name_field) if words else None


def _name_fault(name: str, header: bool) -> str:
    if not is_token(name):
        return f"{name!r} is not the name of a cookie or header: letters, digits and !#$%&'*+-.^_`|~"
    if header and name.lower() in _TAKEN:
        return f"{name} is not for sessions: HTTP has a use of its own for it"
    if header and "_" in name:
        return f"{name!r} has a '_', and fields with one are left out of requests"
    return ""
