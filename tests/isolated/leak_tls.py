"""HTTP/1.1 over TLS: requests, handshakes full, resumed and aborted, ended in every way: nothing is left of them.

An argument multiplies the turns: `leak_tls.py 5` is a million requests. A session of Python's ssl is asked for once, and resumed for
ever: each time that SSLSocket.session is read some 6 KiB are lost, beside any server.
"""
import ssl
import sys

from measure import steady
from http2_world import NAME, Secure, client_context, world_of

GET = b"GET /length HTTP/1.1\r\nHost: %s\r\n\r\n" % NAME.encode()
POST = b"POST /body HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nENDS" % NAME.encode()
NEVER = b"GET /never HTTP/1.1\r\nHost: %s\r\n\r\n" % NAME.encode()
BROKEN = (b"", b"\x16\x03\x01\x00\xc8\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x15\x03\x01\x00\x02\x02\x28")


def aborted(world, context) -> None:
    """Handshakes that never end well: nonsense, a ClientHello alone, a client that goes after the server's flight."""
    for data in BROKEN:
        client = world.connect()
        client.send(data)
        world.turn()
        client.close()
    for turns in (0, 2):
        stream = context.wrap_socket(world.connect(), server_hostname=NAME, do_handshake_on_connect=False)
        try:
            stream.do_handshake()
        except ssl.SSLWantReadError:
            pass
        for _ in range(turns):
            world.turn()
        world.reset(stream) if turns else stream.close()


def main() -> None:
    world = world_of(secure=True)
    contexts = [client_context("http/1.1"), client_context(version=ssl.TLSVersion.TLSv1_2)]

    sessions: dict[ssl.SSLContext, ssl.SSLSession] = {}

    def turn(n: int) -> None:
        context, resumed = contexts[n % 2], []
        for batch in range(4):
            client = Secure(world, context, sessions[context] if batch else None)
            resumed.append(client.stream.session_reused)
            for kind in (GET, POST) * 5:
                assert world.ask(client, kind * 50, 50).count(b"END\n") == 50
            if context not in sessions:
                sessions[context] = client.stream.session
            if batch % 2:
                world.ask(client, GET, 1)
                client.send(NEVER)
                world.until(lambda: world.unanswered)
                world.reset(client)
                world.until(lambda: not world.unanswered)
            client.close()
        assert resumed == [False, True, True, True]
        aborted(world, context)
        world.idle()

    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    # whatever the turns; a leak of one bit for each request would be 25 KB
    steady(turn, 100 * times, warm=20, allocated=16 << 10, private=512 << 10)
    world.close()


main()
