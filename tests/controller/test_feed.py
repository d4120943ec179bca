"""Feeds: whatever happens, a fleet is told what its Gateways need, and nothing else."""
import json

import feed_world
import msgspec
import pytest
from feed_world import CONTROLLER, DATA_PLANE, FLEETS, meta, served, start, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.config import model as m
from gwfast.config.model import Key
from gwfast.controller.feed import EMPTY, Feeds
from gwfast.controller.wire import decode, encode, front_key
from gwfast.graph.attach import Attacher
from gwfast.sharing import Shards

CHOICES = st.sampled_from([FLEETS, {**FLEETS, Key("Gateway", "b", "g1"): served("two", 30000, filters=True)},
                           {Key("Gateway", "a", "g2"): served("three", 10000, filters=True)},
                           {**FLEETS, Key("Gateway", "a", "g2"): served("two", 10000, also="one")},  # it moves from one to the other
                           {Key("Gateway", "b", "g1"): served("one", 20000, filters=True, also="alone")}])


class Control:
    """A controller as far as feeds go: resources in, feeds out."""

    def __init__(self):
        self.attacher = Attacher(CONTROLLER)
        self.feeds = Feeds(self.attacher.resources)
        self.graph = None
        self.told = {}

    def update(self, resources, changed, gateways):
        self.graph = self.attacher.attach(resources, changed)
        news = self.feeds.update(self.graph, resources.keys() if changed is None else changed, gateways)
        for fleet, feed in news.items():
            if feed is None:
                del self.told[fleet]
            else:
                check_step(self.told.get(fleet, EMPTY), feed)
                self.told[fleet] = feed


def check_step(before, now):
    differ = {key for key in before.objects.keys() | now.objects.keys()
              if before.objects.get(key) is not now.objects.get(key)}
    assert set(now.changed) == differ and now.number == before.number + 1
    for key, mark in now.marks.items():
        assert mark == now.number or before.marks[key] == mark and key not in differ


def fresh(resources, gateways):
    control = Control()
    control.update(resources, None, gateways)
    return control


def texts(feed):
    return {key: encode(one) for key, one in feed.objects.items()}


def changed_by(resources, what, step):
    now = dict(resources)
    for one in step:
        if what == "put":
            now[one.key] = one
        else:
            now.pop(one.key, None)
    return now


@settings(max_examples=150)
@given(steps, st.lists(CHOICES, min_size=8, max_size=8))
def test_feeds_of_changes_are_feeds_of_the_end(steps, choices):
    control, resources = Control(), start()
    control.update(resources, None, FLEETS)
    for (what, step), gateways in zip(steps, choices, strict=False):
        resources = changed_by(resources, what, step)
        control.update(resources, {one.key for one in step}, gateways)
        wanted = fresh(resources, gateways).told
        assert {fleet: texts(feed) for fleet, feed in control.told.items()} == {
            fleet: texts(feed) for fleet, feed in wanted.items()}
        assert {fleet: feed.version for fleet, feed in control.told.items()} == {
            fleet: feed.version for fleet, feed in wanted.items()}
        for fleet, feed in control.told.items():
            check_isolation(fleet, feed, resources, control.graph, gateways)
            check_verdicts(fleet, feed, control.graph, gateways)
    control.update({}, resources.keys(), {})
    assert (control.told, control.feeds._leads, control.feeds._roots) == ({}, {}, {})
    assert not any(control.feeds._permissions.values())


# ---- Nothing of others: said once more, by hand


