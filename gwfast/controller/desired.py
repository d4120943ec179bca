"""What should be in the cluster, and what a Gateway got of it. Pure: a plan and what is there in, objects and addresses out.

    records(owned, site)      what is there says of names, data planes and target ports
    desired(...)              {Key: object} of everything that the plan needs
    doomed(...)               what is there, is ours, and is not needed any more
    assigned(...)             the addresses of a Gateway

Rules:
- Only what carries our label for this controllerName is looked at; nothing else is changed or removed. What XBackends have is
  not said here (selected).
- What a plan says nothing of, because its parameters are wrong, stays as it is; so does that whose objects cannot be made.
"""
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from gwfast.config.model import Key
from gwfast.controller import objects, scopes, selected
from gwfast.controller.fleet import GATEWAY_CLASS_NAME, Fleet, Need, Place, Plan, Records, Site, Spoilt, apart
from gwfast.controller.objects import Object, Owner
from gwfast.controller.ports import Wanted
from gwfast.kubernetes.statuses import Assigned

Owned = Mapping[Key, Object]
UidOf = Callable[[Key], str]
Targets = Mapping[Key, Mapping[Wanted, int]]  # of Gateways
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OURS, KUBERNETES = "gwfast.dev", "endpointslice-controller.k8s.io"  # who keeps an EndpointSlice
ADDRESSES_MOST = 16  # in a Gateway's status


# ---- What is there


def owner_of(found: Object) -> Key | None:
    """Return the Gateway that an object was made for."""
    for one in found["metadata"].get("ownerReferences") or ():
        if one.get("kind") == "Gateway":
            return Key("Gateway", found["metadata"].get("namespace", ""), one["name"])
    return None


def _labels(found: Object) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def records(owned: Owned, foreign: set[Place], left: Iterable[Place] = (),
            acknowledged: Callable[[Place, Key], bool] = lambda place, gateway: True) -> Records:
    """Return what the objects that are there say: names, who has data planes of its own, and where Services lead to.

    left: Services that lead to shared data planes in a moment, or did a moment ago."""
    found = Records(foreign=set(foreign), mirrored=set(left), acknowledged=acknowledged)
    for key, each in owned.items():
        if key.kind in ("Service", "Deployment") and (gateway := owner_of(each)):
            if key.kind == "Service":
                found.names[gateway, _labels(each).get(GATEWAY_CLASS_NAME, "")] = key.name
            elif not each["metadata"].get("deletionTimestamp"):
                found.dedicated.add(gateway)
                if ((each.get("spec") or {}).get("template") or {}).get("spec", {}).get("hostNetwork"):
                    found.host_network.add(gateway)
        elif key.kind == "EndpointSlice":
            labels = _labels(each)
            place, mirrored = (key.namespace, labels.get(SERVICE_NAME, "")), labels.get(MANAGED_BY) == OURS
            if mirrored:
                found.mirrored.add(place)
            if any(map(_ready, each.get("endpoints") or ())):
                (found.shared if mirrored else found.own).add(place)
    return found


def mirrored_places(made: Owned) -> set[Place]:
    """Return the Services that lead to shared data planes, by the objects that should be there."""
    return {(key.namespace, _labels(each)[SERVICE_NAME]) for key, each in made.items() if key.kind == "EndpointSlice"}


def _ready(endpoint: Object) -> bool:
    return (endpoint.get("conditions") or {}).get("ready", True)


def targets_of(service: Object) -> dict[Wanted, int]:
    """Return the target ports that a Service says."""
    ports = (service.get("spec") or {}).get("ports") or ()
    return {(each["port"], each.get("protocol", "TCP")): each["targetPort"]
            for each in ports if isinstance(each.get("targetPort"), int)}


# ---- What should be there


def desired(plan: Plan, site: Site, uid_of: UidOf, targets: Targets, authority: str,
            spoilt: Spoilt | None = None) -> dict[Key, Object]:
    """Return every object but EndpointSlices. What has no uid yet, or no port, is not in it.

    A fleet or a Gateway whose objects cannot be made has none in it, and is in `spoilt`: the others have theirs.
    """
    found: list[Object] = []
    spoilt = {} if spoilt is None else spoilt
    for fleet in plan.fleets.values():
        if fleet.parameters is not None and (owner := _owner(fleet.gateway or Key("GatewayClass", "", fleet.class_name), uid_of)):
            gateway = plan.needs[fleet.gateway].node.resource if fleet.gateway else None
            with apart(fleet.place, spoilt):
                found += objects.for_fleet(fleet, site, owner, gateway, authority)
    for key, need in plan.needs.items():
        if need.parameters is not None and targets.get(key) and (owner := _owner(key, uid_of)):
            with apart(key, spoilt):
                found.append(objects.for_gateway(need, site, owner, targets[key], plan.fleets[need.fleet]))
    return {objects.key_of(each): each for each in found}


