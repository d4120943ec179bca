"""A cluster as a source: what is there is read, whatever comes, goes, is cut off or may not be seen."""
import asyncio
import threading
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from many_kinds import KINDS, OURS, Kinds
from servers import run, serving, until

from gwfast import limits
from gwfast.config import model as m
from gwfast.kubernetes import api as discovery
from gwfast.kubernetes import expect_tls
from gwfast.kubernetes import source as of_source
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.source import KubernetesSource

GATEWAY_API = [kind for kind, (group, *_) in KINDS.items() if group.startswith("gateway.")]
STANDARD = ["GatewayClass", "Gateway", "HTTPRoute", "ReferenceGrant", "BackendTLSPolicy", "ListenerSet"]


@pytest.fixture(autouse=True, scope="module")
def hurry():
    before = limits.API_BACKOFF, limits.API_BACKOFF_MOST, discovery.SETTLE, discovery.POLL
    limits.API_BACKOFF, limits.API_BACKOFF_MOST, discovery.SETTLE, discovery.POLL = 0.0005, 0.005, 0.002, 0.05
    yield
    limits.API_BACKOFF, limits.API_BACKOFF_MOST, discovery.SETTLE, discovery.POLL = before


class Log:
    """A log that keeps what is told."""

    def __init__(self):
        self.bugs, self.warnings = [], []

    def bug(self, msg, error, **fields):
        self.bugs.append((msg, error))

    def warning(self, msg, **fields):
        self.warnings.append((msg, fields))

    def info(self, msg, **fields):
        pass

    debug = error = info


class Reader:
    """Loads in a thread whenever the source says that it would be worth it, as a supervisor does."""

    def __init__(self, source: KubernetesSource):
        self.source = source
        self.asked = asyncio.Event()
        self.idle = False
        self.loads = 0
        self.loaded = None
        self.resources: dict = {}

    def ask(self, changed) -> None:
        assert changed is None or changed
        self.asked.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.asked.set()
        while True:
            self.idle = not self.asked.is_set()
            await self.asked.wait()
            self.idle = False
            self.asked.clear()
            loaded = await loop.run_in_executor(None, self.source.load, None)
            before, self.resources, self.loaded = self.resources, dict(loaded.resources), loaded
            assert loaded.added == self.resources.keys() - before.keys()
            assert loaded.removed == before.keys() - self.resources.keys()
            assert loaded.changed == {key for key in before.keys() & self.resources.keys()
                                      if before[key] is not self.resources[key]}
            self.loads += 1

    @property
    def settled(self) -> bool:
        """Whether there will be no load before something else comes: one may have taken what another one was asked for."""
        return self.idle and not self.asked.is_set() and self.source._timer is None

    def keys(self, *kinds: str) -> set[str]:
        return {str(key) for key in self.resources if not kinds or key.kind in kinds}


@asynccontextmanager
async def following(api: Kinds, **options):
    """A source that follows an API server."""
    log = Log()
    async with serving(api) as server:
        client = Client(Access(server.url), log=log)
        source = KubernetesSource(client, server.url, controller_name=OURS, log=log, **options)
        reader = Reader(source)
        reader.log = log
        source.watch(asyncio.get_running_loop(), reader.ask, log.warning)
        task = asyncio.create_task(reader.run())
        try:
            yield reader, source
        finally:
            source.close()
            task.cancel()
            await client.close()
            await until(lambda: server.open == 0)
        assert not log.bugs, log.bugs


def cluster(*kinds: str) -> Kinds:
    """A cluster with a class of ours, a Gateway with a certificate, a route and its Service."""
    api = Kinds(*(kinds or STANDARD))
    api.put("GatewayClass", "", "gwfast", spec={"controllerName": OURS})
    api.put("Namespace", "", "shop", labels={"team": "a"})
    api.put("Gateway", "shop", "gw", spec=gateway("cert"))
    api.put("HTTPRoute", "shop", "web", spec=route("/a"))
    api.put("Service", "shop", "cart", spec={"ports": [{"port": 80}]})
    api.put("Secret", "shop", "cert", type="kubernetes.io/tls", data={"tls.crt": b"crt", "tls.key": b"key"})
    api.put("Secret", "shop", "helm", type="helm.sh/release.v1", data={"release": b"x" * 1000})
    api.put("ConfigMap", "shop", "settings", data={"a": "b"})
    return api


