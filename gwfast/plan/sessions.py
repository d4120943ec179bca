"""Session persistence of a rule (GEP-1619): the name of its cookie or header, and the text before and behind a token.

Rules:
- sessionPersistence of the rule comes before that of a policy of its backend
- sessions belong to a rule: two rules have none in common, even if they lead to one Service and their cookies have one name
  (then the cookie has a token of each, see exchange/session)
- a name that is not given is made of the rule's identity, so that it stays the same
- the path of a cookie is '/' unless another one is given, since a rule may have several paths. Cookies are `SameSite=Lax`: with
  Strict, a client that follows a link from another site would begin a new session
"""
from typing import NamedTuple

from gwfast.identity import identity
from gwfast.plan.ir import Backend, Rule, SessionPersistence


class Sessions(NamedTuple):
    """Those of a rule. rule: the identity that their tokens are bound to; name: of the cookie or header."""

    session: SessionPersistence
    rule: int
    name: str

    @property
    def before(self) -> str:
        """The start of the response's header field, up to the token."""
        return f"{self.name}: " if self.session.type == "Header" else f"Set-Cookie: {self.name}="

    @property
    def behind(self) -> str:
        """The end of that field, behind the token. The cookies of requests over TLS are `Secure` besides."""
        if self.session.type == "Header":
            return ""
        lasts = f"; Max-Age={max(1, round(self.session.absolute_timeout or 0))}" if self.session.permanent else ""
        return f"; Path={self.session.path}{lasts}; HttpOnly; SameSite=Lax"


def sessions_of(rule: Rule, backend: Backend | None) -> Sessions | None:
    """Return what the sessions of a rule with one of its backends (None: with each) are known by; None: there are none."""
    if rule.kind not in ("HTTPRoute", "GRPCRoute"):
        return None
    if rule.session is not None:
        session, made_of = rule.session, rule.known_as
    elif backend is not None and backend.session is not None:
        session, made_of = backend.session, f"{rule.known_as} {backend.namespace}/{backend.name}:{backend.port}"
    else:
        return None
    return Sessions(session, identity(rule.known_as), session.name or f"gwfast-{identity(made_of):016x}")
