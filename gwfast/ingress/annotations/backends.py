"""How backends are spoken to, chosen and kept: protocols, TLS, balancing, sessions, canaries, mirrors."""
import re
from typing import Any

from gwfast.config.scalars import FIELD_NAME, SUBDOMAIN
from gwfast.ingress.annotations import access, kinds
from gwfast.ingress.annotations.table import (
    Annotation, Asked, Said, Spec, always, converted, later, lost, not_needed, reduced, unless)

UNVERIFIED = ("nginx did not ask who the backend is (proxy-ssl-verify off), gwfast always does: the BackendTLSPolicy names the "
              "system's authorities and {hostname}; give it caCertificateRefs of whoever signs the backend's certificate")
FASTCGI = "gwfast does not speak FastCGI"
COOKIE = "gwfast names its cookie by {}"
STICKY = ("there is no affinity", "gwfast has no sessions in the standard channel")


# ---- Protocols


def protocol(asked: Asked, value: str) -> Said:
    """GRPC makes GRPCRoutes, HTTPS a BackendTLSPolicy: both where locations are converted."""
    match value:
        case "HTTP":
            return not_needed("it is what holds anyway")
        case "AUTO_HTTP":
            return lost("the backend is spoken to in clear, whatever the client's scheme is")
        case "FCGI":
            return lost(f"{FASTCGI}: the backend is asked over HTTP")
        case "GRPC":
            return converted("GRPCRoute")
    said = backend_tls(asked)
    return Said(said.outcome, f"GRPCRoute and {said.words}") if value == "GRPCS" else said


def backend_tls(asked: Asked) -> Said:
    if asked.get("proxy-ssl-verify") == "on" and asked.get("proxy-ssl-secret"):
        return reduced("BackendTLSPolicy: its authorities are of a ConfigMap; copy ca.crt of the Secret into it")
    return lost(UNVERIFIED.format(hostname=asked.get("proxy-ssl-name") or "the Service's name"))


def of_backend_tls(said: Said):
    """Return a conversion that says one thing where the backend is spoken to over TLS."""
    def convert(asked: Asked, value: Any) -> Said:
        return said if asked.get("backend-protocol") in ("HTTPS", "GRPCS") else not_needed("the backend is spoken to in clear")
    return convert


def upstream_vhost(asked: Asked, value: str) -> Said:
    if not re.match(SUBDOMAIN, value):
        return lost("only a name, without port or variables, can be the Host that backends see")
    asked.hostname = value
    return converted("URLRewrite.hostname")


def next_upstream(asked: Asked, value: str) -> Said:
    """error and timeout are what gwfast does anyway: connections that fail and requests that may be sent again."""
    when = set(value.split())
    if when <= {"error", "timeout"}:
        return not_needed(
            "another endpoint is tried where one cannot be reached, or hangs up on a request that may be sent again"
        )
    if asked.options.standard_only:
        return lost("retry came into the standard channel with v1.7: here another endpoint is tried where one cannot be reached")
    if "off" in when:
        asked.retry["attempts"] = 0
        return converted("retry.attempts: 0")
    codes = sorted(int(one[5:]) for one in when if re.fullmatch(r"http_[45]\d\d", one))
    tries = asked.get("proxy-next-upstream-tries", asked.config.get("proxy-next-upstream-tries", 3))
    asked.retry |= {"attempts": max(tries - 1, 0) if tries else 10} | ({"codes": codes} if codes else {})
    others = when - {"error", "timeout"} - {f"http_{code}" for code in codes}
    if others == {"non_idempotent"} or not others and not codes:
        return converted("retry")
    more = f", not {', '.join(sorted(others - {'non_idempotent'}))}" if others - {"non_idempotent"} else ""
    return reduced(f"retry, of every method: nginx sent POST, LOCK and PATCH once{more}") if "non_idempotent" not in when else (
        reduced(f"retry{more}") if more else converted("retry"))


def tries(asked: Asked, value: int) -> Said:
    if not asked.options.standard_only and not set(asked.get("proxy-next-upstream", "").split()) <= {"error", "timeout"}:
        return converted("retry.attempts")
    return not_needed("three endpoints are tried") if value == 3 else reduced("three endpoints are tried at most")


# ---- Balancing