def _owner(key: Key, uid_of: UidOf) -> Owner | None:
    uid = uid_of(key)
    return Owner(key.kind, key.name, uid) if uid else None


class Slices:
    """The EndpointSlices that are there, by (namespace, Service, who keeps them)."""

    def __init__(self, owned: Owned):
        self._found: dict[tuple[str, str, str], list[Object]] = {}
        for key, each in owned.items():
            if key.kind == "EndpointSlice":
                labels = _labels(each)
                place = key.namespace, labels.get(SERVICE_NAME, ""), labels.get(MANAGED_BY, "")
                self._found.setdefault(place, []).append(each)

    def of(self, place: Place, keeper: str) -> list[Object]:
        return self._found.get((*place, keeper), [])

    def pods(self, place: Place) -> frozenset[str]:
        """Return the uids of the Pods behind a Service that Kubernetes takes for ready."""
        found = (each for one in self.of(place, KUBERNETES) for each in one.get("endpoints") or () if _ready(each))
        return frozenset(uid for each in found if (uid := (each.get("targetRef") or {}).get("uid")))

    def serve(self, place: Place, keeper: str) -> bool:
        """Whether a ready endpoint is in them."""
        return any(_ready(each) for found in self.of(place, keeper) for each in found.get("endpoints") or ())


def expected(plan: Plan, slices: Slices) -> Iterator[Key]:
    """Yield what Gateways with listeners will have once their target ports are recorded: the Services and EndpointSlices."""
    for key, need in plan.needs.items():
        if need.ports:
            yield Key("Service", key.namespace, need.service)
            for each in slices.of(need.mirrored, KUBERNETES) if need.mirrored is not None else ():
                yield Key("EndpointSlice", key.namespace, objects.mirrored_name(each, need))


def mirrors(plan: Plan, site: Site, services: Collection[Key], slices: Slices, targets: Targets, uid_of: UidOf,
            spoilt: Spoilt | None = None) -> dict[Key, Object]:
    """Return the EndpointSlices of Gateways that shared data planes serve. services: those that are ours, or are about to be:
    nobody else's is given endpoints. `spoilt` is as in `desired`."""
    found: list[Object] = []
    spoilt = {} if spoilt is None else spoilt
    for key, need in plan.needs.items():
        owner, service = _owner(key, uid_of), Key("Service", key.namespace, need.service)
        if service not in services or not owner or need.mirrored is None or not targets.get(key):
            continue
        with apart(key, spoilt):
            found += [objects.mirrored(each, need, site, owner, targets[key]) for each in slices.of(need.mirrored, KUBERNETES)]
    return {objects.key_of(each): each for each in found}


def doomed(plan: Plan, wanted: Mapping[Key, Object], owned: Owned, slices: Slices,
           spoilt: Collection[Place | Key] = ()) -> set[Key]:
    """Return the keys of what is ours, is there, and is not needed any more. spoilt: whose objects could not be made; where one
    of them is not even in the plan, nobody knows what it needs, and nothing goes."""
    if any(isinstance(what, Key) and what not in plan.needs for what in spoilt):
        return set()
    kept = _kept(plan, spoilt)
    needs = {(gateway.namespace, need.service): need for gateway, need in plan.needs.items()}
    gone = set()
    for key, each in owned.items():
        if key in wanted or key in kept or each["metadata"].get("deletionTimestamp") or selected.owner_of(each)[0]:
            continue
        if key.kind == "EndpointSlice":
            over = _slice_is_over(key, each, plan, needs, slices, spoilt)
        else:
            place = key.namespace, key.name.removesuffix("-ca") if key.kind == "ConfigMap" else key.name
            moved = place in needs and needs[place].fleet != place
            over = not moved or not _is_led_to(place, owned, slices)
        if over:
            gone.add(key)
    return gone


def _is_led_to(place: Place, owned: Owned, slices: Slices) -> bool:
    """Whether a Service still leads to the data planes that have its name: they serve a Gateway that moves to shared ones, and
    end once it is known that nobody is led to them any more."""
    service = owned.get(Key("Service", *place))
    return bool(service and (service.get("spec") or {}).get("selector")) or slices.serve(place, KUBERNETES)


def _kept(plan: Plan, spoilt: Collection[Place | Key]) -> set[Key]:
    """Return the keys of what stays as it is: of fleets whose parameters are not known, or whose objects cannot be made."""
    found = set()
    for fleet in plan.fleets.values():
        if fleet.parameters is None or fleet.place in spoilt:
            kinds = "ServiceAccount", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Service"
            found |= {Key(kind, fleet.namespace, fleet.name) for kind in kinds}
            found.add(Key("ConfigMap", fleet.namespace, f"{fleet.name}-ca"))
    # A Gateway whose listeners are all wrong for a while keeps its address.
    return found | {Key("Service", key.namespace, need.service) for key, need in plan.needs.items()}


