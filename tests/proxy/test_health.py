"""Backends of which an endpoint fails: what clients see, what is out, and when it is back (BackendPolicy)."""
import json
import threading

from support.gateway import free_port, gateway, resource, route, rule, service, until

OWN = "gwfast.dev/v1alpha1"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
OUT = "gwfast_endpoint_ejections_total"
HEALTHY = 'gwfast_backend_endpoints_healthy{backend="default/svc:80/http"}'


def policy(name: str = "health", **passive) -> dict:
    return resource("BackendPolicy", name, {"targetRefs": [{"group": "", "kind": "Service", "name": "svc"}],
                                            "healthCheck": {"passive": passive}}, OWN)


def flaps(backend, failing: threading.Event) -> None:
    """Let a backend answer 500 while it is failing."""
    def answer(stream, request):
        stream.send(BAD if failing.is_set() else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True
    backend.handlers["/"] = answer


def test_only_the_failures_in_a_row_reach_clients(run, backend) -> None:
    good, bad, failing = [backend("a"), backend("b")], backend("bad"), threading.Event()
    failing.set()
    flaps(bad, failing)
    gw = run(gateway(free_port()), service("svc", *good, bad), route("r", rule("svc")),
             policy(consecutiveFailures=3, baseEjectionTime="60s"), options=("--workers", "2"))
    got = [gw.get().status for _ in range(120)]      # one after the other, each to either worker
    assert (got.count(500), got.count(200)) == (3, 117)
    assert gw.metrics()[OUT] == 1
    assert gw.metrics()[HEALTHY] == 2
    out = json.loads(gw.ask("/status")[1])["backends"]["default/svc:80/http"]
    assert (out["endpoints"], list(out["out"])) == (3, [f"127.0.0.1:{bad.port}"])
    until(lambda: "an endpoint failed and is out" in gw.errors())
    gw.write("more.yaml", service("more", good[0]), route("more", rule("more", path="/more")))
    until(lambda: gw.metrics()["gwfast_generation"] > 1)       # another table: what is known of endpoints stays
    assert {gw.get().status for _ in range(40)} == {200}


def test_it_comes_back_by_itself(run, backend) -> None:
    good, bad, failing = backend("a"), backend("bad"), threading.Event()
    failing.set()
    flaps(bad, failing)
    gw = run(gateway(free_port()), service("svc", good, bad), route("r", rule("svc")),
             policy(consecutiveFailures=2, baseEjectionTime="1s"))
    until(lambda: gw.get().status == 500 and gw.metrics()[OUT] == 1)
    failing.clear()
    before = len(bad.requests)
    until(lambda: gw.get().status == 200 and len(bad.requests) > before)
    assert gw.metrics()[HEALTHY] == 2
    assert {gw.get().status for _ in range(20)} == {200}


def test_a_refused_connection_counts(run, backend) -> None:
    class Refusing:
        address, port = "127.0.0.1", free_port()

    gw = run(gateway(free_port()), service("svc", backend("a"), Refusing()), route("r", rule("svc")),
             policy(consecutiveFailures=2, baseEjectionTime="60s"))
    assert until(lambda: {gw.get().status} == {200} and gw.metrics()[OUT] == 1)


def test_where_all_are_out_all_are_used(run, backend) -> None:
    both, failing = [backend("a"), backend("b")], threading.Event()
    failing.set()
    for each in both:
        flaps(each, failing)
    gw = run(gateway(free_port()), service("svc", *both), route("r", rule("svc")),
             policy(consecutiveFailures=1, baseEjectionTime="60s", maxEjectionPercent=100))
    assert {gw.get().status for _ in range(20)} == {500}
    assert gw.metrics()[HEALTHY] == 0
    failing.clear()
    assert {gw.get().status for _ in range(20)} == {200}


def test_without_a_policy_nothing_is_out(run, backend) -> None:
    bad, failing = backend("bad"), threading.Event()
    failing.set()
    flaps(bad, failing)
    gw = run(gateway(free_port()), service("svc", backend("a"), bad), route("r", rule("svc")))
    got = [gw.get().status for _ in range(100)]
    assert 20 < got.count(500) < 80
    assert gw.metrics()[OUT] == 0


def test_under_load(run, backend) -> None:
    """Many clients at once: those that were on their way when it was put out, and no others."""
    good, bad, failing = [backend(name) for name in "abc"], backend("bad"), threading.Event()
    failing.set()
    flaps(bad, failing)
    gw = run(gateway(free_port()), service("svc", *good, bad), route("r", rule("svc")),
             policy(consecutiveFailures=5, baseEjectionTime="60s"), options=("--workers", "2"))
    seen: list[int] = []

    def client() -> None:
        stream = gw.connect()
        for _ in range(50):
            stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            seen.append(stream.response().status)
        stream.close()

    clients = [threading.Thread(target=client) for _ in range(16)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert len(seen) == 800
    assert 5 <= seen.count(500) <= 5 + len(clients)
    assert seen.count(200) == 800 - seen.count(500)
