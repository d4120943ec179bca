"""Listeners, Gateways and ListenerSets: one small configuration per case, and what its status must say."""
import msgspec
from support import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from graph_cases import EVERYTHING, born, check, resources

from gwfast.config.model import Key
from gwfast.graph.attach import attach
from gwfast.graph.conditions import problems
from gwfast.graph.hostnames import Hostnames, covers, matching
from gwfast.graph.model import GraphOptions

ALONE = msgspec.structs.replace(EVERYTHING, own_addresses=False)


def gateway(name, *listeners, spec="", metadata=""):
    """A Gateway; a listener is 'name protocol port [hostname] [more YAML]', fields separated by '|'."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}{metadata}}}
spec: {{gatewayClassName: any, listeners: [{", ".join(map(listener, listeners))}]{spec}}}
"""


def listener(text):
    name, protocol, port, *rest = text.split("|")
    rest = [f'hostname: "{one}"' if one and ":" not in one else one for one in rest]
    return f"{{{', '.join([f'name: {name}', f'protocol: {protocol}', f'port: {port}', *filter(None, rest)])}}}"


def listener_set(name, *listeners, parent="g"):
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}}}
spec: {{parentRef: {{name: {parent}}}, listeners: [{", ".join(map(listener, listeners))}]}}
"""


ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: g}, {name: s, kind: ListenerSet}]}
"""


def of(*texts):
    return resources("---".join(texts))


def keyed(*found):
    return {each.key: each for each in found}


def https(options="", mode="Terminate", certificates="{name: cert}"):
    return f"HTTPS|443|tls: {{certificateRefs: [{certificates}], mode: {mode}, options: {{{options}}}}}"


# ---- Hostnames


@pytest.mark.parametrize(("pattern", "hostname", "expected"), [
    ("", "a.example", True), ("", "*.example", True), ("a.example", "a.example", True),
    ("*.example", "a.example", True), ("*.example", "a.b.example", True), ("*.example", "*.b.example", True),
    ("*.example", "*.example", True), ("*.example", "example", False), ("*.b.example", "*.example", False),
    ("*.example", "aexample", False), ("a.example", "*.example", False), ("*.example", "", False),
])
def test_covers(pattern, hostname, expected):
    assert covers(pattern, hostname) is expected


@pytest.mark.parametrize(("listener", "route", "expected"), [
    ("", (), ("",)), ("", ("a.example", "*.b"), ("a.example", "*.b")), ("a.example", (), ("",)), ("*.example", (), ("",)),
    ("a.example", ("a.example", "b.example"), ("a.example",)), ("a.example", ("*.example",), ("*.example",)),
    ("a.example", ("*.example", "a.example"), ("a.example",)), ("b.a.example", ("*.example", "*.a.example"), ("*.a.example",)),
    ("*.example", ("a.example", "b.a.example", "example", "c.net"), ("a.example", "b.a.example")),
    ("*.a.example", ("*.example", "*.a.example"), ("*.a.example",)), ("*.example", ("*.a.example",), ("*.a.example",)),
    ("*.a.example", ("*.example", "b.a.example"), ("*.example", "b.a.example")),
    ("a.example", ("b.example",), ()), ("*.example", ("example",), ()), ("", ("a.example", "a.example"), ("a.example",)),
])
def test_a_route_matches_by_its_own_hostnames(listener, route, expected):
    assert matching(listener, route) == expected


NAMES = ["", "example", "a.example", "b.a.example", "*.example", "*.a.example", "*.b", "c.b", "*.d.c.b", "e.d.c.b"]


@pytest.mark.parametrize("one", NAMES)
def test_a_bag_of_hostnames_says_what_pairs_say(one):
    for other in NAMES:
        bag = Hostnames()
        bag.update([other, "unrelated.net"])
        assert bag.meets(one) is (one == "" or covers(one, other) or covers(other, one)), other
        assert bag.meets_beside([other]) is (other == "")


# ---- Label selectors

