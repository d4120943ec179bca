"""Every rule of the CRDs that no single value's schema says (CEL rules, keys of lists), at every place where it stands, and the
rules that only the spec's words say: `gwfast check` of a document that breaks one, and nothing else, names file, line and field.
"""
import json
import re
from pathlib import Path

import pytest
from support import upstream
import yaml

from gwfast.cli import main
from gwfast.config.load import load
from gwfast.config.model import KINDS

ROOT = Path(__file__).parents[2]
CRDS = upstream.folder("crds")
CRDS_7 = upstream.folder("crds", upstream.NEW)
OWN = ROOT / "deploy/crds"
READ = {kind: each for (group, kind), each in KINDS.items() if group not in ("", "discovery.k8s.io")}

ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")
BACKEND = {"name": "s", "port": 80}
TARGETS = [{"group": "", "kind": "Service", "name": "s"}]
LISTENERS = [{"name": "a", "port": 80, "protocol": "HTTP"}]
HTTPS = {"name": "a", "port": 443, "protocol": "HTTPS"}
TLS = {"certificateRefs": [{"name": "c"}]}
GATEWAYS_OF = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}]
LAYER4 = {"rules": [{"backendRefs": [BACKEND]}]}

PROVIDER = {"backendRef": BACKEND}
ENABLED = {"mode": "Enabled", "provider": PROVIDER}
# of an XBackend that has sessions, or a selector
SELECTED = {"type": "EndpointSelector", "endpointSelector": {"matchLabels": {"a": "b"}}, "externalHostname": None}

# A valid spec of each kind, which the value that breaks a rule is put into,
SPECS = {
    "HTTPRoute": {}, "GRPCRoute": {}, "TLSRoute": {"hostnames": ["a.b"], **LAYER4}, "TCPRoute": LAYER4, "UDPRoute": LAYER4,
    "GatewayClass": {"controllerName": "a.b/c"}, "Gateway": {"gatewayClassName": "c", "listeners": LISTENERS},
    "ListenerSet": {"parentRef": {"name": "g"}, "listeners": LISTENERS},
    "BackendTLSPolicy": {"targetRefs": TARGETS, "validation": {"hostname": "a.b", "wellKnownCACertificates": "System"}},
    "XBackend": {"type": "ExternalHostname", "port": {"number": 80}, "externalHostname": {"hostname": "a.b"}},
    "XTelemetryPolicy": {"targetRefs": GATEWAYS_OF, "tracing": {}},
    "XBackendTrafficPolicy": {"targetRefs": TARGETS}, "BackendPolicy": {"targetRefs": TARGETS},
    "PythonFilter": {"module": "m", "class": "C"}, "GatewayParameters": {"priorityClassName": "p"},
    "CertificateFile": dict.fromkeys(("certificate", "key", "ca"), __file__),  # files that are there
}
# and what has to stand beside a field on the way to that value.
BESIDE = {
    "filters.cors": {"type": "CORS"}, "filters.requestHeaderModifier": {"type": "RequestHeaderModifier"},
    "filters.responseHeaderModifier": {"type": "ResponseHeaderModifier"}, "filters.requestMirror": {"type": "RequestMirror"},
    "filters.requestRedirect": {"type": "RequestRedirect"}, "filters.urlRewrite": {"type": "URLRewrite"},
    "filters.externalAuth": {"type": "ExternalAuth"}, "requestMirror.fraction": {"backendRef": BACKEND},
    "externalAuth.backendRef": {"protocol": "HTTP", "http": {}}, "externalAuth.http": {"protocol": "HTTP", "backendRef": BACKEND},
    "externalAuth.grpc": {"protocol": "GRPC", "backendRef": BACKEND}, "backendRefs.filters": BACKEND, "listeners.tls": HTTPS,
    "frontend.perPort": {"default": {}}, "listeners.filters": LISTENERS[0], "requests.externalAuth": {"type": "ExternalAuth"},
    "XBackend tls.validation": {"mode": "ServerOnly"},
    "tracing.samplingRate": ENABLED, "tracing.provider": {"mode": "Enabled"}, "provider.headers": PROVIDER,
    "parentBasedSampling.samplingRate": {"mode": "Enabled"}, "tracing.parentBasedSampling": ENABLED, "tracing.attributes": ENABLED,
    "default.validation": {}, "tls.frontend": {}, "perPort.tls": {"port": 80},
    "validation.subjectAltNames": {"hostname": "a.b", "wellKnownCACertificates": "System"},
    "active.interval": {"type": "TCP"}, "active.timeout": {"type": "TCP"},
    "circuitBreaker.pendingTimeout": {"perEndpoint": {"maxParallelRequests": 1}},
}


def at(kinds, *paths):
    return [(kind, path) for kind in kinds for path in paths]


def below(places, *names):
    return [(kind, f"{path}.{name}") for kind, path in places for name in names]