def check_isolation(fleet, feed, resources, graph, gateways):
    own = {key for key, served in gateways.items() if fleet in served.fleets and key in graph.gateways
           and (graph.gateways[key].accepted or graph.gateways[key].kept)}
    sets = {graph.listeners[one].owner for key in own for one in graph.gateways[key].listeners} - own
    routes = {key: node for key, node in graph.routes.items() if {one.gateway for one in node.parents if one.accepted} & own}
    have = {kind: {key for key in feed.objects if key.kind == kind} for kind in m_kinds()}
    assert have["Gateway"] == own & resources.keys() and have["ListenerSet"] == sets
    assert {key for kind in ("HTTPRoute", "TCPRoute") for key in have[kind]} == routes.keys()
    owners = [resources[key] for key in own | sets]
    assert have["Secret"] == {key for one in owners for key in secrets(one, resources)} & resources.keys()
    services = {key for one in routes for key in backends(resources[one], resources)}
    assert have["Service"] == (services & resources.keys()) | set(map(front_key, own))
    assert all(Key("Service", key.namespace, feed.objects[key].metadata.labels["kubernetes.io/service-name"]) in services
               for key in have["EndpointSlice"])
    for kind in ("BackendTLSPolicy", "XBackendTrafficPolicy"):
        assert all({Key("Service", key.namespace, one.name) for one in feed.objects[key].spec.target_refs} & services
                   for key in have[kind])
    labelled = {key.namespace for key, node in routes.items() for one in node.parents for identity in one.listeners
                if graph.listeners[identity].resource.allowed_routes.namespaces.from_ == "Selector"}
    chosen = {key.namespace for key in sets if (allowed := resources[graph.listener_sets[key].gateway].spec.allowed_listeners)
              and allowed.namespaces.from_ == "Selector"}
    assert {key.name for key in have["Namespace"]} == {name for name in labelled | chosen if Key("Namespace", "", name) in resources}
    assert not any(b'"annotations":{"' in encode(feed.objects[key]) for key in have["Namespace"])
    runs = [key for key, node in routes.items() if resources[key].kind == "HTTPRoute" and any(
                one.extension_ref for one in resources[key].spec.rules[0].filters) and all(gateways[one.gateway].filters for one in node.parents
                    if one.accepted and one.gateway in own)]
    filters = {Key("PythonFilter", key.namespace, "f") for key in runs} & resources.keys()
    maps = {key: Key("ConfigMap", key.namespace, "code") if resources[key].spec.config_map else None for key in filters}
    assert have["PythonFilter"] == {key for key, code in maps.items() if not code or code in resources and resources[key].spec.config_map.key == "k"}
    assert {key for key in have["ConfigMap"] if key.name == "code"} == {maps[key] for key in have["PythonFilter"]} - {None}


def m_kinds():
    return [kind.kind for kind in m.KINDS.values()]


def permitted(owner, kind, target, resources):
    """Whether somebody lets `owner` refer to `target`, by the letter of ReferenceGrant."""
    return owner.metadata.namespace == target.namespace or any(
        (source.group, source.kind, source.namespace) == (owner.group, owner.kind, owner.metadata.namespace)
        and (to.group, to.kind) == ("", kind) and to.name in (None, target.name)
        for one in resources.values() if one.kind == "ReferenceGrant" and one.metadata.namespace == target.namespace
        for source in one.spec.from_ for to in one.spec.to)


def secrets(owner, resources):
    for listener in owner.spec.listeners:
        for ref in listener.tls.certificate_refs if listener.tls else ():
            key = Key("Secret", ref.namespace or owner.metadata.namespace, ref.name)
            if permitted(owner, "Secret", key, resources):
                yield key


def backends(route, resources):
    for rule in route.spec.rules:
        mirrors = [one.request_mirror.backend_ref for one in getattr(rule, "filters", ()) if one.request_mirror]
        for ref in [*rule.backend_refs, *mirrors]:
            key = Key("Service", ref.namespace or route.metadata.namespace, ref.name)
            if permitted(route, "Service", key, resources):
                yield key


# ---- The same verdicts on the other side


def received(feed):
    """The resources of a feed as a data plane reads them."""
    found = {}
    for one in feed.objects.values():
        resource, wrong = decode(encode(one))
        assert resource is not None, wrong
        found[resource.key] = resource
    return found


def check_verdicts(fleet, feed, graph, gateways):
    theirs = Attacher(DATA_PLANE).attach(received(feed))
    for key in theirs.gateways:
        assert fleet in gateways[key].fleets
        kept = graph.gateways[key].kept  # for data planes there are no parameters: to them it is as good as any other
        assert theirs.gateways[key].accepted if kept else theirs.gateways[key].conditions == graph.gateways[key].conditions
        assert theirs.gateways[key].listeners == graph.gateways[key].listeners
    for identity, node in theirs.listeners.items():
        mine = graph.listeners[identity]
        shift = dict((port, target) for port, _, target in gateways[node.gateway].ports)
        assert node.target_port == shift[node.port]
        assert (node.tls, node.hostname, node.accepted) == (mine.tls, mine.hostname, mine.accepted)
        assert graph.gateways[node.gateway].kept or node.conditions == mine.conditions
        assert {(one.route.key, one.hostnames) for one in node.attachments} == {
            (one.route.key, one.hostnames) for one in mine.attachments}
    for key, node in theirs.routes.items():
        mine = graph.routes[key]
        if not any(led.extension for rule in mine.rules for led in rule.filter_targets):  # a filter that may not run here is not there
            refused = any(rule.refused for rule in mine.rules)  # of what may not run it knows nothing, so says less why
            words = (lambda one: (one.type, one.status)) if refused else (lambda one: one)
            assert accepted(node, words) == [one for one in accepted(mine, words) if one[0] in theirs.gateways]
        assert list(map(backends_of, node.rules)) == list(map(backends_of, mine.rules))
        for target in (one.target for rule in node.rules for one in rule.targets() if one.target):
            assert msgspec.structs.astuple(theirs.targets[target]) == msgspec.structs.astuple(graph.targets[target])


