"""Who is told what a supervisor serves."""
from collections.abc import Iterable
from typing import Protocol

from gwfast.graph.model import Graph


class Follower(Protocol):
    """Who is told what serves: a writer of status, for one."""

    def follow(self, graph: Graph, unbound: Iterable[tuple[str, str, str]]) -> None:
        """Take note of a graph that the workers serve now, but for listeners of which an address cannot be bound: id, the
        address ('': all) and why."""

    def metrics(self) -> Iterable[tuple[str, float]]:
        """Return name and value of what it counts."""

    async def close(self) -> None:
        """End: the gateway drains."""
