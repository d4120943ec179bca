"""Backends: which endpoint a request goes to, and what happens where one is stale, refuses, stalls or does not exist."""
import json
import socket
import threading
import time

import pytest
from support.backend import wait
from support.gateway import free_port, gateway, resource, route, rule, service, until
from support.wire import Dirty


def names(got: list) -> list[str]:
    return [json.loads(answer.body)["backend"] for answer in got]


class Refusing:
    """An endpoint where nobody listens."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()


def test_weights_are_exact(run, backend) -> None:
    made = [backend(name) for name in "abc"]
    refs = [{"name": b.name, "port": 80, "weight": w} for b, w in zip(made, (5, 3, 1), strict=True)]
    gw = run(gateway(free_port()), *(service(b.name, b) for b in made), route("r", rule(*refs)))
    stream = gw.connect()
    got = []
    for _ in range(90):
        stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        got.append(stream.response())
    stream.close()
    got = names(got)
    for n in range(1, 91):
        for name, share in (("a", 5 / 9), ("b", 3 / 9), ("c", 1 / 9)):
            assert abs(got[:n].count(name) - n * share) <= 1, (n, name, got[:n])


def test_invalid_share_of_the_weight_is_500(run, backend) -> None:
    good = backend("good")
    refs = [{"name": "good", "port": 80, "weight": 3}, {"name": "missing", "namespace": "elsewhere", "port": 80}]
    gw = run(gateway(free_port()), service("good", good), route("r", rule(*refs)))
    got = [gw.get().status for _ in range(40)]
    assert (got.count(200), got.count(500)) == (30, 10)


# Rules and the status that a request to them gets.
STATUSES = {
    "no route": (None, 404),
    "no backend refs": (rule(), 500),
    "all weights 0": (rule({"name": "good", "port": 80, "weight": 0}), 500),
    "a reference that is not granted": (rule({"name": "good", "namespace": "elsewhere", "port": 80}), 500),
    "an unknown kind": (rule({"group": "x.example", "kind": "Thing", "name": "good", "port": 80}), 500),
    "a port that the Service does not have": (rule({"name": "good", "port": 81}), 500),
    "a Service without endpoints": (rule("empty"), 503),
    "an endpoint where nobody listens": (rule("refusing"), 503),
    "an authorizer that may not be asked": (rule("good", filters=[{"type": "ExternalAuth", "externalAuth": {
        "protocol": "HTTP", "http": {}, "backendRef": {"name": "good", "namespace": "elsewhere", "port": 80}}}]), 500),
    "a mirror that may not be asked": (rule("good", filters=[{"type": "RequestMirror", "requestMirror": {
        "backendRef": {"name": "good", "namespace": "elsewhere", "port": 80}}}]), 200),
    "an extension that nobody knows": (rule("good", filters=[{"type": "ExtensionRef", "extensionRef": {
        "group": "x.example", "kind": "Thing", "name": "thing"}}]), 500),
}


@pytest.fixture(scope="module")
def statuses(tmp_path_factory):
    from support.backend import Backend
    from support.gateway import Gateway, write
    good = Backend("good")
    empty = {**resource("EndpointSlice", "empty-1", api="discovery.k8s.io/v1",
                        labels={"kubernetes.io/service-name": "empty"}),
             "addressType": "IPv4", "ports": [{"port": 1}], "endpoints": []}
    routes = [route(f"r-{n}", a_rule, hostnames=[f"case-{n}.example"])
              for n, (a_rule, _) in enumerate(STATUSES.values()) if a_rule]
    folder = tmp_path_factory.mktemp("statuses") / "conf"
    folder.mkdir()
    write(folder, "all.yaml", gateway(free_port()), service("good", good), service("empty"), empty,
          service("refusing", Refusing()), *routes)
    running = Gateway(folder, "--access-log", "off")
    yield running
    running.stop()
    good.close()


@pytest.mark.parametrize("case", STATUSES)
def test_status(statuses, case: str) -> None:
    answer = statuses.get("/", host=f"case-{list(STATUSES).index(case)}.example")
    assert answer.status == STATUSES[case][1]
    assert answer.fields.get("Content-Length") is not None


def test_connect_failure_is_tried_elsewhere(run, backend) -> None:
    """Nothing was sent, so any method may go to another endpoint."""
    good = backend("good")
    gw = run(gateway(free_port()), service("s", Refusing(), good, Refusing()), route("r", rule("s")))
    for method in ("GET", "POST", "DELETE") * 5:
        assert gw.get(method=method, content_length="0").status == 200


@pytest.fixture
def one(run, backend):
    """A gateway with short times in front of one backend."""
    made = backend("one")
    options = ("--response-timeout", "300ms", "--head-timeout", "400ms", "--body-timeout", "400ms",
               "--idle-timeout", "400ms", "--connect-timeout", "300ms", "--send-timeout", "1s")
    return run(gateway(free_port()), service("one", made), route("r", rule("one")), options=options), made


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_stale_connection_is_retried_once(run, backend, method: str) -> None:
    """The backend closes a kept connection when the next request is on its way: the client does not notice."""
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")))
    first = threading.Event()

    def stale(stream, request) -> bool:
        """The first request on a connection is answered, the second is closed upon."""
        if getattr(stream, "used", False):
            first.set()
            return False
        stream.used = True
        stream.send(made.echo(request))
        return True
    made.handlers["/stale"] = stale
    stream = gw.connect()
    for _ in range(4):
        stream.send(f"{method} /stale HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert stream.response(method).status == 200
    assert first.is_set()
    stream.close()


def test_a_post_is_not_sent_twice(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")))
    assert gw.get("/first").status == 200
    made.on("/post")
    stream = gw.connect()
    stream.send(b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert stream.response().status == 502
    assert len(made.seen("/post")) == 1
    stream.close()


def test_idle_connections_that_the_backend_closed_are_not_used(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")))
    for _ in range(5):
        assert gw.get().status == 200
        made.close_idle()
        until(lambda: not made.open)
        post = gw.connect()
        post.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert post.response().status == 200
        post.close()


def test_connections_are_kept(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")))
    for _ in range(20):
        assert gw.get().status == 200
    assert made.connections <= 2


def test_slow_backend_is_504(one) -> None:
    gw, made = one
    go_on = threading.Event()
    made.on("/stall", wait(go_on))
    assert gw.get("/stall").status == 504
    go_on.set()


def test_slow_request_head_is_408(one) -> None:
    gw, made = one
    got = gw.send(b"GET /slow HTTP/1.1\r\nHost: a")
    assert got.startswith(b"HTTP/1.1 408 ") and b"\r\nconnection: close\r\n" in got.lower()
    assert not made.requests


def test_slow_request_body_is_408(one) -> None:
    gw, made = one
    got = gw.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    assert got.startswith(b"HTTP/1.1 408 ")
    assert not made.requests


def test_trickled_head_is_408(one) -> None:
    """The time for a head is absolute: bytes that keep coming do not prolong it."""
    gw, _ = one
    stream = gw.connect()
    start = time.monotonic()
    stream.sock.settimeout(0.05)
    got = b""
    while not got and time.monotonic() - start < 10:
        stream.send(b"X")
        try:
            got = stream.sock.recv(4096)
        except TimeoutError:
            continue
    assert got.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
    stream.close()


def test_idle_connection_is_closed_without_a_word(one) -> None:
    gw, _ = one
    stream = gw.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().status == 200
    assert stream.at_end()
    stream.close()


def test_client_that_takes_nothing_is_dropped(one) -> None:
    gw, made = one
    made.on("/big", b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
    sock = socket.create_connection(("127.0.0.1", gw.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: made.seen("/big"))
    until(lambda: not made.open, 15)
    sock.close()


def named(name: str, port: int, *hosts: str, kind: str = "FQDN", port_name: str = "") -> dict:
    """An EndpointSlice of the Service `s`."""
    return {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "s"}),
            "addressType": kind, "ports": [{"port": port, "name": port_name}], "endpoints": [{"addresses": [one]} for one in hosts]}


def answering(gw) -> set[str]:
    return {json.loads(gw.get().body)["backend"] for _ in range(60)}


def test_slices_of_names_are_looked_up_each_with_its_port(run, backend) -> None:
    """Alone, beside addresses, and beside a name that resolves to nothing, which is told and takes nothing from the others."""
    a, b, c = backend("a"), backend("b"), backend("c")
    service_s = resource("Service", "s", {"ports": [{"port": 80}]}, "v1")
    gw = run(gateway(free_port()), service_s, route("r", rule("s")), named("s-1", a.port, "localhost"), named("s-2", b.port, "localhost"))
    until(lambda: answering(gw) == {"a", "b"})
    gw.write("more.yaml", named("s-3", c.port, "127.0.0.1", kind="IPv4"), named("s-4", 9, "nowhere.invalid"))
    until(lambda: answering(gw) == {"a", "b", "c"})
    until(lambda: "an endpoint's name resolves to nothing" in gw.errors())
    assert gw.metrics()["gwfast_backends_without_endpoints"] == 0
    gw.write("all.yaml", gateway(gw.port), service_s, route("r", rule("s")))
    until(lambda: answering(gw) == {"c"})
    gw.write("more.yaml", named("s-4", 9, "nowhere.invalid"))
    gw.serves("/", 503)
    until(lambda: gw.metrics()["gwfast_backends_without_endpoints"] == 1)


def test_the_target_port_of_a_service_without_slices_is_dialled(run, backend) -> None:
    made = backend("one")
    spec = {"clusterIP": "None", "ports": [{"port": 80, "targetPort": made.port}]}
    gw = run(gateway(free_port()), resource("Service", "localhost", spec, "v1"), route("r", rule("localhost")))
    gw.serves("/")


def test_a_port_that_leads_nowhere_is_told(run, backend) -> None:
    made = backend("one")
    spec = {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    gw = run(gateway(free_port()), resource("Service", "s", spec, "v1"), route("r", rule("s")),
             named("s-1", made.port, "127.0.0.1", kind="IPv4", port_name="https"))
    gw.serves("/", 503)
    until(lambda: "no EndpointSlice has a port named http: s-1 has https" in gw.errors())
    until(lambda: gw.metrics()["gwfast_backends_without_endpoints"] == 1)
    assert gw.metrics()['gwfast_problems{severity="warning"}'] == 1
    gw.write("all.yaml", gateway(gw.port), resource("Service", "s", spec, "v1"), route("r", rule("s")),
             named("s-1", made.port, "127.0.0.1", kind="IPv4", port_name="http"))
    gw.serves("/")
    until(lambda: gw.metrics()["gwfast_backends_without_endpoints"] == 0)


def test_names_without_slices_are_found_in_dns(run, backend) -> None:
    """A Service that is not in the files: its name is looked up, here 'localhost'."""
    made = backend("dns")
    gw = run(gateway(free_port()), route("r", rule({"name": "localhost", "port": made.port})),
             options=("--dns-template", "{name}"))
    assert names([gw.serves("/")]) == ["dns"]


def test_external_name(run, backend) -> None:
    made = backend("external")
    external = resource("Service", "s", {"type": "ExternalName", "externalName": "localhost",
                                         "ports": [{"port": made.port}]}, "v1")
    gw = run(gateway(free_port()), external, route("r", rule({"name": "s", "port": made.port})))
    assert names([gw.serves("/")]) == ["external"]


def test_name_that_does_not_resolve_is_503(run) -> None:
    gw = run(gateway(free_port()), route("r", rule("no-such-name-anywhere")), options=("--dns-template", "{name}.invalid"))
    assert gw.get().status == 503


def test_ipv6_backend(run, backend) -> None:
    made = backend("six", address="::1")
    gw = run(gateway(free_port()), service("s", made), route("r", rule("s")))
    assert names([gw.get()]) == ["six"]


def test_endpoints_share_the_load(run, backend) -> None:
    made = [backend(f"e{n}") for n in range(3)]
    gw = run(gateway(free_port()), service("s", *made), route("r", rule("s")))
    got = names([gw.get() for _ in range(60)])
    assert set(got) == {"e0", "e1", "e2"}


def test_busy_endpoint_is_avoided(run, backend) -> None:
    """Power of two choices on outstanding requests: while one endpoint holds requests, the other gets the new ones."""
    slow, quick = backend("slow"), backend("quick")
    go_on = threading.Event()
    slow.on("/hold", wait(go_on), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    quick.on("/hold", wait(go_on), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    gw = run(gateway(free_port()), service("s", slow, quick), route("r", rule("s")))
    held = [gw.connect() for _ in range(8)]
    for stream in held:
        stream.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: len(slow.seen("/hold")) + len(quick.seen("/hold")) == 8)
    assert (len(slow.seen("/hold")), len(quick.seen("/hold"))) == (4, 4)
    go_on.set()
    for stream in held:
        assert stream.response().status == 200
        stream.close()


def test_bad_backend_never_makes_a_bad_answer(run, backend) -> None:
    """Whatever one backend does, the client reads whole answers (Dirty would be raised)."""
    bad = backend("bad")
    bad.on("/", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    gw = run(gateway(free_port()), service("s", bad), route("r", rule("s")))
    stream = gw.connect()
    for _ in range(5):
        stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert stream.response().status == 502
        except Dirty as dirty:
            raise AssertionError(dirty) from None
    stream.close()
