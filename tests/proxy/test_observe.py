"""What people and machines see: X-Forwarded fields, the access log, /metrics, /readyz, /config."""
import json
import re
import socket
import ssl
import time

import h2.config
import h2.connection
import h2.events
import pytest
from support.gateway import free_port, gateway, route, rule, service, until
from support.tls import HOST, authority, https, secret, trusting

UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
SPOOFED = {"x_forwarded_for": "6.6.6.6", "x_forwarded_proto": "https", "x_forwarded_host": "evil.example",
           "x_real_ip": "6.6.6.6", "forwarded": "for=6.6.6.6", "x_forwarded_port": "444"}


def received(gw, **fields: str) -> dict[str, str]:
    """Fields as the backend got them, lower-case names."""
    answer = json.loads(gw.get("/", host="a.example:81", **fields).body)
    names = {name.lower() for name, _ in answer["fields"]}
    return {n: ", ".join(v for name, v in answer["fields"] if name.lower() == n) for n in names}


@pytest.fixture
def make(run, backend):
    def make(*options: str):
        return run(gateway(free_port()), service("one", backend("one")), route("r", rule("one")), options=options)
    return make


def test_forwarded_fields_are_ours(make) -> None:
    got = received(make(), **SPOOFED, x_request_id="mine")
    assert (got["x-forwarded-for"], got["x-forwarded-proto"], got["x-forwarded-host"]) == (
        "127.0.0.1", "http", "a.example:81")
    assert not {"forwarded", "x-real-ip", "x-forwarded-port"} & got.keys()
    assert re.fullmatch(UUID, got["x-request-id"])
    assert "via" not in got


def test_forwarded_fields_of_a_trusted_peer_are_kept(make) -> None:
    got = received(make("--trusted-proxies", "127.0.0.0/8,::1"), **SPOOFED, x_request_id="mine")
    assert got["x-forwarded-for"] == "6.6.6.6, 127.0.0.1"
    assert (got["x-forwarded-proto"], got["x-forwarded-host"], got["x-request-id"]) == ("https", "evil.example", "mine")


def test_other_trusted_peers_are_not_this_one(make) -> None:
    assert received(make("--trusted-proxies", "10.0.0.0/8"), **SPOOFED)["x-forwarded-for"] == "127.0.0.1"


