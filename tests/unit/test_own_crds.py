"""The CRDs of our own kinds (deploy/crds): what they say is what is read."""
from pathlib import Path

import msgspec
import pytest
import yaml
from msgspec import inspect
from support.patterns import pattern_differences

from gwfast.config import model
from gwfast.graph import conditions
from gwfast.kubernetes.merge import ANCESTORS, CONDITIONS
from gwfast.kubernetes.statuses import MESSAGE

FILES = sorted((Path(__file__).parents[2] / "deploy/crds").iterdir())
LIMITS = {
    "integer": {"minimum": "ge", "maximum": "le"}, "array": {"minItems": "min_length", "maxItems": "max_length"},
    "string": {"minLength": "min_length", "maxLength": "max_length"}, "object": {}, "boolean": {},
}
TYPES = {
    "integer": inspect.IntType, "array": inspect.VarTupleType, "boolean": inspect.BoolType,
    "string": (inspect.StrType, inspect.LiteralType), "object": (inspect.StructType, inspect.DictType),
}


def given(kind):
    """A type without the None that says that it may be left out."""
    kinds = [each for each in getattr(kind, "types", (kind,)) if not isinstance(each, inspect.NoneType)]
    return kinds[0]


def differences(schema: dict, kind, path: str):
    if schema.get("x-kubernetes-int-or-string"):
        if {type(each) for each in kind.types} != {inspect.IntType, inspect.StrType, inspect.NoneType}:
            yield f"{path}: int or string"
        return
    kind = given(kind)
    if not isinstance(kind, TYPES[schema["type"]]):
        yield f"{path}: {schema['type']}"
        return
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
    if "additionalProperties" in schema:
        yield from differences(schema["additionalProperties"], kind.value_type, f"{path}{{}}")
    elif schema["type"] == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        fields = {field.encode_name: field for field in kind.fields}
        if schema["properties"].keys() != fields.keys():
            yield f"{path}: fields"
        for name, inner in schema["properties"].items():
            field = fields[name]
            if field.required != (name in schema.get("required", ())):
                yield f"{path}.{name}: required"
            default = [*field.default] if isinstance(field.default, tuple) else field.default
            if default is msgspec.NODEFAULT:
                default = None
            if not field.required and default != inner.get("default"):
                yield f"{path}.{name}: default"
            yield from differences(inner, field.type, f"{path}.{name}")


def fields(kind) -> set[str]:
    return {field.encode_name for field in inspect.type_info(kind).fields}


@pytest.mark.parametrize("name", ["backendpolicies", "pythonfilters"])
def test_status_is_what_a_policys_is(name):
    version = yaml.safe_load((FILES[0].parent / f"{name}.yaml").read_text())["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    ancestors = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["ancestors"]
    entry, ref = ancestors["items"], ancestors["items"]["properties"]["ancestorRef"]
    listed = entry["properties"]["conditions"]
    assert (ancestors["maxItems"], listed["maxItems"]) == (ANCESTORS, CONDITIONS)
    assert entry["properties"].keys() == fields(conditions.PolicyAncestorStatus) == set(entry["required"])
    assert ref["properties"].keys() == fields(conditions.ParentRef)
    assert listed["items"]["properties"].keys() == fields(conditions.ConditionStatus) | {"lastTransitionTime"}
    assert listed["items"]["properties"]["message"]["maxLength"] == MESSAGE


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_struct_says_what_the_crd_says(file):
    crd = yaml.safe_load(file.read_text())
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    kind = getattr(model, names["kind"])
    spec = next(each for each in inspect.type_info(kind).fields if each.name == "spec").type
    assert list(differences(version["schema"]["openAPIV3Schema"]["properties"]["spec"], spec, "spec")) == []
    assert (crd["spec"]["group"], version["name"]) == (kind.group, kind.version)
    assert crd["metadata"]["name"] == f"{names['plural']}.{kind.group}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_metadata_is_an_object_and_nothing_else(file):
    """An API server refuses a definition that says more of it than how its name looks, a description too."""
    definition = yaml.safe_load(file.read_text())
    for version in definition["spec"]["versions"]:
        found = version["schema"]["openAPIV3Schema"]["properties"].get("metadata", {"type": "object"})
        assert found.keys() <= {"type", "properties"} and found["type"] == "object"
        assert found.get("properties", {}).keys() <= {"name", "generateName"}
