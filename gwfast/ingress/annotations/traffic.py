"""Sizes, times, rates, headers, errors, logs: what is done to messages on their way."""
import re
from typing import Any

from gwfast.config.scalars import FIELD_NAME, FIELD_VALUE, ORIGIN
from gwfast.ingress.annotations import kinds
from gwfast.ingress.annotations.table import (
    Annotation, Asked, Said, Spec, always, converted, later, lost, not_needed, reduced, unless)

RATES = "gwfast has no rate limits yet"
BANDWIDTH = "gwfast has no limit of a response's bytes in a second yet"
BUFFERS = "gwfast streams: a head has 32 KiB (--max-header-bytes), a body is never on the disk"
ERRORS = "gwfast has no error pages yet: what a backend says goes to the client"
TRACING = "gwfast has no tracing yet"
WAF = "gwfast has no web application firewall: an ExternalAuth filter can ask one"
CIPHERS = "the server chooses the cipher"
BODY_LIMIT = 1024 * 1024  # of ingress-nginx, where nothing is said

CORS_METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
CORS_HEADERS = (
    "DNT",
    "Keep-Alive",
    "User-Agent",
    "X-Requested-With",
    "If-Modified-Since",
    "Cache-Control",
    "Content-Type",
    "Range",
    "Authorization",
)
CORS_AGE = 1728000  # seconds


# ---- Sizes and times


def body_size(asked: Asked, value: int) -> Said:
    if value == 0:
        return converted("bodies have no limit")
    return reduced("gwfast has no limit of a request's body yet: what was allowed passes, and so does what is larger")


def request_buffering(asked: Asked, value: str) -> Said:
    return converted("bodies are streamed to the backend") if value == "off" else reduced("bodies are streamed to the backend")


def idle(asked: Asked, value: int) -> Said:
    """Between two reads, or two writes: what no `timeouts` of a rule says, for they are of the whole request."""
    if value == 60:
        return not_needed("a response begins within 60 s (--response-timeout), and no stream is silent for 5 minutes")
    return reduced(
        f"it is not each path's yet, but of all: gwfast run --response-timeout {value}s --stream-idle-timeout {value}s; "
        "a rule's timeouts would be for the whole request"
    )


def connect(asked: Asked, value: int) -> Said:
    if value == 5:
        return not_needed("it is what holds anyway")
    return reduced(f"it is not each path's yet, but of all: gwfast run --connect-timeout {value}s")


def http_version(asked: Asked, value: str) -> Said:
    return not_needed("it is what holds anyway") if value == "1.1" else reduced("backends are spoken to in HTTP/1.1")


# ---- Headers


def cors(asked: Asked, value: bool) -> Said:
    if not value:
        return not_needed("it is what holds anyway")
    origins = tuple(dict.fromkeys(one.removesuffix("/") for one in asked.get("cors-allow-origin", ("*",)))) or ("*",)
    if "*" in origins:
        origins = ("*",)
    said = tuple(one for one in origins if re.match(ORIGIN, one) and len(one) <= 253)
    methods = [one.upper() for one in asked.get("cors-allow-methods", CORS_METHODS)]
    known = [
        one for one in methods if one in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*")
    ]
    body: Spec = {"allowOrigins": list(said), "allowMethods": ["*"] if "*" in known else list(dict.fromkeys(known)),
                  "allowHeaders": _unique(asked.get("cors-allow-headers", CORS_HEADERS)),
                  "allowCredentials": asked.get("cors-allow-credentials", True), "maxAge": asked.get("cors-max-age", CORS_AGE)}
    if exposed := asked.get("cors-expose-headers"):
        body["exposeHeaders"] = _unique(exposed)
    asked.filters.append({"type": "CORS", "cors": body})
    if len(said) < len(origins) or len(known) < len(methods):
        left = sorted({*origins} - {*said}) + sorted({*methods} - {*known})
        return reduced(f"CORS, without {', '.join(left)}")
    if any("*." in one for one in said):
        return reduced("CORS: '*' of an origin is one label or more")
    return converted("CORS")


def _unique(names: tuple[str, ...]) -> list[str]:
    return ["*"] if "*" in names else list({name.lower(): name for name in reversed(names)}.values())[::-1]


def of_cors(asked: Asked, value: Any) -> Said:
    return converted("CORS") if asked.get("enable-cors") else not_needed("there is no enable-cors")


def custom_headers(asked: Asked, value: str) -> Said:
    """Fields of responses, in a ConfigMap of the Ingress's namespace."""
    namespace, _, name = value.rpartition("/")
    found = asked.facts.config_map(namespace or asked.ingress.metadata.namespace, name)
    if found is None:
        return lost(f"the ConfigMap {value} was not read")
    wrong = [name for name, text in found.data.items() if not (re.match(FIELD_NAME, name) and re.match(FIELD_VALUE, text))]
    asked.response_headers |= {name: text for name, text in found.data.items() if name not in wrong}
    return reduced(f"ResponseHeaderModifier, without {', '.join(wrong)}") if wrong else converted("ResponseHeaderModifier")


