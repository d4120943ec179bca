"""The corpora of malformed and odd requests against a running gateway: nothing dirty reaches the backend.

The backend reads as strictly as RFC 9112 does (support.wire); whatever it cannot take is an error of the gateway. Each
payload is sent on a connection of its own, then the client half-closes.
"""
import base64
import json
import selectors
import socket
import time
from pathlib import Path

import pytest
from support import upstream
from support.wire import Closed, Dirty, Stream

OWN = Path(__file__).parents[1] / "data" / "requests.txt"
NAMES = ["aws_desync_guardian", "gunicorn", "http11probe", "llhttp", "picohttpparser", "smuggler"]
AT_ONCE = 64


def cases(name: str) -> list[dict]:
    found = json.loads((upstream.CORPORA / f"{name}.json").read_text())["cases"]
    whole = [{"payload": case["steps"][0]["parts"][0]["payload"], **case} if "steps" in case else case for case in found]
    return [case for case in whole if case.get("payload")]


def answers(port: int, payloads: list[bytes], seconds: float = 30.0) -> list[bytes]:
    """Send all payloads, many at once, each on its connection; what came back until the gateway closed it."""
    got = [b""] * len(payloads)
    waiting = list(enumerate(payloads))[::-1]
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < AT_ONCE:
                n, payload = waiting.pop()
                sock = socket.create_connection(("127.0.0.1", port))
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)
                selector.register(sock, selectors.EVENT_READ, n)
            for key, _ in selector.select(1):
                try:
                    some = key.fileobj.recv(65536)
                except ConnectionResetError:
                    some = b""
                got[key.data] += some
                if not some:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
            assert time.monotonic() < end, f"connections that nobody closes: {[k.data for k in selector.get_map().values()]}"
    return got


def statuses(got: bytes) -> list[int]:
    """Of every response in these bytes, 1xx left out."""
    parts = got.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts if not part.startswith(b"1")]


def own() -> list[tuple[str, int, bytes]]:
    """Our own: name, the status that is answered first, bytes."""
    lines = [line.split("\t") for line in OWN.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, int(status), text.encode().decode("unicode_escape").encode("latin-1")) for name, status, text in lines]


def test_what_parsers_disagree_about(proxy) -> None:
    """Each is answered as we say; the backend, which is strict, saw nothing else than what was forwarded."""
    gateway, _ = proxy
    cases = own()
    got = answers(gateway.port, [data for _, _, data in cases])
    wrong = {name: (statuses(answer)[:1], status) for (name, status, _), answer in zip(cases, got, strict=True) if statuses(answer)[:1] != [status]}
    assert not wrong and len(cases) == len({name for name, *_ in cases}) > 80
    assert gateway.get("/after").status == 200


@upstream.needs("corpora")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_dirty_gets_through(proxy, name: str) -> None:
    """`proxy` itself asserts at the end that the backend saw nothing dirty and no worker ended."""
    gateway, backend = proxy
    found = cases(name)
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for case in found])
    assert not [case["id"] for case, answer in zip(found, got, strict=True) if b"HTTP/1.1 50" in answer and b" 505 " not in answer]
    assert gateway.get("/after").status == 200


# Limits of another project, fields that concern no gateway, names that are dropped: harmless for a backend.
HARMLESS = {f"invalid/{n}.http" for n in ("006", "007", "008", "009", "011", "012", "040", "041")}


@upstream.needs("corpora")
@pytest.mark.parametrize("name", ["gunicorn", "aws_desync_guardian", "picohttpparser"])
def test_what_must_be_refused_is_refused(proxy, name: str) -> None:
    gateway, backend = proxy
    found = [case for case in cases(name) if case["expect"] == "reject" and case["id"] not in HARMLESS]
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for case in found])
    wrong = [case["id"] for case, answer in zip(found, got, strict=True) if (statuses(answer) or [400])[-1] < 400]
    assert not wrong


def strictly_valid(payload: bytes) -> bool:
    """The test's own reader takes all of it for whole requests."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(payload)
        theirs.shutdown(socket.SHUT_WR)
        stream = Stream(ours)
        try:
            while True:
                stream.request()
        except Closed:
            return True
        except Dirty:
            return False


# What is valid by its grammar and not for a gateway to serve: status -> what is in it.
NOT_SERVED = {400: b"\\", 404: b"OPTIONS *", 405: b"TRACE /", 417: b"Expect: 200-ok", 431: b"k800=v800"}


@upstream.needs("corpora")
def test_valid_requests_are_served(proxy) -> None:
    """Every request of all corpora that is valid to the letter gets its answer from the backend."""
    gateway, backend = proxy
    payloads = [base64.b64decode(case["payload"]) for name in NAMES for case in cases(name)]
    found = [payload for payload in payloads if len(payload) < 100_000 and strictly_valid(payload)]
    assert len(found) >= 80
    got = answers(gateway.port, found)
    refused = [(statuses(answer), payload) for payload, answer in zip(found, got, strict=True) if outcome(answer) != "200"]
    assert not [r for r in refused if not r[0] or NOT_SERVED.get(r[0][0], b"nothing") not in r[1]]


def outcome(got: bytes) -> str:
    return str(statuses(got)[0]) if statuses(got) else "none"


# Their verdict depends on an echoed body: here 200 and the body at the backend are what passes.
ECHOED = {"COMP-POST-CL-BODY": b"hello", "COMP-CHUNKED-MULTI": b"hello world", "COMP-CHUNKED-EXTENSION": b"hello",
          "COMP-CHUNKED-HEX-UPPERCASE": b"helloworld"}


@upstream.needs("corpora")
def test_http11probe_bodies(proxy) -> None:
    gateway, backend = proxy
    for case in cases("http11probe"):
        if case["id"] in ECHOED:
            got, = answers(gateway.port, [base64.b64decode(case["payload"])])
            assert statuses(got) == [200], case["id"]
            assert backend.requests[-1].body == ECHOED[case["id"]], case["id"]


@upstream.needs("corpora")
def test_http11probe(proxy) -> None:
    """The probe's own verdicts over (status, connection): no scored case fails."""
    gateway, backend = proxy
    found = [case for case in cases("http11probe") if case["scored"] and "verdicts" in case and case["id"] not in ECHOED]
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for case in found])
    failed = []
    for case, answer in zip(found, got, strict=True):
        verdict = case["verdicts"].get(f"{outcome(answer)}/ClosedByServer")
        if verdict == "Fail":
            failed.append(f"{case['id']}: {outcome(answer)}, expected {case['expected']}")
    assert not failed, "\n".join(failed)
