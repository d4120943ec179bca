"""Methods of gRPC as paths: a call is a POST to '/service/method' (gRPC over HTTP2, "Requests").

Rules (grpcroute_types.go:332-368):
- Exact names of both are one path; a service alone is the prefix of its methods.
- All else is a regular expression: a method alone, expressions, and every call ('/.*'), so that what names a method comes
  before what names none.
"""
from __future__ import annotations

import re

from gwfast.config.model import GRPCMethodMatch

ANY_CALL = ("RegularExpression", "/.*")


def method_path(method: GRPCMethodMatch | None) -> tuple[str, str]:
    """Return the type and the value of the path match that a method match is."""
    service, name = (method.service or "", method.method or "") if method else ("", "")
    if method is None or not service and not name:
        return ANY_CALL
    if method.type == "RegularExpression":
        return ("RegularExpression", f"/{_part(_unanchored(service))}/{_part(_unanchored(name))}")
    if not service:
        return ("RegularExpression", f"/[^/]+/{re.escape(name)}")
    return ("Exact", f"/{service}/{name}") if name else ("PathPrefix", f"/{service}")


def _part(expression: str) -> str:
    return f"(?:{expression})" if expression else "[^/]+"


def _unanchored(expression: str) -> str:
    """An expression matches the whole name, with or without anchors around it."""
    expression = expression.removeprefix("^")
    ended = re.search(r"(?<!\\)(?:\\\\)*\$$", expression)  # a '$' behind a backslash is itself
    return expression[:-1] if ended else expression
