r"""What nginx does with a request: the servers and locations that ingress-nginx makes of Ingresses, as one pure model.

    Facts, settings ──> Site ──> servers: host -> Server(locations in nginx's order)
                          │
    Request ──> answer ───┘──> Answer: a location and its upstream, a redirect, or nothing (404)

Rules (ingress-nginx 1.15, its controller.go, location.go and nginx.tmpl):
- Ingresses count by age, then by name backwards. Of two paths that are equal in host, path and type the first has it.
- Every host has a `/`: the defaultBackend of the Ingress that came first, or 404; the annotations of that Ingress hold there.
  A rule without host is of the server `_` alone, which takes hosts that no other server has.
- One Ingress with use-regex, or with a rewrite-target that is not its path, turns every path of its host into `~* "^path"`:
  without case, open at its end, also those that are Exact. Tried are the longest texts first, of equal ones the last in the
  alphabet.
- Else Prefix `/a` is `location /a/` and `location = /a`, Exact is `=`, and what is ImplementationSpecific is nginx's prefix,
  character by character. An exact location wins, then the longest prefix. A location that ends in `/` and proxies answers 301
  to what lacks only that.
- What follows a location's choice, in this order: permanent and temporal redirects, the redirect to https, the rewrite, a
  canary. app-root is of the whole host and comes before any location.
- Paths are compared as nginx has them: decoded, with `//` and dot segments resolved.
"""
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct, field

from gwfast.config.model import Key
from gwfast.ingress import annotations
from gwfast.ingress.model import Facts, Ingress, IngressBackend, PathType

DEFAULT = "_"  # the server of every other host
MODIFIERS = {"Exact": "= ", "Prefix": "", "ImplementationSpecific": ""}


class Canary(Struct, frozen=True):
    """Who else may get the requests of an upstream, and which of them."""

    upstream: str
    ingress: Ingress
    header: str = ""
    value: str = ""
    pattern: str = ""
    cookie: str = ""
    weight: int = 0
    total: int = 100


class Upstream(Struct):
    """A Service and port; `canaries` hold for every location that leads to it, on any host."""

    name: str
    namespace: str
    service: str
    port: str
    canary: bool = False  # it is an alternative alone: no location is its own
    canaries: list[Canary] = field(default_factory=list)


class Location(Struct):
    """One location: `path` is its text in nginx, `written` that of the Ingress."""

    path: str
    type: PathType
    ingress: Ingress | None
    upstream: str = ""  # '': nothing is behind it, 404
    written: str = ""
    default: bool = False  # nobody wrote it
    regex: bool = False
    expression: re.Pattern[str] | None = None

    def __str__(self) -> str:
        return f'location ~* "^{self.path}"' if self.regex else f'location {MODIFIERS[self.type]}"{self.path}"'


class Server(Struct):
    host: str
    first: Ingress | None = None
    locations: list[Location] = field(default_factory=list)
    aliases: tuple[str, ...] = ()
    regex: bool = False
    certificate: Key | None = None
    tls: bool = False  # an Ingress says so, whether or not its Secret is there
    passthrough: bool = False
    ingresses: list[Ingress] = field(default_factory=list)


class Site(Struct):
    """All of it. `settings` are the annotations of each Ingress; `config` is the controller's ConfigMap."""

    facts: Facts
    settings: dict[str, annotations.Read]
    config: dict[str, Any]
    servers: dict[str, Server] = field(default_factory=dict)
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    shadowed: list[tuple[Ingress, str, str, Ingress | None]] = field(default_factory=list)  # that lost its host, path; to whom
    dropped: list[Ingress] = field(default_factory=list)  # canaries without a primary
    www: dict[str, str] = field(default_factory=dict)  # host -> where all of it is redirected to

    def get(self, ingress: Ingress | None, name: str, default=None):
        """Return the value of an annotation of an Ingress."""
        return self.settings[ingress.name].values.get(name, default) if ingress else default


