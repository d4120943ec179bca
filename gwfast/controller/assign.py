"""Which target port each Gateway has: given where this one leads, and believed once it is recorded.

    Assigner.assign(planned, names, owned, classes) -> {gateway: {(port, transport): target}}

    record (see record) ──> Ports of a class ──assign, the leader──> given ──want──> record
                                  └── what is given and recorded ──> targets: Services, EndpointSlices, data planes

Rules:
- Only what is recorded is told: first the record is written, then a Service has the target, and data planes hear of it.
- Who does not lead knows what the record says. Where there is none yet (a first start, an update from a version without it) the
  Services count, the older Gateway first; they are the tenants' to write, and mean nothing once there is a record.
- A target is freed after the Service that leads to it: what is planned may be behind, and a Service goes only where its Gateway
  has. What nobody knows of stays for STRANGE: another leader may have written it a moment ago.
- A class has one record, its Gateways keep their targets where they move to data planes of their own, and back.
"""
import asyncio
from collections.abc import Callable, Iterable, Mapping

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import desired as wanted
from gwfast.controller.fleet import Need, Plan, Site, fleet_name, label_value
from gwfast.controller.objects import Object, Owner, head_of_record
from gwfast.controller.ports import FIRST, LAST, Ports, Wanted
from gwfast.controller.record import SUFFIX, Keeper
from gwfast.graph.model import age
from gwfast.kubernetes.client import Client

STRANGE = 30.0  # seconds: longer than one that has lost its lease may take itself for the leader

Targets = Mapping[Key, Mapping[Wanted, int]]
Given = dict[Key, dict[Wanted, int]]
Names = Mapping[tuple[Key, str], str]  # of Services, by Gateway and the label of its class


