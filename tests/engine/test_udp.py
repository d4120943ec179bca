"""UDPRoute: a client keeps its backend, answers come from where it sent to, and nothing is held without bound."""
import collections
import os
import socket
import threading

import pytest
from msgspec import structs
from support.scripted import Running
from support.relays import tcp_plan

from gwfast.engine import counters
from gwfast.graph.model import Active, TargetPolicy
from gwfast.plan import ir

SHORT = 0.2
ONE, TWO, NONE = (ir.Backend(namespace="default", name=name, port=53, protocol="udp") for name in ("one", "two", "none"))


class Service:
    """Answers each datagram with a word and what it was; remembers who asked."""

    def __init__(self, word=b"", host="127.0.0.1"):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.address = self.socket.getsockname()[:2]
        self.word, self.asked = word, []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            data, address = self.socket.recvfrom(65536)
            if data == b"end":
                return
            self.asked.append(address)
            self.socket.sendto(self.word + data, address)

    def close(self):
        with socket.socket(self.family, socket.SOCK_DGRAM) as one:
            one.sendto(b"end", self.address)
        self.thread.join()
        self.socket.close()


class UdpRunning(Running):
    """An engine with one bind of UDP, on an address that the test says."""

    def __init__(self, make_plan, where=("127.0.0.1", 0), family=socket.AF_INET, **options):
        super().__init__(make_plan, [], **options)
        listening = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(where)
        self.udp_port = listening.getsockname()[1]
        with self.lock:
            self.engine.unlisten(0)
            self.engine.listen(listening.detach(), 0)

    def client(self, to="127.0.0.1") -> socket.socket:
        """Connected: it hears only what comes from where it sends to."""
        one = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        one.settimeout(5)
        one.connect((to, self.udp_port))
        self.clients.append(one)
        return one


@pytest.fixture
def udp():
    running = []

    def begin(plan, *more, **options) -> UdpRunning:
        running.append(UdpRunning(lambda _: plan, *more, **options))
        return running[-1]
    yield begin
    for each in running:
        each.close()


@pytest.fixture
def service():
    made = []

    def make(*what) -> Service:
        made.append(Service(*what))
        return made[-1]
    yield make
    for each in made:
        each.close()


def plan(endpoints, weights=((1, ONE),)) -> ir.Plan:
    return tcp_plan(endpoints, weights, transport="udp", kind="UDPRoute")


def ask(client, data: bytes) -> bytes:
    client.send(data)
    return client.recv(65536)


@pytest.mark.parametrize("n", [0, 1, 1472, 9000, 65507])
def test_datagrams_of_any_size(udp, service, n):
    engine = udp(plan({ONE.key: [service().address]}))
    data = os.urandom(n)
    assert ask(engine.client(), data) == data


def test_a_client_keeps_its_port_of_ours(udp, service):
    made = service()
    engine = udp(plan({ONE.key: [made.address]}))
    first, second = engine.client(), engine.client()
    for n in range(5):
        assert ask(first, b"%d" % n) == b"%d" % n
        assert ask(second, b"%d" % n) == b"%d" % n
    assert sorted(collections.Counter(made.asked).values()) == [5, 5]
    assert engine.count("udp_sessions") == engine.count("udp_sessions_open") == 2
    assert engine.count("bytes_in") == 0     # counted when a session ends
    with engine.lock:
        engine.engine.unlisten(0)
    assert (engine.count("bytes_in"), engine.count("bytes_out"), engine.count("udp_sessions_open")) == (10, 10, 0)


def test_weights_are_those_of_sessions(udp, service):
    engine = udp(plan({ONE.key: [service(b"1").address], TWO.key: [service(b"2").address]},
                      ((70, ONE), (20, TWO), (0, NONE), (10, None))))
    clients = [engine.client() for _ in range(100)]
    for client in clients:
        client.send(b"")
    engine.wait("invalid_backend", 10)
    told = collections.Counter()
    for client in clients:
        client.settimeout(0.3)
        try:
            told[client.recv(10)] += 1
        except TimeoutError:
            told[b""] += 1
    assert told == {b"1": 70, b"2": 20, b"": 10}


@pytest.mark.parametrize(("where", "family", "to"), [
    (("0.0.0.0", 0), socket.AF_INET, "127.0.0.2"), (("::", 0), socket.AF_INET6, "127.0.0.3"),
    (("::", 0), socket.AF_INET6, "::1")], ids=["IPv4", "IPv4 on a socket of IPv6", "IPv6"])
def test_answers_come_from_where_it_was_sent_to(udp, service, where, family, to):
    engine = udp(plan({ONE.key: [service().address]}), where, family)
    assert ask(engine.client(to), b"who") == b"who"