def gateway(*secrets, klass="gwfast"):
    return {"gatewayClassName": klass, "listeners": [{"name": "web", "protocol": "HTTPS", "port": 443, "tls": {
        "certificateRefs": [{"name": secret} for secret in secrets]}}]}


def route(path):
    return {"parentRefs": [{"name": "gw"}], "rules": [{"matches": [{"path": {"value": path}}],
                                                       "backendRefs": [{"name": "cart", "port": 80}]}]}


ALL = {"GatewayClass gwfast", "Namespace shop", "Gateway shop/gw", "HTTPRoute shop/web", "Service shop/cart", "Secret shop/cert"}
WEB, CERT = m.Key("HTTPRoute", "shop", "web"), m.Key("Secret", "shop", "cert")


def path_of(reader):
    return reader.resources[WEB].spec.rules[0].matches[0].path.value


def test_the_first_load_is_all_that_there_is():
    async def test():
        async with following(cluster()) as (reader, source):
            await until(lambda: reader.loads)
            assert reader.keys() == ALL
            assert reader.resources[CERT].data["tls.crt"] == b"crt"
            assert not reader.loaded.problems
            assert (source.bundle, source.channel, reader.loaded.bundle) == ("1.6.1", "experimental", "1.6.1")
            assert source.waits == ""
    run(test)


def test_half_of_the_lists_are_never_served():
    """The list of one kind hangs: nothing is said, and why, until it comes."""
    async def test():
        api = cluster()
        api.held.add("HTTPRoute")
        async with following(api) as (reader, source):
            await until(lambda: "httproutes" in source.waits and "gateways" not in source.waits, lambda: source.waits)
            assert reader.loads == 0
            api.held.clear()
            api.wake()
            await until(lambda: reader.loads)
            assert reader.keys() == ALL
    run(test)


def test_a_secret_that_is_on_its_way_is_waited_for():
    async def test():
        api = cluster()
        api.held.add("Secret")
        async with following(api) as (reader, source):
            await until(lambda: source.waits == "Secrets that are referred to", lambda: source.waits)
            assert reader.loads == 0
            api.held.clear()
            api.wake()
            await until(lambda: reader.loads)
            assert reader.keys() == ALL
    run(test)


def test_an_api_server_that_is_not_there_yet():
    """What is waited for is said, and what comes is read."""
    async def test():
        api = cluster()
        api.forbid("/apis", "/api")  # 403, as of one whose authorizer is not ready
        async with following(api) as (reader, source):
            await until(lambda: "to say which kinds it has" in source.waits)
            api.forbidden.clear()
            await until(lambda: reader.loads)
            assert reader.keys() == ALL
    run(test)


def test_a_definition_of_which_discovery_does_not_know_yet():
    """An API server that has just begun names no custom resources: their kinds are waited for."""
    async def test():
        api = cluster()
        api.hidden = True
        async with following(api) as (reader, source):
            await until(lambda: sum(path == "/apis" for path, _ in api.asked) >= 2)
            assert reader.loads == 0
            api.hidden = False
            await until(lambda: reader.loads)
            assert reader.keys() == ALL
            api.hidden = True  # it begins again, and its watches are cut
            asked = len(api.asked)
            api.cut()
            api.put("CRD", "", "others.example.net", spec={})
            api.define("XListenerSet")
            await until(lambda: any(path == "/apis" for path, _ in api.asked[asked:]))
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b")
            assert reader.keys() == ALL
    run(test)


def test_changes_of_each_sort():
    async def test():
        api = cluster()
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b")
            assert reader.resources[WEB].metadata.generation == 2
            api.put("HTTPRoute", "shop", "web", labels={"a": "b"}, spec=route("/b"))
            await until(lambda: reader.resources[WEB].metadata.labels == {"a": "b"})
            api.put("Namespace", "", "shop", labels={"team": "b"})
            await until(lambda: reader.resources[m.Key("Namespace", "", "shop")].metadata.labels["team"] == "b")
            api.put("Namespace", "", "blog")
            api.put("HTTPRoute", "blog", "new", spec=route("/"))
            await until(lambda: "HTTPRoute blog/new" in reader.keys())
            api.delete("HTTPRoute", "shop", "web")
            await until(lambda: WEB not in reader.resources)
    run(test)