def _slice_is_over(key: Key, found: Object, plan: Plan, needs: Mapping[Place, Need], slices: Slices,
                   spoilt: Collection[Place | Key]) -> bool:
    """Whether an EndpointSlice is over. Those of the other keeper stay until those that take their place serve."""
    labels = _labels(found)
    keeper, place = labels.get(MANAGED_BY), (key.namespace, labels.get(SERVICE_NAME, ""))
    need = needs.get(place)
    if need is None:
        return keeper == OURS  # those of Kubernetes go with their Service
    if need.node.key in spoilt:
        return False
    dedicated = plan.fleets[need.fleet].gateway is not None
    if dedicated:
        return keeper == OURS and slices.serve(place, KUBERNETES)
    return keeper == OURS or slices.serve(place, OURS)


# ---- Addresses


def assigned(need: Need, service: Object | None, fleet: Fleet, slices: Slices, error: str = "", lacking: str = "") -> Assigned:
    """Return what a Gateway got. `error`: why its Service cannot be as it should; `lacking`: what it cannot have at all."""
    if lacking:
        return _wanting("NoResources", lacking, _addresses(need, service, fleet, slices)[:ADDRESSES_MOST] if service else ())
    if service is None:
        made = _wanting("Pending" if error else "AddressNotAssigned", error or "its Service is being made")
        return replace(made, coming=bool(need.ports) and not error)
    gateway = need.node.resource
    there, own = _addresses(need, service, fleet, slices), frozenset(_cluster_ips(service))
    if scopes.asked(gateway):
        return _scoped(need, there, _cluster_ips(service), error)
    wanted = objects.requested(gateway)
    missing = [each for each in wanted if ("IPAddress", each) not in there]
    anything = any(not each.value for each in gateway.spec.addresses if each.type == "IPAddress") or not wanted
    shown = (there if anything else tuple(each for each in there if each[1] in wanted))[:ADDRESSES_MOST]
    if missing:
        message = _forbidden(need) or f"its Service {need.service} was not given {', '.join(missing)}"
        message = f"{message}: {error}" if error else message
        return replace(_wanting("AddressNotUsable", message, shown), lacks=message, cluster=own)
    if not shown:
        waits = _wanting("AddressNotAssigned", error or f"its Service {need.service} has no address yet")
        return replace(waits, coming=not error)
    return replace(_wanting("Pending", error, shown) if error else Assigned(addresses=shown), cluster=own)


def _scoped(need: Need, there: tuple[tuple[str, str], ...], own: list[str], error: str) -> Assigned:
    """Return what a Gateway got that asks for scopes: where an entry has its address, that serves."""
    default = [value for kind, value in there if kind == "IPAddress"]
    found = scopes.granted(need.node.resource, default, own, need.parameters, error)
    lacks, shown = "; ".join(found.missing), tuple(("IPAddress", each) for each in found.addresses)
    got = Assigned(addresses=shown) if shown else _wanting("AddressNotAssigned", lacks)
    if shown and error and not lacks:
        got = _wanting("Pending", error, shown)
    return replace(got, lacks=lacks, cluster=frozenset(own).intersection(found.addresses))


def _forbidden(need: Need) -> str:
    """Say which addresses a Gateway may not ask for, and which it may; '' where there are none such."""
    if need.parameters is None or not (refused := objects.forbidden(need.node.resource, need.parameters)):
        return ""
    allowed = need.parameters.addresses
    words = "say none, and its Service is not of type LoadBalancer"
    if allowed is not None:
        words = f"allow {', '.join(allowed) or 'none'}"
    return f"it must not ask for {', '.join(refused)}: the parameters of its GatewayClass (spec.addresses) {words}"


def _wanting(reason: str, message: str, shown: tuple[tuple[str, str], ...] = ()) -> Assigned:
    return Assigned(addresses=shown, ready=False, reason=reason, message=message)


def _cluster_ips(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    return [each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each and each != "None"]


def _addresses(need: Need, service: Object, fleet: Fleet, slices: Slices) -> tuple[tuple[str, str], ...]:
    spec = service.get("spec") or {}
    found: list[tuple[str, str]] = [("IPAddress", each) for each in spec.get("externalIPs") or ()]
    if spec.get("type") == "LoadBalancer":
        for each in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            found += [("IPAddress", each["ip"])] if each.get("ip") else []
            found += [("Hostname", each["hostname"])] if each.get("hostname") else []
    elif fleet.gateway is not None and fleet.parameters is not None and fleet.parameters.host_network:
        place = need.node.key.namespace, need.service
        found += [("IPAddress", address) for one in slices.of(place, KUBERNETES) for each in one.get("endpoints") or ()
                  if (each.get("conditions") or {}).get("ready", True) for address in each["addresses"]]
    else:
        found += [("IPAddress", each) for each in _cluster_ips(service)]
    return tuple(dict.fromkeys(found))


