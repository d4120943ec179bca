"""UDPRoute: a client keeps its backend, answers come from where it sent to, and nothing is held without bound."""
import collections
import os
import socket
import threading

import pytest
from scripted import Running
from test_relay import tcp_plan

from gwfast.plan import ir

SHORT = 0.2
ONE, TWO, NONE = (ir.Backend(namespace="default", name=name, port=53, protocol="udp") for name in ("one", "two", "none"))


class Service:
    """Answers each datagram with a word and what it was; remembers who asked."""

    def __init__(self, word=b""):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
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
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
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

    def make(word=b"") -> Service:
        made.append(Service(word))
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


def test_a_session_outlives_its_table(udp, service):
    old, new = service(b"old"), service(b"new")
    engine = udp(plan({ONE.key: [old.address]}))
    client = engine.client()
    assert ask(client, b"") == b"old"
    engine.apply(plan({ONE.key: [new.address]}))
    assert ask(client, b"") == b"old"
    assert ask(engine.client(), b"") == b"new"


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
