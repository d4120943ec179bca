"""The conformance suite's control-plane tests (spec 2.3, types C and B) against the graph: its manifests, its words."""
from pathlib import Path

import msgspec
import pytest
from support import upstream
import yaml
from graph_cases import CONFORMANCE, EVERYTHING, NAMESPACE, born, check, edited, manifests, resources

from gwfast.config.model import Key, Listener
from gwfast.graph.attach import Attacher, attach

pytestmark = upstream.needs("conformance")

CASES = yaml.safe_load((Path(__file__).parent / "graph_conformance.yaml").read_text())


@pytest.mark.parametrize("name", CASES)
def test_status(name):
    check(attach(manifests(name), EVERYTHING), *CASES[name])


# ---- Tests of the suite that change something while they look


def change(attacher, found, resource):
    found[resource.key] = resource
    return attacher.attach(found, [resource.key])


def test_gateway_modify_listeners():
    attacher, found = Attacher(EVERYTHING), manifests("gateway-modify-listeners")
    check(
        attacher.attach(found),
        "Gateway/gateway-add-listener#https attached=1", "Gateway/gateway-add-listener#http absent",
        "Gateway/gateway-remove-listener#https attached=1", "Gateway/gateway-remove-listener#http attached=1",
    )
    gateway = found[Key("Gateway", NAMESPACE, "gateway-add-listener")]
    more = (*gateway.spec.listeners, Listener(name="http", port=80, protocol="HTTP"))
    change(attacher, found, edited(gateway, listeners=more))
    gateway = found[Key("Gateway", NAMESPACE, "gateway-remove-listener")]
    graph = change(attacher, found, edited(gateway, listeners=gateway.spec.listeners[1:]))
    check(
        graph,
        "Gateway/gateway-add-listener#https attached=1", "Gateway/gateway-add-listener#http attached=1",
        "Gateway/gateway-add-listener Accepted=True Programmed=True",
        "Gateway/gateway-remove-listener#https absent", "Gateway/gateway-remove-listener#http attached=1",
    )


def test_gateway_observed_generation_bump():
    attacher, found = Attacher(EVERYTHING), manifests("gateway-observed-generation-bump")
    before = attacher.attach(found)
    key = Key("Gateway", NAMESPACE, "gateway-observed-generation-bump")
    listener = Listener(name="alternate", port=80, protocol="HTTP", hostname="foo.com")
    graph = change(attacher, found, edited(found[key], listeners=(*found[key].spec.listeners, listener)))
    check(graph, "Gateway/gateway-observed-generation-bump#alternate Accepted=True")
    assert {one.observed_generation for one in before.gateways[key].conditions} == {1}
    assert {one.observed_generation for one in graph.gateways[key].conditions} == {2}


def test_gateway_class_observed_generation_bump():
    text = (CONFORMANCE / "gatewayclass-observed-generation-bump.yaml").read_text()
    attacher, found = Attacher(EVERYTHING), resources(text.replace("{GATEWAY_CONTROLLER_NAME}", "gwfast.dev/gateway"))
    check(attacher.attach(found), "GatewayClass/gatewayclass-observed-generation-bump Accepted=True")
    key = Key("GatewayClass", "", "gatewayclass-observed-generation-bump")
    check(
        change(attacher, found, edited(found[key], description="new")),
        "GatewayClass/gatewayclass-observed-generation-bump Accepted=True",
    )


def test_gateway_name_maximum_length():
    name = "a" * 63 + ".b" * 95
    found = resources(f"""
        {{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {name}, namespace: {NAMESPACE}}},
         spec: {{gatewayClassName: any, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}}}
    """)
    check(attach(found, EVERYTHING), f"Gateway/{name} Accepted=True Programmed=True")


def test_gateway_static_addresses():
    options = msgspec.structs.replace(EVERYTHING, unusable_addresses=("203.0.113.9",))
    found = resources(f"""
        {{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g, namespace: {NAMESPACE}}},
         spec: {{gatewayClassName: any, listeners: [{{name: http, port: 8080, protocol: HTTP}}],
                addresses: [{{type: test/fake, value: fake}}, {{value: 203.0.113.9}}, {{value: 127.0.0.2}}]}}}}
    """)
    key, attacher = Key("Gateway", NAMESPACE, "g"), Attacher(options)
    check(attacher.attach(found), "Gateway/g Accepted=False/UnsupportedAddress Programmed=False")
    graph = change(attacher, found, edited(found[key], addresses=found[key].spec.addresses[1:]))
    check(graph, "Gateway/g Accepted=True/Accepted Programmed=False/AddressNotUsable")
    graph = change(attacher, found, edited(found[key], addresses=found[key].spec.addresses[1:]))
    check(graph, "Gateway/g Accepted=True Programmed=True/Programmed")
    assert graph.gateways[key].addresses == ("127.0.0.2",)


