"""What is not a matter of requests: TLS handshakes (handshakes.c), and bodies by the gigabyte."""
import subprocess

import msgspec

from bench.contenders import Contender
from bench.h2load import h2load
from bench.kinds.base import WARM_UP, Case, Found
from bench.machine import compiled, cpus, pinned, used
from bench.stage import Options, Stage, stage
from bench.wire import HOST, TLS, Wire


class Shaken(msgspec.Struct, frozen=True):
    """What handshakes.c saw."""

    asked: int
    answered: int
    resumed: int
    broken: int
    lost: int
    seconds: float


def shake(port: int, *, seconds: float, version: str, resume: bool, places: int = 8) -> Shaken:
    """Handshakes on so many connections at a time. CalledProcessError without OpenSSL's headers (libssl-dev)."""
    words = [compiled("handshakes", "-lssl", "-lcrypto"), str(port), str(seconds), str(places), version, str(int(resume)), HOST]
    ran = subprocess.run(pinned(cpus("load"), words), capture_output=True, timeout=seconds + 60, check=True)
    return msgspec.json.decode(ran.stdout, type=Shaken)


class Handshakes(Case):
    """TCP, handshake and close, without a request: CPU time of all processes per handshake. Certificates are ECDSA P-256, keys
    are exchanged on X25519; `resume`: each with a ticket of the connection before."""

    wire: Wire = TLS
    resume: bool = False
    version: str = "1.3"

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options, wire=self.wire) as on:
            contenders = on.all()
            yield from on.notes
            for contender in contenders:
                self.shake(contender, WARM_UP)
            for turn in range(self.rounds):
                for contender in contenders:
                    yield from self.measure(contender, turn)

    def shake(self, contender: Contender, seconds: float) -> Shaken:
        return shake(contender.port, seconds=seconds, version=self.version, resume=self.resume)

    def measure(self, contender: Contender, turn: int) -> Found:
        pids = contender.pids()
        before = used(pids)
        seen = self.shake(contender, self.seconds)
        spent = used(pids) - before
        if not seen.answered:
            yield self.note(contender, "no handshake came to its end")
            return
        for name, value in (("CPU", spent.total), ("user", spent.user), ("system", spent.system)):
            yield self.figure(contender, name, "us/handshake", value / seen.answered, round=turn)
        yield self.figure(contender, "rate", "handshakes/s", seen.answered / seen.seconds, round=turn)
        yield self.figure(contender, "resumed", "%", 100 * seen.resumed / seen.answered, round=turn)
        yield self.figure(contender, "errors", "", seen.broken + seen.lost, round=turn)


class Volume(Case):
    """A gigabyte (GiB) in bodies of 64 MiB, four connections at a time: CPU time of all processes for it."""

    size: int = 35  # of answers; the scene says what is sent
    requests: int = 16
    connections: int = 4
    seconds: float = 1.0  # about, for the time that remains
    body: int = 64 << 20

    def run(self, options: Options) -> Found:
        with stage(self.name, self.scene(), options, size=self.size, wire=self.wire) as on:
            contenders = on.all()
            yield from on.notes
            for turn in range(self.rounds):
                for contender in contenders:
                    yield from self.measure(on, contender, turn)

    def takes(self, contenders: int) -> float:
        return self.setup + contenders * (self.rounds + 0.5) * self.seconds

    def measure(self, on: Stage, contender: Contender, turn: int) -> Found:
        pids = contender.pids()
        before = used(pids)
        seen = h2load(contender.port, next(iter(on.scene.asks.values())), self.wire, connections=self.connections,
                      requests=self.requests, size=self.size)
        spent = used(pids) - before
        moved = seen.answered * self.body / 2**30
        if not moved:
            yield self.note(contender, "answered nothing")
            return
        for name, value in (("CPU", spent.total), ("user", spent.user), ("system", spent.system)):
            yield self.figure(contender, name, "ms/GiB", value / 1e3 / moved, round=turn)
        yield self.figure(contender, "rate", "GiB/s", moved / seen.seconds, round=turn)
        yield self.figure(contender, "errors", "", seen.errors, round=turn)
