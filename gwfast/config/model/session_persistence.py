"""SessionPersistence, which rules of routes, policies and backends have, and its rules (shared_types.go).

v1.7 renamed fields: sessionName and cookieConfig became header, or cookie. The old names are read, with a warning, since an API
server of today drops them; old and new names of one thing are not mixed.
"""
from typing import Annotated, Literal

from msgspec import Meta

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import Type
from gwfast.config.scalars import Duration, HeaderName


class CookieConfig(Type, kw_only=True, frozen=True):
    name: HeaderName | None = None  # the Go type CookieName says the same
    path: Annotated[str, Meta(max_length=1024)] = "/"
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class HeaderConfig(Type, kw_only=True, frozen=True):
    name: HeaderName


class OldCookieConfig(Type, kw_only=True, frozen=True):
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Type, kw_only=True, frozen=True):
    """How requests of one client find the same backend. `session_name` and `cookie_config` are of v1.6."""

    absolute_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie: CookieConfig | None = None
    header: HeaderConfig | None = None
    session_name: Annotated[str, Meta(max_length=128)] | None = None
    cookie_config: OldCookieConfig | None = None

    @property
    def name(self) -> str:
        """The name of the cookie or header; '': the gateway may choose."""
        new = self.cookie if self.type == "Cookie" else self.header
        return (new.name if new else self.session_name) or ""

    @property
    def name_field(self) -> str:
        """Where the name stands."""
        new = self.cookie if self.type == "Cookie" else self.header
        return f"{self.type.lower()}.name" if new else "sessionName"

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the client's own session."""
        lasts = self.cookie or self.cookie_config
        return lasts is not None and lasts.lifetime_type == "Permanent"


def check_session(value: SessionPersistence, path: str) -> Findings:
    if value.permanent and not value.absolute_timeout:
        yield Finding(f"{path}.absoluteTimeout", "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent")
    if value.cookie_config and value.type != "Cookie":
        yield Finding(f"{path}.cookieConfig", "cookieConfig can only be set with type Cookie")


def check_session_since_1_7(value: SessionPersistence, path: str) -> Findings:
    renamed = ("sessionName", value.session_name), ("cookieConfig", value.cookie_config)
    old = next((name for name, one in renamed if one is not None), "")
    if old:
        if value.cookie or value.header:
            yield Finding(f"{path}.{old}", f"{old} is what v1.6 says for cookie or header, and must not be given beside them")
            return
        new = {"sessionName": f"{value.type.lower()}.name", "cookieConfig": "cookie"}[old]
        message = f"{old} is called {new} from v1.7 on, where an API server drops it"
        yield Finding(f"{path}.{old}", message, "warning", "OldShape")
        return
    for name, kind, given in (("cookie", "Cookie", value.cookie), ("header", "Header", value.header)):
        if given is not None and value.type != kind:
            yield Finding(f"{path}.{name}", f"{name} must be nil if type is not {kind}")
        if given is None and value.type == kind:
            yield Finding(f"{path}.{name}", f"{name} must be specified for {kind} type")
