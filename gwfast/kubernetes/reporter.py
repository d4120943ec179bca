"""Reporter: tells the API server what a gateway that runs as one process serves (`gwfast run --kubernetes`), if it leads.

    a graph that workers serve ──follow──> View (addresses, ports that could not be opened) ─> StatusWriter ─> API server
                                             ^ Published: a Service, options, this machine       ^ Election: a Lease

Rules:
- Every replica serves; one of them, by a Lease, writes. The Lease is given back when the gateway begins to drain.
- A Gateway with addresses of its own has those of them that could be bound: one that could not makes it AddressNotUsable. All
  others have what is published; while that is nothing they are AddressNotAssigned.
"""
from __future__ import annotations

import asyncio
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Protocol

import msgspec

from gwfast.config.model import Key
from gwfast.graph.model import GatewayNode, Graph
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.publish import Address, Published, of_machine, typed
from gwfast.kubernetes.status import Objects, StatusStats, StatusWriter
from gwfast.kubernetes.statuses import Assigned, Statuses, View
from gwfast.observe.log import Log

Unbound = tuple[str, str, str]  # a listener's id, the address that could not be bound ('': all), and why
LEASE_NAME = 200  # characters that are made of a controller's name; a Lease's name has 253 at most


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """lease: namespace and name; ('', '') makes both, None: no election, this one writes. narrowed: see StatusWriter."""

    controller_name: str
    lease: tuple[str, str] | None = ("", "")
    publish_service: tuple[str, str] | None = None
    publish_addresses: tuple[str, ...] = ()
    narrowed: bool = False


class Source(Objects, Protocol):
    """What a reporter has to know of a source (gwfast.kubernetes.source)."""

    status_changed: Callable[[Key], None] | None

    @property
    def bundles(self) -> str:
        """The versions of the API's CRDs."""

    @property
    def channel(self) -> str:
        """Theirs."""


class Maker(Protocol):
    """Who makes objects that what is served needs, while this one leads (gwfast.controller.selected). faults: of XBackends."""

    faults: Mapping[Key, str]

    def follow(self, graph: Graph) -> None:
        """Take a graph that is served now."""

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""

    async def run(self) -> None:
        """Make them, until cancelled."""


