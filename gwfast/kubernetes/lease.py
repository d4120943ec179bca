"""One leader, by a Lease (coordination.k8s.io/v1), as client-go elects it.

    Lease.spec   holderIdentity, leaseDurationSeconds, acquireTime, renewTime (RFC 3339, microseconds), leaseTransitions
    free         no Lease, nobody holds it, or its holder has not changed it for the duration that it gave
    ours         created or taken by PUT with the resourceVersion that was read: of two who try, the API server refuses one

Rules:
- Clocks of machines are never compared: a Lease has expired when it was seen unchanged for its duration, by our own clock.
- Who does not lead watches the Lease, so a renewal is seen when it is made, and one that was given back is taken at once; it asks
  only where a renewal is overdue (OVERDUE). Of a leader that died another one leads 15 s after its last renewal: no later than
  that after its death, and a request or two. Where the Lease may not be watched it is looked at twice as often instead, and that
  much later it is taken.
- Who leads renews every `retry` seconds, with the version that it wrote last: one request. `leads` ends `renew` seconds after the
  begin of the last renewal that went well, by the clock of the moment it is asked: before anybody else may lead, and also
  in a process that was frozen or on a machine that slept.
- What else is in the Lease (labels, owners, a strategy) is left as it is.
- Who is told to end gives the Lease back: nobody holds it, and another need not wait.
"""
import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gwfast.kubernetes import paths
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Name, Seen

JITTER = 1.2  # of `retry`, for who does not lead (client-go): not all try at the same moment
OVERDUE = 3.0  # of `retry`, since the last renewal that was seen: a watch that is cut off says nothing
RELEASE_TIMEOUT = 3.0  # to give it back: a process that ends does not wait for an API server that is gone


