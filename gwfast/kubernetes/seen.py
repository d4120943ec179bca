"""What the API server says about an object besides what it is, and who wants to hear of it.

The event loop decodes an object's head alone; the object is handed over as the bytes that it came in. A `Seen` is small and
refers to nothing of the answer that it came in, so it can be kept for each object: the reflector and who it tells share it.

    metadata.uid, resourceVersion, generation, deletionTimestamp    as they are
    metadata.labels, ownerReferences                                JSON, decoded when somebody asks
    metadata.annotations                                            in `content` alone: one of them may be the whole object again
    status                                                          JSON, where the reflector was asked to keep it

Rules:
- `content` is equal where nothing but the status has changed: the same generation, labels, annotations, owners, deletion and
  finalizers. Objects without a generation (Secrets, ConfigMaps, Services, Namespaces) have another one with each version.
- An object that was replaced by another one of its name has gone first.
"""
from typing import Protocol

import msgspec

Name = tuple[str, str]  # namespace ('' of what has none) and name


class Owner(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One of metadata.ownerReferences."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An object as the API server has it: `raw_labels`, `raw_owners` and `status` are JSON, b'' where there is none."""

    uid: str
    resource_version: str
    generation: int = 0  # 0: this kind has none
    content: int = 0
    deletion_timestamp: str = ""  # '' while nobody deletes it
    raw_labels: bytes = b""
    raw_owners: bytes = b""
    status: bytes = b""  # b'' also where it is not kept

    @property
    def labels(self) -> dict[str, str]:
        return msgspec.json.decode(self.raw_labels, type=dict[str, str]) if self.raw_labels else {}

    @property
    def owners(self) -> tuple[Owner, ...]:
        return msgspec.json.decode(self.raw_owners, type=tuple[Owner, ...]) if self.raw_owners else ()


class Sink(Protocol):
    """Who is told of the objects of one list; on the event loop, so it must be quick."""

    def put(self, name: Name, seen: Seen, raw: bytes, before: Seen | None) -> None:
        """Take an object that is new (`before` is None) or has changed; `raw` is its JSON, in lists without apiVersion and kind.

        Where `before.content == seen.content` its status alone has changed. An object is not put again as it was.
        """

    def gone(self, name: Name) -> None:
        """Forget an object."""

    def synced(self) -> None:
        """Know that the list is complete: after the first, and after each that had to be made anew."""
