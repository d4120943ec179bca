"""What v1.7.0 of the Gateway API added, in a cluster with its CRDs, as install.yaml has gwfast: XBackend, filters of listeners,
XTelemetryPolicy, and the names of features; with the rights that are installed.
"""
from collections.abc import Iterator

import binaries
import pytest

from cluster import Cluster
from conftest import require_cluster
from installed import BACKEND, address, install_yaml, logs

KINDS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: my-gateway}
spec:
  gatewayClassName: gwfast
  listeners:
  - name: web
    protocol: HTTP
    port: 80
    filters: {requests: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: auth, port: 80}}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: my-route}
spec:
  parentRefs: [{name: my-gateway}]
  rules: [{retry: {codes: [503]}, backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: pods}]}]
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: pods}
spec:
  type: EndpointSelector
  port: {number: 3000}
  endpointSelector: {matchLabels: {app: api}}
  sessionPersistence: {cookie: {name: pod, path: /api}}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XTelemetryPolicy
metadata: {name: traced}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: my-gateway}]
  tracing: {mode: Enabled, provider: {backendRef: {name: collector, port: 4317}}}
---
apiVersion: v1
kind: Service
metadata: {name: auth}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 3000}]}
---
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    require_cluster()
    try:
        binaries.crds("experimental", "v1.7.0")
    except (RuntimeError, OSError) as error:
        pytest.skip(f"the CRDs of v1.7.0 cannot be had: {error}")
    with Cluster() as cluster:
        cluster.install_crds(version="v1.7.0")
        yield cluster


def said(conditions: list[dict]) -> dict[str, str]:
    return {one["type"]: f"{one['status']}/{one['reason']}" for one in conditions}


def ancestors(cluster: Cluster, kind: str, name: str) -> list[dict[str, str]]:
    status = (cluster.get(kind, name) or {}).get("status", {})
    return [said(one["conditions"]) for one in status.get("ancestors", ()) if one["controllerName"].startswith("gwfast.dev/")]


def listener(cluster: Cluster) -> dict[str, str]:
    found = cluster.get("Gateway", "my-gateway").get("status", {}).get("listeners") or [{"conditions": []}]
    return said(found[0]["conditions"])


def test_what_1_7_added(cluster: Cluster) -> None:
    install_yaml(cluster)
    cluster.apply(BACKEND + KINDS)
    host = address(cluster, "my-gateway")
    cluster.wait_for(lambda: cluster.http(host, 80, "/api").status == 200, "the Pod to be served", 60)
    cluster.wait_for(lambda: "; Path=/api;" in cluster.http(host, 80, "/api").headers["set-cookie"], "the cookie to have its path")
    cluster.wait_for(lambda: ancestors(cluster, "XBackend", "pods") == [{"Accepted": "True/Accepted"}], "the status of the XBackend", 60)
    wanted = [{"Accepted": "False/Invalid", "ResolvedRefs": "False/BackendNotFound"}]
    cluster.wait_for(lambda: ancestors(cluster, "XTelemetryPolicy", "traced") == wanted, "the status of the XTelemetryPolicy", 60)
    cluster.wait_for(lambda: listener(cluster).get("ResolvedRefs") == "True/ResolvedRefs", "the filter to lead to the Service", 60)
    names = cluster.wait_for(lambda: {one["name"] for one in cluster.get("GatewayClass", "gwfast", "")["status"]["supportedFeatures"]},
                             "the features of the class")
    assert "HTTPRouteRetryCodes" in names and "HTTPRouteRetry" not in names

    cluster.kubectl("delete", "service", "auth")
    cluster.wait_for(lambda: listener(cluster)["ResolvedRefs"] == "False/InvalidListenerFilterRef", "the filter to lead nowhere", 60)
    cluster.wait_for(lambda: cluster.http(host, 80, "/api").status == 500, "requests to be refused", 60)
    cluster.kubectl("delete", "xbackend", "pods")
    cluster.wait_for(lambda: any("BackendNotFound" in words for parent in cluster.get("HTTPRoute", "my-route")["status"]["parents"]
                                 for words in said(parent["conditions"]).values()), "the route to tell", 60)
    told = logs(cluster)
    assert "orbidden" not in told and "Traceback" not in told, told
