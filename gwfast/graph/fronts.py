"""Filters of listeners, which every request passes before a route is chosen (GEP-5224): where they lead, and what is wrong.

    Fronts.judge(owner, listener, field) -> Front    where they lead, and what is wrong with them
    Fronts.refers(keys)                              whether one of these is what they lead to

Rules:
- A listener with a filter that leads nowhere is ResolvedRefs=False, InvalidListenerFilterRef (RefNotPermitted without a grant).
  Requests are answered with 500 when they reach that filter: they do not get around it.
- A filter that cannot do what it is asked to makes the listener Accepted=False, InvalidListenerFilter.
- The targets of these filters are held here, as those of routes are held by the Attacher.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from gwfast.config.model import OWN_GROUP, Gateway, Key, Listener, ListenerFilter, ListenerSet
from gwfast.graph import extensions
from gwfast.graph.backends import Backends, backend_key
from gwfast.graph.listeners import Fault
from gwfast.graph.model import FrontNode, GraphOptions, FilterTarget, Refused
from gwfast.graph.refs import Resources
from gwfast.graph.rules import body_fault


class Fronts:
    """The filters of all listeners of one survey after the other. barred(gateway): why its filters in Python may not run."""

    def __init__(self, resources: Resources, backends: Backends, options: GraphOptions, barred: Callable[[Gateway], str]):
        self._resources = resources
        self._backends = backends
        self._options = options
        self._barred = barred
        self._users: dict[Key, set[Key]] = {}  # the key of a backend or filter -> the Gateways whose listeners name it
        self._held: list[str] = []
        self._found: list[str] = []

    def begin(self) -> None:
        """A survey begins: every listener will be judged again."""
        self._users, self._found = {}, []

    def end(self) -> None:
        """A survey is over: hold what was found, and let go of what the one before found."""
        for target in self._found:
            self._backends.hold(target)
        for target in self._held:
            self._backends.release(target)
        self._held = self._found

    def refers(self, keys: Iterable[Key]) -> bool:
        """Return whether a listener's filter names one of these."""
        return any(key in self._users for key in keys)

    def gateways_of(self, key: Key) -> set[Key]:
        """Return the Gateways with a listener whose filters name this."""
        return self._users.get(key, set())

    def judge(self, gateway: Gateway, owner: Gateway | ListenerSet, listener: Listener,
              field: str) -> tuple[FrontNode | None, Fault | None, Fault | None]:
        """Return where the filters lead, why the listener is not accepted, and what of it does not resolve."""
        requests = listener.filters.requests if listener.filters else ()
        if not requests:
            return None, None, None
        filter_targets, refused, invalid, unresolved = [], [], None, None
        for index, one in enumerate(requests):
            at = f"{field}.filters.requests[{index}]"
            if words := body_fault(one.external_auth):
                invalid = invalid or Fault("InvalidListenerFilter", f"filters.requests[{index}]: {words}", at)
                continue
            found = self._lead(gateway, owner, one, index)
            if isinstance(found, FilterTarget):
                filter_targets.append(found)
                continue
            reason, message = found
            reason = reason if reason == "RefNotPermitted" else "InvalidListenerFilterRef"
            unresolved = unresolved or Fault(reason, f"filters.requests[{index}]: {message}", at)
            refused.append(Refused(index=index, type=one.type, reason=reason, message=message))
        self._found += [target for each in filter_targets for target in (each.target, each.passed) if target]
        return FrontNode(filters=requests, filter_targets=tuple(filter_targets), refused=tuple(refused)), invalid, unresolved

    def _lead(self, gateway: Gateway, owner: Gateway | ListenerSet, one: ListenerFilter,
              index: int) -> FilterTarget | tuple[str, str]:
        if (auth := one.external_auth) is not None:
            self._use(gateway, backend_key(auth.backend_ref, owner.metadata.namespace))
            found = self._backends.resolve(auth.backend_ref, owner, auth.protocol == "GRPC")
            if not found.target:
                return found.reason or "InvalidListenerFilterRef", f"ExternalAuth.backendRef: {found.message}"
            return FilterTarget(index=index, target=found.target, passed=found.passed, traffic=found.traffic)
        ref, namespace = one.extension_ref, owner.metadata.namespace
        assert ref is not None  # a filter has the field that its type names
        if (ref.group, ref.kind) != (OWN_GROUP, "PythonFilter"):
            return "InvalidKind", f"filters of kind {ref.group}/{ref.kind} are not known here; {OWN_GROUP}/PythonFilter would be"
        self._use(gateway, Key("PythonFilter", namespace, ref.name))
        if self._options.filters_by_class and (why := self._barred(gateway)):
            return "RefNotPermitted", why
        written = self._resources.get("PythonFilter", namespace, ref.name)
        if written is None:
            return "BackendNotFound", f"there is no PythonFilter {namespace}/{ref.name}"
        if fault := extensions.fault(written, self._resources, self._options):
            return "BackendNotFound", fault.message
        return FilterTarget(index=index, extension=written, code=extensions.code(written, self._resources.get))

    def _use(self, gateway: Gateway, key: Key) -> None:
        self._users.setdefault(key, set()).add(gateway.key)
