"""The options of ingress-nginx's ConfigMap: 192 that are documented, each with what becomes of it.

    find(facts) ──> the controller's ConfigMap        by its name, or by its labels
    read(facts, key, report) ──> values that the conversion uses, an entry in the report for each option

Rules:
- What an option means for every route is written into every route: there is nothing like a default of all rules in Gateway API.
- An option that says what is the default is not needed.
- The ConfigMaps that add-headers and proxy-set-headers name are read here too.
"""
import re
from collections.abc import Callable, Mapping
from typing import Any

from gwfast.config.model import ConfigMap
from gwfast.config.scalars import FIELD_NAME, FIELD_VALUE
from gwfast.errors import Source
from gwfast.ingress.annotations import kinds
from gwfast.ingress.annotations.table import Said, converted, lost, not_needed, reduced
from gwfast.ingress.model import Facts
from gwfast.ingress.report import Report

NAMES = (
    "ingress-nginx-controller",
    "nginx-ingress-controller",
    "nginx-configuration",
    "ingress-nginx",
    "nginx-ingress-ingress-nginx-controller",
)
HSTS_AGE = "31536000"

# What tunes nginx's own memory, processes, hashes, buffers and Lua, or what people see of nginx alone.
TUNING = """allow-backend-server-header allow-cross-namespace-resources allow-snippet-annotations annotations-risk-level
annotation-value-word-blocklist access-log-params error-log-path error-log-level client-header-buffer-size
client-body-buffer-size disable-ipv6-dns ignore-invalid-headers http2-max-requests enable-multi-accept
max-worker-open-files map-hash-bucket-size nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist
server-name-hash-max-size server-name-hash-bucket-size proxy-headers-hash-max-size proxy-headers-hash-bucket-size
reuse-port server-tokens ssl-ecdh-curve ssl-dh-param ssl-session-cache ssl-session-cache-size ssl-session-ticket-key
ssl-session-timeout ssl-buffer-size enable-aio-write geoip2-autoreload-in-minutes use-http2 worker-cpu-affinity
enable-serial-reloads variables-hash-bucket-size variables-hash-max-size upstream-keepalive-connections
upstream-keepalive-time upstream-keepalive-timeout upstream-keepalive-requests limit-conn-zone-variable lua-shared-dicts
proxy-buffers-number proxy-buffer-size proxy-busy-buffers-size proxy-buffering default-type debug-connections
strict-validate-path-type grpc-buffer-size-kb enable-access-log-for-default-backend global-allowed-response-headers
log-format-escape-none log-format-stream stream-access-log-path proxy-ssl-location-only enable-ocsp
log-format-escape-json generate-request-id use-geoip proxy-protocol-header-timeout proxy-stream-responses""".split()
# What is an option of `gwfast run`, with the flag.
FLAGS = {
    "client-header-timeout": "--head-timeout",
    "client-body-timeout": "--body-timeout",
    "keep-alive": "--idle-timeout",
    "proxy-connect-timeout": "--connect-timeout",
    "proxy-read-timeout": "--response-timeout and --stream-idle-timeout",
    "proxy-send-timeout": "--stream-idle-timeout",
    "proxy-stream-timeout": "--tcp-idle-timeout",
    "worker-processes": "--workers",
    "worker-shutdown-timeout": "--drain-timeout",
    "max-worker-connections": "--connections",
    "bind-address": "--bind",
    "large-client-header-buffers": "--max-header-bytes and --max-field-bytes",
    "http2-max-field-size": "--max-field-bytes",
    "http2-max-header-size": "--max-header-bytes",
    "disable-access-log": "--access-log off",
    "proxy-real-ip-cidr": "--trusted-proxies",
    "use-forwarded-headers": "--trusted-proxies",
    "enable-real-ip": "--trusted-proxies",
    "use-proxy-protocol": "the annotation gwfast.dev/proxy-protocol of the Gateway",
    "log-format-upstream": "--access-log json or common",
    "compute-full-forwarded-for": "--trusted-proxies (X-Forwarded-For is always the whole way)",
    "access-log-path": "--access-log, on standard output",
    "http-access-log-path": "--access-log, on standard output",
}
DEFAULTS = {
    "client-header-timeout": "60",
    "client-body-timeout": "60",
    "keep-alive": "75",
    "keep-alive-requests": "1000",
    "proxy-connect-timeout": "5",
    "proxy-read-timeout": "60",
    "proxy-send-timeout": "60",
    "http2-max-concurrent-streams": "128",
    "ssl-protocols": "TLSv1.2 TLSv1.3",
    "load-balance": "round_robin",
    "proxy-next-upstream": "error timeout",
    "proxy-next-upstream-tries": "3",
    "proxy-next-upstream-timeout": "0",
    "limit-req-status-code": "503",
    "limit-conn-status-code": "503",
    "proxy-redirect-from": "off",
    "proxy-cookie-path": "off",
    "proxy-cookie-domain": "off",
    "limit-rate": "0",
    "limit-rate-after": "0",
    "http-redirect-code": "308",
    "no-tls-redirect-locations": "/.well-known/acme-challenge",
    "no-auth-locations": "/.well-known/acme-challenge",
    "proxy-stream-timeout": "600s",
    "proxy-stream-next-upstream": "true",
    "proxy-stream-next-upstream-timeout": "600s",
    "proxy-stream-next-upstream-tries": "3",
    "forwarded-for-header": "X-Forwarded-For",
    "use-forwarded-headers": "false",
    "enable-real-ip": "false",
    "use-proxy-protocol": "false",
    "compute-full-forwarded-for": "false",
    "use-gzip": "false",
    "enable-brotli": "false",
    "enable-modsecurity": "false",
    "enable-owasp-modsecurity-crs": "false",
    "enable-opentelemetry": "false",
    "disable-ipv6": "false",
    "disable-access-log": "false",
    "service-upstream": "false",
    "ssl-reject-handshake": "false",
    "enable-syslog": "false",
    "retry-non-idempotent": "false",
    "enable-underscores-in-headers": "false",
    "hsts": "true",
    "hsts-include-subdomains": "true",
    "hsts-max-age": HSTS_AGE,
    "hsts-preload": "false",
    "ssl-redirect": "true",
    "force-ssl-redirect": "false",
    "proxy-body-size": "1m",
    "proxy-request-buffering": "on",
    "use-geoip2": "false",
    "relative-redirects": "false",
    "ssl-session-tickets": "false",
    "proxy-add-original-uri-header": "false",
}
TRACING = "gwfast has no tracing yet"
COMPRESSION = "gwfast does not compress yet"
RATES = "gwfast has no rate limits yet"
GLOBAL_AUTH = "gwfast has no authorizer for all routes but a listener's filter, and no sign-in yet"
LOST = {
    **dict.fromkeys(
        (
            "use-gzip",
            "gzip-disable",
            "gzip-level",
            "gzip-min-length",
            "gzip-types",
            "enable-brotli",
            "brotli-level",
            "brotli-min-length",
            "brotli-types",
        ),
        COMPRESSION,
    ),
    **dict.fromkeys(("limit-req-status-code", "limit-conn-status-code"), RATES),
    **dict.fromkeys(("limit-rate", "limit-rate-after"), "gwfast has no limit of a response's bytes in a second yet"),
    **dict.fromkeys(
        ("enable-modsecurity", "modsecurity-snippet", "enable-owasp-modsecurity-crs"),
        "gwfast has no web application firewall: an ExternalAuth filter can ask one",
    ),
    **dict.fromkeys(
        ("main-snippet", "http-snippet", "server-snippet", "stream-snippet", "location-snippet"), "no filter says this"
    ),
    **dict.fromkeys(
        (
            "global-auth-url",
            "global-auth-method",
            "global-auth-signin",
            "global-auth-signin-redirect-param",
            "global-auth-response-headers",
            "global-auth-request-redirect",
            "global-auth-snippet",
            "global-auth-cache-key",
            "global-auth-cache-duration",
            "no-auth-locations",
        ),
        GLOBAL_AUTH,
    ),
    **dict.fromkeys(
        ("block-cidrs", "block-user-agents", "block-referers", "denylist-source-range", "whitelist-source-range"),
        "gwfast has no access by address or field yet: who was kept out is not any more",
    ),
    **dict.fromkeys(("proxy-cookie-path", "proxy-cookie-domain"), "gwfast does not change cookies of backends yet"),
    "proxy-redirect-from": "gwfast does not change a backend's Location yet",
    "custom-http-errors": "gwfast has no error pages yet: what a backend says goes to the client",
    **dict.fromkeys(("enable-syslog", "syslog-host", "syslog-port"), "logs go to standard output and standard error"),
    "use-geoip2": "gwfast does not know where addresses are",
    "skip-access-log-urls": "gwfast logs every request, or none",
    "enable-underscores-in-headers": "fields with underscores in their names are dropped",
    "proxy-add-original-uri-header": "gwfast does not add X-Original-URI",
}
REDUCED = {
    "ssl-protocols": "TLS 1.2 and 1.3 are spoken; gwfast.dev/tls-min-version of a listener's tls.options can ask for 1.3",
    "ssl-ciphers": "gwfast.dev/tls-ciphers of a listener's tls.options can name those of TLS 1.2",
    "ssl-session-tickets": "sessions are resumed by tickets, whose keys end with the gateway",
    "keep-alive-requests": "a connection has 10,000 requests",
    "http2-max-concurrent-streams": "a connection has 100 streams",
    "load-balance": "gwfast chooses the one of two endpoints that has fewer requests",
    "proxy-next-upstream": "it is said by the annotation alone here: another endpoint is tried where one cannot be reached",
    "proxy-next-upstream-timeout": "there is no time for all tries together",
    "retry-non-idempotent": "a POST is sent again where a rule has a retry alone",
    "service-upstream": "endpoints are dialled",
    "disable-ipv6": "gwfast listens on both; --bind names one address",
    "ssl-reject-handshake": "a handshake for a host without a listener ends",
    "forwarded-for-header": "X-Forwarded-For is read",
    "forwarded-for-proxy-protocol-header": "X-Forwarded-For is read",
    "proxy-body-size": "gwfast has no limit of a request's body yet",
    "proxy-request-buffering": "bodies are streamed to the backend",
    "relative-redirects": "a Location has scheme and host",
    **dict.fromkeys(
        ("proxy-stream-next-upstream", "proxy-stream-next-upstream-timeout", "proxy-stream-next-upstream-tries"),
        "another endpoint is tried where one cannot be reached",
    ),
}
TRACED = ("opentelemetry", "otlp", "otel", "jaeger", "zipkin", "datadog")
READ: dict[str, Callable[[str], Any]] = {
    "use-forwarded-headers": kinds.boolean,
    "ssl-redirect": kinds.boolean,
    "force-ssl-redirect": kinds.boolean,
    "http-redirect-code": kinds.number,
    "no-tls-redirect-locations": kinds.listed,
    "proxy-next-upstream-tries": kinds.number,
    "global-auth-url": kinds.words,
    "hsts": kinds.boolean,
    "hsts-include-subdomains": kinds.boolean,
    "hsts-preload": kinds.boolean,
    "hsts-max-age": kinds.words,
}
WRITTEN = {
    **dict.fromkeys(("ssl-redirect", "force-ssl-redirect", "http-redirect-code"), "RequestRedirect"),
    "no-tls-redirect-locations": "these paths have no redirect to https",
    **dict.fromkeys(
        ("hsts", "hsts-include-subdomains", "hsts-preload", "hsts-max-age"), "Strict-Transport-Security of every rule"
    ),
    "proxy-next-upstream-tries": "retry.attempts of rules that have one",
}


