"""A cluster as a Source: what the API server has of the kinds that are read.

    event loop                                                     pipeline's thread
    Discovery ──> Feed (one kind: Reflectors) ──put──┐              load(): swap ──> Objects (decode) ──> References
    Referred (Secrets, ConfigMaps) ──────────put─────┴─> pending ─────^                    │ what is referred to
        ^──────────────────────────────want──────────────────────────────────────────────┘

Rules:
- The first load() ends when every kind that is there has been listed, and all that is referred to was read (FIRST
  seconds at most): half of the routes are never served. Until then it decodes what comes.
- A load that finds new references waits for what they lead to, REFERRED seconds at most: nobody is told that a Secret is not
  there which is on its way. What was not answered in time is told as a problem, and read when it comes.
- A change of nothing but an object's status makes no load; `status_changed` is called.
- A change after a while without one is told at once, with what came in the same piece; others are told together.
- Nothing that an object makes go wrong here keeps the others waiting: it is a problem that names the object, and is logged.
- Whatever the API server does, what was read stays: it is forgotten when a list says that it has gone, or when its kind has.
- Of whom a PythonFilter is code is the graph's business: it is served where the class's GatewayParameters allow that.
- What a kind is called today and was called once (XListenerSet) is one kind of config: its objects share the keys.
"""
import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gwfast.config import model as m
from gwfast.collector import without_collector
from gwfast.config.source import Loaded
from gwfast.config.source import brief
from gwfast.config.versions import release
from gwfast.errors import Problem, Source
from gwfast.graph.model import ROUTE_KINDS
from gwfast.kubernetes.api import CORE, Discovery, Kind, Name2
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.feed import Feed
from gwfast.kubernetes.objects import Objects
from gwfast.kubernetes.references import KINDS as REFERRED_KINDS
from gwfast.kubernetes.references import References
from gwfast.kubernetes.referred import Referred
from gwfast.kubernetes.seen import Name, Seen
from gwfast.observe.metrics import Family

SETTLE, BURST = 0.001, 0.010  # seconds after the last event, and at most after the first, until it is told
SOME = 256  # objects that are worth to be decoded while lists are still being read
LOOK = 0.05  # seconds between two looks at whether all lists are there that can be
_LEADING = ((m.EXPERIMENTAL_GROUP, "XBackend"),
            *((m.GATEWAY_GROUP, kind) for kind in (*ROUTE_KINDS, "ListenerSet", "ReferenceGrant")))
_NOT_LISTED = {("", kind) for kind in REFERRED_KINDS}
REFERRED = 2.0  # seconds that a load waits for what is newly referred to
FIRST = 10.0  # seconds that the first one does: one object that cannot be had keeps nobody's routes for longer
NAMED = 3  # names that a problem says of those that were not answered


