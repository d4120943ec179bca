"""Services: cluster addresses, node ports, external addresses and load balancers, translated by nftables as kube-proxy does it.

Endpoints take turns (kube-proxy draws lots, by which tests would fail by chance). Ready ones are used; where there is none, those
that still serve while they end; where there is none either, connections are refused. Clients keep their addresses, but for a
Pod that meets itself. What changes is all that is written, in one transaction.

A Service of type LoadBalancer gets an address of POOL in its status: the one of spec.loadBalancerIP where it says one (none, where that
is not of the pool or taken). One with a loadBalancerClass is somebody else's.
"""
import ipaddress
import itertools
import subprocess
import threading
from collections.abc import Iterator
from typing import NamedTuple

from kubeapi import Api, ApiError
from node import conntrack
from node.network import NODE_IP

POOL = ipaddress.ip_network("10.244.240.0/20")
SETTLE_SECONDS = 0.005  # for changes that come together
RETRY_SECONDS = 0.5

RULES = """add table ip node
delete table ip node
table ip node {
  map portals { type ipv4_addr . inet_proto . inet_service : verdict; }
  set closed { type ipv4_addr . inet_proto . inet_service; }
  set itself { type ipv4_addr . ipv4_addr; }
  chain from_pods { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @portals; }
  chain from_node { type nat hook output priority -100; ip daddr . meta l4proto . th dport vmap @portals; }
  chain to_itself { type nat hook postrouting priority srcnat; ip saddr . ip daddr @itself masquerade; }
  chain forwarded { type filter hook forward priority filter; ip daddr . meta l4proto . th dport @closed reject; }
  chain sent { type filter hook output priority filter; ip daddr . meta l4proto . th dport @closed reject; }
}
"""


class Portal(NamedTuple):
    """What clients connect to."""
    address: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.address} . {self.protocol} . {self.port}"


Ends = tuple[tuple[str, int], ...]


def nft(text: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()}\n{text}")


def usable(slices: list[dict], port_name: str) -> Ends:
    """The endpoints of a port of a Service: ready ones, or else those that serve while they end."""
    ready, ending = set(), set()
    for one in slices:
        port = next((p for p in one.get("ports") or () if (p.get("name") or "") == port_name), None)
        if port is None or one.get("addressType") != "IPv4":
            continue
        for endpoint in one.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            ends = {(address, port["port"]) for address in endpoint["addresses"]}
            if conditions.get("ready", True):
                ready |= ends
            elif conditions.get("serving") and conditions.get("terminating"):
                ending |= ends
    return tuple(sorted(ready or ending))


def left_behind(before: dict[Portal, Ends], after: dict[Portal, Ends]) -> set[tuple[str, int, str]]:
    """(address, port, endpoint's address) of flows of datagrams that lead to an endpoint no more."""
    return {(portal.address, portal.port, address) for portal, ends in before.items() if portal.protocol == "udp"
            for address, _ in set(ends) - set(after.get(portal, ()))}


def addresses(service: dict) -> Iterator[str]:
    spec = service["spec"]
    yield from (address for address in spec.get("clusterIPs") or () if ":" not in address)
    yield from spec.get("externalIPs") or ()
    yield from (one["ip"] for one in service.get("status", {}).get("loadBalancer", {}).get("ingress") or () if "ip" in one)


def portals(service: dict, slices: list[dict]) -> Iterator[tuple[Portal, Ends]]:
    if service["spec"].get("clusterIP") in (None, "", "None") or service["spec"].get("type") == "ExternalName":
        return
    for port in service["spec"].get("ports") or ():
        ends, protocol = usable(slices, port.get("name", "")), port.get("protocol", "TCP").lower()
        for address in addresses(service):
            yield Portal(address, protocol, port["port"]), ends
        if port.get("nodePort"):
            yield Portal(NODE_IP, protocol, port["nodePort"]), ends


