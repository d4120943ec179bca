import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from typing_extensions import disjoint_base

from gwfast.engine.counters import Counters
from gwfast.extend.filter_request import FilterRequest
from gwfast.extend.filter_steps import Steps
from gwfast.extend.filter_task import FilterTask
from gwfast.extend.filter_version import FilterEntry, FilterVersion

FAILURES: tuple[type[BaseException], ...]

@disjoint_base
class FilterHost:
    loop: asyncio.AbstractEventLoop
    counters: Counters
    entries: dict[int, Any]
    def __init__(self, loop: asyncio.AbstractEventLoop, counters: Counters,
                 serve: Callable[[FilterTask], Coroutine[Any, Any, None]], kind: type[FilterRequest]) -> None: ...
    def begin(self, talk: Any) -> asyncio.Task | None: ...
    def respond(self, talk: Any, status: int, lines: bytes, more: bytes) -> asyncio.Task | None: ...
    def enter(self, talk: Any, version: FilterVersion, request: FilterRequest) -> Steps: ...
    def decide(self, entry: FilterEntry, talk: Any, request: FilterRequest, steps: Steps, answer: object) -> None: ...
