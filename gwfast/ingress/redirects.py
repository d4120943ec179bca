"""nginx's `return 30x URL` as a RequestRedirect.

Rules:
- $request_uri is the path and query of the request, $scheme, $host and $http_host its own: they are what a RequestRedirect
  leaves open. Any other variable cannot be said.
- A RequestRedirect always takes the request's query along; nginx does where $request_uri is in the URL alone.
"""
import re

from gwfast.config.scalars import SUBDOMAIN
from gwfast.ingress.annotations.table import Said, Spec, converted, lost, reduced

CODES = (301, 302, 303, 307, 308)
_URL = re.compile(r"(?:(?P<scheme>https?|\$scheme)://(?P<host>[^/:?$]+|\$host|\$http_host)(?::(?P<port>\d{1,5}))?)?(?P<rest>(?:/[^$?]*)?)"
                  r"(?P<query>\?[^$]*)?(?P<uri>\$request_uri)?")


def redirect(url: str, code: int, prefix: str | None) -> tuple[Spec | None, Said]:
    """Return the filter that leads to `url`, and what is said of it. `prefix` is the rule's PathPrefix, None where it has
    none."""
    found = _URL.fullmatch(url)
    if not found:
        return None, lost("of nginx's variables only $scheme, $host and $request_uri can be in a redirect")
    body: Spec = {"statusCode": code if code in CODES else 302}
    if found["scheme"] in ("http", "https"):
        body["scheme"] = found["scheme"]
    if host := found["host"]:
        host = host.lower()
        if host[0] != "$" and not re.match(SUBDOMAIN, host):
            return None, lost(f"{host!r} is no name of a host")
        body |= {"hostname": host} if host[0] != "$" else {}
    if found["port"]:
        body["port"] = int(found["port"])
    said = converted("RequestRedirect") if code in CODES else reduced(f"RequestRedirect with 302: there is none with {code}")
    if found["uri"]:
        return _with_path(body, found["rest"].rstrip("/") if found["rest"] != "/" else "", prefix, said, bool(found["query"]))
    body["path"] = {"type": "ReplaceFullPath", "replaceFullPath": found["rest"] or "/"}
    if found["query"]:
        return _made(body), reduced(f"RequestRedirect without {found['query']}")
    return _made(body), reduced(f"{said.words}: the query of the request goes along") if said.outcome == "converted" else said


def _with_path(body: Spec, before: str, prefix: str | None, said: Said, query: bool) -> tuple[Spec | None, Said]:
    if query:
        return None, lost("a query cannot stand before $request_uri")
    if before:
        if prefix is None:
            return None, lost("only where a path is a prefix can another one be put before it")
        body["path"] = {"type": "ReplacePrefixMatch", "replacePrefixMatch": before + prefix.rstrip("/")}
    return _made(body), said


def _made(body: Spec) -> Spec:
    return {"type": "RequestRedirect", "requestRedirect": body}