def test_a_change_after_a_while_is_told_at_once_and_others_together(monkeypatch):
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            await until(lambda: reader.loads and reader.settled)
            monkeypatch.setattr(of_source, "SETTLE", 3600)
            monkeypatch.setattr(of_source, "BURST", 3600)
            source._told -= 7200
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b" and reader.settled)
            loads = reader.loads
            api.put("HTTPRoute", "shop", "web", spec=route("/c"))
            await until(lambda: source._timer is not None)
            assert source._timer.when() > asyncio.get_running_loop().time() + 3000 and reader.loads == loads
    run(test)


def test_what_is_a_moments_work():
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            briefs = []
            ask, reader.ask = reader.ask, None
            source._changed = lambda changed: (briefs.append(source.brief), ask(changed))
            await until(lambda: reader.loads and reader.settled)
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b" and reader.settled)
            assert briefs.pop()
            api.put("Namespace", "", "shop", labels={"team": "b"})
            await until(lambda: briefs and reader.settled)
            assert not briefs.pop()
            assert source.brief, "nothing is little"
    run(test)


def test_a_status_makes_no_load():
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            told = []
            source.status_changed = told.append
            await until(lambda: reader.loads and reader.settled)
            loads = reader.loads
            api.status("HTTPRoute", "shop", "web", {"parents": []})
            await until(lambda: told == [WEB])
            assert msgspec.json.decode(source.objects[WEB].status) == {"parents": []}
            assert reader.settled and reader.loads == loads
            api.put("Service", "shop", "later", spec={"ports": [{"port": 80}]})
            await until(lambda: "Service shop/later" in reader.keys())
    run(test)


def test_what_the_server_says_of_objects():
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            assert source.objects[WEB].generation == 1
            assert m.Key("HTTPRoute", "shop", "no") not in source.objects
            assert {key for key in source.objects if key.kind == "HTTPRoute"} == {WEB}
            assert source.status_path(WEB) == "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web/status"
            assert source.status_path(m.Key("GatewayClass", "", "gwfast")) == (
                "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gwfast/status")
            assert source.status_path(m.Key("Service", "shop", "cart")) == ""
            assert source.status_path(m.Key("HTTPRoute", "shop", "no")) == ""
    run(test)


def test_what_is_counted():
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)

            def counted() -> dict[str, float]:
                return {name + labels: value for name, samples in source.metrics() for labels, value in samples}
            routes = '{group="gateway.networking.k8s.io",kind="HTTPRoute"}'
            await until(lambda: counted()[f"kubernetes_watching{routes}"] == 1)
            before = counted()
            assert before["kubernetes_up"] == 1 and before["kubernetes_unanswered_total"] == 0
            assert before[f"kubernetes_objects{routes}"] == 1
            assert before['kubernetes_objects{group="",kind="Secret"}'] == 1  # of two
            assert before[f"kubernetes_lists_total{routes}"] == 1
            api.status("HTTPRoute", "shop", "web", {"parents": []})
            api.put("HTTPRoute", "shop", "more", spec=route("/"))
            await until(lambda: "HTTPRoute shop/more" in reader.keys())
            api.cut()
            await until(lambda: counted()[f"kubernetes_watches_total{routes}"] == 2)
            after = counted()
            assert after[f"kubernetes_changes_total{routes}"] - before[f"kubernetes_changes_total{routes}"] == 2
            assert after[f"kubernetes_objects{routes}"] == 2
            assert after['kubernetes_requests_total{method="GET",code="200"}'] > before[
                'kubernetes_requests_total{method="GET",code="200"}']
    run(test)


# ---- Kinds


def test_kinds_come_and_go():
    async def test():
        api = cluster("GatewayClass", "Gateway", "HTTPRoute")
        api.delete("HTTPRoute", "shop", "web")
        api.undefine("HTTPRoute")
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            assert "HTTPRoute shop/web" not in reader.keys()
            api.define("HTTPRoute")
            api.put("HTTPRoute", "shop", "web", spec=route("/"))
            await until(lambda: WEB in reader.resources)
            api.undefine("HTTPRoute")
            await until(lambda: WEB not in reader.resources)
            api.define("HTTPRoute")
            api.put("HTTPRoute", "shop", "web", spec=route("/back"))
            await until(lambda: WEB in reader.resources)
            assert path_of(reader) == "/back"
    run(test)


