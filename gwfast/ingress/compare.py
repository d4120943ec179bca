"""The same requests asked of nginx, as `locations` has it, and of the plan of Gateway API: who answers, and where that differs.

    requests (a list, or an access log) ──> Question ──> locations.answer ──┐
                                               └──────> plan.explain ───────┴──> Comparison(nginx, gwfast, same)

Rules:
- Nothing is sent anywhere. The plan is that of `gwfast run`, and its matching that of `gwfast explain`.
- Same means: the same Services with the same shares see the same path, or the client is sent to the same place with the same
  status, or nobody serves it (404). That a redirect to https keeps a '/' at the end of a path is no difference: the report
  has said so.
- A Secret that was not read is stood in for: what matters here is where requests go, not who the server is.
- A line of an access log has no host: it is asked of each host that it may have been for, known by the upstream that the line
  names.
"""
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gwfast.config import model as m
from gwfast.config.read import read as read_document
from gwfast.errors import UsageError
from gwfast.graph.attach import Attacher
from gwfast.graph.model import GraphOptions
from gwfast.ingress import locations
from gwfast.ingress.annotations.table import Spec
from gwfast.ingress.locations import DEFAULT, Site
from gwfast.ingress.model import Facts
from gwfast.ingress.rules import port_number
from gwfast.plan import explain, regex
from gwfast.plan.build import build
from gwfast.plan.dump import rule_words
from gwfast.plan.ir import Plan

LOG = re.compile(r'(?P<client>\S+) \S+ \S+ \[[^\]]*\] "(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9.]+" (?P<status>\d{3}) \S+ '
                 r'"[^"]*" "[^"]*"(?: \S+ \S+ \[(?P<upstream>[^\]]*)\])?.*')
CLOSE = 0.01  # percent: shares that are the same


class Question(Struct, frozen=True):
    """One request, and the line it was read from."""

    method: str
    url: str
    headers: tuple[str, ...] = ()
    line: int = 0


class Told(Struct, kw_only=True, frozen=True):
    """What becomes of a request: a status, where a client is sent, or who gets it, with percent and path."""

    status: int = 0
    location: str = ""
    shares: tuple[tuple[str, float, str], ...] = ()
    by: str = ""

    def __str__(self) -> str:
        parts = [f"{name}{f' {percent:g} %' if percent < 99.99 else ''} as {path}" for name, percent, path in self.shares]
        if self.location:
            parts = [f"{self.status} {self.location}"]
        return f"{', '.join(parts) or self.status}{f'  ({self.by})' if self.by else ''}"


class Comparison(Struct, frozen=True):
    question: Question
    nginx: Told
    gwfast: Told

    @property
    def same(self) -> bool:
        left, right = self.nginx, self.gwfast
        if left.shares or right.shares:
            return len(left.shares) == len(right.shares) and all(
                one[0] == two[0] and abs(one[1] - two[1]) < CLOSE and locations.normal(one[2]) == locations.normal(two[2])
                for one, two in zip(sorted(left.shares), sorted(right.shares), strict=True))
        if left.location or right.location:
            secured = self.question.url.startswith("http:") and left.location.startswith("https:")
            return left.status == right.status and place(left.location, secured) == place(right.location, secured)
        return left.status == right.status


def place(url: str, secured: bool = False) -> str:
    """Return where a Location leads: an empty path is "/"; nginx leaves out the last "/" of what it redirects to https."""
    if secured:
        return url.rstrip("/")
    return url + "/" if re.fullmatch(r"https?://[^/?]+", url) else url


# ---- The plan


def plan_of(resources: Iterable[Spec], facts: Facts | None = None) -> Plan:
    """Return what gwfast would serve of resources, beside what was read with the Ingresses."""
    found: dict[m.Key, m.Resource] = {}
    for resource in resources:
        for item in read_document(msgspec.json.encode(resource), {}):
            if item.key and item.resource:
                found[item.key] = item.resource
    if facts is not None:
        found = {**facts.services, **facts.secrets, **facts.config_maps, **found}
    return planned(found)


def planned(found: dict[m.Key, m.Resource]) -> Plan:
    """Return the plan of resources; certificates that are not there are stood in for."""
    resources = dict(found)
    for key in wanted_secrets(found):
        if key not in resources:
            resources[key] = stand_in(key)
    return build(Attacher(GraphOptions(), regex.check).attach(resources))


def wanted_secrets(found: dict[m.Key, m.Resource]) -> Iterator[m.Key]:
    for key, resource in found.items():
        if isinstance(resource, m.Gateway | m.ListenerSet):
            for listener in resource.spec.listeners:
                for ref in listener.tls.certificate_refs if listener.tls else ():
                    if (ref.group, ref.kind) == ("", "Secret"):
                        yield m.Key("Secret", ref.namespace or key.namespace, ref.name)


def stand_in(key: m.Key) -> m.Secret:
    """Return a Secret with a certificate of nobody."""
    certificate, private = _pair()
    return m.Secret(metadata=m.ObjectMeta(name=key.name, namespace=key.namespace), type="kubernetes.io/tls",
                    data={"tls.crt": certificate, "tls.key": private})


