"""An API server with every kind: discovery, definitions that come and go, lists and watches of all or of one namespace, objects.

    api = Kinds()
    api.define("HTTPRoute"); api.undefine("HTTPRoute")                 # its CustomResourceDefinition, and what is served
    api.put("HTTPRoute", "shop", "web", spec={...}); api.delete(...)   # what users do
    api.status("HTTPRoute", "shop", "web", {...})
    api.forbid("/api/v1/namespaces"); api.cut(); api.compact()         # what goes wrong
"""
import asyncio
import base64
import copy

from servers import Exchange

G, X, OWN = "gateway.networking.k8s.io", "gateway.networking.x-k8s.io", "gwfast.dev"
CRDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
OURS = "gwfast.dev/gateway-controller"
# kind -> group, plural, namespaced, the versions that a bundle of today has
KINDS = {
    "Namespace": ("", "namespaces", False, ("v1",)),
    "Service": ("", "services", True, ("v1",)),
    "Secret": ("", "secrets", True, ("v1",)),
    "ConfigMap": ("", "configmaps", True, ("v1",)),
    "EndpointSlice": ("discovery.k8s.io", "endpointslices", True, ("v1",)),
    "GatewayClass": (G, "gatewayclasses", False, ("v1", "v1beta1")),
    "Gateway": (G, "gateways", True, ("v1", "v1beta1")),
    "HTTPRoute": (G, "httproutes", True, ("v1", "v1beta1")),
    "ReferenceGrant": (G, "referencegrants", True, ("v1", "v1beta1")),
    "BackendTLSPolicy": (G, "backendtlspolicies", True, ("v1", "v1alpha3")),
    "ListenerSet": (G, "listenersets", True, ("v1",)),
    "XListenerSet": (X, "xlistenersets", True, ("v1alpha1",)),
    "PythonFilter": (OWN, "pythonfilters", True, ("v1alpha1",)),
    "BackendPolicy": (OWN, "backendpolicies", True, ("v1alpha1",)),
}
OWN_KINDS = ("Namespace", "Service", "Secret", "ConfigMap", "EndpointSlice")  # of Kubernetes
WITHOUT_GENERATION = ("Namespace", "Service", "Secret", "ConfigMap", "ReferenceGrant")


