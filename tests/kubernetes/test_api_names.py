"""What kinds are called in the paths of the API server: as their CustomResourceDefinitions say."""
from pathlib import Path

import pytest
import yaml

from gwfast.kubernetes import api

OWN = Path(__file__).parents[2] / "deploy/crds"
NAMES = {
    "Gateway": "gateways", "GatewayClass": "gatewayclasses", "HTTPRoute": "httproutes", "BackendTLSPolicy": "backendtlspolicies",
    "ReferenceGrant": "referencegrants", "XListenerSet": "xlistenersets", "EndpointSlice": "endpointslices", "ConfigMap": "configmaps",
    "Namespace": "namespaces", "Secret": "secrets", "Service": "services", "XBackendTrafficPolicy": "xbackendtrafficpolicies",
} | {names["kind"]: names["plural"] for names in (yaml.safe_load(file.read_text())["spec"]["names"] for file in OWN.iterdir())}


@pytest.mark.parametrize("kind", NAMES)
def test_plurals(kind):
    assert api.plural(kind) == NAMES[kind]
