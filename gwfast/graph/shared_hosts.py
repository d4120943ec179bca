"""HTTPRoutes and GRPCRoutes on one listener: have they a host in common, and which of them has it?

Up to 1.6 the API let routes of one kind have a hostname of a listener (grpcroute_types.go:126-137): the older route has it. What
followed lets both have it.
"""
from collections.abc import Sequence

from gwfast.config.model import Key
from gwfast.graph.hostnames import Hostnames
from gwfast.graph.model import Attachment


def share_host(attachments: Sequence[Attachment]) -> bool:
    """Return whether an HTTPRoute and a GRPCRoute among the routes of a listener have a host in common."""
    if not _both_kinds(attachments):
        return False
    hosts = Hostnames()
    for one in attachments:
        if one.route.kind == "GRPCRoute":
            hosts.update(one.hostnames)
        elif any(map(hosts.meets, one.hostnames)):
            return True
    return False


def losers(attachments: Sequence[Attachment]) -> frozenset[Key]:
    """Return the routes that an older route of the other kind leaves no place for on a listener."""
    if not _both_kinds(attachments):
        return frozenset()
    hosts = {"HTTPRoute": Hostnames(), "GRPCRoute": Hostnames()}
    lost = set()
    for one in sorted(attachments, key=lambda one: (one.route.age, one.route.kind)):
        other = hosts["GRPCRoute" if one.route.kind == "HTTPRoute" else "HTTPRoute"]
        if any(other.meets(hostname) for hostname in one.hostnames):
            lost.add(one.route.key)
        else:
            hosts[one.route.kind].update(one.hostnames)
    return frozenset(lost)


def _both_kinds(attachments: Sequence[Attachment]) -> bool:
    """Whether there are GRPCRoutes, which are first in the order of keys, and HTTPRoutes: no listener takes further kinds too."""
    return bool(attachments) and (attachments[0].route.kind, attachments[-1].route.kind) == ("GRPCRoute", "HTTPRoute")
