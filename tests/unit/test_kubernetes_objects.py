"""Objects of an API server become the resources that files with the same content are."""
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))

from support.failing import Bug, failing, steps

from gwfast.config import model as m
from gwfast.config.load import load
from gwfast.config.versions import OLD_GROUP, lookup
from gwfast.graph.attach import attach
from gwfast.graph.conditions import problems
from gwfast.kubernetes.api import CORE, NAMES, Kind, plural
from gwfast.kubernetes.objects import Objects
from gwfast.plan.build import build

G, X = m.GATEWAY_GROUP, m.EXPERIMENTAL_GROUP


def kind(group, name, version="v1", **more):
    ours = lookup(f"{group}/{version}".lstrip("/"), name).kind
    return Kind(group, name, version, plural(name), ours.namespaced, ours.kind, **more)


ROUTES = kind(G, "HTTPRoute", status=True)
SETS, OLD_SETS = kind(G, "ListenerSet"), kind(X, "XListenerSet", "v1alpha1", rank=1)


def item(kind, name, spec=None, *, namespace="shop", generation=1, **more):
    """What `Objects.take` gets: the object as a list has it, without apiVersion and kind."""
    metadata = {"name": name, "generation": generation, "uid": "u", "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}],
                "creationTimestamp": "2026-01-02T03:04:05Z", **more.pop("metadata", {})}
    if kind.namespaced:
        metadata["namespace"] = namespace
    body = {"metadata": metadata, **more} | ({"spec": spec} if spec is not None else {})
    return {(kind.names, (namespace if kind.namespaced else "", name)): (kind, json.dumps(body).encode())}


def gone(kind, name, namespace="shop"):
    return {(kind.names, (namespace, name)): (kind, None)}


def route(path="/", **more):
    return {"parentRefs": [{"name": "gw"}], "rules": [{"matches": [{"path": {"value": path}}],
                                                       "backendRefs": [{"name": "cart", "port": 80}]} | more]}


KEY = m.Key("HTTPRoute", "shop", "web")


def test_an_object_is_what_a_file_says(tmp_path):
    objects = Objects()
    objects.take(item(ROUTES, "web", route("/a"), status={"parents": [{"anything": 1}]}))
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"apiVersion": f"{G}/v1", "kind": "HTTPRoute", "metadata": {
        "name": "web", "namespace": "shop"}, "spec": route("/a")}))
    loaded = objects.loaded()
    assert loaded.added == {KEY} and not loaded.problems
    assert loaded.resources[KEY].spec == load([str(file)]).resources[KEY].spec
    assert loaded.resources[KEY].metadata.generation == 1
    assert loaded.resources[KEY].metadata.creation_timestamp.year == 2026
    assert loaded.resources[KEY].status is None


def test_what_says_the_same_stays_the_same_object():
    objects = Objects()
    objects.take(item(ROUTES, "web", route()))
    before = objects.loaded().resources[KEY]
    assert objects.take(item(ROUTES, "web", route(), metadata={"resourceVersion": "8", "managedFields": []})) == set()
    assert objects.loaded().resources[KEY] is before
    objects.take(item(ROUTES, "web", route(), generation=2))  # the status says which generation it is about
    after = objects.loaded()
    assert after.changed == {KEY} and after.resources[KEY].metadata.generation == 2


@pytest.mark.parametrize("more", [{"metadata": {"labels": {"a": "b"}}}, {"metadata": {"annotations": {"a": "b"}}}])
def test_labels_and_annotations_count(more):
    objects = Objects()
    objects.take(item(ROUTES, "web", route()))
    objects.loaded()
    objects.take(item(ROUTES, "web", route(), **more))
    assert objects.loaded().changed == {KEY}


def test_what_kubectl_wrote_for_itself_is_not_kept():
    objects = Objects()
    last = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000}
    objects.take(item(ROUTES, "web", route(), metadata={"annotations": last | {"kept": "yes"}}))
    objects.take(item(ROUTES, "b", route(), metadata={"annotations": last}))
    resources = objects.loaded().resources
    assert resources[KEY].metadata.annotations == {"kept": "yes"}
    assert resources[KEY._replace(name="b")].metadata.annotations is m.NO_LABELS


