"""Parts of the node by themselves: what it makes of a spec, what DNS answers, in which order statuses are written."""
import struct
import threading

import pytest

from kubeapi import ApiError
from node import dns
from node.container import Log, arguments, security
from node.images import PROJECT, Image, of_dockerfile
from node.services import portals
from node.volumes import Missing
from node.work import Work

DEADLINE = 60.0


@pytest.mark.parametrize(("spec", "words"), [
    ({}, ["entry", "default"]),
    ({"args": ["a"]}, ["entry", "a"]),
    ({"command": ["c"]}, ["c"]),
    ({"command": ["c"], "args": ["$(A)", "$$(A)", "$(B)", "x$(A)y"]}, ["c", "1", "$(A)", "$(B)", "x1y"]),
])
def test_arguments(spec: dict, words: list[str]) -> None:
    assert arguments(spec, Image(["entry"], ["default"]), {"A": "1"}) == words


@pytest.mark.parametrize(("own", "shared", "expected"), [
    ({}, {}, (65532, 0, True)),
    ({"runAsUser": 0}, {"runAsUser": 7}, (0, 0, True)),
    ({}, {"runAsUser": 7, "runAsGroup": 8, "runAsNonRoot": True}, (7, 8, True)),
    ({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}, {}, (65532, 0, ["NET_BIND_SERVICE"])),
])
def test_who_a_container_runs_as(own: dict, shared: dict, expected: tuple) -> None:
    said = security({"securityContext": own}, {"securityContext": shared}, Image(user="65532"))
    assert (said["uid"], said["gid"]) == expected[:2]
    assert expected[2] is True or said["capabilities"] == said["ambient"] == expected[2]


def test_root_is_refused_where_it_may_not_be() -> None:
    with pytest.raises(Missing, match="runAsNonRoot"):
        security({"securityContext": {"runAsNonRoot": True}}, {}, Image())


def test_gwfasts_image_is_what_the_dockerfile_says() -> None:
    image = of_dockerfile(PROJECT / "Dockerfile")
    assert (image.entrypoint, image.user) == (["gwfast"], "65532") and "GWFAST_ADMIN" not in image.env
    assert image.env["PATH"].startswith("/opt/gwfast/bin:/")


def test_lines_of_a_log_have_the_time_at_which_they_were_whole() -> None:
    log = Log()
    for piece in (b"a\nb", b"c\n", b"", b"d"):
        log.add(piece)
    assert [line for _, line in log.lines()] == [b"a\n", b"bc\n", b"d"]


# ---- Services and names

SERVICES = {
    ("shop", "api"): {"metadata": {"name": "api"}, "spec": {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd00::1"], "ports": [
        {"name": "web", "port": 80, "protocol": "TCP", "nodePort": 30080}]}},
    ("shop", "each"): {"metadata": {"name": "each"}, "spec": {"clusterIP": "None", "ports": []}},
    ("shop", "far"): {"metadata": {"name": "far"}, "spec": {"type": "ExternalName", "externalName": "far.example."}},
}


def slice_of(*ends: tuple[str, dict]) -> dict:
    return {"addressType": "IPv4", "ports": [{"name": "web", "port": 8080}], "endpoints": [
        {"addresses": [address], "hostname": f"h{n}", "conditions": conditions} for n, (address, conditions) in enumerate(ends)]}


READY, ENDING, GONE = {"ready": True}, {"ready": False, "serving": True, "terminating": True}, {"ready": False, "serving": False}


@pytest.mark.parametrize(("ends", "used"), [
    ([], ()),
    ([("10.0.0.1", READY), ("10.0.0.2", ENDING), ("10.0.0.3", {})], (("10.0.0.1", 8080), ("10.0.0.3", 8080))),
    ([("10.0.0.1", GONE), ("10.0.0.2", ENDING)], (("10.0.0.2", 8080),)),
    ([("10.0.0.1", GONE)], ()),
])
def test_which_endpoints_are_used(ends: list, used: tuple) -> None:
    found = dict(portals(SERVICES["shop", "api"], [slice_of(*ends)]))
    assert {str(portal): where for portal, where in found.items()} == {"10.96.1.1 . tcp . 80": used, "10.244.0.1 . tcp . 30080": used}