def codes(asked: Asked, value: tuple[int, ...]) -> Said:
    return lost(ERRORS)


TABLE = (
    Annotation("proxy-body-size", kinds.size, body_size),
    Annotation("client-body-buffer-size", kinds.words, always(not_needed(BUFFERS))),
    Annotation("proxy-buffering", kinds.one_of("on", "off"), always(not_needed(BUFFERS))),
    Annotation("proxy-buffer-size", kinds.words, always(not_needed(BUFFERS))),
    Annotation("proxy-buffers-number", kinds.number, always(not_needed(BUFFERS))),
    Annotation("proxy-busy-buffers-size", kinds.words, always(not_needed(BUFFERS))),
    Annotation("proxy-max-temp-file-size", kinds.words, always(not_needed(BUFFERS))),
    Annotation("proxy-request-buffering", kinds.one_of("on", "off"), request_buffering),
    Annotation("proxy-connect-timeout", kinds.number, connect),
    Annotation("proxy-read-timeout", kinds.number, idle),
    Annotation("proxy-send-timeout", kinds.number, idle),
    Annotation("proxy-http-version", kinds.one_of("1.0", "1.1"), http_version),
    Annotation("proxy-cookie-domain", kinds.words, unless("off", lost("gwfast does not change cookies of backends yet"))),
    Annotation("proxy-cookie-path", kinds.words, unless("off", lost("gwfast does not change cookies of backends yet"))),
    Annotation("proxy-redirect-from", kinds.words, unless("off", lost("gwfast does not change a backend's Location yet"))),
    Annotation("proxy-redirect-to", kinds.words, unless("off", lost("gwfast does not change a backend's Location yet"))),
    Annotation("connection-proxy-header", kinds.words, always(not_needed("connections to backends are gwfast's own"))),
    Annotation("custom-headers", kinds.words, custom_headers),
    Annotation("enable-cors", kinds.boolean, cors),
    Annotation("cors-allow-origin", kinds.listed, of_cors),
    Annotation("cors-allow-methods", kinds.listed, of_cors),
    Annotation("cors-allow-headers", kinds.listed, of_cors),
    Annotation("cors-allow-credentials", kinds.boolean, of_cors),
    Annotation("cors-expose-headers", kinds.listed, of_cors),
    Annotation("cors-max-age", kinds.number, of_cors),
    Annotation("limit-rps", kinds.number, unless(0, lost(RATES))),
    Annotation("limit-rpm", kinds.number, unless(0, lost(RATES))),
    Annotation("limit-burst-multiplier", kinds.number, always(lost(RATES))),
    Annotation("limit-allowlist", kinds.networks, always(lost(RATES))),
    Annotation("limit-whitelist", kinds.networks, always(lost(RATES))),
    Annotation("limit-connections", kinds.number, unless(0, lost("gwfast has no limit of a client's requests at once yet"))),
    Annotation("limit-rate", kinds.number, unless(0, lost(BANDWIDTH))),
    Annotation("limit-rate-after", kinds.number, unless(0, lost(BANDWIDTH))),
    Annotation("default-backend", kinds.words, always(lost("gwfast has no fallback for a backend without endpoints yet: 503"))),
    Annotation("custom-http-errors", kinds.numbers, codes),
    Annotation("disable-proxy-intercept-errors", kinds.boolean, unless(
        True, not_needed("what a backend says goes to the client"), "what a backend says goes to the client")),
    Annotation("enable-access-log", kinds.boolean, unless(True, lost("gwfast writes every request to its access log, or none"))),
    Annotation("enable-rewrite-log", kinds.boolean, always(not_needed("`gwfast explain` says what becomes of a request"))),
    Annotation("enable-opentelemetry", kinds.boolean, unless(False, lost(TRACING), "there is none")),
    Annotation("opentelemetry-trust-incoming-span", kinds.boolean, always(lost(TRACING))),
    Annotation("opentelemetry-operation-name", kinds.words, always(lost(TRACING))),
    Annotation("enable-modsecurity", kinds.boolean, unless(False, lost(WAF), "there is none")),
    Annotation("enable-owasp-core-rules", kinds.boolean, unless(False, lost(WAF), "there is none")),
    Annotation("modsecurity-transaction-id", kinds.words, always(lost(WAF))),
    Annotation("modsecurity-snippet", kinds.multiline, later),
    Annotation("configuration-snippet", kinds.multiline, later),
    Annotation("server-snippet", kinds.multiline, later),
    Annotation("stream-snippet", kinds.multiline, later),
    Annotation("http2-push-preload", kinds.boolean, always(not_needed("browsers take no pushed responses any more"))),
    Annotation("ssl-ciphers", kinds.words, later),
    Annotation("ssl-prefer-server-ciphers", kinds.boolean, unless(True, reduced(CIPHERS), "the server chooses")),
)
