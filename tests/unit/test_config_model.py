"""The structs against the CRDs of v1.6.1 and v1.7.0: every field, default, bound and enumeration of both channels is there, once."""
import re
from pathlib import Path

import msgspec
import pytest
from support import upstream
import yaml
from msgspec import inspect

from gwfast.config import model
from gwfast.config.model import Resource
from gwfast.config.scalars import WORDS
from support.patterns import pattern_differences

ROOT = Path(__file__).parents[2]
RELEASES = {6: upstream.OLD, 7: upstream.NEW}  # by minor version
CRDS = {minor: upstream.folder("crds", release) for minor, release in RELEASES.items()}
KINDS = {
    "BackendTLSPolicy": "backendtlspolicies", "GatewayClass": "gatewayclasses", "Gateway": "gateways",
    "GRPCRoute": "grpcroutes", "HTTPRoute": "httproutes", "ListenerSet": "listenersets",
    "ReferenceGrant": "referencegrants", "TCPRoute": "tcproutes", "TLSRoute": "tlsroutes", "UDPRoute": "udproutes",
}
EXPERIMENTAL = {"XBackendTrafficPolicy": "xbackendtrafficpolicies", "XBackend": "xbackends",
                "XTelemetryPolicy": "xtelemetrypolicies"}
# What v1.7.0 says in another way than v1.6.1: both are read.
CAME = ("sessionPersistence.cookie", "sessionPersistence.header", "listeners.filters", "addresses.routability", "port.number",
        "spec.endpointSelector", "XBackend.sessionPersistence")
WENT = ("sessionPersistence.sessionName", "sessionPersistence.cookieConfig", "spec.port.port", "spec.port.name")
OTHERWISE = {6: ("retry.attempts", "spec.port.name: pattern", "spec.port.number: required", "spec.type: enum", "spec.protocol: enum", "spec.port.port: required", "spec.sessionPersistence: not",
                 "spec.tls: default", "tls.validation: required", "externalHostname.hostname: required", "spec.tls.validation"),
             7: ("retry.attempts: default None, not 1", "caCertificateRefs: items (1, 8), (None, 8)")}
# v1 bounds that depend on the version are checked by `validate`; the others are laxer on purpose.
ELSEWHERE = {
    ("TLSRoute", "spec.hostnames"), ("TLSRoute", "spec.rules"), ("TCPRoute", "spec.rules"), ("UDPRoute", "spec.rules"),
}


def schema(release: int, kind: str, channel: str) -> dict:
    x = "x-" * (kind in EXPERIMENTAL)
    text = (CRDS[release] / channel / f"gateway.networking.{x}k8s.io_{(KINDS | EXPERIMENTAL)[kind]}.yaml").read_text()
    (crd,) = yaml.load_all(text, yaml.CSafeLoader)
    (version,) = [each for each in crd["spec"]["versions"] if each["name"] == ("v1alpha1" if x else "v1")]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def alternatives(kind: inspect.Type) -> list[inspect.Type]:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [each for each in kinds if not isinstance(each, inspect.NoneType)]


def differences(schema: dict, kind: inspect.Type, path: str, default: object = None):
    """Yield what a schema says that the type does not, or the other way round."""
    kinds = alternatives(kind)
    first = kinds[0]
    match schema.get("type"):
        case "object" if "properties" in schema:
            fields = {field.encode_name: field for field in first.fields}
            for name in schema["properties"].keys() ^ fields.keys():
                yield f"{path}.{name}: {'no field' if name not in fields else 'not in the CRD'}"
            for name, child in schema["properties"].items():
                if field := fields.get(name):
                    at = f"{path}.{name}"
                    if field.required != (name in schema.get("required", ())) and name != "hostnames":
                        yield f"{at}: required is {field.required}"
                    if "default" in child and decoded(child["default"], field) != field.default:
                        yield f"{at}: default {field.default}, not {child['default']}"
                    yield from differences(child, field.type, at)
        case "object":
            bounds = schema.get("maxProperties")
            if bounds != first.max_length:
                yield f"{path}: maxProperties {bounds}, {first.max_length}"
            yield from differences(schema["additionalProperties"], first.value_type, path + "{}")
        case "array":
            said, has = (schema.get("minItems"), schema.get("maxItems")), (first.min_length, first.max_length)
            if said != has:
                yield f"{path}: items {said}, {has}"
            yield from differences(schema["items"], first.item_type, path)
        case "string" if "enum" in schema:
            values = [value for each in kinds for value in each.values]
            if sorted(values) != sorted(schema["enum"]):
                yield f"{path}: enum {schema['enum']}, {values}"
        case "string":
            said = (schema.get("minLength") or None, schema.get("maxLength"))
            if said != (first.min_length, first.max_length):
                yield f"{path}: length {said}, {first}"
            if ("pattern" in schema) != (first.pattern is not None):
                yield f"{path}: pattern {schema.get('pattern')}, {first.pattern}"
            elif first.pattern:
                yield from pattern_differences(schema["pattern"], first.pattern, path)
        case "integer" if "enum" in schema:
            if sorted(schema["enum"]) != sorted(kinds[0].values):
                yield f"{path}: enum {schema['enum']}"
        case "integer":
            if path.endswith("forwardBody.maxSize"):
                return  # uint16 in Go, unbounded in the CRD
            said = schema.get("minimum"), schema.get("maximum")
            if said != (first.ge, first.le):
                yield f"{path}: {said}, {first}"
        case "boolean":
            if not isinstance(first, inspect.BoolType):
                yield f"{path}: {first}"