def test_a_cluster_without_the_gateway_api_says_so():
    async def test():
        api = Kinds()
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            assert [(each.reason, each.severity) for each in reader.loaded.problems] == [("NoDefinitions", "error")]
            for kind in STANDARD:
                api.define(kind)
            await until(lambda: not reader.loaded.problems)
    run(test)


def test_the_best_version_is_read_and_changed_for_a_better_one():
    """An upgrade of the bundle: nothing is missing meanwhile, and what goes with the old version goes."""
    async def test():
        api = cluster()
        api.define("HTTPRoute", ("v1beta1",))
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            assert source.kind(WEB).version == "v1beta1"
            before = reader.resources[WEB]
            api.define("HTTPRoute", ("v1", "v1beta1"))
            await until(lambda: source.kind(WEB).version == "v1")
            api.put("HTTPRoute", "shop", "more", spec=route("/more"))
            await until(lambda: "HTTPRoute shop/more" in reader.keys())
            assert reader.resources[WEB] is before
            api.define("HTTPRoute", ("v1",))
            api.delete("HTTPRoute", "shop", "more")
            await until(lambda: "HTTPRoute shop/more" not in reader.keys())
            assert reader.resources[WEB] is before
    run(test)


def test_the_bundle_is_followed():
    async def test():
        api = cluster()
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            api.bundle = "v1.7.0"
            for kind in STANDARD:
                api.define(kind)
            await until(lambda: reader.loaded.bundle == "1.7.0")
    run(test)


def test_a_filter_in_python_brings_the_configmap_of_its_code():
    async def test():
        api = cluster(*STANDARD, "PythonFilter")
        api.put("PythonFilter", "shop", "f", spec={"configMap": {"name": "code"}, "class": "F"})
        api.put("ConfigMap", "shop", "code", data={"filter.py": "class F: pass"})
        api.put("ConfigMap", "shop", "other", data={})
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            assert reader.keys() == ALL | {"PythonFilter shop/f", "ConfigMap shop/code"}
            api.delete("PythonFilter", "shop", "f")
            await until(lambda: reader.keys() == ALL)
    run(test)


# ---- Secrets and ConfigMaps


def test_what_is_not_referred_to_is_never_read():
    async def test():
        api = cluster()
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            read = {path for path, _ in api.asked if "/secrets/" in path or "/configmaps/" in path}
            assert read == {"/api/v1/namespaces/shop/secrets/cert"}
            api.put("Secret", "shop", "helm", data={"release": b"y"})
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b")
            assert reader.keys() == ALL
    run(test)


def test_references_come_and_go_and_change():
    async def test():
        api = cluster()
        api.put("Secret", "shop", "other", data={"tls.crt": b"other"})
        other = CERT._replace(name="other")
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            seen: list[set] = []
            api.put("Gateway", "shop", "gw", spec=gateway("cert", "other"))
            await until(lambda: seen.append(reader.keys("Secret")) or other in reader.resources)
            assert all(each in ({"Secret shop/cert"}, {"Secret shop/cert", "Secret shop/other"}) for each in seen)
            assert len(reader.resources[m.Key("Gateway", "shop", "gw")].spec.listeners[0].tls.certificate_refs) == 2
            api.put("Secret", "shop", "cert", data={"tls.crt": b"rotated"})
            await until(lambda: reader.resources[CERT].data == {"tls.crt": b"rotated"})
            api.put("Gateway", "shop", "gw", spec=gateway("other"))
            await until(lambda: CERT not in reader.resources)
            api.delete("Secret", "shop", "other")
            await until(lambda: other not in reader.resources)
            api.put("Secret", "shop", "other", data={"tls.crt": b"again"})
            await until(lambda: other in reader.resources)
            assert reader.resources[other].data == {"tls.crt": b"again"}
    run(test)


