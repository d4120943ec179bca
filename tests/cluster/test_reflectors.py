"""Reflectors and elections against a real API server that is killed, frozen, cut off and restored."""
import json
import random
import shutil
import sys
import threading
from pathlib import Path

import pytest

from cluster import Cluster
from sandbox import Process
from support.waiting import elapse

PROGRAM = Path(__file__).with_name("reflecting.py")
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes"
MAPS = "/api/v1/namespaces/{}/configmaps"


class Reflecting:
    """The program, and what it has said."""

    def __init__(self, cluster: Cluster, *arguments: str):
        self.cluster = cluster
        self.may_tell_again = False
        self.process: Process = cluster.run([sys.executable, PROGRAM, *arguments])

    def said(self, *words: str) -> list[dict]:
        """The lines that have one of the words, in order; without words all of its own (not of its log)."""
        lines = [json.loads(line) for line in self.process.output().splitlines() if line.endswith("}")]
        return [line for line in lines if "msg" not in line and (not words or line.keys() & set(words))]

    def there(self) -> dict[tuple[str, ...], tuple[str, str]]:
        """What it knows, by what it said; an object is never put as it was, and nothing goes that was not there."""
        known: dict[tuple[str, ...], tuple[str, str]] = {}
        for line in self.said("put", "gone"):
            if "gone" in line:
                del known[tuple(line["gone"])]
                continue
            *name, uid, version = line["put"]
            assert self.may_tell_again or known.get(tuple(name)) != (uid, version), f"{name} is put twice"
            known[tuple(name)] = (uid, version)
        return known

    def agrees(self, *paths: str) -> bool:
        """Whether it knows what the API server has."""
        wanted = {}
        for path in paths:
            for item in self.cluster.api.get(path)["items"]:
                metadata = item["metadata"]
                wanted[path, metadata.get("namespace", ""), metadata["name"]] = (metadata["uid"], metadata["resourceVersion"])
        return self.there() == wanted

    def lists(self) -> int:
        return len(self.said("synced"))


def config_map(name: str, namespace: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def route(name: str, namespace: str, path: str = "/") -> dict:
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [{"name": "s", "port": 80}]}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": namespace},
            "spec": {"rules": [rule]}}


def churn(cluster: Cluster, namespace: str, steps: int, seed: int) -> None:
    """Create, change and delete ConfigMaps and routes, some with the name of one that was deleted, as long as there is an API server."""
    chance = random.Random(seed)
    for step in range(steps):
        path, thing = chance.choice([(MAPS, config_map), (ROUTES, route)])
        path, name = path.format(namespace), f"c{chance.randrange(8)}"
        try:
            match chance.choice(["create", "change", "change", "delete"]):
                case "create":
                    cluster.api.create(path, thing(name, namespace))
                case "change":
                    cluster.api.patch(f"{path}/{name}", {"data": {"step": str(step)}} if path.endswith("configmaps") else {
                        "spec": route(name, namespace, f"/{step}")["spec"]})
                case "delete":
                    cluster.api.delete(f"{path}/{name}")
        except Exception:  # it is there, is not there, or the API server is away
            elapse(0.005)
    cluster.api.close()


@pytest.fixture
def paths(namespace: str) -> tuple[str, str]:
    return MAPS.format(namespace), ROUTES.format(namespace)


