from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class FilterEntry:
    version: FilterVersion | None
    row: int
    place: int
    timeout: float
    open: bool
    max_body: int

@disjoint_base
class FilterVersion:
    loaded: Any
    made: Any
    on_request: Callable[..., Any]
    listens: bool
    def __init__(self, loaded: FilterEntry, made: Any, on_request: Callable[..., Any], listens: bool) -> None: ...
    def retire(self) -> None: ...
    def end(self) -> None: ...
