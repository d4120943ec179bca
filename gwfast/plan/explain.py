"""Explains what happens to one request: it follows the plan step by step, as the engine does, and gives a reason for each step.

    Request -> bind (port, address) -> listener (most specific, alone) -> hosts that cover the name -> entries in order

Rules:
- `explain` answers for one bind; `binds_for` names the binds that a URL can reach
- the scheme of a URL says what the client speaks: http, https, or tls, tcp, udp for a connection that is not HTTP
- over TLS the URL's host is the SNI and chooses the listener; a Host of another listener is misdirected (421)
- status 0 with a reason: the connection is closed
- rules see what backends see: X-Forwarded-* and the like are the gateway's own, unless the peer is trusted
- the first entry that matches wins; for the entries before it the failed conditions are told, for those behind it why they are
  behind it
- where the path holds %2F, the request is answered with 400 if reading it as '/' leads to another rule
"""
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from gwfast.errors import UsageError
from gwfast.plan import regex
from gwfast.plan.dump import filter_words, policy_words, traffic_words
from gwfast.plan.forwarded import front, stated
from gwfast.plan.ir import (AnswerFilter, Backend, Bind, Certificate, Entry, Filter, Host, Listener, Match, PathModifier, Plan,
                            RedirectFilter, RewriteFilter, Rule, ValueMatch, WeightedBackend)
from gwfast.plan.paths import normal_path, replace_prefix, under
from gwfast.plan.precedence import covers, host_key, reason

