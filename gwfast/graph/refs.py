"""References between resources: which exist, which are permitted, and which resources name which.

    Resources    the resources by kind, what changed since the last time, and these indexes over them:
                   grants    namespace -> who may refer to what in it     (ReferenceGrant), and the grants that say so
                   slices    Service   -> its EndpointSlices
                   policies  kind, Service -> the policies of a kind that name it
                   trusting  ConfigMap or ClusterTrustBundle -> the BackendTLSPolicies that have their authorities from it
                   coded     ConfigMap -> the PythonFilters that have their code from it
                   fronts    Gateway   -> the Services that lead to it
                   selecting namespace and labels -> the Services that select by just these

Rules:
- A reference into another namespace needs a ReferenceGrant there (spec 5.5), whatever it refers to. Grants are looked up whenever
  the reference is resolved, and the answer is not kept beside it: the reference ends with its grant.
- The Services of a Gateway name it in an annotation: a label may have 63 characters, and a name 253.
- A namespace without a Namespace object has the label that Kubernetes gives to every namespace, and no other.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from gwfast.config.model import (BackendPolicy, BackendTLSPolicy, EndpointSlice, Key, ListenerNamespaces, PythonFilter,
                                 ReferenceGrant, Resource, RouteNamespaces, Service, XBackendTrafficPolicy)
from gwfast.graph.model import POLICY_KINDS, ROUTE_KINDS, age
from gwfast.identity import label_value

Selector = tuple[str, frozenset[tuple[str, str]]]  # namespace, labels
Policy = BackendTLSPolicy | XBackendTrafficPolicy | BackendPolicy
POLICIES: tuple[type[Policy], ...] = get_args(Policy)
P = TypeVar("P", BackendTLSPolicy, XBackendTrafficPolicy, BackendPolicy)
R = TypeVar("R", bound=Resource)
Place = TypeVar("Place", bound=Hashable)
Permission = tuple[str, str, str, str, str, str | None]  # group, kind, namespace of who refers; group, kind, name of what

SERVICE_NAME = "kubernetes.io/service-name"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
BACKEND = "gwfast.dev/backend"  # label of a Service that was made to find the Pods of an XBackend of its namespace (label_value)
GATEWAY_NAME = "gwfast.dev/gateway"  # annotation of a Service: the Gateway of its namespace that it leads to


Change = tuple[Resource | None, Resource | None]  # before, now


class Resources:
    """The resources of one configuration, kept up to date change by change."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Key, Resource]] = {}
        self._grants: dict[str, Counter[Permission]] = {}
        self._granting: dict[str, dict[Key, ReferenceGrant]] = {}
        self._slices: dict[Key, dict[Key, EndpointSlice]] = {}
        self._policies: dict[str, dict[Key, dict[Key, Policy]]] = {kind: {} for kind in POLICY_KINDS}
        self._trusting: dict[Key, dict[Key, BackendTLSPolicy]] = {}
        self._coded: dict[Key, dict[Key, PythonFilter]] = {}
        self._fronts: dict[Key, dict[Key, Service]] = {}
        self._selecting: dict[Selector, dict[Key, Service]] = {}
        self._made: dict[tuple[str, str], dict[Key, Service]] = {}  # by namespace and label

    def update(self, resources: Mapping[Key, Resource], keys: Iterable[Key] | None) -> dict[Key, Change]:
        """Take over what changed and return {key: (before, now)}; None stands for no resource.

        keys: where to look for changes; None compares everything by identity.
        """
        changes: dict[Key, Change]
        if keys is None:
            changes = {key: (before, now) for key, now in resources.items() if (before := self.get(*key)) is not now}
            if changes or sum(map(len, self._kinds.values())) != len(resources):
                changes |= {key: (before, None) for kind in self._kinds.values() for key, before in kind.items()
                            if key not in resources}
        else:
            pairs = ((key, self.get(*key), resources.get(key)) for key in keys)
            changes = {key: (before, now) for key, before, now in pairs if before is not now}
        for key, change in changes.items():
            self._replace(key, *change)
        return changes

    def _replace(self, key: Key, before: Resource | None, now: Resource | None) -> None:
        kind = self._kinds.setdefault(key.kind, {})
        if now is None:
            del kind[key]
        else:
            kind[key] = now
        if key.kind in ROUTE_KINDS:
            return  # most resources are routes, which are in no index here
        change = before, now
        if key.kind == "ReferenceGrant":
            grants = _of_kind(change, ReferenceGrant)
            self._count_permissions(key.namespace, *grants)
            _move(self._granting, key, grants, lambda grant: [key.namespace])
        elif key.kind == "EndpointSlice":
            _move(self._slices, key, _of_kind(change, EndpointSlice), slice_services)
        elif key.kind == "Service":
            services = _of_kind(change, Service)
            _move(self._fronts, key, services, led_gateways)
            _move(self._selecting, key, services, _selector)
            _move(self._made, key, services, _made_for)
        elif key.kind == "PythonFilter":
            _move(self._coded, key, _of_kind(change, PythonFilter), code_maps)
        elif key.kind in self._policies:
            _move(self._policies[key.kind], key, _of_kind(change, *POLICIES), policy_services)
            if key.kind == "BackendTLSPolicy":
                _move(self._trusting, key, _of_kind(change, BackendTLSPolicy), _authorities)

    def _count_permissions(self, namespace: str, before: ReferenceGrant | None, now: ReferenceGrant | None) -> None:
        counts = self._grants.setdefault(namespace, Counter())
        counts.update(_permissions(now) if now else ())
        for entry in _permissions(before) if before else ():
            counts[entry] -= 1

    def of(self, kind: str) -> dict[Key, Any]:
        """Return the resources of a kind, by key."""
        return self._kinds.get(kind, {})

    def get(self, kind: str, namespace: str, name: str) -> Any:
        kinds = self._kinds.get(kind)
        # A tuple finds what an equal Key does, and costs less to make.
        return kinds.get((kind, namespace, name)) if kinds else None  # type: ignore[call-overload]

    def permits(self, source: tuple[str, str, str], target: tuple[str, str], namespace: str, name: str) -> bool:
        """Return whether (group, kind, namespace) may refer to the (group, kind) called `name` in `namespace`."""
        if source[2] == namespace:
            return True
        counts = self._grants.get(namespace)
        if not counts:
            return False
        return counts[(*source, *target, None)] > 0 or counts[(*source, *target, name)] > 0

    def grants(self, source: tuple[str, str, str], target: tuple[str, str], namespace: str, name: str) -> list[ReferenceGrant]:
        """Return the grants by which `permits` says so, where it needs any."""
        wanted = {(*source, *target, None), (*source, *target, name)}
        return [grant for grant in self._granting.get(namespace, {}).values() if not wanted.isdisjoint(_permissions(grant))]

    def slices(self, service: Key) -> Iterable[EndpointSlice]:
        return self._slices.get(service, {}).values()

    def policies(self, service: Key, kind: type[P]) -> list[P]:
        """Return the policies of a kind that name a Service, the oldest first."""
        found = self._policies[kind.kind].get(service)
        if not found:
            return []
        return sorted((policy for policy in found.values() if isinstance(policy, kind)), key=lambda policy: age(policy.metadata))

    def policy_keys(self, service: Key) -> list[Key]:
        """Return the policies of every kind that name a Service."""
        return [key for found in self._policies.values() for key in found.get(service, ())]

    def trusting(self, config_map: Key) -> Iterable[BackendTLSPolicy]:
        return self._trusting.get(config_map, {}).values()

    def coded(self, config_map: Key) -> Iterable[Key]:
        """Return the PythonFilters that have their code from a ConfigMap."""
        return self._coded.get(config_map, {}).keys()

    def fronts(self, gateway: Key) -> list[Service]:
        """Return the Services that lead to a Gateway, the oldest first."""
        found = self._fronts.get(gateway)
        return sorted(found.values(), key=lambda service: age(service.metadata)) if found else []

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Iterable[Key]:
        """Return the Services of a namespace that select the Pods with just these labels."""
        return self._selecting.get((namespace, frozenset(labels.items())), {}).keys()

    def made_for(self, backend: Key) -> Iterable[Key]:
        """Return the Services that were made to find the Pods of an XBackend."""
        return self._made.get((backend.namespace, label_value(backend.name)), {}).keys()

    def labels(self, namespace: str) -> dict[str, str]:
        resource = self.get("Namespace", "", namespace)
        own = resource.metadata.labels if resource else {}
        return {NAMESPACE_NAME: namespace, **own}

    def allows(self, namespaces: RouteNamespaces | ListenerNamespaces, owner: str, namespace: str) -> bool:
        """Return whether `namespaces`, of routes or of listeners, of a resource in `owner` takes `namespace`."""
        match namespaces.from_:
            case "All":
                return True
            case "Same":
                return owner == namespace
            case "Selector":
                return namespaces.selector is not None and namespaces.selector.selects(self.labels(namespace))
        return False


