"""Traffic follows what `kubectl` says, through `gwfast run --kubernetes`, and goes on whatever becomes of the API server."""
import base64
import http.client
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1]))

from support.pki import pair

from cluster import FROZEN, Cluster
from support.traffic import ADMIN, BACKENDS, GATEWAY, World, route, served
from support.waiting import elapse


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> Iterator[World]:
    yield from served(cluster, namespace)


ARTICLE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: my-gateway}
spec:
  gatewayClassName: NAMESPACE
  listeners:
  - {name: web, protocol: HTTP, port: 8000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: my-route}
spec:
  parentRefs: [{name: my-gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: a, port: 80}]
"""


def test_the_first_documents_of_everybody(world: World):
    """A Gateway and an HTTPRoute are applied, and traffic flows; both say so."""
    world.apply(ARTICLE)
    world.until("a", "/api/x")
    assert world.get("/other") == "404"
    world.cluster.wait_for(lambda: "True" in (text := world.cluster.kubectl("get", "gateway", "-n", world.namespace)) and "192.0.2.1" in text,
                           "kubectl to show it")
    world.cluster.comes_to(lambda: world.cluster.http("127.0.0.1", ADMIN, "/readyz").status, 200)
    world.cluster.kubectl("delete", "gateway,httproute", "--all", "-n", world.namespace)
    world.until("refused", "/api/x")
    world.cluster.comes_to(lambda: world.cluster.http("127.0.0.1", ADMIN, "/readyz").status, 503)


def test_routes_and_listeners_change(world: World):
    world.apply(GATEWAY, route())
    world.until("a")
    world.apply(route("b"))
    world.until("b")
    world.apply(GATEWAY + "  - {name: more, protocol: HTTP, port: 8001, hostname: '*.more.test'}\n")
    world.until("b", host="x.more.test", port=8001)
    assert world.get(port=8001) == "404"
    world.apply(GATEWAY)
    world.until("refused", host="x.more.test", port=8001)
    world.delete("httproute", "r")
    world.until("404")


def test_services_and_endpoints_change(world: World):
    world.apply(GATEWAY, route())
    world.until("a")
    world.delete("endpointslice", "a-1")
    world.until("503")
    world.apply(world.service("a").replace(str(BACKENDS["a"]), str(BACKENDS["b"])))
    world.until("b")
    world.delete("service", "a")
    world.until("500")
    world.apply(world.service("a"))
    world.until("a")


def test_classes_come_and_go(world: World):
    world.apply(GATEWAY.replace("NAMESPACE", "NAMESPACE-2"), route())
    world.apply("{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: NAMESPACE-2}, "
                "spec: {controllerName: example.net/another}}")
    world.cluster.wait_for(lambda: "there is no Gateway" in (text := world.cluster.http("127.0.0.1", ADMIN, "/readyz").body.decode())
                           or "no Gateway" in text, "nothing to be served")
    assert world.get() == "refused"
    world.cluster.kubectl("delete", "gatewayclass", f"{world.namespace}-2")
    world.apply("{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: NAMESPACE-2}, "
                "spec: {controllerName: traffic.example/NAMESPACE}}")
    world.until("a")
    world.cluster.kubectl("delete", "gatewayclass", f"{world.namespace}-2", "--wait=false")
    world.cluster.kubectl("patch", "gatewayclass", f"{world.namespace}-2", "--type=merge", "-p", '{"metadata":{"finalizers":null}}',
                          check=False)
    world.until("refused")


FILTER = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: filters}
spec: {pythonFilters: true}
---
apiVersion: gwfast.dev/v1alpha1
kind: PythonFilter
metadata: {name: f}
spec: {configMap: {name: code}, class: Answers}
"""


def code(status: int) -> str:
    text = ("from gwfast.filters import Response\nclass Answers:\n    def __init__(self, config):\n        pass\n"
            f"    async def on_request(self, request):\n        return Response({status})\n")
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"},
                           "data": {"filter.py": text if status else "raise SystemExit(3)"}})


