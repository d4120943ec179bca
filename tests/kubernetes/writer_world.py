"""An API server as a StatusWriter sees it: what its client asks for, and what the watch tells; and a world of Gateways and routes."""
import asyncio
import json
import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("unit", ""))

from graph_cases import resources

from gwfast.config.model import Key
from gwfast.graph.attach import Attacher
from gwfast.graph.model import GraphOptions
from gwfast.kubernetes.client import ApiError
from gwfast.kubernetes.seen import Seen
from gwfast.kubernetes.status import StatusWriter
from gwfast.kubernetes.statuses import Assigned, Statuses, View

OURS = "gwfast.dev/gateway-controller"
CLASS = f"apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: ours}}\nspec: {{controllerName: {OURS}}}"
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s}
spec: {gatewayClassName: ours, listeners: [{name: web, protocol: HTTP, port: %d}]}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, generation: %d}
spec: {parentRefs: [%s], rules: [{}]}
"""
PLURALS = {"GatewayClass": "gatewayclasses", "Gateway": "gateways", "HTTPRoute": "httproutes"}
WAIT = 20.0  # a deadline, not a time that anything takes


def route(name="r", generation=1, parents=("g",)) -> str:
    return ROUTE % (name, generation, ", ".join(f"{{name: {parent}}}" for parent in parents))


def key_of(name="r") -> Key:
    return Key("HTTPRoute", "default", name)


G, C = Key("Gateway", "default", "g"), Key("GatewayClass", "", "ours")


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, message, **fields):
        self.lines.append((message, fields))

    def debug(self, message, **fields):
        pass

    info = debug

    def bug(self, message, error, **fields):
        raise error


class World:
    """The server's objects by key, what was asked of it, and the writer that follows a graph of them.

    watched: what is changed is told at once; else `tell()` does. faults: functions of (method, key) that may raise, the first of
    them for the next request.
    """

    def __init__(self, *texts, leads=True, watched=True, **options):
        self.server, self.objects, self.asked, self.faults = {}, {}, [], []
        self.watched, self.leads = watched, leads
        self.version = 100
        self.gone_fields = ()  # that the server does not keep
        self.log = Log()
        self.attacher = Attacher(GraphOptions(controller_name=OURS))
        self.resources = {}
        self.assigned, self.bundle = {G: Assigned()}, "1.6.1"
        self.writer = StatusWriter(self, self, Statuses(OURS), lambda: self.leads, self.log, **options)
        for text in (CLASS, GATEWAY % ("g", 80), *texts):
            self.put(text)

    # what the writer has

    def status_path(self, key):
        return f"/apis/{PLURALS[key.kind]}/{key.namespace}/{key.name}/status" if key.kind in PLURALS else ""

    async def request(self, method, path, body=None, *, content_type="application/json", **_):
        await asyncio.sleep(0)
        path, _, query = path.partition("?")
        key = next(key for key in self.known if self.status_path(key) in (path, f"{path}/status"))
        assert path.endswith("/status") == (method == "PATCH")
        self.asked.append((method, key))
        if self.faults:
            self.faults.pop(0)(method, key)
        if key not in self.server:
            raise ApiError(404, "NotFound", "not found")
        if method == "PATCH":
            assert content_type == "application/merge-patch+json" and query == "fieldManager=gwfast"
            assert body.keys() == {"metadata", "status"} and body["status"]
            found = self.server[key]
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "the object has been modified")
            self.change(key, body["status"])
        return json.dumps(self.server[key]).encode()

    # what others do

    def put(self, text):
        for key, resource in resources(text).items():
            self.resources[key] = resource
            before = self.server.get(key, {})
            self._store(key, {"metadata": {"generation": resource.metadata.generation}, "status": before.get("status", {})})

    def drop(self, key):
        self.resources.pop(key, None)
        self.server.pop(key, None)
        if self.watched:
            self.tell(key)

    def change(self, key, patch):
        status = {name: value for name, value in (self.server[key]["status"] | patch).items()
                  if value is not None and name not in self.gone_fields}
        self._store(key, {"metadata": self.server[key]["metadata"], "status": json.loads(json.dumps(status))})

    def _store(self, key, found):
        self.version += 1
        found["metadata"] = found["metadata"] | {"resourceVersion": str(self.version)}
        self.server[key] = found
        if self.watched:
            self.tell(key)

    def tell(self, key):
        """What the watch does."""
        found = self.server.get(key)
        if found is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = Seen("uid", found["metadata"]["resourceVersion"], found["metadata"]["generation"],
                                     status=json.dumps(found["status"]).encode())
        self.writer.object_changed(key)

    def touch(self, key):
        """Another one writes something that is none of our business."""
        self._store(key, dict(self.server[key]))

    @property
    def known(self):
        return self.server.keys() | self.objects.keys()

    def follow(self):
        self.writer.follow(View(graph=self.attacher.attach(dict(self.resources)), assigned=dict(self.assigned), bundle=self.bundle,
                                channel="standard"))

    async def settled(self):
        """Wait until nothing waits; return what was asked since the last time."""
        await until(lambda: self.writer.idle)
        asked, self.asked = self.asked, []
        return asked

    def status(self, key):
        return self.server[key]["status"]

    def parents(self, name="r"):
        return [(one["parentRef"]["name"], one["controllerName"], one["conditions"][0]["observedGeneration"])
                for one in self.status(key_of(name)).get("parents", ())]


async def until(condition):
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.001)


def fails(status, reason="", only="PATCH"):
    def fault(method, key):
        if method == only:
            raise ApiError(status, reason, f"no {key}")
    return fault
