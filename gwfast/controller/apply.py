"""Objects that should be there, made so: server-side apply where one differs, deletion where one is not needed.

    applier.want(desired, doomed)     level-triggered: what is said last counts
    applier.seen(key, object)         what the API server says is there (None: nothing)
    applier.expect(keys)              what will be wanted soon: whether the names are free is asked before anybody waits for that

Rules:
- Field manager `gwfast`, forced: what we say of an object stands, what others say of other fields stays. A field that we no
  longer say goes with the next apply.
- An object is written where its hash (an annotation) is not that of what is wanted, or where something that was applied is not
  as it was answered then: what the API server or a webhook writes otherwise is no reason to write it again and again.
- A name that an object without our label has is somebody else's: it is told, and left alone. Whoever has asked that a moment ago
  (FREE) does not ask again.
- Deployment.spec.replicas that we no longer say is first handed to another manager, so that it is not set to 1 for a moment.
- Before each write it is asked whether this one leads, by the Lease's clock. What is deleted is read before, with its owner, and
  deleted only as it was read.
- What fails is tried again, later each time; the others do not wait for it.
"""
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from gwfast.config.model import Key
from gwfast.controller.fleet import CONTROLLER
from gwfast.controller.objects import Object
from gwfast.identity import digest
from gwfast.backoff import Backoff
from gwfast.kubernetes import paths
from gwfast.kubernetes.client import APPLY_PATCH, ApiError, Client, Unreachable, api_backoff
from gwfast.kubernetes.seen import Name, Seen