def test_filters_in_python_run_where_the_class_allows_them(world: World):
    made = yaml.safe_load(route())
    made["spec"]["rules"][0]["filters"] = [{"type": "ExtensionRef", "extensionRef": {
        "group": "gwfast.dev", "kind": "PythonFilter", "name": "f"}}]
    world.apply(GATEWAY, FILTER, code(418), yaml.safe_dump(made))
    world.until("500")
    parameters = {"group": "gwfast.dev", "kind": "GatewayParameters", "name": "filters", "namespace": world.namespace}
    for given, status in ((parameters, 418), (None, 500), (parameters, 418)):
        world.cluster.kubectl("patch", "gatewayclass", world.namespace, "--type=merge", "-p",
                              json.dumps({"spec": {"parametersRef": given}}))
        world.until(str(status))
    world.apply(code(299))
    world.until("299")
    world.apply(code(0))  # it cannot be loaded: what was there stays
    world.cluster.wait_for(lambda: "cannot be loaded" in world.gateway.log.read_text(), "the log to tell")
    assert world.get() == "299"
    look = world.cluster.run([sys.executable, "-m", "gwfast", "check", "--kubernetes", "--controller-name",
                              f"traffic.example/{world.namespace}"])
    look.wait(180)
    assert "gateway" in look.log.read_text().lower() and "NotLoaded" not in look.log.read_text()  # it is not run where somebody looks


PARAMETERS = """
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own}
spec: {dedicated: true, options: {%s}}
"""


def test_parameters_that_go_wrong_are_told_and_what_was_served_is(world: World):
    """One process has no use for most of them; what is wrong is said all the same, and takes nothing from who is served."""
    own = GATEWAY + "  infrastructure: {parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: own}}\n"

    def accepted() -> tuple[str, str, str]:
        (one,) = [each for each in world.cluster.get("Gateway", "gw", world.namespace)["status"]["conditions"] if each["type"] == "Accepted"]
        return one["status"], one["reason"], one["message"]

    def refused(words: str) -> None:
        world.cluster.wait_for(lambda: (said := accepted())[:2] == ("False", "InvalidParameters") and words in said[2], f"{words} to be told")
    world.apply(own, route())
    refused("there is no GatewayParameters")
    assert world.get() == "refused"  # it was never right
    world.apply(PARAMETERS % "via: own")
    world.until("a")
    world.cluster.comes_to(lambda: accepted()[0], "True")
    with Load(world) as load:
        world.apply(PARAMETERS % "mispelt: x")
        refused("gwfast run has no option --mispelt")
        world.apply(route("b"))  # it is served as it is now
        world.until("b")
        world.delete("gatewayparameters", "own")
        refused("there is no GatewayParameters")
        world.apply(PARAMETERS % "via: own")
        world.cluster.comes_to(lambda: accepted()[0], "True")
        world.until("b")
    assert load.failed == []


def test_grants_are_revoked_live(world: World):
    other = f"{world.namespace}-backends"
    world.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {other}}}}}")
    world.apply(GATEWAY, route(f"b, namespace: {other}"), world.service("b", other))
    world.until("500")
    grant = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: grant, namespace: {other}}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: NAMESPACE}}]
  to: [{{group: "", kind: Service}}]
"""
    world.apply(grant)
    world.until("b")
    world.delete("referencegrant", "grant", other)
    world.until("500")
    world.cluster.kubectl("delete", "namespace", other, "--wait=false")


def test_labels_of_a_namespace_change(world: World):
    other = f"{world.namespace}-routes"
    namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {team: %s}}}"
    world.apply(namespace % (other, "none"))
    world.apply(GATEWAY.replace("port: 8000}", "port: 8000, allowedRoutes: {namespaces: {from: Selector, selector: "
                                "{matchLabels: {team: shop}}}}}"))
    world.apply(route(f"a, namespace: {world.namespace}", parent=f"name: gw, namespace: {world.namespace}", metadata={"namespace": other}),
                f"""
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: grant}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {other}}}]
  to: [{{group: "", kind: Service}}]
