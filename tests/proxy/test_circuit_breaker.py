"""Endpoints that take so many requests at once (BackendPolicy, circuitBreaker), and new ones that get few first (slowStart)."""
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.gateway import free_port, gateway, resource, route, rule, service, until
from support.tls import needs, shell
from support.wire import Closed
from support.waiting import elapse

OWN = "gwfast.dev/v1alpha1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAITING = "gwfast_requests_waiting"
WORKERS = ("--workers", "2")


def policy(parallel: int = 0, target: str = "svc", slow: str = "", **breaker) -> dict:
    said = {"circuitBreaker": {"perEndpoint": {"maxParallelRequests": parallel}, **breaker}} if parallel else {}
    return resource("BackendPolicy", f"of-{target}", {"targetRefs": [{"group": "", "kind": "Service", "name": target}], **said,
                                                      **({"slowStart": {"window": slow}} if slow else {})}, OWN)


class Counting:
    """A backend that counts how many requests are under way. It answers after a moment, or when it may."""

    def __init__(self, backend, takes: float = 0.0) -> None:
        self.backend, self.address, self.port = backend, backend.address, backend.port
        self.takes, self.lock, self.may = takes, threading.Lock(), threading.Event()
        self.now = self.most = self.served = 0
        self.may.set()
        for path in ("/", "/slow"):
            backend.handlers[path] = self.answer

    def answer(self, stream, request) -> bool:
        with self.lock:
            self.now += 1
            self.served += 1
            self.most = max(self.most, self.now)
        elapse(self.takes)
        self.may.wait(30)
        with self.lock:        # before the answer: the next one may be here at once
            self.now -= 1
        stream.send(OK)
        return True


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as threads:
        yield threads


def statuses(answers) -> list[int]:
    return sorted(answer.result().status for answer in answers)


@needs("wrk")
def test_it_holds_for_all_workers_under_load(run, backend) -> None:
    two = [Counting(backend(name), 0.002) for name in "ab"]
    gw = run(gateway(free_port()), service("svc", *two), route("r", rule("svc")),
             policy(3, maxPendingRequests=1000, pendingTimeout="5s"), options=("--workers", "3", "--access-log", "off"))
    said = shell("wrk", "-t2", "-c48", "-d3s", f"http://127.0.0.1:{gw.port}/")
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    assert max(one.most for one in two) == 3 and min(one.served for one in two) > 50
    assert gw.metrics()["gwfast_requests_waited_total"] > 100
    until(lambda: gw.metrics()[WAITING] == 0)


@pytest.fixture
def holding(run, backend) -> Callable:
    """holding(documents...): a gateway, and the one endpoint of its route, which answers nothing until `may` is set."""
    def start(*documents, options: tuple[str, ...] = ()) -> tuple:
        one = Counting(backend())
        one.may.clear()
        return run(gateway(free_port()), service("svc", one), route("r", rule("svc")), *documents, options=options), one
    return start


def test_what_is_more_waits_in_order_and_what_is_more_than_that_is_503(holding, pool) -> None:
    gw, one = holding(policy(1, maxPendingRequests=3, pendingTimeout="20s"))
    answers = [pool.submit(gw.get)]
    until(lambda: one.now == 1)
    for n in range(3):
        answers.append(pool.submit(gw.get, f"/slow?{n}"))
        until(lambda n=n: gw.metrics()[WAITING] == n + 1)
    assert gw.get().status == 503
    until(lambda: gw.metrics()['gwfast_faults_total{fault="queue_full"}'] == 1)
    one.may.set()
    assert statuses(answers) == [200] * 4 and one.most == 1
    assert [request.target for request in one.backend.requests] == ["/", "/slow?0", "/slow?1", "/slow?2"]
    assert gw.metrics()[WAITING] == 0


