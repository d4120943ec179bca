"""Ingresses into Gateway API: the resources, and a report of everything that was read.

    Facts ──> Ingresses of the class ──> Site (what nginx does) ──> for each host: listeners, Places ──> rules ──> routes
                     └──> Asked (what each Ingress asks of its locations) ──────────────────────────────┘
                     └──> Report

Rules:
- A route is of one Ingress and one host: its namespace is that of its backends, and who reads it finds it again. Sixteen
  rules are a route; what is more goes on in another one.
- Where the report says nothing of it, what is served is what nginx served: a request that nginx answered 404 is not served.
- Nothing here reads files or prints.
"""
import re
from typing import Any

import msgspec
from msgspec import Struct, field

from gwfast.config.model import Key
from gwfast.config.read import read as read_document
from gwfast.config.scalars import HOSTNAME
from gwfast.errors import Source
from gwfast.graph.certificates import certificate
from gwfast.ingress import annotations, options, settle
from gwfast.ingress.annotations.table import Asked, Options, Said, Spec, lost, not_needed
from gwfast.ingress.listeners import Listeners, resource, slug
from gwfast.ingress.locations import DEFAULT, Server, Site, site, to_https
from gwfast.ingress.model import Facts, Ingress
from gwfast.ingress.paths import Place, exact, places
from gwfast.ingress.policies import backend_tls, streams
from gwfast.ingress.report import Report
from gwfast.ingress.rules import GRPC, Maker, grpc_rules

RULES_MOST, MATCHES_MOST = 16, 128  # of a route
HOSTNAMES_MOST = 16


class Result(Struct):
    """The resources in the order in which they are written, what is said of them, and what nginx would do."""

    resources: list[Spec]
    report: Report
    site: Site


def convert(facts: Facts, given: Options) -> Result:
    """Convert everything that was read."""
    return _Conversion(facts, given).result()


def ours(facts: Facts, given: Options, report: Report) -> list[Ingress]:
    """Return the Ingresses that the controller serves; of the others it is said that they are not."""
    names = (
        {given.ingress_class}
        if given.ingress_class
        else {name for name, one in facts.classes.items() if one.ours} or {"nginx"}
    )
    default = any(one.is_default and one.metadata.name in names for one in facts.classes.values())
    found = []
    for ingress in facts.ingresses:
        name = ingress.class_name
        if name in names or name is None and (default or not facts.classes):
            found.append(ingress)
            continue
        why = f"its class is {name}" if name is not None else "it has no class"
        report.skipped.append(_difference(ingress, f"{why}, converted is {', '.join(sorted(names))}"))
    return found


def _difference(ingress: Ingress, words: str):
    from gwfast.ingress.report import Difference
    return Difference(f"Ingress {ingress.name}", words, ingress.source)


class _Draft(Struct):
    """The rules of one Ingress for one host, by kind of route and scheme."""

    http: list[Spec] = field(default_factory=list)
    https: list[Spec] = field(default_factory=list)
    grpc_http: list[Spec] = field(default_factory=list)
    grpc_https: list[Spec] = field(default_factory=list)


