"""From a route of the graph to the entries of the plan: its rules, what they lead to and what they do to requests.

    entries_of(node, context, backends, before, shares) -> an Entry for each match of each rule
    front_rule(node, context, backends)                 -> the filters of a listener, as a Rule without backends
    places_of(node, context)                            -> where all of that leads: the keys of `backends`

Rules:
- What a listener does to routes is its RouteContext: the same route on two listeners of one context has the same entries.
- Where a listener has a host of both kinds, calls of a GRPCRoute do not reach the '/' of HTTPRoutes (matches.calls).
- Equal rules share one tuple of backends, and what says the same as `before` is the object from before.
"""
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

from msgspec import msgpack

from gwfast.config.model import (BackendRef, GRPCBackendRef, GRPCRouteFilter, GRPCRouteRule, HTTPBackendRef, HTTPRouteFilter,
                                 HTTPRouteRule, Key, ListenerFilter)
from gwfast.graph.model import (BackendNode, Certificate, FilterTarget, FrontNode, ListenerNode, Refused, RouteNode, RuleNode,
                                over_tls)
from gwfast.plan import precedence
from gwfast.plan.filters import crosses, plan_filters
from gwfast.plan.ir import AnswerFilter, Backend, Entry, Filter, Rule, WeightedBackend
from gwfast.plan.matches import calls, plan_matches, preflights
from gwfast.plan.policies import plan_retry, plan_session, plan_timeouts
from gwfast.sharing import SHARED, interned

Written = tuple[HTTPRouteFilter | GRPCRouteFilter | ListenerFilter, ...]  # filters, as they are written
Place = str | tuple[str, Certificate]  # a target's key, and the certificate that it is shown


T = TypeVar("T")


class RouteContext(NamedTuple):
    """What a listener does to its routes. passthrough: TLS ends at their backends; certificate: what backends that speak TLS are
    shown; shared: an HTTPRoute and a GRPCRoute have a host in common."""

    passthrough: bool = False
    certificate: Certificate | None = None
    shared: bool = False

    def of(self, node: RouteNode) -> "RouteContext":
        """Return as much of the context as matters to a route."""
        return self if not self.shared or node.kind == "GRPCRoute" else self._replace(shared=False)

    def place(self, node: BackendNode | FilterTarget) -> Place:
        """Return where a backendRef or a filter leads; '' where it is refused."""
        target = node.passed if self.passthrough and node.passed else node.target
        return (target, self.certificate) if self.certificate and over_tls(target) else target


# The backends of equal rules by the identity of their nodes and of their backendRefs, while one listener's routes are planned.
Shares = dict[tuple[int, int], tuple[WeightedBackend, ...]]
RouteKey = Key | tuple[Key, RouteContext]  # of a planned route; with the context where the entries depend on it


def route_key(node: RouteNode, context: RouteContext) -> RouteKey:
    """Return what a planned route is known by; `context` is as much of it as matters to the route."""
    if context.shared:
        return node.key, context
    for rule in node.rules:
        for each in rule.targets():
            if each.passed or over_tls(each.target):
                return node.key, context
    return node.key


def places_of(node: RouteNode, context: RouteContext) -> set[Place]:
    """Return where a planned route leads."""
    places = {context.place(each) for rule in node.rules if not rule.dropped for each in rule.targets()}
    places.discard("")
    return places


def target_of(place: Place) -> str:
    """Return the key of the target that is at a place."""
    return place if isinstance(place, str) else place[0]


def entries_of(node: RouteNode, context: RouteContext, backends: Mapping[Place, Backend],
               before: tuple[Entry, ...], shares: Shares) -> tuple[Entry, ...]:
    """Return the entries of a route; those that say what they said `before` are the same objects."""
    last_rules = {entry.rule.index: entry.rule for entry in before}
    last_entries = {(entry.rule.index, entry.match.index, entry.match.method): entry for entry in before}
    entries = []
    for rule_node in node.rules:
        if rule_node.dropped:
            continue
        rule = kept(last_rules.get(rule_node.index), _rule(node, rule_node, context, backends, shares))
        matches = plan_matches(rule_node.rule)
        if crosses(rule):
            matches += preflights(matches)
        if context.shared and node.kind == "GRPCRoute":
            matches += calls(matches)
        if not before:
            entries += [Entry(match=match, rule=rule) for match in matches]
            continue
        for match in matches:
            last = last_entries.get((rule.index, match.index, match.method))
            if last is not None and last.rule is rule and says(last.match) == says(match):
                entries.append(last)
            else:
                entries.append(Entry(match=match, rule=rule))
    return tuple(entries)


