"""Target ports: whose they are, that they stay, and what becomes of those that are freed."""
import random

from gwfast import limits
from gwfast.config.model import Key
from gwfast.controller import ports as module
from gwfast.controller.ports import FIRST, LAST, Ports

A, B, C = (Key("Gateway", "default", name) for name in "abc")
WEB, SECURE, DNS = (80, "TCP"), (443, "TCP"), (53, "UDP")


def test_each_gateway_port_and_transport_has_one_of_its_own():
    given = Ports().assign({A: [WEB, SECURE, DNS, (53, "TCP")], B: [WEB], C: [WEB, (65535, "TCP")]})
    targets = [(target, transport) for ports in given.values() for (_, transport), target in ports.items()]
    assert len(set(targets)) == len(targets) == 7
    assert all(FIRST <= target <= LAST for target, _ in targets)
    assert given[A] == {WEB: 10080, SECURE: 10443, DNS: 10053, (53, "TCP"): 10053}
    assert given[B][WEB] != 10080


def test_what_services_say_is_kept_by_a_controller_that_starts():
    before = Ports().assign({A: [WEB], B: [WEB, DNS], C: [SECURE]})
    after = Ports()
    for gateway in (C, B, A):
        after.read(gateway, before[gateway])
    assert after.assign({C: [SECURE], B: [DNS, WEB], A: [WEB]}) == before
    assert after.assign({C: [SECURE, WEB], B: [DNS], A: [WEB]})[A] == before[A]


def test_a_record_that_is_nobodys_to_write_is_not_believed():
    ports = Ports()
    ports.read(A, {WEB: 15000})
    ports.read(B, {WEB: 15000, SECURE: 22, DNS: 40000})
    ports.read(A, {WEB: 15001})
    given = ports.assign({A: [WEB], B: [WEB, SECURE, DNS]})
    assert given[A] == {WEB: 15000} and 15000 != given[B][WEB]
    assert all(FIRST <= target <= LAST for target in given[B].values())


def test_a_service_that_is_made_again_has_the_same_targets():
    first, second = (Ports().assign({A: [WEB], B: [WEB]}) for _ in range(2))
    assert first == second


def test_what_was_freed_rests():
    ports = Ports()
    freed = ports.assign({A: [WEB]})[A][WEB]
    assert ports.assign({B: [WEB]})[B][WEB] != freed
    assert ports.assign({A: [WEB], B: [WEB]})[A][WEB] not in (freed, ports.assign({B: [WEB]})[B][WEB])


def test_all_targets_can_be_used_and_what_is_beyond_has_none(monkeypatch):
    monkeypatch.setattr(module, "LAST", FIRST + 9)
    ports = Ports()
    ports.assign({C: [(port, "TCP") for port in range(1, 6)]})
    given = ports.assign({A: [(port, "TCP") for port in range(1, 21)]})[A]
    assert sorted(given.values()) == list(range(FIRST, FIRST + 10)) and len(given) == 10


def test_any_sequence_keeps_targets_apart_and_in_their_place():
    rng, ports, before = random.Random(6), Ports(), {}
    gateways = [Key("Gateway", "default", f"g{number}") for number in range(12)]
    for _ in range(300):
        wanted = {gateway: {(rng.choice((80, 443, 8080)), rng.choice(("TCP", "UDP"))) for _ in range(3)}
                  for gateway in rng.sample(gateways, 6)}
        given = ports.assign(wanted)
        assert {gateway: set(found) for gateway, found in given.items()} == wanted
        flat = [(target, transport) for found in given.values() for (_, transport), target in found.items()]
        assert len(flat) == len(set(flat))
        assert all(given[gateway][port] == target for gateway, found in before.items() if gateway in given
                   for port, target in found.items() if port in given[gateway])
        before = given


def test_a_target_is_found_without_a_look_at_all(monkeypatch):
    """A thousand Gateways are assigned in a moment: what is tried is counted, not the time."""
    tried, candidates = [], module._candidates
    monkeypatch.setattr(module, "_candidates", lambda *asked: (tried.append(each) or each for each in candidates(*asked)))
    Ports().assign({Key("Gateway", "default", f"g{number}"): [WEB, SECURE] for number in range(1000)})
    assert 2000 <= len(tried) < 6000


def test_a_namespace_has_a_part_and_others_have_some_too(monkeypatch):
    monkeypatch.setattr(limits, "TARGETS_PER_NAMESPACE", 3)
    ports, other = Ports(), Key("Gateway", "shop", "z")
    given = ports.assign({A: [WEB, SECURE, DNS], B: [WEB, SECURE], other: [WEB, SECURE]})
    assert {key: len(found) for key, found in given.items()} == {A: 3, B: 1, other: 2}, "TCP and UDP are counted apart"
    given = ports.assign({B: [WEB, SECURE], other: [WEB, SECURE]})
    assert {key: len(found) for key, found in given.items()} == {B: 2, other: 2}, "what was freed counts no more"
    ports.read(C, {(port, "TCP"): 20_000 + port for port in range(10)})
    assert len(ports.assign({B: [WEB, SECURE], C: [(port, "TCP") for port in range(10)]})[C]) == 1, "nor does a Service give more"


def test_where_none_is_left_none_is_looked_for(monkeypatch):
    tried, candidates = [], module._candidates
    monkeypatch.setattr(module, "LAST", FIRST + 9)
    monkeypatch.setattr(module, "_candidates", lambda *asked: (tried.append(each) or each for each in candidates(*asked)))
    ports, wanted = Ports(), {A: [(port, "TCP") for port in range(1, 21)]}
    ports.assign(wanted)
    before = len(tried)
    assert len(ports.assign(wanted)[A]) == 10 and len(tried) == before


def test_who_follows_believes_what_takes_nothing_from_others():
    ports = Ports()
    assert ports.follow({B: {WEB: 10080}, A: {WEB: 15000}}) == {B: {WEB: 10080}, A: {WEB: 15000}}
    assert ports.follow({A: {WEB: 10080}, B: {WEB: 10080}}) == {B: {WEB: 10080}, A: {WEB: 15000}}, "who had it has it"
    assert ports.follow({A: {WEB: 9000}, B: {WEB: 10080}}) == {B: {WEB: 10080}, A: {WEB: 15000}}, "that of the admin server"
    assert ports.assign({A: [WEB], B: [WEB]}) == {B: {WEB: 10080}, A: {WEB: 15000}}, "and one that leads then goes on with it"


def test_who_follows_goes_along_with_what_moves():
    ports = Ports()
    ports.follow({A: {WEB: 15000}, B: {WEB: 10080}})
    assert ports.follow({A: {WEB: 10080}}) == {A: {WEB: 10080}}
    assert ports.follow({A: {WEB: 10080}, B: {WEB: 16000, SECURE: 10080}}) == {A: {WEB: 10080}, B: {WEB: 16000}}
    assert ports.follow({A: {WEB: 17000}, B: {WEB: 16000, SECURE: 10080}}) == {A: {WEB: 17000}, B: {WEB: 16000, SECURE: 10080}}
