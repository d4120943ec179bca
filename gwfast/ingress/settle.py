"""What is said of annotations whose outcome depends on hosts and locations, once these have been converted.

Rules:
- One function for each key that `annotations.table.later` leaves open; what locations have said themselves (a rewrite, a
  redirect) is not said again.
- An Ingress that is a canary has its canary-* and nothing else: so ingress-nginx has it.
"""
import re
from collections.abc import Callable
from typing import Any

from gwfast.config.scalars import HOSTNAME
from gwfast.ingress.annotations.table import Asked, Said, converted, lost, not_needed, reduced
from gwfast.ingress.locations import Server, Site, to_https
from gwfast.ingress.rules import said_of_canary

CANARY = ("canary", "canary-by-header", "canary-by-header-value", "canary-by-header-pattern", "canary-by-cookie", "canary-weight",
          "canary-weight-total")
OF_UPSTREAMS = (
    "load-balance",
    "upstream-hash-by",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "affinity-canary-behavior",
)


def servers(site: Site, asked: Asked) -> list[Server]:
    """Return the servers that an Ingress has rules for."""
    return [each for each in site.servers.values() if asked.ingress in each.ingresses]


def use_regex(site: Site, asked: Asked, value: bool) -> Said:
    return converted("paths of its hosts are regular expressions" if asked.options.faithful else
                     "paths with expressions are regular expressions") if value else not_needed("it is what holds anyway")


def rewrite(site: Site, asked: Asked, value: str) -> Said:
    return not_needed("no path is rewritten: each is the target itself, or another Ingress has it")


def app_root(site: Site, asked: Asked, value: str) -> Said:
    if "?" in value:
        return reduced("RequestRedirect of / without the query")
    return converted("RequestRedirect of /")


def ssl_redirect(site: Site, asked: Asked, value: bool) -> Said:
    found = servers(site, asked)
    if not value:
        return (
            converted("there is no redirect to https")
            if any(each.tls for each in found)
            else not_needed("no host has a certificate")
        )
    if any(to_https(site, server, each) for server in found for each in server.locations if each.ingress is asked.ingress):
        return converted("RequestRedirect to https")
    return not_needed("no host has a certificate")


def force_ssl_redirect(site: Site, asked: Asked, value: bool) -> Said:
    if not value:
        return not_needed("it is what holds anyway")
    if site.config.get("use-forwarded-headers"):
        return converted(
            "RequestRedirect to https where X-Forwarded-Proto is http: run gwfast with --trusted-proxies of who ends TLS"
        )
    return converted("RequestRedirect to https")


def redirect(site: Site, asked: Asked, value: str) -> Said:
    return not_needed("another redirect comes first" if asked.get("temporal-redirect") else "no location has it")


def code(site: Site, asked: Asked, value: int) -> Said:
    return not_needed("no location has its redirect")


def www(site: Site, asked: Asked, value: bool) -> Said:
    if not value:
        return not_needed("it is what holds anyway")
    hosts = {each.host for each in servers(site, asked)}
    found = [other for other, host in site.www.items() if host in hosts]
    return converted(f"RequestRedirect from {', '.join(found)}") if found else not_needed("the other host has rules of its own")


def alias(site: Site, asked: Asked, value: tuple[str, ...]) -> Said:
    odd = [one for one in value if len(one) > 253 or not re.match(HOSTNAME, one.lower())]
    owned = [one for one in value if one.lower() in site.servers]
    if odd:
        return lost(f"it is no hostname: {', '.join(odd)}")
    if len(owned) == len(value):
        return not_needed("these hosts have rules of their own")
    if not any(set(server.aliases) & {one.lower() for one in value} for server in servers(site, asked)):
        return not_needed("an older Ingress has said the aliases of the host")
    return converted("hostnames and listeners")


def passthrough(site: Site, asked: Asked, value: bool) -> Said:
    if not value:
        return not_needed("it is what holds anyway")
    if any(each.passthrough and any(one.path == "/" and one.upstream for one in each.locations) for each in servers(site, asked)):
        return converted("TLSRoute; of all else that is said of the host nothing holds for https, as in nginx")
    return not_needed("no host has a backend for /, which is where nginx passes to")


def ciphers(site: Site, asked: Asked, value: str) -> Said:
    if asked.options.standard_only:
        return lost("a listener's tls.options are gwfast's own")
    return converted("gwfast.dev/tls-ciphers of the listener's tls.options: those of TLS 1.2")


def canary(site: Site, asked: Asked, value: Any) -> Said:
    if not asked.get("canary"):
        return not_needed("canary is not true")
    if asked.ingress in site.dropped:
        return not_needed("no other Ingress has its host, path and type: ingress-nginx drops it too")
    used = [one for upstream in site.upstreams.values() for one in upstream.canaries[:1] if one.ingress is asked.ingress]
    return said_of_canary(used[0]) if used else not_needed("another canary of the same Service comes first")


SETTLE: dict[str, Callable[[Site, Asked, Any], Said]] = {
    "use-regex": use_regex, "rewrite-target": rewrite, "app-root": app_root, "ssl-redirect": ssl_redirect,
    "force-ssl-redirect": force_ssl_redirect, "permanent-redirect": redirect, "temporal-redirect": redirect,
    "permanent-redirect-code": code, "temporal-redirect-code": code, "from-to-www-redirect": www, "server-alias": alias,
    "ssl-passthrough": passthrough, "ssl-ciphers": ciphers, **dict.fromkeys(CANARY, canary),
}