@pytest.mark.parametrize(("name", "kind", "code", "data"), [
    ("api.shop.svc.cluster.local", dns.A, dns.NO_ERROR, [bytes([10, 96, 1, 1])]),
    ("API.shop.svc.cluster.local", 28, dns.NO_ERROR, []),
    ("api.shop", dns.A, dns.NO_NAME, []),
    ("no.shop.svc.cluster.local", dns.A, dns.NO_NAME, []),
    ("api.other.svc.cluster.local", dns.A, dns.NO_NAME, []),
    ("each.shop.svc.cluster.local", dns.A, dns.NO_ERROR, [bytes([10, 0, 0, 1])]),
    ("h0.each.shop.svc.cluster.local", dns.A, dns.NO_ERROR, [bytes([10, 0, 0, 1])]),
    ("h1.each.shop.svc.cluster.local", dns.A, dns.NO_NAME, []),
    ("far.shop.svc.cluster.local", dns.A, dns.NO_ERROR, [b"\3far\7example\0", bytes([192, 0, 2, 9])]),
    ("_web._tcp.api.shop.svc.cluster.local", dns.SRV, dns.NO_ERROR, [b"\0\0\0\x64\0\x50\3api\4shop\3svc\7cluster\5local\0"]),
    ("_web._udp.api.shop.svc.cluster.local", dns.SRV, dns.NO_NAME, []),
    ("far.example", dns.A, dns.NO_ERROR, [bytes([192, 0, 2, 9])]),
])
def test_what_dns_answers(name: str, kind: int, code: int, data: list[bytes]) -> None:
    slices = {("shop", "each"): [slice_of(("10.0.0.1", READY), ("10.0.0.2", GONE))]}
    names = dns.Names(SERVICES, lambda: slices, {"far.example": "192.0.2.9"})
    asked = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + struct.pack("!BHH", 0, kind, 1)
    told = dns.reply(asked, names.answer)
    assert told[:2] == asked[:2] and told[3] & 15 == code and told[12:len(asked)].lower() == asked[12:].lower()
    count, at, found = struct.unpack_from("!H", told, 6)[0], len(asked), []
    for _ in range(count):
        at = told.index(b"\0", at) + 1
        size = struct.unpack_from("!H", told, at + 8)[0]
        found.append(told[at + 10:at + 10 + size])
        at += 10 + size
    assert (found, at) == (data, len(told))


def test_what_is_no_question_gets_no_answer() -> None:
    assert [dns.reply(packet, lambda *_: (0, [])) for packet in (b"", b"\0" * 11, b"\0" * 12 + b"\x05ab")] == [b""] * 3


# ---- the order of statuses


def test_of_one_pod_the_later_status_is_written_later() -> None:
    """Two threads that write one Pod's status would now and then leave the older one standing."""
    entered, go_on, done = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)
    at_once: list[int] = []
    inside = threading.Lock()

    def report(pod: str) -> None:
        at_once.append(0 if inside.acquire(blocking=False) else 1)
        entered.release()
        assert go_on.acquire(timeout=DEADLINE)
        inside.release()
        done.release()

    work = Work(2, report)
    work.tell("pod")
    assert entered.acquire(timeout=DEADLINE)
    work.tell("pod")
    other = threading.Event()
    work.later(other.set)
    assert other.wait(DEADLINE) and not entered.acquire(blocking=False)  # the other thread is free, and has not taken the Pod
    go_on.release(2)
    assert all(done.acquire(timeout=DEADLINE) for _ in range(2)) and at_once == [0, 0]


def test_what_cannot_be_written_is_written_again() -> None:
    told: list[str] = []
    done = threading.Event()

    def report(pod: str) -> None:
        told.append(pod)
        if len(told) < 4:
            raise (OSError("away"), ApiError(503, {}), ApiError(409, {"message": "the object has been modified"}))[len(told) - 1]
        done.set()

    Work(1, report).tell("pod")
    assert done.wait(DEADLINE) and told == ["pod"] * 4
