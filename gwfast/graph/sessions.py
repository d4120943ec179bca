"""Is the name of a session one that a cookie or a header can have (RFC 6265 4.1.1, RFC 9110 5.1)? The API leaves that open."""
from gwfast.config.model import SessionPersistence
from gwfast.grammar import is_token

# Fields that frame a message, belong to a connection or say where it goes: no session is known by them.
_TAKEN = frozenset(("connection", "content-length", "cookie", "date", "expect", "host", "keep-alive", "proxy-connection",
                    "set-cookie", "te", "trailer", "transfer-encoding", "upgrade"))


def session_fault(session: SessionPersistence | None) -> str:
    """Return why sessions cannot be known by what is asked for, '' where they can."""
    name = session.session_name if session else None
    if not name:
        return ""
    if not is_token(name):
        return f"{name!r} is not the name of a cookie or header: letters, digits and !#$%&'*+-.^_`|~"
    if session.type == "Header" and name.lower() in _TAKEN:
        return f"{name} is not for sessions: HTTP has a use of its own for it"
    if session.type == "Header" and "_" in name:
        return f"{name!r} has a '_', and fields with one are left out of requests"
    return ""
