"""What clients make the engine hold: a fixed amount for each connection, and few times the bytes that they sent."""
import os
import resource

from measure import held
from world import World

COUNT = 500
HOST = b"Host: a\r\n"
UPLOAD = b"POST /never HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CASES = {   # what each connection sends, piece by piece
    "a head byte by byte": [bytes([byte]) for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 0123456789"],
    "a head in two pieces": [b"GET / HTTP/1.1\r\n", HOST],
    "a large head that never ends": [b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 7000 + b"\r\n",
                                     b"X-B: " + b"b" * 7000 + b"\r\n", b"X-C: " + b"c" * 7000],
    "a head larger than a small buffer": [b"GET / HTTP/1.1\r\n" + HOST, b"X-A: " + b"a" * 4100],
    "many fields": [b"GET / HTTP/1.1\r\n" + HOST + b"a:\r\n" * 90],
    "pipelined requests behind one that waits": [b"GET /never HTTP/1.1\r\n" + HOST + b"\r\n",
                                                 (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 300],
    "a chunk of one byte after the other": [UPLOAD, b"1\r\nx\r\n" * 1000],
    "extensions of chunks": [UPLOAD, b"1;%s\r\nx\r\n" % (b"a=b;" * 50) * 10],
    "half a chunk's line": [UPLOAD, b"00000000000"],
    "trailers that never end": [UPLOAD + b"0\r\n", b"X-A: b\r\n" * 20],
}
MOST = 10                  # bytes for each byte that was sent: one more than fits a small buffer takes a large one
FIXED = 12 << 10           # both connections, a request in flight, and a small buffer for either


def attack(world: World, pieces: list[bytes]) -> tuple[float, float, float]:
    """Bytes sent, allocated and resident, each for one connection."""
    clients = [world.connect() for _ in range(COUNT)]
    world.until(lambda: world.engine.connections == COUNT)
    before = held()
    sent = 0
    for piece in pieces:
        for client in clients:
            sent += client.send(piece)
        for _ in range(3):
            world.turn(0)
    after = held()
    probe = world.connect()
    assert world.ask(probe, b"GET /length HTTP/1.1\r\n" + HOST + b"\r\n", 1).endswith(b"END\n"), "nobody else is served"
    for client in (probe, *clients):
        world.reset(client)
    world.idle()
    return sent / COUNT, (after.allocated - before.allocated) / COUNT, (after.private - before.private) / COUNT


def main() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for name, pieces in CASES.items():
        if child := os.fork():             # buffers kept for reuse by one case would hide what another takes
            assert os.waitpid(child, 0)[1] == 0, name
            continue
        world = World(connections=2 * COUNT, pool_size=2 * COUNT)
        sent, allocated, resident = attack(world, pieces)
        print(f"{name}: {sent:.0f} sent, {allocated:.0f} allocated, {resident:.0f} resident", flush=True)
        os._exit(allocated > FIXED + MOST * sent)


main()
