"""Whose token is it? The API server knows (TokenReview); what it says is remembered for a while.

    reviewer.claimed(token)            the ServiceAccount that it names, which nobody has to believe; None: it is no token for us
    await reviewer.caller(token, ...)  who shows it; None: nobody

Rules:
- A token that is not for our audience is nobody's. What cannot be right is not asked about (see token).
- Where the API server cannot be asked nobody is believed, and nothing is remembered: Unavailable.
- A token is never kept, only a digest of it, and never told. Those that were refused are remembered apart from the others, so
  that who makes up many drives nobody out.
- Of one token one question is under way at a time, of all together AT_ONCE and PER_SECOND. Who waits has its turn address by
  address: somebody with thousands of tokens makes others wait for one of its questions, not for all.
"""
import asyncio
import time
from collections.abc import Callable

import msgspec

from gwfast.controller.objects import AUDIENCE
from gwfast.controller.token import TOKEN_BYTES, Account, account_of, claimed
from gwfast.controller.turns import Turns
from gwfast.identity import digest
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.pace import Bucket

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
REMEMBERED = 60.0  # seconds that a token is believed: as long as an API server remembers what it was told (kube-apiserver: 2 min)
REFUSED = 10.0  # and that one is not
TOKENS = 4096  # that are remembered
TOKENS_REFUSED = 1024  # and of those that were refused
AT_ONCE = 4  # of the client's 8 connections: strangers with tokens of any kind leave some to statuses and to what is applied
PER_SECOND, BURST = 50.0, 100  # questions (kube-controller-manager: 20 and 30): 50 data planes that restart at once wait for none
TIMEOUT = 10.0  # of a question, and until it is asked
POD_NAME, POD_UID = (f"authentication.kubernetes.io/pod-{name}" for name in ("name", "uid"))


class Unavailable(Exception):
    """The API server cannot say."""


class Caller(msgspec.Struct, frozen=True):
    """Who shows a token. pod, pod_uid: the Pod that it was made for, '' where it is bound to none."""

    account: Account
    pod: str = ""
    pod_uid: str = ""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, tuple[str, ...]] | None = None


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class _Memory:
    """What was answered, until when: so many of the newest."""

    def __init__(self, most: int, seconds: float):
        self._most = most
        self._seconds = seconds
        self._known: dict[bytes, tuple[float, Caller | None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def put(self, mark: bytes, caller: Caller | None, now: float) -> None:
        self._known.pop(mark, None)
        self._known[mark] = now + self._seconds, caller
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def has(self, mark: bytes, now: float) -> bool:
        return mark in self._known and now < self._known[mark][0]

    def get(self, mark: bytes) -> Caller | None:
        return self._known[mark][1]


class Reviewer:
    """Asks whose tokens are. clock: of this process; wall: seconds since 1970, as tokens have them."""

    def __init__(self, client: Client, audience: str = AUDIENCE, clock: Callable[[], float] = time.monotonic,
                 wall: Callable[[], float] = time.time):
        self._client = client
        self._audience = audience
        self._clock = clock
        self._wall = wall
        self._passed, self._refused = _Memory(TOKENS, REMEMBERED), _Memory(TOKENS_REFUSED, REFUSED)
        self._asked: dict[bytes, asyncio.Task] = {}
        self._turns = Turns(AT_ONCE)
        self._bucket = Bucket(PER_SECOND, BURST)

    def claimed(self, token: str) -> Account | None:
        """Return the account that a token names, None where it cannot be good for us."""
        return claimed(token, self._audience, self._wall())

    async def caller(self, token: str, address: str = "") -> Caller | None:
        """Return who shows a token, None where it is nobody's; Unavailable. address: from where it is shown."""
        if not token or len(token) > TOKEN_BYTES:
            return None
        mark = digest(token.encode(), 32)
        if self._remembered(mark) is None and mark not in self._asked:
            await self._turn(address)
            if self._remembered(mark) is not None or mark in self._asked:
                self._turns.give()  # another one has asked meanwhile
            else:
                task = self._asked[mark] = asyncio.ensure_future(self._ask(mark, token))
                task.add_done_callback(lambda task: self._answered(mark, task))
        memory = self._remembered(mark)
        return memory.get(mark) if memory is not None else await asyncio.shield(self._asked[mark])

    def _remembered(self, mark: bytes) -> _Memory | None:
        return next((memory for memory in (self._passed, self._refused) if memory.has(mark, self._clock())), None)

    async def _turn(self, address: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._turns.take(address)
        except TimeoutError:
            raise Unavailable("too many tokens wait for an answer") from None

    def _answered(self, mark: bytes, task: asyncio.Task) -> None:
        self._asked.pop(mark, None)
        if not task.cancelled():
            task.exception()  # who asked may have gone

    async def _ask(self, mark: bytes, token: str) -> Caller | None:
        """Ask, and give the turn back."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": [self._audience]}}
        try:
            while wait := self._bucket.wait(self._clock()):
                await asyncio.sleep(wait)
            self._bucket.take()
            answer = await self._client.request("POST", PATH, body, timeout=TIMEOUT)
            found = self._believed(msgspec.json.decode(answer, type=_Review).status)
        except (ApiError, Unreachable, msgspec.MsgspecError) as error:
            raise Unavailable(str(error)) from None
        finally:
            self._turns.give()
        (self._passed if found else self._refused).put(mark, found, self._clock())
        return found

    def _believed(self, status: _Status) -> Caller | None:
        account = account_of(status.user.username)
        if not (status.authenticated and not status.error and self._audience in status.audiences and account):
            return None
        pod, uid = (next(iter((status.user.extra or {}).get(name, ())), "") for name in (POD_NAME, POD_UID))
        return Caller(account, pod, uid)