def test_request_ids_differ(make) -> None:
    gw = make()
    ids = {received(gw)["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_via(make) -> None:
    assert received(make("--via", "edge"), via="1.0 fred")["via"] == "1.0 fred, 1.1 edge"


def test_access_log_json(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", {"name": "first", **rule(path="/none")}, rule("one", path="/x")))
    gw.get("/x/y?q=\"1\"", host="a.example", user_agent='odd "agent" \\ \t here', referer="http://b.example/")
    gw.get("/none")
    gw.get("/missing")
    gw.send(b"BAD\r\n\r\n")
    until(lambda: len(gw.log()) >= 4)
    served, none, missing, bad = gw.log()
    assert (served["method"], served["host"], served["target"], served["status"]) == ("GET", "a.example", '/x/y?q="1"', 200)
    assert (served["route"], served["rule"], served["backend"]) == ("default/r", 1, "default/one:80")
    assert served["endpoint"] == f"127.0.0.1:{made.port}"
    assert served["client"].startswith("127.0.0.1")
    assert served["user_agent"] == 'odd "agent" \\ \t here'
    assert served["referer"] == "http://b.example/"
    assert served["flags"] == "-"
    assert 0 <= served["upstream_ms"] <= served["duration_ms"] < 60_000
    assert served["bytes_out"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", served["time"])
    assert (none["status"], none["flags"], none["route"]) == (500, "invalid_backend", "default/r")
    assert (missing["status"], missing["flags"], "route" in missing) == (404, "no_route", False)
    assert (bad["status"], bad["flags"]) == (400, "bad_request")


def ask_over_http2(client, path: str) -> None:
    """One request on a connection of its own, until it is answered."""
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    protocol.initiate_connection()
    protocol.send_headers(1, [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)], end_stream=True)
    events = []
    while not any(isinstance(event, h2.events.StreamEnded) for event in events):
        client.sendall(protocol.data_to_send())
        data = client.recv(65536)
        assert data
        events += protocol.receive_data(data)


def ask_over_http1(client, path: str) -> None:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    while client.recv(65536):
        pass


@pytest.mark.parametrize(("protocol", "ask"), [("http/1.1", ask_over_http1), ("h2", ask_over_http2)], ids=["1.1", "2"])
@pytest.mark.parametrize(("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")], ids=str)
def test_access_log_of_tls(run, backend, version, name, protocol, ask) -> None:
    """Version and cipher, of what is served and of what is refused; nothing of the kind in clear."""
    port, plain = free_port(), free_port()
    gw = run(gateway(https(port), plain), secret(HOST, *authority().certificate(HOST)), service("one", backend("one")),
             route("r", rule("one")))
    context = trusting(authority().pem, protocol)
    context.minimum_version = context.maximum_version = version
    for path in ("/", "/%00"):
        with socket.create_connection(("127.0.0.1", port), 10) as under, context.wrap_socket(under, server_hostname=HOST) as client:
            cipher = client.cipher()[0]
            ask(client, path)
    gw.get("/", port=plain)
    served, refused, clear = until(lambda: len(gw.log()) == 3 and gw.log())
    assert {(line["tls_version"], line["tls_cipher"]) for line in (served, refused)} == {(name, cipher)}
    assert (refused["status"], refused["flags"], refused["reason"]) == (400, "bad_request", "bad_target")
    assert not {"tls_version", "tls_cipher", "reason", "referer"} & clear.keys()


def test_access_log_common(run, backend) -> None:
    gw = run(gateway(free_port()), service("one", backend("one")), route("r", rule("one")), options=("--access-log", "common"))
    gw.get("/x?q=\"1\"", user_agent='odd "agent"', referer="http://b.example/")
    until(lambda: gw.out.read_text())
    line, = gw.out.read_text().splitlines()
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /x\?q=\S+ HTTP/1\.1" 200 \d+ '
                        r'"http://b\.example/" "odd .{1,4}agent.{1,4}"', line), line


def test_access_log_off(make) -> None:
    gw = make("--access-log", "off")
    gw.get()
    gw.stop()
    assert gw.out.read_text() == ""


def test_access_log_is_whole_after_the_end(run, backend) -> None:
    """Batches that are not yet written are written when the gateway ends."""
    gw = run(gateway(free_port()), service("one", backend("one")), route("r", rule("one")), options=("--workers", "2"))
    for n in range(30):
        gw.get(f"/{n}")
    gw.stop()
    assert sorted(int(entry["target"][1:]) for entry in gw.log()) == list(range(30))


def test_metrics(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one", path="/x"), rule(path="/none")))
    stream = gw.connect()
    for _ in range(10):
        stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.response().status == 200
    stream.close()
    gw.get("/none")
    gw.get("/missing")
    until(lambda: gw.metrics()["gwfast_requests_open"] == 0)  # an answer is counted when it has been sent
    got = gw.metrics()
    label = 'kind="HTTPRoute",route="default/r"'
    assert got[f'gwfast_route_requests_total{{{label},code="2xx"}}'] == 10
    assert got[f'gwfast_route_requests_total{{{label},code="5xx"}}'] == 1
    assert got[f"gwfast_route_duration_seconds_count{{{label}}}"] == 11
    assert got[f'gwfast_route_duration_seconds_bucket{{{label},le="+Inf"}}'] == 11
    assert got["gwfast_requests_total"] == 12
    assert (got["gwfast_connections_total"], got["gwfast_requests_open"]) == (3, 0)
    assert got["gwfast_upstream_connects_total"] == 1
    assert got["gwfast_upstream_reused_total"] == 9
    assert got["gwfast_upstream_idle"] == 1
    assert got['gwfast_faults_total{fault="no_route"}'] == 1
    assert got["gwfast_reloads_total"] >= 1
    assert got["gwfast_ready"] == 1
    assert any(name.startswith("gwfast_build_info{") for name in got)
    until(lambda: gw.metrics()["gwfast_connections_open"] == 0)


def test_metrics_of_backends(run, backend) -> None:
    """By the class that clients saw; time until the response began, also of what came back as an error."""
    one, two = backend("one"), backend("two")
    two.on("/two", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    gw = run(gateway(free_port()), service("one", one), service("two", two), service("down"),
             route("r", rule("one", path="/one"), rule("two", path="/two"), rule("down", path="/down")))
    for path, times in (("/one", 3), ("/two", 2), ("/down", 1), ("/nowhere", 1)):
        for _ in range(times):
            gw.get(path)
    until(lambda: gw.metrics()["gwfast_requests_open"] == 0)
    got = {name.removeprefix("gwfast_backend_"): n for name, n in gw.metrics().items() if name.startswith("gwfast_backend_re") and "bucket" not in name}
    sums = {name: got.pop(name) for name in list(got) if "_sum" in name}
    assert got == {'requests_total{backend="default/one:80/http",code="2xx"}': 3, 'requests_total{backend="default/two:80/http",code="5xx"}': 2,
                   'requests_total{backend="default/down:80/http",code="5xx"}': 1,
                   'response_seconds_count{backend="default/one:80/http"}': 3, 'response_seconds_count{backend="default/two:80/http"}': 2,
                   'response_seconds_count{backend="default/down:80/http"}': 0}
    assert all(0 < n < 60 for name, n in sums.items() if "down" not in name)


def test_metrics_of_processes(make) -> None:
    gw = make("--workers", "2")
    got = gw.metrics()
    assert {*re.findall(r'process="(.*?)"', " ".join(got))} == {"supervisor", "worker-0", "worker-1"}
    names = {"supervisor", "worker-0", "worker-1"}
    assert {name for name in names if got[f'process_resident_memory_bytes{{process="{name}"}}'] > 1 << 20} == names
    assert {name for name in names if 0 < got[f'process_open_fds{{process="{name}"}}'] < got[f'process_max_fds{{process="{name}"}}']} == names


def test_routes_beyond_the_option_are_counted_together(run, backend) -> None:
    gw = run(gateway(free_port()), service("one", backend("one")), *(route(f"r-{n}", rule("one", path=f"/{n}")) for n in range(5)),
             options=("--route-metrics", "2"))
    for n in range(5):
        gw.get(f"/{n}")
    until(lambda: gw.metrics()["gwfast_requests_open"] == 0)
    got = gw.metrics()
    rows = {name: n for name, n in got.items() if name.startswith("gwfast_route_requests_total")}
    assert sorted(rows.values()) == [1, 1, 3] and rows['gwfast_route_requests_total{kind="",route="other",code="2xx"}'] == 3
    assert got["gwfast_routes_uncounted"] == 3
    assert "some routes have no metrics of their own" in gw.errors() and "--route-metrics 2" in gw.errors()


def test_broken_files_are_failures_of_reloads(make) -> None:
    """Each that cannot be decoded, once for each time that it was written; what is right beside them is served."""
    gw = make()
    assert gw.metrics()["gwfast_reload_failures_total"] == 0

    def failures(n: int):
        return until(lambda: gw.metrics()["gwfast_reload_failures_total"] == n)
    (gw.folder / "broken.yaml").write_text("kind: [")
    failures(1)
    assert gw.get("/").status == 200 and gw.ask("/readyz")[0] == 200
    (gw.folder / "broken.yaml").write_text("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x}\nspec: {rules: 5}\n")
    failures(2)
    gw.write("good.yaml", route("good", rule("one", path="/good")))
    gw.serves("/good")
    assert gw.metrics()["gwfast_reload_failures_total"] == 2        # the broken one was not looked at again
    assert time.time() - 60 < gw.metrics()["gwfast_reload_timestamp_seconds"] <= time.time() + 1


def test_metrics_survive_a_reload(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one", path="/r")))
    gw.get("/r")
    gw.write("more.yaml", route("another", rule("one", path="/another")))
    gw.write("more-2.yaml", route("a-third", rule("one", path="/third")))
    gw.serves("/third")
    gw.get("/another")
    got = {name: n for name, n in gw.metrics().items() if name.startswith("gwfast_route_requests_total") and "2xx" in name}
    assert sum(n for name, n in got.items() if '"default/r"' in name) >= 1
    assert sum(n for name, n in got.items() if '"default/another"' in name) == 1


def test_a_route_in_the_place_of_another_is_counted_from_zero(run, backend) -> None:
    gw = run(gateway(free_port()), service("one", backend("one")))
    for name, asked in (("first", 3), ("second", 1), ("third", 2)):  # freed slots are used again
        gw.write("route.yaml", route(name, rule("one", path=f"/{name}")))
        gw.serves(f"/{name}")
        for _ in range(asked - 1):
            gw.get(f"/{name}")
        expected = {f'gwfast_route_requests_total{{kind="HTTPRoute",route="default/{name}",code="2xx"}}': asked}
        until(lambda: expected == {  # an answer is counted when it has been sent  # noqa: B023
            key: n for key, n in gw.metrics().items() if key.startswith("gwfast_route_requests_total") and "2xx" in key})


def test_pages(make) -> None:
    gw = make()
    assert gw.ask("/healthz") == (200, "ok\n")
    assert gw.ask("/readyz")[0] == 200
    plan = json.loads(gw.ask("/config")[1])
    assert plan["binds"][0]["port"] == gw.port
    assert gw.ask("/nothing")[0] == 404


def test_ready_only_when_a_table_serves(run) -> None:
    """/readyz is 503 until the first table serves."""
    gw = run(gateway(free_port()), ready=False)

    def answered() -> int:
        try:
            return gw.ask("/readyz")[0]
        except OSError:
            return 0
    assert until(answered) in (200, 503)
    until(lambda: answered() == 200)