def accepted(node, words):
    return [(one.gateway, one.index, one.listeners, [*map(words, one.conditions)]) for one in node.parents if one.accepted]


def backends_of(rule):
    return [(one.index, one.weight, one.target, one.passed, one.traffic, one.status, one.reason, one.message) for one in rule.backends]


# ---- By hand


def test_what_is_encoded_is_what_is_there():
    for one in start().values():
        assert encode(decode(encode(one))[0]) == encode(one)
        assert json.loads(encode(one))["apiVersion"] == f"{one.group}/{one.version}".lstrip("/")


@pytest.mark.parametrize("one, told", [
    (m.HTTPRoute(metadata=meta("a", "r1", labels={"app": "x"}), spec=m.HTTPRouteSpec()), {}),
    (m.Namespace(metadata=meta("", "a", labels={"team": "x"})), {"team": "x"}),
    (m.EndpointSlice(metadata=meta("a", "v1-x", labels={"kubernetes.io/service-name": "v1", "app": "x"}), address_type="IPv4"),
     {"kubernetes.io/service-name": "v1"})], ids=lambda each: getattr(each, "kind", ""))
def test_labels_that_nothing_is_chosen_by_are_not_sent(one, told):
    assert json.loads(encode(one))["metadata"]["labels"] == told


def test_annotations_of_others_are_not_sent():
    one = start()[Key("Gateway", "a", "g1")]
    one.metadata.annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "gwfast.dev/proxy-protocol": "*"}
    assert json.loads(encode(one))["metadata"]["annotations"] == {"gwfast.dev/proxy-protocol": "*"}


def test_a_fleet_without_gateways_is_told_that_there_is_nothing():
    control, resources = Control(), start()
    graph = control.attacher.attach(resources, None)
    told = control.feeds.update(graph, resources.keys(), {}, ["idle"])
    assert told["idle"].version == EMPTY.version and not told["idle"].objects
    assert control.feeds.update(graph, (), {}, ["idle"]) == {} and control.feeds.update(graph, (), {}) == {"idle": None}


def test_who_writes_services_chooses_no_ports_of_data_planes():
    one = m.Service(metadata=meta("a", "v1", annotations={"gwfast.dev/gateway": "g1"}))
    assert b"gwfast.dev/gateway" not in encode(one)


def test_what_changes_nothing_that_is_sent_is_no_news():
    control, resources = Control(), start()
    control.update(resources, None, FLEETS)
    key = Key("Gateway", "a", "g1")
    again = msgspec.structs.replace(resources[key], metadata=meta("a", "g1", annotations={"note": "x"}))
    assert control.feeds.update(control.attacher.attach(resources | {key: again}, {key}), {key}, FLEETS) == {}


def test_a_listener_that_begins_to_ask_for_labels_brings_the_namespaces_of_its_routes():
    control, resources = Control(), start()
    key, space = Key("Gateway", "a", "g1"), Key("Namespace", "", "a")
    resources[key] = everybody(resources[key], feed_world.ANYWHERE)
    control.update(resources, None, FLEETS)
    assert space not in control.told["one"].objects
    control.update(resources | {key: everybody(resources[key], feed_world.LABELLED)}, {key}, FLEETS)
    assert space in control.told["one"].objects


def everybody(gateway, allowed):
    """The Gateway with listeners that all take routes by `allowed`."""
    listeners = tuple(msgspec.structs.replace(one, allowed_routes=allowed) for one in gateway.spec.listeners)
    return msgspec.structs.replace(gateway, spec=msgspec.structs.replace(gateway.spec, listeners=listeners))


@pytest.mark.parametrize("routes", [10, 400])
def test_one_route_costs_its_own_fleet_alone(routes):
    control, resources = Control(), start()
    for at in range(routes):
        one = m.HTTPRoute(metadata=meta("a", f"many{at}"), spec=m.HTTPRouteSpec(parent_refs=(
            m.ParentReference(name="g1"),), rules=(m.HTTPRouteRule(backend_refs=(m.HTTPBackendRef(name="v1", port=80),)),)))
        resources[one.key] = one
    control.update(resources, None, FLEETS)
    two, marks = control.told["two"], control.told["one"].marks
    one = msgspec.structs.replace(one, spec=m.HTTPRouteSpec(parent_refs=one.spec.parent_refs, hostnames=("x.test",)))
    resources[one.key] = one
    looked = []
    lead, control.feeds._lead = control.feeds._lead, lambda node: looked.append(node) or lead(node)
    control.update(resources, {one.key}, FLEETS)
    assert control.told["two"] is two
    assert control.told["one"].changed == (one.key,) and control.told["one"].marks == marks  # no Gateway waits for it
    assert len(looked) < 5 and isinstance(control.told["one"].objects, Shards)