class _Conversion:
    def __init__(self, facts: Facts, given: Options) -> None:
        self.facts = facts
        self.given = given
        self.report = Report(problems=list(facts.problems))
        self.ingresses = ours(facts, given, self.report)
        config = options.read(facts, self.report)
        self.read = {each.name: annotations.read(each, given.prefix) for each in self.ingresses}
        self.site = site(facts, self.ingresses, self.read, config)
        self._certificates()
        namespace = given.gateway[0] or (self.ingresses[0].metadata.namespace if self.ingresses else "default")
        self.listeners = Listeners(given, namespace)
        self.asked = {each.name: self._asked(each, config) for each in self.ingresses if not self.site.get(each, "canary")}
        self.maker = Maker(self.site, self.asked, self.report, self.say)
        self.routes: list[Spec] = []
        self.names: set[tuple[str, str, str]] = set()
        self.of: dict[tuple[str, str, str], Ingress] = {}  # whose a route is
        self.tls: dict[tuple[str, str], Spec] = {}
        self.authorities: dict[tuple[str, str], Spec] = {}

    def result(self) -> Result:
        """Convert, host by host."""
        for server in self.site.servers.values():
            self._server(server)
        for other, host in self.site.www.items():
            self._www(other, self.site.servers[host])
        made = streams(self.site, self.listeners, self.report)
        self._settle()
        self._differences()
        resources = [*self.listeners.resources(), *self.routes, *made, *self.tls.values(), *self.authorities.values()] if (
            self.ingresses or made) else []
        return Result([each for each in resources if self._valid(each)], self.report, self.site)

    def _valid(self, resource: Spec) -> bool:
        """Whether config reads a resource; rules that it would refuse are taken out, and said to be lost."""
        if not wrong(resource):
            return True
        name = f"{resource['kind']} {resource['metadata']['namespace']}/{resource['metadata']['name']}"
        rules = resource["spec"].get("rules", [])
        kept = []
        for rule in rules:
            if why := wrong(resource | {"spec": resource["spec"] | {"rules": [rule]}}):
                self._refused(resource, name, why)
            else:
                kept.append(rule)
        if kept and len(kept) < len(rules):
            resource["spec"]["rules"] = kept
            return True
        if len(kept) == len(rules):
            self._refused(resource, name, wrong(resource))
        return False

    def _refused(self, resource: Spec, name: str, why: str) -> None:
        ingress = self.of.get((resource["kind"], resource["metadata"]["namespace"], resource["metadata"]["name"]))
        said = lost(f"a rule of {name} cannot be written: {why}")
        if ingress is not None:
            self.say(ingress, "spec.rules", said)
        else:
            self.report.say(Source("", 0), name, "spec", "", said)

    # ---- What annotations ask

    def say(self, ingress: Ingress | None, name: str, said: Said) -> None:
        """Say what becomes of an annotation, or of a part of the spec, of an Ingress."""
        if ingress is None:
            return
        key = f"{self.given.prefix}/{name}"
        text = self.read[ingress.name].given.get(name)
        if text is None:
            self.report.say(ingress.source, f"Ingress {ingress.name}", name, "", said)
        else:
            self.report.say(ingress.line_of(key), f"Ingress {ingress.name}", name, text, said)

    def _asked(self, ingress: Ingress, config: dict[str, Any]) -> Asked:
        found = self.read[ingress.name]
        asked = Asked(ingress=ingress, facts=self.facts, options=self.given, values=found.values, config=config)
        for name, said in annotations.convert(asked, found):
            self.say(ingress, name, said)
        for name, line, text, said in asked.snippet_lines:
            where = ingress.text_line(f"{self.given.prefix}/{name}", line)
            self.report.say(
                where, f"Ingress {ingress.name}", name, text, said, line=line * 1000 + len(self.report.entries) % 1000
            )
        asked.request_headers = config.get("proxy-set-headers", {}) | asked.request_headers
        asked.response_headers = config.get("add-headers", {}) | asked.response_headers
        asked.response_removed += config.get("hide-headers", ())
        return asked

    def _settle(self) -> None:
        """Say what is left to say of annotations, and of what is not an annotation."""
        for ingress in self.ingresses:
            asked = self.asked.get(ingress.name) or Asked(ingress=ingress, facts=self.facts, options=self.given,
                                                          values=self.read[ingress.name].values, config=self.site.config)
            for name in self.read[ingress.name].given:
                if (f"Ingress {ingress.name}", name, -1) in self.report.entries:
                    continue
                value = asked.values.get(name)
                if value is None:
                    self.say(ingress, name, not_needed("its value is bad, ingress-nginx takes the default"))
                elif ingress.name not in self.asked and name not in settle.CANARY:
                    self.say(ingress, name, not_needed("it is of a canary: ingress-nginx takes canary-* alone"))
                elif name in settle.SETTLE:
                    self.say(ingress, name, settle.SETTLE[name](self.site, asked, value))
            for name in annotations.others(ingress, self.given.prefix):
                self.report.say(ingress.line_of(name), f"Ingress {ingress.name}", name, ingress.metadata.annotations[name],
                                not_needed("it is not ingress-nginx's: its own controller has to read Gateways and routes"))

    # ---- Hosts

    def _certificates(self) -> None:
        """Find the certificate of hosts that no tls entry names: the Secret that covers it, as ingress-nginx does."""
        for server in self.site.servers.values():
            if not server.tls or server.certificate or not server.first:
                continue
            for ingress in server.ingresses:
                for entry in ingress.spec.tls:
                    secret = self.facts.secret(ingress.metadata.namespace, entry.secret_name)
                    found = certificate(secret) if secret else ""
                    if not isinstance(found, str) and any(_covers(name, server.host) for name in found.names):
                        server.certificate = Key("Secret", ingress.metadata.namespace, entry.secret_name)

    def _server(self, server: Server) -> None:
        if server.first and not is_host(server.host):
            self.say(server.first, f"host {server.host}", lost("it is no hostname; ingress-nginx would have it refused"))
            return
        found = places(self.site, server, self.given.faithful)
        for place in found:
            written = place.location.upstream or not place.location.default  # of a `/` that nobody wrote there is nothing to say
            for name, said in place.said if written else ():
                path = place.location.written or place.location.path
                self.say(place.location.ingress, f"path {path}" if name == "path" else name, said)
        root = self._app_root(server)
        hosts = self._hosts(server)
        secure = (
            server.host != DEFAULT
            and bool(server.certificate or self.given.default_certificate)
            and not server.passthrough
            or (server.host == DEFAULT and self.given.default_certificate is not None)
        )
        whole = secure and root is None and self._all_to_https(server, found)
        drafts: dict[str, tuple[Ingress, _Draft]] = {}
        if root is not None:
            ingress, rule = root
            draft = drafts.setdefault(ingress.name, (ingress, _Draft()))[1]
            draft.http.append(rule)
            draft.https.append(rule)
        for place in found:
            self._placed(server, place, drafts, secure, whole, root is not None)
        if whole and server.first:
            self._route("HTTPRoute", server.first, f"{slug(server.host)}-to-https", hosts, self._parents(server, False),
                        [{"filters": [self.maker.secure()]}])
        for ingress, draft in drafts.values():
            self._drafted(server, ingress, draft, hosts, secure)
        if server.passthrough:
            self._passthrough(server, hosts)
        if server.tls and not secure and server.first and not server.passthrough:
            self.say(server.first, "spec.tls", lost(f"{server.host} has no certificate of its own: nginx showed its default one; "
                                                    "--default-ssl-certificate names one"))

    def _placed(self, server: Server, place: Place, drafts: dict[str, tuple[Ingress, _Draft]], secure: bool, whole: bool,
                rooted: bool) -> None:
        """Put the rules of a place into its Ingress's draft."""
        location, ingress = place.location, place.location.ingress
        left_out = not self.given.faithful and location.default and not location.upstream
        if ingress is None or left_out or rooted and exact("/") in place.matches:
            return
        draft = drafts.setdefault(ingress.name, (ingress, _Draft()))[1]
        protocol = self.site.get(location.ingress, "backend-protocol", "HTTP")
        for scheme in ("http", "https") if secure else ("http",):
            if scheme == "http" and whole:
                continue
            rules = self.maker.rules(server, place, scheme)
            served = [one for one in rules if "backendRefs" in one]
            if protocol in GRPC and served:
                made, left = grpc_rules(served)
                getattr(draft, f"grpc_{scheme}").extend(made)
                rules = [one for one in rules if "backendRefs" not in one]
                if left:
                    self.say(location.ingress, f"path {left[0]}", lost("it is neither a service nor a method of gRPC"))
            getattr(draft, scheme).extend(rules)
        upstream = self.site.upstreams.get(location.upstream)
        if protocol in ("HTTPS", "GRPCS") and upstream and ingress.name in self.asked:
            asked = self.asked[ingress.name]
            key = upstream.namespace, f"{upstream.service}-{upstream.port}"
            if key not in self.tls:
                self.tls[key] = backend_tls(self.site, asked, upstream, self.authorities)

    def _drafted(self, server: Server, ingress: Ingress, draft: _Draft, hosts: list[str], secure: bool) -> None:
        alone = len({rule.host for rule in ingress.spec.rules}) <= 1
        name = ingress.metadata.name if alone else f"{ingress.metadata.name}-{slug(server.host)}"
        for kind, http, https, end in (
            ("HTTPRoute", draft.http, draft.https, ""),
            ("GRPCRoute", draft.grpc_http, draft.grpc_https, ""),
        ):
            if secure and http == https:
                self._route(kind, ingress, name + end, hosts, [*self._parents(server, False, ingress),
                                                               *self._parents(server, True, ingress)], http)
                continue
            if secure:
                self._route(kind, ingress, name + end, hosts, self._parents(server, True, ingress), https)
            self._route(
                kind, ingress, f"{name}-http" if secure else name + end, hosts, self._parents(server, False, ingress), http
            )

    def _hosts(self, server: Server) -> list[str]:
        if server.host == DEFAULT:
            return []
        return [server.host, *filter(is_host, server.aliases)]

    def _parents(self, server: Server, secure: bool, ingress: Ingress | None = None) -> list[Spec]:
        if server.host == DEFAULT or server.first is None:
            return [self.listeners.default(secure)]
        namespace = server.certificate.namespace if server.certificate else server.first.metadata.namespace
        shared = any(each.metadata.namespace != namespace for each in server.ingresses)
        ciphers = next((value for each in server.ingresses if (value := self.site.get(each, "ssl-ciphers"))), "")
        if self.given.standard_only:
            ciphers = ""
        return [
            self.listeners.host(
                host, secure, namespace, server.certificate.name if server.certificate else None, shared, ciphers
            )
            for host in self._hosts(server)
        ]

    def _all_to_https(self, server: Server, found: list[Place]) -> bool:
        """Whether http is nothing but a redirect to https, whatever the path is."""
        if self.site.config.get("use-forwarded-headers"):
            return False
        return all(to_https(self.site, server, each.location) and not self.site.get(each.location.ingress, "permanent-redirect")
                   and not self.site.get(each.location.ingress, "temporal-redirect") and not each.slash for each in found)

    def _app_root(self, server: Server) -> tuple[Ingress, Spec] | None:
        """Return the redirect of `/` that the first location with an app-root makes for the whole host."""
        for location in server.locations:
            if location.ingress and (target := self.site.get(location.ingress, "app-root")):
                path = {"type": "ReplaceFullPath", "replaceFullPath": target.partition("?")[0]}
                return location.ingress, {"matches": [exact("/")], "filters": [
                    {"type": "RequestRedirect", "requestRedirect": {"statusCode": 302, "path": path}}]}
        return None

    def _passthrough(self, server: Server, hosts: list[str]) -> None:
        root = next((each for each in server.locations if each.path == "/" and each.upstream), None)
        if root is None or root.ingress is None or server.first is None:
            return
        backend = self.maker.backend(self.site.upstreams[root.upstream], Place(root))
        if backend:
            parents = [self.listeners.host(host, True, server.first.metadata.namespace, passthrough=True) for host in hosts]
            self._route(
                "TLSRoute", root.ingress, f"{slug(server.host)}-passthrough", hosts, parents, [{"backendRefs": [backend]}]
            )

    def _www(self, other: str, server: Server) -> None:
        if server.first is None or not is_host(other):
            return
        namespace = server.certificate.namespace if server.certificate else server.first.metadata.namespace
        name = server.certificate.name if server.certificate else None
        parents = [self.listeners.host(other, secure, namespace, name) for secure in (False, True)
                   if not secure or name or self.given.default_certificate]
        status = self.maker.secure()["requestRedirect"]["statusCode"]
        rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": server.host, "statusCode": status}}]}
        self._route("HTTPRoute", server.first, f"{slug(other)}-to-{slug(server.host)}", [other], parents, [rule], namespace)

    # ---- Routes

    def _route(self, kind: str, ingress: Ingress, name: str, hosts: list[str], parents: list[Spec], rules: list[Spec],
               namespace: str = "") -> None:
        """Write rules as routes of at most sixteen each."""
        namespace = namespace or ingress.metadata.namespace
        chunks: list[list[Spec]] = []
        for rule in rules:
            matches = sum(len(one.get("matches", (1,))) for one in chunks[-1]) if chunks else MATCHES_MOST
            if not chunks or len(chunks[-1]) == RULES_MOST or matches + len(rule.get("matches", (1,))) > MATCHES_MOST:
                chunks.append([])
            chunks[-1].append(rule)
        for number, chunk in enumerate(chunks):
            for first in range(0, max(len(hosts), 1), HOSTNAMES_MOST):
                part = hosts[first:first + HOSTNAMES_MOST]
                own = parents if len(hosts) <= HOSTNAMES_MOST else [one for one in parents if any(
                    one["sectionName"].endswith(slug(host)) for host in part)]
                spec: Spec = {"parentRefs": [_relative(one, namespace) for one in own]}
                spec |= {"hostnames": part} if part else {}
                free = self._free(kind, namespace, name, number)
                self.of[kind, namespace, free] = ingress
                self.routes.append(resource(kind, namespace, free, spec | {"rules": chunk}))

    def _free(self, kind: str, namespace: str, name: str, number: int) -> str:
        """Return a name that no other route has: of routes that are one, the first comes first."""
        wanted = f"{name}-{number + 1:02}" if number else name
        while (kind, namespace, wanted) in self.names:
            number += 1
            wanted = f"{name}-{number + 1:02}"
        self.names.add((kind, namespace, wanted))
        return wanted

    # ---- What differs

    def _differences(self) -> None:
        report = self.report
        for ingress, host, path, other in self.site.shadowed:
            report.differ(
                f"Ingress {ingress.name}",
                f"{host}{path} is also of Ingress {other.name if other else '?'}, which has it",
                ingress.source,
            )
        for ingress in self.ingresses:
            for backend in (path.backend for rule in ingress.spec.rules for path in (rule.http.paths if rule.http else ())):
                if backend.resource is not None:
                    self.say(ingress, "spec.rules", lost(f"a backend that is a {backend.resource.kind} is no Service"))
        if not self.ingresses:
            return
        for host in (each for each in self.site.servers if each.startswith("*.")):
            report.differ(host, "'*' is one label or more, in nginx it was one")
        if not all("proxy-body-size" in found.given for found in self.read.values()):
            report.differ("", "bodies of requests have no limit, nginx's was 1 MiB where nothing is said")
        report.differ("", "a request's body is streamed to the backend, nginx had read all of it before")
        report.differ("", "nothing is served on 443 for hosts without a certificate, where nginx showed its own")
        report.differ(
            "", "requests to unknown paths are answered 404 by gwfast: there is no default backend, no /healthz on port 80"
        )
        report.differ(
            "",
            "backends do not get X-Scheme, X-Original-Forwarded-For, X-Forwarded-Scheme; X-Real-IP is that of trusted proxies",
        )
        if not self.given.faithful and any(each.regex for each in self.site.servers.values()):
            report.differ(
                "",
                "--clean: paths of hosts with use-regex or rewrite-target are what they say, in nginx they were all "
                "regular expressions without case and end",
            )


def wrong(resource: Spec) -> str:
    """Say why config would refuse a resource, '' if it reads it."""
    [item] = read_document(msgspec.json.encode(resource), {})
    return next((f"{finding.field}: {finding.message}" for _, finding in item.findings if finding.severity == "error"), "")


def is_host(text: str) -> bool:
    return len(text) <= 253 and re.match(HOSTNAME, text) is not None


def _relative(parent: Spec, namespace: str) -> Spec:
    return {name: value for name, value in parent.items() if name != "namespace" or value != namespace}


def _covers(pattern: str, host: str) -> bool:
    return pattern == host or pattern.startswith("*.") and host.partition(".")[2] == pattern[2:]