DEFAULT_PORTS = {"http": 80, "https": 443, "tls": 443}
CONNECTIONS = ("tls", "tcp", "udp")  # schemes without a request
SPOKEN = {"http": ("http",), "tls": ("https", "tls"), "tcp": ("tcp", "http", "https", "tls"), "udp": ("udp",)}  # to a bind
_IP = re.compile(r"[0-9.]+|.*:.*")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as a client would send it. `host` is lower-case and without port; field names are lower-case."""

    method: str
    scheme: str
    address: str  # the URL's host, '' if it has none
    port: int
    host: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    trusted: bool = False  # it comes from a proxy whose X-Forwarded-* are believed


class Share(msgspec.Struct, kw_only=True):
    """The backend, or the status, that a share of the requests gets, and what is changed in these requests."""

    percent: float = 100.0
    backend: Backend | None = None
    status: int = 0
    location: str = ""
    target: str = ""  # path and query as the backend sees them
    host: str = ""
    changes: list[str] = []


class Loser(msgspec.Struct, kw_only=True):
    """An entry that did not serve the request; `matched` tells one that came too late from one that did not match."""

    entry: Entry
    host: str
    matched: bool
    why: list[str]


class Explanation(msgspec.Struct, kw_only=True):
    """The way of one request. Where it ends early, the rest is None and `status` says with what."""

    request: Request
    bind: Bind | None = None
    listener: Listener | None = None
    certificate: Certificate | None = None  # that the client is shown
    host: Host | None = None
    entry: Entry | None = None
    status: int = 0
    why: str = ""
    shares: list[Share] = []
    losers: list[Loser] = []


def read_request(method: str, url: str, headers: list[str], trusted: bool = False) -> Request:
    """Return the request of a command line; `headers` are 'Name: value'. Raise UsageError."""
    fields = tuple(_field(each) for each in headers)
    try:
        parts = urlsplit(url if "://" in url or url.startswith("/") else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise UsageError(f"not a URL: {url!r}: {error}") from None
    scheme = parts.scheme or "http"
    if scheme not in (*DEFAULT_PORTS, *CONNECTIONS):
        raise UsageError(f"not an http, https, tls, tcp or udp URL: {url!r}")
    if port is None and scheme not in DEFAULT_PORTS:
        raise UsageError(f"{scheme} has no port of its own: {url!r}")
    host = next((value for name, value in fields if name == "host"), parts.netloc.rpartition("@")[2])
    return Request(method=method.upper() if method.islower() else method, scheme=scheme, address=parts.hostname or "",
                   port=port or DEFAULT_PORTS.get(scheme, 0), host=re.sub(r":\d*$", "", host).lower().removesuffix("."),
                   path=parts.path or "/", query=parts.query, headers=fields, trusted=trusted)


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"not a header, write 'Name: value': {line!r}")
    return name.strip().lower(), value.strip()


def binds_for(plan: Plan, request: Request) -> list[Bind]:
    """Return the binds that a client of this URL can reach: those on its port, of these the one with its address.

    A URL that is only a path can be asked of each that speaks HTTP.
    """
    if not request.address:
        return [bind for bind in plan.binds if bind.transport in ("http", "tls")]
    on_port = [bind for bind in plan.binds
               if bind.port == request.port and (bind.transport == "udp") == (request.scheme == "udp")]
    return [bind for bind in on_port if bind.address == request.address] or on_port


def explain(bind: Bind, request: Request) -> Explanation:
    """Follow `request` through `bind`."""
    if not request.address:
        request = msgspec.structs.replace(request, scheme=SPOKEN[bind.transport][0], port=bind.port)
    result = Explanation(request=request, bind=bind)
    if request.scheme not in SPOKEN[bind.transport]:
        return _ended(result, 400, f"port {bind.port} speaks {SPOKEN[bind.transport][0]}")
    if bind.transport != "http" and not _connected(result, bind):
        return result
    if result.listener and result.listener.mode in ("terminate", "passthrough", "tcp", "udp"):
        return _routed(result, bind, result.listener)
    listener = _listener(bind, request.host)
    name = request.host or "a request without Host"
    if listener is None:
        return _ended(result, 404, f"no listener on port {bind.port} takes {name}")
    if result.listener not in (None, listener):
        return _ended(result, 421, f"{name} belongs to listener {listener.id}, the connection does not")
    result.listener = listener
    return _requested(result, bind, listener)


def _connected(result: Explanation, bind: Bind) -> bool:
    """Find the listener of a connection by its SNI, '' where there is none; say whether there is more to come."""
    request = result.request
    name = request.address or request.host
    sni = "" if _IP.fullmatch(name) or bind.transport != "tls" else name
    result.listener = _listener(bind, sni)
    if result.listener is None:
        _ended(result, 0, f"no listener on port {bind.port} takes {sni or 'a client without SNI'}")
        return False
    result.certificate = _certificate(result.listener, sni)
    if request.scheme == "tls" and result.listener.mode == "https":
        _ended(result, 0, "requests follow, each to a rule of its own: ask for an https URL")
        return False
    return True


def _listener(bind: Bind, name: str) -> Listener | None:
    fitting = [each for each in bind.listeners if covers(each.hostname, name)]
    return min(fitting, key=lambda each: host_key(each.hostname), default=None)


def _certificate(listener: Listener, sni: str) -> Certificate | None:
    """The certificate with the longest name that covers the SNI, else the first."""
    if listener.tls is None:
        return None
    named = [(len(name), each) for each in listener.tls.certificates for name in each.names if covers(name, sni)]
    return max(named, key=lambda pair: pair[0])[1] if named else next(iter(listener.tls.certificates), None)


def _routed(result: Explanation, bind: Bind, listener: Listener) -> Explanation:
    """Follow a connection that is not HTTP: matched as a request for '/' at its name."""
    request = result.request
    name = request.address or request.host
    candidates = _candidates(listener, "" if _IP.fullmatch(name) else name)
    result.request = msgspec.structs.replace(request, path="/", query="")
    _choose(result, candidates, result.request, "/")
    if result.entry is None:
        return _ended(result, 0, f"no route of this listener takes {name}")
    result.shares = shares(result.entry, request, bind)
    return result


def _requested(result: Explanation, bind: Bind, listener: Listener) -> Explanation:
    """Follow a request through its listener."""
    request = result.request
    candidates = _candidates(listener, request.host)
    path = normal_path(request.path)
    asked = stated(request)
    _choose(result, candidates, asked, path)
    if "%2F" in path and not result.status:
        other = normal_path(path.replace("%2F", "/"))
        if _first(candidates, asked, other) is not (result.entry and result.entry.rule):
            return _ended(result, 400, "reading %2F in the path as '/' leads to another rule")
    if result.entry is None:
        return _ended(result, 404, "no rule matches" if candidates else
                      f"no route of this listener takes {request.host or 'a request without Host'}")
    result.shares = shares(result.entry, request, bind)
    return result


def _candidates(listener: Listener, name: str) -> list[tuple[Host, Entry]]:
    return [(host, entry) for host in listener.hosts if covers(host.hostname, name) for entry in host.entries]


def _ended(result: Explanation, status: int, why: str) -> Explanation:
    result.status, result.why = status, why
    return result


def _choose(result: Explanation, candidates: list[tuple[Host, Entry]], asked: Request, path: str) -> None:
    for host, entry in candidates:
        failed = failures(entry.match, asked, path)
        if failed:
            result.losers.append(Loser(entry=entry, host=host.hostname, matched=False, why=failed))
        elif result.entry is None or result.host is None:
            result.host, result.entry = host, entry
        else:
            why = (reason(result.entry, entry) if host is result.host else
                   f"hostname {result.host.hostname} is more specific than {host.hostname or 'any'}")
            result.losers.append(Loser(entry=entry, host=host.hostname, matched=True, why=[why]))


def _first(candidates: list[tuple[Host, Entry]], request: Request, path: str) -> Rule | None:
    return next((entry.rule for _, entry in candidates if not failures(entry.match, request, path)), None)


def failures(match: Match, request: Request, path: str) -> list[str]:
    """Say which conditions of `match` do not hold, the path first; nothing where all do."""
    failed = [] if _path_matches(match, path) else [_path_failure(match, path)]
    if match.method and match.method != request.method:
        failed.append(f"method is {request.method}, not {match.method}")
    headers = _joined(request.headers) if match.headers else {}
    query = _parameters(request.query) if match.query else {}
    failed += [_value_failure("header", each, headers) for each in match.headers]
    failed += [_value_failure("query parameter", each, query) for each in match.query]
    return [each for each in failed if each]


def _joined(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Lines of one name are one value (RFC 9110 5.3); names with '_' are dropped (limits)."""
    names = {name for name, _ in headers if "_" not in name}
    return {wanted: ", ".join(value for name, value in headers if name == wanted) for wanted in names}


