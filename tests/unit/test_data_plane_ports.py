"""Where the listeners of a data plane are: at the target ports of their Gateways' Services."""
import pytest
from graph_cases import edited, resources

from gwfast.config.model import Key, ServicePort, ServiceSpec
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.model import GraphOptions
from gwfast.plan.build import Builder, build

OPTIONS = GraphOptions(strict_services=True, own_addresses=True, data_plane=True)
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: %s}
spec:
  gatewayClassName: gwfast
  addresses: %s
  listeners:
  - {name: web, port: 80, protocol: HTTP}
  - {name: dns, port: 80, protocol: UDP}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s, annotations: %s}
spec:
  ports:
  - {name: web, port: 80, targetPort: %s}
  - {name: dns, port: 80, protocol: UDP, targetPort: %s}
"""
SET = """
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: b}
spec:
  parentRef: {name: g}
  listeners: [{name: web, port: 80, protocol: HTTP, hostname: more.example}, {name: other, port: 81, protocol: HTTP}]
"""


def gateway(namespace, name="g", addresses="[]"):
    return resources(GATEWAY % (name, namespace, addresses))


def service(namespace, *targets, name="s", of="g"):
    return resources(SERVICE % (name, namespace, f'{{"gwfast.dev/gateway": "{of}"}}' if of else "{}", *targets))


def binds(found, options=OPTIONS):
    return [(bind.key, bind.port, bind.target_port, [each.id for each in bind.listeners])
            for bind in build(attach(found, options)).binds]


def test_gateways_with_one_port_do_not_meet():
    found = gateway("a") | gateway("b") | service("a", 10001, 10002) | service("b", 10003, 10002)
    assert binds(found) == [
        ("[]:80 a/g:10001", 80, 10001, ["a/g/web"]), ("[]:80 b/g:10003", 80, 10003, ["b/g/web"]),
        ("udp[]:80 a/g:10002", 80, 10002, ["a/g/dns"]), ("udp[]:80 b/g:10002", 80, 10002, ["b/g/dns"])]


def test_a_listener_set_is_on_the_port_of_its_gateway():
    found = gateway("b") | resources(SET) | service("b", 10001, 10002)
    key = Key("Gateway", "b", "g")
    found[key] = edited(found[key], allowed_listeners=allowed())
    assert [(one[2], one[3]) for one in binds(found)] == [(10001, ["b/more/web", "b/g/web"]), (10002, ["b/g/dns"])]


def allowed():
    from gwfast.config.model import AllowedListeners, ListenerNamespaces
    return AllowedListeners(namespaces=ListenerNamespaces(from_="Same"))


@pytest.mark.parametrize("given", [
    {}, service("a", 10001, 10002, of=""), service("b", 10001, 10002), service("a", 10001, 10002, of="another"),
    service("a", "web", "dns"),
], ids=["no Service", "an ordinary Service", "another namespace's", "another Gateway's", "named ports"])
def test_without_a_port_of_its_own_a_listener_is_not_served(given):
    assert binds(gateway("a") | given) == []


def test_the_address_of_a_gateway_is_its_services_business():
    found = gateway("a", addresses="[{type: IPAddress, value: 203.0.113.7}, {type: Hostname, value: a.example}]")
    assert [one[0] for one in binds(found | service("a", 10001, 10002))] == ["[]:80 a/g:10001", "udp[]:80 a/g:10002"]


def test_files_know_nothing_of_target_ports():
    found = gateway("a") | service("a", 10001, 10002)
    assert [one[:3] for one in binds(found, GraphOptions())] == [("[]:80", 80, 0), ("udp[]:80", 80, 0)]


def test_ports_that_come_and_move_move_the_binds():
    attacher, builder, found = Attacher(OPTIONS), Builder(), gateway("a")
    key = Key("Service", "a", "s")
    assert builder.build(attacher.attach(found)).binds == ()
    found = found | service("a", 10001, 10002)
    assert [bind.target_port for bind in builder.build(attacher.attach(found, [key])).binds] == [10001, 10002]
    moved = edited(found[key])
    moved.spec = ServiceSpec(ports=(ServicePort(port=80, target_port=10009),))
    found = found | {key: moved}
    assert [bind.target_port for bind in builder.build(attacher.attach(found, [key])).binds] == [10009]
    del found[key]
    assert builder.build(attacher.attach(found, [key])).binds == ()
