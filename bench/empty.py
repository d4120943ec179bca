"""A filter in Python that does nothing: what having one costs."""
from gwfast.filters import Filter, Request


class Empty(Filter):
    async def on_request(self, request: Request) -> None:
        """Look at nothing."""
