"""Load on one port by the client (client.c): HTTP/1.1 in clear.

The client runs a closed loop (everybody asks again once answered), or an open one (`rate`: so many requests a second
whatever comes back, times counted from when each was due: no coordinated omission).
"""
import contextlib
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.machine import compiled, cpus, pinned
from bench.scenes import Ask


class Load(msgspec.Struct, frozen=True):
    """What the client saw; times in microseconds."""

    asked: int
    answered: int
    wrong: int
    broken: int
    lost: int
    seconds: float
    statuses: list[int]
    refused: int = 0
    retried: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0
    typical: float = 0.0  # p99 of a calm window (client.c), in an open loop
    first: int = 1  # whether the client of an open loop was let before everybody else on its core

    @property
    def errors(self) -> int:
        return self.wrong + self.broken + self.refused + self.lost

    def said(self) -> str:
        """Which errors they were."""
        kinds = {f"{kind}xx": self.statuses[kind] for kind in (3, 4, 5)}
        kinds |= {"otherwise wrong": self.wrong - sum(kinds.values()), "broken": self.broken, "refused": self.refused,
                  "never answered": self.lost}
        return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)


@contextlib.contextmanager
def asking(port: int, asks: list[Ask], *, seconds: float, connections: int, rate: int = 0, close: bool = False,
           size: int = -1, cut: bool = False, window: int = 20) -> Iterator[list[Load]]:
    """Load while the block runs; the list has what the client saw once the block has ended. `cut`: it ends with the block.
    `window`: milliseconds, for `Load.typical`."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(asks))]
        for file, ask in zip(files, asks, strict=True):
            file.write_bytes(ask.bytes(close))
        command = [compiled("client"), str(port), str(seconds), str(connections), str(rate), str(int(close)), str(size),
                   str(window), *map(str, files)]
        client = subprocess.Popen(pinned(cpus("load"), command), stdout=subprocess.PIPE)
        seen: list[Load] = []
        try:
            yield seen
            if cut:
                client.terminate()
            seen.append(msgspec.json.decode(client.communicate(timeout=seconds + 60)[0], type=Load))
        finally:
            client.kill()
            client.wait()


def load(port: int, asks: list[Ask], **how) -> Load:
    with asking(port, asks, **how) as seen:
        pass
    return seen[0]


def allow_files() -> int:
    """Raise the limit on open files as far as it goes; what it is now."""
    want = 1 << 17
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, want))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
