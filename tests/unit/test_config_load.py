# ruff: noqa: UP031  YAML in its flow style is full of braces
"""Loading again and again: what is the same object, what changed, what keeps its last good version, and where."""
import io
import json
import os
import pathlib
import socket
import sys
import tempfile

import msgspec
import pytest

from gwfast.config import files
from gwfast.config.files import obstacle
from gwfast.config.load import Loader, load
from gwfast.config.model import Key
from gwfast.plan.matches import plan_matches

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
spec:
  rules:
  - matches:
    - path: {{value: {path}}}
"""


def route(name: str, path: str = "/") -> str:
    return ROUTE.format(name=name, path=path)


def key(name: str, kind: str = "HTTPRoute") -> Key:
    return Key(kind, "default", name)


def path_of(resource) -> str:
    return resource.spec.rules[0].matches[0].path.value


def problems(loaded, severity: str = "error") -> list[tuple[str, int, str, str]]:
    return [(os.path.basename(each.source.file), each.source.line, each.field, each.reason)
            for each in loaded.problems if each.severity == severity]


class Folder:
    """A folder of files and a loader of it; asserts that two ways of asking for changes agree."""

    def __init__(self, path):
        self.path = path
        self.loader = Loader([str(path)])

    def write(self, **files: str | None):
        """Write or remove files and load what changed, as a watcher would tell it."""
        changed = set()
        for name, text in files.items():
            path = self.path / f"{name}.yaml"
            changed.add(str(path))
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        loaded = self.loader.load(changed)
        again = self.loader.load()
        assert again.resources == loaded.resources and again.problems == loaded.problems
        assert not again.added | again.changed | again.removed
        return loaded


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


# ---- What is read


def test_files_folders_and_formats(tmp_path, monkeypatch):
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    (tmp_path / "sub" / "a.yaml").write_text(route("a"))
    (tmp_path / "sub" / "deeper" / "b.yml").write_text(route("b"))
    (tmp_path / "sub" / "c.json").write_bytes(msgspec.json.encode(msgspec.yaml.decode(route("c"))))
    (tmp_path / "sub" / "notes.txt").write_text("not: [yaml")
    (tmp_path / "sub" / ".hidden.yaml").write_text("not: [yaml")
    (tmp_path / "sub" / ".git").mkdir()
    (tmp_path / "sub" / ".git" / "x.yaml").write_text("not: [yaml")
    (tmp_path / "named.conf").write_text(route("d"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(route("e").encode())))
    loaded = load([str(tmp_path / "sub"), str(tmp_path / "named.conf"), "-"])
    assert set(loaded.resources) == loaded.added == {key(name) for name in "abcde"}
    assert loaded.problems == []
    assert loaded.resources[key("e")].source.file == "-"
    assert str(loaded.resources[key("b")].source) == f"{tmp_path}/sub/deeper/b.yml:1"


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(route("a").encode())))
    loader = Loader(["-"])
    first, second = loader.load(), loader.load()
    assert first.resources == second.resources != {}


def test_mounted_config_map(tmp_path):
    """A ConfigMap's files are links into a folder that a link `..data` names; an update swaps that link."""
    for version, path in ("..2024_1", "/one"), ("..2024_2", "/two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "r.yaml").write_text(route("a", path))
    (tmp_path / "..data").symlink_to("..2024_1")
    (tmp_path / "r.yaml").symlink_to("..data/r.yaml")
    loader = Loader([str(tmp_path)])
    first = loader.load()
    assert path_of(first.resources[key("a")]) == "/one" and first.problems == []
    (tmp_path / "..next").symlink_to("..2024_2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    second = loader.load({str(tmp_path / "..data")})
    assert path_of(second.resources[key("a")]) == "/two"
    assert second.changed == {key("a")}


def test_a_file_that_comes_costs_no_look_at_the_others(tmp_path, monkeypatch):
    """But one that is a link, or has another name elsewhere, may be a file that is known already."""
    def look(path):
        raise AssertionError(f"looks at {path}")

    (tmp_path / "below").mkdir()
    for name in ("a", "below/b"):
        (tmp_path / f"{name}.yaml").write_text(route(name[-1]))
    monkeypatch.chdir(tmp_path.parent)
    for given in (str(tmp_path), tmp_path.name, f"{tmp_path.name}/", f"./{tmp_path.name}/below/.."):
        loader = Loader([given])
        assert loader.load().added == {key("a"), key("b")}
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", look)
            for name in ("c", "below/d"):
                file = tmp_path / f"{name}.yaml"
                file.write_text(route(name[-1]))
                assert loader.load({str(file)}).added == {key(name[-1])}
                file.write_text(route(name[-1], "/new"))
                assert loader.load({str(file)}).changed == {key(name[-1])}
        again = loader.load()
        assert not again.added | again.changed | again.removed and not again.problems
        assert again.resources[key("c")].source.file == Loader([given]).load().resources[key("c")].source.file
        (tmp_path / "e.yaml").symlink_to("a.yaml")
        (tmp_path / "f.yaml").hardlink_to(tmp_path / "below" / "b.yaml")
        links = loader.load({str(tmp_path / "e.yaml"), str(tmp_path / "f.yaml")})
        assert not links.added | links.changed | links.removed and not links.problems
        for name in ("c", "below/d", "e", "f"):
            (tmp_path / f"{name}.yaml").unlink()


def test_each_real_file_is_read_once(tmp_path):
    (tmp_path / "a.yaml").write_text(route("a"))
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    (tmp_path / "loop").symlink_to(".")
    loaded = load([str(tmp_path), str(tmp_path / "a.yaml"), str(tmp_path)])
    assert list(loaded.resources) == [key("a")] and loaded.problems == []


@pytest.mark.parametrize("text", [
    route("a") + "---\n" + route("b"),
    "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        "- " + route(name).replace("\n", "\n  ").rstrip() + "\n" for name in "ab"),
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRouteList\nitems:\n- metadata: {name: a}\n  spec: {}\n"
    "- {metadata: {name: b}, spec: {}}\n",
    '{"apiVersion":"v1","kind":"List","items":[\n%s,\n%s]}' % tuple(
        msgspec.json.encode(msgspec.yaml.decode(route(name))).decode() for name in "ab"),
    "\n".join(msgspec.json.encode(msgspec.yaml.decode(route(name))).decode() for name in "ab"),
    "\n".join(msgspec.json.format(msgspec.json.encode(msgspec.yaml.decode(route(name)))).decode() for name in "ab"),
    "\ufeff" + route("a") + "...\n---\n" + route("b"),
    "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {}}\n---\n" + route("b"),
], ids=["documents", "List", "HTTPRouteList", "JSON List", "JSON lines", "JSON stream", "BOM", "flow"])
def test_forms_of_several(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    loaded = load([str(tmp_path)])
    assert set(loaded.resources) == {key("a"), key("b")} and loaded.problems == []
    assert loaded.resources[key("b")].spec.rules[0].matches[0].path.value == "/"
    lines = text.split("\n")
    first, second = (loaded.resources[key(name)].source.line for name in "ab")
    assert first < second and lines[second - 1].strip()


def test_yaml_and_json_give_the_same_resource(tmp_path):
    text = route("a") + "  hostnames: [a.b]\n  parentRefs: [{name: g, port: 80}]\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(msgspec.yaml.decode(text.replace("name: a", "name: b"))))
    left, right = load([str(tmp_path)]).resources.values()
    assert left.spec == right.spec


def test_metadata_is_filled(tmp_path):
    (tmp_path / "x.yaml").write_text("""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c, namespace: ignored}
spec: {controllerName: a.b/c}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps, labels: {a: b}}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: r, namespace: apps, uid: x, generation: 7, creationTimestamp: 2024-01-02T03:04:05Z}
spec: {}
status: {parents: [{anything: 1}]}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: ""}
data: {a: !!str aGk=}
stringData: {b: there}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}, nodeName: x}]
ports: [{port: 80}]
""")
    found = load([str(tmp_path)]).resources
    assert set(found) == {("GatewayClass", "", "c"), ("Namespace", "", "apps"), ("HTTPRoute", "apps", "r"),
                          ("Secret", "default", "s"), ("EndpointSlice", "default", "e")}
    assert found["Namespace", "", "apps"].metadata.labels == {"a": "b", "kubernetes.io/metadata.name": "apps"}
    assert found["Secret", "default", "s"].data == {"a": b"hi", "b": b"there"}
    item = found["HTTPRoute", "apps", "r"]
    assert item.api_version == "gateway.networking.k8s.io/v1" and item.metadata.generation == 7
    assert item.metadata.creation_timestamp.isoformat() == "2024-01-02T03:04:05+00:00"
    assert found["EndpointSlice", "default", "e"].endpoints[0].conditions.ready is True


def test_base64_may_be_wrapped(tmp_path):
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: |\n    aGkg\n    aGk=\n"
    (tmp_path / "x.yaml").write_text(text)
    (secret,) = load([str(tmp_path)]).resources.values()
    assert secret.data == {"a": b"hi hi"}


# ---- What is wrong, and where

WRONG = {
    "field": (route("a").replace("value: /", "value: a"),
              [("x.yaml", 8, "spec.rules[0].matches[0].path.value", "Invalid")]),
    "second document": (route("a") + "---\n" + route("b", "//"),
                        [("x.yaml", 17, "spec.rules[0].matches[0].path.value", "Invalid")]),
    "item of a List": ("kind: List\nitems:\n- " + route("a", "x").replace("\n", "\n  "),
                       [("x.yaml", 10, "spec.rules[0].matches[0].path.value", "Invalid")]),
    "item of a JSON List": (
        '{"kind":"List","items":[\n{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute",\n'
        '"metadata":{"name":"a"},\n"spec":{"hostnames":["ok",\n"B"]}}]}',
        [("x.yaml", 5, "spec.hostnames[1]", "Invalid")]),
    "missing": ("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n"
                "  gatewayClassName: c\n", [("x.yaml", 4, "spec.listeners", "Invalid")]),
    "no name": ("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {}\nspec: {}\n",
                [("x.yaml", 3, "metadata.name", "Invalid")]),
    "no kind": ("apiVersion: v1\nmetadata: {}\n", [("x.yaml", 1, "kind", "Invalid")]),
    "no apiVersion": ("\n\nkind: HTTPRoute\n", [("x.yaml", 3, "apiVersion", "Invalid")]),
    "syntax": (route("a") + "---\nb: [1\n", [("x.yaml", 11, "", "Unreadable")]),
    "duplicate key": (route("a") + "  rules: []\n", [("x.yaml", 9, "", "Unreadable")]),
    "not a mapping": ("- a\n", [("x.yaml", 1, "", "Unreadable")]),
    "JSON": ('{"apiVersion": "v1",\n "kind": }', [("x.yaml", 2, "", "Unreadable")]),
    "JSON duplicate": ('{"apiVersion": "v1", "kind": "Secret", "kind": "Secret"}', [("x.yaml", 1, "", "Unreadable")]),
    "not UTF-8": ("apiVersion: v1\nkind: \udcff\n", [("x.yaml", 2, "", "Unreadable")]),
    "two documents of one text": (route("a") + "---\n" + route("a"), []),
}


@pytest.mark.parametrize("text, expected", WRONG.values(), ids=WRONG)
def test_problem_has_the_line_of_the_field(tmp_path, text, expected):
    (tmp_path / "x.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert problems(load([str(tmp_path)])) == expected


@pytest.mark.parametrize("name, reason", [("absent.yaml", "No such file"), ("secret.yaml", "Permission"),
                                          ("pipe", "not a regular file")])
def test_unreadable_path_is_a_problem(tmp_path, name, reason):
    path = tmp_path / name
    if name == "secret.yaml":
        path.write_text(route("a"))
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    if name == "pipe":
        os.mkfifo(path)
    (problem,) = load([str(path)]).problems
    assert problem.severity == "error" and reason in problem.message and problem.source.file == str(path)


def test_duplicates_name_both_places(tmp_path):
    (tmp_path / "a.yaml").write_text(route("a", "/one") + "---\n" + route("b"))
    (tmp_path / "b.yaml").write_text("# x\n" + route("b", "/two") + "---\n" + route("a", "/one"))
    loaded = load([str(tmp_path)])
    assert path_of(loaded.resources[key("b")]) == "/"
    (same, other) = loaded.problems
    assert (same.severity, same.source.line, same.resource) == ("warning", 11, "HTTPRoute default/a")
    assert (other.severity, other.source.line, other.resource) == ("error", 2, "HTTPRoute default/b")
    assert f"{tmp_path}/a.yaml:10" in other.message


def test_duplicate_of_what_is_invalid_is_used_and_said_to_be(tmp_path):
    (tmp_path / "a.yaml").write_text(route("a", "no-slash"))
    (tmp_path / "b.yaml").write_text(route("a", "/two"))
    loaded = load([str(tmp_path)])
    assert path_of(loaded.resources[key("a")]) == "/two"
    (invalid, duplicate) = loaded.problems
    assert invalid.message.endswith(f"; {tmp_path}/b.yaml:1 is used")
    assert duplicate.message == f"is already written at {tmp_path}/a.yaml:1, which is invalid"


@pytest.mark.parametrize("wrong, meant", [("backendRef: []", "backendRefs"), ("match: []", "matches"), ("x: 1", "")])
def test_unknown_field_is_an_error_with_a_guess(folder, wrong, meant):
    """As for kubectl: what it stands in is not taken, and what serves stays."""
    text = route("a") + f"    {wrong}\n"
    for before in (set(), {key("a")}):
        loaded = folder.write(a=text)
        (problem,) = loaded.problems
        assert (problem.severity, problem.reason) == ("error", "UnknownField")
        guess = f"unknown field, did you mean {meant}?" if meant else "unknown field"
        assert problem.message == guess + ("; the last good version keeps serving" if before else "")
        assert set(loaded.resources) == before
        folder.write(a=route("a"))


OPEN = {
    "metadata": ("HTTPRoute", "gateway.networking.k8s.io/v1", "{name: a, label: {a: b}}", "spec: {}", "metadata.label", "labels"),
    "a Service": ("Service", "v1", "{name: a}", "spec: {port: [{port: 80}]}", "spec.port", "ports"),
    "its port": ("Service", "v1", "{name: a}", "spec: {ports: [{port: 80, targetport: 1}]}", "spec.ports[0].targetport", "targetPort"),
    "a slice": ("EndpointSlice", "discovery.k8s.io/v1", "{name: a}", "addressType: IPv4\nendpoint: []", "endpoint", "endpoints"),
    "an endpoint": ("EndpointSlice", "discovery.k8s.io/v1", "{name: a}",
                    "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], condition: {ready: false}}]", "endpoints[0].condition",
                    "conditions"),
    "its conditions": ("EndpointSlice", "discovery.k8s.io/v1", "{name: a}",
                       "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {redy: false}}]",
                       "endpoints[0].conditions.redy", "ready"),
    "a Secret": ("Secret", "v1", "{name: a}", "stringdata: {a: b}", "stringdata", "stringData"),
    "a ConfigMap": ("ConfigMap", "v1", "{name: a}", "dat: {a: b}", "dat", "data"),
}


@pytest.mark.parametrize("kind, api, metadata, rest, field, meant", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_unknown_field_where_not_every_field_counts(tmp_path, kind, api, metadata, rest, field, meant, form):
    text = f"apiVersion: {api}\nkind: {kind}\nmetadata: {metadata}\n{rest}\n"
    if form == "json":
        text = msgspec.json.encode(msgspec.yaml.decode(text)).decode()
    (tmp_path / f"a.{form}").write_text(text)
    loaded = load([str(tmp_path)])
    assert [(each.field, each.severity, each.message) for each in loaded.problems] == [
        (field, "error", f"unknown field, did you mean {meant}?")]
    assert loaded.resources == {}


def test_what_kubectl_gets_has_no_unknown_fields(tmp_path):
    """Everything that an API server adds to what a gateway looks at."""
    (tmp_path / "a.yaml").write_text("""
apiVersion: v1
kind: Service
metadata:
  name: s
  uid: x
  resourceVersion: "1"
  selfLink: /x
  generateName: s-
  deletionTimestamp: 2024-01-02T03:04:05Z
  deletionGracePeriodSeconds: 1
  ownerReferences: [{kind: X, name: x}]
  finalizers: [a/b]
  managedFields: [{manager: kubectl, fieldsV1: {f:spec: {}}}]
spec:
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1]
  externalIPs: []
  externalTrafficPolicy: Cluster
  allocateLoadBalancerNodePorts: true
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  sessionAffinity: None
  publishNotReadyAddresses: true
  trafficDistribution: PreferClose
  loadBalancerClass: a/b
  type: LoadBalancer
  ports: [{name: http, port: 80, nodePort: 30000, targetPort: 8080, protocol: TCP, appProtocol: http}]
status: {loadBalancer: {ingress: []}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP, appProtocol: http}]
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: true, serving: true, terminating: false}
  hints: {forZones: [{name: a}]}
  hostname: a
  nodeName: b
  zone: c
  targetRef: {kind: Pod, name: p}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
immutable: true
data: {}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps}
spec: {finalizers: [kubernetes]}
status: {phase: Active}
""")
    loaded = load([str(tmp_path)])
    assert loaded.problems == [] and len(loaded.resources) == 4


def test_order_of_paths_decides(tmp_path):
    (tmp_path / "a.yaml").write_text(route("a", "/one"))
    (tmp_path / "b.yaml").write_text(route("a", "/two"))
    assert path_of(load([str(tmp_path / "b.yaml"), str(tmp_path / "a.yaml")]).resources[key("a")]) == "/two"


# ---- Again


def test_what_did_not_change_is_the_same_object(folder):
    first = folder.write(x="---\n".join(route(name) for name in "abc"))
    assert first.added == {key("a"), key("b"), key("c")}
    second = folder.write(x="---\n".join((route("a"), "# new\n" + route("b", "/b"), route("c"), route("d"))))
    assert (second.added, second.changed, second.removed) == ({key("d")}, {key("b")}, set())
    assert second.resources[key("a")] is first.resources[key("a")]
    assert second.resources[key("c")] is first.resources[key("c")]
    assert second.resources[key("b")] is not first.resources[key("b")]
    assert [second.resources[key(name)].metadata.generation for name in "abcd"] == [1, 2, 1, 1]
    assert [second.resources[key(name)].source.line for name in "abcd"] == [1, 11, 20, 29]
    third = folder.write(x=route("c"))
    assert third.removed == {key("a"), key("b"), key("d")} and third.resources[key("c")] is first.resources[key("c")]


def test_equal_references_are_one_object(tmp_path):
    """40,000 routes that name a few hundred Services hold a few hundred references."""
    spec = ("{parentRefs: [{name: gw}], rules: [{backendRefs: [{name: a, port: 80}], matches: [{headers: [{name: x, value: is}]}],"
            " filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: is}]}}]}]}")
    for name in ("one", "two"):
        head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
        (tmp_path / f"{name}.yaml").write_text(f"{head}metadata: {{name: {name}, namespace: apps}}\nspec: {spec}\n")
    one, two = (load([str(tmp_path)]).resources[Key("HTTPRoute", "apps", name)] for name in ("one", "two"))
    assert one.spec.parent_refs is two.spec.parent_refs and one.metadata.namespace is two.metadata.namespace
    for first, second in zip(one.spec.rules, two.spec.rules, strict=True):
        assert first.backend_refs is second.backend_refs and first.filters is second.filters
        assert first.matches[0].headers is second.matches[0].headers
        assert plan_matches(first)[0] is plan_matches(second)[0]


def test_comments_and_order_change_nothing(folder):
    first = folder.write(x=route("a"))
    second = folder.write(x="# a comment\n" + route("a").replace("value: /", "value: '/'"))
    assert second.resources[key("a")] is first.resources[key("a")] and not second.changed
    assert second.resources[key("a")].source.line == 2


def test_moving_to_another_file_changes_nothing_but_the_place(folder):
    first = folder.write(x=route("a"), z=route("z"))
    second = folder.write(x=None, y="\n" + route("a"))
    assert not second.added | second.changed | second.removed
    assert second.resources[key("a")] is first.resources[key("a")]
    assert second.resources[key("a")].source.file.endswith("y.yaml") and second.resources[key("a")].source.line == 2


def test_labels_change_the_object_but_not_the_generation(folder):
    folder.write(x=route("a"))
    second = folder.write(x=route("a").replace("name: a", "name: a\n  labels: {x: z}"))
    assert second.changed == {key("a")} and second.resources[key("a")].metadata.generation == 1


def test_items_of_a_list_stay_the_same(folder):
    def text(paths):
        return '{"kind":"List","items":[' + ",\n".join(
            msgspec.json.encode(msgspec.yaml.decode(route(name, path))).decode() for name, path in paths.items()) + "]}"

    first = folder.write(x=text({"a": "/", "b": "/", "c": "/"}))
    second = folder.write(x=text({"new": "/", "a": "/", "b": "/b", "c": "/"}))
    assert (second.added, second.changed) == ({key("new")}, {key("b")})
    assert second.resources[key("c")] is first.resources[key("c")]
    assert [second.resources[key(name)].source.line for name in ("new", "a", "b", "c")] == [1, 2, 3, 4]


def test_file_that_was_removed_takes_its_resources(folder):
    folder.write(x=route("a"), y=route("b"))
    second = folder.write(y=None)
    assert set(second.resources) == {key("a")} and second.removed == {key("b")}


def test_files_that_do_not_matter_cause_no_work(folder, tmp_path):
    folder.write(x=route("a"))
    (tmp_path / "x.yaml").write_text(route("a", "/new"))
    for name in (".x.yaml.swp", "notes.txt", "x.yaml~", "4913"):
        assert not folder.loader.load({str(tmp_path / name)}).changed
    assert folder.loader.load({str(tmp_path / "x.yaml"), str(tmp_path / ".x.yaml.swp")}).changed == {key("a")}


def test_change_within_one_tick_of_the_clock_is_seen(tmp_path):
    """Same size, same time, same file: only a second look can tell, so a file read right after its change gets one."""
    path = tmp_path / "x.yaml"
    path.write_text(route("a", "/one"))
    loader = Loader([str(tmp_path)])
    loader.load()
    before = path.stat()
    with path.open("r+") as file:
        file.write(route("a", "/two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert loader.load().changed == {key("a")}


# ---- The last good version


def test_invalid_change_keeps_the_last_good_version(folder):
    first = folder.write(x=route("a", "/good") + "---\n" + route("b"))
    second = folder.write(x=route("a", "bad") + "---\n" + route("b", "/b"))
    assert second.resources[key("a")] is first.resources[key("a")] and second.changed == {key("b")}
    assert problems(second) == [("x.yaml", 8, "spec.rules[0].matches[0].path.value", "Invalid")]
    assert second.problems[0].message.endswith("; the last good version keeps serving")
    third = folder.write(x=route("a", "/better") + "---\n" + route("b", "/b"))
    assert third.problems == [] and third.changed == {key("a")}
    assert third.resources[key("a")].metadata.generation == 2


def test_invalid_from_the_start_is_not_there(folder):
    first = folder.write(x=route("a", "bad"))
    assert first.resources == {} and "last good" not in first.problems[0].message


def test_invalid_resource_that_is_taken_away_is_gone(folder):
    folder.write(x=route("a") + "---\n" + route("b"))
    folder.write(x=route("a", "bad") + "---\n" + route("b"))
    third = folder.write(x=route("b"))
    assert set(third.resources) == {key("b")} and third.problems == []


def test_file_that_cannot_be_parsed_keeps_all_that_it_held(folder):
    first = folder.write(x=route("a") + "---\n" + route("b"), y=route("c"))
    second = folder.write(x=route("a", "/new") + "---\n" + route("b").replace("spec:", "spec: ["))
    assert set(second.resources) == set(first.resources) and second.changed == {key("a")}
    assert second.resources[key("b")] is first.resources[key("b")]
    assert "last good version" in second.problems[0].message
    third = folder.write(x="}")
    assert set(third.resources) == set(first.resources) and not third.changed
    fourth = folder.write(x=route("a"))
    assert set(fourth.resources) == {key("a"), key("c")} and fourth.removed == {key("b")} and fourth.problems == []


def test_named_file_that_vanishes_keeps_what_it_held(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(route("a"))
    loader = Loader([str(path)])
    first = loader.load()
    path.unlink()
    second = loader.load({str(path)})
    assert second.resources == first.resources and "No such file" in second.problems[0].message
    path.write_text(route("a", "/new"))
    third = loader.load()
    assert third.changed == {key("a")} and third.problems == []


def test_folder_that_vanishes_keeps_what_it_held(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.yaml").write_text(route("a"))
    loader = Loader([str(tmp_path / "d")])
    first = loader.load()
    (tmp_path / "d").rename(tmp_path / "e")
    second = loader.load()
    assert second.resources == first.resources and len(second.problems) == 1
    (tmp_path / "e").rename(tmp_path / "d")
    third = loader.load()
    assert third.resources == first.resources and third.problems == []


def test_duplicate_takes_over_when_the_first_goes(folder):
    folder.write(x=route("a", "/one"), y=route("a", "/two"))
    second = folder.write(x=None)
    assert path_of(second.resources[key("a")]) == "/two" and second.changed == {key("a")} and second.problems == []
    third = folder.write(x=route("a", "/three"))
    assert path_of(third.resources[key("a")]) == "/three"
    assert problems(third) == [("y.yaml", 1, "metadata.name", "Duplicate")]


def test_controller_name_is_immutable(folder):
    text = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\n" \
        "spec: {controllerName: a.b/%s}\n"
    first = folder.write(x=text % "one")
    second = folder.write(x=text % "two")
    (problem,) = second.problems
    assert (problem.field, problem.message) == (
        "spec.controllerName", "Value is immutable; the last good version keeps serving")
    assert second.resources == first.resources
    assert folder.write(x=text % "one").problems == []


def test_old_route_follows_its_gateways(folder):
    """Routes of networking.x-k8s.io change when the Gateways that select them do, and only then."""
    old = "apiVersion: networking.x-k8s.io/v1alpha1\n"
    gateway = old + "kind: Gateway\nmetadata: {name: %s}\nspec:\n  gatewayClassName: c\n  listeners:\n" \
        "  - {protocol: HTTP, port: 80, routes: {kind: HTTPRoute}}\n"
    text = old + "kind: HTTPRoute\nmetadata: {name: r}\nspec: {rules: [{forwardTo: [{serviceName: s, port: 80}]}]}\n"
    first = folder.write(g=gateway % "g", r=text)
    assert [ref.name for ref in first.resources[key("r")].spec.parent_refs] == ["g"]
    second = folder.write(h=gateway % "h")
    assert [ref.name for ref in second.resources[key("r")].spec.parent_refs] == ["g", "h"]
    assert second.changed == {key("r")}
    assert second.resources[key("g", "Gateway")] is first.resources[key("g", "Gateway")]
    third = folder.write(r="\n" + text)
    assert third.resources[key("r")] is second.resources[key("r")] and third.resources[key("r")].source.line == 2
    fourth = folder.write(r=None)
    assert fourth.removed == {key("r")}


# ---- What cannot be read


def dangle(path):
    path.rename(path.with_name(f".{path.name}"))
    path.symlink_to("nowhere")


def loop(path):
    path.rename(path.with_name(f".{path.name}"))
    path.symlink_to(path.name)


def fifo(path):
    path.rename(path.with_name(f".{path.name}"))
    os.mkfifo(path)


def listen(path):
    path.rename(path.with_name(f".{path.name}"))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def go(path):
    path.rename(path.with_name(f".{path.name}"))


def come_back(path):
    if os.path.lexists(path):
        path.unlink()
    path.with_name(f".{path.name}").rename(path)


OBSTACLES = {
    "a folder becomes a link to nowhere": ("conf/sub", dangle, "it is a link to nowhere, where nothing is"),
    "a folder becomes a link to itself": ("conf/sub", loop, "Too many levels of symbolic links"),
    "a folder with the name of a file": ("conf/sub.yaml", dangle, "it is a link to nowhere, where nothing is"),
    "a file becomes a link to nowhere": ("conf/a.yaml", dangle, "it is a link to nowhere, where nothing is"),
    "a file becomes a link to itself": ("conf/a.yaml", loop, "Too many levels of symbolic links"),
    "a file becomes a FIFO": ("conf/a.yaml", fifo, "not a regular file"),
    "a file becomes a socket": ("conf/a.yaml", listen, "No such device or address"),
    "the folder goes": ("conf", go, "No such file or directory"),
    "the folder becomes a link to itself": ("conf", loop, "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("name, put, why", OBSTACLES.values(), ids=OBSTACLES)
@pytest.mark.parametrize("told", [True, False], ids=["told", "found"])
@pytest.mark.parametrize("given", ["absolute", "relative", "relative/"])
def test_what_cannot_be_read_keeps_serving(tmp_path, monkeypatch, name, put, why, told, given):
    monkeypatch.chdir(tmp_path)
    for file in ("a", "sub/b", "sub.yaml/c"):
        path = tmp_path / "conf" / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(route(file[-1]))
    path = tmp_path / name
    loader = Loader([{"absolute": str(tmp_path / "conf"), "relative": "conf", "relative/": "conf/"}[given]])
    before = loader.load()
    assert len(before.resources) == 3 and not before.problems and not before.unreadable
    put(path)
    for _ in range(2):
        loaded = loader.load({str(path)} if told else None)
        assert loaded.resources == before.resources and not loaded.added | loaded.changed | loaded.removed
        (problem,) = loaded.problems
        assert (problem.severity, problem.reason) == ("error", "Unreadable")
        assert os.path.abspath(problem.source.file) == str(path)
        assert problem.message.startswith(f"cannot be read: {why}")
        assert "; the last good version" in problem.message or name == "conf/sub.yaml"
        assert loaded.unreadable == ((str(path), why),) == ((str(path), obstacle(str(path))),)
    other = tmp_path / "conf" / "d.yaml"
    if other.parent.is_dir():  # something else changes meanwhile
        other.write_text(route("d"))
        loaded = loader.load({str(other)})
        assert loaded.added == {key("d")} and not loaded.removed and len(loaded.problems) == 1
        other.unlink()
        assert loader.load({str(other)}).removed == {key("d")}
    come_back(path)
    loaded = loader.load({str(path)} if told else None)
    assert loaded.resources == before.resources and not loaded.added | loaded.changed | loaded.removed
    assert not loaded.problems and not loaded.unreadable


@pytest.mark.parametrize("put, name", [(os.mkfifo, "new.yaml"), (dangle, "new.yaml"), (dangle, "new"), (loop, "new")])
def test_an_obstacle_that_held_nothing_is_told_until_it_goes(tmp_path, put, name):
    (tmp_path / "a.yaml").write_text(route("a"))
    loader = Loader([str(tmp_path)])
    loader.load()
    path = tmp_path / name
    if put is not os.mkfifo:
        path.mkdir()
    put(path)
    for changed in ({str(path)}, None):
        (problem,) = loader.load(changed).problems
        assert (problem.severity, problem.source.file) == ("error", str(path))
        assert "last good" not in problem.message
    path.unlink()
    assert loader.load({str(path)}).problems == []


def test_what_is_removed_below_an_obstacle_goes_when_it_is_seen(tmp_path):
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    for file in ("a", "b"):
        (tmp_path / "conf" / "sub" / f"{file}.yaml").write_text(route(file))
    loader = Loader([str(tmp_path / "conf")])
    loader.load()
    path = tmp_path / "conf" / "sub"
    dangle(path)
    assert not loader.load().removed
    come_back(path)
    (path / "b.yaml").unlink()
    assert loader.load({str(path)}).removed == {key("b")}
    dangle(path)
    loader.load()
    path.unlink()
    assert loader.load({str(path)}).removed == {key("a")}


def test_permissions_that_go_and_come_back(as_nobody):
    """A folder that may not be listed, one in which names may not be looked up, and a file that may not be read."""
    folder = as_nobody
    (folder / "sub").mkdir()
    for file in ("a", "sub/b"):
        (folder / f"{file}.yaml").write_text(route(file[-1]))
    loader = Loader([str(folder)])
    before = loader.load()
    for name, mode in (("sub", 0o000), ("sub", 0o444), ("sub", 0o111), ("a.yaml", 0o000), (".", 0o000), (".", 0o444)):
        path = folder / name
        usual = path.stat().st_mode
        path.chmod(mode)
        if name == "a.yaml":
            assert loader.load({str(path)}).unreadable  # nobody reads a file that has not changed
        loaded = loader.load()
        path.chmod(usual)
        assert loaded.resources == before.resources and not loaded.removed, (name, mode)
        (problem,) = loaded.problems
        assert problem.severity == "error" and problem.message.startswith("cannot be read: Permission denied; the last good")
        assert [path for path, _ in loaded.unreadable] == [str(path)]
        loaded = loader.load({str(path)})
        assert not loaded.problems and loaded.resources == before.resources


@pytest.fixture
def as_nobody():
    """A folder of a user to whom permissions mean something; root ignores them."""
    with tempfile.TemporaryDirectory() as name:
        if os.getuid() == 0:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield pathlib.Path(name)
        finally:
            os.seteuid(os.getuid())


def test_a_file_that_goes_while_the_folder_is_read_is_gone(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(route(name))
    loader = Loader([str(tmp_path)])
    loader.load()
    path = tmp_path / "a.yaml"
    path.write_text(route("a", "/new"))
    monkeypatch.setattr(files, "opened", lambda name: (path.unlink(missing_ok=True), open(name, "rb"))[1])
    loaded = loader.load()
    assert loaded.removed == {key("a")} and loaded.problems == [] and not loaded.unreadable
    monkeypatch.undo()
    path.write_text(route("a"))
    assert loader.load({str(path)}).added == {key("a")}


def test_a_file_that_grows_while_it_is_read_keeps_what_it_held(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text(route("a"))
    loader = Loader([str(tmp_path)])
    loader.load()
    path.write_text(route("a", "/half"))
    regular = files._regular

    def grow(file):
        info = regular(file)
        with path.open("a") as more:
            more.write("# more\n")
        return info
    monkeypatch.setattr(files, "_regular", grow)
    loaded = loader.load()
    assert path_of(loaded.resources[key("a")]) == "/" and not loaded.changed
    assert "it is being written; the last good version" in loaded.problems[0].message
    assert loaded.unreadable == ((str(path), "it is being written"),)
    monkeypatch.undo()
    loaded = loader.load({str(path)})
    assert path_of(loaded.resources[key("a")]) == "/half" and not loaded.problems


@pytest.mark.parametrize("field", ["-source", "-fault", "-content", "-unread"])
@pytest.mark.parametrize("name, write", [("a.yaml", lambda document: json.dumps(document, indent=1)), ("a.json", json.dumps)])
def test_what_gwfast_alone_says_of_a_resource_cannot_be_written(tmp_path, name, write, field):
    """Where a resource is from, and what a file held that it names, are no fields of a document."""
    document = {"apiVersion": "gwfast.dev/v1alpha1", "kind": "CertificateFile", "metadata": {"name": "c"},
                "spec": {"certificate": "/a.pem", "key": "/b.pem"},
                field: {"-source": {"file": "elsewhere.yaml", "line": 7}, "-fault": ["a", "b"]}.get(field, {"/a.pem": "Zm9v"})}
    (tmp_path / name).write_text(write(document))
    found = load([str(tmp_path)])
    assert [(each.field, each.reason) for each in found.problems] == [(field, "UnknownField")]
    assert found.problems[0].source.file == str(tmp_path / name)