def _parameters(query: str) -> dict[str, str]:
    """The first of equal names counts; '+' is itself."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return {unquote(name, errors="surrogateescape"): unquote(value, errors="surrogateescape")
            for name, _, value in reversed(pairs)}


def _path_matches(match: Match, path: str) -> bool:
    if match.path_type == "Exact":
        return path == match.path
    return under(path, match.path) if match.path_type == "PathPrefix" else _full_match(match.path, path)


def _path_failure(match: Match, path: str) -> str:
    words = {"Exact": "is not", "PathPrefix": "is not under", "RegularExpression": "does not match"}
    return f"path {path} {words[match.path_type]} {match.path}"


def _value_failure(what: str, wanted: ValueMatch, given: Mapping[str, str]) -> str:
    value = given.get(wanted.name)
    if value is None:
        return f"{what} {wanted.name} missing"
    if _full_match(wanted.value, value) if wanted.regex else value == wanted.value:
        return ""
    return f"{what} {wanted.name} is {value!r}, not {'like ' if wanted.regex else ''}{wanted.value!r}"


def _full_match(pattern: str, value: str) -> bool:
    try:
        return regex.compile(pattern).fullmatch(value)
    except regex.Unsupported:
        return False


def shares(entry: Entry, request: Request, bind: Bind) -> list[Share]:
    """Return what the rule of `entry` gives to its requests: one share per backend with a weight, or one answer."""
    rule = entry.rule
    whole = _passed(rule.filters, entry, request, bind)
    total = sum(each.weight for each in rule.backends)
    if whole.status:
        return [whole]
    if not total:
        whole.status = 500
        whole.changes.append("no backend with a weight")
        return [whole]
    return [_share(each, total, entry, request, bind) for each in rule.backends if each.weight]


def _share(each: WeightedBackend, total: int, entry: Entry, request: Request, bind: Bind) -> Share:
    share = _passed(entry.rule.filters + each.filters, entry, request, bind)
    share.percent = 100 * each.weight / total
    if not share.status and each.backend:
        share.backend = each.backend
        share.changes += policy_words(entry.rule) + traffic_words(each.backend, entry.rule)
    elif not share.status:
        share.status = each.status
        share.changes.append("the reference to this backend is invalid")
    return share


def _passed(filters: tuple[Filter, ...], entry: Entry, request: Request, bind: Bind) -> Share:
    share = Share(host=request.host, target=request.path, changes=[])
    for each in filters:
        match each:
            case RedirectFilter():
                share.status, share.location = each.status, location(each, entry, request, bind)
                break
            case AnswerFilter():
                share.status, share.changes = each.status, share.changes + filter_words(each)
                break
            case RewriteFilter():
                share.host = each.hostname or share.host
                share.target = _changed(each.path, entry, request.path)
            case _:
                share.changes += filter_words(each)
    share.target += f"?{request.query}" if request.query else ""
    return share


def _changed(modifier: PathModifier | None, entry: Entry, given: str) -> str:
    if modifier is None:
        return given
    if modifier.type == "ReplaceFullPath":
        return modifier.value
    return replace_prefix(given, entry.match.path if entry.match.path_type == "PathPrefix" else "", modifier.value)


def location(redirect: RedirectFilter, entry: Entry, request: Request, bind: Bind) -> str:
    """Return the Location of a redirect: what it leaves open comes from the request and the listener (spec 5.5)."""
    scheme, host, own = front(request, bind)
    scheme, host = redirect.scheme or scheme, redirect.hostname or host
    port = redirect.port or (DEFAULT_PORTS.get(scheme, 0) if redirect.scheme else own)
    shown = "" if port == DEFAULT_PORTS.get(scheme) else f":{port}"
    query = f"?{request.query}" if request.query else ""
    return f"{scheme}://{host}{shown}{_changed(redirect.path, entry, request.path)}{query}"
