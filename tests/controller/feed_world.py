"""A small cluster for the tests of feeds: Gateways of two tenants, what they need, and what is none of their business."""
from support import pki
from hypothesis import strategies as st

from gwfast.config import model as m
from gwfast.config.model import Key
from gwfast.controller.feed import Served
from gwfast.graph.model import GraphOptions

CONTROLLER = GraphOptions(strict_services=True, own_addresses=True)
DATA_PLANE = GraphOptions(strict_services=True, own_addresses=True, data_plane=True)
NAMESPACES = ["a", "b", "c"]


def served(fleet, shift, **more):
    return Served(fleet, tuple((port, "TCP", shift + port) for port in (80, 81, 82, 90, 443, 444, 445)), **more)


FLEETS = {
    Key("Gateway", "a", "g1"): served("one", 10000, filters=True), Key("Gateway", "a", "g2"): served("two", 10000),
    Key("Gateway", "b", "g1"): served("one", 20000, filters=True),
}


def meta(namespace, name, **more):
    return m.ObjectMeta(name=name, namespace=namespace, generation=1, **more)


def ref(kind, name, namespace=None):
    return kind(group="", kind="Secret", name=name, namespace=namespace)


def selector(which):
    return m.LabelSelector(match_labels={"team": which})


ANYWHERE = m.AllowedRoutes(namespaces=m.RouteNamespaces(from_="All"))
LABELLED = m.AllowedRoutes(namespaces=m.RouteNamespaces(from_="Selector", selector=selector("x")))
listeners = st.lists(st.sampled_from([
    m.Listener(name="http", protocol="HTTP", port=80, allowed_routes=ANYWHERE),
    m.Listener(name="own", protocol="HTTP", port=81),
    m.Listener(name="labelled", protocol="HTTP", port=82, allowed_routes=LABELLED),
    m.Listener(name="https", protocol="HTTPS", port=443, allowed_routes=ANYWHERE, tls=m.ListenerTLSConfig(
        certificate_refs=(m.SecretObjectReference(name="s1"),))),
    m.Listener(name="foreign", protocol="HTTPS", port=444, allowed_routes=ANYWHERE, tls=m.ListenerTLSConfig(
        certificate_refs=(m.SecretObjectReference(name="s1", namespace="c"),))),
    m.Listener(name="tcp", protocol="TCP", port=90, allowed_routes=ANYWHERE),
]), min_size=1, max_size=4, unique_by=lambda one: one.name).map(tuple)
sets_allowed = st.sampled_from([None, *(m.AllowedListeners(namespaces=m.ListenerNamespaces(from_=word, selector=chosen))
                                        for word, chosen in (("All", None), ("Same", None), ("Selector", selector("x"))))])


def gateway(place, listeners, allowed, tls, wrong):
    """wrong: parameters that nobody knows, or an address of a type that nobody has: it is not accepted."""
    unknown = m.GatewayInfrastructure(parameters_ref=m.LocalObjectReference(group="x", kind="X", name="x"))
    infrastructure = unknown if wrong == "parameters" else None
    addresses = (m.GatewaySpecAddress(type="example.com/x", value="x"),) if wrong == "addresses" else ()
    return m.Gateway(metadata=meta(*place), spec=m.GatewaySpec(
        gateway_class_name="c", listeners=listeners, allowed_listeners=allowed, tls=tls, infrastructure=infrastructure,
        addresses=addresses))


def authorities(namespace):
    return m.GatewayTLSConfig(frontend=m.FrontendTLSConfig(default=m.TLSConfig(validation=m.FrontendTLSValidation(
        ca_certificate_refs=(m.ObjectReference(group="", kind="ConfigMap", name="ca", namespace=namespace),)))))


places = st.sampled_from([("a", "g1"), ("a", "g2"), ("b", "g1")])
gateways = st.builds(gateway, places, listeners, sets_allowed, st.sampled_from([None, authorities(None), authorities("c")]),
                     st.sampled_from(["", "", "", "", "parameters", "addresses"]))
# Who writes Services may say what they like: nothing of it is believed.
fronts = st.builds(
    lambda place, shift: m.Service(
        metadata=meta(place[0], f"front-{place[1]}", annotations={"gwfast.dev/gateway": place[1], "other": "x"}),
        spec=m.ServiceSpec(ports=tuple(m.ServicePort(name=f"p{port}", port=port, target_port=10000 + shift + port)
                                       for port in (80, 81, 82, 443, 444, 90)))), places, st.sampled_from([0, 1000]))
listener_sets = st.builds(
    lambda namespace, parent, certificate: m.ListenerSet(metadata=meta(namespace, "set"), spec=m.ListenerSetSpec(
        parent_ref=m.ParentGatewayReference(name=parent[1], namespace=parent[0]), listeners=(
            m.Listener(name="more", protocol="HTTPS", port=445, allowed_routes=LABELLED, tls=m.ListenerTLSConfig(
                certificate_refs=(m.SecretObjectReference(name="s2", namespace=certificate),))),))),
    st.sampled_from(NAMESPACES), places, st.sampled_from([None, "c"]))

