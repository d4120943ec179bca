# ruff: noqa: UP031  YAML in its flow style is full of braces
"""Every rule of the CRDs that looks at several fields, broken once: the field is named, in the CRD's own words."""
import copy
import re
from pathlib import Path

import pytest
import yaml

from gwfast.config.decode import decode
from gwfast.config.model import EXPERIMENTAL_GROUP, GATEWAY_GROUP, KINDS
from gwfast.config.validate import check, seconds

CRDS = Path(__file__).parents[2].parent / "shared/gateway-api/crds"

BACKEND = "{name: s, port: 80}"
HTTP = "rules: [{%s}]"
FILTER = "rules: [{filters: [{%s}]}]"
MATCH = "rules: [{matches: [{%s}]}]"
LISTENER = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: %s}]"
LISTENERS = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP, hostname: a.b}, {%s}]"
GATEWAY = "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}], %s"
POLICY = "targetRefs: [{group: '', kind: Service, name: s%s}], validation: {hostname: a.b, %s}"
TRAFFIC = "XBackendTrafficPolicy"
TRAFFIC_SPEC = "targetRefs: [{group: '', kind: Service, name: s}%s], %s"
PERMANENT = "sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"
HEADER_COOKIE = "sessionPersistence: {type: Header, cookieConfig: {}}"
REPLACE = "{type: %s, %s: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}"
RULES_129 = "rules: [" + ", ".join(["{matches: [" + ", ".join(["{}"] * 43) + "]}"] * 3) + "]"
EXACT_TWO = "matches: [{path: {type: Exact, value: /a}}, {}]"