# ---- Filters in Python, whose code is somebody's


def test_code_is_told_where_the_class_allows_it_and_nowhere_else():
    """The parameters decide, through the graph, whatever a fleet's Gateways are said to be."""
    options = msgspec.structs.replace(CONTROLLER, filters_by_class=True)
    allows = m.GatewayParameters(metadata=meta("a", "p"), spec=m.GatewayParametersSpec(python_filters=True))
    ref = m.ParametersReference(group="gwfast.dev", kind="GatewayParameters", name="p", namespace="a")
    resources = start() | {allows.key: allows}
    before = resources[Key("GatewayClass", "", "c")]
    attacher = Attacher(options)
    feeds = Feeds(attacher.resources)
    code, told = Key("ConfigMap", "a", "code"), EMPTY
    for parameters, text in ((None, "one"), (ref, "one"), (ref, "two"), (None, "two")):
        klass = msgspec.structs.replace(before, spec=msgspec.structs.replace(before.spec, parameters_ref=parameters))
        resources |= {klass.key: klass, code: m.ConfigMap(metadata=meta("a", "code"), data={"k": text})}
        graph = attacher.attach(resources)
        told = feeds.update(graph, resources.keys(), FLEETS).get("one", told)
        assert (Key("PythonFilter", "a", "f") in told.objects) == (code in told.objects) == (parameters is not None)
        if parameters is not None:
            assert told.objects[code].data == {"k": text}
        data_plane = Attacher(DATA_PLANE).attach(received(told))
        assert bool(data_plane.routes[Key("HTTPRoute", "a", "r2")].rules[0].filter_targets) == (parameters is not None)


# ---- What must not happen, and does not matter where it does


@pytest.mark.parametrize("name", ["a b", "", " ", "a/b", "../x", "%", "a b c d e f g"])
def test_names_that_nothing_can_have_lead_nowhere(name):
    """The definitions of the Gateway API let any text be the name of what is referred to."""
    control, resources = Control(), start()
    control.update(resources, None, FLEETS)
    for one in (feed_world.route("a", "odd", [("a", "g1", None)], name, "c"), feed_world.route("a", "odd2", [("a", "g1", None)], name, None)):
        resources[one.key] = one
    gateway = resources[Key("Gateway", "b", "g1")]
    tls = m.ListenerTLSConfig(certificate_refs=(m.SecretObjectReference(name=name, namespace="c"),))
    listeners = tuple(msgspec.structs.replace(one, tls=tls) if one.tls else one for one in gateway.spec.listeners)
    resources[gateway.key] = msgspec.structs.replace(gateway, spec=msgspec.structs.replace(gateway.spec, listeners=listeners))
    control.update(resources, {Key("HTTPRoute", "a", "odd"), Key("HTTPRoute", "a", "odd2"), gateway.key}, FLEETS)
    assert {Key("HTTPRoute", "a", "odd"), Key("HTTPRoute", "a", "r1")} <= control.told["one"].objects.keys()
    assert {fleet: texts(feed) for fleet, feed in control.told.items()} == {
        fleet: texts(feed) for fleet, feed in fresh(resources, FLEETS).told.items()}


@pytest.mark.parametrize("what", ["_lead", "_fleets_of", "_get", "_held"])
def test_an_update_that_fails_anywhere_has_told_nothing(what):
    """Wherever it fails, the next one tells what there is, as a change of what was told before the failure."""
    fails = 0
    while True:
        control, resources = Control(), start()
        control.update(resources, None, FLEETS)
        step = [feed_world.route("a", "r1", [("b", "g1", None)], "v2", None), feed_world.route("b", "new", [("a", "g2", None)], "v1", "c"),
                feed_world.grant("grant1", "b", "HTTPRoute", "Service")]
        gone, moved = Key("HTTPRoute", "b", "r2"), {**FLEETS, Key("Gateway", "a", "g2"): served("three", 30000)}
        resources = changed_by(resources, "put", step)
        del resources[gone]
        good, calls = getattr(control.feeds, what), 0

        def failing(*given, good=good, at=fails):
            nonlocal calls
            calls += 1
            if calls > at:
                raise ZeroDivisionError
            return good(*given)
        setattr(control.feeds, what, failing)
        told = dict(control.told)
        try:
            control.update(resources, {*(one.key for one in step), gone}, moved)
        except ZeroDivisionError:
            fails += 1
        else:
            break
        setattr(control.feeds, what, good)
        assert control.told == told
        control.update(resources, set(), moved)
        wanted = fresh(resources, moved).told
        assert {fleet: (feed.version, texts(feed)) for fleet, feed in control.told.items()} == {
            fleet: (feed.version, texts(feed)) for fleet, feed in wanted.items()}
    assert fails