def test_what_comes_while_a_secret_is_waited_for_counts_too():
    """A Gateway that names a Secret no more, before that was read: it is not kept."""
    async def test():
        api = cluster()
        api.put("Secret", "shop", "other", data={"tls.crt": b"other"})
        name = m.Key("Gateway", "shop", "gw")
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            api.held.add("Secret")
            api.put("Gateway", "shop", "gw", spec=gateway("cert", "other"))
            await until(lambda: any(path.endswith("/secrets/other") for path, _ in api.asked))
            api.put("Gateway", "shop", "gw", spec=gateway("cert"))
            await until(lambda: source.objects[name].generation == 3)
            api.held.clear()
            api.wake()
            await until(lambda: reader.resources[name].metadata.generation == 3 and reader.keys() == ALL, lambda: reader.keys())
    run(test)


def test_a_gateway_comes_with_its_certificate():
    """In the round that first has a Gateway its Secret is there: nobody is told that there is none."""
    async def test():
        api = cluster()
        api.delete("Gateway", "shop", "gw")
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            rounds = []
            load = source.load

            def noted(changed):
                loaded = load(changed)
                rounds.append((m.Key("Gateway", "shop", "gw") in loaded.resources, CERT in loaded.resources))
                return loaded
            source.load = noted
            api.put("Gateway", "shop", "gw", spec=gateway("cert"))
            await until(lambda: CERT in reader.resources)
            assert (True, False) not in rounds
    run(test)


def test_what_others_serve_is_not_read():
    async def test():
        api = cluster()
        api.put("GatewayClass", "", "nginx", spec={"controllerName": "example.net/nginx"})
        api.put("Secret", "shop", "theirs", data={"tls.crt": b"x"})
        api.put("Gateway", "shop", "theirs", spec=gateway("theirs", klass="nginx"))
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            assert reader.keys("Secret") == {"Secret shop/cert"}
    run(test)


def test_a_secret_that_may_not_be_read():
    async def test():
        api = cluster()
        api.forbid("/api/v1/namespaces/shop/secrets")
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            assert reader.keys() == ALL - {"Secret shop/cert"}
            assert ("an object that is referred to may not be read", {
                "kind": "Secret", "object": "shop/cert", "error": "403 Forbidden: no: Forbidden"}) in reader.log.warnings
    run(test)


NO_NAMES = ["%", "?watch=1", "../../victim", "..", ".", "a/b", "a#b", "a b", "Cert", "cert/status"]


def test_what_nothing_can_be_called_is_asked_for_nowhere():
    """A reference's name is any text: none of it becomes a query, another path, or what the first load waits for."""
    async def test():
        api = cluster()
        api.put("Gateway", "shop", "odd", spec=gateway(*NO_NAMES, "more"))
        api.put("Secret", "shop", "more", data={"tls.crt": b"x"})
        async with following(api) as (reader, source):
            await until(lambda: reader.loads, lambda: source.waits)
            assert reader.keys("Secret") == {"Secret shop/cert", "Secret shop/more"} and not reader.loaded.problems
            objects = {path for path, _ in api.asked if path.startswith("/api/v1/namespaces/")}
            assert objects == {"/api/v1/namespaces/shop/secrets/cert", "/api/v1/namespaces/shop/secrets/more"}
    run(test)


@pytest.mark.parametrize("status", [400, 405, 410, 422])
def test_an_answer_that_is_no_object_is_not_waited_out(status):
    """The first load ends; what was read before such an answer stays."""
    async def test():
        api = cluster()
        api.refused["/api/v1/namespaces/shop/secrets/cert"] = status
        async with following(api) as (reader, source):
            await until(lambda: reader.loads, lambda: source.waits)
            assert reader.keys() == ALL - {"Secret shop/cert"} and not reader.loaded.problems
            api.refused.clear()
            api.put("Secret", "shop", "cert", data={"tls.crt": b"one"})
            await until(lambda: CERT in reader.resources)
            api.refused["/api/v1/namespaces/shop/secrets/cert"] = status
            asked = len(api.asked)
            api.put("Secret", "shop", "cert", data={"tls.crt": b"two"})
            await until(lambda: len(api.asked) > asked)
            api.put("HTTPRoute", "shop", "web", spec=route("/b"))
            await until(lambda: path_of(reader) == "/b")
            assert reader.resources[CERT].data["tls.crt"] == b"one"
    run(test)