def in_background(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_watches_that_are_cut_at_random_lose_nothing(cluster: Cluster, namespace: str, paths) -> None:
    seen = Reflecting(cluster, *paths)
    cluster.wait_for(lambda: seen.lists() == 2, "both lists")
    thread = in_background(churn, cluster, namespace, 400, 1)
    while thread.is_alive():
        cluster.cut_watches()
        thread.join(0.2)
    cluster.wait_for(lambda: seen.agrees(*paths), "what is there to be seen")
    assert seen.lists() == 2, "a watch that was cut goes on"
    assert len(seen.said("gone")) > 5 and len(seen.said("put")) > 50
    assert seen.process.stop() == 0


def test_an_api_server_that_is_killed_and_comes_back(cluster: Cluster, namespace: str, paths) -> None:
    seen = Reflecting(cluster, *paths)
    cluster.wait_for(lambda: seen.lists() == 2, "both lists")
    for seed in (2, 3):
        thread = in_background(churn, cluster, namespace, 150, seed)
        elapse(0.3)
        cluster.apiserver.kill()
        cluster.apiserver.start()
        thread.join()
        cluster.wait_for(lambda: seen.agrees(*paths), "what is there to be seen")
    assert seen.process.stop() == 0


def test_what_vanished_while_the_api_server_was_away_is_reported(cluster: Cluster, namespace: str, paths) -> None:
    """The reflector is frozen meanwhile, and its history is compacted: only a list can tell."""
    cluster.create(*(config_map(name, namespace) for name in ("stays", "changes", "goes", "is-replaced")))
    cluster.wait_for(lambda: cluster.get("ConfigMap", "kube-root-ca.crt", namespace), "what others make here")
    seen = Reflecting(cluster, *paths)
    cluster.wait_for(lambda: seen.agrees(*paths), "what is there to be seen")
    before = len(seen.said())
    seen.process.freeze()
    for name in ("goes", "is-replaced"):
        cluster.api.delete(f"{paths[0]}/{name}")
    cluster.create(config_map("is-replaced", namespace), config_map("is-new", namespace))
    cluster.api.patch(f"{paths[0]}/changes", {"data": {"a": "b"}})
    cluster.apiserver.restart()  # its watch cache begins with what is there now
    seen.process.thaw()
    cluster.wait_for(lambda: seen.agrees(*paths), "what is there to be seen")
    told = [(word, line[word][2]) for line in seen.said()[before:] for word in ("put", "gone") if word in line and line[word][0] == paths[0]]
    assert sorted(told) == [("gone", "goes"), ("gone", "is-replaced"), ("put", "changes"), ("put", "is-new"), ("put", "is-replaced")]


def test_an_api_server_that_is_frozen(cluster: Cluster, namespace: str, paths) -> None:
    """Nothing is lost, and who leads knows that it does not any more although nobody answers."""
    seen = Reflecting(cluster, *paths)
    leader = Reflecting(cluster, "--elect", f"{namespace}/frozen", "one", "4", "3", "0.5")
    cluster.wait_for(lambda: seen.lists() == 2 and leader.said("leads"), "both lists and the lease")
    cluster.apiserver.freeze()
    cluster.wait_for(lambda: [line["leads"] for line in leader.said("leads")] == [True, False], "the lease to be over")
    last = leader.said("writes")[-1]["at"]
    cluster.apiserver.thaw()
    cluster.create(config_map("a", namespace), route("r", namespace))
    cluster.wait_for(lambda: seen.agrees(*paths), "what is there to be seen")
    cluster.wait_for(lambda: [line["leads"] for line in leader.said("leads")] == [True, False, True], "the lease again")
    again = leader.said("leads")[-1]["at"]
    assert not [line for line in leader.said("writes") if last < line["at"] < again - 0.1]
    assert seen.lists() == 2


def test_a_leader_that_is_frozen_writes_nothing_when_another_leads(cluster: Cluster, namespace: str) -> None:
    one, two = (Reflecting(cluster, "--elect", f"{namespace}/lease", name, "3", "2", "0.3") for name in ("one", "two"))
    cluster.wait_for(lambda: one.said("writes") or two.said("writes"), "a leader")
    first, second = (one, two) if one.said("writes") else (two, one)
    first.process.freeze()
    cluster.wait_for(lambda: second.said("writes"), "the other one to lead")
    first.process.thaw()
    cluster.wait_for(lambda: [line["leads"] for line in first.said("leads")] == [True, False], "the first to know")
    began = second.said("leads")[0]["at"]
    assert all(line["at"] < began for line in first.said("writes"))
    lease = cluster.get("Lease.coordination.k8s.io", "lease", namespace)
    assert lease["spec"]["leaseTransitions"] == 1 and lease["spec"]["leaseDurationSeconds"] == 3
    assert second.process.stop() == 0
    cluster.wait_for(lambda: first.said("leads")[-1]["leads"], "the lease that was given back")
    path = cluster.api.path("Lease.coordination.k8s.io", namespace)
    holders: list[str] = []  # in order: who expires leaves no moment at which nobody holds it
    for event in cluster.api.watch(path, lease["metadata"]["resourceVersion"]):
        if event["type"] != "BOOKMARK":
            holders.append(event["object"]["spec"]["holderIdentity"])
        if holders and holders[-1] == {id(one): "one", id(two): "two"}[id(first)]:
            break
    assert "" in holders, "it was given back"


def test_a_kind_whose_definition_goes_and_comes_again(cluster: Cluster) -> None:
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.gwfast.test"},
                  "spec": {"group": "gwfast.test", "scope": "Namespaced", "versions": versions,
                           "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}}}
    thing = {"apiVersion": "gwfast.test/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "default"}}
    path, definitions = "/apis/gwfast.test/v1/things", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    seen = Reflecting(cluster, path)
    cluster.wait_for(lambda: "a list of the API server is absent" in seen.process.output(), "that it is absent")
    for _ in range(2):
        cluster.api.create(definitions, definition)
        cluster.wait_for(lambda: cluster.api.create("/apis/gwfast.test/v1/namespaces/default/things", thing), "the kind to be served")
        cluster.wait_for(lambda: seen.agrees(path), "the thing to be seen")
        assert seen.there()
        cluster.api.delete(f"{definitions}/things.gwfast.test")
        cluster.wait_for(lambda: not seen.there(), "that the thing has gone")
        cluster.wait_for(lambda: not any(one["metadata"]["name"] == "things.gwfast.test" for one in cluster.api.get(definitions)["items"]))


def test_an_etcd_that_is_restored(new_cluster) -> None:
    """What came after the copy never was: the reflector forgets it, although its versions were higher."""
    cluster = new_cluster()
    path = MAPS.format("default")
    cluster.create(config_map("kept", "default"), config_map("undone", "default"))
    cluster.wait_for(lambda: cluster.get("ConfigMap", "kube-root-ca.crt"), "what others make here, before the copy")
    seen = Reflecting(cluster, path)
    cluster.wait_for(lambda: seen.agrees(path), "what is there to be seen")
    data, copy = cluster.state / "etcd", cluster.state / "copy"
    for part in (cluster.apiserver, cluster.etcd):
        part.kill()
    shutil.copytree(data, copy)
    for part in (cluster.etcd, cluster.apiserver):
        part.start()
    for number in range(50):
        cluster.create(config_map(f"lost-{number}", "default"))
    cluster.api.delete(f"{path}/undone")
    cluster.wait_for(lambda: seen.agrees(path), "what is there to be seen")
    for part in (cluster.apiserver, cluster.controllers, cluster.etcd):
        part.kill()
    shutil.rmtree(data)
    copy.rename(data)
    seen.may_tell_again = True  # a version may be of either past
    for part in (cluster.etcd, cluster.apiserver):
        part.start()
    cluster.wait_for(lambda: set(seen.there()) == {(path, "default", name) for name in ("kept", "undone", "kube-root-ca.crt")}, "the past")
    cluster.create(config_map("new", "default"))
    cluster.wait_for(lambda: (path, "default", "new") in seen.there(), "that it goes on")
