"""A location as rules of an HTTPRoute or a GRPCRoute, for clients of http or of https.

    Place, Asked ──> [rule]      a redirect; the rules of a canary, then that of everybody; a rule without backends (500)

Rules:
- What nginx does first is the only thing that is done: permanent and temporal redirects, then the redirect to https, then
  backends.
- Behind a proxy that ends TLS (use-forwarded-headers) the client's scheme is X-Forwarded-Proto: the redirect to https is a rule
  of its own that asks for `http`.
- A canary's header comes before its cookie, and both before its weight: one rule for each, with one more match on fields than
  everybody's has, so that they come first.
- What has to be closed, or whose rewrite cannot be said, has a rule without backends.
"""
import re

from gwfast.ingress.annotations.table import Asked, Said, Spec, converted, lost, reduced
from gwfast.ingress.locations import Canary, Server, Site, Upstream, redirect_of, redirect_status, to_https
from gwfast.ingress.paths import Place, exact
from gwfast.ingress.redirects import redirect
from gwfast.ingress.report import Report

WEIGHT_MOST = 1_000_000
GRPC = ("GRPC", "GRPCS")
FORWARDED_HTTP = {"name": "X-Forwarded-Proto", "value": "http"}


class Maker:
    """Makes the rules of one site; what it has to say goes to `say` (ingress, annotation, Said)."""

    def __init__(self, site: Site, asked: dict[str, Asked], report: Report, say) -> None:
        self.site = site
        self.asked = asked
        self.report = report
        self.say = say

    def rules(self, server: Server, place: Place, scheme: str) -> list[Spec]:
        """Return the rules of a place for clients of a scheme, the most special first."""
        location = place.location
        if location.ingress is None and not location.upstream:
            return []
        asked = self.asked.get(location.ingress.name) if location.ingress else None
        slashes: list[Spec] = [_slash(path) for path in place.slash]
        url, code = redirect_of(self.site, location)
        if url:
            return [*slashes, self._redirect(place, url, code)]
        if scheme == "http" and to_https(self.site, server, location):
            if not self.site.config.get("use-forwarded-headers"):
                return [*slashes, {"matches": place.matches, "filters": [self.secure()]}]
            first = [_with(match, FORWARDED_HTTP) for match in place.matches]
            return [*slashes, {"matches": first, "filters": [self.secure()]}, *self._served(place, asked, scheme)]
        return slashes + self._served(place, asked, scheme)

    def secure(self) -> Spec:
        """The redirect to https."""
        status = redirect_status(self.site)
        return {"type": "RequestRedirect", "requestRedirect": {
            "scheme": "https", "statusCode": status if status in (301, 302, 303, 307, 308) else 308}}

    def _redirect(self, place: Place, url: str, code: int) -> Spec:
        found, said = redirect(url, code, place.prefix if len(place.matches) == 1 else None)
        temporal = self.site.get(place.location.ingress, "temporal-redirect")
        name = "temporal-redirect" if temporal else "permanent-redirect"
        if found is None:
            said = lost(f"{said.words}; its paths answer 500")
        self.say(place.location.ingress, name, said)
        if f"{name}-code" in self.site.settings[place.location.ingress.name].given:  # type: ignore[union-attr]
            self.say(place.location.ingress, f"{name}-code", converted("requestRedirect.statusCode") if found
                     and found["requestRedirect"]["statusCode"] == code else reduced(said.words))
        return {"matches": place.matches} | ({"filters": [found]} if found else {})

    def _served(self, place: Place, asked: Asked | None, scheme: str) -> list[Spec]:
        upstream = self.site.upstreams.get(place.location.upstream)
        if upstream is None or not place.matches:
            return []
        if place.lost or asked and asked.closed:
            return [{"matches": place.matches}]
        made: list[Spec] = []
        for path, modifier in place.exact:
            made += self._backed({"matches": [exact(path)]}, place, asked, upstream, modifier, scheme)
        return made + self._backed({"matches": place.matches}, place, asked, upstream, place.modifier, scheme)

    def _backed(self, rule: Spec, place: Place, asked: Asked | None, upstream: Upstream, modifier: Spec | None,
                scheme: str) -> list[Spec]:
        """Return the rule with all that holds for its requests, and those of a canary before it."""
        backend = self.backend(upstream, place)
        if backend is None:
            return [rule]
        if asked is not None:
            rule |= self._filters(asked, modifier, scheme)
            for name in ("timeouts", "retry"):
                if value := getattr(asked, name):
                    rule[name] = value
        session = self.session(upstream)
        if session:
            rule["sessionPersistence"] = session
        if not upstream.canaries:
            return [rule | {"backendRefs": [backend]}]
        return self._with_canary(rule, place, upstream, backend)

    def session(self, upstream: Upstream) -> Spec:
        """The session of the first Ingress that asks for one at this Service: it is of the Service, wherever it is named."""
        return next((one.session for one in self.asked.values() if one.session and upstream.name in one_names(one)), {})

    def _filters(self, asked: Asked, modifier: Spec | None, scheme: str) -> Spec:
        filters = [dict(each) for each in asked.filters]
        rewriting: Spec = ({"hostname": asked.hostname} if asked.hostname else {}) | ({"path": modifier} if modifier else {})
        responses = dict(asked.response_headers)
        if scheme == "https" and (hsts := self.site.config.get("hsts-value")):
            responses.setdefault("Strict-Transport-Security", str(hsts))
        if rewriting:
            filters.append({"type": "URLRewrite", "urlRewrite": rewriting})
        for kind, name, given, removed in (
                ("RequestHeaderModifier", "requestHeaderModifier", asked.request_headers, asked.request_removed),
                ("ResponseHeaderModifier", "responseHeaderModifier", responses, asked.response_removed)):
            body = _modifier(given, removed)
            if body:
                filters.append({"type": kind, name: body})
        return {"filters": filters} if filters else {}

    def backend(self, upstream: Upstream, place: Place) -> Spec | None:
        """Return the backendRef of an upstream; None where nobody knows the number of its port."""
        number = port_number(self.site, upstream)
        if number is None:
            words = (
                f"its port {upstream.port!r} is a name, and the Service {upstream.namespace}/{upstream.service} was not read or "
                "has no such port; its paths answer 500"
            )
            self.say(place.location.ingress, f"path {place.location.written or place.location.path}", lost(words))
            return None
        return {"name": upstream.service, "port": number}

    # ---- Canaries

    def _with_canary(self, rule: Spec, place: Place, upstream: Upstream, backend: Spec) -> list[Spec]:
        canary = upstream.canaries[0]
        other = self.site.upstreams[canary.upstream]
        second = self.backend(other, place)
        if second is None:
            return [rule | {"backendRefs": [backend]}]
        made = []
        for match, chosen in selections(canary):
            made.append(rule | {"matches": [_with(each, match) for each in rule["matches"]],
                                "backendRefs": [second if chosen else backend]})
        weight = min(canary.weight, canary.total)
        shares = [backend | {"weight": canary.total - weight}, second | {"weight": weight}] if weight else [backend]
        return [*made, rule | {"backendRefs": shares}]