MANAGER, FORMER = "gwfast", "gwfast-before-autoscaling"
HASH = "gwfast.dev/applied"
AT_ONCE = 6  # requests: the client has 8 connections, which status needs too
DRIFT_WAIT = 5.0  # seconds between two writes of an object that somebody else writes as well
FREE = 1.0  # seconds that a name is known to be free for
CEASED_WAIT = 1.0  # seconds until who lost its lease asks again whether it may write
PATHS = {  # kind -> group, version, plural
    "ConfigMap": ("", "v1", "configmaps"), "ServiceAccount": ("", "v1", "serviceaccounts"), "Service": ("", "v1", "services"),
    "Deployment": ("apps", "v1", "deployments"), "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
    "EndpointSlice": ("discovery.k8s.io", "v1", "endpointslices"),
}
ORDER = {kind: place for place, kind in enumerate(
    ("Service", "EndpointSlice", "ConfigMap", "ServiceAccount", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"))}


def collection(kind: str, namespace: str = "") -> str:
    """Return the path of all objects of a kind, of one namespace or of all."""
    return paths.collection(*PATHS[kind], namespace)


def path(key: Key) -> str:
    return paths.below(collection(key.kind, key.namespace), key.name)


def hash_of(made: Object) -> str:
    return digest(msgspec.json.encode(made, order="deterministic"), 16).hex()


def projected(said: Any, there: Any) -> Any:
    """Return what is there of what was said: the same mappings, and of lists the same items, by what names them."""
    if isinstance(said, dict):
        return {name: projected(each, there[name]) if isinstance(there, dict) and name in there else None
                for name, each in said.items()}
    if isinstance(said, list) and isinstance(there, list) and all(isinstance(each, dict) for each in (*said, *there)):
        named = {_names(each): each for each in there}
        if len(named) < len(there) or len({_names(each) for each in said}) < len(said) or () in named:  # by place, without names
            return [projected(each, there[place] if place < len(there) else None) for place, each in enumerate(said)]
        return [projected(each, named.get(_names(each))) for each in said]
    return there


def _names(item: Mapping[str, Any]) -> tuple:
    """What tells an item of a list from the others, in the lists that are applied."""
    return tuple(str(item.get(name)) for name in ("name", "uid", "port", "protocol", "mountPath", "addresses") if name in item)


class _Applied(msgspec.Struct):
    """hash: of what was wanted. answer: how it was there then."""

    hash: str
    answer: Any


class _Failed(msgspec.Struct):
    """What could not be written: why, and when it is tried again."""

    backoff: Backoff
    words: str = ""
    until: float = 0.0


class _Ceased(Exception):
    """This one does not lead any more."""


async def _free(found: Object) -> str:
    return ""


class Sink:
    """Hands on the objects of one kind as a reflector tells of them. take(key, object): None where there is none."""

    def __init__(self, kind: str, take: Callable[[Key, Object | None], None], synced: Callable[[], None]):
        self._kind = kind
        self._take = take
        self.synced = synced

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        if before is not None and before.content == seen.content and self._kind != "Service":
            return  # its status alone
        group, version, _ = PATHS[self._kind]
        found = {"apiVersion": f"{group}/{version}" if group else version, "kind": self._kind} | msgspec.json.decode(raw)
        found["metadata"].pop("managedFields", None)
        self._take(Key(self._kind, *name), found)

    def gone(self, name: Name) -> None:
        self._take(Key(self._kind, *name), None)


class Applier:
    """One writer of objects. `told(key, words)`: why one is not as it should be, '' where it is.

    may: whether this one may write at this moment. held(object): why an object must not be deleted now, '' where it may. asked():
    it is known which of the expected names are free.
    """

    def __init__(self, client: Client, label: str, log, told: Callable[[Key, str], None], foreign: Callable[[Key], None],
                 may: Callable[[], bool] = lambda: True, held: Callable[[Object], Awaitable[str]] = _free,
                 asked: Callable[[], None] = lambda: None):
        self._may = may
        self._held = held
        self._asked = asked
        self.writes = 0
        self._client = client
        self._label = label
        self._log = log
        self._told = told
        self._foreign = foreign
        self._owned: dict[Key, Object] = {}
        self._desired: dict[Key, Object] = {}
        self._hashes: dict[Key, tuple[Object, str]] = {}
        self._doomed: set[Key] = set()
        self._applied: dict[Key, _Applied] = {}
        self._free: dict[Key, float | None] = {}  # of names that are expected, until when they are; None: to be asked
        self._asking: dict[Key, asyncio.Event] = {}  # those that are being asked for: set when that is over
        self._dirty: set[Key] = set()  # to be looked at
        self._rests: dict[Key, float] = {}  # until when what somebody else writes too is left
        self._waiting: dict[Key, _Failed] = {}
        self._busy: set[Key] = set()
        self._wake = asyncio.Event()
        self._leads = False

    @property
    def owned(self) -> Mapping[Key, Object]:
        return self._owned

    def lead(self, leads: bool) -> None:
        self._leads = leads
        self._wake.set()

    def want(self, desired: Mapping[Key, Object], doomed: Iterable[Key]) -> None:
        """Take what should be there, all of it, and what should not."""
        doomed = set(doomed)
        changed = {key for key, made in desired.items() if (known := self._hashes.get(key)) is None or known[0] is not made}
        gone = self._desired.keys() - desired.keys()
        for key in gone:
            self._hashes.pop(key)
            self._waiting.pop(key, None)
            self._told(key, "")
        self._hashes |= {key: (desired[key], hash_of(desired[key])) for key in changed}
        self._dirty |= changed | gone | doomed
        self._desired, self._doomed = dict(desired), doomed
        self._wake.set()

    def seen(self, key: Key, found: Object | None) -> None:
        """Take what is there now."""
        if found is None:
            for known in (self._owned, self._applied, self._rests):
                known.pop(key, None)
        else:
            self._owned[key] = found
        self._dirty.add(key)
        self._wake.set()

    def expect(self, keys: Iterable[Key]) -> None:
        """Take all that will be wanted soon."""
        self._free = {key: self._free.get(key) for key in keys if key not in self._owned}
        if any(until is None for until in self._free.values()):
            self._wake.set()

    def free(self, key: Key) -> bool:
        """Whether nobody has a name that is expected, as far as was asked a moment ago."""
        return (self._free.get(key) or 0.0) > asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Make it so, until cancelled."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                now = asyncio.get_running_loop().time()
                for key in sorted(self._due(now), key=lambda key: (ORDER[key.kind], key)) if self._leads else ():
                    self._busy.add(key)
                    tasks.create_task(self._turn(key, slots))
                for key in [key for key, until in self._free.items() if until is None] if self._leads else ():
                    self._free[key], self._asking[key] = 0.0, asyncio.Event()
                    tasks.create_task(self._ask_ahead(key, slots))
                try:
                    async with asyncio.timeout(self._pause(now)):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _due(self, now: float) -> list[Key]:
        """Return what has to be written or deleted now, and forget of the rest that it was to be looked at."""
        found = []
        for key in self._dirty - self._busy:
            try:
                if not (self._differs(key) if key in self._desired else key in self._doomed and key in self._owned):
                    self._dirty.discard(key)
                elif self._at(key) <= now:
                    found.append(key)
            except Exception as error:
                self._dirty.discard(key)  # until it changes
                self._log.bug("an object was not compared", error, object=str(key))
        return found

    def _at(self, key: Key) -> float:
        """Return when an object may be written: what failed and what somebody else writes too has to wait."""
        known = self._applied.get(key)
        same = known is not None and key in self._hashes and known.hash == self._hashes[key][1]
        return max(self._waiting[key].until if key in self._waiting else 0.0, self._rests.get(key, 0.0) if same else 0.0)

    def _pause(self, now: float) -> float | None:
        """Return how long it is until something may be written that has to wait now."""
        times = [self._at(key) for key in self._dirty - self._busy] if self._leads else []
        return max(0.01, min(times) - now) if times else None

    def _differs(self, key: Key) -> bool:
        """Whether an object has to be written."""
        there = self._owned.get(key)
        if there is None or there["metadata"].get("deletionTimestamp"):
            return there is None
        made, wanted = self._hashes[key]
        known = self._applied.get(key)
        answer = projected(made, there)
        if known is None or known.hash != wanted:
            said = (there["metadata"].get("annotations") or {}).get(HASH)
            if said != wanted or answer != made:
                return True
            self._applied[key] = _Applied(wanted, answer)
            return False
        return answer != known.answer

    # ---- One object

    async def _turn(self, key: Key, slots: asyncio.Semaphore) -> None:
        """Write or delete one object; what goes wrong is told, and tried again."""
        try:
            if (asking := self._asking.get(key)) is not None:
                await asking.wait()
            async with slots:
                if not self._leads:
                    return
                if key in self._desired:
                    await self._apply(key)
                elif key in self._doomed:
                    await self._delete(key)
            self._waiting.pop(key, None)
            self._told(key, "")
        except _Ceased:
            known = self._waiting.setdefault(key, _Failed(api_backoff()))
            known.until = asyncio.get_running_loop().time() + CEASED_WAIT
        except (ApiError, Unreachable, msgspec.DecodeError) as error:
            self._later(key, str(error))
        except Exception as error:
            self._log.bug("an object was not written", error, object=str(key))
            self._later(key, str(error))
        finally:
            self._busy.discard(key)
            self._wake.set()

    def _later(self, key: Key, words: str) -> None:
        known = self._waiting.get(key) or _Failed(api_backoff())
        if words != known.words:
            self._log.warning("an object is not as it should be; it is tried again", object=str(key), error=words)
        known.words, known.until = words, asyncio.get_running_loop().time() + known.backoff.next()
        self._waiting[key] = known
        self._told(key, words)

    async def _ask_ahead(self, key: Key, slots: asyncio.Semaphore) -> None:
        """Ask whether an expected name is free; where that fails it is asked when the object is written."""
        try:
            async with slots:
                if await self._is_free(key) and key in self._free:
                    self._free[key] = asyncio.get_running_loop().time() + FREE
        except (ApiError, Unreachable, msgspec.DecodeError):
            pass
        except Exception as error:
            self._log.bug("a name was not asked for", error, object=str(key))
        finally:
            self._asking.pop(key).set()
            if not self._asking:
                self._asked()

    async def _apply(self, key: Key) -> None:
        made, wanted = self._hashes[key]
        if key not in self._owned and not self.free(key) and not await self._is_free(key):
            return
        there = self._owned.get(key)
        if key.kind == "Deployment" and there is not None and "replicas" not in made["spec"]:
            await self._hand_over(key)
        metadata = made["metadata"]
        body = {**made, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), HASH: wanted}}}
        answer = await self._patch(key, body, MANAGER)
        self._rests[key] = asyncio.get_running_loop().time() + DRIFT_WAIT
        self._applied[key] = _Applied(wanted, projected(made, answer))
        if self._owned.get(key) is there:  # else the watch has told meanwhile, of this version or of a later one
            self._owned[key] = answer
            self._dirty.add(key)

    async def _patch(self, key: Key, body: Object, manager: str) -> Object:
        self._ask()
        self.writes += 1
        query = f"?fieldManager={manager}&force=true"
        answer = msgspec.json.decode(await self._client.request("PATCH", path(key) + query, body, content_type=APPLY_PATCH))
        answer["metadata"].pop("managedFields", None)
        return answer

    async def _is_free(self, key: Key) -> bool:
        """Whether nobody else has an object of this name; what is ours and not seen yet is taken as seen."""
        found = await self._live(key)
        if found is None:
            return True
        if self._is_ours(found):
            self._owned.setdefault(key, found)
            return True
        self._foreign(key)
        raise ApiError(409, "AlreadyExists", f"{key} is there, and it is somebody else's")

    async def _hand_over(self, key: Key) -> None:
        """Give spec.replicas to another manager where it is ours: what a manager no longer says is removed."""
        found = msgspec.json.decode(await self._client.request("GET", path(key)))
        ours = any(each.get("manager") == MANAGER and each.get("operation") == "Apply"
                   and "f:replicas" in ((each.get("fieldsV1") or {}).get("f:spec") or {})
                   for each in found["metadata"].get("managedFields") or ())
        if ours:
            body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": key.name, "namespace": key.namespace},
                    "spec": {"replicas": found["spec"]["replicas"]}}
            await self._patch(key, body, FORMER)

    async def _delete(self, key: Key) -> None:
        """Delete what was seen, as it is now, and not another object that has its name by now."""
        found = await self._live(key)
        uid = self._owned.get(key, {"metadata": {}})["metadata"].get("uid", "")
        if found is None or found["metadata"].get("uid", "") != uid or not self._is_ours(found):
            return self.seen(key, None)
        if found["metadata"].get("deletionTimestamp"):
            self._doomed.discard(key)
            return self.seen(key, found)
        if words := await self._held(found):
            raise ApiError(409, "Conflict", words)
        if key in self._desired or key not in self._doomed:
            return None
        self._ask()
        self.writes += 1
        preconditions = {"uid": uid, "resourceVersion": found["metadata"].get("resourceVersion", "")}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": preconditions}
        try:
            await self._client.request("DELETE", path(key), body)
        except ApiError as error:
            if error.status != 404:
                raise  # 409: it has changed since, and is looked at again
        return self.seen(key, None)

    async def _live(self, key: Key) -> Object | None:
        """Return an object as the API server has it now; None: there is none."""
        try:
            found = msgspec.json.decode(await self._client.request("GET", path(key)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        found["metadata"].pop("managedFields", None)
        return found

    def _is_ours(self, found: Object) -> bool:
        return (found["metadata"].get("labels") or {}).get(CONTROLLER) == self._label

    def _ask(self) -> None:
        """Raise _Ceased unless this one may write at this moment: it may have waited for an answer for longer than its lease."""
        if not (self._leads and self._may()):
            raise _Ceased
