"""gRPC to a backend of HTTP/2 in clear: calls that are answered, reset on either side, cut with the connection: nothing is left."""
import sys

from measure import steady
from http2_world import Http2BackendWorld, Http2, world_of

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))


def main() -> None:
    world = world_of(False, "h2c", Http2BackendWorld)

    def turn(n: int) -> None:
        client = Http2(world, world.connect(), b"http")
        for _ in range(20):
            assert client.over(client.ask(90, b"/a.B/C", b"\0\0\0\0\5hello", *GRPC)) == (90, 0)
        assert client.over(client.ask(10, b"/a.B/C", b"\0\0\0\0\5reset", *GRPC)) >= (0, 0)
        assert client.over(client.ask(10, b"/a.B/C", b"\0\0\0\0\4half", *GRPC)) == (0, 10)
        silent = client.ask(30, b"/a.B/C", b"\0\0\0\0\5never", *GRPC)
        world.until(lambda: world.engine.requests == 30)
        client.reset(silent[:20])
        world.until(lambda: world.engine.requests == 10)
        if n % 2:
            client.ask(1, b"/a.B/C", b"\0\0\0\0\3bye", *GRPC)      # the backend goes, and all that is open
            client.over(silent[20:])
        world.reset(client.socket)
        world.idle()

    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    # whatever the turns; a leak of one bit for each request would be 24 KB
    steady(turn, 100 * times, warm=20, allocated=16 << 10, private=512 << 10)
    world.close()


main()
