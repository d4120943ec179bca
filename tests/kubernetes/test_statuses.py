"""What the status of each object should be, and what a change costs."""
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("unit", ""))

from support import pki
from graph_cases import edited, resources

from gwfast.config.load import load
from gwfast.config.model import Key
from gwfast.graph.attach import Attacher, attach
from gwfast.graph.model import GraphOptions
from gwfast.kubernetes.merge import MANAGED
from gwfast.kubernetes.statuses import ADDRESSES, KINDS, MESSAGE, Assigned, Statuses, View

OURS = "gwfast.dev/gateway-controller"
OPTIONS = GraphOptions(controller_name=OURS, strict_services=True)
SAYS = Statuses(OURS)
WORLD = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: ours, generation: 3}}
spec: {{controllerName: {OURS}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: theirs}}
spec: {{controllerName: example.net/other}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, generation: 7}}
spec:
  gatewayClassName: ours
  allowedListeners: {{namespaces: {{from: Same}}}}
  listeners: [{{name: web, protocol: HTTP, port: 80}}, {{name: more, protocol: HTTP, port: 81}}, {{name: odd, protocol: ODD, port: 82}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: t}}
spec: {{gatewayClassName: theirs, listeners: [{{name: web, protocol: HTTP, port: 90}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: s, generation: 2}}
spec: {{parentRef: {{name: g}}, listeners: [{{name: extra, protocol: HTTP, port: 83}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, generation: 5}}
spec:
  parentRefs: [{{name: g, sectionName: web}}, {{name: t}}, {{name: s, kind: ListenerSet}}, {{name: nobody}}]
  rules: [{{backendRefs: [{{name: b, port: 80}}], filters: [{{type: ExtensionRef, extensionRef: {{group: gwfast.dev, kind: PythonFilter, name: f}}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: elsewhere}}
spec: {{parentRefs: [{{name: t}}], rules: [{{}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: p, generation: 4}}
spec: {{targetRefs: [{{group: "", kind: Service, name: b}}], validation: {{hostname: b.example, wellKnownCACertificates: System}}}}
---
apiVersion: gwfast.dev/v1alpha1
kind: BackendPolicy
metadata: {{name: h}}
spec: {{targetRefs: [{{group: "", kind: Service, name: b}}]}}
---
apiVersion: gwfast.dev/v1alpha1
kind: PythonFilter
metadata: {{name: f, generation: 6}}
spec: {{module: x, class: X}}
---
apiVersion: v1
kind: Service
metadata: {{name: b}}
spec: {{ports: [{{port: 80}}]}}
"""
CLASS, THEIR_CLASS = Key("GatewayClass", "", "ours"), Key("GatewayClass", "", "theirs")
GATEWAY, THEIRS, SET = Key("Gateway", "default", "g"), Key("Gateway", "default", "t"), Key("ListenerSet", "default", "s")
ROUTE, ELSEWHERE = Key("HTTPRoute", "default", "r"), Key("HTTPRoute", "default", "elsewhere")
TLS_POLICY, OWN_POLICY = Key("BackendTLSPolicy", "default", "p"), Key("BackendPolicy", "default", "h")
FILTER = Key("PythonFilter", "default", "f")
READY = Assigned(addresses=(("IPAddress", "10.0.0.1"), ("Hostname", "lb.example")))


def view(found=None, assigned=READY, bundle="1.6.1", **more) -> View:
    graph = attach(found or resources(WORLD), OPTIONS)
    return View(graph=graph, assigned={GATEWAY: assigned} if assigned else {}, bundle=bundle, channel="standard", **more)


def words(owner) -> dict[str, str]:
    return {one["type"]: f"{one['status']}/{one['reason']}@{one['observedGeneration']}" for one in owner["conditions"]}


def test_a_class():
    status = SAYS.status(view(), CLASS)
    assert words(status) == {"Accepted": "True/Accepted@3", "SupportedVersion": "True/SupportedVersion@3"}
    names = [one["name"] for one in status["supportedFeatures"]]
    assert names == sorted(names) and "HTTPRoute" in names and "GatewayInfrastructurePropagation" not in names
    owns = Statuses(OURS, infrastructure=True).status(view(), CLASS)
    assert {"name": "GatewayInfrastructurePropagation"} in owns["supportedFeatures"]
    newer = SAYS.status(view(bundle="1.9.0"), CLASS)
    assert words(newer) == {"Accepted": "True/Accepted@3", "SupportedVersion": "False/UnsupportedVersion@3"}
    assert "1.9.0" in newer["conditions"][1]["message"]
    assert "supportedFeatures" not in SAYS.status(view(bundle="1.3.0"), CLASS)


def test_a_gateway():
    status = SAYS.status(view(), GATEWAY)
    assert words(status) == {
        "Accepted": "True/ListenersNotValid@7", "Programmed": "True/Programmed@7", "ResolvedRefs": "True/ResolvedRefs@7"}
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.0.0.1"}, {"type": "Hostname", "value": "lb.example"}]
    assert status["attachedListenerSets"] == 1
    assert [(one["name"], one["attachedRoutes"]) for one in status["listeners"]] == [("web", 1), ("more", 0), ("odd", 0)]
    assert status["listeners"][0]["supportedKinds"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}, {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute"}]
    assert status["listeners"][2]["supportedKinds"] == []
    assert words(status["listeners"][0]) == {
        "Accepted": "True/Accepted@7", "Programmed": "True/Programmed@7", "ResolvedRefs": "True/ResolvedRefs@7",
        "Conflicted": "False/NoConflicts@7"}
    assert "attachedListenerSets" not in SAYS.status(view(bundle="1.4.1"), GATEWAY)


def test_a_listener_set_of_old_crds_names_ports():
    """XListenerSet (v1.3, v1.4) requires them."""
    assert [one.get("port") for one in SAYS.status(view(bundle="1.4.1"), SET)["listeners"]] == [83]
    assert "port" not in SAYS.status(view(), SET)["listeners"][0]


@pytest.mark.parametrize(("assigned", "reason"), [
    (None, "Pending"), (Assigned(ready=False, reason="AddressNotAssigned", message="no address"), "AddressNotAssigned"),
    (Assigned(ready=False, reason="AddressNotUsable", message="taken"), "AddressNotUsable"),
], ids=["not assigned yet", "no address", "an address of another"])
def test_a_gateway_is_programmed_when_it_is_served(assigned, reason):
    seen = view(assigned=assigned)
    status, of_set = SAYS.status(seen, GATEWAY), SAYS.status(seen, SET)
    assert words(status) == {"Accepted": "True/ListenersNotValid@7", "Programmed": f"False/{reason}@7", "ResolvedRefs": "True/ResolvedRefs@7"}
    assert [words(one)["Programmed"] for one in status["listeners"]] == ["False/Pending@7", "False/Pending@7", "False/Invalid@7"]
    assert all(words(one)["Accepted"] == "True/Accepted@7" for one in status["listeners"][:2])
    assert words(of_set) == {"Accepted": "True/Accepted@2", "Programmed": f"False/{reason}@2"}
    assert words(of_set["listeners"][0])["Programmed"] == "False/Pending@2"
    if assigned:
        assert status["conditions"][1]["message"] == assigned.message
        assert assigned.message in status["listeners"][0]["conditions"][1]["message"]


def test_listeners_that_are_not_served():
    some = view(assigned=msgspec.structs.replace(READY, unserved=(("default/g/web", "port 80 is taken"),)))
    status = SAYS.status(some, GATEWAY)
    assert words(status)["Programmed"] == "True/Programmed@7"
    assert words(status["listeners"][0])["Programmed"] == "False/PortUnavailable@7"
    assert words(status["listeners"][1])["Programmed"] == "True/Programmed@7"
    every = tuple((identity, "taken") for identity in ("default/g/web", "default/g/more", "default/s/extra"))
    none = view(assigned=msgspec.structs.replace(READY, unserved=every))
    assert words(SAYS.status(none, GATEWAY))["Programmed"] == "False/AddressNotUsable@7"
    assert words(SAYS.status(none, SET))["Programmed"] == "False/AddressNotUsable@2"
    assert words(SAYS.status(none, SET)["listeners"][0])["Programmed"] == "False/PortUnavailable@2"


def test_a_route_has_an_entry_for_each_parent_that_is_ours():
    status = SAYS.status(view(), ROUTE)
    assert [(one["parentRef"]["kind"], one["parentRef"]["name"], one["controllerName"]) for one in status["parents"]] == [
        ("Gateway", "g", OURS), ("ListenerSet", "s", OURS)]
    assert status["parents"][0]["parentRef"] == {
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "sectionName": "web"}
    assert words(status["parents"][0]) == {"Accepted": "True/Accepted@5", "ResolvedRefs": "True/ResolvedRefs@5"}


def test_policies():
    for key, expected in ((TLS_POLICY, {"Accepted": "True/Accepted@4", "ResolvedRefs": "True/ResolvedRefs@4"}),
                          (OWN_POLICY, {"Accepted": "True/Accepted@1"}), (FILTER, {"Accepted": "True/Accepted@6"})):
        [ancestor] = SAYS.status(view(), key)["ancestors"]
        assert ancestor["ancestorRef"] == {
            "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "g"}
        assert ancestor["controllerName"] == OURS
        assert words(ancestor) == expected


@pytest.mark.parametrize("key", [THEIR_CLASS, THEIRS, ELSEWHERE, Key("HTTPRoute", "default", "none"), Key("Service", "default", "b"),
                                 Key("BackendPolicy", "x", "y")], ids=str)
def test_what_is_not_ours_has_no_status(key):
    assert SAYS.status(view(), key) is None


def test_bounds():
    found = resources(WORLD)
    many = Assigned(addresses=tuple(("IPAddress", f"10.0.0.{n}") for n in range(20)), ready=False, message="x" * (MESSAGE + 9))
    status = SAYS.status(view(found, many), GATEWAY)
    assert len(status["addresses"]) == ADDRESSES
    assert len(status["conditions"][1]["message"]) == MESSAGE
    assert all(len(each["message"]) <= MESSAGE for one in status["listeners"] for each in one["conditions"])


def test_every_type_of_condition_is_one_that_is_managed():
    """One that nobody takes away would stay for ever."""
    seen = set()
    folder = Path(__file__).parents[1] / "golden"
    for file in folder.glob("*.in.yaml"):
        loaded = load_text(pki.filled(file.read_text()))
        graph = Attacher(GraphOptions()).attach(loaded)
        says = View(graph=graph, bundle="1.6.1")
        for key in SAYS.all(says):
            status = SAYS.status(says, key) or {}
            entries = [*status.get("parents", ()), *status.get("ancestors", ())]
            seen |= {("Entry", each["type"]) for one in entries for each in one["conditions"]}
            seen |= {("Listener", each["type"]) for one in status.get("listeners", ()) for each in one["conditions"]}
            seen |= {(key.kind, each["type"]) for each in status.get("conditions", ())}
    assert not {(kind, type) for kind, type in seen if type not in MANAGED[kind]}
    assert {("Gateway", "ResolvedRefs"), ("Listener", "OverlappingTLSConfig"), ("Entry", "PartiallyInvalid")} <= seen


def load_text(text):
    import tempfile
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return load([file.name]).resources


# ---- What changes

def test_everything_is_new_at_first():
    seen = view()
    keys = list(SAYS.changed(None, seen))
    assert keys[:3] == [CLASS, GATEWAY, SET]
    assert set(keys) == {CLASS, GATEWAY, SET, ROUTE, ELSEWHERE, TLS_POLICY, OWN_POLICY, FILTER}


def test_a_route_costs_a_route():
    found = resources(WORLD)
    attacher = Attacher(OPTIONS)
    before = View(graph=attacher.attach(found), bundle="1.6.1")
    found[ROUTE] = edited(found[ROUTE], rules=())
    now = View(graph=attacher.attach(found), bundle="1.6.1")
    changed = SAYS.changed(before, now)
    assert CLASS not in changed and ELSEWHERE not in changed
    assert {ROUTE, GATEWAY, SET} <= changed.keys()
    again = View(graph=attacher.attach(found), bundle="1.6.1")
    assert SAYS.changed(now, again) == {}


def test_what_was_assigned_and_the_bundle():
    graph = attach(resources(WORLD), OPTIONS)
    first = View(graph=graph, bundle="1.6.1")
    assert set(SAYS.changed(first, View(graph=graph, assigned={GATEWAY: READY}, bundle="1.6.1"))) == {GATEWAY, SET}
    assert set(SAYS.changed(first, View(graph=graph, bundle="1.7.0"))) == {CLASS, GATEWAY, SET}
    assert SAYS.changed(first, View(graph=graph, assigned={}, bundle="1.6.1")) == {}


def test_what_has_gone_is_among_the_changes():
    found = resources(WORLD)
    attacher = Attacher(OPTIONS)
    before = View(graph=attacher.attach(found))
    found[CLASS] = msgspec.structs.replace(found[CLASS], spec=msgspec.structs.replace(found[CLASS].spec, controller_name="x.y/z"))
    now = View(graph=attacher.attach(found))
    changed = SAYS.changed(before, now)
    assert {CLASS, GATEWAY, SET, ROUTE, TLS_POLICY, OWN_POLICY, FILTER} <= changed.keys()
    assert [SAYS.status(now, key) for key in changed] == [None] * len(changed)


STEPS = st.lists(st.tuples(st.sampled_from(["drop", "add", "edit", "assign", "bundle"]), st.integers(0, 40)), min_size=1, max_size=12)


@settings(max_examples=60)
@given(STEPS)
def test_changes_of_any_sequence_lead_where_a_fresh_start_does(steps):
    """Statuses that are renewed for the keys that changed alone are those of the end state."""
    every = resources(WORLD)
    found, attacher = dict(every), Attacher(OPTIONS)
    before, said, assigned, bundle = None, {}, {}, "1.6.1"
    for what, n in [*steps, ("assign", 0)]:
        key = sorted(every)[n % len(every)]
        if what == "drop":
            found.pop(key, None)
        elif what == "add":
            found[key] = every[key]
        elif what == "edit" and key in found:
            found[key] = edited(found[key])
        elif what == "assign":
            assigned = {GATEWAY: Assigned(ready=n % 2 == 0, message=str(n))}
        elif what == "bundle":
            bundle = ("1.4.1", "1.6.1", "1.7.0")[n % 3]
        now = View(graph=attacher.attach(found), assigned=assigned, bundle=bundle)
        for each in SAYS.changed(before, now):
            said[each] = SAYS.status(now, each)
        before = now
    fresh = View(graph=attach(found, OPTIONS), assigned=assigned, bundle=bundle)
    assert {key: status for key, status in said.items() if status is not None} == {
        key: status for key in SAYS.all(fresh) if (status := SAYS.status(fresh, key)) is not None}
    assert {key.kind for key in said} <= KINDS


# ---- XBackends whose Pods nobody finds

SELECTING = WORLD.replace("{{name: b, port: 80}}", "") + """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {name: x, generation: 4}
spec: {type: EndpointSelector, port: {number: 80}, endpointSelector: {matchLabels: {app: x}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-x}
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: x}]}]}
"""


def test_why_an_xbackend_has_no_pods_is_said_and_taken_back():
    key, graph = Key("XBackend", "default", "x"), attach(resources(SELECTING), OPTIONS)
    fine, wrong, other = (View(graph=graph, assigned={}, bundle="1.7.0", faults=faults) for faults in ({}, {key: "403"}, {key: "409"}))
    (ancestor,) = SAYS.status(fine, key)["ancestors"]
    assert words(ancestor) == {"Accepted": "True/Accepted@4"}
    (ancestor,) = SAYS.status(wrong, key)["ancestors"]
    assert words(ancestor) == {"Accepted": "False/Pending@4"} and ancestor["conditions"][0]["message"] == "403"
    for before, now in ((fine, wrong), (wrong, other), (other, fine)):
        assert list(SAYS.changed(before, now)) == [key]
    assert not SAYS.changed(wrong, wrong)
