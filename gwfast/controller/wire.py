"""What a controller and its data planes say to each other: lines of JSON.

    controller ──> data plane                                 data plane ──> controller
      {"type":"LEADER","address":"10.0.0.7:9443"}               {"type":"SERVED","version":"3f…","number":7,"problems":[…]}
      {"type":"SNAPSHOT"}                                       {"type":"PING"}
      {"type":"PUT","kind":"HTTPRoute","namespace":"a","name":"b","object":{"kind":"HTTPRoute",…}}
      {"type":"GONE","kind":"Service","namespace":"a","name":"b"}
      {"type":"SYNC","version":"3f…","bundle":"1.6.1","number":7}
      {"type":"PING"}

What lies between two SYNCs is applied at once: PUT and GONE change what was there; behind a SNAPSHOT they are everything, and
what is not among them is gone. SYNC names what there is now (feed.Feed.version), and the version of the Gateway API that
it was judged by. LEADER says who else has to hear what is served, '' is the speaker.

What goes and comes back has the version that it had: `number` tells the two apart. A data plane says that of the last SYNC of
this stream which its workers serve all of; without one its word counts for the version alone.

Rules:
- Where a Gateway listens is a Service with an annotation (graph.refs.GATEWAY_NAME) and a name that none in a cluster has.
- An object is what the API calls it, in JSON of the API's newest version; what is its default is left out. It was judged before
  it was sent: it is not judged again.
- Whoever is older than the other one skips lines and kinds that it does not know, and fields of objects.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from gwfast.config import versions
from gwfast.config.model import (KINDS, NOWHERE, OWN_GROUP, EndpointSlice, Key, Namespace, ObjectMeta, Resource, Service,
                                 ServicePort, ServiceSpec)
from gwfast.config.read import read_object
from gwfast.graph.refs import BACKEND, GATEWAY_NAME, SERVICE_NAME
from gwfast.identity import digest

_KEPT = f"{OWN_GROUP}/"  # annotations that mean something here
_CHOOSING = {EndpointSlice: SERVICE_NAME, Service: BACKEND}  # labels that something is chosen by
_FRONT = "front."
_API_VERSIONS = {kind: f"{kind.group}/{kind.version}".lstrip("/") for kind in KINDS.values()}
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Something that a data plane cannot serve. gateway: 'namespace/name' of the one that it keeps from traffic, '' if none."""

    message: str
    gateway: str = ""
    resource: str = ""


class Line(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A line of either side; `type` says which of the fields matter."""

    type: str
    object: msgspec.Raw = msgspec.Raw(b"")
    kind: str = ""
    namespace: str = ""
    name: str = ""
    version: str = ""
    bundle: str = ""
    address: str = ""
    number: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> Key:
        return Key(self.kind, self.namespace, self.name)


SNAPSHOT = b'{"type":"SNAPSHOT"}\n'
PING = b'{"type":"PING"}\n'
_line = msgspec.json.Decoder(Line).decode


class _Head(msgspec.Struct, gc=False, rename="camel"):
    kind: str
    api_version: str


_head = msgspec.json.Decoder(_Head).decode


def parse(text: bytes) -> Line:
    """Read a line; ValueError for what is none."""
    return _line(text)


def say(type: str, **fields) -> bytes:
    """Return a line."""
    return _encode(Line(type, **fields)) + b"\n"


def put(key: Key, text: bytes) -> bytes:
    """Return the line that brings an encoded object."""
    return say("PUT", kind=key.kind, namespace=key.namespace, name=key.name, object=msgspec.Raw(text))


def gone(key: Key) -> bytes:
    """Return the line that takes an object away."""
    return say("GONE", kind=key.kind, namespace=key.namespace, name=key.name)


def front_key(gateway: Key) -> Key:
    """Return the key of what says where a Gateway listens. Its dot is in no name of a Service; a Gateway's may be too long."""
    return Key("Service", gateway.namespace, _FRONT + digest(gateway.name.encode(), 16).hex())


def is_front(key: Key) -> bool:
    return key.kind == "Service" and key.name.startswith(_FRONT)


def front(gateway: Key, ports: Iterable[tuple[int, Any, int]]) -> Service:
    """Return what says where a Gateway listens: (port, transport, target port)s."""
    key = front_key(gateway)
    return Service(
        metadata=ObjectMeta(name=key.name, namespace=key.namespace, annotations={GATEWAY_NAME: gateway.name}),
        spec=ServiceSpec(ports=tuple(ServicePort(port=port, protocol=transport, target_port=target)
                                     for port, transport, target in sorted(ports))))


def encode(resource: Resource) -> bytes:
    """Return a resource as JSON. Of annotations there are our own, of Namespaces and of Services in a cluster none; of labels
    those that something is chosen by: a Namespace's, which Service an EndpointSlice is of, and which XBackend a Service."""
    metadata = resource.metadata
    labels = metadata.labels if isinstance(resource, Namespace) else {
        name: text for name, text in metadata.labels.items() if name == _CHOOSING.get(type(resource))}
    kept = {name: text for name, text in metadata.annotations.items() if name.startswith(_KEPT)}
    if isinstance(resource, Namespace | Service) and not is_front(resource.key):
        kept = {}
    if len(kept) != len(metadata.annotations) or len(labels) != len(metadata.labels):
        metadata = replace(metadata, annotations=kept, labels=labels)
    return _encode(replace(resource, metadata=metadata, source=NOWHERE, api_version=_API_VERSIONS[type(resource)]))


def decode(text: bytes) -> tuple[Resource | None, str]:
    """Read an object; None of a kind that is not known, and, with words, of what is not understood. Fields that are not known
    are left out."""
    head = _head(text)
    version = versions.lookup(head.api_version, head.kind)
    if version is None:
        return None, ""
    item = read_object(text, version)
    if item.resource is not None:
        return item.resource, ""
    wrong = next((finding for _, finding in item.findings if finding.severity == "error"), None)
    return None, f"{wrong.field} {wrong.message}" if wrong else "it makes no sense"
