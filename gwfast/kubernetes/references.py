"""Which Secrets and ConfigMaps the resources refer to: of a cluster only those are read.

Rules:
- A Gateway (and its ListenerSets) counts where its class is one of ours: what others serve is not our business.
- Whether a reference is permitted is the graph's business: a grant may come at any time.
"""
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gwfast.config import model as m

Resources = Mapping[m.Key, m.Resource]
KINDS = ("Secret", "ConfigMap")
_OWNERS = ("Gateway", "ListenerSet", "BackendTLSPolicy", "PythonFilter", "XBackend")


class References:
    """What is referred to, kept up to date change by change. `controller_name` is that of our classes, '': every class is."""

    def __init__(self, controller_name: str = "", bug: Callable[[m.Key, Exception], None] = lambda key, error: None):
        """bug: told of a resource that this fails on; what it referred to before it still refers to."""
        self._bug = bug
        self._controller_name = controller_name
        self._of: dict[m.Key, tuple[m.Key, ...]] = {}  # by who refers
        self._counts: Counter[m.Key] = Counter()

    @property
    def wanted(self) -> frozenset[m.Key]:
        """The keys of all that is referred to."""
        return frozenset(self._counts)

    def update(self, changed: Iterable[m.Key], resources: Resources) -> None:
        """Look at what changed: at every Gateway and ListenerSet where that is a class or a Gateway."""
        kinds: dict[str, set[m.Key]] = {}
        for key in changed:
            kinds.setdefault(key.kind, set()).add(key)
        owners = {key for kind in _OWNERS for key in kinds.get(kind, ())}
        if "GatewayClass" in kinds or "Gateway" in kinds:
            wide = _OWNERS[:2] if "GatewayClass" in kinds else _OWNERS[1:2]
            owners |= {key for key in resources if key.kind in wide} | {key for key in self._of if key.kind in wide}
        for key in owners:
            resource = resources.get(key)
            try:
                now = tuple(self._refers(resource, resources)) if resource else ()
            except Exception as error:
                self._bug(key, error)
            else:
                self._replace(key, now)

    def _replace(self, owner: m.Key, now: tuple[m.Key, ...]) -> None:
        before = self._of.pop(owner, ())
        if now:
            self._of[owner] = now
        self._counts.update(now)
        for key in before:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def _refers(self, resource: m.Resource, resources: Resources) -> Iterator[m.Key]:
        for ref in self._refs(resource, resources):
            if ref.group == "" and ref.kind in KINDS:
                yield m.Key(ref.kind, getattr(ref, "namespace", None) or resource.metadata.namespace, ref.name)

    def _refs(self, resource: m.Resource, resources: Resources) -> Iterator:
        match resource:
            case m.Gateway() if self._ours(resource, resources):
                yield from _of_listeners(resource.spec.listeners)
                if resource.spec.tls:
                    yield from _of_tls(resource.spec.tls)
            case m.ListenerSet():
                ref = resource.spec.parent_ref
                gateway: Any = resources.get(m.Key("Gateway", ref.namespace or resource.metadata.namespace, ref.name))
                if gateway is not None and self._ours(gateway, resources):
                    yield from _of_listeners(resource.spec.listeners)
            case m.BackendTLSPolicy():
                yield from resource.spec.validation.ca_certificate_refs
            case m.XBackend(spec=m.XBackendSpec(tls=tls)):
                yield from tls.validation.ca_certificate_refs if tls.validation else ()
                yield from (tls.client_certificate_ref,) if tls.client_certificate_ref else ()
            case m.PythonFilter(spec=m.PythonFilterSpec(config_map=m.ConfigMapKeySelector(name=name))):
                yield m.LocalObjectReference(group="", kind="ConfigMap", name=name)

    def _ours(self, gateway: m.Gateway, resources: Resources) -> bool:
        named: Any = resources.get(m.Key("GatewayClass", "", gateway.spec.gateway_class_name))
        return not self._controller_name or named is not None and named.spec.controller_name == self._controller_name


def _of_listeners(listeners: Iterable[m.Listener]) -> Iterator[m.SecretObjectReference]:
    for listener in listeners:
        if listener.tls:
            yield from listener.tls.certificate_refs


def _of_tls(tls: m.GatewayTLSConfig) -> Iterator:
    if tls.backend and tls.backend.client_certificate_ref:
        yield tls.backend.client_certificate_ref
    if tls.frontend:
        for each in (tls.frontend.default, *(port.tls for port in tls.frontend.per_port)):
            if each.validation:
                yield from each.validation.ca_certificate_refs