class Services(threading.Thread):
    """Keeps nftables as Services and EndpointSlices are. `extra` are portals of others (host ports of Pods)."""

    def __init__(self, services: dict, slices: dict):
        super().__init__(name="services", daemon=True)
        self._services, self._slices = services, slices
        self._woken = threading.Event()
        self._written: dict[Portal, Ends] = {}
        self._chains: dict[Portal, str] = {}
        self._selves: set[str] = set()
        self._numbers = itertools.count(1)

    def wake(self, *_: object) -> None:
        self._woken.set()

    def run(self) -> None:
        nft(RULES)
        while True:
            self._woken.wait()
            self._woken.clear()
            threading.Event().wait(SETTLE_SECONDS)
            try:
                self._write(self._wanted())
            except (OSError, KeyError, RuntimeError) as problem:  # RuntimeError: a dict that an informer changes meanwhile
                print(f"services: {problem!r}", flush=True)
                threading.Timer(RETRY_SECONDS, self.wake).start()

    def slices_of(self) -> dict[tuple[str, str], list[dict]]:
        found: dict[tuple[str, str], list[dict]] = {}
        for (namespace, _), one in list(self._slices.items()):
            service = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
            found.setdefault((namespace, service), []).append(one)
        return found

    def _wanted(self) -> dict[Portal, Ends]:
        slices = self.slices_of()
        return {portal: ends for where, service in list(self._services.items()) for portal, ends in portals(service, slices.get(where, []))}

    def _write(self, wanted: dict[Portal, Ends]) -> None:
        lines: list[str] = []
        for portal in self._written.keys() - wanted.keys():
            lines += self._close(portal, self._written[portal])
        fresh = {}
        for portal, ends in wanted.items():
            if self._written.get(portal) != ends:
                if portal in self._written and bool(self._written[portal]) != bool(ends):
                    lines += self._close(portal, self._written[portal])
                lines += self._open(portal, ends, fresh)
        selves = {address for ends in wanted.values() for address, _ in ends}
        lines += [f"add element ip node itself {{ {one} . {one} }}" for one in selves - self._selves]
        lines += [f"delete element ip node itself {{ {one} . {one} }}" for one in self._selves - selves]
        if lines:
            nft("\n".join(lines) + "\n")
        if gone := left_behind(self._written, wanted):
            conntrack.forget(gone)
        self._chains = {portal: chain for portal, chain in (self._chains | fresh).items() if wanted.get(portal)}
        self._written, self._selves = wanted, selves

    def _close(self, portal: Portal, ends: Ends) -> list[str]:
        if not ends:
            return [f"delete element ip node closed {{ {portal} }}"]
        chain = self._chains[portal]
        return [f"delete element ip node portals {{ {portal} : goto {chain} }}", f"delete chain ip node {chain}"]

    def _open(self, portal: Portal, ends: Ends, fresh: dict[Portal, str]) -> list[str]:
        if not ends:
            return [f"add element ip node closed {{ {portal} }}"]
        known = self._chains.get(portal) if self._written.get(portal) else None
        chain = known or f"c{next(self._numbers)}"
        fresh[portal] = chain
        turns = ", ".join(f"{n} : {address} . {port}" for n, (address, port) in enumerate(ends))
        rule = f"add rule ip node {chain} meta l4proto {portal.protocol} dnat ip to numgen inc mod {len(ends)} map {{ {turns} }}"
        begin = [f"flush chain ip node {chain}"] if known else [f"add chain ip node {chain}"]
        return [*begin, rule] + ([] if known else [f"add element ip node portals {{ {portal} : goto {chain} }}"])


class LoadBalancers(threading.Thread):
    """Gives addresses to Services of type LoadBalancer, and takes them back."""

    def __init__(self, api: Api, services: dict):
        super().__init__(name="load balancers", daemon=True)
        self._api, self._services = api, services
        self._woken = threading.Event()
        self._given: dict[tuple[str, str], str] = {}
        self._next = (str(address) for address in itertools.cycle(POOL.hosts()))

    def wake(self, *_: object) -> None:
        self._woken.set()

    def run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            for where, service in list(self._services.items()):
                try:
                    self._settle(where, service)
                except (ApiError, OSError) as problem:
                    if getattr(problem, "code", 0) != 404:
                        threading.Timer(RETRY_SECONDS, self.wake).start()
            self._given = {where: ip for where, ip in self._given.items() if where in self._services}

    def _settle(self, where: tuple[str, str], service: dict) -> None:
        ours = service["spec"].get("type") == "LoadBalancer" and not service["spec"].get("loadBalancerClass")
        has = [one.get("ip", "") for one in service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()]
        wanted = self._address(where, service, has) if ours else ""
        if not ours:
            self._given.pop(where, None)
            if service["spec"].get("loadBalancerClass"):
                return
        if has != [wanted] and (has or wanted):
            ingress = [{"ip": wanted, "ipMode": "VIP"}] if wanted else None
            path = f"/api/v1/namespaces/{where[0]}/services/{where[1]}/status"
            self._api.patch(path, {"metadata": {"uid": service["metadata"]["uid"]}, "status": {"loadBalancer": {"ingress": ingress}}})

    def _address(self, where: tuple[str, str], service: dict, has: list[str]) -> str:
        """The address of a Service: what it asks for, or what it has, or the next that is free; '' where it can have none."""
        taken = {ip for other, ip in self._given.items() if other != where}
        taken |= {one.get("ip") for other, thing in list(self._services.items()) if other != where
                  for one in thing.get("status", {}).get("loadBalancer", {}).get("ingress") or ()}
        asked = service["spec"].get("loadBalancerIP", "")
        if asked:
            ip = asked if ipaddress.ip_address(asked) in POOL and asked not in taken else ""
        else:
            ip = next((one for one in has if one), "") or self._given.get(where, "")
            ip = ip or next((one for one in itertools.islice(self._next, POOL.num_addresses) if one not in taken), "")
        self._given[where] = ip
        return ip
