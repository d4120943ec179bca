"""Connections and datagrams that are passed on as they are, ended in every way, over and over: nothing is left of them."""
import os
import socket

from measure import steady
from support.relays import ECHO, tcp_plan
from world import World

BULK = os.urandom(300_000)


class Echo(World):
    """Its backend sends back what comes, and `bye` ends with an RST."""

    def answer(self, connection) -> None:
        try:
            data = connection.recv(1 << 20)
        except ConnectionError:
            data = b""
        if data == b"bye":
            del self.backends[connection]
            self.selector.unregister(connection)
            self.reset(connection)
        elif data:
            connection.setblocking(True)       # it fits what sockets hold, or the engine has to turn: see `ask`
            connection.sendall(data)
            connection.setblocking(False)
        else:
            self.forget(connection)


def main() -> None:
    world = Echo(lambda addresses: tcp_plan({ECHO.key: addresses}))

    def turn(n: int) -> None:
        for how in ("end", "reset", "bye", "silent"):
            client = world.connect()
            if how != "silent":
                assert world.ask(client, b"hello", 1, b"hello") == b"hello"
                for at in range(0, len(BULK), 30_000):
                    piece = BULK[at:at + 30_000]
                    assert world.ask(client, piece, 1, piece[-20:]) == piece
            if how == "bye":
                assert world.ask(client, b"bye", 1) == b""
            if how == "reset":
                world.reset(client)
            client.close()
        world.idle()

    steady(turn, 100, warm=20, allocated=16 << 10)
    world.close()


def datagrams() -> None:
    world = Echo(lambda addresses: tcp_plan({ECHO.key: addresses}, transport="udp", kind="UDPRoute"), udp_idle_timeout=0.05)
    backend = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    backend.bind(world.listening.getsockname())
    backend.setblocking(False)

    def echo(_) -> None:
        data, address = backend.recvfrom(65536)
        backend.sendto(data, address)
    world.selector.register(backend, 1, echo)
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    where = listening.getsockname()
    world.engine.listen(listening.detach(), 0)

    def turn(n: int) -> None:
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for client in clients:
            client.setblocking(False)
            client.connect(where)
            assert world.ask(client, b"END\n", 1) == b"END\n"
            client.close()
        world.idle()

    steady(turn, 120, warm=5, allocated=48 << 10)    # 20 bytes of each session
    world.selector.unregister(backend)
    world.close()
    backend.close()


main()
datagrams()
