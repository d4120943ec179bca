"""Secrets, or ConfigMaps: of all of them the metadata is watched, and those that are referred to are read.

    metadata of all ──a version that was not read──┐
    want(names) ──────a name that was not read─────┴──> GET ──> put(name, JSON), put(name, None)

Rules:
- What nobody refers to is never in memory: a cluster's Secrets are mostly releases of Helm.
- A reference may have any text as a name. A text that no object can be called by stands for one that does not exist, and the
  API server is never asked for it.
- A name that is wanted is asked for whatever the list says: the server's answer is newer than any list.
- Where metadata may not be listed, what is wanted is asked for again every POLL seconds.
- An answer that is no object is an answer, whatever it says: another one is not waited for, but asked for every POLL seconds.
  What cannot be read any more stays as it was. But 401, 429 and what is no fault of the request are tried again.
- `settled` is whether an answer was had for each name that is wanted, in the version last heard of.
"""
import asyncio
from collections.abc import Callable, Iterable

import msgspec

from gwfast.kubernetes.api import Kind
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.paths import exists
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Name, Seen

POLL = 60.0  # as long as the kubelet takes at most to see another version of a Secret
RETRY, RETRY_MOST = 0.2, 10.0  # seconds until an object is asked for again
GONE, REFUSED = "gone", "refused"  # what was read, where that was no version
_PASSING = (401, 408, 425, 429)  # 4xx that say nothing of the object


class _Metadata(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""


class _Object(msgspec.Struct, gc=False):
    metadata: _Metadata


class Referred:
    """Those of one kind that are referred to. `put(name, raw)` is told what each is (None: it has gone), `moved()` that `settled`
    may be true now. Everything here is on the event loop."""

    def __init__(self, client: Client, kind: Kind, namespaces: Iterable[str], put: Callable[[Name, bytes | None], None],
                 moved: Callable[[], None], log):
        self.kind = kind
        self._client = client
        self._put = put
        self._moved = moved
        self._log = log
        self.reflectors = [Reflector(client, kind.collection(namespace), self, metadata_only=True, log=log)
                           for namespace in namespaces or ("",)]
        self._read: dict[Name, str] = {}  # of what is wanted: the version that was read, GONE or REFUSED
        self._heard: dict[Name, str] = {}  # the version that the list said last; '': it has gone
        self._tasks: dict[Name, asyncio.Task] = {}
        self._wanted: frozenset[Name] = frozenset()

    @property
    def size(self) -> int:
        """How many were read."""
        return sum(version not in (GONE, REFUSED) for version in self._read.values())

    @property
    def settled(self) -> bool:
        """Whether what is wanted was read."""
        return not self._tasks

    @property
    def unanswered(self) -> list[Name]:
        """What is wanted and was never answered; from any thread."""
        return sorted(name for name in list(self._tasks) if name not in self._read)

    async def run(self) -> None:
        """Watch the metadata, until cancelled."""
        try:
            await asyncio.gather(self._poll(), *(reflector.run() for reflector in self.reflectors))
        finally:
            for task in self._tasks.values():
                task.cancel()

    def want(self, names: frozenset[Name]) -> None:
        """Read these, and forget all others."""
        names = frozenset(name for name in names if exists(*name))
        before, self._wanted = self._wanted, names
        for name in before - names:
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel()
            self._heard.pop(name, None)
            if self._read.pop(name, GONE) not in (GONE, REFUSED):
                self._put(name, None)
        for name in names - before:
            self._ask(name)

    # a Sink: the metadata of all

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        """Read an object again that has another version."""
        if name in self._wanted:
            self._heard[name] = seen.resource_version
            if self._read.get(name) != seen.resource_version:
                self._ask(name)

    def gone(self, name: Name) -> None:
        """Forget an object."""
        if name in self._wanted:
            self._heard[name] = ""
            if self._read.get(name) != GONE:
                self._ask(name)

    def synced(self) -> None:
        """A list is complete: each of its objects was told."""

    # reading

    def _ask(self, name: Name) -> None:
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(self._get(name))

    async def _get(self, name: Name) -> None:
        """Read an object until what was read is not older than what was heard; try again where there is no answer."""
        wait = RETRY
        while True:
            heard = self._heard.get(name)
            why = ""
            try:
                raw = await self._client.request("GET", self.kind.object(*name))
                version = msgspec.json.decode(raw, type=_Object).metadata.resource_version
            except (ApiError, Unreachable, msgspec.MsgspecError, UnicodeDecodeError) as error:
                version, raw, why = _refusal(error), None, str(error)
            except Exception as error:
                self._log.bug("an object that is referred to was not read", error, kind=self.kind.name, object="/".join(name))
                version, raw, why = REFUSED, None, str(error)
            if version:
                self._took(name, version, raw, why)
                if heard == self._heard.get(name):
                    break
                continue
            self._log.debug("cannot read an object", kind=self.kind.name, object=f"{name[0]}/{name[1]}", error=why)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_MOST)
        del self._tasks[name]
        self._moved()

    def _took(self, name: Name, version: str, raw: bytes | None, why: str) -> None:
        before, self._read[name] = self._read.get(name), version
        if version == before:
            return
        if version != REFUSED:
            self._put(name, raw)
        else:  # what it was when it might be read serves on
            self._log.warning("an object that is referred to may not be read", kind=self.kind.name,
                              object=f"{name[0]}/{name[1]}", error=why)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            blind = any(reflector.state == "forbidden" for reflector in self.reflectors)
            for name in self._wanted:
                if blind or self._read.get(name) == REFUSED:
                    self._ask(name)


def _refusal(error: Exception) -> str:
    """Return what an answer means that is no object; '': nothing, ask again."""
    status = getattr(error, "status", 0)
    if status == 404:
        return GONE
    return REFUSED if 400 <= status < 500 and status not in _PASSING else ""
