"""One route: where it attaches, what its rules come to, and the conditions of each parentRef (spec 5.1-5.7).

    Parents.place(ref)    listeners of a Gateway or ListenerSet -> sectionName, port -> kind, namespace -> hostnames
    judge(route)          RouteNode, the hostnames it has on each listener, and notes

Rules:
- Each step that leaves no listener has its own reason: NoMatchingParent, NotAllowedByListeners,
  NoMatchingListenerHostname. One listener that takes the route is enough.
- A listener takes routes whether or not it is valid itself (gateway_types.go:1388-1405).
- What is wrong with the rules is the same for every parent.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from gwfast import limits
from gwfast.config.model import (
    GATEWAY_GROUP,
    OWN_GROUP,
    GRPCRouteMatch,
    HTTPRouteMatch,
    HTTPRouteRule,
    Key,
    ParentReference,
    PythonFilter,
    TCPRoute,
    UDPRoute,
)
from gwfast.graph import extensions
from gwfast.graph.backends import Backends, Resolved
from gwfast.graph.gateways import Survey
from gwfast.graph.hostnames import matching
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.methods import method_path
from gwfast.graph.model import (
    BackendNode,
    Condition,
    GraphOptions,
    FilterTarget,
    ListenerNode,
    Note,
    ParentNode,
    Refused,
    Route,
    RouteNode,
    RuleNode,
    TargetTraffic,
)
from gwfast.graph.refs import Resources
from gwfast.graph.sessions import session_fault
from gwfast.sharing import SHARED, interned


def parent_key(ref: ParentReference, route: Route) -> Key | None:
    """Return what a parentRef names if it is a Gateway or a ListenerSet."""
    if ref.group != GATEWAY_GROUP or ref.kind not in ("Gateway", "ListenerSet"):
        return None
    return Key(ref.kind, ref.namespace or route.metadata.namespace, ref.name)


class Place(NamedTuple):
    """What came of a parentRef: the listeners by id with the hostnames in common, or why there are none."""

    listeners: dict[str, tuple[str, ...]]
    fault: tuple[str, str] | None = None


class Parents:
    """Everything that routes attach to, as one survey found it."""

    def __init__(self, survey: Survey, resources: Resources, options: GraphOptions):
        self._resources = resources
        self._barred: dict[Key, str] = {}
        if options.filters_by_class:
            self._barred = {key: extensions.barred(node.resource, resources) for key, node in survey.gateways.items()}
        self._listeners: dict[Key, list[ListenerNode]] = {key: [] for key in survey.gateways | survey.listener_sets}
        for node in survey.listeners.values():
            self._listeners[node.owner].append(node)
        self._gateways = {key: node.gateway for key, node in survey.listener_sets.items()}
        self._open: dict[tuple, tuple[list[ListenerNode], tuple[str, str] | None]] = {}

    def gateway(self, parent: Key) -> Key | None:
        """Return the Gateway behind a parent, None if it is not served here."""
        return self._gateways.get(parent, parent) if parent in self._listeners else None

    def barred(self, gateway: Key) -> str:
        """Return why routes of a Gateway may not run filters in Python; '' if they may."""
        return self._barred.get(gateway, "")

    def place(self, ref: ParentReference, parent: Key, route: Route) -> Place:
        """Attach a route to a parent that is served here."""
        question = (parent, ref.section_name, ref.port, route.kind, route.metadata.namespace)
        answer = self._open.get(question)
        if answer is None:
            answer = self._open[question] = self._admit(*question)
        listeners, fault = answer
        if fault is not None:
            return Place({}, fault)
        if isinstance(route, (TCPRoute, UDPRoute)):  # without hostnames
            return Place({node.id: interned("") for node in listeners})
        hostnames = route.spec.hostnames
        shared = {node.id: names for node in listeners if (names := matching(node.hostname, hostnames))}
        if shared:
            return Place(shared)
        own = ", ".join(node.hostname for node in listeners)
        return Place({}, ("NoMatchingListenerHostname", f"no hostname in common with {own}"))

    def _admit(self, parent: Key, section: str | None, port: int | None, kind: str, namespace: str):
        listeners = self._listeners[parent]
        named = [node for node in listeners if section in (None, node.name) and port in (None, node.port)]
        if not named:
            wanted = " and ".join([f"name {section}"] * (section is not None) + [f"port {port}"] * (port is not None))
            return [], ("NoMatchingParent", f"{parent} has no listener" + (f" with {wanted}" if wanted else ""))
        kinds = [node for node in named if (GATEWAY_GROUP, kind) in node.supported_kinds]
        if not kinds:
            return [], ("NotAllowedByListeners", f"no listener of {parent} takes a {kind}")
        allowed = [node for node in kinds if self._allows(node, namespace)]
        if not allowed:
            return [], ("NotAllowedByListeners", f"no listener of {parent} takes routes of namespace {namespace}")
        return allowed, None

    def _allows(self, node: ListenerNode, namespace: str) -> bool:
        return self._resources.allows(node.resource.allowed_routes.namespaces, node.owner.namespace, namespace)


# By the identity of backendRefs (which many routes share), kind and namespace of the route: these references, all of which lead
# somewhere, and what they come to. For as long as the resources stay what they are.
Led = dict[tuple[int, str, str], tuple[tuple, tuple[BackendNode, ...]]]


class Judgement(NamedTuple):
    """A route as it was judged. places: listener id -> hostnames, also where another route has won the listener.
    fine: it is served as it is written wherever it wants to attach."""

    node: RouteNode
    places: dict[str, tuple[str, ...]]
    notes: tuple[Note, ...]
    as_written: bool


class Judge:
    """What judging a route takes. `lost` holds (listener id, route key) where a route of another kind was first."""

    def __init__(
        self, parents: Parents, backends: Backends, resources: Resources, options: GraphOptions,
        refuse_regex: Callable[[str], str | None] | None = None,
    ):
        self.parents = parents
        self.lost: set[tuple[str, Key]] = set()
        self._led: Led = {}
        self._backends = backends
        self._resources = resources
        self._options = options
        self._refuse_regex = refuse_regex

    def begin(self) -> None:
        """Forget what held of the resources as they were: they may be others now."""
        self._led.clear()

    def judge(self, key: Key, route: Route) -> Judgement:
        """Judge one route, known by `key`; parentRefs that name nothing which is served here leave no ParentNode."""
        rules = _Rules(route, self._backends, self._options, self._refuse_regex, self._resources, self._barred(route),
                       self._led)
        notes = rules.notes
        if not route.spec.parent_refs:
            message = "a route without parentRefs attaches to nothing"
            if route.spec.use_default_gateways is not None:
                message += ": useDefaultGateways is not followed by this version"
            notes.append(Note(resource=route, field="spec.parentRefs", reason="NoMatchingParent", message=message))
        places: dict[str, tuple[str, ...]] = {}
        parents = []
        for index, ref in enumerate(route.spec.parent_refs):
            parent = parent_key(ref, route)
            gateway = self.parents.gateway(parent) if parent else None
            if parent is None or gateway is None:
                notes += self._missing_parent(route, index, ref, parent)
                continue
            place = self.parents.place(ref, parent, route)
            parents.append(self._parent(key, index, ref, gateway, place, rules))
            if rules.refused is None:
                places.update(place.listeners)
        node = RouteNode(key=key, resource=route, parents=interned(*parents), rules=rules.nodes)
        as_written = all([parent.conditions is rules.as_written or parent.conditions == rules.as_written for parent in parents])
        return Judgement(node, places, tuple(notes), as_written)

    def _barred(self, route: Route) -> str:
        """Return why a route may not run filters in Python: a rule is the same for every Gateway, so each has to allow it."""
        if not self._options.filters_by_class:
            return ""
        found = (self.parents.gateway(parent) for ref in route.spec.parent_refs if (parent := parent_key(ref, route)))
        return next((words for gateway in found if gateway and (words := self.parents.barred(gateway))), "")

    def _parent(
        self, key: Key, index: int, ref: ParentReference, gateway: Key, place: Place, rules: _Rules
    ) -> ParentNode:
        listeners = place.listeners
        if self.lost and listeners:
            listeners = {identity: names for identity, names in listeners.items() if (identity, key) not in self.lost}
        fault = rules.refused
        if fault is None and not listeners:
            fault = Fault(*(place.fault or _LOST), f"spec.parentRefs[{index}]")
        conditions = rules.conditions(fault)
        if conditions is rules.as_written:
            return _fine_parent(index, ref, gateway, conditions, *listeners)
        accepted = fault is None
        return ParentNode(
            index=index, ref=ref, gateway=gateway, accepted=accepted,
            listeners=tuple(listeners) if accepted else (), conditions=conditions,
        )

    def _missing_parent(self, route: Route, index: int, ref: ParentReference, parent: Key | None) -> list[Note]:
        field = f"spec.parentRefs[{index}]"
        if parent is None:
            message = f"parents of kind {ref.group}/{ref.kind} are not served here"
            return [Note(resource=route, field=field, reason="NoMatchingParent", message=message, severity="note")]
        if self._resources.get(*parent) is not None:
            return []  # it is there, and narrowed out, or a ListenerSet whose own problem is told
        message = f"there is no {parent}"
        return [Note(resource=route, field=field, reason="NoMatchingParent", message=message, severity="error")]


_LOST = ("HostnameConflict", "an older route of another kind has its hostnames on the listener")


@lru_cache(maxsize=1024)
def _as_written(generation: int) -> tuple[Condition, ...]:
    return (condition("Accepted", None, generation), condition("ResolvedRefs", None, generation))


# Of many routes, what nothing is wrong with comes out the same, and is one object.


@lru_cache(SHARED)
def _fine_parent(
    index: int, ref: ParentReference, gateway: Key, conditions: tuple[Condition, ...], *listeners: str
) -> ParentNode:
    return ParentNode(
        index=index, ref=ref, gateway=gateway, accepted=True, listeners=listeners, conditions=conditions,
    )


@lru_cache(SHARED)
def _fine_backend(index: int, weight: int, target: str, traffic: TargetTraffic | None) -> BackendNode:
    return BackendNode(index=index, weight=weight, target=target, traffic=traffic)


def _is_fine(node: BackendNode) -> bool:
    """Whether there is nothing to say of a backendRef, and no filter of its own: it is as _fine_backend() makes them."""
    return bool(node.target) and not (node.refused or node.passed or node.filter_targets)


class _Rules:
    """The rules of a route while they are being judged."""

    def __init__(self, route: Route, backends: Backends, options: GraphOptions, refuse_regex, resources: Resources, barred: str,
                 led: Led):
        self.notes: list[Note] = []
        self.refused: Fault | None = None  # Accepted=False for every parent
        self._route = route
        self._backends = backends
        self._options = options
        self._refuse_regex = refuse_regex
        self._resources = resources
        self._barred = barred
        self._led = led
        self._unresolved: Fault | None = None  # ResolvedRefs=False
        self._partial: Fault | None = None  # PartiallyInvalid=True
        self.as_written = _as_written(route.metadata.generation)
        self._filtered = route.kind in ("HTTPRoute", "GRPCRoute")
        self.nodes = tuple([self._rule(index, rule) for index, rule in enumerate(route.spec.rules)])
        if self._partial and all(node.dropped for node in self.nodes):
            self.refused = Fault(self.nodes[0].dropped, self._partial.message, self._partial.field)
        if route.fault is not None:
            at, message = route.fault
            self.refused = Fault("UnsupportedValue", message, at or "spec")

    def conditions(self, fault: Fault | None) -> tuple[Condition, ...]:
        generation = self._route.metadata.generation
        if fault is None and self._unresolved is None and self._partial is None:
            return self.as_written
        made = [condition("Accepted", fault, generation), condition("ResolvedRefs", self._unresolved, generation)]
        if self._partial is not None and fault is None:
            made.append(condition("PartiallyInvalid", self._partial, generation, when_wrong="True"))
        return tuple(made)

    def _rule(self, index: int, rule) -> RuleNode:
        field = f"spec.rules[{index}]"
        backends = self._judged_backends(field, rule.backend_refs)
        if not self._filtered:
            return RuleNode(index=index, rule=rule, backends=backends)
        refused = self._refuse(field, rule.filters) if rule.filters else ()
        filter_targets = self._lead(field, rule.filters) if rule.filters else ()
        dropped = self._dropped(index, rule)
        rule = self._with_attempts(rule)
        return RuleNode(index=index, rule=rule, backends=backends, refused=refused, filter_targets=filter_targets,
                        dropped=dropped)

    def _judged_backends(self, field: str, refs) -> tuple[BackendNode, ...]:
        """Judge the backendRefs of a rule; those that led somewhere for a route of the same kind and namespace still do."""
        question = (id(refs), self._route.kind, self._route.metadata.namespace)
        if (known := self._led.get(question)) is not None:
            return known[1]
        backends = interned(*[self._backend(field, i, ref) for i, ref in enumerate(refs)])
        if all(_is_fine(each) for each in backends):
            if len(self._led) >= SHARED:
                self._led.clear()
            self._led[question] = (refs, backends)
        return backends

    def _with_attempts(self, rule):
        """Say how often a rule tries again that leaves it to the API."""
        retry = getattr(rule, "retry", None)
        if retry is None or retry.attempts is not None or self._options.retry_attempts is None:
            return rule
        return replace(rule, retry=replace(retry, attempts=self._options.retry_attempts))

    def _resolve(self, ref, field: str, grpc: bool = False) -> Resolved:
        resolved = self._backends.resolve(ref, self._route, grpc)
        if resolved.reason and self._unresolved is None:
            self._unresolved = Fault(resolved.reason, resolved.message, field)
        return resolved

    def _backend(self, field: str, index: int, ref) -> BackendNode:
        target, status, reason, message, passed, traffic = self._resolve(ref, f"{field}.backendRefs[{index}]")
        filters = ref.filters if self._filtered else ()
        refused = self._refuse(f"{field}.backendRefs[{index}]", filters) if filters else ()
        filter_targets = self._lead(f"{field}.backendRefs[{index}]", filters) if filters else ()
        if target and not (refused or passed or filter_targets):
            return _fine_backend(index, ref.weight, target, traffic)
        return BackendNode(
            index=index, weight=ref.weight, target=target, passed=passed, traffic=traffic, status=status, reason=reason,
            message=message, refused=refused, filter_targets=filter_targets,
        )

    # ---- Filters

    def _refuse(self, field: str, filters) -> tuple[Refused, ...]:
        served = self._options.filters
        wrong = [(index, one) for index, one in enumerate(filters)
                 if one.type not in served and one.type != "ExtensionRef" or self._unasked(field, one)]
        return tuple(self._refuse_one(f"{field}.filters[{index}]", index, one) for index, one in wrong)

    def _unasked(self, field: str, one) -> bool:
        """Whether it is an ExternalAuth that cannot be asked: it fails closed."""
        if one.type == "ExtensionRef":
            return self._extension(one) is None
        if one.type != "ExternalAuth":
            return False
        return bool(body_fault(one)) or not self._authorizer(one).target

    def _authorizer(self, one) -> Resolved:
        return self._backends.resolve(one.external_auth.backend_ref, self._route, one.external_auth.protocol == "GRPC")

    def _refuse_one(self, field: str, index: int, one) -> Refused:
        if one.type == "ExtensionRef" and (wrong := self._no_extension(one.extension_ref)):
            reason, message = wrong
            self._unresolved = self._unresolved or Fault(reason, message, f"{field}.extensionRef")
        else:
            reason, message = "UnsupportedValue", self._why_not(field, one)
            self._check_filter_backend(field, one)
        where = field.removeprefix("spec.")
        told = f"Dropped Rule: {where}: {message}: requests that reach it are answered with 500"
        self._partial = self._partial or Fault("UnsupportedValue", told, field)
        return Refused(index=index, type=one.type, reason=reason, message=message)

    def _extension(self, one) -> PythonFilter | None:
        """Return the filter in Python that an ExtensionRef of a rule or a backendRef names, where it may run."""
        ref = one.extension_ref
        if self._no_extension(ref) is not None:
            return None
        return self._resources.get("PythonFilter", self._route.metadata.namespace, ref.name)

    def _no_extension(self, ref) -> tuple[str, str] | None:
        if (ref.group, ref.kind) != (OWN_GROUP, "PythonFilter"):
            return "InvalidKind", f"filters of kind {ref.group}/{ref.kind} are not known here; {OWN_GROUP}/PythonFilter would be"
        if self._barred:
            return "RefNotPermitted", self._barred
        found = self._resources.get("PythonFilter", self._route.metadata.namespace, ref.name)
        if found is None:
            return "BackendNotFound", f"there is no PythonFilter {self._route.metadata.namespace}/{ref.name}"
        fault = extensions.fault(found, self._resources, self._options)
        return ("BackendNotFound", fault.message) if fault else None

    def _why_not(self, field: str, one) -> str:
        if one.type != "ExternalAuth" or one.type not in self._options.filters:
            return f"filter {one.type} is not served by this version"
        if words := body_fault(one):
            return words
        return "its authorizer cannot be asked"

    def _lead(self, field: str, filters) -> tuple[FilterTarget, ...]:
        """Resolve where mirrors and authorizers lead."""
        found = []
        for index, one in enumerate(filters):
            if one.type == "ExternalAuth" and one.type in self._options.filters and not self._unasked(field, one):
                resolved = self._authorizer(one)
                found.append(FilterTarget(index=index, target=resolved.target, passed=resolved.passed, traffic=resolved.traffic))
            if one.type == "ExtensionRef" and (found_filter := self._extension(one)) is not None:
                code = extensions.code(found_filter, self._resources.get)
                found.append(FilterTarget(index=index, extension=found_filter, code=code))
            if one.type == "RequestMirror" and "RequestMirror" in self._options.filters:
                resolved = self._resolve(one.request_mirror.backend_ref, f"{field}.filters[{index}].requestMirror.backendRef")
                found.append(FilterTarget(index=index, target=resolved.target, passed=resolved.passed, traffic=resolved.traffic,
                                 reason=resolved.reason, message=resolved.message))
        return tuple(found)

    def _check_filter_backend(self, field: str, one) -> None:
        if (mirror := one.request_mirror) is not None:
            self._resolve(mirror.backend_ref, f"{field}.requestMirror.backendRef")
        elif (auth := getattr(one, "external_auth", None)) is not None:
            self._resolve(auth.backend_ref, f"{field}.externalAuth.backendRef", auth.protocol == "GRPC")

    # ---- Rules that cannot be served

    def _dropped(self, index: int, rule) -> str:
        fault = None
        if isinstance(rule, HTTPRouteRule) and (rule.filters or any(ref.filters for ref in rule.backend_refs)):
            fault = _misused_filter(rule)
        if found := session_fault(getattr(rule, "session_persistence", None)):
            message, at = found
            fault = "UnsupportedValue", message, f".sessionPersistence.{at}"
        if fault is None and self._refuse_regex is not None:
            fault = self._bad_expression(rule)
        if fault is None:
            return ""
        reason, message, place = fault
        field = f"spec.rules[{index}]{place}"
        self._partial = self._partial or Fault(reason, f"Dropped Rule {index}: {message}", field)
        self.notes.append(Note(resource=self._route, field=field, reason=reason, message=message, severity="error"))
        return reason

    def _bad_expression(self, rule) -> tuple[str, str, str] | None:
        for index, match in enumerate(rule.matches):
            if isinstance(match, HTTPRouteMatch) and match.path.type != "RegularExpression" and not (
                    match.headers or match.query_params):
                continue  # nearly every one
            for place, expression in _expressions(match):
                if message := self._refuse_regex(expression):
                    return "UnsupportedValue", message, f".matches[{index}].{place}"
        return None


def body_fault(one) -> str:
    """Say why an authorizer cannot be shown what it is to be shown; '' if it can."""
    auth = one.external_auth
    size = auth.forward_body.max_size or 0 if auth and auth.forward_body else 0
    most = limits.AUTHORIZATION_BODY_BYTES
    return f"forwardBody.maxSize is {size}, bodies of {most} bytes at most are shown" if size > most else ""


def _misused_filter(rule: HTTPRouteRule) -> tuple[str, str, str] | None:
    chains = [("", rule.filters)]
    chains += [(f".backendRefs[{index}]", ref.filters) for index, ref in enumerate(rule.backend_refs)]
    for where, filters in chains:
        types = [one.type for one in filters]
        if "RequestRedirect" in types and "URLRewrite" in types:
            message = "RequestRedirect and URLRewrite cannot be used together"
            return "IncompatibleFilters", message, f"{where}.filters[{types.index('URLRewrite')}]"
        for index, one in enumerate(filters):
            modifier = one.request_redirect or one.url_rewrite
            prefix = modifier is not None and modifier.path and modifier.path.type == "ReplacePrefixMatch"
            if prefix and any(match.path.type != "PathPrefix" for match in rule.matches):
                message = "ReplacePrefixMatch needs matches of type PathPrefix"
                return "UnsupportedValue", message, f"{where}.filters[{index}]"
    return None


def _expressions(match):
    """Yield (where, pattern) of the regular expressions of an HTTPRouteMatch or GRPCRouteMatch."""
    path = getattr(match, "path", None)
    if path is not None and path.type == "RegularExpression":
        yield "path.value", path.value
    if isinstance(match, GRPCRouteMatch):
        kind, pattern = method_path(match.method)
        if kind == "RegularExpression":
            yield "method", pattern
    for name in ("headers", "query_params"):
        for index, one in enumerate(getattr(match, name, ())):
            if one.type == "RegularExpression":
                yield f"{'queryParams' if name == 'query_params' else name}[{index}].value", one.value
