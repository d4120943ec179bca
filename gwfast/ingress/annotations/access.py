"""Who may pass. What cannot be said closes its paths, as ingress-nginx does where a Secret of it is missing: nothing opens by
a move."""
import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from gwfast.config.scalars import SUBDOMAIN
from gwfast.ingress.annotations import kinds
from gwfast.ingress.annotations.table import (
    Annotation, Asked, Said, Spec, always, converted, later, lost, not_needed, reduced, unless)

PASSWORDS = "gwfast has no passwords of its own yet"
ADDRESSES = "gwfast has no access by the address of a client yet"
CLIENT_CERTIFICATES = "gwfast asks for certificates of clients for a whole port (Gateway spec.tls.frontend), not yet for one host"
SIGN_IN = "gwfast has no sign-in yet: a 401 of the authorizer goes to the client as it is"
WITHOUT = "there is no auth-url"
AUTHORIZED = ("Cookie", "X-Original-URL", "X-Original-Method", "X-Auth-Request-Redirect", "X-Forwarded-Host", "X-Forwarded-Proto")


# ---- Passwords, addresses


def basic(asked: Asked, value: str) -> Said:
    return asked.close("auth-type", PASSWORDS if value == "basic" else "gwfast has no digest authentication")


def of_passwords(asked: Asked, value: Any) -> Said:
    return lost(f"{PASSWORDS}: see auth-type") if asked.get("auth-type") else not_needed("there is no auth-type")


def allowed(name: str):
    """Return the conversion of a list of who may pass."""
    def convert(asked: Asked, value: tuple[str, ...]) -> Said:
        if not value or any(ipaddress.ip_network(one).prefixlen == 0 for one in value):
            return not_needed("everybody may pass")
        return asked.close(name, ADDRESSES)
    return convert


def denied(asked: Asked, value: tuple[str, ...]) -> Said:
    return asked.close("denylist-source-range", ADDRESSES) if value else not_needed("nobody is kept out")


def satisfy(asked: Asked, value: str) -> Said:
    if value == "all":
        return not_needed("it is what holds anyway")
    return lost("gwfast has no choice between an address and a password yet")


# ---- An authorizer


def auth_url(asked: Asked, value: str) -> Said:
    """An ExternalAuth filter asks with the request's own path behind `path`; nginx asked with the path of the URL alone."""
    backend = authorizer(value, asked.ingress.metadata.namespace)
    if backend is None:
        return asked.close("auth-url", "only http://SERVICE.NAMESPACE.svc:PORT/path, without variables, can be an authorizer yet")
    if asked.options.standard_only:
        return asked.close("auth-url", "the filter ExternalAuth is not of the standard channel")
    path = urlsplit(value).path
    http: Spec = {"allowedHeaders": list(AUTHORIZED)} | ({"path": path} if path.strip("/") else {})
    names = asked.get("auth-response-headers", ())
    if names:
        http["allowedResponseHeaders"] = list(names)
    asked.filters.append({"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": backend, "http": http}})
    return reduced(
        f"ExternalAuth: the authorizer is asked with the request's method and its path behind {path or '/'}, where nginx "
        f"asked GET {path or '/'} alone, and only 200 lets pass"
    )


