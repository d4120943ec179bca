"""One list of the API server, kept up to date by a watch (client-go's Reflector).

    list, in pages ──> watch from the list's resourceVersion ──> ended, cut, silent, 429, 5xx: watch from the version last seen
      ^                                                     └──> 410, 404, an event that makes no sense: list anew
      └── what is known and not in the list has gone; what has the version that is known is not told again

Rules:
- What is known stays known whatever happens to the API server: only a complete list, or an event, says that something has gone.
- After a watch did not end as it was to, a list of one object tells the API server's resourceVersion. One that is below ours
  means that its etcd was restored: what was seen after that never was, so all is listed, and told, anew.
- The loop decodes heads, and comes round after YIELD_AFTER objects.
- Waits are spread by chance: many reflectors lose their API server at the same moment.
"""
import asyncio
import random
import sys
from contextlib import aclosing
from urllib.parse import urlencode

import msgspec

from gwfast import limits
from gwfast.kubernetes.client import ApiError, Client, Excessive, Unreachable, api_backoff
from gwfast.kubernetes.seen import Name, Seen, Sink

YIELD_AFTER = 100  # objects of a page: some 2 ms, with a sink that takes 10 us for each
SHARED = 1024  # different labels, owners and statuses of which equal ones are kept once
SHORT = 1.0  # seconds: a watch that the API server ends sooner, without an event, is waited for as a failure (client-go)
EXPIRED = ("Expired", "Gone")  # reasons of 410, also where a proxy made another status of it
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"