class KubernetesSource:
    """All that an API server has of what is read here.

    namespaces: those that are read; none: all of them. controller_name: of our classes: what others refer to is not read.
    """

    def __init__(self, client: Client, server: str, *, namespaces: Iterable[str] = (), controller_name: str = "", log):
        self.place = Source(server, 0)
        self._client = client
        self._namespaces = tuple(namespaces)
        self._log = log
        self._discovery = Discovery(client, self._follow, log)
        self._feeds: dict[Name2, Feed] = {}
        self._referred: dict[str, Referred] = {}
        self._tasks: list[asyncio.Task] = []
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # there from the start on
        self._changed: Callable[[set[str] | None], None] = lambda _: None
        self._timer: asyncio.TimerHandle | None = None
        self._first = 0.0  # event of those that wait to be told
        self._told = float("-inf")  # when that was the last time
        self._news = False  # beside objects: of lists, kinds or the bundle
        self._lock = threading.Lock()
        self._pending: dict[tuple[Name2, Name], tuple[Kind, bytes | None]] = {}
        self._some = threading.Event()  # there is something to decode, or all lists are there
        self._whole = threading.Event()
        self._answered: threading.Event | None = None  # all that was asked for last was read
        self._objects = Objects(self._failed)
        self._references = References(controller_name, self._failed)
        self._touched: set[m.Key] = set()  # resources of which a load that failed has not told
        self._bugs = 0
        self._wanted: frozenset[m.Key] = frozenset()
        self._loaded = False
        self._late = False  # a load tells that something was not answered
        self._of_kind: dict[str, list[Feed]] = {}  # by the kind of config
        self.objects: Mapping[m.Key, Seen] = _Seen(self._feeds, self._of_kind)
        self.status_changed: Callable[[m.Key], None] | None = None

    # ---- What the server says of itself

    @property
    def bundle(self) -> str:
        """The version of the Gateway API's definitions, such as '1.6.1'; '' where nobody may look."""
        return self._discovery.bundle

    @property
    def bundles(self) -> str:
        """Every version that the Gateway API's definitions are of, '1.6.1, 1.7.0' while they are exchanged."""
        return ", ".join(self._discovery.bundles)

    @property
    def channel(self) -> str:
        """'standard' or 'experimental'; '' where nobody may look."""
        return self._discovery.channel

    @property
    def waits(self) -> str:
        """What the first load waits for; '': nothing."""
        if self._whole.is_set():
            missing = [f"{each.kind.name}s that are referred to" for each in self._referred.values() if not each.settled]
            return " and ".join(missing) if not self._loaded else ""
        if not self._discovery.complete:
            return f"the API server at {self.place.file} to say which kinds it has"
        lists = sorted(feed.kind.plural for feed in self._feeds.values() if feed.waits)
        return f"the lists of {', '.join(lists)} of the API server at {self.place.file}"

    @property
    def certain(self) -> bool:
        """Whether classes, Gateways and their parameters are watched at this moment: what is not known of them is not there.
        Parameters of a kind that is not served are missing, which has an effect of its own."""
        found = [self._feeds.get((m.GATEWAY_GROUP, kind)) for kind in ("GatewayClass", "Gateway")]
        parameters = self._feeds.get((m.OWN_GROUP, "GatewayParameters"))
        return all(feed is not None and feed.watched for feed in found) and (parameters is None or parameters.watched)

    @property
    def routed(self) -> bool:
        """Whether all that leads to an XBackend is watched at this moment, as far as it is served."""
        found = [self._feeds.get(name) for name in _LEADING]
        return self.certain and all(feed is None or feed.watched for feed in found)

    @property
    def brief(self) -> bool:
        """Whether what came since the last load is a moment's work."""
        with self._lock:
            return self._loaded and not self._news and brief([kind.kind for kind, _ in self._pending.values()])

    def uid_of(self, key: m.Key) -> str:
        """Return an object's uid; '' where there is no such object."""
        seen = self.objects.get(key)
        return seen.uid if seen else ""

    def kind(self, key: m.Key) -> Kind | None:
        """Return the API server's kind of an object; None: there is no such object."""
        feed = _feed_of(self._of_kind, key)
        return feed.kind if feed else None

    def status_path(self, key: m.Key) -> str:
        """Return the path of an object's status subresource; '' where there is none, or no such object."""
        kind = self.kind(key)
        return f"{kind.object(key.namespace, key.name)}/status" if kind and kind.status else ""

    def metrics(self) -> list[Family]:
        """Return what is counted of the API server, and of each kind."""
        answers: list[tuple[str, float]] = [
            (f'{{method="{method}",code="{code}"}}', n) for (method, code), n in sorted(self._client.answers.items())]
        lists = [(feed.kind, feed.reflectors, sum(len(each.known) for each in feed.reflectors)) for feed in self._feeds.values()]
        lists += [(each.kind, tuple(each.reflectors), each.size) for each in self._referred.values()]
        rows = [(f'{{group="{kind.group}",kind="{kind.name}"}}', reflectors, size)
                for kind, reflectors, size in sorted(lists, key=lambda one: one[0].names)]
        return [
            ("kubernetes_up", [("", int(self._client.reached))]),
            ("kubernetes_requests_total", answers),
            ("kubernetes_unanswered_total", [("", self._client.unanswered)]),
            ("kubernetes_bugs_total", [("", self._bugs)]),
            ("kubernetes_objects", [(labels, size) for labels, _, size in rows]),
            ("kubernetes_watching", [
                (labels, int(all(each.state == "watching" for each in reflectors))) for labels, reflectors, _ in rows]),
            ("kubernetes_lists_total", [(labels, sum(each.lists for each in reflectors)) for labels, reflectors, _ in rows]),
            ("kubernetes_watches_total", [(labels, sum(each.watches for each in reflectors)) for labels, reflectors, _ in rows]),
            ("kubernetes_changes_total", [(labels, sum(each.changes for each in reflectors)) for labels, reflectors, _ in rows]),
        ]

    # ---- Source, on the event loop

    def watch(self, loop: asyncio.AbstractEventLoop, changed: Callable[[set[str] | None], None],
              warn: Callable[[str], None]) -> None:
        """Begin to read, and to tell of changes."""
        self._loop, self._changed = loop, changed
        for kind in CORE:
            if kind.name in REFERRED_KINDS:
                self._referred[kind.name] = Referred(
                    self._client, kind, self._namespaces, self._put_into(kind),
                    self._moved, self._log)
        parts: list[Any] = [self._discovery, *self._referred.values()]
        self._tasks = [loop.create_task(each.run()) for each in parts]
        self._look()

    def look_again(self, unread: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: reflectors ask again by themselves."""

    def close(self) -> None:
        """Stop reading; a load that waits ends."""
        for task in self._tasks:
            task.cancel()
        for feed in self._feeds.values():
            feed.stop()
        if self._timer is not None:
            self._timer.cancel()
        for event in (self._whole, self._some, self._answered):
            if event is not None:
                event.set()

    def _follow(self) -> None:
        """Read the kinds that are there now, as they are served now."""
        served = {name: kind for name, kind in self._discovery.served.items() if name not in _NOT_LISTED}
        for name in self._feeds.keys() - served.keys():
            self._log.info("a kind has gone", kind=name[1], group=name[0])
            self._feeds.pop(name).forget()
        for name, kind in served.items():
            if name in self._feeds:
                self._feeds[name].follow(kind)
            else:
                self._feeds[name] = Feed(self._client, kind, self._namespaces, self._put, self._complete, self._log)
        self._of_kind.clear()
        for feed in self._feeds.values():
            self._of_kind.setdefault(feed.kind.kind, []).append(feed)
        self._news = True  # the bundle may be another one
        self._note()

    def _put_into(self, kind: Kind) -> Callable[[Name, bytes | None], None]:
        return lambda name, raw: self._put(kind, name, None, raw, None)

    def _put(self, kind: Kind, name: Name, seen: Seen | None, raw: bytes | None, before: Seen | None) -> None:
        """Take an object that came, changed or went (`raw` is None)."""
        if seen is not None and before is not None and before.content == seen.content:
            if self.status_changed is not None:
                self.status_changed(m.Key(kind.kind, *name))
            return
        with self._lock:
            self._pending[kind.names, name] = kind, raw
        if self._whole.is_set():
            self._note()
        elif len(self._pending) >= SOME:
            self._some.set()

    def _note(self) -> None:
        """Tell of what came, once it has come to rest."""
        now = self._loop.time()
        if self._timer is None:
            self._first = now
        else:
            self._timer.cancel()
        settle = 0.0 if self._first > self._told + BURST else SETTLE
        self._timer = self._loop.call_at(min(now + settle, self._first + BURST), self._tell)

    def _tell(self) -> None:
        self._timer, self._told = None, self._loop.time()
        if self._whole.is_set() and (self._pending or self._news):  # a load may have taken it meanwhile
            self._news = False
            self._changed(None if not self._loaded else {self.place.file})

    def _look(self) -> None:
        """Look until every list is there that can be."""
        self._look_once()
        if not self._whole.is_set():
            self._loop.call_later(LOOK, self._look)

    def _complete(self) -> None:
        """Take note that a list is complete: what was said of it may not be so any more."""
        self._look_once()
        if self._loaded:
            self._news = True
            self._note()

    def _look_once(self) -> None:
        if not self._whole.is_set() and self._discovery.complete and not any(feed.waits for feed in self._feeds.values()):
            self._news = False  # the first load has it
            self._whole.set()
            self._some.set()

    def _want(self, wanted: frozenset[m.Key], answered: threading.Event) -> None:
        """Read what is referred to; `answered` is set when it was."""
        self._answered = answered
        for kind, referred in self._referred.items():
            referred.want(frozenset((key.namespace, key.name) for key in wanted if key.kind == kind))
        self._look_at_answers()

    def _look_at_answers(self) -> None:
        if self._answered is not None and all(each.settled for each in self._referred.values()):
            self._answered.set()

    def _moved(self) -> None:
        """Take note of an answer; one that is no object makes no load of its own."""
        self._look_at_answers()
        if self._late and self._loaded:
            self._news = True
            self._note()

    # ---- Source, in the pipeline's thread

    def load(self, changed: set[str] | None) -> Loaded:
        """Decode what came since the last time. The first time: wait until all is there."""
        with without_collector():
            while not self._whole.is_set():
                self._some.wait()
                self._some.clear()
                self._take()
            self._take()
            self._refer()
            self._loaded = True
            return self._objects.loaded(self._problems(), self.bundle)

    def _refer(self) -> None:
        """Have what is referred to read, until what came with it refers to nothing else."""
        until = time.monotonic() + (REFERRED if self._loaded else FIRST)
        while True:
            touched, self._touched = self._touched, set()
            self._references.update(touched, self._objects.resources)
            if (wanted := self._references.wanted) == self._wanted:
                return
            self._wanted, answered = wanted, threading.Event()
            self._loop.call_soon_threadsafe(self._want, wanted, answered)
            answered.wait(max(0.0, until - time.monotonic()))
            self._take()

    def _take(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        self._touched |= self._objects.take(pending, release(self.bundle) if self.bundle else 0)

    def _failed(self, key: m.Key, error: Exception) -> None:
        self._bugs += 1
        self._log.bug("an object was not taken as it is: what it said before stays", error, object=str(key))

    def _unanswered(self) -> Iterator[Problem]:
        """Say what is referred to and not known yet."""
        self._late = True  # before it is looked at: an answer may come meanwhile
        found = {kind: names for kind, each in self._referred.items() if (names := each.unanswered)}
        self._late = bool(found)
        for kind, names in found.items():
            some = ", ".join(map("/".join, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            yield Problem(source=self.place, resource=f"{kind} {some}", reason="NotRead",
                          message="referred to, and the API server has not answered yet; it is asked again")

    def _problems(self) -> Iterator[Problem]:
        """Say what cannot be read at all."""
        yield from self._unanswered()
        feeds = list(self._feeds.values())
        if not any(feed.kind.group == m.GATEWAY_GROUP for feed in feeds):
            yield Problem(source=self.place, reason="NoDefinitions",
                          message=f"the API server has no kind of {m.GATEWAY_GROUP}: install the "
                                  "CustomResourceDefinitions of the Gateway API")
        for feed in sorted(feeds, key=lambda each: each.kind.plural):
            if feed.forbidden:
                needs = "a ClusterRole" if not (self._namespaces and feed.kind.namespaced) else "a Role in each namespace"
                yield Problem(source=self.place, resource=feed.kind.plural, reason="Forbidden",
                              message=f"may not be listed and watched ({feed.kind.api_version}): {needs} has to let us")


class _Seen(Mapping):
    """What the API server says about the objects of the kinds that are listed, by key. On the event loop."""

    def __init__(self, feeds: Mapping[Name2, Feed], of_kind: Mapping[str, list[Feed]]):
        self._feeds = feeds
        self._of_kind = of_kind

    def __getitem__(self, key: m.Key) -> Seen:
        feed = _feed_of(self._of_kind, key)
        if feed is None:
            raise KeyError(key)
        return feed.seen(key[1:])  # type: ignore[return-value]  # None: not there now

    def __iter__(self) -> Iterator[m.Key]:
        found = {m.Key(feed.kind.kind, *name): None for feed in self._feeds.values() for name in feed.names()}
        return iter(found)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _feed_of(of_kind: Mapping[str, list[Feed]], key: m.Key) -> Feed | None:
    """Return who has an object: of several the one of the kind that is called so today."""
    found = [feed for feed in of_kind.get(key.kind, ()) if feed.seen(key[1:]) is not None]
    return min(found, key=lambda feed: feed.kind.rank) if found else None
