"""What the graph's tests share: resources from YAML, certificates, and a checker that reads lines.

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
from functools import cache
from pathlib import Path

import msgspec
import pytest
import yaml

from gwfast.config.load import load
from gwfast.config.model import KINDS
from gwfast.graph.conditions import conditions
from gwfast.graph.model import GraphOptions

SHARED = Path(__file__).parents[3] / "shared" / "gateway-api"
CONFORMANCE = SHARED / "conformance"
NAMESPACE = "gateway-conformance-infra"
EVERYTHING = GraphOptions(strict_services=True, own_addresses=True)
needs_shared = pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="the Gateway API's own manifests are not here")


def manifests(*names):
    """Load conformance manifests on top of what every conformance test finds in its cluster."""
    paths = [str(CONFORMANCE / f"{name}.yaml") for name in ("base-manifests", *names)]
    loaded = load(paths)
    assert not [problem for problem in loaded.problems if problem.severity == "error"]
    return loaded.resources | suite_credentials()


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


# ---- Certificates


@cache
def key_pair(*names):
    """Return (certificate, key) in PEM, self-signed, for DNS names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=36500))
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternative, False)
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding), private


def tls_secret(namespace, name, *names):
    chain, key = key_pair(*names)
    secret = resources(f"{{apiVersion: v1, kind: Secret, metadata: {{namespace: {namespace}, name: {name}}}}}")
    return {at: msgspec.structs.replace(one, data={"tls.crt": chain, "tls.key": key}) for at, one in secret.items()}


def authority(namespace, name, *names):
    pem = key_pair(*names)[0].decode()
    config_map = resources(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{namespace: {namespace}, name: {name}}}}}")
    return {key: msgspec.structs.replace(one, data={"ca.crt": pem}) for key, one in config_map.items()}


def suite_credentials():
    """What the conformance suite makes itself before it starts."""
    found = {}
    for name in ("tls-validity-checks", "tls-terminate-checks", "tls-passthrough-checks", "tls-checks-client"):
        found |= tls_secret(NAMESPACE, f"{name}-certificate", "example.org", "second-example.org")
    found |= tls_secret("gateway-conformance-web-backend", "certificate", "example.org")
    for name in ("tls-checks", "tls-validity-checks", "tls-validity-checks-per-port", "mismatch", "backend-tls-checks"):
        found |= authority(NAMESPACE, f"{name}-ca-certificate")
    return found | authority("gateway-conformance-web-backend", "web-backend-cm")


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