def balance(asked: Asked, value: str) -> Said:
    if value == "ewma":
        return reduced("gwfast chooses the one of two endpoints that has fewer requests")
    return (
        reduced("gwfast chooses the one of two endpoints that has fewer requests, not each in turn")
        if value != "round_robin"
        else not_needed("gwfast spreads requests over all endpoints")
    )


# ---- Sessions


def affinity(asked: Asked, value: str) -> Said:
    """A rule's sessionPersistence: the cookie is gwfast's own, so a client's first request after the move may go elsewhere."""
    if asked.options.standard_only:
        return lost(STICKY[1])
    name = asked.get("session-cookie-name", "INGRESSCOOKIE")
    session: Spec = {"type": "Cookie", "cookie": {"name": name}}
    if cookie_path := asked.get("session-cookie-path"):
        session["cookie"]["path"] = cookie_path
    age = asked.get("session-cookie-max-age") or asked.get("session-cookie-expires")
    if age:
        session["cookie"]["lifetimeType"] = "Permanent"
        session["absoluteTimeout"] = duration(age)
    asked.session |= session
    return converted("sessionPersistence")


def duration(seconds: float) -> str:
    """Return a Duration of the API (GEP-2257), which has five digits for each unit."""
    whole = int(seconds)
    if whole != seconds:
        return f"{int(seconds * 1000)}ms"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if whole < 100000:
        return f"{whole}s"
    return f"{min(hours, 99999)}h" + (f"{minutes}m" if minutes else "") + (f"{left}s" if left else "")


def of_session(said: Said):
    """Return a conversion that says one thing where sessions stick."""
    def convert(asked: Asked, value: Any) -> Said:
        if asked.get("affinity") != "cookie":
            return not_needed(STICKY[0])
        return lost(STICKY[1]) if asked.options.standard_only else said
    return convert


def affinity_mode(asked: Asked, value: str) -> Said:
    return of_session(reduced("a session stays with its endpoint: as persistent has it") if value == "balanced"
                      else converted("a session stays with its endpoint"))(asked, value)


# ---- Mirrors


def mirror(asked: Asked, value: str) -> Said:
    if asked.get("mirror-target") is None:
        return not_needed("there is no mirror-target")
    return reduced("the copy has the Host that the backend has")


def mirror_target(asked: Asked, value: str) -> Said:
    """A RequestMirror copies the request as it is: what nginx did where the URL ends in $request_uri."""
    url, keeps = (value.removesuffix("$request_uri"), value.endswith("$request_uri"))
    backend = access.authorizer(url, asked.ingress.metadata.namespace)
    if backend is None:
        return lost("only http://SERVICE.NAMESPACE.svc:PORT$request_uri can be a mirror")
    asked.filters.append({"type": "RequestMirror", "requestMirror": {"backendRef": backend}})
    rest = re.sub(r"^http://[^/]*/?", "", url)
    if keeps and not rest:
        return converted("RequestMirror")
    return reduced("RequestMirror: the copy has the path of the request")


def header_name(text: str) -> str:
    if not re.match(FIELD_NAME, text.strip()):
        raise ValueError("the name of a field is needed")
    return text.strip()


