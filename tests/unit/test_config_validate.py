# ruff: noqa: UP031  YAML in its flow style is full of braces
"""What the rules that look at several fields say to more values than the one that test_config_rules breaks each with, and to what
is valid; and what is said of values that are not even of the right type."""
import copy

import pytest
import yaml

from gwfast.config.decode import decode
from gwfast.config.model import EXPERIMENTAL_GROUP, GATEWAY_GROUP, KINDS
from gwfast.config.scalars import seconds

BACKEND = "{name: s, port: 80}"
HTTP = "rules: [{%s}]"
MATCH = "rules: [{matches: [{%s}]}]"
LISTENER = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: %s}]"
LISTENERS = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP, hostname: a.b}, {%s}]"
GATEWAY = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}], %s"
POLICY = "targetRefs: [{group: '', kind: Service, name: s%s}], validation: {hostname: a.b, wellKnownCACertificates: System}"
TRAFFIC = "XBackendTrafficPolicy"
TRAFFIC_SPEC = "targetRefs: [{group: '', kind: Service, name: s}%s], %s"
REPLACE = "{type: %s, %s: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}"

# kind, spec, field, message
CASES = [
    ("HTTPRoute", HTTP % ("matches: [], filters: [%s]" % (REPLACE % ("URLRewrite", "urlRewrite"))),
     "spec.rules[0].matches",
     "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"),
    ("HTTPRoute", HTTP % ("matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: s, port: 1, filters: [%s]}, "
                          "{name: t, port: 1, filters: [%s]}]" % ((REPLACE % ("URLRewrite", "urlRewrite"),) * 2)),
     "spec.rules[0].matches",
     "Within backendRefs, When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"),
    ("HTTPRoute", HTTP % "timeouts: {request: 1s, backendRequest: 0h1m}",
     "spec.rules[0].timeouts.backendRequest", "backendRequest timeout cannot be longer than request timeout"),
    ("TLSRoute", f"rules: [{{backendRefs: [{BACKEND}]}}]", "spec.hostnames", "must have at least 1 items, has 0"),
    *[(kind, f"hostnames: [a.b], rules: [{{backendRefs: [{BACKEND}]}}, {{backendRefs: [{BACKEND}]}}]", "spec.rules",
       "must have at most 1 items, has 2") for kind in ("TLSRoute", "TCPRoute", "UDPRoute")],
    ("Gateway", GATEWAY % "addresses: [{value: 1.2.3}]", "spec.addresses[0].value",
     "'1.2.3' is no IPv4 or IPv6 address"),
    ("Gateway", GATEWAY % "infrastructure: {labels: {-a: x}}", "spec.infrastructure.labels",
     "'-a': Label keys must be in the form of an optional DNS subdomain prefix followed by a required name segment "
     "of up to 63 characters."),
    ("BackendTLSPolicy", POLICY % ", sectionName: x}, {group: '', kind: Service, name: s, sectionName: x", "spec.targetRefs[1]",
     "sectionName must be unique when targetRefs includes 2 or more references to the same target"),
    (TRAFFIC, TRAFFIC_SPEC % (", {group: '', kind: Service, name: t}, {group: '', kind: Service, name: s}", ""),
     "spec.targetRefs[2]", "Duplicate value: /Service s"),
    *[(TRAFFIC, TRAFFIC_SPEC % ("", f"retryConstraint: {{budget: {{interval: {interval}}}}}"),
       "spec.retryConstraint.budget.interval", "interval cannot be greater than one hour or less than one second")
      for interval in ("999ms", "0s", "1h1ms")],
    *[(TRAFFIC, TRAFFIC_SPEC % ("", f"retryConstraint: {{minRetryRate: {{interval: {interval}}}}}"),
       "spec.retryConstraint.minRetryRate.interval", "interval cannot be greater than one hour")
      for interval in ("0s", "61m")],
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {budget: {percent: 101}}"), "spec.retryConstraint.budget.percent",
     "101 is not allowed, must be at most 100"),
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {minRetryRate: {count: 0}}"),
     "spec.retryConstraint.minRetryRate.count", "0 is not allowed, must be at least 1"),
]


