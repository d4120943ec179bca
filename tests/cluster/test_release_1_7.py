"""What v1.7.0 of the Gateway API added, in a cluster with its CRDs, as install.yaml has gwfast: XBackend and the Pods that it selects,
filters of listeners, XTelemetryPolicy, and the names of features; with the rights that are installed.
"""
import json
from collections.abc import Callable

import binaries
import pytest
import yaml

from cluster import Cluster
from installed import BACKEND, GATEWAY, SYSTEM, address, install, install_yaml, logs, needs_helm

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
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    try:
        binaries.crds("experimental", "v1.7.0")
    except (RuntimeError, OSError) as error:
        pytest.skip(f"the CRDs of v1.7.0 cannot be had: {error}")
    made = new_cluster()
    made.install_crds(version="v1.7.0")
    return made


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


# ---- Pods that an XBackend selects


XBACKENDS = "xbackends.gateway.networking.x-k8s.io"
SELECTING = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: %s}
spec: {type: EndpointSelector, port: {number: 3000}, endpointSelector: {matchLabels: %s}}
---
"""
SELECTED_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: my-gateway}]
  rules:
  - matches: [{path: {value: /%s}}]
    backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: %s}]
---
"""


def pod(name: str, ready: bool = True, **labels: str) -> str:
    probe = {"tcpSocket": {"port": 3000}} if ready else {"exec": {"command": ["false"]}, "periodSeconds": 1}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {
        "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "echo", "image": "echo-basic", "env": [{"name": "POD_NAME", "value": name}, {"name": "NAMESPACE", "value": "default"}],
            "readinessProbe": probe}]}}) + "---\n"


def answering(cluster: Cluster, host: str, path: str, port: int = 80) -> set[str]:
    """Who answers, asked often enough that all of a few have been; the status where nobody does."""
    answers = [cluster.http(host, port, path) for _ in range(24)]
    return {json.loads(one.body)["pod"] if one.status == 200 else str(one.status) for one in answers}


def services(cluster: Cluster, backend: str) -> list[dict]:
    """The Services that an XBackend owns."""
    return [each for each in cluster.objects("Service", "default")
            if [(one["kind"], one["name"]) for one in each["metadata"].get("ownerReferences") or ()] == [("XBackend", backend)]]


def follow_pods(cluster: Cluster, host: str, port: int = 80) -> None:
    """No Service of the user has the selector: what the XBackend says is what is served, from the first Pod to its end."""
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"one"}, "the Pod that is ready to be served", 120)
    (service,) = services(cluster, "pods")
    name, spec = service["metadata"]["name"], service["spec"]
    assert service["metadata"]["generateName"] == "pods-" and name != "pods" and spec["clusterIP"] == "None"
    assert (spec["selector"], spec["ports"][0]["targetPort"]) == ({"app": "first", "tier": "web"}, 3000) and not spec.get("publishNotReadyAddresses")

    cluster.apply(pod("two", app="first", tier="web"))
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"one", "two"}, "a Pod that comes")
    cluster.kubectl("delete", "pod", "one")
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"two"}, "a Pod that goes")
    cluster.apply(SELECTING % ("pods", "{app: second}"))
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"other"}, "what is selected now")
    assert [each["metadata"]["name"] for each in services(cluster, "pods")] == [name]

    cluster.apply(SELECTING % ("same", "{app: second}") + SELECTED_ROUTE % ("same", "same", "same"))
    cluster.comes_to(lambda: answering(cluster, host, "/same", port), {"other"}, "two XBackends with one selector")
    cluster.kubectl("delete", "service", name)
    cluster.wait_for(lambda: [each["metadata"]["name"] for each in services(cluster, "pods")] not in ([], [name]), "another Service")
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"other"}, "its endpoints")
    cluster.kubectl("delete", "httproute", "same")
    cluster.wait_for(lambda: not services(cluster, "same"), "what no route leads to any more to go")
    cluster.kubectl("delete", "xbackend", "pods")
    cluster.wait_for(lambda: not services(cluster, "pods"), "its Service to go with it")
    cluster.comes_to(lambda: answering(cluster, host, "/pods", port), {"500"})


PODS = pod("one", app="first", tier="web") + pod("sick", ready=False, app="first", tier="web") + pod("half", app="first") + pod("other", app="second")


def test_an_xbackend_finds_its_pods_by_itself(cluster: Cluster) -> None:
    install_yaml(cluster)
    cluster.apply(PODS + GATEWAY + SELECTED_ROUTE % ("r", "pods", "pods") + SELECTING % ("pods", "{app: first, tier: web}"))
    cluster.wait_for(lambda: cluster.condition("Gateway", "my-gateway", "Programmed") == "True", "the Gateway to be programmed", 120)
    host = cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"]
    follow_pods(cluster, host)
    told = logs(cluster)
    assert "orbidden" not in told and "Traceback" not in told, told