TABLE = (
    Annotation("backend-protocol", kinds.one_of("HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS", "FCGI", upper=True), protocol),
    Annotation("fastcgi-index", kinds.words, always(lost(FASTCGI))),
    Annotation("fastcgi-params-configmap", kinds.words, always(lost(FASTCGI))),
    Annotation(
        "proxy-ssl-secret",
        kinds.words,
        of_backend_tls(
            lost("no certificate is shown to the backend: a Gateway has one for all (spec.tls.backend.clientCertificateRef)")
        ),
    ),
    Annotation(
        "proxy-ssl-verify",
        kinds.one_of("on", "off"),
        lambda asked, value: of_backend_tls(
            converted("BackendTLSPolicy") if value == "on" else reduced("a backend's certificate is always verified")
        )(asked, value),
    ),
    Annotation("proxy-ssl-verify-depth", kinds.number, of_backend_tls(not_needed("chains of any length are followed"))),
    Annotation("proxy-ssl-name", kinds.words, of_backend_tls(converted("BackendTLSPolicy validation.hostname"))),
    Annotation("proxy-ssl-server-name", kinds.one_of("on", "off"), of_backend_tls(not_needed("SNI is always sent"))),
    Annotation("proxy-ssl-protocols", kinds.words, of_backend_tls(reduced("backends are spoken to in TLS 1.2 and 1.3"))),
    Annotation(
        "proxy-ssl-ciphers", kinds.words, of_backend_tls(reduced("backends are spoken to with OpenSSL's own ciphers"))
    ),
    Annotation("ssl-passthrough", kinds.boolean, later),
    Annotation("upstream-vhost", kinds.words, upstream_vhost),
    Annotation("service-upstream", kinds.boolean, unless(False, reduced("endpoints are dialled, not the Service's address"))),
    Annotation("proxy-next-upstream", kinds.words, next_upstream),
    Annotation("proxy-next-upstream-tries", kinds.number, tries),
    Annotation(
        "proxy-next-upstream-timeout",
        kinds.number,
        unless(0, reduced("gwfast has no time for all tries together; timeouts.request would be for the response too")),
    ),
    Annotation("load-balance", kinds.words, balance),
    Annotation("upstream-hash-by", kinds.words, always(lost("gwfast has no choice of an endpoint by a hash yet"))),
    Annotation(
        "upstream-hash-by-subset", kinds.boolean, unless(False, lost("gwfast has no choice of an endpoint by a hash yet"))
    ),
    Annotation(
        "upstream-hash-by-subset-size",
        kinds.number,
        lambda asked, value: (
            lost("gwfast has no choice of an endpoint by a hash yet")
            if asked.get("upstream-hash-by-subset")
            else not_needed("there is no subset")
        ),
    ),
    Annotation("affinity", kinds.one_of("cookie"), affinity),
    Annotation("affinity-mode", kinds.one_of("balanced", "persistent"), affinity_mode),
    Annotation(
        "affinity-canary-behavior",
        kinds.one_of("sticky", "legacy"),
        lambda asked, value: of_session(
            converted("a session stays with its endpoint, a canary's too")
            if value == "sticky"
            else reduced("a session stays with its endpoint, a canary's too")
        )(asked, value),
    ),
    Annotation("session-cookie-name", header_name, of_session(converted("sessionPersistence.cookie.name"))),
    Annotation("session-cookie-path", kinds.path, of_session(converted("sessionPersistence.cookie.path"))),
    Annotation("session-cookie-max-age", kinds.number, of_session(converted("sessionPersistence.absoluteTimeout"))),
    Annotation("session-cookie-expires", kinds.number, of_session(converted("sessionPersistence.absoluteTimeout"))),
    Annotation("session-cookie-domain", kinds.words, of_session(reduced("the cookie is of the host alone"))),
    Annotation("session-cookie-secure", kinds.boolean, of_session(not_needed("the cookie is Secure over TLS"))),
    Annotation(
        "session-cookie-samesite",
        kinds.one_of("None", "Lax", "Strict"),
        lambda asked, value: of_session(
            not_needed("the cookie is SameSite=Lax") if value == "Lax" else reduced("the cookie is SameSite=Lax")
        )(asked, value),
    ),
    Annotation(
        "session-cookie-conditional-samesite-none", kinds.boolean, of_session(not_needed("the cookie is SameSite=Lax"))
    ),
    Annotation(
        "session-cookie-change-on-failure",
        kinds.boolean,
        lambda asked, value: of_session(
            converted("a session goes on elsewhere where its endpoint fails")
            if value
            else reduced("a session goes on elsewhere where its endpoint fails")
        )(asked, value),
    ),
    Annotation("canary", kinds.boolean, later),
    Annotation("canary-by-header", header_name, later),
    Annotation("canary-by-header-value", kinds.words, later),
    Annotation("canary-by-header-pattern", kinds.words, later),
    Annotation("canary-by-cookie", kinds.words, later),
    Annotation("canary-weight", kinds.number, later),
    Annotation("canary-weight-total", kinds.number, later),
    Annotation("mirror-target", kinds.words, mirror_target),
    Annotation("mirror-host", kinds.words, mirror),
    Annotation(
        "mirror-request-body",
        kinds.one_of("on", "off"),
        lambda asked, value: (
            not_needed("there is no mirror-target")
            if asked.get("mirror-target") is None
            else converted("the copy has the body")
            if value == "on"
            else reduced("the copy has the body")
        ),
    ),
)