class Request(Struct, frozen=True):
    method: str
    scheme: str
    host: str  # lower-case, without port
    path: str  # as it was sent
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # lower-case names


class Answer(Struct, kw_only=True):
    """What nginx makes of a request. `shares` are upstreams by name with percent; none: 404, or a redirect."""

    server: Server
    location: Location | None = None
    status: int = 0
    redirect: str = ""
    shares: dict[str, float] = {}
    path: str = ""  # that backends see, without query


# ---- From Ingresses to servers


def site(facts: Facts, ingresses: list[Ingress], settings: dict[str, annotations.Read], config: dict[str, Any]) -> Site:
    """Return what ingress-nginx would make of Ingresses."""
    made = Site(facts=facts, settings=settings, config=config)
    ordered = in_age(ingresses)
    _upstreams(made, ordered)
    _servers(made, ordered)
    for ingress in ordered:
        _locations(made, ingress)
    canaries = [each for each in ordered if made.get(each, "canary")]
    if len(canaries) < len(ordered):
        for ingress in canaries:
            _canary(made, ingress)
    for server in made.servers.values():
        _ordered(made, server)
    _www(made)
    return made


def in_age(ingresses: list[Ingress]) -> list[Ingress]:
    """Return Ingresses as they count: the oldest first; of one age the last in the alphabet (so ingress-nginx has it)."""
    named = sorted(ingresses, key=lambda each: each.name, reverse=True)
    return sorted(named, key=lambda each: each.metadata.creation_timestamp.timestamp() if each.metadata.creation_timestamp else 0)


def upstream_name(namespace: str, backend: IngressBackend) -> str:
    return f"{namespace}-{backend.service.name}-{backend.service.port}" if backend.service else ""


def backends(ingress: Ingress) -> Iterator[IngressBackend]:
    """Yield every backend of an Ingress."""
    if ingress.spec.default_backend:
        yield ingress.spec.default_backend
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            yield path.backend


def _upstreams(made: Site, ordered: list[Ingress]) -> None:
    """The first Ingress that names a Service decides whether it is a canary's alone."""
    for ingress in ordered:
        for backend in backends(ingress):
            name = upstream_name(ingress.metadata.namespace, backend)
            if backend.service and name not in made.upstreams:
                made.upstreams[name] = Upstream(name, ingress.metadata.namespace, backend.service.name, str(backend.service.port),
                                                bool(made.get(ingress, "canary")))


def _servers(made: Site, ordered: list[Ingress]) -> None:
    fallback = Location("/", "Prefix", None, default=True)
    made.servers[DEFAULT] = Server(DEFAULT, locations=[fallback])
    for ingress in (each for each in ordered if not made.get(each, "canary")):
        backend = ingress.spec.default_backend
        name = upstream_name(ingress.metadata.namespace, backend) if backend else ""
        if name and not ingress.spec.rules and fallback.ingress is None:
            fallback.upstream, fallback.ingress, fallback.default = name, ingress, False
        for rule in ingress.spec.rules:
            host = rule.host.lower() or DEFAULT
            if host not in made.servers:
                first = Location("/", "Prefix", ingress, name, default=True)
                made.servers[host] = Server(host, ingress, [first])
    for ingress in (each for each in ordered if not made.get(each, "canary")):
        for rule in ingress.spec.rules:
            _of_server(made, made.servers[rule.host.lower() or DEFAULT], ingress)
    for server in made.servers.values():
        server.aliases = tuple(one for one in dict.fromkeys(server.aliases) if one not in made.servers)