HTTP_FILTERS = at(["HTTPRoute"], "spec.rules[].filters", "spec.rules[].backendRefs[].filters")
FILTERS = HTTP_FILTERS + at(["GRPCRoute"], "spec.rules[].filters", "spec.rules[].backendRefs[].filters")
HTTP_FILTER, FILTER = [[(kind, f"{path}[]") for kind, path in places] for places in (HTTP_FILTERS, FILTERS)]
MIRROR, CORS, AUTH = below(FILTER, "requestMirror"), below(HTTP_FILTER, "cors"), below(HTTP_FILTER, "externalAuth")
HEADERS = below(FILTER, "requestHeaderModifier", "responseHeaderModifier")
PATHS = below(HTTP_FILTER, "requestRedirect.path", "urlRewrite.path")
SESSIONS = [*at(["HTTPRoute", "GRPCRoute"], "spec.rules[].sessionPersistence"), ("XBackendTrafficPolicy", "spec.sessionPersistence")]
GATEWAYS = at(["Gateway", "ListenerSet"], "spec.listeners")
POLICIES = at(["BackendTLSPolicy"], "spec.targetRefs")
NAMES = at(["BackendTLSPolicy"], "spec.validation.subjectAltNames[]")

PARENTS = "when parentRefs includes 2 or more references to the same parent"
SAME_TARGET = "when targetRefs includes 2 or more references to the same target"
ABSOLUTE = "when type one of ['Exact', 'PathPrefix']"
CHARACTERS = ("must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types "
              "['Exact', 'PathPrefix']")
DNS = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
KEYS = "keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters."
COOKIE_FOREVER = {"cookieConfig": {"lifetimeType": "Permanent"}}
TWICE = [{"name": "a", "value": "b"}, {"name": "a", "value": "c"}]
MATCHES_129 = [{"matches": [{"headers": [{"name": "a", "value": "b"}]}] * 43}] * 3
TWO_MATCHES = [{"path": {"type": "PathPrefix", "value": "/a"}}, {"path": {"type": "PathPrefix", "value": "/b"}}]
EXACT = [{"path": {"type": "Exact", "value": "/a"}}]
PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
REDIRECT, REWRITE = [{"type": "RequestRedirect", "requestRedirect": {}}], [{"type": "URLRewrite", "urlRewrite": {}}]
REDIRECT_PREFIX = [{"type": "RequestRedirect", "requestRedirect": {"path": PREFIX}}]
REWRITE_PREFIX = [{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}]
EXTENSION = {"group": "a.b", "kind": "C", "name": "d"}
ASKED = {"protocol": "HTTP", "http": {}, "backendRef": BACKEND}
SET = {"requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}
OTHER = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["a"]}}

# filter.type, its field, a value of it, the places where there is such a filter
TYPES = [
    ("CORS", "cors", {}, HTTP_FILTER), ("RequestHeaderModifier", "requestHeaderModifier", {}, FILTER),
    ("ResponseHeaderModifier", "responseHeaderModifier", {}, FILTER),
    ("RequestMirror", "requestMirror", {"backendRef": BACKEND}, FILTER), ("RequestRedirect", "requestRedirect", {}, HTTP_FILTER),
    ("URLRewrite", "urlRewrite", {}, HTTP_FILTER), ("ExtensionRef", "extensionRef", EXTENSION, FILTER),
    ("ExternalAuth", "externalAuth", ASKED, HTTP_FILTER),
]

