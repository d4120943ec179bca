"""Each kind that traffic does not show by itself is created, changed and deleted with `kubectl`: what serves follows, and says so."""
import json
from collections.abc import Iterator

import pytest
from support import traffic
from support.pki import pair
from support.traffic import ADMIN, World, route

from cluster import Cluster

GATEWAY = traffic.GATEWAY + """
  - {name: tls, protocol: TLS, port: 8443, tls: {mode: Passthrough}}
  - {name: tcp, protocol: TCP, port: 8003}
  - {name: udp, protocol: UDP, port: 8004}
  - {name: calls, protocol: HTTP, port: 8005}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/%s
kind: %s
metadata: {name: subject}
spec:
  parentRefs: [{name: gw, sectionName: %s}]
"""
POLICY = """
apiVersion: %s
kind: %s
metadata: {name: subject}
spec:
  targetRefs: [{group: "", kind: Service, name: a}]
"""
# What VALUE is the first time, and the second; what of it is in the plan that serves.
CASES = {
    "GRPCRoute": (ROUTE % ("v1", "GRPCRoute", "calls") + "  rules: [{matches: [{method: {service: VALUE}}], backendRefs: [{name: a, port: 80}]}]",
                  "shop.Cart", "shop.Orders"),
    "TLSRoute": (ROUTE % ("v1", "TLSRoute", "tls") + "  hostnames: [VALUE]\n  rules: [{backendRefs: [{name: a, port: 80}]}]",
                 "first.test", "second.test"),
    "UDPRoute": (ROUTE % ("v1alpha2", "UDPRoute", "udp") + "  rules: [{backendRefs: [{name: VALUE, port: 53}]}]", "names-one", "names-two"),
    "BackendTLSPolicy": (POLICY % ("gateway.networking.k8s.io/v1", "BackendTLSPolicy")
                         + "  validation: {hostname: VALUE, wellKnownCACertificates: System}", "inner.test", "other.test"),
    "XBackendTrafficPolicy": (POLICY % ("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy")
                              + "  sessionPersistence: {sessionName: VALUE, type: Cookie}", "basket", "trolley"),
    "BackendPolicy": (POLICY % ("gwfast.dev/v1alpha1", "BackendPolicy") + "  healthCheck: {passive: {consecutiveFailures: VALUE}}", "17", "19"),
}
SHOWN = {"BackendTLSPolicy": '"VALUE"', "BackendPolicy": '"consecutiveFailures": VALUE,'}  # where the value alone might be anything


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> Iterator[World]:
    yield from traffic.served(cluster, namespace)


def plan(world: World) -> str:
    """Return what serves, as the admin port shows it."""
    return json.dumps(json.loads(world.cluster.http("127.0.0.1", ADMIN, "/config").body))


@pytest.mark.parametrize("kind", CASES)
def test_a_kind_is_created_changed_and_deleted(world: World, kind: str):
    text, *values = CASES[kind]
    services = "\n---\n".join(f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: 53, protocol: UDP}}]}}}}"
                              for name in ("names-one", "names-two"))
    world.apply(GATEWAY, route(parent="name: gw, sectionName: web"), services)
    world.until("a")
    shown = [SHOWN.get(kind, "VALUE").replace("VALUE", value) for value in values]
    assert not [each for each in shown if each in plan(world)]
    for value, there, gone in zip(values, shown, reversed(shown), strict=True):
        world.apply(text.replace("VALUE", value))
        world.cluster.wait_for(lambda: there in plan(world) and gone not in plan(world), f"{value} to be served")  # noqa: B023
        world.cluster.wait_for(lambda: told(world, kind), f"{kind} to say so")
    world.delete(kind, "subject")
    world.cluster.wait_for(lambda: not [each for each in shown if each in plan(world)], f"{kind} to be gone")
    assert world.get() == "a" or kind == "BackendTLSPolicy"


def told(world: World, kind: str) -> bool:
    """Whether its status says that it is accepted, as it is now."""
    found = world.cluster.get(kind, "subject", world.namespace)
    entries = [*found.get("status", {}).get("parents", ()), *found.get("status", {}).get("ancestors", ())]
    return bool(entries) and all(any(
        (one["type"], one["status"], one["observedGeneration"]) == ("Accepted", "True", found["metadata"]["generation"])
        for one in each["conditions"]) for each in entries)


def test_a_tcp_route_is_created_changed_and_deleted(world: World):
    world.apply(GATEWAY, route())
    text = ROUTE % ("v1alpha2", "TCPRoute", "tcp") + "  rules: [{backendRefs: [{name: VALUE, port: 80}]}]"
    for backend in ("a", "b"):
        world.apply(text.replace("VALUE", backend))
        world.until(backend, port=8003)
    world.delete("TCPRoute", "subject")
    world.until("refused", port=8003)


def test_authorities_of_a_backend_follow_their_config_map(world: World):
    """A BackendTLSPolicy whose ConfigMap is missing refuses; once it is there the backend is believed by it."""
    text = POLICY % ("gateway.networking.k8s.io/v1", "BackendTLSPolicy") + (
        '  validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: authority}]}')
    world.apply(GATEWAY, route(), text)
    world.cluster.wait_for(lambda: resolved(world) == "False", "the policy to miss its ConfigMap")
    world.apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"},
                            "data": {"ca.crt": pair("x.test")[0].decode()}}))
    world.cluster.wait_for(lambda: resolved(world) == "True", "the policy to have it")
    world.delete("configmap", "authority")
    world.cluster.wait_for(lambda: resolved(world) == "False", "the policy to miss it again")


def resolved(world: World) -> str:
    ancestors = (world.cluster.get("BackendTLSPolicy", "subject", world.namespace) or {}).get("status", {}).get("ancestors") or [{}]
    return next((one["status"] for one in ancestors[0].get("conditions", ()) if one["type"] == "ResolvedRefs"), "")
