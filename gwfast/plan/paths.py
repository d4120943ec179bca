"""Paths: the normal form in which they are compared, and what URLRewrite and RequestRedirect make of them.

Rules:
- normal form is RFC 3986 6.2.2: escapes of unreserved octets decoded, hex digits upper-case, dot segments and empty
  segments removed; a trailing '/' stays
- what a filter writes into a path is quoted first: neither a request line nor a Location can be broken by it
"""
import re
from urllib.parse import quote

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_PATH_CHARACTERS = "/:@!$&'()*+,;=%"  # RFC 3986 3.3, besides the unreserved


def normal_path(path: str) -> str:
    """Return `path` (absolute, without query) in normal form."""
    if "%" in path:
        path = _ESCAPE.sub(_normal_escape, path)
    if "//" not in path and "/." not in path:
        return path
    kept: list[str] = []
    *segments, last = path.split("/")[1:]
    for segment in segments:
        _step(kept, segment)
    if last in (".", ".."):
        _step(kept, last)
        last = ""
    return "/" + "".join(f"{segment}/" for segment in kept) + last


def normal_prefix(path: str) -> str:
    """Return a PathPrefix value in normal form: without trailing '/', except for '/' itself (spec 5.1)."""
    return normal_path(path).rstrip("/") or "/"


def under(path: str, prefix: str) -> bool:
    """Say whether `prefix` (normal) takes `path` (normal), element by element: '/v2' takes '/v2/x', not '/v2x'."""
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


def replace_prefix(path: str, prefix: str, replacement: str) -> str:
    """Return `path`, as it was sent, with `prefix` (normal) replaced, by the table of spec 5.5; slashes at the end of either do
    not count, and what is behind the prefix stays as it is."""
    return replacement.rstrip("/") + path[_prefix_end(path, prefix.rstrip("/").count("/")):] or "/"


def _prefix_end(path: str, depth: int) -> int:
    """Return where the prefix of so many elements ends: from there on no '..' leads out of it."""
    here = at = behind = 0
    inside = depth == 0
    for segment in path.split("/")[1:]:
        at += 1 + len(segment)
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            here = max(here - 1, 0)
            inside = inside and here >= depth
        elif dots not in ("", "."):
            here += 1
            if here == depth and not inside:
                inside, behind = True, at
    return behind


def quoted_path(value: str) -> str:
    """Return `value` as an absolute path: what a path cannot hold is percent-encoded, '?' and '#' too."""
    value = quote(value, safe=_PATH_CHARACTERS)
    value = re.sub("%(?![0-9A-Fa-f]{2})", "%25", value)
    return value if value.startswith("/") else "/" + value


def _normal_escape(found: re.Match[str]) -> str:
    octet = chr(int(found[0][1:], 16))
    return octet if _UNRESERVED.match(octet) else found[0].upper()


def _step(kept: list[str], segment: str) -> None:
    if segment == "..":
        del kept[-1:]
    elif segment not in ("", "."):
        kept.append(segment)