parents = st.lists(st.sampled_from([
    *(m.ParentReference(name=name, namespace=namespace) for namespace, name in (("a", "g1"), ("a", "g2"), ("b", "g1"), ("b", "none"))),
    m.ParentReference(name="g1", namespace="a", section_name="labelled"),
    m.ParentReference(kind="ListenerSet", name="set", namespace="a"), m.ParentReference(kind="ListenerSet", name="set", namespace="b"),
]), min_size=1, max_size=2, unique_by=lambda one: (one.kind, one.namespace, one.name)).map(tuple)
backends = st.lists(st.builds(lambda name, namespace: m.HTTPBackendRef(name=name, namespace=namespace, port=80),
                              st.sampled_from(["v1", "v2"]), st.sampled_from([None, "b", "c"])), min_size=1, max_size=2).map(tuple)
FILTER = m.HTTPRouteFilter(type="ExtensionRef", extension_ref=m.LocalObjectReference(
    group="gwfast.dev", kind="PythonFilter", name="f"))
MIRROR = m.HTTPRouteFilter(type="RequestMirror", request_mirror=m.HTTPRequestMirrorFilter(
    backend_ref=m.BackendObjectReference(name="v2", namespace="c", port=80)))
http_routes = st.builds(
    lambda namespace, name, parents, backends, filters: m.HTTPRoute(metadata=meta(namespace, name), spec=m.HTTPRouteSpec(
        parent_refs=parents, rules=(m.HTTPRouteRule(backend_refs=backends, filters=filters),))),
    st.sampled_from(NAMESPACES), st.sampled_from(["r1", "r2"]), parents, backends, st.sampled_from([(), (), (FILTER,), (MIRROR,)]))
tcp_routes = st.builds(
    lambda namespace, parents: m.TCPRoute(metadata=meta(namespace, "t"), spec=m.TCPRouteSpec(
        parent_refs=parents, rules=(m.TCPRouteRule(backend_refs=(m.BackendRef(name="v1", port=80),)),))),
    st.sampled_from(NAMESPACES), parents)

grants = st.builds(
    lambda namespace, name, source, kind, target, only: m.ReferenceGrant(metadata=meta(namespace, name), spec=m.ReferenceGrantSpec(
        from_=(m.ReferenceGrantFrom(group=m.GATEWAY_GROUP, kind=kind, namespace=source),),
        to=(m.ReferenceGrantTo(group="", kind=target, name=only),))),
    st.sampled_from(["b", "c"]), st.sampled_from(["grant1", "grant2"]), st.sampled_from(["a", "b"]),
    st.sampled_from(["HTTPRoute", "Gateway", "ListenerSet"]), st.sampled_from(["Service", "Secret", "ConfigMap"]),
    st.sampled_from([None, "s1", "v2"]))
services = st.builds(
    lambda namespace, name, port: m.Service(metadata=meta(namespace, name, annotations={"note": str(port)}), spec=m.ServiceSpec(
        ports=(m.ServicePort(name="web", port=80, target_port=port),))),
    st.sampled_from(NAMESPACES), st.sampled_from(["v1", "v2"]), st.sampled_from([8080, 9090]))
slices = st.builds(
    lambda namespace, name, which, ips: m.EndpointSlice(
        metadata=meta(namespace, which, labels={"kubernetes.io/service-name": name}), address_type="IPv4",
        ports=(m.EndpointPort(name="web", port=8080),), endpoints=tuple(m.Endpoint(addresses=(f"10.0.0.{ip}",)) for ip in sorted(ips))),
    st.sampled_from(NAMESPACES), st.sampled_from(["v1", "v2"]), st.sampled_from(["e1", "e2"]), st.sets(st.integers(1, 3), max_size=2))
policies = st.builds(
    lambda namespace, name, target, authority: m.BackendTLSPolicy(metadata=meta(namespace, name), spec=m.BackendTLSPolicySpec(
        target_refs=(m.LocalPolicyTargetReferenceWithSectionName(group="", kind="Service", name=target),),
        validation=m.BackendTLSPolicyValidation(hostname="h.test", ca_certificate_refs=(
            m.LocalObjectReference(group="", kind="ConfigMap", name=authority),)))),
    st.sampled_from(NAMESPACES), st.sampled_from(["p1", "p2"]), st.sampled_from(["v1", "v2"]), st.sampled_from(["ca", "none"]))