def test_a_leader_that_goes_leaves_services_of_xbackends_as_they_are(cluster: Cluster) -> None:
    """And a Service that finds the same Pods, which others made, is not looked at where it has its own."""
    install_yaml(cluster)
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": "default"}, "spec": {
        "selector": {"app": "first", "tier": "web"}, "publishNotReadyAddresses": True, "ports": [{"port": 80}]}}
    cluster.create(theirs)
    cluster.apply(PODS + GATEWAY + SELECTED_ROUTE % ("r", "pods", "pods") + SELECTING % ("pods", "{app: first, tier: web}"))
    cluster.wait_for(lambda: cluster.condition("Gateway", "my-gateway", "Programmed") == "True", "the Gateway to be programmed", 120)
    host = cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"]
    cluster.comes_to(lambda: answering(cluster, host, "/pods"), {"one"}, "Pods that are ready alone")
    before = [each["metadata"]["uid"] for each in services(cluster, "pods")]
    old = {each["metadata"]["name"] for each in cluster.objects("Pod", SYSTEM) if "controller" in each["metadata"]["name"]}
    cluster.kubectl("delete", "pods", "-n", SYSTEM, *old)
    cluster.wait_for(lambda: not old & {each["metadata"]["name"] for each in cluster.objects("Pod", SYSTEM)}
                     and cluster.get("Deployment", "gwfast-controller", SYSTEM)["status"].get("readyReplicas") == 2, "other controllers", 90)
    cluster.apply(SELECTED_ROUTE % ("r", "moved", "pods"))
    cluster.comes_to(lambda: answering(cluster, host, "/moved"), {"one"}, "what the next leader says")
    assert [each["metadata"]["uid"] for each in services(cluster, "pods")] == before


def test_xbackends_that_come_later_than_the_controller(cluster: Cluster) -> None:
    """Their CRD is not there when the controller begins: what routes name is not found, and then it is; a CRD that goes takes it along."""
    cluster.kubectl("delete", "crd", XBACKENDS)
    install_yaml(cluster)
    cluster.apply(PODS + GATEWAY + SELECTED_ROUTE % ("r", "pods", "pods"))
    cluster.wait_for(lambda: cluster.condition("Gateway", "my-gateway", "Programmed") == "True", "the Gateway to be programmed", 120)
    host = cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"]
    cluster.comes_to(lambda: answering(cluster, host, "/pods"), {"500"}, "nothing to be found")
    (crd,) = [file for file in binaries.crds("experimental", "v1.7.0") if file.stem.endswith("_xbackends")]
    for _ in range(2):
        cluster.apply(crd, "--server-side")
        cluster.kubectl("wait", "--for=condition=Established", "crd", XBACKENDS)
        cluster.wait_for(lambda: cluster.apply(SELECTING % ("pods", "{app: first, tier: web}")), "the kind to be served")
        cluster.comes_to(lambda: answering(cluster, host, "/pods"), {"one"}, "the Pods to be served", 120)
        cluster.comes_to(lambda: len(services(cluster, "pods")), 1, "that of its former namesake to go")
        cluster.kubectl("delete", "crd", XBACKENDS)
        cluster.comes_to(lambda: answering(cluster, host, "/pods"), {"500"}, "nothing to be found any more", 120)


@needs_helm
def test_one_process_makes_services_for_xbackends_with_its_rights(cluster: Cluster) -> None:
    install(cluster, 'mode="one-process"')
    cluster.apply(PODS + GATEWAY + SELECTED_ROUTE % ("r", "pods", "pods") + SELECTING % ("pods", "{app: first, tier: web}"))
    cluster.wait_for(lambda: cluster.condition("Gateway", "my-gateway", "Programmed") == "True", "the Gateway to be programmed", 120)
    follow_pods(cluster, cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"])
    told = logs(cluster)
    assert "orbidden" not in told and "Traceback" not in told, told
    refused = "gwfast writes nothing without its label"
    asked = ("create", "service", "clusterip", "stranger", "--tcp=80", "--dry-run=server", "--as", "system:serviceaccount:gwfast-system:gwfast")
    assert refused in cluster.kubectl(*asked, check=False)


@needs_helm
def test_one_process_that_may_make_none_says_so(cluster: Cluster) -> None:
    install(cluster, 'mode="one-process"', "rbac.endpointSelectors=false")
    cluster.apply(PODS + GATEWAY + SELECTED_ROUTE % ("r", "pods", "pods") + SELECTING % ("pods", "{app: first, tier: web}"))
    cluster.comes_to(lambda: ancestors(cluster, "XBackend", "pods"), [{"Accepted": "False/Pending"}], "why it has no Pods", 120)
    message = cluster.get("XBackend", "pods")["status"]["ancestors"][0]["conditions"][0]["message"]
    assert "the Service that finds its Pods cannot be made" in message and "orbidden" in message
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine", "namespace": "default"},
                    "spec": {"selector": {"app": "first", "tier": "web"}, "ports": [{"port": 80}]}})
    cluster.comes_to(lambda: ancestors(cluster, "XBackend", "pods"), [{"Accepted": "True/Accepted"}], "another Service to find them", 120)
    host = cluster.get("Gateway", "my-gateway")["status"]["addresses"][0]["value"]
    cluster.comes_to(lambda: answering(cluster, host, "/pods"), {"one"})


