"""What the sessions of a rule are known by (GEP-1619): the name of the cookie or header, and what stands around a token.

Rules:
- what the rule says comes before what a policy says of a backend
- sessions are a rule's: two rules have none in common, even where they lead to one Service and their cookies have one name
  (then the cookie has a token of each, see exchange/session)
- a name that nobody gave is made of whose sessions they are, so that it stays the same
- cookies are for every path unless another one is asked for: rules may have several. `SameSite=Lax` and not Strict, with which
  whoever comes by a link from another site would begin a new session in the middle of the old one
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
        """What a line of a response has before the token."""
        return f"{self.name}: " if self.session.type == "Header" else f"Set-Cookie: {self.name}="

    @property
    def behind(self) -> str:
        """What it has behind the token; cookies that were asked for over TLS are `Secure` besides."""
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