def one_names(asked: Asked) -> list[str]:
    """Return the names of the upstreams of an Ingress."""
    from gwfast.ingress.locations import backends, upstream_name
    return [upstream_name(asked.ingress.metadata.namespace, each) for each in backends(asked.ingress)]


def port_number(site: Site, upstream: Upstream) -> int | None:
    """Return the number of an upstream's port, of which an Ingress may say the name."""
    if upstream.port.isdigit():
        return int(upstream.port)
    service = site.facts.service(upstream.namespace, upstream.service)
    return next((port.port for port in service.spec.ports if port.name == upstream.port), None) if service else None


def selections(canary: Canary) -> list[tuple[Spec, bool]]:
    """Return the matches on fields that choose, in their order, and whether each chooses the canary."""
    made: list[tuple[Spec, bool]] = []
    if canary.header and canary.value:
        made.append(({"name": canary.header, "value": canary.value}, True))
    elif canary.header and canary.pattern:
        made.append(({"name": canary.header, "type": "RegularExpression", "value": anywhere(canary.pattern)}, True))
    elif canary.header:
        made += [({"name": canary.header, "value": "always"}, True), ({"name": canary.header, "value": "never"}, False)]
    if canary.cookie:
        name = re.escape(canary.cookie)
        made += [
            ({"name": "Cookie", "type": "RegularExpression", "value": rf"(?:.*;\s*)?{name}={word}(?:;.*)?"}, word == "always")
            for word in ("always", "never")
        ]
    return made


