r"""nginx's locations as path matches of HTTPRoutes, so that what wins there wins here.

    Server(locations in nginx's order) ──> [Place(location, matches, rewrite, exact)]   in the same order

Rules:
- gwfast tries Exact, then regular expressions (the longer text first), then the longest PathPrefix. Where nginx's order is
  another one, a path becomes what keeps it: the prefix of a regular expression's host becomes an expression, an expression
  gets `^` in front of it, which means nothing and makes it longer.
- A character prefix (`/foo` takes `/foobar`) is a PathPrefix, and an expression for what follows without a '/'. What else
  begins so on that host must be an expression too, or it would come later.
- An expression takes what nginx's takes: from its first character, to whatever end, without case. `clean` leaves out what
  nobody means: characters of Exact and Prefix paths are themselves, case counts, elements are whole.
- A rewrite with captures is one of a prefix or it is none: that is found out by rewriting paths, not by reading expressions.
"""
import re
from functools import lru_cache
from urllib.parse import quote

from msgspec import Struct, field

from gwfast.config.scalars import PATH
from gwfast.ingress.annotations.table import Said, Spec, converted, lost, reduced
from gwfast.ingress.locations import Location, Server, Site, choose, compiled, rewrites
from gwfast.plan import regex

_META = re.compile(r"[\\^$.|?*+()\[\]{}]")
_ROOT_OR_END = re.compile(r"\((?:\?:)?/\|\$\)(?:\(\.\*\)|\.\*)?\$?\Z")  # (/|$)(.*) at the end: a '/' and more, or nothing
ANY = ("/q7", "/q7/z.y/", "/")  # what may follow a prefix
SAFE = "/:@!$&'()*+,;=%-._~"
LONGEST = 1024  # characters of a path match


class Place(Struct):
    """A location as path matches. `prefix`: the one PathPrefix that it is; `modifier`: of URLRewrite.path; `exact`: paths for
    which the rewrite is another one; `slash`: paths that are redirected to themselves with a '/'."""

    location: Location
    matches: list[Spec] = field(default_factory=list)
    prefix: str | None = None
    modifier: Spec | None = None
    exact: list[tuple[str, Spec | None]] = field(default_factory=list)
    slash: list[str] = field(default_factory=list)
    said: list[tuple[str, Said]] = field(default_factory=list)  # annotation or 'path', what is said
    bare: str = ""  # the path of its prefix, which is not its own
    lost: bool = False  # it cannot be matched, or must not be served as it is


def places(site: Site, server: Server, faithful: bool) -> list[Place]:
    """Return what becomes of each location of a server, in their order."""
    found = [Place(each) for each in server.locations if not _twin(server, each)]
    if server.regex:  # of equal texts the first is found
        found = list({place.location.path: place for place in reversed(found)}.values())[::-1]
    for place in found:
        if rewrites(site, place.location):
            _rewrite(site, server, place, faithful)
    for place in found:
        if not server.regex:
            _plain(server, place, faithful)
        elif place.prefix is None:
            _expression(place, faithful)
    if server.regex and faithful:
        _in_order(found)
    for place in found:
        _give_back(server, place, found)
    return found


def _give_back(server: Server, place: Place, found: list[Place]) -> None:
    """Let the location have the path of a prefix itself that has it in nginx: `/a/(.*)` does not take `/a`."""
    if not place.bare:
        return
    other = choose(server, place.bare)
    owner = next((each for each in found if each.location is other), None)
    if owner is None or not owner.location.upstream or owner.modifier and owner.modifier["type"] != "ReplaceFullPath":
        place.said.append(("rewrite-target", reduced(f"{place.bare} itself is taken too, which nginx gave to {other}")))
    else:
        owner.matches = [*owner.matches, exact(place.bare)]
        owner.prefix = None if len(owner.matches) > 1 else owner.prefix


def exact(path: str) -> Spec:
    return {"path": {"type": "Exact", "value": _literal(path)}}


def prefix(path: str) -> Spec:
    return {"path": {"type": "PathPrefix", "value": _literal(path)}}


def expression(pattern: str) -> Spec:
    return {"path": {"type": "RegularExpression", "value": pattern}}


def _literal(path: str) -> str:
    return path if re.match(PATH, path) else quote(path, safe=SAFE)


def _twin(server: Server, location: Location) -> bool:
    """Whether a location is the `= /a` of a Prefix `/a`, which a PathPrefix has in it."""
    return not server.regex and location.type == "Exact" and any(
        each.type == "Prefix" and each.written == location.written and each.ingress is location.ingress
        and each.path == location.path + "/" for each in server.locations)


# ---- A host without regular expressions


def _plain(server: Server, place: Place, faithful: bool) -> None:
    location, path = place.location, place.location.path
    if location.type == "Exact":
        place.matches = [exact(path)]
        if path != "/" and path.endswith("/"):
            _slash(server, place, path, faithful)
    elif path == "/":
        place.matches, place.prefix = [prefix("/")], "/"
    elif path.endswith("/"):
        bare = path[:-1]
        place.matches, place.prefix = [prefix(bare)], bare
        if faithful and _crowded(server, path):
            place.matches, place.prefix = [expression(re.escape(bare) + "(?:/.*)?")], None
        _slash(server, place, path, faithful)
    else:
        _characters(server, place, path, faithful)


