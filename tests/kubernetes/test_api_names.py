"""What kinds are called in the paths of the API server, as their CustomResourceDefinitions say; and names in paths."""
from pathlib import Path

import pytest
import yaml

from gwfast.config.model import Key
from gwfast.controller import apply
from gwfast.kubernetes import api, paths

OWN = Path(__file__).parents[2] / "deploy/crds"
NAMES = {
    "Gateway": "gateways", "GatewayClass": "gatewayclasses", "HTTPRoute": "httproutes", "BackendTLSPolicy": "backendtlspolicies",
    "ReferenceGrant": "referencegrants", "XListenerSet": "xlistenersets", "EndpointSlice": "endpointslices", "ConfigMap": "configmaps",
    "Namespace": "namespaces", "Secret": "secrets", "Service": "services", "XBackendTrafficPolicy": "xbackendtrafficpolicies",
} | {names["kind"]: names["plural"] for names in (yaml.safe_load(file.read_text())["spec"]["names"] for file in OWN.iterdir())}


@pytest.mark.parametrize("kind", NAMES)
def test_plurals(kind):
    assert api.plural(kind) == NAMES[kind]


SECRET = next(kind for kind in api.CORE if kind.name == "Secret")
ESCAPED = {"cert": "cert", "a.b-c": "a.b-c", "a:b": "a%3Ab", "%": "%25", "%2e%2e": "%252e%252e", "?watch=1": "%3Fwatch%3D1",
           "../../victim": "..%2F..%2Fvictim", "a#b": "a%23b", "a b": "a%20b", "é": "%C3%A9", "\n": "%0A"}


@pytest.mark.parametrize("name", ESCAPED)
def test_a_name_is_one_segment_of_a_path(name):
    segment = ESCAPED[name]
    assert SECRET.object("shop", name) == f"/api/v1/namespaces/shop/secrets/{segment}"
    assert SECRET.object(name, "cert") == f"/api/v1/namespaces/{segment}/secrets/cert"
    assert apply.path(Key("Deployment", name, name)) == f"/apis/apps/v1/namespaces/{segment}/deployments/{segment}"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_is_no_segment_makes_no_path(name):
    with pytest.raises(ValueError):
        SECRET.object("shop", name)


@pytest.mark.parametrize("namespace, name, there", [
    ("shop", "cert", True), ("shop", "kube-root-ca.crt", True), ("shop", "a" * 253, True), ("s" * 63, "0", True),
    ("shop", "a" * 254, False), ("s" * 64, "cert", False), ("a.b", "cert", False), ("", "cert", False), ("shop", "", False),
    ("shop", "Cert", False), ("shop", "a_b", False), ("shop", "-a", False), ("shop", "a.", False), ("shop", "a..b", False),
    ("shop", "cert\n", False), ("shop", "..", False), ("..", "cert", False), ("shop", "a/b", False), ("shop", "%", False),
])
def test_names_that_a_secret_may_have(namespace, name, there):
    assert paths.exists(namespace, name) is there
