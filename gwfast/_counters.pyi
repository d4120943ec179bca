from collections.abc import Iterable
from typing import Any, final

BUCKETS_US: tuple[int, ...]
MIRROR_ENDS: tuple[str, ...]
HANDSHAKE_ENDS: tuple[str, ...]
CLASSES: tuple[str, ...]

def create(workers: int, slots: int) -> int: ...
def ejected(fd: int, places: Iterable[tuple[int, int]]) -> list[tuple[int, float, int]]: ...
def read(fd: int) -> dict[str, Any]: ...

@final
class Counters:
    def __init__(self, fd: int, worker: int) -> None: ...
