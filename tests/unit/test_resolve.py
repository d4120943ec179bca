"""Names become addresses by the system's resolver; what fails keeps its last addresses for a while."""
import asyncio
import contextlib
import socket

import pytest
import uvloop

from gwfast.endpoints.resolve import OWN, Resolver, elsewhere, literal


class Lookups:
    """The event loop's resolver as a table that a test changes: the edge where bytes would leave the machine."""

    def __init__(self, loop, table):
        self._loop = loop
        self.table = table
        self.asked: list[str] = []

    def __getattr__(self, name):
        return getattr(self._loop, name)

    async def getaddrinfo(self, host, port, *, type):
        self.asked.append(host)
        found = self.table.get(host, ())
        if isinstance(found, asyncio.Event):
            await found.wait()
            found = ("127.0.0.9",)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, type, 6, "", (ip, 0)) for ip in found]


def run(table, scenario, **options):
    async def main():
        lookups = Lookups(asyncio.get_running_loop(), table)
        changes = asyncio.Queue()
        resolver = Resolver(lookups, lambda: changes.put_nowait(True), **options)
        with contextlib.closing(resolver):
            await asyncio.wait_for(scenario(resolver, lookups, changes), 20)
    uvloop.run(main())


@pytest.mark.parametrize("name, addresses", [
    ("127.0.0.1", ("127.0.0.1",)),
    ("::1", ("::1",)),
    ("0:0::0:1", ("::1",)),
    ("localhost", ("127.0.0.1",)),
    ("LocalHost.", ("127.0.0.1",)),
    ("localhost.example", ()),
    ("1.2.3", ()),
    ("", ()),
])
def test_literal(name, addresses):
    assert literal(name) == addresses


def test_the_first_name_that_resolves_wins():
    async def scenario(resolver, lookups, _):
        hosts = ("api.shop", "api", "127.0.0.7")
        resolver.want(hosts)
        await resolver.settle(10)
        assert resolver.addresses(hosts) == ("127.0.0.2", "127.0.0.3")
        assert set(resolver.failed) == {"api.shop"}
        assert lookups.asked.count("127.0.0.7") == 0
        assert resolver.addresses(("127.0.0.7", "api")) == ("127.0.0.7",)
    run({"api": ("127.0.0.3", "127.0.0.2", "127.0.0.2")}, scenario)


def test_the_systems_resolver_is_asked():
    async def main():
        resolver = Resolver(asyncio.get_running_loop(), lambda: None)
        with contextlib.closing(resolver):
            resolver.want(["127.1"])  # no literal of ours, and needs no name server
            await resolver.settle(20)
            assert resolver.addresses(["127.1"]) == ("127.0.0.1",)
    uvloop.run(main())


def test_an_address_that_changes_is_told_and_one_that_stays_is_not():
    async def scenario(resolver, lookups, changes):
        resolver.want(["api"])
        await changes.get()
        asked = len(lookups.asked)
        while len(lookups.asked) < asked + 3:
            await asyncio.sleep(0)
        assert changes.empty()
        lookups.table["api"] = ("127.0.0.5",)
        await changes.get()
        assert resolver.addresses(["api"]) == ("127.0.0.5",)
    run({"api": ("127.0.0.2",)}, scenario, refresh=0.01)


@pytest.mark.parametrize("keep", [1000.0, 0.0], ids=["kept", "dropped"])
def test_a_name_that_stops_resolving(keep):
    async def scenario(resolver, lookups, changes):
        resolver.want(["api"])
        await changes.get()
        del lookups.table["api"]
        if keep:
            asked = len(lookups.asked)
            while len(lookups.asked) < asked + 3:
                await asyncio.sleep(0)
            assert resolver.addresses(["api"]) == ("127.0.0.2",) and not resolver.failed
        else:
            await changes.get()
            assert resolver.addresses(["api"]) == () and set(resolver.failed) == {"api"}
    run({"api": ("127.0.0.2",)}, scenario, refresh=0.01, keep=keep)


def test_a_slow_name_holds_nobody_up_for_long():
    slow = asyncio.Event()

    async def scenario(resolver, _, changes):
        resolver.want(["slow", "api"])
        await resolver.settle(0.05)
        assert resolver.addresses(["api"]) == ("127.0.0.2",) and resolver.addresses(["slow"]) == ()
        await changes.get()
        slow.set()
        await changes.get()
        assert resolver.addresses(["slow"]) == ("127.0.0.9",)
    run({"slow": slow, "api": ("127.0.0.2",)}, scenario)


def test_what_is_not_wanted_any_more_is_forgotten():
    async def scenario(resolver, lookups, _):
        resolver.want(["api", "web"])
        await resolver.settle(10)
        resolver.want(["web"])
        assert resolver.addresses(["api"]) == () and resolver.addresses(["web"]) == ("127.0.0.3",)
        asked = lookups.asked.count("web")
        while lookups.asked.count("web") < asked + 3:
            await asyncio.sleep(0)
        assert lookups.asked.count("api") == 1
    run({"api": ("127.0.0.2",), "web": ("127.0.0.3",)}, scenario, refresh=0.05)


def test_an_address_without_a_route_is_left_out_where_there_is_another():
    async def scenario(resolver, *_):
        resolver.want(["both", "six"])
        await resolver.settle(10)
        assert resolver.addresses(["both"]) == ("127.0.0.2",)
        assert resolver.addresses(["six"]) == ("fe80::1",)
    run({"both": ("127.0.0.2", "fe80::1"), "six": ("fe80::1",)}, scenario)


@pytest.mark.parametrize("address, allowed", [
    ("127.0.0.1", False), ("127.9.9.9", False), ("::1", False), ("::ffff:127.0.0.1", False), ("0.0.0.0", False), ("::", False),
    ("169.254.169.254", False), ("::ffff:169.254.169.254", False), ("fe80::1", False), ("fe80::1%lo", False), ("224.0.0.1", False),
    ("ff02::1", False), ("255.255.255.255", False), ("10.0.0.1", True), ("fd00::1", True), ("192.0.2.1", True), ("::ffff:10.0.0.1", True)])
def test_what_is_elsewhere(address, allowed):
    assert elsewhere(address) is allowed


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "own", "link", "0.0.0.0"])
def test_in_a_cluster_no_name_leads_to_the_gateway_itself(name):
    """Services of type ExternalName are a tenant's to write: localhost:9000 is where a gateway tells its rules and reloads."""
    async def scenario(resolver, lookups, changes):
        resolver.want([name, "api", "both"])
        await resolver.settle(10)
        assert resolver.addresses([name]) == () and resolver.failed == {name: OWN}
        assert resolver.addresses(["api"]) == ("10.0.0.1",) and resolver.addresses(["both"]) == ("10.0.0.2",)
        while len(lookups.asked) < 9:  # neither does what is looked up later
            await asyncio.sleep(0)
        lookups.table["api"] = ("127.0.0.1",)
        while resolver.addresses(["api"]):
            await changes.get()
        assert resolver.failed["api"] == OWN
    run({"own": ("127.0.0.2",), "link": ("169.254.169.254", "fe80::1"), "api": ("10.0.0.1",), "both": ("127.0.0.1", "10.0.0.2")},
        scenario, refresh=0.01, allowed=elsewhere)