def _of_server(made: Site, server: Server, ingress: Ingress) -> None:
    """What the first Ingress that says it says for the whole host."""
    if ingress not in server.ingresses:
        server.ingresses.append(ingress)
    server.aliases = server.aliases or tuple(one.lower() for one in made.get(ingress, "server-alias", ()))
    server.passthrough = server.passthrough or bool(made.get(ingress, "ssl-passthrough"))
    if server.tls or server.host == DEFAULT or not ingress.spec.tls:
        return
    named = next((each.secret_name for each in ingress.spec.tls if server.host in (one.lower() for one in each.hosts)), None)
    if named is None:
        named = next((each.secret_name for each in ingress.spec.tls if not each.hosts and each.secret_name), "")
    server.tls = True
    server.certificate = Key("Secret", ingress.metadata.namespace, named) if named else None


def _locations(made: Site, ingress: Ingress) -> None:
    for rule in ingress.spec.rules:
        server = made.servers.get(rule.host.lower() or DEFAULT) or made.servers[DEFAULT]
        for path in rule.http.paths if rule.http else ():
            name = upstream_name(ingress.metadata.namespace, path.backend)
            if not name or made.upstreams[name].canary:
                continue
            text = path.path or "/"
            known = next((each for each in server.locations if (each.path, each.type) == (text, path.path_type)), None)
            if known is None:
                server.locations.append(Location(text, path.path_type, ingress, name))
            elif known.default:
                known.ingress, known.upstream, known.default = ingress, name, False
            elif known.ingress is not ingress or known.upstream != name:
                made.shadowed.append((ingress, server.host, text, known.ingress))


def _canary(made: Site, ingress: Ingress) -> None:
    """Put a canary beside the upstream of the location that it has in common with another Ingress."""
    merged = False
    for rule in ingress.spec.rules:
        server = made.servers.get(rule.host.lower() or DEFAULT)
        for path in rule.http.paths if rule.http and server else ():
            name = upstream_name(ingress.metadata.namespace, path.backend)
            for each in server.locations if server and name else ():
                primary = made.upstreams.get(each.upstream)
                if (
                    primary
                    and primary.name != name
                    and not primary.canary
                    and (each.path, each.type) == (path.path, path.path_type)
                ):
                    merged = True
                    if not any(one.upstream == name for one in primary.canaries):
                        primary.canaries.append(_shaping(made, ingress, name))
    if not merged:
        made.dropped.append(ingress)


def _shaping(made: Site, ingress: Ingress, upstream: str) -> Canary:
    total = made.get(ingress, "canary-weight-total", 100)
    return Canary(upstream, ingress, made.get(ingress, "canary-by-header", ""), made.get(ingress, "canary-by-header-value", ""),
                  made.get(ingress, "canary-by-header-pattern", ""), made.get(ingress, "canary-by-cookie", ""),
                  max(0, made.get(ingress, "canary-weight", 0)), total if total > 100 else 100)


def rewrites(made: Site, location: Location) -> bool:
    """Whether a location's path is rewritten."""
    target = made.get(location.ingress, "rewrite-target", "")
    return bool(target) and target != location.path


def _ordered(made: Site, server: Server) -> None:
    """Put locations into nginx's order, and split those that are Prefix."""
    server.locations.sort(key=lambda each: each.path, reverse=True)
    server.locations.sort(key=lambda each: len(each.path.encode()), reverse=True)
    server.regex = any(rewrites(made, each) or made.get(each.ingress, "use-regex") for each in server.locations)
    exact = {each.path for each in server.locations if each.type == "Exact"}
    split: list[Location] = []
    for each in server.locations:
        each.written = each.path
        quirky = rewrites(made, each) or made.get(each.ingress, "use-regex")
        if each.path == "/" or each.type != "Prefix" or quirky:
            split.append(each)
            continue
        whole = each.path
        each.path = whole if whole.endswith("/") else whole + "/"
        split.append(each)
        if whole not in exact:
            split.append(Location(whole, "Exact", each.ingress, each.upstream, whole, each.default))
    server.locations = split
    for each in split if server.regex else ():
        each.regex, each.expression = True, compiled("^" + each.path)