def test_who_waits_too_long_is_503_and_who_goes_leaves(holding, pool) -> None:
    gw, one = holding(policy(1, pendingTimeout="300ms"))
    first = pool.submit(gw.get)
    until(lambda: one.now == 1)
    assert statuses([pool.submit(gw.get) for _ in range(5)]) == [503] * 5
    assert gw.metrics()['gwfast_faults_total{fault="queue_timeout"}'] == 5
    gone = gw.connect()
    gone.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: gw.metrics()[WAITING] == 1)
    gone.close()
    until(lambda: gw.metrics()[WAITING] == 0)
    one.may.set()
    assert first.result().status == 200 and gw.get().status == 200 and not one.backend.seen("/slow")


def test_nobody_waits_where_nobody_may(holding, pool) -> None:
    gw, one = holding(policy(1, maxPendingRequests=0))
    first = pool.submit(gw.get)
    until(lambda: one.now == 1)
    assert gw.get().status == 503
    one.may.set()
    assert first.result().status == 200


def test_the_limit_of_the_request_holds_while_it_waits(run, backend, pool) -> None:
    one = Counting(backend())
    one.may.clear()
    gw = run(gateway(free_port()), service("svc", one), policy(1, pendingTimeout="20s"), route(
        "r", rule("svc"), rule("svc", path="/slow") | {"timeouts": {"request": "200ms", "backendRequest": "100ms"}}))
    first = pool.submit(gw.get)
    until(lambda: one.now == 1)
    assert gw.get("/slow").status == 504
    until(lambda: gw.metrics()[WAITING] == 0)
    one.may.set()
    assert first.result().status == 200


def test_a_free_endpoint_takes_them(run, backend, pool) -> None:
    two = [Counting(backend(name)) for name in "ab"]
    for one in two:
        one.may.clear()
    gw = run(gateway(free_port()), service("svc", *two), route("r", rule("svc")), policy(2, maxPendingRequests=0))
    answers = [pool.submit(gw.get) for _ in range(4)]
    until(lambda: [one.now for one in two] == [2, 2])
    assert gw.get().status == 503
    for one in two:
        one.may.set()
    assert statuses(answers) == [200] * 4


def test_bodies_come_whole_after_a_wait(holding, pool) -> None:
    gw, one = holding(policy(1, pendingTimeout="20s"))
    first, body = pool.submit(gw.get), bytes(range(256)) * 2000
    until(lambda: one.now == 1)
    client = gw.connect()
    client.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    until(lambda: gw.metrics()[WAITING] == 1)
    rest = pool.submit(client.send, body)
    one.may.set()
    assert client.response("POST").status == 200 and first.result().status == 200
    rest.result()
    assert one.backend.seen("/slow")[0].body == body
    client.close()


def test_a_worker_that_dies_gives_its_places_back(holding, pool) -> None:
    gw, one = holding(policy(2, pendingTimeout="10s"), options=("--workers", "1"))
    held = [gw.connect() for _ in range(2)]
    for client in held:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: one.now == 2)
    before = gw.workers()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: gw.workers() and gw.workers() != before and gw.ready())
    one.may.set()
    assert statuses([pool.submit(gw.get) for _ in range(8)]) == [200] * 8
    for client in held:
        client.close()


def test_another_worker_hears_of_it(holding, pool) -> None:
    gw, one = holding(policy(1, pendingTimeout="10s"), options=("--workers", "4"))
    first = pool.submit(gw.get)
    until(lambda: one.now == 1)
    others = [pool.submit(gw.get) for _ in range(12)]      # of some other worker, most of them
    until(lambda: gw.metrics()[WAITING] == 12)
    one.may.set()
    assert statuses([first, *others]) == [200] * 13 and one.most == 1