def findings(kind: str, spec: str, version: str = "v1"):
    value = {"kind": kind, "metadata": {"name": "x"}, "spec": yaml.load("{" + spec + "}", yaml.CSafeLoader)}
    if kind not in ("HTTPRoute", "GRPCRoute", "TLSRoute"):
        value["spec"].pop("hostnames", None)
    group = EXPERIMENTAL_GROUP if kind == TRAFFIC else GATEWAY_GROUP
    resource, found = decode(copy.deepcopy(value), KINDS[group, kind])
    return found + ([*resource.validate(version)] if resource else [])


@pytest.mark.parametrize("kind, spec, field, message", CASES, ids=[f"{c[0]}-{c[2]}-{c[3][:48]}" for c in CASES])
def test_broken_rule_names_the_field(kind, spec, field, message):
    assert [(each.field, each.message, each.severity) for each in findings(kind, spec)] == [(field, message, "error")]


@pytest.mark.parametrize("kind", ["Exact", "PathPrefix"])
def test_an_empty_path_is_neither_absolute_nor_of_valid_characters(kind):
    found = findings("HTTPRoute", MATCH % f"path: {{type: {kind}, value: ''}}")
    assert [each.message[:25] for each in found] == ["value must be an absolute", "must only contain valid c"]


def test_the_same_header_again_in_one_list_is_said_to_be_ignored():
    value = "type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: b}, {name: a, value: c}], remove: [x, X]}"
    at = "spec.rules[0].filters[0].requestHeaderModifier"
    assert [(each.field, each.message, each.severity) for each in findings("HTTPRoute", HTTP % f"filters: [{{{value}}}]")] == [
        (f"{at}.set[1].name", "is ignored, 'A' is the same header", "warning"),
        (f"{at}.remove[1]", "is ignored, 'x' is the same header", "warning"),
    ]


VALID = [
    ("HTTPRoute", "parentRefs: [{name: a, port: 1}, {name: a, port: 2}, {name: a, namespace: b}, {name: b}]"),
    ("HTTPRoute", "parentRefs: [{name: a, sectionName: x}, {name: a, sectionName: y}]"),
    ("HTTPRoute", "rules: [{backendRefs: [{group: x.io, kind: Other, name: s}]}]"),
    ("HTTPRoute", "rules: [{timeouts: {request: 0s, backendRequest: 10s}}]"),
    ("HTTPRoute", HTTP % ("matches: [{}], filters: [%s]" % (REPLACE % ("URLRewrite", "urlRewrite")))),
    ("HTTPRoute", MATCH % "path: {type: RegularExpression, value: '['}"),
    ("HTTPRoute", MATCH % "path: {value: /}"),
    ("HTTPRoute", MATCH % "path: {type: Exact, value: /.well-known/a.b/%20~}"),
    ("HTTPRoute", MATCH % "path: {value: /a/}"),
    ("HTTPRoute", HTTP % "filters: [{type: RequestMirror, requestMirror: {backendRef: %s}}, "
     "{type: RequestMirror, requestMirror: {backendRef: %s}}]" % (BACKEND, BACKEND)),
    ("GRPCRoute", MATCH % "method: {service: A.b_1, method: Do}"),
    ("GRPCRoute", MATCH % "method: {type: RegularExpression, service: '['}"),
    ("TLSRoute", f"hostnames: ['*.a.b', c], rules: [{{backendRefs: [{BACKEND}]}}]"),
    ("Gateway", LISTENER % "TLS, tls: {mode: Passthrough}"),
    ("Gateway", LISTENER % "HTTPS, tls: {options: {a: b}}"),
    ("Gateway", LISTENER % "HTTPS"),
    ("Gateway", GATEWAY % "addresses: [{}, {}, {value: '::1'}, {type: Hostname, value: ''}, {type: a.b/c, value: x}]"),
    ("Gateway", LISTENERS % "name: b, port: 80, protocol: HTTP"),
    ("Gateway", LISTENER % "HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {}}}"),
    ("Gateway", LISTENER % "HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: "
     "In, values: [b]}, {key: a, operator: Exists}]}}}"),
    ("Gateway", GATEWAY % "allowedListeners: {namespaces: {from: All, selector: {matchExpressions: [{key: a, operator: Has}]}}}"),
    ("HTTPRoute", HTTP % f"filters: [{{type: URLRewrite, urlRewrite: {{}}}}], backendRefs: [{BACKEND}, {BACKEND}]"),
    (TRAFFIC, TRAFFIC_SPEC % (", {group: x.io, kind: Other, name: s}", "retryConstraint: {}")),
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {budget: {interval: 1s, percent: 0}, minRetryRate: {interval: 1h}}")),
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {budget: {interval: 60m}, minRetryRate: {count: 1, interval: 1ms}}")),
]


