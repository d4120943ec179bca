"""Endpoints that are asked how they are (BackendPolicy, healthCheck.active): what clients see, what is asked, and what stays."""
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.gateway import free_port, gateway, resource, route, rule, service, until
from support.tls import Authority, authority, backend_tls, config_map
from support.waiting import elapse

OWN = "gwfast.dev/v1alpha1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
KEY = "default/svc:80/http"
HEALTHY = f'gwfast_backend_endpoints_healthy{{backend="{KEY}"}}'
QUICK = {"type": "HTTP", "interval": "100ms", "timeout": "2s", "unhealthyThreshold": 2, "healthyThreshold": 2,
         "http": {"path": "/healthz"}}


def policy(name: str = "health", target: str = "svc", passive: dict | None = None, **active) -> dict:
    active = {name: value for name, value in (QUICK | active).items() if value is not None}
    checks = {"active": active, **({"passive": passive} if passive else {})}
    return resource("BackendPolicy", name, {"targetRefs": [{"group": "", "kind": "Service", "name": target}],
                                            "healthCheck": checks}, OWN)


class Flapping:
    """A backend that is well or not: then it answers requests and probes with 503."""

    def __init__(self, backend) -> None:
        self.backend, self.address, self.port = backend, backend.address, backend.port
        self.well = True
        backend.handlers["/"] = backend.handlers["/healthz"] = self.answer

    def answer(self, stream, request) -> bool:
        stream.send(OK if self.well else BAD)
        return True

    @property
    def where(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def served(self) -> int:
        return len(self.backend.seen("/"))

    @property
    def asked(self) -> int:
        return len(self.backend.seen("/healthz"))


@pytest.fixture
def three(backend) -> list[Flapping]:
    return [Flapping(backend(name)) for name in "abc"]


def standing(gw, key: str = KEY) -> dict:
    return json.loads(gw.ask("/status")[1])["backends"][key]


def unhealthy(gw, key: str = KEY) -> dict[str, str]:
    return standing(gw, key)["unhealthy"]


def sees(gw, *out: Flapping) -> bool:
    return unhealthy(gw).keys() == {one.where for one in out}


def start(run, backends, *more, **options):
    return run(gateway(free_port()), service("svc", *backends), route("r", rule("svc")), *more, **options)


def test_no_client_sees_what_probes_find(run, three) -> None:
    """It is out without a single request, in every worker, and back by itself."""
    three[2].well = False
    gw = start(run, three, policy(), options=("--workers", "2"))
    until(lambda: sees(gw, three[2]))
    before = three[2].served
    assert {gw.get().status for _ in range(60)} == {200}
    assert three[2].served == before
    assert gw.metrics()[HEALTHY] == 2
    assert standing(gw) == {"endpoints": 3, "out": {}, "unhealthy": {three[2].where: "it answered 503"}}
    until(lambda: f"an endpoint is unhealthy and out backend={KEY} endpoint={three[2].where}" in gw.errors())
    three[2].well = True
    until(lambda: sees(gw))
    until(lambda: gw.get().status == 200 and three[2].served > before)
    until(lambda: "an endpoint is back" in gw.errors())
    assert gw.errors().count("an endpoint is unhealthy and out") == gw.errors().count("an endpoint is back") == 1
    counts = gw.metrics()
    assert counts['gwfast_endpoint_probes_total{result="passed"}'] >= 6
    assert counts['gwfast_endpoint_probes_total{result="status"}'] >= 2
    assert counts["gwfast_endpoint_ejections_total"] == 0


def test_what_is_asked(run, backend) -> None:
    asked = backend("a")
    start(run, [asked], policy(http={"path": "/ready?full=1", "hostname": "probe.example", "method": "HEAD"}))
    one = until(lambda: asked.requests and asked.requests[0])
    assert (one.method, one.target) == ("HEAD", "/ready?full=1")
    assert one.fields.get("Host") == "probe.example"
    assert one.fields.get("User-Agent") == "gwfast-probe"
    assert one.fields.get("Connection") == "close"
    until(lambda: not asked.open)


def test_where_all_are_out_all_are_used(run, three) -> None:
    for each in three:
        each.well = False
    gw = start(run, three, policy())
    until(lambda: sees(gw, *three))
    assert {gw.get().status for _ in range(20)} == {503}
    assert gw.metrics()[HEALTHY] == 0
    for each in three:
        each.backend.handlers["/"] = lambda stream, request: stream.send(OK) or True
    assert {gw.get().status for _ in range(20)} == {200}


def test_flapping_under_load(run, three) -> None:
    """While an endpoint comes and goes clients see its failures only until it is found out."""
    gw = start(run, three, policy(interval="50ms"), options=("--workers", "2"))
    until(lambda: all(each.asked for each in three))
    seen: list[tuple[int, int]] = []
    phase, stop = [0], threading.Event()

    def client() -> None:
        stream = gw.connect()
        while not stop.is_set():
            at = phase[0]
            stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            seen.append((at, stream.response().status))
            elapse(0.002)
        stream.close()

    clients = [threading.Thread(target=client) for _ in range(8)]
    for each in clients:
        each.start()
    for n in range(3):
        three[0].well = False
        until(lambda: sees(gw, three[0]))
        elapse(0.05)                   # what was on its way ends
        phase[0] = 2 * n + 1               # from here nobody may see it
        elapse(0.2)
        phase[0] = 2 * n + 2
        three[0].well = True
        until(lambda: sees(gw))
    stop.set()
    for each in clients:
        each.join()
    assert {status for at, status in seen if at % 2} == {200}
    assert sum(at % 2 for at, _ in seen) > 100
    assert 0 < sum(status == 503 for _, status in seen) < len(seen) / 5


def test_a_reload_keeps_what_is_believed(run, three) -> None:
    """Another table, another check, another worker: who was out is out until the check says otherwise."""
    three[0].well = False
    gw = start(run, three, policy(healthyThreshold=1), options=("--workers", "2"))
    until(lambda: sees(gw, three[0]))
    before = three[0].served
    gw.write("more.yaml", service("more", three[1].backend), route("more", rule("more", path="/more")))
    until(lambda: gw.metrics()["gwfast_generation"] == 2)
    assert sees(gw, three[0])
    gw.write("all.yaml", gateway(gw.port), service("svc", *three), route("r", rule("svc")),
             policy(unhealthyThreshold=50, healthyThreshold=2))
    until(lambda: gw.metrics()["gwfast_generation"] == 3)
    assert sees(gw, three[0])
    old = gw.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(gw.workers()) == 2 and not set(gw.workers()) & set(old) and gw.ready())
    assert {gw.get().status for _ in range(30)} == {200}
    assert three[0].served == before
    assert gw.errors().count("is unhealthy and out") == 1 and "is back" not in gw.errors()
    gw.write("all.yaml", gateway(gw.port), service("svc", *three), route("r", rule("svc")))
    until(lambda: gw.metrics()["gwfast_generation"] == 4)         # without a policy nobody is out
    until(lambda: gw.get().status == 503)
    asked = three[0].asked
    elapse(0.3)
    assert three[0].asked - asked <= 1


