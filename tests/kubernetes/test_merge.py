"""A status as it stands and what we say, put together: tables, and properties that hold whatever stands."""
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwfast.config.model import Key
from gwfast.kubernetes.merge import ANCESTORS, CONDITIONS, PARENTS, Frame, joined, merged, patch, released

OURS, THEIRS = "gwfast.dev/gateway-controller", "example.net/other"
ROUTE, POLICY = Key("HTTPRoute", "a", "r"), Key("BackendTLSPolicy", "a", "p")
GATEWAY, CLASS, SET = Key("Gateway", "a", "g"), Key("GatewayClass", "", "c"), Key("ListenerSet", "a", "s")
THEN, NOW, LATER = "1970-01-01T00:00:00Z", "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"


def frame(key=ROUTE, now=NOW, generation=9, said=None) -> Frame:
    return Frame(key, OURS, now, generation, said)


def condition(type="Accepted", status="True", reason=None, message="", generation=9, since=None) -> dict:
    found = {"type": type, "status": status, "reason": reason or type, "message": message, "observedGeneration": generation}
    return found | ({"lastTransitionTime": since} if since else {})


def entry(ref="parentRef", name="g", controller=OURS, conditions=(), **more) -> dict:
    return {ref: {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name} | more,
            "controllerName": controller, "conditions": list(conditions)}


# ---- Conditions of a Gateway

DEFAULTS = [condition("Accepted", "Unknown", "Pending", "Waiting for controller", since=THEN) | {"observedGeneration": None},
            condition("Programmed", "Unknown", "Pending", "Waiting for controller", since=THEN) | {"observedGeneration": None}]
for each in DEFAULTS:
    del each["observedGeneration"]