class Reflector:
    """Tells `sink` of each object below `path` (a collection: /api/v1/services, /apis/GROUP/VERSION/namespaces/N/PLURAL).

    `state` is listing, watching, absent (404), forbidden (401, 403) or waiting (no answer, or one that asks for patience).
    With `metadata_only`, objects have nothing but their metadata, where the API server can do that.
    """

    def __init__(self, client: Client, path: str, sink: Sink, *, label_selector: str = "", field_selector: str = "",
                 metadata_only: bool = False, keep_status: bool = False, page: int = limits.API_PAGE, log=None):
        self.path = path
        self.known: dict[Name, Seen] = {}
        self.synced = False  # a list was complete once
        self.state = "listing"
        self.version = ""  # the resourceVersion last seen; '': list anew
        self.lists = 0  # that were complete
        self.watches = 0  # that were begun
        self.changes = 0  # of objects, that were told
        self._client = client
        self._sink = sink
        selectors = (("labelSelector", label_selector), ("fieldSelector", field_selector))
        self._query = {name: value for name, value in selectors if value}
        self._metadata_only = metadata_only
        self._keep_status = keep_status
        self._page = page
        self._log = log or client.log
        self._backoff = api_backoff()
        self._doubtful = False  # the last watch did not end as it was to
        self._whole = False  # a list in pages took so long that its beginning was compacted: the next is not in pages

    async def run(self) -> None:
        """List, watch, and begin again, until cancelled; never ends by itself and never raises."""
        while True:
            try:
                wait = await self._turn()
            except ApiError as error:
                wait = self._refused(error)
            except (Unreachable, msgspec.DecodeError, UnicodeDecodeError) as error:
                wait = self._failed(error)
            except Exception as error:
                self.version = ""
                self._log.bug("a reflector failed; it lists anew", error, path=self.path)
                wait = self._backoff.next()
            await asyncio.sleep(wait)

    def forget(self) -> None:
        """Tell that every object has gone, and begin with a list when it runs again."""
        for name in list(self.known):
            self._gone(name)
        self.version, self.synced = "", False

    # -- what follows what

    async def _turn(self) -> float:
        """List where that is needed, and watch once; return how long to wait before the next turn."""
        if self.version and self._doubtful and await self._was_restored():
            self._log.warning("the API server has forgotten what it said (an etcd restored?); it is listed anew", path=self.path)
            self._void()
        if not self.version:
            await self._list()
        self._doubtful = True
        return await self._watch()

    def _refused(self, error: ApiError) -> float:
        """Take what the API server said; return how long to wait."""
        expired = error.status == 410 or error.reason in EXPIRED
        if expired or 400 <= error.status < 500 and error.status not in (401, 403, 429):
            self.version = ""
        state = {404: "absent", 401: "forbidden", 403: "forbidden"}.get(error.status, "listing" if expired else "waiting")
        self._enter(state, str(error))
        return self._backoff.next(error.retry_after and min(error.retry_after, limits.API_BACKOFF_MOST))

    def _failed(self, error: Exception) -> float:
        """Take that there was no answer, or one that makes no sense; return how long to wait."""
        if isinstance(error, Excessive) or not isinstance(error, Unreachable):
            self.version = ""  # the event cannot be had: a list has the object
            self._log.warning("an answer of the API server cannot be read; it is listed anew", path=self.path, error=error)
        self._enter("waiting", str(error))
        return self._backoff.next()

    def _enter(self, state: str, why: str = "") -> None:
        if state == self.state:
            return
        if state in ("absent", "forbidden"):
            self._log.warning(f"a list of the API server is {state}; it is tried again", path=self.path, error=why)
        elif self.state in ("absent", "forbidden") and state == "watching":
            self._log.info("a list of the API server can be read", path=self.path)
        else:
            self._log.debug("reflector", path=self.path, state=state, **({"error": why} if why else {}))
        self.state = state

    # -- lists

    async def _list(self) -> None:
        """List all objects, tell what is new and what has gone."""
        if self.state not in ("absent", "forbidden"):
            self._enter("listing")
        there: set[Name] = set()
        query = dict(self._query)
        while True:
            page = await self._next_page(query)
            for number, raw in enumerate(page.items or (), 1):
                there.add(self._take(raw))
                if number % YIELD_AFTER == 0:
                    await asyncio.sleep(0)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        for name in [name for name in self.known if name not in there]:
            self._gone(name)
        self.version, self._whole, self.synced = page.metadata.resource_version, False, True
        self.lists += 1
        self._backoff.reset()
        self._call(self._sink.synced)

    async def _next_page(self, query: dict[str, str]) -> "_Page":
        """Ask for a page, a smaller one where its answer is longer than is kept."""
        while True:
            try:
                return await self._page_of(query if self._whole else query | {"limit": str(self._page)})
            except Excessive:
                if self._page == 1 or self._whole:
                    self._whole = False
                    raise
                self._page = max(1, self._page // 4)
            except ApiError as error:
                if "continue" in query and (error.status == 410 or error.reason in EXPIRED):
                    self._whole = True
                raise

    async def _page_of(self, query: dict[str, str]) -> "_Page":
        return _PAGE.decode(await self._client.request("GET", f"{self.path}?{urlencode(query)}", accept=self._accept("List")))

    async def _was_restored(self) -> bool:
        """Whether the API server's resourceVersion is below ours. What is no number cannot be compared."""
        theirs = (await self._page_of(self._query | {"limit": "1"})).metadata.resource_version
        return theirs.isdecimal() and self.version.isdecimal() and int(theirs) < int(self.version)

    def _void(self) -> None:
        """Know of each object only that it was there: the next list tells each of them."""
        self.version = ""
        self.known = dict.fromkeys(self.known, _VOID)

    # -- watches

    async def _watch(self) -> float:
        """Follow one watch to its end; return how long to wait before the next."""
        lasts = random.randint(limits.API_WATCH_SECONDS, 2 * limits.API_WATCH_SECONDS)
        query = self._query | {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": self.version,
                               "timeoutSeconds": str(lasts)}
        loop = asyncio.get_running_loop()
        began, heard = loop.time(), False
        self._enter("watching")
        self.watches += 1
        async with aclosing(self._client.watch(f"{self.path}?{urlencode(query)}", accept=self._accept(""))) as lines:
            async for line in lines:
                if not heard:
                    heard = True
                    self._backoff.reset()
                self._event(line)
        lasted = loop.time() - began
        self._doubtful = lasted < lasts - 1
        return 0.0 if heard or lasted >= SHORT else self._backoff.next()

    def _event(self, line: bytes) -> None:
        event = _EVENT.decode(line)
        if event.type in ("ADDED", "MODIFIED"):
            self.version = self.known[self._take(event.object)].resource_version
        elif event.type == "DELETED":
            metadata = _ITEM.decode(event.object).metadata
            self._gone((metadata.namespace, metadata.name))
            self.version = metadata.resource_version
        elif event.type == "BOOKMARK":
            self.version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
        elif event.type == "ERROR":
            said = msgspec.json.decode(event.object, type=_Status)
            raise ApiError(said.code, said.reason, said.message, said.details and said.details.retry_after or None)

    # -- objects

    def _take(self, raw: msgspec.Raw) -> Name:
        """Note an object, and tell it where it is not what is known."""
        item = _ITEM.decode(raw)
        metadata = item.metadata
        name = (sys.intern(metadata.namespace), metadata.name)
        before = self.known.get(name)
        if before is not None and before.uid == metadata.uid and before.resource_version == metadata.resource_version:
            return name
        if before is _VOID:
            before = None
        elif before is not None and before.uid != metadata.uid:
            self._gone(name)
            before = None
        seen = self.known[name] = _seen(item, self._keep_status)
        self._call(self._sink.put, name, seen, bytes(raw), before)
        return name

    def _gone(self, name: Name) -> None:
        if self.known.pop(name, None) is not None:
            self._call(self._sink.gone, name)

    def _call(self, told, *what) -> None:
        """Tell the sink; what goes wrong there is its own."""
        self.changes += bool(what)
        try:
            told(*what)
        except Exception as error:
            self._log.bug("what the API server said was not taken", error, path=self.path)

    def _accept(self, list_: str) -> str:
        return _METADATA.format(list_) if self._metadata_only else "application/json"


# ---- what is decoded


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    labels: msgspec.Raw = msgspec.Raw()
    annotations: msgspec.Raw = msgspec.Raw()
    owner_references: msgspec.Raw = msgspec.Raw()
    finalizers: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct, gc=False):
    metadata: _Metadata
    status: msgspec.Raw = msgspec.Raw()


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Bookmark(msgspec.Struct):
    metadata: _Version  # and nothing else: it has no name


class _Details(msgspec.Struct, rename="camel"):
    retry_after: float = msgspec.field(name="retryAfterSeconds", default=0)


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_ITEM, _PAGE, _EVENT = msgspec.json.Decoder(_Item), msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Event)
_VOID = Seen("", "")


def _seen(item: _Item, keep_status: bool) -> Seen:
    metadata = item.metadata
    labels, owners = _bytes(metadata.labels), _bytes(metadata.owner_references)
    rest = (bytes(metadata.annotations), bytes(metadata.finalizers), metadata.deletion_timestamp)
    told_by = (metadata.generation, labels, owners, rest) if metadata.generation else metadata.resource_version
    return Seen(metadata.uid, metadata.resource_version, metadata.generation, hash(told_by), metadata.deletion_timestamp or "",
                labels, owners, _bytes(item.status) if keep_status else b"")


class _Shared(dict):
    """Equal bytes made one: a thousand routes have a few sets of labels, and statuses that were written in one second."""

    def __missing__(self, value: bytes) -> bytes:
        if len(self) >= SHARED:
            self.clear()
        self[value] = value
        return value


_shared = _Shared()


def _bytes(raw: msgspec.Raw) -> bytes:
    return b"" if raw == b"null" else _shared[bytes(raw)]