def test_fields_of_a_newer_bundle_are_told_once():
    objects = Objects()
    spec = route(newThing={"a": 1})
    objects.take(item(ROUTES, "web", spec) | item(ROUTES, "b", spec) | item(ROUTES, "c", spec | {"another": 1}))
    loaded = objects.loaded()
    assert [str(each) for each in loaded.problems] == [
        "HTTPRoute shop/c: warning: spec.another: this version of gwfast does not know this field of HTTPRoute, it is ignored "
        "wherever it is (UnknownField)",
        "HTTPRoute shop/web: warning: spec.rules[].newThing: this version of gwfast does not know this field of HTTPRoute, it is "
        "ignored wherever it is (UnknownField)",
    ]
    assert len(loaded.resources) == 3 and loaded.failed == 0
    objects.take(item(ROUTES, "web", route()) | gone(ROUTES, "b") | item(ROUTES, "c", route()))
    assert objects.loaded().problems == []


def test_a_route_that_is_wrong_says_so_and_serves_nothing():
    objects = Objects()
    objects.take(item(ROUTES, "web", route("/a")))
    objects.loaded()
    wrong = route("/b") | {"hostnames": ["NO"]}
    objects.take(item(ROUTES, "web", wrong, generation=2) | item(ROUTES, "new", wrong))
    loaded = objects.loaded()
    assert loaded.changed == {KEY} and loaded.failed == 2 and not loaded.problems  # the graph tells of them
    resource = loaded.resources[KEY]
    assert resource.fault[0] == "spec.hostnames[0]" and "'NO' is not allowed" in resource.fault[1]
    assert (resource.spec.rules, resource.spec.hostnames, resource.metadata.generation) == ((), (), 2)
    gateway = m.Gateway(metadata=m.ObjectMeta(name="gw", namespace="shop"), spec=m.GatewaySpec(
        gateway_class_name="any", listeners=(m.Listener(name="web", protocol="HTTP", port=80),)))
    graph = attach(loaded.resources | {gateway.key: gateway})
    condition = graph.routes[KEY].parents[0].conditions[0]
    assert (condition.type, condition.status, condition.reason, condition.observed_generation) == (
        "Accepted", "False", "UnsupportedValue", 2)
    assert [(each.resource, each.field) for each in problems(graph)] == [
        ("HTTPRoute shop/new", "spec.hostnames[0]"), ("HTTPRoute shop/web", "spec.hostnames[0]")]
    assert build(graph).binds[0].listeners[0].hosts == ()
    objects.take(gone(ROUTES, "web") | item(ROUTES, "new", route()))
    loaded = objects.loaded()
    assert loaded.removed == {KEY} and loaded.failed == 0 and loaded.resources[KEY._replace(name="new")].fault is None


def test_what_is_wrong_and_no_route_is_not_there():
    objects, gateways = Objects(), kind(G, "Gateway")
    good = {"gatewayClassName": "any", "listeners": [{"name": "web", "protocol": "HTTP", "port": 80}]}
    objects.take(item(gateways, "gw", good))
    objects.loaded()
    objects.take(item(gateways, "gw", good | {"listeners": []}, generation=2))
    loaded = objects.loaded()
    assert loaded.removed == {m.Key("Gateway", "shop", "gw")} and loaded.failed == 1
    assert [str(each) for each in loaded.problems] == [
        "Gateway shop/gw: error: spec.listeners: must have at least 1 items, has 0 (Invalid)"]


def test_rules_of_several_fields_hold_without_a_server_that_knows_them():
    objects = Objects()
    objects.take(item(ROUTES, "web", route(filters=[{"type": "RequestRedirect"}])))
    assert "filter.requestRedirect must be specified" in objects.loaded().resources[KEY].fault[1]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"metadata": 1}', b'{"metadata": {"name": 7}}', b"\xff", b"null",
                                 b'{"spec": ' + b"[" * 100_000])
