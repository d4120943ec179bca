"""Sockets that systemd gives, and what it is told."""
import asyncio
import os
import socket
from types import SimpleNamespace

import pytest

from gwfast.serve import systemd
from gwfast.serve.sockets import Given, Ports, Wanted
from gwfast.serve.systemd import Service, given_sockets

AT = 700  # descriptors that nothing else has, in the place of 3 and those that follow


@pytest.fixture
def give(monkeypatch):
    """Give sockets to this process as systemd does."""
    opened = []
    monkeypatch.setattr(systemd, "FIRST", AT)

    def given(*sockets, names="", pid=None):
        for at, one in enumerate(sockets, AT):
            os.dup2(one.fileno(), at)
            one.close()
        for name, value in (("PID", pid or os.getpid()), ("FDS", len(sockets)), ("FDNAMES", names)):
            monkeypatch.setenv(f"LISTEN_{name}", str(value))
        warnings = []
        opened.extend(found := given_sockets(lambda message, **fields: warnings.append((message, fields))))
        return found, warnings
    yield given
    for one in [each for given in opened for each in given.sockets]:
        one.close()


def listening(host="127.0.0.1", family=socket.AF_INET):
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((host, 0))
    one.listen()
    return one


def port_of(one):
    return one.getsockname()[1]


def test_sockets_are_known_by_their_address_and_by_a_name_that_is_a_number(give):
    here, everywhere, named = listening(), listening("::", socket.AF_INET6), listening("0.0.0.0")
    ports = [port_of(one) for one in (here, everywhere, named)]
    found, warnings = give(here, everywhere, named, names="gwfast.socket:web:443")
    assert [(one.address, one.spec_port, one.port, one.udp, one.lent) for one in found] == [
        ("127.0.0.1", 0, ports[0], False, True), ("", 0, ports[1], False, True), ("", 443, ports[2], False, True)]
    assert warnings == [] and not any(name.startswith("LISTEN_") for name in os.environ)
    assert not any(os.get_inheritable(one.fileno()) or one.getblocking() for given in found for one in given.sockets)


def test_sockets_of_one_address_are_one_port(give):
    one = listening()
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(one.getsockname())
    other.listen()
    found, _ = give(one, other)
    assert [len(given.sockets) for given in found] == [2]


def test_what_is_another_processs_is_not_ours(give):
    one = listening()
    assert give(one, pid=1) == ([], []) and "LISTEN_FDS" not in os.environ
    os.close(AT)


def test_what_cannot_be_listened_on_is_told(give):
    unix, other = socket.socketpair()
    other.close()
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    one = listening()
    port = port_of(one)
    found, warnings = give(unix, bound, one, names="log")
    assert [given.port for given in found] == [port]
    assert [fields for _, fields in warnings] == [{"descriptor": AT, "name": "log"}, {"descriptor": AT + 1, "name": ""}]
    os.close(AT), os.close(AT + 1)


def test_workers_share_what_is_lent_again_and_again(give):
    one = listening()
    port = port_of(one)
    found, _ = give(one)
    ports = Ports(3, given=found)
    wanted = Wanted("a", "127.0.0.1", port, "http")
    for _ in range(2):
        ports.open([wanted])
        [opened] = ports
        assert opened.error == "" and len(opened.sockets) == 3 and {port_of(each) for each in opened.sockets} == {port}
        with socket.create_connection(("127.0.0.1", port)):
            assert opened.sockets[1].accept()[0].close() is None
        ports.keep([])
        assert list(ports) == []
    with socket.create_connection(("127.0.0.1", port)):  # it waits: systemd has the port open
        pass
    ports.close()


def test_a_named_socket_is_the_gateways_port_wherever_it_listens(give):
    found, _ = give(listening("0.0.0.0"), names="80")
    ports = Ports(1, given=found)
    ports.open([Wanted("a", "", 80, "http"), Wanted("b", "", found[0].port, "http")])
    first, second = ports
    assert (first.port, first.error) == (found[0].port, "") and "listens there already" in second.error
    ports.close()


@pytest.mark.parametrize("number, workers, error", [(1, 1, ""), (2, 2, ""), (1, 2, "1 of the 2 sockets that as many workers need were given")])
def test_of_udp_there_is_one_for_each_worker(number, workers, error):
    opened = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
    for one in opened:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port_of(opened[0])))
    port = port_of(opened[0])
    ports = Ports(workers, given=[Given("127.0.0.1", 0, port, True, tuple(opened), lent=True)])
    ports.open([Wanted("a", "127.0.0.1", port, "udp")])
    assert [one.error for one in ports] == [error]
    ports.close()


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What systemd was told, message by message."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(30)

        def messages():
            systemd.setblocking(False)
            found = []
            while True:
                try:
                    found.append(systemd.recv(4096).decode().split("\n")[:-1])
                except BlockingIOError:
                    return found
        yield messages


def reading(listeners=1):
    nodes = {str(number): SimpleNamespace(served=True) for number in range(listeners)}
    return SimpleNamespace(graph=SimpleNamespace(listeners=nodes, routes={}))


def test_ready_once_and_status_where_it_is_news(told):
    service = Service(None)
    service.serves(None, "")
    assert told() == []
    for listeners, idle in ((1, ""), (1, ""), (2, ""), (2, "nothing is served: there is no Gateway")):
        service.serves(reading(listeners), idle)
    assert told() == [["READY=1", "STATUS=serves 1 listener, 0 routes"], ["STATUS=serves 2 listeners, 0 routes"],
                      ["STATUS=nothing is served: there is no Gateway"]]


def test_a_reload_is_over_with_the_last_that_was_asked_for(told):
    service = Service(None)
    service.serves(reading(), "")
    service.reloading()
    service.reloading()
    service.reloaded()
    service.reloaded()
    service.stops()
    _, first, second, ready, end = told()
    assert [each[0] for each in (first, second)] == ["RELOADING=1"] * 2 and first[1].startswith("MONOTONIC_USEC=")
    assert ready == ["READY=1", "STATUS=serves 1 listener, 0 routes"] and end[0] == "STOPPING=1"


@pytest.mark.parametrize("pid, heir, beats", [(os.getpid(), False, True), ("", False, True), (1, False, False), (1, True, True)],
                         ids=["ours", "anybody's", "another's", "of whom we take the place"])
def test_the_watchdog_hears_of_a_loop_that_goes_round(told, monkeypatch, pid, heir, beats):
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("WATCHDOG_PID", str(pid))

    async def main():
        Service(asyncio.get_running_loop(), heir).begin()
        found = told()
        async with asyncio.timeout(30):
            while beats and len(found) < 3:
                await asyncio.sleep(0.001)
                found += told()
        return found
    assert asyncio.run(main())[:3] == [["WATCHDOG=1"]] * 3 * beats