def decoded(value: object, field: inspect.Field) -> object:
    kind = field.type
    if isinstance(kind, inspect.StructType):
        return msgspec.convert(value, kind.cls)
    if isinstance(kind, inspect.VarTupleType):
        return tuple(msgspec.convert(each, kind.item_type.cls) for each in value)
    return value


def releases(kinds):
    for release in CRDS:
        absent = upstream.needs("crds", RELEASES[release])
        yield from (pytest.param(release, kind, marks=absent, id=f"{kind}-1.{release}") for kind in kinds
                    if (release, kind) != (6, "XTelemetryPolicy"))


@pytest.mark.parametrize("release, kind", [*releases(KINDS | EXPERIMENTAL)])
def test_struct_says_what_the_crd_says(release, kind):
    resource = model.KINDS[model.EXPERIMENTAL_GROUP if kind in EXPERIMENTAL else model.GATEWAY_GROUP, kind]
    (spec,) = [field for field in inspect.type_info(resource).fields if field.name == "spec"]
    found = list(differences(schema(release, kind, "experimental"), spec.type, "spec"))
    foreign = [name for name in (CAME if release == 6 else WENT)]
    assert [each for each in found if (kind, each.partition(":")[0]) not in ELSEWHERE
            and not any(name in each for name in OTHERWISE[release])
            and not ("not in the CRD" in each and any(name in each for name in foreign))] == []


@pytest.mark.parametrize("release, kind", [*releases(KINDS)])
def test_standard_channel_has_no_field_of_its_own(release, kind):
    def names(schema, path=""):
        yield path
        for name, child in schema.get("properties", {}).items():
            yield from names(child, f"{path}.{name}")
        if "items" in schema:
            yield from names(schema["items"], path)

    assert set(names(schema(release, kind, "standard"))) <= set(names(schema(release, kind, "experimental")))


def patterns():
    from gwfast.config import scalars

    return [name for name in vars(scalars) if name.isupper() and isinstance(getattr(scalars, name), str)
            and name[0] != "_"]


@pytest.mark.parametrize("name", patterns())
def test_pattern_is_linear_and_has_words(name):
    """An expression that backtracks without bound would not come back from this."""
    from gwfast.config import scalars

    pattern = getattr(scalars, name)
    assert pattern in WORDS or name == "QUALIFIED_NAME"
    for unit in ("a", "a-", "a.", "-", "a ", "1s", "/a", "%2f", "x:/", "a_", "*.", "https://a."):
        re.search(pattern, unit * 200 + "\n\0")


def test_resource_is_known_by_kind_namespace_and_name():
    route = msgspec.convert(
        {"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {"name": "a", "namespace": "b"},
         "spec": {}},
        model.HTTPRoute,
    )
    assert route.key == ("HTTPRoute", "b", "a")
    assert str(route.key) == "HTTPRoute b/a"
    assert str(model.Key("GatewayClass", "", "x")) == "GatewayClass x"
    assert route.spec.rules[0].matches[0].path == model.HTTPPathMatch(type="PathPrefix", value="/")
    assert route.source == model.NOWHERE


def kinds(base: type[Resource] = Resource) -> set[type[Resource]]:
    below = {each for one in base.__subclasses__() for each in kinds(one)}
    return below | ({base} if hasattr(base, "kind") else set())


def test_every_kind_is_in_the_registry():
    """A kind whose line in KINDS was forgotten would never be read."""
    assert {each for each in kinds() if each.__module__.startswith("gwfast.config.")} == set(model.KINDS.values())


def test_a_kind_is_called_what_its_class_is_called():
    """The JSON field `kind` is compared with the class's name, and everything else with `kind`."""
    assert [each for each in model.KINDS.values() if each.kind != each.__name__] == []


def test_source_cannot_be_written():
    text = b'{"kind":"HTTPRoute","metadata":{"name":"a"},"spec":{},"source":{"file":"x","line":1}}'
    with pytest.raises(msgspec.ValidationError, match="unknown field `source`"):
        msgspec.json.decode(text, type=model.HTTPRoute)
