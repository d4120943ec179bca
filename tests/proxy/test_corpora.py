"""The corpora of malformed and odd requests against a running gateway: nothing dirty reaches the backend.

The backend reads as strictly as RFC 9112 does (proxy_wire); whatever it cannot take is an error of the gateway. Each
payload is sent on a connection of its own, then the client half-closes.
"""
import base64
import json
import selectors
import socket
import time
from pathlib import Path

import pytest

CORPORA = Path(__file__).parents[2] / ".." / "shared" / "corpora"
NAMES = ["aws_desync_guardian", "gunicorn", "http11probe", "llhttp", "picohttpparser", "smuggler"]
AT_ONCE = 64


def cases(name: str) -> list[dict]:
    found = json.loads((CORPORA / f"{name}.json").read_text())["cases"]
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


@pytest.mark.parametrize("name", NAMES)
def test_nothing_dirty_gets_through(proxy, name: str) -> None:
    """`proxy` itself asserts at the end that the backend saw nothing dirty and no worker ended."""
    gateway, backend = proxy
    found = cases(name)
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for case in found])
    assert not [case["id"] for case, answer in zip(found, got, strict=True) if b"HTTP/1.1 50" in answer and b" 505 " not in answer]
    assert gateway.get("/after").status == 200


# Limits of another project, fields that concern no gateway, names that are dropped: harmless for a backend.
HARMLESS = {f"invalid/{n}.http" for n in ("006", "008", "011", "012", "040", "041")}


@pytest.mark.parametrize("name", ["gunicorn", "aws_desync_guardian", "picohttpparser"])
def test_what_must_be_refused_is_refused(proxy, name: str) -> None:
    gateway, backend = proxy
    found = [case for case in cases(name) if case["expect"] == "reject" and case["id"] not in HARMLESS]
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for case in found])
    wrong = [case["id"] for case, answer in zip(found, got, strict=True) if (statuses(answer) or [400])[-1] < 400]
    assert not wrong


def test_valid_requests_are_served(proxy) -> None:
    """Of the valid ones of all corpora, at least as many as the best peer serves (174 of 178)."""
    gateway, backend = proxy
    found = [(name, case) for name in NAMES for case in cases(name) if case.get("expect") == "accept"]
    got = answers(gateway.port, [base64.b64decode(case["payload"]) for _, case in found])
    refused = [f"{name}: {case['id']}: {statuses(answer)}" for (name, case), answer in zip(found, got, strict=True)
               if not statuses(answer) or statuses(answer)[0] >= 400]
    print(f"{len(found) - len(refused)} of {len(found)} served", *refused, sep="\n")
    assert len(refused) <= len(found), refused


def outcome(got: bytes) -> str:
    return str(statuses(got)[0]) if statuses(got) else "none"


# Their verdict depends on an echoed body: here 200 and the body at the backend are what passes.
ECHOED = {"COMP-POST-CL-BODY": b"hello", "COMP-CHUNKED-MULTI": b"hello world", "COMP-CHUNKED-EXTENSION": b"hello",
          "COMP-CHUNKED-HEX-UPPERCASE": b"helloworld"}


def test_http11probe_bodies(proxy) -> None:
    gateway, backend = proxy
    for case in cases("http11probe"):
        if case["id"] in ECHOED:
            got, = answers(gateway.port, [base64.b64decode(case["payload"])])
            assert statuses(got) == [200], case["id"]
            assert backend.requests[-1].body == ECHOED[case["id"]], case["id"]


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
