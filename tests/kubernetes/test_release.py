"""The installed bundle decides which version's words hold of an object; files take the newest."""
import json

import pytest

from gwfast.config import model as m
from gwfast.config import versions
from gwfast.config.load import load
from gwfast.config.read import read_object
from gwfast.graph.attach import attach
from gwfast.graph.model import GraphOptions, of_bundle
from gwfast.plan.build import build

GATEWAY = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
           "spec": {"gatewayClassName": "c", "listeners": [{"name": "l", "port": 80, "protocol": "HTTP"}]}}


def route(**rule) -> dict:
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [rule | {"backendRefs": [{"name": "s", "port": 80}]}]}}


@pytest.mark.parametrize("bundle, minor", [("1.6.1", 6), ("1.7.0", 7), ("1.9.0-rc.1", 7), ("1.0", 0), ("", 7), ("2.0.0", 7)])
def test_release(bundle, minor):
    assert versions.release(bundle) == minor


# what is wrong from v1.7 on, and was not before
SINCE = [
    route(sessionPersistence={"type": "Cookie"}), route(sessionPersistence={"type": "Header"}),
    route(filters=[{"type": "RequestMirror", "requestMirror": {"backendRef": {
        "group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x", "port": 80}}}]),
    {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": {"name": "p"}, "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "s"}],
        "validation": {"caCertificateRefs": [], "wellKnownCACertificates": "System", "hostname": "a.b"}}},
]


@pytest.mark.parametrize("release, errors", [(0, 0), (6, 0), (7, 1)])
@pytest.mark.parametrize("document", SINCE, ids=range(len(SINCE)))
def test_a_rule_of_a_release_is_for_its_objects(document, release, errors):
    version = versions.lookup(document["apiVersion"], document["kind"])
    item = read_object(json.dumps(document).encode(), version, release)
    assert [one.severity for _, one in item.findings] == ["error"] * errors


@pytest.mark.parametrize("document", SINCE, ids=range(len(SINCE)))
def test_files_take_the_newest(document, tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(document))
    assert [one.severity for one in load([str(tmp_path)]).problems] == ["error"]


def test_an_old_shape_in_a_file_is_read_and_told(tmp_path):
    old, mixed = {"sessionName": "me"}, {"sessionName": "me", "cookie": {}}
    for session, severities in ((old, ["warning"]), (mixed, ["error"])):
        (tmp_path / "one.json").write_text(json.dumps(route(sessionPersistence=session)))
        assert [one.severity for one in load([str(tmp_path)]).problems] == severities


@pytest.mark.parametrize("bundle, attempts", [("1.6.1", None), ("1.7.0", 1), ("", 1)])
def test_attempts_that_nobody_says(bundle, attempts):
    found = [read_object(json.dumps(one).encode(), versions.lookup(one["apiVersion"], one["kind"])).resource
             for one in (GATEWAY, route(retry={"codes": [503]}))]
    plan = build(attach(found, of_bundle(GraphOptions(), bundle)))
    (host,) = plan.binds[0].listeners[0].hosts
    assert [entry.rule.retry.attempts for entry in host.entries] == [attempts]


def test_what_a_bundle_changes_is_the_options_of_the_graph():
    options = GraphOptions(strict_services=True)
    assert of_bundle(options, "1.7.0") == of_bundle(options, "") == options
    assert of_bundle(options, "1.6.1") == GraphOptions(strict_services=True, one_kind_a_host=True, retry_attempts=None)
    assert m.HTTPRouteRetry().attempts is None
