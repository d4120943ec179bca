from collections.abc import Iterable, Sequence
from typing import Literal, Self, final

from typing_extensions import Buffer

@final
class Table:
    def __new__(cls, buffer: Buffer) -> Self: ...
    @property
    def generation(self) -> int: ...
    def find(
        self,
        bind_id: int,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        slash_path: str = "",
    ) -> tuple[str, str, int] | Literal["ambiguous"] | None: ...
    def route(self, bind_id: int, name: str) -> tuple[str, str | None] | None: ...
    def spin(
        self, bind_id: int, method: str, paths: Sequence[str], headers: Iterable[tuple[str, str]], n: int
    ) -> tuple[int, int]: ...