def since_boot() -> float:
    """Seconds that go on while the machine sleeps, which time.monotonic() does not count."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str


class _Lease(msgspec.Struct):
    metadata: _Meta


class Election:
    """Stands for election; `changed(leads)` is called on the event loop. Ask `leads` before each write."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str, changed: Callable[[bool], None], *,
                 duration: float = 15.0, renew: float = 10.0, retry: float = 2.0, log=None,
                 clock: Callable[[], float] = since_boot):
        self.identity = identity
        self.holder = ""  # who leads, as far as was seen
        self.seen: Callable[[], None] = lambda: None  # called when that is another one
        self._client = client
        self._collection = paths.collection("coordination.k8s.io", "v1", "leases", namespace)
        self._path = paths.below(self._collection, name)
        self._name = name
        self._changed = changed
        self._duration = duration
        self._renew = renew
        self._retry = retry
        self._log = log or client.log
        self._clock = clock
        self._until = float("-inf")  # when our lease is over
        self._told = False
        self._ends: asyncio.TimerHandle | None = None  # of what is told: the moment that the lease is over
        self._lease: dict = {}  # as it was read or written last
        self._seen: tuple[str, float] = ("", 0.0)  # its resourceVersion, and when that was first seen
        self._failing = False
        self._free = asyncio.Event()  # the watch says that nobody holds it
        self._watch = Reflector(client, self._collection, self, field_selector=f"metadata.name={name}", log=self._log)

    @property
    def leads(self) -> bool:
        """Whether the lease is ours, by the monotonic clock of this moment: a process that was frozen sees that it is over."""
        return self._clock() < self._until

    async def run(self) -> None:
        """Stand, renew, and stand again, until cancelled; never raises."""
        watching = asyncio.ensure_future(self._watch.run())
        try:
            while True:
                self._free.clear()
                if self._told or self._due() <= 0:
                    await self._try()
                self._tell()
                await self._rest(self._pause())
        finally:
            watching.cancel()

    async def _rest(self, seconds: float) -> None:
        """Wait, and no longer once somebody has given the Lease back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (asyncio.sleep(seconds) if self._told else self._free.wait())

    def _due(self) -> float:
        """Return the seconds for which who does not lead need not ask: it watches, and the leader has just renewed its Lease."""
        if self._watch.state != "watching" or not self._lease or self.holder in ("", self.identity):
            return 0.0
        lasts = _spec(self._lease).lease_duration_seconds or self._duration
        return self._seen[1] + min(OVERDUE * self._retry, lasts) - self._clock()

    def _pause(self) -> float:
        """Return the seconds until the next try: of who does not lead the moment that the lease expires is one. Who may not watch
        looks twice as often, to see a renewal soon after it was made."""
        if self._told:
            return self._retry
        if (due := self._due()) > 0:
            return due
        lasts = _spec(self._lease).lease_duration_seconds or self._duration
        left = self._seen[1] + lasts - self._clock() if self._lease else 0.0
        pause = self._retry * random.uniform(1.0, JITTER) / (1 if self._watch.state == "watching" else 2)
        return left if 0.0 < left < pause else pause

    async def release(self) -> None:
        """Give the lease back, where it is ours, so that another need not wait; after run() was cancelled."""
        self._until = float("-inf")
        self._tell()
        try:
            spec = await self._read(RELEASE_TIMEOUT)
            if spec.holder_identity == self.identity:
                now = _now()
                await self._replace(RELEASE_TIMEOUT, _Spec("", 1, now, now, spec.lease_transitions))
        except (ApiError, Unreachable, msgspec.MsgspecError) as error:
            if not isinstance(error, ApiError) or error.status != 404:
                self._log.warning("the lease was not given back: others wait until it expires",
                                  lease=self._name, error=str(error))

    # -- one try

    async def _try(self) -> None:
        """Create, take or renew the Lease, where that may be."""
        began = self._clock()
        try:
            if await self._acquired():
                self._until = began + self._renew
            self._failing = False
        except (ApiError, Unreachable, msgspec.MsgspecError) as error:
            if isinstance(error, ApiError) and error.status == 409:
                self._lease = {}  # somebody else was faster: read it next time
                return
            if not self._failing:
                self._log.warning("the lease cannot be had; it is tried again", lease=self._name, error=str(error))
            self._failing = True
        except Exception as error:
            self._log.bug("the lease was not tried; it is tried again", error, lease=self._name)

    async def _acquired(self) -> bool:
        """Try once; ApiError 409: somebody else has written it meanwhile."""
        timeout = self._renew / 2
        if self.leads and self._lease:
            try:
                await self._replace(timeout, self._ours(_spec(self._lease)))
                return True
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
        try:
            spec = await self._read(timeout)
        except ApiError as error:
            if error.status != 404:
                raise
            await self._write(timeout, "POST", self._collection, {"metadata": {"name": self._name}}, self._ours(_Spec()))
            return True
        if self.holder != self.identity:
            self._until = float("-inf")
            if self.holder and self._clock() < self._seen[1] + (spec.lease_duration_seconds or self._duration):
                return False
        await self._replace(timeout, self._ours(spec))
        return True

    def _ours(self, spec: _Spec) -> _Spec:
        """Say that it is ours from now on, after what was said before."""
        now, same = _now(), spec.holder_identity == self.identity
        acquired = spec.acquire_time if same and spec.acquire_time else now
        transitions = (spec.lease_transitions or 0) + (spec.lease_transitions is not None and not same)
        return _Spec(self.identity, round(self._duration), acquired, now, transitions)

    async def _read(self, timeout: float) -> _Spec:
        return self._note(await self._client.request("GET", self._path, timeout=timeout, urgent=True))

    async def _replace(self, timeout: float, spec: _Spec) -> None:
        await self._write(timeout, "PUT", self._path, self._lease, spec)

    async def _write(self, timeout: float, method: str, path: str, lease: dict, spec: _Spec) -> None:
        body = lease | {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                        "spec": (lease.get("spec") or {}) | msgspec.to_builtins(spec)}
        self._note(await self._client.request(method, path, body, timeout=timeout, urgent=True))

    def _note(self, answer: bytes) -> _Spec:
        """Keep the Lease, and when it was first seen as it is."""
        lease = msgspec.json.decode(answer, type=dict)
        version = msgspec.convert(lease, _Lease).metadata.resource_version
        spec = _spec(lease)
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        self._lease = lease
        before, self.holder = self.holder, spec.holder_identity or ""
        if self.holder != before:
            self.seen()
        return spec

    # -- what the watch says, of which only who waits has any use

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        """Take note of a renewal, or that the Lease was given back."""
        if self._told or not _newer(seen.resource_version, self._seen[0]):
            return
        with contextlib.suppress(msgspec.MsgspecError):
            self._note(raw)
            if not self.holder:
                self._free.set()

    def gone(self, name: Name) -> None:
        """Make it anew."""
        self._free.set()

    def synced(self) -> None:
        """Nothing to do: what is not there is made by whoever tries."""

    # -- what is told

    def _tell(self) -> None:
        """Tell of a change, and again at the moment that the lease is over."""
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        leads = self.leads
        if leads:
            self._ends = asyncio.get_running_loop().call_later(self._until - self._clock(), self._tell)
        if leads != self._told:
            self._told = leads
            self._log.info("this process leads" if leads else "this process does not lead any more",
                           lease=self._name, identity=self.identity)
            self._changed(leads)


def _spec(lease: dict) -> _Spec:
    """Return what a Lease says; MsgspecError."""
    return msgspec.convert(lease.get("spec") or {}, _Spec)


def _newer(version: str, known: str) -> bool:
    """Whether a resourceVersion is newer than what was read: a watch may be behind an answer."""
    return int(version) > int(known) if version.isdecimal() and known.isdecimal() else version != known


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
