r"""The scalar types of the API: what the CRDs say about lengths, numbers and patterns, once.

Rules:
- A pattern says the same as the CRD's but in a form that a backtracking matcher runs in linear time
  (`([-a-z0-9]*[a-z0-9])?` becomes `(-+[a-z0-9]+)*`), and ends in \Z: in Python `$` lets a last newline pass.
- Every pattern has words in WORDS, so that a message says what is allowed and not only the expression.
"""
import ipaddress
import re
from typing import Annotated, Literal

from msgspec import Meta

_LABEL = r"[a-z0-9]+(?:-+[a-z0-9]+)*"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_DOMAIN_PREFIX = rf"^{_SUBDOMAIN}/"
_URL_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"

LABEL = rf"^{_LABEL}\Z"
LABEL_OR_EMPTY = rf"^(?:{_LABEL})?\Z"
SUBDOMAIN = rf"^{_SUBDOMAIN}\Z"
GROUP = rf"^(?:{_SUBDOMAIN})?\Z"
HOSTNAME = rf"^(?:\*\.)?{_SUBDOMAIN}\Z"
KIND = r"^[a-zA-Z][a-zA-Z0-9]*(?:-+[a-zA-Z0-9]+)*\Z"
FIELD_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z"
FIELD_VALUE = r"^[!-~]+(?:[\t ][!-~]+)*\Z"
PATH = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+\Z"
REQUEST_PATH = r"^/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@?]|%[0-9a-fA-F]{2})*\Z"  # and a query
DURATION = r"^(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}\Z"
CONTROLLER = rf"{_DOMAIN_PREFIX}{_URL_PATH}\Z"
PROTOCOL = rf"^[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*\Z|{_SUBDOMAIN}/[A-Za-z0-9]+\Z"  # no ^ after |, as in the CRD
ADDRESS_TYPE = rf"^Hostname|IPAddress|NamedAddress|{_SUBDOMAIN}/{_URL_PATH}\Z"
ORIGIN = r"^\*\Z|^https?://(?:(?:\*\.)?[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*|\*)(?::[0-9]{1,5})?\Z"
CLASS_NAME = r"^[A-Za-z_][A-Za-z0-9_]*\Z"  # of Python
URI = r"^[^:/?#]+://"  # anything may follow
QUALIFIED_NAME = rf"^(?:{_SUBDOMAIN}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?\Z"
LABEL_VALUE = r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z"
WELL_KNOWN_CA = rf"^(?:System\Z|{_SUBDOMAIN}/[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?\Z)"

SPAN_WORD = r"^[a-zA-Z0-9_.:/-]+\Z"  # of a span: its service, an attribute
SPAN_WORDS = r"^[a-zA-Z0-9_.:/-]+(?: [a-zA-Z0-9_.:/-]+)*\Z"
ATTRIBUTE_KEY = r"^[a-z0-9_.-]+\Z"  # of OpenTelemetry's semantic conventions

WORDS = {
    LABEL: "lower-case letters, digits and '-', with a letter or digit at both ends",
    LABEL_OR_EMPTY: "empty or lower-case letters, digits and '-', with a letter or digit at both ends",
    SUBDOMAIN: "lower-case letters, digits, '-' and '.', each label with a letter or digit at both ends",
    GROUP: "empty or a DNS name (lower-case letters, digits, '-' and '.')",
    HOSTNAME: "a lower-case DNS name, optionally with '*.' in front, without scheme, port or path",
    KIND: "letters, digits and '-', with a letter first",
    FIELD_NAME: "the characters of an HTTP token",
    FIELD_VALUE: "visible ASCII with single spaces or tabs between",
    PATH: "path characters or '%' and two hex digits",
    CLASS_NAME: "letters, digits and '_', not a digit first",
    REQUEST_PATH: "'/' and path characters or '%' and two hex digits",
    DURATION: "a duration such as 500ms, 10s or 1m30s",
    CONTROLLER: "a domain-prefixed path such as example.net/gateway-controller",
    PROTOCOL: "a protocol name such as HTTP, or a domain-prefixed one",
    ADDRESS_TYPE: "IPAddress, Hostname, NamedAddress or a domain-prefixed type",
    ORIGIN: "'*' or scheme://host[:port] with http or https",
    URI: "a URI with scheme and authority",
    LABEL_VALUE: "letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    SPAN_WORD: "letters, digits and '_.:/-'",
    SPAN_WORDS: "letters, digits and '_.:/-', with single spaces between",
    ATTRIBUTE_KEY: "lower-case letters, digits and '_.-'",
    WELL_KNOWN_CA: "System or a domain-prefixed name",
}

Port = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
SectionName = Annotated[str, Meta(min_length=1, max_length=253, pattern=SUBDOMAIN)]
Namespace = Annotated[str, Meta(min_length=1, max_length=63, pattern=LABEL)]
ObjectNamespace = Annotated[str, Meta(max_length=63, pattern=LABEL_OR_EMPTY)]  # of metadata: '' is not given
Group = Annotated[str, Meta(max_length=253, pattern=GROUP)]
Kind = Annotated[str, Meta(min_length=1, max_length=63, pattern=KIND)]
Hostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=HOSTNAME)]
PreciseHostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=SUBDOMAIN)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=256, pattern=FIELD_NAME)]
HeaderValue = Annotated[str, Meta(min_length=1, max_length=4096, pattern=FIELD_VALUE)]
Duration = Annotated[str, Meta(pattern=DURATION)]
GatewayController = Annotated[str, Meta(min_length=1, max_length=253, pattern=CONTROLLER)]
ProtocolType = Annotated[str, Meta(min_length=1, max_length=255, pattern=PROTOCOL)]
AddressType = Annotated[str, Meta(min_length=1, max_length=253, pattern=ADDRESS_TYPE)]
AnnotationValue = Annotated[str, Meta(max_length=4096)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=LABEL_VALUE)]
HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
MatchType = Literal["Exact", "RegularExpression"]
GatewayDefaultScope = Literal["All", "None"]


def seconds(duration: str) -> float:
    """Convert a Duration (GEP-2257) such as '1m30s' to seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))


def is_ip(value: str) -> bool:
    """Whether a text is an IP address, as the function isIP of CEL has it: without a zone."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value