@pytest.mark.parametrize("served", [ROUTES, OLD_SETS, CORE[0]], ids=lambda kind: kind.name)
def test_nothing_is_raised(raw, served):
    objects = Objects()
    objects.take({(served.names, ("shop", "web")): (served, raw)})
    loaded = objects.loaded()
    assert loaded.resources == {} and loaded.failed == 1
    assert loaded.problems and all("web" in each.resource for each in loaded.problems)


@pytest.mark.parametrize("field", ["labels", "annotations", "creationTimestamp"])
def test_null_is_what_is_not_given(field):
    objects = Objects()
    objects.take(item(ROUTES, "web", route(), metadata={field: None, "futureMetadata": 1}))
    loaded = objects.loaded()
    assert KEY in loaded.resources and not loaded.problems


def listeners(port):
    return {"parentRef": {"name": "gw"}, "listeners": [{"name": "a", "protocol": "HTTP", "port": port}]}


def test_a_kind_has_had_other_names():
    objects, key = Objects(), m.Key("ListenerSet", "shop", "web")

    def ports():
        found = objects.loaded()
        return [found.resources[key].spec.listeners[0].port] if key in found.resources else [], [
            each.reason for each in found.problems]
    objects.take(item(OLD_SETS, "web", listeners(81)))
    assert ports() == ([81], [])
    objects.take(item(SETS, "web", listeners(82)))
    assert ports() == ([82], ["Duplicate"])
    objects.take(item(OLD_SETS, "web", listeners(83)))
    assert ports() == ([82], ["Duplicate"])
    objects.take(gone(SETS, "web"))
    assert ports() == ([83], [])
    objects.take(item(OLD_SETS, "web", listeners(84)))
    assert ports() == ([84], [])
    objects.take(gone(OLD_SETS, "web"))
    assert ports() == ([], [])


def test_routes_that_old_gateways_select():
    objects = Objects()
    gateways, routes = kind(OLD_GROUP, "Gateway", "v1alpha1", rank=2), kind(OLD_GROUP, "HTTPRoute", "v1alpha1", rank=2)
    objects.take(item(gateways, "gw", {"gatewayClassName": "x", "listeners": [
        {"port": 80, "protocol": "HTTP", "routes": {"kind": "HTTPRoute", "selector": {"matchLabels": {"app": "web"}}}}]}))
    objects.take(item(routes, "web", {"rules": [{"forwardTo": [{"serviceName": "cart", "port": 80}]}]},
                      metadata={"labels": {"app": "web"}}))
    resource = objects.loaded().resources[KEY]
    assert [(ref.name, ref.section_name) for ref in resource.spec.parent_refs] == [("gw", "listener-0")]


def test_core_kinds_are_known_by_the_way_they_are_spelt():
    assert {each.collection() for each in CORE} == {
        "/api/v1/namespaces", "/api/v1/services", "/api/v1/secrets", "/api/v1/configmaps"}
    assert ROUTES.object("shop", "web") == f"/apis/{G}/v1/namespaces/shop/httproutes/web"
    assert kind(G, "GatewayClass").object("", "gwfast") == f"/apis/{G}/v1/gatewayclasses/gwfast"
    assert {plural(name) for group, name in NAMES if group == G} >= {
        "gatewayclasses", "backendtlspolicies", "referencegrants", "referencepolicies", "tlsroutes", "listenersets"}


VERSIONS = st.one_of(
    st.none(), st.just({"hostnames": ["NO"]}), st.builds(lambda path: route(path), st.sampled_from(["/a", "/b"])))
EVENTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), VERSIONS, st.booleans()), max_size=12)


