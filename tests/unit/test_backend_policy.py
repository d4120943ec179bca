"""BackendPolicy: what several fields say together is checked, and what becomes of endpoints is told."""
import msgspec
import pytest

from gwfast.config import model
from gwfast.endpoints.health import Health, Standing


@pytest.mark.parametrize(("spec", "fields"), [
    ({"healthCheck": {"passive": {}}}, []),
    ({"healthCheck": {"passive": {"baseEjectionTime": "0s"}}}, ["spec.healthCheck.passive.baseEjectionTime"]),
    ({"healthCheck": {"active": {"type": "TCP", "http": {}}}}, ["spec.healthCheck.active.http"]),
    ({"healthCheck": {"active": {"type": "HTTP", "http": {"path": "/ready?full=1"}}}}, []),
    ({"healthCheck": {"active": {"type": "HTTP", "grpc": {}}}}, ["spec.healthCheck.active.grpc"]),
    ({"healthCheck": {"active": {"type": "GRPC", "grpc": {}, "interval": "25h"}}}, ["spec.healthCheck.active.interval"]),
    ({"slowStart": {"window": "1ms"}}, ["spec.slowStart.window"]),
    ({"circuitBreaker": {"perEndpoint": {"maxParallelRequests": 1}, "pendingTimeout": "0s"}},
     ["spec.circuitBreaker.pendingTimeout"]),
], ids=["passive", "no time", "http of TCP", "query", "grpc of HTTP", "too long", "too short", "no wait"])
def test_fields_together(spec, fields):
    spec["targetRefs"] = [{"group": "", "kind": "Service", "name": "s"}]
    policy = msgspec.convert({"kind": "BackendPolicy", "metadata": {"name": "p"}, "spec": spec}, model.BackendPolicy)
    assert [each.field for each in policy.validate()] == fields


def test_each_change_is_told_once():
    told, cells = [], []
    unhealthy = {}
    health = Health(lambda places: [each for each in cells if each[0] in {slot for slot, _ in places}], unhealthy,
                    lambda what, **facts: told.append((what, facts["endpoint"])))
    assert health.read() == {}
    health.follow({"n/b:80/http": {"a:1": (0, 1), "a:2": (1, 2)}})
    cells.append((1, 2.5, 1))
    assert health.read() == health.read() == {"n/b:80/http": Standing(2, {"a:2": 2.5}, {})}
    cells[0] = (1, 5.0, 2)
    health.read()
    cells.clear()
    assert health.read() == {"n/b:80/http": Standing(2, {}, {})}
    out, back = "an endpoint failed and is out", "an endpoint is back"
    assert told == [(out, "a:2"), (out, "a:2"), (back, "a:2")]
    told.clear()
    unhealthy[1, 2] = "it answered 500"
    assert health.read() == health.read() == {"n/b:80/http": Standing(2, {}, {"a:2": "it answered 500"})}
    cells.append((1, 2.5, 3))                # out for both reasons: it is one endpoint, and back when neither holds
    assert health.read()["n/b:80/http"].healthy == 1
    unhealthy.clear()
    health.read()
    cells.clear()
    assert health.read()["n/b:80/http"].healthy == 2
    assert told == [("an endpoint is unhealthy and out", "a:2"), (out, "a:2"), (back, "a:2")]