def test_a_tunnel_has_its_place_until_it_ends(run, backend) -> None:
    ws = backend()
    ws.on("/ws", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", lambda stream: stream.rest())
    ws.on("/", OK, close=False)
    gw = run(gateway(free_port()), service("svc", ws), route("r", rule("svc")), policy(1, maxPendingRequests=0))
    client = gw.connect()
    client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert client.response().status == 101 and gw.get().status == 503
    client.close()
    gw.serves("/")


def test_a_policy_that_comes_counts_what_is_under_way(holding, pool) -> None:
    gw, one = holding()
    answers = [pool.submit(gw.get) for _ in range(3)]
    until(lambda: one.now == 3)
    gw.write("policy.yaml", policy(2, maxPendingRequests=0))
    until(lambda: gw.metrics()["gwfast_generation"] > 1)
    assert gw.get().status == 503
    one.may.set()
    assert statuses(answers) == [200] * 3
    one.may.clear()
    answers = [pool.submit(gw.get) for _ in range(2)]
    until(lambda: one.now == 2)
    assert gw.get().status == 503
    gw.write("policy.yaml", policy(2, maxPendingRequests=0), service("more", one), route("more", rule("more", path="/more")))     # another table: the count stays
    until(lambda: gw.metrics()["gwfast_generation"] > 2)
    assert gw.get().status == 503
    one.may.set()
    assert statuses(answers) == [200] * 2 and gw.get().status == 200


def test_a_session_waits_for_its_endpoint_and_keeps_nobody(run, backend, pool) -> None:
    two = [Counting(backend(name)) for name in "ab"]
    gw = run(gateway(free_port()), service("svc", *two), route("r", rule("svc") | {"sessionPersistence": {"sessionName": "sid"}}),
             policy(1, pendingTimeout="20s"))
    given = gw.get().fields.get("set-cookie").partition(";")[0]
    mine, other = two if two[0].served else two[::-1]
    mine.may.clear()
    first = pool.submit(gw.get, cookie=given)
    until(lambda: mine.now == 1)
    second = pool.submit(gw.get, "/slow", cookie=given)
    until(lambda: gw.metrics()[WAITING] == 1)
    assert {gw.get().status for _ in range(5)} == {200} and other.served == 5
    mine.may.set()
    assert statuses([first, second]) == [200] * 2 and len(mine.backend.seen("/slow")) == 1


def test_a_session_may_be_the_first_that_a_worker_sees(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", Counting(backend("a")), Counting(backend("b"))), policy(2),
             route("r", rule("svc") | {"sessionPersistence": {"sessionName": "sid"}}))
    given, before = gw.get().fields.get("set-cookie").partition(";")[0], gw.workers()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: gw.workers() and gw.workers() != before and gw.ready())
    after = gw.workers()
    assert gw.get(cookie=given).status == 200 and gw.workers() == after