def authorizer(url: str, namespace: str) -> Spec | None:
    """Return the backendRef of an authorizer's URL; None where it leads out of the cluster, or has variables."""
    if "$" in url or not url.startswith("http://"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None
    labels = (parts.hostname or "").removesuffix(".cluster.local").removesuffix(".").split(".")
    if len(labels) != 3 or labels[2] != "svc" or not re.match(SUBDOMAIN, labels[0]):
        return None
    return {"name": labels[0], "port": port} | ({"namespace": labels[1]} if labels[1] != namespace else {})


def response_headers(asked: Asked, value: tuple[str, ...]) -> Said:
    if not asked.get("auth-url"):
        return not_needed(WITHOUT)
    return lost("there is no authorizer: see auth-url") if "auth-url" in asked.closed else converted("allowedResponseHeaders")


def of_authorizer(said: Said):
    """Return a conversion that says one thing where there is an authorizer."""
    return lambda asked, value: said if asked.get("auth-url") else not_needed(WITHOUT)


def method(asked: Asked, value: str) -> Said:
    if not asked.get("auth-url"):
        return not_needed(WITHOUT)
    return reduced("the authorizer is asked with the request's own method")


def global_auth(asked: Asked, value: bool) -> Said:
    if not asked.config.get("global-auth-url"):
        return not_needed("there is no global-auth-url")
    return lost("global-auth-url is lost: see the ConfigMap")


def cache_key(asked: Asked, value: str) -> Said:
    return reduced("gwfast has no cache of an authorizer's answers yet: it is asked for every request")


# ---- Certificates of clients


def client_certificate(asked: Asked, value: str) -> Said:
    if asked.get("auth-tls-verify-client", "on") == "off":
        return not_needed("auth-tls-verify-client is off")
    return asked.close("auth-tls-secret", CLIENT_CERTIFICATES)


def of_client_certificate(asked: Asked, value: Any) -> Said:
    return lost(f"{CLIENT_CERTIFICATES}: see auth-tls-secret") if asked.get("auth-tls-secret") else not_needed(
        "there is no auth-tls-secret")


TABLE = (
    Annotation("auth-type", kinds.one_of("basic", "digest"), basic),
    Annotation("auth-secret", kinds.words, of_passwords),
    Annotation("auth-secret-type", kinds.one_of("auth-file", "auth-map"), of_passwords),
    Annotation("auth-realm", kinds.words, of_passwords),
    Annotation("allowlist-source-range", kinds.networks, allowed("allowlist-source-range")),
    Annotation("whitelist-source-range", kinds.networks, allowed("whitelist-source-range")),
    Annotation("denylist-source-range", kinds.networks, denied),
    Annotation("satisfy", kinds.one_of("all", "any"), satisfy),
    Annotation("auth-url", kinds.url, auth_url),
    Annotation("auth-method", kinds.words, method),
    Annotation("auth-response-headers", kinds.listed, response_headers),
    Annotation("auth-request-redirect", kinds.words, of_authorizer(
        lost("gwfast does not make a field for the authorizer yet: it is told of the request by X-Forwarded-*"))),
    Annotation("auth-signin", kinds.url, of_authorizer(lost(SIGN_IN))),
    Annotation("auth-signin-redirect-param", kinds.words, lambda asked, value: lost(SIGN_IN) if asked.get("auth-signin")
               else not_needed("there is no auth-signin")),
    Annotation("auth-proxy-set-headers", kinds.words, of_authorizer(
        lost("gwfast does not make fields for the authorizer alone yet"))),
    Annotation("auth-always-set-cookie", kinds.boolean, unless(
        False, lost("an authorizer's Set-Cookie goes to the client with its refusals alone yet"))),
    Annotation("auth-cache-key", kinds.words, cache_key),
    Annotation("auth-cache-duration", kinds.words, lambda asked, value: cache_key(asked, value) if asked.get("auth-cache-key")
               else not_needed("there is no auth-cache-key")),
    Annotation("auth-keepalive", kinds.number, always(not_needed("connections to an authorizer are kept"))),
    Annotation("auth-keepalive-requests", kinds.number, always(not_needed("connections to an authorizer are kept"))),
    Annotation("auth-keepalive-timeout", kinds.number, always(not_needed("connections to an authorizer are kept"))),
    Annotation("auth-keepalive-share-vars", kinds.boolean, always(not_needed("gwfast has no variables"))),
    Annotation("enable-global-auth", kinds.boolean, global_auth),
    Annotation("auth-snippet", kinds.multiline, later),
    Annotation("auth-tls-secret", kinds.words, client_certificate),
    Annotation("auth-tls-verify-client", kinds.one_of("on", "off", "optional", "optional_no_ca"), of_client_certificate),
    Annotation("auth-tls-verify-depth", kinds.number, of_client_certificate),
    Annotation("auth-tls-pass-certificate-to-upstream", kinds.boolean, of_client_certificate),
    Annotation("auth-tls-match-cn", kinds.words, of_client_certificate),
    Annotation("auth-tls-error-page", kinds.words, of_client_certificate),
)
