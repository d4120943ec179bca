"""Routability of a Gateway's addresses (GEP-5093): which addresses of its Service are what each entry of spec.addresses asks for.

    inside(gateway)                          whether nothing from outside the cluster is to reach it
    chosen(gateway, parameters)              what a Service says of the cluster IPs that are asked for
    granted(gateway, default, own, ...)      Granted: an address for each entry that has one, and why the others have none

Rules:
- Cluster is a cluster IP of the Gateway's Service, and nothing else is. An entry that asks for no scope gets what the Service is
  reached at as parameters have it, and a cluster IP only where it names it, or where the Service has nothing else.
- A scope that is not known here cannot be had. No other one stands in for it, and what asks for nothing but scopes gets no
  address outside the cluster.
- Entries are judged one by one: each has an address of its own, and those that have one serve.
- A Service has one cluster IP of each family, and keeps it for as long as it lives.
"""
from collections.abc import Iterable
from ipaddress import ip_address

import msgspec

from gwfast.config.model import Gateway, GatewayParametersSpec, GatewaySpecAddress
from gwfast.parameters import may_ask

CLUSTER = "Cluster"
NAMED = "spec.addresses[{}] ({})"


class Granted(msgspec.Struct, frozen=True):
    """addresses: in the order of the entries. missing: of those that have none, what they ask for and why."""

    addresses: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def asked(gateway: Gateway) -> bool:
    """Whether an entry asks for a scope."""
    return any(each.routability for each in gateway.spec.addresses)


def inside(gateway: Gateway) -> bool:
    """Whether nothing from outside the cluster is to reach a Gateway: each of its entries asks for a scope."""
    return bool(gateway.spec.addresses) and all(each.routability for each in gateway.spec.addresses)


def chosen(gateway: Gateway, parameters: GatewayParametersSpec) -> dict[str, object]:
    """Return what a Service says of its cluster IPs. It says nothing of those that it may not ask for."""
    wanted = [each for each in gateway.spec.addresses if each.routability == CLUSTER]
    values = list(dict.fromkeys(each.value for each in wanted if each.value and may_ask(parameters, each.value, True)))
    template = parameters.service
    families = {"ipFamilyPolicy": "PreferDualStack"} if len(wanted) > 1 and not (template and template.ip_family_policy) else {}
    return families | ({"clusterIP": values[0], "clusterIPs": values[:2]} if values else {})


def granted(gateway: Gateway, default: Iterable[str], own: Iterable[str], parameters: GatewayParametersSpec | None,
            error: str = "") -> Granted:
    """Return what each entry gets of the addresses that its Service is reached at (default) and of its cluster IPs (own)."""
    default, own = list(default), list(own)
    found: dict[int, str] = {}
    entries = list(enumerate(gateway.spec.addresses))
    for index, each in sorted(entries, key=lambda item: (not item[1].value, item[1].routability != CLUSTER, item[0])):
        pool = own if each.routability == CLUSTER else [] if each.routability else [*default, *(own if each.value else ())]
        free = [one for one in pool if one not in found.values() and (not each.value or _same(one, each.value))]
        if free:
            found[index] = free[0]
    missing = [f"{_words(index, each)}: {_why(each, own, parameters, error)}" for index, each in entries if index not in found]
    return Granted(tuple(found[index] for index in sorted(found)), tuple(missing))


def _same(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return one == other


def _words(index: int, entry: GatewaySpecAddress) -> str:
    said = [f"routability {entry.routability}"] if entry.routability else []
    return NAMED.format(index, ", ".join([*said, *([entry.value] if entry.value else [])]) or "any")


def _why(entry: GatewaySpecAddress, own: list[str], parameters: GatewayParametersSpec | None, error: str) -> str:
    if entry.routability not in (None, "", CLUSTER):
        return f"this routability is not known here, {CLUSTER} is"
    if entry.value and entry.routability and parameters is not None and not may_ask(parameters, entry.value, True):
        return "the parameters of its GatewayClass (spec.addresses) do not allow it"
    if error:
        return error
    if entry.routability and own:
        stays = f"its Service has {', '.join(own)}, and a cluster IP stays what it is"
        return stays if entry.value else "its Service has no other cluster IP"
    return "its Service was not given it" if entry.value else "its Service has no address yet"
