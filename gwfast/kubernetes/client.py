"""Requests to the API server, and streams of lines: the one place that speaks HTTP to it."""
from collections.abc import AsyncIterator

from gwfast.kubernetes.kubeconfig import Access


class ApiError(Exception):
    """An answer that is no 2xx. `status` is HTTP's (or a Status object's code), `reason` the API's word: NotFound, Conflict."""

    def __init__(self, status: int, reason: str = "", message: str = "", retry_after: float | None = None):
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Unreachable(Exception):
    """No answer could be had: no connection, no TLS, no credentials, a timeout, an answer that ended or made no sense."""


class Client:
    """One API server. `connections` bounds those of requests; each watch has one of its own beside them."""

    def __init__(self, access: Access, *, connections: int = 8, log=None):
        ...

    async def request(self, method: str, path: str, body: object | bytes | None = None, *,
                      content_type: str = "application/json", accept: str = "application/json", timeout: float = 30.0) -> bytes:
        """Return the body of a 2xx; ApiError, Unreachable. `timeout` is for all of it, waits for 429 and 503 too."""

    def watch(self, path: str, *, accept: str = "application/json") -> AsyncIterator[bytes]:
        """Yield a line for each event until the server ends the answer; ApiError, Unreachable. Close it (aclosing)."""

    async def close(self) -> None:
        """End every connection."""