def _permissions(grant: ReferenceGrant) -> Iterator[Permission]:
    for source in grant.spec.from_:
        for target in grant.spec.to:
            yield (source.group, source.kind, source.namespace, target.group, target.kind, target.name)


def slice_services(endpoints: EndpointSlice) -> list[Key]:
    """Return the Service that an EndpointSlice belongs to, in a list; an empty one if it says none."""
    name = endpoints.metadata.labels.get(SERVICE_NAME)
    return [Key("Service", endpoints.metadata.namespace, name)] if name else []


def led_gateways(service: Service) -> list[Key]:
    """Return the Gateway that a Service leads to, in a list; an empty one if it is an ordinary Service."""
    name = service.metadata.annotations.get(GATEWAY_NAME)
    return [Key("Gateway", service.metadata.namespace, name)] if name else []


def _selector(service: Service) -> list[Selector]:
    found = service.spec.selector
    return [(service.metadata.namespace, frozenset(found.items()))] if found else []


def _made_for(service: Service) -> list[tuple[str, str]]:
    label = service.metadata.labels.get(BACKEND)
    return [(service.metadata.namespace, label)] if label else []


def code_maps(written: PythonFilter) -> list[Key]:
    """Return the ConfigMap that has the code of a filter in Python, in a list; an empty one if none has."""
    source = written.spec.config_map
    return [Key("ConfigMap", written.metadata.namespace, source.name)] if source else []


