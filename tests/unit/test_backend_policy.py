"""BackendPolicy: what the CRD says is what is read, and what several fields say together is checked."""
from pathlib import Path

import msgspec
import pytest
import yaml
from msgspec import inspect

from gwfast.config import model
from gwfast.config.validate import check
from gwfast.endpoints.health import Health, Standing
from test_config_model import pattern_differences

CRD = yaml.safe_load((Path(__file__).parents[2] / "deploy/crds/backendpolicies.yaml").read_text())
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
LIMITS = {
    "integer": {"minimum": "ge", "maximum": "le"}, "array": {"minItems": "min_length", "maxItems": "max_length"},
    "string": {"minLength": "min_length", "maxLength": "max_length"}, "object": {},
}


def given(kind):
    """A type without the None that says that it may be left out."""
    kinds = [each for each in getattr(kind, "types", (kind,)) if not isinstance(each, inspect.NoneType)]
    return kinds[0]


def differences(schema: dict, kind, path: str):
    kind = given(kind)
    for word, name in LIMITS[schema["type"]].items():
        if schema.get(word) != getattr(kind, name, None):
            yield f"{path}: {word}"
    if "enum" in schema and sorted(schema["enum"]) != sorted(kind.values):
        yield f"{path}: enum"
    if ("pattern" in schema) != (getattr(kind, "pattern", None) is not None):
        yield f"{path}: pattern"
    elif "pattern" in schema:
        yield from pattern_differences(schema["pattern"], kind.pattern, path)
    if schema["type"] == "array":
        yield from differences(schema["items"], kind.item_type, f"{path}[]")
    if schema["type"] == "object":
        fields = {field.encode_name: field for field in kind.fields}
        if schema["properties"].keys() != fields.keys():
            yield f"{path}: fields"
        for name, inner in schema["properties"].items():
            field = fields[name]
            if field.required != (name in schema.get("required", ())):
                yield f"{path}.{name}: required"
            default = [*field.default] if isinstance(field.default, tuple) else field.default
            if not field.required and default != inner.get("default"):
                yield f"{path}.{name}: default"
            yield from differences(inner, field.type, f"{path}.{name}")


def test_struct_says_what_the_crd_says():
    kind = next(each for each in inspect.type_info(model.BackendPolicy).fields if each.name == "spec").type
    assert list(differences(SPEC, kind, "spec")) == []


@pytest.mark.parametrize(("spec", "fields"), [
    ({"healthCheck": {"passive": {}}}, []),
    ({"healthCheck": {"passive": {"baseEjectionTime": "0s"}}}, ["spec.healthCheck.passive.baseEjectionTime"]),
    ({"healthCheck": {"active": {"type": "TCP", "http": {}}}}, ["spec.healthCheck.active.http"]),
    ({"healthCheck": {"active": {"type": "HTTP", "http": {"path": "/ready?full=1"}}}}, []),
    ({"healthCheck": {"active": {"type": "HTTP", "grpc": {}}}}, ["spec.healthCheck.active.grpc"]),
    ({"healthCheck": {"active": {"type": "GRPC", "grpc": {}, "interval": "25h"}}}, ["spec.healthCheck.active.interval"]),
    ({"slowStart": {"window": "1ms"}}, ["spec.slowStart.window"]),
    ({"circuitBreaker": {"perEndpoint": {"maxParallelRequests": 1}, "pendingTimeout": "0s"}},
     ["spec.circuitBreaker.pendingTimeout"]),
], ids=["passive", "no time", "http of TCP", "query", "grpc of HTTP", "too long", "too short", "no wait"])
def test_fields_together(spec, fields):
    spec["targetRefs"] = [{"group": "", "kind": "Service", "name": "s"}]
    policy = msgspec.convert({"kind": "BackendPolicy", "metadata": {"name": "p"}, "spec": spec}, model.BackendPolicy)
    assert [each.field for each in check(policy)] == fields


def test_each_change_is_told_once():
    told, cells = [], []
    unhealthy = {}
    health = Health(lambda places: [each for each in cells if each[0] in {slot for slot, _ in places}], unhealthy,
                    lambda what, **facts: told.append((what, facts["endpoint"])))
    assert health.read() == {}
    health.follow({"n/b:80/http": {"a:1": (0, 1), "a:2": (1, 2)}})
    cells.append((1, 2.5, 1))
    assert health.read() == health.read() == {"n/b:80/http": Standing(2, {"a:2": 2.5}, {})}
    cells[0] = (1, 5.0, 2)
    health.read()
    cells.clear()
    assert health.read() == {"n/b:80/http": Standing(2, {}, {})}
    out, back = "an endpoint failed and is out", "an endpoint is back"
    assert told == [(out, "a:2"), (out, "a:2"), (back, "a:2")]
    told.clear()
    unhealthy[1, 2] = "it answered 500"
    assert health.read() == health.read() == {"n/b:80/http": Standing(2, {}, {"a:2": "it answered 500"})}
    cells.append((1, 2.5, 3))                # out for both reasons: it is one endpoint, and back when neither holds
    assert health.read()["n/b:80/http"].healthy == 1
    unhealthy.clear()
    health.read()
    cells.clear()
    assert health.read()["n/b:80/http"].healthy == 2
    assert told == [("an endpoint is unhealthy and out", "a:2"), (out, "a:2"), (back, "a:2")]
