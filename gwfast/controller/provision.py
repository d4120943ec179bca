"""Provisioner: makes the data planes of classes and what each Gateway needs beside them, and knows what they got.

    graph ──follow──> plan ──> fleets, targets            who asks the stream, and where its data planes listen
                        ├────> desired, mirrors, doomed ──> Applier ──> API server        the leader alone
                        └────> assigned                   addresses, for statuses
    API server ──watch (our label)──> what is there ──────> all three

Rules:
- Before everything that is ours has been listed, nothing is planned, made or removed: what is there says what is called how, and
  which target ports are whose.
- Target ports count once they are recorded (see assign): a Service has them then, and data planes hear of them.
- Nothing goes while a list that decides over it is absent, forbidden or not watched: an empty list looks the same.
- A look is at all that is there: it rests for REST after each, and for longer where that took long. LOOKS are free after quiet: a
  new Gateway takes one for its target ports, one for its Service and EndpointSlices, and one for its address.
- A new Gateway waits for as few answers of the API server as can be: its target ports are recorded, and then its Service and
  EndpointSlices are written at once. The record has to be first: a Service whose target ports are not recorded may lead to those
  of another Gateway, once the next leader has given them away. Whether the names are free is asked meanwhile.
- `changed` is called, on the loop, when fleets, targets or assigned are others than before.
"""
import asyncio
from collections.abc import Callable, Iterable, Mapping

from gwfast.config.model import Key
from gwfast.controller import desired as wanted
from gwfast.controller.apply import PATHS, Applier, Sink, collection
from gwfast.controller.assign import Assigner
from gwfast.controller.fleet import CONTROLLER, Fleet, Known, Place, Plan, Records, Site, Spoilt, apart, plan
from gwfast.controller.objects import DRAIN_DELAY, Object
from gwfast.controller.owners import Owners
from gwfast.controller.ports import Wanted
from gwfast.controller.selected import KIND, OTHERS, Selectors, faults, generation_of
from gwfast.graph.model import Graph
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.statuses import Assigned

REST = 0.05  # seconds between two looks: what comes in a burst is looked at together
UNCERTAIN = 1.0  # seconds until it is looked at again what may go, where lists are missing
LOOKS = 4
REST_TIMES = 10  # as long as a look took: the loop has streams and statuses to serve