def find(facts: Facts) -> ConfigMap | None:
    """Return the ConfigMap of ingress-nginx; None where none was read."""
    for key, found in facts.config_maps.items():
        labels = found.metadata.labels
        if key.name in NAMES or labels.get("app.kubernetes.io/name") == "ingress-nginx" and key.name.endswith("-controller"):
            return found
    return None


def read(facts: Facts, report: Report) -> dict[str, Any]:
    """Return the options that the conversion uses, and say what becomes of each that is there."""
    found = find(facts)
    data: Mapping[str, str] = found.data if found else {}
    values: dict[str, Any] = {}
    for name, kind in READ.items():
        if name in data:
            try:
                values[name] = kind(data[name])
            except ValueError:
                continue
    values["hsts-value"] = _hsts(values)
    if found is None:
        return values
    lines = facts.lines.get(found.key, {})
    for name, text in data.items():
        said = _said(name, text, facts, values)
        report.say(Source(found.source.file, lines.get(name, found.source.line)), str(found.key), name, text, said)
    return values


def _hsts(values: Mapping[str, Any]) -> str:
    if not values.get("hsts", True):
        return ""
    more = "; includeSubDomains" * values.get("hsts-include-subdomains", True) + "; preload" * values.get("hsts-preload", False)
    return f"max-age={values.get('hsts-max-age', HSTS_AGE)}{more}"


