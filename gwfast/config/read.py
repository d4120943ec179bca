"""Reads one document, JSON or YAML, into items. An item has the resource, or what is wrong with it.

    text -> version (apiVersion, kind) -> old shapes converted -> decoded by type -> validated -> completed


Rules:
- An item depends on the document's text alone, so it can be kept for as long as the text stays the same.
- Lines are counted from 0 at the start of the document; a file adds where the document starts.
- A line inside a document is looked for only when a finding is about it.
- An object of an API server has no lines. It may have fields that are unknown here: the server knows them, so they are of a later
  version of the API, which is a warning. A route that is wrong is kept with its `fault`, so that its status can say so.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, get_args

import msgspec
from msgspec.structs import force_setattr

from gwfast.config import model as m
from gwfast.config import text as t
from gwfast.config import versions
from gwfast.config.decode import decode, decoder, only_known
from gwfast.config.findings import Finding
from gwfast.config.unknown import unknown
from gwfast.errors import Problem

if TYPE_CHECKING:
    import yaml


class Holder(Protocol):
    """The file that an item stands in."""

    path: str

    @property
    def order(self) -> tuple[int, str]: ...  # the key that files are sorted by

    def problem(self, line: int, finding: Finding, key: m.Key | None, more: str = "") -> Problem: ...


class Item(msgspec.Struct):
    """One resource as it is written in one place.

    `resource` is None where a finding is an error or the kind is not ours. `digest` is set for items of a List only.
    """

    offset: int
    key: m.Key | None = None
    resource: m.Resource | None = None
    findings: tuple[tuple[int, Finding], ...] = ()  # (line, what)
    note: Finding | None = None  # about the version: said once per file
    selection: versions.Selection | None = None
    digest: int = 0
    document: int = 0  # its digest; kept up to date by the file, with
    line: int = 0
    held_by: Holder | None = None  # a file holds its items: the one cycle here, so items are tracked by the collector

    @property
    def file(self) -> Holder:
        """The file that it stands in; an object of an API server stands in none, and is not asked."""
        assert self.held_by is not None
        return self.held_by

    @property
    def broken(self) -> bool:
        """Whether this may have been meant to be a resource of ours, though nobody can say which."""
        return self.key is None and any(finding.severity == "error" for _, finding in self.findings)


class _Head(msgspec.Struct, rename="camel", gc=False):
    api_version: Any = None
    kind: Any = None


class _List(msgspec.Struct, gc=False):
    items: list[msgspec.Raw]


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SERVERS = ("", "discovery.k8s.io", m.CERTIFICATES_GROUP)  # groups whose kinds are read in part
Locate = Callable[[str], int]
_HEAD = msgspec.json.Decoder(_Head)
_LIST = msgspec.json.Decoder(_List)


def digest(text: bytes) -> int:
    """Name a text by SipHash under the process's random key, and its length.

    0.2 us for a route of 370 bytes; blake2b costs 0.55 us, which is 1.8 ms more per look at 5,000 documents.
    """
    return hash(text) << 32 | len(text) & 0xFFFFFFFF


def _broken(line: int, message: str) -> Item:
    return Item(line, findings=((line, Finding("", message, reason="Unreadable")),))


def read(text: bytes, known: dict[int, Item]) -> list[Item]:
    """Read one document. `known` are items of Lists by digest: they are used again (and taken out) if unchanged."""
    if t.is_empty(text):
        return []
    body = text.lstrip()
    start = text.count(b"\n", 0, len(text) - len(body))
    try:
        if body[:1] == b"{":
            try:
                return [item for line, raw in t.json_values(body) for item in _json(raw, start + line, known)]
            except t.TextError as error:
                error.line += start
                if b'"apiVersion"' in body:  # else it may be YAML's flow style
                    raise
        return _yaml(text, known)
    except t.TextError as error:
        return [_broken(error.line, str(error))]


# ---- JSON


def _json(raw: bytes, line: int, known: dict[int, Item]) -> Iterator[Item]:
    try:
        head = _HEAD.decode(raw)
    except msgspec.ValidationError:
        raise t.TextError("a resource must be a mapping with apiVersion and kind", line) from None
    if not _is_list(head.kind):
        yield _json_item(raw, t.json_value(raw), line, head)
        return
    try:
        items = _LIST.decode(raw).items
    except msgspec.ValidationError:
        raise t.TextError(f"{head.kind} must have a list of items", line) from None
    at = 0
    for part in items:
        child = bytes(part)
        start = raw.index(child, at)
        line += raw.count(b"\n", at, start)
        at = start
        yield _known_or(known, child, line) or _json_child(child, line, head)


def _json_child(raw: bytes, line: int, parent: _Head) -> Item:
    try:
        value = t.json_value(raw)
    except t.TextError as error:
        item = _broken(line, str(error))
    else:
        if isinstance(value, dict):
            item = _json_item(raw, value, line, _inherited(_Head(value.get("apiVersion"), value.get("kind")), parent))
        else:
            item = _broken(line, "items must be mappings with apiVersion and kind")
    item.digest = digest(raw)
    return item


def _json_item(raw: bytes, value: object, line: int, head: _Head) -> Item:
    def locate(field: str) -> int:
        try:
            return line + _composer().find_line(_composer().compose(raw), field)
        except t.TextError:
            return line

    version = _lookup(head)
    if version and not version.convert and isinstance(value, dict) and only_known(value, version.kind):
        try:
            resource = decoder(version.kind).decode(raw)
        except msgspec.ValidationError:
            pass
        else:
            return _finished(resource, [], version, None, line, locate)
    return _item(value, head, version, line, locate)


# ---- Objects of an API server


def read_object(raw: bytes, version: versions.Version, release: int = 0) -> Item:
    """Read an object that an API server has, of which the kind and version are known from where it was asked for.

    release: minor version of the Gateway API that it has; 0: not known, so that nothing is wrong that once was right."""
    try:
        resource = decoder(version.kind).decode(raw) if not version.convert else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        resource = None
    item = _finished(resource, [], version, None, 0, _nowhere, release) if resource else _odd_object(raw, version, release)
    if item.resource is None:
        item.resource = _shell(raw, version, item)
    return _of_server(item)


def _odd_object(raw: bytes, version: versions.Version, release: int) -> Item:
    """Read what is of an old shape, has nulls or fields that are not known, or is wrong."""
    try:
        value = t.json_value(raw)
    except t.TextError as error:
        return _broken(0, str(error))
    if not isinstance(value, dict):
        return _broken(0, "an object must be a mapping")
    findings: list[Finding] = []
    selection = version.convert(value, findings) if version.convert else None
    value["kind"] = version.kind.kind
    value.pop("apiVersion", None)
    value.pop("status", None)
    resource, found = decode(value, version.kind)
    ours = version.kind.group not in _SERVERS
    findings += [_newer(one) for one in found if one.reason != "UnknownField" or ours and not one.field.startswith("metadata.")]
    if resource is None:
        return Item(0, _key(value.get("metadata"), version.kind), None, _located(findings, _nowhere))
    return _finished(resource, findings, version, selection, 0, _nowhere, release)


def _shell(raw: bytes, version: versions.Version, item: Item) -> m.Resource | None:
    """Return a route that is wrong with its metadata, parentRefs and fault alone; None where not even these can be read."""
    fault = next((finding for _, finding in item.findings if finding.severity == "error"), None)
    kind = next((each for each in _ROUTES if each is version.kind), None)
    if kind is None or version.convert or fault is None:
        return None
    try:
        value = msgspec.json.decode(raw)
        given = {name: each for name, each in value["metadata"].items() if each is not None}
        metadata = msgspec.convert(given, m.ObjectMeta)
        refs = msgspec.convert(value["spec"].get("parentRefs") or (), tuple[m.ParentReference, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    spec = kind.__annotations__["spec"](parent_refs=refs, rules=())
    return kind(metadata=metadata, spec=spec, fault=(fault.field, fault.message))


def _newer(finding: Finding) -> Finding:
    if finding.reason != "UnknownField":
        return finding
    return msgspec.structs.replace(finding, message="this version of gwfast does not know the field, it is ignored",
                                   severity="warning")


def _of_server(item: Item) -> Item:
    """Drop the annotation that kubectl writes for itself: it holds the whole object once more."""
    if item.resource is not None and LAST_APPLIED in item.resource.metadata.annotations:
        metadata = item.resource.metadata
        rest = {name: text for name, text in metadata.annotations.items() if name != LAST_APPLIED}
        metadata.annotations = rest or m.NO_LABELS
    return item


def _nowhere(_: str) -> int:
    return 0


# ---- YAML


def _composer() -> ModuleType:
    """Return the module that reads YAML. For a document in JSON it is needed only to find the line of a mistake."""
    from gwfast.config import composer

    return composer


def _yaml(text: bytes, known: dict[int, Item]) -> list[Item]:
    composer = _composer()
    node = composer.compose(text)
    value = composer.build(node, len(text)) if node else None
    if value is None:
        return []
    if not isinstance(value, dict):
        raise t.TextError("a resource must be a mapping with apiVersion and kind", node.start_mark.line)
    head = _Head(value.get("apiVersion"), value.get("kind"))
    if not _is_list(head.kind):
        return [_yaml_item(value, node, head)]
    nodes = next((child for name, child in node.value if name.value == "items"), None)
    if not isinstance(nodes, composer.yaml.SequenceNode):
        raise t.TextError(f"{head.kind} must have a list of items", node.start_mark.line)
    return [_yaml_child(*pair, head, known) for pair in zip(value["items"], nodes.value, strict=True)]


def _yaml_child(value: object, node: yaml.Node, parent: _Head, known: dict[int, Item]) -> Item:
    line, raw = node.start_mark.line, msgspec.json.encode(value)
    if item := _known_or(known, raw, line):
        return item
    if isinstance(value, dict):
        item = _yaml_item(value, node, _inherited(_Head(value.get("apiVersion"), value.get("kind")), parent))
    else:
        item = _broken(line, "items must be mappings with apiVersion and kind")
    item.digest = digest(raw)
    return item


def _yaml_item(value: dict[str, Any], node: yaml.Node, head: _Head) -> Item:
    def locate(field: str) -> int:
        return _composer().find_line(node, field)

    version = _lookup(head)
    if version and not version.convert and only_known(value, version.kind):
        try:
            resource = msgspec.convert(value, version.kind)
        except msgspec.ValidationError:
            pass
        else:
            return _finished(resource, [], version, None, node.start_mark.line, locate)
    return _item(value, head, version, node.start_mark.line, locate)


# ---- Both


def _is_list(kind: object) -> bool:
    return isinstance(kind, str) and kind.endswith("List")


def _known_or(known: dict[int, Item], raw: bytes, line: int) -> Item | None:
    item = known.pop(digest(raw), None) if known else None
    if item:
        item.findings = tuple((at - item.offset + line, finding) for at, finding in item.findings)
        item.offset = line
    return item


def _inherited(head: _Head, parent: _Head) -> _Head:
    """Items of an HTTPRouteList need not repeat what they are."""
    if parent.kind != "List":
        head.api_version = head.api_version or parent.api_version
        head.kind = head.kind or parent.kind.removesuffix("List")
    return head


def _lookup(head: _Head) -> versions.Version | None:
    if isinstance(head.api_version, str) and isinstance(head.kind, str):
        return versions.lookup(head.api_version, head.kind)
    return None


def _item(value: Any, head: _Head, version: versions.Version | None, line: int, locate: Locate) -> Item:
    """Take the long way: convert an old shape, say what is wrong with what is not valid."""
    if not isinstance(head.api_version, str) or not isinstance(head.kind, str):
        missing = "kind" if isinstance(head.api_version, str) else "apiVersion"
        finding = Finding(missing, "is required and must be a string")
        return Item(line, findings=((line, finding),))
    if not version:
        return Item(line, findings=((line, unknown(head.api_version, head.kind)),))
    findings: list[Finding] = []
    selection = version.convert(value, findings) if version.convert else None
    value["kind"] = version.kind.kind
    value.setdefault("apiVersion", head.api_version)
    resource, found = decode(value, version.kind)
    findings += map(_forgiven, found) if version.convert else found
    if resource:
        return _finished(resource, findings, version, selection, line, locate)
    key = _key(value.get("metadata"), version.kind)
    return Item(line, key, None, _located(findings, locate), version.finding)


def _forgiven(finding: Finding) -> Finding:
    """A field of an old shape that has no place in v1 was dropped by the API server as well."""
    if finding.reason != "UnknownField":
        return finding
    return msgspec.structs.replace(finding, message=f"{finding.message}; ignored", severity="warning")


def _key(metadata: Any, kind: type[m.Resource]) -> m.Key | None:
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return None
    namespace = metadata.get("namespace") or "default"
    if kind.namespaced and not isinstance(namespace, str):
        return None
    return m.Key(kind.kind, namespace if kind.namespaced else "", metadata["name"])


def _located(findings: list[Finding], locate: Locate) -> tuple[tuple[int, Finding], ...]:
    return tuple([(locate(finding.field), finding) for finding in findings]) if findings else ()


def _finished(
    resource: m.Resource, findings: list[Finding], version: versions.Version, selection: versions.Selection | None,
    line: int, locate: Locate, release: int = versions.NEWEST,
) -> Item:
    findings += resource.validate(version.version, release)
    metadata = resource.metadata
    metadata.namespace = _shared[metadata.namespace or "default"] if resource.namespaced else ""
    metadata.labels, metadata.annotations = metadata.labels or m.NO_LABELS, metadata.annotations or m.NO_LABELS
    key = m.Key(resource.kind, metadata.namespace, metadata.name)
    if findings and any(finding.severity == "error" for finding in findings):
        return Item(line, key, None, _located(findings, locate), version.finding)
    resource.api_version = _API_VERSIONS[type(resource)]
    resource.status = None
    resource.complete()
    if isinstance(resource, _ROUTES):
        _share_parts(resource)
    return Item(line, key, resource, _located(findings, locate), version.finding, selection)


class _Shared(dict[Any, Any]):
    """Equal values made one: most routes of a configuration name the same few parents, namespaces and Services, and do the same
    to requests."""

    def __missing__(self, value: Any) -> Any:
        if len(self) >= 4096:
            self.clear()
        self[value] = value
        return value


_shared = _Shared()


def _share_parts(route: m.Route) -> None:
    """Let a route's lists be those of other routes, where they are equal."""
    force_setattr(route.spec, "parent_refs", _shared[route.spec.parent_refs])
    for rule in route.spec.rules:
        force_setattr(rule, "backend_refs", _shared[rule.backend_refs])
        if not isinstance(rule, _MATCHING):
            continue
        if rule.filters:
            force_setattr(rule, "filters", _shared[rule.filters])
        for match in rule.matches:
            if match.headers:
                force_setattr(match, "headers", _shared[match.headers])
            if isinstance(match, m.HTTPRouteMatch) and match.query_params:
                force_setattr(match, "query_params", _shared[match.query_params])


_MATCHING = (m.HTTPRouteRule, m.GRPCRouteRule)  # the rules that have matches and filters
_ROUTES: tuple[type[m.Route], ...] = get_args(m.Route)
_API_VERSIONS = {kind: f"{group}/{kind.version}".lstrip("/") for (group, _), kind in m.KINDS.items()}