def test_an_idle_session_ends(udp, service):
    made = service()
    engine = udp(plan({ONE.key: [made.address]}), udp_idle_timeout=SHORT)
    client = engine.client()
    ask(client, b"1")
    engine.wait("udp_sessions_open", 0)
    assert ask(client, b"2") == b"2"
    assert engine.count("udp_sessions") == 2


def without_rules(one: ir.Plan) -> ir.Plan:
    listener = structs.replace(one.binds[0].listeners[0], hosts=())
    return structs.replace(one, binds=(structs.replace(one.binds[0], listeners=(listener,)),))


def watched(endpoints) -> ir.Plan:
    """As plan(), with a policy on each backend."""
    one = plan(endpoints)
    policy = TargetPolicy(name="n/p", active=Active(type="TCP", interval_ms=1000, timeout_ms=1000, unhealthy=1, healthy=1))
    return structs.replace(one, endpoints=tuple(structs.replace(each, policy=policy) for each in one.endpoints))


def resolved(engine, backend, address) -> ir.Plan:
    """One backend whose endpoint is what a name resolves to now."""
    engine.registry.resolved(backend.key, (address,))
    one = plan({})
    return structs.replace(one, endpoints=tuple(
        structs.replace(each, source="dns", hosts=("one.example",), host_port=53) for each in one.endpoints))


@pytest.mark.parametrize("change", [
    lambda engine, old, new: plan({ONE.key: [new]}),
    lambda engine, old, new: structs.replace(
        plan({ONE.key: [new], TWO.key: [old]}, ((1, ONE), (1, TWO))), binds=plan({ONE.key: [new]}).binds),
    lambda engine, old, new: plan({ONE.key: [old], TWO.key: [new]}, ((0, ONE), (1, TWO))),
    lambda engine, old, new: plan({TWO.key: [new]}, ((1, TWO),)),
    lambda engine, old, new: resolved(engine, ONE, new),
], ids=["its endpoint", "it belongs to a backend of no route", "its backend's weight", "its route's backend", "what a name resolves to"])
def test_a_client_whose_endpoint_is_gone_moves_at_once(udp, service, change):
    old, new = service(b"old"), service(b"new")
    engine = udp(plan({ONE.key: [old.address]}))
    client, silent = engine.client(), engine.client()
    assert ask(client, b"") == ask(silent, b"") == b"old"
    engine.apply(change(engine, old.address, new.address))
    for _ in range(3):
        assert ask(client, b"") == b"new"
    assert [engine.count(f"udp_{name}") for name in ("sessions", "moved", "sessions_open")] == [3, 1, 2]
    silent.send(b"")
    assert silent.recv(10) == b"new"
    assert len(new.asked) == 4 and len(old.asked) == 2


def test_a_change_of_names_resolved_moves_who_is_left(udp, service):
    old, new = service(b"old"), service(b"new")
    engine = udp(plan({}))
    engine.apply(resolved(engine, ONE, old.address))
    client = engine.client()
    assert ask(client, b"") == b"old"
    engine.apply(resolved(engine, ONE, old.address))
    assert ask(client, b"") == b"old"
    engine.apply(resolved(engine, ONE, new.address))
    assert ask(client, b"") == b"new"


@pytest.mark.parametrize("change", [
    lambda here, other: plan({ONE.key: [here]}),
    lambda here, other: plan({ONE.key: [other, here]}),
    lambda here, other: plan({ONE.key: [here], TWO.key: [other]}, ((1, ONE), (1_000_000, TWO))),
    lambda here, other: plan({ONE.key: [other], TWO.key: [other, here]}, ((9, ONE), (1, TWO))),
    lambda here, other: plan({TWO.key: [here]}, ((1, None), (1, TWO))),
    lambda here, other: watched({ONE.key: [other, here]}),
], ids=["nothing", "another endpoint comes", "weights", "another backend has it too", "another backend has it", "a policy"])
def test_a_client_whose_endpoint_is_there_stays(udp, service, change):
    here, other = service(b"here"), service(b"other")
    engine = udp(plan({ONE.key: [here.address]}))
    client = engine.client()
    assert ask(client, b"") == b"here"
    for _ in range(3):
        engine.apply(change(here.address, other.address))
        assert ask(client, b"") == b"here"
    assert [engine.count(f"udp_{name}") for name in ("sessions", "moved", "sessions_open")] == [1, 0, 1]
    assert len(set(here.asked)) == 1         # from one port of ours


