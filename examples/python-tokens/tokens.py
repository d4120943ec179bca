"""Counts the pieces of streamed answers (server-sent events, as language models send them) for each user, and answers 429 when
too many were used. Pieces pass as they come: nothing waits for the end of a stream."""
from collections import Counter

from gwfast.filters import Filter, Request, Response


class Tokens(Filter):
    async def start(self) -> None:
        self.used: Counter[str] = Counter()

    async def on_request(self, request: Request) -> Response | None:
        user = request.headers.get("x-user", "nobody")
        if self.used[user] >= self.config["used-up-at"]:
            return Response(429, [("content-type", "text/plain")], b"used up: %d\n" % self.used[user])
        request.state = user
        return None

    async def on_response(self, request: Request, response: Response) -> None:
        rest = b""

        def count(piece: bytes, last: bool) -> None:
            nonlocal rest
            *lines, rest = (rest + piece).split(b"\n")
            self.used[request.state] += sum(line.startswith(b"data:") and line.strip() != b"data: [DONE]" for line in lines)

        response.observe(count)
        response.headers["x-tokens-before"] = str(self.used[request.state])