def _rule(node: RouteNode, rule: RuleNode, context: RouteContext, backends: Mapping[Place, Backend], shares: Shares) -> Rule:
    metadata, written = node.resource.metadata, rule.rule
    filters: tuple[Filter, ...] = ()
    timeouts, retry, session = None, None, None
    if isinstance(written, (HTTPRouteRule, GRPCRouteRule)):
        session = plan_session(written.session_persistence)
        if written.filters:
            filters = _filters(written.filters, rule.refused, _filter_targets(rule, context, backends))
    if isinstance(written, HTTPRouteRule):
        timeouts, retry = plan_timeouts(written.timeouts), plan_retry(written.retry)
    return Rule(kind=node.key.kind, namespace=metadata.namespace, route=metadata.name, index=rule.index,
                name=written.name or "", filters=filters, timeouts=timeouts, retry=retry, session=session,
                source=node.resource.source, backends=_shared_backends(rule, context, backends, shares),
                created=precedence.instant(metadata.creation_timestamp))


def _shared_backends(rule: RuleNode, context: RouteContext, backends: Mapping[Place, Backend],
                     shares: Shares) -> tuple[WeightedBackend, ...]:
    refs = rule.rule.backend_refs
    key = id(rule.backends), id(refs)
    weighted = shares.get(key)
    if weighted is None:
        if len(shares) >= SHARED:
            shares.clear()
        weighted = shares[key] = interned(*[
            _weighted(each, _filters_of(refs[each.index]), backends.get(context.place(each)),
                      _filter_targets(each, context, backends)) for each in rule.backends])
    return weighted


def _filters_of(ref: BackendRef) -> Written:
    return ref.filters if isinstance(ref, (HTTPBackendRef, GRPCBackendRef)) else ()


def front_rule(node: ListenerNode, front: FrontNode, context: RouteContext, backends: Mapping[Place, Backend]) -> Rule:
    """Return the filters of a listener, `front`, as a rule without backends."""
    owner = node.owner
    return Rule(kind=owner.kind, namespace=owner.namespace, route=owner.name, index=0, name=node.name,
                filters=_filters(front.filters, front.refused, _filter_targets(front, context, backends)))


def _filter_targets(node: RuleNode | BackendNode | FrontNode, context: RouteContext,
                    backends: Mapping[Place, Backend]) -> dict[int, Backend | FilterTarget]:
    """Return the backends (or filters in Python) that filters of a rule or backendRef lead to, by the place of the filter."""
    return {each.index: each if each.extension else backends[context.place(each)] for each in node.filter_targets
            if each.extension or each.target} if node.filter_targets else {}


def _weighted(node: BackendNode, written: Written, backend: Backend | None,
              filter_targets: Mapping[int, Backend | FilterTarget]) -> WeightedBackend:
    filters = _filters(written, node.refused, filter_targets)
    if backend is None:
        return WeightedBackend(weight=node.weight, status=node.status or 500, filters=filters)
    if not filters:
        return _plain(node.weight, backend)
    return WeightedBackend(weight=node.weight, backend=backend, filters=filters)


@lru_cache(SHARED)
def _plain(weight: int, backend: Backend) -> WeightedBackend:
    return WeightedBackend(weight=weight, backend=backend)


def _filters(written: Written, refused: tuple[Refused, ...],
             filter_targets: Mapping[int, Backend | FilterTarget]) -> tuple[Filter, ...]:
    if not filter_targets and not refused:
        return _plain_filters(written)
    filters = plan_filters(written, filter_targets)
    answers = {each.index: AnswerFilter(status=each.status, reason=f"{each.message or each.type} ({each.reason})")
               for each in refused}
    return tuple(one for i, each in enumerate(filters) if (one := answers.get(i, each)) is not None)


@lru_cache(SHARED)
def _plain_filters(written: Written) -> tuple[Filter, ...]:
    return tuple([each for each in plan_filters(written, {}) if each is not None])


def kept(last: T | None, now: T) -> T:
    """Return `last` if it says what `now` says."""
    return last if last is not None and says(last) == says(now) else now


says: Callable[[object], bytes] = msgpack.encode  # equal bytes are equal content
