"""The floor: forwards bytes and parses nothing (bench/floor.c); nobody can be below it with the same system calls."""
from bench.contenders.base import Contender, Unsupported
from bench.contenders.rows import rows, services
from bench.machine import compiled
from gwfast.plan.ir import Plan


class Floor(Contender):
    name, program, package = "floor", "cc", "apt-get install gcc"
    changes = False
    backend = 0

    @classmethod
    def version(cls) -> str:
        return ""

    def files(self, plan: Plan) -> dict[str, bytes]:
        """No files: it is told on the command line."""
        self.backend = config(plan)
        if self.log:
            raise Unsupported("a log")
        if self.workers != 1:
            raise Unsupported("several workers")
        if self.wire.tls or self.wire.h2 and not self.wire.grpc:
            raise Unsupported("TLS, or HTTP/2 to a backend of HTTP/1.1")
        return {}

    def command(self) -> list[str]:
        return [compiled("floor"), str(self.port), str(self.backend)]


def config(plan: Plan) -> int:
    """Return the port of the one endpoint that gets everything."""
    found = list(rows(plan))
    addresses = [address for each in services(plan).values() for address in each]
    if len(found) != 1 or found[0].path != "/" or found[0].hostname or found[0].header or len(addresses) != 1:
        raise Unsupported("routes or several endpoints")
    return addresses[0][1]
