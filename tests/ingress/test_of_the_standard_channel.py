"""What --standard-only writes has no field and no kind that the standard channel of Gateway API's CRDs lacks."""
from functools import cache

import pytest
import yaml
from ingress_cases import converted, ingress
from support import upstream

from gwfast.ingress import annotations

pytestmark = upstream.needs("crds")
VALUES = {"auth-url": "http://auth.ns.svc/check", "rewrite-target": "/new", "proxy-next-upstream": "error http_502", "affinity": "cookie", "enable-cors": "true",
          "backend-protocol": "GRPC", "canary-by-header": "x", "mirror-target": "http://m.ns.svc$request_uri", "upstream-vhost": "a.example",
          "permanent-redirect": "https://a.example/x", "app-root": "/a", "ssl-passthrough": "true", "ssl-ciphers": "AES", "server-alias": "b.example",
          "from-to-www-redirect": "true", "configuration-snippet": "more_set_headers 'A: b';", "use-regex": "true", "force-ssl-redirect": "true"}
STREAMS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp-services"}, "data": {"9000": "ns/a:80"}}


@cache
def schema(kind: str) -> dict:
    """The schema of v1 of a kind in the standard channel."""
    for file in (upstream.folder("crds") / "standard").glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document.get("kind") == "CustomResourceDefinition" and document["spec"]["names"]["kind"] == kind:
                return next(one["schema"]["openAPIV3Schema"] for one in document["spec"]["versions"] if one["name"] == "v1")
    raise LookupError(f"{kind} is not of the standard channel")


def unknown(value, known: dict, path: str = "") -> list[str]:
    """The fields that a schema does not have, and values that are not of an enumeration."""
    if isinstance(value, dict):
        if "properties" not in known:
            return []
        return [wrong for name, child in value.items() for wrong in (
            unknown(child, known["properties"][name], f"{path}.{name}") if name in known["properties"] else [f"{path}.{name}"])]
    if isinstance(value, list):
        return [wrong for child in value for wrong in unknown(child, known["items"], f"{path}[]")]
    return [] if "enum" not in known or value in known["enum"] else [f"{path}={value}"]


@pytest.mark.parametrize("name", VALUES)
def test_every_field_is_of_the_standard_channel(tmp_path, name):
    assert name in annotations.TABLE
    result = converted(tmp_path, STREAMS, ingress("ns/a", "a.example", {"/x": "a", "~/y(/|$)(.*)": "b"}, tls="t", **{name: VALUES[name]}), standard_only=True)
    assert result.resources
    for resource in result.resources:
        assert not unknown(resource["spec"], schema(resource["kind"])["properties"]["spec"]), resource
