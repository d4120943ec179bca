"""Target ports: whose they are, that they stay, and what becomes of those that are freed."""
import random

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
