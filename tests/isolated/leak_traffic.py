"""Requests of every kind, kept and aborted connections, over and over: nothing is left of them."""
from measure import steady
from world import World

TAIL = b" HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\n\r\n"
WITH = b" HTTP/1.1\r\nHost: a\r\n"
KINDS = [
    b"GET /length" + TAIL,
    b"GET /chunked" + TAIL,
    b"GET /early" + TAIL,
    b"POST /body" + WITH + b"Content-Length: 4\r\n\r\nENDS",
    b"POST /body" + WITH + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nENDS\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /close" + TAIL,
]
NEVER = b"GET /never" + TAIL    # a client that only ends its own direction still gets its answer: this one must reset
ABORTED = [b"", b"GET /half", b"POST /body" + WITH + b"Content-Length: 400\r\n\r\nhalf", NEVER,
           b"POST /body" + WITH + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET  /bad" + TAIL]


def main() -> None:
    world = World()

    def turn(n: int) -> None:
        kept = [world.connect() for _ in range(4)]
        for client in kept:
            for kind in KINDS:
                assert world.ask(client, kind * 5, 5).count(b"END\n") == 5
        client = world.connect()
        assert b" 502 " in world.ask(client, b"GET /bad" + TAIL, 1, b"Gateway\n")
        assert b"END\n" in world.ask(client, b"GET /cut" + TAIL, 2)
        client.close()
        client = world.connect()
        assert b" 101 " in world.ask(client, b"GET /upgrade" + WITH + b"Connection: upgrade\r\nUpgrade: echo\r\n\r\n", 0)
        assert b"END\n" in world.ask(client, b"GET /length" + TAIL, 1)
        client.close()
        for data in ABORTED:
            for hard in (False, True):
                client = world.connect()
                client.send(data)
                world.turn()
                if hard or data == NEVER:
                    world.reset(client)
                client.close()
        for client in kept:
            client.close()
        world.idle()

    # 140 answered and 15 aborted requests on 19 connections a turn: one pointer lost in each kind would show
    steady(turn, 100, warm=20, allocated=16 << 10)
    world.close()


main()
