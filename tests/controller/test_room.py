"""Whose streams end for another one: a Pod has one, a fleet so many, and no namespace takes all of them."""
import pytest

from gwfast import limits
from gwfast.config.model import Autoscaling, GatewayParametersSpec, ObjectPatch
from gwfast.controller.fleet import Fleet
from gwfast.controller.room import Full, leaving, room_of
from gwfast.controller.standing import Peer


def peers(*names):
    """'fleet pod uid'"""
    return [Peer(f"{fleet}/f", pod=pod, pod_uid="" if uid == "-" else uid) for fleet, pod, uid in map(str.split, names)]


def test_a_pod_has_one_and_what_it_calls_itself_is_nothing():
    there = peers("a one u1", "a two u2", "b one u1", "a one -")
    (comes,) = peers("a two u1")
    assert leaving(comes, there, 9, 9) == [there[0]]
    (comes,) = peers("a one -")
    assert leaving(comes, there, 9, 9) == []


def test_a_fleet_is_full_and_who_has_no_pod_gives_way():
    there = peers("a one u1", "a x -", "a y -", "b z -")
    (comes,) = peers("a two u2")
    assert leaving(comes, there, 3, 9) == [there[1]] and leaving(comes, there, 4, 9) == []
    (comes,) = peers("a w -")
    assert leaving(comes, there, 3, 9) == [there[1]]
    with pytest.raises(Full, match="a/f has 1 streams"):
        leaving(comes, there[:1], 1, 9)
    (again,) = peers("a one u1")
    assert leaving(again, there[:1], 1, 9) == [there[0]], "its own place is free"


def test_where_there_is_no_place_the_namespace_that_has_most_gives_one():
    there = peers("sys one u1", "evil x u5", "evil x u6", "evil y -", "evil z u7")
    (comes,) = peers("sys two u2")
    assert leaving(comes, there, 9, 5) == [there[3]]
    del there[3]
    assert leaving(comes, there, 9, 4) == [there[1]]
    assert leaving(comes, there, 9, 5) == []


@pytest.mark.parametrize("given, replicas", [
    ({}, 2), ({"replicas": 0}, 0), ({"replicas": 7}, 7), ({"autoscaling": Autoscaling(max_replicas=20), "replicas": 3}, 20),
    ({"patches": (ObjectPatch(kind="Deployment", value={"spec": {"replicas": 50}}),)}, 50),
    ({"patches": (ObjectPatch(kind="Deployment", value={"spec": 7}), ObjectPatch(kind="Service", value={"spec": {"replicas": 50}}))}, 2)])
def test_a_fleet_has_room_for_its_replicas(given, replicas):
    made = Fleet(namespace="sys", name="f", class_name="c", parameters=GatewayParametersSpec(**given))
    assert room_of(made) == limits.STREAM_SPARE + limits.STREAM_PER_REPLICA * replicas


def test_a_fleet_whose_parameters_are_not_known_has_room():
    assert room_of(Fleet(namespace="sys", name="f", class_name="c")) > 500