def test_who_goes_is_not_asked_and_who_comes_is_asked_at_once(run, three) -> None:
    gw = start(run, three[:2], policy(interval="1h"))
    until(lambda: all(each.asked == 1 for each in three[:2]))
    gw.write("all.yaml", gateway(gw.port), service("svc", *three[1:]), route("r", rule("svc")), policy(interval="1h"))
    until(lambda: three[2].asked == 1)
    assert [each.asked for each in three] == [1, 1, 1]


def test_a_slice_that_says_not_ready_is_believed(run, three) -> None:
    """Probes pass, and yet it gets nothing, not even a probe."""
    documents = service("svc", *three)
    documents[1]["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    gw = run(gateway(free_port()), documents, route("r", rule("svc")), policy())
    until(lambda: three[1].asked and three[2].asked)
    assert {gw.get().status for _ in range(30)} == {200}
    assert (three[0].asked, three[0].served) == (0, 0)
    assert standing(gw)["endpoints"] == 2


def test_a_refused_connection_and_a_hanging_one(run, three) -> None:
    class Refusing:
        address, port = "127.0.0.1", free_port()

    three[1].backend.handlers["/healthz"] = lambda stream, request: stream.rest()
    gw = start(run, [three[0], Refusing, three[1]], policy(timeout="500ms", unhealthyThreshold=1))
    until(lambda: len(unhealthy(gw)) == 2)
    assert unhealthy(gw) == {f"127.0.0.1:{Refusing.port}": "no connection: Connection refused",
                             three[1].where: "no answer in 0.5 s"}
    assert {gw.get().status for _ in range(30)} == {200}
    assert three[1].served == 0


def test_one_probe_for_two_backends(run, three) -> None:
    """Services that share endpoints and ask the same share the probes, and what they find."""
    three[0].well = False
    same = {"http": {"path": "/healthz", "hostname": "same.example"}, "interval": "1h", "unhealthyThreshold": 1}
    gw = run(gateway(free_port()), service("svc", *three), service("other", *three), policy(**same),
             policy("other", target="other", **same), route("r", rule("svc"), rule("other", path="/other")))
    until(lambda: sees(gw, three[0]))
    assert unhealthy(gw, "default/other:80/http") == unhealthy(gw)
    assert [each.asked for each in three] == [1, 1, 1]


def test_a_session_is_not_led_to_who_is_out(run, three) -> None:
    """Nor by a worker that has never looked at this endpoint before."""
    sticky = rule("svc") | {"sessionPersistence": {"sessionName": "sid"}}
    gw = run(gateway(free_port()), service("svc", *three), route("r", sticky), policy())
    until(lambda: all(each.asked for each in three))
    token = gw.get().fields.get("Set-Cookie").partition(";")[0]
    (its,) = [each for each in three if each.served]
    its.well = False
    until(lambda: sees(gw, its))
    old = gw.workers()
    os.kill(old[0], signal.SIGKILL)
    until(lambda: gw.workers() != old and len(gw.workers()) == 1 and gw.metrics()["gwfast_workers_running"] == 1)
    assert gw.get(cookie=token).status == 200
    assert its.served == 1


def test_beside_passive(run, three) -> None:
    """Who is found by probes takes nothing from the share that may be ejected."""
    three[0].well = False
    gw = start(run, three, policy(passive={"consecutiveFailures": 2, "baseEjectionTime": "60s", "maxEjectionPercent": 34}))
    until(lambda: sees(gw, three[0]))
    three[1].backend.handlers["/"] = lambda stream, request: stream.send(BAD) or True
    got = [gw.get().status for _ in range(60)]
    assert (got.count(503), got.count(200)) == (2, 58)
    assert list(standing(gw)["out"]) == [three[1].where]
    assert gw.metrics()[HEALTHY] == 1


# -- gRPC and TLS, with a server that most people use --------------------------------------------------------------------------


class Health:
    """A grpcio server that says how it is; with a certificate for `name` over TLS."""

    address = "127.0.0.1"

    def __init__(self, name: str = "") -> None:
        grpc = pytest.importorskip("grpc")
        self.state: bytes | None = b"\x08\x01"  # SERVING; None: UNIMPLEMENTED
        self.asked: list[tuple[str, bytes]] = []

        class Handler(grpc.GenericRpcHandler):
            def service(_, details):
                self.asked.append((details.method, b""))
                return grpc.unary_unary_rpc_method_handler(self.check) if self.state is not None else None
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[Handler()])
        if name:
            chain, key = authority().certificate(name)
            self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.where = f"127.0.0.1:{self.port}"
        self.server.start()

    def check(self, message: bytes, context) -> bytes:
        self.asked.append(("message", message))
        return self.state


