"""A small client for the API server, with the standard library alone: requests, watches and informers, on threads.

    api = Api("10.96.0.1", 443, context, token="...")
    api.get("/api/v1/namespaces/default/pods")           -> the decoded answer; ApiError where it is no success
    api.path("HTTPRoute", "default", "my-route")         -> its path, whatever group and version the server prefers
    Informer(api, "/api/v1/pods", changed).start()       -> changed(event, object), event ADDED, MODIFIED or DELETED

Rules: each thread has a connection of its own, which is made anew where it broke. A request that was sent is sent once more only
where it found a connection of the pool dead (GET always). Informers go on with the version last seen, list again on 410, and
never give up.
"""
import http.client
import json
import socket
import ssl
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
REQUEST_SECONDS = 30.0
WATCH_SECONDS = 240
PAUSE_SECONDS = 0.1  # before what failed is tried again

Connect = Callable[[str, int, float], socket.socket]


class ApiError(Exception):
    """An answer that is no success: its code, and reason and message of its Status."""

    def __init__(self, code: int, answer: Any):
        told = answer if isinstance(answer, dict) else {}
        self.code, self.reason = code, told.get("reason", "")
        super().__init__(f"{code} {self.reason}: {told.get('message', answer)}")


def connect_here(host: str, port: int, timeout: float) -> socket.socket:
    connection = socket.create_connection((host, port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Connection(http.client.HTTPConnection):
    """A connection over TLS whose socket somebody else may open, in another network."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, connect: Connect, timeout: float):
        super().__init__(host, port, timeout=timeout)
        self._context, self._connect = context, connect

    def connect(self) -> None:
        raw = self._connect(self.host, self.port, self.timeout)
        try:
            self.sock = self._context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise


class Api:
    """The API server, for any number of threads. Who one is comes from the context's certificate, or the token."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, token: str = "", connect: Connect = connect_here):
        self._address = (host, port, context, connect)
        self._headers = {"Accept": JSON} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._local = threading.local()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._kinds: dict[str, tuple[str, str, bool]] = {}

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def create(self, path: str, body: dict) -> Any:
        return self.request("POST", path, body)

    def replace(self, path: str, body: dict) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = MERGE_PATCH) -> Any:
        return self.request("PATCH", path, body, kind)

    def delete(self, path: str, options: dict | None = None) -> Any:
        return self.request("DELETE", path, options)

    def request(self, method: str, path: str, body: Any = None, kind: str = JSON, accept: str = "") -> Any:
        """Return the decoded answer (text where it is no JSON). Raises ApiError, OSError."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | {"Content-Type": kind} | ({"Accept": accept} if accept else {})
        fresh = getattr(self._local, "connection", None) is None
        try:
            return self._exchange(method, path, data, headers)
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh:
                raise
        try:
            return self._exchange(method, path, data, headers)
        except http.client.HTTPException as problem:
            self.close()
            raise OSError(f"the API server broke off: {problem!r}") from None
        except OSError:
            self.close()
            raise

    def close_all(self) -> None:
        """Close every thread's connection."""
        for connection in list(self._all):
            connection.close()

    def close(self) -> None:
        """Close this thread's connection."""
        if connection := getattr(self._local, "connection", None):
            connection.close()
        self._local.connection = None

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port, context, connect = self._address
            connection = self._local.connection = Connection(host, port, context, connect, REQUEST_SECONDS)
            self._all.add(connection)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        answer = decoded(response.read())
        if response.status >= 300:
            raise ApiError(response.status, answer)
        return answer

    def watch(self, path: str, version: str) -> Iterator[dict]:
        """Yield the events of one watch, until the server ends it."""
        host, port, context, connect = self._address
        connection = Connection(host, port, context, connect, WATCH_SECONDS + REQUEST_SECONDS)
        try:
            query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
            connection.request("GET", f"{path}{'&' if '?' in path else '?'}{query}", headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ApiError(response.status, decoded(response.read()))
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        """Return the path of a kind (as kubectl takes it: Gateway, gateways, gateway), of a namespace's objects or of one."""
        if kind.lower() not in self._kinds:
            self._discover()
        try:
            prefix, plural, namespaced = self._kinds[kind.lower()]
        except KeyError:
            raise ApiError(404, {"reason": "NotFound", "message": f'the server doesn\'t have a resource type "{kind}"'}) from None
        where = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{prefix}{where}/{plural}" + (f"/{name}" if name else "")

    def _discover(self) -> None:
        for root in ("/apis", "/api"):  # the core group last: its kinds are the ones that a short name means
            for group in self.request("GET", root, accept=DISCOVERY).get("items", ()):
                for version in reversed(group["versions"]):  # the preferred one is the first
                    self._learn(group["metadata"].get("name", ""), version)

    def _learn(self, group: str, version: dict) -> None:
        prefix = f"/apis/{group}/{version['version']}" if group else f"/api/{version['version']}"
        for resource in version["resources"]:
            known = (prefix, resource["resource"], resource["scope"] == "Namespaced")
            names = {resource["resource"], resource.get("singularResource") or "", resource["responseKind"]["kind"].lower()}
            for name in names - {""}:
                self._kinds[name] = self._kinds[f"{name}.{group}"] = known


def decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return body.decode(errors="replace")


def key(thing: dict) -> tuple[str, str]:
    """(namespace, name) of an object."""
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


class Informer(threading.Thread):
    """Lists and watches one path, and keeps what it saw in `objects`."""

    def __init__(self, api: Api, path: str, changed: Callable[[str, dict], None]):
        super().__init__(name=f"informer {path}", daemon=True)
        self.objects: dict[tuple[str, str], dict] = {}
        self.synced = threading.Event()
        self._api, self._path, self._changed = api, path, changed
        self._version = ""

    def run(self) -> None:
        while True:
            try:
                self._version = self._version or self._list()
                self._follow()
            except ApiError as problem:
                if problem.code == 410:  # the server has forgotten the version that was seen last
                    self._version = ""
                time.sleep(PAUSE_SECONDS)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(PAUSE_SECONDS)

    def _list(self) -> str:
        answer = self._api.get(self._path)
        found = {key(thing): thing for thing in answer["items"]}
        for gone in [self.objects[where] for where in self.objects.keys() - found.keys()]:
            self._tell("DELETED", gone)
        for thing in found.values():
            self._tell("ADDED", thing)
        self.synced.set()
        return answer["metadata"]["resourceVersion"]

    def _follow(self) -> None:
        """Take events until the watch ends."""
        for event in self._api.watch(self._path, self._version):
            if event["type"] == "ERROR":
                raise ApiError(event["object"].get("code", 500), event["object"])
            if event["type"] != "BOOKMARK":
                self._tell(event["type"], event["object"])
            self._version = event["object"]["metadata"]["resourceVersion"]

    def _tell(self, event: str, thing: dict) -> None:
        if event == "DELETED":
            self.objects.pop(key(thing), None)
        else:
            self.objects[key(thing)] = thing
        try:
            self._changed(event, thing)
        except Exception:  # noqa: BLE001 - a bug in one handler must not end the watch; it is told, and the rest goes on
            traceback.print_exc()