# places, message, the value that breaks the rule there, the field below the place that is named
RULES = [
    # every route
    (at(ROUTES, "spec.parentRefs"), f"sectionName or port must be specified {PARENTS}", [{"name": "a"}, {"name": "a", "port": 1}], "[1]"),
    (at(ROUTES, "spec.parentRefs"), f"sectionName or port must be unique {PARENTS}", [{"name": "a", "port": 1}] * 2, "[1]"),
    (at(("HTTPRoute", "GRPCRoute"), "spec.rules"), "Rule name must be unique within the route", [{"name": "a"}, {}, {"name": "a"}],
     "[2].name"),
    (at(("TLSRoute", "TCPRoute", "UDPRoute"), "spec.rules"), "Rule name must be unique within the route",
     [{"name": "a", "backendRefs": [BACKEND]}] * 2, "[1].name"),
    (at(("HTTPRoute", "GRPCRoute"), "spec.rules"), "While 16 rules and 64 matches per rule are allowed, the total number of matches "
     "across all rules in a route must be less than 128", MATCHES_129, ""),
    ([*at(ROUTES, "spec.rules[].backendRefs[]"), *below(MIRROR, "backendRef"), *below(AUTH, "backendRef")],
     "Must have port for Service reference", {"name": "s"}, ".port"),
    (SESSIONS, "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent", COOKIE_FOREVER, ".absoluteTimeout"),
    (SESSIONS, "cookieConfig can only be set with type Cookie", {"type": "Header", "cookieConfig": {}}, ".cookieConfig"),
    # HTTPRoute
    (at(["HTTPRoute"], "spec.rules[]"), "RequestRedirect filter must not be used together with backendRefs",
     {"filters": REDIRECT, "backendRefs": [BACKEND]}, ".filters"),
    *[(at(["HTTPRoute"], "spec.rules[]"), f"{where}using {kind} filter with path.replacePrefixMatch, exactly one PathPrefix match must "
       "be specified", {"matches": matches} | filters, ".matches")
      for kind, prefix, matches in (("RequestRedirect", REDIRECT_PREFIX, TWO_MATCHES), ("URLRewrite", REWRITE_PREFIX, EXACT))
      for where, filters in (("When ", {"filters": prefix}),
                             (f"Within backendRefs, {'When' if kind == 'URLRewrite' else 'when'} ",
                              {"backendRefs": [BACKEND | {"filters": prefix}]}))],
    (at(["HTTPRoute"], "spec.rules[].timeouts"), "backendRequest timeout cannot be longer than request timeout",
     {"request": "1s", "backendRequest": "1s1ms"}, ".backendRequest"),
    *[(at(["HTTPRoute"], "spec.rules[].matches[].path"), message, {"type": kind, "value": value}, ".value")
      for kind, message, value in (
          ("Exact", f"value must be an absolute path and start with '/' {ABSOLUTE}", "a"),
          ("PathPrefix", f"must not contain '//' {ABSOLUTE}", "/a//b"), ("Exact", f"must not contain '/./' {ABSOLUTE}", "/a/./b"),
          ("PathPrefix", f"must not contain '/../' {ABSOLUTE}", "/a/../b"), ("Exact", f"must not contain '%2f' {ABSOLUTE}", "/a%2fb"),
          ("PathPrefix", f"must not contain '%2F' {ABSOLUTE}", "/a%2Fb"), ("Exact", f"must not contain '#' {ABSOLUTE}", "/a#b"),
          ("PathPrefix", f"must not end with '/..' {ABSOLUTE}", "/a/.."), ("Exact", f"must not end with '/.' {ABSOLUTE}", "/a/."),
          ("PathPrefix", CHARACTERS, "/a b"))],
    (at(["HTTPRoute"], "spec.rules[].matches[].path"), "type must be one of ['Exact', 'PathPrefix', 'RegularExpression']",
     {"type": "Glob", "value": "/"}, ".type"),
    (at(["HTTPRoute"], "spec.rules[].matches[].headers", "spec.rules[].matches[].queryParams"), "Duplicate value: 'a'", TWICE, "[1].name"),
    (at(["HTTPRoute"], "spec.rules[].retry.codes"), "Duplicate value: 500", [500, 503, 500], "[2]"),
    # GRPCRoute
    (at(["GRPCRoute"], "spec.rules[].matches[].method"), "One or both of 'service' or 'method' must be specified", {"type": "Exact"}, ""),
    (at(["GRPCRoute"], "spec.rules[].matches[].method"), "service must only contain valid characters (matching "
     r"^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)", {"service": "a-b", "method": "m"}, ".service"),
    (at(["GRPCRoute"], "spec.rules[].matches[].method"), "method must only contain valid characters (matching "
     "^[A-Za-z_][A-Za-z_0-9]*$)", {"service": "a", "method": "a.b"}, ".method"),
    (at(["GRPCRoute"], "spec.rules[].matches[].headers"), "Duplicate value: 'a'", TWICE, "[1].name"),
    # TLSRoute
    (at(["TLSRoute"], "spec.hostnames"), "Hostnames cannot contain an IP", ["a.b", "1.2.3.4"], "[1]"),
    (at(["TLSRoute"], "spec.hostnames"), "Hostnames must be valid based on RFC-1123", ["a.b", "a..b"], "[1]"),
    (at(["TLSRoute"], "spec.hostnames"), "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on "
     "RFC-1123", ["a.*.b"], "[0]"),
    # filters
    *[([(where, path.removesuffix("[]")) for where, path in places], f"{kind} filter cannot be repeated",
       [{"type": kind, field: value}, OTHER if kind != OTHER["type"] else SET | {"type": "RequestHeaderModifier"},
        {"type": kind, field: value}], "[2]")
      for kind, field, value, places in TYPES if kind not in ("RequestMirror", "ExtensionRef", "ExternalAuth")],
    *[(places, f"filter.{field} must be specified for {kind} filter.type", {"type": kind}, f".{field}")
      for kind, field, _, places in TYPES],
    *[(places, f"filter.{field} must be nil if the filter.type is not {kind}",
       {field: value} | (OTHER if kind != OTHER["type"] else SET | {"type": "RequestHeaderModifier"}), f".{field}")
      for kind, field, value, places in TYPES],
    (HTTP_FILTERS, "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both",
     REDIRECT + REWRITE, ""),
    (MIRROR, "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter",
     {"backendRef": BACKEND, "percent": 1, "fraction": {"numerator": 1}}, ""),
    (below(MIRROR, "fraction"), "numerator must be less than or equal to denominator", {"numerator": 3, "denominator": 2}, ""),
    (below(HEADERS, "set", "add"), "Duplicate value: 'a'", TWICE, "[1].name"),
    (below(HEADERS, "remove"), "Duplicate value: 'a'", ["a", "b", "a"], "[2]"),
    *[(below(CORS, f"allow{name}"), f"Allow{name} cannot contain '*' alongside other {words}", ["*", value], "")
      for name, words, value in (("Origins", "origins", "http://a"), ("Methods", "methods", "GET"), ("Headers", "methods", "a"))],
    *[(below(CORS, name), f"Duplicate value: '{value}'", [value, value], "[1]")
      for name, value in (("allowOrigins", "http://a"), ("allowMethods", "GET"), ("allowHeaders", "a"), ("exposeHeaders", "a"))],
    *[(AUTH, message, {"backendRef": BACKEND} | value, field)
      for message, value, field in (
          ("grpc must be specified when protocol is set to 'GRPC'", {"protocol": "GRPC"}, ".grpc"),
          ("http must be specified when protocol is set to 'HTTP'", {"protocol": "HTTP"}, ".http"),
          ("protocol must be 'GRPC' when grpc is set", {"protocol": "HTTP", "http": {}, "grpc": {}}, ".protocol"),
          ("protocol must be 'HTTP' when http is set", {"protocol": "GRPC", "http": {}, "grpc": {}}, ".protocol"))],
    (below(AUTH, "grpc.allowedHeaders", "http.allowedHeaders", "http.allowedResponseHeaders"), "Duplicate value: 'a'", ["a", "a"], "[1]"),
    *[(PATHS, message, value, field)
      for message, value, field in (
          ("replaceFullPath must be specified when type is set to 'ReplaceFullPath'", {"type": "ReplaceFullPath"}, ".replaceFullPath"),
          ("replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'", {"type": "ReplacePrefixMatch"},
           ".replacePrefixMatch"),
          ("type must be 'ReplaceFullPath' when replaceFullPath is set", PREFIX | {"replaceFullPath": "/"}, ".type"),
          ("type must be 'ReplacePrefixMatch' when replacePrefixMatch is set",
           {"type": "ReplaceFullPath", "replaceFullPath": "/", "replacePrefixMatch": "/"}, ".type"))],
    # Gateway, ListenerSet
    (GATEWAYS, "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']", [LISTENERS[0] | {"tls": TLS}], "[0].tls"),
    (GATEWAYS, "tls mode must be Terminate for protocol HTTPS", [HTTPS | {"tls": {"mode": "Passthrough"}}], "[0].tls.mode"),
    (GATEWAYS, "tls mode must be set for protocol TLS", [HTTPS | {"protocol": "TLS"}], "[0].tls.mode"),
    (GATEWAYS, "hostname must not be specified for protocols ['TCP', 'UDP']", [HTTPS | {"protocol": "UDP", "hostname": "a.b"}],
     "[0].hostname"),
    (GATEWAYS, "Listener name must be unique within the Gateway", [LISTENERS[0], LISTENERS[0] | {"port": 81}], "[1].name"),
    (GATEWAYS, "Combination of port, protocol and hostname must be unique for each listener",
     [LISTENERS[0], LISTENERS[0] | {"name": "b"}], "[1]"),
    (at(["Gateway", "ListenerSet"], "spec.listeners[].tls"), "certificateRefs or options must be specified when mode is Terminate",
     {"mode": "Terminate"}, ""),
    (at(["Gateway"], "spec.addresses"), "IPAddress values must be unique", [{"value": "1.2.3.4"}, {}, {"value": "1.2.3.4"}], "[2].value"),
    (at(["Gateway"], "spec.addresses"), "Hostname values must be unique", [{"type": "Hostname", "value": "a"}] * 2, "[1].value"),
    (at(["Gateway"], "spec.addresses[]"), f"Hostname value must be empty or contain only valid characters (matching {DNS})",
     {"type": "Hostname", "value": "a_b"}, ".value"),
    *[(at(["Gateway"], f"spec.infrastructure.{word.lower()}s"), message, {key: "x"}, "")
      for word in ("Annotation", "Label")
      for message, key in ((f"{word} {KEYS}", "a/b/c"),
                           (f"If specified, the {word.lower()} key's prefix must be a DNS subdomain not longer than 253 characters in "
                            "total.", f"{'a' * 253}/b"))],
    (at(["Gateway"], "spec.tls.frontend.perPort"), "Port for TLS configuration must be unique within the Gateway",
     [{"port": 443, "tls": {}}] * 2, "[1].port"),
    # policies
    (POLICIES, f"sectionName must be specified {SAME_TARGET}", [*TARGETS, TARGETS[0] | {"sectionName": "x"}], "[1]"),
    (POLICIES, f"sectionName must be unique {SAME_TARGET}", TARGETS * 2, "[1]"),
    (at(["BackendTLSPolicy"], "spec.validation"), "must not contain both CACertificateRefs and WellKnownCACertificates",
     {"hostname": "a", "wellKnownCACertificates": "System", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "c"}]}, ""),
    (at(["BackendTLSPolicy"], "spec.validation"), "must specify either CACertificateRefs or WellKnownCACertificates", {"hostname": "a"}, ""),
    *[(NAMES, f"SubjectAltName element must {message}", value, field)
      for message, value, field in (
          ("contain Hostname, if Type is set to Hostname", {"type": "Hostname"}, ".hostname"),
          ("not contain Hostname, if Type is not set to Hostname", {"type": "URI", "uri": "a://b", "hostname": "a"}, ".hostname"),
          ("contain URI, if Type is set to URI", {"type": "URI"}, ".uri"),
          ("not contain URI, if Type is not set to URI", {"type": "Hostname", "hostname": "a", "uri": "a://b"}, ".uri"))],
    (at(["XBackendTrafficPolicy"], "spec.retryConstraint.budget.interval"),
     "interval cannot be greater than one hour or less than one second", "999ms", ""),
    (at(["XBackendTrafficPolicy"], "spec.retryConstraint.minRetryRate.interval"), "interval cannot be greater than one hour", "1h1ms", ""),
    (at(["XBackendTrafficPolicy"], "spec.targetRefs"), "Duplicate value: /Service s", TARGETS * 2, "[1]"),
]