# kind, spec, field, message
CASES = [
    # parentRefs, every route
    *[(kind, "parentRefs: [{name: a}, {name: a, port: 1}], hostnames: [a.b], rules: [{backendRefs: [%s]}]" % BACKEND,
       "spec.parentRefs[1]",
       "sectionName or port must be specified when parentRefs includes 2 or more references to the same parent")
      for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")],
    *[(kind, "parentRefs: [{name: a, sectionName: x}, {name: a, sectionName: x}], hostnames: [a.b], "
       "rules: [{backendRefs: [%s]}]" % BACKEND, "spec.parentRefs[1]",
       "sectionName or port must be unique when parentRefs includes 2 or more references to the same parent")
      for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")],
    # HTTPRoute
    ("HTTPRoute", RULES_129, "spec.rules", "While 16 rules and 64 matches per rule are allowed, the total number of "
     "matches across all rules in a route must be less than 128"),
    ("HTTPRoute", "rules: [{name: a}, {}, {name: a}]", "spec.rules[2].name",
     "Rule name must be unique within the route"),
    ("HTTPRoute", HTTP % f"filters: [{{type: RequestRedirect, requestRedirect: {{}}}}], backendRefs: [{BACKEND}]",
     "spec.rules[0].filters", "RequestRedirect filter must not be used together with backendRefs"),
    ("HTTPRoute", HTTP % (f"{EXACT_TWO}, filters: [%s]" % (REPLACE % ("RequestRedirect", "requestRedirect"))),
     "spec.rules[0].matches",
     "When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"),
    ("HTTPRoute", HTTP % (f"{EXACT_TWO}, filters: [%s]" % (REPLACE % ("URLRewrite", "urlRewrite"))),
     "spec.rules[0].matches",
     "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"),
    ("HTTPRoute", HTTP % ("matches: [], filters: [%s]" % (REPLACE % ("URLRewrite", "urlRewrite"))),
     "spec.rules[0].matches",
     "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"),
    ("HTTPRoute", HTTP % (f"{EXACT_TWO}, backendRefs: [{{name: s, port: 1, filters: [%s]}}]"
                          % (REPLACE % ("RequestRedirect", "requestRedirect"))), "spec.rules[0].matches",
     "Within backendRefs, when using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix "
     "match must be specified"),
    ("HTTPRoute", HTTP % (f"{EXACT_TWO}, backendRefs: [{{name: s, port: 1, filters: [%s]}}]"
                          % (REPLACE % ("URLRewrite", "urlRewrite"))), "spec.rules[0].matches",
     "Within backendRefs, When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match "
     "must be specified"),
    ("HTTPRoute", HTTP % "backendRefs: [{name: s}]", "spec.rules[0].backendRefs[0].port",
     "Must have port for Service reference"),
    ("HTTPRoute", HTTP % "timeouts: {request: 1s, backendRequest: 1500ms}",
     "spec.rules[0].timeouts.backendRequest", "backendRequest timeout cannot be longer than request timeout"),
    ("HTTPRoute", HTTP % PERMANENT, "spec.rules[0].sessionPersistence.absoluteTimeout",
     "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"),
    ("HTTPRoute", HTTP % HEADER_COOKIE, "spec.rules[0].sessionPersistence.cookieConfig",
     "cookieConfig can only be set with type Cookie"),
    ("HTTPRoute", HTTP % "retry: {codes: [500, 500]}", "spec.rules[0].retry.codes[1]", "Duplicate value: 500"),
    # lists of filters
    ("HTTPRoute", HTTP % "filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]",
     "spec.rules[0].filters",
     "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"),
    *[("HTTPRoute", HTTP % f"filters: [{{type: {kind}, {field}: {{}}}}, {{type: {kind}, {field}: {{}}}}]",
       "spec.rules[0].filters[1]", f"{kind} filter cannot be repeated")
      for kind, field in (("CORS", "cors"), ("RequestHeaderModifier", "requestHeaderModifier"),
                          ("ResponseHeaderModifier", "responseHeaderModifier"),
                          ("RequestRedirect", "requestRedirect"), ("URLRewrite", "urlRewrite"))],
    ("HTTPRoute", HTTP % "backendRefs: [{name: s, port: 1, filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]}]",
     "spec.rules[0].backendRefs[0].filters[1]", "CORS filter cannot be repeated"),
    # one filter
    *[("HTTPRoute", FILTER % f"type: {kind}", f"spec.rules[0].filters[0].{field}",
       f"filter.{field} must be specified for {kind} filter.type")
      for kind, field in (("CORS", "cors"), ("RequestHeaderModifier", "requestHeaderModifier"),
                          ("ResponseHeaderModifier", "responseHeaderModifier"), ("RequestMirror", "requestMirror"),
                          ("RequestRedirect", "requestRedirect"), ("URLRewrite", "urlRewrite"),
                          ("ExtensionRef", "extensionRef"), ("ExternalAuth", "externalAuth"))],
    *[("HTTPRoute", FILTER % f"type: {other}, {rest}, {field}: {{{value}}}", f"spec.rules[0].filters[0].{field}",
       f"filter.{field} must be nil if the filter.type is not {kind}")
      for kind, field, value, other, rest in (
          ("CORS", "cors", "", "URLRewrite", "urlRewrite: {}"),
          ("RequestHeaderModifier", "requestHeaderModifier", "", "URLRewrite", "urlRewrite: {}"),
          ("ResponseHeaderModifier", "responseHeaderModifier", "", "URLRewrite", "urlRewrite: {}"),
          ("RequestMirror", "requestMirror", f"backendRef: {BACKEND}", "URLRewrite", "urlRewrite: {}"),
          ("RequestRedirect", "requestRedirect", "", "URLRewrite", "urlRewrite: {}"),
          ("URLRewrite", "urlRewrite", "", "CORS", "cors: {}"),
          ("ExtensionRef", "extensionRef", "group: a, kind: B, name: c", "CORS", "cors: {}"),
          ("ExternalAuth", "externalAuth", f"protocol: HTTP, http: {{}}, backendRef: {BACKEND}", "CORS", "cors: {}"))],
    ("HTTPRoute", FILTER % "type: CORS, cors: {allowOrigins: ['*', 'http://a']}",
     "spec.rules[0].filters[0].cors.allowOrigins", "AllowOrigins cannot contain '*' alongside other origins"),
    ("HTTPRoute", FILTER % "type: CORS, cors: {allowMethods: ['*', GET]}",
     "spec.rules[0].filters[0].cors.allowMethods", "AllowMethods cannot contain '*' alongside other methods"),
    ("HTTPRoute", FILTER % "type: CORS, cors: {allowHeaders: ['*', a]}",
     "spec.rules[0].filters[0].cors.allowHeaders", "AllowHeaders cannot contain '*' alongside other methods"),
    ("HTTPRoute", FILTER % "type: CORS, cors: {exposeHeaders: [a, a]}",
     "spec.rules[0].filters[0].cors.exposeHeaders[1]", "Duplicate value: 'a'"),
    *[("HTTPRoute", FILTER % f"type: ExternalAuth, externalAuth: {{backendRef: {BACKEND}, {rest}}}",
       f"spec.rules[0].filters[0].externalAuth.{field}", message)
      for rest, field, message in (
          ("protocol: GRPC", "grpc", "grpc must be specified when protocol is set to 'GRPC'"),
          ("protocol: HTTP", "http", "http must be specified when protocol is set to 'HTTP'"),
          ("protocol: HTTP, http: {}, grpc: {}", "protocol", "protocol must be 'GRPC' when grpc is set"),
          ("protocol: GRPC, http: {}, grpc: {}", "protocol", "protocol must be 'HTTP' when http is set"),
          ("protocol: GRPC, grpc: {allowedHeaders: [a, a]}", "grpc.allowedHeaders[1]", "Duplicate value: 'a'"),
          ("protocol: HTTP, http: {allowedHeaders: [a, a]}", "http.allowedHeaders[1]", "Duplicate value: 'a'"),
          ("protocol: HTTP, http: {allowedResponseHeaders: [a, a]}", "http.allowedResponseHeaders[1]",
           "Duplicate value: 'a'"))],
    ("HTTPRoute", FILTER % "type: ExternalAuth, externalAuth: {backendRef: {name: s}, protocol: HTTP, http: {}}",
     "spec.rules[0].filters[0].externalAuth.backendRef.port", "Must have port for Service reference"),
    *[("HTTPRoute", FILTER % f"type: RequestHeaderModifier, requestHeaderModifier: {{{name}: {twice}}}",
       f"spec.rules[0].filters[0].requestHeaderModifier.{field}", "Duplicate value: 'a'")
      for name, twice, field in (("set", "[{name: a, value: b}, {name: a, value: c}]", "set[1].name"),
                                 ("add", "[{name: a, value: b}, {name: a, value: c}]", "add[1].name"),
                                 ("remove", "[a, a]", "remove[1]"))],
    *[(kind, FILTER % f"type: RequestMirror, requestMirror: {{backendRef: {ref}, {rest}}}",
       f"spec.rules[0].filters[0].requestMirror{field}", message)
      for kind in ("HTTPRoute", "GRPCRoute")
      for ref, rest, field, message in (
          (BACKEND, "percent: 1, fraction: {numerator: 1}", "",
           "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter"),
          ("{name: s}", "percent: 1", ".backendRef.port", "Must have port for Service reference"),
          (BACKEND, "fraction: {numerator: 101}", ".fraction",
           "numerator must be less than or equal to denominator"))],
    *[("HTTPRoute", FILTER % f"type: {kind}, {name}: {{path: {{{rest}}}}}",
       f"spec.rules[0].filters[0].{name}.path.{field}", message)
      for kind, name in (("RequestRedirect", "requestRedirect"), ("URLRewrite", "urlRewrite"))
      for rest, field, message in (
          ("type: ReplaceFullPath", "replaceFullPath",
           "replaceFullPath must be specified when type is set to 'ReplaceFullPath'"),
          ("type: ReplacePrefixMatch, replacePrefixMatch: /, replaceFullPath: /", "type",
           "type must be 'ReplaceFullPath' when replaceFullPath is set"),
          ("type: ReplacePrefixMatch", "replacePrefixMatch",
           "replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'"),
          ("type: ReplaceFullPath, replacePrefixMatch: /, replaceFullPath: /", "type",
           "type must be 'ReplacePrefixMatch' when replacePrefixMatch is set"))],
    # matches
    *[("HTTPRoute", MATCH % f"path: {{type: {kind}, value: '{value}'}}", "spec.rules[0].matches[0].path.value", message)
      for kind in ("Exact", "PathPrefix")
      for value, message in (
          ("a", "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"),
          ("", "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"),
          ("/a//b", "must not contain '//' when type one of ['Exact', 'PathPrefix']"),
          ("/a/./b", "must not contain '/./' when type one of ['Exact', 'PathPrefix']"),
          ("/a/../b", "must not contain '/../' when type one of ['Exact', 'PathPrefix']"),
          ("/a%2fb", "must not contain '%2f' when type one of ['Exact', 'PathPrefix']"),
          ("/a%2Fb", "must not contain '%2F' when type one of ['Exact', 'PathPrefix']"),
          ("/a#b", "must not contain '#' when type one of ['Exact', 'PathPrefix']"),
          ("/a/..", "must not end with '/..' when type one of ['Exact', 'PathPrefix']"),
          ("/a/.", "must not end with '/.' when type one of ['Exact', 'PathPrefix']"),
          ("/a b", "must only contain valid characters (matching "
           "^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']"))],
    ("HTTPRoute", MATCH % "path: {type: Glob}", "spec.rules[0].matches[0].path.type",
     "'Glob' is not allowed, must be one of Exact, PathPrefix, RegularExpression"),
    ("HTTPRoute", MATCH % "headers: [{name: a, value: b}, {name: a, value: c}]",
     "spec.rules[0].matches[0].headers[1].name", "Duplicate value: 'a'"),
    ("HTTPRoute", MATCH % "queryParams: [{name: a, value: b}, {name: a, value: c}]",
     "spec.rules[0].matches[0].queryParams[1].name", "Duplicate value: 'a'"),
    # GRPCRoute
    ("GRPCRoute", RULES_129, "spec.rules", "While 16 rules and 64 matches per rule are allowed, the total number of "
     "matches across all rules in a route must be less than 128"),
    ("GRPCRoute", "rules: [{name: a}, {name: a}]", "spec.rules[1].name", "Rule name must be unique within the route"),
    ("GRPCRoute", MATCH % "method: {}", "spec.rules[0].matches[0].method",
     "One or both of 'service' or 'method' must be specified"),
    ("GRPCRoute", MATCH % "method: {service: a-b}", "spec.rules[0].matches[0].method.service",
     r"service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)"),
    ("GRPCRoute", MATCH % "method: {method: a.b}", "spec.rules[0].matches[0].method.method",
     "method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)"),
    ("GRPCRoute", MATCH % "headers: [{name: a, value: b}, {name: a, value: c}]",
     "spec.rules[0].matches[0].headers[1].name", "Duplicate value: 'a'"),
    ("GRPCRoute", HTTP % "backendRefs: [{name: s}]", "spec.rules[0].backendRefs[0].port",
     "Must have port for Service reference"),
    ("GRPCRoute", HTTP % PERMANENT, "spec.rules[0].sessionPersistence.absoluteTimeout",
     "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"),
    ("GRPCRoute", HTTP % HEADER_COOKIE, "spec.rules[0].sessionPersistence.cookieConfig",
     "cookieConfig can only be set with type Cookie"),
    *[("GRPCRoute", HTTP % f"filters: [{{type: {kind}, {field}: {{}}}}, {{type: {kind}, {field}: {{}}}}]",
       "spec.rules[0].filters[1]", f"{kind} filter cannot be repeated")
      for kind, field in (("RequestHeaderModifier", "requestHeaderModifier"),
                          ("ResponseHeaderModifier", "responseHeaderModifier"))],
    *[("GRPCRoute", FILTER % f"type: {kind}", f"spec.rules[0].filters[0].{field}",
       f"filter.{field} must be specified for {kind} filter.type")
      for kind, field in (("RequestHeaderModifier", "requestHeaderModifier"),
                          ("ResponseHeaderModifier", "responseHeaderModifier"), ("RequestMirror", "requestMirror"),
                          ("ExtensionRef", "extensionRef"))],
    *[("GRPCRoute", FILTER % f"type: {other}, {rest}, {field}: {{{value}}}", f"spec.rules[0].filters[0].{field}",
       f"filter.{field} must be nil if the filter.type is not {kind}")
      for kind, field, value, other, rest in (
          ("RequestHeaderModifier", "requestHeaderModifier", "", "ResponseHeaderModifier",
           "responseHeaderModifier: {}"),
          ("ResponseHeaderModifier", "responseHeaderModifier", "", "RequestHeaderModifier",
           "requestHeaderModifier: {}"),
          ("RequestMirror", "requestMirror", f"backendRef: {BACKEND}", "RequestHeaderModifier",
           "requestHeaderModifier: {}"),
          ("ExtensionRef", "extensionRef", "group: a, kind: B, name: c", "RequestHeaderModifier",
           "requestHeaderModifier: {}"))],
    # TLSRoute, TCPRoute, UDPRoute
    ("TLSRoute", f"hostnames: [1.2.3.4], rules: [{{backendRefs: [{BACKEND}]}}]", "spec.hostnames[0]",
     "Hostnames cannot contain an IP"),
    ("TLSRoute", f"hostnames: [A], rules: [{{backendRefs: [{BACKEND}]}}]", "spec.hostnames[0]",
     "Hostnames must be valid based on RFC-1123"),
    ("TLSRoute", f"hostnames: [a.*.b], rules: [{{backendRefs: [{BACKEND}]}}]", "spec.hostnames[0]",
     "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123"),
    ("TLSRoute", f"rules: [{{backendRefs: [{BACKEND}]}}]", "spec.hostnames", "must have at least 1 items, has 0"),
    *[(kind, f"hostnames: [a.b], rules: [{{backendRefs: [{BACKEND}]}}, {{backendRefs: [{BACKEND}]}}]", "spec.rules",
       "must have at most 1 items, has 2") for kind in ("TLSRoute", "TCPRoute", "UDPRoute")],
    *[(kind, "hostnames: [a.b], rules: [{backendRefs: [{name: s}]}]", "spec.rules[0].backendRefs[0].port",
       "Must have port for Service reference") for kind in ("TLSRoute", "TCPRoute", "UDPRoute")],
    *[(kind, f"hostnames: [a.b], rules: [{{name: x, backendRefs: [{BACKEND}]}}, {{name: x, backendRefs: [{BACKEND}]}}]",
       "spec.rules[1].name", "Rule name must be unique within the route")
      for kind in ("TLSRoute", "TCPRoute", "UDPRoute")],
    # Gateway, ListenerSet
    ("Gateway", LISTENER % "HTTP, tls: {certificateRefs: [{name: c}]}", "spec.listeners[0].tls",
     "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"),
    ("Gateway", LISTENER % "HTTPS, tls: {mode: Passthrough}", "spec.listeners[0].tls.mode",
     "tls mode must be Terminate for protocol HTTPS"),
    ("Gateway", LISTENER % "TLS", "spec.listeners[0].tls.mode", "tls mode must be set for protocol TLS"),
    ("Gateway", LISTENER % "TCP, hostname: a.b", "spec.listeners[0].hostname",
     "hostname must not be specified for protocols ['TCP', 'UDP']"),
    ("Gateway", LISTENER % "HTTPS, tls: {}", "spec.listeners[0].tls",
     "certificateRefs or options must be specified when mode is Terminate"),
    ("Gateway", LISTENERS % "name: a, port: 81, protocol: HTTP", "spec.listeners[1].name",
     "Listener name must be unique within the Gateway"),
    ("Gateway", LISTENERS % "name: b, port: 80, protocol: HTTP, hostname: a.b", "spec.listeners[1]",
     "Combination of port, protocol and hostname must be unique for each listener"),
    *[("ListenerSet", "parentRef: {name: g}, " + spec.removeprefix("gatewayClassName: c, "), field, message)
      for spec, field, message in (
          (LISTENER % "UDP, tls: {certificateRefs: [{name: c}]}", "spec.listeners[0].tls",
           "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"),
          (LISTENER % "HTTPS, tls: {mode: Passthrough}", "spec.listeners[0].tls.mode",
           "tls mode must be Terminate for protocol HTTPS"),
          (LISTENER % "TLS", "spec.listeners[0].tls.mode", "tls mode must be set for protocol TLS"),
          (LISTENER % "UDP, hostname: a.b", "spec.listeners[0].hostname",
           "hostname must not be specified for protocols ['TCP', 'UDP']"),
          (LISTENER % "TLS, tls: {}", "spec.listeners[0].tls",
           "certificateRefs or options must be specified when mode is Terminate"),
          (LISTENERS % "name: a, port: 81, protocol: HTTP", "spec.listeners[1].name",
           "Listener name must be unique within the Gateway"),
          (LISTENERS % "name: b, port: 80, protocol: HTTP, hostname: a.b", "spec.listeners[1]",
           "Combination of port, protocol and hostname must be unique for each listener"))],
    ("Gateway", GATEWAY % "addresses: [{value: 1.2.3.4}, {value: 1.2.3.4}]", "spec.addresses[1].value",
     "IPAddress values must be unique"),
    ("Gateway", GATEWAY % "addresses: [{type: Hostname, value: a}, {type: Hostname, value: a}]",
     "spec.addresses[1].value", "Hostname values must be unique"),
    ("Gateway", GATEWAY % "addresses: [{type: Hostname, value: a_b}]", "spec.addresses[0].value",
     "Hostname value must be empty or contain only valid characters (matching "
     r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)"),
    ("Gateway", GATEWAY % "addresses: [{value: 1.2.3}]", "spec.addresses[0].value",
     "'1.2.3' is no IPv4 or IPv6 address"),
    ("Gateway", GATEWAY % "infrastructure: {annotations: {a/b/c: x}}", "spec.infrastructure.annotations",
     "'a/b/c': Annotation keys must be in the form of an optional DNS subdomain prefix followed by a required name "
     "segment of up to 63 characters."),
    ("Gateway", GATEWAY % "infrastructure: {labels: {-a: x}}", "spec.infrastructure.labels",
     "'-a': Label keys must be in the form of an optional DNS subdomain prefix followed by a required name segment "
     "of up to 63 characters."),
    ("Gateway", GATEWAY % f"infrastructure: {{annotations: {{? {'a' * 253}/b : x}}}}",
     "spec.infrastructure.annotations", "If specified, the annotation key's prefix must be a DNS subdomain not longer "
     "than 253 characters in total."),
    ("Gateway", GATEWAY % f"infrastructure: {{labels: {{? {'a' * 253}/b : x}}}}", "spec.infrastructure.labels",
     "If specified, the label key's prefix must be a DNS subdomain not longer than 253 characters in total."),
    ("Gateway", GATEWAY % "tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}",
     "spec.tls.frontend.perPort[1].port", "Port for TLS configuration must be unique within the Gateway"),
    # BackendTLSPolicy
    ("BackendTLSPolicy", POLICY % ("}, {group: '', kind: Service, name: s, sectionName: x",
                                   "wellKnownCACertificates: System"), "spec.targetRefs[1]",
     "sectionName must be specified when targetRefs includes 2 or more references to the same target"),
    ("BackendTLSPolicy", POLICY % (", sectionName: x}, {group: '', kind: Service, name: s, sectionName: x",
                                   "wellKnownCACertificates: System"), "spec.targetRefs[1]",
     "sectionName must be unique when targetRefs includes 2 or more references to the same target"),
    ("BackendTLSPolicy", POLICY % ("", "wellKnownCACertificates: System, "
                                   "caCertificateRefs: [{group: '', kind: ConfigMap, name: c}]"), "spec.validation",
     "must not contain both CACertificateRefs and WellKnownCACertificates"),
    ("BackendTLSPolicy", POLICY % ("", ""), "spec.validation",
     "must specify either CACertificateRefs or WellKnownCACertificates"),
    *[("BackendTLSPolicy", POLICY % ("", f"wellKnownCACertificates: System, subjectAltNames: [{{{name}}}]"),
       f"spec.validation.subjectAltNames[0].{field}", message)
      for name, field, message in (
          ("type: Hostname", "hostname", "SubjectAltName element must contain Hostname, if Type is set to Hostname"),
          ("type: URI, uri: 'a://b', hostname: a", "hostname",
           "SubjectAltName element must not contain Hostname, if Type is not set to Hostname"),
          ("type: URI", "uri", "SubjectAltName element must contain URI, if Type is set to URI"),
          ("type: Hostname, hostname: a, uri: 'a://b'", "uri",
           "SubjectAltName element must not contain URI, if Type is not set to URI"))],
    # XBackendTrafficPolicy
    (TRAFFIC, TRAFFIC_SPEC % (", {group: '', kind: Service, name: t}, {group: '', kind: Service, name: s}", ""),
     "spec.targetRefs[2]", "Duplicate value: /Service s"),
    *[(TRAFFIC, TRAFFIC_SPEC % ("", f"retryConstraint: {{budget: {{interval: {interval}}}}}"),
       "spec.retryConstraint.budget.interval", "interval cannot be greater than one hour or less than one second")
      for interval in ("999ms", "0s", "1h1ms")],
    *[(TRAFFIC, TRAFFIC_SPEC % ("", f"retryConstraint: {{minRetryRate: {{interval: {interval}}}}}"),
       "spec.retryConstraint.minRetryRate.interval", "interval cannot be greater than one hour")
      for interval in ("0s", "61m")],
    (TRAFFIC, TRAFFIC_SPEC % ("", PERMANENT), "spec.sessionPersistence.absoluteTimeout",
     "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"),
    (TRAFFIC, TRAFFIC_SPEC % ("", HEADER_COOKIE), "spec.sessionPersistence.cookieConfig",
     "cookieConfig can only be set with type Cookie"),
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {budget: {percent: 101}}"), "spec.retryConstraint.budget.percent",
     "101 is not allowed, must be at most 100"),
    (TRAFFIC, TRAFFIC_SPEC % ("", "retryConstraint: {minRetryRate: {count: 0}}"),
     "spec.retryConstraint.minRetryRate.count", "0 is not allowed, must be at least 1"),
]

# The CRD's rule is covered by a pattern of the field itself, whose words are ours.
BY_PATTERN = {
    "Hostnames must be valid based on RFC-1123",
    "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123",
}
V1ALPHA2 = "Rule name must be unique within the route"


def findings(kind: str, spec: str, version: str = "v1"):
    value = {"kind": kind, "metadata": {"name": "x"}, "spec": yaml.load("{" + spec + "}", yaml.CSafeLoader)}
    if kind not in ("HTTPRoute", "GRPCRoute", "TLSRoute"):
        value["spec"].pop("hostnames", None)
    group = EXPERIMENTAL_GROUP if kind == TRAFFIC else GATEWAY_GROUP
    resource, found = decode(copy.deepcopy(value), KINDS[group, kind])
    return found + (check(resource, version) if resource else [])


@pytest.mark.parametrize("kind, spec, field, message", CASES, ids=[f"{c[0]}-{c[2]}-{c[3][:48]}" for c in CASES])
def test_broken_rule_names_the_field(kind, spec, field, message):
    found = findings(kind, spec, "v1alpha2" if message == V1ALPHA2 else "v1")
    assert all(each.severity == "error" for each in found)
    if message in BY_PATTERN:
        (only,) = found
        assert only.field == field and "lower-case DNS name" in only.message
    else:
        assert (field, message.replace("Within backendRefs, When", "Within backendRefs, when")) in {
            (each.field, each.message) for each in found
        }


def rules(schema: dict):
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for child in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            yield from rules(child)


@pytest.mark.skipif(not CRDS.exists(), reason="the CRDs are not beside this checkout")
@pytest.mark.parametrize("channel", ["standard", "experimental"])
def test_every_rule_of_the_crds_is_broken_above(channel):
    covered = {(kind, re.sub(r"^'[^']*': ", "", message)) for kind, _, _, message in CASES}
    covered |= {("GatewayClass", "Value is immutable")}  # in test_config_load: it is about a change
    known_kinds = {kind for _, kind in KINDS}
    for path in (CRDS / channel).glob("gateway.networking.*k8s.io_*s.yaml"):
        for crd in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            if crd["kind"] != "CustomResourceDefinition" or crd["spec"]["names"]["kind"] not in known_kinds:
                continue
            for version in crd["spec"]["versions"]:
                schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
                for message in rules(schema):
                    known = message.replace("sectionName must", "sectionName or port must")
                    kind = crd["spec"]["names"]["kind"]
                    if "type must be one of" in message:  # an enumeration says so already
                        continue
                    assert (kind, message) in covered or (kind, known) in covered, (kind, message)


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
        ("spec.extra", "warning"), ("spec.gatewayClassName", "error"), ("spec.listeners[0].port", "error"),
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
        ("spec.rules[0].matches[0].path.kind", "warning"), ("spec.x", "warning"),
    ]