class Kinds:
    """`asked` are the paths of all requests, with their queries; `bundle` is what definitions say from now on."""

    def __init__(self, *defined: str, bundle: str = "v1.6.1") -> None:
        self.revision = 10
        self.bundle = bundle
        self.things: dict[str, dict[tuple[str, str], dict]] = {kind: {} for kind in (*KINDS, "CRD")}
        self.served: dict[str, tuple[str, ...]] = {kind: KINDS[kind][3] for kind in OWN_KINDS}
        self.history: list[tuple[int, str, str, dict]] = []  # revision, kind, event, object
        self.compacted = 0
        self.forbidden: set[str] = set()
        self.refused: dict[str, int] = {}  # path of an object -> status of its answer
        self.hidden = False  # groups of definitions are not named yet, as of an API server that has just begun
        self.held: set[str] = set()  # kinds of which lists are not answered until that changes
        self.asked: list[tuple[str, dict]] = []
        self.watches: set[Exchange] = set()
        self._changed = asyncio.Event()
        self._uids = 0
        for kind in defined:
            self.define(kind)

    # -- what users do

    def define(self, kind: str, versions: tuple[str, ...] = ()) -> None:
        group, plural, _, known = KINDS[kind]
        self.served[kind] = versions or known
        self._put("CRD", "", f"{plural}.{group}", {"metadata": {"annotations": {
            f"{G}/bundle-version": self.bundle, f"{G}/channel": "experimental"} if group in (G, X) else {}}, "spec": {}})

    def undefine(self, kind: str) -> None:
        group, plural, _, _ = KINDS[kind]
        for namespace, name in list(self.things[kind]):
            self.delete(kind, namespace, name)
        del self.served[kind]
        self.delete("CRD", "", f"{plural}.{group}")

    def put(self, kind: str, namespace: str, name: str, labels: dict | None = None, **body) -> None:
        if kind == "Secret":
            body["data"] = {field: base64.b64encode(value).decode() for field, value in body["data"].items()}
        self._put(kind, namespace, name, {"metadata": {"labels": labels or {}}, **body})

    def status(self, kind: str, namespace: str, name: str, status: dict) -> None:
        self._record(kind, "MODIFIED", copy.deepcopy(self.things[kind][namespace, name]) | {"status": status})

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._record(kind, "DELETED", copy.deepcopy(self.things[kind][namespace, name]))

    def _put(self, kind: str, namespace: str, name: str, body: dict) -> None:
        before = self.things[kind].get((namespace, name))
        if before is None:
            self._uids += 1
        about = body["metadata"] | {"name": name, "uid": before["metadata"]["uid"] if before else f"u{self._uids}",
                                    "creationTimestamp": "2026-01-02T03:04:05Z"}
        about |= {"namespace": namespace} if namespace else {}
        if kind not in WITHOUT_GENERATION:
            changed = before is None or before.get("spec") != body.get("spec")
            about["generation"] = (before["metadata"]["generation"] if before else 0) + changed
        self._record(kind, "MODIFIED" if before else "ADDED", {**body, "metadata": about})

    def _record(self, kind: str, event: str, thing: dict) -> None:
        self.revision += 1
        thing["metadata"]["resourceVersion"] = str(self.revision)
        key = (thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
        if event == "DELETED":
            del self.things[kind][key]
        else:
            self.things[kind][key] = thing
        self.history.append((self.revision, kind, event, thing))
        self.wake()

    # -- what goes wrong

    def forbid(self, *paths: str) -> None:
        self.forbidden.update(paths)

    def compact(self) -> None:
        """Forget the history."""
        self.compacted = self.revision

    def cut(self) -> None:
        """End every watch with an RST."""
        for exchange in list(self.watches):
            exchange.cut()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- answers

    async def __call__(self, x: Exchange) -> None:
        self.asked.append((x.path, x.query))
        parts = x.path.strip("/").split("/")
        if any(x.path == path or x.path.startswith(f"{path}/") for path in self.forbidden):
            await x.refuse(403, "Forbidden")
        elif x.path in self.refused:
            await x.refuse(self.refused[x.path], "No")
        elif x.path == "/apis":
            await x.answer({"kind": "APIGroupList", "groups": self._groups()})
        elif parts[0] == "apis" and len(parts) == 3:
            await self._resources(x, *parts[1:])
        else:
            group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
            namespace, rest = (rest[1], rest[2:]) if rest[0] == "namespaces" and len(rest) > 2 else ("", rest)
            await self._of_kind(x, self._kind(group, version, rest[0]), version, namespace, rest[1:])

    def _kind(self, group: str, version: str, plural: str) -> str:
        if (group, version, plural) == CRDS:
            return "CRD"
        return next((kind for kind, (g, p, _, _) in KINDS.items()
                     if (g, p) == (group, plural) and version in self.served.get(kind, ())), "")

    def _groups(self) -> list[dict]:
        versions: dict[str, dict[str, None]] = {"apps": {"v1": None}}
        for kind, served in self.served.items():
            group = KINDS[kind][0]
            if group and not (self.hidden and group in (G, X, OWN)):
                versions.setdefault(group, {}).update(dict.fromkeys(served))
        return [{"name": group, "versions": [{"groupVersion": f"{group}/{each}", "version": each} for each in found]}
                for group, found in versions.items()]

    async def _resources(self, x: Exchange, group: str, version: str) -> None:
        found = [(kind, plural, namespaced) for kind, (g, plural, namespaced, _) in KINDS.items()
                 if g == group and version in self.served.get(kind, ())]
        if not found:
            await x.refuse(404, "NotFound")
            return
        plain = [{"name": plural, "kind": kind, "namespaced": namespaced} for kind, plural, namespaced in found]
        status = [each | {"name": f"{each['name']}/status"} for each in plain if each["kind"] not in WITHOUT_GENERATION]
        await x.answer({"kind": "APIResourceList", "groupVersion": f"{group}/{version}", "resources": plain + status})

    async def _of_kind(self, x: Exchange, kind: str, version: str, namespace: str, name: list[str]) -> None:
        while kind in self.held:
            await self._changed.wait()
        if not kind:
            await x.refuse(404, "NotFound")
        elif name:
            thing = self.things[kind].get((namespace, name[0]))
            await (x.answer(self._shown(kind, version, thing)) if thing else x.refuse(404, "NotFound"))
        elif x.query.get("watch"):
            await self._watch(x, kind, version, namespace)
        else:
            bare = "PartialObjectMetadataList" in x.fields["accept"]
            items = [{"metadata": thing["metadata"]} if bare else {key: value for key, value in thing.items()}
                     for (space, _), thing in sorted(self.things[kind].items()) if namespace in ("", space)]
            await x.answer({"kind": "List", "metadata": {"resourceVersion": str(self.revision)}, "items": items})

    def _shown(self, kind: str, version: str, thing: dict) -> dict:
        group = KINDS[kind][0] if kind in KINDS else CRDS[0]
        return {"apiVersion": f"{group}/{version}".lstrip("/"), "kind": kind, **thing}

    async def _watch(self, x: Exchange, kind: str, version: str, namespace: str) -> None:
        since = int(x.query["resourceVersion"])
        await x.begin()
        if since < self.compacted:
            await x.line({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
            await x.end()
            return
        self.watches.add(x)
        closed = asyncio.create_task(x.closed())
        bare = "PartialObjectMetadata" in x.fields["accept"]
        try:
            while not closed.done() and version in self._versions(kind):
                changed = asyncio.create_task(self._changed.wait())
                for revision, of, event, thing in list(self.history):
                    if revision > since and of == kind and namespace in ("", thing["metadata"].get("namespace")):
                        since = revision
                        shown = self._shown(kind, version, {"metadata": thing["metadata"]} if bare else thing)
                        await x.line({"type": event, "object": shown})
                await asyncio.wait([closed, changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            if not closed.done():
                await x.end()
        finally:
            self.watches.discard(x)
            closed.cancel()
            await asyncio.gather(closed, return_exceptions=True)

    def _versions(self, kind: str) -> tuple[str, ...]:
        return ("v1",) if kind == "CRD" else self.served.get(kind, ())
