"""timeouts and retry of rules and XBackendTrafficPolicy, from YAML to what clients see and backends get, over reloads too."""
import threading

import pytest
from support.backend import wait
from support.gateway import free_port, gateway, resource, route, rule, service, until
from support.waiting import elapse

from gwfast.config.model import EXPERIMENTAL_GROUP

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
VERSION = "X-Version"


def traffic(**constraint) -> dict:
    return resource("XBackendTrafficPolicy", "budget", {
        "targetRefs": [{"group": "", "kind": "Service", "name": "one"}], "retryConstraint": constraint},
        api=f"{EXPERIMENTAL_GROUP}/v1alpha1")


def versioned(version: str) -> dict:
    """A rule whose responses tell that this configuration is served."""
    told = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": VERSION, "value": version}]}}
    return rule("one", path="/version", filters=[told])


@pytest.mark.parametrize(("timeouts", "status"), [
    ({"request": "200ms"}, 504), ({"backendRequest": "200ms"}, 504), ({"request": "0s"}, 200), ({"request": "30s"}, 200),
    ({}, 504), (None, 504),
], ids=str)
def test_timeouts(run, backend, timeouts, status):
    made, answered = backend("one"), threading.Event()
    made.on("/slow", wait(answered), OK, close=False)
    one = rule("one") | ({} if timeouts is None else {"timeouts": timeouts})
    gw = run(gateway(free_port()), service("one", made), route("r", one), options=("--response-timeout", "400ms"))
    stream = gw.connect()
    stream.send(b"GET /slow HTTP/1.1\r\nHost: any.example\r\n\r\n")
    if status == 200:  # longer than the gateway's own limit
        elapse(1)
        answered.set()
    assert stream.response().status == status
    answered.set()
    stream.close()


def test_a_budget_is_that_of_the_policy_and_changes_with_it(run, backend):
    made = backend("one")
    made.on("/retry", UNAVAILABLE, close=False)
    retry = {"codes": [503], "attempts": 5, "backoff": "1ms"}
    gw = run(gateway(free_port()), service("one", made))

    def serve(version: str, *policies: dict) -> None:
        gw.write("route.yaml", route("r", rule("one", path="/retry") | {"retry": retry}, versioned(version)), *policies)
        until(lambda: gw.get("/version").fields.get(VERSION) == version)

    def attempts() -> int:
        before = len(made.seen("/retry"))
        assert gw.get("/retry").status == 503
        return len(made.seen("/retry")) - before

    hour = {"interval": "1h"}
    serve("two in an hour", traffic(budget={"percent": 0}, minRetryRate={"count": 2, **hour}))
    assert [attempts(), attempts()] == [3, 1]
    serve("four in an hour", traffic(budget={"percent": 0}, minRetryRate={"count": 4, **hour}))
    assert [attempts(), attempts()] == [3, 1]  # what was spent stays spent
    serve("all of them", traffic(budget={"percent": 100}, minRetryRate={"count": 1000, **hour}))
    assert attempts() == 6
    serve("nothing is said")
    elapse(1.1)  # 10 a second
    assert attempts() == 6


def test_a_retry_goes_to_another_endpoint(run, backend):
    broken, fine = backend("broken"), backend("fine")
    broken.on("/retry", UNAVAILABLE, close=False)
    one = rule("one") | {"retry": {"codes": [503], "attempts": 1, "backoff": "1ms"}}
    gw = run(gateway(free_port()), service("one", broken, fine), route("r", one))
    for _ in range(10):
        assert gw.get("/retry").status == 200
    assert len(fine.seen("/retry")) == 10
    assert gw.metrics()["gwfast_upstream_retries_total"] == len(broken.seen("/retry"))


def test_attempts_0_is_one_connection(run, backend) -> None:
    """`attempts: 0` disables what is tried again unnoticed too; without a stanza another endpoint is tried."""
    refusing = free_port()
    for retry, expected in (({"retry": {"attempts": 0}}, {200, 503}), ({}, {200})):
        one = backend("one")
        gone = [resource("Service", "svc", {"ports": [{"port": 80}]}), *[
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
             "metadata": {"name": f"svc-{port}", "labels": {"kubernetes.io/service-name": "svc"}},
             "ports": [{"port": port}], "endpoints": [{"addresses": ["127.0.0.1"]}]} for port in (one.port, refusing)]]
        gw = run(gateway(free_port()), *gone, route("r", rule("svc") | retry))
        assert {gw.get("/").status for _ in range(20)} == expected
