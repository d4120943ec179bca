"""Ingresses for tests, short to write: ingress('shop/web', 'shop.example', {'/': 'web'}, annotation='value')."""
from collections.abc import Iterable
from typing import Any

import yaml

from gwfast.ingress.annotations.table import Options, Outcome
from gwfast.ingress.compare import Comparison, Question, compare, plan_of
from gwfast.ingress.convert import Result, convert
from gwfast.ingress.read import read
from gwfast.ingress.verbs import Plain

PREFIX = "nginx.ingress.kubernetes.io"
class _Blocks(Plain):
    """Writes text of several lines as people do."""


_Blocks.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None))
SHORT = {"=": "Exact", "/": "Prefix", "~": "ImplementationSpecific"}


def path(text: str, service: str, port: int | str = 80) -> dict:
    """'=/a' is Exact, '~/a' ImplementationSpecific, '/a' Prefix."""
    kind = SHORT[text[0]]
    text = text if text[0] == "/" else text[1:]
    return {"path": text, "pathType": kind, "backend": backend(service, port)}


def backend(service: str, port: int | str = 80) -> dict:
    return {"service": {"name": service, "port": {"number": port} if isinstance(port, int) else {"name": port}}}


def ingress(name: str, host: str = "", paths: dict[str, str] | None = None, tls: str = "", age: int = 0, default: str = "",
            ingress_class: str = "nginx", **annotations: str) -> dict:
    """Underscores of annotations are dashes; age is in days: what is older counts first."""
    namespace, _, name = name.rpartition("/")
    metadata: dict[str, Any] = {"name": name, "namespace": namespace or "default", "annotations": {
        f"{PREFIX}/{key.replace('_', '-')}": value for key, value in annotations.items()}}
    if age:
        metadata["creationTimestamp"] = f"2025-01-{30 - age:02}T00:00:00Z"
    spec: dict[str, Any] = {"ingressClassName": ingress_class}
    if paths is not None:
        rule = {"http": {"paths": [path(text, service) for text, service in paths.items()]}}
        spec["rules"] = [({"host": host} if host else {}) | rule]
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    if default:
        spec["defaultBackend"] = backend(default)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def converted(folder, *documents: dict, **options: Any) -> Result:
    """Convert documents as if they were in a file of a folder."""
    file = folder / "ingresses.yaml"
    file.write_text(yaml.dump_all(documents, Dumper=_Blocks, sort_keys=False))
    return convert(read([str(file)]), Options(**options))


def outcome(result: Result, name: str) -> Outcome:
    """The outcome of the one annotation, or path, of this name."""
    [entry] = [entry for (_, key, line), entry in result.report.entries.items() if key == name and line < 0]
    return entry.outcome


def words(result: Result, name: str) -> str:
    return "; ".join(word for (_, key, _), entry in result.report.entries.items() if key == name for word in entry.words)


def asked(result: Result, *requests: str) -> dict[str, Comparison]:
    """What becomes of requests ('GET http://host/path' or an URL) on both sides."""
    plan = plan_of(result.resources, result.site.facts)
    found = {}
    for request in requests:
        head, *headers = request.split(" -H ")
        method, _, url = head.rpartition(" ")
        found[request] = compare(result.site, plan, Question(method or "GET", url, tuple(headers)))
    return found


def differing(result: Result, requests: Iterable[str]) -> list[str]:
    """The requests that get another answer, with both."""
    return [f"{request}: nginx {one.nginx} | gwfast {one.gwfast}" for request, one in asked(result, *requests).items() if not one.same]


def kinds(result: Result) -> list[str]:
    return [each["kind"] for each in result.resources]
