"""golden/NAME.in.yaml -> NAME.out.yaml: the objects that a controller makes for classes and Gateways. `pytest tests/golden
tests/controller/test_objects.py --regenerate` writes them anew."""
from pathlib import Path

import pytest
import yaml
from controller_cases import SITE, made

from gwfast.config.model import GatewayParametersSpec
from gwfast.controller.objects import image, patched

HERE = Path(__file__).parent / "golden"
PAIRS = sorted(path.name.removesuffix(".in.yaml") for path in HERE.glob("*.in.yaml"))


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True

    def represent_mapping(self, tag, mapping, flow_style=None):
        return super().represent_mapping(tag, mapping, len(repr(mapping)) < 110)


@pytest.mark.parametrize("name", PAIRS)
def test_objects(name, request):
    objects = [each for _, each in sorted(made((HERE / f"{name}.in.yaml").read_text()).items())]
    text = yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, width=1000)
    path = HERE / f"{name}.out.yaml"
    if request.config.getoption("--regenerate", default=False):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("target, patch, result", [  # RFC 7396, appendix A
    ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}), ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]), ({"a": "b"}, ["c"], ["c"]), ({"a": "foo"}, None, None), ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}), ([1, 2], {"a": "b", "c": None}, {"a": "b"}), ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
])
def test_merge_patches(target, patch, result):
    assert patched(target, patch) == result


@pytest.mark.parametrize("given, site, expected", [
    ({}, "r.example:5000/g:1", "r.example:5000/g:1"), ({"tag": "2"}, "r.example:5000/g:1", "r.example:5000/g:2"),
    ({"tag": "2"}, "r.example:5000/g", "r.example:5000/g:2"), ({"repository": "x/y"}, "r.example/g:1", "x/y:1"),
    ({"repository": "x/y"}, "g@sha256:00", "x/y"), ({"tag": "2"}, "g:1@sha256:00", "g:2"), ({"repository": "x", "tag": "3"}, "g", "x:3"),
])
def test_the_image(given, site, expected):
    import msgspec
    parameters = msgspec.convert({"image": given}, GatewayParametersSpec)
    assert image(parameters, msgspec.structs.replace(SITE, image=site)) == expected