others = st.one_of(
    st.builds(lambda namespace, name, host: m.Secret(metadata=meta(namespace, name), data=dict(
        zip(("tls.crt", "tls.key"), pki.pair(host), strict=True))),
        st.sampled_from(NAMESPACES), st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["a.test", "b.test"])),
    st.builds(lambda namespace: pki.authority(namespace, "ca", "one.ca"), st.sampled_from(NAMESPACES)),
    st.builds(lambda name, team: m.Namespace(metadata=m.ObjectMeta(
        name=name, labels={"team": team, "kubernetes.io/metadata.name": name}, annotations={"secret": "x"})),
        st.sampled_from(NAMESPACES), st.sampled_from(["x", "y"])),
    st.builds(lambda namespace, module: m.PythonFilter(metadata=meta(namespace, "f"), spec=m.PythonFilterSpec(
        module=module, class_="F")), st.sampled_from(NAMESPACES), st.sampled_from(["m1", "m2"])),
    st.builds(lambda namespace, key: m.PythonFilter(metadata=meta(namespace, "f"), spec=m.PythonFilterSpec(
        config_map=m.ConfigMapKeySelector(name="code", key=key), class_="F")), st.sampled_from(NAMESPACES), st.sampled_from(["k", "l"])),
    st.builds(lambda namespace, text: m.ConfigMap(metadata=meta(namespace, "code"), data={"k": text}),
              st.sampled_from(NAMESPACES), st.sampled_from(["one", "two"])),
    st.builds(lambda namespace: m.XBackendTrafficPolicy(metadata=meta(namespace, "x"), spec=m.XBackendTrafficPolicySpec(
        target_refs=(m.LocalPolicyTargetReference(group="", kind="Service", name="v1"),))), st.sampled_from(NAMESPACES)),
)
anything = st.one_of(gateways, fronts, listener_sets, http_routes, http_routes, tcp_routes, grants, services, slices, policies, others)
steps = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "remove"]), st.lists(anything, min_size=1, max_size=6)),
                 min_size=1, max_size=8)


def start():
    """Every Gateway with a listener for everybody, one that asks for labels and one with a foreign certificate; routes with
    foreign backends and a filter; and what permits all of it."""
    web = [m.Listener(name="http", protocol="HTTP", port=80, allowed_routes=ANYWHERE),
           m.Listener(name="labelled", protocol="HTTP", port=82, allowed_routes=LABELLED),
           m.Listener(name="foreign", protocol="HTTPS", port=444, allowed_routes=ANYWHERE, tls=m.ListenerTLSConfig(
               certificate_refs=(m.SecretObjectReference(name="s1", namespace="c"),)))]
    found = [m.GatewayClass(metadata=m.ObjectMeta(name="c"), spec=m.GatewayClassSpec(controller_name="gwfast.dev/x"))]
    found += [gateway((key.namespace, key.name), tuple(web), None, None, False) for key in FLEETS]
    found += [m.Namespace(metadata=m.ObjectMeta(name=name, labels={"team": "x", "kubernetes.io/metadata.name": name})) for name in NAMESPACES]
    found += [grant("grant1", "a", "HTTPRoute", "Service"), grant("grant2", "a", "Gateway", "Secret")]
    found += [m.Secret(metadata=meta("c", "s1"), data=dict(zip(("tls.crt", "tls.key"), pki.pair("a.test"), strict=True)))]
    found += [m.Service(metadata=meta(namespace, name), spec=m.ServiceSpec(ports=(m.ServicePort(name="web", port=80),)))
              for namespace in NAMESPACES for name in ("v1", "v2")]
    found += [m.PythonFilter(metadata=meta("a", "f"), spec=m.PythonFilterSpec(
        config_map=m.ConfigMapKeySelector(name="code", key="k"), class_="F"))]
    found += [m.ConfigMap(metadata=meta(name, "code"), data={"k": "one"}) for name in ("a", "b")]
    found += [
        route("a", "r1", [("a", "g1", None)], "v1", "c", MIRROR), route("a", "r2", [("a", "g1", "labelled")], "v1", None, FILTER),
        route("b", "r1", [("a", "g2", "labelled")], "v2", None), route("b", "r2", [("b", "g1", None)], "v2", None),
        route("c", "r1", [("b", "g1", "labelled"), ("a", "g2", None)], "v1", None)]
    return {one.key: one for one in found}


def grant(name, source, kind, target):
    return m.ReferenceGrant(metadata=meta("c", name), spec=m.ReferenceGrantSpec(
        from_=(m.ReferenceGrantFrom(group=m.GATEWAY_GROUP, kind=kind, namespace=source),),
        to=(m.ReferenceGrantTo(group="", kind=target),)))


def route(namespace, name, parents, backend, there, *filters):
    refs = tuple(m.ParentReference(namespace=one, name=gateway, section_name=section) for one, gateway, section in parents)
    return m.HTTPRoute(metadata=meta(namespace, name), spec=m.HTTPRouteSpec(parent_refs=refs, rules=(m.HTTPRouteRule(
        backend_refs=(m.HTTPBackendRef(name=backend, namespace=there, port=80),), filters=filters),)))
