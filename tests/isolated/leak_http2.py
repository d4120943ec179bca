"""HTTP/2 in clear and over TLS: streams that end, are reset and are left open, over and over: nothing is left of them.

An argument multiplies the turns: `leak_http2.py 10` asks a million times over TLS.
"""
import struct
import sys

from measure import steady
from http2_world import GOAWAY, HEADERS, PREFACE, SETTINGS, Http2, Secure, client_context, frame, world_of

BROKEN = (b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, b"\x82"),
          PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), PREFACE + frame(SETTINGS, 0, 1))


def main(secure: bool) -> None:
    world = world_of(secure)
    context = client_context("h2")
    session = None

    def connect(full: bool = False):
        if not secure:
            return world.connect()
        return Secure(world, context, None if full else session)

    def turn(n: int) -> None:
        nonlocal session
        scheme = b"https" if secure else b"http"
        for batch in range(2):
            client = Http2(world, connect(full=batch == 0), scheme)
            for _ in range(6):
                assert client.over(client.ask(50, b"/length")) == (50, 0)
                assert client.over(client.ask(20, b"/chunked", b"ENDS")) == (20, 0)
                assert client.over(client.ask(10, b"/early", None, (b"cookie", b"a=b"), (b"cookie", b"c=d"))) == (10, 0)
            assert client.over(client.ask(2, b"/cut")) == (0, 2)
            never = client.ask(20, b"/never")
            world.until(lambda: len(world.unanswered) == 20)
            client.reset(never[:10])
            world.until(lambda: len(world.unanswered) == 10)
            if secure and session is None:
                session = client.socket.stream.session     # once: see leak_tls.py
            if batch:
                client.socket.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
                world.turn()
            world.reset(client.socket)
            client.socket.close()
            world.until(lambda: not world.unanswered)
        for data in BROKEN:
            sock = connect()
            sock.send(data)
            world.turn()
            world.reset(sock)
            sock.close()
        world.idle()

    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    # whatever the turns; a leak of two bits for each request would be 25 KB
    steady(turn, 100 * times, warm=20, allocated=16 << 10, private=512 << 10)
    world.close()


main(secure=False)
main(secure=True)
