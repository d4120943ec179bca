from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from typing_extensions import disjoint_base

from gwfast.extend.filter_headers import Headers

_Fields = Headers | Mapping[str, str] | Iterable[tuple[str, str]]

@disjoint_base
class FilterRequest:
    method: str
    path: str
    query: str
    host: str
    @property
    def headers(self) -> Headers: ...
    @headers.setter
    def headers(self, value: _Fields) -> None: ...
    peer: str
    tls: Any
    route: str
    backends: tuple[str, ...]
    backend: str
    state: Any
    _body: bytes | None
    def __init__(self, method: str, path: str, query: str = "", host: str = "", headers: _Fields = (), *, peer: str = "",
                 tls: Any = None, route: str = "", backends: tuple[str, ...] = (),
                 read: Callable[[], Awaitable[bytes]] | None = None) -> None: ...
    def replace_body(self, body: bytes) -> None: ...
    def _keep(self) -> None: ...
    def _reader(self) -> Callable[[], Awaitable[bytes]] | None: ...