WRONG = {       # the field and what is said of it
    "operator: Has": ("operator", "'Has' is not allowed, must be one of DoesNotExist, Exists, In, NotIn"),
    "operator: In": ("values", "must not be empty for the operator In"),
    "operator: NotIn, values: []": ("values", "must not be empty for the operator NotIn"),
    "operator: Exists, values: [x]": ("values", "must be empty for the operator Exists"),
    "operator: DoesNotExist, values: [x]": ("values", "must be empty for the operator DoesNotExist"),
}


@pytest.mark.parametrize(("selector", "labels", "expected"), [
    ("{}", {}, True),
    ("{matchLabels: {a: x}}", {"a": "x", "b": "y"}, True),
    ("{matchLabels: {a: x}}", {"a": "y"}, False),
    ("{matchExpressions: [{key: a, operator: In, values: [x, y]}]}", {"a": "y"}, True),
    ("{matchExpressions: [{key: a, operator: In, values: [x, y]}]}", {}, False),
    ("{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}", {}, True),
    ("{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}", {"a": "x"}, False),
    ("{matchExpressions: [{key: a, operator: Exists}]}", {"a": ""}, True),
    ("{matchExpressions: [{key: a, operator: Exists}]}", {}, False),
    ("{matchExpressions: [{key: a, operator: DoesNotExist}]}", {}, True),
    ("{matchExpressions: [{key: a, operator: DoesNotExist}]}", {"a": "x"}, False),
    ("{matchLabels: {a: x}, matchExpressions: [{key: b, operator: Exists}]}", {"a": "x"}, False),
    *[("{matchExpressions: [{key: a, " + wrong + "}]}", {"a": "x"}, False) for wrong in WRONG],
])
def test_selector(selector, labels, expected):
    more = "|allowedRoutes: {namespaces: {from: Selector, selector: " + selector + "}}"
    found = of(gateway("g", "web|HTTP|80|" + more))
    parsed = found[Key("Gateway", "default", "g")].spec.listeners[0].allowed_routes.namespaces.selector
    assert parsed.selects(labels) is expected


@pytest.mark.parametrize("place", ["the Gateway's listener", "the set's listener", "the Gateway's sets"])
@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_a_selector_that_is_wrong_selects_nothing_and_is_told(place, wrong):
    selector = "{from: Selector" + (f", selector: {{matchExpressions: [{{key: a, {wrong}}}]}}" if wrong else "") + "}"
    here, there = ("" if place != one else "|allowedRoutes: {namespaces: " + selector + "}"
                   for one in ("the Gateway's listener", "the set's listener"))
    sets = selector if place == "the Gateway's sets" else "{from: Same}"
    graph = attach(of(gateway("g", "a|HTTP|80|a.example" + here, "b|HTTP|80", spec=", allowedListeners: {namespaces: " + sets + "}"),
                      listener_set("s", "c|HTTP|81" + there), ROUTE), ALONE)
    owner, field, left = {
        "the Gateway's listener": ("Gateway default/g", "spec.listeners[0].allowedRoutes.namespaces", ["b", "c"]),
        "the set's listener": ("ListenerSet default/s", "spec.listeners[0].allowedRoutes.namespaces", ["a", "b"]),
        "the Gateway's sets": ("Gateway default/g", "spec.allowedListeners.namespaces", ["a", "b"]),
    }[place]
    what, message = WRONG[wrong] if wrong else ("", "must be specified when from is Selector")
    field += f".selector.matchExpressions[0].{what}" if wrong else ".selector"
    told = [(one.resource, one.field, one.message, one.severity) for one in problems(graph)]
    assert (owner, field, f"{message}: nothing is selected", "error") in told
    assert [node.name for node in graph.listeners.values() if node.attachments] == left
    assert all(node.programmed for node in graph.listeners.values())


# ---- Conflicts, ListenerSets, addresses: listeners, and what their status must say