""")
    world.until("404")
    world.apply(namespace % (other, "shop"))
    world.until("a")
    world.apply(namespace % (other, "blog"))
    world.until("404")
    world.cluster.kubectl("delete", "namespace", other, "--wait=false")


def secret(*names: str) -> str:
    chain, key = (base64.b64encode(part).decode() for part in pair(*names))
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: cert}}, type: kubernetes.io/tls, data: {{tls.crt: {chain}, tls.key: {key}}}}}"


def shown(world: World, port: int = 8443) -> bytes:
    """Return the certificate that a client is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with world.cluster.connect("127.0.0.1", port) as raw, context.wrap_socket(raw, server_hostname="x.test") as connection:
        return connection.getpeercert(binary_form=True)


def der(*names: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair(*names)[0].decode())


def test_a_certificate_is_rotated_by_its_secret(world: World):
    world.apply(GATEWAY + "  - {name: secure, protocol: HTTPS, port: 8443, tls: {certificateRefs: [{name: cert}]}}\n", route())
    world.until("a")
    assert world.get(port=8443) == "refused"  # there is no Secret
    world.apply(secret("x.test"))
    world.cluster.wait_for(lambda: shown(world) == der("x.test"), "the certificate")
    world.apply(secret("x.test", "rotated.test"))
    world.cluster.wait_for(lambda: shown(world) == der("x.test", "rotated.test"), "the other certificate")


def test_listener_sets_come_and_go(world: World):
    world.apply(GATEWAY + "  allowedListeners: {namespaces: {from: Same}}\n", route(parent="name: more, kind: ListenerSet"))
    world.apply("""
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more}
spec:
  parentRef: {name: gw}
  listeners: [{name: extra, protocol: HTTP, port: 8002}]
""")
    world.until("a", port=8002)
    world.delete("listenerset", "more")
    world.until("refused", port=8002)


def test_a_cluster_is_looked_at_once(world: World):
    """check, routes and explain say of a cluster what they say of files, and name objects as kubectl does."""
    world.apply(GATEWAY, route(), route("nowhere", "/no", "broken"))
    world.until("500", "/no")

    def look(verb: str, *arguments: str) -> tuple[int, str]:
        process = world.cluster.run([sys.executable, "-m", "gwfast", verb, "--kubernetes", "--controller-name",
                                     f"traffic.example/{world.namespace}", *arguments])
        return process.wait(180), process.log.read_text()
    status, text = look("check", "--watch-namespaces", world.namespace)
    assert status == 1
    assert (f"HTTPRoute {world.namespace}/broken: error: spec.rules[0].backendRefs[0]: there is no Service {world.namespace}/nowhere "
            "(BackendNotFound)") in text
    status, text = look("routes")
    assert status == 0 and f"{world.namespace}/r" in text
    status, text = look("explain", "GET", "http://x.test:8000/a")
    assert status == 0 and f"{world.namespace}/a" in text
    status, text = look("check", "--kubeconfig", "/nowhere/config")
    assert status == 2 and "/nowhere/config" in text and "Traceback" not in text
    world.cluster.apiserver.kill()
    status, text = look("check")
    assert status == 2 and ":6443" in text and "Traceback" not in text


# ---- Trouble


