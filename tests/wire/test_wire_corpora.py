"""Other projects' requests: which are refused, which are served, and that nothing unclear is among the latter.

Each corpus has its own expectations; where gwfast decides otherwise the case is listed here with the reason, and a
listed case that no longer differs fails. A request that is served is judged by what would be forwarded.
"""
import base64
import json
import re

import h11
import pytest
from support import upstream
from replay import replay

from gwfast.http1.chunked import chunks_of, trailers_of
from gwfast.http1.parser import request_at, request_of

pytestmark = upstream.needs("corpora")

HOP_OR_UNDERSCORE = 3
STATUS = {-1: 400, -2: 414, -3: 431, -4: 505, -5: 405, -6: 417}
FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[^\x00-\x08\x0a-\x1f\x7f]*")
START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21\x22\x24-\x7e]+ HTTP/1\.1")


def read(data: bytes) -> tuple[list[tuple[dict, bytes]], int]:
    """Read pipelined requests as a server does: [(head, body)...] and the status that ends it (0: none)."""
    requests = []
    while data:
        head = request_of(data)
        if isinstance(head, int):
            return requests, STATUS.get(head, 0)
        data = data[head["head_len"]:]
        body = b""
        if head["framing"] == 2:
            body, used, result = chunks_of(data)
            if result != 2:
                return requests, 400 if result < 0 else 0
            trailers = trailers_of(data[used:])
            if isinstance(trailers, int):
                return requests, STATUS.get(trailers, 0)
            data = data[used + trailers[0]:]
        elif head["framing"] == 1:
            body, data = data[:head["content_length"]], data[head["content_length"]:]
            if len(body) < head["content_length"]:
                return requests, 0
        requests.append((head, body))
        if not head["keep_alive"]:
            break
    return requests, 0