TAKES_SETS = ", allowedListeners: {namespaces: {from: Same}}"
CASES = {
    "same hostname twice": (
        [gateway("g", "a|HTTP|80|x.example", "b|HTTP|80|x.example", "c|HTTP|80|y.example")],
        ["Gateway/default/g Accepted=True/ListenersNotValid Programmed=True",
         "Gateway/default/g#a Accepted=False/HostnameConflict Conflicted=True Programmed=False",
         "Gateway/default/g#b Accepted=False/HostnameConflict Conflicted=True",
         "Gateway/default/g#c Accepted=True Conflicted=False Programmed=True"],
    ),
    "no hostname twice": (
        [gateway("g", "a|HTTP|80", "b|HTTP|80")],
        ["Gateway/default/g Accepted=False/ListenersNotValid Programmed=False/Invalid",
         "Gateway/default/g#a Conflicted=True/HostnameConflict",
         "Gateway/default/g#b Conflicted=True/HostnameConflict"],
    ),
    "no listener wins among three": (
        [gateway("g", "a|HTTP|80|x.example", "b|HTTP|80|x.example", "c|HTTP|80|x.example")],
        ["Gateway/default/g#a Conflicted=True", "Gateway/default/g#b Conflicted=True",
         "Gateway/default/g#c Conflicted=True"],
    ),
    "TCP beside HTTP": (
        [gateway("g", "a|HTTP|80|x.example", "b|TCP|80", "c|HTTP|81")],
        ["Gateway/default/g#a Accepted=False/ProtocolConflict", "Gateway/default/g#b Accepted=False/ProtocolConflict",
         "Gateway/default/g#c Accepted=True"],
    ),
    "UDP beside TCP": (
        [gateway("g", "a|TCP|53", "b|UDP|53")],
        ["Gateway/default/g#a Accepted=True Programmed=True", "Gateway/default/g#b Accepted=True Programmed=True"],
    ),
    "HTTP beside HTTPS": (
        [gateway("g", "a|HTTP|443", "b|HTTPS|443|tls: {certificateRefs: [{name: cert}]}")],
        ["Gateway/default/g#a Conflicted=True/ProtocolConflict",
         "Gateway/default/g#b Conflicted=True/ProtocolConflict"],
    ),
    "HTTPS and TLS share a port by hostname": (
        [gateway("g", "a|HTTPS|443|x.example|tls: {certificateRefs: [{name: cert}]}",
                 "b|TLS|443|y.example|tls: {mode: Passthrough}")],
        ["Gateway/default/g#a Accepted=True Programmed=True", "Gateway/default/g#b Accepted=True Programmed=True"],
    ),
    "HTTPS and TLS with one hostname": (
        [gateway("g", "a|HTTPS|443|x.example|tls: {certificateRefs: [{name: cert}]}",
                 "b|TLS|443|x.example|tls: {mode: Passthrough}")],
        ["Gateway/default/g#a Conflicted=True/ProtocolConflict",
         "Gateway/default/g#b Conflicted=True/ProtocolConflict"],
    ),
    "the Gateway wins against a set": (
        [gateway("g", "a|HTTP|80|x.example", spec=TAKES_SETS), listener_set("s", "b|HTTP|80|x.example", "c|HTTP|81")],
        ["Gateway/default/g Accepted=True/Accepted attachedListenerSets=1", "Gateway/default/g#a Conflicted=False",
         "ListenerSet/default/s Accepted=True/ListenersNotValid Programmed=True",
         "ListenerSet/default/s#b Conflicted=True/HostnameConflict", "ListenerSet/default/s#c Accepted=True"],
    ),
    "nobody gets what the Gateway's own listeners quarrel over": (
        [gateway("g", "a|HTTP|80", "b|HTTP|80", spec=TAKES_SETS), listener_set("s", "c|HTTP|80")],
        ["Gateway/default/g#a Conflicted=True", "Gateway/default/g#b Conflicted=True",
         "ListenerSet/default/s#c Conflicted=True", "ListenerSet/default/s Accepted=False/ListenersNotValid"],
    ),
    "a listener that lost takes nothing": (
        [gateway("g", "a|HTTP|80|x.example", spec=TAKES_SETS), listener_set("s1", "b|TCP|80"),
         listener_set("s2", "c|HTTP|80|y.example")],
        ["ListenerSet/default/s1#b Conflicted=True/ProtocolConflict", "ListenerSet/default/s2#c Conflicted=False"],
    ),
    "two listeners of one set": (
        [gateway("g", "a|HTTP|81", spec=TAKES_SETS), listener_set("s", "b|HTTP|80", "c|HTTP|80")],
        ["ListenerSet/default/s#b Conflicted=True", "ListenerSet/default/s#c Conflicted=True"],
    ),
    "a set of a Gateway that is refused": (
        [gateway("g", "a|HTTP|80", spec=TAKES_SETS + ", addresses: [{type: Hostname, value: x.example}]"),
         listener_set("s", "b|HTTP|81")],
        ["Gateway/default/g Accepted=False/UnsupportedAddress Programmed=False/Invalid attachedListenerSets=0",
         "ListenerSet/default/s Accepted=False/ParentNotAccepted Programmed=False",
         "Gateway/default/g#a Programmed=False"],
    ),
    "a set with the Gateway's name": (
        [gateway("g", "a|HTTP|80", spec=TAKES_SETS), listener_set("g", "a|HTTP|81")],
        ["Gateway/default/g#a Programmed=True", "ListenerSet/default/g#a Programmed=True"],
    ),
    "two Gateways on one port": (
        [gateway("g1", "a|HTTP|80|x.example"), gateway("g2", "a|HTTP|80|y.example", "b|HTTP|81")],
        ["Gateway/default/g1#a Programmed=True", "Gateway/default/g2#a Accepted=True Programmed=False/PortUnavailable",
         "Gateway/default/g2#b Programmed=True", "Gateway/default/g2 Programmed=True"],
    ),
    "two Gateways with addresses of their own": (
        [gateway("g1", "a|HTTP|80", spec=", addresses: [{value: 127.0.0.2}]"),
         gateway("g2", "a|HTTP|80", spec=", addresses: [{value: 127.0.0.3}]"), gateway("g3", "a|HTTP|80")],
        ["Gateway/default/g1#a Programmed=True", "Gateway/default/g2#a Programmed=True",
         "Gateway/default/g3#a Programmed=True"],
    ),
    "all addresses are those of both families": (
        [gateway("g1", "a|HTTP|80"), gateway("g2", "a|HTTP|80", spec=', addresses: [{value: "::"}]')],
        ["Gateway/default/g1#a Programmed=True", "Gateway/default/g2#a Programmed=False/PortUnavailable"],
    ),
    "listeners disagree about the PROXY protocol": (
        [gateway("g", "a|HTTP|80|x.example", "b|HTTP|80|y.example", "c|HTTP|81",
                 metadata=", annotations: {gwfast.dev/proxy-protocol: 'b,c'}")],
        ["Gateway/default/g#a Programmed=True", "Gateway/default/g#b Programmed=False/ProxyProtocolConflict",
         "Gateway/default/g#c Programmed=True"],
    ),
    "one certificate for two listeners": (
        [gateway("g", "a|HTTPS|443|x.example|tls: {certificateRefs: [{name: cert}]}",
                 "b|HTTPS|443|y.example|tls: {certificateRefs: [{name: cert}]}",
                 "c|HTTPS|444|tls: {certificateRefs: [{name: cert}]}")],
        ["Gateway/default/g#a OverlappingTLSConfig=True/OverlappingCertificates",
         "Gateway/default/g#b OverlappingTLSConfig=True/OverlappingCertificates",
         "Gateway/default/g#c OverlappingTLSConfig=absent"],
    ),
    "one hostname covers another": (
        [gateway("g", "a|HTTPS|443|*.example|tls: {certificateRefs: [{name: bare}]}",
                 "b|HTTPS|443|y.example|tls: {certificateRefs: [{name: bare}]}",
                 "c|HTTPS|443|z.net|tls: {certificateRefs: [{name: bare}]}")],
        ["Gateway/default/g#a OverlappingTLSConfig=True/OverlappingHostnames",
         "Gateway/default/g#b OverlappingTLSConfig=True/OverlappingHostnames",
         "Gateway/default/g#c OverlappingTLSConfig=absent"],
    ),
    "one of two certificates is missing": (
        [gateway("g", "a|HTTPS|443|tls: {certificateRefs: [{name: nowhere}, {name: cert}]}")],
        ["Gateway/default/g#a ResolvedRefs=False/InvalidCertificateRef Programmed=True Accepted=True",
         "Gateway/default/g Accepted=True/Accepted Programmed=True ResolvedRefs=False/ListenersNotResolved"],
    ),
    "kinds of routes that are unknown, and others": (
        [gateway("g", "a|HTTP|80|allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}", "b|HTTP|81")],
        ["Gateway/default/g Accepted=True/Accepted Programmed=True ResolvedRefs=False/ListenersNotResolved",
         "Gateway/default/g#b ResolvedRefs=True/ResolvedRefs"],
    ),
    "every reference leads somewhere": (
        [gateway("g", "a|HTTPS|443|tls: {certificateRefs: [{name: cert}]}", "b|HTTP|80")],
        ["Gateway/default/g ResolvedRefs=True/ResolvedRefs"],
    ),
    "a client certificate and a listener's": (
        [gateway("g", "a|HTTPS|443|tls: {certificateRefs: [{name: nowhere}]}", "b|HTTP|80",
                 spec=", tls: {backend: {clientCertificateRef: {name: nowhere}}}")],
        ["Gateway/default/g Accepted=True/ListenersNotValid ResolvedRefs=False/InvalidClientCertificateRef"],
    ),
    "TLS without a certificate": (
        [gateway("g", "a|HTTPS|443")],
        ["Gateway/default/g#a ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid"],
    ),
    "the modes of TLS and HTTPS on one port": (
        [gateway("g", "a|HTTPS|443|a.example|tls: {certificateRefs: [{name: bare}]}", "d|HTTP|80",
                 "b|TLS|443|b.example|tls: {certificateRefs: [{name: bare}]}",
                 "c|TLS|443|*.example|tls: {mode: Passthrough}")],
        ["Gateway/default/g Accepted=True/Accepted",
         *(f"Gateway/default/g#{name} Programmed=True OverlappingTLSConfig=True/OverlappingHostnames" for name in "abc"),
         "Gateway/default/g#d OverlappingTLSConfig=absent"],
    ),
    "an option that nobody knows": (
        [gateway("g", f"a|{https('example.com/a: b')}", "b|HTTP|80")],
        ["Gateway/default/g#a Accepted=False/UnsupportedValue ResolvedRefs=True Programmed=False/Invalid",
         "Gateway/default/g#b Accepted=True Programmed=True", "Gateway/default/g Accepted=True/ListenersNotValid"],
    ),
    "a client certificate that is not there": (
        [gateway("g", "a|HTTP|80", spec=", tls: {backend: {clientCertificateRef: {name: nowhere}}}")],
        ["Gateway/default/g Accepted=True/Accepted Programmed=True ResolvedRefs=False/InvalidClientCertificateRef"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_status(name):
    texts, lines = CASES[name]
    found = of(*texts) | keyed(pki.secret("default", "cert", "a.example"), pki.secret("default", "bare"))
    check(attach(found, ALONE), *lines)


def test_the_older_listener_set_wins():
    texts = gateway("g", "a|HTTP|81", spec=TAKES_SETS), listener_set("a", "b|HTTP|80"), listener_set("b", "b|HTTP|80")
    found = of(*texts)
    check(attach(found, ALONE), "ListenerSet/default/a#b Accepted=True", "ListenerSet/default/b#b Accepted=False")
    young, old = Key("ListenerSet", "default", "a"), Key("ListenerSet", "default", "b")
    found |= {young: born(found[young], 2), old: born(found[old], 1)}
    graph = attach(found, ALONE)
    check(graph, "ListenerSet/default/a#b Accepted=False", "ListenerSet/default/b#b Accepted=True")
    assert graph.gateways[Key("Gateway", "default", "g")].listeners == ("default/g/a", "default/b/b", "default/a/b")


def test_the_older_gateway_has_the_port():
    found = of(gateway("g1", "a|HTTP|80"), gateway("g2", "a|HTTP|80"))
    key = Key("Gateway", "default", "g2")
    found[key] = born(found[key], 1)
    graph = attach(found, ALONE)
    check(graph, "Gateway/default/g1#a Programmed=False/PortUnavailable", "Gateway/default/g2#a Programmed=True")
    told = [problem for problem in problems(graph) if problem.reason == "PortUnavailable"]
    assert [(one.resource, one.field) for one in told] == [("Gateway default/g1", "spec.listeners[0].port")]
    assert "Gateway default/g2" in told[0].message and "spec.addresses" in told[0].message


def test_addresses_are_bound_as_written():
    spec = ', addresses: [{value: "::1"}, {value: "0:0:0:0:0:0:0:1"}, {value: 127.0.0.2}]'
    graph = attach(of(gateway("g", "a|HTTP|80", spec=spec), gateway("h", "a|HTTP|81")), ALONE)
    assert graph.listeners["default/g/a"].addresses == ("::1", "127.0.0.2")
    assert graph.listeners["default/h/a"].addresses == ("",)


@pytest.mark.parametrize(("options", "expected"), [
    ({}, {"g1", "g2"}), ({"gateway": "g1"}, {"g1"}), ({"gateway": "default/g2"}, {"g2"}),
    ({"gateway": "other/g1"}, set()),
    ({"gateway_class": "any"}, {"g1", "g2"}), ({"gateway_class": "other"}, set()),
    ({"controller_name": "example.net/us"}, set()),
])
def test_which_gateways_are_served(options, expected):
    graph = attach(of(gateway("g1", "a|HTTP|80"), gateway("g2", "a|HTTP|81")), GraphOptions(**options))
    assert {key.name for key in graph.gateways} == expected


def test_a_class_of_ours_is_served():
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: any}
spec: {controllerName: example.net/us}
"""
    found = of(gateway("g1", "a|HTTP|80"), text)
    graph = attach(found, GraphOptions(controller_name="example.net/us"))
    check(graph, "Gateway/default/g1 Programmed=True", "GatewayClass/any Accepted=True/Accepted")
    assert not attach(found, GraphOptions(controller_name="example.net/them")).classes


@pytest.mark.parametrize("parent", ["nowhere", "g, namespace: other", "g, kind: Service, group: ''"])
def test_a_set_without_a_gateway_is_told(parent):
    graph = attach(of(gateway("g", "a|HTTP|80", spec=TAKES_SETS), listener_set("s", "b|HTTP|81", parent=parent)), ALONE)
    assert not graph.listener_sets and list(graph.listeners) == ["default/g/a"]
    assert [(one.resource, one.field) for one in problems(graph)] == [("ListenerSet default/s", "spec.parentRef")]


@pytest.mark.parametrize(("options", "accepted", "severity"), [
    (GraphOptions(), "True/Accepted", "warning"),
    (GraphOptions(controller_name="example.net/us"), "False/InvalidParameters", "error"),
])
def test_parameters_of_a_class(options, accepted, severity):
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: any}
spec: {controllerName: example.net/us, parametersRef: {group: example.net, kind: Config, name: x}}
"""
    graph = attach(of(gateway("g1", "a|HTTP|80"), text), options)
    check(graph, f"GatewayClass/any Accepted={accepted}", "Gateway/default/g1 Programmed=True")
    assert [(one.resource, one.severity) for one in problems(graph)] == [("GatewayClass any", severity)]


def test_client_certificates_are_asked_for_by_port():
    spec = """, tls: {frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}},
        perPort: [{port: 444, tls: {}}]}}"""
    more = "tls: {certificateRefs: [{name: cert}]}"
    found = of(gateway("g", f"a|HTTPS|443|{more}", f"b|HTTPS|444|{more}", spec=spec))
    graph = attach(found | keyed(pki.secret("default", "cert"), pki.authority("default", "ca")), EVERYTHING)
    assert [bool(graph.listeners[f"default/g/{name}"].tls.client_ca) for name in "ab"] == [True, False]
    assert graph.listeners["default/g/a"].tls.certificates[0].secret == Key("Secret", "default", "cert")


@pytest.mark.parametrize(("options", "expected"), [
    ("", ("1.2", "")), ('gwfast.dev/tls-min-version: "1.3"', ("1.3", "")),
    ("gwfast.dev/tls-ciphers: ECDHE+AESGCM", ("1.2", "ECDHE+AESGCM")),
    ('gwfast.dev/tls-min-version: "1.1"', "gwfast.dev/tls-min-version is '1.1', 1.2 or 1.3 is needed"),
    ("gwfast.dev/tls-ciphers: NO-SUCH", "OpenSSL knows no cipher of 'NO-SUCH'"),
    ("gwfast.dev/tls-ciphers: ''", "OpenSSL knows no cipher of ''"),
    ("tls-min-version: '1.3'", "the option tls-min-version is not known here"),
])
def test_options(options, expected):
    found = of(gateway("g", f"a|{https(options)}")) | keyed(pki.secret("default", "cert"))
    graph = attach(found, EVERYTHING)
    tls = graph.listeners["default/g/a"].tls
    if isinstance(expected, tuple):
        assert ((tls.min_version, tls.ciphers), problems(graph)) == (expected, [])
    else:
        (told,) = problems(graph)
        name = options.partition(":")[0]
        assert (told.field, told.message) == (f"spec.listeners[0].tls.options[{name}]", expected)


def test_what_passes_through_has_options_too():
    text = "a|TLS|443|tls: {mode: Passthrough, options: {example.com/a: b}}"
    check(attach(of(gateway("g", text)), EVERYTHING), "Gateway/default/g#a Accepted=False/UnsupportedValue")


def weak(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signed(key, signer=None):
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, pki.START, pki.END)
    return builder.sign(signer or key, hashes.SHA256()).public_bytes(Encoding.PEM)


SMALL_RSA, ODD_CURVE = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())
BAD_SECRETS = {
    "nothing": ({}, "tls.crt and tls.key"),
    "no certificate": ({"tls.crt": b"x", "tls.key": b"y"}, "tls.crt is not"),
    "no key": ({"tls.crt": pki.pair()[0], "tls.key": b"y"}, "tls.key is not"),
    "the key of another": ({"tls.crt": pki.pair()[0], "tls.key": pki.pair("b.example")[1]}, "does not belong"),
    "a small key": ({"tls.crt": signed(SMALL_RSA), "tls.key": weak(SMALL_RSA)}, "an RSA key of 1024 bits"),
    "another curve": ({"tls.crt": signed(ODD_CURVE), "tls.key": weak(ODD_CURVE)}, "on the curve secp256k1"),
}


@pytest.mark.parametrize("name", BAD_SECRETS)
def test_what_is_wrong_with_a_certificate_is_said_and_the_others_serve(name):
    data, message = BAD_SECRETS[name]
    bad = msgspec.structs.replace(pki.secret("default", "bad"), data=data)
    found = of(gateway("g", f"a|{https(certificates='{name: bad}, {name: cert}')}", "b|HTTPS|444|tls: {certificateRefs: "
                       "[{name: bad}]}")) | keyed(bad, pki.secret("default", "cert"))
    graph = attach(found, EVERYTHING)
    told = [problem for problem in problems(graph) if problem.severity == "error"]
    assert [(one.field, one.reason) for one in told] == [
        (f"spec.listeners[{i}].tls.certificateRefs[0]", "InvalidCertificateRef") for i in (0, 1)
    ]
    assert message in told[0].message
    check(graph, "Gateway/default/g#a Programmed=True Accepted=True", "Gateway/default/g#b Programmed=False")
    assert [one.secret.name for one in graph.listeners["default/g/a"].tls.certificates] == ["cert"]


def test_a_certificate_says_until_when_and_never_its_key():
    found = of(gateway("g", f"a|{https()}")) | keyed(pki.secret("default", "cert", "A.example", "*.b.example"))
    (certificate,) = attach(found, EVERYTHING).listeners["default/g/a"].tls.certificates
    assert (certificate.names, certificate.not_after) == (("a.example", "*.b.example"), pki.END.timestamp())
    assert repr(certificate) == "Certificate(Secret default/cert)"
