"""Reuse of nodes from one graph to the next: a node that says what it said before stays the same object.

Rules:
- Whoever derives something from a node keeps it for as long as the node is the same object, so a node that came out as it was
  gives way to the one from before.
- Nodes are compared by what they say; the resources in them are the same only if they are one object.
"""
from collections.abc import Mapping
from typing import TypeVar

from msgspec.structs import astuple, replace

from gwfast.graph.model import Node, RouteNode

K = TypeVar("K")
N = TypeVar("N", bound=Node)


def same(a: object, b: object) -> bool:
    """Return whether two nodes, or tuples of them, say the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Node) and isinstance(b, Node):
        return all(map(same, astuple(a), astuple(b)))
    if isinstance(a, tuple) and isinstance(b, tuple) and a and isinstance(a[0], Node):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def reuse_all(old: Mapping[K, N], new: Mapping[K, N]) -> dict[K, N]:
    """Return `new` with the nodes of `old` that say the same."""
    return {key: before if (before := old.get(key)) is not None and same(before, node) else node for key, node in new.items()}


def reuse_route(before: RouteNode | None, node: RouteNode) -> RouteNode:
    """Return the route from before, or a route of those of its rules and parents that came out as they were."""
    if before is None:
        return node
    parents = _reuse_each(before.parents, node.parents)
    rules = _reuse_each(before.rules, node.rules)
    if before.resource is node.resource and parents is before.parents and rules is before.rules:
        return before
    return replace(node, parents=parents, rules=rules)


def _reuse_each(before: tuple[N, ...], now: tuple[N, ...]) -> tuple[N, ...]:
    if same(before, now):
        return before
    paired = zip(before, now, strict=False)
    return tuple(old if same(old, new) else new for old, new in paired) + now[len(before):]
