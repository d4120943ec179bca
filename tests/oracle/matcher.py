"""The oracle: which rule a request gets, read off the spec with no thought of speed.

Everything is tried, and the best of what matches wins. Regular expressions are Python's, which agree with ours on
what the tests use.
"""
import re
from urllib.parse import unquote_to_bytes


def covers(hostname: str, host: str) -> bool:
    """spec 5.2: '*.' is a suffix match of one or more labels; '' is every name."""
    if hostname.startswith("*."):
        return host.endswith(hostname[1:]) and host != hostname[1:]
    return hostname in ("", host)


def specificity(hostname: str):
    """spec 5.1, 5.3: more characters of a name that is no wildcard, then more characters of a wildcard."""
    return (0, len(hostname)) if hostname.startswith("*.") else (1 if hostname else -1, len(hostname))


def listener_of(bind, host: str):
    """spec 5.3: a request belongs to its most specific listener alone."""
    fitting = [listener for listener in bind.listeners if covers(listener.hostname, host)]
    return max(fitting, key=lambda listener: specificity(listener.hostname), default=None)


def path_matches(match, path: str) -> bool:
    if match.path_type == "Exact":
        return path == match.path
    if match.path_type == "RegularExpression":
        return re.fullmatch(match.path, path) is not None
    return match.path == "/" or path == match.path or path.startswith(match.path + "/")


def value_matches(condition, value: str | None) -> bool:
    if value is None:
        return False
    return re.fullmatch(condition.value, value) is not None if condition.regex else value == condition.value


def first_of_each(conditions, fold: bool):
    """H:614-621, H:685-698: of conditions with equivalent names only the first counts."""
    kept = {}
    for condition in conditions:
        kept.setdefault(condition.name.lower() if fold else condition.name, condition)
    return kept


def header_values(headers):
    """RFC 9110 5.3: lines of one name are one value. Names with '_' are dropped (limits)."""
    values = {}
    for name, value in headers:
        if "_" not in name:
            values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(lines) for name, lines in values.items()}


def query_values(query: str):
    values = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if part:
            values.setdefault(unquote_to_bytes(name), unquote_to_bytes(value))
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in values.items()}


def match_holds(match, method: str, path: str, headers, query) -> bool:
    return (
        path_matches(match, path)
        and match.method in ("", method)
        and all(value_matches(c, headers.get(name)) for name, c in first_of_each(match.headers, True).items())
        and all(value_matches(c, query.get(name)) for name, c in first_of_each(match.query, False).items())
    )


def place(match, kind):
    """spec 5.1: 'Exact', then 'Prefix' with the largest number of characters. Regular expressions come between them, the longest
    first (the API leaves that open); those of a GRPCRoute name no service, so that any prefix but '/' says more (spec 5.6)."""
    if match.path_type == "Exact":
        return 0, -len(match.path)
    if match.path_type == "RegularExpression":
        return 3 if kind == "GRPCRoute" else 1, -len(match.path)
    return (2, -len(match.path)) if match.path != "/" else (4, 0)


def precedence(hostname, entry):
    """spec 5.1; of equal numbers of conditions those that are exact say more."""
    match, rule = entry.match, entry.rule
    return (
        *(-part for part in specificity(hostname)),
        place(match, rule.kind),
        not match.method,
        -len(match.headers),
        -len(match.query),
        len([each for each in match.headers if each.regex]),
        len([each for each in match.query if each.regex]),
        rule.created or "~",
        f"{rule.namespace}/{rule.route}",
        rule.kind,             # routes of two kinds may have one name
        rule.index,
        match.index,
    )


def find(bind, method: str, target: str, headers):
    """Return (listener id, rule id, bytes of the path that a prefix covers or -1), or None."""
    path, _, query = target.partition("?")
    host = next((value.lower() for name, value in headers if name.lower() == "host"), "")
    listener = listener_of(bind, host)
    if listener is None or not path.startswith("/"):
        return None
    fields, parameters = header_values(headers), query_values(query)
    fitting = [
        (host_.hostname, entry)
        for host_ in listener.hosts if covers(host_.hostname, host)
        for entry in host_.entries if match_holds(entry.match, method, path, fields, parameters)
    ]
    if not fitting:
        return None
    _, entry = min(fitting, key=lambda item: precedence(*item))
    match = entry.match
    length = -1 if match.path_type != "PathPrefix" else 0 if match.path == "/" else len(match.path)
    return listener.id, entry.rule.id, length