def test_what_follows_on_a_connection_overtakes_nobody(holding, pool) -> None:
    gw, one = holding(policy(1, pendingTimeout="20s"))
    first = gw.connect()
    first.send(b"".join(b"GET /slow?%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    until(lambda: one.now == 1)
    other = pool.submit(gw.get, "/slow?other")
    until(lambda: gw.metrics()[WAITING] == 1)
    one.may.set()
    assert other.result().status == 200 and [first.response().status for _ in range(3)] == [200] * 3
    assert [request.target for request in one.backend.requests] == ["/slow?0", "/slow?other", "/slow?1", "/slow?2"]
    first.close()


def test_a_free_place_is_nobodys_where_nobody_waits(run, backend) -> None:
    """Requests that were refused want nothing any more: workers have to find that out."""
    one = Counting(backend())
    gw = run(gateway(free_port()), service("svc", one), route("r", rule("svc")), policy(1, maxPendingRequests=0), options=WORKERS)
    clients, get = [gw.connect() for _ in range(12)], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    def settled() -> bool:         # a place is given back behind the last byte of the response
        return gw.metrics()["gwfast_requests_open"] == 0
    for client in clients[:6]:
        one.may.clear()
        until(settled)
        client.send(get)
        until(lambda: one.now == 1)
        for other in clients:
            if other is not client:
                other.send(get)
                assert other.response().status == 503
        one.may.set()
        assert client.response().status == 200
        until(settled)
        client.send(get)
        assert client.response().status == 200
    for client in clients:
        client.close()


def test_authorizers_and_connections_that_are_passed_on_do_not_wait(run, backend, pool) -> None:
    one, port = Counting(backend()), free_port()
    one.may.clear()
    asked = {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": {"name": "svc", "port": 80}, "http": {}}}
    gw = run(gateway(free_port(), {"name": "tcp", "protocol": "TCP", "port": port}), service("svc", one), service("open", backend()),
             policy(1, pendingTimeout="20s"), route("r", rule("svc"), rule("open", path="/asked", filters=[asked])),
             resource("TCPRoute", "t", {"parentRefs": [{"name": "gw", "sectionName": "tcp"}], "rules": [
                 {"backendRefs": [{"name": "svc", "port": 80}]}]}, "gateway.networking.k8s.io/v1alpha2"))
    first = pool.submit(gw.get)
    until(lambda: one.now == 1)
    waits = pool.submit(gw.get)
    until(lambda: gw.metrics()[WAITING] == 1)
    assert gw.get("/asked").status == 403
    passed_on = gw.connect(port)           # of another protocol, so the endpoint is another one to it
    passed_on.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: one.now == 2)
    with pytest.raises((ConnectionError, Closed)):
        gw.get(port=port)
    one.may.set()
    assert passed_on.response().status == 200
    passed_on.close()
    assert statuses([first, waits]) == [200] * 2
    one.backend.handlers["/asked"] = one.answer
    assert gw.get("/asked").status == 200


def test_retries_take_their_turn(run, backend, pool) -> None:
    bad, good = backend("bad"), Counting(backend("good"), 0.01)
    bad.on("/", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", close=False)
    gw = run(gateway(free_port()), service("svc", bad, good), policy(1, pendingTimeout="20s"), route(
        "r", rule("svc") | {"retry": {"codes": [503], "attempts": 5, "backoff": "1ms"}}), options=("--workers", "2"))
    assert statuses([pool.submit(gw.get) for _ in range(8)]) == [200] * 8 and good.most == 1


@needs("h2load")
def test_streams_of_http2_wait_too(run, backend) -> None:
    one = Counting(backend(), 0.001)
    gw = run(gateway(free_port()), service("svc", one), route("r", rule("svc")), policy(2, pendingTimeout="20s"),
             options=("--access-log", "off"))
    said = shell("h2load", "-n600", "-c3", "-m20", f"http://127.0.0.1:{gw.port}/")
    assert "600 succeeded, 0 failed" in said and one.most == 2


def test_it_ends_with_those_that_wait(holding, pool) -> None:
    gw, one = holding(policy(1, pendingTimeout="20s"),
             options=("--drain-timeout", "15s"))
    answers = [pool.submit(gw.get) for _ in range(3)]
    until(lambda: gw.metrics()[WAITING] == 2)
    gw.process.send_signal(signal.SIGTERM)
    elapse(0.3)
    one.may.set()
    assert statuses(answers) == [200] * 3


def test_a_new_endpoint_gets_few_first(run, backend) -> None:
    old, new, port, window = Counting(backend("old")), Counting(backend("new")), free_port(), 3
    gw = run(gateway(port), service("svc", old), route("r", rule("svc")), policy(slow=f"{window}s"))
    assert gw.get().status == 200
    elapse(window + 0.1)
    before = old.served
    gw.write("all.yaml", gateway(port), service("svc", old, new), route("r", rule("svc")), policy(slow=f"{window}s"))
    until(lambda: gw.metrics()["gwfast_generation"] > 1)
    since = time.monotonic()
    for _ in range(200):
        assert gw.get().status == 200
    warm = min(max((time.monotonic() - since + 0.3) / window, 0.1), 1)     # at the end; 0.3: from when it may have been
    assert old.served - before + new.served == 200
    assert 2 <= new.served <= 200 * warm / (1 + warm) + 25
    elapse(window + 0.1)
    before = new.served
    for _ in range(200):
        assert gw.get().status == 200
    assert 60 <= new.served - before <= 140


def test_it_ends_although_some_wait(holding, pool) -> None:
    gw, one = holding(policy(2, pendingTimeout="20s"),
             options=("--drain-timeout", "300ms"))
    answers = [pool.submit(gw.get) for _ in range(6)]
    until(lambda: gw.metrics()[WAITING] == 4)
    gw.stop()
    assert "a worker died" not in gw.errors() and "Segmentation" not in gw.errors()
    one.may.set()
    assert statuses(answers) == [503] * 6