def policy_services(policy: Policy) -> list[Key]:
    """Return the Services that a policy names."""
    refs = [ref for ref in policy.spec.target_refs if (ref.group, ref.kind) == ("", "Service")]
    return [Key("Service", policy.metadata.namespace, ref.name) for ref in refs]


def _authorities(policy: BackendTLSPolicy) -> list[Key]:
    refs = policy.spec.validation.ca_certificate_refs
    return [Key(ref.kind, "" if ref.kind == "ClusterTrustBundle" else policy.metadata.namespace, ref.name) for ref in refs]


def _of_kind(change: Change, *kinds: type[R]) -> tuple[R | None, R | None]:
    """Return a change as one of resources of these kinds."""
    before, now = change
    return before if isinstance(before, kinds) else None, now if isinstance(now, kinds) else None


def _move(index: dict[Place, dict[Key, R]], key: Key, change: tuple[R | None, R | None],
          places: Callable[[R], Iterable[Place]]) -> None:
    """Take a resource out of the places in an index that it had before a change, and put it into those that it has now."""
    before, now = change
    for place in dict.fromkeys(places(before)) if before else ():
        index[place].pop(key, None)
        if not index[place]:
            del index[place]
    if now:
        for place in dict.fromkeys(places(now)):
            index.setdefault(place, {})[key] = now
