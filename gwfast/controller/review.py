"""Whose token is it? The API server knows (TokenReview); what it says is remembered for a while.

Rules:
- A token that is not for our audience is nobody's.
- Where it cannot be asked nobody is believed, and nothing is remembered: Unavailable.
- A token is never kept, only a digest of it, and never told.
- Of one token one question is under way at a time, of all together AT_ONCE.
"""
import asyncio
import time
from collections.abc import Callable

import msgspec

from gwfast.controller.objects import AUDIENCE
from gwfast.identity import digest
from gwfast.kubernetes.client import ApiError, Client, Unreachable

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
REMEMBERED = 60.0  # seconds that a token is believed: as long as an API server remembers what it was told (kube-apiserver: 2 min)
REFUSED = 10.0  # and that one is not
TOKENS = 4096  # that are remembered
TOKEN_BYTES = 16 * 1024  # those of ServiceAccounts have some 1,200
AT_ONCE = 4  # of the client's 8 connections: strangers with tokens of any kind leave some to statuses and to what is applied
TIMEOUT = 10.0
PREFIX = "system:serviceaccount:"

Account = tuple[str, str]  # namespace, name


class Unavailable(Exception):
    """The API server cannot say."""


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class Reviewer:
    """Asks whose tokens are."""

    def __init__(self, client: Client, audience: str = AUDIENCE, clock: Callable[[], float] = time.monotonic):
        self._client = client
        self._audience = audience
        self._clock = clock
        self._known: dict[bytes, tuple[float, Account | None]] = {}  # until when
        self._asked: dict[bytes, asyncio.Task] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def account(self, token: str) -> Account | None:
        """Return the ServiceAccount of a token, None where it is nobody's; Unavailable."""
        if not token or len(token) > TOKEN_BYTES:
            return None
        mark = digest(token.encode(), 32)
        known = self._known.get(mark)
        if known is not None and self._clock() < known[0]:
            return known[1]
        task = self._asked.get(mark)
        if task is None:
            task = self._asked[mark] = asyncio.ensure_future(self._ask(mark, token))
            task.add_done_callback(lambda _: self._asked.pop(mark, None))
        return await asyncio.shield(task)

    async def _ask(self, mark: bytes, token: str) -> Account | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": [self._audience]}}
        async with self._slots:
            try:
                answer = await self._client.request("POST", PATH, body, timeout=TIMEOUT)
                status = msgspec.json.decode(answer, type=_Review).status
            except (ApiError, Unreachable, msgspec.MsgspecError) as error:
                raise Unavailable(str(error)) from None
        found = self._believed(status)
        self._known.pop(mark, None)
        self._known[mark] = (self._clock() + (REMEMBERED if found else REFUSED), found)
        while len(self._known) > TOKENS:
            del self._known[next(iter(self._known))]
        return found

    def _believed(self, status: _Status) -> Account | None:
        namespace, colon, name = status.user.username.removeprefix(PREFIX).partition(":")
        right = status.authenticated and not status.error and self._audience in status.audiences
        return (namespace, name) if right and colon and status.user.username.startswith(PREFIX) else None
