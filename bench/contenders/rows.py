"""A plan as translators like it: rows of who asks for what and who answers, and the services by name.

What only some gateways could do, and no case needs, is refused here: filters, weights, several addresses or ports.
"""
from collections.abc import Iterator

import msgspec

from gwfast.plan.ir import Match, Plan


class Unsupported(Exception):
    """This contender cannot do what the resources say; the text says what."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One match; hostname '' is any. `service` names an upstream of `services()`."""

    hostname: str
    match: Match
    service: str

    @property
    def path(self) -> str:
        return self.match.path

    @property
    def exact(self) -> bool:
        return self.match.path_type == "Exact"

    @property
    def header(self) -> tuple[str, str] | None:
        return (self.match.headers[0].name, self.match.headers[0].value) if self.match.headers else None


def rows(plan: Plan) -> Iterator[Row]:
    """Every match, most specific host first, in the spec's order in each host. Unsupported, see above."""
    if len(plan.binds) != 1:
        raise Unsupported("several ports")
    for listener in plan.binds[0].listeners:
        for host in listener.hosts:
            for entry in host.entries:
                _refuse(entry.match, entry.rule)
                hostname = max(host.hostname, listener.hostname, key=_narrow)
                yield Row(hostname, entry.match, _name(entry.rule.backends[0].backend.key))


def _narrow(hostname: str) -> tuple[bool, int]:
    """Of a listener's hostname and a route's own, which covers the other one, the larger is what both have."""
    return bool(hostname) and not hostname.startswith("*"), len(hostname)


def services(plan: Plan) -> dict[str, tuple[tuple[str, int], ...]]:
    """Upstream name -> (ip, port)s."""
    return {_name(each.key): each.addresses for each in plan.endpoints}


def speak_h2c(plan: Plan) -> set[str]:
    """The upstreams that speak HTTP/2 in clear."""
    return {_name(each.key) for each in plan.endpoints if each.key.endswith("/h2c")}


def certificates(plan: Plan) -> dict[str, bytes]:
    """The listener's certificate as files: chain.pem, key.pem, and both in web.pem; none where it is in clear."""
    tls = plan.binds[0].listeners[0].tls
    if tls is None:
        return {}
    found = tls.certificates[0]
    return {"chain.pem": found.chain, "key.pem": found.key, "web.pem": found.chain + found.key}


def by_host(found: Iterator[Row]) -> dict[str, list[Row]]:
    """The rows of each hostname, in order."""
    hosts: dict[str, list[Row]] = {}
    for row in found:
        hosts.setdefault(row.hostname, []).append(row)
    return hosts


def _name(key: str) -> str:
    """'bench/first:80/http' is 'bench-first-80'."""
    return key.rpartition("/")[0].replace("/", "-").replace(":", "-")


def _refuse(match: Match, rule) -> None:
    if rule.filters or len(rule.backends) != 1 or not rule.backends[0].backend or rule.backends[0].filters:
        raise Unsupported("filters or several backends")
    if match.path_type == "RegularExpression" or match.query or match.method:
        raise Unsupported("regular expressions, methods or query parameters")
    if len(match.headers) > 1 or any(each.regex for each in match.headers):
        raise Unsupported("several headers")