def compiled(pattern: str) -> re.Pattern[str] | None:
    """Return an expression of nginx; None where it is none."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error:
        return None


def _www(made: Site) -> None:
    """from-to-www-redirect: the other one of NAME and www.NAME leads here, unless it has a server."""
    for host, server in made.servers.items():
        if host != DEFAULT and any(made.get(each.ingress, "from-to-www-redirect") for each in server.locations):
            other = host.removeprefix("www.") if host.startswith("www.") else f"www.{host}"
            if other not in made.servers:
                made.www[other] = host


# ---- From a request to an answer


def answer(made: Site, request: Request) -> Answer:
    """Return what nginx makes of a request."""
    if target := made.www.get(request.host):
        server = made.servers[target]
        query = f"?{request.query}" if request.query else ""
        return Answer(server=server, status=redirect_status(made), redirect=f"{request.scheme}://{target}{request.path}{query}")
    server = server_of(made, request.host)
    uri = normal(request.path)
    if uri is None:
        return Answer(server=server, status=400)
    root = next((made.get(each.ingress, "app-root") for each in server.locations if made.get(each.ingress, "app-root")), None)
    if root and uri == "/":
        return Answer(server=server, status=302, redirect=f"{request.scheme}://{request.host}{root}")
    found = choose(server, uri)
    if isinstance(found, str):
        query = f"?{request.query}" if request.query else ""
        return Answer(server=server, status=301, redirect=f"{request.scheme}://{request.host}{found}{query}")
    if found is None:
        return Answer(server=server, status=404)
    return _located(made, server, found, request, uri)


def redirect_status(made: Site) -> int:
    value = made.config.get("http-redirect-code", 308)
    return value if isinstance(value, int) else 308


def server_of(made: Site, host: str) -> Server:
    """Return the server of a host: an exact name, an alias, a wildcard of one label, or the default one."""
    if server := made.servers.get(host):
        return server
    for server in made.servers.values():
        if any(_alias(one, host) for one in server.aliases):
            return server
    label, _, rest = host.partition(".")
    if rest and re.fullmatch(r"[\w-]+", label) and (server := made.servers.get(f"*.{rest}")):
        return server
    return made.servers[DEFAULT]


def _alias(alias: str, host: str) -> bool:
    if alias.startswith("~"):
        found = compiled(alias[1:])
        return bool(found and found.search(host))
    return alias == host or alias.startswith("*.") and host.endswith(alias[1:])


def normal(path: str) -> str | None:
    """Return a path as nginx compares it: decoded, `//` and dot segments resolved; None where it is refused (400)."""
    decoded = unquote_to_bytes(path).decode("utf-8", "surrogateescape")
    if "\0" in decoded or re.search(r"%(?![0-9A-Fa-f]{2})", path):
        return None
    kept: list[str] = []
    *segments, last = decoded.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    if last == "..":
        if not kept:
            return None
        kept.pop()
        last = ""
    return "/" + "".join(f"{segment}/" for segment in kept) + ("" if last == "." else last)


def choose(server: Server, uri: str) -> Location | str | None:
    """Return the location of a path, or the path that it is redirected to for want of a '/'."""
    if server.regex:
        return next((each for each in server.locations if each.expression and each.expression.search(uri)), None)
    best: Location | None = None
    for each in server.locations:
        if each.type == "Exact":
            if each.path == uri:
                return each
        elif uri.startswith(each.path) and (best is None or len(each.path) > len(best.path)):
            best = each
    lacks = any(each.path == uri + "/" for each in server.locations)
    if lacks and (best is None or best.path != uri):
        return uri + "/"
    return best


def _located(made: Site, server: Server, found: Location, request: Request, uri: str) -> Answer:
    result = Answer(server=server, location=found)
    url, code = redirect_of(made, found)
    if url:
        result.status, result.redirect = code, expand(url, request, uri)
        return result
    if to_https(made, server, found) and request.scheme == "http":
        keep = made.get(found.ingress, "preserve-trailing-slash")
        target = f"{request.path}{'?' + request.query if request.query else ''}"
        target = target.removesuffix("/") if not keep and target.endswith("/") else target
        result.status, result.redirect = redirect_status(made), f"https://{request.host}{target}"
        return result
    result.path = rewritten(made, found, request.path, uri)
    upstream = made.upstreams.get(found.upstream)
    if not result.path or upstream is None:
        result.status = 404 if result.path else 500  # a rewrite to nothing is an error of nginx
        return result
    result.shares = shares(upstream, request)
    return result


def redirect_of(made: Site, location: Location) -> tuple[str, int]:
    """Return where all requests of a location are sent, and the status; ('', 0): nowhere."""
    if url := made.get(location.ingress, "temporal-redirect"):
        code = made.get(location.ingress, "temporal-redirect-code", 302)
        return url, code if 300 <= code <= 307 else 302
    if url := made.get(location.ingress, "permanent-redirect"):
        code = made.get(location.ingress, "permanent-redirect-code", 301)
        return url, code if 300 <= code <= 308 else 301
    return "", 0


def to_https(made: Site, server: Server, location: Location) -> bool:
    """Whether requests of http go to https: where the host has a certificate, or in any case."""
    exempt = made.config.get("no-tls-redirect-locations", ("/.well-known/acme-challenge",))
    if any(location.path.startswith(one) for one in exempt):
        return False
    if made.get(location.ingress, "force-ssl-redirect", made.config.get("force-ssl-redirect", False)):
        return True
    return server.tls and bool(made.get(location.ingress, "ssl-redirect", made.config.get("ssl-redirect", True)))


def expand(url: str, request: Request, uri: str) -> str:
    """Put a request's values into nginx's variables."""
    query = f"?{request.query}" if request.query else ""
    values = {"request_uri": request.path + query, "scheme": request.scheme, "host": request.host, "http_host": request.host,
              "uri": uri, "args": request.query, "query_string": request.query, "is_args": "?" if request.query else "",
              "request_method": request.method, "server_name": request.host}
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], ""), url)


def rewritten(made: Site, location: Location, sent: str, uri: str) -> str:
    """Return the path that a backend sees."""
    if not rewrites(made, location):
        return sent
    target = made.get(location.ingress, "rewrite-target", "")
    pattern = compiled(location.path)
    found = pattern.search(uri) if pattern else None
    if not found:
        return sent
    groups = (found[0], *found.groups(""))
    return re.sub(r"\$(\d)", lambda number: groups[int(number[1])] if int(number[1]) < len(groups) else "", target).partition(
        "?"
    )[0]


def shares(upstream: Upstream, request: Request) -> dict[str, float]:
    """Return who gets a request: an upstream, its canary, or both by weight."""
    for canary in upstream.canaries[:1]:
        chosen = chosen_by(canary, dict(reversed(request.headers)))
        percent = min(100.0, 100 * canary.weight / canary.total) if chosen is None else 100.0 * chosen
        return {name: part for name, part in ((upstream.name, 100 - percent), (canary.upstream, percent)) if part}
    return {upstream.name: 100.0}


def chosen_by(canary: Canary, headers: dict[str, str]) -> bool | None:
    """Say whether a request asks for the canary, or for the primary; None: it says nothing of it."""
    given = headers.get(canary.header.lower()) if canary.header else None
    if given is not None:
        if canary.value:
            if canary.value == given:
                return True
        elif canary.pattern:
            pattern = re.compile(canary.pattern)
            if pattern.search(given):
                return True
        elif given in ("always", "never"):
            return given == "always"
    if canary.cookie:
        pairs = [part.strip().partition("=") for part in headers.get("cookie", "").split(";")]
        value = next((text for name, _, text in pairs if name == canary.cookie), "")
        if value in ("always", "never"):
            return value == "always"
    return None