FOREIGN = {"type": "example.net/Tested", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": THEN}


@pytest.mark.parametrize(("standing", "wanted", "expected"), [
    ([], [condition()], [condition(since=NOW)]),
    (DEFAULTS, [condition(), condition("Programmed")], [condition(since=NOW), condition("Programmed", since=NOW)]),
    ([condition(since=THEN)], [condition()], [condition(since=THEN)]),
    ([condition(since=THEN, generation=3)], [condition()], [condition(since=THEN)]),
    ([condition(since=THEN)], [condition(reason="ListenersNotValid", message="x")],
     [condition(reason="ListenersNotValid", message="x", since=THEN)]),
    ([condition(since=THEN)], [condition(status="False", reason="Invalid")], [condition(status="False", reason="Invalid", since=NOW)]),
    ([condition()], [condition()], [condition(since=NOW)]),
    ([FOREIGN, condition(since=THEN)], [condition()], [FOREIGN, condition(since=THEN)]),
    ([condition("Programmed", since=THEN), FOREIGN, condition(since=THEN)], [condition(), condition("Programmed")],
     [condition("Programmed", since=THEN), FOREIGN, condition(since=THEN)]),
    ([FOREIGN, condition("ResolvedRefs", since=THEN)], [condition()], [FOREIGN, condition(since=NOW)]),
    ([condition("InsecureFrontendValidationMode", since=THEN), condition(since=THEN)], [condition()], [condition(since=THEN)]),
], ids=["nothing stood", "the CRD's defaults", "the same", "a new generation", "another reason", "another status", "no time",
        "foreign first", "in their places", "no longer said", "no longer true"])
def test_conditions(standing, wanted, expected):
    found = merged(frame(GATEWAY), {"conditions": standing}, {"conditions": wanted, "listeners": []})
    assert found["conditions"] == expected


@pytest.mark.parametrize(("theirs", "own", "stays"), [(5, 9, True), (9, 9, True), (10, 9, False), (4, 9, False), (3, 9, False)])
def test_what_was_observed_at_a_later_generation_is_left(theirs, own, stays):
    """As long as it is not later than the object's own, which would be a mistake."""
    standing = condition("Accepted", "False", "Invalid", generation=theirs, since=THEN)
    found = merged(frame(GATEWAY, generation=own), {"conditions": [standing]}, {"conditions": [condition(generation=4)], "listeners": []})
    assert (found["conditions"] == [standing]) == stays
    if not stays:
        assert found["conditions"] == [condition(generation=4, since=NOW)]


def test_conditions_of_others_take_room_from_ours_and_not_the_other_way():
    others = [FOREIGN | {"type": f"example.net/T{n}"} for n in range(CONDITIONS - 1)]
    found = merged(frame(GATEWAY), {"conditions": others}, {"conditions": [condition(), condition("Programmed")], "listeners": []})
    assert found["conditions"] == [*others, condition(since=NOW)]


# ---- Gateways, ListenerSets and classes

def listener(name="http", attached=0, conditions=(), **more) -> dict:
    return {"name": name, "attachedRoutes": attached, "supportedKinds": [], "conditions": list(conditions)} | more


def test_listeners_are_those_that_are_said_and_keep_what_others_know_of_them():
    standing = {"listeners": [listener("old"), listener("http", 1, [FOREIGN, condition(since=THEN)], port=80)]}
    wanted = {"conditions": [condition()], "listeners": [listener("new", 0, [condition()]), listener("http", 2, [condition()])]}
    found = merged(frame(GATEWAY), standing, wanted)["listeners"]
    assert found == [listener("new", 0, [condition(since=NOW)]), listener("http", 2, [FOREIGN, condition(since=THEN)], port=80)]


def test_fields_that_are_not_ours_stay_and_are_not_in_the_patch():
    standing = {"conditions": DEFAULTS, "example": {"x": 1}, "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}]}
    wanted = {"conditions": [condition()], "listeners": [], "addresses": [], "attachedListenerSets": 0}
    found = merged(frame(GATEWAY), standing, wanted)
    assert found["example"] == {"x": 1}
    assert patch(standing, found) == {"conditions": [condition(since=NOW)], "addresses": [], "attachedListenerSets": 0}


def test_an_empty_list_is_not_written_where_none_stands():
    assert merged(frame(SET), {}, {"conditions": [condition()]}) == {"conditions": [condition(since=NOW)]}
    assert merged(frame(), {}, None) == {}


def test_a_class():
    wanted = {"conditions": [condition()], "supportedFeatures": [{"name": "Gateway"}]}
    assert merged(frame(CLASS), {"conditions": DEFAULTS[:1]}, wanted) == {
        "conditions": [condition(since=NOW)], "supportedFeatures": [{"name": "Gateway"}]}


def test_a_gateway_that_is_no_longer_ours_is_as_before_a_controller_came():
    standing = {"conditions": [condition(since=THEN), FOREIGN, condition("Programmed", since=THEN), condition("ResolvedRefs", since=THEN)],
                "addresses": [1], "listeners": [2], "attachedListenerSets": 3}
    found = released(frame(GATEWAY), standing)
    pending = {"status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "observedGeneration": 9,
               "lastTransitionTime": NOW}
    assert found == {"conditions": [{"type": "Accepted", **pending}, FOREIGN, {"type": "Programmed", **pending}]}
    assert patch(standing, found) == found | {"addresses": None, "listeners": None, "attachedListenerSets": None}
    assert released(frame(GATEWAY, now=LATER), found) == found


# ---- Entries of routes and policies

@pytest.mark.parametrize(("key", "ref", "name"), [(ROUTE, "parentRef", "parents"), (POLICY, "ancestorRef", "ancestors")])
def test_entries_of_others_stay_as_they_are_and_where_they_are(key, ref, name):
    theirs = [entry(ref, "x", THEIRS, [{"anything": 1}]), entry(ref, "g", THEIRS)]
    ours = entry(ref, "g", OURS, [condition(since=THEN)])
    standing = {name: [theirs[0], ours, theirs[1], entry(ref, "gone")]}
    wanted = {name: [entry(ref, "new", conditions=[condition()]), entry(ref, "g", conditions=[condition()])]}
    found = merged(frame(key), standing, wanted)
    assert found == {name: [theirs[0], ours, theirs[1], entry(ref, "new", conditions=[condition(since=NOW)])]}
    assert merged(frame(key), found, None) == {name: theirs}
    assert merged(frame(key), {name: [ours]}, None) == {name: []}


@pytest.mark.parametrize(("said", "same"), [
    ({"name": "g"}, True), ({"name": "g", "namespace": "a"}, True), ({"name": "g", "namespace": "b"}, False),
    ({"name": "g", "sectionName": "x"}, False), ({"name": "g", "port": 80}, False), ({"name": "g", "kind": "ListenerSet"}, False),
    ({"name": "g", "group": "gateway.networking.k8s.io", "kind": "Gateway"}, True), ({"name": "other"}, False),
], ids=str)
def test_references_are_the_same_with_what_the_api_has_as_default(said, same):
    standing = {"parents": [{"parentRef": {"name": "g"}, "controllerName": OURS, "conditions": [condition(since=THEN)]}]}
    wanted = {"parents": [{"parentRef": said, "controllerName": OURS, "conditions": [condition()]}]}
    found = merged(frame(), standing, wanted)["parents"]
    assert len(found) == 1
    assert found[0]["parentRef"] == said
    assert found[0]["conditions"][0]["lastTransitionTime"] == (THEN if same else NOW)


@pytest.mark.parametrize(("key", "ref", "name", "most"), [
    (ROUTE, "parentRef", "parents", PARENTS), (POLICY, "ancestorRef", "ancestors", ANCESTORS)])
def test_there_are_never_more_entries_than_the_api_takes(key, ref, name, most):
    theirs = [entry(ref, f"x{n}", THEIRS) for n in range(most - 2)]
    wanted = {name: [entry(ref, f"g{n}", conditions=[condition()]) for n in range(5)]}
    found = merged(frame(key), {name: theirs}, wanted)
    assert [one[ref]["name"] for one in found[name][-2:]] == ["g0", "g1"]
    assert len(found[name]) == most
    assert merged(frame(key, LATER), found, wanted) == found


def test_one_of_two_with_our_name_takes_away_what_it_said_itself():
    standing = {"parents": [entry(name="another's", conditions=[condition(since=THEN)]), entry(name="left", conditions=[condition(since=THEN)])]}
    said = {"parents": [entry(name="left")]}
    assert merged(frame(said={}), standing, None) == standing
    assert [one["parentRef"]["name"] for one in merged(frame(said=said), standing, None)["parents"]] == ["another's"]
    wanted = {"parents": [entry(name="here", conditions=[condition()])]}
    found = merged(frame(said=said), standing, wanted)["parents"]
    assert [one["parentRef"]["name"] for one in found] == ["another's", "here"]


def test_what_was_said_lately_is_joined():
    assert joined(None, {"parents": [1]}) == {"parents": [1]}
    assert joined({"parents": [1]}, {"parents": [2]}) == {"parents": [1, 2]}
    assert joined({"conditions": [1]}, {"conditions": [2], "listeners": []}) == {"conditions": [2], "listeners": []}


# ---- Whatever stands

types = st.sampled_from(["Accepted", "ResolvedRefs", "PartiallyInvalid", "Programmed", "example.net/Tested", "Ready"])
statuses = st.sampled_from(["True", "False", "Unknown"])
texts = st.sampled_from(["", "a", "b"])


def conditions_of(types, since=st.none()):
    made = st.builds(lambda type, status, reason, generation, time: condition(type, status, reason or "R", generation=generation, since=time),
                     types, statuses, texts, st.integers(0, 9), since)
    return st.lists(made, max_size=4, unique_by=lambda one: one["type"])


names = st.sampled_from(["g", "h", "i"])
extra = st.sampled_from([{}, {"sectionName": "x"}, {"namespace": "a"}, {"port": 80}])
standing_entries = st.lists(st.builds(
    lambda name, controller, conditions, more: entry(name=name, controller=controller, conditions=conditions, **more),
    names, st.sampled_from([OURS, THEIRS]), conditions_of(types, st.sampled_from([THEN, None])), extra), max_size=6)
said_entries = st.lists(st.builds(
    lambda name, conditions, more: entry(name=name, conditions=conditions, **more),
    names, conditions_of(st.sampled_from(["Accepted", "ResolvedRefs", "PartiallyInvalid"])), extra), max_size=4)
junk = st.recursive(st.none() | st.integers(0, 3) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["parents", "conditions", "listeners", "parentRef", "controllerName", "type", "name"]), inner, max_size=3), max_leaves=12)