_made: list[tuple[bytes, bytes]] = []


def _pair() -> tuple[bytes, bytes]:
    if not _made:
        from datetime import UTC, datetime, timedelta

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        key = ec.generate_private_key(ec.SECP256R1())
        name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")]), datetime.now(UTC)
        certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                       .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
                       .sign(key, hashes.SHA256()))
        _made.append((certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())))
    return _made[0]


# ---- Asking


def compare(site: Site, plan: Plan, question: Question) -> Comparison:
    """Ask one request of both."""
    request = explain.read_request(question.method, question.url, list(question.headers))
    return Comparison(question, ask_nginx(site, request), ask_gwfast(plan, request))


def ask_nginx(site: Site, request: explain.Request) -> Told:
    """Return what nginx would make of a request."""
    found = locations.answer(site, locations.Request(request.method, request.scheme, request.host, request.path, request.query,
                                                     request.headers))
    by = f"{found.location} of server {found.server.host}" if found.location else f"server {found.server.host}"
    if found.location and found.location.ingress:
        by += f", Ingress {found.location.ingress.name}, {found.location.ingress.source}"
    if found.redirect or not found.shares:
        return Told(status=found.status or 404, location=found.redirect, by=by)
    shares = []
    for name, percent in found.shares.items():
        upstream = site.upstreams[name]
        shares.append(
            (f"{upstream.namespace}/{upstream.service}:{port_number(site, upstream) or upstream.port}", percent, found.path)
        )
    return Told(shares=tuple(shares), by=by)


def ask_gwfast(plan: Plan, request: explain.Request) -> Told:
    """Return what gwfast makes of a request."""
    binds = explain.binds_for(plan, request)
    if not binds:
        return Told(status=404, by=f"nothing listens on port {request.port}")
    found = explain.explain(binds[0], request)
    if found.entry is None or found.status:
        return Told(status=found.status, by=found.why)
    by = f"{found.entry.rule.kind} {rule_words(found.entry)}"
    merged: dict[tuple[str, str], float] = {}
    for share in found.shares:
        if share.status:
            return Told(status=share.status, location=share.location, by=by)
        if share.backend:
            place = f"{share.backend.namespace}/{share.backend.name}:{share.backend.port}", share.target.partition("?")[0]
            merged[place] = merged.get(place, 0) + share.percent
    return Told(shares=tuple((name, percent, path) for (name, path), percent in merged.items()), by=by)


# ---- Requests


def questions(lines: Iterable[str], site: Site, hosts: tuple[str, ...] = ()) -> Iterator[Question]:
    """Yield the requests of a list (METHOD URL -H 'NAME: VALUE' ...) or of an access log, each once. Raise UsageError."""
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = LOG.fullmatch(text)
        for each in _logged(found, number, site, hosts) if found else (_listed(text, number),):
            identity = each.method, each.url, each.headers
            if identity not in seen:
                seen.add(identity)
                yield each


def _listed(text: str, number: int) -> Question:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"line {number}: {error}") from None
    method = words.pop(0) if words and re.fullmatch(r"[A-Z]+", words[0]) else "GET"
    if not words or "/" not in words[0]:
        raise UsageError(f"line {number}: METHOD URL is needed, or a line of an access log")
    url, headers = words.pop(0), []
    while words:
        if words.pop(0) not in ("-H", "--header") or not words:
            raise UsageError(f"line {number}: behind the URL there is -H 'NAME: VALUE' alone")
        headers.append(words.pop(0))
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"line {number}: {url!r} is no http or https URL with a host")
    return Question(method, url, tuple(headers), number)


def _logged(found: re.Match[str], number: int, site: Site, hosts: tuple[str, ...]) -> Iterator[Question]:
    """Yield what a line of a log may have been: nginx's formats have no host."""
    target, upstream = found["target"], (found["upstream"] or "").strip("-")
    if not target.startswith("/"):
        return
    for host in hosts or tuple(each.replace("*", "any") for each in site.servers if each != DEFAULT) or ("any.example",):
        scheme = "https" if site.servers.get(host) and site.servers[host].tls and found["status"] != "308" else "http"
        question = Question(found["method"], f"{scheme}://{host}{target}", (), number)
        if upstream and not hosts:
            path, _, query = target.partition("?")
            answer = locations.answer(site, locations.Request(found["method"], scheme, host, path, query))
            if upstream not in answer.shares:
                continue
        yield question


def data(found: Iterable[Comparison]) -> list[dict[str, Any]]:
    """Return comparisons as plain data."""
    return [
        {
            "line": one.question.line,
            "method": one.question.method,
            "url": one.question.url,
            "headers": list(one.question.headers),
            "same": one.same,
            "nginx": _told(one.nginx),
            "gwfast": _told(one.gwfast),
        }
        for one in found
    ]


def _told(one: Told) -> dict[str, Any]:
    return {"status": one.status, "location": one.location, "by": one.by, "shares": [
        {"backend": name, "percent": percent, "path": path} for name, percent, path in one.shares]}