@pytest.fixture
def healths():
    made = []
    yield lambda name="": made.append(Health(name)) or made[-1]
    for one in made:
        one.server.stop(0).wait(10)


GRPC = {"type": "GRPC", "http": None, "grpc": {"service": "shop.Cart"}}


def calls(name: str, *backends) -> list[dict]:
    return [*service(name, *backends), resource("GRPCRoute", name, {
        "parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": name, "port": 80}]}]})]


def test_grpc(run, healths) -> None:
    one, other = healths(), healths()
    key = "default/svc:80/h2c"
    gw = run(gateway(free_port()), *calls("svc", one, other), policy(**GRPC))
    until(lambda: len(one.asked) > 2 and len(other.asked) > 2)
    assert one.asked[:2] == [("/grpc.health.v1.Health/Check", b""), ("message", b"\x0a\x09shop.Cart")]
    assert unhealthy(gw, key) == {}
    one.state = b"\x08\x02"
    until(lambda: unhealthy(gw, key) == {one.where: "it answered NOT_SERVING"})
    one.state = None
    until(lambda: unhealthy(gw, key) == {one.where: "it answered grpc-status 12"})
    one.state = b"\x08\x01"
    until(lambda: not unhealthy(gw, key))


def test_over_tls(run, healths) -> None:
    """Whom requests would not believe is out; who is believed may change."""
    right, wrong = healths("backend.example"), healths("other.example")
    trusting = backend_tls("svc", "backend.example")
    documents = [gateway(free_port()), *calls("svc", right, wrong), policy(**GRPC), trusting]
    gw = run(*documents, config_map("authority", authority().pem))

    def found() -> dict[str, str]:
        backends = json.loads(gw.ask("/status")[1])["backends"]
        return next(iter(backends.values()))["unhealthy"] if backends else {}
    until(lambda: found().keys() == {wrong.where})
    assert found()[wrong.where].startswith("no TLS: certificate verify failed: hostname mismatch"), found()
    until(lambda: gw.metrics()['gwfast_endpoint_probes_total{result="passed"}'] > 0)
    gw.write("all.yaml", *documents, config_map("authority", Authority("a stranger").pem))
    until(lambda: found().keys() == {right.where, wrong.where})
    gw.write("all.yaml", *documents, config_map("authority", authority().pem))
    until(lambda: found().keys() == {wrong.where})