@pytest.mark.parametrize("kind, spec", VALID)
def test_valid_breaks_no_rule(kind, spec):
    assert findings(kind, spec) == []


@pytest.mark.parametrize("text, value", [("0s", 0), ("500ms", 0.5), ("1m30s", 90), ("1h1m1s1ms", 3661.001)])
def test_seconds(text, value):
    assert seconds(text) == pytest.approx(value)


def test_every_error_is_found_at_once():
    found = findings("Gateway", "listeners: [{port: x, name: a, protocol: HTTP}, {name: b}, {port: 0, protocol: HTTP, "
                     "name: c}, {port: 1}], addresses: [{value: 5}, 7], extra: 1")
    assert {(each.field, each.severity) for each in found} == {
        ("spec.extra", "error"), ("spec.gatewayClassName", "error"), ("spec.listeners[0].port", "error"),
        ("spec.listeners[1].port", "error"), ("spec.listeners[2].port", "error"), ("spec.listeners[3].name", "error"),
        ("spec.listeners[1].protocol", "error"), ("spec.listeners[3].protocol", "error"),
        ("spec.addresses[0].value", "error"), ("spec.addresses[1]", "error"),
    }


@pytest.mark.parametrize("spec, field, message", [
    ("hostnames: [on]", "spec.hostnames[0]", "must be a string, not a boolean; quote it"),
    ("hostnames: a.b", "spec.hostnames", "must be a list, not a string"),
    ("rules: {}", "spec.rules", "must be a list, not a mapping"),
    ("rules: [{backendRefs: [{name: s, port: '80'}]}]", "spec.rules[0].backendRefs[0].port",
     "must be an integer, not a string"),
    ("rules: [{backendRefs: [{name: s, port: 80, weight: -1}]}]", "spec.rules[0].backendRefs[0].weight",
     "-1 is not allowed, must be at least 0"),
    ("rules: []", "spec.rules", "must have at least 1 items, has 0"),
    ("hostnames: ['']", "spec.hostnames[0]", "must have at least 1 characters, has 0"),
    ("rules: [{matches: [{method: get}]}]", "spec.rules[0].matches[0].method",
     "'get' is not allowed, must be one of CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE"),
    ("hostnames: [1.5]", "spec.hostnames[0]", "must be a string, not a number; quote it"),
    ("useDefaultGateways: Some", "spec.useDefaultGateways", "'Some' is not allowed, must be one of All, None"),
])
def test_message_says_what_is_allowed(spec, field, message):
    assert [(each.field, each.message) for each in findings("HTTPRoute", spec)] == [(field, message)]


def test_null_is_absent_and_unknown_fields_are_named():
    spec = "hostnames: null, parentRefs: , rules: [{matches: [{path: {value: /a, kind: b}}]}], x: 1"
    found = findings("HTTPRoute", spec)
    assert [(each.field, each.severity) for each in found] == [
        ("spec.rules[0].matches[0].path.kind", "error"), ("spec.x", "error"),
    ]