def forwarded(head: dict, body: bytes) -> bytes:
    """Write a request as an upstream gets it: hop-by-hop fields and underscores gone, framing as it was understood."""
    target = head["path"] + (b"" if head["query"] is None else b"?" + head["query"])
    lines = [b"%s %s HTTP/1.1" % (head["method"], target), b"Host: " + (head["authority"] or b"upstream")]
    lines += [b"%s: %s" % (name, value) for name, value, _, flags, _, _ in head["fields"]
              if not flags & HOP_OR_UNDERSCORE and name.lower() not in (b"host", b"content-length")]
    if head["framing"]:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def is_clean(head: dict, body: bytes) -> bool:
    """Whether what is forwarded is one well-formed request that h11 reads in the same way."""
    data = forwarded(head, body)
    start, *fields = data[:data.index(b"\r\n\r\n")].split(b"\r\n")
    if not START.fullmatch(start) or not all(FIELD.fullmatch(field) for field in fields):
        return False
    server = h11.Connection(h11.SERVER)
    server.receive_data(data + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    request, content = server.next_event(), b""
    while isinstance(event := server.next_event(), h11.Data):
        content += event.data
    names = [name for name, _ in request.headers]
    return (isinstance(event, h11.EndOfMessage) and content == body and request.method == head["method"]
            and names.count(b"host") == 1 and b"transfer-encoding" not in names
            and server.trailing_data[0].startswith(b"GET /next"))


def cases(name: str) -> list:
    file = upstream.CORPORA / f"{name}.json"
    return json.loads(file.read_text())["cases"] if file.exists() else []  # the tests are skipped then


def payload(case: dict) -> bytes:
    if "payload_gen" in case:
        return large(case["id"])
    return base64.b64decode(case["payload"])


def large(name: str) -> bytes:
    """Make the payloads that the corpus describes by their size."""
    host, long = b"Host: localhost:8080\r\n", b"A" * 100_000
    head = b"GET / HTTP/1.1\r\n" + host
    return {
        "MAL-LONG-URL": b"GET /" + long + b" HTTP/1.1\r\n" + host + b"\r\n",
        "MAL-MANY-HEADERS": head + b"".join(b"X-H-%d: value\r\n" % i for i in range(10_000)) + b"\r\n",
        "MAL-LONG-HEADER-NAME": head + long + b": v\r\n\r\n",
        "MAL-LONG-METHOD": long + b" / HTTP/1.1\r\n" + host + b"\r\n",
        "MAL-CHUNK-EXT-64K": b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n5;" + long + b"\r\n",
        "COOK-OVERSIZED": head + b"Cookie: " + long + b"\r\n\r\n",
    }[name]


def complete(data: bytes) -> bytes:
    """Add what HTTP/1.1 asks for and the corpus leaves out: Host, and the empty line behind a head or a body."""
    if b"HTTP/1.1\r\n" in data and not re.search(rb"(?im)^host[ \t]*:", data):
        host = re.search(rb"://([^/?@ ]*@)?([^/? ]*)", data.split(b"\r\n")[0])
        data = data.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nHost: " + (host[2] if host else b"a.example") + b"\r\n")
    return data if b"\r\n\r\n" in data else data + b"\r\n"


def treated(data: bytes) -> str:
    """Say what happens to the first request; whatever is served must be clean."""
    requests, status = read(data if request_of(data) else data + b"\r\n")
    assert all(is_clean(*request) for request in requests)
    return "served" if requests else "refused" if status else "waiting"


def treatment(name: str, expect: str, keep=lambda case: True) -> dict[str, str]:
    """What happens to the cases of a corpus that have this expectation."""
    return {case["id"]: treated(complete(payload(case)))
            for case in cases(name) if case["expect"] == expect and keep(case)}


def explained(treatments: dict, but: str, reasons: dict) -> int:
    """Count the cases that are not treated so, after asserting that they are those which the reasons name."""
    others = {name for name, treatment in treatments.items() if treatment != but}
    named = {prefix: [name for name in treatments if name.startswith(prefix)]
             for prefixes in reasons.values() for prefix in prefixes}
    assert {name for names in named.values() for name in names} == others
    return len(others)


def plain(case: dict) -> bool:
    """Whether a case is meant for a parser without options."""
    return case.get("type", "request") in ("request", "request-finish") and not case.get("needs_cfg")


OUR_RULES = {
    "CONNECT and TRACE are 405": ["method.md:29", "method.md:64", "method.md:98", "uri.md:190",
                                  "valid/rfc9112_target_authority_connect_01",
                                  "valid/rfc9112_target_authority_ipv6_01"],
    "'*' is for OPTIONS": ["method.md:137"],
    "other protocols": ["method.md:374", "method.md:404", "method.md:432"],
    "HTTP/0.9": ["sample.md:316"],
    "fragments": ["uri.md:167", "valid/005", "rfc-compliant.yaml#11"],
    "userinfo (RFC 9110 4.2.4)": ["uri.md:224", "valid/rfc9112_target_absolute_userinfo_01"],
    "8 bits in the target": ["valid/027", "accept MSB chars", "rfc-compliant.yaml#12"],
    "codings but one 'chunked'": ["transfer-encoding.md:753", "transfer-encoding.md:795", "valid/009", "valid/025",
                                  "valid/029", "valid/030", "valid/rfc9112_smuggle_te_identity_chunked_01",
                                  "more-compliant-tests.yaml#5", "more-compliant-tests.yaml#8",
                                  "more-compliant-tests.yaml#9", "rfc-compliant.yaml#10"],
    "two spaces": ["accept multiple spaces"],
    "no target": ["rfc-compliant.yaml#13"],
}


def test_valid_ones_are_served():
    """Of what others call valid, we refuse what our rules name; the rest is served, or waits for its body."""
    names = ["llhttp", "gunicorn", "picohttpparser", "aws_desync_guardian"]
    treatments = {key: value for name in names for key, value in treatment(name, "accept", plain).items()}
    refused = explained({key: "refused" if value == "refused" else "served" for key, value in treatments.items()},
                        "served", OUR_RULES)
    print(f"{len(treatments)} valid ones: {refused} refused by our rules, "
          f"{list(treatments.values()).count('served')} served, {list(treatments.values()).count('waiting')} cut short")


HARMLESS = {
    "what follows a closing response is never read": ["connection.md:83"],
    "the first of two requests is fine": ["connection.md:158"],
    "a method may have any name": ["invalid.md:68", "invalid/003c"],
    "the limit is another project's": ["invalid/006", "invalid/007", "invalid/008", "invalid/009", "invalid/017"],
    "the last chunk never comes: 408": ["transfer-encoding.md:879"],
    "two Content-Type concern no gateway": ["invalid/041"],
}


def test_malformed_ones_are_refused():
    names = ["llhttp", "gunicorn", "picohttpparser", "aws_desync_guardian"]
    treatments = {key: value for name in names for key, value in treatment(name, "reject", plain).items()}
    other = explained(treatments, "refused", HARMLESS)
    print(f"{len(treatments)} malformed ones: {len(treatments) - other} refused, {other} harmless")


CLEANED = {
    "GET and HEAD may have a body": ["ambiguous.yaml#12", "ambiguous.yaml#14", "real-life-test-cases.yaml#0",
                                     "real-life-test-cases.yaml#1 "],
    "names with underscores are dropped": ["ambiguous.yaml#7", "ambiguous.yaml#31", "exhaustive/underjoin1"],
    "the value of another field": ["default/xprespace-09", "default/xprespace-20", "default/xprespace-a0",
                                   "default/xprespace-ff", "exhaustive/contentEnc"],
}


def test_ambiguous_ones_are_refused_or_cleaned():
    treatments = {key: value for name in ("aws_desync_guardian", "smuggler")
                  for key, value in treatment(name, "reject-or-normalise").items()}
    other = explained(treatments, "refused", CLEANED)
    print(f"{len(treatments)} ambiguous ones: {len(treatments) - other} refused, {other} cleaned, 0 dirty")


@pytest.mark.parametrize("case", [case for case in cases("picohttpparser") if case["expect"] == "partial"],
                         ids=lambda case: case["id"])
def test_partial_ones_wait(case):
    assert request_of(payload(case)) == 0


def judged(case: dict) -> tuple[str, str]:
    """The verdict of Http11Probe on our answer to a case."""
    requests, status = read(payload(case))
    answer = 200 if requests else status
    if requests and requests[0][0]["keep_alive"] and not status:
        key = f"{answer}/Open"
    else:
        key = f"{answer or 'none'}/{'ClosedByServer' if status or requests else 'TimedOut'}"
    return key, case["verdicts"][key]


PROBES = [case for case in cases("http11probe") if "verdicts" in case]


@pytest.mark.parametrize("case", PROBES, ids=lambda case: case["id"])
def test_http11probe(case):
    key, verdict = judged(case)
    if key == "200/Open" and case["expected"].startswith("2xx"):   # the body decides, and we read it
        verdict = "Pass"
    assert verdict != "Fail" or not case["scored"], (case["expected"], key)


PROBED_IN_STEPS = [case for case in cases("http11probe") if "steps" in case]


@pytest.mark.parametrize("case", PROBED_IN_STEPS, ids=lambda case: case["id"])
def test_http11probe_in_steps(case):
    parts = [base64.b64decode(part["payload"]) for step in case["steps"] for part in step["parts"]]
    assert read(b"".join(parts)) == ([], 400)


@pytest.mark.parametrize("name", ["llhttp", "gunicorn", "picohttpparser", "aws_desync_guardian", "http11probe"])
def test_splits(guard, name):
    for case in cases(name):
        if case.get("payload") and len(payload(case)) < 2000:
            replay(request_at, guard, payload(case))


def test_splits_of_smuggler(guard):
    for case in cases("smuggler")[::7]:
        replay(request_at, guard, payload(case)[:450])
