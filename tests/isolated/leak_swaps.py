"""Tables that come and go, with requests in flight and endpoints that change: a table is unmapped with its last request."""
import os

from measure import steady
from support.scripted import one_rule
from world import LENGTH, World

from gwfast.plan import ir
from gwfast.plan.image import publish

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
TABLES = 40


def weighted(address, version: int) -> ir.Plan:
    """A rule with weights of its own; a second backend whose endpoint's slot belonged to another one before."""
    canary = ir.Backend(namespace="default", name=f"canary-{version}", port=80)
    backend = ir.Backend(namespace="default", name="echo", port=80)
    plan = one_rule([address, address], name=f"version-{version}", backends=(
        ir.WeightedBackend(backend=backend, weight=100 + version), ir.WeightedBackend(backend=canary, weight=20)))
    return ir.Plan(binds=plan.binds, backends=(backend, canary), endpoints=(
        *plan.endpoints, ir.Endpoints(key=canary.key, addresses=((f"127.0.1.{version}", address[1]),))))


def tables(world: World) -> list[int]:
    address = ("127.0.0.1", world.listening.getsockname()[1])
    plans = [weighted(address, version) for version in range(TABLES)]
    return [publish(world.running.images.build(plan, {bind.key: 0 for bind in plan.binds}, n)) for n, plan in enumerate(plans)]


def main() -> None:
    world = World(address="")
    images = tables(world)

    def turn(n: int) -> None:
        old = world.connect()
        old.send(GET % b"never")               # it keeps the table that is there
        world.until(lambda: world.unanswered)
        world.engine.swap(images[n % TABLES])
        new = world.connect()
        for _ in range(10):
            assert world.ask(new, GET % b"length", 1).endswith(b"END\n")
        world.unanswered.pop().sendall(LENGTH)
        assert world.ask(old, b"", 1).endswith(b"END\n")
        old.close()
        new.close()
        world.idle()

    steady(turn, 1000, warm=2 * TABLES, allocated=16 << 10, files=2, maps=2)
    for image in images:
        os.close(image)
    world.close()


main()
