"""Files, folders and standard input into Facts: what `kubectl get ingress,service,configmap,secret -A -o yaml` prints, and
charts.

Rules:
- Documents are found, composed and decoded by config's own functions: a mistake has the words, file and line that it has there.
- networking.k8s.io/v1beta1 and extensions/v1beta1 are read too: charts that people still run have them.
- Kinds that ingress-nginx does not look at are passed over without a word: a cluster is full of them.
- Of two objects with one name the first is used; the other is a problem.
"""
import os.path
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from gwfast.config import composer, text
from gwfast.config import model as m
from gwfast.config.decode import decode
from gwfast.config.files import Walk, opened, words
from gwfast.config.load import without_collector
from gwfast.errors import Problem, Source
from gwfast.ingress.model import Facts, Ingress, IngressClass

_OLD = ("networking.k8s.io/v1beta1", "extensions/v1beta1")
KINDS: dict[tuple[str, str], type[m.Resource]] = {
    ("networking.k8s.io/v1", "Ingress"): Ingress, ("networking.k8s.io/v1", "IngressClass"): IngressClass,
    **{(version, "Ingress"): Ingress for version in _OLD}, ("networking.k8s.io/v1beta1", "IngressClass"): IngressClass,
    ("v1", "Service"): m.Service, ("v1", "Secret"): m.Secret, ("v1", "ConfigMap"): m.ConfigMap,
}


def read(paths: Iterable[str]) -> Facts:
    """Read files, folders and '-' (standard input) once."""
    facts = Facts()
    with without_collector():
        for path in dict.fromkeys(paths):
            for name in _files(path, facts):
                _file(name, facts)
    return facts


def _files(path: str, facts: Facts) -> Iterator[str]:
    if path == "-" or not os.path.isdir(path):
        yield path
        return
    walk = Walk()
    yield from (name for name, _ in walk.folder(path))
    facts.problems += [Problem(source=Source(name), reason="Unreadable", message=f"cannot be read: {why}")
                       for name, why in walk.obstacles.items()]


def _file(name: str, facts: Facts) -> None:
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
        else:
            with opened(name) as file:
                data = file.read()
    except OSError as error:
        facts.problems.append(Problem(source=Source(name), reason="Unreadable", message=f"cannot be read: {words(name, error)}"))
        return
    for line, part in text.documents(data.removeprefix(b"\xef\xbb\xbf")):
        try:
            _document(name, line, part, facts)
        except text.TextError as error:
            facts.problems.append(Problem(source=Source(name, line + error.line), reason="Unreadable", message=str(error)))


def _document(file: str, line: int, part: bytes, facts: Facts) -> None:
    if text.is_empty(part):
        return
    node = composer.compose(part)
    value = composer.build(node, len(part)) if node else None
    if not isinstance(value, dict) or not isinstance(node, yaml.MappingNode):
        if value is not None:
            raise text.TextError("an object must be a mapping with apiVersion and kind")
        return
    if not str(value.get("kind")).endswith("List") or not isinstance(value.get("items"), list):
        _object(value, node, file, line, facts)
        return
    of = str(value["kind"]).removesuffix("List")
    for child, place in zip(value["items"], _items(node), strict=True):
        if isinstance(child, dict) and isinstance(place, yaml.MappingNode):
            if of:
                child.setdefault("kind", of)
                child.setdefault("apiVersion", value.get("apiVersion"))
            _object(child, place, file, line, facts)


def _items(node: yaml.MappingNode) -> list[yaml.Node]:
    return next(child.value for name, child in node.value if name.value == "items")


def _object(value: dict[str, Any], node: yaml.MappingNode, file: str, line: int, facts: Facts) -> None:
    version, kind = value.get("apiVersion"), value.get("kind")
    found = KINDS.get((str(version), str(kind)))
    if found is None:
        return
    if version in _OLD and kind == "Ingress":
        _renew(value)
    value["kind"] = kind
    value.pop("apiVersion", None)
    value.pop("status", None)
    resource, findings = decode(value, found)
    name = _name(value)
    for one in findings:
        where = Source(file, line + composer.find_line(node, one.field))
        facts.problems.append(Problem(source=where, resource=f"{kind} {name}", field=one.field, reason=one.reason,
                                      message=one.message, severity=one.severity))
    if resource is not None:
        resource.source = Source(file, line + node.start_mark.line)
        resource.metadata.namespace = (resource.metadata.namespace or "default") if resource.namespaced else ""
        _keep(resource, node, line, facts)


def _name(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return "?"
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name', '?')}"


def _keep(resource: m.Resource, node: yaml.MappingNode, line: int, facts: Facts) -> None:
    key = resource.key
    if key in facts.places:
        facts.problems.append(Problem(source=resource.source, resource=str(key), field="metadata.name", reason="Duplicate",
                                      message=f"is already written at {facts.places[key]}, which is used", severity="warning"))
        return
    facts.places[key] = resource.source
    match resource:
        case Ingress():
            resource.lines, resource.text_lines = _lines(_field(_field(node, "metadata"), "annotations"), line)
            facts.ingresses.append(resource)
        case IngressClass():
            facts.classes[resource.metadata.name] = resource
        case m.Secret():
            resource.data = resource.data | {name: each.encode() for name, each in resource.string_data.items()}
            facts.secrets[key] = resource
        case m.ConfigMap():
            facts.lines[key] = _lines(_field(node, "data"), line)[0]
            facts.config_maps[key] = resource
        case m.Service():
            facts.services[key] = resource


def _field(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((child for key, child in node.value if key.value == name), None)


def _lines(node: yaml.Node | None, line: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the line of each key of a mapping, and the line in which the text of each begins."""
    if not isinstance(node, yaml.MappingNode):
        return {}, {}
    keys = {key.value: line + key.start_mark.line for key, _ in node.value}
    texts = {key.value: line + child.start_mark.line + (getattr(child, "style", None) in ("|", ">")) for key, child in node.value}
    return keys, texts


# ---- v1beta1: {serviceName, servicePort} became {service: {name, port}}, and `backend` of the spec `defaultBackend`


def _renew(value: dict[str, Any]) -> None:
    spec = value.get("spec")
    if not isinstance(spec, dict):
        return
    if isinstance(old := spec.pop("backend", None), dict):
        spec["defaultBackend"] = _backend(old)
    for rule in spec.get("rules") or ():
        http = rule.get("http") if isinstance(rule, dict) else None
        for path in (http.get("paths") or ()) if isinstance(http, dict) else ():
            if isinstance(path, dict) and isinstance(path.get("backend"), dict):
                path["backend"] = _backend(path["backend"])


def _backend(old: dict[str, Any]) -> dict[str, Any]:
    if "serviceName" not in old:
        return old
    port = old.get("servicePort")
    rest = {name: each for name, each in old.items() if name not in ("serviceName", "servicePort")}
    number = port if isinstance(port, int) else int(port) if isinstance(port, str) and port.isdigit() else None
    return rest | {"service": {"name": old["serviceName"], "port": {"name": port} if number is None else {"number": number}}}