class Load:
    """Clients that ask all the time, each on a connection that is kept; `failed` is what was not answered by a backend."""

    def __init__(self, world: World, clients: int = 4):
        self._world = world
        self._end = threading.Event()
        self.answered = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._end.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
            connection.sock = self._world.cluster.connect("127.0.0.1", 8000)
            try:
                while not self._end.is_set():
                    self._ask_once(connection)
                    elapse(0.002)
            except (OSError, http.client.HTTPException) as problem:
                self.failed.append(repr(problem))
            finally:
                connection.close()

    def _ask_once(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", "/", headers={"Host": "x.test"})
        answer = connection.getresponse()
        body = answer.read()
        self.answered += 1
        if answer.status != 200:
            self.failed.append(f"{answer.status} {body[:80]!r}")


def killed(cluster: Cluster) -> None:
    cluster.apiserver.kill()
    elapse(1.0)
    cluster.apiserver.start()


def frozen(cluster: Cluster) -> None:
    cluster.apiserver.freeze()
    elapse(FROZEN)
    cluster.apiserver.thaw()


def cut(cluster: Cluster) -> None:
    for _ in range(10):
        cluster.cut_watches()
        elapse(0.1)


def partitioned(cluster: Cluster) -> None:
    with cluster.partitioned():
        elapse(3.0)


@pytest.mark.parametrize("trouble", [killed, frozen, cut, partitioned], ids=lambda each: each.__name__)
def test_no_request_is_lost_whatever_becomes_of_the_api_server(world: World, trouble: Callable):
    """Every request is answered meanwhile; what changes as soon as it answers again is served, and what goes is not."""
    world.apply(GATEWAY, route(), route("b", "/gone", "gone"))
    world.until("a")
    world.until("b", "/gone")
    with Load(world) as load:
        before = load.answered
        trouble(world.cluster)
        assert load.answered > before
        world.cluster.apiserver.wait_ready()
        world.in_the_end("delete", "httproute", "gone", "--ignore-not-found")
        world.in_the_end("patch", "httproute", "r", "--type=merge", "-p",
                         '{"spec":{"rules":[{"backendRefs":[{"name":"b","port":80}]}]}}')
        world.cluster.wait_for(lambda: (world.get(), world.get("/gone")) == ("b", "b"), "the change", 90.0)
        world.in_the_end("patch", "httproute", "r", "--type=merge", "-p",
                         '{"spec":{"rules":[{"backendRefs":[{"name":"a","port":80}]}]}}')
        world.cluster.wait_for(lambda: (world.get(), world.get("/gone")) == ("a", "a"), "the last change", 90.0)
        world.cluster.wait_for(lambda: load.failed or load.answered > 100, "requests to be made")
    assert load.failed == []
    assert not world.running[1].log.read_text().count("Traceback")


def test_a_gateway_that_starts_without_an_api_server_waits_for_it(world: World):
    world.apply(GATEWAY, route())
    world.until("a")
    world.gateway.stop()
    world.cluster.apiserver.kill()
    world.run()
    world.cluster.wait_for(lambda: "waits for" in (text := world.cluster.http("127.0.0.1", ADMIN, "/readyz").body.decode()) and ":6443" in text,
                           "the admin port to say what it waits for")
    assert world.get() == "refused"
    world.cluster.apiserver.start()
    world.cluster.wait_for(lambda: world.get() == "a", "what is there", 60.0)


def test_an_upgrade_of_the_program(world: World):
    """Another process takes over between two requests, has the Lease at once, and writes what becomes of a route."""
    world.apply(GATEWAY, route())
    world.until("a")
    asking, answers = threading.Event(), set()

    def ask() -> None:
        while not asking.is_set():
            answers.add(world.get())
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for number, backend in enumerate("bab"):
            done = world.cluster.run([sys.executable, "-m", "gwfast", "upgrade", "--admin", f"127.0.0.1:{ADMIN}"])
            assert done.wait(120) == 0, done.output() + world.gateway.output()
            world.apply(route(backend, f"/{number}", f"r{number}"))
            world.until(backend, f"/{number}")
            world.cluster.comes_to(lambda name=f"r{number}": accepted(world, name), "True")
    finally:
        asking.set()
        thread.join(30)
    assert answers == {"a"}
    world.gateway.terminate()
    assert world.gateway.wait(30) == 0


def accepted(world: World, name: str) -> str:
    parents = (world.cluster.get("HTTPRoute", name, world.namespace) or {}).get("status", {}).get("parents", [{"conditions": []}])
    return next((each["status"] for each in parents[0]["conditions"] if each["type"] == "Accepted"), "")