def foreign(status) -> list:
    return [one for one in status.get("parents", ()) if one["controllerName"] != OURS]


@given(standing_entries, st.lists(st.none() | said_entries, min_size=1, max_size=5))
def test_entries_of_others_survive_any_sequence(standing, sequence):
    status = {"parents": standing}
    for n, said in enumerate(sequence):
        status = merged(frame(now=f"2026-01-01T00:00:0{n}Z"), status, None if said is None else {"parents": said})
        assert foreign(status) == foreign({"parents": standing})
        ours = [one for one in status["parents"] if one["controllerName"] == OURS]
        refs = [json.dumps(one["parentRef"], sort_keys=True) for one in ours]
        assert len(refs) == len(set(refs))
        assert (len(ours) > 0) == bool(said)


@given(standing_entries, said_entries)
def test_saying_the_same_twice_writes_nothing(standing, said):
    once = merged(frame(), {"parents": standing}, {"parents": said})
    assert patch(once, merged(frame(now=LATER), once, {"parents": said})) == {}


@given(standing_entries, said_entries)
def test_nothing_that_is_given_is_changed(standing, said):
    before = json.dumps([standing, said])
    merged(frame(), {"parents": standing}, {"parents": said})
    assert json.dumps([standing, said]) == before


@given(conditions_of(types, st.sampled_from([THEN, None])), conditions_of(st.sampled_from(["Accepted", "Programmed", "ResolvedRefs"])))
def test_a_condition_is_as_old_as_its_status(standing, wanted):
    before = {one["type"]: one for one in standing}
    found = merged(frame(GATEWAY, generation=0), {"conditions": standing}, {"conditions": wanted, "listeners": []})["conditions"]
    said = {one["type"]: one for one in wanted}
    for one in found:
        old, new = before.get(one["type"], {}), said.get(one["type"])
        if new is None:
            assert one == old
            continue
        kept = old.get("status") == new["status"] and old.get("lastTransitionTime")
        assert one == new | {"lastTransitionTime": kept or NOW}
    assert said.keys() <= {one["type"] for one in found}
    assert [one["type"] for one in found if one["type"] in before] == [one["type"] for one in standing if one in found or one["type"] in said]


@given(junk, st.sampled_from([ROUTE, POLICY, GATEWAY, SET, CLASS]), st.booleans())
def test_whatever_stands_is_no_error(standing, key, says):
    standing = standing if isinstance(standing, dict) else {"parents": standing, "conditions": standing, "listeners": standing}
    wanted = {"conditions": [condition()], "listeners": [listener(conditions=[condition()])], "parents": [entry(conditions=[condition()])],
              "ancestors": [entry("ancestorRef", conditions=[condition()])]} if says else None
    once = merged(frame(key), standing, wanted)
    assert patch(once, merged(frame(key, LATER), once, wanted)) == {}
    if key in (GATEWAY, SET):
        released(frame(key), standing)