@given(EVENTS)
def test_any_sequence_of_objects_is_its_end(events):
    """What was taken change by change, in any bites, is what is taken at once, and so is what is said to be wrong."""
    objects, end, bite = Objects(), {}, {}
    for generation, (name, spec, load_now) in enumerate(events, 1):
        change = gone(ROUTES, name) if spec is None else item(ROUTES, name, spec, generation=generation)
        bite |= change
        if spec is None:
            end.pop(name, None)
        else:
            end[name] = change
        if load_now:
            objects.take(bite)
            objects.loaded()
            bite = {}
    objects.take(bite)
    fresh = Objects()
    for change in end.values():
        fresh.take(change)
    found, expected = objects.loaded(), fresh.loaded()
    assert {key: (each.spec, each.metadata.generation) for key, each in found.resources.items()} == {
        key: (each.spec, each.metadata.generation) for key, each in expected.resources.items()}
    assert found.problems == expected.problems


@pytest.mark.parametrize("kind", [ROUTES, OLD_SETS], ids=lambda each: each.name)
def test_wherever_it_fails_on_one_object_the_others_are_taken(kind):
    """Each function that gets the object, or what is made of it, fails on its second version."""
    spec = {"HTTPRoute": route, "XListenerSet": lambda text: {
        "parentRef": {"name": "gw"}, "listeners": [{"name": text.strip("/"), "port": 80, "protocol": "HTTP"}]}}[kind.name]
    first, second, third = (item(kind, "web", spec(text), generation=number) for number, text in enumerate(("/a", "/b", "/c"), 1))
    key = m.Key(kind.kind, "shop", "web")
    ((_, raw),) = second.values()

    def touches(thing):
        made = getattr(thing, "resource", thing)
        if isinstance(made, dict):
            return made.get("metadata", {}).get("generation") == 2
        return made is raw or getattr(made, "key", None) == key and made.metadata.generation == 2

    def take(objects, *pending):
        return objects.take(dict(pair for each in pending for pair in each.items()))

    objects = Objects()
    take(objects, first)
    found = steps(lambda: take(objects, second), touches, "gwfast.config", "gwfast.kubernetes")
    assert {"gwfast.config.read", "gwfast.kubernetes.objects"} <= {step.module for step in found}
    failed = 0
    for step in found:
        bugs = []
        objects = Objects(lambda *what, bugs=bugs: bugs.append(what))
        take(objects, first, item(ROUTES, "other", route("/1")))
        before = objects.loaded().resources[key]
        with failing(step, touches):
            touched = take(objects, second, item(ROUTES, "other", route("/2"), generation=2), item(ROUTES, "new", route("/n")))
        loaded = objects.loaded()
        assert {"other", "new"} <= {each.name for each in touched} and {each.name for each in loaded.added} == {"new"}
        served = loaded.resources[key]
        if not bugs and served.metadata.generation == 2:
            continue  # a table has the function as it was
        failed += 1
        assert [each for each, error in bugs if isinstance(error, Bug)] == [key] and len(bugs) == 1, step
        assert served is before or served.metadata.generation == 2, step
        problem = next(each for each in loaded.problems if each.reason == "InternalError")
        assert problem.resource == f"{kind.name} shop/web" and f"Bug: in {step}" in problem.message
        take(objects, third)
        loaded = objects.loaded()
        assert loaded.resources[key].metadata.generation == 3 and not loaded.problems
    assert failed > 8


def test_an_object_that_nobody_can_read_is_not_there_and_says_so(monkeypatch):
    from gwfast.kubernetes import objects as module

    def fail(*given):
        raise Bug
    monkeypatch.setattr(module, "read_object", fail)
    objects = Objects()
    objects.take(item(ROUTES, "web", route("/a")) | item(kind(G, "GatewayClass"), "gwfast", {}))
    assert {(each.resource, each.message.rpartition("; ")[2]) for each in objects.loaded().problems} == {
        ("HTTPRoute shop/web", "it is not served"), ("GatewayClass gwfast", "it is not served")}
    objects.take(gone(ROUTES, "web") | gone(kind(G, "GatewayClass"), "gwfast", ""))
    assert not objects.loaded().problems