# ---- Where addresses are reachable from


SCOPED = GATEWAY.replace("  gatewayClassName", "  addresses: [%s]\n  gatewayClassName") + """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: my-gateway}], rules: [{backendRefs: [{name: api-service, port: 80}]}]}
---
"""


def addresses(cluster: Cluster) -> list[tuple[str, str]]:
    return [(one["value"], one.get("routability", "")) for one in cluster.get("Gateway", "my-gateway")["status"]["addresses"]]


def spec_of(cluster: Cluster) -> dict:
    return cluster.get("Service", "my-gateway-gwfast")["spec"]


def assignment(cluster: Cluster) -> str:
    return said(cluster.get("Gateway", "my-gateway")["status"]["conditions"])["AddressesAssigned"]


def test_addresses_inside_the_cluster(cluster: Cluster) -> None:
    install_yaml(cluster)
    cluster.apply(BACKEND + SCOPED % "{routability: Cluster}")
    cluster.comes_to(lambda: said(cluster.get("Gateway", "my-gateway")["status"]["conditions"]), {
        "Accepted": "True/Accepted", "Programmed": "True/Programmed", "ResolvedRefs": "True/ResolvedRefs",
        "AddressesAssigned": "True/AddressesAssigned"}, "the Gateway to be programmed", 120)
    spec = spec_of(cluster)
    assert spec["type"] == "ClusterIP" and not any(port.get("nodePort") for port in spec["ports"])
    host = spec["clusterIP"]
    cluster.comes_to(lambda: addresses(cluster), [(host, "Cluster")])
    cluster.comes_to(lambda: cluster.http(host, 80, "/").status, 200)

    cluster.apply(SCOPED % "{routability: Cluster}, {}")  # one of each
    cluster.wait_for(lambda: [scope for _, scope in addresses(cluster)] == ["Cluster", ""], "an address outside, too")
    (_, _), (outside, _) = addresses(cluster)
    assert outside != host and spec_of(cluster)["type"] == "LoadBalancer" and spec_of(cluster)["clusterIP"] == host
    for each in (host, outside):
        cluster.comes_to(lambda each=each: cluster.http(each, 80, "/").status, 200)

    cluster.apply(SCOPED % "{routability: Cluster}, {routability: example.com/wan}")  # what there is serves
    cluster.comes_to(lambda: assignment(cluster), "False/PartiallyAssigned")
    cluster.comes_to(lambda: addresses(cluster), [(host, "Cluster")])
    cluster.comes_to(lambda: cluster.condition("Gateway", "my-gateway", "Programmed"), "True")
    cluster.comes_to(lambda: spec_of(cluster)["type"], "ClusterIP", "nobody outside to be let in")
    assert cluster.http(host, 80, "/").status == 200

    cluster.apply(SCOPED % "{routability: example.com/wan}")  # and where there is nothing nothing stands in
    cluster.comes_to(lambda: (assignment(cluster), cluster.get("Gateway", "my-gateway")["status"].get("addresses") or []), ("False/NotAssigned", []))
    cluster.comes_to(lambda: said(cluster.get("Gateway", "my-gateway")["status"]["conditions"])["Programmed"], "False/AddressNotAssigned")
    cluster.apply(SCOPED % "")
    cluster.comes_to(lambda: (assignment(cluster), spec_of(cluster)["type"]), ("True/AddressesAssigned", "LoadBalancer"))
    cluster.kubectl("delete", "gateway", "my-gateway")
    cluster.wait_for(lambda: cluster.get("Service", "my-gateway-gwfast") is None, "its Service to go")

    cluster.apply(SCOPED % "{routability: Cluster, value: 10.96.77.7}")
    cluster.comes_to(lambda: addresses(cluster), [("10.96.77.7", "Cluster")])
    cluster.comes_to(lambda: cluster.http("10.96.77.7", 80, "/").status, 200)
    cluster.apply(SCOPED % "{routability: Cluster, value: 10.96.77.8}")
    cluster.comes_to(lambda: assignment(cluster), "False/NotAssigned", "a cluster IP stays what it is")
    assert "Invalid value" not in logs(cluster) or spec_of(cluster)["clusterIP"] == "10.96.77.7"
    told = cluster.kubectl("apply", "-f", "-", text=SCOPED % "{routability: Private}", check=False)
    assert "Routability must be empty, Cluster, or an implementation-specific" in told
