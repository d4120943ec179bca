"""Paths, redirects and names of hosts: what most depends on the location, and is said where locations are converted."""
from typing import Any

from gwfast.ingress.annotations import kinds
from gwfast.ingress.annotations.table import Annotation, Asked, Said, converted, later, not_needed, reduced, unless


def trailing_slash(asked: Asked, value: bool) -> Said:
    return (
        converted("a redirect to https keeps the path as it is")
        if value
        else not_needed("a redirect to https always keeps it")
    )


def redirect_code(asked: Asked, value: int) -> Said | None:
    """The redirect that it belongs to says what becomes of it."""
    url = "permanent-redirect" if asked.get("permanent-redirect") and not asked.get("temporal-redirect") else "temporal-redirect"
    return None if asked.get(url) else not_needed("there is no redirect that it would be the status of")


def forwarded_prefix(asked: Asked, value: str) -> Said:
    if not asked.get("rewrite-target"):
        return not_needed("it is sent with a rewrite-target alone, and there is none")
    asked.request_headers["X-Forwarded-Prefix"] = value
    return converted("RequestHeaderModifier")


def relative(asked: Asked, value: Any) -> Said:
    return reduced("a Location has scheme and host; it leads to the same place")


TABLE = (
    Annotation("rewrite-target", kinds.words, later),
    Annotation("use-regex", kinds.boolean, later),
    Annotation("app-root", kinds.path, later),
    Annotation("ssl-redirect", kinds.boolean, later),
    Annotation("force-ssl-redirect", kinds.boolean, later),
    Annotation("preserve-trailing-slash", kinds.boolean, trailing_slash),
    Annotation("permanent-redirect", kinds.url, later),
    Annotation("permanent-redirect-code", kinds.number, redirect_code),
    Annotation("temporal-redirect", kinds.url, later),
    Annotation("temporal-redirect-code", kinds.number, redirect_code),
    Annotation("from-to-www-redirect", kinds.boolean, later),
    Annotation("relative-redirects", kinds.boolean, lambda asked, value: relative(asked, value) if value
               else not_needed("a Location has scheme and host")),
    Annotation("use-port-in-redirects", kinds.boolean, unless(
        False, reduced("a redirect to https leads to port 443, whatever port nginx listened on"))),
    Annotation("server-alias", kinds.listed, later),
    Annotation("x-forwarded-prefix", kinds.words, forwarded_prefix),
)