def test_http_route_observed_generation_bump():
    attacher, found = Attacher(EVERYTHING), manifests("httproute-observed-generation-bump")
    attacher.attach(found)
    key = Key("HTTPRoute", NAMESPACE, "observed-generation-bump")
    rule = found[key].spec.rules[0]
    ref = msgspec.structs.replace(rule.backend_refs[0], name="infra-backend-v2")
    graph = change(attacher, found, edited(found[key], rules=(msgspec.structs.replace(rule, backend_refs=(ref,)),)))
    check(graph, "HTTPRoute/observed-generation-bump@same-namespace Accepted=True ResolvedRefs=True")
    assert graph.routes[key].rules[0].backends[0].target == f"{NAMESPACE}/infra-backend-v2:8080/http"


def test_policy_observed_generation_bump():
    attacher, found = Attacher(EVERYTHING), manifests("backendtlspolicy-observed-generation-bump")
    check(attacher.attach(found), "BackendTLSPolicy/observed-generation-bump Accepted=True")
    key = Key("BackendTLSPolicy", NAMESPACE, "observed-generation-bump")
    validation = msgspec.structs.replace(found[key].spec.validation, hostname="other.example.com")
    check(
        change(attacher, found, edited(found[key], validation=validation)),
        "BackendTLSPolicy/observed-generation-bump Accepted=True ResolvedRefs=True",
    )


REVOKED = {
    "tcproute-reference-grant": ("TCPRoute", "tcp-reference-grant", "tcp-reference-grant-gateway"),
    "udproute-reference-grant": ("UDPRoute", "udp-route-reference-grant", "udp-gateway-reference-grant"),
    "httproute-reference-grant": ("HTTPRoute", "reference-grant", "same-namespace"),
}


@pytest.mark.parametrize("name", REVOKED)
def test_reference_grant_is_revoked(name):
    kind, route, gateway = REVOKED[name]
    attacher, found = Attacher(EVERYTHING), manifests(name)
    check(attacher.attach(found), f"{kind}/{route}@{gateway} Accepted=True ResolvedRefs=True")
    for key in [key for key in found if key.kind == "ReferenceGrant"]:
        del found[key]
    check(attacher.attach(found), f"{kind}/{route}@{gateway} Accepted=True ResolvedRefs=False/RefNotPermitted")


@pytest.mark.parametrize("name", ["tcproute-multiple-routes-attachment", "udproute-multiple-routes-attachment"])
def test_multiple_routes_attachment(name):
    kind = name[:3].upper()
    found = manifests(name)
    older = next(resource for key, resource in found.items() if key.kind == f"{kind}Route")
    newer = msgspec.structs.replace(older, metadata=msgspec.structs.replace(older.metadata, name="a-newer"))
    found[older.key], found[newer.key] = born(older, 1), born(newer, 2)
    graph = attach(found, EVERYTHING)
    identity = next(identity for identity in graph.listeners if "-multi-route-attach-gateway" in identity)
    gateway = identity.split("/")[1]
    for name in (older.metadata.name, "a-newer"):
        check(graph, f"{kind}Route/{name}@{gateway} Accepted=True")
    attached = sorted(graph.listeners[identity].attachments, key=lambda one: one.route.age)
    assert [one.route.key for one in attached] == [older.key, newer.key]


def test_policy_authorities_come_back():
    """BackendTLSPolicy: the ConfigMap goes, is empty, and is as it was."""
    attacher, found = Attacher(EVERYTHING), manifests("backendtlspolicy")
    fine = "BackendTLSPolicy/reconcile-test Accepted=True ResolvedRefs=True"
    wrong = fine.split()[0] + " Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef"
    policy = found[Key("BackendTLSPolicy", NAMESPACE, "reconcile-test")]
    key = Key("ConfigMap", NAMESPACE, policy.spec.validation.ca_certificate_refs[0].name)
    good = found.get(key) or msgspec.structs.replace(
        found[Key("ConfigMap", NAMESPACE, "tls-checks-ca-certificate")],
        metadata=msgspec.structs.replace(policy.metadata, name=key.name),
    )
    found[key] = good
    check(attacher.attach(found), fine)
    del found[key]
    check(attacher.attach(found), wrong)
    check(change(attacher, found, msgspec.structs.replace(good, data={})), wrong)
    check(change(attacher, found, good), fine)
