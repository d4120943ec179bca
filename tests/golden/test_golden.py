"""NAME.in.yaml -> NAME.out.yaml: the problems, every condition, and the plan. The pairs are the project's spec.
Certificates are written as words in quotes ("CERTIFICATE a.example"), see tests/support/pki.py.

`pytest tests/golden --regenerate` writes the outputs anew: each line of the diff is to be held against the API's spec.
conformance/NAME.out.yaml does the same for the manifests of the API's conformance suite, one plan per Gateway.
"""
from itertools import chain
from pathlib import Path

from support import pki
import pytest
from support import upstream
import yaml

from gwfast.config.load import load
from gwfast.graph.attach import Attacher
from gwfast.graph.conditions import conditions
from gwfast.graph.model import GraphOptions
from gwfast.plan import regex
from gwfast.plan.build import build
from gwfast.plan.dump import to_builtins
from gwfast.show import Reading, problems

HERE = Path(__file__).parent
PAIRS = sorted(path.name.removesuffix(".in.yaml") for path in HERE.glob("*.in.yaml"))
MANIFESTS = upstream.folder("conformance")
BASE = "base-manifests.yaml"
ROUTING = sorted(path.name.removesuffix(".out.yaml") for path in (HERE / "conformance").glob("*.out.yaml"))


@pytest.fixture
def compare(request):
    regenerate = request.config.getoption("--regenerate", default=False)

    def compare(path: Path, result: dict) -> None:
        text = yaml.dump(result, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)
        if regenerate:
            path.write_text(text)
        assert text == path.read_text()
    return compare


class Dumper(yaml.SafeDumper):
    """One line for what fits in one, except sentences; everything in full, however often it is named."""

    def ignore_aliases(self, data):
        return True

    def represent_sequence(self, tag, sequence, flow_style=None):
        sentences = any(isinstance(each, str) and " " in each for each in sequence)
        return super().represent_sequence(tag, sequence, not sentences and len(repr(sequence)) < 100)

    def represent_mapping(self, tag, mapping, flow_style=None):
        return super().represent_mapping(tag, mapping, len(repr(mapping)) < 110)


@pytest.mark.parametrize("name", PAIRS)
def test_pair(name, compare, monkeypatch, tmp_path):
    (tmp_path / f"{name}.in.yaml").write_text(pki.filled((HERE / f"{name}.in.yaml").read_text()))
    monkeypatch.chdir(tmp_path)
    loaded = load([f"{name}.in.yaml"])
    compare(HERE / f"{name}.out.yaml", outcome(loaded, GraphOptions()))


@upstream.needs("conformance")
@pytest.mark.parametrize("name", ROUTING)
def test_conformance_manifest(name, compare, monkeypatch):
    monkeypatch.chdir(MANIFESTS)
    loaded = load([f"{name}.yaml", BASE])
    loaded.resources.update(pki.suite_credentials())
    compare(HERE / "conformance" / f"{name}.out.yaml", {
        gateway: outcome(loaded, GraphOptions(gateway=gateway, strict_services=True)) for gateway in gateways(loaded)})


def gateways(loaded):
    """Name the Gateways that the manifest is about: its own, or those that its routes name."""
    written = [resource for resource in loaded.resources.values() if resource.source.file != BASE]
    own = [f"{each.metadata.namespace}/{each.metadata.name}" for each in written if each.kind == "Gateway"]
    named = [f"{ref.namespace or each.metadata.namespace}/{ref.name}" for each in written if each.kind.endswith("Route")
             for ref in each.spec.parent_refs if ref.kind == "Gateway"]
    return sorted({*own, *named})


def outcome(loaded, options):
    graph = Attacher(options, regex.check).attach(loaded.resources)
    check_generations(graph, loaded)
    reading = Reading(tuple(loaded.problems), graph, build(graph))
    return {
        "problems": [str(each) for each in problems(reading) if not each.source.file == BASE],
        "conditions": {str(each.key): status(each.status) for each in conditions(graph)
                       if loaded.resources[each.key].source.file != BASE or each.kind == "Gateway"},
        "plan": to_builtins(reading.plan),
    }


def status(given):
    """Each condition as one line: 'Accepted: True, Accepted' or 'Accepted: False, Reason, message'."""
    result = [line(each) for each in getattr(given, "conditions", ())]
    if sets := getattr(given, "attached_listener_sets", 0):
        result.append(f"{sets} attached ListenerSets")
    for listener in getattr(given, "listeners", ()):
        kinds = " ".join(each.kind for each in listener.supported_kinds)
        result.append({f"listener {listener.name}, {listener.attached_routes} attached, [{kinds}]":
                       [line(each) for each in listener.conditions]})
    for parent in getattr(given, "parents", ()):
        ref = parent.parent_ref
        words = [ref.kind, ref.name, *filter(None, (ref.section_name, ref.port and str(ref.port)))]
        result.append({f"parent {' '.join(words)}": [line(each) for each in parent.conditions]})
    for ancestor in getattr(given, "ancestors", ()):
        result.append({f"ancestor {ancestor.ancestor_ref.name}": [line(each) for each in ancestor.conditions]})
    return result


def line(condition):
    return f"{condition.type}: {', '.join(filter(None, (condition.status, condition.reason, condition.message)))}"


def check_generations(graph, loaded):
    """Every condition carries its resource's generation (spec 2.5)."""
    for each in conditions(graph):
        generation = loaded.resources[each.key].metadata.generation
        parts = [getattr(each.status, name, ()) for name in ("listeners", "parents", "ancestors")]
        for one in (each.status, *chain.from_iterable(parts)):
            assert all(found.observed_generation == generation for found in getattr(one, "conditions", ()))