def anywhere(pattern: str) -> str:
    """Return an expression of a whole value for one that is looked for anywhere in it."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    inner = pattern[begins:len(pattern) - ends]
    return f"{'' if begins else '.*'}(?:{inner}){'' if ends else '.*'}"


def _with(match: Spec, *headers: Spec) -> Spec:
    return match | {"headers": [*match.get("headers", ()), *headers]}


def _slash(path: str) -> Spec:
    """nginx's redirect of a path to the same with a '/'."""
    return {"matches": [exact(path)], "filters": [{"type": "RequestRedirect", "requestRedirect": {
        "statusCode": 301, "path": {"type": "ReplaceFullPath", "replaceFullPath": path + "/"}}}]}


def _modifier(given: dict[str, str], removed: list[str]) -> Spec:
    names = {name.lower() for name in given}
    gone = [name for name in dict.fromkeys(removed) if name.lower() not in names]
    unique = {name.lower(): (name, value) for name, value in given.items()}.values()
    return ({"set": [{"name": name, "value": value} for name, value in unique]} if given else {}) | (
        {"remove": gone} if gone else {})


def said_of_canary(canary: Canary) -> Said:
    """Say what becomes of a canary."""
    from gwfast.plan import regex
    if canary.pattern and (why := regex.check(anywhere(canary.pattern))):
        return lost(f"canary-by-header-pattern cannot be served: {why}")
    return converted("weights, and rules with matches on fields")


# ---- gRPC


def grpc_rules(rules: list[Spec]) -> tuple[list[Spec], list[str]]:
    """Return rules of an HTTPRoute as those of a GRPCRoute, and the paths that name no service or method."""
    made, left = [], []
    for rule in rules:
        matches = []
        for match in rule.get("matches", ()):
            method = grpc_method(match["path"])
            if method is None:
                left.append(match["path"]["value"])
                continue
            headers = {"headers": match["headers"]} if "headers" in match else {}
            matches.append(({"method": method} if method else {}) | headers)
        if not matches:
            continue
        kept = [each for each in rule.get("filters", ()) if each["type"] in (
            "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror")]
        one: Spec = {"backendRefs": rule.get("backendRefs", [])} | ({"filters": kept} if kept else {})
        if matches != [{}]:
            one["matches"] = matches
        if "sessionPersistence" in rule:
            one["sessionPersistence"] = rule["sessionPersistence"]
        made.append(one)
    return made, left


def grpc_method(path: Spec) -> Spec | None:
    """Return the method match of a path; {} for every call, None where it is neither a service nor a method."""
    kind, value = path["type"], path["value"]
    if value == "/" and kind == "PathPrefix":
        return {}
    found = re.fullmatch(r"/([A-Za-z_][\w.]*)(?:/([A-Za-z_]\w*))?", value)
    if not found or kind == "RegularExpression" or kind == "Exact" and not found[2]:
        return None
    return {"service": found[1]} | ({"method": found[2]} if found[2] else {})
