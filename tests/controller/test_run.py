"""What a controller makes of fleets and target ports, and who leads where."""
import asyncio
import re
from types import SimpleNamespace

import pytest
from feed_world import FLEETS, start

from gwfast.config.source import Loaded
from gwfast.config.model import Key
from gwfast.controller.feed import Served
from gwfast.controller.fleet import Fleet
from gwfast.controller.leader import LEADER_LOST, Leader, address_of, identity
from gwfast.controller.run import Brain, Controller, ControllerOptions, served

A, B = Key("Gateway", "a", "g"), Key("Gateway", "b", "g")


def fleet(name, *gateways):
    return Fleet(namespace="sys", name=name, class_name="c", gateways=gateways)


def fleets(*some):
    return {one.place: one for one in some}


def test_each_gateway_is_of_its_fleet_with_its_ports():
    found = served(fleets(fleet("x", A, B)), {A: {(80, "TCP"): 10080, (53, "UDP"): 10053}, B: {(80, "TCP"): 10081}})
    assert found == {A: Served("sys/x", ((53, "UDP", 10053), (80, "TCP", 10080))), B: Served("sys/x", ((80, "TCP", 10081),))}


def test_a_port_that_two_gateways_are_said_to_have_is_the_first_ones():
    targets = {A: {(80, "TCP"): 10080}, B: {(80, "TCP"): 10080, (80, "UDP"): 10080, (81, "TCP"): 10081}}
    found = served(fleets(fleet("x", A, B)), targets)
    assert found[A].ports == ((80, "TCP", 10080),) and found[B].ports == ((80, "UDP", 10080), (81, "TCP", 10081))
    apart = served(fleets(fleet("x", A), fleet("y", B)), targets)
    assert apart[B].ports == ((80, "TCP", 10080), (80, "UDP", 10080), (81, "TCP", 10081))


def test_a_gateway_that_moves_is_of_two_fleets_with_the_same_ports():
    found = served(fleets(fleet("x", A, B), fleet("y", A)), {A: {(80, "TCP"): 10080}, B: {(80, "TCP"): 10081}})
    assert found == {A: Served("sys/x", ((80, "TCP", 10080),), also="sys/y"), B: Served("sys/x", ((80, "TCP", 10081),))}
    assert found[A].fleets == ("sys/x", "sys/y") and found[B].fleets == ("sys/x",)


def test_what_a_fleet_is_about_to_be_told_counts_before_what_it_says():
    """It says that it serves a Gateway, and is being told that it does not any more: nobody is to be led there."""
    says = []
    one = SimpleNamespace(_server=SimpleNamespace(expect=lambda rooms: None, serves=lambda *asked: says.append(asked) or True),
                          _provisioner=SimpleNamespace(fleets=fleets(fleet("x", A)), targets={A: {(80, "TCP"): 10080}}), _meant={})

    def acknowledged(name):
        return Controller._acknowledged(one, ("sys", name), A, frozenset({"pod"}))
    assert not acknowledged("x") and not says
    Controller._served(one)
    assert acknowledged("x") and says == [("sys/x", A, frozenset({"pod"}))] and not acknowledged("y")
    one._provisioner.fleets = fleets(fleet("x"), fleet("y", A))
    Controller._served(one)
    assert not acknowledged("x") and acknowledged("y")


def test_nobody_is_told_of_a_gateway_that_listens_nowhere_yet():
    targets = {A: {}, B: {(80, "TCP"): 10081}}
    assert served(fleets(fleet("x", A)), {}) == {}
    assert served(fleets(fleet("x", A, B)), targets) == {B: Served("sys/x", ((80, "TCP", 10081),))}


@pytest.mark.parametrize("name", ["pod-1", "my_host"])
@pytest.mark.parametrize("ip, where", [("10.0.0.7", "10.0.0.7:8443"), ("fd00::7", "[fd00::7]:8443")])
def test_who_leads_says_where_it_is(monkeypatch, name, ip, where):
    monkeypatch.setenv("POD_NAME", name)
    monkeypatch.setenv("POD_IP", ip)
    me = identity("https://10.96.0.1", 8443)
    assert re.fullmatch(rf"{name}_.*_[0-9a-f]{{8}}", me) and address_of(me) == where
    assert me != identity("https://10.96.0.1", 8443)


@pytest.mark.parametrize("holder", ["", "pod-1", "pod-1_a53c"])
def test_of_who_says_no_place_nothing_is_known(holder):
    assert address_of(holder) == ""


def test_a_reading_that_fails_is_done_anew():
    """What came with the reading that failed is not lost, though the source tells of it once."""
    there, options = start(), ControllerOptions(controller_name="gwfast.dev/x", url="https://c:1", host="c", image="i", namespace="sys",
                                                listen=("", 1), admin=("", 2))
    come = [there.pop(key) for key in list(there) if key.kind == "HTTPRoute"]
    loads = [{}, there, there | {one.key: one for one in come}, there | {one.key: one for one in come}]

    def load(changed):
        last, now = loads[:2]
        loads.pop(0)
        return Loaded(resources=now, problems=[], added=frozenset(now.keys() - last.keys()), changed=frozenset(), removed=frozenset())

    brain = Brain(SimpleNamespace(load=load), options)
    assert not brain.read(None).routes
    brain.feed(FLEETS, [])
    run = brain._quarantine.stages.run

    def fail(*given):
        brain._quarantine.stages.run = run
        raise OSError("no memory for a file")  # of nobody's making: nothing is held for it
    brain._quarantine.stages.run = fail
    with pytest.raises(OSError):
        brain.read(None)
    assert brain.read(None).routes.keys() == {one.key for one in come} and not brain.problems
    assert {one.key for one in come} <= {key for feed in brain.feed(FLEETS, []).values() for key in feed.changed}