@pytest.mark.parametrize("status", [401, 429, 500])
def test_the_first_load_does_not_wait_for_ever(monkeypatch, status):
    """What is never answered is told as a problem; it is read when it can be, and the problem goes."""
    monkeypatch.setattr(of_source, "FIRST", 0.2)
    monkeypatch.setattr(limits, "API_RETRIES", 0)

    async def test():
        api = cluster()
        api.refused["/api/v1/namespaces/shop/secrets/cert"] = status
        async with following(api) as (reader, source):
            await until(lambda: reader.loads, lambda: source.waits)
            assert reader.keys() == ALL - {"Secret shop/cert"}
            assert [(each.reason, each.resource) for each in reader.loaded.problems] == [("NotRead", "Secret shop/cert")]
            api.refused.clear()
            await until(lambda: reader.keys() == ALL and not reader.loaded.problems)
            assert not reader.log.bugs
    run(test)


def test_what_was_late_and_is_refused_then_is_no_problem_of_the_source_any_more(monkeypatch):
    monkeypatch.setattr(of_source, "FIRST", 0.2)

    async def test():
        api = cluster()
        path = "/api/v1/namespaces/shop/secrets/cert"
        api.refused[path] = 500
        async with following(api) as (reader, source):
            await until(lambda: reader.loads, lambda: source.waits)
            assert reader.loaded.problems
            api.refused[path] = 403
            await until(lambda: not reader.loaded.problems)
    run(test)


# ---- Rights


def test_namespaces_that_are_watched():
    async def test():
        api = cluster()
        api.put("HTTPRoute", "blog", "web", spec=route("/blog"))
        api.put("HTTPRoute", "secret", "web", spec=route("/secret"))
        api.forbid(*(f"/apis/gateway.networking.k8s.io/v1/{plural}" for plural in ("gateways", "httproutes")),
                   "/api/v1/services", "/api/v1/secrets", "/api/v1/configmaps", "/api/v1/namespaces")
        api.forbidden.discard("/api/v1/namespaces")
        async with following(api, namespaces=("shop", "blog")) as (reader, _):
            await until(lambda: reader.loads)
            assert reader.keys() == ALL | {"HTTPRoute blog/web"}
            assert not reader.loaded.problems
            api.put("HTTPRoute", "blog", "web", spec=route("/2"))
            api.put("HTTPRoute", "secret", "web", spec=route("/2"))
            await until(lambda: reader.resources[WEB._replace(namespace="blog")].spec.rules[0].matches[0].path.value == "/2")
            assert "HTTPRoute secret/web" not in reader.keys()
    run(test)


@pytest.mark.parametrize("plural, certain", [("gateways", False), ("gatewayclasses", False), ("httproutes", True)])
def test_what_is_not_listed_is_not_certain(plural, certain):
    """An empty list of Gateways looks as one that may not be read."""
    async def test():
        api = cluster()
        api.forbid(f"/apis/gateway.networking.k8s.io/v1/{plural}")
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            await until(lambda: source.certain == certain)
            assert any(each.reason == "Forbidden" for each in reader.loaded.problems)
            assert source.certain == certain
            api.forbidden.clear()
            await until(lambda: reader.keys() == ALL)
            await until(lambda: source.certain)
    run(test)


def test_what_may_not_be_listed_is_said_and_read_once_it_may():
    async def test():
        api = cluster()
        path = "/apis/gateway.networking.k8s.io/v1/httproutes"
        api.forbid(path)
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            assert reader.keys() == ALL - {"HTTPRoute shop/web"}
            assert [(each.resource, each.reason) for each in reader.loaded.problems] == [("httproutes", "Forbidden")]
            assert "a ClusterRole has to let us" in reader.loaded.problems[0].message
            api.forbidden.clear()
            await until(lambda: reader.keys() == ALL and not reader.loaded.problems)
    run(test)