def _slash(server: Server, place: Place, path: str, faithful: bool) -> None:
    """nginx's redirect of what lacks the '/' at the end of a location's path."""
    if not isinstance(choose(server, path[:-1]), str):
        return
    if faithful:
        place.slash.append(path[:-1])
    else:
        place.said.append(("path", Said(converted().outcome, f"{path[:-1]} is not redirected, nginx sent it to {path}")))


def _characters(server: Server, place: Place, path: str, faithful: bool) -> None:
    """What is ImplementationSpecific: nginx's prefix, character by character."""
    deeper = any(each.path == path + "/" and each.type != "Exact" for each in server.locations)
    whole = any(each.path == path and each.type == "Exact" for each in server.locations)
    place.matches = ([] if whole else [exact(path)]) if deeper else [prefix(path)]
    place.prefix = None if deeper else path
    if not faithful:
        place.said.append(("path", Said(converted().outcome, f"{path} is followed by '/' or nothing, nginx took any character")))
        return
    if _crowded(server, path):
        place.matches, place.prefix = [expression(re.escape(path) + "(?:.*)??")], None
    else:
        place.matches.append(expression(re.escape(path) + "[^/](.*)"))


def _crowded(server: Server, path: str) -> bool:
    """Whether another location takes what begins with `path` too, for its characters alone."""
    return any(each.type == "ImplementationSpecific" and not each.path.endswith("/") and each.path != path
               and path.startswith(each.path) and path[len(each.path)] != "/" for each in server.locations)


# ---- A host with regular expressions


def _expression(place: Place, faithful: bool) -> None:
    """What nginx asks is `~* "^path"`."""
    location = place.location
    path = location.written or location.path
    if location.path == "/":
        place.matches, place.prefix = [prefix("/")], "/"
        return
    if not faithful and (location.type != "ImplementationSpecific" or not _META.search(path)):
        place.matches = [exact(path) if location.type == "Exact" else prefix(path.rstrip("/") or "/")]
        place.prefix = None if location.type == "Exact" else path.rstrip("/") or "/"
        return
    pattern = opened(location.path, faithful)
    why = regex.check(pattern) or (f"it has more than {LONGEST} characters" if len(pattern) > LONGEST else "")
    if why:
        place.lost = True
        place.said.append(
            ("use-regex", lost(f"{location.path} cannot be served, its requests go where those of no path go: {why}"))
        )
        return
    place.matches = [expression(pattern)]


def opened(path: str, faithful: bool) -> str:
    """Return the expression that takes a whole path where nginx's `^path` takes its beginning."""
    first, *others = alternatives(path)
    parts = [_tail(first), *(".*" + _tail(each) for each in others)]
    return ("(?i)" if faithful else "") + (parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})")


def _tail(text: str) -> str:
    if found := _ROOT_OR_END.search(text):
        return text[:found.start()] + ("(?:/.*)?" if not found[0].endswith("|$)$") else "/?")
    if text.endswith("$") and not text.endswith("\\$"):
        return text[:-1]
    return text if re.search(r"(?<!\\)(?:\.\*|\(\.\*\))\Z", text) else text + ".*"


def alternatives(pattern: str) -> list[str]:
    """Split an expression where a '|' stands outside of groups and classes."""
    parts, depth, bracket, at, start = [], 0, False, 0, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif bracket:
            bracket = character != "]"
        elif character in "([":
            bracket, depth = character == "[", depth + (character == "(")
        elif character == ")":
            depth -= 1
        elif character == "|" and depth == 0:
            parts.append(pattern[start:at])
            start = at + 1
        at += 1
    return [*parts, pattern[start:]]


@lru_cache(10_000)
def head(path: str) -> str:
    """Return the characters with which every path begins that an expression takes."""
    if len(alternatives(path)) > 1:
        return ""
    found = _META.search(path)
    if not found:
        return path
    literal = path[:found.start()]
    return literal[:-1] if found[0] in "?*{" else literal


def _in_order(found: list[Place]) -> None:
    """Let expressions be tried as nginx tries them, and tell where they cannot be."""
    for index, place in enumerate(found):
        if place.prefix is not None and place.matches:
            _demote(place, place.prefix, found[index + 1:])
    for index in range(len(found) - 1, -1, -1):
        place = found[index]
        if place.prefix is None and len(place.matches) == 1:
            behind = [_length(other) + 1 for other in found[index + 1:] if _overlap(place, other) and other.prefix is None]
            if (least := max(behind, default=0)) > _length(place):
                value = place.matches[0]["path"]["value"]
                padded = "(?i)" + "^" * (least - len(value)) + value[4:]
                if len(padded) <= LONGEST:
                    place.matches = [expression(padded)]


def _length(place: Place) -> int:
    return len(place.matches[0]["path"]["value"]) if place.matches else 0


