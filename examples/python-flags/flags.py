"""Sends the users that its config names to the preview."""
from gwfast.filters import Filter, Request


class Flags(Filter):
    async def on_request(self, request: Request) -> None:
        if request.headers.get("x-user") in self.config["preview"]:
            request.backend = "preview"
            request.headers["x-flags"] = "preview"
