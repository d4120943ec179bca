"""An API server with one collection: lists in pages, watches with bookmarks, and everything that goes wrong, on command.

It keeps what etcd keeps: a revision, each object's last one, and the history that a watch may begin in.
"""
import asyncio
import copy
import random
from collections.abc import Callable

from servers import Exchange, until

PATH = "/apis/example.test/v1/things"


class Api:
    """`objects` is what is there, (namespace, name) -> object; `watching` counts the watches that are open."""

    def __init__(self):
        self.revision = 10
        self.objects: dict[tuple[str, str], dict] = {}
        self.history: list[tuple[int, str, dict]] = []
        self.compacted = 0
        self.expired_by_event = 410  # as an ERROR event of this code (the API server: 410), or 0: as HTTP's status
        self.knows_metadata = True  # lists and watches of metadata alone
        self.refusals: list[Callable] = []  # of the next requests, each called with the exchange
        self.lists = self.pages = self.watches = self.watching = 0
        self.asked: list[dict] = []
        self._snapshots: dict[str, tuple[int, list[dict]]] = {}
        self._changed = asyncio.Event()
        self._cuts: list[tuple[str, Exchange]] = []
        self._open: set[Exchange] = set()
        self._uids = 0

    # -- what users do

    def create(self, name: str, namespace: str = "n", **metadata) -> None:
        self._uids += 1
        thing = {"apiVersion": "example.test/v1", "kind": "Thing",
                 "metadata": {"name": name, "namespace": namespace, "uid": f"u{self._uids}", "generation": 1} | metadata,
                 "spec": {"text": "é" * 3}}
        self._record("ADDED", thing)

    def change(self, name: str, namespace: str = "n", *, status: object = None, **metadata) -> None:
        thing = copy.deepcopy(self.objects[namespace, name])
        thing["metadata"] |= metadata
        if status is not None:
            thing["status"] = status
        elif not metadata:
            thing["metadata"]["generation"] += 1
        self._record("MODIFIED", thing)

    def delete(self, name: str, namespace: str = "n") -> None:
        self._record("DELETED", copy.deepcopy(self.objects[namespace, name]))

    def _record(self, kind: str, thing: dict) -> None:
        self.revision += 1
        thing["metadata"]["resourceVersion"] = str(self.revision)
        key = (thing["metadata"]["namespace"], thing["metadata"]["name"])
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = thing
        self.history.append((self.revision, kind, thing))
        self._wake()

    # -- what goes wrong

    def compact(self) -> None:
        """Forget the history: watches that begin before now get 410, and so do lists that are half done."""
        self.compacted = self.revision
        self._snapshots.clear()

    def snapshot(self) -> tuple:
        return self.revision, dict(self.objects)

    def restore(self, snapshot: tuple) -> None:
        """Bring etcd back to what it was; watches end, as they do when an API server loses its etcd."""
        self.revision, objects = snapshot
        self.objects = dict(objects)
        self.history.clear()
        self.compacted = self.revision
        self._snapshots.clear()
        self.drop("end")

    def bookmark(self) -> None:
        self.revision += 1  # something else was written
        self.drop("bookmark")

    def drop(self, how: str) -> None:
        """Do something to each watch: end, cut, half a line, garbage, bookmark, or what an ERROR event says (its code)."""
        for exchange in self._open:
            self._cuts.append((how, exchange))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- answers

    async def __call__(self, x: Exchange) -> None:
        self.asked.append(x.query | {"accept": x.fields["accept"]})
        if self.refusals:
            refuse = self.refusals.pop(0)
            if not await refuse(x):
                return
        if x.path != PATH:
            await x.refuse(404, "NotFound")
        elif x.query.get("watch"):
            await self._watch(x)
        else:
            await self._list(x)

    async def _list(self, x: Exchange) -> None:
        self.pages += 1
        token = x.query.get("continue", "")
        if token and token not in self._snapshots:
            await x.refuse(410, "Expired")
            return
        self.lists += not token
        version, items = self._snapshots.pop(token) if token else (
            self.revision, [thing for _, thing in sorted(self.objects.items())])
        limit = int(x.query.get("limit", "0")) or len(items) or 1
        page, rest = items[:limit], items[limit:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"t{random.getrandbits(64)}"
            self._snapshots[metadata["continue"]] = (version, rest)
        items = [{name: value for name, value in thing.items() if name not in ("apiVersion", "kind")} for thing in page]
        if self.knows_metadata and "PartialObjectMetadataList" in x.fields["accept"]:
            items = [{"metadata": thing["metadata"]} for thing in items]
        await x.answer({"kind": "ThingList", "apiVersion": "example.test/v1", "metadata": metadata, "items": items or None})

    async def _watch(self, x: Exchange) -> None:
        self.watches += 1
        version = int(x.query["resourceVersion"])
        if version < self.compacted:
            if not self.expired_by_event:
                await x.refuse(410, "Expired")
                return
            await x.begin()
            await x.line(_error(self.expired_by_event, "Expired"))
            await x.end()
            return
        await x.begin()
        self._open.add(x)
        self.watching += 1
        tasks = [asyncio.create_task(self._stream(x, version)), asyncio.create_task(x.closed())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(x)
            self.watching -= 1
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def _stream(self, x: Exchange, version: int) -> None:
        while not x.writer.is_closing():
            changed = self._changed
            if not await self._do(x, "bookmark", False):
                return
            for revision, kind, thing in list(self.history):
                if revision > version:
                    version = revision
                    await x.line({"type": kind, "object": thing})
            await self._do(x, "bookmark", True)  # after all that came before it
            await changed.wait()

    async def _do(self, x: Exchange, word: str, same: bool) -> bool:
        """Do what `drop` was told to, if it is this word, or if it is not; whether the watch goes on."""
        for entry in [entry for entry in self._cuts if entry[1] is x and (entry[0] == word) is same]:
            self._cuts.remove(entry)
            if not await self._end(entry[0], x):
                return False
        return True

    async def _end(self, how: str, x: Exchange) -> bool:
        match how:
            case "bookmark":
                await x.line({"type": "BOOKMARK", "object": {"kind": "Thing", "metadata": {"resourceVersion": str(self.revision)}}})
                return True
            case "end":
                await x.end()
            case "cut":
                x.cut()
            case "half a line":
                await x.chunk(b'{"type":"ADDED","object":{"metadata":{"name":"ghost","resourceVersion":"999999"')
                x.cut()
            case "garbage":
                await x.line(b'{"type":"ADDED","object":{"metadata":{"name":7}}}')
            case _:
                await x.line(_error(int(how)))
                await x.end()
        return False


def _error(code: int, reason: str = "") -> dict:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason, "message": "no"}}


