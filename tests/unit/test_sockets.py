"""Listening sockets: shared by workers, refused to strangers, stable over reloads."""
import contextlib
import select
import socket

import pytest

from gwfast.serve.sockets import Ports, Wanted, open_sockets

KEY = "[127.0.0.1]:80"
WANTED = [Wanted(KEY, "127.0.0.1", 80, "http")]


@contextlib.contextmanager
def ports(**options):
    made = Ports(2, port_map={80: 0, 81: 0}, backlog=16, **options)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def taken(address="127.0.0.1"):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind((address, 0))
        stranger.listen()
        yield stranger.getsockname()[1]


def test_every_worker_gets_a_socket_of_one_port():
    with ports() as table:
        table.open(WANTED)
        port, = table
        assert table.ids == {KEY: 1}
        assert {one.getsockname() for one in port.sockets} == {("127.0.0.1", port.port)}
        assert len(port.sockets) == 2 and not any(one.getblocking() for one in port.sockets)
        assert port.port != 80 and port.spec_port == 80 and not port.listening


def test_what_stays_is_not_opened_again_and_what_goes_is_closed():
    with ports() as table:
        table.open(WANTED)
        first, = table
        sockets = first.sockets
        both = [*WANTED, Wanted("b", "127.0.0.1", 81, "http")]
        table.open(both)
        assert [port.key for port in table] == [KEY, "b"] and first.sockets is sockets
        assert table.keep(both) == []
        assert table.keep(both[1:]) == [first] and all(one.fileno() < 0 for one in sockets)
        table.open(both)
        assert {port.key: port.bind for port in table} == {"b": 2, KEY: first.bind}  # ids are stable


def test_a_port_that_is_taken_is_said_and_tried_again():
    with taken() as port, ports() as table:
        table._map = {80: port}
        table.open(WANTED)
        failed, = table
        assert failed.error == "something else listens there" and failed.where == f"127.0.0.1:{port}"
        assert not failed.sockets
        table._map = {80: 0}
        table.open(WANTED)
        assert failed.sockets and not failed.error


@pytest.mark.parametrize("wanted, error", [
    ([Wanted("a", "203.0.113.7", 80, "http")], "this machine does not have that address"),
    ([Wanted("a", "127.0.0.1", 80, "http"), Wanted("b", "127.0.0.1", 81, "http")],
     "port 80 of the configuration listens there already"),
], ids=["address of nobody", "two ports mapped to one"])
def test_what_cannot_be_bound_says_why(wanted, error):
    with ports() as table:
        free = open_sockets("127.0.0.1", 0, 1, 1)[0]
        number = free.getsockname()[1]
        free.close()
        table._map = {80: number, 81: number}
        table.open(wanted)
        assert [port.error for port in table][-1] == error


def test_target_ports_go_before_the_port_map():
    with ports() as table:
        free, = open_sockets("127.0.0.1", 0, 1, 1)
        number = free.getsockname()[1]
        free.close()
        table.open([*WANTED, Wanted("b", "127.0.0.1", 80, "http", number)])
        assert [(port.spec_port, port.error) for port in table] == [(80, ""), (80, "")]
        assert [port.port for port in table][1] == number != [port.port for port in table][0]


def test_tcp_and_udp_have_ports_of_their_own():
    with ports() as table:
        table.open(WANTED)
        tcp, = table
        table._map = {80: tcp.port}
        both = [*WANTED, Wanted("udp" + KEY, "127.0.0.1", 80, "udp")]
        table.open(both)
        udp = list(table)[1]
        assert (udp.port, udp.error, udp.where) == (tcp.port, "", f"udp 127.0.0.1:{tcp.port}")
        assert {one.type for one in udp.sockets} == {socket.SOCK_DGRAM} and len(udp.sockets) == 2
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", udp.port))
        assert b"x" in [received(one) for one in udp.sockets]
        assert table.keep(WANTED) == [udp] and tcp.sockets


def received(one):
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(one, select.POLLIN)
    return one.recv(10) if poll.poll(1000) else b""


def test_a_udp_port_that_is_taken_is_said():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, ports() as table:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        table._map = {80: stranger.getsockname()[1]}
        table.open([Wanted("udp" + KEY, "127.0.0.1", 80, "udp")])
        assert [port.error for port in table] == ["something else listens there"]


def test_two_addresses_share_a_port():
    with ports() as table:
        table.open(WANTED)
        first, = table
        table._map = {80: first.port}
        table.open([*WANTED, Wanted("b", "127.0.0.2", 80, "http")])
        assert [(port.address, port.port, port.error) for port in table] == [
            ("127.0.0.1", first.port, ""), ("127.0.0.2", first.port, "")]


def test_no_address_is_both_families():
    one, = open_sockets("", 0, 1, 1)
    with one:
        assert one.family == socket.AF_INET6
        with socket.create_connection(("127.0.0.1", one.getsockname()[1]), 5):
            pass
        with socket.create_connection(("::1", one.getsockname()[1]), 5):
            pass