TIMES = [("HTTPRoute", path) for path in ("spec.rules[].timeouts.request", "spec.rules[].timeouts.backendRequest",
                                            "spec.rules[].retry.backoff")]
TIMES += [*below(SESSIONS, "absoluteTimeout"), ("XBackendTrafficPolicy", "spec.retryConstraint.budget.interval"),
            ("XBackendTrafficPolicy", "spec.retryConstraint.minRetryRate.interval"), ("PythonFilter", "spec.timeout")]
OWN_TIMES = at(["BackendPolicy"], "spec.healthCheck.passive.baseEjectionTime", "spec.healthCheck.active.interval",
               "spec.healthCheck.active.timeout", "spec.slowStart.window", "spec.circuitBreaker.pendingTimeout")

# The same of what is only in the words of the API (spec 5.4, 5.5).
WORDS = [
    (HTTP_FILTERS, "ExternalAuth filter cannot be repeated", [{"type": "ExternalAuth", "externalAuth": ASKED}] * 2, "[1]"),
    (HEADERS, "only one action is permitted for a header, 'A' is in set too", {"set": [{"name": "A", "value": "b"}], "remove": ["a"]},
     ".remove[0]"),
    (HEADERS, "only one action is permitted for a header, 'a' is in set too",
     {"set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}, {"name": "A", "value": "d"}]}, ".add[1].name"),
    (HEADERS, "only one action is permitted for a header, 'a' is in add too", {"add": [{"name": "a", "value": "b"}], "remove": ["A"]},
     ".remove[0]"),
    (at(["HTTPRoute"], "spec.rules[]"), "RequestRedirect may not be combined with the URLRewrite of the rule",
     {"filters": REWRITE, "backendRefs": [BACKEND, BACKEND | {"filters": [OTHER, *REDIRECT]}]}, ".backendRefs[1].filters[1]"),
    *[(TIMES + OWN_TIMES, f"'{time}' is not allowed, must be a duration such as 500ms, 10s or 1m30s", time, "")
      for time in ("1", "1.5s", "1d", "-1s", "123456s", "1h1h1h1h1h", "1s ")],
]

# v1.7.0 has these besides (and of what v1.6.1 has not those that OLD names).
X_BACKEND = at(["XBackend"], "spec")
SESSIONS_7 = [*SESSIONS, ("XBackend", "spec.sessionPersistence")]
LISTENER_FILTER = at(["Gateway", "ListenerSet"], "spec.listeners[].filters.requests[]")
LISTENER_AUTH = below(LISTENER_FILTER, "externalAuth")
TRACING = at(["XTelemetryPolicy"], "spec.tracing")
X_REF = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x", "port": 80}
OTHER_TLS = {"mode": "ServerOnly", "validation": {"hostname": "a.b", "wellKnownCACertificates": "System"}}
BUNDLE = {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "b", "namespace": "n"}
NOT_FILTERED = "filters may only be set when protocol is HTTP or HTTPS"
FILTERED_TCP = {"name": "a", "port": 80, "protocol": "TCP", "filters": {}}
RULES_7 = [
    (SESSIONS_7, "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent",
     {"cookie": {"lifetimeType": "Permanent"}}, ".absoluteTimeout"),
    (SESSIONS_7, "cookie must be nil if type is not Cookie", {"type": "Header", "header": {"name": "a"}, "cookie": {}}, ".cookie"),
    (SESSIONS_7, "cookie must be specified for Cookie type", {}, ".cookie"),
    (SESSIONS_7, "header must be nil if type is not Header", {"cookie": {}, "header": {"name": "a"}}, ".header"),
    (SESSIONS_7, "header must be specified for Header type", {"type": "Header"}, ".header"),
    ([*at(ROUTES, "spec.rules[].backendRefs[]"), *below(MIRROR, "backendRef"), *below(AUTH, "backendRef"),
      *below(LISTENER_AUTH, "backendRef"), *below(TRACING, "provider.backendRef")],
     "Must not have port for Backend reference", X_REF, ".port"),
    ([*below(LISTENER_AUTH, "backendRef"), *below(TRACING, "provider.backendRef")], "Must have port for Service reference",
     {"name": "s"}, ".port"),
    (at(["Gateway"], "spec.addresses[].routability"), "Routability must be empty, Cluster, or an implementation-specific prefixed path; "
     "k8s.io and its subdomains are reserved", "a.k8s.io/b", ""),
    (at(["Gateway"], "spec.listeners[]"), NOT_FILTERED, FILTERED_TCP, ".filters"),
    *[(LISTENER_FILTER, f"filter.{name} must be specified for {kind} filter.type", {"type": kind}, f".{name}")
      for kind, name in (("ExternalAuth", "externalAuth"), ("ExtensionRef", "extensionRef"))],
    *[(LISTENER_FILTER, f"filter.{name} must be nil if the filter.type is not {kind}", {"type": other, name: value} | beside, f".{name}")
      for kind, name, value, other, beside in (
          ("ExternalAuth", "externalAuth", ASKED, "ExtensionRef", {"extensionRef": EXTENSION}),
          ("ExtensionRef", "extensionRef", EXTENSION, "ExternalAuth", {"externalAuth": ASKED}))],
    *[(LISTENER_AUTH, f"{name} must be specified when protocol is set to '{kind}'", {"protocol": kind, "backendRef": BACKEND}, f".{name}")
      for kind, name in (("GRPC", "grpc"), ("HTTP", "http"))],
    *[(LISTENER_AUTH, f"protocol must be '{kind}' when {name} is set",
       {"protocol": other, "backendRef": BACKEND, name: {}, other.lower(): {}}, ".protocol")
      for kind, name, other in (("GRPC", "grpc", "HTTP"), ("HTTP", "http", "GRPC"))],
    *[(below(LISTENER_AUTH, field), "Duplicate value: 'a'", ["a", "a"], "[1]")
      for field in ("grpc.allowedHeaders", "http.allowedHeaders", "http.allowedResponseHeaders")],
    (at(["Gateway"], "spec.tls.frontend.default.validation.caCertificateRefs", "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs"),
     "ClusterTrustBundle references must not specify namespace", [BUNDLE], "[0].namespace"),
    # XBackend
    (X_BACKEND, "externalHostname must be set when type is ExternalHostname and must be unset otherwise",
     {"type": "ExternalHostname", "externalHostname": None}, ".externalHostname"),
    (X_BACKEND, "endpointSelector must be set when type is EndpointSelector and must be unset otherwise",
     {"endpointSelector": {"matchLabels": {"a": "b"}}}, ".endpointSelector"),
    (X_BACKEND, "tls must be disabled when protocol is H2C, use protocol HTTP2 for HTTP/2 with tls",
     {"protocol": "H2C", "tls": OTHER_TLS}, ".tls.mode"),
    (X_BACKEND, "tls must be enabled when protocol is HTTP2, use protocol H2C for HTTP/2 without tls", {"protocol": "HTTP2"}, ".tls.mode"),
    (X_BACKEND, "tls must be enabled when protocol is WSS", {"protocol": "WSS"}, ".tls.mode"),
    (X_BACKEND, "sessionPersistence can only be set when type is EndpointSelector", {"sessionPersistence": {"cookie": {}}},
     ".sessionPersistence"),
    (below(X_BACKEND, "externalHostname.hostname"), "hostname must not be an IP address or end with .cluster.local",
     "a.cluster.local", ""),
    (below(X_BACKEND, "endpointSelector.matchLabels"), "Label keys must be in the form of an optional DNS subdomain prefix not longer "
     "than 253 characters followed by a required name segment of up to 63 characters.", {"/a": "b"}, ""),
    (below(X_BACKEND, "tls"), "clientCertificateRef must be set if and only if mode is ClientAndServer",
     OTHER_TLS | {"clientCertificateRef": {"name": "s"}}, ".clientCertificateRef"),
    (below(X_BACKEND, "tls"), "validation must be set if and only if mode is either ClientAndServer or ServerOnly",
     {"mode": "ServerOnly"}, ".validation"),
    *[(below(X_BACKEND, "tls.validation.subjectAltNames[]"), f"SubjectAltName element must {word}contain {what}, if Type is "
       f"{'not ' * bool(word)}set to {kind}", value, f".{what.lower()}")
      for word, what, kind, value in (
          ("", "Hostname", "Hostname", {"type": "Hostname"}), ("not ", "Hostname", "Hostname", {"type": "URI", "uri": "a://b", "hostname": "c"}),
          ("", "URI", "URI", {"type": "URI"}), ("not ", "URI", "URI", {"type": "Hostname", "hostname": "c", "uri": "a://b"}))],
    # XTelemetryPolicy
    (at(["XTelemetryPolicy"], "spec"), "at least one of the fields in [tracing] must be set", {"tracing": None}, ""),
    (TRACING, "provider is required when mode is Enabled, and must be empty otherwise", {"mode": "Enabled"}, ".provider"),
    *[(TRACING, f"{name} can only be set when mode is Enabled", {name: value}, f".{name}")
      for name, value in (("samplingRate", {"numerator": 1}), ("parentBasedSampling", {}), ("serviceName", "a"), ("spanName", "a"),
                          ("attributes", [{"name": "a", "sourceType": "Literal", "literalValue": "b"}]))],
    (below(TRACING, "parentBasedSampling"), "samplingRate can only be set when mode is Enabled", {"samplingRate": {"numerator": 1}},
     ".samplingRate"),
    (below(TRACING, "samplingRate", "parentBasedSampling.samplingRate"), "numerator must be less than or equal to denominator",
     {"numerator": 2, "denominator": 1}, ""),
    (below(TRACING, "provider.headers"), "Duplicate value: 'a'", TWICE, "[1].name"),
    (below(TRACING, "attributes"), "Duplicate value: 'a'", [{"name": "a", "sourceType": "Literal", "literalValue": "b"}] * 2, "[1].name"),
    *[(below(TRACING, "attributes[]"), f"{field} is required when sourceType is {kind}, and must be empty otherwise",
       {"name": "a", "sourceType": kind}, f".{field}")
      for kind, field in (("Header", "headerName"), ("Literal", "literalValue"), ("Attribute", "attributeKey"))],
]

# what the words of a Gateway's listeners say of those of a ListenerSet, and its CRD does not
WORDS.append((at(["ListenerSet"], "spec.listeners[]"), NOT_FILTERED, FILTERED_TCP, ".filters"))

# deploy/crds
OWN_RULES = [
    (at(["BackendPolicy"], "spec.targetRefs"), f"sectionName must be specified {SAME_TARGET}",
     [*TARGETS, TARGETS[0] | {"sectionName": "x"}], "[1]"),
    (at(["BackendPolicy"], "spec.targetRefs"), f"sectionName must be unique {SAME_TARGET}", TARGETS * 2, "[1]"),
    *[(at(["BackendPolicy"], "spec.healthCheck.active"), f"{field} must not be given unless type is {field.upper()}",
       {"type": other, field: {}}, f".{field}") for field, other in (("http", "GRPC"), ("grpc", "TCP"))],
    *[(OWN_TIMES, "must be from 10ms to 24h", time, "") for time in ("9ms", "24h1ms")],
    *[(at(["PythonFilter"], "spec"), "exactly one of module (what Python imports), file (beside this one) and configMap has to be given",
       value, "") for value in ({"file": "f.py"}, {"configMap": {"name": "code"}})],
    (at(["CertificateFile"], "spec"), "certificate and key have to be given together", {"key": None}, ""),
    (at(["CertificateFile"], "spec"), "certificate and key, or ca, have to be given", {"certificate": None, "key": None, "ca": None}, ""),
    (at(["GatewayParameters"], "spec"), "replicas must not be given with autoscaling, which decides them",
     {"replicas": 2, "autoscaling": {"maxReplicas": 3}}, ".replicas"),
    (at(["GatewayParameters"], "spec.autoscaling"), "minReplicas must not be more than maxReplicas", {"minReplicas": 3, "maxReplicas": 2},
     ".minReplicas"),
    *[(at(["GatewayParameters"], "spec.podDisruptionBudget"), "exactly one of minAvailable and maxUnavailable has to be given", value, "")
      for value in ({}, {"minAvailable": "50%", "maxUnavailable": 1})],
    (at(["GatewayParameters"], "spec.env"), "Duplicate value: 'A'", [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A"}], "[2].name"),
    (at(["GatewayParameters"], "spec.allowedForGateways"), "Duplicate value: 'env'", ["env", "pod", "env"], "[2]"),
    (at(["GatewayParameters"], "spec.addresses"), "Duplicate value: '::/0'", ["::/0", "::/0"], "[1]"),
    (at(["GatewayParameters"], "spec.env[]"), "value and valueFrom must not both be given", {"name": "A", "value": "", "valueFrom": {}},
     ".valueFrom"),
    (at(["PythonFilter"], "spec.timeout"), "timeout has to be more than 0s and at most 1h", "61m", ""),
]

# The words of ours for what the CRD says in others: a pattern or an enumeration of the field itself refuses it first,
OURS = {
    "Hostnames must be valid based on RFC-1123": "'a..b' is not allowed, must be a lower-case DNS name",
    "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123":
        "'a.*.b' is not allowed, must be a lower-case DNS name",
    "type must be one of ['Exact', 'PathPrefix', 'RegularExpression']":
        "'Glob' is not allowed, must be one of Exact, PathPrefix, RegularExpression",
}
# what else the one value breaks,
ALSO = {f"must not contain '#' {ABSOLUTE}": CHARACTERS}
# the rules of the standard channel that the experimental one says with more fields,
WIDER = {f"sectionName must be {word} {PARENTS}": f"sectionName or port must be {word} {PARENTS}" for word in ("specified", "unique")}
# the keys of lists that a CEL rule says too, and what is no document by itself: it is in test_config_load.
KEYED = {("Gateway", "spec.listeners"), ("ListenerSet", "spec.listeners"), ("Gateway", "spec.tls.frontend.perPort")}
CHANGES = {("GatewayClass", "spec.controllerName", f"{what} is immutable") for what in ("Value", "field")}
# What v1.6.1 says and v1.7.0 does not; and where it says it in other words, with the standard channel's beside them.
OLD = {"AbsoluteTimeout must be specified when cookie lifetimeType is Permanent", "cookieConfig can only be set with type Cookie"}
EXACTLY = "exactly one of the fields in [caCertificateRefs wellKnownCACertificates] must be set"
# of XBackends in v1.6.1, which is said otherwise today
GONE = {("XBackend", "spec.port.name", "Name must be a valid DNS label"),
        *[("XBackend", "spec.tls.validation", f"must {words} CACertificateRefs {word} WellKnownCACertificates")
          for words, word in (("not contain both", "and"), ("specify either", "or"))]}


def rules(schema, path=""):
    """Every (path, message) that a schema says of several fields or items. A controller's own status is not read."""
    yield from ((path, rule["message"]) for rule in schema.get("x-kubernetes-validations", ()))
    if schema.get("x-kubernetes-list-type") in ("map", "set"):
        yield path, "Duplicate value"
    for name, child in schema.get("properties", {}).items():
        if (path, name) != ("", "status"):
            yield from rules(child, f"{path}.{name}".lstrip("."))
    for name, more in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(name), dict):
            yield from rules(schema[name], path + more)


def crds(folder):
    """{(kind, path, message): versions} of the kinds that are read."""
    found = {}
    for file in sorted(folder.rglob("*.yaml")):
        for crd in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if crd.get("kind") == "CustomResourceDefinition" and (kind := crd["spec"]["names"]["kind"]) in READ:
                for version in crd["spec"]["versions"]:
                    for path, message in rules(version["schema"]["openAPIV3Schema"]):
                        found.setdefault((kind, path, WIDER.get(message, message)), set()).add(version["name"])
    return found


def key(kind, path, message):
    return kind, path, "Duplicate value" if message.startswith("Duplicate value") else message


GIVEN = crds(CRDS) if CRDS.exists() else {}
GIVEN_7 = crds(CRDS_7) if CRDS_7.exists() else {}


def cases():
    """Each rule at each place and in each version of the kind that has it there: (id, kind, version, path, message, value, field)."""
    for table in (RULES, WORDS, RULES_7, OWN_RULES):
        for number, (places, message, value, field) in enumerate(table):
            for kind, path in places:
                newest = "v1alpha2" if message.startswith("Rule name") and kind[:3] in ("TLS", "TCP", "UDP") else READ[kind].version
                for version in sorted(GIVEN.get(key(kind, path, message), {newest})):
                    yield pytest.param(kind, version, path, message, value, field, id=f"{kind}-{version}-{path}-{number}")


def document(kind, version, path, value):
    """The least that is valid, with a value at a path."""
    names = path.split(".")
    for before, name in zip(reversed(["", *names[:-1]]), reversed(names), strict=True):
        field, item = name.removesuffix("[]"), name.endswith("[]")
        place = f"{before.removesuffix('[]')}.{field}"
        value = {field: [value] if item else value} | BESIDE.get(place, {}) | BESIDE.get(f"{kind} {place}", {})
    selected = SELECTED if kind == "XBackend" and names[1:2] in (["sessionPersistence"], ["endpointSelector"]) else {}
    spec = {name: each for name, each in (SPECS[kind] | selected | value["spec"]).items() if each is not None}
    return {"apiVersion": f"{READ[kind].group}/{version}", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def written(value, path=""):
    """Yield (path, text) of each line of a value as YAML, a field on each."""
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in named:
        at, lead = (f"{path}.{name}".lstrip("."), f"{name}:") if isinstance(value, dict) else (f"{path}[{name}]", "-")
        below = list(written(child, at)) if child and isinstance(child, dict | list) else []
        if not below:
            yield at, f"{lead} {json.dumps(child)}"
        elif lead == "-":
            yield below[0][0], f"- {below.pop(0)[1]}"
        else:
            yield at, lead
        yield from ((path, f"  {text}") for path, text in below)


def line(field, lines):
    """The number of the line of a field, or of the nearest above it that is there."""
    while True:
        for number, (path, _) in enumerate(lines, 1):
            if path == field or path.startswith((f"{field}.", f"{field}[")):
                return number
        field = re.sub(r"(?:\.\w+|\[\d+\])$", "", field)


@pytest.mark.parametrize("kind, version, path, message, value, field", [*cases()])
def test_check_names_file_line_and_field(kind, version, path, message, value, field, tmp_path, capsys):
    lines = list(written(document(kind, version, path, value)))
    file = tmp_path / "broken.yaml"
    file.write_text("\n".join(text for _, text in lines))
    field = path.replace("[]", "[0]") + field
    status = main(["check", str(file)])
    told = [each for each in capsys.readouterr().out.splitlines() if each.startswith(f"{file}:") and " error: " in each]
    expected = [OURS.get(message, message), *filter(None, [ALSO.get(message)])]
    assert status == 1 and len(told) == len(expected), told
    for line_told, words in zip(told, expected, strict=True):
        start = f"{file}:{line(field, lines)}: error: {kind} default/x {field}: "
        assert line_told.startswith(start) and line_told.endswith(" (Invalid)"), (start, line_told)
        assert words in line_told.removeprefix(start)


@pytest.mark.parametrize("kind", SPECS)
def test_what_the_values_are_put_into_is_valid(kind, tmp_path):
    file = tmp_path / "valid.yaml"
    file.write_text("\n".join(text for _, text in written(document(kind, READ[kind].version, "spec", SPECS[kind]))))
    loaded = load([str(file)])
    assert loaded.problems == [] and len(loaded.resources) == 1


@upstream.needs("crds")
def test_every_rule_of_the_crds_has_a_case_and_no_case_is_without_a_rule():
    covered = {key(kind, path, message) for places, message, _, _ in RULES for kind, path in places}
    keyed = {(*place, "Duplicate value") for place in KEYED}
    assert len(GIVEN) > 200
    newer = {key(kind, path, message) for places, message, _, _ in RULES_7 for kind, path in places}
    assert GIVEN.keys() - covered - newer - keyed - CHANGES - GONE == set()
    assert covered - GIVEN.keys() == set()


@upstream.needs("crds", upstream.NEW)
def test_every_rule_of_the_crds_of_1_7_has_a_case_and_no_case_is_without_a_rule():
    keyed = {(*place, "Duplicate value") for place in KEYED}
    old = {key(kind, path, message) for places, message, _, _ in RULES for kind, path in places if message in OLD}
    newer = {key(kind, path, message) for places, message, _, _ in RULES_7 for kind, path in places}
    covered = {key(kind, path, message) for places, message, _, _ in RULES for kind, path in places} - old | newer
    given = {each for each in GIVEN_7 if each[2] != EXACTLY}
    assert given - covered - keyed - CHANGES == set()
    assert covered - given == set()


def test_every_rule_of_our_own_crds_has_a_case_and_no_case_is_without_a_rule():
    assert crds(OWN).keys() == {key(kind, path, message) for places, message, _, _ in OWN_RULES for kind, path in places}
