"""Filters in Python: what having one costs."""
from gwfast.filters import Filter, Request


class Empty(Filter):
    async def on_request(self, request: Request) -> None:
        """Look at nothing."""


class Tenant(Filter):
    async def on_request(self, request: Request) -> None:
        """Read a field and set one."""
        request.headers["x-tenant"] = request.headers.get("user-agent", "none")