class Provisioner:
    """What a controller makes. `uid_of` tells an object's uid ('' where it is not known), `authority` the PEM of the stream's.

    acknowledged: whether the data planes of a fleet say that they serve a Gateway, those of some Pods (uids) among them; look()
    where that may have changed.
    namespaces: those that are watched, besides its own; none: all of them. may: whether this one may write at this moment, by the
    Lease. certain: whether all that decides over what goes (classes, Gateways, their parameters) is watched at this moment.
    routed: whether routes and XBackends are, too.
    """

    def __init__(self, client: Client, site: Site, uid_of: Callable[[Key], str], authority: Callable[[], str], log,
                 changed: Callable[[], None] = lambda: None, namespaces: Iterable[str] = (),
                 may: Callable[[], bool] = lambda: True, certain: Callable[[], bool] = lambda: True,
                 acknowledged: Callable[[Place, Key, frozenset[str]], bool] = lambda place, gateway, pods: True,
                 routed: Callable[[], bool] = lambda: True):
        self.moves = False  # a Gateway moves between the data planes of its class and its own
        self._acknowledged = acknowledged
        self._left: dict[Place, float] = {}  # Services that led to shared data planes, and until when these serve on
        self._certain, self._routed = certain, routed
        self.faults: Mapping[Key, str] = {}  # why XBackends have no Pods
        self._selectors = Selectors(site.label, uid_of)
        self.fleets: Mapping[Place, Fleet] = {}
        self.targets: Mapping[Key, Mapping[Wanted, int]] = {}
        self.assigned: Mapping[Key, Assigned] = {}
        self._site = site
        self._uid_of = uid_of
        self._authority = authority
        self._changed = changed
        self._applier = Applier(client, site.label, log, self._told, self._meet, may, self._held, self.look)
        self._owners = Owners(client, site.controller_name, self._planned)
        places = dict.fromkeys((*namespaces, site.namespace)) if namespaces else ("",)
        self._reflectors = [
            Reflector(client, collection(kind, place), Sink(kind, self.take, self.look), label_selector=_selector(kind, site),
                      log=log)
            for kind in PATHS for place in places]
        self._graph: Graph = None  # type: ignore[assignment]  # there from the first graph on
        self._known = Known()
        self._assigner = Assigner(client, site, uid_of, log, self._look_at_once, may, certain)
        self._foreign: set[Place] = set()
        self._errors: dict[Key, str] = {}
        self._of: dict[Key, Key] = {}  # XBackends, by the Services that find their Pods
        self._made: dict[Key, Object] = {}
        self._spoilt: dict[Place | Key, str] = {}
        self._log = log
        self._leads = False
        self._scheduled: asyncio.Handle | None = None
        self._rests = 0.0  # until when the looks so far take it to rest, all after each other

    @property
    def writes(self) -> int:
        """Requests that changed something."""
        return self._applier.writes

    @property
    def synced(self) -> bool:
        """Whether everything that is ours has been listed."""
        return all(each.synced for each in self._reflectors)

    def follow(self, graph: Graph) -> None:
        """Take the graph of a whole cluster: what is not in it is not there."""
        self._graph = graph
        self.look()

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""
        self._leads = leads
        self._assigner.lead(leads)
        if not leads:
            self._made = {}
            self._applier.lead(False)
        self._look_at_once()  # the applier leads once it has heard what is wanted now

    def look(self) -> None:
        """Look again soon: something has changed (the authority, a uid). At once after quiet, and else after a rest."""
        loop, at = asyncio.get_running_loop(), self._rests - (LOOKS - 1) * REST
        if self._scheduled is None:
            self._scheduled = loop.call_at(at, self._look_and_rest) if at > loop.time() else loop.call_soon(self._look_and_rest)

    def _look_at_once(self) -> None:
        """Look without a rest: what was asked for is there now (a record that was written, once for each write)."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._scheduled, self._rests = None, 0.0
        self.look()

    async def run(self) -> None:
        """Watch and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._reflectors:
                tasks.create_task(each.run())
            tasks.create_task(self._applier.run())
            tasks.create_task(self._assigner.run())

    # ---- One look

    def _look_and_rest(self) -> None:
        """Look, and leave the loop to others for a while."""
        loop = asyncio.get_running_loop()
        self._scheduled, began = None, loop.time()
        try:
            self._look()
        finally:
            now = loop.time()
            self._rests = max(self._rests, now) + max(REST, REST_TIMES * (now - began))

    def _look(self) -> None:
        if self._graph is None or not self.synced:
            return
        owned = self._applier.owned
        spoilt: Spoilt = {}
        slices = wanted.Slices(owned)
        records = self._records(owned, slices)
        planned = plan(self._graph, self._site, records, self._known, spoilt)
        self.moves = any(need.also for need in planned.needs.values())
        classes = [key.name for key in self._graph.classes]
        targets = self._assigner.assign(planned, records.names, owned, classes)
        if self._leads:
            made = wanted.desired(planned, self._site, self._uid_of, targets, self._authority(), spoilt)
            self._applier.expect(wanted.expected(planned, slices))
            services = {key for key in made.keys() | owned.keys() if key in owned or self._applier.free(key)}
            made |= wanted.mirrors(planned, self._site, services, slices, targets, self._uid_of, spoilt)
            selected = self._selectors.look(self._graph, owned, self._foreign)
            made |= selected.made
            self._of = selected.of
            self._made = {key: known if (known := self._made.get(key)) == each else each for key, each in made.items()}
            doomed = wanted.doomed(planned, self._made, owned, slices, spoilt) - set(map(self._assigner.record_of, classes))
            certain, idle = not doomed or self._certain(), selected.idle if not selected.idle or self._routed() else set()
            if not certain or idle != selected.idle:
                asyncio.get_running_loop().call_later(UNCERTAIN, self.look)
            self._applier.want(self._made, (doomed if certain else set()) | selected.over | idle)
            self._applier.lead(True)
        assigned = {}
        for key, need in planned.needs.items():
            with apart(key, spoilt):
                service, fleet = Key("Service", key.namespace, need.service), planned.fleets[need.fleet]
                error = self._errors.get(service, "") or self._assigner.error(key, need, fleet.class_name)
                assigned[key] = wanted.assigned(need, owned.get(service), fleet, slices, error, self._assigner.lacking(key, need))
        self._tell_of(spoilt)
        self._say(planned, targets, assigned, self._faults())

    def _faults(self) -> dict[Key, str]:
        """Return why XBackends have no Pods."""
        return faults(self._graph, {self._of[key]: words for key, words in self._errors.items() if key in self._of})

    def _records(self, owned: Mapping[Key, Object], slices: wanted.Slices) -> Records:
        """Return what is there, and for a while what was: that endpoints are no more has to be known everywhere first. What is
        being written may be there any moment."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        found = wanted.records(owned, self._foreign, wanted.mirrored_places(self._made),
                               lambda place, gateway: self._acknowledged(place, gateway, slices.pods(place)))
        left = {place: until for place, until in self._left.items() if until > now or place in found.mirrored}
        self._left = left | dict.fromkeys(found.mirrored, now + DRAIN_DELAY)
        if lingering := left.keys() - found.mirrored:
            found.mirrored.update(lingering)
            loop.call_at(max(left[place] for place in lingering), self.look)
        return found

    def _say(self, planned: Plan, targets: dict, assigned: dict, faults: dict) -> None:
        """Let others know where something is new."""
        if (planned.fleets, targets, assigned, faults) != (self.fleets, self.targets, self.assigned, self.faults):
            self.fleets, self.targets, self.assigned, self.faults = planned.fleets, targets, assigned, faults
            self._changed()

    def _tell_of(self, spoilt: Spoilt) -> None:
        """Log what could not be planned or made, once."""
        words = {what: f"{type(error).__name__}: {error}" for what, error in spoilt.items()}
        for what, error in spoilt.items():
            if self._spoilt.get(what) != words[what]:
                self._log.bug("objects could not be made; those that are there stay", error, of=str(what))
        self._spoilt = words

    # ---- What the applier asks

    def _planned(self, owner: Key) -> int | None:
        """Return the generation that an owner had when what there is was planned; None: it was not there."""
        if owner.kind == KIND:
            return generation_of(self._graph, owner)
        nodes = self._graph.gateways if owner.kind == "Gateway" else self._graph.classes
        node = nodes.get(owner)
        return node.resource.metadata.generation if node is not None else None

    async def _held(self, found: Object) -> str:
        return await self._owners.held(found) if self._certain() else "the lists that decide over it are not watched now"

    # ---- What the applier tells

    def _told(self, key: Key, words: str) -> None:
        if key.kind == "Service" and words != self._errors.get(key, ""):
            self._errors[key] = words
            if not words:
                del self._errors[key]
            self.look()

    def _meet(self, key: Key) -> None:
        """Somebody else has an object of this name: a Gateway's get another one."""
        if key.kind in ("Service", "Deployment", "ServiceAccount", "ConfigMap"):
            name = key.name.removesuffix("-ca") if key.kind == "ConfigMap" else key.name
            self._foreign.add((key.namespace, name))
            self.look()

    def take(self, key: Key, found: Object | None) -> None:
        """Take what the API server says is there."""
        self._applier.seen(key, found)
        self._assigner.seen(key, found)
        self.look()


def _selector(kind: str, site: Site) -> str:
    """Return what selects the objects that are ours. The EndpointSlices of XBackends have their Services' labels, and are read by
    the source alone."""
    return f"{CONTROLLER}={site.label}" + (f",{OTHERS}" if kind == "EndpointSlice" else "")