class Reporter:
    """Follows what is served, until it is closed; on the event loop."""

    def __init__(self, client: Client, source: Source, server: str, namespace: str, options: ReportOptions, log: Log,
                 make: Callable[[Callable[[], bool], Callable[[], None]], Maker] | None = None):
        """make(leads, changed): returns the Maker of this process; it is asked for with the first XBackend."""
        self._source = source
        self._make = make
        self._maker: Maker | None = None
        self._server = server
        self._graph: Graph | None = None
        self._unbound: tuple[Unbound, ...] = ()
        self._tasks: list[asyncio.Task] = []
        self._fixed = typed(options.publish_addresses)
        self._published = Published(client, *options.publish_service, self._say, log) if options.publish_service else None
        lease = options.lease and (options.lease[0] or namespace, options.lease[1] or lease_name(options.controller_name))
        self._election = Election(client, *lease, identity(), self._lead, log=log) if lease else None
        self.stats = StatusStats()
        self.writer = StatusWriter(client, source, Statuses(options.controller_name), self._leads, log,
                                   narrowed=options.narrowed, stats=self.stats)
        source.status_changed = self.writer.object_changed

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return bool(self._tasks) and self._leads()

    def follow(self, graph: Graph, unbound: Iterable[Unbound] = ()) -> None:
        """Take note of a graph that is served now. The first time: begin to stand for election."""
        self._graph, self._unbound = graph, tuple(unbound)
        if not self._tasks:
            self._begin()
        if self._maker is None and self._make is not None and any(key.kind == "XBackend" for key in graph.policies):
            self._maker = self._make(self._leads, self._say)
            self._maker.lead(self._leads())
            self._tasks.append(asyncio.get_running_loop().create_task(self._maker.run()))
        if self._maker is not None:
            self._maker.follow(graph)
        self._say()

    def metrics(self) -> list[tuple[str, float]]:
        """Return name and value of what is counted."""
        stats = self.stats
        return [
            ("leader", int(self.leads)),
            ("status_writes_total", stats.writes),
            ("status_write_seconds_total", round(stats.seconds, 6)),
            ("status_conflicts_total", stats.conflicts),
            ("status_failures_total", stats.failures),
            ("status_undone_total", stats.undone),
            ("status_waiting", stats.waiting),
        ]

    async def close(self) -> None:
        """Write no more, and give the Lease back."""
        self._make = None
        self.writer.close()
        for task in self._tasks:
            task.cancel()
        if self._election is not None and self._tasks:
            await self._election.release()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(each.run()) for each in (self._election, self._published) if each is not None]
        if self._election is None:
            self._tasks.append(loop.create_task(asyncio.sleep(0)))
            self._lead(True)

    def _leads(self) -> bool:
        return self._election is None or self._election.leads

    def _lead(self, leads: bool) -> None:
        self.writer.lead(leads)
        if self._maker is not None:
            self._maker.lead(leads)

    def _say(self) -> None:
        if self._graph is None:
            return
        addresses, message = self._addresses()
        assigned = assign(self._graph, addresses, message, self._unbound)
        faults = self._maker.faults if self._maker is not None else {}
        self.writer.follow(View(graph=self._graph, assigned=assigned, bundle=self._source.bundles, channel=self._source.channel,
                                faults=faults))

    def _addresses(self) -> tuple[tuple[Address, ...], str]:
        if self._fixed or self._published is None:
            found = self._fixed or of_machine(self._server)
            return found, "" if found else "this machine has no address: --publish-status-address gives one"
        return self._published.addresses, self._published.message


def assign(graph: Graph, published: tuple[Address, ...], message: str, unbound: Iterable[Unbound]) -> dict[Key, Assigned]:
    """Return what each Gateway got: `published` where it names no addresses of its own; `message` says why that is nothing."""
    failed: dict[str, dict[str, str]] = {}
    for listener, address, why in unbound:
        failed.setdefault(listener, {})[address] = why
    return {key: _assign(node, published, message, failed) for key, node in graph.gateways.items()}


def _assign(node: GatewayNode, published: tuple[Address, ...], message: str, failed: Mapping[str, dict[str, str]]) -> Assigned:
    wrong = {address: why for listener in node.listeners for address, why in failed.get(listener, {}).items()}
    own = [value for value in node.addresses if value]
    found = [*typed(value for value in own if value not in wrong), *(published if "" in node.addresses else ())]
    addresses = tuple(dict.fromkeys(found))
    if broken := [value for value in own if value in wrong]:
        return Assigned(addresses=addresses, ready=False, reason="AddressNotUsable", message=wrong[broken[0]])
    if not addresses:
        return Assigned(ready=False, reason="AddressNotAssigned", message=message)
    unserved = tuple((listener, failed[listener][""]) for listener in node.listeners if "" in failed.get(listener, ()))
    return Assigned(addresses=addresses, unserved=unserved)


def lease_name(controller_name: str) -> str:
    """Return the name of the Lease of a controller: 'gwfast.dev/gateway-controller' is gateway-controller.gwfast.dev."""
    domain, _, path = controller_name.partition("/")
    plain = re.sub(r"[^a-z0-9.-]+", "-", f"{path}.{domain}".lower())
    plain = re.sub(r"[.-]*\.[.-]*", ".", plain).strip(".-")
    if plain == f"{path}.{domain}" and len(plain) <= LEASE_NAME:
        return plain
    digest = sha256(controller_name.encode()).hexdigest()[:10]
    return f"{plain[:LEASE_NAME].strip('.-')}-{digest}".lstrip(".-")


def identity() -> str:
    """Return who stands for election, as client-go has it: the host's name, which is the Pod's, and a number of this process."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"
