"""The kinds that are read, and at which version the API server has each of them: discovery.

    CustomResourceDefinitions (their metadata, watched) ──come, go──> GET /apis, /apis/GROUP/VERSION ──> served: Kinds by name
                      └─ annotations: bundle and channel of the Gateway API

Rules:
- A kind is read at the best version that the server has and config knows: v1 before v1beta1 before v1alpha3 and so on. Those of
  the core group are always there, and are not asked for.
- A kind whose CustomResourceDefinition is not there is no error; it is found as soon as it comes.
- A kind has gone when its CustomResourceDefinition has. That discovery does not name it is not enough: an API server that has
  just begun does not name custom resources yet. Where CustomResourceDefinitions may not be listed, discovery is asked every
  POLL seconds, and believed the second time.
"""
import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec

from gwfast.config import model as m
from gwfast.config import versions
from gwfast.kubernetes import paths
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Name, Seen

BEST = ("v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BUNDLE = "gateway.networking.k8s.io/bundle-version"
BUNDLED = (m.GATEWAY_GROUP, m.EXPERIMENTAL_GROUP)  # groups whose definitions say their bundle
CHANNEL = "gateway.networking.k8s.io/channel"
SETTLE = 0.05  # seconds after a definition came or went: there are a dozen in a bundle
POLL = 30.0  # seconds between two looks where definitions may not be watched
RETRY, RETRY_MOST = 0.1, 30.0  # seconds until a look that failed, or did not find what is defined, is tried again
PATIENCE = 10.0  # seconds that the first lists wait for a definition to be served
MISSES = 2  # looks without a kind after which it has gone, where definitions may not be watched

Name2 = tuple[str, str]  # group and kind


class Kind(msgspec.Struct, frozen=True):
    """A kind as the API server has it. `name` is its name there, `kind` that of config: an XListenerSet is a ListenerSet.
    `rank` is 0 where the two are one, and more for what it once was called: of two objects with one key the lower one is used."""

    group: str
    name: str
    version: str
    plural: str
    namespaced: bool
    kind: str
    status: bool = False  # it has a status subresource
    rank: int = 0

    @property
    def names(self) -> Name2:
        """Group and name: what it is known by, whatever the version."""
        return self.group, self.name

    @property
    def api_version(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}".lstrip("/")

    @property
    def read_as(self) -> versions.Version:
        """How config reads it."""
        read_as = versions.lookup(self.api_version, self.name)
        assert read_as is not None  # else it were no Kind
        return read_as

    def collection(self, namespace: str = "") -> str:
        """Return the path of all objects, or of those of a namespace."""
        return paths.collection(self.group, self.version, self.plural, namespace if self.namespaced else "")

    def object(self, namespace: str, name: str) -> str:
        """Return the path of one object."""
        return paths.below(self.collection(namespace), name)


def plural(kind: str) -> str:
    """Return how a kind's path is spelt: GatewayClass is gatewayclasses, BackendPolicy backendpolicies, Gateway gateways."""
    low = kind.lower()
    if low.endswith("parameters"):
        return low  # is a plural
    if low.endswith("y") and low[-2] not in "aeiou":
        return low[:-1] + "ies"
    return low + ("es" if low.endswith("s") else "s")


def _kind(group: str, version: str, resource: "_Resource", status: bool) -> Kind | None:
    """Return what the server has; None where it is not read here."""
    read_as = versions.lookup(f"{group}/{version}", resource.kind)
    if read_as is None or not read_as.kind.in_clusters:
        return None
    ours = read_as.kind
    rank = 0 if (ours.group, ours.kind) == (group, resource.kind) else 1 + (group == versions.OLD_GROUP)
    return Kind(group, resource.kind, version, resource.name, resource.namespaced, ours.kind, status, rank)


NAMES: frozenset[Name2] = frozenset(
    (api.rpartition("/")[0], name) for api, name in versions.known()
    if (found := versions.lookup(api, name)) is not None and found.kind.in_clusters)
GROUPS = frozenset(group for group, _ in NAMES)
CORE = tuple(Kind(group, name, "v1", plural(name), kind.namespaced, name)
             for (group, name), kind in m.KINDS.items() if group == "")
_DEFINED = {f"{plural(name)}.{group}": (group, name) for group, name in NAMES
            if "." in group and group not in ("discovery.k8s.io", m.CERTIFICATES_GROUP)}


# ---- What the server says


class _GroupVersion(msgspec.Struct, rename="camel", gc=False):
    version: str


class _Group(msgspec.Struct, gc=False):
    name: str
    versions: list[_GroupVersion] = []


class _Groups(msgspec.Struct, gc=False):
    groups: list[_Group] = []


class _Resource(msgspec.Struct, gc=False):
    name: str
    kind: str
    namespaced: bool = False


class _Resources(msgspec.Struct, gc=False):
    resources: list[_Resource] = []


class _Metadata(msgspec.Struct, gc=False):
    annotations: dict[str, str] | None = None


class _Definition(msgspec.Struct, gc=False):
    metadata: _Metadata


async def discover(client: Client) -> dict[Name2, Kind]:
    """Ask which of our kinds the server has; ApiError, Unreachable."""
    groups = msgspec.json.decode(await client.request("GET", "/apis"), type=_Groups).groups
    asked = [(group.name, each.version) for group in groups if group.name in GROUPS for each in group.versions
             if each.version in BEST]
    answers = await asyncio.gather(*(_resources(client, *each) for each in asked))
    found = {("", kind.name): kind for kind in CORE}
    for (group, version), resources in sorted(zip(asked, answers, strict=True), key=lambda one: -BEST.index(one[0][1])):
        with_status = {each.name.partition("/")[0] for each in resources if each.name.endswith("/status")}
        for each in resources:
            if "/" not in each.name and (kind := _kind(group, version, each, each.name in with_status)):
                found[kind.names] = kind
    return found


async def _resources(client: Client, group: str, version: str) -> list[_Resource]:
    try:
        body = await client.request("GET", f"/apis/{group}/{version}")
    except ApiError as error:
        if error.status == 404:  # it has gone since the groups were listed, or is not there yet
            return []
        raise
    return msgspec.json.decode(body, type=_Resources).resources


# ---- Kept up to date


class Discovery:
    """Which kinds the API server has now. `changed()` is called on the event loop when `served`, `bundle` or `complete` changed.

    bundle, channel: of the Gateway API's definitions, such as '1.6.1' and 'standard'; '' where nobody may look at them.
    bundles: every one that they are of, '' among them where one does not say.
    complete: what is defined has been found once, or has been waited for."""

    def __init__(self, client: Client, changed: Callable[[], None], log):
        self._client = client
        self._changed = changed
        self._log = log
        self._definitions = Reflector(client, CRDS, self, metadata_only=True, log=log)
        self._labels: dict[str, tuple[str, str]] = {}  # of each definition of ours: bundle and channel
        self._misses: Counter[Name2] = Counter()
        self._asked = asyncio.Event()
        self._began = 0.0
        self._told: set[Name2] = set()
        self.served: dict[Name2, Kind] = {}
        self.bundle = ""
        self.bundles: tuple[str, ...] = ()
        self.channel = ""
        self.complete = False

    async def run(self) -> None:
        """Look, and look again whenever a definition came or went, until cancelled."""
        definitions = asyncio.ensure_future(self._definitions.run())
        self._began, retry = asyncio.get_running_loop().time(), RETRY
        try:
            while True:
                self._asked.clear()
                try:
                    complete = await self._look()
                except Exception as error:
                    self._log.bug("what the API server has was not taken; it is tried again", error)
                    complete = False
                asked = await self._wait((POLL if self._blind else None) if complete else retry)
                retry = RETRY if asked or complete else min(retry * 2, RETRY_MOST)
        finally:
            definitions.cancel()

    async def _wait(self, timeout: float | None) -> bool:
        """Wait until a definition came or went, and those that come with it; False where none did in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._asked.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE)
        return True

    # a Sink: what is defined

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        """Take note of a definition that came or changed."""
        if name[1] not in _DEFINED:
            return
        annotations = msgspec.json.decode(raw, type=_Definition).metadata.annotations or {}
        self._labels[name[1]] = annotations.get(BUNDLE, "").removeprefix("v"), annotations.get(CHANNEL, "")
        self._asked.set()

    def gone(self, name: Name) -> None:
        """Take note of a definition that has gone."""
        if self._labels.pop(name[1], None) is not None:
            self._asked.set()

    def synced(self) -> None:
        """Look at what all of them are."""
        self._asked.set()

    # looking

    @property
    def _blind(self) -> bool:
        """Whether definitions may not be listed."""
        return self._definitions.state in ("forbidden", "absent")

    async def _look(self) -> bool:
        """Look once. Return whether all that is defined was found."""
        try:
            found = await discover(self._client)
        except (ApiError, Unreachable, msgspec.MsgspecError) as error:
            self._log.debug("cannot ask which kinds there are", error=str(error))
            return False
        defined = {_DEFINED[name] for name in self._labels}
        missing = defined - found.keys()
        served = found | {name: kind for name, kind in self.served.items() if name not in found and not self._has_gone(name)}
        for name in found:
            self._misses.pop(name, None)
        labels = self._label()
        known = self._definitions.synced or self._blind
        late = asyncio.get_running_loop().time() - self._began > PATIENCE
        complete = self.complete or known and (not missing or late)
        bundles = self._all_bundles()
        if (served, labels, bundles, complete) != (self.served, (self.bundle, self.channel), self.bundles, self.complete):
            self.served, (self.bundle, self.channel), self.bundles, self.complete = served, labels, bundles, complete
            self._changed()
        if late:
            self._tell_missing(missing)
        return known and not missing

    def _has_gone(self, name: Name2) -> bool:
        """Whether a kind that discovery does not name any more has gone in earnest."""
        definition = f"{self.served[name].plural}.{name[0]}"
        if definition not in _DEFINED:
            return False  # Kubernetes' own
        if not self._blind:
            return self._definitions.synced and self._definitions.state == "watching" and definition not in self._labels
        self._misses[name] += 1
        return self._misses[name] >= MISSES

    def _label(self) -> tuple[str, str]:
        """Return bundle and channel: those of GatewayClass, which every bundle has, or the first that says one."""
        names = [f"gatewayclasses.{m.GATEWAY_GROUP}", *sorted(self._labels)]
        return next((each for name in names if (each := self._labels.get(name, ("", "")))[0]), ("", ""))

    def _all_bundles(self) -> tuple[str, ...]:
        return tuple(sorted({bundle for name, (bundle, _) in self._labels.items() if _DEFINED[name][0] in BUNDLED}))

    def _tell_missing(self, missing: set[Name2]) -> None:
        for group, name in sorted(missing - self._told):
            self._log.warning("a kind is defined, but not served in a version that is read here", kind=name, group=group)
        self._told = missing