class Assigner:
    """The target ports of all classes. uid_of: as a Provisioner has it; changed: look again, at once."""

    def __init__(self, client: Client, site: Site, uid_of: Callable[[Key], str], log, changed: Callable[[], None],
                 may: Callable[[], bool], certain: Callable[[], bool]):
        self._site = site
        self._uid_of = uid_of
        self._changed = changed
        self._certain = certain
        self._keeper = Keeper(client, log, changed, may)
        self._ports: dict[str, Ports] = {}  # by class
        self._given: Given = {}  # where this one leads: also what is not recorded yet
        self._recorded: Targets = {}
        self._strange: dict[tuple[str, Key], float] = {}  # recorded Gateways that nobody knows of, and until when they stay
        self._leads = False

    async def run(self) -> None:
        """Write records until cancelled."""
        await self._keeper.run()

    def lead(self, leads: bool) -> None:
        """Begin or cease to give, and to write."""
        self._leads = leads
        self._keeper.lead(leads)

    def record_of(self, class_name: str) -> Key:
        """Return the key of a class's record."""
        return Key("ConfigMap", self._site.namespace, f"{fleet_name(class_name)}{SUFFIX}")

    def seen(self, key: Key, found: Object | None) -> None:
        """Take what the API server says of an object, which may be a record."""
        if key.kind == "ConfigMap" and key.namespace == self._site.namespace and key.name.endswith(SUFFIX):
            self._keeper.seen(key, found)

    def assign(self, planned: Plan, names: Names, owned: Mapping[Key, Object], classes: Iterable[str]) -> Given:
        """Return the target ports of each Gateway: those that are recorded. Where we lead new ones are given, and recorded."""
        found: Given = {}
        self._given = {}
        of_classes: dict[str, dict[Key, Need]] = {name: {} for name in classes}
        # The oldest first: it has what two Services say, whatever the younger one is called.
        for key, need in sorted(planned.needs.items(), key=lambda pair: age(pair[1].node.resource.metadata)):
            fleet = planned.fleets[need.fleet]
            if fleet.gateway is not None and fleet.parameters is not None and fleet.parameters.host_network:
                found[key] = self._given[key] = {port: port[0] for port in need.ports}
            else:
                of_classes.setdefault(fleet.class_name, {})[key] = need
        for class_name in self._ports.keys() - of_classes.keys():
            del self._ports[class_name]
            self._keeper.forget(self.record_of(class_name))
        for class_name, needs in of_classes.items():
            found |= self._of_class(class_name, needs, names, owned)
        self._recorded = found
        return found

    def lacking(self, key: Key, need: Need) -> str:
        """Say which target ports a Gateway cannot have; '' where it has all, or where another one assigns them."""
        missing = sorted(need.ports.keys() - self._given.get(key, {}).keys()) if self._leads else ()
        if not missing:
            return ""
        shown = ", ".join(f"{port}/{transport}" for port, transport in missing[:8]) + (", ..." if len(missing) > 8 else "")
        return (f"no target port is left for {shown}: the Gateways of a namespace have {limits.TARGETS_PER_NAMESPACE} at most on "
                f"the data planes of a class, and all of them {LAST - FIRST + 1}")

    def error(self, key: Key, need: Need, class_name: str) -> str:
        """Say what keeps the targets of a Gateway from being recorded; '' where nothing does."""
        waits = self._leads and need.ports.keys() - self._recorded.get(key, {}).keys()
        return self._keeper.error(self.record_of(class_name)) if waits else ""

    # ---- One class

    def _of_class(self, class_name: str, needs: Mapping[Key, Need], names: Names, owned: Mapping[Key, Object]) -> Given:
        ports, record = self._ports.setdefault(class_name, Ports()), self.record_of(class_name)
        known = self._keeper.entries(record)
        if known is None:
            known = self._by_services(ports, needs, owned)
        elif not self._leads:
            known = ports.follow(known)
        elif self._keeper.news(record):
            ports.adopt(known)
        given = known
        if self._leads:
            given = ports.assign(self._wanted(class_name, needs, names, owned))
            self._given |= given
            if uid := self._uid_of(Key("GatewayClass", "", class_name)):
                owner = Owner("GatewayClass", class_name, uid)
                self._keeper.want(record, head_of_record(record, class_name, self._site, owner), given)
        return {key: {port: target for port, target in given.get(key, {}).items()
                      if port in need.ports and known.get(key, {}).get(port) == target} for key, need in needs.items()}

    def _by_services(self, ports: Ports, needs: Mapping[Key, Need], owned: Mapping[Key, Object]) -> Given:
        """Return what Services say, as far as it is believed. What is known of them stays when this one begins to lead."""
        said = {key: {port: target for port, target in wanted.targets_of(service).items() if port in need.ports}
                for key, need in needs.items() if (service := owned.get(Key("Service", key.namespace, need.service)))}
        if not self._leads:
            return ports.follow(said)
        for key, recorded in said.items():
            ports.read(key, recorded)
        return {key: {port: target for port, target in recorded.items() if ports.has(key, port, target)}
                for key, recorded in said.items()}

    def _wanted(self, class_name: str, needs: Mapping[Key, Need], names: Names,
                owned: Mapping[Key, Object]) -> dict[Key, set[Wanted]]:
        """Return the ports that have a target: those of the Gateways, and those that are led to still."""
        loop = asyncio.get_running_loop()
        found = {key: set(need.ports) for key, need in needs.items()}
        strange: dict[tuple[str, Key], float] = {}
        for key, known in (self._keeper.entries(self.record_of(class_name)) or {}).items():
            name = names.get((key, label_value(class_name)))
            service = owned.get(Key("Service", key.namespace, name)) if name else None
            if key in needs:
                found[key] |= known.keys() & wanted.targets_of(service).keys() if service else set()
            elif service is not None:
                found[key] = set(known)
            else:
                until = strange[class_name, key] = self._strange.get((class_name, key)) or loop.time() + STRANGE
                if loop.time() < until or not self._certain():
                    found[key] = set(known)
        for which in strange.keys() - self._strange.keys():
            loop.call_at(strange[which], self._changed)
        self._strange = {which: until for which, until in self._strange.items() if which[0] != class_name} | strange
        return found
