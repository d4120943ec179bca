from typing import final

from gwfast.filters import Request

@final
class FilterHead:
    method: str
    path: str
    query: str
    host: str
    fields: list[tuple[str, str]]
    def __init__(self, raw: bytes) -> None: ...
    def written(self, request: Request, body: bytes | None) -> bytes | None: ...

def put_fields(parts: list[str], fields: list[tuple[str, str]], came: list[tuple[str, str]]) -> None: ...
