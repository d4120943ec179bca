"""How Gateways are served, by what data planes say.

A data plane counts once it serves a version that is known: one that has just begun, and serves nothing yet, keeps nobody from
being programmed; one that does not follow does. A Gateway has to be served as it is now, its routes need not be.
One whose stream has just ended counts for what it served, and not against.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gwfast.config.model import Key
from gwfast.controller.wire import Problem


class Peer(msgspec.Struct, eq=False):
    """A data plane. number: of the feed that it serves, 0 while nobody knows. left: its stream has ended a moment ago, and it may
    be on its way back. pod_uid: as its token says; '' where that is of no Pod, and `pod` is what it calls itself."""

    fleet: str
    address: str = ""
    pod: str = ""
    pod_uid: str = ""
    number: int = 0
    problems: tuple[Problem, ...] = ()
    left: bool = False


class Standing(msgspec.Struct, frozen=True):
    """mark: what has to be served (Feed.marks). ready: every data plane that serves anything serves the Gateway as it is now, and
    there is one. behind: how many do not. message: what the first of them says that it cannot do."""

    ready: bool
    mark: int = 0
    serving: int = 0
    behind: int = 0
    message: str = ""


def standing(marks: Mapping[str, Mapping[Key, int]], peers: Iterable[Peer]) -> dict[Key, Standing]:
    """Return how each Gateway is served; `marks` are those of the fleets' feeds. One that moves is where one of two serves it."""
    of_fleet: dict[str, list[Peer]] = {}
    for peer in peers:
        if peer.number:
            of_fleet.setdefault(peer.fleet, []).append(peer)
    found: dict[Key, Standing] = {}
    for fleet, each in marks.items():
        for gateway, mark in each.items():
            if gateway not in found or not found[gateway].ready:
                found[gateway] = _of(gateway, mark, of_fleet.get(fleet, []))
    return found


def _of(gateway: Key, mark: int, peers: list[Peer]) -> Standing:
    serving = [peer for peer in peers if peer.number >= mark]
    peers = [peer for peer in peers if peer in serving or not peer.left]
    name = f"{gateway.namespace}/{gateway.name}"
    wrong = [(peer, problem) for peer in serving for problem in peer.problems if problem.gateway == name]
    message = f"{wrong[0][0].pod or wrong[0][0].address}: {wrong[0][1].message}" if wrong else ""
    behind = len(peers) - len(serving)
    return Standing(bool(serving) and not behind and not wrong, mark, len(serving), behind, message)
