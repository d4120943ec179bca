"""What the graph's tests share: resources from YAML, and a checker that reads lines.

A line names a resource, and what its status must say:

    Gateway/name                     attachedListenerSets=1 Accepted=False/Invalid
    Gateway/name#listener            kinds=HTTPRoute attached=2 Programmed=True
    ListenerSet/namespace/name
    HTTPRoute/name@parent            Accepted=True           one parentRef, by the name of the parent
    BackendTLSPolicy/name            the same for every ancestor, and there is one

A namespace that is not given is NAMESPACE. The status comes from `conditions`, as a cluster would get it, and every
condition of every resource must carry the resource's generation.
"""
import datetime

import msgspec
from support import pki
from support import upstream
import yaml

from gwfast.config.load import load
from gwfast.config.model import KINDS
from gwfast.graph.conditions import conditions
from gwfast.graph.model import GraphOptions

CONFORMANCE = upstream.folder("conformance")
NAMESPACE = "gateway-conformance-infra"
EVERYTHING = GraphOptions(strict_services=True, own_addresses=True)


def manifests(*names):
    """Load conformance manifests on top of what every conformance test finds in its cluster."""
    paths = [str(CONFORMANCE / f"{name}.yaml") for name in ("base-manifests", *names)]
    loaded = load(paths)
    assert not [problem for problem in loaded.problems if problem.severity == "error"]
    return loaded.resources | pki.suite_credentials()


def resources(text):
    """Make resources from YAML, as the loader would; namespace 'default', generation 1."""
    found = {}
    for document in yaml.safe_load_all(text):
        group = document["apiVersion"].rpartition("/")[0]
        kind = KINDS[group, document["kind"]]
        resource = msgspec.convert(document, kind)
        resource.metadata.namespace = (resource.metadata.namespace or "default") if kind.namespaced else ""
        resource.metadata.generation = resource.metadata.generation or 1
        found[resource.key] = resource
    return found


def edited(resource, **spec):
    """Return a new generation of a resource with fields of its spec replaced."""
    metadata = msgspec.structs.replace(resource.metadata, generation=resource.metadata.generation + 1)
    return msgspec.structs.replace(resource, metadata=metadata, spec=msgspec.structs.replace(resource.spec, **spec))


def born(resource, day):
    """Return a resource that was created on a day of 2026."""
    created = datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)
    return msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(resource.metadata, creation_timestamp=created)
    )


# ---- The checker


def said(graph):
    """Return {line's name: {word: value}} of everything that the graph's conditions say."""
    found = {}
    owners = {**graph.classes, **graph.gateways, **graph.listener_sets, **graph.routes, **graph.policies}
    for one in conditions(graph):
        generation = owners[one.key].resource.metadata.generation
        name = f"{one.kind}/{'' if one.namespace in ('', NAMESPACE) else one.namespace + '/'}{one.name}"
        for suffix, words, listed in _parts(one.status):
            assert all(each.observed_generation == generation for each in listed), name
            stated = {each.type: f"{each.status}/{each.reason}" for each in listed}
            found.setdefault(name + suffix, {}).update(words | stated)
    return found


def _parts(status):
    if hasattr(status, "parents"):
        for parent in status.parents:
            yield f"@{parent.parent_ref.name}", {}, parent.conditions
        return
    if hasattr(status, "ancestors"):
        for ancestor in status.ancestors:
            yield "", {}, ancestor.conditions
        return
    sets = getattr(status, "attached_listener_sets", None)
    yield "", {"attachedListenerSets": str(sets)}, status.conditions
    for listener in getattr(status, "listeners", ()):
        kinds = ",".join(kind.kind for kind in listener.supported_kinds)
        words = {"kinds": kinds, "attached": str(listener.attached_routes)}
        yield f"#{listener.name}", words, listener.conditions


def check(graph, *lines):
    """Check that the status says what the lines say; 'absent' is for what must have no status."""
    found = said(graph)
    for line in lines:
        name, *words = line.split()
        if words == ["absent"]:
            assert name not in found
            continue
        assert name in found, (name, sorted(found))
        for word in words:
            key, _, value = word.partition("=")
            actual = found[name].get(key, "absent")
            if "/" not in value and key not in ("kinds", "attached", "attachedListenerSets"):
                actual = actual.partition("/")[0]
            assert (key, actual) == (key, value), (name, found[name])