def _demote(above: Place, over: str, others: list[Place]) -> None:
    """Let expressions that nginx tries after a path which is the prefix `over` here not come first, as expressions do."""
    for other in (each for each in others if each.matches):
        text = other.location.written or other.location.path
        if other.prefix == over or (other.prefix or text).startswith(over.rstrip("/") + "/"):
            other.matches = []  # nothing is left of it, as in nginx
            other.said.append(
                ("path", Said(converted().outcome, f"{text} is never reached behind {above.location.path}, nor was it"))
            )
        elif other.prefix is not None:
            continue
        elif _META.search(text.replace(".", "")):
            if _overlap(above, other):
                other.said.append(("use-regex", reduced(f"{text} is tried before {above.location.path} now")))
        elif text == over:
            other.matches = [expression(f"(?i){text}[^/].*")]
        elif over.startswith(text):
            _both(other, text, over)


def _both(other: Place, text: str, over: str) -> None:
    """Make a PathPrefix of what is above a prefix, and an expression of what follows it without a '/'."""
    bare = text.rstrip("/") or "/"
    other.matches, other.prefix = [prefix(bare)], bare
    if not text.endswith("/") and over[len(text)] == "/":
        other.matches.append(expression(f"(?i){text}[^/].*"))
        other.prefix = None
    other.said.append(("use-regex", reduced(f"{text} is a PathPrefix: case counts" if len(other.matches) == 2 else
                                            f"{text} is a PathPrefix: case counts, and elements are whole")))


def _overlap(one: Place, other: Place) -> bool:
    """Whether a path may be taken by both."""
    left, right = head(one.location.path).lower(), head(other.location.path).lower()
    return left.startswith(right) or right.startswith(left)


# ---- Rewrites


def _rewrite(site: Site, server: Server, place: Place, faithful: bool) -> None:
    """Say a rewrite-target as a ReplaceFullPath, or as a ReplacePrefixMatch where it is one."""
    path = place.location.path
    target = known(path, site.get(place.location.ingress, "rewrite-target", ""))
    if re.match(r"https?://|\$scheme", target):
        _refuse(place, "nginx redirects to such a target; say so with temporal-redirect")
    elif "$" not in target:
        whole, _, query = target.partition("?")
        place.modifier = {"type": "ReplaceFullPath", "replaceFullPath": whole}
        place.said.append(("rewrite-target", reduced(f"ReplaceFullPath without the query {query}") if query
                           else converted("ReplaceFullPath: every path becomes this one")))
    elif re.search(r"\$(?!\d)", target) or "?" in target:
        _refuse(place, "gwfast has no variables and no queries in a rewrite")
    else:
        _captures(place, path, target, faithful)


def known(path: str, target: str) -> str:
    """Return a target without the captures that its path does not have: nginx takes them for nothing."""
    pattern = compiled(path)
    groups = pattern.groups if pattern else 0
    return re.sub(r"\$(\d)", lambda number: number[0] if int(number[1]) <= groups else "", target) or "/"


def _refuse(place: Place, why: str) -> None:
    place.lost = True
    place.said.append(("rewrite-target", lost(f"{why}; {place.location.path} answers 500, for a path that is not rewritten "
                                              "would be another one")))


def _captures(place: Place, path: str, target: str, faithful: bool) -> None:
    literal = head(path).rstrip("/")
    first = rewrite_of(path, target, literal + ANY[0])
    if first is None or not first.endswith(ANY[0]):
        _refuse(place, "gwfast has no rewrites by regular expressions yet, and this one is not that of a prefix")
        return
    replacement = first.removesuffix(ANY[0])
    if any((made := rewrite_of(path, target, literal + rest)) is not None and made != replacement + rest for rest in ANY):
        _refuse(place, "gwfast has no rewrites by regular expressions yet, and this one is not that of a prefix")
        return
    if replacement == literal:
        place.said.append(("rewrite-target", converted("nothing is rewritten: each path becomes itself")))
        return
    place.prefix = literal or "/"
    place.matches = [prefix(place.prefix)]
    place.modifier = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement or "/"}
    bare = rewrite_of(path, target, literal) if literal else None
    if literal and bare is None:
        place.bare = literal
    elif bare is not None and bare != (replacement or "/"):
        place.exact.append((literal, {"type": "ReplaceFullPath", "replaceFullPath": bare or "/"}))
    more = (
        ", what follows it without a '/' is not taken"
        if literal and rewrite_of(path, target, literal + "q7") is not None
        else ""
    )
    how = f"ReplacePrefixMatch of {place.prefix}"
    if place.prefix == "/" and not more:
        place.said.append(("rewrite-target", converted(how)))
        return
    said = (reduced if faithful else converted)(f"{how}: case counts{more}")
    place.said.append(("rewrite-target", said))


def rewrite_of(path: str, target: str, uri: str) -> str | None:
    """Return what nginx makes of a path, None where it does not match."""
    pattern = compiled("^" + path)
    found = pattern.search(uri) if pattern else None
    if found is None:
        return None
    groups = (found[0], *found.groups(""))
    return re.sub(r"\$(\d)", lambda number: groups[int(number[1])] if int(number[1]) < len(groups) else "", target)
