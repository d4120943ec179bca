"""Judges an apiVersion and kind that are not read here: they are another controller's, or a mistake in writing.

Rules:
- A name that differs a little from a kind that is read (in case, by a letter, in a version or group that does not exist) is an
  error that names that kind: no other controller reads it, and `kubectl` would refuse it.
- A kind of another group is another controller's, even if its name is one of ours (networking.istio.io Gateway): a note.
"""
from collections.abc import Iterator
from functools import lru_cache

from gwfast.config import model as m
from gwfast.config import versions
from gwfast.config.findings import Finding

_NEAR = 0.8  # how alike two names are, of 1: one letter of five is another
_NEAR_GROUP = 0.85
_OTHERS = {  # that exist, and are not read
    "": ("Binding", "ComponentStatus", "Endpoints", "Event", "LimitRange", "Node", "PersistentVolume", "PersistentVolumeClaim",
         "Pod", "PodTemplate", "ReplicationController", "ResourceQuota", "ServiceAccount"),
    m.EXPERIMENTAL_GROUP: ("XMesh",),
}


@lru_cache(1000)
def unknown(api_version: str, kind: str) -> Finding:
    """Return what there is to say about a kind that is not read."""
    group = api_version.rpartition("/")[0]
    meant = "" if kind in _OTHERS.get(group, ()) else next(_meant(api_version, group, kind), "")
    if meant:
        return Finding("", f"{api_version} {kind} does not exist, did you mean {meant}?", reason="UnknownKind")
    return Finding("", f"{api_version} {kind} is not read here, skipped", "note", "UnknownKind")


def _meant(api_version: str, group: str, kind: str) -> Iterator[str]:
    """Yield what may have been meant, the likeliest first."""
    import difflib  # rarely needed

    groups: dict[str, dict[str, str]] = {}
    for (of, name), found in m.KINDS.items():
        groups.setdefault(of, {})[name] = f"{of}/{found.version} {name}".lstrip("/")
    for names in [groups.get(group, {}), *(names for of, names in groups.items() if _same(api_version, group, of))]:
        yield from (words for name, words in names.items() if name.lower() == kind.lower())
    yield from (f"{version} {name}" for version, name in sorted(versions.known(), reverse=True)
                if name.lower() == kind.lower() and version.rpartition("/")[0] == group)
    for names in [groups.get(group, {}), *(names for of, names in groups.items() if _near(group, of))]:
        yield from (names[name] for name in difflib.get_close_matches(kind, names, 1, _NEAR))


def _same(api_version: str, group: str, of: str) -> bool:
    """Whether a group can only have been meant to be `of`: Kubernetes' own have no kinds of these names."""
    own = "." not in group or group.endswith(".k8s.io")
    return api_version == of or own or _near(group, of)


def _near(group: str, of: str) -> bool:
    import difflib

    return bool(of) and difflib.SequenceMatcher(None, group, of).ratio() >= _NEAR_GROUP