def test_definitions_that_may_not_be_watched():
    """Discovery is asked again and again, and a kind that it does not name twice has gone."""
    async def test():
        api = cluster("GatewayClass", "Gateway")
        api.forbid("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        async with following(api) as (reader, source):
            await until(lambda: reader.loads)
            assert source.bundle == ""
            api.define("HTTPRoute")
            await until(lambda: WEB in reader.resources)
            api.undefine("HTTPRoute")
            await until(lambda: WEB not in reader.resources)
    run(test)


# ---- Trouble


OPERATIONS = st.one_of(
    st.tuples(st.just("route"), st.sampled_from(["a", "b"]), st.sampled_from(["/1", "/2", None])),
    st.tuples(st.just("secret"), st.sampled_from(["cert", "other"]), st.sampled_from([b"1", b"2", None])),
    st.tuples(st.just("gateway"), st.sampled_from([("cert",), ("other",), ("cert", "other"), ()]), st.just(0)),
    st.tuples(st.just("wrong"), st.sampled_from(["a", "b"]), st.just(0)),
    st.tuples(st.sampled_from(["cut", "compact", "rest", "undefine", "define", "status"]), st.just(0), st.just(0)),
)


def act(api: Kinds, what: str, name, value) -> None:
    match what:
        case "route" | "wrong" if "HTTPRoute" not in api.served:
            pass
        case "route":
            if value is not None:
                api.put("HTTPRoute", "shop", name, spec=route(value))
            elif ("shop", name) in api.things["HTTPRoute"]:
                api.delete("HTTPRoute", "shop", name)
        case "wrong":
            api.put("HTTPRoute", "shop", name, spec=route("no path"))
        case "secret":
            if value is not None:
                api.put("Secret", "shop", name, data={"tls.crt": value})
            elif ("shop", name) in api.things["Secret"]:
                api.delete("Secret", "shop", name)
        case "gateway":
            api.put("Gateway", "shop", "gw", spec=gateway(*name))
        case "cut":
            api.cut()
        case "compact":
            api.compact()
        case "undefine" if "HTTPRoute" in api.served:
            api.undefine("HTTPRoute")
        case "define":
            api.define("HTTPRoute")
        case "status":
            for namespace, name in list(api.things["HTTPRoute"]):
                api.status("HTTPRoute", namespace, name, {"parents": []})


def told(reader) -> dict:
    """All that a graph is made of, and what is wrong."""
    found = {str(key): msgspec.to_builtins(msgspec.structs.replace(each, status=None)) for key, each in reader.resources.items()}
    return found | {"problems": [str(each) for each in reader.loaded.problems]}


@settings(max_examples=15, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_any_sequence_of_events_is_as_a_fresh_start_from_its_end(operations):
    async def test():
        api = cluster()
        async with following(api) as (reader, _):
            await until(lambda: reader.loads)
            for operation in operations:
                if operation[0] == "rest":
                    await asyncio.sleep(0.005)  # so that a load may begin here
                else:
                    act(api, *operation)
            async with following(api) as (fresh, _):
                await until(lambda: fresh.loads)
                await until(lambda: told(reader) == told(fresh), lambda: f"{told(reader)} is not {told(fresh)}")
    run(test)


def test_closing_ends_a_load_that_waits():
    async def test():
        api = cluster()
        api.held.add("HTTPRoute")
        log = Log()
        async with serving(api) as server:
            client = Client(Access(server.url), log=log)
            source = KubernetesSource(client, server.url, controller_name=OURS, log=log)
            source.watch(asyncio.get_running_loop(), lambda _: None, log.warning)
            thread = threading.Thread(target=source.load, args=(None,), daemon=True)
            thread.start()
            await until(lambda: "httproutes" in source.waits)
            source.close()
            await until(lambda: not thread.is_alive())
            await client.close()
    run(test)


# ---- Whether TLS will be needed


@pytest.mark.parametrize("change, expected", [
    (lambda api: None, False),
    (lambda api: api.put("Gateway", "shop", "secure", spec=gateway("cert")), True),
    (lambda api: api.put("BackendTLSPolicy", "shop", "p", spec={}), True),
    (lambda api: api.put("ListenerSet", "shop", "s", spec={"listeners": [{"name": "a", "protocol": "TLS", "port": 443}]}), True),
    (lambda api: api.forbid("/apis"), True),  # nobody knows
    (lambda api: api.undefine("ListenerSet"), False),
])
def test_whether_tls_is_made_use_of(change, expected):
    api = Kinds(*STANDARD)
    api.put("Gateway", "shop", "gw", spec={"gatewayClassName": "gwfast", "listeners": [
        {"name": "TLS", "protocol": "HTTP", "port": 80}]})

    async def test():
        async with serving(api) as server:
            change(api)
            assert await expect_tls._expects(Access(server.url), ()) is expected
    run(test)