def _said(name: str, text: str, facts: Facts, values: dict[str, Any]) -> Said:
    if name in ("add-headers", "proxy-set-headers"):
        return _headers(name, text, facts, values)
    if name == "hide-headers":
        values[name] = kinds.listed(text)
        return converted("ResponseHeaderModifier of every rule")
    if text.strip() == DEFAULTS.get(name) or not text.strip():
        return not_needed("it is the default")
    if name in READ and name not in values:
        return not_needed("its value is bad, ingress-nginx takes the default")
    if name in WRITTEN:
        return converted(WRITTEN[name])
    if name in TUNING:
        return not_needed("it tunes what nginx alone has")
    if name in FLAGS:
        return reduced(f"it is an option of `gwfast run`: {FLAGS[name]}")
    if name in REDUCED:
        return reduced(REDUCED[name])
    if name in LOST:
        return lost(LOST[name])
    if name.startswith(TRACED):
        return lost(TRACING)
    return lost("ingress-nginx has no such option")


def _headers(name: str, text: str, facts: Facts, values: dict[str, Any]) -> Said:
    namespace, _, of = text.rpartition("/")
    found = facts.config_map(namespace or "default", of)
    if found is None:
        return lost(f"the ConfigMap {text} was not read")
    good = {field: value for field, value in found.data.items()
            if re.match(FIELD_NAME, field) and re.match(FIELD_VALUE, value) and "$" not in value}
    values[name] = good
    filters = "ResponseHeaderModifier" if name == "add-headers" else "RequestHeaderModifier"
    left = sorted(found.data.keys() - good.keys())
    return reduced(f"{filters} of every rule, without {', '.join(left)}") if left else converted(f"{filters} of every rule")


DOCUMENTED = {*TUNING, *FLAGS, *DEFAULTS, *LOST, *REDUCED, *WRITTEN, "add-headers", "proxy-set-headers", "hide-headers"}
