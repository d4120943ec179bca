"""The rules of one route: what their backendRefs and filters come to, and which of them cannot be served (spec 5.4-5.7).

    Rules(route, ...)   nodes, one RuleNode for each rule; conditions(), which all parentRefs have in common; notes

Rules:
- A backendRef or filter that leads nowhere leaves the rule in place: that share of its requests, or all of them, get an error.
- A rule that means nothing by itself (two filters that exclude each other, a regular expression that cannot be served) is
  dropped. A route all of whose rules are dropped is not accepted.
- Of many routes, what nothing is wrong with comes out the same, and is one object.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from msgspec.structs import replace

from gwfast import limits
from gwfast.config.model import (OWN_GROUP, BackendObjectReference, BackendRef, GRPCBackendRef, GRPCHeaderMatch, GRPCRouteFilter,
                                 GRPCRouteMatch, GRPCRouteRule, HTTPBackendRef, HTTPExternalAuthFilter, HTTPHeaderMatch,
                                 HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRule, LocalObjectReference, PythonFilter,
                                 TCPRouteRule, TLSRouteRule, UDPRouteRule)
from gwfast.graph import extensions
from gwfast.graph.backends import Backends, Resolved
from gwfast.graph.listeners import Fault, condition
from gwfast.graph.methods import method_path
from gwfast.graph.model import (BackendNode, Condition, FilterTarget, GraphOptions, Note, Refused, Route, RuleNode, TargetTraffic)
from gwfast.graph.refs import Resources
from gwfast.graph.sessions import session_fault
from gwfast.sharing import SHARED, interned

AnyRule = HTTPRouteRule | GRPCRouteRule | TLSRouteRule | TCPRouteRule | UDPRouteRule
AnyFilter = HTTPRouteFilter | GRPCRouteFilter
Filters = Sequence[AnyFilter]
RefuseRegex = Callable[[str], str | None]  # why a regular expression cannot be served, '' or None if it can
# Lists of backendRefs in which nothing is wrong, and their nodes, by the identity of the list (which many routes share) and the
# kind and namespace of the route. They are forgotten when a resource changes.
PlainBackends = dict[tuple[int, str, str], tuple[Sequence[BackendRef], tuple[BackendNode, ...]]]


class Rules:
    """The rules of a route while they are being judged. `plain` is shared by the routes that are judged together."""

    def __init__(self, route: Route, backends: Backends, options: GraphOptions, refuse_regex: RefuseRegex | None,
                 resources: Resources, barred: str, plain: PlainBackends):
        self.notes: list[Note] = []
        self.refused: Fault | None = None  # Accepted=False for every parent
        self._route = route
        self._backends = backends
        self._options = options
        self._refuse_regex = refuse_regex
        self._resources = resources
        self._barred = barred  # why the route may not run filters in Python
        self._plain = plain
        self._unresolved: Fault | None = None  # ResolvedRefs=False
        self._partial: Fault | None = None  # PartiallyInvalid=True
        self.as_written = _as_written(route.metadata.generation)
        rules: Sequence[AnyRule] = route.spec.rules
        self.nodes = tuple([self._rule(index, rule) for index, rule in enumerate(rules)])
        if self._partial and all(node.dropped for node in self.nodes):
            self.refused = Fault(self.nodes[0].dropped, self._partial.message, self._partial.field)
        if route.fault is not None:
            at, message = route.fault
            self.refused = Fault("UnsupportedValue", message, at or "spec")

    def conditions(self, fault: Fault | None) -> tuple[Condition, ...]:
        """Return the conditions of a parentRef; `fault` is why it is not accepted, None where it is."""
        generation = self._route.metadata.generation
        if fault is None and self._unresolved is None and self._partial is None:
            return self.as_written
        made = [condition("Accepted", fault, generation), condition("ResolvedRefs", self._unresolved, generation)]
        if self._partial is not None and fault is None:
            made.append(condition("PartiallyInvalid", self._partial, generation, when_wrong="True"))
        return tuple(made)

    def _rule(self, index: int, rule: AnyRule) -> RuleNode:
        field = f"spec.rules[{index}]"
        backends = self._judged_backends(field, rule.backend_refs)
        if not isinstance(rule, (HTTPRouteRule, GRPCRouteRule)):
            return RuleNode(index=index, rule=rule, backends=backends)
        refused = self._refuse(field, rule.filters) if rule.filters else ()
        filter_targets = self._filter_targets(field, rule.filters) if rule.filters else ()
        dropped = self._dropped(index, rule)
        if isinstance(rule, HTTPRouteRule) and rule.retry is not None:
            rule = self._with_attempts(rule)
        return RuleNode(index=index, rule=rule, backends=backends, refused=refused, filter_targets=filter_targets,
                        dropped=dropped)

    def _with_attempts(self, rule: HTTPRouteRule) -> HTTPRouteRule:
        """Say how often a rule tries again that leaves it to the API."""
        retry = rule.retry
        if retry is None or retry.attempts is not None or self._options.retry_attempts is None:
            return rule
        return replace(rule, retry=replace(retry, attempts=self._options.retry_attempts))

    # ---- Backends

    def _judged_backends(self, field: str, refs: Sequence[BackendRef]) -> tuple[BackendNode, ...]:
        """Judge the backendRefs of a rule; what nothing was wrong with for a route of the same kind and namespace still is so."""
        question = (id(refs), self._route.kind, self._route.metadata.namespace)
        if (known := self._plain.get(question)) is not None:
            return known[1]
        backends = interned(*[self._backend(f"{field}.backendRefs[{i}]", i, ref) for i, ref in enumerate(refs)])
        if all(_is_plain(each) for each in backends):
            if len(self._plain) >= SHARED:
                self._plain.clear()
            self._plain[question] = (refs, backends)
        return backends

    def _backend(self, field: str, index: int, ref: BackendRef) -> BackendNode:
        target, status, reason, message, passed, traffic = self._resolve(ref, field)
        filters = ref.filters if isinstance(ref, (HTTPBackendRef, GRPCBackendRef)) else ()
        refused = self._refuse(field, filters) if filters else ()
        filter_targets = self._filter_targets(field, filters) if filters else ()
        if target and not (refused or passed or filter_targets):
            return _plain_backend(index, ref.weight, target, traffic)
        return BackendNode(
            index=index, weight=ref.weight, target=target, passed=passed, traffic=traffic, status=status, reason=reason,
            message=message, refused=refused, filter_targets=filter_targets,
        )

    def _resolve(self, ref: BackendObjectReference, field: str, grpc: bool = False) -> Resolved:
        resolved = self._backends.resolve(ref, self._route, grpc)
        if resolved.reason and self._unresolved is None:
            self._unresolved = Fault(resolved.reason, resolved.message, field)
        return resolved

    # ---- Filters

    def _refuse(self, field: str, filters: Filters) -> tuple[Refused, ...]:
        """Judge which filters cannot be run: requests that reach one are answered with an error, for none may be skipped."""
        wrong = [(index, one) for index, one in enumerate(filters) if self._is_refused(one)]
        return tuple(self._refuse_one(f"{field}.filters[{index}]", index, one) for index, one in wrong)

    def _is_refused(self, one: AnyFilter) -> bool:
        if one.type == "ExtensionRef":
            return self._extension(one.extension_ref) is None
        return one.type not in self._options.filters or one.type == "ExternalAuth" and self._cannot_ask(_authorizer(one))

    def _cannot_ask(self, auth: HTTPExternalAuthFilter | None) -> bool:
        return auth is None or bool(body_fault(auth)) or not self._resolve_authorizer(auth).target

    def _resolve_authorizer(self, auth: HTTPExternalAuthFilter) -> Resolved:
        return self._backends.resolve(auth.backend_ref, self._route, auth.protocol == "GRPC")

    def _refuse_one(self, field: str, index: int, one: AnyFilter) -> Refused:
        if one.type == "ExtensionRef" and (wrong := self._extension_fault(one.extension_ref)):
            reason, message = wrong
            self._unresolved = self._unresolved or Fault(reason, message, f"{field}.extensionRef")
        else:
            reason, message = "UnsupportedValue", self._why_not(one)
            self._check_filter_backend(field, one)
        where = field.removeprefix("spec.")
        told = f"Dropped Rule: {where}: {message}: requests that reach it are answered with 500"
        self._partial = self._partial or Fault("UnsupportedValue", told, field)
        return Refused(index=index, type=one.type, reason=reason, message=message)

    def _extension(self, ref: LocalObjectReference | None) -> PythonFilter | None:
        """Return the filter in Python that an ExtensionRef names, where it may run."""
        if ref is None or self._extension_fault(ref) is not None:
            return None
        found: PythonFilter | None = self._resources.get("PythonFilter", self._route.metadata.namespace, ref.name)
        return found

    def _extension_fault(self, ref: LocalObjectReference | None) -> tuple[str, str] | None:
        """Return why what an ExtensionRef names cannot run: a reason, and words."""
        if ref is None:
            return None
        if (ref.group, ref.kind) != (OWN_GROUP, "PythonFilter"):
            return "InvalidKind", f"filters of kind {ref.group}/{ref.kind} are not known here; {OWN_GROUP}/PythonFilter would be"
        if self._barred:
            return "RefNotPermitted", self._barred
        found = self._resources.get("PythonFilter", self._route.metadata.namespace, ref.name)
        if found is None:
            return "BackendNotFound", f"there is no PythonFilter {self._route.metadata.namespace}/{ref.name}"
        fault = extensions.fault(found, self._resources, self._options)
        return ("BackendNotFound", fault.message) if fault else None

    def _why_not(self, one: AnyFilter) -> str:
        auth = _authorizer(one)
        if auth is None or one.type not in self._options.filters:
            return f"filter {one.type} is not served by this version"
        return body_fault(auth) or "its authorizer cannot be asked"

    def _filter_targets(self, field: str, filters: Filters) -> tuple[FilterTarget, ...]:
        """Resolve where mirrors and authorizers lead, and which filters in Python run."""
        found = []
        for index, one in enumerate(filters):
            auth = _authorizer(one)
            if auth is not None and one.type in self._options.filters and not self._cannot_ask(auth):
                asked = self._resolve_authorizer(auth)
                found.append(FilterTarget(index=index, target=asked.target, passed=asked.passed, traffic=asked.traffic))
            if one.type == "ExtensionRef" and (written := self._extension(one.extension_ref)) is not None:
                code = extensions.code(written, self._resources.get)
                found.append(FilterTarget(index=index, extension=written, code=code))
            if (mirror := one.request_mirror) is not None and "RequestMirror" in self._options.filters:
                copied = self._resolve(mirror.backend_ref, f"{field}.filters[{index}].requestMirror.backendRef")
                found.append(FilterTarget(index=index, target=copied.target, passed=copied.passed, traffic=copied.traffic,
                                          reason=copied.reason, message=copied.message))
        return tuple(found)

    def _check_filter_backend(self, field: str, one: AnyFilter) -> None:
        if (mirror := one.request_mirror) is not None:
            self._resolve(mirror.backend_ref, f"{field}.requestMirror.backendRef")
        elif (auth := _authorizer(one)) is not None:
            self._resolve(auth.backend_ref, f"{field}.externalAuth.backendRef", auth.protocol == "GRPC")

    # ---- Rules that cannot be served

    def _dropped(self, index: int, rule: HTTPRouteRule | GRPCRouteRule) -> str:
        """Return the reason why a rule is not served at all; '' if it is."""
        fault = _misused_filter(rule) if isinstance(rule, HTTPRouteRule) and _has_filters(rule) else None
        if rule.session_persistence is not None and (found := session_fault(rule.session_persistence)):
            message, at = found
            fault = "UnsupportedValue", message, f".sessionPersistence.{at}"
        if fault is None and self._refuse_regex is not None:
            fault = _bad_expression(rule, self._refuse_regex)
        if fault is None:
            return ""
        reason, message, place = fault
        field = f"spec.rules[{index}]{place}"
        self._partial = self._partial or Fault(reason, f"Dropped Rule {index}: {message}", field)
        self.notes.append(Note(resource=self._route, field=field, reason=reason, message=message, severity="error"))
        return reason


# ---- What nothing is wrong with


@lru_cache(maxsize=1024)
def _as_written(generation: int) -> tuple[Condition, ...]:
    """Return the conditions of a route that is served as it is written."""
    return (condition("Accepted", None, generation), condition("ResolvedRefs", None, generation))


@lru_cache(SHARED)
def _plain_backend(index: int, weight: int, target: str, traffic: TargetTraffic | None) -> BackendNode:
    return BackendNode(index=index, weight=weight, target=target, traffic=traffic)


def _is_plain(node: BackendNode) -> bool:
    """Whether there is nothing to say of a backendRef, and no filter of its own: it is as _plain_backend() makes them."""
    return bool(node.target) and not (node.refused or node.passed or node.filter_targets)


# ---- What is wrong with a rule by itself: a reason, words, and where


def body_fault(auth: HTTPExternalAuthFilter | None) -> str:
    """Say why an authorizer cannot be shown what it is to be shown; '' if it can."""
    size = auth.forward_body.max_size or 0 if auth and auth.forward_body else 0
    most = limits.AUTHORIZATION_BODY_BYTES
    return f"forwardBody.maxSize is {size}, bodies of {most} bytes at most are shown" if size > most else ""


def _authorizer(one: AnyFilter) -> HTTPExternalAuthFilter | None:
    return one.external_auth if isinstance(one, HTTPRouteFilter) else None


def _has_filters(rule: HTTPRouteRule) -> bool:
    if rule.filters:
        return True
    for ref in rule.backend_refs:
        if ref.filters:
            return True
    return False


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


def _bad_expression(rule: HTTPRouteRule | GRPCRouteRule, refuse: RefuseRegex) -> tuple[str, str, str] | None:
    matches: Sequence[HTTPRouteMatch | GRPCRouteMatch] = rule.matches
    for index, match in enumerate(matches):
        if isinstance(match, HTTPRouteMatch) and match.path.type != "RegularExpression" and not (
                match.headers or match.query_params):
            continue  # nearly every one
        for place, expression in _expressions(match):
            if message := refuse(expression):
                return "UnsupportedValue", message, f".matches[{index}].{place}"
    return None


def _expressions(match: HTTPRouteMatch | GRPCRouteMatch) -> Iterator[tuple[str, str]]:
    """Yield (where, pattern) of the regular expressions of a match."""
    if isinstance(match, GRPCRouteMatch):
        kind, pattern = method_path(match.method)
        if kind == "RegularExpression":
            yield "method", pattern
    elif match.path.type == "RegularExpression":
        yield "path.value", match.path.value
    headers: Sequence[HTTPHeaderMatch | GRPCHeaderMatch] = match.headers
    for index, header in enumerate(headers):
        if header.type == "RegularExpression":
            yield f"headers[{index}].value", header.value
    for index, parameter in enumerate(match.query_params if isinstance(match, HTTPRouteMatch) else ()):
        if parameter.type == "RegularExpression":
            yield f"queryParams[{index}].value", parameter.value
