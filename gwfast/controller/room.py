"""Whose streams end so that another one may begin. Pure: data planes in, data planes out.

Rules:
- A Pod has one stream, the newest: the one before is of a process, or of a connection, that is no more. Which Pod it is the API
  server says, of the token, so no Pod can end another one's.
- A fleet has as many as its replicas, with some to spare. Beyond that who shows a token that is bound to no Pod gives way, the
  oldest first; one that comes is refused where all are of Pods.
- Where no place is left at all one goes of the namespace that has most.
"""
from collections import Counter
from collections.abc import Iterable

from gwfast import limits
from gwfast.controller.fleet import Fleet
from gwfast.controller.objects import REPLICAS
from gwfast.controller.standing import Peer


class Full(Exception):
    """A fleet has as many streams as it may."""


def room_of(fleet: Fleet) -> int:
    """Return how many streams a fleet may have."""
    given = fleet.parameters
    if given is None:  # nobody knows how many there are: they stay as they are
        replicas = limits.STREAM_REPLICAS
    elif given.autoscaling:
        replicas = given.autoscaling.max_replicas
    else:
        replicas = REPLICAS if given.replicas is None else given.replicas
    for patch in (given.patches or ()) if given else ():
        spec = patch.value.get("spec") if patch.kind == "Deployment" and isinstance(patch.value, dict) else None
        if isinstance(spec, dict) and isinstance(spec.get("replicas"), int):
            replicas = max(replicas, spec["replicas"])
    return limits.STREAM_SPARE + limits.STREAM_PER_REPLICA * replicas


def leaving(comes: Peer, there: Iterable[Peer], room: int, most: int) -> list[Peer]:
    """Return whose streams end when one comes; Full. there: all, the oldest first; room: of its fleet, most: of all."""
    found: list[Peer] = []
    rest: list[Peer] = []
    for peer in there:
        (found if peer.pod_uid and (peer.fleet, peer.pod_uid) == (comes.fleet, comes.pod_uid) else rest).append(peer)
    of_fleet = [peer for peer in rest if peer.fleet == comes.fleet]
    if len(of_fleet) >= room:
        loose = next((peer for peer in of_fleet if not peer.pod_uid), None)
        if loose is None:
            raise Full(f"{comes.fleet} has {len(of_fleet)} streams, as many as its replicas may have")
        found.append(loose)
    elif len(rest) >= most:
        found.append(_of_most(rest))
    return found


def _of_most(there: list[Peer]) -> Peer:
    """Return the one to go of the namespace that has most: without a Pod, where there is one, else the oldest."""
    counts = Counter(_namespace(peer) for peer in there)
    largest = max(counts, key=counts.__getitem__)
    theirs = [peer for peer in there if _namespace(peer) == largest]
    return next((peer for peer in theirs if not peer.pod_uid), theirs[0])


def _namespace(peer: Peer) -> str:
    return peer.fleet.partition("/")[0]