def refusal(status: int, **fields: str) -> Callable:
    async def refuse(x: Exchange) -> bool:
        await x.refuse(status, **fields)
        return False
    return refuse


async def cut(x: Exchange) -> bool:
    x.cut()
    return False


class Record:
    """A sink that holds what it was told against the rules of a Sink."""

    def __init__(self):
        self.there: dict[tuple[str, str], tuple] = {}  # Seen, raw
        self.told: list[tuple] = []
        self.lists = 0

    def put(self, name, seen, raw, before):
        known = self.there.get(name, (None, b""))[0]
        assert type(raw) is bytes
        if before is not None:
            assert before == known, (name, before, known)
            assert before.uid == seen.uid
            assert (before.resource_version, before.uid) != (seen.resource_version, seen.uid), f"{name} is put twice"
        self.there[name] = (seen, raw)
        self.told.append(("put", name, seen, before))

    def gone(self, name):
        assert name in self.there, f"{name} has gone and was not there"
        del self.there[name]
        self.told.append(("gone", name))

    def synced(self):
        self.lists += 1
        self.told.append(("synced",))

    def versions(self) -> dict:
        return {name: (seen.uid, seen.resource_version) for name, (seen, _) in self.there.items()}


def versions(api: Api) -> dict:
    return {key: (thing["metadata"]["uid"], thing["metadata"]["resourceVersion"]) for key, thing in api.objects.items()}


async def agreed(api: Api, reflector, sink: Record) -> None:
    """Wait until what was told is what is there, and it is watched."""
    await until(lambda: sink.versions() == versions(api) and reflector.state == "watching" and api.watching >= 1,
                lambda: f"{sink.versions()} is not {versions(api)}, {reflector.state}, {api.watching} watches")