def test_a_client_of_an_endpoint_with_ipv6_stays_and_moves(udp, service):
    here, other = service(b"here", "::1"), service(b"other", "::1")
    engine = udp(plan({ONE.key: [here.address]}))
    client = engine.client()
    assert ask(client, b"") == b"here"
    engine.apply(plan({TWO.key: [here.address]}, ((1, TWO),)))
    assert ask(client, b"") == b"here"
    engine.apply(plan({TWO.key: [(here.address[0], other.address[1])]}, ((1, TWO),)))
    assert ask(client, b"") == b"other"
    assert (engine.count("udp_sessions"), engine.count("udp_moved")) == (2, 1)


@pytest.mark.parametrize(("nowhere", "fault"), [
    (plan({ONE.key: []}), "no_endpoint"), (plan({}, ((1, None),)), "invalid_backend"), (without_rules(plan({})), "no_route")],
    ids=["no endpoint", "no backend", "no route"])
def test_a_client_whose_route_leads_nowhere_is_not_answered(udp, service, nowhere, fault):
    old, new = service(b"old"), service(b"new")
    engine = udp(plan({ONE.key: [old.address]}))
    client = engine.client()
    assert ask(client, b"") == b"old"
    engine.apply(nowhere)
    client.send(b"")
    engine.wait(fault, 1)
    assert engine.count("udp_sessions_open") == 0 and len(old.asked) == 1
    engine.apply(plan({ONE.key: [new.address]}))
    assert ask(client, b"") == b"new"


def test_last_words_of_an_endpoint_that_is_gone_arrive_and_keep_nobody(udp, service):
    old, new = service(b"old"), service(b"new")
    engine = udp(plan({ONE.key: [old.address]}), udp_idle_timeout=SHORT)
    client = engine.client()
    assert ask(client, b"") == b"old"
    engine.apply(plan({ONE.key: [new.address]}))
    old.socket.sendto(b"and this", old.asked[0])
    assert client.recv(10) == b"and this"
    for _ in range(1000):                    # it goes on speaking, to a client that only listens
        old.socket.sendto(b"still", old.asked[0])
        if engine.count("udp_sessions_open") == 0:
            break
        threading.Event().wait(0.01)
    assert engine.count("udp_sessions_open") == 0


def test_a_client_leaves_an_endpoint_that_is_out_where_another_serves(udp, service):
    services = {b"1": service(b"1"), b"2": service(b"2")}
    engine = udp(watched({ONE.key: [each.address for each in services.values()]}))
    client = engine.client()
    first = ask(client, b"")
    other = next(word for word in services if word != first)
    places = {word: engine.registry.endpoints[(*each.address, "udp")] for word, each in services.items()}
    counters.mark(engine.counters, *places[first], True)
    assert ask(client, b"") == other
    counters.mark(engine.counters, *places[other], True)       # all are out: a guess is as good as another
    assert {ask(client, b"") for _ in range(5)} == {other}
    assert engine.count("udp_moved") == 1


def test_refusal_ends_the_session(udp, service):
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind(("127.0.0.1", 0))
    address = gone.getsockname()
    gone.close()
    engine = udp(plan({ONE.key: [address]}))
    client = engine.client()
    client.send(b"anybody?")
    engine.wait("connect_failed", 1)
    engine.wait("udp_sessions_open", 0)
    engine.apply(plan({ONE.key: [service().address]}))
    assert ask(client, b"now?") == b"now?"


def test_a_full_table_lets_the_idlest_go(udp, service, monkeypatch):
    monkeypatch.setattr("gwfast.limits.UDP_SESSIONS", 3)
    engine = udp(plan({ONE.key: [service().address]}))
    clients = [engine.client() for _ in range(4)]
    for client in (*clients[:3], clients[0], clients[3]):     # the second one was used longest ago
        assert ask(client, b"x") == b"x"
    assert engine.count("udp_evicted") == 1
    assert ask(clients[0], b"x") == b"x"
    assert engine.count("udp_sessions") == 4
    assert ask(clients[1], b"x") == b"x"
    assert (engine.count("udp_sessions"), engine.count("udp_evicted"), engine.count("udp_sessions_open")) == (5, 2, 3)


def test_a_drain_answers_who_is_there_and_nobody_new(udp, service):
    engine = udp(plan({ONE.key: [service().address]}))
    client = engine.client()
    ask(client, b"1")
    with engine.lock:
        engine.engine.finish()
    assert ask(client, b"2") == b"2"
    new = engine.client()
    new.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        ask(new, b"3")
    assert engine.engine.connections == 1
    engine.wait("udp_sessions_open", 0)
    assert engine.engine.connections == 0


def test_nowhere_to_go(udp):
    engine = udp(plan({}))
    engine.client().send(b"x")
    engine.wait("no_endpoint", 1)
    assert engine.count("udp_sessions_open") == 0
