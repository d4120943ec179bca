"""What a ServiceAccount's token says of itself (RFC 7519), read without a look at its signature.

    claimed(token, audience, now) -> Account | None      None: whoever signed it, it cannot be one that opens a stream

Rules:
- Nothing here is believed: it is enough to refuse a token, so that the API server is not asked about what anybody can make up.
- A token has three parts, an algorithm, our audience, a ServiceAccount as its subject, and an end that is not over. Clocks may
  differ by LEEWAY; the API server decides.
"""
import base64
import binascii
from typing import NamedTuple

import msgspec

TOKEN_BYTES = 16 * 1024  # those of ServiceAccounts have some 1,200
LEEWAY = 60.0  # seconds


class Account(NamedTuple):
    """A ServiceAccount."""

    namespace: str
    name: str


class _Header(msgspec.Struct):
    alg: str


class _Claims(msgspec.Struct):
    sub: str
    aud: str | tuple[str, ...]
    exp: float


_header = msgspec.json.Decoder(_Header).decode
_claims = msgspec.json.Decoder(_Claims).decode


def claimed(token: str, audience: str, now: float) -> Account | None:
    """Return the account that a token names; None where it cannot be for `audience` at `now` (seconds since 1970)."""
    parts = token.split(".") if len(token) <= TOKEN_BYTES else ()
    if len(parts) != 3 or not all(parts):
        return None
    try:
        header, claims = _header(_decoded(parts[0])), _claims(_decoded(parts[1]))
        _decoded(parts[2])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    if header.alg in ("", "none") or audience not in audiences or claims.exp + LEEWAY < now:
        return None
    return account_of(claims.sub)


def account_of(user: str) -> Account | None:
    """Return the ServiceAccount of a user's name, which is that of a token's subject."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name] if namespace and name:
            return Account(namespace, name)
    return None


def _decoded(part: str) -> bytes:
    """Decode base64url without padding; ValueError."""
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
