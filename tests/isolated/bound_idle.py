"""What 2,000 idle keep-alive connections cost: less than 1 KiB each."""
import resource
import socket

from measure import held
from world import World

COUNT = 2000


def main() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert files >= 2 * COUNT + 100, "the limit on open files is too low for this proof"
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    world = World(connections=2 * COUNT, pool_size=4)

    def answered() -> int:
        """A connection that had one answer; only its descriptor is kept, so that it costs the client next to nothing."""
        client = world.connect()
        assert world.ask(client, b"GET /length HTTP/1.1\r\nHost: a\r\nUser-Agent: " + b"x" * 1000 + b"\r\n\r\n", 1)
        return client.detach()

    kept = [answered() for _ in range(100)]
    before = held()
    kept += [answered() for _ in range(COUNT)]
    after = held()
    allocated, private = ((after[n] - before[n]) / COUNT for n in (0, 1))
    print(f"{allocated:.0f} bytes allocated, {private:.0f} resident per idle connection")
    assert world.engine.connections == len(kept)
    assert allocated < 1024 and private < 1024
    for fd in kept:
        socket.socket(fileno=fd).close()
    world.idle()
    kept.clear()
    left = held()
    print(f"{left.allocated - before.allocated} bytes, {left.files - before.files} files more after they left")
    assert left.allocated - before.allocated < 64 << 10 and left.files < before.files
    world.close()


main()