def test_read_and_fed_in_one_go_is_one_after_the_other():
    there, options = start(), ControllerOptions(controller_name="gwfast.dev/x", url="https://c:1", host="c", image="i", namespace="sys",
                                                listen=("", 1), admin=("", 2))
    loaded = Loaded(resources=there, problems=[], added=frozenset(there))
    one, other = (Brain(SimpleNamespace(load=lambda changed: loaded), options) for _ in range(2))
    graph, news = one.advance(None, FLEETS, [])
    assert graph is one.graph and graph.routes.keys() == other.read(None).routes.keys() != set()
    fed = other.feed(FLEETS, [])
    assert {name: feed.version for name, feed in news.items()} == {name: feed.version for name, feed in fed.items()}
    assert {name: set(feed.changed) for name, feed in news.items()} == {name: set(feed.changed) for name, feed in fed.items()}
    assert news and all(feed.changed for feed in news.values())


def test_nobody_is_told_of_a_cluster_whose_gateways_may_not_be_listed():
    """A replica that starts without the right, or before the API server has the kind, would empty every data plane."""
    told, later = [], []

    async def run(function, *given):
        return function(*given)

    brain = SimpleNamespace(read=lambda changed: "graph", problems=[], feed=lambda *given: {"sys/x": "feed"},
                            advance=lambda changed, *given: ("another graph", {"sys/x": "news"}))
    one = SimpleNamespace(
        _aside=SimpleNamespace(run=run), _brain=brain, _feed=lambda: Controller._feed(one), _served=lambda: Controller._served(one),
        _provisioner=SimpleNamespace(follow=lambda graph: None, synced=True, fleets={}, targets={}), _told=False, _graph=None, _fed=None,
        _server=SimpleNamespace(publish=told.append, expect=lambda rooms: None), _source=SimpleNamespace(certain=False), _say=lambda: None,
        _ask=None, _tell=lambda problems: None,
        _loop=SimpleNamespace(call_later=lambda seconds, ask, changed: later.append(changed)))
    asyncio.run(Controller._round(one, None))
    assert not told and later == [set()] and not one._told
    one._source.certain = True
    asyncio.run(Controller._round(one, later.pop()))
    assert told == [{"sys/x": "feed"}] and one._told
    one._source.certain = False       # what is known by then stays known
    asyncio.run(Controller._round(one, set()))
    assert len(told) == 1, "they know that already"
    one._provisioner.targets = {A: {(80, "TCP"): 10080}}
    one._provisioner.fleets = fleets(fleet("x", A))
    asyncio.run(Controller._round(one, set()))
    assert len(told) == 2
    asyncio.run(Controller._round(one, {"something"}))
    assert told[2:] == [{"sys/x": "news"}] and one._graph == "another graph"


def test_data_planes_are_sent_to_who_leads():
    told = []
    server = SimpleNamespace(lead=lambda leader: told.append(leader), withdraw=lambda away: told.append(away))
    election = SimpleNamespace(identity="me_10.0.0.1:8443_a", holder="", leads=False)
    leader = Leader(election, server)
    assert election.seen == leader.look and leader._tell(1.0) is None and told == [""]
    election.holder = "other_10.0.0.2:8443_b"
    assert leader._tell(2.0) is None and told.pop() == "10.0.0.2:8443"
    election.holder, election.leads = election.identity, True
    assert leader._tell(3.0) is None and told.pop() == ""


def test_who_led_and_cannot_renew_sends_data_planes_away_in_the_end():
    """Not at once: nobody else may lead before. It comes back where it leads again, or another one does."""
    told = []
    server = SimpleNamespace(lead=lambda leader: None, withdraw=told.append)
    election = SimpleNamespace(identity="me", holder="me", leads=False)
    leader = Leader(election, server)
    assert leader._tell(100.0) == LEADER_LOST and leader._tell(101.0) == LEADER_LOST - 1 and not told
    assert leader._tell(100.0 + LEADER_LOST) is None and told == [True]
    assert leader._tell(200.0) is None and told == [True]
    election.leads = True
    assert leader._tell(201.0) is None and told == [True, False]
    election.leads = False
    assert leader._tell(300.0) == LEADER_LOST
    election.holder = "other"
    assert leader._tell(301.0) is None and told == [True, False]


def test_a_leader_is_looked_at_when_something_is_new():
    async def test():
        told, news = [], asyncio.Event()
        server = SimpleNamespace(lead=lambda leader: (told.append(leader), news.set()), withdraw=told.append)
        election = SimpleNamespace(identity="me", holder="", leads=False)
        leader = Leader(election, server)
        running = asyncio.create_task(leader.run())
        await news.wait()
        news.clear()
        election.holder = "other_10.0.0.2:8443_b"
        election.seen()
        await news.wait()
        assert told == ["", "10.0.0.2:8443"]
        running.cancel()
    asyncio.run(test())
