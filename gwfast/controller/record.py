"""The record of which target port is which Gateway's: a ConfigMap for each class, beside the controller.

    data: {"shop": "web 80/TCP=10080 443/TCP=10443\n..."}     by namespace, a line for each Gateway

    written(targets) -> data, read(data) -> targets              pure
    keeper.entries(key)     what the API server has, as far as it was seen; None: nobody has ever written it
    keeper.want(...)        what should be in it
    await keeper.run()      writes it, where this one leads

Rules:
- Only what was written counts: the API server takes a record only from who has read the one before (resourceVersion). So of two
  who take themselves for the leader one is refused, reads what the other one wrote, and gives anew: no target is given twice.
- Who may write in a Gateway's namespace cannot write here. What cannot be read of a record is nobody's; a target that is in it
  twice is the first one's.
- A record that is deleted is written again from what was seen last.
"""
import asyncio
from collections.abc import Callable, Mapping

import msgspec

from gwfast.backoff import Backoff
from gwfast.config.model import Key
from gwfast.controller.apply import collection, path
from gwfast.controller.objects import Object
from gwfast.controller.ports import FIRST, LAST, Wanted
from gwfast.kubernetes.client import MERGE_PATCH, ApiError, Client, Unreachable, api_backoff

SUFFIX = "-ports"
CEASED_WAIT = 1.0  # seconds until who may not write now asks again

Targets = Mapping[Key, Mapping[Wanted, int]]


def written(targets: Targets) -> dict[str, str]:
    """Return the data of a record."""
    lines: dict[str, list[str]] = {}
    for gateway, ports in sorted(targets.items()):
        if ports:
            said = (f"{port}/{transport}={target}" for (port, transport), target in sorted(ports.items()))
            lines.setdefault(gateway.namespace, []).append(" ".join((gateway.name, *said)))
    return {namespace: "\n".join(each) for namespace, each in lines.items()}


def read(data: Mapping[str, str]) -> dict[Key, dict[Wanted, int]]:
    """Return what a record says."""
    found: dict[Key, dict[Wanted, int]] = {}
    taken: set[tuple[int, str]] = set()
    for namespace, text in sorted(data.items()):
        for line in text.splitlines():
            name, *said = line.split(" ")
            for each in said:
                entry = _entry(each)
                if entry is not None and (entry[1], entry[0][1]) not in taken:
                    found.setdefault(Key("Gateway", namespace, name), {}).setdefault(*entry)
                    taken.add((entry[1], entry[0][1]))
    return found


def _entry(text: str) -> tuple[Wanted, int] | None:
    """Read '80/TCP=10080'."""
    wanted, _, target = text.partition("=")
    port, _, transport = wanted.partition("/")
    if transport not in ("TCP", "UDP") or not (port.isdecimal() and target.isdecimal()):
        return None
    return ((int(port), transport), int(target)) if FIRST <= int(target) <= LAST and len(port) <= 5 else None


class _Record(msgspec.Struct):
    """One record. version: '' where there is none now; data: as it is there; head: metadata that it should have; news: it says
    what we did not write."""

    version: str = ""
    data: dict[str, str] | None = None
    entries: Targets | None = None
    head: Object = {}
    wanted: dict[str, str] | None = None
    news: bool = False
    backoff: Backoff = msgspec.field(default_factory=api_backoff)
    until: float = 0.0
    error: str = ""


