"""Every annotation of ingress-nginx: one table of its 136 keys and two old names, by subject.

    read(ingress, prefix) ──> Read(values, given, bad, unknown)
    convert(asked)        ──> (key, Said) of every key that the Ingress has, but what its locations say (table.later)
 What one is, and what may become of it: `table`. How values are read: `kinds`. `rewrites`, `access`, `backends` and `traffic`
have the keys; `snippets` reads nginx's own words.
"""
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

from gwfast.ingress.annotations import access, backends, rewrites, traffic
from gwfast.ingress.annotations.snippets import SNIPPETS, snippet
from gwfast.ingress.annotations.table import Annotation, Asked, Said, lost, not_needed
from gwfast.ingress.model import LEGACY_CLASS, Ingress

TABLE: dict[str, Annotation] = {
    each.name: each for each in (*rewrites.TABLE, *access.TABLE, *backends.TABLE, *traffic.TABLE)}
ALIASES = {"limit-whitelist": "limit-allowlist", "whitelist-source-range": "allowlist-source-range"}  # old names


class Read(Struct):
    """The annotations of one Ingress: values by key; the keys that are there; what is wrong with a value; keys that nobody
    knows."""

    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)  # key -> text
    bad: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read(ingress: Ingress, prefix: str) -> Read:
    """Read the annotations of an Ingress that begin with `prefix`/; a value that is bad is as if it were not there."""
    found = Read()
    for key, text in ingress.metadata.annotations.items():
        of, _, name = key.rpartition("/")
        if of != prefix:
            continue
        found.given[name] = text
        if name not in TABLE:
            found.unknown.append(name)
            continue
        try:
            found.values[name] = TABLE[name].kind(text)
        except ValueError as error:
            found.bad[name] = str(error)
    return found


def convert(asked: Asked, found: Read) -> Iterator[tuple[str, Said]]:
    """Say what becomes of each annotation, and write it into `asked`."""
    for name in found.given:
        if name in found.unknown:
            yield name, lost("ingress-nginx has no such annotation")
        elif name in found.bad:
            yield name, _bad(asked, name, found.bad[name])
        elif name in SNIPPETS:
            yield name, snippet(asked, name, found.values[name])
        elif (said := TABLE[name].convert(asked, found.values[name])) is not None:
            yield name, said


CLOSING = (
    "auth-type",
    "auth-url",
    "auth-tls-secret",
    "allowlist-source-range",
    "whitelist-source-range",
    "denylist-source-range",
)


def _bad(asked: Asked, name: str, why: str) -> Said:
    """ingress-nginx takes the default where a value is bad, and denies the location where it keeps somebody out."""
    if name in CLOSING:
        return asked.close(name, f"its value is bad ({why})")
    return not_needed(f"its value is bad, ingress-nginx takes the default: {why}")


def others(ingress: Ingress, prefix: str) -> list[str]:
    """Return the keys of other controllers' annotations (cert-manager, external-dns): they are for the objects that are made
    now."""
    ours = (LEGACY_CLASS, "kubectl.kubernetes.io/last-applied-configuration")
    return [key for key in ingress.metadata.annotations if key.rpartition("/")[0] != prefix and key not in ours]
