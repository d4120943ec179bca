# ruff: noqa: E501 (lines as they are printed)
"""What check, routes and explain say of a BackendPolicy's health checks."""
import json

import pytest

from gwfast.cli import main
from gwfast.graph.model import Active, Passive, TargetPolicy
from gwfast.plan.dump import health_words

CONFIG = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: any, listeners: [{name: web, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: api, port: 80}, {name: plain, port: 80}]}]
---
apiVersion: gwfast.dev/v1alpha1
kind: BackendPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: "", kind: Service, name: api}]
  healthCheck:
    passive: {consecutiveFailures: 1}
    active: {type: HTTP, http: {path: /healthz, expectedStatuses: [200, 204]}}
"""
PROBED = "probed every 3 s: GET /healthz (200, 204) in 1 s; out after 3 failures in a row, back after 1 success (BackendPolicy default/p)"
EJECTED = "out after 1 failure, for 30 s and more, 10 % of the endpoints at most (BackendPolicy default/p)"


@pytest.fixture
def said(capsys, tmp_path):
    """What a verb prints of CONFIG."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)

    def ask(verb: str, *more: str) -> str:
        assert main([verb, str(file), *more]) == 0
        return capsys.readouterr().out
    return ask


def test_explain(said):
    text = said("explain", "GET", "http://x/")
    assert [line.strip() for line in text.splitlines()[-4:]] == [
        "gets          50 %  default/api:80   DNS api.default or api, port 80", PROBED, EJECTED,
        "gets          50 %  default/plain:80   DNS plain.default or plain, port 80"]
    first, second = json.loads(said("explain", "GET", "http://x/", "-o", "json"))[0]["shares"]
    assert first["changes"] == [PROBED, EJECTED] and "changes" not in second


def test_routes(said):
    lines = [line.strip() for line in said("routes").splitlines()]
    assert lines[lines.index(PROBED) + 1] == EJECTED
    policy = json.loads(said("routes", "-o", "json"))["backends"]["default/api:80/http"]["policy"]
    assert policy["active"] == {"type": "HTTP", "intervalMs": 3000, "timeoutMs": 1000, "unhealthyThreshold": 3, "healthyThreshold": 1,
                                "http": {"method": "GET", "path": "/healthz", "expectedStatuses": [200, 204]}}


def test_check(said):
    assert "NotServed" not in said("check") and said("check").endswith("\n2 notes\n")  # Services that are not there


@pytest.mark.parametrize(("active", "words"), [
    (Active(type="TCP", interval_ms=500, timeout_ms=250, unhealthy=1, healthy=2),
     "probed every 0.5 s: a connection in 0.25 s; out after 1 failure, back after 2 successes in a row (BackendPolicy n/p)"),
    (Active(type="GRPC", interval_ms=3000, timeout_ms=1000, unhealthy=3, healthy=1),
     "probed every 3 s: grpc.health.v1 of the server in 1 s; out after 3 failures in a row, back after 1 success (BackendPolicy n/p)"),
    (Active(type="GRPC", interval_ms=3000, timeout_ms=1000, unhealthy=3, healthy=1, service="a.B"),
     "probed every 3 s: grpc.health.v1 of a.B in 1 s; out after 3 failures in a row, back after 1 success (BackendPolicy n/p)"),
    (Active(type="HTTP", interval_ms=3000, timeout_ms=1000, unhealthy=3, healthy=1, hostname="h.example", method="HEAD"),
     "probed every 3 s: HEAD / of h.example (200) in 1 s; out after 3 failures in a row, back after 1 success (BackendPolicy n/p)"),
], ids=["TCP", "GRPC", "GRPC service", "HTTP host"])
def test_words(active, words):
    assert health_words(TargetPolicy(name="n/p", active=active)) == [words]


def test_nothing_to_say():
    assert health_words(None) == health_words(TargetPolicy(name="n/p")) == []
    assert len(health_words(TargetPolicy(name="n/p", passive=Passive(failures=1, ejection_ms=1, percent=1)))) == 1