class Keeper:
    """Keeps the records of all classes. `changed`: one says something else, or could not be written; `may`: whether this one
    may write at this moment."""

    def __init__(self, client: Client, log, changed: Callable[[], None], may: Callable[[], bool]):
        self._client = client
        self._log = log
        self._changed = changed
        self._may = may
        self._records: dict[Key, _Record] = {}
        self._leads = False
        self._wake = asyncio.Event()

    def entries(self, key: Key) -> Targets | None:
        """Return what a record says, or said last."""
        return self._of(key).entries

    def error(self, key: Key) -> str:
        """Return why a record cannot be written."""
        return self._of(key).error

    def news(self, key: Key) -> bool:
        """Return, once, whether a record says what somebody else wrote."""
        found, self._of(key).news = self._of(key).news, False
        return found

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""
        if leads and not self._leads:
            for one in self._records.values():
                one.news = True
        self._leads = leads
        self._wake.set()

    def want(self, key: Key, head: Object, targets: Targets) -> None:
        """Take what a record should say, and its metadata."""
        one = self._of(key)
        one.head, one.wanted = head, written(targets)
        if one.wanted != one.data:
            self._wake.set()

    def seen(self, key: Key, found: Object | None) -> None:
        """Take what the API server has; None: nothing."""
        one = self._of(key)
        if found is None:
            one.version, one.data = "", None  # what it said counts until it is written again
            self._wake.set()
        elif not _older(found["metadata"].get("resourceVersion", ""), one.version):
            self._take(one, found)

    def forget(self, key: Key) -> None:
        """Forget the record of a class that is no more."""
        self._records.pop(key, None)

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for key, one in list(self._records.items()) if self._leads else ():
                if one.wanted is not None and one.wanted != one.data and one.until <= loop.time():
                    await self._turn(key, one)
            waits = [one.until for one in self._records.values() if one.wanted is not None and one.wanted != one.data]
            try:
                async with asyncio.timeout(max(0.01, min(waits) - loop.time()) if waits and self._leads else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # ---- One record

    def _of(self, key: Key) -> _Record:
        return self._records.setdefault(key, _Record())

    def _take(self, one: _Record, found: Object) -> None:
        data = found.get("data") or {}
        one.version = found["metadata"].get("resourceVersion", "")
        if data != one.data:
            if data != one.wanted:  # what is wanted was given by one who did not know this
                one.news, one.wanted = True, None
            one.data, one.entries = data, read(data)
            self._wake.set()

    async def _turn(self, key: Key, one: _Record) -> None:
        """Write a record; what goes wrong is told, and tried again."""
        now = asyncio.get_running_loop().time()
        if not self._may():
            one.until = now + CEASED_WAIT
            return
        try:
            await self._write(key, one)
            one.error, one.until = "", 0.0
            one.backoff.reset()
        except (ApiError, Unreachable, msgspec.DecodeError) as error:
            words = f"{key} cannot be written: {error}"
            if words != one.error:
                self._log.warning("the record of target ports cannot be written; it is tried again", object=str(key),
                                  error=str(error))
            one.error, one.until = words, now + one.backoff.next()
        self._changed()

    async def _write(self, key: Key, one: _Record) -> None:
        """Write what is wanted behind what was seen last; where that is not what there is any more, see that."""
        wanted = one.wanted or {}
        body: dict[str, object] = {"apiVersion": "v1", "kind": "ConfigMap"}
        try:
            if one.version:
                before = one.data or {}
                changes = {name: wanted.get(name) for name in before.keys() | wanted.keys()
                           if before.get(name) != wanted.get(name)}
                body |= {"metadata": one.head | {"resourceVersion": one.version}, "data": changes}
                answer = await self._client.request("PATCH", path(key), body, content_type=MERGE_PATCH)
            else:
                answer = await self._client.request("POST", collection("ConfigMap", key.namespace),
                                                    body | {"metadata": one.head, "data": wanted})
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            await self._see(key, one)
            return
        found = msgspec.json.decode(answer)
        if not _older(found["metadata"].get("resourceVersion", ""), one.version):
            self._take(one, found)

    async def _see(self, key: Key, one: _Record) -> None:
        """Read a record that is not as it was seen last."""
        try:
            found = msgspec.json.decode(await self._client.request("GET", path(key)))
            self._take(one, found)
            if one.head.get("labels", {}).items() - (found["metadata"].get("labels") or {}).items():
                one.data = None  # it is found by them: write it all
        except ApiError as error:
            if error.status != 404:
                raise
            self.seen(key, None)


def _older(version: str, known: str) -> bool:
    """Whether a resourceVersion was before another one, where both are numbers."""
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)
